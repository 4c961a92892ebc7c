//! Takes in ticks while the mirror is busy, and tells how far it is behind.

use std::sync::Arc;

use tokio::sync::watch;

use super::Mirror;
use super::queue::{Queue, Tick};
use crate::health::MirrorHealth;
use crate::metrics::{Metrics, MirrorLabel};
use crate::publisher::stream_tree::StreamTree;

pub(super) struct Waiting {
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
    /// Whether the publisher is there.
    open: bool,
    queue: Queue,
    /// Whether a tick is taken out and not pushed yet.
    in_work: bool,
    label: MirrorLabel,
    health: MirrorHealth,
    metrics: Metrics,
}

impl Waiting {
    pub(super) fn new(mirror: &Mirror) -> Self {
        let mut waiting = Self {
            tree: mirror.tree.clone(),
            open: true,
            queue: Queue::new(mirror.queue),
            in_work: false,
            label: MirrorLabel { mirror: mirror.name.clone() },
            health: mirror.health.clone(),
            metrics: mirror.metrics.clone(),
        };
        waiting.take_in();
        waiting
    }

    /// The oldest tick, as soon as there is one; `None` when the publisher has ended and none is left.
    pub(super) async fn next(&mut self) -> Option<Tick> {
        loop {
            if let Some(tick) = self.queue.pop() {
                self.in_work = true;
                self.tell();
                return Some(tick);
            }
            if !self.open {
                return None;
            }
            self.changed().await;
        }
    }

    /// Awaits `work` and takes in ticks meanwhile.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.changed(), if self.open => {}
                done = &mut work => return done,
            }
        }
    }

    /// The tick in work is pushed.
    pub(super) fn done(&mut self) {
        self.in_work = false;
        self.tell();
    }

    /// The tick in work goes with the next one.
    pub(super) fn merge(&mut self) {
        self.metrics.mirror_ticks_merged.get_or_create(&self.label).inc();
        self.done();
    }

    /// The tick in work is tried again, before all others.
    pub(super) fn put_back(&mut self, tick: Tick) {
        if self.queue.put_back(tick) {
            self.merge();
        }
        self.done();
    }

    pub(super) fn has_newer(&self) -> bool {
        self.queue.len() > 0
    }

    async fn changed(&mut self) {
        match self.tree.changed().await {
            Ok(()) => self.take_in(),
            Err(_) => self.open = false,
        }
    }

    fn take_in(&mut self) {
        let tree = self.tree.borrow_and_update().clone();
        let Some(tree) = tree else { return };
        if self.queue.push(Tick { root: tree.root, newest: tree.newest }) {
            self.metrics.mirror_ticks_merged.get_or_create(&self.label).inc();
        }
        self.tell();
    }

    fn tell(&self) {
        let lag = self.queue.len() + usize::from(self.in_work);
        self.health.lags(lag);
        let gauge = self.metrics.mirror_lag_ticks.get_or_create(&self.label);
        gauge.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }
}
