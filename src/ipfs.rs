//! The embedded IPFS node, and the only place that knows rust-ipfs.
//!
//! Imports no stage. rust-ipfs' own garbage collector is never enabled: it can drop a block between put and pin.

pub mod block;
pub mod blocks;
pub mod car;
pub mod identity;
pub mod imports;
pub mod ipns;
pub mod node;
pub mod traversal;
pub mod unixfs;

use std::path::PathBuf;

use cid::Cid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use block::Block;
pub use blocks::Blocks;
pub use identity::Identity;
pub use node::Node;

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
    /// How long a signed IPNS record is valid (EOL in the IPNS specification).
    #[serde(with = "humantime_serde")]
    pub record_validity: std::time::Duration,
    /// How long resolvers may cache a record (TTL).
    #[serde(with = "humantime_serde")]
    pub record_ttl: std::time::Duration,
}

impl Default for IpfsConfig {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/4001".into()],
            offline: false,
            repo: None,
            record_validity: std::time::Duration::from_secs(48 * 3600),
            record_ttl: std::time::Duration::from_secs(5),
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
        let year = std::time::Duration::from_secs(366 * 24 * 3600);
        if !(std::time::Duration::from_secs(60)..=year).contains(&self.record_validity) {
            return Err(("ipfs.record_validity", "must be within 1m and 1year".into()));
        }
        if self.record_ttl > year {
            return Err(("ipfs.record_ttl", "must be 1year at most".into()));
        }
        Ok(())
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
    /// An IPNS record could not be signed or read.
    #[error("IPNS record: {0}")]
    Record(String),
}

/// A cause from below, boxed so that rust-ipfs' error type stays inside.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
