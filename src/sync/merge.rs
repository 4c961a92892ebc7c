//! What is known of a station's nodes, and how two such states become one: commutative, associative, idempotent, so that
//! it does not matter in which order or how often messages come. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::message::{NodeFacts, Signed, StationFacts};
use crate::ipfs::ipns::{Name, Record};

/// Nodes that are remembered; of more, those who spoke last. With [`super::message::MAX_NODE_BYTES`] each, that bounds
/// the memory that strangers' claims take.
pub const MAX_NODES: usize = 10_000;

/// What a node said last. Orders by precedence: the greater one wins. Time stands before the sequence number, so that what
/// wins is never dated before what it replaces: else it would depend on the order of merges who is among those who spoke
/// last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// When it was said, in Unix milliseconds.
    pub time_ms: i64,
    /// Its sequence number.
    pub seq: u64,
    /// DAG-CBOR of [`NodeFacts`], fields of newer versions included.
    pub bytes: Box<[u8]>,
}

impl Node {
    /// What `facts` say, whose encoding is `bytes`.
    pub fn new(facts: &NodeFacts, bytes: &[u8]) -> Self {
        Self { time_ms: facts.time_ms, seq: facts.seq, bytes: bytes.into() }
    }

    /// What the node said.
    pub fn facts(&self) -> Option<NodeFacts> {
        NodeFacts::parse(&self.bytes)
    }
}

/// What the station said last. The higher sequence number wins, then the greater bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationPart {
    /// What it said.
    pub facts: StationFacts,
    /// The same as it travels, fields of newer versions included.
    pub signed: Signed,
}

impl StationPart {
    fn rank(&self) -> (u64, &Signed) {
        (self.facts.seq, &self.signed)
    }

    /// Whether it takes the place of `other`.
    pub fn beats(&self, other: Option<&Self>) -> bool {
        other.is_none_or(|other| self.rank() > other.rank())
    }
}

/// Everything that is known. Clones share what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    capacity: usize,
    nodes: BTreeMap<Name, Arc<Node>>,
    station: Option<Arc<StationPart>>,
    record: Option<Arc<Record>>,
}

impl Default for State {
    fn default() -> Self {
        Self::with_capacity(MAX_NODES)
    }
}

