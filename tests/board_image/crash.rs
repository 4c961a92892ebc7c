//! A program that crashes again and again: it comes back each time, and its owner finds a report on the card.

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
