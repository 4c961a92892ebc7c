//! The origin is cut off while it has announced more than the cut lasts.

use std::time::{Duration, Instant};

use crate::support::lab::fleet::{Fleet, Node, ORIGIN, Plan, SEGMENT};
use crate::support::lab::watch::Listener;
use crate::support::lab::{self};

const RELAYS: usize = 8;
/// What relays may miss of the lead at the cut.
const SLACK: Duration = Duration::from_secs(8);
/// How much after its airtime a segment may be listed: the relay's patience and the listener's period, and load.
const LATEST: Duration = Duration::from_secs(3);
/// How long the second cut is.
const BRIEF: Duration = Duration::from_secs(9);
/// Two ticks.
const CONVERGED_WITHIN: Duration = SEGMENT.saturating_mul(2);

#[test]
fn eight_relays_play_through_a_cut_of_the_origin_and_converge_again() {
    let _alone = crate::alone();
    if !lab::available() {
        return;
    }
    let (cut, lead) = if lab::long() { (240, 300) } else { (45, 70) };
    let (cut, plan) = (Duration::from_secs(cut), Plan::new(RELAYS, Duration::from_secs(lead)));
    let fleet = Fleet::start(&plan);
    fleet.wait_for_lead(plan.lead - SLACK);
    let listeners = Listener::at_all(&fleet, &plan.rendition_names());
    fleet.wait_until_converged(Duration::from_secs(30));

    fleet.lab.wire.set(ORIGIN, |line| line.connected = false);
    let began = Instant::now();
    let (first, sent) = (fleet.origin.newest().unwrap(), fleet.lab.wire.traffic(ORIGIN).received);
    fleet.wait("the notice of every relay", cut, |fleet| fleet.relays.iter().all(is_cut_off));
    fleet.wait("the end of the cut", 2 * cut, |_| {
        began.elapsed() >= cut || listeners.iter().any(Listener::has_ended)
    });
    assert_eq!(fleet.lab.wire.traffic(ORIGIN).received, sent, "nothing came to the origin");
    let relays: Vec<_> = fleet.relays.iter().map(|relay| relay.newest().unwrap()).collect();
    fleet.lab.wire.set(ORIGIN, |line| line.connected = true);
    let took = fleet.wait_until_converged(8 * SEGMENT);
    let (newest, _) = fleet.origin.stands_at(&fleet.name).unwrap();
    // The origin goes on, and so do they behind it.
    fleet.wait("three segments more", 6 * SEGMENT, |fleet| {
        fleet.relays.iter().all(|relay| relay.newest() > Some(newest + 2))
    });
    let briefly = cut_briefly(&fleet);
    let seen: Vec<_> = listeners.into_iter().map(|listener| listener.finish().unwrap()).collect();

    let latest = seen.iter().map(|seen| seen.latest).max().unwrap();
    eprintln!(
        "cut of {cut:?} with a lead of {:?}: {RELAYS} relays at {relays:?} from {first}; converged in {took:?}, after \
         one of {BRIEF:?} in {briefly:?}; a segment was listed {latest:?} after its airtime at worst",
        plan.lead
    );
    for seen in &seen {
        assert!(seen.report.segments as u64 > cut.as_secs() / 4, "{seen:?}");
        assert_eq!((seen.report.jumps, seen.report.discontinuities), (0, 0), "{seen:?}");
    }
    assert!(latest < LATEST, "{latest:?} after its airtime");
    assert!(took <= CONVERGED_WITHIN, "{took:?} until all converged");
    assert!(briefly <= CONVERGED_WITHIN, "{briefly:?} until all converged after a short cut");
}

/// A cut in which one end may have let go of the other already, and the other not yet; how long it took to converge.
fn cut_briefly(fleet: &Fleet) -> Duration {
    fleet.lab.wire.set(ORIGIN, |line| line.connected = false);
    let began = Instant::now();
    fleet.wait("the end of a short cut", 2 * BRIEF, |_| began.elapsed() >= BRIEF);
    fleet.lab.wire.set(ORIGIN, |line| line.connected = true);
    fleet.wait_until_converged(8 * SEGMENT)
}

/// Whether the relay says that the origin is out of reach.
fn is_cut_off(relay: &Node) -> bool {
    relay.health().is_some_and(|health| health["notices"]["origin"].as_str().is_some())
}
