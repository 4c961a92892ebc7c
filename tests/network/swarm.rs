//! Nodes for the tests, and how to wait for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rust_ipfs::{Multiaddr, PeerId};
use skywave::ipfs::{Dht, Identity, IpfsConfig, Judge, Network, Node, Verdict};
use tempfile::TempDir;

use super::loopback::loopback;

/// How long anything may take on a machine that is busy with other things.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A node in a folder of its own.
pub(crate) struct Peer {
    pub(crate) node: Node,
    pub(crate) folder: TempDir,
}

/// A DHT server on loopback that looks for nobody.
pub(crate) fn server() -> IpfsConfig {
    IpfsConfig { dht: Dht::Server, ..loopback() }
}

pub(crate) fn client() -> IpfsConfig {
    IpfsConfig { dht: Dht::Client, ..server() }
}

pub(crate) async fn start(config: &IpfsConfig) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let node = start_in(config, Identity::generate(), folder.path()).await;
    Peer { node, folder }
}

pub(crate) async fn start_in(config: &IpfsConfig, identity: Identity, folder: &Path) -> Node {
    let config = config.in_folder(folder).unwrap();
    Node::start(&config, identity, &folder.join("ipfs")).await.unwrap()
}

impl Peer {
    pub(crate) fn network(&self) -> &Network {
        self.node.network().unwrap()
    }

    pub(crate) fn id(&self) -> PeerId {
        self.node.identity().peer_id()
    }

    pub(crate) async fn address(&self) -> Multiaddr {
        address(&self.node).await
    }
}

pub(crate) async fn address(node: &Node) -> Multiaddr {
    let addresses = until("the node listens", || async {
        let addresses = node.addresses();
        addresses.into_iter().next()
    });
    addresses.await.parse().unwrap()
}

/// Asks again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {LIMIT:?}: {what}"),
    }
}

/// Waits until `condition` holds.
pub(crate) async fn wait(what: &str, condition: impl Fn() -> bool) {
    until(what, || async { condition().then_some(()) }).await;
}

/// Nodes of which each knows the one before it.
pub(crate) async fn line(configs: &[IpfsConfig]) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for config in configs {
        let peer = start(config).await;
        if let Some(before) = peers.last() {
            peer.network().dial(&before.address().await).await.unwrap();
        }
        peers.push(peer);
    }
    // Whoever met a server knows it.
    let serves = |n: Option<usize>| n.and_then(|n| configs.get(n)).is_some_and(|c| c.dht == Dht::Server);
    for (n, peer) in peers.iter().enumerate() {
        if serves(n.checked_sub(1)) || serves(Some(n + 1)) {
            knows(peer.network(), 1).await;
        }
    }
    peers
}

/// Waits until the routing table on the LAN has so many peers.
pub(crate) async fn knows(network: &Network, peers: usize) {
    until("the routing table is filled", || async {
        (network.routing().await.unwrap().lan >= peers).then_some(())
    })
    .await;
}

/// A judge that accepts what begins with `good` and rejects all else.
pub(crate) fn good_only() -> Judge {
    Arc::new(|message: &Bytes| if message.starts_with(b"good") { Verdict::Accept } else { Verdict::Reject })
}

pub(crate) fn everything() -> Judge {
    Arc::new(|_: &Bytes| Verdict::Accept)
}
