//! A rate with a burst: a bucket of tokens that fills steadily. Pure.

/// Tokens, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    level: u64,
    filled_at_ms: u64,
}

/// How a bucket fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in a second.
    pub per_second: u64,
    /// Tokens that it holds.
    pub burst: u64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: Rate, now_ms: u64) -> Self {
        Self { level: rate.burst * 1_000, filled_at_ms: now_ms }
    }

    /// Takes one token; `false` where there is none.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        let passed = now_ms.saturating_sub(self.filled_at_ms);
        self.level =
            passed.saturating_mul(rate.per_second).saturating_add(self.level).min(rate.burst * 1_000);
        self.filled_at_ms = self.filled_at_ms.max(now_ms);
        let enough = self.level >= 1_000;
        if enough {
            self.level -= 1_000;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_second: 2, burst: 3 };

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = TokenBucket::full(RATE, 1_000);
        let mut take = |ms| bucket.take(RATE, ms);
        assert_eq!([take(1_000), take(1_000), take(1_000), take(1_000)], [true, true, true, false]);
        assert_eq!([take(1_499), take(1_500), take(1_999), take(2_000)], [false, true, false, true]);
        assert_eq!(
            [take(1_000), take(60_000), take(60_000)],
            [false, true, true],
            "a step back gives nothing"
        );
    }

    proptest! {
        #[test]
        fn no_more_pass_than_burst_and_rate_allow(gaps in prop::collection::vec(0_u64..300, 1..300)) {
            let (mut bucket, mut now, mut passed) = (TokenBucket::full(RATE, 0), 0, 0);
            for gap in gaps {
                now += gap;
                passed += u64::from(bucket.take(RATE, now));
            }
            prop_assert!(passed <= RATE.burst + now * RATE.per_second / 1_000);
        }
    }
}
