//! Strict listeners: one at each relay, who sees every segment and when it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::super::checker::source::HttpSource;
use super::super::checker::{Checker, Expectations, Report};
use super::fleet::{Fleet, Node, SEGMENT};

/// How often a listener asks: more often than a player.
const EVERY: Duration = Duration::from_millis(700);

/// What a listener saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub report: Report,
    /// How much later than the end of its airtime a segment was first seen, at worst.
    pub latest: Duration,
}

/// A listener, until it is asked what it saw.
pub struct Listener {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen, String>>,
}

impl Listener {
    /// Listens to a node from now on.
    pub fn of(node: &Node, renditions: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, url, checker) =
            (stop.clone(), node.url.clone(), Checker::new(Expectations::new(renditions)));
        Self { stop, thread: std::thread::spawn(move || listen(&url, checker, &ends)) }
    }

    /// One at each relay.
    pub fn at_all(fleet: &Fleet, renditions: &[&str]) -> Vec<Self> {
        fleet.relays.iter().map(|relay| Self::of(relay, renditions)).collect()
    }

    /// Whether it has met a violation already.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it; an error names the rule that was broken.
    pub fn finish(self) -> Result<Seen, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the listener panicked".to_owned())?
    }
}

fn listen(url: &str, mut checker: Checker, stop: &AtomicBool) -> Result<Seen, String> {
    let mut source = HttpSource::new(&format!("{url}/live/"));
    let (mut latest, mut newest) = (Duration::ZERO, None);
    while !stop.load(Ordering::Relaxed) {
        let asked = SystemTime::now();
        let progress = checker.poll(&mut source).map_err(|violation| format!("{url}: {violation}"))?;
        if newest.is_some_and(|newest| newest < progress.newest) {
            latest = latest.max(late(progress.newest, asked));
        }
        newest = Some(progress.newest);
        std::thread::sleep(EVERY);
    }
    let report = checker.finish().map_err(|violation| format!("{url}: {violation}"))?;
    Ok(Seen { report, latest })
}

/// By how much a moment is after the end of the airtime of `n`: numbers are those of Unix time.
fn late(n: u64, at: SystemTime) -> Duration {
    let unix = at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let end = Duration::from_millis((n + 1) * u64::try_from(SEGMENT.as_millis()).expect("3,840"));
    unix.saturating_sub(end)
}
