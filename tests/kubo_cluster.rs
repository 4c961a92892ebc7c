//! A real ipfs-cluster keeps the station: two peers, each with a kubo, reached by the Pinning Services API.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod archive_rig;
    pub(crate) mod cluster;
    pub(crate) mod http_client;
    pub(crate) mod kubo;
    pub(crate) mod media;
    pub(crate) mod station;
}

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use skywave::ipfs::Blocks;
use support::archive_rig::{EVENING, Rig};
use support::cluster::{self, Cluster, LOGIN};
use support::kubo::{self, ALONE, Kubo, Setup};
use support::media::{Depth, sines, wav};
use support::station::{Home, Station};

/// Key of the private network, in kubo's format.
const SWARM_KEY: &str =
    "/key/swarm/psk/1.0.0/\n/base16/\n7777777777777777777777777777777777777777777777777777777777777777\n";

/// Two kubos that know nobody, and the cluster above them.
struct Engines {
    kubos: [Kubo; 2],
    /// What a kubo has pinned before anybody asks it to.
    before: [HashSet<String>; 2],
    peers: [Cluster; 2],
}

impl Engines {
    fn start(setup: &Setup) -> Self {
        let kubos = [0, 1].map(|_| Kubo::start_with(setup.clone()));
        let before = [0, 1].map(|index| recursive(&kubos[index]));
        let first = Cluster::start(&kubos[0], None);
        let second = Cluster::start(&kubos[1], Some(&first));
        Self { kubos, before, peers: [first, second] }
    }

    /// The one pin of this name, where it is the only one.
    fn pin(&self, name: &str) -> Option<(String, String)> {
        let mut pins = self.peers[0].pins();
        pins.retain(|(known, _, _)| known == name);
        match pins.as_slice() {
            [(_, cid, status)] => Some((cid.clone(), status.clone())),
            _ => None,
        }
    }

    /// Waits until both kubos hold the pin of this name, and no other recursive pin than these names have.
    fn both_hold(&self, station: &Station, name: &str, others: &[&str]) -> String {
        station.wait_for("a root pinned on both kubos", |_| {
            let (root, status) = self.pin(name)?;
            let mut pins: HashSet<_> = HashSet::from([root.clone()]);
            for other in others {
                pins.insert(self.pin(other)?.0);
            }
            let of = |(kubo, before)| recursive(kubo).difference(before).cloned().collect::<HashSet<_>>();
            let same = self.kubos.iter().zip(&self.before).map(of).all(|held| held == pins);
            (same && status == "pinned").then_some(root)
        })
    }
}

/// CIDs that kubo holds a recursive pin of.
fn recursive(kubo: &Kubo) -> HashSet<String> {
    let said = kubo.run(&["pin", "ls", "--quiet", "--type=recursive"]);
    said.lines().map(str::to_owned).collect()
}

fn home(ipfs: &str, pins: &str) -> Home {
    let home = Home::new(&format!("{pins}\n[player]\norder = \"ordered\"\n{ipfs}"));
    let tone = sines(44_100, 0, 20 * 44_100, &[(440.0, 0.3); 2]);
    home.add("tone.wav", &wav(44_100, 2, None, Depth::S16, &tone));
    home
}

fn health(station: &Station, name: &str) -> Value {
    station.json("/health").unwrap_or_default()["pins"][name].clone()
}

fn block(cluster: &Cluster, name: &str, authorization: &str) -> String {
    format!(
        "[[pin]]\nurl = {:?}\nname = {name:?}\nauthorization = {authorization:?}\nevery = \"5s\"\n",
        cluster.url()
    )
}

