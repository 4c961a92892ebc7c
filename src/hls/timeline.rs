//! Which media sequence number is on air when: epoch-locked, and never going back. Pure.
//!
//! Segment n covers `[n * d, (n + 1) * d)` of Unix time (DASH-IF live media ingest, "epoch locking"). Where the
//! wall clock cannot be followed without going back, numbering runs on and the difference stands in `offset`, so
//! that PROGRAM-DATE-TIME stays true.

use std::time::Duration;

/// Wall clocks that differ by less than this are slewed, not stepped.
///
/// More than half the longest segment, so that locking to the nearest number never looks like another step.
const STEP_THRESHOLD_MS: i64 = 2_500;
/// How far one segment's airtime may be moved towards the wall clock.
const SLEW_PER_SEGMENT_MS: i64 = 10;
/// What a run before this one can have encoded ahead of air.
const MAX_LEAD_MS: i64 = 31 * 60 * 1_000;

/// When a segment is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Media sequence number (RFC 8216, 4.3.3.2).
    pub n: u64,
    /// Begin of its airtime in milliseconds of the monotonic clock that the caller reads.
    pub airtime_ms: i64,
    /// Begin of its airtime in milliseconds of Unix time.
    pub unix_ms: i64,
    /// It does not continue the segment before.
    pub discontinuity: bool,
}

/// What was on air, or ready for it, before a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// The highest number that may have been used.
    pub n: u64,
    /// Begin of its airtime on both clocks, where the segment itself is still there.
    pub begin: Option<Reading>,
}

/// Both clocks, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Monotonic milliseconds, any origin.
    pub monotonic_ms: i64,
    /// Unix milliseconds.
    pub unix_ms: i64,
}

/// Hands out slots, one after the other.
#[derive(Debug, Clone)]
pub struct Timeline {
    segment_ms: i64,
    next: Slot,
}

impl Timeline {
    /// Starts so that `head_start` segments are already due, and never at or below what was on air before.
    ///
    /// Where the run before left segments that are still due, it goes on right behind them. A start behind
    /// anything is a discontinuity.
    pub fn start(segment: Duration, now: Reading, head_start: u64, last: Option<Last>) -> Self {
        let segment_ms = millis(segment);
        let current = now.unix_ms.max(0) / segment_ms;
        // Not 0: the priming before it would lie before 1970, which no date can say.
        let due_ms = (current - to_i64(head_start)).max(1) * segment_ms;
        let wanted = u64::try_from(due_ms / segment_ms).unwrap_or(1);
        let n = last.map_or(wanted, |last| wanted.max(last.n + 1));
        // Numbers ahead of the clock are put on air now, under their true date.
        let fresh_ms = (to_i64(n) * segment_ms).min(due_ms);
        let (n, airtime_ms, unix_ms) = match last {
            Some(Last { n: before, begin: Some(begin) }) if continues(segment, now, head_start, begin) => {
                (before + 1, begin.monotonic_ms + segment_ms, begin.unix_ms + segment_ms)
            }
            _ => (n, now.monotonic_ms + fresh_ms - now.unix_ms, fresh_ms),
        };
        Self { segment_ms, next: Slot { n, airtime_ms, unix_ms, discontinuity: last.is_some() } }
    }

    /// The slot that comes next, as things stand.
    pub fn peek(&self) -> Slot {
        self.next
    }

    /// Length of one segment in milliseconds.
    pub fn segment_ms(&self) -> i64 {
        self.segment_ms
    }

