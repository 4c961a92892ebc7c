//! The network's own behaviour in the swarm: takes commands, drives DHT, pubsub, identify, mDNS and fetch, and hands
//! the swarm everything but their events.

mod commands;
mod events;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::gossipsub::TopicHash;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, identify, mdns, memory_connection_limits};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, warn};

use crate::bitswap::{Bitswap, Opened, Streams};
use crate::book::Book;
use crate::counters::Counters;
use crate::fetch::{Answer, FetchCodec, PROTOCOL};
use crate::gossip::{self, Gossipsub, Topics};
use crate::keep::{Keep, Kept};
use crate::liveness::{Due, Liveness};
use crate::network::{Command, Mode, Network, NetworkError, Reply};
use crate::queries::Queries;
use crate::scope::Scope;
use crate::table::Table;
use crate::{RecordRules, Setup};

/// How often the network looks after what is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often what was kept for others is looked through for what has expired.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// How long a peer may take over a fetch.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// Fetches that one connection may have open.
const MAX_FETCHES: usize = 16;
/// Connections of one host that may be in the middle of their handshake.
const MAX_PENDING_OF_HOST: usize = 16;
/// Peers whose addresses identify remembers.
const IDENTIFY_CACHE: usize = 256;

/// What the network is made of.
#[derive(NetworkBehaviour)]
pub(crate) struct Parts {
    // First: what it refuses costs the others nothing.
    memory: Toggle<memory_connection_limits::Behaviour>,
    keep: Keep,
    bitswap: Streams,
    identify: identify::Behaviour,
    lan: Toggle<Table>,
    wan: Toggle<Table>,
    gossipsub: Gossipsub,
    fetch: request_response::Behaviour<FetchCodec>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// A host has too many connections that are not through their handshake.
#[derive(Debug, Error)]
#[error("too many handshakes with one host")]
struct TooManyOfHost;

/// The peer's old connection, which is dead, is closed first.
#[derive(Debug, Error)]
#[error("its old connection is closed first")]
struct ComesAnew;

/// The network in the swarm.
pub(crate) struct Behaviour(State);

/// Who waits for what a peer has.
enum Asker {
    One(Reply<Answer>),
    Many(mpsc::Sender<Bytes>),
    /// Whoever listens to a topic of records.
    Topic(TopicHash),
}

struct State {
    parts: Parts,
    commands: mpsc::Receiver<Command>,
    closed: bool,
    actions: VecDeque<ToSwarm<Infallible, THandlerInEvent<Parts>>>,
    look: Interval,
    expire_at: Instant,
    topics: Topics,
    queries: Queries,
    dials: HashMap<ConnectionId, Reply<PeerId>>,
    /// Who waits for a dial that is not ours.
    waiting: HashMap<PeerId, Vec<Reply<PeerId>>>,
    fetches: HashMap<OutboundRequestId, Asker>,
    fetched: HashMap<Vec<u8>, Bytes>,
    handshakes: HashMap<ConnectionId, IpAddr>,
    liveness: Liveness,
    rules: Arc<dyn RecordRules>,
    server: bool,
    book: Book,
    counters: Arc<Counters>,
}

impl Behaviour {
    /// The behaviour, its handle, and the bitswap streams that others open.
    ///
    /// # Errors
    /// When pubsub cannot be set up.
    pub(crate) fn new(keypair: &Keypair, setup: &Setup<'_>) -> Result<(Self, Network, Opened), String> {
        let (local, server) = (keypair.public().to_peer_id(), setup.dht == Mode::Server);
        let (sender, commands) = mpsc::channel(crate::network::COMMANDS);
        let (book, kept, counters) = (Book::default(), Kept::default(), Arc::new(Counters::default()));
        let table = |scope| Toggle::from((setup.dht != Mode::Off).then(|| Table::new(local, scope, server)));
        let identify = identify::Config::new("/ipfs/0.1.0".into(), keypair.public())
            .with_agent_version(setup.agent.clone())
            .with_push_listen_addr_updates(true)
            .with_cache_size(IDENTIFY_CACHE);
        let fetch = request_response::Config::default()
            .with_request_timeout(FETCH_WITHIN)
            .with_max_concurrent_streams(MAX_FETCHES);
        let memory = setup.memory_limit.map(memory_connection_limits::Behaviour::with_max_bytes);
        let (streams, bitswap, opened) = Bitswap::new(book.clone(), counters.clone());
        let parts = Parts {
            memory: memory.into(),
            keep: Keep(kept.clone()),
            bitswap: streams,
            identify: identify::Behaviour::new(identify),
            lan: table(Scope::Lan),
            wan: table(Scope::Wan),
            gossipsub: gossip::behaviour(keypair)?,
            fetch: request_response::Behaviour::new([(PROTOCOL, ProtocolSupport::Full)], fetch),
            mdns: multicast(setup.mdns, local).into(),
        };
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let state = State {
            parts,
            commands,
            closed: false,
            actions: VecDeque::new(),
            look,
            expire_at: Instant::now() + EXPIRE_EVERY,
            topics: Topics::new(counters.clone()),
            queries: Queries::default(),
            dials: HashMap::new(),
            waiting: HashMap::new(),
            fetches: HashMap::new(),
            fetched: HashMap::new(),
            handshakes: HashMap::new(),
            liveness: Liveness::default(),
            rules: setup.records.clone(),
            server,
            book: book.clone(),
            counters: counters.clone(),
        };
        let network = Network { commands: sender, bitswap, book, kept, counters, mode: setup.dht, local };
        Ok((Self(state), network, opened))
    }
}

/// mDNS, or none where the system has no multicast: a station without it is still on air.
fn multicast(wanted: bool, local: PeerId) -> Option<mdns::tokio::Behaviour> {
    let mdns = wanted.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), local))?;
    mdns.inspect_err(|error| warn!(%error, "no mDNS: neighbours are not found by themselves")).ok()
}

