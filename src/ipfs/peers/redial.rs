//! Whom to dial, and when. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::supervisor::backoff::Backoff;

/// Delay before the second attempt.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay: a peer that comes back is found again within it.
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// The same for a station that is followed: it is heard again within a segment.
const FOLLOWED_DELAY: Duration = Duration::from_secs(1);
/// Dials that may be on their way at once.
pub const MAX_DIALS: usize = 8;

/// How much a connection is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// While there are few others: bootstrap, seeds, peers of the last run.
    IfFew,
    /// On the same LAN, as long as it is there.
    Neighbour,
    /// Named by the owner.
    Always,
    /// The station that this node follows.
    Followed,
}

impl Wanted {
    fn backoff(self) -> Backoff {
        Backoff::new(FIRST_DELAY, if self == Self::Followed { FOLLOWED_DELAY } else { LONGEST_DELAY })
    }
}

#[derive(Debug, Clone)]
struct Target {
    wanted: Wanted,
    backoff: Backoff,
    due: Duration,
    dialling: bool,
    connected: bool,
}

/// The state of every peer that may be dialled. Times count from the start.
#[derive(Debug, Clone)]
pub struct Redial<P> {
    few: usize,
    targets: BTreeMap<P, Target>,
}

impl<P: Ord + Clone> Redial<P> {
    /// With fewer than `few` connections, those are dialled too that are wanted in that case alone.
    pub fn new(few: usize) -> Self {
        Self { few, targets: BTreeMap::new() }
    }

    /// Wants a connection to `peer`; the stronger of two wishes holds. The first dial is due at once.
    pub fn want(&mut self, peer: P, wanted: Wanted) {
        let fresh = || Target {
            wanted,
            backoff: wanted.backoff(),
            due: Duration::ZERO,
            dialling: false,
            connected: false,
        };
        let target = self.targets.entry(peer).or_insert_with(fresh);
        if wanted > target.wanted {
            (target.wanted, target.backoff) = (wanted, wanted.backoff());
        }
    }

    /// Whether `peer` belongs to the station that this node follows.
    pub fn is_followed(&self, peer: &P) -> bool {
        self.targets.get(peer).is_some_and(|target| target.wanted == Wanted::Followed)
    }

    /// Wants no connection to `peer` any more. A dial that is on its way ends unheard.
    pub fn forget(&mut self, peer: &P) {
        self.targets.remove(peer);
    }

    /// Forgets the neighbours that `still_there` denies.
    pub fn keep_neighbours(&mut self, still_there: impl Fn(&P) -> bool) {
        self.targets.retain(|peer, target| target.wanted != Wanted::Neighbour || still_there(peer));
    }

    /// Dials that were on their way ended unheard.
    pub fn begin_anew(&mut self) {
        self.targets.values_mut().for_each(|target| target.dialling = false);
    }

    /// Whom to dial now. Each of them must be told of by [`Self::ended`]. `jitter` is uniform in `0.0..1.0`.
    pub fn due(
        &mut self,
        now: Duration,
        connections: usize,
        connected: impl Fn(&P) -> bool,
        mut jitter: impl FnMut() -> f64,
    ) -> Vec<P> {
        for (peer, target) in &mut self.targets {
            let was = std::mem::replace(&mut target.connected, connected(peer));
            if target.connected {
                target.backoff.reset();
            } else if was {
                // All who lost the same peer must not come back in the same moment.
                target.due = now + target.backoff.next(jitter());
            }
        }
        let dialling = self.targets.values().filter(|target| target.dialling).count();
        let mut ready: Vec<_> = self
            .targets
            .iter_mut()
            .filter(|(_, target)| !target.connected && !target.dialling && target.due <= now)
            .collect();
        ready.sort_by_key(|(_, target)| (std::cmp::Reverse(target.wanted), target.due));
        let mut spare = self.few.saturating_sub(connections + dialling);
        let mut room = MAX_DIALS.saturating_sub(dialling);
        let mut chosen = Vec::new();
        for (peer, target) in ready {
            let wanted = target.wanted > Wanted::IfFew || spare > 0;
            if wanted && room > 0 {
                target.dialling = true;
                (spare, room) = (spare.saturating_sub(1), room - 1);
                chosen.push(peer.clone());
            }
        }
        chosen
    }