    /// Takes the next slot, following the wall clock where it moved: slewing small differences, stepping large
    /// ones with a discontinuity, and never handing out a number twice.
    pub fn take(&mut self, now: Reading) -> Slot {
        let wall_at_airtime = now.unix_ms + (self.next.airtime_ms - now.monotonic_ms);
        let ahead = wall_at_airtime - self.next.unix_ms;
        if ahead.abs() >= STEP_THRESHOLD_MS {
            self.step(wall_at_airtime);
        } else {
            // The wall is ahead: this airtime comes later by the clock than it should.
            self.next.airtime_ms -= ahead.clamp(-SLEW_PER_SEGMENT_MS, SLEW_PER_SEGMENT_MS);
        }
        let taken = self.next;
        self.next = Slot {
            n: taken.n + 1,
            airtime_ms: taken.airtime_ms + self.segment_ms,
            unix_ms: taken.unix_ms + self.segment_ms,
            discontinuity: false,
        };
        taken
    }

    fn step(&mut self, wall_at_airtime: i64) {
        let locked = (wall_at_airtime + self.segment_ms / 2).div_euclid(self.segment_ms);
        let locked = u64::try_from(locked).unwrap_or(0);
        self.next.discontinuity = true;
        if locked >= self.next.n {
            self.next.n = locked;
            self.next.unix_ms = to_i64(locked) * self.segment_ms;
        } else {
            self.next.unix_ms = wall_at_airtime;
        }
    }
}

