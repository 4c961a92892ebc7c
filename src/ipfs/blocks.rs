//! The block store: put with a direct pin, read, unpin and remove; fetch for a reader without keeping.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use rust_ipfs::PeerId;
use rust_ipfs::repo::{DefaultStorage, Repo};

use super::ipns::Name;
use super::{Block, Cause, IpfsError, Network};

/// Blocks that are held outside the repo.
pub trait BlockSource: Send + Sync {
    /// The block, where it is held and whole.
    fn read(&self, cid: Cid) -> BoxFuture<'_, Option<Bytes>>;

    /// Whether the block is held.
    fn holds(&self, cid: &Cid) -> bool;
}

/// A handle on the blocks of the node; clones share the store.
#[derive(Clone)]
pub struct Blocks {
    repo: Arc<Repo<DefaultStorage>>,
    /// Peers, who are told of what is stored.
    network: Option<Network>,
    beside: Option<Arc<dyn BlockSource>>,
    /// Hashes of the blocks that are never removed.
    kept: Arc<RwLock<HashSet<Multihash>>>,
}

type Multihash = cid::multihash::Multihash<64>;

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blocks")
    }
}

impl Blocks {
    /// A store that lives and dies with the process.
    pub fn in_memory() -> Self {
        Self::of(Repo::new_memory())
    }

    pub(super) fn of(repo: Repo<DefaultStorage>) -> Self {
        Self { repo: Arc::new(repo), network: None, beside: None, kept: Arc::default() }
    }

    pub(super) fn with_network(self, network: Network) -> Self {
        Self { network: Some(network), ..self }
    }

    /// The same store, which looks for what it does not hold in `source` too. Lists, pins and removals are still those
    /// of the repo.
    pub fn with_source(&self, source: Arc<dyn BlockSource>) -> Self {
        Self { repo: self.repo.clone(), beside: Some(source), ..self.clone() }
    }

    /// The block, where it is held here. Never asks the network.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails or the bytes do not match the CID any more.
    pub async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, IpfsError> {
        let block = self.repo.get_block_now(cid).await.map_err(|e| failed("read", *cid, e))?;
        match (block, &self.beside) {
            (Some(block), _) => Ok(Some(block.inner_data().clone())),
            (None, Some(source)) => Ok(source.read(*cid).await),
            (None, None) => Ok(None),
        }
    }

    /// Whether the block is held here.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails.
    pub async fn contains(&self, cid: &Cid) -> Result<bool, IpfsError> {
        let held = self.repo.contains(cid).await.map_err(|e| failed("read", *cid, e))?;
        Ok(held || self.beside.as_ref().is_some_and(|source| source.holds(cid)))
    }

    /// Stores a block without a pin: for blocks that others own.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails or `data` does not match `cid`.
    pub async fn put(&self, cid: Cid, data: Bytes) -> Result<(), IpfsError> {
        let block = rust_ipfs::Block::new(cid, data).map_err(|e| failed("put", cid, e))?;
        self.repo.put_block(&block).await.map_err(|e| failed("put", cid, e))?;
        self.tell(&cid);
        Ok(())
    }

    /// Stores a block and pins it directly. What is stored already is only pinned.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails.
    pub async fn put_pinned(&self, block: &Block) -> Result<(), IpfsError> {
        let cid = block.cid;
        let unchecked = rust_ipfs::Block::new_unchecked(cid, block.data.clone());
        self.repo.put_block(&unchecked).await.map_err(|e| failed("put", cid, e))?;
        self.tell(&cid);
        self.repo.pin(cid).local().await.map_err(|e| failed("pin", cid, e))
    }

    fn tell(&self, cid: &Cid) {
        if let Some(network) = &self.network {
            network.stored(cid);
        }
    }

    /// The block from here or, within `patience`, from connected peers; `None` where nobody sent it in time or there
    /// is no network. What came from others is not kept.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails, or the network has too much to ask for.
    pub async fn fetch(&self, cid: &Cid, patience: Duration) -> Result<Option<Bytes>, IpfsError> {
        match (self.get(cid).await?, &self.network) {
            (None, Some(network)) => {
                network.block(*cid, patience).await.map_err(|e| failed("fetch", *cid, e))
            }
            (held, _) => Ok(held),
        }
    }

