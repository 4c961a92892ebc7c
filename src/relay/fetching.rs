//! Announced media from peers into the store, each block before its airtime.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::following::Following;
use super::source::{Source, is_block};
use super::window::Window;
use super::{Relay, Work};
use crate::ipfs::{Block, Blocks};
use crate::metrics::NameMetrics;
use crate::publisher::stream_tree::Entry;

/// Blocks that are fetched at a time: enough to fill a line, few enough that the first ones come first.
const AT_ONCE: usize = 8;
/// The same of what no playlist lists any more: whoever comes takes minutes of it, on lines that carry what comes as well.
const PAST_AT_ONCE: usize = 2;
/// When a relay that comes begins with that: the other relays, who have it too, are known by then.
const PAST_AFTER: Duration = Duration::from_secs(10);
/// How long one block may take before it is asked for anew.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the fetch of a block ended.
pub(super) struct Fetched {
    entry: Entry,
    outcome: Result<(), &'static str>,
}

impl Relay {
    /// Fetches what is missing, the most urgent first.
    pub(super) fn begin_fetches(&self, following: &mut Following, work: &mut Work) {
        let mut next = next(following, work, AT_ONCE, Window::missing);
        if next.is_empty() && following.read_at.is_some_and(|at| at.elapsed() >= PAST_AFTER) {
            next = self::next(following, work, PAST_AT_ONCE, Window::missing_past);
            next.iter().for_each(|entry| following.spare_past(entry.cid, self.crowd(), fastrand::f64));
        }
        for entry in next {
            if work.busy.insert(entry.cid) {
                let (source, blocks) = (self.source.clone(), self.blocks.clone());
                let spare = following.spare(&entry.cid);
                work.fetches.spawn(fetch(source, blocks, entry, spare).in_current_span());
            }
        }
    }

    pub(super) fn fetched(&self, following: &mut Following, work: &mut Work, fetched: &Fetched) {
        let cid = fetched.entry.cid;
        work.busy.remove(&cid);
        NameMetrics::count(&self.metrics.relay.fetches, fetched.outcome.err().unwrap_or("held"));
        if fetched.outcome.is_err() {
            return following.rest(cid);
        }
        self.metrics.relay.fetched_bytes.inc_by(fetched.entry.size);
        if let Some(announced) = following.settle(&cid) {
            self.metrics.relay.held_after_seconds.observe(announced.elapsed().as_secs_f64());
        }
        following.window.hold(cid);
        if !following.window.media().any(|entry| entry.cid == cid) {
            // It left the window while it was on its way.
            following.window.release(&cid);
            following.backlog.unlinked.push(cid);
        }
        let held = following.window.held_until();
        self.held_until.send_if_modified(|known| std::mem::replace(known, held) != held);
    }
}

/// The first that are to be fetched now, as long as fewer than `most` are.
fn next<'a, M: Iterator<Item = &'a Entry>>(
    following: &'a Following,
    work: &Work,
    most: usize,
    missing: fn(&'a Window) -> M,
) -> Vec<Entry> {
    let room = most.saturating_sub(work.fetches.len());
    let waits = |entry: &&Entry| !work.busy.contains(&entry.cid) && !following.rests(&entry.cid);
    missing(&following.window).filter(waits).take(room).copied().collect()
}

async fn fetch(source: Arc<dyn Source>, blocks: Blocks, entry: Entry, spare: Duration) -> Fetched {
    let fetched = source.fetch(entry.cid, PATIENCE, spare).await;
    let outcome = match fetched {
        Ok(Some(bytes)) if bytes.len() as u64 != entry.size || !is_block(&entry.cid, &bytes) => Err("wrong"),
        Ok(Some(data)) => {
            let stored = blocks.put_pinned(&Block { cid: entry.cid, data }).await;
            stored.map_err(|error| {
                tracing::error!(cid = %entry.cid, error = &error as &dyn std::error::Error, "a block is not stored");
                "failed"
            })
        }
        Ok(None) => Err("missing"),
        Err(error) => {
            tracing::debug!(cid = %entry.cid, error = &error as &dyn std::error::Error, "a block is not fetched");
            Err("failed")
        }
    };
    Fetched { entry, outcome }
}
