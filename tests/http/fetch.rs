//! Content that the station does not hold: refused unless the owner allows it, and then within limits. Two nodes on
//! loopback; the station is connected to one that holds what it lacks.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use skywave::http::{GatewayConfig, HttpConfig, Upstream};
use skywave::ipfs::{Block, Dht, Identity, IpfsConfig, Node};
use tempfile::TempDir;
use tokio::time::timeout;

use super::client::{Client, PATIENCE, patiently};
use super::loopback::loopback;
use super::station::Station;

/// Another node with blocks of its own, and the station's node, connected to it.
struct Network {
    other: Node,
    node: Node,
    _folders: (TempDir, TempDir),
}

async fn address(node: &Node) -> rust_ipfs::Multiaddr {
    let address = patiently(async {
        loop {
            let addresses = node.addresses();
            if let Some(address) = addresses.into_iter().find(|address| address.contains("127.0.0.1")) {
                break address;
            }
            tokio::task::yield_now().await;
        }
    });
    address.await.parse().unwrap()
}

async fn connect(one: &Node, other: &Node) {
    let (here, there) = (address(one).await, address(other).await);
    let mut errors = Vec::new();
    let dialled = async {
        // A port of ours that a socket of another test has cannot be dialled from, as long as that test runs. So each tries.
        for (node, address) in [(one, &there), (other, &here)].into_iter().cycle() {
            match node.network().unwrap().dial(address).await {
                Ok(_) => break,
                Err(error) => errors.push(error.to_string()),
            }
        }
    };
    let reached = timeout(PATIENCE, dialled).await.is_ok();
    assert!(reached, "{} dials failed, the last ones by {:?}", errors.len(), errors.iter().rev().take(4));
}

impl Network {
    async fn start() -> Network {
        let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = loopback();
        let node = Node::start(&config, Identity::generate(), folders.0.path()).await.unwrap();
        let other = Node::start(&config, Identity::generate(), folders.1.path()).await.unwrap();
        connect(&other, &node).await;
        Network { other, node, _folders: folders }
    }

    async fn hold(&self, block: Block) -> Cid {
        let cid = block.cid;
        self.other.blocks().put(cid, block.data).await.unwrap();
        cid
    }

    /// A directory of `count` files of `length` bytes.
    async fn hold_directory(&self, count: u8, length: usize) -> Cid {
        let mut links = Vec::new();
        for n in 0..count {
            let cid = self.hold(Block::raw(vec![n; length])).await;
            links.push(PbLink { cid, name: Some(format!("{n}")), size: Some(length as u64) });
        }
        let data = Some(Bytes::from_static(&[0x08, 1]));
        self.hold(Block::dag_pb(PbNode { links, data }.into_bytes())).await
    }

    async fn station(&self, gateway: GatewayConfig) -> Station {
        let config = HttpConfig { gateway, ..HttpConfig::default() };
        Station::start_with(config, self.node.blocks().clone()).await
    }
}

fn fetching() -> GatewayConfig {
    GatewayConfig { fetch: true, fetch_timeout: Duration::from_secs(8), ..GatewayConfig::default() }
}

async fn has_metric(station: &Station, line: &str) -> bool {
    station.get("/metrics").await.text().lines().any(|found| found == line)
}

#[tokio::test]
async fn nothing_is_fetched_unless_the_owner_allows_it_or_when_the_client_does_not_want_it() {
    let network = Network::start().await;
    let cid = network.hold(Block::raw("theirs")).await;
    let path = format!("/ipfs/{cid}");
    let closed = network.station(GatewayConfig::default()).await;
    assert_eq!(closed.get(&path).await.status, 404);
    let open = network.station(fetching()).await;
    assert_eq!(open.get_with(&path, &[("Cache-Control", "only-if-cached")]).await.status, 412);
    assert!(has_metric(&open, "skywave_gateway_fetched_bytes_total 0").await);
    let answer = open.get(&path).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "theirs"));
    assert!(has_metric(&open, "skywave_gateway_fetched_bytes_total 6").await);
}

#[tokio::test]
async fn what_is_fetched_is_served_in_every_form_and_does_not_stay_in_the_store() {
    let network = Network::start().await;
    let directory = network.hold_directory(5, 1000).await;
    let station = network.station(fetching()).await;
    let page = station.get(&format!("/ipfs/{directory}/")).await;
    assert_eq!((page.status, page.text().matches("1000 bytes").count()), (200, 5));
    assert_eq!(station.get(&format!("/ipfs/{directory}/3")).await.body, vec![3; 1000]);
    let car = station.get(&format!("/ipfs/{directory}?format=car")).await;
    assert!(car.status == 200 && car.body.len() > 5000);
    assert_eq!(network.node.blocks().list().await, []);
}

