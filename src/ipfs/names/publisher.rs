//! Brings each record of the station to the network: gossip at once, DHT at its own pace.
//!
//! Also listens for records under our own name that we did not make, such as those of a run whose state is lost, and
//! tells the stage that signs to go above them.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use futures::StreamExt;
use futures::future::join;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::search::Search;
use super::{Judge, Routing, RoutingError, Verdict};
use crate::clock::SharedClock;
use crate::health::Health;
use crate::ipfs::ipns::{Name, Record, SignedRecord};
use crate::metrics::NameMetrics;
use crate::supervisor::backoff::Backoff;

/// How long handing a message to gossip may take before it is given up for the next.
const GOSSIP_LIMIT: Duration = Duration::from_secs(2);
/// How long a put to the DHT may take before it is given up for a newer record; longer than the network's own limit.
const PUT_LIMIT: Duration = Duration::from_secs(95);
/// Puts take this part of the time at most. One to the public DHT takes many seconds; on a LAN or in a private network it
/// takes milliseconds, and resolvers there, which take any valid record for the newest, get each one.
const PUT_SHARE: u32 = 20;
/// First pause after a failed put, subscription or search.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause before the topic is subscribed anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long one search for our own name may take, and how long a first answer waits for better ones.
const SEARCH_LIMIT: Duration = Duration::from_secs(30);
const SEARCH_SETTLE: Duration = Duration::from_secs(5);
/// Searches for our own name after a start; the first ones may come before there are peers.
const SEARCHES: usize = 6;

/// The station's own name on the network; survives a restart of the stage.
pub struct NamePublisher {
    /// The station's name.
    pub name: Name,
    /// Time from one put to the DHT to the next, shorter where puts are quick.
    pub dht_every: Duration,
    /// Whether the DHT is told where the root is that its record names.
    pub provide: bool,
    /// The network.
    pub routing: Arc<dyn Routing>,
    /// Unix time, for the metrics.
    pub clock: SharedClock,
    /// Records as they are signed.
    pub record: watch::Receiver<Option<SignedRecord>>,
    /// Highest sequence number seen under our name in a record that is not the newest of ours.
    pub highest_seen: watch::Sender<u64>,
    /// Where the fate of records is told.
    pub overall: Health,
    /// Where they are counted.
    pub metrics: NameMetrics,
}

