//! The node: repo, swarm, identity.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use rust_ipfs::p2p::MultiaddrExt;
use rust_ipfs::repo::Repo;
use rust_ipfs::{Multiaddr, PeerId};
use skywave_swarm::{Mode, Network, Setup, Swarm};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::names::Routing;
use super::private_network::SwarmKey;
use super::stored_records::StoredRecords;
use super::{Blocks, Dht, Identity, IpfsConfig, IpfsError};

/// How often the node looks whether its addresses changed.
const ADDRESSES_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// The running node; offline it is the repo alone.
pub struct Node {
    blocks: Blocks,
    identity: Identity,
    swarm: Option<(Swarm, Network)>,
}

impl Node {
    /// Opens the repo at `path` and, unless the configuration says offline, the swarm. With a `swarm_key` it is that of
    /// a private network: TCP only, and nothing that talks to strangers.
    ///
    /// # Errors
    /// [`IpfsError::SwarmKey`] for a key that is missing or malformed; [`IpfsError::Repo`] when the repo cannot be
    /// opened, another process holds it, or the swarm does not start.
    pub async fn start(config: &IpfsConfig, identity: Identity, path: &Path) -> Result<Self, IpfsError> {
        let failed = |source| IpfsError::Repo { path: path.to_owned(), source };
        let key = config.swarm_key.as_deref().map(SwarmKey::load).transpose()?;
        std::fs::create_dir_all(path).map_err(|e| failed(e.into()))?;
        if config.offline {
            let repo = Repo::new_fs(path);
            repo.init().await.map_err(|e| failed(e.into()))?;
            remove_leftovers(&path.join("blockstore"));
            return Ok(Self { blocks: Blocks::of(repo), identity, swarm: None });
        }
        let swarm = skywave_swarm::start(setup(config, &identity, path, key)).await;
        let (swarm, network) = swarm.map_err(|e| failed(e.into()))?;
        // Only now is the repo ours alone.
        remove_leftovers(&path.join("blockstore"));
        let blocks = Blocks::of(swarm.repo().clone()).with_network(network.clone());
        Ok(Self { blocks, identity, swarm: Some((swarm, network)) })
    }

    /// The network; none when offline.
    pub fn network(&self) -> Option<&Network> {
        self.swarm.as_ref().map(|(_, network)| network)
    }

    /// The block store.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The station's key.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gossip, DHT and peers; `None` when offline.
    pub fn routing(&self) -> Option<Arc<dyn Routing>> {
        Some(Arc::new(self.network()?.clone()))
    }

    /// Full addresses of the node, each ending in `/p2p/<peer id>`; none when offline.
    pub fn addresses(&self) -> Vec<String> {
        let Some((swarm, _)) = &self.swarm else { return Vec::new() };
        let peer = self.identity.peer_id();
        let mut addresses: Vec<_> = swarm.addresses().into_iter().filter(|a| !a.is_relayed()).collect();
        addresses.sort();
        addresses.dedup();
        addresses.into_iter().map(|a| format!("{a}/p2p/{peer}")).collect()
    }

    /// Connects to those of the addresses' peers that are reached under any of theirs; addresses that cannot be dialled
    /// are left out. Returns how many are connected. Offline, none.
    pub async fn connect_to(&self, addresses: &[String]) -> usize {
        let Some(network) = self.network() else { return 0 };
        let mut peers: HashMap<Option<PeerId>, Vec<Multiaddr>> = HashMap::new();
        for address in addresses.iter().filter_map(|address| address.parse::<Multiaddr>().ok()) {
            peers.entry(address.peer_id()).or_default().push(address);
        }
        peers.remove(&Some(network.local_peer()));
        let dials = peers.iter().map(|(peer, addresses)| network.dial_any(*peer, addresses));
        join_all(dials).await.iter().filter(|dialled| dialled.is_ok()).count()
    }

    /// What connected peers ask this node for over bitswap, whether it is held or not; nothing when offline.
    pub fn wanted(&self) -> Vec<cid::Cid> {
        self.network().map(Network::wanted).into_iter().flatten().collect()
    }

    /// Keeps `addresses` true until `cancel` fires; ports are known a moment after the start.
    pub async fn follow_addresses(&self, addresses: watch::Sender<Vec<String>>, cancel: CancellationToken) {
        let mut every = tokio::time::interval(ADDRESSES_EVERY);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = every.tick() => {
                    let now = self.addresses();
                    addresses.send_if_modified(|known| *known != now && { *known = now; true });
                }
            }
        }
    }

    /// Closes connections and stops the node's tasks.
    pub async fn stop(&self) {
        if let Some((swarm, _)) = &self.swarm {
            swarm.stop().await;
        }
    }
}

