//! The embedded IPFS node, and the only place that knows rust-ipfs.
//!
//! Imports no stage. rust-ipfs' own garbage collector is never enabled: it can drop a block between put and pin.

pub mod block;
pub mod blocks;
pub mod car;
pub mod identity;
pub mod imports;
pub mod ipld;
pub mod ipns;
pub mod names;
pub mod node;
pub mod peers;
pub mod private_network;
pub mod providers;
pub mod signature;
mod stored_records;
pub mod traversal;
pub mod unixfs;

use std::path::{Path, PathBuf};

use cid::Cid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::ClockTrust;
pub use block::Block;
pub use blocks::{BlockSource, Blocks};
pub use identity::Identity;
pub use node::Node;
pub use peers::Peers;
pub use skywave_swarm::{Counts, Judge, Network, NetworkError, Verdict};

/// The peers that every IPFS node may begin with.
const PUBLIC_BOOTSTRAP: [&str; 4] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
];

/// The node's part in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dht {
    /// Asks: right for a board.
    Client,
    /// Asks, answers, and keeps records for others.
    Server,
    /// Neither.
    Off,
}

/// `[ipfs]`: the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpfsConfig {
    /// Addresses that the swarm listens on. A port that is taken is replaced by a free one.
    pub listen: Vec<String>,
    /// Opens no swarm port and connects to nobody; the station is heard over HTTP only.
    pub offline: bool,
    /// Folder of the repo; `<data>/ipfs` where it is not given. On a board it lies in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<PathBuf>,
    /// The node's part in the DHT.
    pub dht: Dht,
    /// Peers to begin with, each ending in `/p2p/<peer id>`. The built-in ones are left out of a private network.
    pub bootstrap: Vec<String>,
    /// Peers that the node always connects to, each ending in `/p2p/<peer id>`.
    pub peers: Vec<String>,
    /// List of peers that are known before the first query. The default one need not be there.
    pub seeds: PathBuf,
    /// Key of a private network; `<data>/swarm.key`, if it is there, where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm_key: Option<PathBuf>,
    /// Finds other nodes on the LAN, and is found.
    pub mdns: bool,
    /// Is reached behind a router through others: relay client and direct connection upgrade.
    pub hole_punching: bool,
    /// Asks the router for an open port.
    pub upnp: bool,
    /// Connections to other peers at most.
    pub max_connections: u32,
    /// Memory of the whole program, in units of 10^6 bytes, from which on connections are refused; 0 for no limit.
    pub memory_megabytes: u64,
    /// How long a signed IPNS record is valid (EOL in the IPNS specification).
    #[serde(with = "humantime_serde")]
    pub record_validity: std::time::Duration,
    /// How long resolvers may cache a record (TTL).
    #[serde(with = "humantime_serde")]
    pub record_ttl: std::time::Duration,
    /// Time from one record put to the DHT to the next where puts are slow; gossip gets every one at once.
    #[serde(with = "humantime_serde")]
    pub dht_every: std::time::Duration,
    /// Tells the DHT where the root is that its newest record names, so that strangers find the blocks.
    pub provide: bool,
    /// When the clock is believed enough to sign a record.
    pub clock: ClockTrust,
}

impl Default for IpfsConfig {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/4001".into()],
            offline: false,
            repo: None,
            dht: Dht::Client,
            bootstrap: PUBLIC_BOOTSTRAP.map(Into::into).to_vec(),
            peers: Vec::new(),
            seeds: peers::seeds::DEFAULT.into(),
            swarm_key: None,
            mdns: true,
            hole_punching: true,
            upnp: true,
            max_connections: 128,
            memory_megabytes: 512,
            record_validity: std::time::Duration::from_secs(48 * 3600),
            record_ttl: std::time::Duration::from_secs(5),
            dht_every: std::time::Duration::from_secs(60),
            provide: true,
            clock: ClockTrust::Auto,
        }
    }
}

