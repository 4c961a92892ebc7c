//! What each mirror says of itself.

use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use super::{ErrorReport, Health, bounded, rfc3339};

#[derive(Debug)]
pub(super) struct Mirror {
    name: String,
    failing: bool,
    lag: usize,
    last_push: Option<(u64, Instant)>,
    last_error: Option<(String, Instant)>,
}

/// How a mirror does, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MirrorState {
    /// Nothing has been pushed yet.
    Starting,
    /// Holds the newest tree.
    Current,
    /// Took what it was given last, and more is waiting.
    Behind,
    /// Did not take what it was given last.
    Failing,
}

/// One mirror of a [`super::Report`].
#[derive(Debug, Clone, Serialize)]
pub struct MirrorReport {
    /// Its name: the key in JSON.
    #[serde(skip)]
    pub name: String,
    /// How it does.
    pub state: MirrorState,
    /// Ticks that it does not have yet.
    pub lag_ticks: usize,
    /// Newest segment that it holds.
    pub newest: Option<u64>,
    /// When it took a tick last, RFC 3339 in UTC.
    pub last_push: Option<String>,
    /// Why a push failed last, kept after a recovery.
    pub last_error: Option<ErrorReport>,
}

/// A mirror's own entry. Clones write to the same entry.
#[derive(Debug, Clone)]
pub struct MirrorHealth {
    health: Health,
    index: usize,
}

impl Health {
    /// Registers a mirror. A name that is known already gives the same entry.
    pub fn mirror(&self, name: &str) -> MirrorHealth {
        let mut inner = self.lock();
        let index = inner.mirrors.iter().position(|mirror| mirror.name == name).unwrap_or_else(|| {
            let name = name.to_owned();
            inner.mirrors.push(Mirror { name, failing: false, lag: 0, last_push: None, last_error: None });
            inner.mirrors.len() - 1
        });
        MirrorHealth { health: self.clone(), index }
    }
}

impl MirrorHealth {
    /// The mirror holds the tree whose newest segment is `newest`.
    pub fn pushed(&self, newest: u64) {
        self.with(|mirror| {
            mirror.failing = false;
            mirror.last_push = Some((newest, Instant::now()));
        });
    }

    /// A push failed.
    pub fn failed(&self, error: &str) {
        self.with(|mirror| {
            mirror.failing = true;
            mirror.last_error = Some((bounded(error), Instant::now()));
        });
    }

    /// How many ticks the mirror does not have yet.
    pub fn lags(&self, ticks: usize) {
        self.with(|mirror| mirror.lag = ticks);
    }

    fn with(&self, change: impl FnOnce(&mut Mirror)) {
        change(&mut self.health.lock().mirrors[self.index]);
    }
}

impl Mirror {
    pub(super) fn report(&self, now: Instant, wall: SystemTime) -> MirrorReport {
        let written = |at: Instant| rfc3339(at, now, wall);
        MirrorReport {
            name: self.name.clone(),
            state: match (self.failing, self.last_push) {
                (true, _) => MirrorState::Failing,
                (false, None) => MirrorState::Starting,
                (false, Some(_)) if self.lag == 0 => MirrorState::Current,
                (false, Some(_)) => MirrorState::Behind,
            },
            lag_ticks: self.lag,
            newest: self.last_push.map(|(newest, _)| newest),
            last_push: self.last_push.map(|(_, at)| written(at)),
            last_error: self
                .last_error
                .as_ref()
                .map(|(message, at)| ErrorReport { message: message.clone(), at: written(*at) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_tells_in_words_how_it_does() {
        let health = Health::new();
        assert!(!serde_json::to_string(&health.report()).unwrap().contains("mirrors"));
        let mirror = health.mirror("nas");
        let state = || health.report().mirrors[0].state;
        assert_eq!(state(), MirrorState::Starting);
        mirror.lags(1);
        mirror.failed("cannot connect");
        assert_eq!(state(), MirrorState::Failing);
        mirror.pushed(7);
        assert_eq!(state(), MirrorState::Behind);
        health.mirror("nas").lags(0);
        let report: serde_json::Value = serde_json::to_value(health.report()).unwrap();
        let nas = &report["mirrors"]["nas"];
        assert_eq!((nas["state"].as_str(), nas["newest"].as_u64()), (Some("current"), Some(7)));
        assert_eq!(nas["last_error"]["message"], "cannot connect");
        assert!(nas["last_push"].as_str().unwrap().ends_with('Z'));
    }
}
