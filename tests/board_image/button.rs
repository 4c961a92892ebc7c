//! The button, pressed from outside: an input line of the machine's GPIO controller, driven through QEMU's qtest socket.

use crate::addition::Addition;
use crate::board::{Board, Setup};
use crate::card::{Card, LIGHT};
use crate::image::image;
use crate::qmp::connect;
use crate::support::media::{Depth, sines, wav};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A press that is meant to be short, seen from a guest whose time is the host's.
const SHORT: Duration = Duration::from_millis(400);
/// From the start of the program on, longer than the ten seconds of a reset by what an emulated board may not look, and shorter
/// than a line that is stuck.
const LONG: Duration = Duration::from_secs(25);
/// A tone of ten minutes, and its rate.
const TRACK: usize = 600;
const RATE: u32 = 8_000;

/// A finger on the button of QEMU's virt (board/pins.toml).
struct Finger {
    reader: BufReader<UnixStream>,
    chip: String,
}

impl Finger {
    fn on(board: &Board) -> Self {
        let stream = connect(&board.lines());
        let devices = board.monitor().execute("qom-list", json!({"path": "/machine/unattached"}));
        let devices = devices.as_array().expect("devices");
        let chip = devices.iter().find(|device| device["type"] == "child<pl061>").expect("a PL061");
        let chip = format!("/machine/unattached/{}", chip["name"].as_str().expect("a name"));
        Self { reader: BufReader::new(stream), chip }
    }

    /// Puts the line to the level of a button that is held, or not.
    fn hold(&mut self, held: bool) {
        let line = format!("set_irq_in {} unnamed-gpio-in 4 {}\n", self.chip, u8::from(held));
        self.reader.get_mut().write_all(line.as_bytes()).expect("QEMU listens");
        let mut answer = String::new();
        self.reader.read_line(&mut answer).expect("QEMU answers");
        assert_eq!(answer.trim(), "OK", "{line}");
    }
}

fn lasts(board: &mut Board, time: Duration) {
    let began = Instant::now();
    board.wait_for("the end of a press", |_| (began.elapsed() >= time).then_some(()));
}

fn title(board: &Board) -> Option<String> {
    board.json("/station.json")?["now_playing"]["title"].as_str().map(str::to_owned)
}

#[test]
fn the_button_skips_a_track_powers_off_and_resets_the_settings_but_not_the_name() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    let settings = "[station]\nname = \"Attic\"\n[library]\nmusic = [\"/boot/music\"]\n[player]\norder = \"ordered\"\n\
        [hls]\nlead = \"10s\"\n";
    card.put("station.toml", format!("{settings}{LIGHT}"));
    let tone = sines(RATE, 0, TRACK * RATE as usize, &[(440.0, 0.3)]);
    for name in ["One", "Two", "Three"] {
        card.put(&format!("music/{name}.wav"), wav(RATE, 1, None, Depth::U8, &tone));
    }
    let setup = Setup { lines: true, ..Setup::default() };
    let mut board = Board::start(&card, &setup);
    let mut finger = Finger::on(&board);
    board.wait_on_air();
    let name = board.wait_for("the station's name", Board::ipns);
    let tracks = ["One", "Two", "Three"].map(str::to_owned);
    let first = board.wait_for("a track", |board| title(board).filter(|title| tracks.contains(title)));
    let began = Instant::now();
    finger.hold(true);
    lasts(&mut board, SHORT);
    finger.hold(false);
    let next = |title: &String| tracks.contains(title) && *title != first;
    board.wait_for("another track", |board| title(board).filter(next));
    eprintln!("the next track was on the air {:.1?} after the press", began.elapsed());

    finger.hold(true);
    let held = Instant::now();
    let ended = board.wait_off();
    assert!(ended.success(), "{ended}");
    eprintln!("off after {:.1?}", held.elapsed());
    card.check();
    assert!(!card.data().needs_recovery, "powered off in the middle: {:?}", card.data());

    let mut board = Board::start(&card, &setup);
    let mut finger = Finger::on(&board);
    finger.hold(true);
    board.wait_for("the program", |board| board.get("/health").map(|_| ()));
    lasts(&mut board, LONG);
    assert_eq!(
        board.json("/station.json").expect("the station")["name"],
        "Attic",
        "reset before it was let go"
    );
    finger.hold(false);
    board.wait_for("a station with the name of a new card", |board| {
        let station = board.json("/station.json")?;
        (station["name"] != "Attic" && board.newest().is_some()).then_some(())
    });
    assert_eq!(board.wait_for("the station's name", Board::ipns), name);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/board/fat/station.toml");
    assert_eq!(card.read("station.toml"), std::fs::read_to_string(path).ok());
    board.cut();
    card.check();
}

/// Puts music onto the data partition and asks for a reset of everything; once, as it runs behind the reset too.
const RESET: &str = "[Unit]
After=skywave.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cd /data/skywave/music; [ -e One.wav ] || \
    { cp /run/reset/One.wav . && sync && touch /run/skywave/requests/reset-all; }'
";

#[test]
fn a_reset_of_everything_makes_a_new_station_and_keeps_the_music() {
    let Some(image) = image() else { return };
    let started = Card::started(&image);
    let tone = sines(RATE, 0, 10 * RATE as usize, &[(440.0, 0.3)]);
    let addition = Addition::default()
        .file("reset/One.wav", wav(RATE, 1, None, Depth::U8, &tone))
        .unit("reset.service", RESET);
    let setup = Setup { addition: Some(addition), ..Setup::default() };
    let mut board = Board::start(&started.card, &setup);
    let name = board.wait_for("another station", |board| board.ipns().filter(|name| *name != started.name));
    board.wait_for("the music of the one before", |board| {
        (board.json("/health")?["library"]["tracks"] == 1).then_some(())
    });
    assert_eq!(board.ipns(), Some(name));
    board.cut();
    started.card.check();
}
