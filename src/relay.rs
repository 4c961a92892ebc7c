//! Relay stage: follows a station by its name and has it on air here too, also while the station is out of reach.
//!
//! Takes the station's records from the resolver, each with a signature that was verified, and blocks from connected
//! peers, each checked against its CID; so the chain from the name to every segment is whole. Announced segments are
//! fetched before their airtime. Gives the tree, `station.json` and the record to http as the publisher does, and
//! [`Tick`]s to retention. A crash loses nothing that is held: what is on air stands in a file beside the repo.

pub mod airtimes;
mod condition;
mod fetching;
pub mod following;
pub mod offer;
mod reading;
pub mod signed_tree;
pub mod source;
mod station;
mod tick;
mod turn;
pub mod window;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::health::{Health, StageHealth};
use crate::ipfs::ipns::{Name, Record, SignedRecord};
use crate::ipfs::names::Newest;
use crate::ipfs::{Blocks, IpfsError};
use crate::metrics::{Metrics, NameMetrics};
use crate::publisher::Tick;
use crate::publisher::stream_tree::StreamTree;
use crate::state::StateFile;
use condition::Condition;
use fetching::Fetched;
pub use following::{Following, Reading};
use reading::Read;
use source::Source;
use window::Step;

/// How often it is looked how it stands with the origin.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a start looks for the station before it says that it waits.
const FIND_WITHIN: Duration = Duration::from_secs(10);
/// How many segments the origin may be silent before that is told.
const SILENT_SEGMENTS: u32 = 4;
/// Segments without anything new after which the air is over, as on the origin.
const DRY_SEGMENTS: u32 = 3;
/// Segments for which a start waits for the whole playlist.
const BEGIN_WITHIN_SEGMENTS: u32 = 2;
/// Addresses of the origin that are dialled.
const MOST_ADDRESSES: usize = 16;
/// Key of the notice about the origin.
const NOTICE: &str = "origin";

