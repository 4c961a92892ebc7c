//! Patterns: when a light is on. Pure.

use std::time::Duration;

use heapless::Vec;

/// The highest blink code.
pub const LAST_CODE: u8 = 9;

/// Most phases of a pattern, those of the highest code.
const PHASES: usize = 2 * LAST_CODE as usize;

/// Milliseconds of one blink of a code, on and off alike.
const CODE_BLINK: u16 = 250;
/// Milliseconds of darkness between two codes.
const CODE_PAUSE: u16 = 1_750;

/// What a light does. docs/operating.md has the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Dark.
    Off,
    /// Lit.
    Solid,
    /// One second on, one second off.
    Slow,
    /// Four times a second.
    Fast,
    /// Two short flashes every two seconds.
    Heartbeat,
    /// So many blinks, counted by eye, then a pause. Held within 1 and [`LAST_CODE`].
    Code(u8),
}

impl Pattern {
    /// Lengths in milliseconds, by turns on and off, from the beginning of a round. Empty for a steady light.
    fn phases(self) -> Vec<u16, PHASES> {
        let mut phases = Vec::new();
        let fixed: &[u16] = match self {
            Self::Off | Self::Solid | Self::Code(_) => &[],
            Self::Slow => &[1_000, 1_000],
            Self::Fast => &[125, 125],
            Self::Heartbeat => &[100, 150, 100, 1_650],
        };
        phases.extend(fixed.iter().copied());
        if let Self::Code(code) = self {
            for _ in 0..code.clamp(1, LAST_CODE) {
                phases.extend([CODE_BLINK, CODE_BLINK]);
            }
            if let Some(last) = phases.last_mut() {
                *last = CODE_PAUSE;
            }
        }
        phases
    }

    /// Whether the light is on `elapsed` after the pattern began, and how long it stays so; `None`: for good.
    pub fn at(self, elapsed: Duration) -> (bool, Option<Duration>) {
        let phases = self.phases();
        let round: u64 = phases.iter().map(|phase| u64::from(*phase)).sum();
        if round == 0 {
            return (self == Self::Solid, None);
        }
        let round = Duration::from_millis(round);
        let mut left = Duration::from_nanos((elapsed.as_nanos() % round.as_nanos()) as u64);
        for (index, phase) in phases.iter().enumerate() {
            let phase = Duration::from_millis(u64::from(*phase));
            if left < phase {
                return (index % 2 == 0, Some(phase - left));
            }
            left -= phase;
        }
        unreachable!("the remainder of a division by the sum of the phases lies within them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn milliseconds(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The changes of a pattern within `span` ms, as the moments at which the light goes on or off.
    fn changes(pattern: Pattern, span: u64) -> std::vec::Vec<(u64, bool)> {
        let levels = (0..span).map(|at| (at, pattern.at(milliseconds(at)).0));
        let mut before = None;
        levels.filter(|(_, lit)| before.replace(*lit) != Some(*lit)).collect()
    }

    #[test]
    fn steady_lights_never_change() {
        for at in [0, 1, 1_000_000] {
            assert_eq!(Pattern::Off.at(milliseconds(at)), (false, None));
            assert_eq!(Pattern::Solid.at(milliseconds(at)), (true, None));
        }
    }

    #[test]
    fn the_fixed_patterns_are_those_of_the_table() {
        assert_eq!(changes(Pattern::Slow, 3_000), [(0, true), (1_000, false), (2_000, true)]);
        assert_eq!(changes(Pattern::Fast, 300), [(0, true), (125, false), (250, true)]);
        let beat = [(0, true), (100, false), (250, true), (350, false), (2_000, true)];
        assert_eq!(changes(Pattern::Heartbeat, 2_050), beat);
    }

    #[test]
    fn a_code_is_as_many_blinks_as_its_number_and_then_a_pause() {
        for code in 1..=LAST_CODE {
            let round = u64::from(code) * 500 + 1_500;
            let seen = changes(Pattern::Code(code), round);
            assert_eq!(seen.iter().filter(|(_, lit)| *lit).count(), usize::from(code), "{seen:?}");
            let (dark, _) = seen.last().unwrap();
            assert_eq!(round - dark, 1_750, "the pause of code {code}");
            assert_eq!(changes(Pattern::Code(code), round + 1).last(), Some(&(round, true)));
        }
    }

    #[test]
    fn a_code_out_of_range_blinks_the_nearest() {
        for at in (0..10_000).step_by(50).map(milliseconds) {
            assert_eq!(Pattern::Code(0).at(at), Pattern::Code(1).at(at));
            assert_eq!(Pattern::Code(200).at(at), Pattern::Code(LAST_CODE).at(at));
        }
    }

    fn blinking() -> impl Strategy<Value = Pattern> {
        prop_oneof![
            Just(Pattern::Slow),
            Just(Pattern::Fast),
            Just(Pattern::Heartbeat),
            (0_u8..=255).prop_map(Pattern::Code),
        ]
    }

    proptest! {
        #[test]
        fn the_light_stays_for_as_long_as_it_says_and_then_changes(pattern in blinking(), at in 0_u64..1 << 50) {
            let at = Duration::from_micros(at);
            let (lit, stays) = pattern.at(at);
            let stays = stays.unwrap();
            prop_assert!(!stays.is_zero());
            prop_assert_eq!(pattern.at(at + stays - Duration::from_nanos(1)).0, lit);
            prop_assert_eq!(pattern.at(at + stays).0, !lit);
        }
    }
}
