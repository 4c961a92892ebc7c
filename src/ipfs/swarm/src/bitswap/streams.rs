//! Streams of bitswap in the swarm: hands on those that peers open, and opens those that are asked for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot};

/// Name of the protocol.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/bitswap/1.2.0");

/// Why there is no stream to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// It does not speak the protocol.
    Unsupported,
    /// The connection failed, or is gone.
    Failed,
}

/// A stream to a peer is wanted. Where the peer is not connected, the reply is dropped.
pub(crate) struct Open {
    pub(super) peer: PeerId,
    pub(super) reply: oneshot::Sender<Result<Stream, NoStream>>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open({})", self.peer)
    }
}

/// The other ends of [`Streams`].
pub(crate) struct Ends {
    pub(super) opened: mpsc::Receiver<(PeerId, Stream)>,
    pub(super) open: mpsc::Sender<Open>,
}

pub(crate) struct Streams {
    opened: mpsc::Sender<(PeerId, Stream)>,
    open: mpsc::Receiver<Open>,
    closed: bool,
}

impl Streams {
    /// Room for this many streams that nobody has taken yet; one more is refused by closing it.
    pub(super) fn new(room: usize) -> (Self, Ends) {
        let ((opened, taken), (asked, open)) = (mpsc::channel(room), mpsc::channel(room));
        (Self { opened, open, closed: false }, Ends { opened: taken, open: asked })
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler { peer, opened: self.opened.clone(), asked: VecDeque::new() }
    }
}

pub(crate) struct Handler {
    peer: PeerId,
    opened: mpsc::Sender<(PeerId, Stream)>,
    asked: VecDeque<Open>,
}

type Upgrade = ReadyUpgrade<StreamProtocol>;

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, Open, Infallible>> {
        match self.asked.pop_front() {
            Some(open) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), open),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.asked.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Upgrade, Upgrade, (), Open>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                // Full, or at the end: the stream is dropped, and with it closed.
                _ = self.opened.try_send((self.peer, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                _ = info.reply.send(Ok(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let unsupported = matches!(error, StreamUpgradeError::NegotiationFailed);
                let reason = if unsupported { NoStream::Unsupported } else { NoStream::Failed };
                _ = info.reply.send(Err(reason));
            }
            _ => {}
        }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        if self.closed {
            return Poll::Pending;
        }
        match self.open.poll_recv(cx) {
            Poll::Ready(Some(event)) => {
                let peer_id = event.peer;
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            Poll::Ready(None) => {
                self.closed = true;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
