//! The page: its logic in Node, and the whole of it in a real browser, on the real binary, over a restart and with relays
//! that lie and die; tests/browser/*.mjs are the judges.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod http_client;
    pub(crate) mod media;
    pub(crate) mod station;
}

use skywave::ipfs::ipns::Name;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::media::{Depth, fixture_bytes, sines, wav};
use support::station::{Home, Station, run_to_end};

/// Bounds a run; the judge's own patience is shorter.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// One browser at a time: what is judged is what a listener hears, not how many browsers a machine bears.
static BROWSER: Mutex<()> = Mutex::new(());

fn browser_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

fn runs(name: &str) -> bool {
    let status = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Says that the test is not run, aloud, where it need not be.
fn skip(reason: &str) {
    let required = std::env::var("SKYWAVE_PEERS").is_ok_and(|value| value == "required");
    assert!(!required, "SKYWAVE_PEERS=required, but {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// What a run in the browser needs and this machine lacks.
fn lacking() -> Option<&'static str> {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    if !runs("node") {
        Some("node does not run")
    } else if std::env::var_os("CHROMIUM").is_none() && !browsers.iter().any(|name| runs(name)) {
        Some("there is no Chromium")
    } else if !browser_folder().join("node_modules/playwright-core").is_dir() {
        Some("tests/browser has no playwright-core (npm ci)")
    } else {
        None
    }
}

/// The judge while it runs; killed when the test ends before it.
struct Judge {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Judge {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new("node")
            .args(arguments)
            .current_dir(browser_folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A test that failed listens no more.
                let _ = sender.send(line);
            }
        });
        Self { child, lines, said: String::new() }
    }

    /// Reads on until a line, or to the end of the output: then `false`.
    fn reads(&mut self, wanted: &str, deadline: Instant) -> bool {
        self.reads_from(wanted, deadline).is_some_and(|rest| rest.is_empty())
    }

    /// Reads on until a line that begins so, and gives the rest of it; `None` at the end of the output.
    fn reads_from(&mut self, wanted: &str, deadline: Instant) -> Option<String> {
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    eprintln!("{line}");
                    self.said.push_str(&line);
                    self.said.push('\n');
                    if let Some(rest) = line.strip_prefix(wanted) {
                        return Some(rest.to_owned());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no {wanted:?} in time:\n{}", self.said),
            }
        }
    }

    fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("the judge listens");
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn music() -> Home {
    let home = Home::new("");
    for (name, left, right) in [("one", 440.0, 550.0), ("two", 660.0, 440.0), ("three", 330.0, 880.0)] {
        let tones = sines(44_100, 0, 44_100 * 20, &[(left, 0.3), (right, 0.3)]);
        home.add(&format!("{name}.wav"), &wav(44_100, 2, None, Depth::S16, &tones));
    }
    for name in ["sine-a.mp3", "sine-b.mp3", "sine-a.ogg", "sine-a.m4a"] {
        home.add(name, &fixture_bytes(name));
    }
    home
}

#[test]
fn the_page_plays_switches_and_survives_a_kill() {
    if let Some(reason) = lacking() {
        return skip(reason);
    }
    let _alone = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let home = music();
    let station = home.start();
    station.wait_on_air();
    let deadline = Instant::now() + RUN_LIMIT;
    let url = format!("{}/", station.url);
    let mut judge = Judge::start(&["run.mjs", "--url", &url, "--seconds", "60", "--restart"]);
    assert!(judge.reads("READY-FOR-RESTART", deadline), "{}\n{}", judge.said, station.stderr());
    let port = station.port();
    station.kill();
    let station = home.start_on(port);
    station.wait_on_air();
    judge.tell("RESTARTED");
    let passed = judge.reads("PASS", deadline);
    assert!(passed, "{}\nthe station said\n{}", judge.said, station.stderr());
    assert!(judge.child.wait().expect("a child of ours").success());
}

#[test]
fn the_page_checks_what_it_plays_and_plays_on_when_relays_lie_and_die() {
    if let Some(reason) = lacking() {
        return skip(reason);
    }
    let _alone = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let home = music();
    let station = home.start();
    station.wait_on_air();
    let url = format!("{}/", station.url);
    let mut judge = Judge::start(&["relays.mjs", "--url", &url, "--ipns", &station.ipns]);
    let passed = judge.reads("PASS", Instant::now() + RUN_LIMIT);
    assert!(passed, "{}\nthe station said\n{}", judge.said, station.stderr());
    assert!(judge.child.wait().expect("a child of ours").success());
}

/// A port of loopback that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// Settings of a node that keeps to this machine, knows these peers, and tells listeners where it is.
fn node(swarm: u16, http: u16, peers: &[String]) -> String {
    format!(
        "[ipfs]\nlisten = [\"/ip4/127.0.0.1/tcp/{swarm}\"]\npeers = {peers:?}\ndht = \"off\"\nbootstrap = []\nmdns = false\n\
         hole_punching = false\nupnp = false\n[http]\npublic = [\"http://127.0.0.1:{http}\"]\n"
    )
}

/// A station that plays, and two relays of it that are on the air.
fn station_with_relays() -> Vec<(Home, Station)> {
    let (swarm, http) = (free_port(), free_port());
    let home = music();
    home.configure(&node(swarm, http, &[]));
    let station = home.start_online_on(http);
    station.wait_on_air();
    let peer = Name::parse(&station.ipns).expect("the station says its name").peer_id();
    let origin = format!("/ip4/127.0.0.1/tcp/{swarm}/p2p/{peer}");
    let follow = format!("follow = \"{}\"\n", station.ipns);
    let relay = || {
        let http = free_port();
        let home = Home::new(&(follow.clone() + &node(free_port(), http, std::slice::from_ref(&origin))));
        let relay = home.start_online_on(http);
        (home, relay)
    };
    let nodes = vec![(home, station), relay(), relay()];
    nodes.iter().for_each(|(_, node)| node.wait_on_air());
    nodes
}

#[test]
fn the_page_goes_from_one_real_node_to_the_next_as_they_are_killed() {
    if let Some(reason) = lacking() {
        return skip(reason);
    }
    let _alone = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let mut nodes = station_with_relays();
    let url = format!("{}/", nodes[0].1.url);
    let deadline = Instant::now() + RUN_LIMIT;
    let mut judge = Judge::start(&["boards.mjs", "--url", &url, "--kills", "2"]);
    for _ in 0..2 {
        let victim = judge.reads_from("KILL ", deadline);
        let victim = victim.unwrap_or_else(|| panic!("{}\n{}", judge.said, nodes[0].1.stderr()));
        let place = nodes.iter().position(|(_, node)| node.url == victim).expect("one of ours");
        nodes.swap_remove(place).1.kill();
        judge.tell("KILLED");
    }
    let passed = judge.reads("PASS", deadline);
    assert!(passed, "{}\nthe last node said\n{}", judge.said, nodes[0].1.stderr());
    assert!(judge.child.wait().expect("a child of ours").success());
}

#[test]
fn the_logic_of_the_page_passes_its_own_tests() {
    if !runs("node") {
        return skip("node does not run");
    }
    let mut tests = Command::new("node");
    tests.args(["--test", "--test-reporter=spec", "logic/"]).current_dir(browser_folder());
    let Output { status, stdout, .. } = run_to_end(tests);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stdout));
}
