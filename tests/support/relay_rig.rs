//! A station's publisher and relays of it under simulated time, joined by a network in memory that can be cut.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;
use skywave::clock::{SteppedClock, WallClock};
use skywave::health::Health;
use skywave::hls::Segment;
use skywave::hls::timeline::Slot;
use skywave::ipfs::ipns::{Record, SignedRecord};
use skywave::ipfs::{Blocks, Identity, IpfsError};
use skywave::metrics::Metrics;
use skywave::publisher::Tick;
use skywave::publisher::stream_tree::StreamTree;
use skywave::relay::source::Source;
use skywave::relay::{Following, Reading, Relay};
use skywave::state::{Durability, StateFile};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::publisher_stage::{self, Parts, SEGMENT};

/// Renditions of the station.
pub const RENDITIONS: [&str; 2] = ["lofi", "hifi"];
/// Segments that its playlists list.
pub const LISTED: usize = 6;
/// The first number.
pub const FIRST: u64 = 466_900_000;
/// Segments that are due when the station starts.
const DUE: u64 = 3;

/// Who has which blocks, and who reaches whom.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    peers: Vec<Peer>,
    delay: Duration,
}

struct Peer {
    blocks: Blocks,
    online: bool,
    /// Blocks that it does not give, though it has them.
    hidden: HashSet<Cid>,
    /// Blocks in whose place it gives something else.
    forged: HashSet<Cid>,
    /// How often it gave each block.
    given: HashMap<Cid, usize>,
}

