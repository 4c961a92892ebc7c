//! Segments served per second of CPU time: our gateway, kubo's, and nginx with the same bytes as static files, each
//! driven by wrk in turn. Figures and method: docs/benchmarks.md.
//!
//! `cargo bench --bench gateway`. `SKYWAVE_BIN` names another build of the program to measure; kubo is what
//! `SKYWAVE_KUBO` names, else `ipfs` on the PATH; nginx and wrk are taken from the PATH.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench talks to whoever runs it"
)]

#[path = "../tests/support"]
#[allow(unused_imports, reason = "their unit tests run with the tests, not here")]
mod support {
    pub(crate) mod http_client;
    pub(crate) mod kubo;
    pub(crate) mod station;
}
#[path = "gateway/nginx.rs"]
mod nginx;
#[path = "station/process.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod process;
#[path = "gateway/wrk.rs"]
mod wrk;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nginx::Nginx;
use process::{Station, cpu_seconds};
use support::kubo::{self, Kubo};
use support::station::wait_until;
use wrk::Load;

/// Turns of each server; they alternate, so that what else runs on the machine meets all of them.
const ROUNDS: usize = 3;
/// Length of one turn. All turns of a round must fit into the minute that a root outlives the next one.
const TURN: Duration = Duration::from_secs(6);
/// Segments per rendition to ask for, in turn.
const SEGMENTS: usize = 5;

/// The segments that are asked for: their path in the stream tree, CID and bytes.
type Corpus = BTreeMap<String, (String, Vec<u8>)>;

/// A server under load: its CPU time so far, and what was measured in each turn.
struct Server<'a> {
    name: &'static str,
    authority: String,
    cpu: Box<dyn Fn() -> f64 + 'a>,
    turns: Vec<(Load, f64)>,
}

impl Server<'_> {
    fn turn(&mut self, folder: &Path, paths: &[String]) {
        let before = (self.cpu)();
        let load = wrk::run(folder, &self.authority, paths, TURN);
        self.turns.push((load, (self.cpu)() - before));
    }

    /// Segments per second of CPU time, over all turns.
    fn per_cpu_second(&self) -> f64 {
        let segments: u64 = self.turns.iter().map(|(load, _)| load.requests).sum();
        segments as f64 / self.turns.iter().map(|(_, cpu)| cpu).sum::<f64>()
    }

    fn report(&self) {
        let mean = |value: fn(&Load) -> f64| {
            self.turns.iter().map(|(load, _)| value(load)).sum::<f64>() / self.turns.len() as f64
        };
        println!(
            "  {:8} {:8.0} segments per CPU second; {:7.0} a second, {:6.1} MB/s, p50 {:.2} ms, p99 {:.2} ms",
            self.name,
            self.per_cpu_second(),
            mean(|load| load.requests as f64 / load.seconds),
            mean(|load| load.bytes as f64 / load.seconds / 1e6),
            mean(|load| load.p50_ms),
            mean(|load| load.p99_ms),
        );
    }
}

fn main() {
    if !(kubo::available() && Nginx::available() && wrk::available()) {
        return println!("kubo, nginx or wrk is missing: nothing to compare with");
    }
    let folder = tempfile::tempdir().unwrap();
    let music = folder.path().join("music");
    fs::create_dir(&music).unwrap();
    let station = Station::start(&folder.path().join("station"), &music, &[]);
    // While the lead is encoded, the station has more to do than to serve.
    station.wait_for_lead(Duration::from_secs(55));
    let corpus = corpus(&station);
    let kubo = Kubo::start();
    let root = add(&kubo, folder.path(), &corpus);
    let nginx = Nginx::start(folder.path(), &folder.path().join("files"));
    let bytes: usize = corpus.values().map(|(_, bytes)| bytes.len()).sum();
    println!("gateway: {} segments of {} kB on average", corpus.len(), bytes / corpus.len() / 1000);
    println!("by CID, /ipfs/<cid>");
    let paths: Vec<_> = corpus.values().map(|(cid, _)| format!("/ipfs/{cid}")).collect();
    compare(folder.path(), &station, &kubo, &nginx, |_| paths.clone());
    println!("by path, /ipfs/<root>/<rendition>/<n>.m4s");
    compare(folder.path(), &station, &kubo, &nginx, |name| match name {
        "skywave" => under(&newest_root(&station), &corpus),
        _ => under(&root, &corpus),
    });
}

