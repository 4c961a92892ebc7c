//! State messages among real nodes on loopback: what all know of each other, and of a station that one alone has heard.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/loopback.rs"]
mod loopback;
#[allow(dead_code, reason = "written for the tests of the network, which use all of it")]
#[path = "network/swarm.rs"]
mod swarm;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use skywave::appliance::Appliance;
use skywave::clock::{ClockTrust, SystemClock};
use skywave::config::Config;
use skywave::health::Health;
use skywave::ipfs::ipns::{self, SignedRecord};
use skywave::ipfs::names::Resolver;
use skywave::ipfs::unixfs::BlockReader;
use skywave::ipfs::{Block, Identity};
use skywave::metrics::Metrics;
use skywave::publisher::{Announced, Relay};
use skywave::sync::message::NodeFacts;
use skywave::sync::{self, Follower, Origin, Part, State, SyncHandle, SyncParts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use swarm::{Peer, client, everything, line, server, start, until};

/// Short, so that a test does not wait long for a word.
const SEGMENT: Duration = Duration::from_millis(250);

/// A node of a station that speaks and listens.
struct Node {
    peer: Peer,
    handle: SyncHandle,
    health: Health,
    metrics: Metrics,
    cancel: CancellationToken,
}

impl Node {
    fn join(peer: Peer, station: &Identity, part: Part, http: &[&str]) -> Self {
        let (health, metrics, cancel) = (Health::new(), Metrics::new(), CancellationToken::new());
        let http = http.iter().map(|url| (*url).to_owned()).collect();
        let (stage, handle) = sync::Sync::new(SyncParts {
            name: station.name(),
            part,
            identity: peer.node.identity().clone(),
            segment: SEGMENT,
            routing: peer.node.routing().unwrap(),
            clock: Arc::new(SystemClock::new(ClockTrust::Trusted)),
            http: watch::channel(http).1,
            swarm: watch::channel(vec!["/ip4/127.0.0.1/tcp/4001/p2p/x".to_owned()]).1,
            overall: health.clone(),
            health: health.stage("sync", None),
            metrics: metrics.sync.clone(),
        });
        let stop = cancel.clone();
        tokio::spawn(async move { stage.run(stop).await.unwrap() });
        Self { peer, handle, health, metrics, cancel }
    }

    fn relay(peer: Peer, station: &Identity, newest: u64, http: &[&str]) -> Self {
        Self::join(peer, station, follower(newest, None), http)
    }

    fn state(&self) -> Arc<State> {
        self.handle.state.borrow().clone()
    }

    /// What each known node said last, by its peer id.
    fn knows(&self) -> BTreeMap<String, NodeFacts> {
        let state = self.state();
        state.nodes().map(|(peer, node)| (peer.peer_id(), node.facts().unwrap())).collect()
    }

    fn id(&self) -> String {
        self.peer.node.identity().name().peer_id()
    }

    /// Waits until the station's word with this newest number is here.
    async fn hears_station(&self, newest: u64) {
        let what = format!("the word of the station on {newest}");
        until(&what, || async {
            let state = self.state();
            (state.station()?.facts.newest == Some(newest)).then_some(())
        })
        .await;
    }
}

fn follower(newest: u64, resolver: Option<Resolver>) -> Part {
    let held_until = watch::channel(Some(newest + 10)).1;
    Part::Follower(Follower { newest: watch::channel(Some(newest)).1, held_until, resolver })
}

/// The ends of an origin's stage that a test holds.
struct Air {
    station: Identity,
    announced: watch::Sender<Option<Announced>>,
    record: watch::Sender<Option<SignedRecord>>,
    relays: watch::Receiver<Vec<Relay>>,
}

impl Air {
    fn new(station: &Identity) -> (Self, Part) {
        let (announced, announcements) = watch::channel(None);
        let (record, records) = watch::channel(None);
        let (sender, relays) = watch::channel(Vec::new());
        let part = Part::Origin(Origin { announced: announcements, record: records, relays: sender });
        (Self { station: station.clone(), announced, record, relays }, part)
    }

    /// Has the station tick as its publisher does.
    fn tick(&self, newest: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let root = Block::raw(newest.to_string()).cid;
        let hour = Duration::from_secs(3_600);
        let record = ipns::sign(&self.station, root, newest, now, hour, Duration::ZERO).unwrap();
        self.record.send_replace(Some(record));
        let announced = Announced { newest, ahead: newest + 15, index: vec![root], now_playing: None };
        self.announced.send_replace(Some(announced));
    }
}

/// Three nodes of which each knows the one before it, the first with the station's key.
async fn three() -> (Air, [Node; 3]) {
    let mut peers = line(&[client(), server(), client()]).await.into_iter();
    let (first, second, third) = (peers.next().unwrap(), peers.next().unwrap(), peers.next().unwrap());
    let station = first.node.identity().clone();
    let (air, part) = Air::new(&station);
    let origin = Node::join(first, &station, part, &["http://192.0.2.1"]);
    let one = Node::relay(second, &station, 100, &["http://192.0.2.2:8080"]);
    let other = Node::relay(third, &station, 98, &["http://192.0.2.3:8080"]);
    (air, [origin, one, other])
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_come_to_know_each_other_and_the_station() {
    let (mut air, [origin, one, other]) = three().await;
    one.health.heard_by("198.51.100.1".parse().unwrap());
    air.tick(100);
    let nodes = [&origin, &one, &other];
    for node in nodes {
        node.hears_station(100).await;
        let others = || nodes.iter().filter(|n| n.id() != node.id());
        until("everybody knows the two others", || async {
            let knows = node.knows();
            others().all(|other| knows.contains_key(&other.id())).then_some(())
        })
        .await;
    }
    until("the count of listeners comes", || async {
        let listens = |node: &Node| node.knows()[&one.id()].listeners == 1;
        [&origin, &other].into_iter().all(listens).then_some(())
    })
    .await;
    let facts = &other.knows()[&origin.id()];
    assert_eq!((facts.role.as_str(), facts.newest, facts.held_until), ("origin", Some(100), Some(115)));
    let facts = &origin.knows()[&one.id()];
    assert_eq!((facts.role.as_str(), facts.newest, facts.held_until), ("relay", Some(100), Some(110)));
    assert_eq!(facts.http, ["http://192.0.2.2:8080"]);
    assert_eq!(facts.swarm, ["/ip4/127.0.0.1/tcp/4001/p2p/x"]);
    // What station.json names.
    let wanted = [(other.id(), 0), (one.id(), 1)];
    let named = air.relays.wait_for(|relays| {
        relays.iter().map(|relay| (relay.peer.clone(), relay.listeners)).eq(wanted.iter().cloned())
    });
    tokio::time::timeout(swarm::LIMIT, named).await.expect("within the limit").unwrap();
    // Word after word, to the end of the line.
    for newest in 101..110 {
        air.tick(newest);
        other.hears_station(newest).await;
        assert_eq!(other.state().record().unwrap().sequence, newest, "the record comes with it");
    }
    let health = other.health.report().sync.unwrap();
    assert_eq!((health.role, health.nodes, health.relays), ("relay", 2, 1));
    assert!(health.station_heard_at.is_some());
    let health = origin.health.report().sync.unwrap();
    assert_eq!((health.role, health.nodes, health.relays), ("origin", 2, 2));
    assert!(other.metrics.encode().contains("skywave_sync_nodes 2\n"));
}

/// A whole station that keeps to this machine.
async fn appliance(folder: &Path) -> Appliance {
    let mut config = Config::default();
    config.station.data = folder.to_owned();
    config.ipfs = client();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.http.public = vec!["http://192.0.2.1".into()];
    config.hls.lead = Duration::from_secs(10);
    Appliance::start(&config, Arc::new(SystemClock::new(ClockTrust::Trusted))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_tells_what_it_announced_and_names_its_relay_in_the_signed_tree() {
    let folder = tempfile::tempdir().unwrap();
    let station = appliance(folder.path()).await;
    let identity = station.node().identity().clone();
    let peer = start(&client()).await;
    peer.network().dial(&swarm::address(station.node()).await).await.unwrap();
    let relay = Node::relay(peer, &identity, u64::MAX - 10, &["http://192.0.2.2:8080"]);
    let facts = until("a word of the station with what is ahead of air", || async {
        let facts = relay.state().station()?.facts.clone();
        (facts.ahead > facts.newest && facts.now_playing.is_some()).then_some(facts)
    });
    let facts = facts.await;
    let group = station.node().blocks().read(facts.index.last().unwrap()).await.unwrap();
    let group: serde_json::Value = serde_json::from_slice(&group).unwrap();
    let last = group["segments"].as_array().unwrap().last().unwrap()["n"].as_u64();
    assert_eq!(last, facts.ahead, "the index reaches as far as the station says");
    let told = &relay.knows()[&identity.name().peer_id()];
    assert_eq!((told.role.as_str(), &told.http[..]), ("origin", &["http://192.0.2.1".to_owned()][..]));
    assert!(told.swarm[0].starts_with("/ip4/127.0.0.1/tcp/"), "{:?}", told.swarm);
    let named = until("the relay in station.json", || async {
        let entry = station.tree().borrow().as_ref()?.entries["station.json"];
        let json = station.node().blocks().read(&entry.cid).await.ok()?;
        let json: serde_json::Value = serde_json::from_slice(&json).ok()?;
        let relays = json["relays"].as_array()?.clone();
        (!relays.is_empty()).then_some(relays)
    });
    let http = ["http://192.0.2.2:8080"];
    let wanted = serde_json::json!([{ "peer": relay.id(), "http": http, "listeners": 0 }]);
    assert_eq!(serde_json::Value::from(named.await), wanted);
    let health = station.health().report().sync.unwrap();
    assert_eq!((health.role, health.nodes, health.relays), ("origin", 1, 1));
    relay.cancel.cancel();
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_late_knows_the_station_from_a_relay_alone() {
    let (air, [origin, one, _other]) = three().await;
    air.tick(100);
    one.hears_station(100).await;
    let (station, relay) = (air.station.clone(), one.peer.address().await);
    origin.cancel.cancel();
    origin.peer.node.stop().await;
    let late = start(&client()).await;
    late.network().dial(&relay).await.unwrap();
    let clock = Arc::new(SystemClock::new(ClockTrust::Trusted));
    let (resolver, _topics) = Resolver::new(late.node.routing().unwrap(), clock, Metrics::new().names);
    let late = Node::join(late, &station, follower(0, Some(resolver.clone())), &[]);
    late.hears_station(100).await;
    let state = late.state();
    assert_eq!(state.station().unwrap().facts.index, [Block::raw("100").cid]);
    assert_eq!(state.record().unwrap().sequence, 100);
    assert!(!late.knows().contains_key(&origin.id()), "the origin has said nothing since");
    until("the resolver has the record", || async { resolver.known(&station.name()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_goes_on_above_what_its_relays_remember() {
    let (air, [origin, one, _other]) = three().await;
    air.tick(100);
    one.hears_station(100).await;
    let before = one.state().station().unwrap().facts.seq;
    // A run of the station whose clock was an hour ahead, and then its state was lost.
    let (station, first) = (air.station.clone(), &origin.peer);
    origin.cancel.cancel();
    let ahead = before + 3_600_000;
    let facts = sync::message::StationFacts {
        seq: ahead,
        newest: Some(5),
        ..one.state().station().unwrap().facts.clone()
    };
    let message = by_the_station(&station, facts, &one.state().record().unwrap().bytes);
    let topic = sync::topic(&station.name());
    // The network of the origin is still there.
    let network = first.network();
    let mut kept = network.subscribe(&topic, everything()).await.unwrap();
    until("the word of the other run is heard", || async {
        network.publish(&topic, message.clone()).await.unwrap();
        (one.state().station()?.facts.seq == ahead).then_some(())
    })
    .await;
    let (again, part) = Air::new(&station);
    let origin = Node::join(origin.peer, &station, part, &[]);
    until("the new run hears of the other one", || async {
        (origin.state().station()?.facts.seq == ahead).then_some(())
    })
    .await;
    again.tick(200);
    one.hears_station(200).await;
    kept.close();
}

/// A message of the station's own node.
fn by_the_station(station: &Identity, facts: sync::message::StationFacts, record: &Bytes) -> Bytes {
    use sync::message::{Signed, encode, node_payload, station_payload, write};
    let node = NodeFacts {
        name: station.ipns_name(),
        seq: facts.seq,
        time_ms: facts.time_ms + 1_000,
        role: "origin".into(),
        software: "test".into(),
        newest: None,
        held_until: None,
        http: Vec::new(),
        swarm: Vec::new(),
        listeners: 0,
    };
    let signed = |facts: Box<[u8]>, payload: fn(&[u8]) -> Vec<u8>| {
        let signature = station.sign(&payload(&facts)).unwrap().into();
        Signed { facts, signature }
    };
    let node = signed(encode(&node), node_payload);
    let part = signed(encode(&facts), station_payload);
    write(&node, &station.public_key(), Some((&part, record)))
}
