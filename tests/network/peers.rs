//! The peers' life: seeds, redial, what is saved.

use std::path::Path;
use std::time::Instant;

use multihash_codetable::{Code, MultihashDigest};
use rust_ipfs::PeerId;
use skywave::ipfs::{Identity, IpfsConfig, IpfsError, Network, Node, Peers};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dht::{key_of, record};
use crate::swarm::{Peer, address, client, knows, line, server, start, start_in, until, wait};

pub(crate) struct Life {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), IpfsError>>,
}

impl Life {
    pub(crate) async fn begin(network: &Network, config: &IpfsConfig, data: &Path) -> Self {
        let mut peers = Peers::start(network.clone(), config, data).await.unwrap();
        let cancel = CancellationToken::new();
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { peers.run(cancel).await }
        });
        Self { cancel, task }
    }

    pub(crate) async fn end(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn seeds(path: &Path, peers: &[(String, String)]) {
    let block =
        |(id, address): &(String, String)| format!("[[peer]]\nid = \"{id}\"\naddresses = [\"{address}\"]\n");
    std::fs::write(path, peers.iter().map(block).collect::<String>()).unwrap();
}

/// Id and address of a peer, as a seed list has them.
async fn seed(peer: &Peer) -> (String, String) {
    let text = peer.address().await.to_string();
    let (address, id) = text.rsplit_once("/p2p/").unwrap();
    (id.to_owned(), address.to_owned())
}

/// Notes on rust-ipfs, 8: reconnecting gives up.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_went_and_came_back_is_connected_again() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate();
    let first = start_in(&server(), identity.clone(), folder.path()).await;
    let there = address(&first).await;
    let station = start(&client()).await;
    let config = IpfsConfig { peers: vec![there.to_string()], ..client() };
    let life = Life::begin(station.network(), &config, station.folder.path()).await;
    let up = || station.network().connected_ids().contains(&identity.peer_id());
    wait("the owner's peer is connected", up).await;
    first.stop().await;
    drop(first);
    wait("it is gone", || !up()).await;
    wait("a dial fails", || station.network().counts().dials_failed >= 2).await;
    let listen = there.to_string().rsplit_once("/p2p/").unwrap().0.to_owned();
    let config = IpfsConfig { listen: vec![listen], ..server() };
    // The store's lock goes with the last of the old node's tasks.
    let again = until("the folder is free", || async {
        let path = folder.path().join("again");
        Node::start(&config, identity.clone(), &path).await.ok()
    })
    .await;
    assert_eq!(address(&again).await, there);
    wait("it is connected again", up).await;
    life.end().await;
}

/// Notes on rust-ipfs, 14: routing table and bootstrap list are lost at the end.
#[tokio::test(flavor = "multi_thread")]
async fn peers_that_were_reached_are_known_at_the_next_start() {
    let others = line(&[server(), server(), server()]).await;
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate();
    let node = start_in(&client(), identity.clone(), folder.path()).await;
    let network = node.network().unwrap();
    let life = Life::begin(network, &client(), folder.path()).await;
    for other in &others {
        network.dial(&other.address().await).await.unwrap();
    }
    wait("all have answered", || network.known_peers().len() == 3).await;
    life.end().await;
    node.stop().await;
    drop(node);
    let path = folder.path().join("again");
    let node = Node::start(&client(), identity, &path).await.unwrap();
    let network = node.network().unwrap();
    let _peers = Peers::start(network.clone(), &client(), folder.path()).await.unwrap();
    assert_eq!(network.routing().await.unwrap().lan, 3, "before anybody was dialled");
}

/// Distance of a key and a peer in the DHT (libp2p Kademlia specification, "Distance").
fn distance(key: &[u8], peer: PeerId) -> Vec<u8> {
    let hash = |bytes: &[u8]| Code::Sha2_256.digest(bytes).digest().to_vec();
    hash(key).iter().zip(hash(&peer.to_bytes())).map(|(a, b)| a ^ b).collect()
}

/// In a line of servers, each of which knows the one before and the one behind it, a value lies at the far end.
#[tokio::test(flavor = "multi_thread")]
async fn seeds_fill_the_routing_table_before_the_first_query_and_spare_steps() {
    let far = start(&server()).await;
    let mut others = vec![far];
    let far_id = others[0].id();
    for _ in 0..8 {
        others.push(start(&server()).await);
    }
    // Under a name whose nearest peer is the far one: what the DHT would have made of it.
    let near = |name: &Identity| {
        let key = key_of(name);
        others.iter().all(|other| distance(&key, far_id) <= distance(&key, other.id()))
    };
    let owner = std::iter::repeat_with(Identity::generate).find(near).unwrap();
    // It knows nobody yet, so that nobody but itself keeps the record.
    let value = record(&owner, 1);
    assert_eq!(others[0].network().put_value(key_of(&owner), value.clone()).await, Ok(0));
    for pair in others.windows(2) {
        pair[1].network().dial(&pair[0].address().await).await.unwrap();
    }
    for other in &others {
        knows(other.network(), 1).await;
    }
    let mut steps = Vec::new();
    for with_seeds in [false, true] {
        let station = start(&client()).await;
        let list = station.folder.path().join("peers.toml");
        let mut known = Vec::new();
        for other in others.iter().take(if with_seeds { 8 } else { 0 }) {
            known.push(seed(other).await);
        }
        seeds(&list, &known);
        let bootstrap = others[8].address().await.to_string();
        let config = IpfsConfig { seeds: list, bootstrap: vec![bootstrap], ..client() };
        let _peers = Peers::start(station.network().clone(), &config, station.folder.path()).await.unwrap();
        assert_eq!(station.network().routing().await.unwrap().lan, if with_seeds { 9 } else { 1 });
        let asked = Instant::now();
        let mut found = station.network().get_values(key_of(&owner)).await.unwrap();
        assert_eq!(found.recv().await, Some(value.clone()));
        steps.push((station.network().counts().dials, asked.elapsed()));
    }
    let ((walked, long), (asked, short)) = (steps[0], steps[1]);
    let ratio = long.as_secs_f64() / short.as_secs_f64();
    eprintln!("until the first answer: {walked} dials without seeds, {asked} with; {ratio:.1} times as long");
    // Each step of the walk waits for the one before; with seeds the nearest three are asked at once.
    assert!(walked == 9 && asked <= walked, "{walked} {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_seed_list_stops_the_start_with_file_and_line() {
    let station = start(&client()).await;
    let list = station.folder.path().join("peers.toml");
    std::fs::write(&list, "[[peer]]\nid = \"nobody\"\naddresses = []\n").unwrap();
    let config = IpfsConfig { seeds: list, ..client() };
    let error = Peers::start(station.network().clone(), &config, station.folder.path()).await.err().unwrap();
    assert!(error.to_string().contains("peers.toml:2: "), "{error}");
}
