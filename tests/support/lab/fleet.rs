//! An origin and its relays as programs, each in a place of its own of a [`Lab`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use skywave::ipfs::ipns::Name;

use super::super::http_client;
use super::super::station::{Home, PATIENCE, REQUEST, Station};
use super::figures::Figures;
use super::{Lab, Place};

/// The origin's place.
pub const ORIGIN: usize = 1;
/// How long a segment is.
pub const SEGMENT: Duration = Duration::from_millis(3_840);
const LOOK: Duration = Duration::from_millis(200);

/// What the nodes of a fleet have in common.
#[derive(Debug, Clone)]
pub struct Plan {
    pub relays: usize,
    pub lead: Duration,
    /// Names and bit rates.
    pub renditions: Vec<(&'static str, u32)>,
    /// Content of `swarm.key`, the same at all.
    pub swarm_key: Option<String>,
}

impl Plan {
    /// One cheap rendition: where bandwidth is not the point, nine programs share few cores.
    pub fn new(relays: usize, lead: Duration) -> Self {
        Self { relays, lead, renditions: vec![("lofi", 32_000)], swarm_key: None }
    }

    pub fn rendition_names(&self) -> Vec<&'static str> {
        self.renditions.iter().map(|(name, _)| *name).collect()
    }

    fn origin(&self, address: Ipv4Addr) -> String {
        let lead = self.lead.as_secs();
        let rendition = |(name, bitrate): &(&str, u32)| {
            format!("[[encoder.rendition]]\nname = \"{name}\"\nbitrate = {bitrate}\nafterburner = false\n")
        };
        let renditions: String = self.renditions.iter().map(rendition).collect();
        let hls = format!("[hls]\nlead = \"{lead}s\"\nident_lead = \"{lead}s\"\n");
        format!("{renditions}{hls}{}", node(address, &[]))
    }

    fn relay(&self, address: Ipv4Addr, name: &str, origin: &str) -> String {
        format!("follow = \"{name}\"\n{}", node(address, &[origin]))
    }
}

/// Nobody is looked for but the peers that are named.
fn node(address: Ipv4Addr, peers: &[&str]) -> String {
    format!(
        "[ipfs]\nlisten = [\"/ip4/{address}/tcp/4001\"]\npeers = {peers:?}\ndht = \"off\"\nbootstrap = []\nmdns = false\n\
         hole_punching = false\nupnp = false\nclock = \"trusted\"\n[http]\npublic = [\"http://{address}:8080\"]\n"
    )
}

/// What is tried: this build, or the one that SKYWAVE_BIN names.
fn program() -> String {
    std::env::var("SKYWAVE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_skywave").to_owned())
}

/// One node: its folder stays while its program comes and goes.
pub struct Node {
    /// Its place in the lab.
    pub place: usize,
    /// Where its web server is.
    pub url: String,
    home: Home,
    station: Option<Station>,
}

impl Node {
    fn new(place: &Place, number: usize, sections: &str, plan: &Plan) -> Self {
        let home = Home::new(sections);
        let node = Self { place: number, url: format!("http://{}:8080", place.address), home, station: None };
        plan.swarm_key.iter().for_each(|key| node.set_swarm_key(key));
        node
    }

    /// Gives it this key of a private network, from its next start on.
    pub fn set_swarm_key(&self, key: &str) {
        std::fs::create_dir_all(self.home.data()).expect("the folder is writable");
        std::fs::write(self.home.data().join("swarm.key"), key).expect("the folder is writable");
    }

    /// Leaves nothing of what a stopped node held of the station.
    pub fn forget_blocks(&self) {
        std::fs::remove_dir_all(self.home.data().join("ipfs")).expect("the repo");
    }

    /// Starts the program in its place.
    pub fn start(&mut self, lab: &Lab) {
        let place = lab.place(self.place);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", &program(), "run"]);
        command.args(["--http", &format!("{}:8080", place.address)]).stdin(std::process::Stdio::null());
        command.arg("--config").arg(self.home.config()).arg("--data").arg(self.home.data());
        self.station = Some(place.run(move || Station::start(command)));
    }

    /// The running program.
    pub fn station(&self) -> &Station {
        self.station.as_ref().expect("it was started")
    }

    /// SIGKILL: as if the power went.
    pub fn kill(&mut self) {
        self.station.take().expect("it was started").kill();
    }

