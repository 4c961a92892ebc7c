//! Resolves names of others: from the cache, their topics, the DHT and peers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, LONGEST_TTL, SHORTEST_TTL};
use super::follow::{Follows, Newest};
use super::search::Search;
use super::{Judge, Routing, Verdict};
use crate::clock::SharedClock;
use crate::ipfs::ipns::{Name, Record};
use crate::metrics::NameMetrics;

/// Names that are remembered.
const MOST_NAMES: usize = 256;
/// Names whose topics are listened to; the one that was resolved longest ago goes first.
const MOST_TOPICS: usize = 64;
/// Searches at the same time.
const MOST_SEARCHES: usize = 16;
/// How long a search may take.
const SEARCH_LIMIT: Duration = Duration::from_secs(20);
/// How long a first valid record waits for a better one.
const SEARCH_SETTLE: Duration = Duration::from_secs(2);
/// How often it is looked which followed names are quiet.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often expired records are forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Why a name could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// Nobody has a valid record of it.
    #[error("no valid record of {name} is known to the network")]
    NotFound {
        /// The name, `k51...`.
        name: String,
    },
    /// Too many names are searched for at the moment.
    #[error("too many names are searched for; try again")]
    Busy,
}

/// A record whose TTL lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// The record.
    pub record: Arc<Record>,
    /// How long it may still be kept without asking anew.
    pub fresh_for: Duration,
}

type Answer = Result<Arc<Record>, ResolveError>;
type Running = Shared<BoxFuture<'static, Answer>>;
type RunningWeak = WeakShared<BoxFuture<'static, Answer>>;

/// A handle on the shared state; clones see the same cache.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
}

struct Inner {
    routing: Arc<dyn Routing>,
    clock: SharedClock,
    metrics: NameMetrics,
    cache: Mutex<Cache>,
    follows: Follows,
    /// Searches under way, so that many who ask for one name cause one search.
    running: Mutex<HashMap<Name, RunningWeak>>,
    follow: mpsc::Sender<Name>,
}

/// The topics that are listened to.
pub struct Topics {
    wanted: mpsc::Receiver<Name>,
    messages: SelectAll<BoxStream<'static, bytes::Bytes>>,
    followed: HashMap<Name, (CancellationToken, Instant)>,
}

impl Resolver {
    /// A resolver with an empty cache, and what its [`Resolver::run`] works on.
    pub fn new(routing: Arc<dyn Routing>, clock: SharedClock, metrics: NameMetrics) -> (Self, Topics) {
        let (follow, wanted) = mpsc::channel(MOST_TOPICS);
        let inner = Inner {
            routing,
            clock,
            metrics,
            cache: Mutex::new(Cache::new(MOST_NAMES)),
            follows: Follows::default(),
            running: Mutex::new(HashMap::new()),
            follow,
        };
        let topics = Topics { wanted, messages: SelectAll::new(), followed: HashMap::new() };
        (Self { inner: Arc::new(inner) }, topics)
    }

    /// The best valid record of `name`. One whose TTL is over is asked for anew, and given all the same where the
    /// network has nothing better. From then on the topic of the name is listened to.
    ///
    /// # Errors
    /// [`ResolveError`], after 20 s at most.
    pub async fn resolve(&self, name: &Name) -> Answer {
        Ok(self.resolve_fresh(name).await?.record)
    }

    /// [`Resolver::resolve`], and how long the answer may be kept.
    ///
    /// # Errors
    /// [`ResolveError`], after 20 s at most.
    pub async fn resolve_fresh(&self, name: &Name) -> Result<Fresh, ResolveError> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let search = self.join_search(*name)?;
        let record = search.await?;
        Ok(Fresh { fresh_for: record.ttl.clamp(SHORTEST_TTL, LONGEST_TTL), record })
    }

    /// The best record of `name`, where that is known and its TTL is not over; asks nobody. The topic of the name is
    /// listened to from then on.
    pub fn known(&self, name: &Name) -> Option<Fresh> {
        // The channel is full only while the topics are not drained; the name is followed next time then.
        let _ = self.inner.follow.try_send(*name);
        let known = self.inner.fresh(name)?;
        NameMetrics::count(&self.inner.metrics.resolves, "cached");
        Some(known)
    }

    /// Takes in a verified record of `name` that came another way than by its topic; `true` when it is better than what
    /// was known.
    pub fn offer(&self, name: &Name, record: Record) -> bool {
        self.inner.offer(*name, record, self.inner.clock.unix_millis())
    }

    /// The best record of `name`, and each better one as it comes: by its topic, by [`Resolver::offer`], and, while none
    /// comes, by searches. For as long as the receiver is there.
    pub fn follow(&self, name: &Name) -> Newest {
        let newest = self.inner.follows.begin(*name);
        let known = self.inner.cache().get(name, std_now(), self.inner.clock.unix_millis());
        known.iter().for_each(|known| self.inner.follows.tell(name, &known.record));
        newest
    }

    /// Listens to the topics of names that were resolved, and searches for followed ones, until `cancel` fires.
    ///
    /// # Errors
    /// None.
    pub async fn run(&self, topics: &mut Topics, cancel: CancellationToken) -> Result<(), Infallible> {
        let (mut expire, mut look) = (interval(EXPIRE_EVERY), interval(LOOK_EVERY));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut searches = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                Some(name) = topics.wanted.recv() => self.inner.listen(topics, name),
                // What the judge accepted is in the cache already.
                Some(_) = topics.messages.next(), if !topics.messages.is_empty() => {}
                Some(_) = searches.next(), if !searches.is_empty() => {}
                _ = look.tick() => {
                    // Names that are followed stay among the topics, whoever resolves what else.
                    self.inner.follows.names().into_iter().for_each(|name| self.inner.listen(topics, name));
                    let due = self.inner.follows.due();
                    searches.extend(due.into_iter().filter_map(|name| self.join_search(name).ok()));
                }
                _ = expire.tick() => {
                    let now = self.inner.clock.unix_millis();
                    self.inner.cache().expire(now);
                    topics.followed.retain(|_, (gone, _)| !gone.is_cancelled());
                }
            }
        }
    }

    /// The search for `name` that is under way, or a new one.
    fn join_search(&self, name: Name) -> Result<Running, ResolveError> {
        let mut running = self.inner.running();
        running.retain(|_, search| search.upgrade().is_some_and(|search| search.peek().is_none()));
        if let Some(search) = running.get(&name).and_then(WeakShared::upgrade) {
            return Ok(search);
        }
        if running.len() >= MOST_SEARCHES {
            NameMetrics::count(&self.inner.metrics.resolves, "busy");
            return Err(ResolveError::Busy);
        }
        let inner = self.inner.clone();
        let search = async move { inner.search(name).await }.boxed().shared();
        running.extend(search.downgrade().map(|weak| (name, weak)));
        Ok(search)
    }
}

