//! Sync stage: what every node of the station knows of the others.
//!
//! In: what this node has on air and holds, its addresses, on the origin what each tick announced; the messages of other
//! nodes on the topic of the station. Out: messages of its own, the merged [`State`], on the origin the relays that
//! station.json names, on a relay the records that came. Nothing on the way to air waits for it. A crash loses nothing: the
//! state lives outside the run, and after a restart of the program other nodes say it again within a period.

mod announcement;
pub mod intake;
pub mod merge;
pub mod message;
pub mod neighbours;
pub mod relays;
pub mod token_bucket;

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock::SharedClock;
use crate::health::{Health, StageHealth};
use crate::ipfs::ipns::{Name, Record, SignedRecord};
use crate::ipfs::names::{Judge, Resolver, Routing, RoutingError, Verdict};
use crate::ipfs::{Identity, IpfsError};
use crate::metrics::SyncMetrics;
use crate::publisher::{Announced, Relay};
use crate::supervisor::backoff::Backoff;
use announcement::{SOFTWARE, dialled, encode_node};
use intake::{Intake, Moment};
pub use merge::State;
use merge::StationPart;
use message::{NodeFacts, Signed};
use relays::{ORIGIN, RELAY};

/// Segments without the station's word after which every message of a relay brings what it knows of it.
const SILENT_SEGMENTS: u32 = 2;
/// Of the others, one of so many does.
const ONE_OF: u32 = 8;
/// How long handing a message to gossip may take.
const GOSSIP_LIMIT: Duration = Duration::from_secs(2);
/// First and longest pause before the topic is subscribed anew.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often stale nodes are looked for.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// Bounds how often the state is handed on while many speak.
const SETTLE: Duration = Duration::from_millis(100);

/// Why the sync stage stopped.
#[derive(Debug, Error)]
pub enum SyncError {
    /// The node's or the station's key cannot sign.
    #[error("cannot sign a state message")]
    Sign(#[source] IpfsError),
}

/// What the node is to its station.
pub enum Part {
    /// It holds the station's key.
    Origin(Origin),
    /// It serves what the origin announces.
    Follower(Follower),
}

/// The ends of an origin.
pub struct Origin {
    /// What each tick announced.
    pub announced: watch::Receiver<Option<Announced>>,
    /// The newest IPNS record.
    pub record: watch::Receiver<Option<SignedRecord>>,
    /// The relays that station.json names.
    pub relays: watch::Sender<Vec<Relay>>,
}

/// The ends of a relay.
pub struct Follower {
    /// Highest media sequence number on air here.
    pub newest: watch::Receiver<Option<u64>>,
    /// Highest media sequence number held here.
    pub held_until: watch::Receiver<Option<u64>>,
    /// Gets the records that come.
    pub resolver: Option<Resolver>,
}

/// What the stage is made from.
pub struct SyncParts {
    /// The station.
    pub name: Name,
    /// What the node is to it.
    pub part: Part,
    /// The node's own key: on an origin, the station's.
    pub identity: Identity,
    /// Length of a segment.
    pub segment: Duration,
    /// The network.
    pub routing: Arc<dyn Routing>,
    /// Unix time, and whether it is believed.
    pub clock: SharedClock,
    /// URLs under which listeners reach this node.
    pub http: watch::Receiver<Vec<String>>,
    /// Addresses of the node, each ending in `/p2p/<peer id>`.
    pub swarm: watch::Receiver<Vec<String>>,
    /// Tells how many listen here, and is told of the others.
    pub overall: Health,
    /// Where the stage reports.
    pub health: StageHealth,
    /// Where it counts.
    pub metrics: SyncMetrics,
}

/// What others see of the stage.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    /// Everything that is known of the station's other nodes.
    pub state: watch::Receiver<Arc<State>>,
}

/// The stage; survives a restart of its run.
pub struct Sync {
    parts: SyncParts,
    shared: Arc<Shared>,
    state: watch::Sender<Arc<State>>,
    seq: Mutex<u64>,
    /// Relays that were known when they were counted last.
    relays: AtomicUsize,
}

/// What the judge of the topic works on.
struct Shared {
    name: Name,
    intake: Mutex<Intake>,
    changed: Notify,
    /// When the station's newest word came.
    heard: Mutex<Option<Instant>>,
    origin: Instant,
    clock: SharedClock,
    resolver: Option<Resolver>,
    metrics: SyncMetrics,
}

