//! What a relay knows across a restart of the stage, and, of that, what it writes down for one of the process.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::DRY_SEGMENTS;
use super::airtimes::Airtimes;
use super::signed_tree::{self, SignedTree};
use super::window::Window;
use crate::ipfs::Blocks;
use crate::ipfs::ipns::{Name, Record};
use crate::publisher::Tick;
use crate::publisher::index::IndexedSegment;
use crate::state::{StateError, StateFile};
use crate::supervisor::backoff::Backoff;

/// Shape of the file; another one is not read.
const VERSION: u32 = 1;
/// First and longest rest of a block that nobody sent.
const RESTS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(8)];

/// Where a relay stands.
#[derive(Debug, Default)]
pub struct Following {
    pub(super) window: Window,
    pub(super) airtimes: Airtimes,
    /// The newest tree that was read.
    pub(super) tree: Option<SignedTree>,
    /// Blocks of the signed tree and of the one on air that are not media.
    pub(super) tree_blocks: HashSet<Cid>,
    /// What retention has not been told yet.
    pub(super) backlog: Tick,
    /// When a record came last.
    pub(super) heard_at: Option<Instant>,
    /// When the first tree was read: the air does not wait for all of it for ever.
    pub(super) read_at: Option<Instant>,
    /// When a segment came on air last; `None` off air.
    pub(super) last_reveal: Option<Instant>,
    /// The tree on air is not what it should be any more.
    pub(super) changed: bool,
    /// When each block was announced that is not held yet.
    pub(super) announced: HashMap<Cid, Instant>,
    resting: HashMap<Cid, Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    backoff: Backoff,
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Catalogue {
    version: u32,
    /// IPNS name of the station.
    name: String,
    /// The newest record whose tree is held.
    record: Vec<u8>,
    /// Highest number on air.
    on_air: Option<u64>,
    /// Number with which the playlists begin.
    first_listed: u64,
    /// Unix milliseconds at which the highest number on air was due, by our own clock.
    due_unix_ms: Option<i64>,
    /// Segments on air that the signed tree does not tell of.
    beside: Vec<IndexedSegment>,
}

/// Both clocks at one moment, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Of the clock of the airtimes.
    pub monotonic_ms: i64,
    /// Of Unix time.
    pub unix_ms: i64,
}