fn under(root: &str, corpus: &Corpus) -> Vec<String> {
    corpus.keys().map(|path| format!("/ipfs/{root}/{path}")).collect()
}

/// All three in turn, and the ratios.
fn compare(
    folder: &Path,
    station: &Station,
    kubo: &Kubo,
    nginx: &Nginx,
    paths: impl Fn(&str) -> Vec<String>,
) {
    let server = |name, authority: String, cpu| Server { name, authority, cpu, turns: Vec::new() };
    let mut servers = [
        server(
            "skywave",
            station.authority().to_owned(),
            Box::new(|| station.cpu_seconds()) as Box<dyn Fn() -> f64>,
        ),
        server(
            "kubo",
            format!("127.0.0.1:{}", kubo.gateway_port),
            Box::new(|| cpu_seconds(kubo.process_id())),
        ),
        server("nginx", nginx.authority(), Box::new(|| nginx.cpu_seconds())),
    ];
    for _ in 0..ROUNDS {
        for server in &mut servers {
            let paths = paths(server.name);
            server.turn(folder, &paths);
        }
    }
    servers.iter().for_each(Server::report);
    let [ours, kubos, nginxs] = servers.each_ref().map(Server::per_cpu_second);
    println!("  ours to kubo {:.2} to 1, nginx to ours {:.2} to 1", ours / kubos, nginxs / ours);
}

/// The newest segments of every rendition, with the CIDs that our gateway gives as their ETags.
fn corpus(station: &Station) -> Corpus {
    let mut corpus = Corpus::new();
    for rendition in ["lofi", "midfi", "hifi"] {
        let names = wait_until("enough segments", || {
            let playlist = String::from_utf8(station.get(&format!("/live/{rendition}/live.m3u8"))?).ok()?;
            let names: Vec<_> =
                playlist.lines().filter(|line| line.ends_with(".m4s")).map(str::to_owned).collect();
            (names.len() >= SEGMENTS).then_some(names)
        });
        for name in &names[names.len() - SEGMENTS..] {
            let path = format!("{rendition}/{name}");
            let url = format!("http://{}/live/{path}", station.authority());
            let answer = support::http_client::get(&url, Duration::from_secs(10)).unwrap();
            let cid = answer.header("etag").unwrap().trim_matches('"').to_owned();
            corpus.insert(path, (cid, answer.body));
        }
    }
    corpus
}

/// The newest root of the station, which its gateway holds for another minute.
fn newest_root(station: &Station) -> String {
    let station_json: serde_json::Value =
        serde_json::from_slice(&station.get("/station.json").unwrap()).unwrap();
    let url = format!("http://{}/ipns/{}/", station.authority(), station_json["ipns"].as_str().unwrap());
    let answer = support::http_client::request("HEAD", &url, &[], Duration::from_secs(10)).unwrap();
    answer.header("x-ipfs-roots").unwrap().split(',').next().unwrap().to_owned()
}

/// Writes the segments to `files`, by path and by CID, and has kubo add them; the root in kubo.
fn add(kubo: &Kubo, folder: &Path, corpus: &Corpus) -> String {
    let (files, tree) = (folder.join("files"), folder.join("tree"));
    fs::create_dir_all(files.join("ipfs")).unwrap();
    for (path, (cid, bytes)) in corpus {
        let place = tree.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
        fs::write(files.join("ipfs").join(cid), bytes).unwrap();
    }
    let place = tree.to_str().unwrap();
    let root =
        kubo.run(&["add", "-r", "-Q", "--cid-version=1", "--raw-leaves", "--chunker=size-1048576", place]);
    let root = root.trim().to_owned();
    for (path, (cid, _)) in corpus {
        let resolved = kubo.run(&["resolve", &format!("/ipfs/{root}/{path}")]);
        assert_eq!(resolved.trim(), format!("/ipfs/{cid}"), "kubo cuts {path} in another way");
    }
    fs::rename(tree, files.join("ipfs").join(&root)).unwrap();
    root
}
