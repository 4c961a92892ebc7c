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
use super::turn;
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

/// For how long a relay takes a block from other relays alone at most, and for which part of the time that there is.
const SPREAD: Duration = Duration::from_secs(5);
const SPREAD_PART: u32 = 8;

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
    /// Highest number that retention was told of.
    pub(super) told: u64,
    /// When each block was announced that is not held yet.
    pub(super) announced: HashMap<Cid, Instant>,
    /// Until when the station itself is not asked for it.
    spared: HashMap<Cid, Instant>,
    resting: HashMap<Cid, Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    backoff: Backoff,
}

fn rests() -> Backoff {
    Backoff::new(RESTS[0], RESTS[1])
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

impl Reading {
    /// Unix milliseconds of a moment of the other clock.
    pub(super) fn unix_at(self, monotonic_ms: i64) -> i64 {
        monotonic_ms.saturating_sub(self.monotonic_ms).saturating_add(self.unix_ms)
    }
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
            self.airtimes.arrived(on_air, due.saturating_sub(now.unix_ms).saturating_add(now.monotonic_ms));
        }
        let dry = i64::try_from((DRY_SEGMENTS * self.segment()).as_millis()).unwrap_or(i64::MAX);
        if self.held_until_ms().is_some_and(|last| last.saturating_add(dry) < now.monotonic_ms) {
            // The air has overtaken all that is held.
            self.window.end();
        }
        self.told = self.window.on_air().unwrap_or(0);
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
            due_unix_ms: due.map(|due| now.unix_at(due)),
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

    /// For how long the air goes on with what is held, seen at `now_ms` of the clock of the airtimes.
    pub(super) fn lead(&self, now_ms: i64) -> Duration {
        let end = self.held_until_ms().map_or(0, |end| end.saturating_sub(now_ms));
        Duration::from_millis(u64::try_from(end).unwrap_or(0))
    }

    /// When it ends, by that clock.
    fn held_until_ms(&self) -> Option<i64> {
        self.window.held_until().and_then(|n| self.airtimes.due(n))
    }

    /// Lets the estimate know of every segment.
    pub(super) fn learn(&mut self) {
        self.window.segments().for_each(|segment| self.airtimes.learn(segment));
    }

    /// Notes since when the blocks ahead of air are announced. What was announced before the relay came, when no number
    /// on air was known yet, is left out.
    ///
    /// Of several `relays` most take it from others: see [`turn`]. They spare the station for a small part of the time that
    /// there is, by `chance` (0 to 1).
    pub(super) fn note_announced(
        &mut self,
        newest: Option<u64>,
        at: Instant,
        now_ms: i64,
        relays: usize,
        chance: fn() -> f64,
    ) {
        let Some(newest) = newest else { return };
        for (n, cid) in self.window.missing_from(newest + 1) {
            if self.announced.contains_key(&cid) {
                continue;
            }
            self.announced.insert(cid, at);
            let left = self.airtimes.due(n).map_or(0, |due| due.saturating_sub(now_ms));
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            let spare = turn::spare(relays, SPREAD.min(left / SPREAD_PART), chance());
            self.spared.insert(cid, Instant::now() + spare);
        }
    }

    /// The first time that a block of the past is asked for, most of several `relays` take it from others, by `chance`.
    pub(super) fn spare_past(&mut self, cid: Cid, relays: usize, chance: fn() -> f64) {
        let spare = || Instant::now() + turn::spare(relays, SPREAD, chance());
        self.spared.entry(cid).or_insert_with(spare);
    }

    /// Tells retention of what came on air up to `n`, each segment once.
    pub(super) fn tell_aired(&mut self, n: u64) {
        let told = std::mem::replace(&mut self.told, n);
        let aired = self.window.segments().filter(|segment| segment.n > told && segment.n <= n);
        self.backlog.aired.extend(aired.map(|segment| segment.to_stored()));
    }

    /// Length of a segment; the longest of ours before a tree was read.
    pub(super) fn segment(&self) -> Duration {
        let samples = self.window.head().map_or(184_320, |head| head.segment_samples);
        Duration::from_millis(samples / 48)
    }

    /// A block that nobody sent rests, longer each time.
    pub(super) fn rest(&mut self, cid: Cid) {
        let fresh = || Rest { until: Instant::now(), backoff: rests() };
        let rest = self.resting.entry(cid).or_insert_with(fresh);
        rest.until = Instant::now() + rest.backoff.next(fastrand::f64());
    }

    /// Whether the block rests now.
    pub(super) fn rests(&self, cid: &Cid) -> bool {
        self.resting.get(cid).is_some_and(|rest| rest.until > Instant::now())
    }

    /// For how long the station itself is not to be asked for the block.
    pub(super) fn spare(&self, cid: &Cid) -> Duration {
        self.spared.get(cid).map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
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
        self.spared.remove(cid);
        self.announced.remove(cid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;
    use crate::publisher::index::{Group, Head, IndexedRendition, IndexedSegment};
    use crate::publisher::stream_tree::Entry;
    use crate::relay::window::Signed;

    fn entry(text: String) -> Entry {
        Entry::from(&Block::raw(text))
    }

    fn segment(n: u64) -> IndexedSegment {
        IndexedSegment {
            n,
            unix_ms: n as i64 * 3_840,
            program_date_time_ms: n as i64 * 3_840,
            samples: 184_320,
            discontinuity: false,
            discontinuity_sequence: 0,
            media: vec![entry(format!("{n}"))],
            now_playing: None,
        }
    }

    /// What is on air is `newest`, before it was `known`; announced is all up to `last`.
    fn hear(following: &mut Following, known: Option<u64>, newest: u64, last: u64) {
        let renditions = vec![IndexedRendition { name: "lofi".into(), init: entry("init".into()) }];
        let head = Head { target_duration: 4, playlist_segments: 16, segment_samples: 184_320, renditions };
        let group = Group { head: head.clone(), segments: (0..=last).map(segment).collect() };
        let groups = [(0, (Block::raw("group"), group))].into();
        following.window.take_in(&Signed { head, groups, oldest: 0, newest });
        following.learn();
        following.airtimes.arrived(newest, (newest as i64 + 1) * 3_840);
        let now_ms = (newest as i64 + 1) * 3_840;
        following.note_announced(known, Instant::now(), now_ms, 8, || 1.0);
    }

    fn spare_of(following: &Following, n: u64) -> Duration {
        following.spare(&segment(n).media[0].cid)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_far_ahead_of_air_is_taken_from_other_relays_first_and_nothing_else_is() {
        let mut following = Following::default();
        hear(&mut following, None, 0, 13);
        assert!(
            (0..=13).all(|n| spare_of(&following, n).is_zero()),
            "a relay that comes takes what there is"
        );
        (1..=13).for_each(|n| following.window.hold(segment(n).media[0].cid));
        hear(&mut following, Some(0), 1, 14);
        assert_eq!(spare_of(&following, 14), turn::spare(8, SPREAD, 1.0));
        assert!(!following.rests(&segment(14).media[0].cid), "it is asked for at once");
        assert!(!spare_of(&following, 14).is_zero() && spare_of(&following, 13).is_zero());
        hear(&mut following, Some(1), 11, 15);
        let left = Duration::from_millis(4 * 3_840);
        assert_eq!(
            spare_of(&following, 15),
            turn::spare(8, left / SPREAD_PART, 1.0),
            "less time, less of it"
        );
    }
}