impl IpfsConfig {
    /// Checks what a type cannot say. The error is the key's name and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        for address in &self.listen {
            if let Err(why) = node::listen_address(address) {
                return Err(("ipfs.listen", why));
            }
        }
        for (key, list) in [("ipfs.bootstrap", &self.bootstrap), ("ipfs.peers", &self.peers)] {
            if let Some(why) = list.iter().find_map(|address| node::peer_address(address).err()) {
                return Err((key, why));
            }
        }
        if !(8..=10_000).contains(&self.max_connections) {
            return Err(("ipfs.max_connections", "must be 8 to 10000".into()));
        }
        if self.memory_megabytes != 0 && self.memory_megabytes < 64 {
            return Err(("ipfs.memory_megabytes", "must be 64 or more, or 0 for no limit".into()));
        }
        let year = std::time::Duration::from_secs(366 * 24 * 3600);
        if !(std::time::Duration::from_secs(60)..=year).contains(&self.record_validity) {
            return Err(("ipfs.record_validity", "must be within 1m and 1year".into()));
        }
        if self.record_ttl > self.record_validity {
            return Err(("ipfs.record_ttl", "must be ipfs.record_validity at most".into()));
        }
        let hour = std::time::Duration::from_secs(3_600);
        if !(std::time::Duration::from_secs(10)..=hour).contains(&self.dht_every) {
            return Err(("ipfs.dht_every", "must be within 10s and 1h".into()));
        }
        Ok(())
    }
}

impl IpfsConfig {
    /// The configuration with the private network's key of `data`, if there is one.
    ///
    /// # Errors
    /// [`IpfsError::SwarmKey`] when it cannot be told whether there is one.
    pub fn in_folder(&self, data: &Path) -> Result<Self, IpfsError> {
        let swarm_key = private_network::find(self.swarm_key.as_deref(), data)?;
        Ok(Self { swarm_key, ..self.clone() })
    }

    /// The peers to begin with: in a private network, only those that the owner named.
    pub fn bootstrap_peers(&self) -> Vec<rust_ipfs::Multiaddr> {
        let public = |text: &&String| self.swarm_key.is_some() && PUBLIC_BOOTSTRAP.contains(&text.as_str());
        self.bootstrap.iter().filter(|text| !public(text)).filter_map(|text| text.parse().ok()).collect()
    }
}

/// What went wrong in the node, and on what.
#[derive(Debug, Error)]
pub enum IpfsError {
    /// The repo could not be opened: another process holds it, or the folder cannot be written.
    #[error("cannot open the IPFS repo at {path}")]
    Repo {
        /// Folder of the repo.
        path: PathBuf,
        /// What rust-ipfs said.
        #[source]
        source: Cause,
    },
    /// The identity could not be read, made or written.
    #[error("identity {path}: {reason}")]
    Identity {
        /// File of the private key.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The block store failed.
    #[error("cannot {operation} block {cid}")]
    Store {
        /// Operation that failed: read, put, pin, unpin or remove.
        operation: &'static str,
        /// The block.
        cid: Cid,
        /// What rust-ipfs said.
        #[source]
        source: Cause,
    },
    /// The key of the private network is missing, unreadable or malformed.
    #[error("private network key {path}: {reason}")]
    SwarmKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The seed list is broken.
    #[error("{}{}: {reason}", path.display(), line.map_or_else(String::new, |line| format!(":{line}")))]
    Seeds {
        /// The file.
        path: PathBuf,
        /// Line in it, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong there.
        reason: String,
    },
    /// The peers of the last run could not be read.
    #[error(transparent)]
    Saved(#[from] crate::state::StateError),
    /// An IPNS record could not be signed or read.
    #[error("IPNS record: {0}")]
    Record(String),
    /// The key signs nothing.
    #[error("the key cannot sign: {0}")]
    Sign(String),
}

/// A cause from below, boxed so that rust-ipfs' error type stays inside.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