    /// The same for a block that can wait a moment: the node of `spared` is asked only when so long is over, as others may have
    /// the block by then, and of the others a few at first. Where there is no time to wait, all are asked at once.
    ///
    /// # Errors
    /// As [`Blocks::fetch`].
    pub async fn fetch_sparing(
        &self,
        cid: &Cid,
        patience: Duration,
        (spared, spare): (&Name, Duration),
    ) -> Result<Option<Bytes>, IpfsError> {
        let peer = PeerId::from_bytes(&spared.multihash().to_bytes()).ok();
        match (self.get(cid).await?, &self.network, peer) {
            (None, Some(network), Some(peer)) if !spare.is_zero() => {
                let fetched = network.block_sparing(*cid, patience, (peer, spare)).await;
                fetched.map_err(|e| failed("fetch", *cid, e))
            }
            (None, ..) => self.fetch(cid, patience).await,
            (held, ..) => Ok(held),
        }
    }

    /// Whether there is a network to fetch from.
    pub fn can_fetch(&self) -> bool {
        self.network.is_some()
    }

    /// From now on [`Blocks::remove`] leaves these blocks alone, under whatever codec they are named.
    pub fn keep<'a>(&self, cids: impl IntoIterator<Item = &'a Cid>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.extend(cids.into_iter().map(|cid| *cid.hash()));
    }

    fn keeps(&self, cid: &Cid) -> bool {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).contains(cid.hash())
    }

    /// Unpins and removes a block; one that is not there, or that is to be kept, is no error.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails.
    pub async fn remove(&self, cid: &Cid) -> Result<(), IpfsError> {
        if self.keeps(cid) {
            return Ok(());
        }
        if self.repo.is_pinned(cid).await.map_err(|e| failed("unpin", *cid, e))? {
            self.repo.remove_pin(cid).await.map_err(|e| failed("unpin", *cid, e))?;
        }
        self.repo.remove_block(cid, false).await.map_err(|e| failed("remove", *cid, e))?;
        Ok(())
    }

    /// Removes a block unless it is pinned.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails.
    pub async fn remove_unpinned(&self, cid: &Cid) -> Result<(), IpfsError> {
        if !self.repo.is_pinned(cid).await.map_err(|e| failed("remove", *cid, e))? {
            self.repo.remove_block(cid, false).await.map_err(|e| failed("remove", *cid, e))?;
        }
        Ok(())
    }

    /// Every block held, in no order.
    pub async fn list(&self) -> Vec<Cid> {
        self.repo.list_blocks().await.collect().await
    }

    /// Every pinned block, in no order.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the pin store cannot be read.
    pub async fn pinned(&self) -> Result<HashSet<Cid>, IpfsError> {
        let pins = self.repo.list_pins(None).await.map_ok(|(cid, _)| cid).try_collect().await;
        pins.map_err(|e| failed("list", Cid::default(), e))
    }
}

fn failed(operation: &'static str, cid: Cid, source: impl Into<Cause>) -> IpfsError {
    IpfsError::Store { operation, cid, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_is_held_and_pinned_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let on_disk = Repo::new_fs(folder.path());
        on_disk.init().await.unwrap();
        for blocks in [Blocks::in_memory(), Blocks::of(on_disk)] {
            let block = Block::raw("segment");
            blocks.put_pinned(&block).await.unwrap();
            blocks.put_pinned(&block).await.unwrap();
            assert_eq!(blocks.get(&block.cid).await.unwrap().unwrap(), block.data);
            assert!(blocks.pinned().await.unwrap().contains(&block.cid));
            blocks.remove(&block.cid).await.unwrap();
            blocks.remove(&block.cid).await.unwrap();
            assert!(blocks.get(&block.cid).await.unwrap().is_none());
            assert!(blocks.list().await.is_empty() && blocks.pinned().await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_block_that_is_to_be_kept_outlives_its_removal() {
        let blocks = Blocks::in_memory();
        let (kept, other) = (Block::dag_pb("kept"), Block::raw("other"));
        blocks.put_pinned(&kept).await.unwrap();
        blocks.put_pinned(&other).await.unwrap();
        blocks.clone().keep([&kept.cid]);
        blocks.remove(&kept.cid).await.unwrap();
        blocks.remove(&Block::raw("kept").cid).await.unwrap();
        blocks.remove(&other.cid).await.unwrap();
        assert!(blocks.contains(&kept.cid).await.unwrap() && !blocks.contains(&other.cid).await.unwrap());
        assert!(blocks.pinned().await.unwrap().contains(&kept.cid));
    }

    #[tokio::test]
    async fn bytes_that_do_not_match_their_cid_are_refused() {
        let error = Blocks::in_memory().put(Block::raw("a").cid, Bytes::from_static(b"b")).await;
        assert!(error.is_err());
    }
}
