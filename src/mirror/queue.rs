//! Ticks that wait for a mirror. Pure.

use std::collections::VecDeque;

use cid::Cid;

/// A tick, by what it put on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tick {
    /// Root of the stream tree.
    pub(super) root: Cid,
    /// Newest segment.
    pub(super) newest: u64,
}

/// Oldest first, and never more than the limit. A tick that leaves is lost to nobody: the next one that is pushed brings
/// every block that the mirror lacks for its own tree.
#[derive(Debug)]
pub(super) struct Queue {
    ticks: VecDeque<Tick>,
    limit: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { ticks: VecDeque::new(), limit: limit.max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.ticks.len()
    }

    /// Takes in the newest tick; says whether the oldest had to go for it.
    pub(super) fn push(&mut self, tick: Tick) -> bool {
        if self.ticks.back().is_some_and(|last| last.root == tick.root) {
            return false;
        }
        self.ticks.push_back(tick);
        let full = self.ticks.len() > self.limit;
        if full {
            self.ticks.pop_front();
        }
        full
    }

    /// Puts the tick that was taken out back to the front; says whether it had no place there.
    pub(super) fn put_back(&mut self, tick: Tick) -> bool {
        let full = self.ticks.len() >= self.limit;
        if !full {
            self.ticks.push_front(tick);
        }
        full
    }

    pub(super) fn pop(&mut self) -> Option<Tick> {
        self.ticks.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;
    use proptest::prelude::*;

    fn tick(newest: u64) -> Tick {
        Tick { root: Block::raw(newest.to_string()).cid, newest }
    }

    proptest! {
        #[test]
        fn the_newest_always_stays_in_order_and_within_the_limit(
            limit in 1_usize..6,
            steps in prop::collection::vec(0_u8..3, 1..200),
        ) {
            let (mut queue, mut next, mut taken) = (Queue::new(limit), 0, None);
            let mut last_out = None;
            for step in steps {
                match (step, taken.take()) {
                    (0, held) => {
                        next += 1;
                        queue.push(tick(next));
                        taken = held;
                    }
                    (1, Some(held)) => _ = queue.put_back(held),
                    (_, held) => {
                        taken = queue.pop();
                        last_out = held.map(|tick: Tick| tick.newest).max(last_out);
                        if let Some(out) = taken {
                            prop_assert!(last_out.is_none_or(|last| out.newest > last));
                        }
                    }
                }
                prop_assert!(queue.len() <= limit);
                let newest = queue.ticks.back().or(taken.as_ref()).map(|tick| tick.newest);
                prop_assert!(newest.is_none_or(|newest| newest == next));
                prop_assert!(queue.ticks.iter().is_sorted_by_key(|tick| tick.newest));
            }
        }
    }

    #[test]
    fn the_same_root_waits_once() {
        let mut queue = Queue::new(3);
        queue.push(tick(1));
        queue.push(Tick { newest: 2, ..tick(1) });
        assert_eq!(queue.len(), 1);
    }
}
