//! The relays that station.json names: who lives, who is reached by HTTP, who has room. Pure.

use std::cmp::Reverse;
use std::time::Duration;

use super::intake::Heard;
use super::message::NodeFacts;
use crate::publisher::Relay;

/// The role of a node without the station's key that serves the stream.
pub const RELAY: &str = "relay";
/// The role of the node with the station's key.
pub const ORIGIN: &str = "origin";
/// Relays that station.json names.
pub const MAX_RELAYS: usize = 16;
/// Of these, the places that go to those who have been heard the longest: a crowd of newcomers, who can claim to have no
/// listener, does not drive out the relays that are known.
const SENIOR: usize = MAX_RELAYS / 2;
/// Segments by which a relay may be behind the station, beside those that came since its last word.
const MAX_LAG: u64 = 4;

/// How many of the nodes are relays.
pub fn count(nodes: &[Heard]) -> usize {
    nodes.iter().filter(|heard| relay(heard).is_some()).count()
}

/// The relays that station.json names, fewest listeners first. `newest` is the highest number on air at the station, whose
/// segments are so long.
pub fn named(nodes: &[Heard], newest: Option<u64>, segment: Duration) -> Vec<Relay> {
    let plays = |heard: &Heard, facts: &NodeFacts| {
        let since = heard.silent_for.as_millis() / segment.as_millis().max(1);
        let lag = MAX_LAG.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
        facts.newest.is_some_and(|n| n.saturating_add(lag) >= newest.unwrap_or(0))
    };
    let live = nodes.iter().filter_map(|heard| Some((heard, relay(heard)?)));
    let mut live: Vec<_> =
        live.filter(|(heard, facts)| plays(heard, facts) && !facts.http.is_empty()).collect();
    live.sort_by_key(|(heard, _)| (Reverse(heard.known_for), heard.peer));
    let mut others = live.split_off(live.len().min(SENIOR));
    let room = |(heard, facts): &(&Heard, NodeFacts)| (facts.listeners, heard.peer);
    others.sort_by_key(room);
    live.extend(others.into_iter().take(MAX_RELAYS - SENIOR));
    live.sort_by_key(room);
    let entry = |(heard, facts): (&Heard, NodeFacts)| Relay {
        peer: heard.peer.peer_id(),
        http: facts.http,
        listeners: facts.listeners,
    };
    live.into_iter().map(entry).collect()
}

fn relay(heard: &Heard) -> Option<NodeFacts> {
    heard.node.facts().filter(|facts| facts.role == RELAY)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipfs::ipns::Name;
    use crate::sync::merge::Node;
    use crate::sync::message;

    const SEGMENT: Duration = Duration::from_secs(4);
    const URL: &[&str] = &["http://192.168.1.20:8080"];

    fn peer(n: u64) -> Name {
        Name::from(cid::multihash::Multihash::wrap(0, &n.to_be_bytes()).unwrap())
    }

    /// Node `n`, known for so many seconds.
    fn node(n: u64, known: u64, role: &str, newest: Option<u64>, http: &[&str], listeners: u64) -> Heard {
        let facts = NodeFacts {
            name: "k51".into(),
            seq: 1,
            time_ms: 0,
            role: role.into(),
            software: "test".into(),
            newest,
            held_until: None,
            http: http.iter().map(|url| (*url).to_owned()).collect(),
            swarm: Vec::new(),
            listeners,
        };
        let node = Arc::new(Node::new(&facts, &message::encode(&facts)));
        Heard { peer: peer(n), known_for: Duration::from_secs(known), silent_for: Duration::ZERO, node }
    }

    /// Number and listeners of each that is named.
    fn numbers(nodes: &[Heard], newest: Option<u64>) -> Vec<(u64, u64)> {
        let number = |relay: &Relay| (0..100).find(|n| peer(*n).peer_id() == relay.peer).unwrap();
        named(nodes, newest, SEGMENT).iter().map(|relay| (number(relay), relay.listeners)).collect()
    }

    #[test]
    fn only_relays_that_play_and_are_reached_are_named() {
        let nodes = [
            node(1, 0, RELAY, Some(100), URL, 5),
            node(2, 0, RELAY, Some(96), URL, 3),
            node(3, 0, RELAY, Some(95), URL, 0),
            node(4, 0, RELAY, None, URL, 0),
            node(5, 0, RELAY, Some(100), &[], 0),
            node(6, 0, RELAY, Some(100), &["http://host/path"], 0),
            node(7, 0, ORIGIN, Some(100), URL, 0),
            node(8, 0, "twin", Some(100), URL, 0),
            node(9, 0, RELAY, Some(u64::MAX), URL, 9),
        ];
        assert_eq!(numbers(&nodes, Some(100)), [(2, 3), (1, 5), (9, 9)]);
        assert_eq!(count(&nodes), 7);
        assert!(numbers(&[], None).is_empty());
    }

    #[test]
    fn a_relay_that_speaks_seldom_is_judged_by_what_it_had_when_it_spoke() {
        let word = |seconds| Heard {
            silent_for: Duration::from_secs(seconds),
            ..node(1, 60, RELAY, Some(90), URL, 0)
        };
        assert_eq!(numbers(&[word(24)], Some(100)), [(1, 0)]);
        assert!(numbers(&[word(23)], Some(100)).is_empty());
    }

    #[test]
    fn of_more_than_sixteen_the_longest_known_stay_beside_those_with_room() {
        let crowd = |n| node(n, 100 - n, RELAY, Some(100), URL, 0);
        let senior = |n| node(n, 1_000 - n, RELAY, Some(100), URL, 50 - n);
        let mut nodes: Vec<_> = (0..10).map(senior).chain((10..90).map(crowd)).collect();
        let relays = numbers(&nodes, Some(100));
        assert_eq!((count(&nodes), relays.len()), (90, MAX_RELAYS));
        let (newcomers, seniors) = relays.split_at(8);
        assert!(newcomers.iter().all(|(n, listeners)| *n >= 10 && *listeners == 0), "{newcomers:?}");
        assert_eq!(seniors.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [7, 6, 5, 4, 3, 2, 1, 0]);
        nodes.reverse();
        assert_eq!(numbers(&nodes, Some(100)), relays, "stable while nothing changes");
    }
}