impl Inner {
    async fn search(&self, name: Name) -> Answer {
        let search = Search {
            routing: &*self.routing,
            metrics: &self.metrics,
            name,
            limit: SEARCH_LIMIT,
            settle: SEARCH_SETTLE,
        };
        let found = search.best(|record| record.check_time(self.clock.unix_millis())).await;
        let (now, unix) = (std_now(), self.clock.unix_millis());
        let better = found.is_some_and(|record| self.offer(name, record, unix));
        let mut cache = self.cache();
        if !better {
            cache.confirm(&name, now);
        }
        let known = cache.get(&name, now, unix);
        let outcome = match (&known, better) {
            (None, _) => "not_found",
            (Some(_), true) => "network",
            (Some(_), false) => "stale",
        };
        NameMetrics::count(&self.metrics.resolves, outcome);
        known.map(|known| known.record).ok_or_else(|| ResolveError::NotFound { name: name.to_string() })
    }

    /// Takes in a verified record; `true` when it is better than what was known.
    fn offer(&self, name: Name, record: Record, unix_millis: i64) -> bool {
        let mut cache = self.cache();
        let better = cache.offer(name, record, std_now(), unix_millis);
        let known = cache.get(&name, std_now(), unix_millis).filter(|_| better);
        drop(cache);
        known.iter().for_each(|known| self.follows.tell(&name, &known.record));
        better
    }

    fn fresh(&self, name: &Name) -> Option<Fresh> {
        let known = self.cache().get(name, std_now(), self.clock.unix_millis())?;
        let (record, fresh_for) = (known.record, known.fresh_for);
        (!fresh_for.is_zero()).then_some(Fresh { record, fresh_for })
    }

    fn listen(self: &Arc<Self>, topics: &mut Topics, name: Name) {
        topics.followed.retain(|_, (gone, _)| !gone.is_cancelled());
        let now = Instant::now();
        if let Some((_, used)) = topics.followed.get_mut(&name) {
            *used = now;
            return;
        }
        if topics.followed.len() >= MOST_TOPICS {
            let oldest = topics.followed.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| *name);
            if let Some((gone, _)) = oldest.and_then(|name| topics.followed.remove(&name)) {
                gone.cancel();
            }
        }
        let gone = CancellationToken::new();
        topics.followed.insert(name, (gone.clone(), now));
        let messages = self.routing.subscribe(&name.topic(), self.judge(name));
        // A subscription that the network ends is made anew when the name is resolved again.
        let ended = gone.clone().drop_guard();
        let messages = messages.take_until(gone.cancelled_owned()).inspect(move |_| _ = &ended);
        topics.messages.push(messages.boxed());
    }

    /// Takes what is better than what is known; anything else goes no further.
    fn judge(self: &Arc<Self>, name: Name) -> Judge {
        let inner = Arc::downgrade(self);
        Arc::new(move |message| {
            let Some(inner) = inner.upgrade() else { return Verdict::Ignore };
            inner.metrics.gossip_received.inc();
            let unix = inner.clock.unix_millis();
            let record = Record::verify_at(&name, message, unix);
            match record.map(|record| inner.offer(name, record, unix)) {
                Ok(true) => Verdict::Accept,
                Ok(false) => {
                    inner.metrics.refuse("gossip", "older");
                    Verdict::Ignore
                }
                Err(why) => {
                    inner.metrics.refuse("gossip", why.label());
                    Verdict::Reject
                }
            }
        })
    }

    /// A panic elsewhere while a lock was held leaves a cache behind that is whole.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Name, RunningWeak>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokio's clock, which tests pause.
fn std_now() -> std::time::Instant {
    Instant::now().into_std()
}
