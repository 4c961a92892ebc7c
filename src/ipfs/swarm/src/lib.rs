//! Starts the IPFS swarm and drives what is ours in it: bitswap, the DHTs, pubsub, identify, mDNS and fetch.
//!
//! A crate of its own so that libp2p's generic code is compiled once and not with every change of the station
//! (docs/decisions/0006-swarm-crate.md); why not rust-ipfs' own DHT and pubsub: 0008-own-network-behaviour.md;
//! why not its bitswap: 0010-own-bitswap.md; why not its swarm: 0013-own-swarm.md.

mod behaviour;
pub mod bitswap;
mod book;
mod counters;
pub mod fetch;
mod gossip;
mod keep;
mod liveness;
mod network;
mod protobuf;
mod queries;
pub mod resolve;
pub mod scope;
mod store;
mod swarm;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use rust_ipfs::repo::Repo;
use rust_ipfs::{Error, Keypair, Multiaddr};

pub use book::{ConnectedPeer, KnownPeer};
pub use counters::Counts;
pub use gossip::{Judge, MAX_MESSAGE, Message, Verdict};
pub use network::{Mode, Network, NetworkError, Routing};
pub use queries::Provider;
pub use swarm::Swarm;

use behaviour::Behaviour;

/// Judges the records that a DHT server is asked to keep. Called on the swarm's task: it must be quick.
pub trait RecordRules: Send + Sync {
    /// Whether `value` may stand under `key`.
    fn valid(&self, key: &[u8], value: &[u8]) -> bool;
    /// Whether `value`, which is valid, replaces `stored`.
    fn newer(&self, key: &[u8], value: &[u8], stored: &[u8]) -> bool;
}

/// What a swarm is started with.
pub struct Setup<'a> {
    /// The peer's key.
    pub keypair: &'a Keypair,
    /// Folder of the repo.
    pub repo: PathBuf,
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Program and version, as identify tells them.
    pub agent: String,
    /// Whether the DHT is asked, answered or off.
    pub dht: Mode,
    /// What a DHT server keeps for others.
    pub records: Arc<dyn RecordRules>,
    /// Key of a private network (libp2p private network specification, PSK v1). Nothing then leaves it.
    pub private_key: Option<[u8; 32]>,
    /// Looks for peers on the LAN.
    pub mdns: bool,
    /// Takes part in hole punching: a relay's client, with direct connection upgrade.
    pub hole_punching: bool,
    /// Asks the router for an open port.
    pub upnp: bool,
    /// Connections at most; a quarter of them is left to those that this node opens.
    pub max_connections: u32,
    /// Memory of the whole process, in bytes, from which on connections are refused.
    pub memory_limit: Option<usize>,
}

/// Opens the repo and starts to listen. What the repo holds is served to whoever is connected.
///
/// # Errors
/// What rust-ipfs says, mostly that another process holds the repo; when pubsub cannot be set up, or noise not use the key.
pub async fn start(setup: Setup<'_>) -> Result<(Swarm, Network), Error> {
    let (behaviour, network, opened) = Behaviour::new(setup.keypair, &setup).map_err(Error::msg)?;
    let repo = Repo::new_fs(&setup.repo);
    repo.init().await?;
    let swarm = Swarm::start(&setup, behaviour, repo.clone())?;
    // Ends with the swarm, which holds the other end of `opened`.
    tokio::spawn(network.bitswap.clone().run(Arc::new(repo), opened));
    Ok((swarm, network))
}