/// Whether a segment whose airtime begins at `begin` is recent enough, and not too far ahead, for the next one to
/// follow it without a gap. The monotonic clock decides: a step of the wall clock opens no gap.
pub fn continues(segment: Duration, now: Reading, head_start: u64, begin: Reading) -> bool {
    let segment_ms = millis(segment);
    let earliest = now.monotonic_ms - to_i64(head_start + 1) * segment_ms;
    (earliest..=now.monotonic_ms + MAX_LEAD_MS).contains(&(begin.monotonic_ms + segment_ms))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEGMENT: Duration = Duration::from_millis(3_840);
    const NOON: i64 = 466_900_000 * 3_840 + 1_000;

    fn last(n: u64) -> Option<Last> {
        Some(Last { n, begin: None })
    }

    fn at(monotonic_ms: i64, unix_ms: i64) -> Reading {
        Reading { monotonic_ms, unix_ms }
    }

    #[test]
    fn a_fresh_station_is_epoch_locked_and_has_three_segments_due() {
        let timeline = Timeline::start(SEGMENT, at(50, NOON), 3, None);
        let first = timeline.peek();
        assert_eq!(first.n, 466_899_997);
        assert_eq!(first.unix_ms, 466_899_997 * 3_840);
        assert_eq!(first.airtime_ms, 50 - 1_000 - 3 * 3_840);
        assert!(!first.discontinuity);
    }

    #[test]
    fn two_boards_that_start_apart_number_alike() {
        let mut early = Timeline::start(SEGMENT, at(0, NOON), 3, None);
        let late = Timeline::start(SEGMENT, at(7, NOON + 10 * 3_840 + 123), 3, None).peek();
        let slot = (0..20).map(|_| early.take(at(0, NOON))).find(|s| s.n == late.n).unwrap();
        assert_eq!(slot.unix_ms, late.unix_ms);
    }

    #[test]
    fn a_restart_goes_above_the_last_number_even_when_the_clock_went_back() {
        let slot = Timeline::start(SEGMENT, at(0, NOON - 3_600_000), 3, last(466_900_000)).peek();
        assert_eq!(slot.n, 466_900_001);
        assert!(slot.discontinuity);
        // The date stays true to the clock, within the head start.
        assert!((NOON - 3_600_000 - slot.unix_ms) <= 4 * 3_840 && slot.unix_ms <= NOON - 3_600_000);
    }

    #[test]
    fn a_forward_step_jumps_ahead_and_a_backward_step_keeps_counting() {
        let mut timeline = Timeline::start(SEGMENT, at(0, NOON), 3, None);
        let first = timeline.take(at(0, NOON));
        let jumped = timeline.take(at(100, NOON + 100 + 3_600_000));
        assert!(jumped.discontinuity && jumped.n > first.n + 900);
        assert_eq!(jumped.unix_ms % 3_840, 0);
        let back = timeline.take(at(200, NOON + 200 - 3_600_000));
        assert!(back.discontinuity);
        assert_eq!(back.n, jumped.n + 1);
        assert!((back.unix_ms - first.unix_ms + 3_600_000).abs() < 10_000, "the date follows the clock");
    }

    #[test]
    fn a_drifting_clock_is_followed_without_a_discontinuity() {
        let mut timeline = Timeline::start(SEGMENT, at(0, NOON), 0, None);
        let begin = timeline.peek().airtime_ms;
        for k in 0..10_000_i64 {
            let monotonic = k * 3_840;
            // 50 parts per million fast.
            let slot = timeline.take(at(monotonic, NOON + monotonic + monotonic * 50 / 1_000_000));
            assert!(!slot.discontinuity);
        }
        let drift = timeline.peek().airtime_ms - begin - 10_000 * 3_840;
        assert!((drift + 1_920).abs() < 10, "airtimes come earlier by what the clock gained: {drift}");
    }

    #[test]
    fn a_quick_restart_goes_on_behind_the_lead_and_a_late_one_starts_afresh() {
        let ahead = Last { n: 466_900_015, begin: Some(at(15 * 3_840 - 1_000, 466_900_015 * 3_840)) };
        let slot = Timeline::start(SEGMENT, at(0, NOON), 3, Some(ahead)).peek();
        assert_eq!((slot.n, slot.unix_ms), (466_900_016, 466_900_016 * 3_840));
        assert_eq!(slot.airtime_ms, 16 * 3_840 - 1_000);
        let late = NOON + 600_000;
        let slot = Timeline::start(SEGMENT, at(600_000, late), 3, Some(ahead)).peek();
        assert_eq!(slot.n, (late / 3_840) as u64 - 3);
        assert!(slot.discontinuity);
    }

    #[test]
    fn a_stage_that_fails_after_a_clock_step_goes_on_without_a_hole_and_then_follows_the_clock() {
        let ahead = Last { n: 466_900_015, begin: Some(at(15 * 3_840, 466_900_015 * 3_840)) };
        let set_back = at(1_000, NOON - 600_000);
        let mut timeline = Timeline::start(SEGMENT, set_back, 3, Some(ahead));
        let slot = timeline.take(set_back);
        assert_eq!((slot.n, slot.airtime_ms), (466_900_016, 16 * 3_840));
        assert_eq!(slot.unix_ms, NOON - 600_000 + 16 * 3_840 - 1_000);
    }

    #[test]
    fn no_segment_begins_before_1970() {
        assert_eq!(Timeline::start(SEGMENT, at(0, 5_000), 3, None).peek().n, 1);
    }

    proptest! {
        #[test]
        fn numbers_only_grow_and_airtimes_stay_evenly_spaced_whatever_the_clock_does(
            steps in prop::collection::vec(-10_000_000_i64..10_000_000, 1..200),
            head_start in 0_u64..5,
            before in prop::option::of((466_800_000_u64..467_000_000, prop::option::of(NOON - 90_000..NOON + 90_000))),
        ) {
            let last = before.map(|(n, unix_ms)| Last { n, begin: unix_ms.map(|unix| at(unix - NOON, unix)) });
            let mut timeline = Timeline::start(SEGMENT, at(0, NOON), head_start, last);
            let (mut wall, mut before) = (NOON, None::<Slot>);
            for (k, step) in steps.into_iter().enumerate() {
                wall += step;
                let monotonic = k as i64 * 3_840;
                let slot = timeline.take(at(monotonic, wall + monotonic));
                prop_assert!(last.is_none_or(|last| slot.n > last.n));
                if let Some(before) = before {
                    prop_assert!(slot.n > before.n);
                    prop_assert!(slot.discontinuity || slot.n == before.n + 1);
                    prop_assert!((slot.airtime_ms - before.airtime_ms - 3_840).abs() <= SLEW_PER_SEGMENT_MS);
                }
                before = Some(slot);
            }
        }
    }
}
