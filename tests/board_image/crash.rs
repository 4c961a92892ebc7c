//! When systemd starts the program again: after each crash, whose report its owner finds on the card, and not where a relay
//! waits for its station.

use crate::addition::Addition;
use crate::board::{Board, Setup};
use crate::card::Card;
use crate::image::image;
use std::time::{Duration, Instant};

/// Ends the station twice by a signal, each time when it is on the air.
const CRASHES: &str = "[Unit]
After=skywave.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for crash in 1 2; do until systemctl --quiet is-active skywave.service; do sleep 1; done; \
    systemctl kill --signal=ABRT skywave.service; sleep 3; done'
";
/// Reading the card of a running board costs the machine something.
const READ_AGAIN: Duration = Duration::from_secs(2);

#[test]
fn a_crash_that_repeats_is_reported_on_the_card_and_the_station_comes_back() {
    let Some(image) = image() else { return };
    let started = Card::started(&image);
    let addition = Some(Addition::default().unit("crashes.service", CRASHES));
    let mut board = Board::start(&started.card, &Setup { addition, ..Setup::default() });
    let mut read = Instant::now();
    let report = board.wait_for("crash-report.txt on the card", |_| {
        if read.elapsed() < READ_AGAIN {
            return None;
        }
        read = Instant::now();
        started.card.read("crash-report.txt").filter(|text| !text.is_empty())
    });
    for words in ["crashed 2 times", "signal ABRT", "on air"] {
        assert!(report.contains(words), "no {words:?} in\n{report}");
    }
    board.wait_for("a station on the air behind its crashes", |board| {
        let health = board.json("/health")?;
        (health["on_air"] == true && board.newest()? > started.newest).then_some(())
    });
    assert_eq!(board.wait_for("the station's name", Board::ipns), started.name);
    board.cut();
    started.card.check();
}

/// A name that nobody signs under.
const ABSENT: &str = "follow = \"k51qzi5uqu5dj988kw666qd1lzu02142guyfdq0wbqnxdbiybfyfez31h4yknt\"\n";
/// Less patience than the image's own unit has, so that the test needs less too.
const IMPATIENT: &str = "[Service]\nTimeoutStartSec=30s\n";

#[test]
fn a_relay_without_its_station_is_left_to_wait() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    card.put("station.toml", ABSENT);
    let addition = Addition::default().file("systemd/system/skywave.service.d/impatient.conf", IMPATIENT);
    let mut board = Board::start(&card, &Setup { addition: Some(addition), ..Setup::default() });
    let health = board.wait_for("a program older than a start may be", |board| {
        board.json("/health").filter(|health| health["uptime_seconds"].as_u64().is_some_and(|age| age > 50))
    });
    assert_eq!((&health["status"], &health["on_air"]), (&"off_air".into(), &false.into()), "{health}");
}
