//! Whether there is a sign of life: audio that advances, or a relay that waits for its origin. Pure.

use std::time::Duration;

/// How long a start may take before its first segment. Past it, nobody speaks for the program any more.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long a relay may wait for its origin. Past it, a new start is tried, which no listener misses.
const WAIT_LIMIT: Duration = Duration::from_secs(3_600);

/// What was seen of the air when the last sign of life was given.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    newest: Option<u64>,
    /// Since when a relay waits, from the beginning of the run.
    waits_since: Option<Duration>,
}

impl Pulse {
    /// Whether a sign of life is due: the newest segment on air is another than at the last one. Before the first, for the
    /// first two minutes of the run alone.
    pub(super) fn beats(&mut self, newest: Option<u64>, running: Duration) -> bool {
        let advances = newest != self.newest;
        self.newest = newest;
        advances || (newest.is_none() && running < START_LIMIT)
    }

    /// Whether a sign of life is due though there is no audio: a relay `waits` for its origin, and not for too long.
    pub(super) fn holds_out(&mut self, waits: bool, running: Duration) -> bool {
        self.waits_since = waits.then(|| self.waits_since.unwrap_or(running));
        self.waits_since.is_some_and(|since| running.saturating_sub(since) < WAIT_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_beats_once_for_each_segment() {
        let mut pulse = Pulse::default();
        let at = Duration::from_secs;
        assert!(pulse.beats(Some(7), at(1)));
        assert!(!pulse.beats(Some(7), at(2)));
        assert!(!pulse.beats(Some(7), at(300)), "however long");
        assert!(pulse.beats(Some(8), at(301)));
        assert!(!pulse.beats(Some(8), at(302)));
    }

    #[test]
    fn a_start_is_waited_for_but_not_for_ever() {
        let mut pulse = Pulse::default();
        assert!(pulse.beats(None, Duration::ZERO));
        assert!(pulse.beats(None, START_LIMIT - Duration::from_millis(1)));
        assert!(!pulse.beats(None, START_LIMIT));
        assert!(pulse.beats(Some(1), START_LIMIT * 2), "late, and alive");
    }

    #[test]
    fn a_relay_waits_for_an_hour_at_a_time() {
        let mut pulse = Pulse::default();
        let at = Duration::from_secs;
        assert!(!pulse.holds_out(false, at(5)));
        assert!(pulse.holds_out(true, at(100)));
        assert!(pulse.holds_out(true, at(3_699)));
        assert!(!pulse.holds_out(true, at(3_700)));
        assert!(!pulse.holds_out(false, at(3_701)), "on the air again");
        assert!(pulse.holds_out(true, at(4_000)), "and off it for another reason");
        assert!(pulse.holds_out(true, at(7_599)));
    }
}
