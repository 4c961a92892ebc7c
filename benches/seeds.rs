//! What a list of seeds is worth: how long a node that just started takes to find a value in the DHT, and how many peers it
//! dials for it, with the list and without. Figures and method: docs/benchmarks.md.
//!
//! `cargo bench --bench seeds -- [nodes] [rounds]`. A network of DHT servers on loopback, each of which knows the one before
//! it and the one behind it; the value lies at one end, the node's only bootstrap peer is the other.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench talks to whoever runs it"
)]

#[path = "../tests/support/loopback.rs"]
mod loopback;
#[path = "../tests/network/swarm.rs"]
#[allow(dead_code, reason = "the tests of the network use the rest")]
mod swarm;

use std::time::{Duration, Instant};

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use rust_ipfs::PeerId;
use skywave::ipfs::{Block, Identity, IpfsConfig, Peers, ipns};
use swarm::{Peer, client, knows, server, start};

/// Servers of the network.
const NODES: usize = 9;
/// Starts that are measured of each kind.
const ROUNDS: usize = 11;

/// A name whose record belongs to the first of the peers by its distance (libp2p Kademlia specification, "Distance"), so
/// that the walk goes through all of them.
fn name_near(peers: &[Peer]) -> (Vec<u8>, Bytes) {
    let distance = |key: &[u8], peer: PeerId| {
        let hash = |bytes: &[u8]| Code::Sha2_256.digest(bytes).digest().to_vec();
        hash(key).iter().zip(hash(&peer.to_bytes())).map(|(a, b)| a ^ b).collect::<Vec<_>>()
    };
    let key_of = |name: &Identity| [b"/ipns/".as_slice(), &name.peer_id().to_bytes()].concat();
    let near = |name: &Identity| {
        let key = key_of(name);
        peers.iter().all(|peer| distance(&key, peers[0].id()) <= distance(&key, peer.id()))
    };
    let name = std::iter::repeat_with(Identity::generate).find(near).unwrap();
    let (now, validity) = (chrono::Utc::now().timestamp_millis(), Duration::from_secs(3_600));
    let root = Block::raw("root").cid;
    let record = ipns::sign(&name, root, 1, now, validity, Duration::from_secs(5)).unwrap();
    (key_of(&name), record.bytes)
}

/// A seed list of these peers.
async fn list(peers: &[Peer]) -> String {
    let mut list = String::new();
    for peer in peers {
        let text = peer.address().await.to_string();
        let (address, id) = text.rsplit_once("/p2p/").unwrap();
        list.push_str(&format!("[[peer]]\nid = \"{id}\"\naddresses = [\"{address}\"]\n"));
    }
    list
}

/// Dials, and the time to the first answer, of a node that starts with this list.
async fn first_answer(list: &str, bootstrap: &Peer, key: &[u8]) -> (u64, Duration) {
    let station = start(&client()).await;
    let seeds = station.folder.path().join("peers.toml");
    std::fs::write(&seeds, list).unwrap();
    let config = IpfsConfig { seeds, bootstrap: vec![bootstrap.address().await.to_string()], ..client() };
    let _peers = Peers::start(station.network().clone(), &config, station.folder.path()).await.unwrap();
    let asked = Instant::now();
    let mut found = station.network().get_values(key.to_vec()).await.unwrap();
    found.recv().await.expect("the value");
    let took = asked.elapsed();
    let dials = station.network().counts().dials;
    station.node.stop().await;
    (dials, took)
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (nodes, rounds): (usize, usize) = (numbers.next().unwrap_or(NODES), numbers.next().unwrap_or(ROUNDS));
    let mut peers = Vec::new();
    for _ in 0..nodes {
        peers.push(start(&server()).await);
    }
    let (key, record) = name_near(&peers);
    // It knows nobody yet, so that nobody but itself keeps the record.
    assert_eq!(peers[0].network().put_value(key.clone(), record).await, Ok(0));
    for pair in peers.windows(2) {
        pair[1].network().dial(&pair[0].address().await).await.unwrap();
    }
    for peer in &peers {
        knows(peer.network(), 1).await;
    }
    let bootstrap = &peers[nodes - 1];
    let lists = [String::new(), list(&peers[..nodes - 1]).await];
    let (mut dials, mut times) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for (n, list) in lists.iter().enumerate() {
            let (dialled, took) = first_answer(list, bootstrap, &key).await;
            dials[n].push(dialled);
            times[n].push(took);
        }
    }
    println!(
        "seeds: {nodes} servers in a line, the value at the far end, {rounds} starts of each kind, medians"
    );
    let dials = dials.map(|mut all| median(&mut all));
    let times = times.map(|mut all| median(&mut all).as_secs_f64() * 1_000.0);
    for (n, kind) in ["without seeds", "with seeds"].into_iter().enumerate() {
        println!("  {kind:14} {:3} dials, {:7.1} ms to the first answer", dials[n], times[n]);
    }
    let ratio = dials[0] as f64 / dials[1] as f64;
    println!("  without to with: dials {ratio:.1} to 1, time {:.1} to 1", times[0] / times[1]);
}

fn median<T: Ord + Copy>(all: &mut [T]) -> T {
    all.sort();
    all[all.len() / 2]
}
