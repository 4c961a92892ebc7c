//! The relays that station.json names: who lives, who is reached by HTTP, who has room. Pure.

use crate::ipfs::ipns::Name;
use crate::publisher::station::Relay;

use super::merge::Node;
use super::message::NodeFacts;

/// The role of a node without the station's key that serves the stream.
pub const RELAY: &str = "relay";
/// The role of the node with the station's key.
pub const ORIGIN: &str = "origin";
/// Relays that station.json names.
pub const MAX_RELAYS: usize = 16;
/// Of these, the places that go to those who have been heard the longest: a crowd of newcomers, who can claim to have no
/// listener, does not drive out the relays that are known.
const SENIOR: usize = MAX_RELAYS / 2;
/// Segments by which a relay may be behind the station: its own playlists are as short as three.
const MAX_LAG: u64 = 4;

/// How many of the nodes are relays, and those that station.json names, fewest listeners first. `newest` is the highest
/// number on air at the station; of each node goes in since when it has been heard.
pub fn candidates<'a>(
    nodes: impl Iterator<Item = (&'a Name, u64, &'a Node)>,
    newest: Option<u64>,
) -> (usize, Vec<Relay>) {
    let relays = nodes.filter_map(|(peer, since, node)| {
        let facts = node.facts().filter(|facts| facts.role == RELAY)?;
        Some((since, *peer, facts))
    });
    let mut live: Vec<_> = relays.collect();
    let count = live.len();
    let plays =
        |facts: &NodeFacts| facts.newest.is_some_and(|n| n.saturating_add(MAX_LAG) >= newest.unwrap_or(0));
    live.retain(|(_, _, facts)| plays(facts) && !facts.http.is_empty());
    live.sort_by_key(|(since, peer, _)| (*since, *peer));
    let mut others = live.split_off(live.len().min(SENIOR));
    let room = |(_, peer, facts): &(u64, Name, NodeFacts)| (facts.listeners, *peer);
    others.sort_by_key(room);
    live.extend(others.into_iter().take(MAX_RELAYS - SENIOR));
    live.sort_by_key(room);
    let relay = |(_, peer, facts): (u64, Name, NodeFacts)| Relay {
        peer: peer.peer_id(),
        http: facts.http,
        listeners: facts.listeners,
    };
    (count, live.into_iter().map(relay).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::message;

    fn peer(n: u64) -> Name {
        Name::from(cid::multihash::Multihash::wrap(0, &n.to_be_bytes()).unwrap())
    }

    fn node(role: &str, newest: Option<u64>, http: &[&str], listeners: u64) -> Node {
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
        Node::new(&facts, &message::encode(&facts))
    }

    fn named(nodes: &[(u64, u64, Node)], newest: Option<u64>) -> (usize, Vec<(u64, u64)>) {
        let nodes: Vec<_> = nodes.iter().map(|(n, since, node)| (peer(*n), *since, node)).collect();
        let (count, relays) =
            candidates(nodes.iter().map(|(peer, since, node)| (peer, *since, *node)), newest);
        let number = |relay: &Relay| (0..100).find(|n| peer(*n).peer_id() == relay.peer).unwrap();
        (count, relays.iter().map(|relay| (number(relay), relay.listeners)).collect())
    }

    const URL: &[&str] = &["http://192.168.1.20:8080"];

    #[test]
    fn only_relays_that_play_and_are_reached_are_named() {
        let nodes = [
            (1, 0, node(RELAY, Some(100), URL, 5)),
            (2, 0, node(RELAY, Some(96), URL, 3)),
            (3, 0, node(RELAY, Some(95), URL, 0)),
            (4, 0, node(RELAY, None, URL, 0)),
            (5, 0, node(RELAY, Some(100), &[], 0)),
            (6, 0, node(RELAY, Some(100), &["http://host/path"], 0)),
            (7, 0, node(ORIGIN, Some(100), URL, 0)),
            (8, 0, node("twin", Some(100), URL, 0)),
            (9, 0, node(RELAY, Some(u64::MAX - 4), URL, 9)),
        ];
        assert_eq!(named(&nodes, Some(100)), (7, vec![(2, 3), (1, 5), (9, 9)]));
        assert_eq!(named(&[], None), (0, Vec::new()));
    }

    #[test]
    fn of_more_than_sixteen_the_longest_known_stay_beside_those_with_room() {
        let crowd = |n| (n, 1_000 + n, node(RELAY, Some(100), URL, 0));
        let senior = |n| (n, n, node(RELAY, Some(100), URL, 50 - n));
        let nodes: Vec<_> = (0..10).map(senior).chain((10..90).map(crowd)).collect();
        let (count, relays) = named(&nodes, Some(100));
        assert_eq!((count, relays.len()), (90, MAX_RELAYS));
        let (newcomers, seniors) = relays.split_at(8);
        assert!(newcomers.iter().all(|(n, listeners)| *n >= 10 && *listeners == 0), "{newcomers:?}");
        assert_eq!(seniors.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [7, 6, 5, 4, 3, 2, 1, 0]);
        let mut turned = nodes.clone();
        turned.reverse();
        assert_eq!(named(&turned, Some(100)).1, relays, "stable while nothing changes");
    }
}
