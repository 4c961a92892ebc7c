//! What a finger on the button means, from samples of its line. Pure.

use std::time::Duration;

/// A level counts once it has stayed for this long: contacts bounce for up to ten milliseconds.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// A press that is shorter skips.
const SKIP_WITHIN: Duration = Duration::from_secs(1);
/// A press of this length powers off.
const POWER_OFF_AFTER: Duration = Duration::from_secs(3);
/// A press of this length that began before the program resets when it ends.
const RESET_AFTER: Duration = Duration::from_secs(10);
/// And one that is longer does not: a line that is stuck must not reset the board at each start.
const RESET_WITHIN: Duration = Duration::from_secs(60);
/// A button that is found pressed later than this was not held at the start.
const START: Duration = Duration::from_secs(5);
/// Between samples further apart than this the button may have been released unseen.
const GAP: Duration = Duration::from_millis(500);

/// What was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// The next track, please.
    Skip,
    /// Power off.
    PowerOff,
    /// Held for long enough to reset: it will when it is let go.
    ResetReady,
    /// Forget the settings.
    Reset,
}

/// Follows one button from the start of the program on.
#[derive(Debug, Clone, Default)]
pub struct Presses {
    last: Option<Sample>,
    /// Since when the level of the last sample has been seen without a change.
    since: Duration,
    /// The debounced level.
    pressed: bool,
    /// Since when the button is held.
    held_since: Duration,
    /// Since when it has been watched without a gap.
    watched_since: Duration,
    /// The present press was there when the program started.
    from_start: bool,
    /// The button has been seen released.
    was_released: bool,
    /// The present press is long enough to reset.
    is_ready: bool,
    /// The present press has had its effect, or is not to have any.
    spent: bool,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    pressed: bool,
    at: Duration,
}

impl Presses {
    /// Takes in the level at a moment, counted from the start of the program. Moments never go back.
    pub fn sample(&mut self, pressed: bool, at: Duration) -> Option<Press> {
        let last = self.last.replace(Sample { pressed, at });
        let is_new = last.is_none_or(|last| last.pressed != pressed);
        let after_gap = last.is_some_and(|last| at - last.at > GAP);
        if is_new || after_gap {
            self.since = at;
        }
        if after_gap {
            // A press across a gap may be two: it has no effect. One from the start is counted anew: a board that starts is
            // busy, and who wants a reset holds on.
            self.watched_since = at;
            self.spent |= !(self.pressed && self.from_start);
        }
        if at - self.since >= DEBOUNCE && pressed != self.pressed {
            self.pressed = pressed;
            return if pressed { self.press() } else { self.release() };
        }
        if !pressed && at - self.since >= DEBOUNCE {
            self.was_released = true;
        }
        if self.pressed { self.hold(at) } else { None }
    }

    fn press(&mut self) -> Option<Press> {
        self.held_since = self.since;
        self.watched_since = self.since;
        self.from_start = !self.was_released;
        // Found pressed, and nobody knows for how long: only its release tells that the line is not stuck.
        self.spent = self.from_start && self.since > START;
        self.is_ready = false;
        None
    }

    fn release(&mut self) -> Option<Press> {
        self.was_released = true;
        let held = self.since - self.held_since;
        match self.from_start {
            _ if self.spent => None,
            true => (self.is_ready && held < RESET_WITHIN).then_some(Press::Reset),
            false => (held < SKIP_WITHIN).then_some(Press::Skip),
        }
    }

