//! The publisher stage with made-up segments, and the records that it signs.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skywave::clock::SteppedClock;
use skywave::health::Health;
use skywave::hls::Segment;
use skywave::hls::timeline::Slot;
use skywave::ipfs::ipns::SignedRecord;
use skywave::ipfs::names::{NamePublisher, Routing};
use skywave::ipfs::{Blocks, Identity};
use skywave::metrics::Metrics;
use skywave::publisher::Tick;
use skywave::publisher::stream_tree::StreamTree;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::publisher_stage::Parts;
pub use super::publisher_stage::SEGMENT;

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
        let origin = Instant::now();
        let (publisher, ends) = Parts {
            folder,
            renditions: &["hifi"],
            blocks: Blocks::in_memory(),
            identity: identity.clone(),
            clock: clock.clone(),
            origin,
            playlist_segments: 8,
            record_validity: VALIDITY,
            room: 1,
            health: &health,
            metrics: &metrics,
        }
        .publisher();
        let cancel = stop.clone();
        let running = tokio::spawn(async move { publisher.run(cancel).await.unwrap() });
        let (audio, fed) = watch::channel(true);
        tokio::spawn(feed(ends.segments, origin, fed));
        let (clock, identity) = (clock.clone(), identity.clone());
        Self {
            health,
            metrics,
            clock,
            record: ends.record,
            highest_seen: ends.highest_seen,
            stop,
            running,
            identity,
            tree: ends.tree,
            audio,
            _ticks: ends.ticks,
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
