//! What each stage says of itself, for owners and machines.
//!
//! Every stage holds a [`StageHealth`] and reports through it; whoever asks (`/health`, `/readyz`, the systemd
//! watchdog, the LEDs) reads one consistent [`Report`]. Nothing here is persisted: a restart begins anew.
//!
//! Times are taken from the monotonic clock and turned into wall-clock time only when a report is made, so a
//! board whose clock is set late tells the right times from then on, also for what happened before.

mod conditions;
mod listeners;
mod mirrors;
mod name;
mod notices;
mod pins;
mod sync;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::ser::{SerializeMap, Serializer};
use tokio::time::Instant;

pub use conditions::{ClockState, Conditions};
pub use mirrors::{MirrorHealth, MirrorReport, MirrorState};
pub use name::NameReport;
pub use pins::{PinHealth, PinReport, PinState};
pub use sync::SyncReport;

/// Bounds the list of unplayable files in a report; all of them are counted.
pub const MAX_UNPLAYABLE_SHOWN: usize = 100;

/// Bounds one remembered error text, in bytes.
const MAX_ERROR_BYTES: usize = 500;

/// The health of the whole station: a cheap handle on shared state.
#[derive(Debug, Clone)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    stages: Vec<Stage>,
    mirrors: Vec<mirrors::Mirror>,
    pins: Vec<pins::Pin>,
    air: Air,
    newest: Option<u64>,
    lead: Duration,
    library: LibraryHealth,
    unplayable_count: usize,
    name: name::NameState,
    listeners: listeners::Listeners,
    sync: Option<sync::SyncState>,
    notices: BTreeMap<String, String>,
    follows: Option<String>,
    conditions: Conditions,
}

#[derive(Debug)]
enum Air {
    NotYet,
    On,
    Off(String),
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    stall_after: Option<Duration>,
    state: StageState,
    since: Instant,
    last_progress: Option<Instant>,
    restarts: u64,
    last_error: Option<(String, Instant)>,
}

/// What a stage does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Registered, and not running yet.
    Starting,
    /// At work.
    Running,
    /// Said to be starting or running, with no progress for longer than it may.
    Stalled,
    /// Ended by an error; its supervisor starts it again.
    Failed,
    /// Ended as asked.
    Stopped,
}

/// The station in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not on air yet.
    Starting,
    /// On air, every stage well.
    OnAir,
    /// On air, with a stage failed or stalled, or a notice.
    Degraded,
    /// Was on air, or said why it cannot be.
    OffAir,
}

/// What the library stage knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LibraryHealth {
    /// Playable tracks.
    pub tracks: usize,
    /// Files that may be music, found so far.
    pub found: usize,
    /// Files looked into so far.
    pub scanned: usize,
    /// Whether a scan is under way.
    pub scanning: bool,
    /// Path and reason of each file that cannot be played.
    pub unplayable: Vec<(String, String)>,
}

/// A snapshot of the station's health, shaped as the JSON of `/health`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// The station in one word.
    pub status: Status,
    /// Whether listeners hear the station.
    pub on_air: bool,
    /// Why the station is off air, when it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_air_reason: Option<String>,
    /// Media sequence of the newest segment on air.
    pub newest: Option<u64>,
    /// How far the encoder is ahead of the air clock, in seconds.
    pub lead_seconds: f64,
    /// Time since the process started, in seconds.
    pub uptime_seconds: u64,
    /// The stages in the order of registration; a map by name in JSON.
    #[serde(serialize_with = "stages_as_map")]
    pub stages: Vec<StageReport>,
    /// The mirrors in the order of registration; a map by name in JSON, left out where there are none.
    #[serde(serialize_with = "mirrors_as_map", skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorReport>,
    /// The pinning services in the order of registration; a map by name in JSON, left out where there are none.
    #[serde(serialize_with = "pins_as_map", skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<PinReport>,
    /// Library counts.
    pub library: LibraryReport,
    /// The station's IPNS name.
    pub name: NameReport,
    /// Clients that play from this node.
    pub listeners: u64,
    /// The station's other nodes; left out where there is no network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncReport>,
    /// What else an owner should know, one line by its key.
    pub notices: BTreeMap<String, String>,
    /// IPNS name of the station that this node relays; left out on a station of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// Network, clock, updating, stopping: keys of the top level.
    #[serde(flatten)]
    pub conditions: Conditions,
}

/// One stage of a [`Report`].
#[derive(Debug, Clone, serde::Serialize)]
pub struct StageReport {
    /// Name of the stage: the key in JSON.
    #[serde(skip)]
    pub name: &'static str,
    /// What it does.
    pub state: StageState,
    /// Since when, RFC 3339 in UTC. For a stalled stage: since its last progress.
    pub since: String,
    /// When it last got something done, RFC 3339 in UTC.
    pub last_progress: Option<String>,
    /// How often it failed.
    pub restarts: u64,
    /// The newest error, kept after a recovery.
    pub last_error: Option<ErrorReport>,
}

