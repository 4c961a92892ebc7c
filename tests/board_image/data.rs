//! The data partition: damaged, beyond repair, and on a larger card.

use crate::board::{Board, Setup};
use crate::card::Card;
use crate::image::image;

/// Of the larger card.
const LARGER: u64 = 3 << 30;

#[test]
fn a_card_that_was_copied_to_a_larger_one_grows_and_keeps_the_name() {
    let Some(image) = image() else { return };
    let started = Card::started(&image);
    let before = started.card.data();
    started.card.enlarge(LARGER);
    let mut board = Board::start(&started.card, &Setup::default());
    board.wait_on_air();
    assert_eq!(board.wait_for("the station's name", Board::ipns), started.name);
    board.cut();
    started.card.check();
    let after = started.card.data();
    // What lies before it stays, so all that was added is its own. A file system ends with a whole block.
    let added = LARGER - (1 << 30);
    assert_eq!(after.partition, before.partition + added, "{before:?} {after:?}");
    assert!(after.partition - after.size < 64 << 10, "{after:?}");
}

#[test]
fn a_data_partition_beyond_repair_costs_the_name_but_not_the_air() {
    let Some(image) = image() else { return };
    let card = Card::started(&image).card;
    // All of the first block groups, so that superblock, journal and backups are gone.
    card.damage_data(0, 620 << 20);
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    let health = board.json("/health").expect("the station's health");
    assert!(health["notices"]["data"].is_string(), "{health}");
    assert_eq!(health["status"], "degraded", "{health}");
}

#[test]
fn a_damaged_data_partition_is_repaired_and_grows_as_it_was_about_to_and_keeps_the_name() {
    let Some(image) = image() else { return };
    let started = Card::started(&image);
    // The power failed between the growth of the partition and that of what is in it.
    started.card.enlarge(LARGER);
    started.card.enlarge_data_partition();
    // The superblock.
    started.card.damage_data(1024, 1024);
    let mut board = Board::start(&started.card, &Setup::default());
    board.wait_on_air();
    assert_eq!(board.wait_for("the station's name", Board::ipns), started.name);
    board.cut();
    started.card.check();
    let after = started.card.data();
    assert!(after.partition > 2 << 30 && after.partition - after.size < 64 << 10, "{after:?}");
}
