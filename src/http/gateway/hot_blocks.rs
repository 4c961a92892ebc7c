//! Blocks that were asked for lately, in memory. Pure.
//!
//! The store of a station reads and hashes a file for every read. What a crowd asks for is read once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cid::Cid;

/// Bounds the bytes kept: some twenty slots of the default renditions, on a board that is to live on 64 MB.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What an entry costs besides its bytes: about a CID and a place in a table.
const ENTRY_BYTES: usize = 192;

/// Two generations: what is not asked for while one half fills up is forgotten with the next.
#[derive(Debug, Default)]
pub(super) struct HotBlocks {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Cid, Bytes>,
    young_bytes: usize,
    old: HashMap<Cid, Bytes>,
}

impl HotBlocks {
    pub(super) fn get(&self, cid: &Cid) -> Option<Bytes> {
        let mut generations = self.lock();
        if let Some(bytes) = generations.young.get(cid) {
            return Some(bytes.clone());
        }
        let bytes = generations.old.remove(cid)?;
        generations.add(*cid, bytes.clone());
        Some(bytes)
    }

    pub(super) fn insert(&self, cid: Cid, bytes: Bytes) {
        self.lock().add(cid, bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Whole between any two statements.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn add(&mut self, cid: Cid, bytes: Bytes) {
        let cost = bytes.len() + ENTRY_BYTES;
        if cost > MAX_BYTES / 2 {
            return;
        }
        if self.young_bytes + cost > MAX_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(cid, bytes).is_none() {
            self.young_bytes += cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

    fn cid(n: usize) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_le_bytes()))
    }

    fn held(blocks: &HotBlocks) -> usize {
        let generations = blocks.lock();
        let all = generations.young.values().chain(generations.old.values());
        all.map(|bytes| bytes.len() + ENTRY_BYTES).sum()
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let blocks = HotBlocks::default();
        let wanted = cid(0);
        blocks.insert(wanted, Bytes::from_static(b"wanted"));
        for n in 1..1000 {
            blocks.insert(cid(n), Bytes::from(vec![0; 100_000]));
            assert!(blocks.get(&wanted).is_some(), "{n}");
            assert!(held(&blocks) <= MAX_BYTES);
        }
        assert!(blocks.get(&cid(1)).is_none());
        assert!(blocks.get(&cid(999)).is_some());
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_empty_blocks_are_bounded_too() {
        let blocks = HotBlocks::default();
        blocks.insert(cid(0), Bytes::from(vec![0; MAX_BYTES / 2]));
        assert!(blocks.get(&cid(0)).is_none());
        for n in 0..100_000 {
            blocks.insert(cid(n), Bytes::new());
        }
        assert!(held(&blocks) <= MAX_BYTES);
    }
}
