//! A first boot with nothing edited, and a mistake in what is edited.

use crate::board::{Board, Setup};
use crate::card::Card;
use crate::image::image;
use crate::mdns::{Answer, Value, answers, question};
use crate::support::checker::source::HttpSource;
use crate::support::checker::{Checker, Expectations};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long the stream is judged.
const MINUTE: Duration = Duration::from_secs(60);
/// The first address that QEMU's network gives.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// An address of it that a board finds an owner of, so that an answer to it is sent.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The number of our question.
const QUESTION: u16 = 0x5157;
const ASK_AGAIN: Duration = Duration::from_secs(2);

#[test]
fn a_first_boot_is_on_the_air_by_every_rule_for_a_minute() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    let mut board = Board::start(&card, &Setup { exact: true, wire: true, ..Setup::default() });
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
    is_known_by_name(&mut board, "skywave");
    board.cut();
    card.check();
}

/// `<name>.local` and the page as a service are announced to the network, and whoever asks all for the name is answered.
fn is_known_by_name(board: &mut Board, name: &str) {
    let host = format!("{name}.local");
    let page = Value::Instance(format!("{name}._http._tcp.local"));
    let told = |question, name: &str, value| Answer { question, name: name.to_owned(), value };
    for wanted in [told(0, &host, Value::Address(ADDRESS)), told(0, "_http._tcp.local", page)] {
        board
            .wait_for(&format!("{wanted:?}"), |board| answers(&board.wire()).contains(&wanted).then_some(()));
    }
    let answer = told(QUESTION, &host, Value::Address(ADDRESS));
    let mut neighbour = board.neighbour();
    let mut asked = None;
    board.wait_for(&format!("{answer:?}"), |board| {
        // A question may get lost, and a busy board may be late.
        if asked.is_none_or(|asked: Instant| asked.elapsed() > ASK_AGAIN) {
            neighbour.send(&question(QUESTION, &host, NEIGHBOUR));
            asked = Some(Instant::now());
        }
        answers(&board.wire()).contains(&answer).then_some(())
    });
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
