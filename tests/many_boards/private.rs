//! A private network: origin and relays share a swarm.key.

use std::time::Duration;

use crate::support::lab::fleet::{Fleet, Plan, SEGMENT};
use crate::support::lab::watch::Listener;
use crate::support::lab::{self};

const KEY: &str = "/key/swarm/psk/1.0.0/\n/base16/\n\
    00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

#[test]
fn a_station_and_two_relays_keep_to_their_private_network() {
    let _alone = crate::alone();
    if !lab::available() {
        return;
    }
    let plan = Plan { swarm_key: Some(KEY.to_owned()), ..Plan::new(2, Duration::from_secs(30)) };
    let mut fleet = Fleet::start(&plan);
    let listeners = Listener::at_all(&fleet, &plan.rendition_names());
    let first = fleet.origin.newest().unwrap();
    fleet.wait("four segments", 12 * SEGMENT, |fleet| {
        fleet.relays.iter().all(|relay| relay.newest() >= Some(first + 4))
    });
    fleet.wait_until_converged(4 * SEGMENT);
    listeners.into_iter().for_each(|listener| _ = listener.finish().unwrap());

    // With another key it is no member, and hears nothing.
    fleet.relays[1].kill();
    fleet.relays[1].set_swarm_key(&KEY.replace("0011", "1100"));
    fleet.relays[1].forget_blocks();
    let (relay, lab) = (&mut fleet.relays[1], &fleet.lab);
    relay.start(lab);
    fleet.wait("that it waits for the origin", Duration::from_secs(30), |fleet| {
        let health = fleet.relays[1].health().unwrap_or_default();
        health["off_air_reason"] == "waiting for the origin"
    });
    assert!(!fleet.relays[1].on_air() && fleet.relays[0].on_air(), "{}", fleet.told());
}
