//! Content that the station does not hold: refused unless the owner allows it, and then within limits. Two nodes on
//! loopback; the station is connected to one that holds what it lacks.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use skywave::http::{GatewayConfig, HttpConfig};
use skywave::ipfs::{Block, Identity, IpfsConfig, Node};
use tempfile::TempDir;

use super::client::{Client, patiently};
use super::station::Station;

/// Another node with blocks of its own, and the station's node, connected to it.
struct Network {
    other: rust_ipfs::Ipfs,
    node: Node,
    _folders: (TempDir, TempDir),
}

impl Network {
    async fn start() -> Network {
        let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
        let config = IpfsConfig { listen: listen.clone(), ..IpfsConfig::default() };
        let node = Node::start(&config, Identity::generate(), folders.0.path()).await.unwrap();
        let identity = Identity::generate();
        let setup = skywave_swarm::Setup {
            keypair: identity.keypair(),
            repo: folders.1.path().to_owned(),
            listen: vec![listen[0].parse().unwrap()],
            agent: "other".into(),
        };
        let other = skywave_swarm::start(setup).await.unwrap();
        let address = patiently(async {
            loop {
                let addresses = node.addresses().await;
                if let Some(address) = addresses.into_iter().find(|address| address.contains("127.0.0.1")) {
                    break address;
                }
                tokio::task::yield_now().await;
            }
        });
        let address: rust_ipfs::Multiaddr = address.await.parse().unwrap();
        patiently(other.connect(address)).await.unwrap();
        Network { other, node, _folders: folders }
    }

    async fn hold(&self, block: Block) -> Cid {
        let cid = block.cid;
        self.other.repo().put_block(&rust_ipfs::Block::new_unchecked(cid, block.data)).await.unwrap();
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
