//! Retention stage: removes what has left the window.
//!
//! Takes [`Tick`]s from the publisher, gives it the oldest segment that stays. Blocks are unpinned and removed a
//! grace period after the tree dropped them, so that whoever is fetching one still gets it. A crash loses only the
//! list of what waits for removal; the sweep at the next start finds those blocks again.

pub mod window;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::health::StageHealth;
use crate::ipfs::{Blocks, IpfsError};
use crate::metrics::Metrics;
use crate::publisher::Tick;
use crate::supervisor::waiting;
use window::Window;

/// How long a block stays after the tree dropped it.
pub const GRACE: Duration = Duration::from_secs(60);

/// `[retention]`: how much of the past is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// How long a segment can be fetched after its airtime, 1 min to 4 h.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Megabytes (10^6 bytes) of segments at most; the window shrinks to fit.
    pub megabytes: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { window: Duration::from_secs(600), megabytes: 64 }
    }
}

impl RetentionConfig {
    /// Checks what a type cannot say. The error is the key's name and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        // The upper bound keeps a directory below 1 MiB, the largest block that every peer takes.
        if !(Duration::from_secs(60)..=Duration::from_secs(4 * 3600)).contains(&self.window) {
            return Err(("retention.window", "must be within 1m and 4h".into()));
        }
        if self.megabytes == 0 {
            return Err(("retention.megabytes", "must be 1 at least".into()));
        }
        Ok(())
    }

    /// The window for segments of that length.
    pub fn window(&self, segment: Duration) -> Window {
        let segments = self.window.as_millis().div_ceil(segment.as_millis().max(1));
        Window::new(usize::try_from(segments).unwrap_or(usize::MAX), self.megabytes.saturating_mul(1_000_000))
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

/// The stage's ends; survives a restart of the stage.
pub struct Retention {
    /// What stays.
    pub window: Mutex<Window>,
    /// The block store.
    pub blocks: Blocks,
    /// Changes from the publisher.
    pub input: Arc<Mutex<mpsc::Receiver<Tick>>>,
    /// Oldest segment that stays, to the publisher.
    pub keep_from: watch::Sender<u64>,
    /// Blocks that wait for the end of their grace.
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
    /// [`IpfsError::Store`]; the block stays on the list.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), IpfsError> {
        let mut input = self.input.lock().await;
        let mut window = self.window.lock().await;
        let mut leaving = self.leaving.lock().await;
        loop {
            let due = leaving.front().map(|(due, _)| *due);
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                tick = waiting(&self.health, input.recv()) => match tick {
                    Some(tick) => self.take_in(tick, &mut window, &mut leaving),
                    None => return Ok(()),
                },
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    self.remove_due(&mut leaving).await?;
                }
            }
            self.health.progress();
        }
    }

    fn take_in(&self, tick: Tick, window: &mut Window, leaving: &mut VecDeque<(Instant, Cid)>) {
        for (n, bytes) in tick.aired {
            let keep_from = window.push(n, bytes);
            self.keep_from.send_if_modified(|kept| std::mem::replace(kept, keep_from) != keep_from);
        }
        let due = Instant::now() + GRACE;
        leaving.extend(tick.unlinked.into_iter().map(|cid| (due, cid)));
    }

    async fn remove_due(&self, leaving: &mut VecDeque<(Instant, Cid)>) -> Result<(), IpfsError> {
        while let Some((due, cid)) = leaving.front().copied() {
            if due > Instant::now() {
                break;
            }
            leaving.pop_front();
            match self.blocks.remove(&cid).await {
                Ok(()) => drop(self.metrics.blocks_removed.inc()),
                Err(error) => {
                    // One bad block must not keep the others; it is tried again.
                    tracing::warn!(%cid, error = &error as &dyn std::error::Error, "block is not removed");
                    leaving.push_back((Instant::now() + GRACE, cid));
                }
            }
        }
        Ok(())
    }
}
