//! Which of the two DHTs an address belongs to.
//!
//! kubo runs two: one among public addresses, `/ipfs/kad/1.0.0`, and one within a network, `/ipfs/lan/kad/1.0.0`. A
//! node with a private address is answered on the second alone.

use std::net::{Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// One of the two DHTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Public addresses.
    Wan,
    /// Private, link-local and loopback addresses.
    Lan,
}

impl Scope {
    /// Both, in the order in which they are asked.
    pub const BOTH: [Self; 2] = [Self::Lan, Self::Wan];

    /// Protocol name of the DHT.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Wan => "/ipfs/kad/1.0.0",
            Self::Lan => "/ipfs/lan/kad/1.0.0",
        }
    }

    /// The DHT that the host of `address` belongs to; `None` for one that no other host can reach or that is not told.
    pub fn of(address: &Multiaddr) -> Option<Self> {
        match address.iter().next()? {
            Protocol::Ip4(ip) => of_ip4(ip),
            Protocol::Ip6(ip) => of_ip6(ip),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                let local = name.ends_with(".local") || name == "localhost" || name.ends_with(".localhost");
                Some(if local { Self::Lan } else { Self::Wan })
            }
            Protocol::Dnsaddr(_) => Some(Self::Wan),
            _ => None,
        }
    }

    /// Whether the routing table of this DHT holds `address`: it is of this scope, and the swarm can dial it.
    pub fn takes(self, address: &Multiaddr) -> bool {
        is_plain_tcp(address) && Self::of(address) == Some(self)
    }

    /// Whether a provider record in this DHT names `address` as ours; a relay's circuit counts as the relay's.
    pub fn announces(self, address: &Multiaddr) -> bool {
        Self::of(address) == Some(self)
    }
}

/// Whether `address` is the loopback interface's.
pub fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// `/<host>/tcp/<port>`, with or without `/p2p/<peer>` behind it: the only transport of the swarm.
fn is_plain_tcp(address: &Multiaddr) -> bool {
    let mut parts = address.iter().skip(1);
    let tcp = matches!(parts.next(), Some(Protocol::Tcp(port)) if port > 0);
    let tail = matches!(parts.next(), None | Some(Protocol::P2p(_)));
    tcp && tail && parts.next().is_none()
}

fn of_ip4(ip: Ipv4Addr) -> Option<Scope> {
    // 100.64.0.0/10: RFC 6598, carrier-grade NAT.
    let carrier = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_documentation() {
        None
    } else if ip.is_private() || ip.is_loopback() || ip.is_link_local() || carrier {
        Some(Scope::Lan)
    } else {
        Some(Scope::Wan)
    }
}

fn of_ip6(ip: Ipv6Addr) -> Option<Scope> {
    if let Some(ip4) = ip.to_ipv4_mapped() {
        return of_ip4(ip4);
    }
    if ip.is_unspecified() || ip.is_multicast() {
        None
    } else if ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() {
        Some(Scope::Lan)
    } else {
        Some(Scope::Wan)
    }
}
