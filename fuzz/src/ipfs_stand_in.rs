//! Stands in for the block store, and counts what is read from it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cid::Cid;
use thiserror::Error;

#[derive(Debug, Default)]
struct Held {
    blocks: Mutex<HashMap<Cid, Bytes>>,
    reads: AtomicU64,
}

/// Blocks in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Blocks(Arc<Held>);

impl Blocks {
    pub fn put(&self, cid: Cid, data: Bytes) {
        self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner).insert(cid, data);
    }

    pub async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, IpfsError> {
        self.0.reads.fetch_add(1, Relaxed);
        Ok(self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner).get(cid).cloned())
    }

    /// Reads since the last call.
    pub fn take_reads(&self) -> u64 {
        self.0.reads.swap(0, Relaxed)
    }
}

/// Of the station's, what the parsers give.
#[derive(Debug, Error)]
pub enum IpfsError {
    #[error("private network key {path}: {reason}")]
    SwarmKey { path: PathBuf, reason: String },
    #[error("{path}:{line:?}: {reason}")]
    Seeds { path: PathBuf, line: Option<usize>, reason: String },
}
