//! The peers' life: who is known at the start, who is dialled again, who is remembered.
//!
//! Takes the seed list, the peers of the run before, mDNS neighbours and the configuration; gives the routing tables
//! their first peers and keeps connections up. Nothing waits for it. A crash loses the peers met in the last five
//! minutes.

pub mod redial;
pub mod saved;
pub mod seeds;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::time::Duration;

use cid::multihash::Multihash;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use multihash_codetable::{Code, MultihashDigest};
use rust_ipfs::p2p::MultiaddrExt;
use rust_ipfs::{Multiaddr, PeerId};
use skywave_swarm::{Mode, Network, NetworkError};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{IpfsConfig, IpfsError};
use redial::{Redial, Wanted};
use saved::Saved;

/// How often it is looked who is missing.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a dial of a followed node may take: a slow line's four round trips, and few of TCP's doubling pauses.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);
/// How often good peers are written down: bounds what a crash loses, and what the card is written.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// How often more peers are looked for; kubo does the same.
const REFRESH_EVERY: Duration = Duration::from_secs(600);
/// How often others who follow the same topics are looked for.
const RENDEZVOUS_EVERY: Duration = Duration::from_secs(300);
/// With fewer connections than this, peers of the last run, seeds and bootstrap peers are dialled.
const FEW: usize = 4;
/// Addresses of one peer that are remembered where they change.
const MOST_ADDRESSES: usize = 32;
/// Others who follow a topic that are dialled at a time.
const MAX_FOLLOWERS: usize = 8;

/// Keeps the node connected.
pub struct Peers {
    network: Network,
    started: Instant,
    saved: Saved,
    redial: Redial<PeerId>,
    addresses: BTreeMap<PeerId, BTreeSet<Multiaddr>>,
    /// Peers that the owner named.
    owners: BTreeSet<PeerId>,
    /// Addresses of nodes to keep to, as they become known.
    named: Option<watch::Receiver<Vec<String>>>,
    /// Those nodes, the owner's peers left out.
    followed: BTreeSet<PeerId>,
    /// Others whose connections stay open.
    kept: BTreeSet<PeerId>,
    /// Topics, and when others who follow them are looked for again.
    met: BTreeMap<String, Instant>,
    refresh_at: Instant,
    save_at: Instant,
}

impl Peers {
    /// Reads what is known and enters it into the routing tables, before anybody asks them.
    ///
    /// # Errors
    /// [`IpfsError::Seeds`] for a broken list, [`IpfsError::Saved`] for a list of the last run that cannot be read.
    pub async fn start(network: Network, config: &IpfsConfig, data: &Path) -> Result<Self, IpfsError> {
        let private = config.swarm_key.is_some();
        let seeds = match &config.seeds {
            // An image's list is of public peers.
            path if private && path == Path::new(seeds::DEFAULT) => Vec::new(),
            path => seeds::load(path)?,
        };
        let saved = Saved::load(data, private)?;
        let now = Instant::now();
        let mut peers = Self {
            network,
            started: now,
            redial: Redial::new(FEW),
            addresses: BTreeMap::new(),
            owners: BTreeSet::new(),
            named: None,
            followed: BTreeSet::new(),
            kept: BTreeSet::new(),
            met: BTreeMap::new(),
            refresh_at: now,
            save_at: now + SAVE_EVERY,
            saved,
        };
        for peer in config.peers.iter().filter_map(|text| text.parse::<Multiaddr>().ok()) {
            peers.want(peer.peer_id(), [peer.address()], Wanted::Always).await;
        }
        let known: Vec<_> = peers.saved.peers().collect();
        for (peer, address) in known {
            peers.want(Some(peer), [address], Wanted::IfFew).await;
        }
        for (peer, addresses) in seeds {
            peers.want(Some(peer), addresses, Wanted::IfFew).await;
        }
        for peer in config.bootstrap_peers() {
            peers.want(peer.peer_id(), [peer.address()], Wanted::IfFew).await;
        }
        Ok(peers)
    }

