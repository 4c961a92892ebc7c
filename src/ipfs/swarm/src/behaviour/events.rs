//! What the parts and the swarm tell.

use libp2p::gossipsub::TopicHash;
use libp2p::swarm::{ConnectionId, DialError, FromSwarm};
use libp2p::{PeerId, identify, mdns, request_response};
use tracing::debug;

use super::{Asker, PartsEvent, State, both};
use crate::book::bare;
use crate::fetch::Answer;
use crate::network::NetworkError;
use crate::scope::Scope;

/// Questions on their way beyond which nobody is asked for a record just because it joined.
const MAX_JOINED: usize = 256;

impl State {
    pub(super) fn event(&mut self, event: PartsEvent) {
        match event {
            PartsEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.identified(peer_id, info);
            }
            PartsEvent::Lan(event) => self.kad_event(Scope::Lan, event),
            PartsEvent::Wan(event) => self.kad_event(Scope::Wan, event),
            PartsEvent::Gossipsub(libp2p::gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                self.book.hear(&propagation_source);
                self.topics.received(&mut self.parts.gossipsub, propagation_source, &message_id, message);
            }
            PartsEvent::Gossipsub(libp2p::gossipsub::Event::Subscribed { peer_id, topic }) => {
                self.joined(peer_id, topic);
            }
            PartsEvent::Fetch(event) => self.fetch_event(event),
            PartsEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    let address = bare(&address);
                    if let Ok([lan, _]) = both(&mut self.parts) {
                        lan.enter(peer, std::slice::from_ref(&address));
                    }
                    self.book.neighbour(peer, address);
                }
            }
            PartsEvent::Mdns(mdns::Event::Expired(gone)) => {
                for (peer, address) in gone {
                    self.book.neighbour_left(peer, &bare(&address));
                }
            }
            PartsEvent::Identify(_) | PartsEvent::Gossipsub(_) => {}
            PartsEvent::Memory(never) | PartsEvent::Keep(never) | PartsEvent::Bitswap(never) => {
                match never {}
            }
        }
    }

    /// A peer said who it is: it enters the tables of the DHTs that it answers in, and leaves the others.
    fn identified(&mut self, peer: PeerId, info: identify::Info) {
        let protocols: Vec<_> = info.protocols.iter().map(ToString::to_string).collect();
        let answers = |scope: Scope| protocols.iter().any(|protocol| protocol == scope.protocol());
        let (lan, wan) = (answers(Scope::Lan), answers(Scope::Wan));
        let remote = self.book.identified(peer, &info.agent_version, protocols);
        // Somebody else's 192.168.0.2 is not ours: the LAN is where the connection itself is private.
        let near = remote.iter().any(|address| Scope::of(address) == Some(Scope::Lan));
        let Ok([lan_table, wan_table]) = self.tables() else { return };
        for (table, answers, fits) in [(lan_table, lan, near), (wan_table, wan, true)] {
            if !answers {
                table.remove(&peer);
            } else if fits {
                let addresses: Vec<_> = info.listen_addrs.iter().map(bare).collect();
                table.enter(peer, &addresses);
            }
        }
    }

    fn kad_event(&mut self, scope: Scope, event: libp2p::kad::Event) {
        use libp2p::kad::{Event, InboundRequest};
        let Ok([lan, wan]) = both(&mut self.parts) else { return };
        let table = if scope == Scope::Lan { lan } else { wan };
        match event {
            Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.queries.progressed(table, id, result, step.last);
            }
            Event::RoutablePeer { peer, address } | Event::PendingRoutablePeer { peer, address } => {
                table.enter(peer, &[bare(&address)]);
            }
            Event::RoutingUpdated { peer, addresses, .. } => table.purge(&peer, &addresses),
            Event::InboundRequest { request: InboundRequest::PutRecord { record: Some(record), .. } } => {
                let stored = table.admit(record, &*self.rules);
                let (stored_count, refused) = (&self.counters.records_stored, &self.counters.records_refused);
                if stored { stored_count.add() } else { refused.add() }
            }
            Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                let stored = table.admit_provider(record);
                let (stored_count, refused) =
                    (&self.counters.providers_stored, &self.counters.providers_refused);
                if stored { stored_count.add() } else { refused.add() }
            }
            _ => {}
        }
    }

    /// A peer that joins the topic of a record is asked for it: what was gossiped before, nobody sends again.
    fn joined(&mut self, peer: PeerId, topic: TopicHash) {
        let Some(key) = self.topics.record_key(&topic).filter(|_| self.fetches.len() < MAX_JOINED) else {
            return;
        };
        let request = self.parts.fetch.send_request(&peer, key);
        self.fetches.insert(request, Asker::Topic(topic));
    }

    fn fetch_event(&mut self, event: request_response::Event<Vec<u8>, Answer>) {
        use request_response::{Event, Message, OutboundFailure};
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.book.hear(&peer);
                let answer = self.fetched.get(&request).cloned();
                self.counters.fetches.add();
                _ = self.parts.fetch.send_response(channel, answer);
            }
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                self.book.hear(&peer);
                match self.fetches.remove(&request_id) {
                    Some(Asker::One(reply)) => _ = reply.send(Ok(response)),
                    Some(Asker::Many(output)) => _ = response.map(|value| output.try_send(value)),
                    Some(Asker::Topic(topic)) => {
                        _ = response.map(|value| self.topics.judge(peer, &topic, value));
                    }
                    None => {}
                }
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                if matches!(error, OutboundFailure::Io(_) | OutboundFailure::UnsupportedProtocols) {
                    // No good answer, but one.
                    self.book.hear(&peer);
                }
                if let Some(Asker::One(reply)) = self.fetches.remove(&request_id) {
                    _ = reply.send(Err(NetworkError::Unreachable(error.to_string())));
                }
            }
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    pub(super) fn swarm_event(&mut self, event: &FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(e) => {
                self.counters.connections.add();
                self.handshakes.remove(&e.connection_id);
                let remote = e.endpoint.get_remote_address();
                self.book.opened(e.peer_id, e.connection_id, remote, e.endpoint.is_dialer());
                self.end_dials(e.peer_id, &Ok(e.peer_id));
                self.dials.remove(&e.connection_id).map(|reply| reply.send(Ok(e.peer_id)));
            }
            FromSwarm::ConnectionClosed(e) => self.book.closed(e.peer_id, e.connection_id),
            FromSwarm::ListenFailure(e) => {
                self.counters.connections_refused.add();
                self.handshakes.remove(&e.connection_id);
                debug!(from = %e.send_back_addr, error = %e.error, "connection refused");
            }
            FromSwarm::DialFailure(e) => self.dial_failed(e.peer_id, e.connection_id, e.error),
            _ => {}
        }
    }

    fn dial_failed(&mut self, peer: Option<PeerId>, connection: ConnectionId, error: &DialError) {
        let reply = self.dials.remove(&connection);
        let there = peer.filter(|peer| self.book.is_connected(peer));
        match (peer, error) {
            // Somebody else's dial to this peer, such as a query's, is under way: its end is the answer.
            (Some(peer), DialError::DialPeerConditionFalse(_)) if there.is_none() => {
                self.waiting.entry(peer).or_default().extend(reply);
            }
            _ => {
                if !matches!(error, DialError::DialPeerConditionFalse(_)) {
                    self.counters.dials_failed.add();
                }
                let outcome = there.ok_or_else(|| NetworkError::Unreachable(error.to_string()));
                if let Some(peer) = peer {
                    self.end_dials(peer, &outcome);
                }
                reply.map(|reply| reply.send(outcome));
            }
        }
    }

    /// Answers those who wait for somebody else's dial.
    fn end_dials(&mut self, peer: PeerId, outcome: &Result<PeerId, NetworkError>) {
        for reply in self.waiting.remove(&peer).into_iter().flatten() {
            _ = reply.send(outcome.clone());
        }
    }
}
