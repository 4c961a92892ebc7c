//! One DHT, kept to the addresses of its scope: what it dials, and which of our addresses it tells.

use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::multihash::Multihash;
use libp2p::core::transport::PortUse;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, BucketInserts, Caching, Mode, ProviderRecord, Record, RoutingUpdate, StoreInserts};
use libp2p::swarm::behaviour::{ExternalAddrConfirmed, ExternalAddrExpired};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::RecordRules;
use crate::book::bare;
use crate::scope::{Scope, is_loopback};
use crate::store::{MAX_VALUE, Store};

type Kad = kad::Behaviour<Store>;

/// A query that takes longer has found what it can.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// A peer that takes longer to answer is passed over.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// How long records are kept for others (libp2p Kademlia specification, "Content provider advertisement": 48 h).
const RECORD_TTL: Duration = Duration::from_secs(48 * 3600);
/// The replication factor of the IPFS DHTs.
pub(crate) const REPLICATION: usize = 20;

pub(crate) struct Table {
    kad: Kad,
    pub(crate) scope: Scope,
    listening: Vec<Multiaddr>,
    /// What kad was told to be ours, of `listening`.
    told: Vec<Multiaddr>,
}

impl Table {
    pub(crate) fn new(own: PeerId, scope: Scope, server: bool) -> Self {
        let mut config = kad::Config::new(StreamProtocol::new(scope.protocol()));
        config
            .set_query_timeout(QUERY_TIMEOUT)
            .set_substreams_timeout(REQUEST_TIMEOUT)
            .set_record_ttl(Some(RECORD_TTL))
            .set_provider_record_ttl(Some(RECORD_TTL))
            // Nothing goes out that the station did not send just then.
            .set_publication_interval(None)
            .set_replication_interval(None)
            .set_provider_publication_interval(None)
            .set_periodic_bootstrap_interval(None)
            .set_caching(Caching::Disabled)
            .set_record_filtering(StoreInserts::FilterBoth)
            // Peers enter by their scope alone.
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_replication_factor(NonZeroUsize::new(REPLICATION).expect("20 is not 0"));
        let mut kad = Kad::with_config(own, Store::new(own), config);
        kad.set_mode(Some(if server { Mode::Server } else { Mode::Client }));
        Self { kad, scope, listening: Vec::new(), told: Vec::new() }
    }

    pub(crate) fn kad(&mut self) -> &mut Kad {
        &mut self.kad
    }

    /// Peers in the routing table.
    pub(crate) fn len(&mut self) -> usize {
        self.kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
    }

    /// Enters those of `addresses` that are of this scope; says whether there was one.
    pub(crate) fn enter(&mut self, peer: PeerId, addresses: &[Multiaddr]) -> bool {
        let mut entered = false;
        for address in addresses.iter().filter(|address| self.scope.takes(address)).take(8) {
            entered |= !matches!(self.kad.add_address(&peer, address.clone()), RoutingUpdate::Failed);
        }
        entered
    }

    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.kad.remove_peer(peer);
    }

    /// Takes addresses out again that a connection brought in from the other scope.
    pub(crate) fn purge(&mut self, peer: &PeerId, addresses: &kad::Addresses) {
        for address in addresses.iter().filter(|address| !self.scope.takes(address)) {
            self.kad.remove_address(peer, address);
        }
    }

    /// Keeps a record of another peer if it is valid and no older than what is kept; whether it did.
    pub(crate) fn admit(&mut self, record: Record, rules: &dyn RecordRules) -> bool {
        let key: &[u8] = record.key.as_ref();
        if record.value.len() > MAX_VALUE || !rules.valid(key, &record.value) {
            return false;
        }
        let stored = self.kad.store_mut().get(&record.key).map(|stored| stored.value.clone());
        if stored.is_some_and(|stored| !rules.newer(key, &record.value, &stored)) {
            return false;
        }
        self.kad.store_mut().admit(record);
        true
    }

    /// Keeps a record of this node for those who ask; it is not sent out from here.
    pub(crate) fn keep_own(&mut self, key: &[u8], value: &[u8]) {
        let mut record = Record::new(key.to_vec(), value.to_vec());
        record.expires = Some(Instant::now() + RECORD_TTL);
        self.kad.store_mut().admit(record);
    }

    /// Keeps what another peer provides, if the key is a multihash and an address is of this scope; whether it did.
    pub(crate) fn admit_provider(&mut self, mut record: ProviderRecord) -> bool {
        record.addresses.retain(|address| self.scope.announces(address));
        if record.addresses.is_empty() || Multihash::<64>::from_bytes(record.key.as_ref()).is_err() {
            return false;
        }
        self.kad.store_mut().admit_provider(record);
        true
    }

    /// What is known of a peer's addresses, from the table and from queries on their way.
    pub(crate) fn addresses(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let nobody = ConnectionId::new_unchecked(0);
        let found = self.kad.handle_pending_outbound_connection(nobody, Some(peer), &[], Endpoint::Dialer);
        let mut found: Vec<_> = found.unwrap_or_default().iter().map(bare).collect();
        found.retain(|address| self.scope.announces(address));
        found.sort();
        found.dedup();
        found
    }

    /// On a LAN nobody confirms our addresses: those that we listen on are ours. Loopback counts where there is no
    /// other.
    fn tell_listening(&mut self) {
        if self.scope == Scope::Wan {
            return;
        }
        let ours = |address: &&Multiaddr| Scope::Lan.announces(address);
        let mut wanted: Vec<_> =
            self.listening.iter().filter(ours).filter(|a| !is_loopback(a)).cloned().collect();
        if wanted.is_empty() {
            wanted = self.listening.iter().filter(ours).cloned().collect();
        }
        for gone in self.told.iter().filter(|address| !wanted.contains(address)) {
            self.kad.on_swarm_event(FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr: gone }));
        }
        for new in wanted.iter().filter(|address| !self.told.contains(address)) {
            self.kad.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr: new }));
        }
        self.told = wanted;
    }
}

impl NetworkBehaviour for Table {
    type ConnectionHandler = <Kad as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut known = self.kad.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        // A stranger's answer must not make this node dial into its own network.
        known.retain(|address| self.scope.takes(address));
        Ok(known)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ExternalAddrConfirmed(e) if !self.scope.announces(e.addr) => return,
            FromSwarm::NewListenAddr(e) => self.listening.push(e.addr.clone()),
            FromSwarm::ExpiredListenAddr(e) => self.listening.retain(|address| address != e.addr),
            _ => {}
        }
        self.kad.on_swarm_event(event);
        if matches!(event, FromSwarm::NewListenAddr(_) | FromSwarm::ExpiredListenAddr(_)) {
            self.tell_listening();
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.kad.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.kad.poll(cx)
    }
}