    fn hold(&mut self, at: Duration) -> Option<Press> {
        let held = at - self.held_since;
        if self.from_start {
            let ready = !self.spent && !self.is_ready && at - self.watched_since >= RESET_AFTER;
            self.is_ready |= ready;
            return ready.then_some(Press::ResetReady);
        }
        let off = !self.spent && held >= POWER_OFF_AFTER;
        self.spent |= off;
        off.then_some(Press::PowerOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every effect of a button that is sampled every 20 ms, by the moments in ms at which its level changes; it is
    /// released at first.
    fn effects(changes: &[u64], until: u64) -> Vec<(u64, Press)> {
        let mut presses = Presses::default();
        let sample = |at: u64| {
            let pressed = changes.iter().filter(|change| **change <= at).count() % 2 == 1;
            Some((at, presses.sample(pressed, Duration::from_millis(at))?))
        };
        (0..until).step_by(20).filter_map(sample).collect()
    }

    fn meanings(changes: &[u64], until: u64) -> Vec<Press> {
        effects(changes, until).into_iter().map(|(_, press)| press).collect()
    }

    #[test]
    fn a_short_press_skips_when_it_ends() {
        assert_eq!(effects(&[6_000, 6_200], 20_000), [(6_220, Press::Skip)]);
        assert_eq!(meanings(&[6_000, 6_200, 7_000, 7_980], 20_000), [Press::Skip, Press::Skip]);
    }

    #[test]
    fn a_press_of_one_to_three_seconds_means_nothing() {
        assert_eq!(meanings(&[6_000, 7_000], 20_000), []);
        assert_eq!(meanings(&[6_000, 8_980], 20_000), []);
    }

    #[test]
    fn three_seconds_power_off_while_still_held_and_once() {
        assert_eq!(effects(&[6_000, 60_000], 70_000), [(9_000, Press::PowerOff)]);
    }

    #[test]
    fn ten_seconds_from_the_start_reset_on_release_and_never_power_off() {
        let reset = [(10_000, Press::ResetReady), (12_020, Press::Reset)];
        assert_eq!(effects(&[0, 12_000], 70_000), reset);
        assert_eq!(meanings(&[0, 9_900], 20_000), []);
        assert_eq!(meanings(&[0, 500], 20_000), []);
        // Held anew, it is a press like any other.
        assert_eq!(meanings(&[0, 9_900, 10_000, 30_000], 40_000), [Press::PowerOff]);
    }

    #[test]
    fn a_board_too_busy_to_look_counts_the_ten_seconds_anew_and_a_minute_from_the_start() {
        let effects = |gap: u64, end: u64| {
            let mut presses = Presses::default();
            let looks = (0..70_000_u64).step_by(20).filter(|at| !(gap..gap + 700).contains(at));
            looks
                .filter_map(|at| Some((at, presses.sample(at < end, Duration::from_millis(at))?)))
                .collect::<Vec<_>>()
        };
        assert_eq!(effects(6_000, 15_000), []);
        assert_eq!(effects(6_000, 20_000), [(16_700, Press::ResetReady), (20_020, Press::Reset)]);
        assert_eq!(effects(55_000, 66_000), [(10_000, Press::ResetReady)], "a minute is over");
    }

    #[test]
    fn a_line_that_is_stuck_from_the_start_on_resets_nothing() {
        assert_eq!(meanings(&[0, 500_000], 400_000), [Press::ResetReady]);
        assert_eq!(meanings(&[0, 60_000], 70_000), [Press::ResetReady], "nor when it comes free");
    }

    #[test]
    fn a_press_that_begins_after_the_start_never_resets() {
        assert_eq!(meanings(&[200, 60_000], 70_000), [Press::PowerOff]);
    }

    #[test]
    fn a_line_that_is_found_pressed_late_has_no_effect_until_it_was_released() {
        let mut presses = Presses::default();
        let mut seen = Vec::new();
        for at in (6_000..60_000_u64).step_by(20) {
            let pressed = at < 40_000 || (50_000..50_200).contains(&at);
            seen.extend(presses.sample(pressed, Duration::from_millis(at)));
        }
        assert_eq!(seen, [Press::Skip]);
    }

    #[test]
    fn contacts_that_bounce_are_one_press() {
        let bouncing = [6_000, 6_001, 6_003, 6_019, 6_021, 6_200, 6_201, 6_219, 6_221, 6_222];
        assert_eq!(meanings(&bouncing, 10_000), [Press::Skip]);
        // A spike of less than two samples is none.
        assert_eq!(meanings(&[6_000, 6_019], 10_000), []);
    }

    #[test]
    fn a_press_that_was_not_watched_all_the_time_has_no_effect() {
        let mut presses = Presses::default();
        let mut sample = |pressed, at| presses.sample(pressed, Duration::from_millis(at));
        for at in [6_000, 6_020] {
            assert_eq!(sample(false, at), None);
        }
        for at in [6_040, 6_060, 10_000, 10_020, 10_040, 14_000] {
            assert_eq!(sample(true, at), None, "{at}");
        }
        for at in [14_020, 14_040] {
            assert_eq!(sample(false, at), None);
        }
        // And the next one works again.
        let next: Vec<_> =
            [(true, 14_060), (true, 14_080), (false, 14_100), (false, 14_120)].into_iter().collect();
        let seen: Vec<_> = next.into_iter().filter_map(|(pressed, at)| sample(pressed, at)).collect();
        assert_eq!(seen, [Press::Skip]);
    }

    proptest! {
        #[test]
        fn one_press_has_one_effect_at_most_and_noise_never_resets_or_powers_off(
            lengths in proptest::collection::vec(1_u64..900, 1..60),
        ) {
            let mut at = 100;
            let changes: Vec<u64> = lengths.iter().map(|length| { at += length; at }).collect();
            let seen = meanings(&changes, at + 100);
            prop_assert!(seen.len() <= changes.len().div_ceil(2));
            // The button may be left pressed at the end, for less than it takes.
            prop_assert!(seen.iter().all(|press| *press == Press::Skip));
        }
    }
}
