//! The image under test, who tests it, and how many boards run at once.

use std::ops::Deref;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Boards at a time, unless `SKYWAVE_BOARDS` says otherwise: more starve each other on a small machine.
const BOARDS: usize = 2;

/// The image for one test; when it is dropped, the test's time is printed.
pub struct Image {
    path: PathBuf,
    test: String,
    began: Instant,
}

/// The image under test, or `None` where there is none, said aloud.
#[track_caller]
pub fn image() -> Option<Image> {
    let Some(path) = std::env::var_os("SKYWAVE_IMAGE").map(PathBuf::from) else {
        eprintln!("SKIPPED: SKYWAVE_IMAGE names no card image");
        return None;
    };
    assert!(path.exists(), "SKYWAVE_IMAGE names {}, which is not there", path.display());
    // With one test at a time the harness gives it no thread of its name.
    let thread = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    let test = thread.unwrap_or_else(|| Location::caller().to_string());
    Some(Image { path, test, began: Instant::now() })
}

/// Whether what is missing fails a test instead of being left out, as in CI.
pub fn is_required() -> bool {
    std::env::var("SKYWAVE_PEERS").is_ok_and(|peers| peers == "required")
}

impl Deref for Image {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        eprintln!("{:.0} s: {}", self.began.elapsed().as_secs_f64(), self.test);
    }
}

/// Room for one board.
pub struct Place(());

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

fn running() -> MutexGuard<'static, usize> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// Waits until there is room.
    pub fn take() -> Self {
        let boards = std::env::var("SKYWAVE_BOARDS").ok().and_then(|boards| boards.parse().ok());
        let boards: usize = boards.unwrap_or(BOARDS);
        let full = |running: &mut usize| *running >= boards.max(1);
        let mut running = FREED.wait_while(running(), full).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *running() -= 1;
        FREED.notify_one();
    }
}
