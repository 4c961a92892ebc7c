//! A tick of the publisher on the real block store: a segment of three renditions stored, on air, and old ones removed
//! beside it. Figures and method: docs/benchmarks.md.
//!
//! `cargo bench --bench tick -- [ticks]`. The repo is in /dev/shm where there is one, as on a board.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench talks to whoever runs it"
)]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skywave::clock::{SteppedClock, WallClock};
use skywave::encoder::CodecParameters;
use skywave::health::Health;
use skywave::hls::Segment;
use skywave::hls::timeline::Slot;
use skywave::ipfs::{Block, Identity, IpfsConfig, Node};
use skywave::metrics::Metrics;
use skywave::publisher::catalogue::Catalogue;
use skywave::publisher::numbers::Numbers;
use skywave::publisher::stream_tree::{Entry, StreamTree};
use skywave::publisher::{Published, Publisher, PublisherSettings, Station};
use skywave::retention::{Retention, RetentionConfig};
use skywave::state::{Durability, StateFile};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// 2026-10-25.
const FIRST: u64 = 466_900_000;
const SEGMENT: Duration = Duration::from_millis(3_840);
/// Renditions and the bytes of a segment of each.
const RENDITIONS: [(&str, usize); 3] = [("lofi", 31_500), ("midfi", 47_000), ("hifi", 93_500)];

fn main() {
    let ticks = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(500);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("window    segments  tick p50   p99    max     stored and on air p50   p99");
    for (name, minutes, megabytes) in [("10 min", 10, 64), ("4 h", 240, 4_000)] {
        runtime.block_on(window(name, minutes, megabytes, ticks));
    }
}

/// Fills the window with segments of the past, which are on air as soon as they are stored, and measures what follows.
async fn window(name: &str, minutes: u64, megabytes: u64, ticks: usize) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let retention = RetentionConfig {
        window: Duration::from_secs(minutes * 60),
        megabytes,
        ..RetentionConfig::default()
    };
    let fill = (minutes * 60_000).div_ceil(3_840) as usize + 8;
    let mut station = OnAir::start(folder.path(), retention).await;
    let mut random = fastrand::Rng::with_seed(1);
    let (mut all, mut alone) = (Vec::new(), Vec::new());
    for n in 0..fill + ticks {
        // A window of hours is filled with small segments: its directories and playlists are what counts.
        let shrink = if n < fill && fill > 1_000 { 100 } else { 1 };
        let media = RENDITIONS.map(|(_, bytes)| Bytes::from_iter((0..bytes / shrink).map(|_| random.u8(..))));
        let began = Instant::now();
        let tick = station.air(n as u64, media.into()).await;
        if n >= fill {
            all.push(began.elapsed());
            alone.push(tick);
        }
    }
    let segments = station.tree.borrow().as_ref().unwrap().entries.len() / RENDITIONS.len();
    let of = |times: &mut Vec<Duration>, share: usize| {
        times.sort();
        times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1_000.0
    };
    println!(
        "{name:8} {segments:9} {:8.2} {:7.2} {:6.2} ms {:18.2} {:8.2} ms",
        of(&mut alone, 50),
        of(&mut alone, 99),
        of(&mut alone, 100),
        of(&mut all, 50),
        of(&mut all, 99),
    );
    station.stop.cancel();
}

struct OnAir {
    segments: mpsc::Sender<Segment>,
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
    metrics: Metrics,
    stop: CancellationToken,
    spent: f64,
    _node: Node,
}

impl OnAir {
    async fn start(folder: &Path, config: RetentionConfig) -> Self {
        let offline = IpfsConfig { offline: true, ..IpfsConfig::default() };
        let repo = folder.join("repo");
        let node = Node::start(&offline, Identity::generate(), &repo).await.unwrap();
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let (segments, input) = mpsc::channel(1);
        let (keep_sender, keep_from) = watch::channel(0);
        let (ticks, tick_input) = mpsc::channel(256);
        let (tree_sender, tree) = watch::channel(None);
        let now = (FIRST * 3_840) as i64 + 100_000_000;
        let publisher = Publisher {
            settings: PublisherSettings {
                segment: SEGMENT,
                target_duration: 4,
                playlist_segments: 16,
                record_validity: Duration::from_secs(3_600),
                record_ttl: Duration::from_secs(5),
            },
            blocks: node.blocks().clone(),
            identity: Identity::generate(),
            clock: SteppedClock::starting_at(now) as Arc<dyn WallClock>,
            origin: Instant::now(),
            published: Arc::new(Mutex::new(published(&repo))),
            catalogue_file: StateFile::new(repo.join("window.json"), Durability::Process),
            input: Arc::new(Mutex::new(input)),
            keep_from,
            archive: watch::channel(None).1,
            addresses: watch::channel(Vec::new()).1,
            tree: tree_sender,
            record: watch::channel(None).0,
            highest_seen: watch::channel(0).1,
            station_json: watch::channel(Bytes::new()).0,
            ticks,
            overall: health.clone(),
            health: health.stage("publisher", None),
            metrics: metrics.clone(),
        };
        let retention = Retention {
            window: Mutex::new(config.window(SEGMENT)),
            remover: Arc::new(node.blocks().clone()),
            input: Arc::new(Mutex::new(tick_input)),
            keep_from: keep_sender,
            archive: None,
            leaving: Mutex::new(VecDeque::new()),
            health: health.stage("retention", None),
            metrics: metrics.clone(),
        };
        let (one, other) = (stop.clone(), stop.clone());
        tokio::spawn(async move { publisher.run(one).await });
        tokio::spawn(async move { retention.run(other).await });
        Self { segments, tree, metrics, stop, spent: 0.0, _node: node }
    }

    /// Puts a segment on air; returns how long the tick itself took.
    async fn air(&mut self, n: u64, media: Vec<Bytes>) -> Duration {
        let number = FIRST + n;
        let slot = Slot {
            n: number,
            // Long past, so that it is due as soon as it is stored.
            airtime_ms: n as i64 - 10_000_000,
            unix_ms: (number * 3_840) as i64,
            discontinuity: false,
        };
        let program_date_time_ms = slot.unix_ms - 43;
        let segment = Segment { slot, samples: 184_320, program_date_time_ms, media, now_playing: None };
        self.segments.send(segment).await.unwrap();
        self.tree.changed().await.unwrap();
        self.tree.borrow_and_update();
        // The tick counts itself a moment after it has shown its tree.
        loop {
            let text = self.metrics.encode();
            let sum = text.lines().find_map(|line| line.strip_prefix("skywave_tick_seconds_sum "));
            let sum: f64 = sum.and_then(|sum| sum.parse().ok()).unwrap_or(0.0);
            if sum > self.spent {
                return Duration::from_secs_f64(sum - std::mem::replace(&mut self.spent, sum));
            }
            tokio::task::yield_now().await;
        }
    }
}

fn published(repo: &Path) -> Published {
    let parameters = RENDITIONS.map(|(name, _)| CodecParameters {
        rendition: name.into(),
        bitrate: 64_000,
        audio_specific_config: vec![0x11, 0x90],
        delay: 2_048,
    });
    let init = vec![Entry::from(&Block::raw("init")); 3];
    let numbers = StateFile::new(repo.join("numbers.json"), Durability::Process);
    let numbers = Numbers::load(numbers, 3_840, 1_000).unwrap();
    let station = Station::new("Bench".into(), "k51".into());
    Published::new(Catalogue::new(3_840, parameters.into(), init, 0), numbers, station)
}
