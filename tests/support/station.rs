//! The real binary, as an owner starts it: its own folder, a free port, and no leftovers.
//!
//! What the station prints is kept for the message of a test that fails; a station that is dropped is killed.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use super::http_client::{self, Response};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bounds every wait. Generous: it is met only where something is broken.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Bounds one request.
pub const REQUEST: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// The program under test with these arguments, not started yet.
pub fn skywave(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skywave"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program to its end; one that has none within the patience is killed, and the test fails.
pub fn run_to_end(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut child = Guarded(child);
    let out = keep(child.0.stdout.take().expect("piped"));
    let err = keep(child.0.stderr.take().expect("piped"));
    let status = wait_until("the program's end", || child.0.try_wait().expect("a child of ours"));
    Output { status, stdout: out.whole().into_bytes(), stderr: err.whole().into_bytes() }
}

/// Looks at a condition until it gives something, or panics with what was waited for.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// A folder with music, data and station.toml.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// An empty music folder and a station.toml of these lines, the music folder included.
    pub fn new(sections: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().expect("a folder for the test") };
        std::fs::create_dir(home.music()).expect("a folder for the music");
        home.configure(sections);
        home
    }

    /// Writes station.toml anew.
    pub fn configure(&self, sections: &str) {
        let text = format!("{sections}\n[library]\nmusic = [{:?}]\nsettle = \"500ms\"\n", self.music());
        std::fs::write(self.config(), text).expect("the folder is writable");
    }

    /// Adds a file to the music.
    pub fn add(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.music().join(name), bytes).expect("the folder is writable");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn music(&self) -> PathBuf {
        self.path().join("music")
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("station.toml")
    }

    /// The command that runs the station here.
    pub fn command(&self, http: &str) -> Command {
        let mut command = skywave(&["run", "--offline", "--http", http]);
        command.arg("--config").arg(self.config()).arg("--data").arg(self.data());
        command
    }

    /// Starts the station with its swarm, which `[ipfs]` of station.toml should keep on loopback.
    pub fn start_online(&self) -> Station {
        self.start_online_on(0)
    }

    /// Starts it so on this port.
    pub fn start_online_on(&self, port: u16) -> Station {
        let mut command = skywave(&["run", "--http", &format!("127.0.0.1:{port}")]);
        command.arg("--config").arg(self.config()).arg("--data").arg(self.data());
        Station::start(command)
    }

    /// Starts the station on a free port.
    pub fn start(&self) -> Station {
        Station::start(self.command("127.0.0.1:0"))
    }

    /// Starts the station on the port that it had before.
    pub fn start_on(&self, port: u16) -> Station {
        Station::start(self.command(&format!("127.0.0.1:{port}")))
    }

    /// Has a station measure the music once, so that the next one starts with every level known and an empty window.
    pub fn measure_music(&self, tracks: usize) {
        let station = self.start();
        station.wait_for("the music measured", |station| {
            let library = &station.json("/health")?["library"];
            let all = library["tracks"] == tracks && library["scanned"] == tracks;
            (all && library["scanning"] == false).then_some(())
        });
        let (status, _) = station.terminate();
        assert!(status.success(), "{status}");
        std::fs::remove_dir_all(self.data().join("ipfs")).expect("the repo");
        std::fs::remove_file(self.data().join("numbers.json")).expect("the numbers");
    }
}

/// A station that runs.
pub struct Station {
    child: Guarded,
    stdout: Kept,
    stderr: Kept,
    /// Where the page is, without a slash at the end.
    pub url: String,
    /// The IPNS name that it printed, `k51...`.
    pub ipns: String,
}

impl Station {
    /// Starts it and waits until it has said where it is.
    pub fn start(mut command: Command) -> Self {
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the station starts");
        let mut child = Guarded(child);
        let stdout = keep(child.0.stdout.take().expect("piped"));
        let stderr = keep(child.0.stderr.take().expect("piped"));
        let mut station = Self { child, stdout, stderr, url: String::new(), ipns: String::new() };
        let (url, ipns) = station.wait_for("where the station is", |station| {
            let said = station.stdout.text();
            let after = |word: &str| {
                let line = said.lines().find(|line| line.trim_start().starts_with(word))?;
                line.split_whitespace().nth(1).map(str::to_owned)
            };
            Some((after("page")?, after("IPNS")?)).filter(|_| said.ends_with("\n\n"))
        });
        station.url = url.trim_end_matches('/').to_owned();
        station.ipns = ipns.trim_start_matches("/ipns/").to_owned();
        station
    }

    /// The port of its web server.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Looks until there is something; a station that ends meanwhile fails the test with what it said.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            let gone = self.stderr.ended().then_some("the station ended");
            let late = (Instant::now() > deadline).then_some("not within the patience");
            if let Some(reason) = gone.or(late) {
                panic!("{what}: {reason}; it said\n{}{}", self.stdout.text(), self.stderr());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until it is on the air.
    pub fn wait_on_air(&self) {
        self.wait_for("on the air", |station| {
            let answer = http_client::get(&format!("{}/readyz", station.url), REQUEST);
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
    }

    /// GET that must be answered.
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[])
    }

    /// A request that must be answered.
    pub fn request(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Response {
        let answer = http_client::request(method, &format!("{}{path}", self.url), fields, REQUEST);
        answer.unwrap_or_else(|error| panic!("{error}; the station said\n{}", self.stderr()))
    }

    /// GET of a text with status 200.
    pub fn text(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}");
        answer.text().expect("text").to_owned()
    }

    /// A JSON document, whatever its status; `None` while there is none.
    pub fn json(&self, path: &str) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.get(path).body).ok()
    }

    /// Numbers of the segments that a rendition lists.
    pub fn listed(&self, rendition: &str) -> Vec<u64> {
        let playlist = self.text(&format!("/live/{rendition}/live.m3u8"));
        playlist.lines().filter_map(|line| line.strip_suffix(".m4s")?.parse().ok()).collect()
    }

    /// Sends a signal by its name, such as HUP.
    pub fn signal(&self, name: &str) {
        let id = self.child.0.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// SIGTERM: how it ended, and how long that took.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal("TERM");
        let status = wait_until("an end after SIGTERM", || self.child.0.try_wait().expect("a child of ours"));
        (status, began.elapsed())
    }

    /// Waits for an end with this exit code.
    pub fn wait_for_end(mut self, code: i32) {
        let status = wait_until("the station's end", || self.child.0.try_wait().expect("a child of ours"));
        assert_eq!(status.code(), Some(code), "{}", self.stderr());
    }

    /// SIGKILL: as if the power went.
    pub fn kill(mut self) {
        self.child.end();
    }
}

/// A process that does not outlive the test.
pub struct Guarded(pub Child);

impl Guarded {
    fn end(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end();
    }
}

/// What comes out of a pipe, read on a thread of its own so that the pipe never fills up.
pub struct Kept {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

/// Reads a pipe to its end in the background.
pub fn keep(pipe: impl Read + Send + 'static) -> Kept {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = text.clone();
    let reader = std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            shared.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    Kept { text, reader }
}

impl Kept {
    /// Everything so far.
    pub fn text(&self) -> String {
        self.text.lock().expect("no reader panics").clone()
    }

    fn ended(&self) -> bool {
        self.reader.is_finished()
    }

    /// Everything up to the end of the process.
    pub fn whole(self) -> String {
        self.reader.join().expect("no reader panics");
        let text = self.text.lock().expect("no reader panics");
        text.clone()
    }
}