    /// `/health`, or nothing where it does not answer.
    pub fn health(&self) -> Option<serde_json::Value> {
        let answer = http_client::get(&format!("{}/health", self.url), REQUEST).ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    pub fn newest(&self) -> Option<u64> {
        self.health()?["newest"].as_u64()
    }

    pub fn lead(&self) -> Duration {
        let lead = self.health().and_then(|health| health["lead_seconds"].as_f64());
        Duration::from_secs_f64(lead.unwrap_or(0.0).max(0.0))
    }

    pub fn on_air(&self) -> bool {
        http_client::get(&format!("{}/readyz", self.url), REQUEST).is_ok_and(|answer| answer.status == 200)
    }

    /// What `/metrics` says.
    pub fn figures(&self) -> Figures {
        Figures::parse(&self.station().text("/metrics"))
    }

    /// Newest number on air, and the root that the station's name leads to here.
    pub fn stands_at(&self, name: &str) -> Option<(u64, String)> {
        let tree = format!("{}/ipns/{name}/stream.m3u8", self.url);
        let answer = http_client::get(&tree, REQUEST).ok()?;
        let root = answer.header("x-ipfs-roots")?.split(',').next()?.to_owned();
        Some((self.newest()?, root))
    }
}

/// An origin and relays.
pub struct Fleet {
    pub origin: Node,
    pub relays: Vec<Node>,
    /// The station's name.
    pub name: String,
    /// Last, so that programs end before their places.
    pub lab: Lab,
}

impl Fleet {
    /// Starts all and waits until all are on air, the origin with its whole lead.
    pub fn start(plan: &Plan) -> Self {
        Self::start_on(Lab::new(1 + plan.relays), plan)
    }

    pub fn start_on(lab: Lab, plan: &Plan) -> Self {
        let mut fleet = Self::start_origin(lab, plan);
        fleet.start_relays(plan.relays);
        fleet
    }

    /// Starts the origin alone; the relays have their folders.
    pub fn start_origin(lab: Lab, plan: &Plan) -> Self {
        let place = lab.place(ORIGIN);
        let mut origin = Node::new(place, ORIGIN, &plan.origin(place.address), plan);
        origin.start(&lab);
        let name = origin.station().ipns.clone();
        let peer = Name::parse(&name).expect("the station says its name").peer_id();
        let address = format!("/ip4/{}/tcp/4001/p2p/{peer}", place.address);
        let relay = |number| {
            let place = lab.place(number);
            Node::new(place, number, &plan.relay(place.address, &name, &address), plan)
        };
        let relays = (ORIGIN + 1..=ORIGIN + plan.relays).map(relay).collect();
        let fleet = Self { origin, relays, name, lab };
        let needs = plan.lead.saturating_sub(3 * SEGMENT);
        fleet.wait("the origin's lead", PATIENCE * 2, |fleet| fleet.origin.lead() >= needs);
        fleet
    }

    /// Starts relays until so many run, and waits until they are on air.
    pub fn start_relays(&mut self, count: usize) {
        let lab = &self.lab;
        self.relays[..count]
            .iter_mut()
            .filter(|relay| relay.station.is_none())
            .for_each(|relay| relay.start(lab));
        self.wait("every relay on air", PATIENCE * 3, |fleet| fleet.running().all(Node::on_air));
    }

    /// The relays that run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.relays.iter().filter(|relay| relay.station.is_some())
    }

    /// Waits until every relay holds so much ahead of air.
    pub fn wait_for_lead(&self, lead: Duration) {
        self.wait("the lead at every relay", PATIENCE * 2, |fleet| {
            fleet.running().all(|relay| relay.lead() >= lead)
        });
    }

    /// Looks until it is so; how long that took. Panics with what every node says where it takes too long.
    pub fn wait(&self, what: &str, within: Duration, mut look: impl FnMut(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !look(self) {
            assert!(began.elapsed() < within, "{what}: not within {within:?}\n{}", self.told());
            std::thread::sleep(LOOK);
        }
        began.elapsed()
    }

    /// Waits until all have the same newest number and the same root as the origin.
    pub fn wait_until_converged(&self, within: Duration) -> Duration {
        self.wait("the same root everywhere", within, Self::converged)
    }

    fn converged(&self) -> bool {
        let Some(origin) = self.origin.stands_at(&self.name) else { return false };
        self.running().all(|relay| relay.stands_at(&self.name).as_ref() == Some(&origin))
    }

    /// What every node says of itself, for who reads why a test failed.
    pub fn told(&self) -> String {
        let nodes = std::iter::once(&self.origin).chain(self.running());
        let told: BTreeMap<_, _> = nodes.map(|node| (node.place, Self::told_by(node, &self.name))).collect();
        told.into_iter().map(|(place, told)| format!("{place}: {told}\n")).collect()
    }

    fn told_by(node: &Node, name: &str) -> String {
        let Some(health) = node.health() else { return "no answer".into() };
        let said = node.station.as_ref().map(Station::stderr).unwrap_or_default();
        let said: Vec<_> = said.lines().rev().take(4).collect();
        let place = node.stands_at(name);
        format!(
            "{place:?} lead {} {} {}\n  {}",
            health["lead_seconds"],
            health["status"],
            health["notices"],
            said.join("\n  ")
        )
    }
}
