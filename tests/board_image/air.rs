//! A first boot with nothing edited, and a mistake in what is edited.

use crate::board::{Board, Setup};
use crate::card::Card;
use crate::image::image;
use crate::mdns::{Answer, Value, answers};
use crate::support::checker::source::HttpSource;
use crate::support::checker::{Checker, Expectations};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long the stream is judged.
const MINUTE: Duration = Duration::from_secs(60);
/// The first address that QEMU's network gives.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

#[test]
fn a_first_boot_is_on_the_air_by_every_rule_for_a_minute() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    let mut board = Board::start(&card, &Setup { wire: true, ..Setup::default() });
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
    is_announced(&mut board, "skywave");
    board.cut();
    card.check();
}

/// `<name>.local` and the page as a service were announced to the network. Nobody asks here: QEMU's forwarding brings no packet
/// that is for all, and one for the board alone has had no answer, probably as the kernel gives it to the station, which listens too.
fn is_announced(board: &mut Board, name: &str) {
    let host = format!("{name}.local");
    let instance = Value::Instance(format!("{name}._http._tcp.local"));
    let announced = [
        Answer { question: 0, name: host, value: Value::Address(ADDRESS) },
        Answer { question: 0, name: "_http._tcp.local".to_owned(), value: instance },
    ];
    for wanted in announced {
        board
            .wait_for(&format!("{wanted:?}"), |board| answers(&board.wire()).contains(&wanted).then_some(()));
    }
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