fn host(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    }
}

impl State {
    fn tables(&mut self) -> Result<[&mut Table; 2], NetworkError> {
        both(&mut self.parts)
    }

    fn look_after(&mut self) {
        self.topics.leave_unheard(&mut self.parts.gossipsub);
        let now = Instant::now();
        self.look_for_silent(now);
        if let Ok([lan, wan]) = both(&mut self.parts) {
            self.queries.end_unheard([&mut *lan, &mut *wan]);
            for _ in 0..self.queries.provide_due([&mut *lan, &mut *wan], now) {
                self.counters.queries.add();
            }
            if now >= self.expire_at {
                self.expire_at = now + EXPIRE_EVERY;
                lan.kad().store_mut().expire(now);
                wan.kad().store_mut().expire(now);
            }
        }
    }

    /// Asks peers that follow what this node follows whether they are there, and once all of which nothing has come at all,
    /// and lets go of whoever is not: TCP would find out after a quarter of an hour, and after a cut of some minutes pauses
    /// for as long before it sends again.
    fn look_for_silent(&mut self, now: Instant) {
        let book = &self.book;
        let answers = |peer: &&PeerId| book.speaks(peer, PROTOCOL.as_ref());
        let heard = |peer: &PeerId| Some((*peer, book.heard(peer)?));
        let followers = self.topics.followers(&self.parts.gossipsub).filter(answers);
        let peers: Vec<_> = followers.filter_map(heard).chain(book.mute()).collect();
        for due in self.liveness.look(now, &peers) {
            match due {
                // Any answer is one, also that there is nothing.
                Due::Ask(peer) => _ = self.parts.fetch.send_request(&peer, Vec::new()),
                Due::LetGo(peer) => self.let_go(peer),
            }
        }
    }

    fn let_go(&mut self, peer: PeerId) {
        debug!(%peer, "nothing comes from a peer: its connections are closed");
        self.counters.peers_silent.add();
        let connection = CloseConnection::All;
        self.actions.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
    }

    /// Whether a follower comes anew while its old connection is silent: the line was cut, and the old one is dead. Both at a
    /// time would each carry a part of the gossip, so the old one is closed and the peer comes once more.
    fn comes_anew(&mut self, peer: PeerId) -> bool {
        let follows = self.topics.followers(&self.parts.gossipsub).any(|follower| *follower == peer);
        let heard = self.book.heard(&peer).filter(|_| follows);
        let over = heard.is_some_and(|heard| self.liveness.is_over(&peer, heard, Instant::now()));
        if over {
            self.let_go(peer);
        }
        over
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Parts>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            match self.parts.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.event(event);
                    continue;
                }
                Poll::Ready(other) => return Poll::Ready(other.map_out(|_| unreachable!("handled above"))),
                Poll::Pending => {}
            }
            if !self.closed
                && let Poll::Ready(command) = self.commands.poll_recv(cx)
            {
                match command {
                    Some(command) => self.command(command),
                    None => self.closed = true,
                }
                continue;
            }
            if self.look.poll_tick(cx).is_ready() {
                self.look_after();
                continue;
            }
            self.topics.deliver(cx);
            return Poll::Pending;
        }
    }
}

fn both(parts: &mut Parts) -> Result<[&mut Table; 2], NetworkError> {
    match (parts.lan.as_mut(), parts.wan.as_mut()) {
        (Some(lan), Some(wan)) => Ok([lan, wan]),
        _ => Err(NetworkError::NoDht),
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Parts as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let state = &mut self.0;
        if let Some(host) = host(remote) {
            let same = state.handshakes.values().filter(|other| **other == host).count();
            if same >= MAX_PENDING_OF_HOST {
                return Err(ConnectionDenied::new(TooManyOfHost));
            }
            state.handshakes.insert(connection, host);
        }
        state.parts.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let state = &mut self.0;
        if state.comes_anew(peer) {
            return Err(ConnectionDenied::new(ComesAnew));
        }
        state.parts.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let state = &mut self.0;
        state.counters.dials.add();
        state.parts.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let parts = &mut self.0.parts;
        parts.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let state = &mut self.0;
        state.swarm_event(&event);
        state.parts.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.0.parts.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        self.0.poll(cx)
    }
}
