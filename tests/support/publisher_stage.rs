//! The publisher stage, wired by hand: what it needs around it, and the ends that are left for the test or bench.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skywave::clock::WallClock;
use skywave::health::Health;
use skywave::hls::{CodecParameters, Segment};
use skywave::ipfs::ipns::SignedRecord;
use skywave::ipfs::{Block, Blocks, Identity};
use skywave::metrics::Metrics;
use skywave::publisher::catalogue::Catalogue;
use skywave::publisher::numbers::Numbers;
use skywave::publisher::stream_tree::{Entry, StreamTree};
use skywave::publisher::{Published, Publisher, PublisherSettings, Station, Tick};
use skywave::state::{Durability, StateFile};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

pub const SEGMENT: Duration = Duration::from_millis(3_840);

/// What a publisher is made of; the rest is the same for all.
pub struct Parts<'a> {
    /// Takes the files of the stage.
    pub folder: &'a Path,
    /// Names of the renditions.
    pub renditions: &'a [&'a str],
    pub blocks: Blocks,
    pub identity: Identity,
    pub clock: Arc<dyn WallClock>,
    pub origin: Instant,
    pub playlist_segments: usize,
    pub record_validity: Duration,
    /// Ticks that may wait for whoever takes them.
    pub room: usize,
    pub health: &'a Health,
    pub metrics: &'a Metrics,
}

/// The other ends of the stage.
pub struct Ends {
    pub segments: mpsc::Sender<Segment>,
    pub tree: watch::Receiver<Option<Arc<StreamTree>>>,
    pub record: watch::Receiver<Option<SignedRecord>>,
    pub highest_seen: watch::Sender<u64>,
    /// In the place of retention, or for it.
    pub keep_from: watch::Sender<u64>,
    pub ticks: mpsc::Receiver<Tick>,
    /// The catalogue of the window.
    pub catalogue: PathBuf,
}

impl Parts<'_> {
    /// A publisher with an empty window.
    pub fn publisher(self) -> (Publisher, Ends) {
        let (segments, input) = mpsc::channel(2);
        let (ticks, tick_output) = mpsc::channel(self.room);
        let (tree_sender, tree) = watch::channel(None);
        let (record_sender, record) = watch::channel(None);
        let (highest_seen, seen) = watch::channel(0);
        let (keep_sender, keep_from) = watch::channel(0);
        let catalogue = self.folder.join("window.json");
        let publisher = Publisher {
            settings: PublisherSettings {
                segment: SEGMENT,
                target_duration: 4,
                playlist_segments: self.playlist_segments,
                record_validity: self.record_validity,
                record_ttl: Duration::from_secs(5),
            },
            published: Arc::new(Mutex::new(self.published())),
            blocks: self.blocks,
            identity: self.identity,
            clock: self.clock,
            origin: self.origin,
            catalogue_file: StateFile::new(&catalogue, Durability::Process),
            input: Arc::new(Mutex::new(input)),
            keep_from,
            archive: watch::channel(None).1,
            relays: watch::channel(Vec::new()).1,
            addresses: watch::channel(Vec::new()).1,
            tree: tree_sender,
            record: record_sender,
            announced: watch::channel(None).0,
            highest_seen: seen,
            station_json: watch::channel(Bytes::new()).0,
            ticks,
            overall: self.health.clone(),
            health: self.health.stage("publisher", None),
            metrics: self.metrics.clone(),
        };
        let ends = Ends {
            segments,
            tree,
            record,
            highest_seen,
            keep_from: keep_sender,
            ticks: tick_output,
            catalogue,
        };
        (publisher, ends)
    }

    fn published(&self) -> Published {
        let parameters = self.renditions.iter().map(|rendition| CodecParameters {
            rendition: (*rendition).into(),
            bitrate: 64_000,
            audio_specific_config: vec![0x11, 0x90],
            delay: 2_048,
        });
        let init = vec![Entry::from(&init()); self.renditions.len()];
        let numbers = StateFile::new(self.folder.join("numbers.json"), Durability::Process);
        let now = u64::try_from(self.clock.unix_millis() / 1_000).unwrap_or(0);
        let numbers = Numbers::load(numbers, 3_840, now).unwrap();
        let station = Station::new("Test".into(), self.identity.ipns_name());
        Published::new(Catalogue::new(3_840, parameters.collect(), init, 0), numbers, station)
    }
}

/// What stands for the init segment of every rendition; nobody has stored it.
pub fn init() -> Block {
    Block::raw("init")
}
