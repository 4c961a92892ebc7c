//! The network among nodes of our own, on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bitswap;
mod cut;
mod dht;
mod gossip;
mod lan;
mod limits;
#[path = "../support/loopback.rs"]
mod loopback;
mod names;
mod peers;
mod private;
mod relayed;
mod swarm;
