//! Relays take blocks from each other.

use crate::support::lab::fleet::{Fleet, ORIGIN, Plan, SEGMENT};
use crate::support::lab::{self};
use std::time::Duration;

const RELAYS: usize = 8;
const LEAD: Duration = Duration::from_secs(60);
const SEGMENTS: u64 = 10;
/// Of the bytes that relays get, what may come from the origin: two or three copies of eight, the trees and the talk. All of
/// them do where each asks the origin.
const SHARE: f64 = 0.4;

#[test]
fn relays_get_most_of_the_media_from_each_other() {
    let _alone = crate::alone();
    if !lab::available() {
        return;
    }
    // Media, not the talk around it.
    let plan = Plan { renditions: vec![("hifi", 320_000)], ..Plan::new(RELAYS, LEAD) };
    let fleet = Fleet::start(&plan);
    fleet.wait_for_lead(LEAD - Duration::from_secs(15));
    fleet.wait("relays that know each other", 10 * SEGMENT, |fleet| {
        fleet.relays.iter().all(|relay| peers(relay) > 3.0)
    });
    let (first, before) = (fleet.origin.newest().unwrap(), traffic(&fleet));
    let until = first + SEGMENTS;
    fleet.wait("ten segments", 20 * SEGMENT, |fleet| {
        fleet.relays.iter().all(|relay| relay.newest() >= Some(until))
    });
    let after = traffic(&fleet);
    let (sent, received) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
    eprintln!(
        "of {received:.0} bytes that {RELAYS} relays got, the origin sent {sent:.0}: {:.0} %",
        100.0 * sent / received
    );
    assert!(sent < SHARE * received, "the origin sent {sent} of {received} bytes");
}

fn peers(relay: &lab::fleet::Node) -> f64 {
    relay.figures().sum("network_peers", "")
}

/// Bytes that the origin sent, and that relays received.
fn traffic(fleet: &Fleet) -> (u64, u64) {
    let received = fleet.relays.iter().map(|relay| fleet.lab.wire.traffic(relay.place).received).sum();
    (fleet.lab.wire.traffic(ORIGIN).sent, received)
}
