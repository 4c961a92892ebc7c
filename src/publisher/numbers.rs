//! Numbers that must never go back: media sequence and IPNS sequence.
//!
//! They are written in advance, in steps, and each write reserves anew for both: a card sees one small write a minute, not one
//! per segment, and a crash skips at most a step.

use serde::{Deserialize, Serialize};

use crate::state::{StateError, StateFile};

/// Segments reserved at a time.
const SEGMENT_STEP: u64 = 16;
/// IPNS sequence numbers reserved at a time. More than a step of segments uses, so that a station on air never writes for
/// their sake.
const SEQUENCE_STEP: u64 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Reserved {
    segment_ms: u64,
    segment: u64,
    sequence: u64,
    discontinuities: u64,
}

/// The counters and their file.
#[derive(Debug)]
pub struct Numbers {
    file: StateFile,
    reserved: Reserved,
    segment: Option<u64>,
    sequence: u64,
}

impl Numbers {
    /// Reads the counters. Where there are none, the IPNS sequence begins at the Unix time in seconds: more than
    /// one record per 3.84 s can ever have used, so that a lost file never makes it go back.
    ///
    /// # Errors
    /// [`StateError::Read`] when the file cannot be read.
    pub fn load(file: StateFile, segment_ms: u64, unix_seconds: u64) -> Result<Self, StateError> {
        let stored = file.load::<Reserved>()?;
        let segment = stored.map(|r| match r.segment_ms == segment_ms {
            true => r.segment,
            // The same moment on the other grid.
            false => ((r.segment + 1) * r.segment_ms).div_ceil(segment_ms),
        });
        let sequence = stored.map_or(unix_seconds, |r| r.sequence);
        let discontinuities = stored.map_or(0, |r| r.discontinuities);
        let reserved = Reserved { segment_ms, segment: segment.unwrap_or(0), sequence, discontinuities };
        Ok(Self { file, reserved, segment, sequence })
    }

    /// The highest media sequence number that may have been used; `None` on a fresh station.
    pub fn last_segment(&self) -> Option<u64> {
        self.segment
    }

    /// Discontinuities counted so far.
    pub fn discontinuities(&self) -> u64 {
        self.reserved.discontinuities
    }

    /// Notes that segment `n` is about to be stored.
    ///
    /// # Errors
    /// [`StateError::Write`]: the segment must not be published.
    pub fn use_segment(&mut self, n: u64, discontinuities: u64) -> Result<(), StateError> {
        let known = self.segment.is_some_and(|_| n <= self.reserved.segment);
        if !known || discontinuities != self.reserved.discontinuities {
            let segment = n.max(self.reserved.segment) + if known { 0 } else { SEGMENT_STEP };
            let sequence = self.reserved.sequence.max(self.sequence.saturating_add(SEQUENCE_STEP));
            self.reserve(Reserved { segment, sequence, discontinuities, ..self.reserved })?;
        }
        self.segment = Some(n);
        Ok(())
    }

    /// The next IPNS sequence number.
    ///
    /// # Errors
    /// [`StateError::Write`]: the record must not be signed.
    pub fn next_sequence(&mut self) -> Result<u64, StateError> {
        let next = self.sequence + 1;
        if next > self.reserved.sequence {
            self.reserve(Reserved { sequence: next + SEQUENCE_STEP, ..self.reserved })?;
        }
        self.sequence = next;
        Ok(next)
    }

    /// Goes on above `found`, a sequence number that somebody has seen under the station's name. The highest numbers
    /// of all are left alone: nothing could follow them.
    pub fn raise_above(&mut self, found: u64) {
        if found > self.sequence && found < u64::MAX - 2 * SEQUENCE_STEP {
            self.sequence = found;
        }
    }

