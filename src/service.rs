//! What the service manager is told: readiness, a status in words, reloads, the end, and that audio advances, or that a relay
//! waits for its origin.
//!
//! Takes health; gives datagrams on systemd's notification socket (sd_notify(3)), and nothing where there is none. A crash
//! of it loses nothing: without its signs of life, systemd restarts the program.

mod pulse;
mod socket;
mod status;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;
use tracing::debug;

use crate::health::Health;
use pulse::Pulse;
pub use socket::NotifySocket;

/// How often health is looked at; more often where the watchdog is that short.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// By how much more than now a start may take that goes on well without audio; said at each look.
const START_EXTENDED_BY: Duration = Duration::from_secs(60);

/// The station as a service of systemd.
#[derive(Debug)]
pub struct Service {
    socket: Option<NotifySocket>,
    /// systemd ends a service that gives no sign of life for this long.
    watchdog: Option<Duration>,
    ready: AtomicBool,
}

impl Service {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Silent without the first.
    pub fn from_environment() -> Self {
        let value = |name| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let opened = NotifySocket::open(&address);
            opened
                .inspect_err(|error| debug!(%error, ?address, "the service manager is not told anything"))
                .ok()
        });
        let ours = value("WATCHDOG_PID").is_none_or(|id| id == std::process::id().to_string());
        let watchdog = value("WATCHDOG_USEC").filter(|_| ours).and_then(|text| text.parse().ok());
        Self::new(socket, watchdog.filter(|microseconds| *microseconds > 0).map(Duration::from_micros))
    }

    /// Speaks on `socket`; gives signs of life at least twice within `watchdog`, while there are any.
    pub fn new(socket: Option<NotifySocket>, watchdog: Option<Duration>) -> Self {
        Self { socket, watchdog, ready: AtomicBool::new(false) }
    }

    /// Tells what health says, for as long as it is polled.
    pub async fn follow(&self, health: &Health) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let (began, mut pulse, mut said) = (Instant::now(), Pulse::default(), String::new());
        let half = self.watchdog.map_or(LOOK_EVERY, |watchdog| watchdog / 2);
        let mut every = tokio::time::interval(LOOK_EVERY.min(half));
        loop {
            every.tick().await;
            let report = health.report();
            let mut lines = Vec::new();
            let running = began.elapsed();
            let holds_out = pulse.holds_out(report.waits_for_origin(), running);
            if report.on_air && !self.ready.swap(true, Ordering::Relaxed) {
                lines.push("READY=1".to_owned());
            } else if holds_out && !self.ready.load(Ordering::Relaxed) {
                // On air is what ready means, and this start may take long.
                lines.push(format!("EXTEND_TIMEOUT_USEC={}", START_EXTENDED_BY.as_micros()));
            }
            let status = status::words(&report);
            if status != said {
                lines.push(format!("STATUS={status}"));
                said = status;
            }
            let beats = pulse.beats(report.newest, running);
            if self.watchdog.is_some() && (beats || holds_out) {
                lines.push("WATCHDOG=1".to_owned());
            }
            self.tell(&lines);
        }
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        if self.ready.load(Ordering::Relaxed) {
            // systemd compares this with the moment at which it asked for the reload.
            let now = clock_gettime(ClockId::Monotonic);
            let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            self.tell(&["RELOADING=1".to_owned(), format!("MONOTONIC_USEC={microseconds}")]);
        }
    }

    /// The configuration has been read, or kept because of a mistake.
    pub fn reloaded(&self) {
        if self.ready.load(Ordering::Relaxed) {
            self.tell(&["READY=1".to_owned()]);
        }
    }

    /// The station ends, as asked.
    pub fn stopping(&self) {
        self.tell(&["STOPPING=1".to_owned(), "STATUS=shutting down".to_owned()]);
    }

    fn tell(&self, lines: &[String]) {
        let Some(socket) = self.socket.as_ref().filter(|_| !lines.is_empty()) else { return };
        if let Err(error) = socket.send(&lines.join("\n")) {
            debug!(%error, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests;