/// The newest error of a stage.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ErrorReport {
    /// The error in words.
    pub message: String,
    /// When it happened, RFC 3339 in UTC.
    pub at: String,
}

/// The library part of a [`Report`].
#[derive(Debug, Clone, serde::Serialize)]
pub struct LibraryReport {
    /// Playable tracks.
    pub tracks: usize,
    /// Files that may be music, found so far.
    pub found: usize,
    /// Files looked into so far.
    pub scanned: usize,
    /// Whether a scan is under way.
    pub scanning: bool,
    /// How many files cannot be played.
    pub unplayable_count: usize,
    /// The first [`MAX_UNPLAYABLE_SHOWN`] of them.
    pub unplayable: Vec<UnplayableReport>,
}

/// A file that cannot be played.
#[derive(Debug, Clone, serde::Serialize)]
pub struct UnplayableReport {
    /// Its path.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Default for Health {
    fn default() -> Health {
        Health::new()
    }
}

impl Health {
    /// A station that starts now, with no stages.
    pub fn new() -> Health {
        let inner = Inner {
            started: Instant::now(),
            stages: Vec::new(),
            mirrors: Vec::new(),
            pins: Vec::new(),
            air: Air::NotYet,
            newest: None,
            lead: Duration::ZERO,
            library: LibraryHealth::default(),
            unplayable_count: 0,
            name: name::NameState::default(),
            listeners: listeners::Listeners::default(),
            sync: None,
            notices: BTreeMap::new(),
            follows: None,
            conditions: Conditions::default(),
        };
        Health { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Registers a stage. With `stall_after`, the stage counts as stalled once its last progress is older than
    /// that. A name that is known already gives the same entry, with its history, under the new limit.
    pub fn stage(&self, name: &'static str, stall_after: Option<Duration>) -> StageHealth {
        let mut inner = self.lock();
        let index = match inner.stages.iter().position(|stage| stage.name == name) {
            Some(index) => {
                inner.stages[index].stall_after = stall_after;
                index
            }
            None => {
                inner.stages.push(Stage::new(name, stall_after));
                inner.stages.len() - 1
            }
        };
        StageHealth { health: self.clone(), index }
    }

    /// The station is on air; `newest` is the media sequence of its newest segment.
    pub fn set_on_air(&self, newest: u64) {
        let mut inner = self.lock();
        inner.air = Air::On;
        inner.newest = Some(newest);
    }

    /// The station is not on air, and why.
    pub fn set_off_air(&self, why: &str) {
        self.lock().air = Air::Off(bounded(why));
    }

    /// How far the encoder is ahead of the air clock.
    pub fn set_lead(&self, lead: Duration) {
        self.lock().lead = lead;
    }

    /// Replaces what is known of the library. Of the unplayable files all are counted and the first
    /// [`MAX_UNPLAYABLE_SHOWN`] kept, so a folder of a million broken files costs no memory here.
    pub fn set_library(&self, mut library: LibraryHealth) {
        let count = library.unplayable.len();
        library.unplayable.truncate(MAX_UNPLAYABLE_SHOWN);
        library.unplayable.shrink_to_fit();
        let mut inner = self.lock();
        inner.unplayable_count = count;
        inner.library = library;
    }

    /// Whether the station is on air.
    pub fn ready(&self) -> bool {
        matches!(self.lock().air, Air::On)
    }

    /// The names of the stages that should have made progress by now, in the order of registration.
    pub fn stalled(&self) -> Vec<&'static str> {
        let now = Instant::now();
        self.lock().stages.iter().filter(|stage| stage.is_stalled(now)).map(|stage| stage.name).collect()
    }

    /// A consistent snapshot of everything.
    pub fn report(&self) -> Report {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut inner = self.lock();
        let listeners = inner.listeners.count(now);
        let stages: Vec<_> = inner.stages.iter().map(|stage| stage.report(now, wall)).collect();
        Report {
            status: inner.status(&stages),
            on_air: matches!(inner.air, Air::On),
            off_air_reason: match &inner.air {
                Air::Off(why) => Some(why.clone()),
                Air::NotYet | Air::On => None,
            },
            newest: inner.newest,
            lead_seconds: inner.lead.as_secs_f64(),
            uptime_seconds: now.duration_since(inner.started).as_secs(),
            stages,
            mirrors: inner.mirrors.iter().map(|mirror| mirror.report(now, wall)).collect(),
            pins: inner.pins.iter().map(|pin| pin.report(now, wall)).collect(),
            library: inner.library_report(),
            name: inner.name.report(now, wall),
            listeners,
            sync: inner.sync.map(|sync| sync.report(now, wall)),
            notices: inner.notices.clone(),
            follows: inner.follows.clone(),
            conditions: inner.conditions,
        }
    }

    /// A panic elsewhere while the lock was held leaves plain values behind, so they stay readable.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// Whether a station of its own plays its ident, for want of music.
    pub fn plays_ident(&self) -> bool {
        self.library.tracks == 0 && self.follows.is_none()
    }

    /// Whether this node is a relay that is off air and well: it waits for its origin, however long that is away.
    pub fn waits_for_origin(&self) -> bool {
        let relays = |stage: &StageReport| stage.name == "relay" && stage.state == StageState::Running;
        self.follows.is_some() && self.status == Status::OffAir && self.stages.iter().any(relays)
    }
}

impl Inner {
    fn status(&self, stages: &[StageReport]) -> Status {
        let unwell = |stage: &StageReport| matches!(stage.state, StageState::Failed | StageState::Stalled);
        match self.air {
            Air::NotYet => Status::Starting,
            Air::On if stages.iter().any(unwell) || !self.notices.is_empty() => Status::Degraded,
            Air::On => Status::OnAir,
            Air::Off(_) => Status::OffAir,
        }
    }