#[test]
fn a_cluster_keeps_the_newest_root_on_both_of_its_kubos_whatever_happens_to_its_api() {
    if !(kubo::available() && cluster::available()) {
        return;
    }
    let mut engines = Engines::start(&Setup::default());
    let by_token = block(&engines.peers[0], "cluster", &format!("bearer:{}", engines.peers[0].token()));
    let wrong = block(&engines.peers[1], "stranger", "basic:skywave:wrong");
    let home = home(&format!("{ALONE}bootstrap = []\n"), &format!("{by_token}{wrong}"));
    let station = home.start_online();
    let name = format!("skywave/{}", station.ipns);

    // Nobody connects them but the addresses that pins and answers carry.
    let mut roots = HashSet::new();
    for _ in 0..4 {
        let root = station.wait_for("another root", |_| {
            let seen = engines.peers[0].pins();
            assert!(
                seen.iter().filter(|(known, _, _)| *known == name).count() <= 2,
                "pins pile up: {seen:?}"
            );
            Some(engines.pin(&name)?.0).filter(|root| !roots.contains(root))
        });
        roots.insert(root);
    }
    roots.insert(engines.both_hold(&station, &name, &[]));
    station.wait_for("a pinned root in /health", |station| {
        let report = health(station, "cluster");
        (report["state"] == "pinned" && report["newest"].is_u64()).then_some(())
    });

    let stranger = health(&station, "stranger");
    let words = stranger["last_error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        stranger["state"] == "failing" && words.contains("status 401; check `authorization`"),
        "{stranger}"
    );
    let told = station.stderr().matches("status 401").count();
    assert_eq!(told, 1, "said once:\n{}", station.stderr());

    let [first, second] = &mut engines.peers;
    first.kill();
    station.wait_for("a service that is away", |station| {
        let report = health(station, "cluster");
        let error = report["last_error"]["message"].as_str()?;
        (report["state"] == "failing" && error.contains("cannot connect to 127.0.0.1")).then_some(())
    });
    first.restart(&engines.kubos[0], second);
    let newest = station.wait_for("the service back", |station| {
        let report = health(station, "cluster");
        (report["state"] == "pinned").then(|| report["newest"].as_u64())?
    });
    let root = engines.both_hold(&station, &name, &[]);
    assert!(!roots.contains(&root), "a root of before");
    assert!(newest > 0);

    // The station is gone, and the cluster has all of it.
    station.terminate();
    for kubo in &engines.kubos {
        let listed = kubo.run(&["--offline", "refs", "--recursive", &root]);
        assert!(listed.lines().count() > 10, "{listed}");
    }
}

#[test]
fn in_a_private_network_cluster_kubo_and_relay_get_the_station_and_nobody_else_could() {
    if !(kubo::available() && cluster::available()) {
        return;
    }
    let private = Setup { swarm_key: Some(SWARM_KEY.into()), force_private: true, ..Setup::default() };
    let engines = Engines::start(&private);
    let pins = block(&engines.peers[0], "cluster", &format!("basic:{LOGIN}"));
    let home = home(&format!("{ALONE}bootstrap = []\n"), &format!("{pins}\n[retention]\narchive = true\n"));
    std::fs::create_dir_all(home.data()).unwrap();
    std::fs::write(home.data().join("swarm.key"), SWARM_KEY).unwrap();
    // A minute of a day that is over, and a day after it.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let rig = Rig::start(&home.data().join("archive"), 1 << 40, Blocks::in_memory(), Vec::new()).await;
        rig.air(EVENING..EVENING + 32).await;
        rig.air(EVENING + 22_500..EVENING + 22_532).await;
        rig.end().await;
    });
    let station = home.start_online();
    let name = format!("skywave/{}", station.ipns);
    // Once today's first minute is in the archive, both are over.
    let [day, next] = ["2026-10-23", "2026-10-24"].map(|day| format!("{name}/{day}"));
    station.wait_for("the first day", |_| engines.pin(&day));
    let root = engines.both_hold(&station, &name, &[&day, &next]);
    let (day, _) = engines.pin(&day).unwrap();
    for kubo in &engines.kubos {
        let listed = kubo.run(&["--offline", "ls", &format!("{day}/hifi/22")]);
        assert_eq!(listed.lines().count(), 32, "{listed}");
        assert!(kubo.run(&["--offline", "ls", &root]).contains("stream.m3u8"));
        assert!(kubo.peers().contains(&peer_of(&station)), "through the private network");
    }
    station.wait_for("the day in /health", |station| {
        let report = health(station, "cluster");
        (report["days_pinned"] == 2 && report["days_wanted"] == 2).then_some(())
    });
    // A relay with the key plays the station, and is one more peer that kubo has it from.
    let follow = format!("follow = {:?}\n", station.ipns);
    let peers = format!("peers = [{:?}]\n", kubo::address_of(&station));
    let away = Home::new(&format!("{follow}{ALONE}bootstrap = []\n{peers}"));
    std::fs::create_dir_all(away.data()).unwrap();
    std::fs::write(away.data().join("swarm.key"), SWARM_KEY).unwrap();
    let relay = away.start_online();
    relay.wait_on_air();
    assert_eq!(relay.ipns, station.ipns);
    let [kubo, _] = &engines.kubos;
    kubo.connect(&kubo::address_of(&relay));
    assert!(kubo.peers().contains(&peer_of(&relay)) && peer_of(&relay) != peer_of(&station));
    let (status, took) = relay.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
    // A kubo without the key, told where the station is, gets nothing.
    let outside = Kubo::start();
    let refused = outside.output(&["swarm", "connect", &kubo::address_of(&station)]);
    assert!(!refused.status.success());
    let (status, took) = station.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
}

/// The station's peer id.
fn peer_of(station: &Station) -> String {
    let address = kubo::address_of(station);
    address.rsplit('/').next().unwrap().to_owned()
}
