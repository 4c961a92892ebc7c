//! Records of foreign names, the best of each. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ipfs::ipns::{Name, Record};

/// A record with a shorter TTL counts as fresh for so long: bounds how often the network is asked.
pub(super) const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// A longer TTL is cut: bounds how long a mistake of an owner stays.
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(24 * 3_600);

/// A record and how long its TTL lasts; not at all where it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) record: Arc<Record>,
    pub(super) fresh_for: Duration,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    fresh_until: Instant,
    used: Instant,
}

/// At most `capacity` records, none of them expired when it is asked for.
#[derive(Debug)]
pub(super) struct Cache {
    capacity: usize,
    entries: HashMap<Name, Entry>,
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new() }
    }

    /// The best record of `name` that is still valid.
    pub(super) fn get(&mut self, name: &Name, now: Instant, unix_millis: i64) -> Option<Known> {
        let entry = self.entries.get_mut(name)?;
        if entry.record.check_time(unix_millis).is_err() {
            self.entries.remove(name);
            return None;
        }
        entry.used = now;
        Some(Known {
            record: entry.record.clone(),
            fresh_for: entry.fresh_until.saturating_duration_since(now),
        })
    }

    /// Takes in a verified record; `true` when it is better than what was known.
    pub(super) fn offer(&mut self, name: Name, record: Record, now: Instant, unix_millis: i64) -> bool {
        if record.check_time(unix_millis).is_err() {
            return false;
        }
        let fresh_until = now + record.ttl.clamp(SHORTEST_TTL, LONGEST_TTL);
        if let Some(entry) = self.entries.get_mut(&name) {
            if *entry.record > record {
                return false;
            }
            entry.fresh_until = fresh_until;
            let better = *entry.record < record;
            if better {
                entry.record = Arc::new(record);
            }
            return better;
        }
        self.make_room(unix_millis);
        self.entries.insert(name, Entry { record: Arc::new(record), fresh_until, used: now });
        true
    }

    /// The network was asked and had nothing better: what is known is fresh for another TTL.
    pub(super) fn confirm(&mut self, name: &Name, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.fresh_until = now + entry.record.ttl.clamp(SHORTEST_TTL, LONGEST_TTL);
        }
    }

    /// Forgets what has expired.
    pub(super) fn expire(&mut self, unix_millis: i64) {
        self.entries.retain(|_, entry| entry.record.check_time(unix_millis).is_ok());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn make_room(&mut self, unix_millis: i64) {
        if self.entries.len() >= self.capacity {
            self.expire(unix_millis);
        }
        while self.entries.len() >= self.capacity {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(name, _)| *name);
            let Some(oldest) = oldest else { return };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::ipns::sign;
    use crate::ipfs::{Block, Identity};
    use proptest::prelude::*;

    const NOW: i64 = 1_795_377_600_000;

    fn record(identity: &Identity, sequence: u64, validity: u64, ttl: u64) -> Record {
        let (root, seconds) = (Block::raw(format!("{sequence}")).cid, Duration::from_secs);
        let ours = sign(identity, root, sequence, NOW, seconds(validity), seconds(ttl)).unwrap();
        Record::verify(&identity.name(), &ours.bytes).unwrap()
    }

    fn is_fresh(cache: &mut Cache, names: &Identity, now: Instant) -> bool {
        !cache.get(&names.name(), now, NOW).unwrap().fresh_for.is_zero()
    }

    #[test]
    fn a_record_is_fresh_for_its_ttl_known_until_it_expires_and_then_gone() {
        let (identity, mut cache, start) = (Identity::generate(), Cache::new(4), Instant::now());
        let name = identity.name();
        let after = |seconds| (start + Duration::from_secs(seconds), NOW + seconds as i64 * 1_000);
        assert!(cache.offer(name, record(&identity, 1, 60, 10), start, NOW));
        let mut fresh = |seconds| {
            let (now, unix) = after(seconds);
            cache.get(&name, now, unix).map(|known| !known.fresh_for.is_zero())
        };
        assert_eq!(
            [fresh(0), fresh(9), fresh(10), fresh(59)],
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!(fresh(60), None);
        assert_eq!(cache.len(), 0, "an expired record goes");
        assert!(!cache.offer(name, record(&identity, 9, 60, 10), after(61).0, after(61).1));
        cache.offer(name, record(&identity, 2, 60, 0), start, NOW);
        assert!(is_fresh(&mut cache, &identity, start), "even without a TTL, for a second");
    }

    #[test]
    fn an_answer_that_is_not_better_makes_the_known_one_fresh_again_unless_it_is_older() {
        let (identity, mut cache, start) = (Identity::generate(), Cache::new(4), Instant::now());
        let (name, later) = (identity.name(), start + Duration::from_secs(20));
        let best = record(&identity, 5, 60, 10);
        cache.offer(name, best.clone(), start, NOW);
        assert!(!cache.offer(name, record(&identity, 4, 60, 10), later, NOW));
        assert!(!is_fresh(&mut cache, &identity, later));
        assert!(!cache.offer(name, best, later, NOW), "the same again");
        assert!(is_fresh(&mut cache, &identity, later));
        cache.confirm(&name, later + Duration::from_secs(20));
        assert!(is_fresh(&mut cache, &identity, later + Duration::from_secs(25)));
    }

    #[test]
    fn the_least_recently_used_goes_when_there_is_no_room_expired_ones_first() {
        let (mut cache, start) = (Cache::new(3), Instant::now());
        let owners: Vec<_> = (0..5).map(|_| Identity::generate()).collect();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (n, owner) in owners[..3].iter().enumerate() {
            let validity = if n == 2 { 5 } else { 600 };
            cache.offer(owner.name(), record(owner, 1, validity, 10), at(n as u64), NOW);
        }
        cache.offer(owners[3].name(), record(&owners[3], 1, 600, 10), at(3), NOW + 6_000);
        cache.get(&owners[0].name(), at(4), NOW + 6_000);
        assert_eq!(cache.len(), 3, "the expired one went");
        cache.offer(owners[4].name(), record(&owners[4], 1, 600, 10), at(5), NOW + 6_000);
        let mut known = |n: usize| cache.get(&owners[n].name(), at(6), NOW + 6_000).is_some();
        assert_eq!([0, 1, 2, 3, 4].map(&mut known), [true, false, false, true, true]);
    }

    proptest! {
        #[test]
        fn whatever_the_order_the_best_valid_record_stays(
            offers in prop::collection::vec((0_u64..20, 1_u64..100), 1..20),
            now in 0_i64..120,
        ) {
            let (identity, mut cache, start) = (Identity::generate(), Cache::new(1), Instant::now());
            let unix = NOW + now * 1_000;
            let records: Vec<_> = offers.iter().map(|(n, validity)| record(&identity, *n, *validity, 5)).collect();
            for record in records.clone() {
                cache.offer(identity.name(), record, start, unix);
            }
            let best = records.into_iter().filter(|record| record.check_time(unix).is_ok()).max();
            let known = cache.get(&identity.name(), start, unix).map(|known| (*known.record).clone());
            prop_assert_eq!(known, best);
        }
    }
}
