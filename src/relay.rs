//! Relay stage: follows a station by its name and has it on air here too, also while the station is out of reach.
//!
//! Takes the station's records from the resolver, each with a signature that was verified, and blocks from connected
//! peers, each checked against its CID; so the chain from the name to every segment is whole. Announced segments are
//! fetched before their airtime. Gives the tree, `station.json` and the record to http as the publisher does, and
//! [`Tick`]s to retention. A crash loses nothing that is held: what is on air stands in a file beside the repo.

pub mod airtimes;
mod condition;
pub mod following;
pub mod offer;
pub mod signed_tree;
pub mod source;
mod station;
mod tick;
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
use crate::ipfs::{Block, Blocks, IpfsError};
use crate::metrics::{Metrics, NameMetrics};
use crate::publisher::Tick;
use crate::publisher::stream_tree::{Entry, StreamTree};
use crate::state::StateFile;
use condition::Condition;
pub use following::{Following, Reading};
use signed_tree::{ReadError, SignedTree};
use source::{Reader, Source, is_block};
use window::Step;

/// Blocks that are fetched at a time: enough to fill a line, few enough that the first ones come first.
const AT_ONCE: usize = 8;
/// How long one block of media may take before it is asked for anew.
const MEDIA_PATIENCE: Duration = Duration::from_secs(20);
/// How long one block of a tree may take before the newest tree is tried instead.
const TREE_PATIENCE: Duration = Duration::from_secs(6);
/// Pause after a tree that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);
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

/// What is under way in one run. Tasks of their own: what waits for a lock of the store goes on while a tick is written,
/// which would wait for the same lock for ever.
struct Work {
    fetches: JoinSet<Fetched>,
    busy: HashSet<Cid>,
    reading: JoinSet<(Heard, Result<SignedTree, ReadError>)>,
    /// The record that is read, or was read last.
    read: Option<Arc<Record>>,
    heard: Option<Heard>,
    read_again_at: Option<Instant>,
}

/// A record and when it came.
#[derive(Debug, Clone)]
struct Heard {
    record: Arc<Record>,
    at: Instant,
}

/// How the fetch of a block ended.
struct Fetched {
    entry: Entry,
    outcome: Result<(), &'static str>,
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
                Some(fetched) = work.fetches.join_next() => self.fetched(following, &mut work, &joined(fetched)),
                Some(read) = work.reading.join_next() => {
                    let (heard, read) = joined(read);
                    self.take_in(following, &mut work, heard, read).await?;
                }
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

    fn hear(&self, following: &mut Following, work: &mut Work, record: Option<Arc<Record>>) {
        let Some(record) = record else { return };
        let known = following.record().is_some_and(|known| *known >= record);
        if !known {
            let at = Instant::now();
            following.heard_at = Some(at);
            work.heard = Some(Heard { record, at });
            work.read_again_at = None;
        }
    }

    /// Reads the tree of the newest record, one at a time; one that takes too long is left for a newer one.
    fn begin_reading(&self, following: &Following, work: &mut Work) {
        let Some(heard) = work.heard.clone() else { return };
        let same = work.read.as_ref() == Some(&heard.record);
        let paused = work.read_again_at.is_some();
        if same && (paused || !work.reading.is_empty()) || !same && !work.may_leave_reading() {
            return;
        }
        let again = same;
        let source = Reader { source: self.source.clone(), patience: TREE_PATIENCE };
        let known = following.tree.as_ref().map(SignedTree::known_groups).unwrap_or_default();
        work.read = Some(heard.record.clone());
        work.reading = JoinSet::new();
        work.reading.spawn(async move {
            let reading = signed_tree::read(&source, heard.record.clone(), &known);
            let read = match root_to_find(&heard.record).filter(|_| again) {
                // Nobody who is connected had it: those are looked for who say that they do.
                Some(root) => {
                    let find = source.source.find(root);
                    tokio::pin!(reading);
                    tokio::select! {
                        read = &mut reading => read,
                        () = find => reading.await,
                    }
                }
                None => reading.await,
            };
            (heard, read)
        });
    }

    async fn take_in(
        &self,
        following: &mut Following,
        work: &mut Work,
        heard: Heard,
        read: Result<SignedTree, ReadError>,
    ) -> Result<(), RelayError> {
        let tree = match read {
            Ok(tree) => tree,
            Err(error) => {
                let passing = error.is_passing();
                NameMetrics::count(&self.metrics.relay.trees, if passing { "missing" } else { "refused" });
                let error = &error as &dyn std::error::Error;
                if passing {
                    tracing::debug!(sequence = heard.record.sequence, error, "a tree of the station is not read");
                    work.read_again_at = Some(Instant::now() + READ_AGAIN);
                } else {
                    tracing::warn!(sequence = heard.record.sequence, error, "a tree of the station is refused");
                    work.heard = None;
                }
                return Ok(());
            }
        };
        NameMetrics::count(&self.metrics.relay.trees, "read");
        if work.heard.as_ref().is_some_and(|newest| newest.record == heard.record) {
            work.heard = None;
        }
        let newest = tree.signed.newest;
        let advanced = following.tree.as_ref().is_none_or(|before| before.signed.newest < newest);
        let gone = following.window.take_in(&tree.signed);
        following.forget(&gone);
        following.backlog.unlinked.extend(gone);
        following.learn();
        if advanced {
            following.airtimes.arrived(newest, self.millis_at(heard.at));
        }
        following.note_announced(heard.at);
        let now = Instant::now();
        following.take_turns(now, self.millis_at(now), fastrand::f64);
        following.read_at.get_or_insert_with(Instant::now);
        self.adopt(following, &tree).await?;
        following.tree = Some(tree);
        following.changed = true;
        Ok(())
    }

