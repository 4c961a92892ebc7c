//! Lends blocks of the archive to peers.
//!
//! Bitswap serves what the repo holds, and the repo is kept small, in memory on a board. So blocks that a connected peer
//! asks for, and the archive has, are put into the repo for a while; bitswap then answers by itself, since it remembers
//! what a peer wants. A crash loses nothing: the sweep at the start removes what was lent.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Store;
use crate::health::StageHealth;
use crate::ipfs::{BlockSource, Blocks, IpfsError, Node};

/// How often wants are looked at: a peer that reads the archive waits half of it on average.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a block is lent.
const FOR: Duration = Duration::from_secs(60);
/// Bounds the memory that peers who read the archive can take of the board.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Tells what peers ask for.
pub trait Wants: Send + Sync {
    /// The blocks that connected peers want, held or not.
    fn wanted(&self) -> BoxFuture<'_, Vec<Cid>>;
}

impl Wants for Node {
    fn wanted(&self) -> BoxFuture<'_, Vec<Cid>> {
        Box::pin(std::future::ready(Node::wanted(self)))
    }
}

/// What is lent, oldest first.
#[derive(Default)]
pub struct Lent {
    blocks: VecDeque<(Instant, Cid, usize)>,
    bytes: usize,
}

/// The lender's ends; survives a restart of it.
pub struct Lending {
    /// What peers want.
    pub wants: Arc<dyn Wants>,
    /// The repo.
    pub blocks: Blocks,
    /// The archive.
    pub store: Arc<Store>,
    /// What is lent.
    pub lent: Mutex<Lent>,
    /// Where it reports.
    pub health: StageHealth,
}

impl Lending {
    /// Lends until `cancel` fires.
    ///
    /// # Errors
    /// None: what cannot be lent is told, and the peer asks elsewhere.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), Infallible> {
        let mut lent = self.lent.lock().await;
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = every.tick() => {}
            }
            let wanted: HashSet<Cid> =
                self.wants.wanted().await.into_iter().filter(|cid| self.store.holds(cid)).collect();
            if let Err(error) = lent.renew(&self.blocks, &self.store, wanted).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the archive cannot be lent");
            }
            self.health.progress();
        }
    }
}

impl Lent {
    /// Takes back what was lent long enough, and lends what is wanted within the bounds.
    async fn renew(&mut self, blocks: &Blocks, store: &Store, wanted: HashSet<Cid>) -> Result<(), IpfsError> {
        let now = Instant::now();
        while self.blocks.front().is_some_and(|(since, ..)| now - *since >= FOR) {
            self.take_back(blocks).await?;
        }
        for cid in wanted {
            // What the window holds is served without us.
            if blocks.contains(&cid).await? {
                continue;
            }
            let Some(data) = store.read(cid).await else { continue };
            while self.bytes + data.len() > MAX_BYTES && !self.blocks.is_empty() {
                self.take_back(blocks).await?;
            }
            let len = data.len();
            blocks.put(cid, data).await?;
            self.blocks.push_back((now, cid, len));
            self.bytes += len;
        }
        Ok(())
    }

    /// Takes back the oldest. Where the station needs the block itself by now, it is pinned and stays.
    async fn take_back(&mut self, blocks: &Blocks) -> Result<(), IpfsError> {
        let Some((_, cid, len)) = self.blocks.pop_front() else { return Ok(()) };
        self.bytes -= len;
        blocks.remove_unpinned(&cid).await
    }
}