#[tokio::test]
async fn a_request_that_wants_too_much_is_cut_off() {
    let network = Network::start().await;
    let directory = network.hold_directory(10, 1000).await;
    let limit = NonZeroU64::new(3_000).unwrap();
    let station = network.station(GatewayConfig { fetch_max_bytes: limit, ..fetching() }).await;
    let car = station.get(&format!("/ipfs/{directory}?format=car")).await;
    assert!(car.status == 200 && car.body.ends_with(super::client::CUT), "{}", car.body.len());
    assert!(car.body.len() < 4_000);
    let large = network.hold(Block::raw(vec![1; 5_000])).await;
    let refused = station.get(&format!("/ipfs/{large}")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (502, "30"));
    assert!(has_metric(&station, "skywave_gateway_refusals_total{reason=\"fetch_bytes\"} 2").await);
    // Another request has an allowance of its own.
    assert_eq!(station.get(&format!("/ipfs/{directory}/9")).await.status, 200);
}

#[tokio::test]
async fn what_nobody_has_is_given_up_in_time() {
    let network = Network::start().await;
    let brief = Duration::from_millis(300);
    let station = network.station(GatewayConfig { fetch_timeout: brief, ..fetching() }).await;
    let answer = station.get(&format!("/ipfs/{}", Block::raw("nobody's").cid)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (504, "30"));
    assert!(has_metric(&station, "skywave_gateway_refusals_total{reason=\"fetch_timeout\"} 1").await);
}

#[tokio::test]
async fn requests_beyond_the_number_are_refused_and_given_up_ones_free_their_place() {
    let network = Network::start().await;
    let one = NonZeroUsize::new(1).unwrap();
    let station = network.station(GatewayConfig { fetch_concurrent: one, ..fetching() }).await;
    let theirs = network.hold(Block::raw("theirs")).await;
    let mut waiting = Client::connect(station.address).await;
    let nobodys = Block::raw("nobody's").cid;
    waiting.send(format!("GET /ipfs/{nobodys} HTTP/1.1\r\nHost: station\r\n\r\n")).await;
    let path = format!("/ipfs/{theirs}");
    let own = Block::raw("own");
    station.blocks.put_pinned(&own).await.unwrap();
    patiently(async {
        // Until the other request has its place.
        while station.get(&format!("/ipfs/{}", Block::raw("also nobody's").cid)).await.status != 503 {}
    })
    .await;
    let refused = station.get(&path).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "30"));
    assert_eq!(station.get(&format!("/ipfs/{}", own.cid)).await.text(), "own");
    drop(waiting);
    patiently(async { while station.get(&path).await.status != 200 {} }).await;
}

/// A node in a folder of its own, connected to `others`.
async fn joined(dht: Dht, others: &[&Node]) -> (Node, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = IpfsConfig { dht, ..loopback() };
    let node = Node::start(&config, Identity::generate(), folder.path()).await.unwrap();
    for other in others {
        connect(&node, other).await;
    }
    (node, folder)
}

/// Waits until the node knows so many peers of the DHT.
async fn knows(node: &Node, peers: usize) {
    let network = node.network().unwrap();
    patiently(async { while network.routing().await.unwrap().lan < peers {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_content_is_found_by_the_dht_and_connected_to() {
    let (first, _a) = joined(Dht::Server, &[]).await;
    let (second, _b) = joined(Dht::Server, &[&first]).await;
    let (holder, _c) = joined(Dht::Client, &[&first]).await;
    let (ours, _d) = joined(Dht::Client, &[&second]).await;
    for node in [&first, &second, &holder, &ours] {
        knows(node, 1).await;
    }
    let leaf = Block::raw(vec![7; 1000]);
    let link = PbLink { cid: leaf.cid, name: Some("leaf".into()), size: Some(1000) };
    let data = Some(Bytes::from_static(&[0x08, 1]));
    let root = Block::dag_pb(PbNode { links: vec![link], data }.into_bytes());
    for block in [&leaf, &root] {
        holder.blocks().put(block.cid, block.data.clone()).await.unwrap();
    }
    let network = ours.network().unwrap().clone();
    let holds = holder.identity().peer_id();
    assert!(!network.connected_ids().contains(&holds));
    let upstream = Upstream { network: Some(network.clone()), ..Upstream::default() };
    let config = HttpConfig { gateway: fetching(), ..HttpConfig::default() };
    let station = Station::start_on(config, ours.blocks().clone(), upstream).await;
    let path = format!("/ipfs/{}/leaf", root.cid);
    let brief = GatewayConfig { fetch_timeout: Duration::from_millis(700), ..fetching() };
    let brief = HttpConfig { gateway: brief, ..HttpConfig::default() };
    let alone = Station::start_with(brief, ours.blocks().clone()).await;
    assert_eq!(alone.get(&path).await.status, 504, "connected peers alone do not have it");
    // The root alone is announced: what is below it is where the root is.
    holder.network().unwrap().provide(root.cid.hash().to_bytes()).await.unwrap();
    let found = async { while station.get(&path).await.body != vec![7; 1000] {} };
    tokio::time::timeout(Duration::from_secs(40), found).await.expect("found by the DHT");
    assert!(network.connected_ids().contains(&holds));
    assert_eq!(ours.blocks().list().await, []);
}
