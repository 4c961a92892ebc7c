//! Where a relay takes blocks from: what is here, and connected peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::ipfs::ipns::Name;
use crate::ipfs::unixfs::{BlockReader, NotFetched, UnixFsError};
use crate::ipfs::{Block, Blocks, IpfsError, Network, providers};

/// Blocks from here and from others.
pub trait Source: Send + Sync + 'static {
    /// The bytes of a block, from here or within `patience` from a peer, for the time `spare` not from the station itself;
    /// `None` where nobody sent it. Nothing is kept.
    fn fetch(
        &self,
        cid: Cid,
        patience: Duration,
        spare: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, IpfsError>>;

    /// Connects to peers who say that they have the tree of `root`.
    fn find(&self, root: Cid) -> BoxFuture<'static, ()>;

    /// How many peers are connected.
    fn peers(&self) -> usize;
}

/// The node's blocks and its network.
#[derive(Clone)]
pub struct Peers {
    /// The block store.
    pub blocks: Blocks,
    /// The network, where there is one.
    pub network: Option<Network>,
    /// The station, whose node has its key.
    pub station: Name,
}

impl Source for Peers {
    fn fetch(
        &self,
        cid: Cid,
        patience: Duration,
        spare: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, IpfsError>> {
        let (blocks, station) = (self.blocks.clone(), self.station);
        Box::pin(async move { blocks.fetch_sparing(&cid, patience, (&station, spare)).await })
    }

    fn find(&self, root: Cid) -> BoxFuture<'static, ()> {
        let network = self.network.clone();
        Box::pin(async move {
            if let Some(network) = network {
                providers::connect(&network, root, root).await;
            }
        })
    }

    fn peers(&self) -> usize {
        self.network.as_ref().map_or(0, |network| network.connected_ids().len())
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
    /// Until when the station itself is spared.
    pub(super) spared: Instant,
}

impl BlockReader for Reader {
    async fn read(&self, cid: &Cid) -> Result<Bytes, UnixFsError> {
        let spare = self.spared.saturating_duration_since(Instant::now());
        let fetched = self.source.fetch(*cid, self.patience, spare).await;
        match fetched.map_err(|source| UnixFsError::Store { cid: *cid, source })? {
            Some(bytes) if is_block(cid, &bytes) => Ok(bytes),
            Some(_) => {
                Err(UnixFsError::Invalid { cid: *cid, reason: "its bytes are not those that it names" })
            }
            None => Err(UnixFsError::NotFetched { cid: *cid, reason: NotFetched::Timeout }),
        }
    }
}