/// Why the relay stage stopped.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A block of the tree could not be stored.
    #[error("cannot store the stream tree")]
    Tree(#[source] IpfsError),
    /// A task of the stage panicked.
    #[error("a task of the relay panicked")]
    Task(#[source] JoinError),
}

/// The stage's ends; survives a restart of the stage.
pub struct Relay {
    /// The station that is followed.
    pub name: Name,
    /// Name that is told before the station's own is known.
    pub own_name: String,
    /// Where blocks come from.
    pub source: Arc<dyn Source>,
    /// The block store.
    pub blocks: Blocks,
    /// The station's records, each better than the one before.
    pub records: Newest,
    /// Unix time, for what an owner reads and for a restart.
    pub clock: SharedClock,
    /// Origin of the monotonic milliseconds.
    pub origin: Instant,
    /// What a restart keeps.
    pub following: Arc<Mutex<Following>>,
    /// Where that is written for a restart of the process.
    pub catalogue_file: StateFile,
    /// First segment number to keep, from retention.
    pub keep_from: watch::Receiver<u64>,
    /// Addresses of this node.
    pub addresses: watch::Receiver<Vec<String>>,
    /// Addresses of the origin, to be dialled while it is not connected.
    pub origin_addresses: watch::Sender<Vec<String>>,
    /// What is on air here.
    pub tree: watch::Sender<Option<Arc<StreamTree>>>,
    /// The newest record whose tree is held but for media.
    pub record: watch::Sender<Option<SignedRecord>>,
    /// station.json of this relay.
    pub station_json: watch::Sender<Bytes>,
    /// Highest number on air here; `None` off air.
    pub newest: watch::Sender<Option<u64>>,
    /// Highest number up to which all that is announced is held; `None` off air.
    pub held_until: watch::Sender<Option<u64>>,
    /// What ticks changed, to retention.
    pub ticks: mpsc::Sender<Tick>,
    /// Whether the station is on air.
    pub overall: Health,
    /// Where the stage reports.
    pub health: StageHealth,
    /// Where it counts.
    pub metrics: Metrics,
}

/// What is under way in one run; ends with it. In tasks of their own: one that holds a lock of the store goes on while
/// the stage itself waits for the store.
struct Work {
    fetches: JoinSet<Fetched>,
    busy: HashSet<Cid>,
    reading: JoinSet<Read>,
    /// The record that is read, or was read last.
    read: Option<Arc<Record>>,
    /// When that began.
    read_since: Option<Instant>,
    heard: Option<Heard>,
    read_again_at: Option<Instant>,
}

/// A record and when it came.
#[derive(Debug, Clone)]
struct Heard {
    record: Arc<Record>,
    at: Instant,
    /// How many relays take what it announces from each other; one where this one is in haste.
    relays: usize,
    /// Until when its tree is not asked of the station itself.
    spared: Instant,
}

impl Relay {
    /// Follows until `cancel` fires, then writes down where it stands.
    ///
    /// # Errors
    /// [`RelayError`]; the next run goes on where this one stopped.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), RelayError> {
        let mut following = self.following.lock().await;
        let following = &mut *following;
        let mut records = self.records.clone();
        records.mark_changed();
        let mut work = Work::new(following);
        self.resume(following).await?;
        let began = Instant::now();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.begin_fetches(following, &mut work);
            self.begin_reading(following, &mut work);
            self.reveal_due(following).await?;
            let wake = [self.wake_at(following), work.read_again_at, following.rested_at()];
            tokio::select! {
                () = cancel.cancelled() => break,
                () = changed(&mut records) => {
                    let record = records.borrow_and_update().clone();
                    self.hear(following, &mut work, record);
                }
                Some(fetched) = work.fetches.join_next() => self.fetched(following, &mut work, &ended(fetched)?),
                Some(read) = work.reading.join_next() => self.take_in(following, &mut work, ended(read)?).await?,
                () = sleep_until(wake.into_iter().flatten().min()) => work.forget_pause(),
                _ = look.tick() => {
                    self.look(following, began);
                    self.health.progress();
                }
            }
        }
        self.save(following).await;
        Ok(())
    }

    /// Has on air again what a run before had.
    async fn resume(&self, following: &mut Following) -> Result<(), RelayError> {
        let Some(tree) = following.tree.clone() else {
            self.tell_station(following);
            return Ok(());
        };
        self.adopt(following, &tree).await?;
        if following.window.on_air().is_some() { self.tick(following).await } else { Ok(()) }
    }

    /// Puts on air what is due.
    async fn reveal_due(&self, following: &mut Following) -> Result<(), RelayError> {
        let segment = following.segment();
        let late = following.read_at.is_some_and(|at| at.elapsed() >= BEGIN_WITHIN_SEGMENTS * segment);
        let mut revealed = false;
        // What a run before left is no news: whether the station is on air, the station must say.
        if following.heard_at.is_some() && following.window.begin(late) {
            // All of the window, also what is still to be fetched: retention decides how much of it is kept.
            following.tell_aired(following.window.on_air().unwrap_or(0));
            revealed = true;
        }
        while let Step::Reveal(n) = following.window.step(&following.airtimes, self.millis_at(Instant::now()))
        {
            self.reveal(following, n);
            revealed = true;
        }
        if revealed {
            following.last_reveal = Some(Instant::now());
        }
        let stands = following.window.on_air().is_some();
        if stands && (revealed || following.changed && following.last_reveal.is_some()) {
            self.tick(following).await?;
        }
        Ok(())
    }

    fn reveal(&self, following: &mut Following, n: u64) {
        let listed = following.tree.as_ref().is_some_and(|tree| n <= tree.signed.newest);
        NameMetrics::count(&self.metrics.relay.reveals, if listed { "listed" } else { "estimated" });
        let due = following.airtimes.due(n);
        if due.is_some_and(|due| self.millis_at(Instant::now()) > due + tick::LATE_MS) {
            self.metrics.relay.late.inc();
        }
        let before = following.window.on_air();
        if let Some(before) = before {
            let passed = following.window.segments().filter(|s| s.n > before && s.n < n).count();
            if passed > 0 {
                tracing::warn!(
                    n,
                    segments = passed,
                    "nobody sent segments in time; the air goes on behind them"
                );
                self.metrics.relay.skipped.inc_by(passed as u64);
            }
        }
        following.window.reveal(n);
        following.tell_aired(n);
    }

    /// Tells how it stands with the origin, and whether the air is over.
    fn look(&self, following: &mut Following, began: Instant) {
        let segment = following.segment();
        if let Some(last) = following.last_reveal.filter(|last| last.elapsed() >= DRY_SEGMENTS * segment) {
            tracing::error!(silent = ?last.elapsed(), "off air: waiting for the origin");
            self.off_air(following, "waiting for the origin");
        }
        if following.last_reveal.is_none() && began.elapsed() >= FIND_WITHIN {
            self.overall.set_off_air("waiting for the origin");
        }
        let silent = SILENT_SEGMENTS * segment;
        let silent_since = following.heard_at.unwrap_or(began);
        let lead_end = following.window.held_until().and_then(|n| following.airtimes.due(n));
        let now = self.reading();
        let silent_since = Some(silent_since).filter(|since| since.elapsed() >= silent);
        let condition = Condition {
            silent_since: silent_since.map(|since| now.unix_at(self.millis_at(since))),
            lead_ends: lead_end.map(|end| now.unix_at(end)),
            now: now.unix_ms,
        };
        match condition.notice() {
            Some(text) if self.overall.set_notice(NOTICE, &text) => tracing::warn!("{text}"),
            Some(_) => {}
            None if self.overall.clear_notice(NOTICE) => tracing::info!("the origin is back"),
            None => {}
        }
    }

    fn reading(&self) -> Reading {
        Reading { monotonic_ms: self.millis_at(Instant::now()), unix_ms: self.clock.unix_millis() }
    }

    fn millis_at(&self, at: Instant) -> i64 {
        let after = i64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(i64::MAX);
        let before = i64::try_from(self.origin.saturating_duration_since(at).as_millis()).unwrap_or(i64::MAX);
        after - before
    }

    /// When a segment is due that nothing else would wake the stage for.
    fn wake_at(&self, following: &Following) -> Option<Instant> {
        let now = Instant::now();
        match following.window.step(&following.airtimes, self.millis_at(now)) {
            Step::Reveal(_) => Some(now),
            // A millisecond later, as what was rounded down is over then.
            Step::Wait(at) => {
                let after = u64::try_from(at?.saturating_add(1)).unwrap_or(0);
                self.origin.checked_add(Duration::from_millis(after))
            }
        }
    }
}

impl Work {
    fn new(following: &Following) -> Self {
        Self {
            fetches: JoinSet::new(),
            busy: HashSet::new(),
            reading: JoinSet::new(),
            read: following.record().cloned(),
            read_since: None,
            heard: None,
            read_again_at: None,
        }
    }

    fn forget_pause(&mut self) {
        if self.read_again_at.is_some_and(|at| at <= Instant::now()) {
            self.read_again_at = None;
        }
    }
}

/// What a task gave; tasks are ended with the run alone.
fn ended<T>(task: Result<T, JoinError>) -> Result<T, RelayError> {
    task.map_err(RelayError::Task)
}

/// Waits for another record; for ever where nobody searches any more.
async fn changed(records: &mut Newest) {
    if records.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
