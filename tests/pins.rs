//! What a pinning service is asked for, and what becomes of the pins when it fails in every way that a service can fail.
//!
//! The service is one of this file's own, reached over pipes in memory under simulated time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod pin_service;
    pub(crate) mod simulation;
}

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cid::Cid;
use futures::future::BoxFuture;
use skywave::clock::SteppedClock;
use skywave::health::{Health, PinReport, PinState};
use skywave::http_client::{Client, Endpoint};
use skywave::ipfs::unixfs::Link;
use skywave::ipfs::unixfs::writer::directory;
use skywave::ipfs::{Block, Blocks};
use skywave::metrics::Metrics;
use skywave::pins::{Peering, PinConfig, PinService, Pins};
use skywave::publisher::stream_tree::{self, ARCHIVE, Entry, StreamTree};
use support::pin_service::{FakeService, Manner, Mode, Pipes};
use support::simulation::{Listener, OCTOBER_2026, Station, config, scratch};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_millis(3_840);
const EVERY: Duration = Duration::from_secs(60);
const NAME: &str = "skywave/k51test";
const TOKEN: &str = "of-the-test";

/// Where the node is, and whom it was sent to.
#[derive(Default)]
struct Place {
    addresses: Mutex<Vec<String>>,
    connected: Mutex<Vec<String>>,
}

impl Peering for Place {
    fn addresses(&self) -> Vec<String> {
        self.addresses.lock().unwrap().clone()
    }

    fn connect(self: Arc<Self>, addresses: Vec<String>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.connected.lock().unwrap().extend(addresses) })
    }
}

/// A publisher in short, and the pins stage behind it.
struct Rig {
    service: Arc<FakeService>,
    blocks: Blocks,
    tree: watch::Sender<Option<Arc<StreamTree>>>,
    archive: Option<Entry>,
    newest: u64,
    root: Cid,
    place: Arc<Place>,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Rig {
    fn start(service: Arc<FakeService>, unpin_days: bool) -> Self {
        let (tree, receiver) = watch::channel(None);
        let (blocks, health, metrics) = (Blocks::in_memory(), Health::new(), Metrics::new());
        let endpoint = Endpoint::parse("http://pins.test/psa", Some(&format!("bearer:{TOKEN}"))).unwrap();
        let place = Arc::new(Place::default());
        *place.addresses.lock().unwrap() = vec![
            "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5".into(),
            "/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5".into(),
        ];
        let pin = PinService {
            name: "cluster".into(),
            client: Client::new(endpoint, Arc::new(Pipes(service.clone()))),
            station: NAME.strip_prefix("skywave/").unwrap().into(),
            every: EVERY,
            archive: true,
            unpin_days,
            blocks: blocks.clone(),
            tree: receiver,
            peering: place.clone(),
            health: health.pin("cluster"),
            metrics: metrics.clone(),
        };
        let (pins, stop) = (Pins { services: vec![pin] }, CancellationToken::new());
        let cancel = stop.clone();
        tokio::spawn(async move { pins.run(cancel).await });
        let (archive, newest, root) = (None, 0, Cid::default());
        Self { service, blocks, tree, archive, newest, root, place, health, metrics, stop }
    }

    /// A new root on air.
    fn tick(&mut self) {
        self.newest += 1;
        let mut entries =
            HashMap::from([("live.m3u8".to_owned(), Entry::from(&Block::raw(self.newest.to_string())))]);
        entries.extend(self.archive.map(|archive| (ARCHIVE.to_owned(), archive)));
        let (tree, _) = stream_tree::build(self.newest, entries);
        self.root = tree.root;
        self.tree.send_replace(Some(Arc::new(tree)));
    }

    /// Ticks at the pace of the air.
    async fn ticks(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.tick();
            sleep(TICK).await;
        }
    }

    /// Puts an archive of these days of a November on air; the last of them goes on.
    async fn archive(&mut self, days: std::ops::Range<u32>) {
        let link = |day: u32| Link { name: format!("2026-11-{day:02}"), cid: day_of(day), size: 1 };
        let folder = directory(days.map(link).collect());
        for block in &folder.blocks {
            self.blocks.put_pinned(block).await.unwrap();
        }
        self.archive = Some(Entry { cid: folder.cid, size: folder.size });
    }

    fn report(&self) -> PinReport {
        self.health.report().pins[0].clone()
    }

