//! Whose turn it is to take a block from the station itself. Pure.
//!
//! All relays hear of a block in the same moment. Where each asked the station, it would send as many copies as there are
//! relays; so a few do, the others take it from them, and none waits for the others for ever.

use std::time::Duration;

/// Relays that ask the station at once, on average.
const FIRST: f64 = 2.0;

/// How long one of `relays` asks the others alone: `most` at most, by `chance` (0 to 1, uniform). When half of it is over
/// twice as many may have asked the station as at once, when nine tenths are over ten times as many, however many there are.
pub(super) fn spare(relays: usize, most: Duration, chance: f64) -> Duration {
    let place = relays as f64 * chance;
    most.mul_f64(1.0 - FIRST / place.max(FIRST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(5);

    #[test]
    fn few_ask_the_station_at_once_and_not_many_more_soon_after_however_many_there_are() {
        for relays in [8_usize, 50, 1_000, 10_000] {
            let spared: Vec<_> = (0..relays).map(|n| spare(relays, MOST, n as f64 / relays as f64)).collect();
            let within = |time: Duration| spared.iter().filter(|spared| **spared <= time).count();
            assert_eq!((within(Duration::ZERO), within(MOST / 2)), (3, 5), "{relays}");
            assert!(spared.iter().all(|spared| *spared <= MOST));
        }
    }

    #[test]
    fn who_is_alone_or_nearly_asks_at_once() {
        assert!([1, 2].into_iter().all(|relays| spare(relays, MOST, 1.0).is_zero()));
    }
}
