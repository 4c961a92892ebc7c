use std::time::Duration;

use super::*;
use crate::health::{Health, LibraryHealth};

/// A station on air, with music, network and time.
fn well() -> Health {
    let health = Health::new();
    health.set_network(NetworkState::Up);
    health.set_clock(ClockState::Synchronised);
    health.set_library(LibraryHealth { tracks: 3, ..LibraryHealth::default() });
    health.stage("encoder", Some(Duration::from_secs(20))).running();
    health.stage("http", None).running();
    health.set_on_air(7);
    health
}

fn seen(health: &Health) -> BoardState {
    BoardState::of(&health.report())
}

#[tokio::test(start_paused = true)]
async fn a_station_that_starts_boots_until_it_is_on_air_or_late() {
    let health = Health::new();
    let state = BoardState { power: Power::Booting, network: Network::Unknown, air: Air::Off };
    assert_eq!(seen(&health), state);
    assert_eq!(state.patterns(), [Pattern::Slow, Pattern::Off, Pattern::Off]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(seen(&health).power, Power::Booting);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(seen(&health).power, Power::Fault(Fault::Other));
    health.set_on_air(1);
    assert_eq!(seen(&health).power, Power::Well);
}

#[tokio::test(start_paused = true)]
async fn the_network_light_waits_for_the_network_and_then_for_the_clock() {
    let health = Health::new();
    health.set_network(NetworkState::Down);
    health.set_clock(ClockState::Synchronised);
    assert_eq!(seen(&health).network, Network::WaitingForNetwork);
    assert_eq!(seen(&health).patterns()[1], Pattern::Slow);
    health.set_network(NetworkState::Up);
    for clock in [ClockState::Unknown, ClockState::Past, ClockState::Waiting] {
        health.set_clock(clock);
        assert_eq!(seen(&health).network, Network::WaitingForClock, "{clock:?}");
    }
    assert_eq!(seen(&health).patterns()[1], Pattern::Heartbeat);
    health.set_clock(ClockState::Synchronised);
    assert_eq!(seen(&health).network, Network::Ready);
    assert_eq!(seen(&health).patterns()[1], Pattern::Solid);
}

#[tokio::test(start_paused = true)]
async fn all_well_is_three_steady_lights() {
    assert_eq!(seen(&well()), BoardState { power: Power::Well, network: Network::Ready, air: Air::On });
    assert_eq!(seen(&well()).patterns(), [Pattern::Solid; 3]);
}

#[tokio::test(start_paused = true)]
async fn the_air_does_not_wait_for_the_network() {
    let health = well();
    health.set_network(NetworkState::Down);
    assert_eq!(seen(&health).patterns(), [Pattern::Solid, Pattern::Slow, Pattern::Solid]);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_fails_or_hangs_on_air_blinks_its_code_and_degrades_the_air() {
    let health = well();
    tokio::time::advance(Duration::from_secs(21)).await;
    assert_eq!(seen(&health).power, Power::Fault(Fault::Encoder));
    assert_eq!(seen(&health).patterns(), [Pattern::Code(3), Pattern::Solid, Pattern::Slow]);
    health.stage("encoder", None).progress();
    assert_eq!(seen(&health).patterns(), [Pattern::Solid; 3]);
}

#[tokio::test(start_paused = true)]
async fn of_several_faults_the_one_nearest_to_the_source_is_shown() {
    let health = well();
    for (stage, code) in [("novelty", 9), ("button", 8), ("peers", 6), ("http", 5), ("player", 2), ("hls", 2)]
    {
        health.stage(stage, None).failed("broken");
        assert_eq!(seen(&health).patterns()[0], Pattern::Code(code), "{stage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_station_that_fell_silent_has_a_fault_and_no_air() {
    let health = well();
    health.set_off_air("no audio reaches the publisher");
    assert_eq!(seen(&health).patterns(), [Pattern::Code(9), Pattern::Solid, Pattern::Off]);
    health.stage("player", None).failed("gone");
    assert_eq!(seen(&health).power, Power::Fault(Fault::Music));
}

#[tokio::test(start_paused = true)]
async fn without_music_the_air_light_beats_also_where_something_is_wrong() {
    let health = well();
    health.set_library(LibraryHealth::default());
    assert_eq!(seen(&health).patterns(), [Pattern::Solid, Pattern::Solid, Pattern::Heartbeat]);
    health.stage("http", None).failed("port taken");
    assert_eq!(seen(&health).patterns(), [Pattern::Code(5), Pattern::Solid, Pattern::Heartbeat]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_has_no_music_of_its_own_and_shows_an_origin_that_is_gone() {
    let health = well();
    health.set_library(LibraryHealth::default());
    health.set_follows("k51");
    assert_eq!(seen(&health).patterns(), [Pattern::Solid; 3]);
    health.set_notice("origin", "the origin is unreachable");
    assert_eq!(seen(&health).patterns(), [Pattern::Code(9), Pattern::Solid, Pattern::Slow]);
    health.set_off_air("waiting for the origin");
    assert_eq!(seen(&health).patterns(), [Pattern::Code(9), Pattern::Solid, Pattern::Off]);
}

#[tokio::test(start_paused = true)]
async fn updating_is_shown_over_faults_and_shutting_down_over_all() {
    let health = well();
    health.stage("http", None).failed("port taken");
    health.set_updating(true);
    assert_eq!(seen(&health).patterns(), [Pattern::Fast, Pattern::Solid, Pattern::Slow]);
    health.set_stopping();
    health.set_off_air("shutting down");
    assert_eq!(seen(&health).patterns(), [Pattern::Heartbeat, Pattern::Off, Pattern::Off]);
    assert_eq!(seen(&health).to_string(), "shutting down");
}

#[tokio::test(start_paused = true)]
async fn the_state_in_words_names_all_three() {
    let health = well();
    assert_eq!(seen(&health).to_string(), "well, network ready, on air");
    health.set_network(NetworkState::Down);
    health.stage("http", None).failed("port taken");
    let words = "fault 5 (web server), waiting for the network, on air but degraded";
    assert_eq!(seen(&health).to_string(), words);
}

/// The page that an owner reads with the lights in view.
#[test]
fn every_fault_stands_in_the_manual_with_its_number() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md")).unwrap();
    let (_, section) = page.split_once("## Lights and button").expect("the section on lights");
    for (stage, fault) in FAULTS {
        let row = section.lines().find(|line| line.starts_with(&format!("| {} | ", fault as u8)));
        let row = row.unwrap_or_else(|| panic!("no row for blink code {}", fault as u8));
        assert!(row.contains(&format!("`{stage}`")), "{stage} is missing in {row}");
    }
}
