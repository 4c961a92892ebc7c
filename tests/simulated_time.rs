//! The whole station under simulated time: long runs, stepped clocks, restarts. The strict checker judges every tick.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod simulation;
}

use std::time::Duration;

use skywave::clock::{SteppedClock, WallClock};
use skywave::config::Config;
use support::simulation::{Listener, OCTOBER_2026, Station, config, rendition, scratch};

const HOUR: i64 = 3_600_000;
/// A wall clock step below this is followed without a discontinuity.
const STEP: i64 = 2_500;
/// Ticks after which everything stored before a step has been on air: 30 s of lead, and one in work.
const LEAD_TICKS: usize = 10;
/// Ticks at the start that come as fast as they can: three to begin with.
const HEAD_START: usize = 4;

#[tokio::test(start_paused = true)]
async fn twenty_minutes_are_conformant_steady_and_exactly_the_lead_ahead() {
    let folder = scratch();
    let (config, clock) = (config(folder.path()), SteppedClock::starting_at(OCTOBER_2026));
    let mut station = Station::start(&config, &clock).await;
    let mut listener = Listener::new(&config, true);
    for tick in 0..330 {
        listener.listen(&mut station, &clock, 1).await;
        // What is stored reaches from now to the end of the segment that was begun a lead before its airtime.
        let (lead, wanted) = (station.lead(), config.hls.lead.as_secs_f64());
        assert!(lead <= wanted + 3.84 + 0.1, "{lead} s stored ahead at tick {tick}");
        assert!(tick < HEAD_START || lead >= wanted - 0.1, "only {lead} s stored ahead at tick {tick}");
    }
    listener.assert_steady_from(HEAD_START);
    assert!(
        listener.heard[HEAD_START..].iter().all(|heard| heard.late_ms.abs() <= 20),
        "{:?}",
        listener.heard
    );
    assert_eq!(station.restarts(), 0);
    station.appliance.stop().await;
    let report = listener.finish();
    assert_eq!((report.discontinuities, report.jumps), (0, 0));
    assert!(report.segments >= 330);
}

