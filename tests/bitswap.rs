//! The rules of bitswap without a network: the pure files of the swarm's crate with their unit tests, which would build all
//! of libp2p once more there.
#![allow(dead_code, unreachable_pub, reason = "the swarm's crate uses what no test here does")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../src/ipfs/swarm/src/protobuf.rs"]
mod protobuf;

#[path = "../src/ipfs/swarm/src/bitswap"]
mod bitswap {
    pub(crate) mod ledger;
    pub(crate) mod message;
    pub(crate) mod wanted;
}
