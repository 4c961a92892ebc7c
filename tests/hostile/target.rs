//! The station under attack, and the listener who watches it meanwhile.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rust_ipfs::Multiaddr;

use crate::support::station::{Home, PATIENCE, Station};

/// A station on loopback that knows nobody, with a short lead: it is settled when that is full.
const CONFIG: &str = "[hls]\nlead = \"12s\"\nident_lead = \"12s\"\n[http]\nheader_timeout = \"2s\"\n\
                      [ipfs]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nbootstrap = []\nmdns = false\n\
                      hole_punching = false\nupnp = false\n";
/// How often the listener asks.
const EVERY: Duration = Duration::from_millis(250);

pub(crate) struct Target {
    pub(crate) station: Station,
    /// Of its node, ending in the peer id.
    pub(crate) address: Multiaddr,
    _home: Home,
}

impl Target {
    /// A station on the air with its lead full.
    pub(crate) fn start() -> Self {
        let home = Home::new(CONFIG);
        let station = home.start_online();
        station.wait_on_air();
        let address = station.wait_for("settled", |station| {
            let metrics = metrics(&station.text("/metrics"));
            let address = station.json("/station.json")?["addresses"][0].as_str()?.parse().ok()?;
            (metrics["skywave_lead_seconds"] > 11.0).then_some(address)
        });
        Self { station, address, _home: home }
    }

    /// Port of its node.
    pub(crate) fn swarm_port(&self) -> u16 {
        let text = self.address.to_string();
        text.split('/').nth(4).and_then(|port| port.parse().ok()).unwrap()
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        metrics(&self.station.text("/metrics")).get(name).copied().unwrap_or(0.0)
    }

    /// Waits until a metric is that large.
    pub(crate) fn wait_for_metric(&self, name: &str, least: f64) {
        let what = format!("{name} of {least}");
        self.station.wait_for(&what, |_| (self.metric(name) >= least).then_some(()));
    }

    pub(crate) fn watch(&self) -> Watch {
        let (authority, id) = (self.station.url.replace("http://", ""), self.station.id());
        let done = Arc::new(AtomicBool::new(false));
        let until = done.clone();
        Watch { done, seen: std::thread::spawn(move || Listener::connect(&authority).watch(id, &until)) }
    }
}

/// Every sample of the page by its name and labels as they stand there.
fn metrics(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            Some((line.rsplit_once(' ')?.0.to_owned(), line.rsplit_once(' ')?.1.parse().ok()?))
        })
        .collect()
}

/// Resident memory of a process in bytes (proc(5), /proc/pid/statm).
fn resident(id: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

/// What the listener saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Memory at the beginning, and the most of it.
    pub(crate) resident: (usize, usize),
    /// Segments that came on air, and the longest time between two.
    pub(crate) segments: u64,
    pub(crate) longest_gap: Duration,
    pub(crate) asked: usize,
}

impl Seen {
    /// The air went on, and the memory did not grow by more than so many megabytes.
    pub(crate) fn assert_unharmed(&self, megabytes: usize) {
        let grown = self.resident.1.saturating_sub(self.resident.0);
        eprintln!("{self:?}, {} kB grown", grown / 1000);
        assert!(grown < megabytes * 1_000_000, "{grown} bytes: {self:?}");
        assert!(self.segments >= 3 && self.longest_gap < Duration::from_secs(6), "{self:?}");
        assert!(self.resident.0 > 0 || !cfg!(target_os = "linux"), "no memory was measured");
    }
}

/// A listener at work.
pub(crate) struct Watch {
    done: Arc<AtomicBool>,
    seen: JoinHandle<Seen>,
}

impl Watch {
    pub(crate) fn end(self) -> Seen {
        self.done.store(true, Ordering::Relaxed);
        self.seen.join().expect("the listener was served all the time")
    }
}

/// One connection that is used again and again, as players do.
struct Listener {
    stream: BufReader<TcpStream>,
}

impl Listener {
    fn connect(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: station\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status:?}");
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    fn watch(mut self, id: u32, done: &AtomicBool) -> Seen {
        let mut seen =
            Seen { resident: (resident(id), 0), segments: 0, longest_gap: Duration::ZERO, asked: 0 };
        let (mut newest, mut since) = (0.0, Instant::now());
        while !done.load(Ordering::Relaxed) {
            let now = metrics(&self.get("/metrics"))["skywave_newest_segment"];
            seen.longest_gap = seen.longest_gap.max(since.elapsed());
            if now != newest {
                seen.segments += u64::from(newest != 0.0);
                (newest, since) = (now, Instant::now());
            }
            seen.resident.1 = seen.resident.1.max(resident(id));
            seen.asked += 1;
            std::thread::sleep(EVERY);
        }
        seen
    }
}