    /// The newest IPNS sequence number given out or seen.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Writes what was really used, so that a clean restart skips nothing.
    ///
    /// # Errors
    /// [`StateError::Write`]; what was reserved still stands.
    pub fn close(&mut self) -> Result<(), StateError> {
        let segment = self.segment.unwrap_or(self.reserved.segment);
        self.reserve(Reserved { segment, sequence: self.sequence, ..self.reserved })
    }

    fn reserve(&mut self, reserved: Reserved) -> Result<(), StateError> {
        self.file.save(&reserved)?;
        self.reserved = reserved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Durability;
    use proptest::prelude::*;

    fn load(folder: &std::path::Path, segment_ms: u64) -> Numbers {
        let file = StateFile::new(folder.join("numbers.json"), Durability::Process);
        Numbers::load(file, segment_ms, 1_000).unwrap()
    }

    /// A write is what wears a card out: 16 segments with their records cost one.
    #[test]
    fn a_station_on_air_writes_once_for_sixteen_segments_and_their_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut numbers = load(folder.path(), 3_840);
        let mut writes = 0;
        let mut before = None;
        for n in 5_000..5_160 {
            numbers.use_segment(n, 0).unwrap();
            numbers.next_sequence().unwrap();
            let now = std::fs::read(folder.path().join("numbers.json")).unwrap();
            writes += u32::from(before.replace(now.clone()) != Some(now));
        }
        assert!((9..=11).contains(&writes), "{writes}");
    }

    #[test]
    fn a_clean_end_skips_nothing_and_a_fresh_station_begins_above_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut numbers = load(folder.path(), 3_840);
        assert_eq!(numbers.last_segment(), None);
        numbers.use_segment(77, 0).unwrap();
        assert_eq!(numbers.next_sequence().unwrap(), 1_001);
        numbers.close().unwrap();
        let mut numbers = load(folder.path(), 3_840);
        assert_eq!(numbers.last_segment(), Some(77));
        assert_eq!(numbers.next_sequence().unwrap(), 1_002);
    }

    #[test]
    fn another_segment_length_goes_on_behind_the_same_moment() {
        let folder = tempfile::tempdir().unwrap();
        let mut numbers = load(folder.path(), 3_840);
        numbers.use_segment(1_000, 0).unwrap();
        numbers.close().unwrap();
        assert_eq!(load(folder.path(), 1_920).last_segment(), Some(2_002));
    }

    #[test]
    fn a_higher_sequence_that_was_found_is_gone_above_for_good_and_a_lower_one_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let mut numbers = load(folder.path(), 3_840);
        numbers.raise_above(900);
        assert_eq!(numbers.next_sequence().unwrap(), 1_001);
        numbers.raise_above(50_000);
        assert_eq!(numbers.next_sequence().unwrap(), 50_001);
        drop(numbers);
        let mut numbers = load(folder.path(), 3_840);
        assert!(numbers.next_sequence().unwrap() > 50_001, "after a crash");
        numbers.raise_above(u64::MAX);
        assert!(numbers.next_sequence().unwrap() < 51_000, "nothing follows the highest number of all");
    }

    proptest! {
        #[test]
        fn no_crash_makes_a_number_come_twice(
            runs in prop::collection::vec((1_usize..60, any::<bool>(), 0_u64..3_000), 1..12),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (mut highest_n, mut highest_sequence, mut wall) = (0, 0, 500);
            for (uses, clean, found) in runs {
                let mut numbers = load(folder.path(), 3_840);
                numbers.raise_above(found);
                for _ in 0..uses {
                    wall += 1;
                    let n = numbers.last_segment().map_or(wall, |last| (last + 1).max(wall));
                    prop_assert!(n > highest_n);
                    numbers.use_segment(n, 0).unwrap();
                    let sequence = numbers.next_sequence().unwrap();
                    prop_assert!(sequence > highest_sequence);
                    (highest_n, highest_sequence) = (n, sequence);
                }
                if clean {
                    numbers.close().unwrap();
                }
            }
        }
    }
}
