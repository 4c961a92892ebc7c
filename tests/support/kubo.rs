//! The real kubo as a peer: a repo of its own in a temporary folder, free ports, loopback and nothing else.
//!
//! No bootstrap, no mDNS, no delegated router, no telemetry, and a filter that lets it dial 127.0.0.0/8 only: what it
//! knows of the network, it has from the test. A kubo that is dropped is killed.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use super::http_client;
use super::station::{Guarded, Kept, PATIENCE, Station, keep, run_to_end, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Everything but 127.0.0.0/8, as addresses that kubo neither dials nor accepts.
const FOREIGN: [&str; 9] = [
    "/ip4/0.0.0.0/ipcidr/2",
    "/ip4/64.0.0.0/ipcidr/3",
    "/ip4/96.0.0.0/ipcidr/4",
    "/ip4/112.0.0.0/ipcidr/5",
    "/ip4/120.0.0.0/ipcidr/6",
    "/ip4/124.0.0.0/ipcidr/7",
    "/ip4/126.0.0.0/ipcidr/8",
    "/ip4/128.0.0.0/ipcidr/1",
    "/ip6/::/ipcidr/0",
];

/// The section `[ipfs]` of a station that is on loopback and knows nobody; keys may follow it.
pub const ALONE: &str = "[ipfs]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n\
                         hole_punching = false\nupnp = false\n";

/// The program: what SKYWAVE_KUBO names, else `ipfs`.
fn program() -> PathBuf {
    std::env::var_os("SKYWAVE_KUBO").map_or_else(|| "ipfs".into(), PathBuf::from)
}

/// Whether kubo is here. Without it a test skips aloud, unless SKYWAVE_PEERS=required: then its absence is a failure.
pub fn available() -> bool {
    let program = program();
    let status = Command::new(&program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let runs = status.is_ok_and(|status| status.success());
    let required = std::env::var("SKYWAVE_PEERS").is_ok_and(|value| value == "required");
    assert!(runs || !required, "SKYWAVE_PEERS=required, but {} does not run", program.display());
    if !runs {
        eprintln!("SKIPPED: no kubo (SKYWAVE_KUBO, or `ipfs` on the PATH)");
    }
    runs
}

/// How a kubo differs from the plainest one.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Sends and takes IPNS records over pubsub.
    pub ipns_over_pubsub: bool,
    /// Content of the repo's swarm.key: a private network.
    pub swarm_key: Option<String>,
    /// `LIBP2P_FORCE_PNET=1`: refuses to run in a network that is not private.
    pub force_private: bool,
    /// Further settings: JSON pointer into kubo's config, and the value.
    pub config: Vec<(&'static str, Value)>,
}

/// A kubo that runs.
pub struct Kubo {
    daemon: Guarded,
    stdout: Kept,
    stderr: Kept,
    setup: Setup,
    /// Removed after the daemon has ended.
    repo: tempfile::TempDir,
    /// Base58 peer id.
    pub peer_id: String,
    /// Port of the RPC.
    pub api_port: u16,
    /// Port of the HTTP gateway.
    pub gateway_port: u16,
    /// Its swarm address with the peer id.
    pub address: String,
}

impl Kubo {
    /// The plainest one.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// Starts the daemon and waits until it is ready; one that is not ready fails the test with what it said.
    pub fn start_with(setup: Setup) -> Self {
        Self::try_start(setup).unwrap_or_else(|said| panic!("kubo ended before it was ready:\n{said}"))
    }

    /// As `start_with`; the error is what a daemon said that ended by itself.
    pub fn try_start(setup: Setup) -> Result<Self, String> {
        let repo = make_repo(&setup);
        let mut command = command_in(repo.path(), &setup);
        command.args(["daemon", "--migrate=false"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut daemon = Guarded(command.spawn().expect("kubo starts"));
        let stdout = keep(daemon.0.stdout.take().expect("piped"));
        let stderr = keep(daemon.0.stderr.take().expect("piped"));
        let said = || format!("{}{}", stdout.text(), stderr.text());
        wait_until("a kubo that is ready", || match daemon.0.try_wait().expect("a child of ours") {
            Some(_) => Some(Err(said())),
            None => stdout.text().contains("Daemon is ready").then_some(Ok(())),
        })?;
        let api_port = port_in(&repo.path().join("api"));
        let gateway_port = port_in(&repo.path().join("gateway"));
        let (peer_id, address) = (String::new(), String::new());
        let mut kubo = Self { daemon, stdout, stderr, setup, repo, peer_id, api_port, gateway_port, address };
        let id = kubo.rpc_json("id");
        kubo.peer_id = id["ID"].as_str().expect("a peer id").to_owned();
        kubo.address = id["Addresses"][0].as_str().expect("an address").to_owned();
        Ok(kubo)
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        format!("{}{}", self.stdout.text(), self.stderr.text())
    }

    /// Process id of the daemon.
    pub fn process_id(&self) -> u32 {
        self.daemon.0.id()
    }

    /// A folder of the test's own, gone with the kubo.
    pub fn folder(&self) -> &Path {
        self.repo.path()
    }

    /// `ipfs` with these arguments, to its end: what it printed. A bad exit fails the test.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "ipfs {}: {stderr}\nthe daemon said\n{}",
            arguments.join(" "),
            self.log()
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// `ipfs` with these arguments, to whatever end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        let mut command = command_in(self.repo.path(), &self.setup);
        command.args(arguments);
        run_to_end(command)
    }

    /// The RPC, such as `dag/export?arg=...`: the body of an answer that must be well.
    pub fn rpc(&self, call: &str) -> Vec<u8> {
        self.try_rpc(call).unwrap_or_else(|error| panic!("{error}\nthe daemon said\n{}", self.log()))
    }

    /// The RPC; the error is what it says.
    pub fn try_rpc(&self, call: &str) -> Result<Vec<u8>, String> {
        let url = format!("http://127.0.0.1:{}/api/v0/{call}", self.api_port);
        let answer = http_client::request("POST", &url, &[("Content-Length", "0")], PATIENCE)?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(format!("{call}: {status} {}", String::from_utf8_lossy(&answer.body))),
        }
    }

    /// The RPC, where it answers with one JSON document.
    pub fn rpc_json(&self, call: &str) -> Value {
        serde_json::from_slice(&self.rpc(call)).unwrap_or_else(|error| panic!("{call}: {error}"))
    }

    /// Its HTTP gateway, without a slash at the end.
    pub fn gateway(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway_port)
    }

    /// Connects to a full address, `.../p2p/<peer id>`.
    pub fn connect(&self, address: &str) {
        self.run(&["swarm", "connect", address]);
    }

    /// Peer ids of all that it is connected to.
    pub fn peers(&self) -> Vec<String> {
        let peers = self.rpc_json("swarm/peers");
        let list = peers["Peers"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|peer| peer["Peer"].as_str().map(str::to_owned)).collect()
    }

    /// All blocks below a root, as `dag export` gives them, and the root that the CAR names.
    pub fn export(&self, root: &str) -> (Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>) {
        read_car(&self.rpc(&format!("dag/export?arg={root}&progress=false")))
    }
}

/// The first address of a station's node, from its station.json as it stands.
pub fn address_of(station: &Station) -> String {
    station.wait_for("an address in station.json", |station| {
        Some(station.json("/station.json")?["addresses"][0].as_str()?.to_owned())
    })
}

/// The root of the stream tree that is on air now.
pub fn root_of(station: &Station) -> String {
    let answer = station.request("HEAD", &format!("/ipns/{}/stream.m3u8", station.ipns), &[]);
    let roots = answer.header("x-ipfs-roots").expect("X-Ipfs-Roots");
    roots.split(',').next().expect("a first root").to_owned()
}

/// `ipfs init`, and a config that knows nobody outside.
fn make_repo(setup: &Setup) -> tempfile::TempDir {
    let repo = tempfile::tempdir().expect("a folder for kubo");
    let mut init = command_in(repo.path(), setup);
    init.args(["init", "--profile=test", "--empty-repo"]);
    let output = run_to_end(init);
    assert!(output.status.success(), "ipfs init: {}", String::from_utf8_lossy(&output.stderr));
    let path = repo.path().join("config");
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("made by init")).expect("JSON");
    for (pointer, value) in settings(setup) {
        set(&mut config, pointer, value);
    }
    std::fs::write(&path, config.to_string()).expect("the folder is writable");
    if let Some(key) = &setup.swarm_key {
        std::fs::write(repo.path().join("swarm.key"), key).expect("the folder is writable");
    }
    repo
}

