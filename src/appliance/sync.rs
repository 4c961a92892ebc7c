//! Starts the sync stage, for an origin and for a relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::wiring::{Parts, Wiring};
use crate::ipfs::ipns::Name;
use crate::sync::{self, Part, SyncHandle, SyncParts, neighbours};

/// How often the machine's addresses are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the stage is told beside what every stage gets.
pub(super) struct SyncEnds {
    /// The station.
    pub(super) name: Name,
    /// What the node is to it.
    pub(super) part: Part,
    /// Addresses of the node, each ending in `/p2p/<peer id>`.
    pub(super) swarm: watch::Receiver<Vec<String>>,
}

impl Wiring {
    /// Tells the station's other nodes of this one, whose web server listens on `http`, and hears of them; where there is
    /// no network, nothing.
    pub(super) fn sync(&mut self, parts: &Parts<'_>, http: SocketAddr, ends: SyncEnds) -> Option<SyncHandle> {
        let routing = parts.node.routing()?;
        let urls = self.follow_urls(parts, http);
        let report = parts.health.stage("sync", None);
        let (stage, handle) = sync::Sync::new(SyncParts {
            name: ends.name,
            part: ends.part,
            identity: parts.node.identity().clone(),
            segment: parts.config.hls.segment,
            routing,
            clock: parts.clock.clone(),
            http: urls,
            swarm: ends.swarm,
            overall: parts.health.clone(),
            health: report.clone(),
            metrics: parts.metrics.sync.clone(),
        });
        let stage = Arc::new(stage);
        self.supervise(report, "sync", move |cancel| {
            let stage = stage.clone();
            async move { stage.run(cancel).await }
        });
        Some(handle)
    }

    /// Whom a relay keeps to: the origin's node, and a few other relays, so that it is not the origin alone who sends.
    pub(super) fn keep_together(
        &mut self,
        parts: &Parts<'_>,
        mut origin: watch::Receiver<Vec<String>>,
        named: watch::Sender<Vec<String>>,
        sync: Option<&SyncHandle>,
    ) {
        let (own, state) = (parts.node.identity().name(), sync.map(|sync| sync.state.clone()));
        self.spawn("neighbours", |cancel| async move {
            let mut every = tokio::time::interval(LOOK_EVERY);
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    Ok(()) = origin.changed() => {}
                    _ = every.tick() => {}
                }
                let mut now = origin.borrow_and_update().clone();
                let known = state.as_ref().map(|state| state.borrow().clone());
                now.extend(known.iter().flat_map(|state| neighbours::addresses(&own, state)));
                named.send_if_modified(|before| {
                    *before != now && {
                        *before = now;
                        true
                    }
                });
            }
        });
    }

    /// The URLs under which listeners reach this node; a board gets its address a moment after its start.
    fn follow_urls(&mut self, parts: &Parts<'_>, http: SocketAddr) -> watch::Receiver<Vec<String>> {
        let config = parts.config.http.clone();
        let (sender, urls) = watch::channel(config.public_urls(http));
        self.spawn("http addresses", |cancel| async move {
            let mut every = tokio::time::interval(LOOK_EVERY);
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = every.tick() => {
                        let now = config.public_urls(http);
                        sender.send_if_modified(|known| *known != now && { *known = now; true });
                    }
                }
            }
        });
        urls
    }
}