    fn counted(&self, series: &str) -> u64 {
        let page = self.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("skywave_{series} ")));
        line.map_or(0, |number| number.parse().unwrap())
    }

    /// The air stands still until the service has the newest root, pinned, and nothing else under that name.
    async fn settled(&self) {
        let wanted = vec![(self.root, "pinned".to_owned())];
        let settled = || {
            let report = self.report();
            self.service.pins(NAME) == wanted
                && report.state == PinState::Pinned
                && report.newest == Some(self.newest)
        };
        let waited = timeout(Duration::from_secs(1_200), async {
            while !settled() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(waited.await.is_ok(), "{:#?}, pins {:?}", self.report(), self.service.pins(NAME));
    }

    fn count_of(&self, method: &str) -> usize {
        self.service.requests().iter().filter(|(_, line)| line.starts_with(method)).count()
    }
}

fn day_of(day: u32) -> Cid {
    Block::raw(format!("day {day}")).cid
}

fn named(day: u32) -> String {
    format!("{NAME}/2026-11-{day:02}")
}

#[tokio::test(start_paused = true)]
async fn the_newest_root_is_kept_in_one_pin_that_is_replaced_once_a_minute() {
    for cluster in [false, true] {
        let service = FakeService::new(TOKEN, Manner { cluster, ..Manner::default() });
        service.add_pin(day_of(99), "holiday.jpg");
        let mut rig = Rig::start(service, false);
        for minute in 0..30 {
            rig.ticks(EVERY).await;
            let pins = rig.service.pins(NAME);
            assert!(pins.len() == 1 || (cluster && pins.len() == 2), "{minute}: {pins:?}");
            assert!(pins.iter().any(|(_, status)| status == "pinned") || !cluster, "{minute}: {pins:?}");
            let report = rig.report();
            assert!(report.newest.is_some_and(|newest| newest + 33 > rig.newest), "{minute}: {report:?}");
        }
        rig.settled().await;
        let posts = rig.count_of("POST");
        assert!((29..=32).contains(&posts), "{posts} pins in half an hour");
        let counted = |what| {
            rig.counted(&format!("pin_requests_total{{pin=\"cluster\",operation={what:?},result=\"ok\"}}"))
        };
        if cluster {
            assert_eq!(
                (counted("replace"), rig.count_of("DELETE")),
                (0, posts - 1),
                "one put beside the other"
            );
        } else {
            assert_eq!(
                (counted("add"), rig.count_of("DELETE")),
                (1, 0),
                "the service deletes what it replaces"
            );
        }
        assert_eq!(rig.counted("pin_newest_segment{pin=\"cluster\"}"), rig.newest);
        assert_eq!(rig.service.names(), ["holiday.jpg", NAME]);
        let connected = rig.place.connected.lock().unwrap();
        assert!(!connected.is_empty() && connected.iter().all(|peer| peer.starts_with("/ip4/203.0.113.7/")));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_is_named_and_the_root_is_pinned_again_soon_after() {
    for (mode, words) in [
        (Mode::Away, "cannot connect to pins.test:80"),
        (Mode::Hangs, "nothing moved for 30 s"),
        (Mode::Fails, "status 500: INTERNAL_SERVER_ERROR: the disk is full"),
        (Mode::FailsToWrite, "replace: status 500: INTERNAL_SERVER_ERROR: read-only"),
        (Mode::Refuses, "refused with status 401; check `authorization`"),
        (Mode::WantsMoney, "status 409: INSUFFICIENT_FUNDS: the account is empty"),
        (Mode::Busy(7), "status 429"),
        (Mode::LosesAnswers, "the connection broke off"),
        (Mode::Babbles, "none of the Pinning Services API: no JSON"),
        (Mode::MixesUp, "it is about baea"),
        (Mode::Invents, "status \"thinking\" is none of queued"),
        (Mode::Moves, "status 301"),
        (Mode::FailsPins, "could not pin skywave/k51test: looked for it everywhere"),
    ] {
        let mut rig = Rig::start(FakeService::new(TOKEN, Manner::default()), false);
        rig.ticks(EVERY).await;
        rig.settled().await;
        rig.service.set_mode(mode);
        rig.ticks(Duration::from_secs(600)).await;
        let report = rig.report();
        let error = report.last_error.unwrap().message;
        assert!(report.state == PinState::Failing && error.contains(words), "{mode:?}: {error}");
        assert!(!error.contains(TOKEN), "{error}");
        assert!(rig.service.pins(NAME).len() <= 4, "{mode:?}: {:?}", rig.service.pins(NAME));
        let requests = rig.service.requests().len();
        assert!(requests < 80, "{mode:?}: {requests} requests in eleven minutes");
        rig.service.set_mode(Mode::Works);
        rig.ticks(3 * EVERY).await;
        rig.settled().await;
        rig.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_asks_for_peace_gets_it() {
    let mut rig = Rig::start(FakeService::new(TOKEN, Manner::default()), false);
    rig.ticks(EVERY).await;
    rig.settled().await;
    rig.service.set_mode(Mode::Busy(300));
    rig.ticks(EVERY * 2).await;
    rig.service.set_mode(Mode::Works);
    let told = rig.service.requests().len();
    let (last, _) = rig.service.requests()[told - 1].clone();
    rig.ticks(Duration::from_secs(400)).await;
    let (next, line) = rig.service.requests()[told].clone();
    assert!((300..310).contains(&(next - last).as_secs()), "{:?} later: {line}", next - last);
    assert_eq!(rig.counted("pin_requests_total{pin=\"cluster\",operation=\"replace\",result=\"busy\"}"), 1);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_never_fetched_is_replaced_while_its_blocks_are_held() {
    let mut rig = Rig::start(FakeService::new(TOKEN, Manner::default()), false);
    rig.service.set_mode(Mode::NeverPins);
    rig.ticks(Duration::from_secs(1_800)).await;
    let posts = rig.count_of("POST");
    assert!((10..=11).contains(&posts), "{posts} pins in half an hour");
    assert_eq!(rig.service.pins(NAME).len(), 1);
    assert_eq!(rig.report().state, PinState::Starting);
    assert!(rig.count_of("GET") < 30 * 6, "{} looks", rig.count_of("GET"));
    rig.service.set_mode(Mode::Works);
    rig.ticks(EVERY * 2).await;
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_pin_is_found_by_its_name_and_surplus_is_deleted() {
    for manner in [Manner::default(), Manner { exact_only: true, page: Some(2), ..Manner::default() }] {
        let service = FakeService::new(TOKEN, manner);
        for n in 0..7 {
            service.add_pin(Block::raw(vec![n]).cid, NAME);
        }
        service.add_pin(day_of(1), &format!("{NAME}-of-another"));
        service.add_pin(day_of(2), &format!("{NAME}/notes"));
        let mut rig = Rig::start(service, false);
        rig.ticks(EVERY * 3).await;
        rig.settled().await;
        assert_eq!(rig.count_of("DELETE"), 6);
        // The second run goes on with the pin of the first.
        rig.stop.cancel();
        let before = rig.service.requests().len();
        let mut rig = Rig::start(rig.service.clone(), false);
        rig.newest = 1_000;
        rig.ticks(EVERY * 2).await;
        rig.settled().await;
        let added =
            rig.service.requests()[before..].iter().filter(|(_, line)| line == "POST /psa/pins").count();
        assert_eq!(added, 0);
        assert_eq!(rig.service.names(), [NAME, &format!("{NAME}-of-another"), &format!("{NAME}/notes")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_deletes_nothing_gets_newer_roots_nevertheless() {
    let service = FakeService::new(TOKEN, Manner::default());
    for n in 0..3 {
        service.add_pin(Block::raw(vec![n]).cid, NAME);
    }
    service.set_mode(Mode::KeepsAll);
    let mut rig = Rig::start(service, false);
    for minute in 0..10 {
        rig.ticks(EVERY).await;
        let newest = rig.report().newest;
        assert!(
            newest.is_some_and(|newest| newest + 33 > rig.newest),
            "{minute}: {newest:?} of {}",
            rig.newest
        );
        assert!(rig.service.pins(NAME).len() <= 3);
    }
    assert!(rig.count_of("DELETE") < 5, "{} attempts", rig.count_of("DELETE"));
}

#[tokio::test(start_paused = true)]
async fn pins_that_the_service_lost_are_made_anew() {
    let mut rig = Rig::start(FakeService::new(TOKEN, Manner::default()), false);
    rig.ticks(EVERY * 2).await;
    rig.service.forget_everything();
    rig.ticks(EVERY * 2).await;
    rig.settled().await;
    assert_eq!(rig.report().last_error.map(|error| error.message), None, "no failure of the service");
    let gone = ["get", "replace"].map(|what| {
        rig.counted(&format!("pin_requests_total{{pin=\"cluster\",operation=\"{what}\",result=\"gone\"}}"))
    });
    assert_eq!(gone.iter().sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_day_that_is_over_is_pinned_by_its_own_name() {
    for manner in [
        Manner::default(),
        Manner { cluster: true, ..Manner::default() },
        Manner { exact_only: true, ..Manner::default() },
    ] {
        for unpin_days in [false, true] {
            let service = FakeService::new(TOKEN, manner);
            let foreign = [format!("{NAME}-of-another"), format!("{NAME}/0notes"), format!("{NAME}/notes")];
            for (n, name) in foreign.iter().enumerate() {
                service.add_pin(Block::raw(n.to_string()).cid, name);
            }
            let mut rig = Rig::start(service, unpin_days);
            rig.archive(1..5).await;
            rig.ticks(EVERY * 2).await;
            for day in 1..4 {
                assert_eq!(rig.service.pins(&named(day)), [(day_of(day), "pinned".to_owned())], "{manner:?}");
            }
            assert_eq!(rig.service.pins(&named(4)), [], "the day that goes on");
            assert_eq!((rig.report().days_pinned, rig.report().days_wanted), (3, 3));
            // A restart adds no pin, and two days leave.
            rig.stop.cancel();
            let mut rig = Rig::start(rig.service.clone(), unpin_days);
            rig.newest = 500;
            rig.archive(3..7).await;
            rig.ticks(EVERY * 2).await;
            for day in 1..7 {
                assert_eq!(rig.service.made(&named(day)), usize::from(day < 6), "{manner:?}: day {day}");
            }
            let left = [1, 2].map(|day| rig.service.pins(&named(day)).len());
            // Without a listing by parts of names, nobody finds the days of an earlier run that are not looked up.
            let expected = if unpin_days && !manner.exact_only { [0, 0] } else { [1, 1] };
            assert_eq!(left, expected, "{manner:?}, unpin_days = {unpin_days}");
            assert_eq!(rig.counted("pin_days{pin=\"cluster\",state=\"pinned\"}"), 3);
            rig.settled().await;
            assert!(
                foreign.iter().all(|name| rig.service.pins(name).len() == 1),
                "{:?}",
                rig.service.names()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_told_when_the_station_has_moved() {
    let mut rig = Rig::start(FakeService::new(TOKEN, Manner { cluster: true, ..Manner::default() }), false);
    rig.ticks(EVERY * 2).await;
    rig.settled().await;
    let first = |rig: &Rig| rig.service.origins(NAME)[0].as_str().unwrap().to_owned();
    assert!(first(&rig).starts_with("/ip4/10.0.0.1/"), "what others can reach comes first");
    let moved = "/ip4/10.9.9.9/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";
    *rig.place.addresses.lock().unwrap() = vec![moved.into()];
    rig.ticks(EVERY * 3).await;
    rig.settled().await;
    assert_eq!(first(&rig), moved);
}

#[tokio::test(start_paused = true)]
async fn services_that_hang_or_refuse_cost_the_air_nothing() {
    let folder = scratch();
    let (mut config, clock) = (config(folder.path()), SteppedClock::starting_at(OCTOBER_2026));
    // Takes connections into its backlog and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pin = |url: String| toml::from_str::<PinConfig>(&format!("url = {url:?}")).unwrap();
    let silent_address = silent.local_addr().unwrap();
    config.pin = vec![
        pin(format!("http://{silent_address}")),
        pin("http://127.0.0.1:1".into()),
        pin(format!("https://{silent_address}/x")),
    ];
    config.pin[2].name = Some("secure".into());
    let mut station = Station::start(&config, &clock).await;
    let mut listener = Listener::new(&config, true);
    listener.listen(&mut station, &clock, 40).await;
    listener.assert_steady_from(4);
    let report = station.appliance.health().report();
    assert_eq!(report.pins.len(), 3);
    for pin in &report.pins {
        assert_eq!(pin.state, PinState::Failing, "{pin:?}");
    }
    assert_eq!(station.restarts(), 0);
    station.appliance.stop().await;
    listener.finish();
}
