//! Publisher stage: segments to blocks, the stream tree and the IPNS record.
//!
//! Takes [`Segment`]s from hls and stores each at once, ahead of its airtime; at airtime a *tick* lists it in the
//! playlists, rebuilds the directories from links and signs one record. Gives the [`StreamTree`] to http and [`Tick`]s to
//! retention. A crash loses nothing that was on air, and of the lead what was stored since the last tick: the catalogue
//! beside the repo is written before the air.

pub mod announced;
pub mod catalogue;
pub mod contents;
pub mod index;
pub mod live_window;
pub mod numbers;
mod signing;
pub mod station;
pub mod stream_tree;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::try_join_all;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::health::{Health, StageHealth};
pub use crate::hls::multivariant_playlist::{MultivariantPlaylist, Variant, codecs};
use crate::hls::{CodecParameters, HEAD_START, Segment};
use crate::ipfs::ipns::SignedRecord;
use crate::ipfs::{Block, Blocks, Identity, IpfsError};
use crate::metrics::{Metrics, RenditionLabel};
use crate::state::{StateError, StateFile};
use crate::supervisor::waiting;
pub use announced::Announced;
use catalogue::Catalogue;
use contents::Contents;
use index::{Head, Index, IndexedRendition};
use live_window::StoredSegment;
use numbers::Numbers;
pub use station::{Relay, Station};
use stream_tree::{ARCHIVE, Entry, StreamTree};

