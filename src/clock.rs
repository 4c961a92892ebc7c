//! The wall clock, injected so that tests can step it.
//!
//! Time that passes is always tokio's monotonic clock; the wall clock only says what Unix time it is now.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Tells Unix time.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds. May step in either direction.
    fn unix_millis(&self) -> i64;
}

/// A shared wall clock.
pub type SharedClock = Arc<dyn WallClock>;

/// The machine's own clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn unix_millis(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// A wall clock that runs with tokio's clock and can be stepped: for tests and simulations.
#[derive(Debug)]
pub struct SteppedClock {
    origin: Instant,
    at_origin: AtomicI64,
}

impl SteppedClock {
    /// Reads `unix_millis` now and runs on with tokio's clock.
    pub fn starting_at(unix_millis: i64) -> Arc<Self> {
        Arc::new(Self { origin: Instant::now(), at_origin: AtomicI64::new(unix_millis) })
    }

    /// Steps the clock by `millis`, back where negative.
    pub fn step(&self, millis: i64) {
        self.at_origin.fetch_add(millis, Ordering::SeqCst);
    }
}

impl WallClock for SteppedClock {
    fn unix_millis(&self) -> i64 {
        self.at_origin.load(Ordering::SeqCst) + millis(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stepped_clock_runs_with_tokio_and_steps_both_ways() {
        let clock = SteppedClock::starting_at(1_000_000);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.unix_millis(), 1_003_000);
        clock.step(-5_000);
        assert_eq!(clock.unix_millis(), 998_000);
    }
}
