//! Blocks and pins in the store are those of the window, the lead and the grace, however long the station runs, and
//! a store that fails costs time, not segments.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod publisher_stage;
    pub(crate) mod simulation;
}

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;
use skywave::clock::{SteppedClock, WallClock};
use skywave::health::Health;
use skywave::hls::Segment;
use skywave::hls::timeline::Slot;
use skywave::ipfs::{Blocks, Identity, IpfsConfig, IpfsError, Node};
use skywave::metrics::Metrics;
use skywave::publisher::catalogue::Catalogue;
use skywave::publisher::stream_tree::{self, StreamTree};
use skywave::retention::{GRACE, Remover, Retention, RetentionConfig};
use skywave::supervisor::Supervisor;
use support::publisher_stage::{self, Parts, SEGMENT};
use support::simulation::{self, OCTOBER_2026, scratch};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Segments that the feeder is ahead of air.
const LEAD: i64 = 8;

/// Publisher and retention under their supervisor, fed with made-up segments.
struct Rig {
    blocks: Blocks,
    health: Health,
    clock: Arc<SteppedClock>,
    origin: Instant,
    catalogue: PathBuf,
    segments: mpsc::Sender<Segment>,
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
    stop: CancellationToken,
    random: fastrand::Rng,
    next: i64,
}

impl Rig {
    fn start(blocks: Blocks, folder: &Path, window: RetentionConfig) -> Self {
        let remover = Arc::new(blocks.clone());
        Self::start_with(blocks, remover, folder, window)
    }

    fn start_with(blocks: Blocks, remover: Arc<dyn Remover>, folder: &Path, window: RetentionConfig) -> Self {
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let (clock, origin) = (SteppedClock::starting_at(OCTOBER_2026), Instant::now());
        let (publisher, ends) = Parts {
            folder,
            renditions: &["lofi", "hifi"],
            blocks: blocks.clone(),
            identity: Identity::generate(),
            clock: clock.clone(),
            origin,
            playlist_segments: 8,
            record_validity: Duration::from_secs(3_600),
            room: 16,
            health: &health,
            metrics: &metrics,
        }
        .publisher();
        let publisher = Arc::new(publisher);
        let retention = Arc::new(Retention {
            window: Mutex::new(window.window(SEGMENT)),
            remover,
            input: Arc::new(Mutex::new(ends.ticks)),
            keep_from: ends.keep_from,
            archive: None,
            leaving: Mutex::new(VecDeque::new()),
            health: health.stage("retention", None),
            metrics: metrics.clone(),
        });
        let supervisor = Supervisor { health: health.clone(), metrics };
        let (other, cancel) = (supervisor.clone(), stop.clone());
        let report = publisher.health.clone();
        tokio::spawn(async move {
            let stage = |cancel| {
                let publisher = publisher.clone();
                async move { publisher.run(cancel).await }
            };
            supervisor.keep_running("publisher", report, cancel, stage).await;
        });
        let (report, cancel) = (retention.health.clone(), stop.clone());
        tokio::spawn(async move {
            let stage = |cancel| {
                let retention = retention.clone();
                async move { retention.run(cancel).await }
            };
            other.keep_running("retention", report, cancel, stage).await;
        });
        let random = fastrand::Rng::with_seed(4);
        let (catalogue, segments, tree) = (ends.catalogue, ends.segments, ends.tree);
        Self { blocks, health, clock, origin, catalogue, segments, tree, stop, random, next: 0 }
    }

    /// Segments as hls makes them: each a lead before its airtime.
    async fn feed(&mut self, bytes: usize) {
        let begin = Duration::from_millis((self.next * 3_840).unsigned_abs());
        tokio::time::sleep_until(self.origin + begin.saturating_sub(SEGMENT * LEAD as u32)).await;
        self.send(bytes).await;
    }

    /// The next segment at once, of bytes that no other has.
    async fn send(&mut self, bytes: usize) {
        let slot = Slot {
            n: 466_900_000 + self.next as u64,
            airtime_ms: self.next * 3_840,
            unix_ms: 466_900_000 * 3_840 + self.next * 3_840,
            discontinuity: self.next > 0 && self.next % 777 == 0,
        };
        let media = (0..2).map(|_| Bytes::from_iter((0..bytes).map(|_| self.random.u8(..)))).collect();
        let program_date_time_ms = slot.unix_ms - 43;
        let segment = Segment { slot, samples: 184_320, program_date_time_ms, media, now_playing: None };
        self.segments.send(segment).await.unwrap();
        self.next += 1;
    }