/// Why the publisher stage stopped.
#[derive(Debug, Error)]
pub enum PublisherError {
    /// A block could not be stored.
    #[error("cannot store segment {n}")]
    Store {
        /// Media sequence number.
        n: u64,
        /// The cause.
        #[source]
        source: IpfsError,
    },
    /// A file of the stream tree could not be stored.
    #[error("cannot store the stream tree")]
    Tree(#[source] IpfsError),
    /// The numbers could not be reserved.
    #[error("cannot write the station's state")]
    State(#[from] StateError),
}

/// What one tick changed, for retention.
#[derive(Debug, Clone, Default)]
pub struct Tick {
    /// Segments that came on air.
    pub aired: Vec<StoredSegment>,
    /// Blocks that the tree does not need any more.
    pub unlinked: Vec<Cid>,
}

/// What a restart of the stage keeps.
pub struct Published {
    /// The catalogue; written at every change.
    pub catalogue: Catalogue,
    /// The counters; written in steps.
    pub numbers: Numbers,
    /// What station.json says.
    station: Station,
    /// A segment that was taken and is not stored yet.
    pending: Option<Segment>,
    /// The index on air.
    index: Index,
    /// Blocks of the tree on air that are not media: directories, playlists, station.json, the index.
    tree_blocks: HashSet<Cid>,
    /// What retention has not been told yet.
    backlog: Tick,
    /// When the last segment came on air, of this run or one before; `None` while the station is off air.
    last_reveal: Option<Instant>,
}

impl Published {
    /// Goes on with what a run before left.
    pub fn new(catalogue: Catalogue, numbers: Numbers, station: Station) -> Self {
        Self {
            catalogue,
            numbers,
            station,
            pending: None,
            index: Index::default(),
            tree_blocks: HashSet::new(),
            backlog: Tick::default(),
            last_reveal: None,
        }
    }
}

/// How the stage works.
#[derive(Debug, Clone)]
pub struct PublisherSettings {
    /// Length of a segment.
    pub segment: Duration,
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target_duration: u64,
    /// Segments that a media playlist lists.
    pub playlist_segments: usize,
    /// Validity of a record.
    pub record_validity: Duration,
    /// TTL of a record.
    pub record_ttl: Duration,
}

/// The stage's ends; survives a restart of the stage.
pub struct Publisher {
    /// How it works.
    pub settings: PublisherSettings,
    /// The block store.
    pub blocks: Blocks,
    /// Signs the records.
    pub identity: Identity,
    /// Unix time, for the records.
    pub clock: SharedClock,
    /// Origin of the monotonic milliseconds in which airtimes are given.
    pub origin: Instant,
    /// What a restart keeps.
    pub published: Arc<Mutex<Published>>,
    /// Where the catalogue lies.
    pub catalogue_file: StateFile,
    /// Segments from hls.
    pub input: Arc<Mutex<mpsc::Receiver<Segment>>>,
    /// First segment number to keep, from retention.
    pub keep_from: watch::Receiver<u64>,
    /// The archive's folder, where there is one: an entry of the root.
    pub archive: watch::Receiver<Option<Entry>>,
    /// The relays that station.json names.
    pub relays: watch::Receiver<Vec<Relay>>,
    /// Addresses of the node, as they become known.
    pub addresses: watch::Receiver<Vec<String>>,
    /// What is on air.
    pub tree: watch::Sender<Option<Arc<StreamTree>>>,
    /// The IPNS record that names it.
    pub record: watch::Sender<Option<SignedRecord>>,
    /// What each tick announced, once its record is signed.
    pub announced: watch::Sender<Option<Announced>>,
    /// Highest sequence number that others have seen under the station's name.
    pub highest_seen: watch::Receiver<u64>,
    /// station.json, there before anything is on air.
    pub station_json: watch::Sender<Bytes>,
    /// What ticks changed, to retention.
    pub ticks: mpsc::Sender<Tick>,
    /// Whether the station is on air.
    pub overall: Health,
    /// Where the stage reports.
    pub health: StageHealth,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Publisher {
    /// Stores and reveals until hls ends or `cancel` fires; then stores what is still on its way and persists.
    ///
    /// # Errors
    /// [`PublisherError`]; the segment in work is kept for the next run.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), PublisherError> {
        let mut input = self.input.lock().await;
        let mut published = self.published.lock().await;
        self.introduce(&mut published);
        if published.catalogue.window.listed() > 0 {
            self.tick(&mut published).await?;
        }
        let mut signing = tokio::time::interval(signing::CHECK_EVERY);
        loop {
            if published.pending.is_some() {
                self.store_pending(&mut published).await?;
            }
            self.reveal_due(&mut published).await?;
            let due = self.next_reveal(&published);
            let dry =
                published.last_reveal.filter(|_| due.is_none()).map(|last| last + 3 * self.settings.segment);
            tokio::select! {
                () = cancel.cancelled() => break,
                () = sleep_until(dry) => self.run_dry(&mut published),
                _ = signing.tick() => {
                    self.renew(&mut published);
                    self.health.progress();
                }
                () = waiting(&self.health, sleep_until(due)) => {}
                segment = input.recv() => match segment {
                    Some(segment) => published.pending = Some(segment),
                    None => break,
                },
            }
        }
        while let Ok(segment) = input.try_recv() {
            published.pending = Some(segment);
            self.store_pending(&mut published).await?;
        }
        self.save(&published).await;
        published.numbers.close()?;
        Ok(())
    }

    /// Writes the catalogue. Only a restart needs it, so a failure is told and the station stays on air.
    async fn save(&self, published: &Published) {
        let (file, catalogue) = (self.catalogue_file.clone(), published.catalogue.clone());
        let saved = tokio::task::spawn_blocking(move || file.save(&catalogue)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a restart now would not find the window"
            );
        }
    }

    /// Stores all renditions of the segment in parallel and enters it in the catalogue.
    async fn store_pending(&self, published: &mut Published) -> Result<(), PublisherError> {
        let Some(segment) = published.pending.clone() else { return Ok(()) };
        let n = segment.slot.n;
        let discontinuities =
            published.catalogue.window.discontinuities() + u64::from(segment.slot.discontinuity);
        if let Err(error) = published.numbers.use_segment(n, discontinuities) {
            // A card that takes no writes is no reason to go off air; numbers follow the clock in any case.
            tracing::error!(
                n,
                error = &error as &dyn std::error::Error,
                "the segment number is not persisted"
            );
        }
        let began = Instant::now();
        let blocks: Vec<_> = segment.media.iter().map(|bytes| Block::raw(bytes.clone())).collect();
        let puts = try_join_all(blocks.iter().map(|block| self.blocks.put_pinned(block))).await;
        puts.map_err(|source| PublisherError::Store { n, source })?;
        self.metrics.block_put_seconds.observe(began.elapsed().as_secs_f64());
        let stored = StoredSegment {
            n,
            unix_ms: segment.slot.unix_ms,
            airtime_ms: segment.slot.airtime_ms,
            program_date_time_ms: segment.program_date_time_ms,
            samples: segment.samples,
            discontinuity: segment.slot.discontinuity,
            media: blocks.iter().map(Entry::from).collect(),
            now_playing: segment.now_playing.as_deref().cloned(),
        };
        self.count(published, &stored);
        published.catalogue.measure(&stored);
        if !published.catalogue.window.store(stored) {
            tracing::error!(n, "a segment number came twice; the segment is dropped");
        }
        published.pending = None;
        self.health.progress();
        Ok(())
    }

    fn count(&self, published: &Published, stored: &StoredSegment) {
        for (entry, parameters) in stored.media.iter().zip(&published.catalogue.parameters) {
            let label = RenditionLabel { rendition: parameters.rendition.clone() };
            self.metrics.segments_encoded.get_or_create(&label).inc();
            self.metrics.segment_bytes.get_or_create(&label).inc_by(entry.size);
        }
    }

    /// When the next segment is due: at the end of its airtime, as in a live stream, and at once while there have
    /// not been enough for a player to begin.
    fn next_reveal(&self, published: &Published) -> Option<Instant> {
        let window = &published.catalogue.window;
        let next = window.next()?;
        let begins = (window.aired().count() as u64) < HEAD_START;
        Some(if begins { Instant::now() } else { self.air_end(next) })
    }

    fn air_end(&self, segment: &StoredSegment) -> Instant {
        let begin = Duration::from_millis(segment.airtime_ms.unsigned_abs());
        // Airtimes before the start are negative.
        let begin =
            if segment.airtime_ms < 0 { self.origin.checked_sub(begin) } else { Some(self.origin + begin) };
        begin.unwrap_or(self.origin) + self.settings.segment
    }

    async fn reveal_due(&self, published: &mut Published) -> Result<(), PublisherError> {
        let mut revealed_any = false;
        while self.next_reveal(published).is_some_and(|due| due <= Instant::now()) {
            let revealed = published.catalogue.window.reveal(self.settings.playlist_segments);
            published.backlog.aired.extend(revealed.cloned());
            published.last_reveal = Some(Instant::now());
            revealed_any = true;
        }
        if revealed_any { self.tick(published).await } else { Ok(()) }
    }

    /// Puts the window's state on air: playlists, directories, one root, one record.
    async fn tick(&self, published: &mut Published) -> Result<(), PublisherError> {
        let began = Instant::now();
        let gone = published.catalogue.window.forget_before(*self.keep_from.borrow());
        published
            .backlog
            .unlinked
            .extend(gone.iter().flat_map(|segment| &segment.media).map(|entry| entry.cid));
        self.describe(published);
        let (tree, blocks) = self.build(published);
        let fresh = blocks.iter().filter(|block| !published.tree_blocks.contains(&block.cid));
        try_join_all(fresh.map(|block| self.blocks.put_pinned(block))).await.map_err(PublisherError::Tree)?;
        let now: HashSet<_> = blocks.iter().map(|block| block.cid).collect();
        published.backlog.unlinked.extend(published.tree_blocks.difference(&now));
        published.tree_blocks = now;
        let (root, newest) = (tree.root, tree.newest);
        let announced = Announced::of(&published.catalogue.window, &tree.entries);
        published.catalogue.root = Some(root);
        // Before anybody sees it, so that a restart never shows less.
        self.save(published).await;
        self.tree.send_replace(Some(Arc::new(tree)));
        self.announce(published, root);
        self.announced.send_replace(announced);
        // Never waits for retention: while it is busy, the backlog goes with the next tick.
        if let Ok(permit) = self.ticks.try_reserve() {
            permit.send(std::mem::take(&mut published.backlog));
        }
        self.report(published, newest, began);
        tracing::debug!(n = newest, cid = %root, "tick");
        Ok(())
    }

    /// Nothing is left to put on air: players have run out of segments by now.
    fn run_dry(&self, published: &mut Published) {
        tracing::error!("off air: no audio has reached the publisher for three segments");
        published.last_reveal = None;
        self.overall.set_lead(Duration::ZERO);
        self.metrics.lead_seconds.set(0.0);
        published.station.on_air = false;
        self.station_json.send_replace(published.station.to_json());
        self.overall.set_off_air("no audio reaches the publisher");
        self.metrics.on_air.set(0);
    }

    /// Says who the station is before it is on air.
    fn introduce(&self, published: &mut Published) {
        published.station.addresses = self.addresses.borrow().clone();
        published.station.relays = self.relays.borrow().clone();
        self.station_json.send_replace(published.station.to_json());
    }

    /// Brings station.json up to the live edge.
    fn describe(&self, published: &mut Published) {
        let newest = published.catalogue.window.aired().next_back();
        let playing = newest.and_then(|segment| segment.now_playing.clone());
        let newest = newest.map_or(0, |segment| segment.n);
        published.station.oldest = published.catalogue.window.aired().next().map(|segment| segment.n);
        if let Some(playing) =
            playing.as_ref().filter(|now| published.station.now_playing.as_ref() != Some(*now))
        {
            tracing::info!(track = playing.title, artist = playing.artist, n = newest, "on air");
        }
        published.station.update(newest, variants(&published.catalogue), playing);
        self.introduce(published);
    }

    /// Every file of the tree, and the blocks of those that are not stored yet.
    fn build(&self, published: &mut Published) -> (StreamTree, Vec<Block>) {
        let catalogue = &published.catalogue;
        let multivariant = MultivariantPlaylist { variants: variants(catalogue) };
        let head = self.head(catalogue);
        let files = published.index.update(&head, &catalogue.window);
        let contents = Contents {
            head: &head,
            window: &catalogue.window,
            index: files.map(|(group, block)| (group, block.clone())).collect(),
            multivariant: multivariant.to_string().into(),
            station: published.station.to_json(),
            others: self.archive.borrow().map(|archive| (ARCHIVE.to_owned(), archive)).into_iter().collect(),
        };
        contents.tree()
    }

    fn head(&self, catalogue: &Catalogue) -> Head {
        let named = |(p, init): (&CodecParameters, &Entry)| IndexedRendition {
            name: p.rendition.clone(),
            init: *init,
        };
        Head {
            target_duration: self.settings.target_duration,
            playlist_segments: self.settings.playlist_segments,
            segment_samples: u64::try_from(self.settings.segment.as_millis()).unwrap_or(u64::MAX) * 48,
            renditions: catalogue.parameters.iter().zip(&catalogue.init).map(named).collect(),
        }
    }

    fn report(&self, published: &Published, newest: u64, began: Instant) {
        let window = &published.catalogue.window;
        let ready = window.newest_stored().map(|s| self.air_end(s));
        let lead = ready.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
        self.overall.set_on_air(newest);
        self.overall.set_lead(lead);
        self.metrics.on_air.set(1);
        self.metrics.newest_segment.set(i64::try_from(newest).unwrap_or(i64::MAX));
        self.metrics.lead_seconds.set(lead.as_secs_f64());
        let blocks = window.all().map(|s| s.media.len()).sum::<usize>() + published.tree_blocks.len();
        self.metrics.blocks.set(i64::try_from(blocks).unwrap_or(i64::MAX));
        let bytes: u64 = window.all().map(StoredSegment::bytes).sum();
        self.metrics.block_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.tick_seconds.observe(began.elapsed().as_secs_f64());
        self.health.progress();
    }
}

fn variants(catalogue: &Catalogue) -> Vec<Variant> {
    let rounded = |rate: u64| rate.div_ceil(1_000) * 1_000;
    let variant = |(p, rates): (&CodecParameters, &catalogue::Rates)| Variant {
        name: p.rendition.clone(),
        bandwidth: rounded(rates.peak),
        average_bandwidth: rounded(rates.average),
        codecs: codecs(&p.audio_specific_config),
    };
    catalogue.parameters.iter().zip(&catalogue.rates).map(variant).collect()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