impl State {
    /// Nothing is known; `capacity` nodes at most will be.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity, nodes: BTreeMap::new(), station: None, record: None }
    }

    /// The nodes by their peer ids.
    pub fn nodes(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.nodes.iter().map(|(peer, node)| (peer, &**node))
    }

    /// The same, to be kept.
    pub fn shared_nodes(&self) -> impl Iterator<Item = (&Name, &Arc<Node>)> {
        self.nodes.iter()
    }

    /// What the node `peer` said last.
    pub fn node(&self, peer: &Name) -> Option<&Node> {
        self.nodes.get(peer).map(|node| &**node)
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What the station said last.
    pub fn station(&self) -> Option<&StationPart> {
        self.station.as_deref()
    }

    /// The best record that came with a station part.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_deref()
    }

    /// Takes in what a node said; `true` when that is kept.
    pub fn offer_node(&mut self, peer: Name, node: impl Into<Arc<Node>>) -> bool {
        let node = node.into();
        if self.nodes.get(&peer).is_some_and(|known| *known >= node) {
            return false;
        }
        self.nodes.insert(peer, node);
        if self.nodes.len() <= self.capacity {
            return true;
        }
        let rank = |(peer, node): &(&Name, &Arc<Node>)| (node.time_ms, **peer);
        let last = self.nodes.iter().min_by_key(rank).map(|(peer, _)| *peer);
        last.is_none_or(|last| {
            self.nodes.remove(&last);
            last != peer
        })
    }

    /// Takes in what the station said; `true` when it is newer than what was known.
    pub fn offer_station(&mut self, part: impl Into<Arc<StationPart>>) -> bool {
        let part = part.into();
        let wins = part.beats(self.station());
        if wins {
            self.station = Some(part);
        }
        wins
    }

    /// Takes in a verified record of the station; `true` when it is better than what was known.
    pub fn offer_record(&mut self, record: impl Into<Arc<Record>>) -> bool {
        let record = record.into();
        let wins = self.record.as_ref().is_none_or(|known| record > *known);
        if wins {
            self.record = Some(record);
        }
        wins
    }

    /// Takes in all that `other` knows. Whoever merges the same states, in whatever order and however often, knows the
    /// same, given the same capacity.
    pub fn merge(&mut self, other: &Self) {
        for (peer, node) in &other.nodes {
            self.offer_node(*peer, node.clone());
        }
        if let Some(station) = &other.station {
            self.offer_station(station.clone());
        }
        if let Some(record) = &other.record {
            self.offer_record(record.clone());
        }
    }

    /// Forgets the nodes that `keep` does not want.
    pub fn retain_nodes(&mut self, mut keep: impl FnMut(&Name) -> bool) {
        self.nodes.retain(|peer, _| keep(peer));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::sync::message::MAX_NODE_BYTES;

    fn peer(n: u64) -> Name {
        let hash = cid::multihash::Multihash::wrap(0, &n.to_be_bytes()).unwrap();
        Name::from(hash)
    }

    fn node(time_ms: i64, seq: u64, bytes: &[u8]) -> Node {
        Node { time_ms, seq, bytes: bytes.into() }
    }

    fn station(seq: u64, byte: u8) -> StationPart {
        let facts = StationFacts {
            name: "k51".into(),
            seq,
            time_ms: 0,
            newest: None,
            ahead: None,
            index: Vec::new(),
            now_playing: None,
            relays_known: 0,
        };
        StationPart { facts, signed: Signed { facts: [byte].into(), signature: [byte].into() } }
    }

    fn record(sequence: u64, byte: u8) -> Record {
        Record {
            value: "/ipfs/x".into(),
            sequence,
            eol: DateTime::from_timestamp_millis(0).unwrap(),
            ttl: Duration::ZERO,
            bytes: Bytes::from(vec![byte]),
        }
    }

    fn states() -> impl Strategy<Value = State> {
        let said = (0_u64..9, 0_i64..6, 0_u64..3, 0_u8..2);
        let nodes = prop::collection::vec(said, 0..12);
        let part = prop::option::of((0_u64..4, 0_u8..3));
        (nodes, part.clone(), part).prop_map(|(nodes, part, of_name)| {
            let mut state = State::with_capacity(4);
            for (n, time, seq, byte) in nodes {
                state.offer_node(peer(n), node(time, seq, &[byte]));
            }
            part.map(|(seq, byte)| state.offer_station(station(seq, byte)));
            of_name.map(|(sequence, byte)| state.offer_record(record(sequence, byte)));
            state
        })
    }

    fn merged(one: &State, other: &State) -> State {
        let mut both = one.clone();
        both.merge(other);
        both
    }

    proptest! {
        #[test]
        fn a_merge_does_not_depend_on_order_grouping_or_repetition(a in states(), b in states(), c in states()) {
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&merged(&a, &b), &a), merged(&a, &b));
        }

        #[test]
        fn those_who_spoke_last_are_kept(a in states(), b in states()) {
            let both = merged(&a, &b);
            prop_assert!(both.len() <= 4);
            let kept = both.nodes().map(|(peer, node)| (node.time_ms, *peer)).min();
            for (peer, node) in a.nodes().chain(b.nodes()) {
                prop_assert!(both.node(peer).is_some() || (node.time_ms, *peer) < kept.unwrap());
                prop_assert!(both.node(peer).is_none_or(|known| known >= node));
            }
        }
    }

    #[test]
    fn ten_thousand_claimed_nodes_are_the_most_however_large() {
        let (mut state, bytes) = (State::default(), vec![7; MAX_NODE_BYTES]);
        for n in 0..12_000 {
            state.offer_node(peer(n), node(n as i64, n, &bytes));
        }
        assert_eq!(state.len(), MAX_NODES);
        let held: usize = state.nodes().map(|(_, node)| node.bytes.len()).sum();
        assert_eq!(held, MAX_NODES * MAX_NODE_BYTES);
        assert!(state.node(&peer(1_999)).is_none() && state.node(&peer(2_000)).is_some());
        assert!(!state.offer_node(peer(20_000), node(1, 1, b"too late")), "no room for whoever spoke before");
        assert!(state.offer_node(peer(20_000), node(20_000, 1, b"in time")));
        assert_eq!(state.len(), MAX_NODES);
    }

    #[test]
    fn what_is_older_or_the_same_changes_nothing() {
        let mut state = State::default();
        assert!(state.offer_node(peer(1), node(10, 5, b"b")));
        for (time, seq, bytes) in [(9, 6, b"c"), (10, 4, b"c"), (10, 5, b"a"), (10, 5, b"b")] {
            assert!(!state.offer_node(peer(1), node(time, seq, bytes)), "{time} {seq}");
        }
        assert!(state.offer_node(peer(1), node(10, 5, b"c")));
        assert!(state.offer_station(station(5, 1)));
        assert!(!state.offer_station(station(5, 1)) && !state.offer_station(station(4, 9)));
        assert!(state.offer_record(record(5, 1)) && !state.offer_record(record(4, 2)));
    }
}
