//! The blocks that one request may read: those in memory, those held, and, where the configuration allows it, some from
//! the network.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::{self, Either};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::config::GatewayConfig;
use super::hot_blocks::HotBlocks;
use crate::ipfs::unixfs::{BlockReader, DAG_PB, NotFetched, RAW, UnixFsError};
use crate::ipfs::{Blocks, Network, providers};
use crate::metrics::{LimitLabel, Metrics};

/// What all requests share.
pub(super) struct Store {
    blocks: Blocks,
    network: Option<Network>,
    hot: HotBlocks,
    fetching: Arc<Semaphore>,
    config: GatewayConfig,
    metrics: Metrics,
}

/// The blocks for one request. Clones draw on the same allowance.
#[derive(Clone)]
pub(super) struct Source {
    store: Arc<Store>,
    /// Whether others may be asked: the owner allows it, and there is a network.
    pub(super) open: bool,
    /// Whether the client wants what is here and nothing else.
    pub(super) only_if_cached: bool,
    allowance: Arc<Allowance>,
    /// The content root of the request, whose providers have what is below it.
    root: Option<Cid>,
}

#[derive(Debug)]
struct Allowance {
    bytes: AtomicU64,
    /// Whether providers were looked for.
    searched: AtomicBool,
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
    pub(super) fn new(
        blocks: Blocks,
        network: Option<Network>,
        config: GatewayConfig,
        metrics: Metrics,
    ) -> Store {
        let fetching = Arc::new(Semaphore::new(config.fetch_concurrent.get()));
        Store { blocks, network, hot: HotBlocks::default(), fetching, config, metrics }
    }

    /// For a request that may fetch what the configuration allows, or nothing (`only_if_cached`).
    pub(super) fn source(self: &Arc<Self>, only_if_cached: bool) -> Source {
        let open = self.config.fetch && self.blocks.can_fetch();
        let state = AllowanceState { patience: self.config.fetch_timeout, place: None };
        let bytes = AtomicU64::new(self.config.fetch_max_bytes.get());
        let allowance = Allowance { bytes, searched: AtomicBool::new(false), state: Mutex::new(state) };
        let (store, allowance) = (Arc::clone(self), Arc::new(allowance));
        Source { store, open, only_if_cached, allowance, root: None }
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

    fn refused(&self, reason: NotFetched) -> NotFetched {
        let label = match reason {
            NotFetched::Timeout => "fetch_timeout",
            NotFetched::TooMuch => "fetch_bytes",
            NotFetched::Busy => "fetch_concurrent",
        };
        self.metrics.gateway_refusals.get_or_create(&LimitLabel { reason: label }).inc();
        reason
    }
}

impl Source {
    /// The same for what is below `root`.
    pub(super) fn below(self, root: Cid) -> Source {
        Source { root: Some(root), ..self }
    }

    /// Waits for an answer of others, within the limits of a request that fetches.
    ///
    /// # Errors
    /// [`NotFetched`].
    pub(super) async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, NotFetched> {
        let refused = |reason| self.store.refused(reason);
        let patience = self.allowance.enter(&self.store.fetching).map_err(refused)?;
        let began = Instant::now();
        let answered = timeout(patience, answer).await;
        self.allowance.waited(began.elapsed());
        answered.map_err(|_| refused(NotFetched::Timeout))
    }

    async fn fetch(&self, cid: &Cid) -> Result<Bytes, UnixFsError> {
        let store = &self.store;
        let not_fetched = |reason| UnixFsError::NotFetched { cid: *cid, reason };
        // Its own limit is that of the whole request, so that the outer one is the first to end it.
        let fetched = self.with_providers(cid, store.blocks.fetch(cid, store.config.fetch_timeout));
        let fetched = self.wait(fetched).await.map_err(not_fetched)?;
        let fetched = fetched.map_err(|source| UnixFsError::Store { cid: *cid, source })?;
        let bytes = fetched.ok_or_else(|| not_fetched(store.refused(NotFetched::Timeout)))?;
        store.metrics.gateway_fetched_bytes.inc_by(bytes.len() as u64);
        let taken = self.allowance.take(bytes.len() as u64);
        taken.map_err(|reason| not_fetched(store.refused(reason)))?;
        Ok(bytes)
    }

    /// Fetches while, once in a request, those are connected to who say that they have the block or the root.
    async fn with_providers<T>(&self, cid: &Cid, fetched: impl Future<Output = T>) -> T {
        let Some(network) = &self.store.network else { return fetched.await };
        if self.allowance.searched.swap(true, Ordering::Relaxed) {
            return fetched.await;
        }
        let search = pin!(providers::connect(network, self.root.unwrap_or(*cid), *cid));
        // Whoever gets connected is asked for what is still wanted.
        match future::select(pin!(fetched), search).await {
            Either::Left((fetched, _)) => fetched,
            Either::Right(((), fetched)) => fetched.await,
        }
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
        let bytes = match store.held(cid).await {
            Err(UnixFsError::NotHeld { .. }) if self.open && !self.only_if_cached => self.fetch(cid).await?,
            held => held?,
        };
        store.hot.insert(*cid, bytes.clone());
        Ok(bytes)
    }
}
