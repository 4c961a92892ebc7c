//! The blocks of the archive, for whoever reads: files on the disk, and in memory the tree of the day that goes on.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;

use super::volume::Volume;
use crate::ipfs::{Block, BlockSource};

/// A file by its day and its name below that.
type Name = (String, String);

/// What can be read of the archive. Readers never wait for a write to the disk.
#[derive(Default)]
pub struct Store {
    shelves: RwLock<Shelves>,
}

#[derive(Default)]
struct Shelves {
    volumes: BTreeMap<Name, Arc<Volume>>,
    /// The newest tree's blocks that lie in no file.
    fresh: HashMap<Cid, Bytes>,
    /// Those of the tree before, for whoever is reading it.
    before: HashMap<Cid, Bytes>,
}

impl Store {
    pub(super) fn volume(&self, day: &str, file: &str) -> Option<Arc<Volume>> {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        shelves.volumes.get(&(day.to_owned(), file.to_owned())).cloned()
    }

    pub(super) fn put(&self, day: &str, file: &str, volume: Volume) {
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        shelves.volumes.insert((day.to_owned(), file.to_owned()), Arc::new(volume));
    }

    pub(super) fn remove_day(&self, day: &str) {
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        shelves.volumes.retain(|(other, _), _| other != day);
    }

    /// Bytes of the files of a day.
    pub(super) fn bytes_of(&self, day: &str) -> u64 {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        let of_day = shelves.volumes.iter().filter(|((other, _), _)| other == day);
        of_day.map(|(_, volume)| volume.len()).sum()
    }

    /// Puts a newer tree's blocks in place of those before.
    pub(super) fn refresh(&self, blocks: Vec<Block>) {
        let fresh = blocks.into_iter().map(|block| (block.cid, block.data)).collect();
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        shelves.before = std::mem::replace(&mut shelves.fresh, fresh);
    }

    /// The block in memory, or the files that may hold it, newest first.
    fn find(&self, cid: &Cid) -> Result<Bytes, Vec<Arc<Volume>>> {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = shelves.fresh.get(cid).or_else(|| shelves.before.get(cid)) {
            return Ok(bytes.clone());
        }
        Err(shelves.volumes.values().rev().filter(|volume| volume.holds(cid)).cloned().collect())
    }
}

impl BlockSource for Store {
    fn read(&self, cid: Cid) -> BoxFuture<'_, Option<Bytes>> {
        let found = self.find(&cid);
        Box::pin(async move {
            let volumes = match found {
                Ok(bytes) => return Some(bytes),
                Err(volumes) if volumes.is_empty() => return None,
                Err(volumes) => volumes,
            };
            tokio::task::spawn_blocking(move || first_whole(&volumes, &cid)).await.ok().flatten()
        })
    }

    fn holds(&self, cid: &Cid) -> bool {
        self.find(cid).map_or_else(|volumes| !volumes.is_empty(), |_| true)
    }
}

/// A block that is damaged in one file may be whole in another, such as an init segment.
fn first_whole(volumes: &[Arc<Volume>], cid: &Cid) -> Option<Bytes> {
    let read = |volume: &Arc<Volume>| match volume.read(cid) {
        Ok(bytes) => bytes,
        // A day that was removed a moment ago.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(%cid, %error, "a block of the archive cannot be read");
            None
        }
    };
    volumes.iter().find_map(read)
}
