//! The real kubo resolves, verifies and follows our name in networks of their own on loopback, public and private.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod audio_compare;
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod kubo;
    pub(crate) mod station;
}

use std::fs;
use std::time::{Duration, Instant};

use cid::multibase::Base;
use serde_json::{Value, json};
use support::audio_compare::{Media, decode_with_ffmpeg, peers_available};
use support::checker::source::FolderSource;
use support::checker::{Checker, Expectations};
use support::kubo::{self, ALONE, Kubo, Setup, address_of, root_of};
use support::station::{Home, Station, wait_until};

const RENDITIONS: [&str; 3] = ["lofi", "midfi", "hifi"];
/// How long after a tick kubo may still give the root before.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(2);
/// Updates that are followed one by one.
const UPDATES: usize = 12;
/// A private network's key in kubo's format: 32 bytes in hexadecimal.
const KEY: &str =
    "/key/swarm/psk/1.0.0/\n/base16/\n0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\n";
const OTHER_KEY: &str =
    "/key/swarm/psk/1.0.0/\n/base16/\nffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n";

/// A kubo that answers others in the DHT.
fn server() -> Setup {
    Setup { config: vec![("/Routing/Type", json!("dhtserver"))], ..Setup::default() }
}

/// A station that begins with one peer; `keys` are more of its `[ipfs]`.
fn station(bootstrap: &str, keys: &str) -> (Home, Station) {
    let home = Home::new(&format!("{ALONE}bootstrap = [{bootstrap:?}]\ndht_every = \"10s\"\n{keys}\n"));
    let station = home.start_online();
    (home, station)
}

/// Five nodes that answer each other in the DHT: three kubos in a line, one node of ours as a server, and the station
/// as a client.
struct Net {
    station: Station,
    _homes: [Home; 2],
    _server: Station,
    kubos: Vec<Kubo>,
}

impl Net {
    fn start() -> Self {
        let kubos: Vec<_> = (0..3).map(|_| Kubo::start_with(server())).collect();
        kubos[1].connect(&kubos[0].address);
        kubos[2].connect(&kubos[1].address);
        let (server_home, server) = station(&kubos[0].address, "dht = \"server\"");
        let (home, station) = station(&address_of(&server), "");
        Self { station, _homes: [home, server_home], _server: server, kubos }
    }

    /// The kubo at the other end, which nobody connected to the station.
    fn stranger(&self) -> &Kubo {
        &self.kubos[2]
    }
}

/// What kubo resolves a name to, from the network alone. Where both have a record, kubo gives that of its DHT or that
/// of pubsub, whichever comes last, not the newer one.
fn resolve(kubo: &Kubo, name: &str) -> Result<String, String> {
    let call = format!("name/resolve?arg=/ipns/{name}&nocache=true&dht-timeout=5s");
    let answer: Value = serde_json::from_slice(&kubo.try_rpc(&call)?).map_err(|error| error.to_string())?;
    let path = answer["Path"].as_str().ok_or_else(|| format!("no path in {answer}"))?;
    Ok(path.trim_start_matches("/ipfs/").to_owned())
}

/// Resolves until the network has learnt the name.
fn resolved(kubo: &Kubo, name: &str) -> String {
    let mut last = String::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        match resolve(kubo, name) {
            Ok(root) => return root,
            Err(error) => last = error,
        }
    }
    panic!("kubo does not resolve {name}: {last}\nkubo said\n{}", kubo.log());
}

/// The record as the DHT gives it to kubo.
fn record(kubo: &Kubo, name: &str) -> Vec<u8> {
    let events = String::from_utf8(kubo.rpc(&format!("routing/get?arg=/ipns/{name}"))).unwrap();
    let mut values = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // Type 5 of a query event is a value.
    let value = values.rfind(|event| event["Type"] == 5).expect("a value");
    Base::Base64Pad.decode(value["Extra"].as_str().expect("base64")).unwrap()
}

