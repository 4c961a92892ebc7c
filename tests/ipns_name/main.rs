//! The station's name: records from signing to resolving, on a network in memory and under simulated time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/name_network.rs"]
mod name_network;
#[path = "../support/name_station.rs"]
mod name_station;
#[path = "../support/publisher_stage.rs"]
mod publisher_stage;
mod publishing;
mod resolving;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skywave::clock::{SteppedClock, WallClock};
use skywave::ipfs::ipns::{self, Record, SignedRecord};
use skywave::ipfs::{Block, Identity};

/// A moment in October 2026.
const OCTOBER_2026: i64 = 466_900_000 * 3_840 + 1_000;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A record of `identity`, signed now and valid for `validity`.
fn signed(identity: &Identity, sequence: u64, clock: &SteppedClock, validity: Duration) -> SignedRecord {
    let root = Block::raw(format!("root {sequence}")).cid;
    ipns::sign(identity, root, sequence, clock.unix_millis(), validity, seconds(5)).unwrap()
}

/// The same bytes with one bit of the signed data turned.
fn forged(record: &SignedRecord) -> Bytes {
    let mut bytes = record.bytes.to_vec();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    bytes.into()
}

fn sequence(identity: &Identity, bytes: &Bytes) -> u64 {
    Record::verify(&identity.name(), bytes).unwrap().sequence
}

fn clock() -> Arc<SteppedClock> {
    SteppedClock::starting_at(OCTOBER_2026)
}
