//! Which segments leave: by age and by bytes. Pure.

use std::collections::VecDeque;

/// Segments that stay whatever the limits say: a player needs three to begin.
pub const MIN_SEGMENTS: usize = 3;

/// The sizes of the segments that were on air, oldest first.
#[derive(Debug, Clone)]
pub struct Window {
    max_segments: usize,
    max_bytes: u64,
    segments: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Window {
    /// A window of at most `max_segments` segments and `max_bytes` bytes.
    pub fn new(max_segments: usize, max_bytes: u64) -> Self {
        Self { max_segments: max_segments.max(MIN_SEGMENTS), max_bytes, segments: VecDeque::new(), bytes: 0 }
    }

    /// Takes in segment `n` of `bytes` bytes and returns the oldest number that stays.
    pub fn push(&mut self, n: u64, bytes: u64) -> u64 {
        self.segments.push_back((n, bytes));
        self.bytes += bytes;
        while self.segments.len() > MIN_SEGMENTS
            && (self.segments.len() > self.max_segments || self.bytes > self.max_bytes)
        {
            let gone = self.segments.pop_front().map_or(0, |(_, bytes)| bytes);
            self.bytes -= gone;
        }
        self.segments.front().map_or(n, |(oldest, _)| *oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_stays_is_the_most_that_the_limits_allow_and_never_grows_back(
            sizes in prop::collection::vec((1_u64..5, 0_u64..1_000), 1..300),
            max_segments in 3_usize..50,
            max_bytes in 1_000_u64..20_000,
        ) {
            let mut window = Window::new(max_segments, max_bytes);
            let (mut all, mut n, mut before) = (Vec::new(), 0, 0);
            for (gap, bytes) in sizes {
                n += gap;
                all.push((n, bytes));
                let keep_from = window.push(n, bytes);
                prop_assert!(keep_from >= before);
                before = keep_from;
                let kept: Vec<_> = all.iter().filter(|(n, _)| *n >= keep_from).collect();
                let total: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(kept.len() <= max_segments);
                prop_assert!(total <= max_bytes || kept.len() <= MIN_SEGMENTS);
                prop_assert!(kept.len() >= MIN_SEGMENTS.min(all.len()));
            }
        }
    }
}
