//! When each announced segment is due, told by the arrival of those before it, so that no wall clock is needed. Pure.
//!
//! The origin lists a segment at the end of its airtime, and that reaches us later, never sooner: the least delay that was
//! seen is the nearest to the truth. Times are milliseconds of any monotonic clock.

use std::collections::{BTreeMap, VecDeque};

use crate::publisher::index::IndexedSegment;

/// Arrivals that count: four minutes, in which two clocks drift apart by less than 50 ms.
const ARRIVALS: usize = 64;

/// The estimate.
#[derive(Debug, Clone, Default)]
pub struct Airtimes {
    /// End of each segment's airtime on a time line of the station, which runs evenly; and where it begins by its clock.
    ends: BTreeMap<u64, (i64, i64)>,
    /// What the time line lags behind our clock, by each arrival.
    offsets: VecDeque<i64>,
}

impl Airtimes {
    /// Takes in a segment behind those that are known; any other one changes nothing.
    pub fn learn(&mut self, segment: &IndexedSegment) {
        let length = i64::try_from(segment.samples / 48).unwrap_or(i64::MAX);
        let end = match self.ends.last_key_value() {
            Some((last, _)) if *last >= segment.n => return,
            Some((_, (end, unix_ms))) => {
                let by_the_clock = segment.unix_ms.saturating_sub(*unix_ms);
                // A clock that was set back does not bring the air back. One that jumped forward may have, where the
                // station was off; then late is right, and the station's own list comes first in any case.
                end.saturating_add(if by_the_clock < length / 2 { length } else { by_the_clock })
            }
            None => {
                self.offsets.clear();
                segment.unix_ms.saturating_add(length)
            }
        };
        self.ends.insert(segment.n, (end, segment.unix_ms));
    }

    /// The station's tree lists `n` as its newest, as was told to us at `now_ms`.
    pub fn arrived(&mut self, n: u64, now_ms: i64) {
        let Some((end, _)) = self.ends.get(&n) else { return };
        self.offsets.push_back(now_ms.saturating_sub(*end));
        if self.offsets.len() > ARRIVALS {
            self.offsets.pop_front();
        }
    }

    /// When the station lists `n`, by all that is known; `None` where nothing is.
    pub fn due(&self, n: u64) -> Option<i64> {
        let offset = self.offsets.iter().min()?;
        Some(self.ends.get(&n)?.0.saturating_add(*offset))
    }

    /// Forgets older segments.
    pub fn forget_before(&mut self, n: u64) {
        self.ends = self.ends.split_off(&n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(n: u64, unix_ms: i64) -> IndexedSegment {
        IndexedSegment {
            n,
            unix_ms,
            program_date_time_ms: unix_ms,
            samples: 184_320,
            discontinuity: false,
            discontinuity_sequence: 0,
            media: Vec::new(),
            now_playing: None,
        }
    }

    fn learnt(segments: &[IndexedSegment]) -> Airtimes {
        let mut airtimes = Airtimes::default();
        segments.iter().for_each(|segment| airtimes.learn(segment));
        airtimes
    }

    #[test]
    fn nothing_is_due_before_anything_arrived() {
        let mut airtimes = learnt(&[segment(7, 0)]);
        assert_eq!(airtimes.due(7), None);
        airtimes.arrived(8, 100);
        assert_eq!(airtimes.due(7), None, "an unknown number tells nothing");
        airtimes.arrived(7, 100);
        assert_eq!((airtimes.due(7), airtimes.due(8)), (Some(100), None));
    }

    #[test]
    fn a_clock_that_is_set_back_hurries_nothing_and_one_that_jumps_forward_makes_late_until_it_is_heard() {
        let back = [segment(1, 100_000), segment(2, 103_840), segment(3, 50_000), segment(4, 53_840)];
        let mut airtimes = learnt(&back);
        airtimes.arrived(2, 1_000);
        assert_eq!([3, 4].map(|n| airtimes.due(n)), [Some(4_840), Some(8_680)]);
        let forward = [segment(1, 100_000), segment(900, 3_700_000), segment(901, 3_703_840)];
        let mut airtimes = learnt(&forward);
        airtimes.arrived(1, 1_000);
        assert!(airtimes.due(900).unwrap() > 3_000_000);
        airtimes.arrived(900, 4_840);
        assert_eq!(airtimes.due(901), Some(8_680));
    }

    proptest! {
        /// Clocks drift by 100 parts per million, messages take what they take.
        #[test]
        fn no_segment_is_due_before_its_airtime_or_later_than_the_least_delay(
            delays in prop::collection::vec(20_i64..2_000, 70..200),
            drift in -100_i64..=100,
            lead in 1_usize..50,
        ) {
            let all: Vec<_> = (0..260).map(|n| segment(n, n as i64 * 3_840)).collect();
            let mut airtimes = learnt(&all);
            let ours = |station_ms: i64| station_ms + station_ms * drift / 1_000_000;
            for (n, delay) in delays.iter().enumerate() {
                airtimes.arrived(n as u64, ours((n as i64 + 1) * 3_840) + delay);
            }
            let newest = delays.len() - 1;
            let least = *delays[delays.len() - ARRIVALS..].iter().min().unwrap();
            let air = ours((newest + lead + 1) as i64 * 3_840);
            let early = air + least - airtimes.due((newest + lead) as u64).unwrap();
            prop_assert!((-50..=50).contains(&early), "{early}");
        }
    }
}
