//! `kill -9` at 100 random moments of a simulated run: what is left can always be read and gone on with.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the child tells its parent how far it is")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod simulation;
}

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use skywave::clock::{SteppedClock, WallClock};
use skywave::config::Config;
use skywave::ipfs::Identity;
use skywave::publisher::catalogue::Catalogue;
use support::simulation::{Listener, OCTOBER_2026, Station, config, scratch};

const KILLS: usize = 100;
const SEED: u64 = 2;
const FOLDER: &str = "SKYWAVE_CRASH_FOLDER";
const CLOCK: &str = "SKYWAVE_CRASH_CLOCK";
/// Real time after which a child that says nothing hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn small(folder: &Path) -> Config {
    let mut config = config(folder);
    config.hls.lead = Duration::from_secs(12);
    config.hls.ident_lead = config.hls.lead;
    config.hls.playlist = Duration::from_secs(24);
    config
}

/// The process that is killed: a station that says what it puts on air. It ends when it is killed or finds
/// something wrong.
#[test]
#[ignore = "run by the test that kills it"]
fn station_to_be_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let clock: i64 = std::env::var(CLOCK).unwrap().parse().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(run(&folder, clock));
}

async fn run(folder: &Path, clock: i64) {
    let config = small(folder);
    let before = Files::read(&config.repo());
    let known = read_catalogue(&config.repo());
    let clock = SteppedClock::starting_at(clock);
    let mut station = Station::start(&config, &clock).await;
    // Nothing has run since the sweep: this thread is the only one.
    let swept = Files::read(&config.repo());
    swept.assert_only_what_is_needed(known.as_ref());
    assert!(swept.temporary.is_empty(), "left over: {:?}", swept.temporary);
    println!("SWEPT {}", before.blocks.len().saturating_sub(swept.blocks.len()));
    let mut listener = Listener::new(&config, false);
    loop {
        // Fetches every file of the tree, so that none is missing.
        listener.listen(&mut station, &clock, 1).await;
        let held = Files::read(&config.repo());
        let needed = text(&read_catalogue(&config.repo()).expect("written before the air").needed());
        let missing: Vec<_> = needed.difference(&held.blocks).collect();
        assert!(missing.is_empty(), "not in the store: {missing:?}");
        assert_eq!(station.restarts(), 0);
        println!("AIR {} {}", listener.newest(), clock.unix_millis());
    }
}

fn read_catalogue(repo: &Path) -> Option<Catalogue> {
    let bytes = std::fs::read(repo.join("window.json")).ok()?;
    Some(serde_json::from_slice(&bytes).expect("the catalogue is whole"))
}

fn text(cids: &std::collections::HashSet<cid::Cid>) -> BTreeSet<String> {
    cids.iter().map(ToString::to_string).collect()
}

/// What lies in a repo, by the names of its files.
struct Files {
    blocks: BTreeSet<String>,
    pins: BTreeSet<String>,
    temporary: Vec<PathBuf>,
}

impl Files {
    fn read(repo: &Path) -> Self {
        let mut files = Self { blocks: BTreeSet::new(), pins: BTreeSet::new(), temporary: Vec::new() };
        files.walk(repo);
        files
    }

    fn walk(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => self.walk(&path),
                Some("data") => drop(self.blocks.insert(stem)),
                // Pins are named by the bytes of the CID in base 32, without the letter of the base.
                Some("direct" | "recursive") => drop(self.pins.insert(format!("b{stem}"))),
                Some("tmp") => self.temporary.push(path),
                _ => {}
            }
        }
    }

    /// No block and no pin but those of the catalogue that the run before left, and of what is in it all that was
    /// on air.
    fn assert_only_what_is_needed(&self, known: Option<&Catalogue>) {
        let Some(known) = known else {
            assert!(self.blocks.len() <= 1, "only the init segment: {:?}", self.blocks);
            return;
        };
        let needed = text(&known.needed());
        let orphans: Vec<_> = self.blocks.difference(&needed).collect();
        assert!(orphans.is_empty(), "orphan blocks: {orphans:?}");
        assert_eq!(self.blocks, self.pins, "blocks and pins");
        let aired = known.window.aired().flat_map(|segment| &segment.media);
        let missing: Vec<_> = aired.filter(|entry| !self.blocks.contains(&entry.cid.to_string())).collect();
        assert!(missing.is_empty(), "lost: {missing:?}");
    }
}