impl Following {
    /// Goes on with what a run before wrote down and its repo still holds; afresh where that is of another station.
    ///
    /// # Errors
    /// [`StateError`] when the file is there and cannot be read.
    pub async fn restore(
        file: &StateFile,
        name: &Name,
        blocks: &Blocks,
        now: Reading,
    ) -> Result<Self, StateError> {
        let mut following = Self::default();
        let kept = file.load::<Catalogue>()?;
        let Some(kept) = kept.filter(|kept| kept.version == VERSION && kept.name == name.to_string()) else {
            return Ok(following);
        };
        let Ok(record) = Record::verify(name, &kept.record.clone().into()) else { return Ok(following) };
        match signed_tree::read(blocks, Arc::new(record), &HashMap::new()).await {
            Ok(tree) => following.go_on(kept, tree, &blocks.list().await, now),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what was followed is not held any more; the relay begins anew"
            ),
        }
        Ok(following)
    }

    fn go_on(&mut self, kept: Catalogue, tree: SignedTree, held: &[Cid], now: Reading) {
        self.window.take_in(&tree.signed);
        // The store lists blocks by their hash alone, under a codec of its choice.
        let held: HashSet<_> = held.iter().map(Cid::hash).collect();
        let beside = kept.beside.iter().flat_map(|segment| &segment.media);
        let media: Vec<_> = self.window.media().chain(beside).map(|entry| entry.cid).collect();
        media.into_iter().filter(|cid| held.contains(cid.hash())).for_each(|cid| self.window.hold(cid));
        if let Some(on_air) = kept.on_air {
            self.window.resume(on_air, kept.first_listed, kept.beside);
        }
        self.learn();
        if let (Some(on_air), Some(due)) = (self.window.on_air(), kept.due_unix_ms) {
            self.airtimes.arrived(on_air, now.monotonic_ms + (due - now.unix_ms));
        }
        let dry = i64::try_from((DRY_SEGMENTS * self.segment()).as_millis()).unwrap_or(i64::MAX);
        let last = self.window.held_until().and_then(|n| self.airtimes.due(n));
        if last.is_some_and(|last| last + dry < now.monotonic_ms) {
            // The air has overtaken all that is held.
            self.window.end();
        }
        self.read_at = Some(Instant::now());
        self.tree = Some(tree);
    }

    /// What is to be written down; `None` before a tree was read.
    pub(super) fn catalogue(&self, name: &Name, now: Reading) -> Option<Catalogue> {
        let on_air = self.window.on_air();
        let due = on_air.and_then(|n| self.airtimes.due(n));
        Some(Catalogue {
            version: VERSION,
            name: name.to_string(),
            record: self.tree.as_ref()?.record.bytes.to_vec(),
            on_air,
            first_listed: self.window.first_listed(),
            due_unix_ms: due.map(|due| now.unix_ms + (due - now.monotonic_ms)),
            beside: self.window.beside(),
        })
    }

    /// Every block that is needed: the others can be swept.
    pub fn needed(&self) -> HashSet<Cid> {
        let media = self.window.media().map(|entry| entry.cid);
        media.chain(self.tree.iter().flat_map(|tree| &tree.blocks).map(|block| block.cid)).collect()
    }

    /// Numbers and bytes of what is on air, for retention.
    pub fn aired(&self) -> Vec<(u64, u64)> {
        let on_air = self.window.on_air().unwrap_or(0);
        let aired = self.window.segments().filter(|segment| segment.n <= on_air);
        aired.map(|segment| (segment.n, segment.media.iter().map(|entry| entry.size).sum())).collect()
    }

    /// The newest record whose tree is held.
    pub fn record(&self) -> Option<&Arc<Record>> {
        self.tree.as_ref().map(|tree| &tree.record)
    }

    /// Lets the estimate know of every segment.
    pub(super) fn learn(&mut self) {
        self.window.segments().for_each(|segment| self.airtimes.learn(segment));
    }

    /// Notes since when the blocks ahead of air are announced.
    pub(super) fn note_announced(&mut self, at: Instant) {
        let newest = self.tree.as_ref().map_or(0, |tree| tree.signed.newest);
        let missing = self.window.missing().map(|entry| entry.cid);
        // What was on air already when the relay came was not announced to it.
        if newest > 0 {
            missing.for_each(|cid| _ = self.announced.entry(cid).or_insert(at));
        }
    }

    /// Length of a segment; the longest of ours before a tree was read.
    pub(super) fn segment(&self) -> Duration {
        let samples = self.window.head().map_or(184_320, |head| head.segment_samples);
        Duration::from_millis(samples / 48)
    }

    /// A block that nobody sent rests, longer each time.
    pub(super) fn rest(&mut self, cid: Cid) {
        let fresh = || Rest { until: Instant::now(), backoff: Backoff::new(RESTS[0], RESTS[1]) };
        let rest = self.resting.entry(cid).or_insert_with(fresh);
        rest.until = Instant::now() + rest.backoff.next(fastrand::f64());
    }

    /// Whether the block rests now.
    pub(super) fn rests(&self, cid: &Cid) -> bool {
        self.resting.get(cid).is_some_and(|rest| rest.until > Instant::now())
    }

    /// When the next rest is over.
    pub(super) fn rested_at(&self) -> Option<Instant> {
        self.resting.values().map(|rest| rest.until).filter(|until| *until > Instant::now()).min()
    }

    /// Forgets what was noted of blocks that are not needed any more.
    pub(super) fn forget(&mut self, gone: &[Cid]) {
        gone.iter().for_each(|cid| _ = self.settle(cid));
    }

    /// The block is held, or not needed any more.
    pub(super) fn settle(&mut self, cid: &Cid) -> Option<Instant> {
        self.resting.remove(cid);
        self.announced.remove(cid)
    }
}
