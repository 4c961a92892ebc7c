//! An emulated board, started by `board/qemu/run` as its owner would.

use crate::addition::Addition;
use crate::card::Card;
use crate::image::Place;
use crate::qmp::{Qmp, connect};
use crate::support::http_client::{self, Response};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bounds every wait. Emulation on a busy machine is slow; on an idle one the longest takes a tenth.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same for a Raspberry Pi 3, which QEMU emulates several times more slowly.
const PI_PATIENCE: Duration = Duration::from_secs(1200);
const REQUEST: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The repository's folder `board/qemu`.
pub fn qemu_scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("board/qemu")
}

/// What QEMU emulates fastest: the processor costs a quarter less than the Cortex-A72 of `board/qemu/run`, as signed pointers cost
/// it most, and atomics of one instruction least; a single one a sixth less than two, as nothing need be atomic between them.
const FAST: [[&str; 2]; 2] = [["-cpu", "max,pauth=off,sve=off"], ["-smp", "1"]];

/// How a board is started.
#[derive(Debug, Default)]
pub struct Setup {
    /// A Raspberry Pi 3 instead of QEMU's virt.
    pub pi: bool,
    /// Two Cortex-A72, as on a Raspberry Pi 4, which know no instruction that is newer.
    pub exact: bool,
    /// What its real-time clock begins with, as QEMU's -rtc takes it.
    pub rtc: Option<String>,
    /// Words for the kernel.
    pub append: String,
    /// Whether it reaches this machine, and with it a time server that another test runs here.
    pub reaches_host: bool,
    /// Whether what goes over its network port is written down, and frames can be put in.
    pub wire: bool,
    /// Whether its input lines can be driven.
    pub lines: bool,
    /// What it finds below /run at its start.
    pub addition: Option<Addition>,
}

/// A board that runs; one that is dropped loses its power.
pub struct Board {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    /// When the power came on.
    pub since: Instant,
    patience: Duration,
    _place: Place,
}

impl Board {
    /// Power on, with this card, once there is room for one more board.
    pub fn start(card: &Card, setup: &Setup) -> Self {
        let place = Place::take();
        let folder = tempfile::tempdir().expect("a folder for the board");
        let port = free_port();
        let mut command = Command::new(qemu_scripts().join("run"));
        command.arg("--image").arg(&card.image).arg("--state").arg(&card.state);
        command.arg("--serial").arg(folder.path().join("serial"));
        command.arg("--monitor").arg(folder.path().join("monitor"));
        command.args(["--http", &port.to_string()]);
        options(&mut command, card, setup, folder.path());
        // Its own group, so that a power cut takes QEMU and the script at once. Both sides complain of each other's
        // absence while a board starts or ends; what failed is on the serial line.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().expect("board/qemu/run starts");
        let patience = if setup.pi { PI_PATIENCE } else { PATIENCE };
        Self { child, port, folder, since: Instant::now(), patience, _place: place }
    }

    /// Cuts the power: nothing gets a chance to write.
    pub fn cut(mut self) {
        end(&mut self.child);
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

    /// Waits for the board to switch itself off; gives how QEMU ended.
    pub fn wait_off(mut self) -> ExitStatus {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "not off within {:?}; {}", self.patience, self.tail());
            std::thread::sleep(LOOK);
        }
    }

    /// What went over the network port so far, as a capture file; see [`Setup::wire`].
    pub fn wire(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("wire")).unwrap_or_default()
    }

    /// A neighbour on the network; see [`Setup::wire`]. There can be one only: QEMU listens to the first.
    pub fn neighbour(&self) -> Neighbour {
        Neighbour(connect(&self.folder.path().join("neighbour")))
    }

    /// The socket by which lines are driven; see [`Setup::lines`].
    pub fn lines(&self) -> PathBuf {
        self.folder.path().join("lines")
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
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            let gone = self.child.try_wait().expect("a child of ours");
            if gone.is_some() || Instant::now() > deadline {
                panic!("{what}: not within {:?} (QEMU: {gone:?}); {}", self.patience, self.tail());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn tail(&self) -> String {
        let serial = self.serial();
        let lines = serial.lines().collect::<Vec<_>>();
        let last = lines[lines.len().saturating_sub(60)..].join("\n");
        format!("the serial line ends\n{last}")
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

/// Whoever sends to a board's network port, past QEMU's network.
pub struct Neighbour(UnixStream);

impl Neighbour {
    /// Sends an Ethernet frame; QEMU wants its length before it.
    pub fn send(&mut self, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        self.0.write_all(&[&length[..], frame].concat()).expect("QEMU listens");
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn options(command: &mut Command, card: &Card, setup: &Setup, folder: &Path) {
    let mut append = setup.append.clone();
    if setup.pi {
        command.arg("--pi");
    }
    if !setup.reaches_host {
        command.arg("--apart");
    }
    if let Some(rtc) = &setup.rtc {
        command.args(["--rtc", rtc]);
    }
    let mut qemu = |words: [&str; 2]| {
        words.iter().for_each(|word| {
            command.args(["--qemu", word]);
        });
    };
    if !setup.pi && !setup.exact {
        FAST.into_iter().for_each(&mut qemu);
    }
    let file = |name: &str| folder.join(name).display().to_string();
    if setup.wire {
        qemu(["-object", &format!("filter-dump,id=wire,netdev=lan,file={}", file("wire"))]);
        qemu(["-chardev", &format!("socket,id=neighbour,path={},server=on,wait=off", file("neighbour"))]);
        qemu(["-object", "filter-redirector,id=in,netdev=lan,queue=tx,indev=neighbour"]);
    }
    if setup.lines {
        qemu(["-qtest", &format!("unix:{},server=on,wait=off", file("lines"))]);
        qemu(["-qtest-log", "none"]);
    }
    if let Some(addition) = &setup.addition {
        // The later of two archives adds to the first, at a multiple of four bytes; the later of two such options counts.
        let mut whole = card.initramfs();
        whole.resize(whole.len().next_multiple_of(4), 0);
        whole.extend(addition.archive());
        std::fs::write(folder.join("initramfs"), whole).expect("an initramfs");
        qemu(["-initrd", &file("initramfs")]);
        append = format!("{append} rdinit={}", Addition::INIT);
    }
    command.args(["--append", &append]);
}

/// Ends the group of a script that was started as one, and the machine that it started.
pub fn end(script: &mut Child) {
    let group = format!("-{}", script.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = script.wait();
}

/// A port of loopback that nobody listens on now, nor any other board of this process.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}