    /// Keeps to the nodes of these addresses too, each ending in `/p2p/<peer id>`, as long as they are named: one that is
    /// lost is dialled again within seconds.
    pub fn keep_to(self, named: watch::Receiver<Vec<String>>) -> Self {
        Self { named: Some(named), ..self }
    }

    async fn want_named(&mut self) {
        let news = self.named.as_mut().filter(|named| named.has_changed().unwrap_or(false));
        let Some(texts) = news.map(|named| named.borrow_and_update().clone()) else { return };
        let addresses: Vec<Multiaddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let named: BTreeSet<_> = addresses.iter().filter_map(MultiaddrExt::peer_id).collect();
        self.forget_followed(&named);
        self.followed.extend(named.difference(&self.owners).copied().collect::<Vec<_>>());
        for address in addresses {
            let known = address.peer_id().and_then(|peer| self.addresses.get_mut(&peer));
            // Addresses come and go over the months.
            known.into_iter().filter(|known| known.len() >= MOST_ADDRESSES).for_each(BTreeSet::clear);
            self.want(address.peer_id(), [address.address()], Wanted::Followed).await;
        }
    }

    /// Lets go of those who are not named any more, so that relays that came and went are not dialled for ever.
    fn forget_followed(&mut self, named: &BTreeSet<PeerId>) {
        let gone: Vec<_> = self.followed.difference(named).copied().collect();
        for peer in gone {
            self.followed.remove(&peer);
            self.owners.remove(&peer);
            self.redial.forget(&peer);
            self.addresses.remove(&peer);
            self.network.keep(peer, false);
        }
    }

    async fn want(
        &mut self,
        peer: Option<PeerId>,
        addresses: impl IntoIterator<Item = Multiaddr>,
        wanted: Wanted,
    ) {
        let Some(peer) = peer.filter(|peer| *peer != self.network.local_peer()) else { return };
        let addresses: Vec<_> = addresses.into_iter().collect();
        if wanted >= Wanted::Always {
            self.owners.insert(peer);
        }
        self.redial.want(peer, wanted);
        self.addresses.entry(peer).or_default().extend(addresses.iter().cloned());
        if self.network.mode() != Mode::Off
            && let Err(error) = self.network.add_peer(peer, addresses).await
        {
            debug!(%peer, %error, "peer not entered into the routing tables");
        }
    }

