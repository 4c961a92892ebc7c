//! A USB stick with music: plugged in, heard, pulled out.

use crate::board::{Board, Setup, end, free_port, qemu_scripts};
use crate::card::Card;
use crate::image::{Place, image};
use crate::qmp::Qmp;
use crate::support::checker::source::HttpSource;
use crate::support::checker::{Checker, Expectations};
use crate::support::media::{Depth, sines, wav};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From plugging in to the air: 10 s on a board, and three times that on one that shares two processors with another.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_stick_is_music_while_it_is_plugged_in_and_no_break_in_the_stream() {
    let Some(image) = image() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let music = folder.path().join("music");
    std::fs::create_dir(&music).expect("a folder");
    let tone = sines(44_100, 0, 20 * 44_100, &[(440.0, 0.3); 2]);
    std::fs::write(music.join("Tön.wav"), wav(44_100, 2, None, Depth::S16, &tone)).expect("a file");
    let file = folder.path().join("stick.img");
    let made =
        Command::new(qemu_scripts().join("stick")).arg(&music).arg(&file).status().expect("the script runs");
    assert!(made.success());

    let card = Card::started(&image).card;
    // No board that takes a stick has a single processor.
    let mut board = Board::start(&card, &Setup { exact: true, ..Setup::default() });
    board.wait_on_air();
    board.wait_for("three segments", |board| (board.listed().len() >= 3).then_some(()));
    // Its power was cut a moment ago: until the clock has caught up with the numbers that were reserved, they run ahead of it.
    let mut checker = Checker::new(Expectations { epoch_locked: false, ..Expectations::new(&["lofi"]) });
    let mut source = HttpSource::new(&format!("{}/live/", board.url()));
    let mut poll = move || {
        checker.poll(&mut source).unwrap_or_else(|violation| panic!("{violation}"));
    };

    let mut monitor = board.monitor();
    let drive = json!({"driver": "raw", "node-name": "music", "read-only": true,
        "file": {"driver": "file", "filename": file, "read-only": true}});
    monitor.execute("blockdev-add", drive);
    monitor.execute(
        "device_add",
        json!({"driver": "usb-storage", "id": "stick", "drive": "music", "bus": "usb.0"}),
    );
    let plugged = Instant::now();
    board.wait_for("the stick's track in the library", |board| {
        poll();
        (board.json("/health")?["library"]["tracks"] == 1).then_some(())
    });
    let seen = plugged.elapsed();
    board.wait_for("the stick's track on the air", |board| {
        poll();
        let station = board.json("/station.json")?.to_string();
        station.contains("Tön").then_some(())
    });
    let heard = plugged.elapsed();
    eprintln!("the stick was found after {seen:.1?}, on the air after {heard:.1?}");
    assert!(heard < HEARD_WITHIN, "{heard:?}");

    monitor.execute("device_del", json!({"id": "stick"}));
    board.wait_for("a library without the stick", |board| {
        poll();
        (board.json("/health")?["library"]["tracks"] == 0).then_some(())
    });
    let before = board.newest().expect("a stream");
    board.wait_for("four segments more, whole", |board| {
        poll();
        (board.newest()? >= before + 4).then_some(())
    });
}

/// `board/qemu/run` by itself; it ends with the test, and its machine too.
struct Run {
    child: Child,
    _place: Place,
}

impl Drop for Run {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[test]
fn a_folder_of_music_is_a_stick_and_sigterm_leaves_nothing_behind() {
    let Some(image) = image() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [music, work] = ["music", "work"].map(|name| folder.path().join(name));
    for path in [&music, &work] {
        std::fs::create_dir(path).expect("a folder");
    }
    std::fs::write(music.join("Tone.wav"), wav(8_000, 1, None, Depth::U8, &[0.0; 8_000])).expect("a file");
    let monitor = folder.path().join("monitor");
    let port = free_port();
    let mut command = Command::new(qemu_scripts().join("run"));
    command.arg("--image").arg(&*image).arg("--music").arg(&music).arg("--monitor").arg(&monitor);
    command.args(["--http", &port.to_string(), "--apart"]).env("TMPDIR", &work);
    let place = Place::take();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn();
    let mut run = Run { child: child.expect("it starts"), _place: place };
    let mut said = BufReader::new(run.child.stdout.take().expect("its words"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert!(line.contains(&format!("http://127.0.0.1:{port}/")), "{line}");
    let drives = Qmp::connect(&monitor).execute("query-block", json!({}));
    let stick = drives.as_array().expect("drives").iter().find(|drive| drive["device"] == "stick");
    assert_eq!(stick.expect("the stick")["inserted"]["ro"], true, "{drives}");

    let told = Command::new("kill").args(["-TERM", &run.child.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
    let ended = run.child.wait().expect("a child of ours");
    assert!(ended.success(), "{ended}");
    UnixStream::connect(&monitor).expect_err("no machine is left");
    let left: Vec<_> =
        std::fs::read_dir(&work).expect("a folder").flatten().map(|file| file.path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}
