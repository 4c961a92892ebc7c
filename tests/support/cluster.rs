//! The real ipfs-cluster as a pinning service: peers in CRDT mode, each with a kubo of its own, on loopback alone.
//!
//! A peer that is dropped is killed.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use super::http_client;
use super::kubo::Kubo;
use super::station::{Guarded, Kept, PATIENCE, keep, run_to_end, wait_until};
use cid::multibase::Base;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who is let into the API.
pub const LOGIN: &str = "skywave:of-the-test";
/// Who is let into the cluster.
const SECRET: &str = "5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4";

/// The program: what SKYWAVE_CLUSTER names, else `ipfs-cluster-service`.
fn program() -> PathBuf {
    std::env::var_os("SKYWAVE_CLUSTER").map_or_else(|| "ipfs-cluster-service".into(), PathBuf::from)
}

/// Whether it is here. Without it a test skips aloud, unless SKYWAVE_PEERS=required: then its absence is a failure.
pub fn available() -> bool {
    let program = program();
    let status = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let runs = status.is_ok_and(|status| status.success());
    let required = std::env::var("SKYWAVE_PEERS").is_ok_and(|value| value == "required");
    assert!(runs || !required, "SKYWAVE_PEERS=required, but {} does not run", program.display());
    if !runs {
        eprintln!("SKIPPED: no ipfs-cluster (SKYWAVE_CLUSTER, or `ipfs-cluster-service` on the PATH)");
    }
    runs
}

/// A peer of a cluster.
pub struct Cluster {
    daemon: Guarded,
    said: Kept,
    folder: tempfile::TempDir,
    /// Its address with the peer id.
    pub address: String,
    /// Port of the Pinning Services API.
    pub port: u16,
}

impl Cluster {
    /// A peer that pins on `kubo`, in the cluster of `other` where there is one.
    pub fn start(kubo: &Kubo, other: Option<&Cluster>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a cluster peer");
        let mut init = command_in(folder.path());
        init.args(["init", "--consensus", "crdt", "--datastore", "leveldb"]).env("CLUSTER_SECRET", SECRET);
        let output = run_to_end(init);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        configure(folder.path(), 0, kubo);
        let (daemon, said, address, port) = run(folder.path(), other);
        Self { daemon, said, folder, address, port }
    }

    /// The URL of its Pinning Services API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A token that lets in whoever has it.
    pub fn token(&self) -> String {
        let answer = self.ask("POST", "/token");
        answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Name, CID and status of all pins, sorted.
    pub fn pins(&self) -> Vec<(String, String, String)> {
        let answer = self.ask("GET", "/pins?status=queued,pinning,pinned,failed&limit=1000");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pins = answer["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let pin = |pin: &Value| (text(&pin["pin"]["name"]), text(&pin["pin"]["cid"]), text(&pin["status"]));
        let mut pins: Vec<_> = pins.iter().map(pin).collect();
        pins.sort();
        pins
    }

    fn ask(&self, method: &str, target: &str) -> Value {
        let login = format!("Basic {}", Base::Base64Pad.encode(LOGIN));
        let fields = [("Authorization", login.as_str()), ("Content-Length", "0")];
        let answer = http_client::request(method, &format!("{}{target}", self.url()), &fields, PATIENCE);
        let answer = answer.unwrap_or_else(|error| panic!("{target}: {error}\n{}", self.said.text()));
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("{target}: {} {error}", answer.status))
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        self.said.text()
    }

    /// Kills the daemon; its folder and its port stay.
    pub fn kill(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.daemon.0.kill();
        let _ = self.daemon.0.wait();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self, kubo: &Kubo, other: &Cluster) {
        configure(self.folder.path(), self.port, kubo);
        (self.daemon, self.said, self.address, self.port) = run(self.folder.path(), Some(other));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the cluster peer at {} said\n{}", self.address, self.said.text());
        }
    }
}

/// Loopback, no mDNS, no other API, and short intervals.
fn configure(folder: &Path, port: u16, kubo: &Kubo) {
    let path = folder.join("service.json");
    let text = std::fs::read(&path).expect("made by init");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    let (user, password) = LOGIN.split_once(':').expect("user and password");
    config["cluster"]["listen_multiaddress"] = json!(["/ip4/127.0.0.1/tcp/0"]);
    config["cluster"]["mdns_interval"] = json!("0s");
    config["cluster"]["enable_relay_hop"] = json!(false);
    config["cluster"]["pin_recover_interval"] = json!("5s");
    config["cluster"]["state_sync_interval"] = json!("5s");
    let api = json!({
        "http_listen_multiaddress": format!("/ip4/127.0.0.1/tcp/{port}"),
        "basic_auth_credentials": { user: password },
    });
    config["api"] = json!({ "pinsvcapi": api });
    config["ipfs_connector"]["ipfshttp"]["node_multiaddress"] =
        json!(format!("/ip4/127.0.0.1/tcp/{}", kubo.api_port));
    config["ipfs_connector"]["ipfshttp"]["connect_swarms_delay"] = json!("1h");
    std::fs::write(&path, config.to_string()).expect("the folder is writable");
}

/// Starts the daemon and waits until it is ready: it, what it says, its address and the port of its API.
fn run(folder: &Path, other: Option<&Cluster>) -> (Guarded, Kept, String, u16) {
    let mut command = command_in(folder);
    command.arg("daemon").stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(other) = other {
        command.args(["--bootstrap", &other.address]);
    }
    let mut daemon = Guarded(command.spawn().expect("ipfs-cluster starts"));
    let said = keep(daemon.0.stderr.take().expect("piped"));
    wait_until("a cluster peer that is ready", || {
        let ended = daemon.0.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "the cluster peer ended: {}", said.text());
        said.text().contains("READY").then_some(())
    });
    let text = said.text();
    let line = |mark: &str| text.lines().find(|line| line.contains(mark)).unwrap_or_else(|| panic!("{text}"));
    let address = line("/ip4/127.0.0.1/tcp/").trim().to_owned();
    let port = line("PINSVCAPI").rsplit('/').next().and_then(|port| port.trim().parse().ok());
    (daemon, said, address, port.unwrap_or_else(|| panic!("{text}")))
}

/// The program in a folder; nothing of the user's own cluster is seen.
fn command_in(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("--config").arg(folder).env("HOME", folder).stdin(Stdio::null());
    for name in ["CLUSTER_SECRET", "IPFS_CLUSTER_PATH"] {
        command.env_remove(name);
    }
    command
}
