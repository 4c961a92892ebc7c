//! Schedule: which track plays next. Pure.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// The order tracks play in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The library's order, round and round.
    Ordered,
    /// At random, none again before all have played.
    #[default]
    Shuffled,
}

/// What has played in this round. Tracks are known by path, so the library may grow and shrink.
#[derive(Debug)]
pub struct Schedule {
    order: Order,
    rng: Rng,
    played: HashSet<Arc<Path>>,
    last: Option<Arc<Path>>,
}

impl Schedule {
    /// A schedule at the start of its first round; one seed, one order.
    pub fn new(order: Order, seed: u64) -> Self {
        Self { order, rng: Rng::with_seed(seed), played: HashSet::new(), last: None }
    }

    /// Plays in another order from the next track on; what has played in this round stays played.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// The index of the next track, which then counts as played. `None`: nothing is playable.
    ///
    /// No track comes twice in a round, and none twice in a row while there are two.
    pub fn next<P: AsRef<Path>>(&mut self, paths: &[P], playable: impl Fn(usize) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..paths.len()).filter(|&at| playable(at)).collect();
        let path = |at: usize| paths[at].as_ref();
        let mut left: Vec<usize> =
            all.iter().copied().filter(|&at| !self.played.contains(path(at))).collect();
        if left.is_empty() {
            self.played.clear();
            left = all;
            if left.len() > 1
                && let Some(last) = &self.last
            {
                left.retain(|&at| path(at) != &**last);
            }
        }
        let next = match self.order {
            Order::Ordered => self.following(paths, &left)?,
            Order::Shuffled => *left.get(self.rng.usize(..left.len().max(1)))?,
        };
        let chosen: Arc<Path> = path(next).into();
        self.played.insert(Arc::clone(&chosen));
        self.last = Some(chosen);
        Some(next)
    }

    /// The first one left behind the last that played; the first of all at the end.
    fn following<P: AsRef<Path>>(&self, paths: &[P], left: &[usize]) -> Option<usize> {
        let last = self.last.as_deref();
        let at = paths.iter().position(|path| Some(path.as_ref()) == last);
        let behind = left.iter().copied().find(|&next| at.is_none_or(|at| next > at));
        behind.or_else(|| left.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(names: &[&str]) -> Vec<Arc<Path>> {
        names.iter().map(|name| Path::new(name).into()).collect()
    }

    fn numbered(count: usize) -> Vec<Arc<Path>> {
        (0..count).map(|n| Path::new(&n.to_string()).into()).collect()
    }

    fn play(schedule: &mut Schedule, paths: &[Arc<Path>], count: usize) -> Vec<usize> {
        (0..count).map(|_| schedule.next(paths, |_| true).unwrap()).collect()
    }

    #[test]
    fn ordered_plays_in_order_round_and_round() {
        let mut schedule = Schedule::new(Order::Ordered, 0);
        assert_eq!(play(&mut schedule, &numbered(3), 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn ordered_goes_on_behind_the_last_when_the_library_changes() {
        let mut schedule = Schedule::new(Order::Ordered, 0);
        play(&mut schedule, &paths(&["a", "c", "e"]), 2);
        assert_eq!(schedule.next(&paths(&["a", "b", "c", "d", "e"]), |_| true), Some(3));
        assert_eq!(schedule.next(&paths(&["a", "b", "c", "d", "e"]), |_| true), Some(4));
        assert_eq!(schedule.next(&paths(&["a", "b", "c", "d", "e"]), |_| true), Some(1));
    }

    #[test]
    fn one_track_plays_again_and_an_empty_library_has_none() {
        let mut schedule = Schedule::new(Order::Shuffled, 0);
        assert_eq!(play(&mut schedule, &numbered(1), 3), [0, 0, 0]);
        assert_eq!(schedule.next(&numbered(0), |_| true), None);
        assert_eq!(schedule.next(&numbered(3), |_| false), None);
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let order = |seed| play(&mut Schedule::new(Order::Shuffled, seed), &numbered(50), 50);
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..50).collect::<Vec<_>>());
    }

    fn order() -> impl Strategy<Value = Order> {
        prop_oneof![Just(Order::Ordered), Just(Order::Shuffled)]
    }

    proptest! {
        #[test]
        fn all_play_once_before_any_plays_again(order in order(), seed: u64, count in 1usize..30) {
            let mut schedule = Schedule::new(order, seed);
            let paths = numbered(count);
            let first: HashSet<usize> = play(&mut schedule, &paths, count).into_iter().collect();
            prop_assert_eq!(first.len(), count);
        }

        #[test]
        fn later_rounds_are_whole_and_no_track_comes_twice_in_a_row(
            order in order(), seed: u64, count in 2usize..20,
        ) {
            let mut schedule = Schedule::new(order, seed);
            let all = play(&mut schedule, &numbered(count), count * 5);
            prop_assert!(all.windows(2).all(|two| two[0] != two[1]));
            for round in all.chunks(count) {
                prop_assert_eq!(round.iter().collect::<HashSet<_>>().len(), count);
            }
        }

        #[test]
        fn what_has_played_stays_played_while_the_library_changes(
            order in order(), seed: u64, rounds in proptest::collection::vec(
                proptest::collection::hash_set(0usize..12, 1..12), 1..12),
        ) {
            let mut schedule = Schedule::new(order, seed);
            let mut played: HashSet<Arc<Path>> = HashSet::new();
            let mut last = None;
            for present in rounds {
                let mut names: Vec<usize> = present.into_iter().collect();
                names.sort_unstable();
                let paths: Vec<Arc<Path>> =
                    names.iter().map(|n| Path::new(&format!("{n:02}")).into()).collect();
                let next = Arc::clone(&paths[schedule.next(&paths, |_| true).unwrap()]);
                if paths.iter().all(|path| played.contains(path)) {
                    played.clear();
                }
                prop_assert!(!played.contains(&next), "{next:?} again");
                prop_assert!(paths.len() == 1 || last.as_ref() != Some(&next));
                played.insert(Arc::clone(&next));
                last = Some(next);
            }
        }

        #[test]
        fn only_playable_tracks_are_chosen(order in order(), seed: u64, mask in 1u32..256) {
            let mut schedule = Schedule::new(order, seed);
            for _ in 0..20 {
                let next = schedule.next(&numbered(8), |at| mask & (1 << at) != 0).unwrap();
                prop_assert!(mask & (1 << next) != 0);
            }
        }
    }
}
