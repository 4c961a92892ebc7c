//! Who plays from this node: the clients that asked for a media playlist lately.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use super::Health;

/// A client that has asked for no media playlist for this long has gone: a player asks once a segment.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// Clients that are told apart; more are not counted.
const MAX_CLIENTS: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Listeners {
    asked: HashMap<IpAddr, Instant>,
}

impl Listeners {
    fn hear(&mut self, client: IpAddr, now: Instant) {
        let client = household(client);
        if self.asked.len() >= MAX_CLIENTS && !self.asked.contains_key(&client) {
            self.forget(now);
        }
        if self.asked.len() < MAX_CLIENTS || self.asked.contains_key(&client) {
            self.asked.insert(client, now);
        }
    }

    fn forget(&mut self, now: Instant) {
        self.asked.retain(|_, asked| now.duration_since(*asked) <= GONE_AFTER);
    }

    pub(super) fn count(&mut self, now: Instant) -> u64 {
        self.forget(now);
        self.asked.len() as u64
    }
}

/// Whoever has an IPv6 network of 64 bits has all of its addresses.
fn household(client: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
    }
}

impl Health {
    /// A client at this address was given a media playlist.
    pub fn heard_by(&self, client: IpAddr) {
        self.lock().listeners.hear(client, Instant::now());
    }

    /// How many clients, told apart by their addresses, play from this node.
    pub fn listeners(&self) -> u64 {
        self.lock().listeners.count(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_counts_once_and_until_15_s_after_its_last_playlist() {
        let health = Health::new();
        for client in ["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"] {
            health.heard_by(address(client));
        }
        assert_eq!(health.listeners(), 2);
        tokio::time::advance(Duration::from_secs(10)).await;
        health.heard_by(address("192.0.2.2"));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(health.listeners(), 1);
        assert_eq!(serde_json::to_value(health.report()).unwrap()["listeners"], 1);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(health.listeners(), 0);
    }

    #[test]
    fn a_network_of_one_owner_is_one_listener() {
        let health = Health::new();
        for client in ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"] {
            health.heard_by(address(client));
        }
        assert_eq!(health.listeners(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_addresses_is_bounded_and_makes_room_again() {
        let mut listeners = Listeners::default();
        let now = Instant::now();
        let client = |n: u32| IpAddr::from(n.to_be_bytes());
        (0..40_000).for_each(|n| listeners.hear(client(n), now));
        assert_eq!(listeners.count(now), MAX_CLIENTS as u64);
        let later = now + GONE_AFTER + Duration::from_secs(1);
        listeners.hear(client(50_000), later);
        assert_eq!(listeners.count(later), 1);
    }
}
