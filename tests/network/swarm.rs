//! Nodes for the tests, and how to wait for them.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rust_ipfs::{Multiaddr, PeerId};
use skywave::ipfs::{Dht, Identity, IpfsConfig, Judge, Network, Node, Verdict};
use tempfile::TempDir;

/// How long anything may take on a machine that is busy with other things.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A node in a folder of its own.
pub struct Peer {
    pub node: Node,
    pub folder: TempDir,
}

/// A DHT server on loopback that looks for nobody.
pub fn server() -> IpfsConfig {
    IpfsConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        dht: Dht::Server,
        bootstrap: Vec::new(),
        mdns: false,
        hole_punching: false,
        upnp: false,
        ..IpfsConfig::default()
    }
}

pub fn client() -> IpfsConfig {
    IpfsConfig { dht: Dht::Client, ..server() }
}

pub async fn start(config: &IpfsConfig) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let node = start_in(config, Identity::generate(), folder.path()).await;
    Peer { node, folder }
}

pub async fn start_in(config: &IpfsConfig, identity: Identity, folder: &Path) -> Node {
    let config = config.in_folder(folder).unwrap();
    Node::start(&config, identity, &folder.join("ipfs")).await.unwrap()
}

impl Peer {
    pub fn network(&self) -> &Network {
        self.node.network().unwrap()
    }

    pub fn id(&self) -> PeerId {
        self.node.identity().peer_id()
    }

    pub async fn address(&self) -> Multiaddr {
        address(&self.node).await
    }
}

pub async fn address(node: &Node) -> Multiaddr {
    let addresses = until("the node listens", || async {
        let addresses = node.addresses().await;
        addresses.into_iter().next()
    });
    addresses.await.parse().unwrap()
}

/// Asks again until there is an answer.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut question: impl FnMut() -> F) -> T {
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
pub async fn wait(what: &str, condition: impl Fn() -> bool) {
    until(what, || async { condition().then_some(()) }).await;
}

/// Nodes of which each knows the one before it.
pub async fn line(configs: &[IpfsConfig]) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for config in configs {
        let peer = start(config).await;
        if let Some(before) = peers.last() {
            peer.network().dial(&before.address().await).await.unwrap();
        }
        peers.push(peer);
    }
    for peer in &peers {
        knows(peer.network(), 1).await;
    }
    peers
}

/// Waits until the routing table on the LAN has so many peers.
pub async fn knows(network: &Network, peers: usize) {
    until("the routing table is filled", || async {
        (network.routing().await.unwrap().lan >= peers).then_some(())
    })
    .await;
}

/// A judge that accepts what begins with `good` and rejects all else.
pub fn good_only() -> Judge {
    Arc::new(|message: &Bytes| if message.starts_with(b"good") { Verdict::Accept } else { Verdict::Reject })
}

pub fn everything() -> Judge {
    Arc::new(|_: &Bytes| Verdict::Accept)
}