impl Network {
    /// Peers answer after so long.
    pub fn new(delay: Duration) -> Self {
        Self(Arc::new(Mutex::new(State { peers: Vec::new(), delay })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A peer with these blocks; its place among them.
    pub fn join(&self, blocks: &Blocks) -> usize {
        let peer = Peer {
            blocks: blocks.clone(),
            online: true,
            hidden: HashSet::new(),
            forged: HashSet::new(),
            given: HashMap::new(),
        };
        self.state().peers.push(peer);
        self.state().peers.len() - 1
    }

    pub fn set_online(&self, peer: usize, online: bool) {
        self.state().peers[peer].online = online;
    }

    pub fn is_online(&self, peer: usize) -> bool {
        self.state().peers[peer].online
    }

    /// The peer keeps a block to itself.
    pub fn hide(&self, peer: usize, cid: Cid) {
        self.state().peers[peer].hidden.insert(cid);
    }

    /// The peer gives something else in the place of a block.
    pub fn forge(&self, peer: usize, cid: Cid) {
        self.state().peers[peer].forged.insert(cid);
    }

    /// What the first peer gives that has the block and is reached, but for the one that is spared; a forgery is given once.
    async fn ask(&self, cid: Cid, spared: Option<usize>) -> Option<Bytes> {
        let (delay, peers) = {
            let mut state = self.state();
            let forger = state.peers.iter_mut().any(|peer| peer.online && peer.forged.remove(&cid));
            if forger {
                return Some(Bytes::from_static(b"forged"));
            }
            let gives = |(place, peer): &(usize, &Peer)| {
                peer.online && !peer.hidden.contains(&cid) && spared != Some(*place)
            };
            let peers = state.peers.iter().enumerate().filter(gives);
            let mut peers: Vec<_> = peers.map(|(place, peer)| (place, peer.blocks.clone())).collect();
            // Whoever is nearest answers first.
            fastrand::shuffle(&mut peers);
            (state.delay, peers)
        };
        for (place, blocks) in peers {
            if let Some(bytes) = blocks.get(&cid).await.unwrap() {
                *self.state().peers[place].given.entry(cid).or_default() += 1;
                sleep(delay).await;
                return Some(bytes);
            }
        }
        None
    }

    /// How often a peer gave a block.
    pub fn given(&self, peer: usize, cid: &Cid) -> usize {
        self.state().peers[peer].given.get(cid).copied().unwrap_or(0)
    }
}

/// The network as one relay sees it.
struct View {
    network: Network,
    place: usize,
    station: usize,
    own: Blocks,
}

impl Source for View {
    fn fetch(
        &self,
        cid: Cid,
        patience: Duration,
        spare: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, IpfsError>> {
        let (network, place, own) = (self.network.clone(), self.place, self.own.clone());
        let (station, until) = (self.station, Instant::now() + spare);
        Box::pin(async move {
            if let Some(bytes) = own.get(&cid).await? {
                return Ok(Some(bytes));
            }
            let asked = timeout(patience, async {
                loop {
                    let spared = (Instant::now() < until).then_some(station);
                    if network.is_online(place)
                        && let Some(bytes) = network.ask(cid, spared).await
                    {
                        return bytes;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            });
            Ok(asked.await.ok())
        })
    }

    fn find(&self, _root: Cid) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn peers(&self) -> usize {
        let state = self.network.state();
        state.peers.iter().enumerate().filter(|(place, peer)| *place != self.place && peer.online).count()
    }
}

/// A publisher that is fed ahead of air.
pub struct Origin {
    pub identity: Identity,
    pub clock: Arc<SteppedClock>,
    pub network: Network,
    pub place: usize,
    pub blocks: Blocks,
    pub record: watch::Receiver<Option<SignedRecord>>,
    pub tree: watch::Receiver<Option<Arc<StreamTree>>>,
    pub origin: Instant,
    /// Oldest segment that it keeps.
    pub keep_from: watch::Sender<u64>,
    /// Every tree that it had on air, with the moment.
    pub aired: Aired,
    stop: CancellationToken,
}

impl Origin {
    /// Starts it with `lead` segments ahead of air; numbers at which `cuts` is true are discontinuities.
    pub async fn start(folder: &Path, network: &Network, lead: u64, cuts: fn(u64) -> bool) -> Self {
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let (identity, blocks) = (Identity::generate(), Blocks::in_memory());
        let clock = SteppedClock::starting_at(i64::try_from(FIRST).unwrap() * 3_840);
        let origin = Instant::now();
        let (publisher, ends) = Parts {
            folder,
            renditions: &RENDITIONS,
            blocks: blocks.clone(),
            identity: identity.clone(),
            clock: clock.clone(),
            origin,
            playlist_segments: LISTED,
            record_validity: Duration::from_secs(48 * 3_600),
            room: 4_096,
            health: &health,
            metrics: &metrics,
        }
        .publisher();
        blocks.put_pinned(&publisher_stage::init()).await.unwrap();
        let cancel = stop.clone();
        // The folder of a test that is over may be gone before it.
        tokio::spawn(async move { publisher.run(cancel).await });
        tokio::spawn(feed(ends.segments, origin, lead, cuts));
        let aired = Arc::new(Mutex::new(BTreeMap::new()));
        tokio::spawn(keep(ends.tree.clone(), aired.clone()));
        // Nothing leaves its store here.
        let mut ticks = ends.ticks;
        tokio::spawn(async move { while ticks.recv().await.is_some() {} });
        let place = network.join(&blocks);
        let (network, keep_from) = (network.clone(), ends.keep_from);
        let (record, tree) = (ends.record, ends.tree);
        Self { identity, clock, network, place, blocks, record, tree, origin, keep_from, aired, stop }
    }

    /// The number on air.
    pub fn newest(&self) -> u64 {
        self.tree.borrow().as_ref().map_or(0, |tree| tree.newest)
    }

    /// Waits until `n` is on air.
    pub async fn wait_for(&self, n: u64) {
        let mut tree = self.tree.clone();
        let there = tree.wait_for(|tree| tree.as_ref().is_some_and(|tree| tree.newest >= n));
        timeout(Duration::from_secs(3_600), there).await.expect("the origin goes on").unwrap();
    }

    /// End of the airtime of `n`.
    pub fn due(&self, n: u64) -> Instant {
        self.origin + SEGMENT * u32::try_from(n - FIRST + 1 - DUE).unwrap()
    }

    /// A file of the tree that was on air with `n`.
    pub async fn file(&self, n: u64, path: &str) -> Option<Bytes> {
        let cid = self.aired.lock().unwrap().get(&n)?.1.entries.get(path)?.cid;
        self.blocks.get(&cid).await.unwrap()
    }

    /// CID of the media of segment `n`.
    pub fn media(n: u64, rendition: &str) -> Cid {
        skywave::ipfs::Block::raw(media(n, rendition)).cid
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn media(n: u64, rendition: &str) -> Bytes {
    Bytes::from(format!("{rendition} segment {n} ").repeat(40))
}

async fn feed(segments: mpsc::Sender<Segment>, origin: Instant, lead: u64, cuts: fn(u64) -> bool) {
    for next in 0_u64.. {
        // Three are due when the station starts, as hls makes them.
        let begins = u32::try_from(next.saturating_sub(lead + DUE)).unwrap();
        sleep_until(origin + SEGMENT * begins).await;
        let (n, place) = (FIRST + next, i64::try_from(next).unwrap() - i64::try_from(DUE).unwrap());
        let slot = Slot {
            n,
            airtime_ms: place * 3_840,
            unix_ms: (i64::try_from(n - DUE).unwrap()) * 3_840,
            discontinuity: cuts(n),
        };
        let media = RENDITIONS.iter().map(|rendition| media(n, rendition)).collect();
        let program_date_time_ms = slot.unix_ms - 43;
        let segment = Segment { slot, samples: 184_320, program_date_time_ms, media, now_playing: None };
        if segments.send(segment).await.is_err() {
            return;
        }
    }
}

pub type Aired = Arc<Mutex<BTreeMap<u64, (Instant, Arc<StreamTree>)>>>;

/// Keeps the newest tree of each number, with the moment of the first.
async fn keep(mut tree: watch::Receiver<Option<Arc<StreamTree>>>, aired: Aired) {
    while tree.changed().await.is_ok() {
        let Some(tree) = tree.borrow_and_update().clone() else { continue };
        let mut aired = aired.lock().unwrap();
        let at = aired.get(&tree.newest).map_or_else(Instant::now, |(at, _)| *at);
        aired.insert(tree.newest, (at, tree));
    }
}

/// A relay and what its listeners see.
pub struct RelayNode {
    pub health: Health,
    pub metrics: Metrics,
    pub blocks: Blocks,
    pub place: usize,
    pub tree: watch::Receiver<Option<Arc<StreamTree>>>,
    pub record: watch::Receiver<Option<SignedRecord>>,
    pub station: watch::Receiver<Bytes>,
    pub held_until: watch::Receiver<Option<u64>>,
    pub records: watch::Sender<Option<Arc<Record>>>,
    pub keep_from: watch::Sender<u64>,
    /// Every tree that it had on air, with the moment of the first of that number.
    pub aired: Aired,
    /// What it told retention.
    pub ticks: Arc<Mutex<Vec<Tick>>>,
    folder: PathBuf,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl RelayNode {
    /// Starts a relay of `origin` whose file lies in `folder`.
    pub async fn start(folder: &Path, origin: &Origin) -> Self {
        let blocks = Blocks::in_memory();
        let place = origin.network.join(&blocks);
        Self::start_on(folder, origin, blocks, place).await
    }

    async fn start_on(folder: &Path, origin: &Origin, blocks: Blocks, place: usize) -> Self {
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let name = origin.identity.name();
        let file = StateFile::new(folder.join("relay.json"), Durability::Process);
        let now = Reading { monotonic_ms: 0, unix_ms: origin.clock.unix_millis() };
        let following = Following::restore(&file, &name, &blocks, now).await.unwrap();
        let (records, followed) = watch::channel(None);
        let (tree, tree_out) = watch::channel(None);
        let (record, record_out) = watch::channel(None);
        let (station_json, station) = watch::channel(Bytes::new());
        let (held, held_until) = watch::channel(None);
        let (keep_from, kept) = watch::channel(0);
        let (ticks, mut told) = mpsc::channel(16);
        let network = origin.network.clone();
        let view = View { network, place, station: origin.place, own: blocks.clone() };
        let relay = Relay {
            name,
            own_name: "Relay".into(),
            source: Arc::new(view),
            blocks: blocks.clone(),
            records: followed,
            clock: origin.clock.clone(),
            origin: Instant::now(),
            following: Arc::new(tokio::sync::Mutex::new(following)),
            catalogue_file: file,
            keep_from: kept,
            addresses: watch::channel(vec!["/ip4/10.0.0.2/tcp/4001/p2p/12D3".into()]).1,
            origin_addresses: watch::channel(Vec::new()).0,
            tree,
            record,
            station_json,
            newest: watch::channel(None).0,
            held_until: held,
            ticks,
            overall: health.clone(),
            health: health.stage("relay", Some(Duration::from_secs(20))),
            metrics: metrics.clone(),
        };
        let aired = Arc::new(Mutex::new(BTreeMap::new()));
        tokio::spawn(keep(tree_out.clone(), aired.clone()));
        let ticks = Arc::<Mutex<Vec<Tick>>>::default();
        let all = ticks.clone();
        tokio::spawn(async move {
            while let Some(tick) = told.recv().await {
                all.lock().unwrap().push(tick);
            }
        });
        tokio::spawn(gossip(origin.network.clone(), [origin.place, place], origin, records.clone()));
        let cancel = stop.clone();
        let running = tokio::spawn(async move { relay.run(cancel).await.unwrap() });
        Self {
            health,
            metrics,
            blocks,
            place,
            tree: tree_out,
            record: record_out,
            station,
            held_until,
            records,
            keep_from,
            aired,
            ticks,
            folder: folder.to_owned(),
            stop,
            running,
        }
    }

    /// Ends it as a crash does where `crash`, else in good order, and starts it again on the same store.
    pub async fn restart(mut self, origin: &Origin, crash: bool) -> Self {
        if crash {
            self.running.abort();
        } else {
            self.stop.cancel();
        }
        let _ = (&mut self.running).await;
        Self::start_on(&self.folder, origin, self.blocks.clone(), self.place).await
    }

    /// The number on air.
    pub fn newest(&self) -> u64 {
        self.tree.borrow().as_ref().map_or(0, |tree| tree.newest)
    }

    /// Waits until `n` is on air.
    pub async fn wait_for(&self, n: u64) {
        let mut tree = self.tree.clone();
        let there = tree.wait_for(|tree| tree.as_ref().is_some_and(|tree| tree.newest >= n));
        let there = timeout(Duration::from_secs(120), there).await;
        there.unwrap_or_else(|_| panic!("{n} is not on air: {:#?}", self.health.report())).unwrap();
    }

    /// When `n` came on air here.
    pub fn aired_at(&self, n: u64) -> Option<Instant> {
        self.aired.lock().unwrap().get(&n).map(|(at, _)| *at)
    }

    /// A file of the tree that was on air with `n`.
    pub async fn file(&self, n: u64, path: &str) -> Option<Bytes> {
        let cid = self.aired.lock().unwrap().get(&n)?.1.entries.get(path)?.cid;
        self.blocks.get(&cid).await.unwrap()
    }

    /// Every file of the tree on air that is not held.
    pub async fn missing(&self) -> Vec<String> {
        let tree = self.tree.borrow().clone().expect("a tree");
        let mut missing = Vec::new();
        for (path, entry) in &tree.entries {
            if !self.blocks.contains(&entry.cid).await.unwrap() {
                missing.push(path.clone());
            }
        }
        missing
    }
}

impl Drop for RelayNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Brings the origin's records to a relay while both are reached; the newest alone after a cut.
fn gossip(
    network: Network,
    ends: [usize; 2],
    origin: &Origin,
    records: watch::Sender<Option<Arc<Record>>>,
) -> impl Future<Output = ()> + use<> {
    let (mut from, name) = (origin.record.clone(), origin.identity.name());
    async move {
        from.mark_changed();
        loop {
            if !ends.iter().all(|end| network.is_online(*end)) {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            if records.is_closed()
                || timeout(Duration::from_millis(100), from.changed()).await.is_ok_and(|c| c.is_err())
            {
                return;
            }
            sleep(Duration::from_millis(30)).await;
            let Some(signed) = from.borrow_and_update().clone() else { continue };
            let record = Arc::new(Record::verify(&name, &signed.bytes).unwrap());
            if ends.iter().all(|end| network.is_online(*end)) {
                records.send_if_modified(|known| {
                    known.as_ref().is_none_or(|known| *known < record) && {
                        *known = Some(record);
                        true
                    }
                });
            }
        }
    }
}
