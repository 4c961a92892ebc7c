//! The blocks that one request may read: those in memory, those held, and, where the configuration allows it, some from
//! the network.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::config::GatewayConfig;
use super::hot_blocks::HotBlocks;
use crate::ipfs::Blocks;
use crate::ipfs::unixfs::{BlockReader, DAG_PB, NotFetched, RAW, UnixFsError};
use crate::metrics::{LimitLabel, Metrics};

/// What all requests share.
#[derive(Debug)]
pub(super) struct Store {
    blocks: Blocks,
    hot: HotBlocks,
    fetching: Arc<Semaphore>,
    config: GatewayConfig,
    metrics: Metrics,
}

/// The blocks for one request. Clones draw on the same allowance.
#[derive(Debug, Clone)]
pub(super) struct Source {
    store: Arc<Store>,
    /// What may still be fetched; `None` where nothing may.
    allowance: Option<Arc<Allowance>>,
}

#[derive(Debug)]
struct Allowance {
    bytes: AtomicU64,
    state: Mutex<AllowanceState>,
}

#[derive(Debug)]
struct AllowanceState {
    /// Time left to wait.
    patience: Duration,
    /// The place among the requests that fetch; taken with the first block and kept until the request is over.
    place: Option<OwnedSemaphorePermit>,
}

impl Store {
    pub(super) fn new(blocks: Blocks, config: GatewayConfig, metrics: Metrics) -> Store {
        let fetching = Arc::new(Semaphore::new(config.fetch_concurrent.get()));
        Store { blocks, hot: HotBlocks::default(), fetching, config, metrics }
    }

    /// For a request that may fetch what the configuration allows, or nothing (`only_held`).
    pub(super) fn source(self: &Arc<Self>, only_held: bool) -> Source {
        let may_fetch = self.config.fetch && !only_held && self.blocks.can_fetch();
        let allowance = may_fetch.then(|| {
            let state = AllowanceState { patience: self.config.fetch_timeout, place: None };
            let bytes = AtomicU64::new(self.config.fetch_max_bytes.get());
            Arc::new(Allowance { bytes, state: Mutex::new(state) })
        });
        Source { store: Arc::clone(self), allowance }
    }

    /// The block from here, under its CID or another one of the same bytes.
    async fn held(&self, cid: &Cid) -> Result<Bytes, UnixFsError> {
        let not_held = match self.blocks.read(cid).await {
            Err(error @ UnixFsError::NotHeld { .. }) => error,
            held => return held,
        };
        for alias in aliases(cid) {
            match self.blocks.read(&alias).await {
                Err(UnixFsError::NotHeld { .. }) => {}
                held => return held,
            }
        }
        Err(not_held)
    }

    async fn fetch(&self, cid: &Cid, allowance: &Allowance) -> Result<Bytes, UnixFsError> {
        let refused = |reason: NotFetched| {
            let label = match reason {
                NotFetched::Timeout => "fetch_timeout",
                NotFetched::TooMuch => "fetch_bytes",
                NotFetched::Busy => "fetch_concurrent",
            };
            self.metrics.gateway_refusals.get_or_create(&LimitLabel { reason: label }).inc();
            UnixFsError::NotFetched { cid: *cid, reason }
        };
        let patience = allowance.enter(&self.fetching).map_err(refused)?;
        let began = Instant::now();
        let fetched = self.blocks.fetch(cid, patience).await;
        allowance.waited(began.elapsed());
        let fetched = fetched.map_err(|source| UnixFsError::Store { cid: *cid, source })?;
        let bytes = fetched.ok_or_else(|| refused(NotFetched::Timeout))?;
        self.metrics.gateway_fetched_bytes.inc_by(bytes.len() as u64);
        allowance.take(bytes.len() as u64).map_err(refused)?;
        Ok(bytes)
    }
}

impl Allowance {
    /// The time left, once there is a place.
    fn enter(&self, places: &Arc<Semaphore>) -> Result<Duration, NotFetched> {
        // Nothing panics while it is held.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bytes.load(Ordering::Relaxed) == 0 {
            return Err(NotFetched::TooMuch);
        }
        if state.patience.is_zero() {
            return Err(NotFetched::Timeout);
        }
        if state.place.is_none() {
            state.place = Some(Arc::clone(places).try_acquire_owned().map_err(|_| NotFetched::Busy)?);
        }
        Ok(state.patience)
    }

    fn waited(&self, time: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.patience = state.patience.saturating_sub(time);
    }

    fn take(&self, bytes: u64) -> Result<(), NotFetched> {
        let left = self.bytes.load(Ordering::Relaxed);
        // A request reads one block at a time, so nobody else writes here.
        self.bytes.store(left.saturating_sub(bytes), Ordering::Relaxed);
        if bytes > left { Err(NotFetched::TooMuch) } else { Ok(()) }
    }
}

/// CIDs of the same bytes that are in use: a block is named by its hash, version and codec are how it was asked for.
fn aliases(cid: &Cid) -> impl Iterator<Item = Cid> + use<> {
    let (cid, hash) = (*cid, *cid.hash());
    let all = [Cid::new_v0(hash).ok(), Some(Cid::new_v1(DAG_PB, hash)), Some(Cid::new_v1(RAW, hash))];
    all.into_iter().flatten().filter(move |alias| *alias != cid)
}

impl BlockReader for Source {
    async fn read(&self, cid: &Cid) -> Result<Bytes, UnixFsError> {
        let store = &self.store;
        if let Some(bytes) = store.hot.get(cid) {
            return Ok(bytes);
        }
        let bytes = match (store.held(cid).await, &self.allowance) {
            (Err(UnixFsError::NotHeld { .. }), Some(allowance)) => store.fetch(cid, allowance).await?,
            (held, _) => held?,
        };
        store.hot.insert(*cid, bytes.clone());
        Ok(bytes)
    }
}
