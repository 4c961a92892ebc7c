//! A board whose clock is wrong at power-on and stepped by the network later.

use crate::board::{Board, Setup};
use crate::card::Card;
use crate::image::{image, is_required};
use crate::sntp::TimeServer;

const HOUR: i64 = 3600;
/// Segments an hour.
const SEGMENTS: u64 = 937;

#[test]
fn a_clock_that_is_stepped_by_the_network_never_makes_a_number_go_back() {
    let Some(image) = image() else { return };
    let card = Card::started(&image).card;
    let mut board = Board::start(&card, &Setup { reaches_host: true, ..Setup::default() });
    board.wait_on_air();
    let before = board.wait_for("a number", Board::newest);
    let Some(server) = TimeServer::start(HOUR) else {
        assert!(!is_required(), "port 123 of loopback cannot be had for a time server");
        eprintln!("SKIPPED: port 123 of loopback cannot be had for a time server");
        return;
    };
    // timesyncd asks again within seconds; the numbers follow its hour.
    let after =
        board.wait_for("numbers an hour on", |board| board.newest().filter(|n| *n > before + SEGMENTS / 2));
    drop(server);
    board.cut();

    // An hour back again: the hardware's clock is right, what was on air counts.
    let mut board = Board::start(&card, &Setup::default());
    board.wait_on_air();
    let first = board.wait_for("a playlist", |board| board.listed().into_iter().min());
    assert!(first > after, "{after} was on air, now {first}");
    board.cut();

    // A clock years behind, as on a board without a battery.
    let setup = Setup { rtc: Some("2020-01-01T00:00:00".to_owned()), ..Setup::default() };
    let mut board = Board::start(&card, &setup);
    board.wait_on_air();
    let again = board.wait_for("a playlist", |board| board.listed().into_iter().min());
    assert!(again > first, "{first} was on air, now {again}");
}
