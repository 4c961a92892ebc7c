//! What a mirror gets, and what becomes of it when the mirror fails in every way that a kubo and a network can fail.
//!
//! The mirror is a kubo of this file's own, reached over pipes in memory under simulated time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod mirror_kubo;
    pub(crate) mod simulation;
}

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt;
use skywave::clock::SteppedClock;
use skywave::health::{Health, MirrorState};
use skywave::http_client::{Client, Endpoint, Tcp};
use skywave::ipfs::traversal::Walk;
use skywave::ipfs::{Block, Blocks};
use skywave::metrics::Metrics;
use skywave::mirror::kubo::Kubo;
use skywave::mirror::{Mirror, MirrorConfig, Mirrors};
use skywave::publisher::stream_tree::{self, Entry, StreamTree};
use support::mirror_kubo::{FakeKubo, Mode, Pipes};
use support::simulation::{Listener, OCTOBER_2026, Station, config, scratch};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_millis(3_840);
/// Segments that the window holds.
const WINDOW: usize = 12;
/// Ticks for which the blocks of a tick are held after it.
const GRACE: usize = 15;
const PIN_NAME: &str = "skywave/k51test";
const TOKEN: &str = "bearer:of-the-test";

/// A publisher and its retention, in short, and the mirror stage behind them.
struct Rig {
    blocks: Blocks,
    tree: watch::Sender<Option<Arc<StreamTree>>>,
    window: VecDeque<(u64, Block)>,
    /// Blocks of the ticks within the grace, oldest first.
    held: VecDeque<HashSet<Cid>>,
    newest: u64,
    roots: Vec<Cid>,
    kubo: Arc<FakeKubo>,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Rig {
    fn start(kubo: Arc<FakeKubo>, queue: usize) -> Self {
        let (tree, receiver) = watch::channel(None);
        let (blocks, health, metrics) = (Blocks::in_memory(), Health::new(), Metrics::new());
        let endpoint = Endpoint::parse("http://kubo.test:5001", Some(TOKEN)).unwrap();
        let mirror = Mirror {
            name: "nas".into(),
            kubo: Kubo::new(Client::new(endpoint, Arc::new(Pipes(kubo.clone())))),
            pin_name: PIN_NAME.into(),
            queue,
            blocks: blocks.clone(),
            tree: receiver,
            health: health.mirror("nas"),
            metrics: metrics.clone(),
        };
        let (mirrors, stop) = (Mirrors { mirrors: vec![mirror] }, CancellationToken::new());
        let cancel = stop.clone();
        tokio::spawn(async move { mirrors.run(cancel).await });
        let (window, held) = (VecDeque::new(), VecDeque::new());
        Self { blocks, tree, window, held, newest: 0, roots: Vec::new(), kubo, health, metrics, stop }
    }

    /// One segment more on air, the oldest out of the window, and blocks removed that are past their grace.
    async fn tick(&mut self) -> Cid {
        self.newest += 1;
        let segment = Block::raw(format!("segment {} ", self.newest).repeat(300));
        self.window.push_back((self.newest, segment));
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        let mut files: Vec<_> =
            self.window.iter().map(|(n, b)| (format!("hifi/{n}.m4s"), b.clone())).collect();
        files.push(("hifi/live.m3u8".into(), Block::raw(format!("#{}", self.newest))));
        files.push(("stream.m3u8".into(), Block::raw("always the same")));
        files.push(("lofi/live.m3u8".into(), Block::raw("a folder that stays the same")));
        let entries: HashMap<_, _> = files.iter().map(|(path, b)| (path.clone(), Entry::from(b))).collect();
        let (tree, directories) = stream_tree::build(self.newest, entries);
        let all: Vec<Block> = files.into_iter().map(|(_, block)| block).chain(directories).collect();
        for block in &all {
            self.blocks.put_pinned(block).await.unwrap();
        }
        self.held.push_back(all.iter().map(|block| block.cid).collect());
        if self.held.len() > GRACE {
            let gone = self.held.pop_front().unwrap();
            for cid in gone.iter().filter(|cid| !self.held.iter().any(|held| held.contains(cid))) {
                self.blocks.remove(cid).await.unwrap();
            }
        }
        let root = tree.root;
        self.roots.push(root);
        self.tree.send_replace(Some(Arc::new(tree)));
        root
    }

    /// Ticks at the pace of the air. The mirror never has more waiting than its queue and the one in work.
    async fn ticks(&mut self, count: usize, queue: usize) {
        for _ in 0..count {
            self.tick().await;
            sleep(TICK).await;
            let lag = self.report().lag_ticks;
            assert!(lag <= queue + 1, "{lag} ticks wait");
        }
    }

    fn report(&self) -> skywave::health::MirrorReport {
        self.health.report().mirrors[0].clone()
    }

    fn counted(&self, series: &str) -> u64 {
        let page = self.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("skywave_{series} ")));
        line.map_or(0, |number| number.parse().unwrap())
    }

    /// Waits until the mirror says that it holds the newest tree, and looks whether it does: all of it, and nothing
    /// else pinned under our name.
    async fn settled(&self) {
        let newest = *self.roots.last().unwrap();
        let state = || self.report().state == MirrorState::Current && self.kubo.pins(PIN_NAME) == [newest];
        let waited = timeout(Duration::from_secs(120), async {
            while !state() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{:#?}, pinned {:?}", self.report(), self.kubo.pins(PIN_NAME));
        let walk = Walk::new(&self.blocks, newest).into_stream();
        let whole: Vec<Block> = walk.try_collect().await.unwrap();
        for block in whole {
            assert_eq!(self.kubo.block(&block.cid), Some(block.data), "{}", block.cid);
        }
        assert_eq!(self.report().newest, Some(self.newest));
    }

    /// The roots that the mirror pinned, by the number of their tick.
    fn pinned_in_order(&self) -> Vec<usize> {
        let number = |root| self.roots.iter().position(|known| *known == root).unwrap();
        self.kubo.pinned_in_order().into_iter().map(number).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_one_car_of_what_is_new_and_only_the_newest_root_stays_pinned() {
    let mut rig = Rig::start(FakeKubo::new(TOKEN), 4);
    let mut before = HashSet::new();
    for tick in 0..40 {
        let root = rig.tick().await;
        rig.settled().await;
        let imports = rig.kubo.imports();
        assert_eq!(imports.len(), tick + 1, "one CAR a tick");
        let car = imports.last().unwrap();
        let walk = Walk::new(&rig.blocks, root).into_stream();
        let whole: Vec<Cid> = walk.map_ok(|block| block.cid).try_collect().await.unwrap();
        let fresh: Vec<Cid> = whole.iter().copied().filter(|cid| !before.contains(cid)).collect();
        assert_eq!(*car, fresh, "the root first, and exactly what is new");
        assert!(tick == 0 || car.len() <= 4, "segment, playlist, folder, root: {}", car.len());
        before = whole.into_iter().collect();
        // kubo's garbage collection at its worst: nothing is left but what is pinned.
        rig.kubo.collect_garbage();
        assert_eq!(rig.kubo.len(), before.len());
        sleep(TICK).await;
    }
    assert_eq!(rig.pinned_in_order(), (0..40).collect::<Vec<_>>());
    assert_eq!(rig.counted("mirror_pushes_total{mirror=\"nas\",result=\"ok\"}"), 40);
    assert_eq!(rig.counted("mirror_lag_ticks{mirror=\"nas\"}"), 0);
    assert!(rig.counted("mirror_bytes_total{mirror=\"nas\"}") > 40 * 3_000);
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_the_mirror_is_whole_again_soon_after() {
    for (mode, words) in [
        (Mode::Away, "cannot connect to kubo.test:5001"),
        (Mode::ConnectHangs, "cannot connect to kubo.test:5001"),
        (Mode::Hangs, "nothing moved for 30 s"),
        (Mode::Fails, "status 500: no space left on device"),
        (Mode::Refuses, "refused with status 403; check `authorization`"),
        (Mode::BreaksOff, "broke off"),
        (Mode::Babbles, "no JSON"),
        (Mode::FailsToPin, "could not pin"),
        (Mode::RefusesNames, "pin/add: refused with status 403"),
        (Mode::SaysNothing, "does not say whether the root is pinned"),
    ] {
        let mut rig = Rig::start(FakeKubo::new(TOKEN), 4);
        rig.ticks(3, 4).await;
        rig.settled().await;
        rig.kubo.set_mode(mode);
        rig.ticks(25, 4).await;
        let report = rig.report();
        let error = report.last_error.unwrap().message;
        assert!(report.state == MirrorState::Failing && error.contains(words), "{mode:?}: {error}");
        assert!(!error.contains("of-the-test"), "{error}");
        assert_eq!(rig.kubo.pins(""), [], "{mode:?}: pins that nobody finds again");
        assert!(rig.counted("mirror_ticks_merged_total{mirror=\"nas\"}") > 10, "{mode:?}");
        rig.kubo.set_mode(Mode::Works);
        rig.ticks(8, 4).await;
        rig.settled().await;
        let order = rig.pinned_in_order();
        assert!(order.is_sorted(), "{mode:?}: {order:?}");
        rig.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_short_absence_every_root_gets_there_in_order() {
    let mut rig = Rig::start(FakeKubo::new(TOKEN), 16);
    rig.ticks(4, 16).await;
    for mode in [Mode::Away, Mode::Fails, Mode::BreaksOff] {
        rig.kubo.set_mode(mode);
        rig.ticks(6, 16).await;
        rig.kubo.set_mode(Mode::Works);
        rig.ticks(10, 16).await;
        rig.settled().await;
    }
    assert_eq!(rig.pinned_in_order(), (0..rig.roots.len()).collect::<Vec<_>>());
    assert_eq!(rig.counted("mirror_ticks_merged_total{mirror=\"nas\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn ticks_whose_blocks_are_gone_are_merged_into_the_next() {
    // The queue is longer than the blocks are held.
    let mut rig = Rig::start(FakeKubo::new(TOKEN), 100);
    rig.ticks(3, 100).await;
    rig.kubo.set_mode(Mode::Away);
    rig.ticks(60, 100).await;
    rig.kubo.set_mode(Mode::Works);
    rig.ticks(10, 100).await;
    rig.settled().await;
    let order = rig.pinned_in_order();
    let merged = rig.counted("mirror_ticks_merged_total{mirror=\"nas\"}") as usize;
    assert!(merged > 30 && order.len() + merged == 73 && order.is_sorted(), "{merged} merged: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_lost_its_blocks_gets_the_whole_tree_again() {
    let mut rig = Rig::start(FakeKubo::new(TOKEN), 4);
    rig.ticks(20, 4).await;
    rig.settled().await;
    rig.kubo.forget_everything();
    rig.ticks(2, 4).await;
    rig.settled().await;
    assert!(rig.report().last_error.unwrap().message.contains("could not pin"));
}

#[tokio::test(start_paused = true)]
async fn pins_that_a_crash_of_ours_left_are_removed_and_those_of_others_are_not() {
    let kubo = FakeKubo::new(TOKEN);
    let left: Vec<Cid> = (0..3_u8).map(|n| Block::raw(vec![n]).cid).collect();
    kubo.add_pin(left[0], PIN_NAME);
    kubo.add_pin(left[1], &format!("{PIN_NAME}-of-another"));
    kubo.add_pin(left[2], "");
    let mut rig = Rig::start(kubo, 4);
    rig.ticks(1, 4).await;
    rig.settled().await;
    assert_eq!(rig.kubo.pins(&format!("{PIN_NAME}-of-another")), [left[1]]);
    assert_eq!(rig.kubo.pins(""), [left[2]]);
    // A second run of ours against the same kubo.
    rig.stop.cancel();
    let mut rig = Rig::start(rig.kubo.clone(), 4);
    rig.newest = 50;
    rig.ticks(2, 4).await;
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_hangs_costs_the_air_nothing() {
    let folder = scratch();
    let (mut config, clock) = (config(folder.path()), SteppedClock::starting_at(OCTOBER_2026));
    // Takes connections into its backlog and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = |url: String| MirrorConfig { url, name: None, authorization: None, ca: None, queue: 2 };
    config.mirror =
        vec![mirror(format!("http://{}", silent.local_addr().unwrap())), mirror("http://127.0.0.1:1".into())];
    let mut station = Station::start(&config, &clock).await;
    let mut listener = Listener::new(&config, true);
    listener.listen(&mut station, &clock, 40).await;
    listener.assert_steady_from(4);
    let report = station.appliance.health().report();
    assert_eq!(report.mirrors.len(), 2);
    for mirror in &report.mirrors {
        assert!(mirror.state == MirrorState::Failing && mirror.lag_ticks <= 3, "{mirror:?}");
    }
    assert_eq!(station.restarts(), 0);
    station.appliance.stop().await;
    listener.finish();
}

#[tokio::test]
async fn over_a_real_connection_large_blocks_get_there_too() {
    let kubo = FakeKubo::new("basic:me:secret");
    let address = kubo.clone().listen().await;
    let blocks = Blocks::in_memory();
    let files: HashMap<_, _> =
        (0..8_u8).map(|n| (format!("hifi/{n}.m4s"), Block::raw(vec![n; 1 << 20]))).collect();
    for block in files.values() {
        blocks.put(block.cid, block.data.clone()).await.unwrap();
    }
    let (tree, directories) =
        stream_tree::build(7, files.iter().map(|(path, b)| (path.clone(), Entry::from(b))).collect());
    for block in directories {
        blocks.put(block.cid, block.data).await.unwrap();
    }
    let (root, health) = (tree.root, Health::new());
    let endpoint = Endpoint::parse(&format!("http://{address}"), Some("basic:me:secret")).unwrap();
    let mirror = Mirror {
        name: "nas".into(),
        kubo: Kubo::new(Client::new(endpoint, Arc::new(Tcp))),
        pin_name: PIN_NAME.into(),
        queue: 4,
        blocks,
        tree: watch::channel(Some(Arc::new(tree))).1,
        health: health.mirror("nas"),
        metrics: Metrics::new(),
    };
    // The publisher has ended: what is there is pushed, and that was all.
    let mirrors = Mirrors { mirrors: vec![mirror] };
    timeout(Duration::from_secs(30), mirrors.run(CancellationToken::new())).await.unwrap().unwrap();
    assert_eq!(kubo.pins(PIN_NAME), [root]);
    assert!(files.values().all(|block| kubo.block(&block.cid) == Some(Bytes::clone(&block.data))));
    assert_eq!(health.report().mirrors[0].state, MirrorState::Current);
}
