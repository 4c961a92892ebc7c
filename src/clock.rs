//! The wall clock, injected so that tests can step it.
//!
//! Time that passes is always tokio's monotonic clock; the wall clock only says what Unix time it is now, and whether
//! that can be believed: a board without a clock of its own begins somewhere in the past.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z in milliseconds: this program is younger, so a clock that reads less is wrong.
pub const EARLIEST: i64 = 1_767_225_600_000;
/// Where systemd-timesyncd keeps its run-time state (systemd-timesyncd.service(8), "Files").
const TIMESYNCD: &str = "/run/systemd/timesync";
/// The file in it that is made with the first answer of a time server.
const SYNCHRONIZED: &str = "synchronized";

/// Why the wall clock cannot be believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsynchronised {
    /// It reads a time before [`EARLIEST`].
    #[error("the clock reads a date before this program was written")]
    Past,
    /// A time service runs and has not heard from a server.
    #[error("the clock is not synchronised with a time server yet")]
    Waiting,
}

/// What makes the machine's clock believed: `clock` in the configuration.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockTrust {
    /// A plausible date, and where systemd-timesyncd runs, its word.
    #[default]
    Auto,
    /// Always: the machine has a clock that runs while it is off.
    Trusted,
}

/// Tells Unix time.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds. May step in either direction.
    fn unix_millis(&self) -> i64;

    /// Whether the time can be believed by others, as the validity of a signature must be.
    ///
    /// # Errors
    /// [`Unsynchronised`] says why not.
    fn synchronised(&self) -> Result<(), Unsynchronised> {
        judge(self.unix_millis(), None)
    }
}

/// Whether a clock can be believed that reads `unix_millis`, where a time service runs and says `service`.
///
/// # Errors
/// [`Unsynchronised`] says why not.
pub fn judge(unix_millis: i64, service: Option<bool>) -> Result<(), Unsynchronised> {
    match service {
        _ if unix_millis < EARLIEST => Err(Unsynchronised::Past),
        Some(false) => Err(Unsynchronised::Waiting),
        Some(true) | None => Ok(()),
    }
}

/// A shared wall clock.
pub type SharedClock = Arc<dyn WallClock>;

/// The machine's own clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    trust: ClockTrust,
    timesyncd: PathBuf,
}

impl SystemClock {
    /// The clock, believed as `trust` says.
    pub fn new(trust: ClockTrust) -> Self {
        Self { trust, timesyncd: TIMESYNCD.into() }
    }

    /// What systemd-timesyncd says; `None` where it does not run.
    fn service(&self) -> Option<bool> {
        self.timesyncd.is_dir().then(|| self.timesyncd.join(SYNCHRONIZED).exists())
    }
}

impl WallClock for SystemClock {
    fn synchronised(&self) -> Result<(), Unsynchronised> {
        match self.trust {
            ClockTrust::Auto => judge(self.unix_millis(), self.service()),
            ClockTrust::Trusted => Ok(()),
        }
    }

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
    waiting: AtomicBool,
}

impl SteppedClock {
    /// Reads `unix_millis` now and runs on with tokio's clock.
    pub fn starting_at(unix_millis: i64) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            at_origin: AtomicI64::new(unix_millis),
            waiting: AtomicBool::new(false),
        })
    }

    /// Steps the clock by `millis`, back where negative.
    pub fn step(&self, millis: i64) {
        self.at_origin.fetch_add(millis, Ordering::SeqCst);
    }

    /// Says from now on whether a time server has been heard.
    pub fn set_synchronised(&self, synchronised: bool) {
        self.waiting.store(!synchronised, Ordering::SeqCst);
    }
}

impl WallClock for SteppedClock {
    fn synchronised(&self) -> Result<(), Unsynchronised> {
        judge(self.unix_millis(), Some(!self.waiting.load(Ordering::SeqCst)))
    }

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

    fn system(timesyncd: &std::path::Path, trust: ClockTrust) -> SystemClock {
        SystemClock { trust, timesyncd: timesyncd.to_owned() }
    }

    #[test]
    fn a_date_before_the_program_is_never_believed_and_a_time_service_has_the_last_word() {
        for service in [None, Some(false), Some(true)] {
            assert_eq!(judge(EARLIEST - 1, service), Err(Unsynchronised::Past));
        }
        assert_eq!(judge(EARLIEST, None), Ok(()));
        assert_eq!(judge(EARLIEST, Some(false)), Err(Unsynchronised::Waiting));
        assert_eq!(judge(EARLIEST, Some(true)), Ok(()));
    }

    #[test]
    fn timesyncd_is_asked_where_it_runs_unless_the_clock_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("timesync");
        assert_eq!(system(&absent, ClockTrust::Auto).synchronised(), Ok(()));
        std::fs::create_dir(&absent).unwrap();
        assert_eq!(system(&absent, ClockTrust::Auto).synchronised(), Err(Unsynchronised::Waiting));
        assert_eq!(system(&absent, ClockTrust::Trusted).synchronised(), Ok(()));
        std::fs::write(absent.join(SYNCHRONIZED), "").unwrap();
        assert_eq!(system(&absent, ClockTrust::Auto).synchronised(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stepped_clock_is_believed_as_its_test_says() {
        let clock = SteppedClock::starting_at(EARLIEST - 1);
        assert_eq!(clock.synchronised(), Err(Unsynchronised::Past));
        clock.step(1);
        assert_eq!(clock.synchronised(), Ok(()));
        clock.set_synchronised(false);
        assert_eq!(clock.synchronised(), Err(Unsynchronised::Waiting));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stepped_clock_runs_with_tokio_and_steps_both_ways() {
        let clock = SteppedClock::starting_at(1_000_000);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.unix_millis(), 1_003_000);
        clock.step(-5_000);
        assert_eq!(clock.unix_millis(), 998_000);
    }
}