    /// A dial has ended. One that failed is due again after a jittered, capped, growing delay.
    pub fn ended(&mut self, peer: &P, now: Duration, reached: bool, jitter: f64) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        target.dialling = false;
        target.connected = reached;
        if !reached {
            target.due = now + target.backoff.next(jitter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_owners_peers_are_dialled_whatever_there_is_and_others_while_there_are_few() {
        let mut redial = Redial::new(2);
        redial.want("owner", Wanted::Always);
        redial.want("seed", Wanted::IfFew);
        redial.want("near", Wanted::Neighbour);
        assert_eq!(redial.due(Duration::ZERO, 5, |_| false, || 0.5), ["owner", "near"]);
        let mut redial = Redial::new(2);
        for seed in ["a", "b", "c"] {
            redial.want(seed, Wanted::IfFew);
        }
        assert_eq!(redial.due(Duration::ZERO, 0, |_| false, || 0.5).len(), 2);
    }

    #[test]
    fn a_peer_that_left_is_dialled_again_soon_and_a_neighbour_that_is_gone_never() {
        let second = Duration::from_secs(1);
        let mut redial = Redial::new(0);
        redial.want("owner", Wanted::Always);
        redial.want("near", Wanted::Neighbour);
        assert_eq!(redial.due(Duration::ZERO, 0, |_| false, || 0.5).len(), 2);
        redial.ended(&"owner", second, true, 0.5);
        redial.ended(&"near", second, false, 0.5);
        redial.keep_neighbours(|_| false);
        assert!(redial.due(second * 2, 1, |peer| *peer == "owner", || 0.5).is_empty());
        assert!(redial.due(second * 3, 0, |_| false, || 1.0).is_empty(), "not in the moment of the loss");
        assert_eq!(redial.due(second * 4, 0, |_| false, || 1.0), ["owner"]);
        assert!(redial.due(second * 9, 0, |_| false, || 1.0).is_empty(), "it is being dialled");
        redial.begin_anew();
        assert_eq!(redial.due(second * 9, 0, |_| false, || 1.0), ["owner"]);
    }

    #[test]
    fn a_station_that_is_followed_is_dialled_again_within_seconds_however_long_it_was_gone() {
        let mut redial = Redial::new(0);
        redial.want("origin", Wanted::Neighbour);
        redial.want("origin", Wanted::Followed);
        redial.keep_neighbours(|_| false);
        let (mut now, mut dials) = (Duration::ZERO, 0);
        while now < Duration::from_secs(600) {
            now += Duration::from_millis(500);
            for peer in redial.due(now, 9, |_| false, || 1.0) {
                assert!(redial.is_followed(&peer));
                redial.ended(&peer, now, false, 1.0);
                dials += 1;
            }
        }
        assert!((590..=600).contains(&dials), "{dials} dials in ten minutes");
    }

    proptest! {
        #[test]
        fn dials_are_few_never_doubled_never_to_the_connected_and_never_given_up(
            peers in prop::collection::btree_map(0_u8..40, 0_u8..3, 1..40),
            steps in prop::collection::vec((1_u64..400, 0.0_f64..1.0, any::<u64>()), 1..60),
            few in 0_usize..10,
        ) {
            let mut redial = Redial::new(few);
            let wishes = [Wanted::IfFew, Wanted::Neighbour, Wanted::Always];
            for (peer, wish) in &peers {
                redial.want(*peer, wishes[usize::from(*wish)]);
            }
            let (mut now, mut dialling) = (Duration::ZERO, BTreeSet::new());
            let mut idle: BTreeMap<u8, Duration> = BTreeMap::new();
            for (seconds, jitter, fate) in steps {
                now += Duration::from_secs(seconds);
                let connected: BTreeSet<u8> =
                    peers.keys().copied().filter(|p| !dialling.contains(p) && fate >> (p % 64) & 1 == 1).collect();
                let chosen = redial.due(now, connected.len(), |p| connected.contains(p), || jitter);
                for peer in &chosen {
                    prop_assert!(!connected.contains(peer));
                    prop_assert!(dialling.insert(*peer), "dialled twice at once");
                    idle.remove(peer);
                }
                prop_assert!(dialling.len() <= MAX_DIALS);
                // Whoever is always wanted waits for the longest delay, or for a free place.
                for (peer, wish) in &peers {
                    if *wish == 2 && !connected.contains(peer) && !dialling.contains(peer) {
                        let since = *idle.entry(*peer).or_insert(now);
                        prop_assert!(now - since <= LONGEST_DELAY + Duration::from_secs(400)
                            || dialling.len() == MAX_DIALS);
                    } else {
                        idle.remove(peer);
                    }
                }
                for peer in std::mem::take(&mut dialling) {
                    if fate >> (63 - peer % 64) & 1 == 0 {
                        redial.ended(&peer, now, false, jitter);
                    } else {
                        dialling.insert(peer);
                    }
                }
            }
        }
    }
}