    fn library_report(&self) -> LibraryReport {
        let library = &self.library;
        let shown = |(path, reason): &(String, String)| UnplayableReport {
            path: path.clone(),
            reason: reason.clone(),
        };
        LibraryReport {
            tracks: library.tracks,
            found: library.found,
            scanned: library.scanned,
            scanning: library.scanning,
            unplayable_count: self.unplayable_count,
            unplayable: library.unplayable.iter().map(shown).collect(),
        }
    }
}

impl Stage {
    fn new(name: &'static str, stall_after: Option<Duration>) -> Stage {
        Stage {
            name,
            stall_after,
            state: StageState::Starting,
            since: Instant::now(),
            last_progress: None,
            restarts: 0,
            last_error: None,
        }
    }

    fn enter(&mut self, state: StageState) {
        self.state = state;
        self.since = Instant::now();
    }

    /// The newer of the last progress and the start of the present state.
    fn last_sign_of_life(&self) -> Instant {
        self.last_progress.map_or(self.since, |progress| progress.max(self.since))
    }

    fn is_stalled(&self, now: Instant) -> bool {
        let at_work = matches!(self.state, StageState::Starting | StageState::Running);
        let quiet = now.duration_since(self.last_sign_of_life());
        at_work && self.stall_after.is_some_and(|limit| quiet > limit)
    }

    fn report(&self, now: Instant, wall: SystemTime) -> StageReport {
        let stalled = self.is_stalled(now);
        let since = if stalled { self.last_sign_of_life() } else { self.since };
        let written = |at: Instant| rfc3339(at, now, wall);
        StageReport {
            name: self.name,
            state: if stalled { StageState::Stalled } else { self.state },
            since: written(since),
            last_progress: self.last_progress.map(written),
            restarts: self.restarts,
            last_error: self
                .last_error
                .as_ref()
                .map(|(message, at)| ErrorReport { message: message.clone(), at: written(*at) }),
        }
    }
}

/// A stage's own entry. Clones write to the same entry.
#[derive(Debug, Clone)]
pub struct StageHealth {
    health: Health,
    index: usize,
}

impl StageHealth {
    /// The stage is at work.
    pub fn running(&self) {
        self.with(|stage| stage.enter(StageState::Running));
    }

    /// The stage got something done. One that was starting is running by that.
    pub fn progress(&self) {
        self.with(|stage| {
            if stage.state != StageState::Running {
                stage.enter(StageState::Running);
            }
            stage.last_progress = Some(Instant::now());
        });
    }

    /// The stage ended with an error, and counts one restart more.
    pub fn failed(&self, error: &str) {
        self.with(|stage| {
            stage.enter(StageState::Failed);
            stage.restarts += 1;
            stage.last_error = Some((bounded(error), Instant::now()));
        });
    }

    /// The stage ended as asked.
    pub fn stopped(&self) {
        self.with(|stage| stage.enter(StageState::Stopped));
    }

    fn with(&self, change: impl FnOnce(&mut Stage)) {
        change(&mut self.health.lock().stages[self.index]);
    }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_ERROR_BYTES)].to_owned()
}

/// The wall-clock time of a moment on the monotonic clock, as RFC 3339 in UTC to the millisecond.
fn rfc3339(at: Instant, now: Instant, wall: SystemTime) -> String {
    let moment = wall.checked_sub(now.duration_since(at)).filter(|moment| *moment >= SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(moment.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

fn stages_as_map<S: Serializer>(stages: &[StageReport], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(stages.len()))?;
    for stage in stages {
        map.serialize_entry(stage.name, stage)?;
    }
    map.end()
}

fn mirrors_as_map<S: Serializer>(mirrors: &[MirrorReport], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(mirrors.iter().map(|mirror| (&mirror.name, mirror)))
}

fn pins_as_map<S: Serializer>(pins: &[PinReport], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pins.iter().map(|pin| (&pin.name, pin)))
}

#[cfg(test)]
mod tests;
