//! What one peer wants of this node: bounded, whatever it sends. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use cid::Cid;

use super::message::Entry;

/// Wants of a peer that wait to be looked at, and as many that are remembered because the block is not here. Kubo allows
/// a peer as many (`MaxQueuedWantlistEntriesPerPeer`).
pub(super) const MAX_WANTS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waits,
    InHand,
    /// With its place in the order of remembering.
    Remembered(u64),
}

/// The wants of a peer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    wants: HashMap<Cid, (Entry, Place)>,
    /// In the order of their coming; one that was cancelled is left out when its turn comes.
    waiting: VecDeque<Cid>,
    remembered: BTreeMap<u64, Cid>,
    next: u64,
}

impl Ledger {
    /// Takes in an entry; `false` where too many wait.
    pub(super) fn enter(&mut self, entry: Entry) -> bool {
        let known = self.wants.get(&entry.cid).map(|(_, place)| *place);
        if entry.cancel {
            self.forget(&entry.cid);
            return true;
        }
        if known != Some(Place::Waits) {
            if self.waiting.len() >= MAX_WANTS {
                return false;
            }
            self.forget(&entry.cid);
            self.waiting.push_back(entry.cid);
        }
        self.wants.insert(entry.cid, (entry, Place::Waits));
        true
    }

    fn forget(&mut self, cid: &Cid) {
        if let Some((_, Place::Remembered(place))) = self.wants.remove(cid) {
            self.remembered.remove(&place);
        }
    }

    /// Forgets everything: a full wantlist follows.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next one to look at; it is in hand until it is answered or remembered.
    pub(super) fn next(&mut self) -> Option<Entry> {
        while let Some(cid) = self.waiting.pop_front() {
            if let Some((entry, place @ Place::Waits)) = self.wants.get_mut(&cid) {
                *place = Place::InHand;
                return Some(*entry);
            }
        }
        None
    }

    /// It was answered, and is done with unless the peer asks for something else by now.
    pub(super) fn answered(&mut self, entry: &Entry) {
        if self.wants.get(&entry.cid).is_some_and(|(asked, _)| asked == entry) {
            self.forget(&entry.cid);
        }
    }

    /// The block is not here; should it come, the peer gets it.
    pub(super) fn remember(&mut self, entry: &Entry) {
        if let Some((_, place @ Place::InHand)) = self.wants.get_mut(&entry.cid) {
            *place = Place::Remembered(self.next);
            self.remembered.insert(self.next, entry.cid);
            self.next += 1;
        }
        if self.remembered.len() > MAX_WANTS
            && let Some((_, oldest)) = self.remembered.pop_first()
        {
            self.wants.remove(&oldest);
        }
    }

    /// The block came; whether the peer waits for it. One that is being looked for may have been missed.
    pub(super) fn stored(&mut self, cid: &Cid) -> bool {
        match self.wants.get(cid) {
            Some((entry, Place::Remembered(_) | Place::InHand)) => {
                let entry = *entry;
                self.enter(entry)
            }
            _ => false,
        }
    }

    /// All that is wanted.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Cid> {
        self.wants.keys()
    }
}

/// How fast a peer may speak: so much at once, so much a second.
#[derive(Debug)]
pub(super) struct Bucket {
    most: f64,
    each_second: f64,
    left: f64,
    /// Since the start of whatever clock the caller has.
    at: Duration,
}

impl Bucket {
    pub(super) fn new(most: u32, each_second: u32) -> Self {
        let (most, each_second) = (f64::from(most), f64::from(each_second));
        Self { most, each_second, left: most, at: Duration::ZERO }
    }

    /// Takes so much out; how long to rest before the next time.
    pub(super) fn take(&mut self, much: usize, now: Duration) -> Duration {
        let filled = now.saturating_sub(self.at).as_secs_f64() * self.each_second;
        self.at = now;
        self.left = (self.left + filled).min(self.most) - much as f64;
        Duration::from_secs_f64((-self.left / self.each_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multihash_codetable::{Code, MultihashDigest};

    fn want(n: usize) -> Entry {
        let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_le_bytes()));
        Entry { cid, block: true, dont_have: true, cancel: false }
    }

    fn cancel(n: usize) -> Entry {
        Entry { cancel: true, ..want(n) }
    }

    #[test]
    fn a_flood_is_refused_beyond_the_limit_and_what_is_held_stays_bounded() {
        let mut ledger = Ledger::default();
        for round in 0..20 {
            let taken = (0..5_000).filter(|n| ledger.enter(want(round * 5_000 + n))).count();
            assert_eq!(taken, MAX_WANTS);
            while let Some(entry) = ledger.next() {
                ledger.remember(&entry);
            }
            assert!(ledger.wanted().count() <= 2 * MAX_WANTS && ledger.remembered.len() <= MAX_WANTS);
        }
    }

    #[test]
    fn cancels_without_end_leave_nothing_behind() {
        let mut ledger = Ledger::default();
        let taken = (0..100_000).filter(|n| ledger.enter(want(*n)) && ledger.enter(cancel(*n))).count();
        assert!(taken <= MAX_WANTS && ledger.waiting.len() <= MAX_WANTS);
        assert!(ledger.next().is_none() && ledger.wanted().next().is_none());
        assert!(ledger.enter(want(1)));
    }

    #[test]
    fn a_want_is_answered_once_and_remembered_until_its_block_comes_or_it_is_cancelled() {
        let mut ledger = Ledger::default();
        assert!([1, 2, 3].map(want).into_iter().all(|entry| ledger.enter(entry)));
        assert!(ledger.enter(want(1)));
        assert_eq!(ledger.next(), Some(want(1)));
        ledger.answered(&want(1));
        for n in [2, 3] {
            assert_eq!(ledger.next(), Some(want(n)));
            ledger.remember(&want(n));
        }
        assert_eq!(ledger.next(), None);
        assert!(!ledger.stored(&want(1).cid));
        assert!(ledger.enter(cancel(2)));
        assert!(!ledger.stored(&want(2).cid) && ledger.stored(&want(3).cid));
        assert_eq!((ledger.next(), ledger.next()), (Some(want(3)), None));
    }

    #[test]
    fn a_block_that_comes_while_it_is_looked_for_is_not_missed() {
        let mut ledger = Ledger::default();
        assert!(ledger.enter(want(1)));
        assert_eq!(ledger.next(), Some(want(1)));
        assert!(ledger.stored(&want(1).cid));
        ledger.remember(&want(1));
        assert_eq!(ledger.next(), Some(want(1)));
    }

    #[test]
    fn who_speaks_too_fast_rests_as_long_as_the_surplus_takes() {
        let mut bucket = Bucket::new(100, 10);
        let second = Duration::from_secs(1);
        assert_eq!(bucket.take(100, second), Duration::ZERO);
        assert_eq!(bucket.take(20, second), 2 * second);
        assert_eq!(bucket.take(0, 3 * second), Duration::ZERO);
        assert_eq!(bucket.take(100, 1_000 * second), Duration::ZERO);
        assert_eq!(bucket.take(10, 1_000 * second), second);
    }
}
