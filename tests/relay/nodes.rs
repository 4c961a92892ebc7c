//! A real origin and a real relay, each with its web server and its swarm, on loopback.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skywave::appliance::Appliance;
use skywave::clock::SystemClock;
use skywave::config::Config;
use skywave::encoder::Rendition;
use skywave::health::Status;
use skywave::ipfs::ipns::{Name, Record};
use tokio::time::{Instant, sleep};

use crate::support::checker::source::HttpSource;
use crate::support::checker::{Checker, Expectations};
use crate::support::http_client::{self, Response};
use crate::support::loopback::loopback;

/// Bounds every wait. Generous: it is met only where something is broken.
const PATIENCE: Duration = Duration::from_secs(90);
const SEGMENT: Duration = Duration::from_millis(1_920);
const LEAD: Duration = Duration::from_secs(16);
const RENDITIONS: [&str; 2] = ["lofi", "midfi"];

fn config(data: &Path) -> Config {
    let mut config = Config { ipfs: loopback(), ..Config::default() };
    config.station.data = data.to_owned();
    let rendition = |name: &str, bitrate| Rendition { name: name.into(), bitrate, afterburner: false };
    config.encoder.rendition = vec![rendition("lofi", 32_000), rendition("midfi", 64_000)];
    (config.hls.segment, config.hls.lead, config.hls.playlist) = (SEGMENT, LEAD, Duration::from_secs(20));
    config.hls.ident_lead = LEAD;
    config.retention.window = Duration::from_secs(60);
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config
}

async fn start(config: &Config) -> Appliance {
    Appliance::start(config, Arc::new(SystemClock::new(config.ipfs.clock))).await.unwrap()
}

/// Looks until there is something.
async fn wait_for<T>(what: &str, appliance: &Appliance, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: {:#?}", appliance.health().report());
        sleep(Duration::from_millis(50)).await;
    }
}

async fn get(appliance: &Appliance, path: &str) -> Response {
    let url = format!("http://{}{path}", appliance.address());
    tokio::task::spawn_blocking(move || http_client::get(&url, Duration::from_secs(10)).unwrap())
        .await
        .unwrap()
}

async fn text(appliance: &Appliance, path: &str) -> String {
    let answer = get(appliance, path).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.text().unwrap().to_owned()
}

fn newest(appliance: &Appliance) -> u64 {
    appliance.tree().borrow().as_ref().map_or(0, |tree| tree.newest)
}

/// The strict judge of what a listener of the relay gets.
struct Listener(Option<Checker>, String);

impl Listener {
    fn of(appliance: &Appliance) -> Self {
        let expectations = Expectations { segment_samples: 92_160, ..Expectations::new(&RENDITIONS) };
        Self(Some(Checker::new(expectations)), format!("http://{}/live/", appliance.address()))
    }

    async fn poll(&mut self) {
        let (mut checker, url) = (self.0.take().unwrap(), self.1.clone());
        let judged = tokio::task::spawn_blocking(move || {
            checker.poll(&mut HttpSource::new(&url)).unwrap_or_else(|violation| panic!("{violation}"));
            checker
        });
        self.0 = Some(judged.await.unwrap());
    }
}

