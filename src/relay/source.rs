//! Where a relay takes blocks from: what is here, and connected peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;

use crate::ipfs::unixfs::{BlockReader, NotFetched, UnixFsError};
use crate::ipfs::{Block, Blocks, IpfsError, Network, providers};

/// Blocks from here and from others.
pub trait Source: Send + Sync + 'static {
    /// The bytes of a block, from here or within `patience` from a peer; `None` where nobody sent it. Nothing is kept.
    fn fetch(&self, cid: Cid, patience: Duration) -> BoxFuture<'static, Result<Option<Bytes>, IpfsError>>;

    /// Connects to peers who say that they have the tree of `root`.
    fn find(&self, root: Cid) -> BoxFuture<'static, ()>;
}

/// The node's blocks and its network.
#[derive(Clone)]
pub struct Peers {
    /// The block store.
    pub blocks: Blocks,
    /// The network, where there is one.
    pub network: Option<Network>,
}

impl Source for Peers {
    fn fetch(&self, cid: Cid, patience: Duration) -> BoxFuture<'static, Result<Option<Bytes>, IpfsError>> {
        let blocks = self.blocks.clone();
        Box::pin(async move { blocks.fetch(&cid, patience).await })
    }

    fn find(&self, root: Cid) -> BoxFuture<'static, ()> {
        let network = self.network.clone();
        Box::pin(async move {
            if let Some(network) = network {
                providers::connect(&network, root, root).await;
            }
        })
    }
}

/// Whether the bytes are those that the CID names.
pub(super) fn is_block(cid: &Cid, bytes: &Bytes) -> bool {
    Block::of(cid.codec(), bytes.clone()).cid == *cid
}

/// Reads a tree whose blocks may be elsewhere.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) source: Arc<dyn Source>,
    /// How long one block may take.
    pub(super) patience: Duration,
}

impl BlockReader for Reader {
    async fn read(&self, cid: &Cid) -> Result<Bytes, UnixFsError> {
        let fetched = self.source.fetch(*cid, self.patience).await;
        match fetched.map_err(|source| UnixFsError::Store { cid: *cid, source })? {
            Some(bytes) if is_block(cid, &bytes) => Ok(bytes),
            Some(_) => Err(UnixFsError::Invalid { cid: *cid, reason: "its bytes are not those that it names" }),
            None => Err(UnixFsError::NotFetched { cid: *cid, reason: NotFetched::Timeout }),
        }
    }
}
