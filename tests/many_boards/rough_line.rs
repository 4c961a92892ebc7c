//! Every line loses packets and is slow.

use std::time::Duration;

use crate::support::lab::fleet::{Fleet, ORIGIN, Plan, SEGMENT};
use crate::support::lab::watch::Listener;
use crate::support::lab::{self, Lab};

const RELAYS: usize = 6;
/// Each way, so an answer takes twice as long.
const DELAY: Duration = Duration::from_millis(150);
/// Of the packets of each way.
const LOSS: f64 = 0.02;
const LEAD: Duration = Duration::from_secs(60);

#[test]
fn with_two_per_cent_loss_and_150_ms_each_way_every_relay_has_every_segment_before_its_airtime() {
    let _alone = crate::alone();
    if !lab::available() {
        return;
    }
    let plan = Plan { renditions: vec![("lofi", 64_000), ("hifi", 192_000)], ..Plan::new(RELAYS, LEAD) };
    let lab = Lab::new(1 + RELAYS);
    lab.wire.set_all(|line| (line.delay, line.loss) = (DELAY, LOSS));
    let fleet = Fleet::start_on(lab, &plan);
    fleet.wait_for_lead(LEAD - Duration::from_secs(15));
    // A relay that has just begun may have been late until it knew when segments are due.
    let before = failures(&fleet);
    let listeners = Listener::at_all(&fleet, &plan.rendition_names());
    let segments = if lab::long() { 80 } else { 12 };
    let first = fleet.origin.newest().unwrap();
    let mut least = LEAD;
    let within = SEGMENT * (2 * segments);
    fleet.wait("the segments", within, |fleet| {
        least = fleet.relays.iter().map(|relay| relay.lead()).chain([least]).min().unwrap();
        listeners.iter().any(Listener::has_ended)
            || fleet.relays.iter().all(|relay| relay.newest() >= Some(first + u64::from(segments)))
    });
    let seen: Vec<_> = listeners.into_iter().map(|listener| listener.finish().unwrap()).collect();
    let latest = seen.iter().map(|seen| seen.latest).max().unwrap();
    let lost: u64 = (ORIGIN..=ORIGIN + RELAYS).map(|place| fleet.lab.wire.traffic(place).lost).sum();
    eprintln!(
        "{segments} segments, {lost} packets lost: held {least:?} ahead of air at least, listed {latest:?} after airtime at worst"
    );
    assert!(lost > 100, "{lost} packets were lost: no rough line");
    assert_eq!(failures(&fleet), before, "late and skipped by relay; {}", fleet.told());
    assert!(least > Duration::from_secs(10), "no relay held more than {least:?} ahead of air");
    assert!(seen.iter().all(|seen| seen.report.jumps == 0 && seen.report.discontinuities == 0), "{seen:?}");
}

/// What each relay counted: segments that came on air late, and those that nobody sent in time.
fn failures(fleet: &Fleet) -> Vec<[u64; 2]> {
    let names = ["relay_segments_late_total", "relay_segments_skipped_total"];
    let of = |relay: &lab::fleet::Node| names.map(|name| relay.figures().sum(name, "") as u64);
    fleet.relays.iter().map(of).collect()
}
