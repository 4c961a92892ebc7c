//! Names that are followed: whoever follows one gets each better record as it comes, whichever way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::ipfs::ipns::{Name, Record};
use crate::supervisor::backoff::Backoff;

/// A name of which nothing was heard for so long is searched for: gossip gives the record of each tick.
const QUIET: Duration = Duration::from_secs(12);
/// First and longest pause between two searches for a name that is quiet.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// The newest record of a name.
pub type Newest = watch::Receiver<Option<Arc<Record>>>;

/// The names, and who follows them.
#[derive(Debug, Default)]
pub(super) struct Follows(Mutex<HashMap<Name, Follow>>);

#[derive(Debug)]
struct Follow {
    newest: watch::Sender<Option<Arc<Record>>>,
    heard_at: Option<Instant>,
    search_at: Instant,
    backoff: Backoff,
}

impl Follows {
    /// Follows `name` from now on, for as long as anybody holds the receiver.
    pub(super) fn begin(&self, name: Name) -> Newest {
        let follow = || Follow {
            newest: watch::channel(None).0,
            heard_at: None,
            search_at: Instant::now(),
            backoff: Backoff::new(PAUSES[0], PAUSES[1]),
        };
        self.lock().entry(name).or_insert_with(follow).newest.subscribe()
    }

    /// A record that is better than what was known. An older one changes nothing, also where the cache has forgotten
    /// the newer.
    pub(super) fn tell(&self, name: &Name, record: &Arc<Record>) {
        if let Some(follow) = self.lock().get_mut(name) {
            let better = follow.newest.send_if_modified(|newest| {
                let better = newest.as_ref().is_none_or(|known| known < record);
                if better {
                    *newest = Some(record.clone());
                }
                better
            });
            if better {
                follow.heard_at = Some(Instant::now());
                follow.backoff.reset();
            }
        }
    }

    /// Names that are followed; forgets those that nobody follows any more.
    pub(super) fn names(&self) -> Vec<Name> {
        let mut follows = self.lock();
        follows.retain(|_, follow| follow.newest.receiver_count() > 0);
        follows.keys().copied().collect()
    }

    /// Names that are to be searched for now: quiet ones whose pause is over.
    pub(super) fn due(&self) -> Vec<Name> {
        let now = Instant::now();
        let mut follows = self.lock();
        let mut due = Vec::new();
        for (name, follow) in follows.iter_mut() {
            let quiet = follow.heard_at.is_none_or(|at| now.duration_since(at) >= QUIET);
            if quiet && now >= follow.search_at {
                follow.search_at = now + follow.backoff.next(fastrand::f64());
                due.push(*name);
            }
        }
        due
    }

    /// A panic elsewhere while the lock was held leaves whole entries behind.
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Follow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::ipns::sign;
    use crate::ipfs::{Block, Identity};

    const NOW: i64 = 1_795_377_600_000;

    fn record(identity: &Identity, sequence: u64) -> Arc<Record> {
        let (root, hour) = (Block::raw(format!("{sequence}")).cid, Duration::from_secs(3_600));
        let signed = sign(identity, root, sequence, NOW, hour, hour).unwrap();
        Arc::new(Record::verify(&identity.name(), &signed.bytes).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_gets_better_records_alone_and_a_quiet_name_is_searched_for_later_and_later() {
        let (identity, follows) = (Identity::generate(), Follows::default());
        let name = identity.name();
        follows.tell(&name, &record(&identity, 9));
        let mut newest = follows.begin(name);
        assert!(newest.borrow_and_update().is_none(), "nobody followed it then");
        assert_eq!(follows.due(), [name]);
        assert!(follows.due().is_empty(), "not twice at once");
        for (sequence, news) in [(5, true), (4, false), (5, false), (6, true)] {
            follows.tell(&name, &record(&identity, sequence));
            assert_eq!(newest.has_changed().unwrap(), news, "{sequence}");
            newest.borrow_and_update();
        }
        tokio::time::advance(QUIET - Duration::from_millis(1)).await;
        assert!(follows.due().is_empty(), "it was heard of");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(follows.due(), [name]);
        let mut searches = 0;
        for _ in 0..600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            searches += follows.due().len();
        }
        assert!((20..60).contains(&searches), "{searches} searches in ten minutes");
        drop(newest);
        assert!(follows.names().is_empty() && follows.due().is_empty());
    }
}
