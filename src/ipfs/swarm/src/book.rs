//! Who is connected, who was reached, who is on the LAN: bounded, and read without asking the swarm.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::scope::Scope;

/// Peers that are remembered after they left.
const MAX_KNOWN: usize = 512;
/// Peers that mDNS may tell of.
const MAX_NEIGHBOURS: usize = 64;
/// Characters of an agent, and protocols of a peer, that are kept.
const MAX_AGENT: usize = 128;
const MAX_PROTOCOLS: usize = 64;

/// A peer with an open connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedPeer {
    /// Who.
    pub peer: PeerId,
    /// The other end of the first connection.
    pub address: Multiaddr,
    /// Program and version, as the peer calls itself; empty until it did.
    pub agent: String,
    /// Protocols that it speaks; none until it said so.
    pub protocols: Vec<String>,
    /// Connections to it.
    pub connections: usize,
}

/// A peer that answered under an address that this node dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who.
    pub peer: PeerId,
    /// Where it was reached.
    pub address: Multiaddr,
    /// When it last answered.
    pub answered: SystemTime,
}

struct Peer {
    links: Vec<Link>,
    agent: String,
    protocols: Vec<String>,
    /// When it was connected last.
    connected: Instant,
    /// When anything came from it last since it is there.
    heard: Option<Instant>,
}

impl Peer {
    fn new(connected: Instant) -> Self {
        Self { links: Vec::new(), agent: String::new(), protocols: Vec::new(), connected, heard: None }
    }

    /// Whether it said that it speaks a protocol.
    fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|name| name == protocol)
    }
}

struct Link {
    connection: ConnectionId,
    address: Multiaddr,
    dialled: bool,
}

#[derive(Default)]
struct State {
    connected: HashMap<PeerId, Peer>,
    known: HashMap<PeerId, KnownPeer>,
    neighbours: BTreeMap<PeerId, Vec<Multiaddr>>,
}

#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<State>>);

impl Book {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of the lock panics")
    }

    pub(crate) fn opened(&self, peer: PeerId, connection: ConnectionId, address: &Multiaddr, dialled: bool) {
        let link = Link { connection, address: bare(address), dialled };
        let (mut state, now) = (self.state(), Instant::now());
        let entry = state.connected.entry(peer).or_insert_with(|| Peer::new(now));
        entry.links.push(link);
        entry.connected = now;
    }

    /// Something came from a connected peer.
    pub(crate) fn hear(&self, peer: &PeerId) {
        if let Some(entry) = self.state().connected.get_mut(peer) {
            entry.heard = Some(Instant::now());
        }
    }

    /// When anything came from a connected peer last, its connection included.
    pub(crate) fn heard(&self, peer: &PeerId) -> Option<Instant> {
        let state = self.state();
        let entry = state.connected.get(peer)?;
        Some(entry.heard.map_or(entry.connected, |heard| heard.max(entry.connected)))
    }

    /// Whether a connected peer said that it speaks a protocol.
    pub(crate) fn speaks(&self, peer: &PeerId, protocol: &str) -> bool {
        self.state().connected.get(peer).is_some_and(|entry| entry.speaks(protocol))
    }

    /// Connected peers of which nothing has come yet, and when they were connected.
    pub(crate) fn mute(&self) -> Vec<(PeerId, Instant)> {
        let state = self.state();
        let mute = state.connected.iter().filter(|(_, entry)| entry.heard.is_none());
        mute.map(|(peer, entry)| (*peer, entry.connected)).collect()
    }

    pub(crate) fn closed(&self, peer: PeerId, connection: ConnectionId) {
        let mut state = self.state();
        let Some(entry) = state.connected.get_mut(&peer) else { return };
        entry.links.retain(|link| link.connection != connection);
        if entry.links.is_empty() {
            state.connected.remove(&peer);
        }
    }

    /// Notes who answered; gives the remote addresses of its connections.
    pub(crate) fn identified(&self, peer: PeerId, agent: &str, protocols: Vec<String>) -> Vec<Multiaddr> {
        let mut state = self.state();
        let Some(entry) = state.connected.get_mut(&peer) else { return Vec::new() };
        entry.agent = agent.chars().filter(|c| !c.is_control()).take(MAX_AGENT).collect();
        entry.protocols = protocols;
        entry.protocols.truncate(MAX_PROTOCOLS);
        let remote = entry.links.iter().map(|link| link.address.clone()).collect();
        let reached = entry.links.iter().find(|link| link.dialled && !is_relayed(&link.address));
        if let Some(address) = reached.map(|link| link.address.clone()) {
            state.known.insert(peer, KnownPeer { peer, address, answered: SystemTime::now() });
            while state.known.len() > MAX_KNOWN {
                let oldest = state.known.values().min_by_key(|known| known.answered).map(|known| known.peer);
                oldest.and_then(|peer| state.known.remove(&peer));
            }
        }
        remote
    }

    pub(crate) fn neighbour(&self, peer: PeerId, address: Multiaddr) {
        let mut state = self.state();
        if state.neighbours.len() >= MAX_NEIGHBOURS && !state.neighbours.contains_key(&peer) {
            return;
        }
        let addresses = state.neighbours.entry(peer).or_default();
        if addresses.len() < 8 && !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    pub(crate) fn neighbour_left(&self, peer: PeerId, address: &Multiaddr) {
        let mut state = self.state();
        let Some(addresses) = state.neighbours.get_mut(&peer) else { return };
        addresses.retain(|known| known != address);
        if addresses.is_empty() {
            state.neighbours.remove(&peer);
        }
    }

    pub(crate) fn connected(&self) -> Vec<ConnectedPeer> {
        let state = self.state();
        let shown = |(peer, entry): (&PeerId, &Peer)| {
            let address = entry.links.first()?.address.clone();
            let (agent, protocols) = (entry.agent.clone(), entry.protocols.clone());
            Some(ConnectedPeer { peer: *peer, address, agent, protocols, connections: entry.links.len() })
        };
        state.connected.iter().filter_map(shown).collect()
    }

    /// Who is connected and speaks a protocol, or did not say yet what it speaks; and whether it is in the same network.
    pub(crate) fn speaking(&self, protocol: &str) -> Vec<(PeerId, bool)> {
        let speaks = |entry: &Peer| entry.protocols.is_empty() || entry.speaks(protocol);
        let is_near = |address: &Multiaddr| Scope::of(address) == Some(Scope::Lan) && !is_relayed(address);
        let near = |entry: &Peer| entry.links.iter().any(|link| is_near(&link.address));
        let state = self.state();
        let speaking = state.connected.iter().filter(|(_, entry)| speaks(entry));
        speaking.map(|(peer, entry)| (*peer, near(entry))).collect()
    }

    pub(crate) fn connected_ids(&self) -> HashSet<PeerId> {
        self.state().connected.keys().copied().collect()
    }

    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.state().connected.contains_key(peer)
    }

    pub(crate) fn known(&self) -> Vec<KnownPeer> {
        self.state().known.values().cloned().collect()
    }

    pub(crate) fn neighbours(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.state().neighbours.iter().map(|(peer, addresses)| (*peer, addresses.clone())).collect()
    }
}

/// The address without the peer at its end.
pub(crate) fn bare(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) && !is_relayed(&address) {
        address.pop();
    }
    address
}

pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The peer at the end of an address.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}
