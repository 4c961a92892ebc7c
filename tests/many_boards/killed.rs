//! A relay dies again and again.

use std::time::{Duration, Instant};

use crate::support::lab::fleet::{Fleet, Plan, SEGMENT};
use crate::support::lab::watch::Listener;
use crate::support::lab::{self};

const LEAD: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a relay stays dead at most.
const MOST_DEAD: Duration = SEGMENT.saturating_mul(2);
/// The moments of the kills are chosen by chance, the same in each run.
const SEED: u64 = 50;

#[test]
fn a_relay_that_is_killed_catches_up_each_time_and_listeners_of_another_notice_nothing() {
    let _alone = crate::alone();
    if !lab::available() {
        return;
    }
    let kills = if lab::long() { 50 } else { 5 };
    let plan = Plan::new(2, LEAD);
    let mut fleet = Fleet::start(&plan);
    fleet.wait_for_lead(LEAD / 2);
    let listener = Listener::of(&fleet.relays[1], &plan.rendition_names());
    let mut chance = fastrand::Rng::with_seed(SEED);
    let mut slowest = Duration::ZERO;
    for kill in 0..kills {
        let (rest, dead) = (SEGMENT.mul_f64(chance.f64()), MOST_DEAD.mul_f64(chance.f64()));
        pause(&fleet, rest);
        fleet.relays[0].kill();
        // The origin goes on meanwhile, so there is something to catch up with.
        pause(&fleet, dead);
        let (relay, lab) = (&mut fleet.relays[0], &fleet.lab);
        relay.start(lab);
        // Its playlists are the origin's again, and it is ahead of air again.
        let took = fleet.wait(&format!("kill {kill}: caught up"), PATIENCE, |fleet| {
            let relay = &fleet.relays[0];
            relay.stands_at(&fleet.name).is_some()
                && relay.stands_at(&fleet.name) == fleet.origin.stands_at(&fleet.name)
                && relay.lead() >= LEAD / 2
        });
        slowest = slowest.max(took);
        assert!(!listener.has_ended(), "{:?}", listener.finish());
    }
    let seen = listener.finish().unwrap();
    eprintln!(
        "{kills} kills: caught up within {slowest:?}; the other relay's listener: {:?} at worst, {:?}",
        seen.latest, seen.report
    );
    assert_eq!((seen.report.jumps, seen.report.discontinuities), (0, 0), "{seen:?}");
    assert!(seen.latest < Duration::from_secs(3), "{seen:?}");
}

fn pause(fleet: &Fleet, time: Duration) {
    let began = Instant::now();
    fleet.wait("the moment", PATIENCE, |_| began.elapsed() >= time);
}
