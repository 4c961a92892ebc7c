//! The swarm: TCP, encrypted by noise, multiplexed by yamux, and one task that drives every part.

use std::time::Duration;

use connexa::behaviour::autorelay;
use either::Either;
use futures::StreamExt;
use libp2p::autonat::v1 as autonat;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::relay::client as relay;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Transport, dcutr, noise, ping, tcp, upnp, yamux};
use rust_ipfs::repo::{DefaultStorage, Repo};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::Setup;
use crate::behaviour::Behaviour;

/// Handshakes that may be on their way at once, in and out.
const MAX_PENDING: u32 = 64;
/// Connections to one peer.
const MAX_OF_PEER: u32 = 4;
/// How long a connection stays open on which nothing travels: longer than a bitswap neighbour pauses between segments.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take to be encrypted and multiplexed.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// All that each connection is offered to.
#[derive(NetworkBehaviour)]
struct Whole {
    // First: what they refuse costs the others nothing.
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    relay: Toggle<relay::Behaviour>,
    upgrade: Toggle<dcutr::Behaviour>,
    autorelay: Toggle<autorelay::Behaviour>,
    autonat: Toggle<autonat::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
    ours: Behaviour,
}

/// The swarm that runs, and the repo that it serves. It ends when this is dropped, or by [`Swarm::stop`].
pub struct Swarm {
    repo: Repo<DefaultStorage>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    task: JoinHandle<()>,
}

impl Swarm {
    /// Starts to listen. An address that cannot be listened on is told in the log and left out.
    ///
    /// # Errors
    /// When the key is none that noise can use.
    pub(crate) fn start(
        setup: &Setup<'_>,
        ours: Behaviour,
        repo: Repo<DefaultStorage>,
    ) -> Result<Self, noise::Error> {
        let local = setup.keypair.public().to_peer_id();
        // In a private network nothing talks to strangers.
        let outside = setup.private_key.is_none();
        let (relayed, relay) = (outside && setup.hole_punching).then(|| relay::new(local)).unzip();
        let whole = Whole {
            limits: connection_limits::Behaviour::new(limits(setup.max_connections)),
            ping: ping::Behaviour::default(),
            upgrade: relay.as_ref().map(|_| dcutr::Behaviour::new(local)).into(),
            autorelay: relay.as_ref().map(|_| autorelay::Behaviour::default()).into(),
            autonat: relay
                .as_ref()
                .map(|_| autonat::Behaviour::new(local, autonat::Config::default()))
                .into(),
            relay: relay.into(),
            upnp: (outside && setup.upnp).then(upnp::tokio::Behaviour::default).into(),
            ours,
        };
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
        let transport = transport(setup.keypair, setup.private_key, relayed)?;
        let mut swarm = libp2p::Swarm::new(transport, whole, local, config);
        for address in &setup.listen {
            if let Err(error) = swarm.listen_on(address.clone()) {
                warn!(%address, %error, "no peer can come in by this address");
            }
        }
        let (tell, addresses) = watch::channel(Vec::new());
        Ok(Self { repo, addresses, task: tokio::spawn(run(swarm, tell)) })
    }

    /// What the swarm serves.
    pub fn repo(&self) -> &Repo<DefaultStorage> {
        &self.repo
    }

    /// Where the node listens, and where others have met it; ports are known a moment after the start. None once it ended.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        if self.task.is_finished() { Vec::new() } else { self.addresses.borrow().clone() }
    }

    /// Ends the task: nothing is listened on any more, and connections end a moment later. The repo is free with its last clone.
    pub async fn stop(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
        self.repo.shutdown();
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut swarm: libp2p::Swarm<Whole>, tell: watch::Sender<Vec<Multiaddr>>) {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => {
                tell.send_replace(swarm.external_addresses().chain(swarm.listeners()).cloned().collect());
            }
            SwarmEvent::Behaviour(WholeEvent::Autonat(autonat::Event::StatusChanged { new, .. })) => {
                debug!(status = ?new, "whether others can reach this node");
            }
            SwarmEvent::Behaviour(WholeEvent::Upnp(event)) => debug!(?event, "the router's ports"),
            SwarmEvent::Behaviour(WholeEvent::Upgrade(dcutr::Event { remote_peer_id: peer, result })) => {
                debug!(%peer, reached = result.is_ok(), "a direct connection instead of a relayed one");
            }
            _ => {}
        }
    }
}

fn limits(max: u32) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING))
        .with_max_pending_outgoing(Some(MAX_PENDING))
        .with_max_established(Some(max))
        .with_max_established_incoming(Some(max - max / 4))
        .with_max_established_per_peer(Some(MAX_OF_PEER))
}

/// TCP, in a private network encrypted by its key before anything else, and what comes through a relay.
fn transport(
    keypair: &Keypair,
    private_key: Option<[u8; 32]>,
    relayed: Option<relay::Transport>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default());
    let tcp = match private_key {
        Some(key) => {
            let private = PnetConfig::new(PreSharedKey::new(key));
            Either::Left(tcp.and_then(move |stream, _| private.handshake(stream)))
        }
        None => Either::Right(tcp),
    };
    // First, as TCP would dial the end of an address that leads through a relay.
    let all = match relayed {
        Some(relayed) => Either::Left(OrTransport::new(relayed, tcp)),
        None => Either::Right(tcp),
    };
    Ok(all
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux::Config::default())
        .timeout(HANDSHAKE_WITHIN)
        .boxed())
}