/// Media playlists of both at the same newest number; `None` where they never met.
async fn playlists(origin: &Appliance, relay: &Appliance) -> Option<[String; 2]> {
    let last = |playlist: &str| playlist.lines().last().map(str::to_owned);
    let theirs = text(origin, "/live/midfi/live.m3u8").await;
    let ours = text(relay, "/live/midfi/live.m3u8").await;
    (last(&theirs) == last(&ours)).then_some([theirs, ours])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_relay_on_the_network_serves_the_same_stream_and_outlasts_its_origin() {
    let (home, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut ours = config(home.path());
    ours.ipfs.listen = vec![format!("/ip4/127.0.0.1/tcp/{port}")];
    let origin = start(&ours).await;
    let name = Name::parse(origin.ipns_name()).unwrap();
    let address = wait_for("an address", &origin, async || origin.node().addresses().pop()).await;

    let mut theirs = config(away.path());
    theirs.follow = Some(name.to_string());
    theirs.ipfs.peers = vec![address];
    let relay = start(&theirs).await;
    assert_eq!(relay.ipns_name(), origin.ipns_name());
    wait_for("the relay on air", &relay, async || relay.health().ready().then_some(())).await;
    let mut listener = Listener::of(&relay);
    let first = newest(&relay);
    wait_for("eight segments more", &relay, async || {
        listener.poll().await;
        (newest(&relay) >= first + 8).then_some(())
    })
    .await;
    let same = wait_for("the same newest segment", &relay, async || playlists(&origin, &relay).await).await;
    assert_eq!(same[0], same[1], "byte for byte");
    assert_eq!(relay.health().report().status, Status::OnAir, "{:#?}", relay.health().report());
    whole(&relay, &name).await;

    // The origin goes; what it has announced is played to its end at the right times.
    wait_for("the lead", &relay, async || (relay.health().report().lead_seconds > 10.0).then_some(())).await;
    let (cut_at, lead) = (Instant::now(), relay.health().report().lead_seconds);
    let last = newest(&origin);
    origin.stop().await;
    wait_for("the end of the lead", &relay, async || {
        listener.poll().await;
        (!relay.health().ready()).then_some(())
    })
    .await;
    let report = relay.health().report();
    assert_eq!(report.off_air_reason.as_deref(), Some("waiting for the origin"));
    assert!(report.notices["origin"].contains("unreachable"), "{report:#?}");
    let played = newest(&relay) - last;
    assert!(
        played as f64 * SEGMENT.as_secs_f64() > lead - 2.0 * SEGMENT.as_secs_f64(),
        "{played} of {lead} s"
    );
    let took = cut_at.elapsed().as_secs_f64();
    assert!(
        took > lead - SEGMENT.as_secs_f64() && took < lead + 6.0 * SEGMENT.as_secs_f64(),
        "{took} s of {lead} s"
    );
    let before = newest(&relay);

    // It is back under the same address, and is heard again without anybody's doing.
    let origin = start(&ours).await;
    wait_for("the air again", &relay, async || relay.health().ready().then_some(())).await;
    assert!(newest(&relay) > before);
    wait_for("well again", &relay, async || (relay.health().report().status == Status::OnAir).then_some(()))
        .await;
    let same = wait_for("the same newest segment", &relay, async || playlists(&origin, &relay).await).await;
    assert_eq!(same[0].lines().last(), same[1].lines().last());
    relay.stop().await;
    origin.stop().await;
}

/// Everything below the station's name is at the relay, and the record that leads there.
async fn whole(relay: &Appliance, name: &Name) {
    let (tree, record) = wait_for("the signed tree on air", relay, async || {
        let tree = relay.tree().borrow().clone()?;
        let record = relay.record().borrow().clone()?;
        (tree.root == record.root).then_some((tree, record))
    })
    .await;
    assert_eq!(Record::verify(name, &record.bytes).unwrap().value, format!("/ipfs/{}", tree.root));
    for (path, entry) in &tree.entries {
        let answer = get(relay, &format!("/ipfs/{}/{path}", tree.root)).await;
        assert_eq!((answer.status, answer.body.len() as u64), (200, entry.size), "{path}");
    }
    assert!(tree.entries.keys().any(|path| path.starts_with("index/")));
    let answer = get(relay, &format!("/ipns/{name}?format=ipns-record")).await;
    assert_eq!(answer.status, 200);
    assert!(Record::verify(name, &answer.body.into()).is_ok());
    let playlist = text(relay, &format!("/ipns/{name}/stream.m3u8")).await;
    assert!(playlist.contains("lofi/live.m3u8"), "{playlist}");
    let station: serde_json::Value = serde_json::from_str(&text(relay, "/station.json").await).unwrap();
    assert_eq!((&station["role"], &station["ipns"]), (&"relay".into(), &name.to_string().into()));
}
