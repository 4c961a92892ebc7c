//! Archive stage: keeps what was on air, day by day, on the disk.
//!
//! Takes the segments that came on air from retention and reads their blocks from the repo while the window still holds
//! them; writes a minute at a time as one sequential write. Gives the folder of all days to the publisher, which links it
//! into the root, and the blocks to whoever reads. A crash loses the minute in work, which the window's catalogue brings
//! back as long as it holds it. Nothing here can hold up a tick: what the disk does not take is counted and left out.

mod car;
mod day;
mod days;
mod index;
pub mod lending;
mod record;
mod store;
mod volume;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::health::StageHealth;
use crate::ipfs::{Block, Blocks, IpfsError};
use crate::metrics::Metrics;
use crate::publisher::live_window::StoredSegment;
use crate::publisher::stream_tree::Entry;
use crate::supervisor::waiting;
use days::{Days, Minute, Outcome};
pub use record::Rendition;
use record::{Segment, filed_under};
pub use store::Store;

/// Audio that is written at once: bounds what a power cut can lose, and the writes that a card sees.
const MINUTE: u64 = 60 * 48_000;
/// Audio that waits for a disk that takes no writes; older audio is left out.
const PATIENCE: u64 = 3 * MINUTE;
/// The tree of the day that goes on grows at most this often, in seconds of the stream.
const LINK_EVERY: u64 = 600;
/// How long the files of a dropped day stay after its link went: the tick in between, and the grace of readers.
const GRACE: Duration = Duration::from_secs(90);

/// Why the archive stage stopped. The station stays on air.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The folder cannot be made or listed.
    #[error("cannot open the archive at {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written: the disk is full, or takes no writes.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A block cannot be read from the repo.
    #[error("cannot read a segment for the archive")]
    Read(#[from] IpfsError),
    /// The work on the disk was cut off.
    #[error("the work on the archive's files ended early")]
    Aborted,
}

/// Where the archive lies and how much it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// The folder of days.
    pub folder: PathBuf,
    /// Bytes of its files at most; the oldest day leaves.
    pub max_bytes: u64,
}

/// What a restart of the stage keeps.
#[derive(Default)]
pub struct Kept {
    /// The days, once they are read; lent to the thread that works on them.
    days: Option<Days>,
    /// Segments on air that may not be archived yet, from the run before.
    offered: Vec<StoredSegment>,
    /// Segments that are not written yet.
    minute: Vec<(Segment, Vec<Bytes>)>,
    /// The stretch of the stream whose tree is linked, in units of [`LINK_EVERY`].
    linked: Option<u64>,
    /// Dropped days and when their files may go.
    leaving: VecDeque<(Instant, String)>,
    /// The limit was told.
    full: bool,
}

impl Kept {
    /// Begins with the segments that the window has on air already.
    pub fn new(offered: Vec<StoredSegment>) -> Self {
        Self { offered, ..Self::default() }
    }
}

