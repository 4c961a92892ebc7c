//! Whether the machine has a network: looked up afresh each time, injected so that tests can pull the cable.

pub mod http_url;

use std::net::IpAddr;

use serde::Serialize;

/// What is known of the machine's network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkState {
    /// Not looked up yet, or the system does not tell.
    #[default]
    Unknown,
    /// No interface but loopback has a link and an address that others can reach.
    Down,
    /// At least one has.
    Up,
}

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Whether it has a link: a cable with something at its other end, or a Wi-Fi that it has joined.
    pub linked: bool,
    /// The address.
    pub address: IpAddr,
}

/// Tells whether the machine has a network.
pub trait NetworkWatch: Send + Sync + 'static {
    /// The state at the moment; does not block.
    fn state(&self) -> NetworkState;
}

/// The interfaces of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNetwork;

impl NetworkWatch for SystemNetwork {
    fn state(&self) -> NetworkState {
        let Ok(interfaces) = if_addrs::get_if_addrs() else { return NetworkState::Unknown };
        let interface =
            |found: if_addrs::Interface| Interface { linked: found.is_oper_up(), address: found.ip() };
        judge(interfaces.into_iter().map(interface))
    }
}

/// The addresses of the interfaces that have a link; none where the system does not tell.
pub fn addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.into_iter().filter(if_addrs::Interface::is_oper_up).map(|found| found.ip()).collect()
}

/// A link-local address alone is none: every IPv6 interface gives itself one, and IPv4 does where no router answers.
pub fn judge(interfaces: impl IntoIterator<Item = Interface>) -> NetworkState {
    let reachable = |interface: Interface| {
        let of_the_link = match interface.address {
            IpAddr::V4(address) => address.is_link_local() || address.is_unspecified(),
            IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unspecified(),
        };
        interface.linked && !interface.address.is_loopback() && !of_the_link
    };
    if interfaces.into_iter().any(reachable) { NetworkState::Up } else { NetworkState::Down }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(linked: bool, address: &str) -> Interface {
        Interface { linked, address: address.parse().unwrap() }
    }

    #[test]
    fn loopback_link_local_addresses_and_pulled_cables_are_no_network() {
        let none = [
            interface(true, "127.0.0.1"),
            interface(true, "::1"),
            interface(true, "fe80::1"),
            interface(true, "169.254.7.7"),
            interface(false, "192.168.1.20"),
        ];
        assert_eq!(judge([]), NetworkState::Down);
        assert_eq!(judge(none.clone()), NetworkState::Down);
        for address in ["192.168.1.20", "fd00::20", "2001:db8::20"] {
            let with = none.iter().cloned().chain([interface(true, address)]);
            assert_eq!(judge(with), NetworkState::Up, "{address}");
        }
    }

    #[test]
    fn the_machine_answers() {
        assert_ne!(SystemNetwork.state(), NetworkState::Unknown);
    }
}