    /// Keeps connections up until `cancel` fires, and writes down who was met.
    ///
    /// # Errors
    /// None so far; failures are those of single peers.
    pub async fn run(&mut self, cancel: CancellationToken) -> Result<(), IpfsError> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.redial.begin_anew();
        let (mut dials, mut meetings) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = look.tick() => {
                    self.want_named().await;
                    for (peer, addresses) in self.due() {
                        let (network, followed) = (self.network.clone(), self.redial.is_followed(&peer));
                        dials.push(async move {
                            let dialled = match followed {
                                true => network.dial_within(peer, &addresses, FOLLOWED_WITHIN).await,
                                false => network.dial_any(Some(peer), &addresses).await,
                            };
                            (peer, dialled)
                        });
                    }
                    self.refresh().await;
                    for topic in self.topics_due().await {
                        meetings.push(meet(self.network.clone(), topic));
                    }
                    self.save_if_due();
                }
                Some((peer, outcome)) = dials.next() => self.ended(peer, outcome),
                Some(()) = meetings.next() => {}
            }
        }
        self.save();
        Ok(())
    }

    /// Whom to dial now, with what is known of where they are.
    fn due(&mut self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let neighbours: BTreeMap<_, _> = self.network.neighbours().into_iter().collect();
        self.redial.keep_neighbours(|peer| neighbours.contains_key(peer));
        for (peer, addresses) in &neighbours {
            if *peer != self.network.local_peer() {
                self.redial.want(*peer, Wanted::Neighbour);
                // Where mDNS sees it now, not where it was: a neighbour's address changes with its lease.
                self.addresses.insert(*peer, addresses.iter().cloned().collect());
            }
        }
        let connected = self.network.connected_ids();
        self.keep_few(&connected, &neighbours);
        let due = self.redial.due(
            self.started.elapsed(),
            connected.len(),
            |peer| connected.contains(peer),
            fastrand::f64,
        );
        let place = |peer: PeerId| {
            let addresses = self.addresses.get(&peer).into_iter().flatten().cloned().collect();
            (peer, addresses)
        };
        due.into_iter().map(place).collect()
    }

    /// Neighbours and a few others stay connected though nothing travels: a node without any peer hears nothing.
    fn keep_few(&mut self, connected: &HashSet<PeerId>, neighbours: &BTreeMap<PeerId, Vec<Multiaddr>>) {
        let chosen = |peer: &&PeerId| !self.owners.contains(peer) && !neighbours.contains_key(*peer);
        let mut others: Vec<_> = connected.iter().filter(chosen).copied().collect();
        // Those who are kept already come first.
        others.sort_by_key(|peer| (!self.kept.contains(peer), *peer));
        others.truncate(FEW);
        let kept: BTreeSet<_> = others.into_iter().chain(neighbours.keys().copied()).collect();
        self.kept.difference(&kept).for_each(|peer| self.network.keep(*peer, false));
        kept.difference(&self.kept).for_each(|peer| self.network.keep(*peer, true));
        self.owners.iter().for_each(|peer| self.network.keep(*peer, true));
        self.kept = kept;
    }

    fn ended(&mut self, peer: PeerId, outcome: Result<PeerId, NetworkError>) {
        if let Err(error) = &outcome {
            debug!(%peer, %error, "peer not reached");
        }
        self.redial.ended(&peer, self.started.elapsed(), outcome.is_ok(), fastrand::f64());
    }

    /// Looks for more peers, as soon as there is one to ask and now and again.
    async fn refresh(&mut self) {
        let now = Instant::now();
        if now < self.refresh_at || self.network.mode() == Mode::Off {
            return;
        }
        if self.network.bootstrap().await == Ok(true) {
            self.refresh_at = now + REFRESH_EVERY;
        }
    }

    async fn topics_due(&mut self) -> Vec<String> {
        if self.network.mode() == Mode::Off || self.network.connected_ids().is_empty() {
            return Vec::new();
        }
        let topics = self.network.topics().await.unwrap_or_default();
        for left in self.met.extract_if(.., |topic, _| !topics.contains(topic)).collect::<Vec<_>>() {
            _ = self.network.stop_providing(rendezvous(&left.0)).await;
        }
        let now = Instant::now();
        let due = |topic: &String| self.met.get(topic).is_none_or(|at| *at <= now);
        let due: Vec<_> = topics.into_iter().filter(due).collect();
        for topic in &due {
            self.met.insert(topic.clone(), now + RENDEZVOUS_EVERY);
        }
        due
    }

    fn save_if_due(&mut self) {
        if Instant::now() >= self.save_at {
            self.save_at = Instant::now() + SAVE_EVERY;
            self.save();
        }
    }

    fn save(&mut self) {
        if let Err(error) = self.saved.save(self.network.known_peers()) {
            warn!(error = &error as &dyn std::error::Error, "good peers are not written down");
        }
    }
}

/// Tells the DHT that this node follows a topic, and connects to others who do.
async fn meet(network: Network, topic: String) {
    let key = rendezvous(&topic);
    if let Err(error) = network.provide(key.clone()).await {
        debug!(topic, %error, "the topic is not told to the DHT");
    }
    let Ok(mut followers) = network.providers(key).await else { return };
    let mut dialled = 0;
    while let Some((peer, addresses)) = followers.recv().await {
        if peer == network.local_peer() || addresses.is_empty() {
            continue;
        }
        // Pubsub keeps the connection while the peer is in the topic's mesh.
        _ = network.dial_any(Some(peer), &addresses).await;
        dialled += 1;
        if dialled == MAX_FOLLOWERS {
            return;
        }
    }
}

/// The key under which followers of a topic find each other: go-libp2p-pubsub's discovery provides the SHA-256 of
/// `floodsub:` and the topic.
pub fn rendezvous(topic: &str) -> Vec<u8> {
    let hash: Multihash<64> = Code::Sha2_256.digest(format!("floodsub:{topic}").as_bytes());
    hash.to_bytes()
}
