//! Which of the station's other relays a relay stays connected to, so that blocks come from them too and not all from the
//! origin. Pure.
//!
//! Each relay ranks all others by a hash of both names and takes the first few: a random graph that hangs together
//! without anybody's plan, and that changes only where relays come and go.

use cid::multihash::Multihash;
use multihash_codetable::{Code, MultihashDigest};

use super::merge::State;
use super::relays::RELAY;
use crate::ipfs::ipns::Name;

/// Relays that one stays connected to; as many again choose it, on average. A random graph of that degree hangs together
/// up to far more relays than [`super::merge::MAX_NODES`].
pub const NEIGHBOURS: usize = 6;
/// How far down the ranking it is looked for relays that can be dialled: bounds what strangers' claims cost.
const LOOKED_AT: usize = 8 * NEIGHBOURS;

/// Addresses of the chosen relays, each ending in the peer id of its node.
pub fn addresses(own: &Name, state: &State) -> Vec<String> {
    let mut ranked: Vec<_> = state
        .nodes()
        .filter(|(peer, _)| *peer != own)
        .map(|(peer, node)| (rank(own, peer), peer, node))
        .collect();
    let depth = LOOKED_AT.min(ranked.len());
    if depth > 0 {
        ranked.select_nth_unstable_by(depth - 1, |a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        ranked.truncate(depth);
        ranked.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    }
    let swarm = ranked.into_iter().filter_map(|(_, peer, node)| {
        let facts = node.facts().filter(|facts| facts.role == RELAY)?;
        let end = format!("/p2p/{}", peer.peer_id());
        let own: Vec<_> = facts.swarm.into_iter().filter(|address| address.ends_with(&end)).collect();
        (!own.is_empty()).then_some(own)
    });
    swarm.take(NEIGHBOURS).flatten().collect()
}

fn rank(own: &Name, other: &Name) -> Multihash<64> {
    Code::Sha2_256.digest(&[own.multihash().to_bytes(), other.multihash().to_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::merge::Node;
    use super::super::message::{self, NodeFacts};
    use super::super::relays::ORIGIN;
    use super::*;
    use crate::ipfs::Identity;

    fn node(role: &str, swarm: Vec<String>) -> Node {
        let facts = NodeFacts {
            name: "k51".into(),
            seq: 1,
            time_ms: 0,
            role: role.into(),
            software: "test".into(),
            newest: Some(1),
            held_until: None,
            http: Vec::new(),
            swarm,
            listeners: 0,
        };
        Node::new(&facts, &message::encode(&facts))
    }

    fn address(peer: &Name) -> String {
        format!("/ip4/10.0.0.1/tcp/4001/p2p/{}", peer.peer_id())
    }

    fn relays(count: usize) -> (Vec<Name>, State) {
        let peers: Vec<_> = (0..count).map(|_| Identity::generate().name()).collect();
        let mut state = State::default();
        peers.iter().for_each(|peer| _ = state.offer_node(*peer, node(RELAY, vec![address(peer)])));
        (peers, state)
    }

    #[test]
    fn every_relay_is_reached_from_every_other_and_none_has_to_bear_many() {
        let (peers, state) = relays(200);
        let chosen: BTreeMap<_, BTreeSet<_>> =
            peers.iter().map(|own| (*own, addresses(own, &state).into_iter().collect())).collect();
        assert!(chosen.iter().all(|(own, to)| to.len() == NEIGHBOURS && !to.contains(&address(own))));
        let by = |peer: &Name| chosen.values().filter(|to| to.contains(&address(peer))).count();
        assert!(peers.iter().map(by).max().unwrap() <= 5 * NEIGHBOURS);
        let (mut met, mut next) = (BTreeSet::from([peers[0]]), vec![peers[0]]);
        while let Some(here) = next.pop() {
            let linked = |peer: &&Name| {
                chosen[&here].contains(&address(peer)) || chosen[*peer].contains(&address(&here))
            };
            next.extend(peers.iter().filter(linked).filter(|peer| met.insert(**peer)));
        }
        assert_eq!(met.len(), peers.len());
    }

    #[test]
    fn one_that_comes_changes_one_neighbour_at_most() {
        let (peers, mut state) = relays(40);
        let before: BTreeSet<_> = addresses(&peers[0], &state).into_iter().collect();
        let new = Identity::generate().name();
        state.offer_node(new, node(RELAY, vec![address(&new)]));
        let after: BTreeSet<_> = addresses(&peers[0], &state).into_iter().collect();
        assert!(before.difference(&after).count() <= 1);
    }

    #[test]
    fn nobody_is_dialled_under_anothers_name_and_no_origin() {
        let (peers, mut state) = relays(1);
        let [liar, origin, silent] = std::array::from_fn(|_| Identity::generate().name());
        state.offer_node(liar, node(RELAY, vec![address(&peers[0])]));
        state.offer_node(origin, node(ORIGIN, vec![address(&origin)]));
        state.offer_node(silent, node(RELAY, Vec::new()));
        assert_eq!(addresses(&Identity::generate().name(), &state), [address(&peers[0])]);
        assert!(addresses(&peers[0], &state).is_empty());
    }
}
