//! The publisher stage with made-up segments, and the records that it signs.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skywave::clock::{SteppedClock, WallClock};
use skywave::health::Health;
use skywave::hls::timeline::Slot;
use skywave::hls::{CodecParameters, Segment};
use skywave::ipfs::ipns::SignedRecord;
use skywave::ipfs::names::{NamePublisher, Routing};
use skywave::ipfs::{Block, Blocks, Identity};
use skywave::metrics::Metrics;
use skywave::publisher::catalogue::Catalogue;
use skywave::publisher::numbers::Numbers;
use skywave::publisher::stream_tree::{Entry, StreamTree};
use skywave::publisher::{Published, Publisher, PublisherSettings, Station as StationJson, Tick};
use skywave::state::{Durability, StateFile};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub const SEGMENT: Duration = Duration::from_millis(3_840);
/// How long a record of the station is valid.
pub const VALIDITY: Duration = Duration::from_secs(3_600);
/// Segments that are fed ahead of their airtime.
const LEAD: i64 = 3;

/// A publisher that runs, and what goes with it.
pub struct Station {
    pub health: Health,
    pub metrics: Metrics,
    pub clock: Arc<SteppedClock>,
    pub record: watch::Receiver<Option<SignedRecord>>,
    pub highest_seen: watch::Sender<u64>,
    pub stop: CancellationToken,
    pub running: JoinHandle<()>,
    identity: Identity,
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
    audio: watch::Sender<bool>,
    _ticks: mpsc::Receiver<Tick>,
}

impl Station {
    /// A publisher whose numbers lie in `folder`.
    pub fn start(folder: &Path, identity: &Identity, clock: &Arc<SteppedClock>) -> Self {
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let (segments, input) = mpsc::channel(2);
        let (ticks, tick_output) = mpsc::channel(1);
        let (tree_sender, tree) = watch::channel(None);
        let (record_sender, record) = watch::channel(None);
        let (highest_seen, seen) = watch::channel(0);
        let origin = Instant::now();
        let publisher = Publisher {
            settings: PublisherSettings {
                segment: SEGMENT,
                target_duration: 4,
                playlist_segments: 8,
                record_validity: VALIDITY,
                record_ttl: Duration::from_secs(5),
            },
            blocks: Blocks::in_memory(),
            identity: identity.clone(),
            clock: clock.clone(),
            origin,
            published: Arc::new(Mutex::new(published(folder, clock.unix_millis()))),
            catalogue_file: StateFile::new(folder.join("window.json"), Durability::Process),
            input: Arc::new(Mutex::new(input)),
            keep_from: watch::channel(0).1,
            archive: watch::channel(None).1,
            addresses: watch::channel(Vec::new()).1,
            tree: tree_sender,
            record: record_sender,
            highest_seen: seen,
            station_json: watch::channel(Bytes::new()).0,
            ticks,
            overall: health.clone(),
            health: health.stage("publisher", None),
            metrics: metrics.clone(),
        };
        let cancel = stop.clone();
        let running = tokio::spawn(async move { publisher.run(cancel).await.unwrap() });
        let (audio, fed) = watch::channel(true);
        tokio::spawn(feed(segments, origin, fed));
        let (clock, identity) = (clock.clone(), identity.clone());
        Self {
            health,
            metrics,
            clock,
            record,
            highest_seen,
            stop,
            running,
            identity,
            tree,
            audio,
            _ticks: tick_output,
        }
    }

    /// Its name's way to the network, until the station stops.
    pub fn join(&self, routing: Arc<dyn Routing>) {
        let publisher = NamePublisher {
            name: self.identity.name(),
            dht_every: Duration::from_secs(60),
            provide: true,
            routing,
            clock: self.clock.clone(),
            record: self.record.clone(),
            highest_seen: self.highest_seen.clone(),
            overall: self.health.clone(),
            metrics: self.metrics.names.clone(),
        };
        let cancel = self.stop.clone();
        tokio::spawn(async move { publisher.run(cancel).await });
    }

    /// The number of the newest segment, when the next tick has come.
    pub async fn tick(&mut self) -> u64 {
        timeout(Duration::from_secs(30), self.tree.changed()).await.expect("a tick").unwrap();
        self.tree.borrow_and_update().as_ref().unwrap().newest
    }

    /// Whether audio goes on reaching the publisher.
    pub fn set_audio(&self, audio: bool) {
        self.audio.send_replace(audio);
    }

    /// The next record that passes `wanted`, within `limit`.
    pub async fn record_that(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&SignedRecord) -> bool,
    ) -> Option<SignedRecord> {
        let found = self.record.wait_for(|record| record.as_ref().is_some_and(&wanted));
        timeout(limit, found).await.ok().and_then(|found| found.unwrap().clone())
    }

    /// Stops as SIGTERM does.
    pub async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }

    /// Stops as a power cut does.
    pub async fn crash(self) {
        self.stop.cancel();
        self.running.abort();
        let _ = self.running.await;
    }
}

/// Sends segments as hls does, each a lead before its airtime, while there is audio.
async fn feed(segments: mpsc::Sender<Segment>, origin: Instant, mut audio: watch::Receiver<bool>) {
    let mut next = 0;
    while audio.wait_for(|audio| *audio).await.is_ok() {
        next = next.max((origin.elapsed().as_millis() / SEGMENT.as_millis()) as i64);
        sleep_until(origin + SEGMENT * u32::try_from((next - LEAD).max(0)).unwrap()).await;
        let slot = Slot {
            n: 466_900_000 + next as u64,
            airtime_ms: next * 3_840,
            unix_ms: (466_900_000 + next) * 3_840,
            discontinuity: false,
        };
        let media = vec![Bytes::from(format!("segment {next}"))];
        let program_date_time_ms = slot.unix_ms;
        let segment = Segment { slot, samples: 184_320, program_date_time_ms, media, now_playing: None };
        if segments.send(segment).await.is_err() {
            return;
        }
        next += 1;
    }
}

fn published(folder: &Path, unix_millis: i64) -> Published {
    let parameters = vec![CodecParameters {
        rendition: "hifi".into(),
        bitrate: 64_000,
        audio_specific_config: vec![0x11, 0x90],
        delay: 2_048,
    }];
    let numbers = StateFile::new(folder.join("numbers.json"), Durability::Process);
    let numbers = Numbers::load(numbers, 3_840, unix_millis as u64 / 1_000).unwrap();
    let init = vec![Entry::from(&Block::raw("init"))];
    let station = StationJson::new("Test".into(), "k51".into());
    Published::new(Catalogue::new(3_840, parameters, init, 0), numbers, station)
}
