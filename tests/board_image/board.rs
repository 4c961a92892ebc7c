//! An emulated board, started by `board/qemu/run` as its owner would.

use crate::card::Card;
use crate::qmp::Qmp;
use crate::support::http_client::{self, Response};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Bounds every wait. Emulation on a busy machine is slow; on an idle one the longest takes a tenth.
pub const PATIENCE: Duration = Duration::from_secs(240);
const REQUEST: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Only one board at a time: two would starve each other.
static EMULATOR: Mutex<()> = Mutex::new(());

/// The image under test, or `None` where there is none, said aloud.
pub fn image() -> Option<PathBuf> {
    match std::env::var_os("SKYWAVE_IMAGE") {
        Some(image) => {
            let image = PathBuf::from(image);
            assert!(image.exists(), "SKYWAVE_IMAGE names {}, which is not there", image.display());
            Some(image)
        }
        None => {
            eprintln!("SKIPPED: SKYWAVE_IMAGE names no card image");
            None
        }
    }
}

/// The repository's folder `board/qemu`.
pub fn qemu_scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("board/qemu")
}

/// How a board is started.
#[derive(Debug, Default, Clone)]
pub struct Setup {
    /// A Raspberry Pi 3 instead of QEMU's virt.
    pub pi: bool,
    /// What its real-time clock begins with, as QEMU's -rtc takes it.
    pub rtc: Option<String>,
    /// Words for the kernel.
    pub append: String,
}

/// A board that runs; one that is dropped loses its power.
pub struct Board {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    /// When the power came on.
    pub since: Instant,
    _alone: MutexGuard<'static, ()>,
}

impl Board {
    /// Power on, with this card.
    pub fn start(card: &Card, setup: &Setup) -> Self {
        let alone = EMULATOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder for the board");
        let port = free_port();
        let mut command = Command::new(qemu_scripts().join("run"));
        command.arg("--image").arg(&card.image).arg("--state").arg(&card.state);
        command.arg("--serial").arg(folder.path().join("serial"));
        command.arg("--monitor").arg(folder.path().join("monitor"));
        command.args(["--http", &port.to_string(), "--append", &setup.append]);
        if setup.pi {
            command.arg("--pi");
        }
        if let Some(rtc) = &setup.rtc {
            command.args(["--rtc", rtc]);
        }
        // Its own group, so that a power cut takes QEMU and the script at once.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let child = command.spawn().expect("board/qemu/run starts");
        Self { child, port, folder, since: Instant::now(), _alone: alone }
    }

    /// Cuts the power: nothing gets a chance to write.
    pub fn cut(mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }

    /// What the board has said on its serial line.
    pub fn serial(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where the stream is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The machine's monitor.
    pub fn monitor(&self) -> Qmp {
        Qmp::connect(&self.folder.path().join("monitor"))
    }

    /// GET, or `None` where the board does not answer.
    pub fn get(&self, path: &str) -> Option<Response> {
        http_client::get(&format!("{}{path}", self.url()), REQUEST).ok()
    }

    /// GET of JSON, or `None` where the board does not answer with any.
    pub fn json(&self, path: &str) -> Option<Value> {
        serde_json::from_slice(&self.get(path)?.body).ok()
    }

    /// Looks until there is something; a board that dies or takes too long fails the test with its serial line.
    pub fn wait_for<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            let gone = self.child.try_wait().expect("a child of ours");
            if gone.is_some() || Instant::now() > deadline {
                let serial = self.serial();
                let tail = serial.lines().rev().take(60).collect::<Vec<_>>();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                panic!("{what}: not within {PATIENCE:?} (QEMU: {gone:?}); the serial line ends\n{tail}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for the first segment over HTTP; gives the time since power-on.
    pub fn wait_on_air(&mut self) -> Duration {
        self.wait_for("the first segment", |board| {
            let newest = board.newest()?;
            let segment = board.get(&format!("/live/lofi/{newest}.m4s"))?;
            (segment.status == 200).then_some(())
        });
        self.since.elapsed()
    }

    /// The segment numbers that the lofi playlist lists.
    pub fn listed(&self) -> Vec<u64> {
        let Some(playlist) = self.get("/live/lofi/live.m3u8").filter(|answer| answer.status == 200) else {
            return Vec::new();
        };
        let text = playlist.text().unwrap_or_default().to_owned();
        text.lines().filter_map(|line| line.strip_suffix(".m4s")?.parse().ok()).collect()
    }

    /// The highest number that is on air.
    pub fn newest(&self) -> Option<u64> {
        self.listed().into_iter().max()
    }

    /// The station's permanent name.
    pub fn ipns(&self) -> Option<String> {
        let station = self.json("/station.json")?;
        station["ipns"].as_str().map(str::to_owned)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of loopback that nobody listens on now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
