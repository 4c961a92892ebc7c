//! The origin: node, publisher and name of a station, fed by the bench.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skywave::clock::{ClockTrust, SharedClock, SystemClock};
use skywave::health::Health;
use skywave::hls::Segment;
use skywave::hls::timeline::Slot;
use skywave::ipfs::names::NamePublisher;
use skywave::ipfs::{Dht, Identity, IpfsConfig, Node};
use skywave::metrics::Metrics;
use skywave::publisher::stream_tree::StreamTree;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::publisher_stage::{Parts, init};

/// Segments of the window of ten minutes.
pub(crate) const WINDOW: usize = 156;
/// Renditions with the bytes of their segments: what 64, 96 and 192 kb/s make of 3.84 s.
const RENDITIONS: [(&str, usize); 3] = [("lofi", 32_000), ("midfi", 47_000), ("hifi", 93_000)];
const SAMPLES: u64 = 184_320;
const FIRST: u64 = 466_900_000;

/// A node on loopback that knows nobody.
pub(crate) async fn node(folder: &std::path::Path) -> Node {
    let config = IpfsConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        bootstrap: Vec::new(),
        dht: Dht::Off,
        mdns: false,
        hole_punching: false,
        upnp: false,
        ..IpfsConfig::default()
    };
    Node::start(&config, Identity::generate(), folder).await.unwrap()
}

pub(crate) struct Origin {
    pub(crate) node: Arc<Node>,
    segments: mpsc::Sender<Segment>,
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
    /// In the place of retention.
    keep: watch::Sender<u64>,
    began: Instant,
    next: u64,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _ticks: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        // In memory, as on a board.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let node = Arc::new(node(&folder.path().join("ipfs")).await);
        node.blocks().put_pinned(&init()).await.unwrap();
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let (clock, began): (SharedClock, _) =
            (Arc::new(SystemClock::new(ClockTrust::Trusted)), Instant::now());
        let (publisher, ends) = Parts {
            folder: folder.path(),
            renditions: &RENDITIONS.map(|(name, _)| name),
            blocks: node.blocks().clone(),
            identity: node.identity().clone(),
            clock: clock.clone(),
            origin: began,
            playlist_segments: 16,
            record_validity: Duration::from_secs(48 * 3600),
            room: 256,
            health: &health,
            metrics: &metrics,
        }
        .publisher();
        let name = NamePublisher {
            name: node.identity().name(),
            dht_every: Duration::from_secs(60),
            provide: true,
            routing: Arc::new(node.network().unwrap().clone()),
            clock,
            record: ends.record,
            highest_seen: ends.highest_seen,
            overall: health,
            metrics: metrics.names.clone(),
        };
        let (cancel, named) = (stop.clone(), stop.clone());
        let tasks = vec![
            tokio::spawn(async move { publisher.run(cancel).await.unwrap() }),
            tokio::spawn(async move { name.run(named).await.unwrap() }),
        ];
        let (segments, tree, keep, mut told) = (ends.segments, ends.tree, ends.keep_from, ends.ticks);
        let drained = tokio::spawn(async move { while told.recv().await.is_some() {} });
        Self { node, segments, tree, keep, began, next: FIRST, stop, tasks, _ticks: drained, _folder: folder }
    }

    /// Hands a segment to the publisher and waits until it is on air; its number, and the bytes of each rendition.
    pub(crate) async fn send(&mut self) -> (u64, Vec<(&'static str, Bytes)>) {
        let n = self.next;
        self.next += 1;
        self.keep.send_replace((n + 1).saturating_sub(WINDOW as u64));
        // Its airtime is just over.
        let airtime_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap() - 3_840;
        let unix_ms = i64::try_from(n).unwrap() * 3_840;
        let slot = Slot { n, airtime_ms, unix_ms, discontinuity: false };
        let media: Vec<_> = RENDITIONS.iter().map(|(name, bytes)| (*name, noise(n, *bytes))).collect();
        let segment = Segment {
            slot,
            samples: SAMPLES,
            program_date_time_ms: unix_ms,
            media: media.iter().map(|(_, bytes)| bytes.clone()).collect(),
            now_playing: None,
        };
        self.segments.send(segment).await.unwrap();
        self.tree.wait_for(|tree| tree.as_ref().is_some_and(|tree| tree.newest >= n)).await.unwrap();
        (n, media)
    }

    /// The address to dial.
    pub(crate) async fn address(&self) -> String {
        loop {
            if let Some(address) = self.node.addresses().into_iter().next() {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.node.stop().await;
    }
}

/// Bytes that no two segments share.
fn noise(n: u64, length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(n ^ (length as u64) << 32);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into()
}
