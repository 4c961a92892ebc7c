//! Jittered, capped exponential backoff. Pure.

use std::time::Duration;

/// Delays before the attempts of something that keeps failing.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// Starts at `first`, doubles with each failure, never exceeds `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, attempt: 0 }
    }

    /// The next delay: between half and all of the nominal one. `jitter` is uniform in `0.0..1.0`.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let nominal = self.first.saturating_mul(1_u32.checked_shl(self.attempt.min(31)).unwrap_or(u32::MAX));
        self.attempt = self.attempt.saturating_add(1);
        nominal.min(self.cap).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// Begins anew after something worked.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_stay_within_half_and_all_of_a_doubling_that_is_capped(
            first_ms in 1_u64..1_000,
            cap_ms in 1_000_u64..100_000,
            jitters in prop::collection::vec(0.0_f64..1.0, 1..80),
        ) {
            let (first, cap) = (Duration::from_millis(first_ms), Duration::from_millis(cap_ms));
            let mut backoff = Backoff::new(first, cap);
            let mut nominal = first;
            for jitter in jitters {
                let delay = backoff.next(jitter);
                prop_assert!(delay <= nominal.min(cap));
                prop_assert!(delay + Duration::from_nanos(1) >= nominal.min(cap) / 2);
                nominal = nominal.saturating_mul(2).min(cap);
            }
            backoff.reset();
            prop_assert!(backoff.next(1.0) <= first);
        }
    }
}
