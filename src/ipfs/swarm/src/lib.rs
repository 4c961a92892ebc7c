//! Starts the IPFS swarm: a crate of its own so that rust-ipfs' generic builder, and with it all of libp2p, is
//! compiled once and not with every change of the station (docs/decisions/0006-swarm-crate.md).

use std::path::PathBuf;

use rust_ipfs::builder::DefaultIpfsBuilder;
use rust_ipfs::p2p::IdentifyConfiguration;
use rust_ipfs::{Error, Ipfs, Keypair, Multiaddr};

/// Connections to other peers at most: bounds the memory and file descriptors that strangers can cost.
const MAX_CONNECTIONS: u32 = 128;

/// What a swarm is started with.
pub struct Setup<'a> {
    /// The peer's key.
    pub keypair: &'a Keypair,
    /// Folder of the repo.
    pub repo: PathBuf,
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Program and version, as identify tells them.
    pub agent: String,
}

/// Opens the repo and starts to listen: identify and bitswap over TCP, no garbage collector, no bootstrap.
///
/// # Errors
/// What rust-ipfs says, mostly that another process holds the repo.
pub async fn start(setup: Setup<'_>) -> Result<Ipfs, Error> {
    let identify = IdentifyConfiguration { agent_version: setup.agent, ..Default::default() };
    DefaultIpfsBuilder::with_keypair(setup.keypair)?
        .with_identify(identify)
        .with_bitswap()
        .enable_tcp()
        .set_path(setup.repo)
        .set_listening_addrs(setup.listen)
        .set_connection_limits(|limits| {
            limits
                .with_max_pending_incoming(Some(32))
                .with_max_pending_outgoing(Some(32))
                .with_max_established(Some(MAX_CONNECTIONS))
                .with_max_established_per_peer(Some(2))
        })
        .start()
        .await
}