fn setup<'a>(config: &IpfsConfig, identity: &'a Identity, repo: &Path, key: Option<SwarmKey>) -> Setup<'a> {
    let memory = usize::try_from(config.memory_megabytes.saturating_mul(1_000_000)).unwrap_or(usize::MAX);
    Setup {
        keypair: identity.keypair(),
        repo: repo.to_owned(),
        listen: config.listen.iter().filter_map(|address| free_address(address)).collect(),
        agent: concat!("skywave/", env!("CARGO_PKG_VERSION")).into(),
        dht: match config.dht {
            Dht::Client => Mode::Client,
            Dht::Server => Mode::Server,
            Dht::Off => Mode::Off,
        },
        records: Arc::new(StoredRecords),
        private_key: key.map(|key| key.bytes()),
        mdns: config.mdns,
        hole_punching: config.hole_punching,
        upnp: config.upnp,
        max_connections: config.max_connections,
        memory_limit: (memory != 0).then_some(memory),
    }
}

/// Checks the form of another peer's address: something to dial by TCP, and who is there.
///
/// # Errors
/// Says in words what is wrong with it.
pub fn peer_address(text: &str) -> Result<(), String> {
    let address: Multiaddr = text.parse().map_err(|e| format!("{text:?} is no multiaddr ({e})"))?;
    if address.peer_id().is_none() {
        return Err(format!("{text:?} must end in /p2p/<peer id>"));
    }
    match text.starts_with("/dnsaddr/") || text.contains("/tcp/") {
        true => Ok(()),
        false => Err(format!("{text:?} must be a TCP address or /dnsaddr/<name>")),
    }
}

/// Checks the form of a listening address: an IP address and a TCP port.
///
/// # Errors
/// Says in words what is wrong with it.
pub fn listen_address(text: &str) -> Result<Multiaddr, String> {
    let address: Multiaddr = text.parse().map_err(|e| format!("{text:?} is no multiaddr ({e})"))?;
    match socket(&address) {
        Some(_) => Ok(address),
        None => {
            Err(format!("{text:?} must have the form /ip4/<address>/tcp/<port> or /ip6/<address>/tcp/<port>"))
        }
    }
}

/// The socket of `/ip4|ip6/<address>/tcp/<port>`; `None` for any other address.
fn socket(address: &Multiaddr) -> Option<std::net::SocketAddr> {
    let text = address.to_string();
    let mut parts = text.split('/').skip(1);
    let (family, ip, tcp, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = (family == "ip4" || family == "ip6") && tcp == "tcp" && parts.next().is_none();
    known.then(|| Some(std::net::SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)))?
}

/// The address, or the same one with a free port where the port is taken: another IPFS node on this machine must
/// not keep the station off the network.
fn free_address(text: &str) -> Option<Multiaddr> {
    let address = listen_address(text).ok()?;
    let mut wanted = socket(&address)?;
    if TcpListener::bind(wanted).is_ok() {
        return Some(address);
    }
    warn!(address = text, "swarm port is taken; listening on a free one");
    wanted.set_port(0);
    let family = if wanted.is_ipv4() { "ip4" } else { "ip6" };
    format!("/{family}/{}/tcp/0", wanted.ip()).parse().ok()
}

/// Removes `*.tmp` files that a crash in the middle of a block write left behind.
fn remove_leftovers(blockstore: &Path) {
    let Ok(shards) = std::fs::read_dir(blockstore) else { return };
    let files = shards.flatten().filter_map(|shard| std::fs::read_dir(shard.path()).ok()).flatten().flatten();
    for file in files.filter(|file| file.path().extension().is_some_and(|e| e == "tmp")) {
        if let Err(error) = std::fs::remove_file(file.path()) {
            warn!(path = %file.path().display(), %error, "cannot remove a leftover block file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_offline_node_has_blocks_and_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let config = IpfsConfig { offline: true, ..IpfsConfig::default() };
        let node = Node::start(&config, Identity::generate(), folder.path()).await.unwrap();
        assert!(node.addresses().is_empty());
        assert!(node.blocks().list().await.is_empty());
    }

    #[tokio::test]
    async fn a_taken_port_is_replaced_and_every_address_names_the_peer() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = IpfsConfig {
            listen: vec![format!("/ip4/127.0.0.1/tcp/{port}")],
            mdns: false,
            upnp: false,
            ..IpfsConfig::default()
        };
        let node = Node::start(&config, Identity::generate(), folder.path()).await.unwrap();
        let addresses = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            loop {
                let addresses = node.addresses();
                if !addresses.is_empty() {
                    return addresses;
                }
                tokio::task::yield_now().await;
            }
        });
        let addresses = addresses.await.unwrap();
        let peer = node.identity().peer_id().to_string();
        assert!(
            addresses.iter().all(|a| a.ends_with(&peer) && !a.contains(&format!("/{port}/"))),
            "{addresses:?}"
        );
        node.stop().await;
    }

    #[tokio::test]
    async fn a_second_node_on_the_same_repo_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let config = IpfsConfig { offline: true, ..IpfsConfig::default() };
        let _first = Node::start(&config, Identity::generate(), folder.path()).await.unwrap();
        let error = Node::start(&config, Identity::generate(), folder.path()).await.err().unwrap();
        assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    }

    #[test]
    fn listening_addresses_of_another_form_are_refused() {
        for bad in
            ["", "localhost:4001", "/ip4/1.2.3.4/udp/1/quic-v1", "/dns/x/tcp/1", "/ip4/1.2.3.4/tcp/1/ws"]
        {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
        assert!(listen_address("/ip6/::/tcp/4001").is_ok());
    }
}
