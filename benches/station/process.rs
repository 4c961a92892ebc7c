//! The station as a process of its own, and the peer beside it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks where the moment is the figure.
const FINE: Duration = Duration::from_millis(2);
/// Between two looks where answering them would be part of the figure.
const COARSE: Duration = Duration::from_millis(500);

pub(crate) struct Station {
    child: Child,
    address: String,
}

impl Station {
    /// Starts the real program; `hls` are lines of the `[hls]` section.
    pub(crate) fn start(data: &Path, music: &Path, hls: &[&str]) -> Self {
        fs::create_dir_all(data).unwrap();
        let config = data.join("station.toml");
        fs::write(&config, format!("[hls]\n{}\n[log]\nlevel = \"warn\"\n", hls.join("\n"))).unwrap();
        let program = std::env::var_os("SKYWAVE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_skywave").into());
        let mut child = Command::new(program)
            .args(["--config".as_ref(), config.as_os_str(), "--data".as_ref(), data.as_os_str()])
            .args(["--music".as_ref(), music.as_os_str()])
            .args(["--http", "127.0.0.1:0", "--offline"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let page = lines.into_iter().find_map(|line| Some(line.split_once("http://")?.1.to_owned())).unwrap();
        Self { child, address: page.trim_end_matches('/').to_owned() }
    }

    /// Host and port of its web server.
    pub(crate) fn authority(&self) -> &str {
        &self.address
    }

    pub(crate) fn get(&self, path: &str) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let head = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
        answer.starts_with(b"HTTP/1.1 200").then(|| answer[head + 4..].to_vec())
    }

    fn text(&self, path: &str) -> String {
        self.get(path).map_or_else(String::new, |body| String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) fn wait_for_first_segment(&mut self) {
        until(FINE, || {
            let playlist = self.text("/live/hifi/live.m3u8");
            let segment = playlist.lines().find(|line| line.ends_with(".m4s"))?.to_owned();
            self.get(&format!("/live/hifi/{segment}"))
        });
    }

    pub(crate) fn wait_until_scanned(&self) {
        until(COARSE, || {
            let health: serde_json::Value = serde_json::from_str(&self.text("/health")).ok()?;
            let library = &health["library"];
            (library["found"].as_u64()? > 0 && library["scanned"] == library["found"]).then_some(())
        });
    }

    pub(crate) fn wait_for_lead(&self, lead: Duration) {
        until(COARSE, || (self.metric("skywave_lead_seconds ")? >= lead.as_secs_f64()).then_some(()));
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.text("/metrics");
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    pub(crate) fn encoded_minutes(&self) -> f64 {
        self.metric("skywave_segments_encoded_total{rendition=\"hifi\"} ").unwrap() * 3.84 / 60.0
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }

    pub(crate) fn resident_megabytes(&self) -> f64 {
        resident_megabytes(self.child.id())
    }
}

impl Station {
    /// Ends it as its owner would, so that it keeps what it found out.
    pub(crate) fn stop(mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.is_ok_and(|status| status.success()), "kill(1) sends SIGTERM");
        self.child.wait().unwrap();
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process so far; proc(5), fields 14 and 15 in ticks of 10 ms.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// `VmRSS` of a process; proc(5).
pub(crate) fn resident_megabytes(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_000.0
}

/// Time that Liquidsoap takes for the same: from its start to the first finished segment.
pub(crate) fn peer_first_segment(folder: &Path, music: &Path) -> Option<Duration> {
    let out = folder.join("liquidsoap");
    fs::create_dir_all(&out).unwrap();
    let script = format!(
        "set(\"init.allow_root\", true)\nradio = mksafe(playlist(\"{}\"))\n\
         output.file.hls(playlist=\"live.m3u8\", segment_duration=4.0, segments=5, \"{}\", \
         [(\"lofi\", %ffmpeg(format=\"mpegts\", %audio(codec=\"aac\", b=\"64k\"))), \
         (\"midfi\", %ffmpeg(format=\"mpegts\", %audio(codec=\"aac\", b=\"96k\"))), \
         (\"hifi\", %ffmpeg(format=\"mpegts\", %audio(codec=\"aac\", b=\"192k\")))], radio)\n",
        music.display(),
        out.display()
    );
    fs::write(folder.join("peer.liq"), script).unwrap();
    let began = Instant::now();
    let mut peer = Command::new("liquidsoap")
        .arg(folder.join("peer.liq"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let listed = || {
        let playlists = fs::read_dir(&out).ok()?.flatten().map(|entry| entry.path());
        let hifi = playlists.into_iter().find(|path| path.ends_with("hifi.m3u8"))?;
        fs::read_to_string(hifi).ok()?.contains("#EXTINF").then_some(())
    };
    let found = wait(FINE, listed, Duration::from_secs(60));
    let took = began.elapsed();
    let _ = peer.kill();
    let _ = peer.wait();
    found.map(|()| took)
}

fn until<T>(every: Duration, check: impl FnMut() -> Option<T>) -> T {
    wait(every, check, PATIENCE).expect("the station takes too long")
}

fn wait<T>(every: Duration, mut check: impl FnMut() -> Option<T>, patience: Duration) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = check() {
            return Some(found);
        }
        if began.elapsed() > patience {
            return None;
        }
        std::thread::sleep(every);
    }
}