/// On top of kubo's profile "test": loopback, free ports, no bootstrap, no mDNS, no AutoConf, no AutoTLS, and
/// loopback addresses let into the LAN's DHT.
fn settings(setup: &Setup) -> Vec<(&'static str, Value)> {
    let mut settings = vec![
        ("/Routing/Type", json!("dht")),
        ("/Swarm/AddrFilters", json!(FOREIGN)),
        ("/Swarm/EnableHolePunching", json!(false)),
        ("/Swarm/RelayClient/Enabled", json!(false)),
        ("/Swarm/RelayService/Enabled", json!(false)),
        ("/Swarm/Transports/Network/QUIC", json!(false)),
        ("/Swarm/Transports/Network/WebRTCDirect", json!(false)),
        ("/Swarm/Transports/Network/WebTransport", json!(false)),
        ("/Swarm/Transports/Network/Relay", json!(false)),
        ("/HTTPRetrieval/Enabled", json!(false)),
        ("/Ipns/UsePubsub", json!(setup.ipns_over_pubsub)),
        ("/Version/SwarmCheckEnabled", json!(false)),
        ("/Plugins/Plugins", json!({ "telemetry": { "Disabled": true } })),
    ];
    settings.extend(setup.config.iter().cloned());
    settings
}

/// Sets a value by its JSON pointer; objects on the way are made.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for key in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = value;
}

/// `ipfs` on this repo; nothing of the user's own kubo is seen.
fn command_in(repo: &Path, setup: &Setup) -> Command {
    let mut command = Command::new(program());
    command.env("IPFS_PATH", repo).env("HOME", repo).env("IPFS_TELEMETRY", "off").stdin(Stdio::null());
    for name in ["LIBP2P_FORCE_PNET", "IPFS_LOGGING", "GOLOG_LOG_LEVEL", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    if setup.force_private {
        command.env("LIBP2P_FORCE_PNET", "1");
    }
    command
}

/// The port at the end of a multiaddr or URL that the daemon has left in a file.
fn port_in(path: &Path) -> u16 {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits = text.trim().rsplit(|c: char| !c.is_ascii_digit()).next().expect("a last part");
    digits.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// A CARv1 (IPLD, "CARv1"): its header as it stands, and every block by the bytes of its CID.
pub fn read_car(car: &[u8]) -> (Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut rest = car;
    let header = section(&mut rest).to_vec();
    let mut blocks = BTreeMap::new();
    while !rest.is_empty() {
        let mut block = section(&mut rest);
        let cid = cid::Cid::read_bytes(&mut block).expect("a CID before every block");
        blocks.insert(cid.to_bytes(), block.to_vec());
    }
    (header, blocks)
}

/// One section: its length as an unsigned LEB128, then that many bytes.
fn section<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|byte| byte & 0x80 == 0).expect("an end of the length");
    let length = rest[..=end].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    let (section, after) = rest[end + 1..].split_at(length);
    *rest = after;
    section
}
