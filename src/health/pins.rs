//! What each pinning service says of itself.

use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use super::{ErrorReport, Health, bounded, rfc3339};

#[derive(Debug)]
pub(super) struct Pin {
    name: String,
    failing: bool,
    last_pinned: Option<(u64, Instant)>,
    days: (usize, usize),
    last_error: Option<(String, Instant)>,
}

/// How a pinning service does, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PinState {
    /// No root has been pinned yet.
    Starting,
    /// Has pinned what it was asked for.
    Pinned,
    /// Did not do what it was asked last.
    Failing,
}

/// One pinning service of a [`super::Report`].
#[derive(Debug, Clone, Serialize)]
pub struct PinReport {
    /// Its name: the key in JSON.
    #[serde(skip)]
    pub name: String,
    /// How it does.
    pub state: PinState,
    /// Newest segment under the root that it has pinned.
    pub newest: Option<u64>,
    /// When it was seen to have pinned a newer root, RFC 3339 in UTC.
    pub last_pinned: Option<String>,
    /// Days of the archive that it has pinned.
    pub days_pinned: usize,
    /// Days of the archive that it is to pin.
    pub days_wanted: usize,
    /// Why something failed last, kept after a recovery.
    pub last_error: Option<ErrorReport>,
}

/// A pinning service's own entry. Clones write to the same entry.
#[derive(Debug, Clone)]
pub struct PinHealth {
    health: Health,
    index: usize,
}

impl Health {
    /// Registers a pinning service. A name that is known already gives the same entry.
    pub fn pin(&self, name: &str) -> PinHealth {
        let mut inner = self.lock();
        let index = inner.pins.iter().position(|pin| pin.name == name).unwrap_or_else(|| {
            let name = name.to_owned();
            inner.pins.push(Pin { name, failing: false, last_pinned: None, days: (0, 0), last_error: None });
            inner.pins.len() - 1
        });
        PinHealth { health: self.clone(), index }
    }
}

impl PinHealth {
    /// The root whose newest segment is `newest` is pinned.
    pub fn pinned(&self, newest: u64) {
        self.with(|pin| {
            if pin.last_pinned.is_none_or(|(known, _)| known != newest) {
                pin.failing = false;
                pin.last_pinned = Some((newest, Instant::now()));
            }
        });
    }

    /// Something failed.
    pub fn failed(&self, error: &str) {
        self.with(|pin| {
            pin.failing = true;
            pin.last_error = Some((bounded(error), Instant::now()));
        });
    }

    /// How many days of the archive are pinned, and how many are to be.
    pub fn days(&self, pinned: usize, wanted: usize) {
        self.with(|pin| pin.days = (pinned, wanted));
    }

    fn with(&self, change: impl FnOnce(&mut Pin)) {
        change(&mut self.health.lock().pins[self.index]);
    }
}

impl Pin {
    pub(super) fn report(&self, now: Instant, wall: SystemTime) -> PinReport {
        let written = |at: Instant| rfc3339(at, now, wall);
        let error =
            |(message, at): &(String, Instant)| ErrorReport { message: message.clone(), at: written(*at) };
        PinReport {
            name: self.name.clone(),
            state: match (self.failing, self.last_pinned) {
                (true, _) => PinState::Failing,
                (false, None) => PinState::Starting,
                (false, Some(_)) => PinState::Pinned,
            },
            newest: self.last_pinned.map(|(newest, _)| newest),
            last_pinned: self.last_pinned.map(|(_, at)| written(at)),
            days_pinned: self.days.0,
            days_wanted: self.days.1,
            last_error: self.last_error.as_ref().map(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinning_service_tells_in_words_how_it_does() {
        let health = Health::new();
        assert!(!serde_json::to_string(&health.report()).unwrap().contains("pins"));
        let pin = health.pin("cluster");
        let state = || health.report().pins[0].state;
        assert_eq!(state(), PinState::Starting);
        pin.failed("cannot connect");
        assert_eq!(state(), PinState::Failing);
        pin.pinned(7);
        assert_eq!(state(), PinState::Pinned);
        pin.failed("status 500");
        // What was pinned before a failure is no recovery from it.
        pin.pinned(7);
        assert_eq!(state(), PinState::Failing);
        health.pin("cluster").pinned(8);
        pin.days(2, 3);
        let report: serde_json::Value = serde_json::to_value(health.report()).unwrap();
        let cluster = &report["pins"]["cluster"];
        assert_eq!((cluster["state"].as_str(), cluster["newest"].as_u64()), (Some("pinned"), Some(8)));
        assert_eq!((cluster["days_pinned"].as_u64(), cluster["days_wanted"].as_u64()), (Some(2), Some(3)));
        assert_eq!(cluster["last_error"]["message"], "status 500");
        assert!(cluster["last_pinned"].as_str().unwrap().ends_with('Z'));
    }
}