impl NamePublisher {
    /// Works until `cancel` fires.
    ///
    /// # Errors
    /// None: a network that fails is tried again.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), Infallible> {
        let work = async { tokio::join!(self.gossip(), self.put_to_dht(), self.listen(), self.look_up()) };
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = work => {}
        }
        Ok(())
    }

    /// A receiver for which the record that is there already is news.
    fn records(&self) -> watch::Receiver<Option<SignedRecord>> {
        let mut records = self.record.clone();
        records.mark_changed();
        records
    }

    async fn gossip(&self) {
        let (topic, key) = (self.name.topic(), self.name.routing_key());
        let mut records = self.records();
        let mut sent = None;
        loop {
            let record = newer_than(&mut records, sent).await;
            sent = Some(record.sequence);
            let keep = self.routing.set_fetched(key.clone(), Some(record.bytes.clone()));
            let publish = self.routing.publish(&topic, record.bytes);
            let outcome = match timeout(GOSSIP_LIMIT, join(keep, publish)).await {
                Ok((Ok(()), Ok(()))) => "sent",
                Ok((Err(error), _) | (_, Err(error))) => failure(&error),
                Err(_) => "timeout",
            };
            NameMetrics::count(&self.metrics.gossip_sent, outcome);
        }
    }

    /// One put at a time, always of the newest record; what was signed meanwhile is skipped. Ends where there is no DHT.
    ///
    /// The root that the record names is provided before, and until the next record has taken its place: who resolves the
    /// name over the DHT finds the blocks there too. Two roots at most are provided at a time.
    async fn put_to_dht(&self) {
        let key = self.name.routing_key();
        let mut records = self.records();
        let (mut taken, mut provided) = (None, None);
        let mut backoff = Backoff::new(FIRST_PAUSE, self.dht_every.max(FIRST_PAUSE));
        loop {
            let record = newer_than(&mut records, taken).await;
            let began = Instant::now();
            let (sequence, root) = (record.sequence, record.root);
            self.provide(root, true).await;
            match self.put(key.clone(), record).await {
                Ok(peers) => {
                    self.report_put(sequence, peers);
                    if let Some(before) = provided.replace(root).filter(|before| *before != root) {
                        self.provide(before, false).await;
                    }
                    taken = Some(sequence);
                    backoff.reset();
                    sleep_until(began + self.dht_every.min(PUT_SHARE * began.elapsed())).await;
                }
                Err(("off", _)) => return,
                Err((outcome, why)) => {
                    NameMetrics::count(&self.metrics.dht_puts, outcome);
                    self.overall.set_dht_failed(&why);
                    // The next attempt may be for another one.
                    if provided != Some(root) {
                        self.provide(root, false).await;
                    }
                    sleep(backoff.next(fastrand::f64())).await;
                }
            }
        }
    }

    async fn provide(&self, root: Cid, on: bool) {
        if !self.provide {
            return;
        }
        let told = timeout(GOSSIP_LIMIT, self.routing.provide(root.hash().to_bytes(), on)).await;
        if let Ok(Err(error)) = told {
            debug!(cid = %root, %error, "root is not provided");
        }
    }

    async fn put(&self, key: Vec<u8>, record: SignedRecord) -> Result<usize, (&'static str, String)> {
        match timeout(PUT_LIMIT, self.routing.put_value(key, record.bytes)).await {
            Ok(Ok(0)) => Err(("no_peers", RoutingError::NoPeers.to_string())),
            Ok(Ok(peers)) => Ok(peers),
            Ok(Err(error)) => Err((failure(&error), error.to_string())),
            Err(_) => Err(("timeout", format!("no answer within {} s", PUT_LIMIT.as_secs()))),
        }
    }

    fn report_put(&self, sequence: u64, peers: usize) {
        NameMetrics::count(&self.metrics.dht_puts, "done");
        self.metrics.dht_put_peers.set(i64::try_from(peers).unwrap_or(i64::MAX));
        self.metrics.dht_put_timestamp.set(self.clock.unix_millis() / 1_000);
        self.overall.set_dht_put(sequence, peers);
    }

    /// Being subscribed is also what makes gossip reach followers through us.
    async fn listen(&self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let mut messages = self.routing.subscribe(&self.name.topic(), self.judge());
            while messages.next().await.is_some() {
                backoff.reset();
            }
            sleep(backoff.next(fastrand::f64())).await;
        }
    }

    /// Judges what others send on our topic.
    fn judge(&self) -> Judge {
        let (name, metrics) = (self.name, self.metrics.clone());
        let (ours, seen) = (self.record.clone(), self.highest_seen.clone());
        Arc::new(move |message| {
            metrics.gossip_received.inc();
            match Record::verify(&name, message) {
                Ok(record) if tell(&record, &ours, &seen) => Verdict::Accept,
                Ok(_) => {
                    metrics.refuse("gossip", "older");
                    Verdict::Ignore
                }
                Err(why) => {
                    metrics.refuse("gossip", why.label());
                    Verdict::Reject
                }
            }
        })
    }

    /// Looks whether the network knows a record of ours that we do not. An expired one counts: a number that was used
    /// once must not come again.
    async fn look_up(&self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, Duration::from_secs(60));
        for _ in 0..SEARCHES {
            let search = Search {
                routing: &*self.routing,
                metrics: &self.metrics,
                name: self.name,
                limit: SEARCH_LIMIT,
                settle: SEARCH_SETTLE,
            };
            if let Some(record) = search.best(|_| Ok(())).await {
                if tell(&record, &self.record, &self.highest_seen) {
                    info!(sequence = record.sequence, "the network knows a newer record of our name");
                }
                return;
            }
            sleep(backoff.next(fastrand::f64())).await;
        }
        info!("the network knows no record of our name yet");
    }
}

/// Passes on the number of a record that supersedes ours; `false` when it does not.
fn tell(record: &Record, ours: &watch::Receiver<Option<SignedRecord>>, seen: &watch::Sender<u64>) -> bool {
    let supersedes = match &*ours.borrow() {
        Some(ours) => record.sequence >= ours.sequence && record.bytes != ours.bytes,
        None => true,
    };
    if supersedes {
        seen.send_if_modified(|seen| {
            record.sequence > *seen && {
                *seen = record.sequence;
                true
            }
        });
    }
    supersedes
}

/// Waits for a record with another sequence number than `known`.
async fn newer_than(records: &mut watch::Receiver<Option<SignedRecord>>, known: Option<u64>) -> SignedRecord {
    let is_news = |record: &Option<SignedRecord>| record.as_ref().is_some_and(|r| Some(r.sequence) != known);
    let found = match records.wait_for(is_news).await {
        Ok(record) => record.clone(),
        Err(_) => None,
    };
    match found {
        Some(record) => record,
        // Nobody signs any more.
        None => pending().await,
    }
}

fn failure(error: &RoutingError) -> &'static str {
    match error {
        RoutingError::NoPeers => "no_peers",
        RoutingError::Off => "off",
        RoutingError::Failed(_) => "failed",
    }
}
