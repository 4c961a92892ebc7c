//! What the handle asks for, done in the swarm.

use bytes::Bytes;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{CloseConnection, ToSwarm};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::{Asker, State, both};
use crate::book::{ConnectedPeer, bare};
use crate::fetch::PROTOCOL;
use crate::gossip;
use crate::network::{Command, NetworkError, Reply, Routing};
use crate::table::Table;

/// Values that others may fetch.
const MAX_FETCHED: usize = 256;
/// Peers that are asked for one value at once.
const MAX_ASKED: usize = 32;

impl State {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Put { key, value, reply } => self.put(key, value, reply),
            Command::Values { key, reply } => {
                self.counters.queries.add();
                let values = both(&mut self.parts).and_then(|tables| self.queries.values(tables, &key));
                _ = reply.send(values);
            }
            Command::Providers { key, reply } => {
                self.counters.queries.add();
                let found = both(&mut self.parts).and_then(|tables| self.queries.providers(tables, &key));
                _ = reply.send(found);
            }
            Command::Provide { key, reply } => {
                let provided = both(&mut self.parts).and_then(|_| self.queries.provide(key));
                _ = reply.send(provided);
            }
            Command::StopProviding { key, reply } => {
                let tables = both(&mut self.parts);
                _ = reply.send(tables.map(|tables| self.queries.stop_providing(tables, &key)));
            }
            Command::Subscribe { topic, judge, reply } => {
                self.topics.leave_unheard(&mut self.parts.gossipsub);
                _ = reply.send(self.topics.subscribe(&mut self.parts.gossipsub, topic, judge));
            }
            Command::Publish { topic, data, reply } => {
                _ = reply.send(gossip::publish(&mut self.parts.gossipsub, topic, data));
            }
            Command::Topics { reply } => _ = reply.send(Ok(self.topics.names())),
            Command::Fetch { peer, key, reply } => {
                let request = self.parts.fetch.send_request(&peer, key);
                self.fetches.insert(request, Asker::One(reply));
            }
            Command::FetchAll { key, reply } => _ = reply.send(Ok(self.fetch_all(&key))),
            Command::SetFetched { key, value, reply } => _ = reply.send(self.set_fetched(key, value)),
            Command::AddPeer { peer, addresses, reply } => {
                _ = reply.send(self.tables().map(|mut tables| enter(&mut tables, peer, &addresses)));
            }
            Command::Dial { peer, addresses, reply } => self.dial(peer, addresses, reply),
            Command::Disconnect { peer, reply } => {
                let connection = CloseConnection::All;
                self.actions.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
                _ = reply.send(Ok(()));
            }
            Command::GiveUp { peer, reply } => {
                if !self.book.is_connected(&peer) {
                    // Ends the dials too.
                    let connection = CloseConnection::All;
                    self.actions.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
                }
                _ = reply.send(Ok(()));
            }
            Command::Bootstrap { reply } => _ = reply.send(self.bootstrap()),
            Command::Routing { reply } => {
                let routing = self.tables().map(|[lan, wan]| Routing { lan: lan.len(), wan: wan.len() });
                _ = reply.send(routing);
            }
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Bytes, reply: Reply<usize>) {
        self.counters.queries.add();
        let server = self.server;
        match both(&mut self.parts) {
            Err(error) => _ = reply.send(Err(error)),
            Ok([lan, wan]) => {
                if server {
                    // Others ask a server; it is not sent on from here.
                    for table in [&mut *lan, &mut *wan] {
                        table.keep_own(&key, &value);
                    }
                }
                self.queries.put([lan, wan], key, &value, reply);
            }
        }
    }

    fn set_fetched(&mut self, key: Vec<u8>, value: Option<Bytes>) -> Result<(), NetworkError> {
        let Some(value) = value else {
            self.fetched.remove(&key);
            return Ok(());
        };
        if value.len() > gossip::MAX_MESSAGE {
            return Err(NetworkError::TooLarge(value.len()));
        }
        if self.fetched.len() >= MAX_FETCHED && !self.fetched.contains_key(&key) {
            return Err(NetworkError::TooMany(MAX_FETCHED));
        }
        self.fetched.insert(key, value);
        Ok(())
    }

    fn fetch_all(&mut self, key: &[u8]) -> mpsc::Receiver<Bytes> {
        let (output, input) = mpsc::channel(MAX_ASKED);
        let speaks = |peer: &ConnectedPeer| peer.protocols.iter().any(|name| name == PROTOCOL.as_ref());
        for peer in self.book.connected().into_iter().filter(speaks).take(MAX_ASKED) {
            let request = self.parts.fetch.send_request(&peer.peer, key.to_vec());
            self.fetches.insert(request, Asker::Many(output.clone()));
        }
        input
    }

    fn dial(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>, reply: Reply<PeerId>) {
        let opts = match peer {
            // Two connections would each carry a part of the gossip, and go-libp2p-pubsub listens to one stream of a peer
            // alone.
            Some(peer) => DialOpts::peer_id(peer)
                .addresses(addresses)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build(),
            None => match addresses.into_iter().next() {
                Some(address) => DialOpts::unknown_peer_id().address(address).build(),
                None => {
                    _ = reply.send(Err(NetworkError::Unreachable("no address".into())));
                    return;
                }
            },
        };
        self.dials.insert(opts.connection_id(), reply);
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn bootstrap(&mut self) -> Result<bool, NetworkError> {
        let mut asked = false;
        for table in self.tables()? {
            asked |= table.len() > 0 && table.kad().bootstrap().is_ok();
        }
        Ok(asked)
    }
}

fn enter(tables: &mut [&mut Table; 2], peer: PeerId, addresses: &[Multiaddr]) -> bool {
    let addresses: Vec<_> = addresses.iter().map(bare).collect();
    let [lan, wan] = tables;
    // Each of the two takes its own.
    lan.enter(peer, &addresses) | wan.enter(peer, &addresses)
}