impl Sync {
    /// A stage that knows nobody yet.
    pub fn new(parts: SyncParts) -> (Self, SyncHandle) {
        let resolver = match &parts.part {
            Part::Origin(_) => None,
            Part::Follower(follower) => follower.resolver.clone(),
        };
        let intake = Intake::new(parts.name, parts.identity.name(), parts.segment, State::default());
        let shared = Arc::new(Shared {
            name: parts.name,
            intake: Mutex::new(intake),
            changed: Notify::new(),
            heard: Mutex::default(),
            origin: Instant::now(),
            clock: parts.clock.clone(),
            resolver,
            metrics: parts.metrics.clone(),
        });
        let (state, seen) = watch::channel(Arc::default());
        (
            Self { parts, shared, state, seq: Mutex::default(), relays: AtomicUsize::new(0) },
            SyncHandle { state: seen },
        )
    }

    /// Listens and speaks until `cancel` fires.
    ///
    /// # Errors
    /// [`SyncError`]; a network that fails is tried again.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), SyncError> {
        let work = async { tokio::try_join!(self.listen(), self.speak(), self.tend()) };
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            done = work => done.map(|(never, ..)| match never {}),
        }
    }

    /// Messages are taken in when they are judged; the stream only keeps the node on the topic.
    async fn listen(&self) -> Result<Infallible, SyncError> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let shared = self.shared.clone();
            let judge: Judge = Arc::new(move |message| shared.judge(message));
            let mut messages = self.parts.routing.subscribe(&topic(&self.parts.name), judge);
            while messages.next().await.is_some() {
                backoff.reset();
            }
            sleep(backoff.next(fastrand::f64())).await;
        }
    }

    async fn speak(&self) -> Result<Infallible, SyncError> {
        let mut announced = match &self.parts.part {
            Part::Origin(origin) => Some(origin.announced.clone()),
            Part::Follower(_) => None,
        };
        loop {
            self.wait_for_turn(announced.as_mut()).await;
            let message = self.compose()?;
            let sending = self.parts.routing.publish(&topic(&self.parts.name), message);
            let outcome = match timeout(GOSSIP_LIMIT, sending).await {
                Ok(Ok(())) => "sent",
                Ok(Err(RoutingError::NoPeers)) => "no_peers",
                Ok(Err(RoutingError::Off)) => "off",
                Ok(Err(RoutingError::Failed(_))) => "failed",
                Err(_) => "timeout",
            };
            self.parts.metrics.sent(outcome);
            self.parts.health.progress();
        }
    }

    /// The origin speaks once a tick, and while there is none, as a relay does: once a period, jittered by a quarter, so
    /// that nodes that started together do not speak together.
    async fn wait_for_turn(&self, announced: Option<&mut watch::Receiver<Option<Announced>>>) {
        let period = self.shared.intake().period();
        let (period, tick) = match announced {
            Some(announced) => (period * 2, Some(announced)),
            None => (period, None),
        };
        let tick = async {
            let Some(announced) = tick else { return pending().await };
            // Nobody announces any more.
            if announced.changed().await.is_err() {
                pending().await
            }
        };
        tokio::select! {
            () = tick => {}
            () = sleep(period.mul_f64(0.75 + 0.5 * fastrand::f64())) => {}
        }
    }

    /// The message of this node at this moment.
    fn compose(&self) -> Result<Bytes, SyncError> {
        let (parts, now) = (&self.parts, self.shared.now());
        let time_ms = self.shared.intake().reference(now).unwrap_or_else(|| parts.clock.unix_millis());
        if let Part::Origin(origin) = &parts.part {
            self.speak_for_station(origin, time_ms)?;
        }
        let facts = encode_node(self.facts(time_ms));
        let signature = parts.identity.sign(&message::node_payload(&facts)).map_err(SyncError::Sign)?;
        let node = Signed { facts, signature: signature.into() };
        let station = if self.brings_station() { self.shared.intake().station_to_pass_on(now) } else { None };
        let station = station.as_ref().map(|(part, record)| (&part.signed, &record[..]));
        Ok(message::write(&node, &parts.identity.public_key(), station))
    }

    /// Whether the next message brings the station's word too: most of its bytes, and every node hears every message
    /// several times. The origin's do; a relay's while the origin is not heard, and now and then for who has just come.
    fn brings_station(&self) -> bool {
        let heard = *self.shared.heard();
        let fresh = heard.is_some_and(|at| at.elapsed() < SILENT_SEGMENTS * self.parts.segment);
        matches!(self.parts.part, Part::Origin(_)) || !fresh || fastrand::u32(..ONE_OF) == 0
    }

    fn facts(&self, time_ms: i64) -> NodeFacts {
        let parts = &self.parts;
        let (role, newest, held_until) = match &parts.part {
            Part::Origin(origin) => {
                let announced = origin.announced.borrow();
                let announced = announced.as_ref();
                (ORIGIN, announced.map(|a| a.newest), announced.map(|a| a.ahead))
            }
            Part::Follower(follower) => (RELAY, *follower.newest.borrow(), *follower.held_until.borrow()),
        };
        NodeFacts {
            name: parts.name.to_string(),
            seq: self.next_seq(time_ms),
            time_ms,
            role: role.into(),
            software: SOFTWARE.into(),
            newest,
            held_until,
            http: parts.http.borrow().clone(),
            swarm: dialled(&parts.swarm.borrow()),
            listeners: parts.overall.listeners(),
        }
    }

    /// Numbers follow the time, so that those of the next run stand above.
    fn next_seq(&self, time_ms: i64) -> u64 {
        let mut seq = self.seq.lock().unwrap_or_else(PoisonError::into_inner);
        *seq = seq.saturating_add(1).max(u64::try_from(time_ms).unwrap_or(0));
        *seq
    }

    /// Signs what the last tick announced, above all that is known of the station: also above what a run before said
    /// whose clock was ahead, which relays pass on. Without a record there is nothing to say.
    fn speak_for_station(&self, origin: &Origin, time_ms: i64) -> Result<(), SyncError> {
        let parts = &self.parts;
        let (announced, record) = (origin.announced.borrow().clone(), origin.record.borrow().clone());
        let (Some(announced), Some(record)) = (announced, record) else { return Ok(()) };
        let record = match Record::verify(&parts.name, &record.bytes) {
            Ok(record) => record,
            Err(error) => {
                debug!(%error, "our own record does not verify");
                return Ok(());
            }
        };
        let mut intake = self.shared.intake();
        let known = intake.state().station().map_or(0, |part| part.facts.seq);
        let seq = known.saturating_add(1).max(u64::try_from(time_ms).unwrap_or(0));
        let relays = self.relays.load(Ordering::Relaxed);
        let (facts, bytes) = announcement::station(&parts.name, seq, time_ms, &announced, relays);
        let signature = parts.identity.sign(&message::station_payload(&bytes)).map_err(SyncError::Sign)?;
        let signed = Signed { facts: bytes, signature: signature.into() };
        intake.speak_for_station(StationPart { facts, signed }, record);
        drop(intake);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Forgets whom nobody hears any more, and hands on what has changed.
    async fn tend(&self) -> Result<Infallible, SyncError> {
        let mut every = interval(TEND_EVERY);
        loop {
            tokio::select! {
                _ = every.tick() => self.look_around(),
                () = self.shared.changed.notified() => {}
            }
            let state = self.shared.intake().state().clone();
            self.state.send_if_modified(|known| {
                **known != state && {
                    *known = Arc::new(state);
                    true
                }
            });
            sleep(SETTLE).await;
        }
    }

    /// Counts the nodes, and on the origin names the relays.
    fn look_around(&self) {
        let (heard, newest) = {
            let (mut intake, now) = (self.shared.intake(), self.shared.now());
            intake.forget_stale(now);
            (intake.heard(now), intake.state().station().and_then(|part| part.facts.newest))
        };
        // Beside the lock, which the network waits for: there may be ten thousand.
        let relays = relays::count(&heard);
        self.relays.store(relays, Ordering::Relaxed);
        let (role, station) = match &self.parts.part {
            Part::Origin(origin) => {
                let named = relays::named(&heard, newest, self.parts.segment);
                origin.relays.send_if_modified(|known| {
                    *known != named && {
                        *known = named;
                        true
                    }
                });
                (ORIGIN, None)
            }
            Part::Follower(_) => (RELAY, *self.shared.heard()),
        };
        self.parts.metrics.nodes.set(i64::try_from(heard.len()).unwrap_or(i64::MAX));
        self.parts.metrics.relays.set(i64::try_from(relays).unwrap_or(i64::MAX));
        self.parts.overall.set_sync(role, heard.len(), relays, station);
    }
}

impl Shared {
    /// Takes a message in, and says whether it goes on to others.
    fn judge(&self, message: &Bytes) -> Verdict {
        let taken = self.intake().take(message, self.now());
        match taken {
            Ok(taken) => {
                self.metrics.taken.inc();
                if taken.station {
                    *self.heard() = Some(Instant::now());
                }
                if let (Some(record), Some(resolver)) = (taken.record, &self.resolver) {
                    resolver.offer(&self.name, record);
                }
                self.changed.notify_one();
                Verdict::Accept
            }
            Err(refusal) => {
                self.metrics.refuse(refusal.label());
                if refusal.is_offence() { Verdict::Reject } else { Verdict::Ignore }
            }
        }
    }

    fn now(&self) -> Moment {
        let believed = self.clock.synchronised().is_ok();
        Moment {
            mono_ms: u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX),
            unix_ms: believed.then(|| self.clock.unix_millis()),
        }
    }

    /// A panic elsewhere while a lock was held leaves a state behind that is whole.
    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, Option<Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The topic of a station's state messages.
pub fn topic(name: &Name) -> String {
    format!("/skywave/state/1/{name}")
}