/// A running child and what it says.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(folder: &Path, clock: i64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "station_to_be_killed", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .env(CLOCK, clock.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// What it says next; `None` when nothing comes by `until`.
    fn line(&mut self, until: Instant) -> Option<String> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let mut stderr = self.child.stderr.take().unwrap();
                let mut said = String::new();
                std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
                panic!("the station ended by itself: {said}");
            }
        }
    }

    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

/// What all children together have shown.
#[derive(Default)]
struct Seen {
    newest: u64,
    sweeps: usize,
    swept: u64,
    ticks: usize,
    on_air: usize,
}

impl Seen {
    fn take_in(&mut self, line: &str) -> Option<i64> {
        let mut words = line.split_whitespace();
        // The harness prints the name of the test in front of the first line.
        let word = words.find(|word| ["SWEPT", "AIR"].contains(word))?;
        let number: u64 = words.next()?.parse().ok()?;
        if word == "SWEPT" {
            self.sweeps += 1;
            self.swept += number;
            return None;
        }
        assert!(number >= self.newest, "number {number} on air after {}", self.newest);
        self.newest = number;
        self.ticks += 1;
        words.next()?.parse().ok()
    }
}

#[test]
fn a_hundred_kills_lose_no_state_repeat_no_number_and_leave_no_orphan() {
    let folder = scratch();
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut seen, mut wall, mut identity) = (Seen::default(), OCTOBER_2026, None);
    for kill in 0..KILLS {
        let mut running = Running::start(folder.path(), wall);
        let ticks = [0, 0, 1, 2, 3, 4, 9][random.usize(..7)];
        let mut heard = 0;
        while heard < ticks {
            let line = running.line(Instant::now() + PATIENCE).expect("a station that goes on");
            if let Some(now) = seen.take_in(&line) {
                (heard, wall) = (heard + 1, now);
            }
        }
        // Somewhere within the work of the next tick, or of the start.
        let moment =
            Instant::now() + Duration::from_micros(random.u64(..if ticks == 0 { 250_000 } else { 60_000 }));
        while let Some(line) = running.line(moment) {
            if let Some(now) = seen.take_in(&line) {
                (heard, wall) = (heard + 1, now);
            }
        }
        for line in running.kill() {
            wall = seen.take_in(&line).unwrap_or(wall);
        }
        seen.on_air += usize::from(heard > 0);
        wall += [0, 0, 500, 3_000, 15_000, 60_000, 900_000, -4_000, -30_000, -3_600_000][random.usize(..10)];
        assert_readable(&small(folder.path()), &mut identity, kill);
    }
    eprintln!("{} ticks, {} sweeps of {} blocks", seen.ticks, seen.sweeps, seen.swept);
    assert!(seen.on_air > KILLS / 2 && seen.sweeps > KILLS / 2 && seen.swept > 0, "kills came too early");
}

/// Every file of state is whole, whatever the moment; the name of the station stays.
fn assert_readable(config: &Config, identity: &mut Option<String>, kill: usize) {
    let data = &config.station.data;
    for path in [data.join("numbers.json"), config.repo().join("window.json"), data.join("catalogue.json")] {
        if let Ok(bytes) = std::fs::read(&path) {
            let whole = serde_json::from_slice::<Value>(&bytes);
            assert!(whole.is_ok(), "kill {kill}: {} is {whole:?}", path.display());
        }
        let damaged = path.with_extension("json.damaged");
        assert!(!damaged.exists(), "kill {kill}: {}", damaged.display());
    }
    let key = data.join("identity.key");
    if key.exists() {
        let name = Identity::load_or_create(&key).unwrap().ipns_name();
        assert_eq!(identity.get_or_insert_with(|| name.clone()), &name, "kill {kill}");
    }
}
