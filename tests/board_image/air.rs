//! A first boot with nothing edited, and a mistake in what is edited.

use crate::board::{Board, Setup, image};
use crate::card::Card;
use crate::support::checker::source::HttpSource;
use crate::support::checker::{Checker, Expectations};
use std::time::{Duration, Instant};

/// How long the stream is judged.
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_first_boot_is_on_the_air_by_every_rule_for_a_minute() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    let mut board = Board::start(&card, &Setup::default());
    let after = board.wait_on_air();
    eprintln!("first segment over HTTP after {after:.1?}");
    board.wait_for("three segments", |board| (board.listed().len() >= 3).then_some(()));
    let mut checker = Checker::new(Expectations::new(&["lofi", "midfi", "hifi"]));
    let mut source = HttpSource::new(&format!("{}/live/", board.url()));
    let began = Instant::now();
    let mut judged = 0;
    board.wait_for("a minute of the stream", |_| {
        judged += checker.poll(&mut source).unwrap_or_else(|violation| panic!("{violation}")).new_segments;
        (began.elapsed() > MINUTE && judged >= 15).then_some(())
    });
    let report = checker.finish().expect("segments were judged");
    assert_eq!((report.jumps, report.discontinuities), (0, 0), "{report:?}");
    board.cut();
    card.check();
}

#[test]
fn a_mistake_in_station_toml_is_told_on_the_card_and_keeps_nobody_off_the_air() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    card.put("station.toml", "[station]\nname = \"Attic\"\n\n[hls]\nlead = \"soon\"\n");
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    let health = board.json("/health").expect("the station's health");
    assert_eq!(health["status"], "degraded", "{health}");
    board.wait_for("station-error.txt on the card", |_| {
        card.read("station-error.txt").filter(|text| text.contains("lead"))
    });
    board.cut();

    // Mended, the file leaves the card.
    card.put("station.toml", "[station]\nname = \"Attic\"\n");
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    assert_eq!(board.json("/station.json").expect("the station")["name"], "Attic");
    board.wait_for("the card without station-error.txt", |_| {
        card.read("station-error.txt").is_none().then_some(())
    });
}

#[test]
fn a_data_partition_beyond_repair_costs_the_name_but_not_the_air() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    board.cut();
    // All of the first block groups, so that superblock, journal and backups are gone.
    card.damage_data(0, 620 << 20);
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    let health = board.json("/health").expect("the station's health");
    assert!(health["notices"]["data"].is_string(), "{health}");
    assert_eq!(health["status"], "degraded", "{health}");
}

#[test]
fn a_damaged_data_partition_is_repaired_and_keeps_the_name() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    let name = board.ipns().expect("a name");
    board.cut();
    // The superblock.
    card.damage_data(1024, 1024);
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    assert_eq!(board.ipns().expect("a name"), name);
    board.cut();
    card.check();
}
