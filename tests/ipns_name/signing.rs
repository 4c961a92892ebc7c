//! When a record is signed, and under which number.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skywave::clock::{SteppedClock, WallClock};
use skywave::ipfs::Identity;
use skywave::ipfs::ipns::Record;
use tokio::time::{Instant, sleep};

use super::name_network::{Dht, Network};
use super::name_station::{SEGMENT, Station, VALIDITY};
use super::{OCTOBER_2026, clock, seconds, signed};

#[tokio::test(start_paused = true)]
async fn a_network_that_is_slow_hangs_or_is_gone_never_delays_a_tick() {
    for dht in [Dht::Takes(seconds(50)), Dht::Hangs, Dht::Fails] {
        let (folder, network, identity) =
            (tempfile::tempdir().unwrap(), Network::new(1), Identity::generate());
        let peer = network.node();
        network.set_dht(dht);
        let mut station = Station::start(folder.path(), &identity, &clock());
        station.join(Arc::new(network.node()));
        for _ in 0..4 {
            station.tick().await;
        }
        let mut last = Instant::now();
        for tick in 0..60 {
            peer.set_online(tick % 20 < 10);
            let number = station.tick().await;
            let gap = last.elapsed();
            assert!(gap.abs_diff(SEGMENT) < Duration::from_millis(5), "{gap:?} before {number}, {dht:?}");
            last = Instant::now();
        }
        station.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_station_off_air_signs_its_last_root_again_long_before_the_record_expires() {
    let (folder, identity, clock) = (tempfile::tempdir().unwrap(), Identity::generate(), clock());
    let mut station = Station::start(folder.path(), &identity, &clock);
    for _ in 0..4 {
        station.tick().await;
    }
    station.set_audio(false);
    sleep(seconds(60)).await;
    let first = station.record.borrow().clone().unwrap();
    let (mut sequences, end) = (BTreeSet::from([first.sequence]), Instant::now() + 5 * VALIDITY);
    while Instant::now() < end {
        let held = station.record.borrow().clone().unwrap();
        let record = Record::verify(&identity.name(), &held.bytes).unwrap();
        let left = record.eol.timestamp_millis() - clock.unix_millis();
        assert!(left > 2 * VALIDITY.as_millis() as i64 / 3, "{left} ms left");
        assert_eq!(held.root, first.root);
        assert!(*sequences.last().unwrap() <= held.sequence);
        sequences.insert(held.sequence);
        sleep(seconds(20)).await;
    }
    assert!((18..=21).contains(&sequences.len()), "{} records in five validities", sequences.len());
    station.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_makes_the_record_be_signed_again() {
    let (folder, identity, clock) = (tempfile::tempdir().unwrap(), Identity::generate(), clock());
    let mut station = Station::start(folder.path(), &identity, &clock);
    for _ in 0..4 {
        station.tick().await;
    }
    station.set_audio(false);
    sleep(seconds(60)).await;
    for jump in [10_000_000_000, -10_000_000_000] {
        let before = station.record.borrow().clone().unwrap();
        clock.step(jump);
        let after = station.record_that(seconds(6), |record| record.sequence > before.sequence).await;
        let record = Record::verify(&identity.name(), &after.unwrap().bytes).unwrap();
        let left = record.eol.timestamp_millis() - clock.unix_millis();
        assert!((left - VALIDITY.as_millis() as i64).abs() < 6_000, "{left} ms left after {jump}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_station_whose_state_is_lost_goes_above_what_the_network_knows() {
    for on_air in [true, false] {
        let (folder, network) = (tempfile::tempdir().unwrap(), Network::new(2));
        let (identity, clock, _peer) = (Identity::generate(), clock(), network.node());
        let theirs = signed(&identity, 5_000_000_000, &clock, seconds(3_600));
        network.plant(identity.name().routing_key(), theirs.bytes);
        let mut station = Station::start(folder.path(), &identity, &clock);
        for _ in 0..4 {
            station.tick().await;
        }
        station.set_audio(on_air);
        sleep(seconds(60)).await;
        assert!(station.record.borrow().as_ref().unwrap().sequence < 5_000_000_000);
        station.join(Arc::new(network.node()));
        let above = station.record_that(seconds(15), |record| record.sequence > 5_000_000_000).await;
        assert_eq!(above.unwrap().sequence, 5_000_000_001, "on air: {on_air}");
        sleep(seconds(300)).await;
        let sequence = station.record.borrow().as_ref().unwrap().sequence;
        assert!(on_air || sequence == 5_000_000_001, "its own record is not gone above");
        station.crash().await;
        let mut station = Station::start(folder.path(), &identity, &clock);
        let again = station.record_that(seconds(15), |_| true).await.unwrap();
        assert!(again.sequence > sequence, "and the number is kept");
        station.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_restart_and_no_crash_signs_a_sequence_twice() {
    let (folder, identity, clock) = (tempfile::tempdir().unwrap(), Identity::generate(), clock());
    let mut random = fastrand::Rng::with_seed(9);
    let mut highest = 0;
    for run in 0..25 {
        let mut station = Station::start(folder.path(), &identity, &clock);
        for _ in 0..random.usize(1..80) {
            let record = station.record_that(seconds(30), |record| record.sequence > highest).await;
            let record = record.unwrap_or_else(|| panic!("run {run}: nothing above {highest}"));
            assert!(station.record.borrow().as_ref().unwrap().sequence > highest);
            highest = record.sequence;
        }
        clock.step(random.i64(-5_000_000..5_000_000));
        if random.bool() { station.end().await } else { station.crash().await }
    }
}

/// Signs nothing under `clock`, says so, and begins with `mend`.
async fn begins_when_synchronised(clock: Arc<SteppedClock>, why: &str, mend: impl Fn(&SteppedClock)) {
    for on_air in [true, false] {
        let (folder, network, identity) =
            (tempfile::tempdir().unwrap(), Network::new(3), Identity::generate());
        let _peer = network.node();
        let mut station = Station::start(folder.path(), &identity, &clock);
        station.join(Arc::new(network.node()));
        let mut newest = 0;
        for _ in 0..20 {
            let number = station.tick().await;
            assert!(number > newest, "playlists tick on");
            newest = number;
        }
        station.set_audio(on_air);
        sleep(seconds(60)).await;
        assert!(station.record.borrow().is_none(), "{:?}", station.record.borrow());
        assert!(network.puts().is_empty());
        let report = station.health.report();
        assert_eq!(report.on_air, on_air);
        assert!(report.name.unsigned_reason.as_ref().unwrap().contains(why), "{report:?}");
        mend(&clock);
        let record = station.record_that(seconds(6), |_| true).await.expect("signed at once");
        assert_eq!(station.health.report().name.unsigned_reason, None);
        assert_eq!(station.health.report().name.sequence, Some(record.sequence));
        let record = Record::verify_at(&identity.name(), &record.bytes, clock.unix_millis()).unwrap();
        assert!(record.sequence > OCTOBER_2026 as u64 / 1_000, "{}", record.sequence);
        station.end().await;
        clock.set_synchronised(false);
        let year = 31_536_000_000;
        clock.step(if why.contains("date") { -60 * year } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_station_that_waits_for_a_time_server_plays_and_signs_nothing_until_it_has_one() {
    let clock = clock();
    clock.set_synchronised(false);
    begins_when_synchronised(clock, "time server", |clock| clock.set_synchronised(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_station_with_a_date_of_the_past_plays_and_signs_nothing_until_that_is_set() {
    let clock = SteppedClock::starting_at(20_000);
    begins_when_synchronised(clock, "date", |clock| {
        clock.set_synchronised(true);
        clock.step(OCTOBER_2026 - clock.unix_millis());
    })
    .await;
}