/// Steps the clock and hears what becomes of it. The air goes on at its pace; once what was stored before is over,
/// dates follow the clock again.
async fn step_and_listen(listener: &mut Listener, station: &mut Station, clock: &SteppedClock, millis: i64) {
    let (cuts, from) = (listener.discontinuities(), listener.heard.len());
    // At another moment of the segment each time.
    tokio::time::sleep(Duration::from_millis(millis.unsigned_abs() % 3_000)).await;
    clock.step(millis);
    listener.listen(station, clock, LEAD_TICKS + 12).await;
    listener.assert_steady_from(from - 1);
    let expected = usize::from(millis.abs() >= STEP);
    assert_eq!(listener.discontinuities() - cuts, expected, "discontinuities after a step of {millis} ms");
    for heard in &listener.heard[from + LEAD_TICKS..] {
        assert!(heard.late_ms.abs() <= STEP, "step of {millis} ms: {heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stepped_clock_moves_the_dates_and_never_a_number_back_nor_the_air() {
    let folder = scratch();
    let (config, clock) = (config(folder.path()), SteppedClock::starting_at(OCTOBER_2026));
    let mut station = Station::start(&config, &clock).await;
    let mut listener = Listener::new(&config, false);
    listener.listen(&mut station, &clock, LEAD_TICKS).await;
    for millis in [HOUR, -HOUR, 700, -700, 61_001, -45_678, 1_900, -2_000, 5_000, -5_000, -HOUR, HOUR] {
        step_and_listen(&mut listener, &mut station, &clock, millis).await;
    }
    assert_eq!(station.restarts(), 0);
    station.appliance.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_steps_within_the_lead_and_one_during_the_start_are_survived() {
    let folder = scratch();
    let (config, clock) = (config(folder.path()), SteppedClock::starting_at(OCTOBER_2026));
    let mut station = Station::start(&config, &clock).await;
    let mut listener = Listener::new(&config, false);
    clock.step(20 * HOUR);
    listener.listen(&mut station, &clock, 5).await;
    for millis in [-HOUR, 2 * HOUR, -90_000, 88_000, -300_000, 1_000] {
        clock.step(millis);
        listener.listen(&mut station, &clock, 3).await;
    }
    listener.listen(&mut station, &clock, LEAD_TICKS).await;
    listener.assert_steady_from(HEAD_START);
    assert!(listener.heard.last().unwrap().late_ms.abs() <= STEP, "{:?}", listener.heard.last());
    station.appliance.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_board_without_a_clock_starts_in_the_past_and_jumps_to_the_true_time() {
    for past in [20_000, 1_704_067_200_000] {
        let folder = scratch();
        let (config, clock) = (config(folder.path()), SteppedClock::starting_at(past));
        let mut station = Station::start(&config, &clock).await;
        let mut listener = Listener::new(&config, true);
        listener.listen(&mut station, &clock, 12).await;
        clock.step(OCTOBER_2026 - clock.unix_millis());
        listener.listen(&mut station, &clock, LEAD_TICKS + 5).await;
        listener.assert_steady_from(HEAD_START);
        assert!(listener.newest() >= 466_900_000, "{} after {past}", listener.newest());
        station.appliance.stop().await;
        let report = listener.finish();
        assert_eq!((report.discontinuities, report.jumps), (1, 1));
    }
}

/// Stops the station, lets `down` pass, moves the clock by `step`, starts it again, and hears it.
async fn restart(
    listener: &mut Listener,
    mut station: Station,
    config: &Config,
    clock: &std::sync::Arc<SteppedClock>,
    (down, step): (Duration, i64),
) -> Station {
    listener.listen(&mut station, clock, 12).await;
    station.appliance.stop().await;
    tokio::time::sleep(down).await;
    clock.step(step);
    let (before, cuts, from) = (listener.newest(), listener.discontinuities(), listener.heard.len());
    let mut station = Station::start(config, clock).await;
    let began = tokio::time::Instant::now();
    listener.listen(&mut station, clock, 2 * LEAD_TICKS).await;
    let what = format!("{down:?} down, clock moved by {step} ms");
    let first = &listener.heard[from];
    assert!(first.at - began < Duration::from_millis(100), "on air at once: {what}");
    let fresh = listener.heard[from..].iter().find(|heard| heard.n > before).unwrap();
    assert!(
        fresh.at - began <= Duration::from_millis(3_900),
        "{:?} until something new: {what}",
        fresh.at - began
    );
    listener.assert_steady_from(from + HEAD_START);
    assert_eq!(listener.discontinuities() - cuts, 1, "{what}");
    let last = listener.heard.last().unwrap();
    assert!(last.late_ms.abs() <= STEP, "{what}: {last:?}");
    assert_eq!(station.restarts(), 0, "{what}");
    station
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_above_all_that_was_whatever_the_clock_did_meanwhile() {
    let folder = scratch();
    let (config, clock) = (config(folder.path()), SteppedClock::starting_at(OCTOBER_2026));
    let mut listener = Listener::new(&config, false);
    let mut station = Station::start(&config, &clock).await;
    let seconds = Duration::from_secs;
    let minute = 60_000;
    for case in [
        (seconds(0), 0),
        (seconds(20), 0),
        (seconds(300), 0),
        (seconds(7_200), 0),
        (seconds(5), -3_000),
        (seconds(5), -20_000),
        (seconds(60), -10 * minute),
        (seconds(60), -3 * HOUR),
        (seconds(10), 10 * minute),
        (seconds(0), 3 * HOUR),
    ] {
        station = restart(&mut listener, station, &config, &clock, case).await;
    }
    station.appliance.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quick_restart_plays_what_was_stored_and_skips_nothing() {
    let folder = scratch();
    let (config, clock) = (config(folder.path()), SteppedClock::starting_at(OCTOBER_2026));
    let mut listener = Listener::new(&config, true);
    let mut station = Station::start(&config, &clock).await;
    for down in [0, 10, 20] {
        listener.listen(&mut station, &clock, 15).await;
        let before = listener.newest();
        station.appliance.stop().await;
        tokio::time::sleep(Duration::from_secs(down)).await;
        let from = listener.heard.len();
        station = Station::start(&config, &clock).await;
        listener.listen(&mut station, &clock, 15).await;
        // As many numbers as time has passed, none left out.
        let listed = listener.heard[from].listed;
        assert!(listed >= 3, "{listed} listed right after the start");
        let due = down as i64 * 1_000 / 3_840;
        assert!(
            listener.heard[from + 1].n as i64 - before as i64 >= due,
            "{:?}",
            &listener.heard[from..from + 2]
        );
        listener.assert_steady_from(from + 2);
    }
    station.appliance.stop().await;
    let report = listener.finish();
    assert_eq!((report.jumps, report.discontinuities), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn short_segments_hold_to_their_grid_as_well() {
    let folder = scratch();
    let mut config = config(folder.path());
    config.hls.segment = Duration::from_millis(1_920);
    let clock = SteppedClock::starting_at(OCTOBER_2026);
    let mut listener = Listener::new(&config, true);
    let mut station = Station::start(&config, &clock).await;
    listener.listen(&mut station, &clock, 60).await;
    listener.assert_steady_from(HEAD_START);
    clock.step(HOUR);
    listener.listen(&mut station, &clock, 40).await;
    listener.assert_steady_from(HEAD_START);
    station.appliance.stop().await;
    assert_eq!(listener.finish().discontinuities, 1);
}

#[tokio::test(start_paused = true)]
async fn another_segment_length_goes_on_behind_the_same_moment() {
    let folder = scratch();
    let mut config = config(folder.path());
    let clock = SteppedClock::starting_at(OCTOBER_2026);
    let mut moment = 0;
    for millis in [3_840, 1_920, 3_840] {
        config.hls.segment = Duration::from_millis(millis);
        let mut listener = Listener::new(&config, false);
        let mut station = Station::start(&config, &clock).await;
        listener.listen(&mut station, &clock, 30).await;
        listener.assert_steady_from(HEAD_START);
        assert!(listener.heard[0].n * millis >= moment, "the media timeline went back");
        moment = (listener.newest() + 1) * millis;
        assert_eq!(station.restarts(), 0);
        station.appliance.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_list_of_renditions_goes_on_above_the_last_number() {
    let folder = scratch();
    let mut config = config(folder.path());
    let clock = SteppedClock::starting_at(OCTOBER_2026);
    let mut newest = 0;
    for names in [&["lofi"][..], &["lofi", "hifi"], &["hifi"], &["lofi"]] {
        config.encoder.rendition = names.iter().map(|name| rendition(name, 64_000)).collect();
        let mut listener = Listener::new(&config, false);
        let mut station = Station::start(&config, &clock).await;
        listener.listen(&mut station, &clock, 12).await;
        assert!(listener.heard[0].n > newest, "{} after {newest}", listener.heard[0].n);
        newest = listener.newest();
        assert_eq!(station.restarts(), 0);
        station.appliance.stop().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        // The clock alone would begin below.
        clock.step(-5 * 60_000);
    }
}
