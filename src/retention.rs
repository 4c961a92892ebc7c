//! Retention stage: removes what has left the window.
//!
//! Takes [`Tick`]s from the publisher, gives it the oldest segment that stays, and hands what came on air to the archive.
//! Blocks are unpinned and removed a grace period after the tree dropped them, so that whoever is fetching one still
//! gets it: one at a time, beside the ticks, so that a store that takes its time over it holds up nobody. A crash loses
//! only the list of what waits for removal; the sweep at the next start finds those blocks again.

pub mod window;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::StageHealth;
use crate::ipfs::{Blocks, IpfsError};
use crate::metrics::Metrics;
use crate::publisher::Tick;
use crate::publisher::live_window::StoredSegment;
use crate::supervisor::waiting;
use window::Window;

/// How long a block stays after the tree dropped it.
pub const GRACE: Duration = Duration::from_secs(240);
/// A removal that takes longer is given up and tried again after another grace.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// `[retention]`: how much of the past is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// How long a segment can be fetched after its airtime, 1 min to 4 h.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Megabytes (10^6 bytes) of segments at most; the window shrinks to fit.
    pub megabytes: u64,
    /// Keeps what was on air, day by day, on the disk.
    pub archive: bool,
    /// Megabytes (10^6 bytes) of the archive at most; the oldest day leaves.
    pub archive_megabytes: u64,
    /// Folder of the archive; `<data>/archive` where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_folder: Option<PathBuf>,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            megabytes: 64,
            archive: false,
            archive_megabytes: 8_000,
            archive_folder: None,
        }
    }
}

impl RetentionConfig {
    /// Checks what a type cannot say. The error is the key's name and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        // The upper bound keeps a tick cheap: it lists and links the whole window anew.
        if !(Duration::from_secs(60)..=Duration::from_secs(4 * 3600)).contains(&self.window) {
            return Err(("retention.window", "must be within 1m and 4h".into()));
        }
        if self.megabytes == 0 {
            return Err(("retention.megabytes", "must be 1 at least".into()));
        }
        if self.archive_megabytes < 100 {
            return Err(("retention.archive_megabytes", "must be 100 at least".into()));
        }
        Ok(())
    }

    /// The window for segments of that length.
    pub fn window(&self, segment: Duration) -> Window {
        let segments = self.window.as_millis().div_ceil(segment.as_millis().max(1));
        Window::new(u64::try_from(segments).unwrap_or(u64::MAX), self.megabytes.saturating_mul(1_000_000))
    }
}

/// Removes every block and pin that `needed` does not name: what a crash left. Returns how many blocks went.
///
/// # Errors
/// [`IpfsError::Store`] when the store fails.
pub async fn sweep(blocks: &Blocks, needed: &HashSet<Cid>) -> Result<usize, IpfsError> {
    let held = blocks.list().await;
    let pinned = blocks.pinned().await?;
    // A pin is kept under the block's own CID; a raw block and a directory of equal hash do not occur.
    let orphans: HashSet<_> = held.into_iter().chain(pinned).filter(|cid| !is_needed(cid, needed)).collect();
    for cid in &orphans {
        if let Err(error) = blocks.remove(cid).await {
            tracing::warn!(%cid, error = &error as &dyn std::error::Error, "leftover block is not removed");
        }
    }
    Ok(orphans.len())
}

/// The store lists blocks by their hash alone, under a codec of its choice.
fn is_needed(cid: &Cid, needed: &HashSet<Cid>) -> bool {
    let raw = Cid::new_v1(crate::ipfs::block::RAW, *cid.hash());
    needed.contains(cid) || needed.contains(&raw)
}

/// What removes blocks.
pub trait Remover: Send + Sync {
    /// Unpins and removes a block; one that is not there is no error.
    fn remove(&self, cid: Cid) -> BoxFuture<'_, Result<(), IpfsError>>;
}

impl Remover for Blocks {
    fn remove(&self, cid: Cid) -> BoxFuture<'_, Result<(), IpfsError>> {
        Box::pin(async move { Blocks::remove(self, &cid).await })
    }
}

/// The stage's ends; survives a restart of the stage.
pub struct Retention {
    /// What stays.
    pub window: Mutex<Window>,
    /// The block store, as what is removed from.
    pub remover: Arc<dyn Remover>,
    /// Changes from the publisher.
    pub input: Arc<Mutex<mpsc::Receiver<Tick>>>,
    /// Oldest segment that stays, to the publisher.
    pub keep_from: watch::Sender<u64>,
    /// What came on air, to the archive, where there is one.
    pub archive: Option<mpsc::Sender<StoredSegment>>,
    /// Blocks that wait for the end of their grace, the next one first.
    pub leaving: Mutex<VecDeque<(Instant, Cid)>>,
    /// Where the stage reports.
    pub health: StageHealth,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Retention {
    /// Cleans until the publisher ends or `cancel` fires.
    ///
    /// # Errors
    /// None today: a block that cannot be removed is told and tried again.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), IpfsError> {
        let mut input = self.input.lock().await;
        let mut window = self.window.lock().await;
        let mut leaving = self.leaving.lock().await;
        // The removal under way, of the first block of the list, which stays there until it is gone.
        let mut removal: Option<BoxFuture<'_, Result<(), String>>> = None;
        loop {
            let due = leaving.front().map(|(due, _)| *due).filter(|_| removal.is_none());
            tokio::select! {
                () = cancel.cancelled() => break,
                tick = waiting(&self.health, input.recv()) => match tick {
                    Some(tick) => self.take_in(tick, &mut window, &mut leaving),
                    None => break,
                },
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    removal = leaving.front().map(|(_, cid)| self.removal(*cid));
                }
                Some(done) = async { Some(removal.as_mut()?.await) }, if removal.is_some() => {
                    removal = None;
                    self.removed(done, &mut leaving);
                }
            }
            self.health.progress();
        }
        // The archive is to get what is on air.
        while let Ok(tick) = input.try_recv() {
            self.take_in(tick, &mut window, &mut leaving);
        }
        Ok(())
    }

    fn take_in(&self, tick: Tick, window: &mut Window, leaving: &mut VecDeque<(Instant, Cid)>) {
        for segment in tick.aired {
            let keep_from = window.push(segment.n, segment.bytes());
            self.keep_from.send_if_modified(|kept| std::mem::replace(kept, keep_from) != keep_from);
            if let Some(archive) = &self.archive
                && archive.try_send(segment).is_err()
            {
                // It is behind by minutes: a disk that takes no writes must not hold up the window.
                self.metrics.archive_segments_lost.inc();
            }
        }
        let due = Instant::now() + GRACE;
        leaving.extend(tick.unlinked.into_iter().map(|cid| (due, cid)));
    }

    fn removal(&self, cid: Cid) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            match timeout(REMOVAL_LIMIT, self.remover.remove(cid)).await {
                Ok(done) => done.map_err(|error| error.to_string()),
                Err(_) => Err(format!("not within {} s", REMOVAL_LIMIT.as_secs())),
            }
        })
    }

    fn removed(&self, done: Result<(), String>, leaving: &mut VecDeque<(Instant, Cid)>) {
        let Some((_, cid)) = leaving.pop_front() else { return };
        match done {
            Ok(()) => drop(self.metrics.blocks_removed.inc()),
            Err(error) => {
                // One bad block must not keep the others; it is tried again.
                tracing::warn!(%cid, error, "block is not removed");
                leaving.push_back((Instant::now() + GRACE, cid));
            }
        }
    }
}
