//! Whether there is a sign of life: audio that advances, or a relay that waits for its origin. Pure.

use std::time::Duration;

/// How long a start may take before its first segment. Past it, nobody speaks for the program any more.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What was seen of the air when the last sign of life was given.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    newest: Option<u64>,
}

impl Pulse {
    /// Whether a sign of life is due: the newest segment on air is another than at the last one. Before the first, for the
    /// first two minutes of the run alone. A relay that `waits` for its origin has no audio to show.
    pub(super) fn beats(&mut self, newest: Option<u64>, waits: bool, running: Duration) -> bool {
        let advances = newest != self.newest;
        self.newest = newest;
        advances || waits || (newest.is_none() && running < START_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_beats_once_for_each_segment() {
        let mut pulse = Pulse::default();
        let at = Duration::from_secs;
        assert!(pulse.beats(Some(7), false, at(1)));
        assert!(!pulse.beats(Some(7), false, at(2)));
        assert!(!pulse.beats(Some(7), false, at(300)), "however long");
        assert!(pulse.beats(Some(8), false, at(301)));
        assert!(!pulse.beats(Some(8), false, at(302)));
    }

    #[test]
    fn a_start_is_waited_for_but_not_for_ever() {
        let mut pulse = Pulse::default();
        assert!(pulse.beats(None, false, Duration::ZERO));
        assert!(pulse.beats(None, false, START_LIMIT - Duration::from_millis(1)));
        assert!(!pulse.beats(None, false, START_LIMIT));
        assert!(pulse.beats(Some(1), false, START_LIMIT * 2), "late, and alive");
    }
}