    /// Fetches what is missing, the most urgent first.
    fn begin_fetches(&self, following: &Following, work: &mut Work) {
        let room = AT_ONCE.saturating_sub(work.fetches.len());
        if room == 0 {
            return;
        }
        let waits = |entry: &&Entry| !work.busy.contains(&entry.cid) && !following.rests(&entry.cid);
        let next: Vec<_> = following.window.missing().filter(waits).take(room).copied().collect();
        for entry in next {
            if work.busy.insert(entry.cid) {
                let (source, blocks) = (self.source.clone(), self.blocks.clone());
                work.fetches.spawn(fetch(source, blocks, entry));
            }
        }
    }

    fn fetched(&self, following: &mut Following, work: &mut Work, fetched: &Fetched) {
        let cid = fetched.entry.cid;
        work.busy.remove(&cid);
        NameMetrics::count(&self.metrics.relay.fetches, fetched.outcome.err().unwrap_or("held"));
        if fetched.outcome.is_err() {
            return following.rest(cid);
        }
        self.metrics.relay.fetched_bytes.inc_by(fetched.entry.size);
        if let Some(announced) = following.settle(&cid) {
            self.metrics.relay.held_after_seconds.observe(announced.elapsed().as_secs_f64());
        }
        following.window.hold(cid);
        if !following.window.media().any(|entry| entry.cid == cid) {
            // It left the window while it was on its way.
            following.window.release(&cid);
            following.backlog.unlinked.push(cid);
        }
        let held = following.window.held_until();
        self.held_until.send_if_modified(|known| std::mem::replace(known, held) != held);
    }

    /// Puts on air what is due.
    async fn reveal_due(&self, following: &mut Following) -> Result<(), RelayError> {
        let segment = following.segment();
        let late = following.read_at.is_some_and(|at| at.elapsed() >= BEGIN_WITHIN_SEGMENTS * segment);
        let mut revealed = false;
        // What a run before left is no news: whether the station is on air, the station must say.
        if following.heard_at.is_some() && following.window.begin(late) {
            let window = &following.window;
            let aired = window.segments().filter(|s| Some(s.n) <= window.on_air() && s.n >= window.first_listed());
            following.backlog.aired.extend(aired.map(|segment| segment.to_stored()));
            revealed = true;
        }
        while let Step::Reveal(n) = following.window.step(&following.airtimes, self.millis_at(Instant::now())) {
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
                tracing::warn!(n, segments = passed, "nobody sent segments in time; the air goes on behind them");
                self.metrics.relay.skipped.inc_by(passed as u64);
            }
        }
        let revealed = following.window.reveal(n).map(|segment| segment.to_stored());
        following.backlog.aired.extend(revealed);
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
        let condition = Condition {
            silent_since: (silent_since.elapsed() >= silent)
                .then(|| now.unix_ms - self.millis_at(Instant::now()) + self.millis_at(silent_since)),
            lead_ends: lead_end.map(|at| now.unix_ms + at - now.monotonic_ms),
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
            Step::Wait(at) => at.map(|at| {
                self.origin + Duration::from_millis(u64::try_from(at).unwrap_or(0)) + Duration::from_millis(1)
            }),
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
            heard: None,
            read_again_at: None,
        }
    }

    /// Whether a newer record may take the place of the one that is read: readings are short, or hopeless.
    fn may_leave_reading(&self) -> bool {
        self.reading.is_empty() || self.heard.as_ref().is_some_and(|heard| heard.at.elapsed() >= TREE_PATIENCE)
    }

    fn forget_pause(&mut self) {
        if self.read_again_at.is_some_and(|at| at <= Instant::now()) {
            self.read_again_at = None;
        }
    }
}

/// What a task of this run gave; it ends with the run and never before, so that only a panic is left, which goes on here.
fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn fetch(source: Arc<dyn Source>, blocks: Blocks, entry: Entry) -> Fetched {
    let fetched = source.fetch(entry.cid, MEDIA_PATIENCE).await;
    let outcome = match fetched {
        Ok(Some(bytes)) if bytes.len() as u64 != entry.size || !is_block(&entry.cid, &bytes) => Err("wrong"),
        Ok(Some(data)) => {
            let stored = blocks.put_pinned(&Block { cid: entry.cid, data }).await;
            stored.map_err(|error| {
                tracing::error!(cid = %entry.cid, error = &error as &dyn std::error::Error, "a block is not stored");
                "failed"
            })
        }
        Ok(None) => Err("missing"),
        Err(error) => {
            tracing::debug!(cid = %entry.cid, error = &error as &dyn std::error::Error, "a block is not fetched");
            Err("failed")
        }
    };
    Fetched { entry, outcome }
}

fn root_to_find(record: &Record) -> Option<Cid> {
    record.value.strip_prefix("/ipfs/")?.parse().ok()
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

#[cfg(test)]
mod tests;
