//! Which segments leave: by age and by bytes. Pure.
//!
//! Numbers are time: segment n airs n segment lengths after the epoch. So a station that was off for an hour drops what
//! it kept from before, however few segments that is.

use std::collections::VecDeque;

/// Segments that stay whatever they weigh: a player needs three to begin.
pub const MIN_SEGMENTS: usize = 3;

/// The sizes of the segments that were on air, oldest first.
#[derive(Debug, Clone)]
pub struct Window {
    max_age: u64,
    max_bytes: u64,
    segments: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Window {
    /// A window of the newest `max_age` numbers, three at least, and at most `max_bytes` bytes.
    pub fn new(max_age: u64, max_bytes: u64) -> Self {
        let max_age = max_age.max(MIN_SEGMENTS as u64);
        Self { max_age, max_bytes, segments: VecDeque::new(), bytes: 0 }
    }

    /// Takes in segment `n` of `bytes` bytes and returns the oldest number that stays.
    pub fn push(&mut self, n: u64, bytes: u64) -> u64 {
        self.segments.push_back((n, bytes));
        self.bytes += bytes;
        while let Some((oldest, weight)) = self.segments.front().copied() {
            let too_old = n.saturating_sub(oldest) >= self.max_age;
            let too_heavy = self.bytes > self.max_bytes && self.segments.len() > MIN_SEGMENTS;
            if !too_old && !too_heavy {
                return oldest;
            }
            self.segments.pop_front();
            self.bytes -= weight;
        }
        n
    }

    /// How many segments stay.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether nothing was on air yet.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_on_air_before_a_downtime_leaves_by_its_age() {
        let mut window = Window::new(157, 1_000_000);
        (1..=100).for_each(|n| assert_eq!(window.push(n, 10), 1));
        // An hour later.
        assert_eq!((window.push(1_037, 10), window.len()), (1_037, 1));
    }

    proptest! {
        #[test]
        fn what_stays_is_the_most_that_the_limits_allow_and_never_grows_back(
            sizes in prop::collection::vec((1_u64..5, 0_u64..1_000), 1..300),
            max_age in 3_u64..50,
            max_bytes in 1_000_u64..20_000,
        ) {
            let mut window = Window::new(max_age, max_bytes);
            let (mut all, mut n, mut before) = (Vec::new(), 0, 0);
            for (gap, bytes) in sizes {
                n += gap;
                all.push((n, bytes));
                let keep_from = window.push(n, bytes);
                prop_assert!(keep_from >= before);
                before = keep_from;
                let kept: Vec<_> = all.iter().filter(|(n, _)| *n >= keep_from).collect();
                let total: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
                prop_assert_eq!(kept.len(), window.len());
                prop_assert!(kept.iter().all(|(old, _)| n - old < max_age));
                prop_assert!(total <= max_bytes || kept.len() <= MIN_SEGMENTS);
                // One more would be too old, or too heavy now or at some moment before.
                let young = all.iter().filter(|(old, _)| n - old < max_age).count();
                prop_assert!(kept.len() >= MIN_SEGMENTS.min(young));
            }
        }
    }
}
