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

/// Over how long relays spread their asking for a block: this part of the time that is left until its airtime, and no
/// longer than so; where less than so would be left, they ask at once.
const AHEAD_PER_TURN: u32 = 8;
const LONGEST_TURN: Duration = Duration::from_secs(4);
const SHORTEST_TURN: Duration = Duration::from_millis(500);

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
    /// Segments from this number on are new.
    turns_from: Option<u64>,
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

    /// Has each block that is announced from now on wait for a turn of its own: where all relays asked at once, only the
    /// origin could have it, and would send it to each of them. What is due soon, and what others have had for a while,
    /// does not wait. `chance` is uniform in `0.0..1.0`, for each block anew.
    pub(super) fn take_turns(&mut self, now: Instant, now_ms: i64, mut chance: impl FnMut() -> f64) {
        let first =
            self.turns_from.replace(self.window.segments().next_back().map_or(0, |segment| segment.n) + 1);
        let Some(first) = first else { return };
        let (window, airtimes, resting) = (&self.window, &self.airtimes, &mut self.resting);
        for segment in window.segments().filter(|segment| segment.n >= first) {
            let ahead = airtimes.due(segment.n).map_or(0, |due| due.saturating_sub(now_ms));
            let ahead = Duration::from_millis(u64::try_from(ahead).unwrap_or(0));
            let spread = (ahead / AHEAD_PER_TURN).min(LONGEST_TURN);
            for entry in segment.media.iter().filter(|_| spread > SHORTEST_TURN) {
                let turn = || Rest { until: now + spread.mul_f64(chance()), backoff: rests() };
                resting.entry(entry.cid).or_insert_with(turn);
            }
        }
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

    /// What is on air is `newest`, and announced is all up to `last`.
    fn hear(following: &mut Following, newest: u64, last: u64) {
        let renditions = vec![IndexedRendition { name: "lofi".into(), init: entry("init".into()) }];
        let head = Head { target_duration: 4, playlist_segments: 16, segment_samples: 184_320, renditions };
        let group = Group { head: head.clone(), segments: (0..=last).map(segment).collect() };
        let groups = [(0, (Block::raw("group"), group))].into();
        following.window.take_in(&Signed { head, groups, oldest: 0, newest });
        following.learn();
        following.airtimes.arrived(newest, (newest as i64 + 1) * 3_840);
        following.take_turns(Instant::now(), (newest as i64 + 1) * 3_840, || 1.0);
    }

    fn rest_of(following: &Following, n: u64) -> Option<Duration> {
        let rest = following.resting.get(&segment(n).media[0].cid)?;
        Some(rest.until.saturating_duration_since(Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_far_ahead_of_air_waits_for_its_turn_and_nothing_else_does() {
        let mut following = Following::default();
        hear(&mut following, 0, 13);
        assert!((0..=13).all(|n| rest_of(&following, n).is_none()), "a relay that comes takes what there is");
        hear(&mut following, 1, 14);
        assert_eq!(rest_of(&following, 14), Some(LONGEST_TURN));
        assert!(following.rests(&segment(14).media[0].cid) && rest_of(&following, 13).is_none());
        hear(&mut following, 11, 15);
        assert_eq!(
            rest_of(&following, 15),
            Some(Duration::from_millis(4 * 3_840 / 8)),
            "less time, less of it"
        );
        let mut following = Following::default();
        hear(&mut following, 0, 1);
        hear(&mut following, 1, 2);
        assert_eq!(rest_of(&following, 2), None, "with no lead to speak of");
    }
}