    async fn tick(&mut self) -> Arc<StreamTree> {
        timeout(Duration::from_secs(60), self.tree.changed()).await.expect("a tick").unwrap();
        self.tree.borrow_and_update().clone().unwrap()
    }

    /// What has to be there: the window, the lead, and the tree with its directories.
    fn needed(&self, tree: &StreamTree) -> BTreeSet<Cid> {
        let catalogue: Catalogue = serde_json::from_slice(&std::fs::read(&self.catalogue).unwrap()).unwrap();
        let (_, directories) = stream_tree::build(tree.newest, tree.entries.clone());
        let files = tree.entries.values().map(|entry| entry.cid);
        files.chain(directories.iter().map(|block| block.cid)).chain(catalogue.needed()).collect()
    }

    async fn held(&self) -> BTreeSet<Cid> {
        // The store lists by hash alone; the test compares hashes.
        self.blocks.list().await.iter().map(raw).collect()
    }

    async fn until_restarted(&self, times: u64) {
        let restarted = async {
            while self.restarts("publisher") < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(120), restarted).await.expect("the stage fails and is tried again");
    }

    fn last_error(&self, name: &str) -> String {
        let report = self.health.report();
        let stage = report.stages.iter().find(|stage| stage.name == name);
        stage
            .and_then(|stage| stage.last_error.as_ref())
            .map_or_else(String::new, |error| error.message.clone())
    }

    fn restarts(&self, name: &str) -> u64 {
        let report = self.health.report();
        report.stages.iter().find(|stage| stage.name == name).map_or(0, |stage| stage.restarts)
    }
}

fn window(seconds: u64, megabytes: u64) -> RetentionConfig {
    RetentionConfig { window: Duration::from_secs(seconds), megabytes, ..RetentionConfig::default() }
}

fn raw(cid: &Cid) -> Cid {
    Cid::new_v1(0x55, *cid.hash())
}

/// Resident memory in bytes (proc(5), /proc/pid/statm); 0 where the system does not say.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

/// When each block was needed last; tells what may and what must be in the store.
#[derive(Default)]
struct Memory {
    last_needed: HashMap<Cid, Instant>,
}

impl Memory {
    fn note(&mut self, needed: &BTreeSet<Cid>) {
        let now = Instant::now();
        self.last_needed.extend(needed.iter().map(|cid| (raw(cid), now)));
        self.last_needed.retain(|_, last| now - *last <= GRACE + 3 * SEGMENT);
    }

    /// All that is or was needed within the grace is held, and nothing that was not for longer.
    fn judge(&self, held: &BTreeSet<Cid>, pinned: &BTreeSet<Cid>, init: &Cid) {
        let now = Instant::now();
        let lost = |(_, last): &(&Cid, &Instant)| now - **last < GRACE;
        let lost: Vec<_> =
            self.last_needed.iter().filter(lost).filter(|(cid, _)| !held.contains(cid)).collect();
        assert!(lost.iter().all(|(cid, _)| *cid == init), "gone too early: {lost:?}");
        let stale: Vec<_> = held.iter().filter(|cid| !self.last_needed.contains_key(cid)).collect();
        assert!(stale.is_empty(), "{} blocks are kept that nothing needs", stale.len());
        assert_eq!(held, pinned, "blocks and pins");
    }
}

