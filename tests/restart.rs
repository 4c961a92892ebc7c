//! Stops and starts of the real binary: what a listener sees of them, and what is kept.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod media;
    pub(crate) mod station;
}

use std::time::Duration;
use support::checker::rules::Violation;
use support::checker::source::HttpSource;
use support::checker::{Checker, Expectations, Progress, Report};
use support::media::{Depth, sines, wav};
use support::station::{Home, Station, run_to_end};

/// How long the station may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(3);
const RENDITIONS: [&str; 3] = ["lofi", "midfi", "hifi"];
/// Short enough that the cut of a restart comes on air, and leaves the playlist, within the test.
const BRISK: &str = "[hls]\nsegment = \"1s 920ms\"\nlead = \"8s\"\nident_lead = \"8s\"\nplaylist = \"12s\"\n";

fn home(sections: &str) -> Home {
    let home = Home::new(sections);
    home.add("tone.wav", &wav(48_000, 2, None, Depth::S16, &sines(48_000, 0, 480_000, &[(440.0, 0.3); 2])));
    home
}

/// One listener's view of the stream, over every start of the station.
struct Listener {
    checker: Checker,
    last: Progress,
    /// Tags seen in the polls so far.
    discontinuities: usize,
}

impl Listener {
    fn new() -> Self {
        let expectations = Expectations {
            segment_samples: 92_160,
            fixed_media_sequence: true,
            refetch_per_poll: usize::MAX,
            ..Expectations::new(&RENDITIONS)
        };
        Self { checker: Checker::new(expectations), last: Progress::default(), discontinuities: 0 }
    }

    fn poll(&mut self, station: &Station) -> Progress {
        let mut source = HttpSource::new(&format!("{}/live/", station.url));
        let judged = self.checker.poll(&mut source);
        let progress = judged.unwrap_or_else(|violation| panic!("{violation}; {}", station.stderr()));
        assert!(progress.newest >= self.last.newest, "{progress:?} after {:?}", self.last);
        self.discontinuities += progress.discontinuities;
        self.last = progress;
        progress
    }

    /// Listens until so many more segments were on air.
    fn hear(&mut self, station: &Station, segments: u64) {
        let until = self.last.newest + segments;
        station.wait_for("more segments", |station| (self.poll(station).newest >= until).then_some(()));
    }

    fn finish(self) -> Result<Report, Violation> {
        self.checker.finish()
    }
}

fn discontinuity_sequence(station: &Station) -> u64 {
    let playlist = station.text("/live/hifi/live.m3u8");
    let value = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:"));
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// The stream goes on over a stop, with one cut and no hole, and the cut is counted when it leaves.
fn goes_on_after(stop: impl FnOnce(Station)) {
    let home = home(BRISK);
    let station = home.start();
    station.wait_on_air();
    let mut listener = Listener::new();
    listener.poll(&station);
    station.wait_for("segments ahead of air", |station| {
        let lead = station.json("/health")?["lead_seconds"].as_f64()?;
        (lead >= 5.0).then_some(())
    });
    listener.hear(&station, 2);
    let (port, ipns, before) = (station.port(), station.ipns.clone(), station.listed("hifi"));
    let cuts = listener.discontinuities;
    stop(station);

    let station = home.start_on(port);
    assert_eq!(station.ipns, ipns, "a name is for ever");
    station.wait_on_air();
    for n in before {
        let answer = station.get(&format!("/live/hifi/{n}.m4s"));
        assert_eq!(answer.status, 200, "segment {n} was listed before the stop and is asked for after it");
    }
    // Past the lead, where the new run begins, and until the cut has left the playlist.
    let counted = discontinuity_sequence(&station);
    listener.poll(&station);
    station.wait_for("the cut to leave the playlist", |station| {
        listener.poll(station);
        (discontinuity_sequence(station) > counted).then_some(())
    });
    assert_eq!(listener.discontinuities - cuts, 1, "one start, one cut");
    let report = listener.finish().expect("segments were judged");
    assert_eq!(report.jumps, 0, "the lead bridges the stop: {report:?}");
    let (first, newest) = report.range;
    assert_eq!(report.segments as u64, newest - first + 1, "no number is missing: {report:?}");
}

#[test]
fn the_stream_goes_on_after_sigterm() {
    goes_on_after(|station| {
        let (status, took) = station.terminate();
        assert_eq!(status.code(), Some(0));
        assert!(took <= STOP_LIMIT, "it took {took:?} to end");
    });
}

#[test]
fn the_stream_goes_on_after_a_kill() {
    goes_on_after(Station::kill);
}

#[test]
fn sigint_ends_it_as_well() {
    let home = home("");
    let station = home.start();
    station.wait_on_air();
    station.signal("INT");
    station.wait_for_end(0);
}

#[test]
fn a_second_station_on_the_same_data_is_refused() {
    let home = home("");
    let first = home.start();
    first.wait_on_air();
    let second = run_to_end(home.command("127.0.0.1:0"));
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let data = home.data().display().to_string();
    assert!(said.contains(&data) && said.contains("already"), "it says what is in use:\n{said}");
    assert_eq!(first.get("/readyz").status, 200, "the first goes on");
}

#[test]
fn sighup_takes_in_what_it_can_and_says_what_needs_a_restart() {
    let home = home("");
    let station = home.start();
    station.wait_on_air();
    let tracks = |station: &Station| station.json("/health")?["library"]["tracks"].as_u64();
    station.wait_for("the music", |station| (tracks(station)? == 1).then_some(()));

    let more = home.path().join("more");
    std::fs::create_dir(&more).expect("writable");
    for name in ["a.wav", "b.wav"] {
        let tone = sines(48_000, 0, 48_000, &[(550.0, 0.3); 2]);
        std::fs::write(more.join(name), wav(48_000, 2, None, Depth::S16, &tone)).expect("writable");
    }
    let sections =
        format!("[player]\norder = \"ordered\"\n[library]\nmusic = [{more:?}]\n[hls]\nlead = \"30s\"\n");
    std::fs::write(home.config(), sections).expect("writable");
    station.signal("HUP");
    station.wait_for("the other music", |station| (tracks(station)? == 2).then_some(()));
    let said = station.wait_for("a word about the restart", |station| {
        station.stderr().lines().find(|line| line.contains("need a restart")).map(str::to_owned)
    });
    assert!(said.contains("hls"), "{said}");
    assert!(!said.contains("player"), "that needs none: {said}");
}

#[test]
fn sighup_with_a_mistake_keeps_the_old_configuration() {
    let home = home("");
    let station = home.start();
    station.wait_on_air();
    std::fs::write(home.config(), "[library]\nmusic = []\nshuffle = true\n").expect("writable");
    station.signal("HUP");
    let said = station.wait_for("a word about the mistake", |station| {
        station.stderr().lines().find(|line| line.contains("not reloaded")).map(str::to_owned)
    });
    assert!(said.contains("station.toml:3: library.shuffle"), "{said}");
    // A good file afterwards is taken in, and differs from the old one in nothing: so the old one was kept.
    home.configure("");
    station.signal("HUP");
    station.wait_for("the good file", |station| {
        station.stderr().lines().any(|line| line.contains("configuration reloaded")).then_some(())
    });
    assert!(!station.stderr().contains("need a restart"), "{}", station.stderr());
    // A file that was just written counts once it has settled.
    station.wait_for("the music of the old configuration", |station| {
        (station.json("/health")?["library"]["tracks"] == 1).then_some(())
    });
}