/// The stage's ends; survives a restart of the stage.
pub struct Archive {
    /// Where and how much.
    pub settings: ArchiveSettings,
    /// What the segments of this run are coded with, in the order of their media.
    pub renditions: Vec<Rendition>,
    /// The repo, which holds the window.
    pub blocks: Blocks,
    /// What others read the archive from.
    pub store: Arc<Store>,
    /// What came on air, from retention.
    pub input: Arc<Mutex<mpsc::Receiver<StoredSegment>>>,
    /// What a restart keeps.
    pub kept: Mutex<Kept>,
    /// The folder of all days, to the publisher.
    pub link: watch::Sender<Option<Entry>>,
    /// Where the stage reports.
    pub health: StageHealth,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Archive {
    /// Archives until retention ends or `cancel` fires; then writes what it has.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was not written is kept for the next run.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), ArchiveError> {
        let mut input = self.input.lock().await;
        let mut kept = self.kept.lock().await;
        self.begin(&mut kept).await?;
        loop {
            let due = kept.leaving.front().map(|(due, _)| *due);
            tokio::select! {
                () = cancel.cancelled() => break,
                segment = waiting(&self.health, input.recv()) => match segment {
                    Some(segment) => self.take(&mut kept, segment).await?,
                    None => break,
                },
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    if let Some((_, day)) = kept.leaving.pop_front() {
                        self.with_days(&mut kept, move |days| days.remove(&day)).await?;
                    }
                }
            }
            self.health.progress();
        }
        while let Ok(segment) = input.try_recv() {
            self.take(&mut kept, segment).await?;
        }
        self.write(&mut kept).await
    }

    /// Reads the days, once, and catches up on what came on air before.
    async fn begin(&self, kept: &mut Kept) -> Result<(), ArchiveError> {
        if kept.days.is_none() {
            let (settings, store) = (self.settings.clone(), self.store.clone());
            let load = move || Days::load(settings.folder, settings.max_bytes, store);
            kept.days = Some(waiting(&self.health, on_disk(load)).await??);
            self.publish(kept).await?;
        }
        let newest = kept.days.as_ref().and_then(Days::newest);
        for segment in std::mem::take(&mut kept.offered) {
            if newest.is_none_or(|newest| segment.n > newest) {
                self.take(kept, segment).await?;
            }
        }
        Ok(())
    }

    /// Takes in a segment; writes what waits where it is a minute, or another hour begins.
    async fn take(&self, kept: &mut Kept, segment: StoredSegment) -> Result<(), ArchiveError> {
        self.read(kept, segment).await?;
        let samples: u64 = kept.minute.iter().map(|(segment, _)| segment.samples).sum();
        let one_hour = first_hour(&kept.minute) == kept.minute.len();
        if samples >= MINUTE || !one_hour { self.write(kept).await } else { Ok(()) }
    }

    /// Reads the segment's files from the repo.
    async fn read(&self, kept: &mut Kept, segment: StoredSegment) -> Result<(), ArchiveError> {
        let newest = kept.days.as_ref().and_then(Days::newest);
        let waits = kept.minute.last().map(|(segment, _)| segment.n);
        let known = newest.max(waits).is_some_and(|newest| segment.n <= newest);
        let mut media = Vec::with_capacity(segment.media.len());
        for entry in &segment.media {
            media.extend(self.blocks.get(&entry.cid).await?);
        }
        let whole = media.len() == segment.media.len() && media.len() == self.renditions.len();
        if known || !whole {
            tracing::warn!(n = segment.n, known, whole, "a segment is not archived");
            self.metrics.archive_segments_lost.inc();
            return Ok(());
        }
        let record = Segment {
            n: segment.n,
            program_date_time_ms: segment.program_date_time_ms,
            samples: segment.samples,
            discontinuity: segment.discontinuity,
            media: segment.media,
        };
        kept.minute.push((record, media));
        self.forget_the_oldest(kept);
        Ok(())
    }

    /// Bounds the memory that a disk without writes costs.
    fn forget_the_oldest(&self, kept: &mut Kept) {
        while kept.minute.iter().map(|(segment, _)| segment.samples).sum::<u64>() > PATIENCE {
            kept.minute.remove(0);
            self.metrics.archive_segments_lost.inc();
        }
    }

    /// Writes what waits, hour by hour, and links the tree anew where it is time.
    async fn write(&self, kept: &mut Kept) -> Result<(), ArchiveError> {
        let mut changed = false;
        while let Some((first, _)) = kept.minute.first() {
            let stretch = first.n * first.samples / 48_000 / LINK_EVERY;
            changed |= self.write_hour(kept).await? | (kept.linked != Some(stretch));
            kept.linked = Some(stretch);
        }
        if changed { self.publish(kept).await } else { Ok(()) }
    }

    /// Writes what waits of the first hour; true where an hour or a day was closed or dropped for it.
    async fn write_hour(&self, kept: &mut Kept) -> Result<bool, ArchiveError> {
        let mut inits = Vec::with_capacity(self.renditions.len());
        for rendition in &self.renditions {
            inits.extend(self.blocks.get(&rendition.init.cid).await?.map(Block::raw));
        }
        let count = first_hour(&kept.minute);
        let segments = kept.minute[..count].to_vec();
        let minute = Minute { renditions: self.renditions.clone(), inits, segments };
        let work = move |days: &mut Days| (days.write(&minute), days.take_dropped(), days.bytes());
        let (outcome, dropped, bytes) = self.with_days(kept, work).await?;
        let gone = !dropped.is_empty();
        let due = Instant::now() + GRACE;
        kept.leaving.extend(dropped.into_iter().map(|day| (due, day)));
        self.metrics.archive_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let outcome = outcome?;
        kept.minute.drain(..count);
        Ok(self.count(kept, outcome, count as u64) || gone)
    }

    /// Counts what became of a minute; true where an hour or a day was closed.
    fn count(&self, kept: &mut Kept, outcome: Outcome, segments: u64) -> bool {
        let full = outcome == Outcome::Full;
        if full && !kept.full {
            let limit = self.settings.max_bytes;
            tracing::error!(limit, "the archive's limit is smaller than a day; it goes on tomorrow");
        }
        kept.full = full;
        let counter = if full { &self.metrics.archive_segments_lost } else { &self.metrics.archive_segments };
        counter.inc_by(segments);
        outcome == Outcome::Written { closed: true }
    }

    async fn publish(&self, kept: &mut Kept) -> Result<(), ArchiveError> {
        let link = self.with_days(kept, |days| days.publish()).await?;
        self.link.send_if_modified(|known| std::mem::replace(known, link) != link);
        Ok(())
    }

    /// Works on the days on a thread that may wait for the disk. A run that is ended meanwhile reads them anew.
    async fn with_days<T: Send + 'static>(
        &self,
        kept: &mut Kept,
        work: impl FnOnce(&mut Days) -> T + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let mut days = kept.days.take().ok_or(ArchiveError::Aborted)?;
        let work = move || {
            let done = work(&mut days);
            (done, days)
        };
        // A disk may take long; that is no reason to end the stage.
        let (done, days) = waiting(&self.health, on_disk(work)).await?;
        kept.days = Some(days);
        Ok(done)
    }
}

/// How many of the segments are of the same hour as the first.
fn first_hour(minute: &[(Segment, Vec<Bytes>)]) -> usize {
    let hour = |(segment, _): &(Segment, Vec<Bytes>)| filed_under(segment.n, segment.samples);
    let first = minute.first().map(hour);
    minute.iter().take_while(|segment| Some(hour(segment)) == first).count()
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ArchiveError::Aborted)
}
