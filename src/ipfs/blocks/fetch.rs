//! Blocks that come from the network for one reader and don't stay.
//!
//! rust-ipfs stores what bitswap brings before it hands it over. What came for a reader alone is removed as soon as
//! the reader has it, and what nobody waited for any more before the next fetch; a block that the station stores itself
//! in the meantime is its own and stays.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use cid::multihash::Multihash;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::{Blocks, IpfsError, failed};

/// Which blocks are here for readers alone.
#[derive(Default)]
pub(super) struct Passing {
    /// Held for reading from the put of a block of our own to its pin, for writing while others are removed.
    gate: RwLock<()>,
    /// How many readers wait for each. By hash, as the store may file blocks: one of our own is never taken for one
    /// that came under another codec.
    readers: Mutex<HashMap<Multihash<64>, (Cid, usize)>>,
}

impl Passing {
    fn readers(&self) -> MutexGuard<'_, HashMap<Multihash<64>, (Cid, usize)>> {
        // The map is whole between any two statements.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the block our own; it must be stored while the guard lives.
    pub(super) async fn own(&self, cid: &Cid) -> RwLockReadGuard<'_, ()> {
        let guard = self.gate.read().await;
        self.readers().remove(cid.hash());
        guard
    }

    fn left_behind(&self) -> Vec<Cid> {
        self.readers().values().filter(|(_, readers)| *readers == 0).map(|(cid, _)| *cid).collect()
    }
}

/// One reader that waits, also when it is dropped while waiting.
struct Reader<'a> {
    passing: &'a Passing,
    cid: Cid,
}

impl<'a> Reader<'a> {
    fn new(passing: &'a Passing, cid: Cid) -> Self {
        passing.readers().entry(*cid.hash()).or_insert((cid, 0)).1 += 1;
        Self { passing, cid }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some((_, readers)) = self.passing.readers().get_mut(self.cid.hash()) {
            *readers = readers.saturating_sub(1);
        }
    }
}

impl Blocks {
    /// The block from here or, within `patience`, from connected peers; `None` where nobody sent it in time or there
    /// is no network. What came from others is not kept.
    ///
    /// # Errors
    /// [`IpfsError::Store`] when the store fails.
    pub async fn fetch(&self, cid: &Cid, patience: Duration) -> Result<Option<Bytes>, IpfsError> {
        self.sweep().await?;
        if let Some(held) = self.get(cid).await? {
            return Ok(Some(held));
        }
        let reader = Reader::new(&self.passing, *cid);
        let arrived = self.repo.get_block(cid).timeout(patience);
        // Bounded here too: the limit of rust-ipfs begins only when its queue has taken the request.
        let arrived = tokio::time::timeout(patience, arrived).await;
        drop(reader);
        self.sweep().await?;
        Ok(arrived.ok().and_then(Result::ok).map(|block| block.inner_data().clone()))
    }

    /// Whether there is a network to fetch from.
    pub fn can_fetch(&self) -> bool {
        self.repo.is_online()
    }

    /// Removes what no reader waits for any more.
    async fn sweep(&self) -> Result<(), IpfsError> {
        if self.passing.left_behind().is_empty() {
            return Ok(());
        }
        let _nothing_is_put = self.passing.gate.write().await;
        for cid in self.passing.left_behind() {
            let pinned = self.repo.is_pinned(&cid).await.map_err(|e| failed("read", cid, e))?;
            if !pinned && self.contains(&cid).await? {
                self.repo.remove_block(cid, false).await.map_err(|e| failed("remove", cid, e))?;
            }
            self.passing.readers().remove(cid.hash());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Block;
    use super::*;

    const BRIEF: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn what_nobody_waits_for_is_swept_and_what_is_ours_stays() {
        let blocks = Blocks::in_memory();
        let (foreign, own, pinned) = (Block::raw("foreign"), Block::raw("own"), Block::raw("pinned"));
        for block in [&foreign, &own, &pinned] {
            drop(Reader::new(&blocks.passing, block.cid));
            let arrived = rust_ipfs::Block::new_unchecked(block.cid, block.data.clone());
            blocks.repo.put_block(&arrived).await.unwrap();
        }
        blocks.put(own.cid, own.data.clone()).await.unwrap();
        blocks.put_pinned(&pinned).await.unwrap();
        assert_eq!(blocks.fetch(&Block::raw("nowhere").cid, BRIEF).await.unwrap(), None);
        assert!(blocks.get(&foreign.cid).await.unwrap().is_none());
        assert!(blocks.get(&own.cid).await.unwrap().is_some());
        assert!(blocks.get(&pinned.cid).await.unwrap().is_some());
        assert!(blocks.passing.readers().is_empty());
    }

    #[tokio::test]
    async fn a_block_stays_while_another_reader_waits_for_it() {
        let blocks = Blocks::in_memory();
        let block = Block::raw("wanted");
        let waiting = Reader::new(&blocks.passing, block.cid);
        drop(Reader::new(&blocks.passing, block.cid));
        let arrived = rust_ipfs::Block::new_unchecked(block.cid, block.data.clone());
        blocks.repo.put_block(&arrived).await.unwrap();
        blocks.sweep().await.unwrap();
        assert!(blocks.contains(&block.cid).await.unwrap());
        drop(waiting);
        blocks.sweep().await.unwrap();
        assert!(!blocks.contains(&block.cid).await.unwrap());
    }
}