#[test]
fn a_kubo_that_was_never_connected_resolves_gets_and_plays_our_name_over_the_dht() {
    if !kubo::available() {
        return;
    }
    let net = Net::start();
    let (station, kubo) = (&net.station, net.stranger());
    station.wait_on_air();
    station.wait_for("three segments", |station| (station.listed("hifi").len() >= 3).then_some(()));
    let name = &station.ipns;
    let root = resolved(kubo, name);
    let of_station: Value =
        serde_json::from_str(&kubo.run(&["cat", &format!("/ipfs/{root}/station.json")])).unwrap();
    assert_eq!(&of_station["ipns"], name.as_str(), "{of_station}");
    let folder = kubo.folder().join("station");
    kubo.run(&["get", "--output", folder.to_str().unwrap(), &format!("/ipns/{name}")]);
    let mut checker =
        Checker::new(Expectations { fixed_media_sequence: true, ..Expectations::new(&RENDITIONS) });
    checker.poll(&mut FolderSource(folder.clone())).unwrap_or_else(|violation| panic!("{violation}"));
    if peers_available() {
        let path = folder.join("hifi/live.m3u8");
        let decoded =
            decode_with_ffmpeg(Media::Url(path.to_str().unwrap(), 3.0)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(decoded.stderr, "");
        assert!((decoded.stereo.len() as f64 / 96_000.0 - 3.0).abs() < 0.1, "{}", decoded.stereo.len());
    }
    verifies(kubo, name);
}

/// kubo's own inspection of the record that it has from the DHT.
fn verifies(kubo: &Kubo, name: &str) {
    let path = kubo.folder().join("record");
    fs::write(&path, record(kubo, name)).unwrap();
    let inspect = |of: &str| -> Value {
        let said =
            kubo.run(&["name", "inspect", "--enc=json", &format!("--verify={of}"), path.to_str().unwrap()]);
        serde_json::from_str(&said).unwrap()
    };
    let ours = inspect(name);
    assert_eq!(ours["Validation"]["Valid"], true, "{ours}");
    assert_eq!(ours["SignatureType"], "V1+V2", "{ours}");
    assert!(ours["Entry"]["Sequence"].as_u64().is_some_and(|sequence| sequence > 0), "{ours}");
    let foreign = inspect(&kubo.peer_id);
    assert_eq!(foreign["Validation"]["Valid"], false, "{foreign}");
}

#[test]
fn kubo_follows_every_tick_over_pubsub_within_two_seconds() {
    if !kubo::available() {
        return;
    }
    let kubo = Kubo::start_with(Setup { ipns_over_pubsub: true, ..server() });
    // What kubo knows, it knows from pubsub.
    let home = Home::new(&format!("{ALONE}bootstrap = []\ndht = \"off\"\n"));
    let station = home.start_online();
    station.wait_on_air();
    kubo.connect(&address_of(&station));
    let name = station.ipns.clone();
    // The first question subscribes to the topic.
    resolved(&kubo, &name);
    let subscribed = kubo.run(&["name", "pubsub", "subs"]);
    assert!(subscribed.contains(&name), "{subscribed:?}");
    let mut took = Vec::new();
    let mut known = root_of(&station);
    for _ in 0..UPDATES {
        let root = station.wait_for("the next tick", |station| {
            let root = root_of(station);
            (root != known).then_some(root)
        });
        let began = Instant::now();
        wait_until("kubo on the new root", || match resolve(&kubo, &name) {
            Ok(seen) if seen == root || root_of(&station) != root => Some(()),
            _ => None,
        });
        took.push(began.elapsed());
        known = root;
    }
    took.sort();
    eprintln!(
        "kubo had {UPDATES} updates within {:?} (median), {:?} (slowest)",
        took[UPDATES / 2],
        took[UPDATES - 1]
    );
    assert!(took[UPDATES - 1] < FOLLOWS_WITHIN, "{took:?}");
}

#[test]
fn a_kubo_with_the_key_of_a_private_network_gets_in_and_others_do_not() {
    if !kubo::available() {
        return;
    }
    let member = Kubo::start_with(Setup { swarm_key: Some(KEY.into()), force_private: true, ..server() });
    let home = Home::new(&format!("{ALONE}bootstrap = [{:?}]\ndht_every = \"10s\"\n", member.address));
    fs::create_dir_all(home.data()).unwrap();
    fs::write(home.data().join("swarm.key"), KEY).unwrap();
    let station = home.start_online();
    station.wait_on_air();
    let address = address_of(&station);
    let root = resolved(&member, &station.ipns);
    assert!(member.run(&["ls", &format!("/ipfs/{root}")]).contains("stream.m3u8"));
    for (what, key) in [("no key", None), ("another key", Some(OTHER_KEY.to_owned()))] {
        let stranger = Kubo::start_with(Setup { swarm_key: key, ..server() });
        let output = stranger.output(&["swarm", "connect", &address]);
        assert!(!output.status.success(), "a kubo with {what} connected");
        assert!(stranger.peers().is_empty(), "a kubo with {what} has peers: {:?}", stranger.peers());
    }
    // Neither the station nor the member is worse for it.
    member.connect(&address);
    assert_eq!(station.get("/readyz").status, 200);
}

#[test]
fn kubo_itself_refuses_to_be_public_where_private_is_forced() {
    if !kubo::available() {
        return;
    }
    let said =
        Kubo::try_start(Setup { force_private: true, ..server() }).err().expect("no daemon without a key");
    assert!(said.contains("private network"), "{said}");
}
