//! A tick of the publisher on the real block store: a segment of three renditions stored and on air, alone and while old
//! blocks are removed beside it without a pause. Figures and method: docs/benchmarks.md.
//!
//! `cargo bench --bench tick -- [ticks]`. The repo is in /dev/shm where there is one, as on a board.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench talks to whoever runs it"
)]

#[path = "../tests/support"]
mod support {
    pub(crate) mod publisher_stage;
}

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use skywave::clock::{SteppedClock, WallClock};
use skywave::health::Health;
use skywave::hls::Segment;
use skywave::hls::timeline::Slot;
use skywave::ipfs::{Block, Identity, IpfsConfig, Node};
use skywave::metrics::Metrics;
use skywave::publisher::stream_tree::StreamTree;
use skywave::retention::{Retention, RetentionConfig};
use support::publisher_stage::{Parts, SEGMENT};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// 2026-10-25.
const FIRST: u64 = 466_900_000;
/// Blocks that are ready to be removed for each tick that is measured: more than there is time for.
const REMOVALS_PER_TICK: usize = 60;
/// Bytes of each of those.
const REMOVED_BYTES: usize = 1_000;
/// Renditions and the bytes of a segment of each.
const RENDITIONS: [(&str, usize); 3] = [("lofi", 31_500), ("midfi", 47_000), ("hifi", 93_500)];

fn main() {
    let ticks = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(500);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("window    segments           tick p50     p99     max     stored and on air p50   p99");
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
    for n in 0..fill {
        // A window of hours is filled with small segments: its directories and playlists are what counts.
        let shrink = if fill > 1_000 { 100 } else { 1 };
        station.air(n as u64, media(&mut random, shrink)).await;
    }
    let quiet = station.measure(fill, ticks, &mut random).await;
    let removed = station.metrics.blocks_removed.get();
    let cleaning = station.clean(ticks * REMOVALS_PER_TICK).await;
    let cleaned = station.measure(fill + ticks, ticks, &mut random).await;
    let removed = station.metrics.blocks_removed.get() - removed;
    drop(cleaning);
    let segments = station.tree.borrow().as_ref().unwrap().entries.len() / RENDITIONS.len();
    for (what, times) in [("alone", &quiet), ("cleaning", &cleaned)] {
        println!(
            "{name:8} {segments:9} {what:9} {:8.2} {:7.2} {:7.2} ms {:18.2} {:8.2} ms",
            of(&times.alone, 50),
            of(&times.alone, 99),
            of(&times.alone, 100),
            of(&times.all, 50),
            of(&times.all, 99),
        );
    }
    let (without, with) = (of(&quiet.alone, 100), of(&cleaned.alone, 100));
    println!(
        "{name:8} largest tick: {without:.2} ms alone, {with:.2} ms while {removed} blocks were removed: {:.2} to 1",
        with / without
    );
    station.stop.cancel();
}

/// Bytes of a segment, each rendition shrunk.
fn media(random: &mut fastrand::Rng, shrink: usize) -> Vec<Bytes> {
    RENDITIONS.map(|(_, bytes)| Bytes::from_iter((0..bytes / shrink).map(|_| random.u8(..)))).into()
}

/// The duration that this share of them, in percent, does not exceed, in milliseconds.
fn of(times: &[Duration], share: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1_000.0
}

/// Of every tick that was measured: the tick alone, and from the segment's coming until it was on air.
struct Times {
    alone: Vec<Duration>,
    all: Vec<Duration>,
}

struct OnAir {
    segments: mpsc::Sender<Segment>,
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
    metrics: Metrics,
    stop: CancellationToken,
    spent: f64,
    node: Node,
}

impl OnAir {
    async fn start(folder: &Path, config: RetentionConfig) -> Self {
        let offline = IpfsConfig { offline: true, ..IpfsConfig::default() };
        let repo = folder.join("repo");
        let node = Node::start(&offline, Identity::generate(), &repo).await.unwrap();
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let now = (FIRST * 3_840) as i64 + 100_000_000;
        let (publisher, ends) = Parts {
            folder: &repo,
            renditions: &RENDITIONS.map(|(name, _)| name),
            blocks: node.blocks().clone(),
            identity: Identity::generate(),
            clock: SteppedClock::starting_at(now) as Arc<dyn WallClock>,
            origin: Instant::now(),
            playlist_segments: 16,
            record_validity: Duration::from_secs(3_600),
            room: 256,
            health: &health,
            metrics: &metrics,
        }
        .publisher();
        let (one, other) = (stop.clone(), stop.clone());
        tokio::spawn(async move { publisher.run(one).await });
        let retention = Retention {
            window: Mutex::new(config.window(SEGMENT)),
            remover: Arc::new(node.blocks().clone()),
            input: Arc::new(Mutex::new(ends.ticks)),
            keep_from: ends.keep_from,
            archive: None,
            leaving: Mutex::new(VecDeque::new()),
            health: health.stage("retention", None),
            metrics: metrics.clone(),
        };
        tokio::spawn(async move { retention.run(other).await });
        Self { segments: ends.segments, tree: ends.tree, metrics, stop, spent: 0.0, node }
    }

    /// Stores blocks, and has a second stage remove them from now on, as fast as it can. The other one keeps what it was
    /// told of for minutes. Ends with what is returned.
    async fn clean(&self, blocks: usize) -> mpsc::Sender<skywave::publisher::Tick> {
        let mut leaving: VecDeque<(Instant, Cid)> = VecDeque::with_capacity(blocks);
        for n in 0..blocks {
            let block = Block::raw([n.to_le_bytes().as_slice(), &[0; REMOVED_BYTES]].concat());
            self.node.blocks().put_pinned(&block).await.unwrap();
            leaving.push_back((Instant::now(), block.cid));
        }
        let (ticks, input) = mpsc::channel(1);
        let retention = Retention {
            window: Mutex::new(RetentionConfig::default().window(SEGMENT)),
            remover: Arc::new(self.node.blocks().clone()),
            input: Arc::new(Mutex::new(input)),
            keep_from: watch::channel(0).0,
            archive: None,
            leaving: Mutex::new(leaving),
            health: Health::new().stage("cleaning", None),
            metrics: self.metrics.clone(),
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { retention.run(stop).await });
        ticks
    }

    /// Airs `ticks` segments of full size from the `from`th on.
    async fn measure(&mut self, from: usize, ticks: usize, random: &mut fastrand::Rng) -> Times {
        let mut times = Times { alone: Vec::new(), all: Vec::new() };
        for n in from..from + ticks {
            let media = media(random, 1);
            let began = Instant::now();
            times.alone.push(self.air(n as u64, media).await);
            times.all.push(began.elapsed());
        }
        times
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