/// In a process of its own: the memory of the tests beside it is none of its business.
#[test]
fn after_thousands_of_ticks_the_store_holds_window_lead_and_grace_and_memory_is_flat() {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "thousands_of_ticks", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test(start_paused = true)]
#[ignore = "runs in the process that the test above makes"]
async fn thousands_of_ticks() {
    let folder = scratch();
    let window = window(120, 1);
    let mut rig = Rig::start(Blocks::in_memory(), folder.path(), window);
    let (mut memory, mut newest, mut settled) = (Memory::default(), 0, 0);
    let init = publisher_stage::init().cid;
    for tick in 0..10_000 {
        rig.feed(300).await;
        if tick < LEAD + 2 {
            continue;
        }
        let tree = rig.tick().await;
        assert!(tree.newest > newest, "{} after {newest}", tree.newest);
        newest = tree.newest;
        memory.note(&rig.needed(&tree));
        if tick % 97 == 0 {
            // Lets the removals that are due at this very moment happen.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let pinned = rig.blocks.pinned().await.unwrap().iter().map(raw).collect();
            memory.judge(&rig.held().await, &pinned, &init);
            let segments = tree.entries.keys().filter(|path| path.ends_with(".m4s")).count() / 2;
            assert!(tick < 100 || (31..=33).contains(&segments), "{segments} segments in a window of 120 s");
        }
        if tick == 2_000 {
            settled = resident();
        }
    }
    let grown = resident().saturating_sub(settled);
    assert!(grown < 4_000_000, "{grown} bytes more after 8,000 ticks");
    assert_eq!((rig.restarts("publisher"), rig.restarts("retention")), (0, 0));
    rig.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn the_byte_limit_shortens_the_window_and_never_below_three_segments() {
    for (bytes, least, most) in [(50_000, 9, 11), (400_000, 3, 4)] {
        let folder = scratch();
        let window = window(3_600, 1);
        let mut rig = Rig::start(Blocks::in_memory(), folder.path(), window);
        for tick in 0..60 {
            rig.feed(bytes).await;
            if tick < LEAD + 2 {
                continue;
            }
            let tree = rig.tick().await;
            let media: BTreeMap<_, _> =
                tree.entries.iter().filter(|(path, _)| path.ends_with(".m4s")).collect();
            let segments = media.len() / 2;
            assert!(
                tick < 40 || (least..=most).contains(&segments),
                "{segments} segments of 2 x {bytes} bytes"
            );
        }
        tokio::time::sleep(GRACE).await;
        let blocks = rig.held().await.len();
        assert!(blocks < 2 * (most + LEAD as usize + 3) + 120, "{blocks} blocks");
        rig.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_writes_for_a_while_costs_no_segment() {
    let folder = scratch();
    let repo = folder.path().join("repo");
    let config = IpfsConfig { offline: true, ..IpfsConfig::default() };
    let node = Node::start(&config, Identity::generate(), &repo).await.unwrap();
    let window = window(600, 64);
    let mut rig = Rig::start(node.blocks().clone(), folder.path(), window);
    let mut newest = 0;
    for _ in 0..LEAD + 6 {
        rig.feed(300).await;
    }
    // Between two ticks, so that storing the segment is what fails first.
    tokio::time::sleep(SEGMENT / 4).await;
    // A plain file in place of the folder: no block can be written, whoever asks.
    let (store, aside) = (repo.join("blockstore"), repo.join("aside"));
    std::fs::rename(&store, &aside).unwrap();
    std::fs::write(&store, b"").unwrap();
    rig.send(300).await;
    rig.until_restarted(1).await;
    let error = rig.last_error("publisher");
    assert!(error.contains("cannot store segment 466900014"), "{error}");
    rig.until_restarted(4).await;
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&aside, &store).unwrap();
    for _ in 0..40 {
        rig.feed(300).await;
        let tree = rig.tree.borrow().clone().unwrap();
        assert!(tree.newest >= newest, "{} after {newest}", tree.newest);
        newest = tree.newest;
    }
    let newest = rig.tick().await.newest;
    assert!(newest as i64 * 3_840 > rig.clock.unix_millis() - 12_000, "the air has caught up");
    let tree = rig.tree.borrow().clone().unwrap();
    for n in 466_900_000..=newest {
        let entry =
            tree.entries.get(&format!("hifi/{n}.m4s")).unwrap_or_else(|| panic!("segment {n} was lost"));
        assert!(rig.blocks.contains(&entry.cid).await.unwrap(), "segment {n}");
    }
    rig.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_station_that_runs_dry_says_that_it_is_off_air_and_comes_back() {
    let folder = scratch();
    let mut rig = Rig::start(Blocks::in_memory(), folder.path(), RetentionConfig::default());
    for _ in 0..LEAD + 4 {
        rig.feed(1_000).await;
    }
    rig.tree.wait_for(Option::is_some).await.unwrap();
    assert!(rig.health.ready());
    // The lead, and the three segments that players have in hand.
    tokio::time::sleep(SEGMENT * (LEAD as u32 + 5)).await;
    let report = rig.health.report();
    assert!(!report.on_air && report.lead_seconds == 0.0, "{report:#?}");
    assert!(report.off_air_reason.unwrap().contains("no audio"));
    rig.feed(1_000).await;
    let health = rig.health.clone();
    timeout(SEGMENT * 4, rig.tree.changed()).await.unwrap().unwrap();
    assert!(
        timeout(SEGMENT, async {
            while !health.ready() {
                tokio::task::yield_now().await
            }
        })
        .await
        .is_ok()
    );
}

/// A store that takes for ever over a removal while it is told to.
struct Hanging {
    blocks: Blocks,
    hangs: watch::Sender<bool>,
}

impl Remover for Hanging {
    fn remove(&self, cid: Cid) -> BoxFuture<'_, Result<(), IpfsError>> {
        Box::pin(async move {
            let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
            self.blocks.remove(&cid).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_at_removing_holds_up_no_tick_and_is_clean_again_afterwards() {
    let folder = scratch();
    let blocks = Blocks::in_memory();
    let hanging = Arc::new(Hanging { blocks: blocks.clone(), hangs: watch::channel(true).0 });
    let mut rig = Rig::start_with(blocks, hanging.clone(), folder.path(), window(60, 1));
    let mut memory = Memory::default();
    let mut last = None;
    for tick in 0..400 {
        rig.feed(300).await;
        if tick < LEAD + 2 {
            continue;
        }
        let tree = rig.tick().await;
        memory.note(&rig.needed(&tree));
        let now = Instant::now();
        let gap = last.replace(now).map_or(SEGMENT, |last| now - last);
        assert!(tick < LEAD + 8 || gap <= SEGMENT + Duration::from_millis(20), "{gap:?} before tick {tick}");
        let segments = tree.entries.keys().filter(|path| path.ends_with(".m4s")).count() / 2;
        assert!(segments <= 17, "{segments} segments: the window goes on meanwhile");
        if tick == 300 {
            assert!(rig.held().await.len() > 2_000, "nothing was removed so far");
            hanging.hangs.send_replace(false);
        }
    }
    let (held, init) = (rig.held().await, publisher_stage::init().cid);
    memory.judge(&held, &rig.blocks.pinned().await.unwrap().iter().map(raw).collect(), &init);
    assert_eq!((rig.restarts("publisher"), rig.restarts("retention")), (0, 0));
    rig.stop.cancel();
}

/// The shard folders of a repo, and how many of them are empty.
fn shards(repo: &Path) -> (usize, usize) {
    let stores = ["blockstore", "datastore/pins"].map(|store| repo.join(store));
    let all: Vec<_> = stores.iter().flat_map(|store| std::fs::read_dir(store).unwrap()).flatten().collect();
    let folders = all.iter().filter(|entry| entry.path().is_dir());
    let empty = folders.clone().filter(|entry| std::fs::read_dir(entry.path()).unwrap().next().is_none());
    (folders.clone().count(), empty.count())
}

#[tokio::test(start_paused = true)]
async fn a_start_leaves_no_empty_folder_and_nothing_that_is_older_than_the_window() {
    let folder = scratch();
    let config = simulation::config(folder.path());
    let clock = SteppedClock::starting_at(OCTOBER_2026);
    let mut station = simulation::Station::start(&config, &clock).await;
    for _ in 0..120 {
        station.tick().await;
    }
    station.appliance.stop().await;
    let (all, empty) = shards(&config.repo());
    // Two characters in base 32 name a shard: more than these there can never be.
    assert!(all <= 2 * 1_024 && empty > 0, "{all} shards, {empty} of them empty");
    // An hour later.
    clock.step(3_600_000);
    let mut station = simulation::Station::start(&config, &clock).await;
    let (all, empty) = shards(&config.repo());
    assert!(all > 0 && empty == 0, "{empty} of {all} shards are empty");
    let mut tree = station.tick().await;
    for _ in 0..4 {
        tree = station.tick().await;
    }
    let segments = tree.entries.keys().filter_map(|path| path.split_once('/')?.1.strip_suffix(".m4s"));
    let numbers: Vec<u64> = segments.map(|n| n.parse().unwrap()).collect();
    assert!(numbers.iter().all(|n| tree.newest - n < 60_000 / 3_840 + 1), "{numbers:?}");
    assert!(!numbers.is_empty());
    station.appliance.stop().await;
}
