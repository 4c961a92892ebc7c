//! The real kubo takes our stream tree: fetched, listed, counted, pinned, exported, and played from its own gateway.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod audio_compare;
    pub(crate) mod checker;
    pub(crate) mod gateway_listener;
    pub(crate) mod http_client;
    pub(crate) mod kubo;
    pub(crate) mod media;
    pub(crate) mod station;
}

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use cid::Cid;
use ipld_dagpb::PbNode;
use skywave::ipfs::block::DAG_PB;
use skywave::ipfs::{Block, Identity, IpfsConfig, Node};
use skywave::publisher::stream_tree::{self, Entry};
use support::audio_compare::{Media, decode_with_ffmpeg, peers_available};
use support::checker::source::FolderSource;
use support::checker::{Checker, Expectations};
use support::gateway_listener;
use support::http_client;
use support::kubo::{self, ALONE, Kubo, Setup, address_of, root_of};
use support::media::{Depth, sines, wav};
use support::station::{Home, PATIENCE, Station, wait_until};

const RENDITIONS: [&str; 3] = ["lofi", "midfi", "hifi"];
/// Seconds of audio in a segment.
const SEGMENT: f64 = 3.84;
/// Entries of a directory that is one block still, and of one whose shards are two levels deep.
const LARGE: [usize; 2] = [5_000, 9_000];

/// A station whose swarm is on loopback; `keys` are more of its `[ipfs]`.
fn on_the_air(keys: &str) -> (Home, Station) {
    let home = Home::new(&format!("[player]\norder = \"ordered\"\n{ALONE}bootstrap = []\n{keys}\n"));
    for (name, hertz) in [("1.wav", 440.0), ("2.wav", 550.0)] {
        let tone = sines(44_100, 0, 20 * 44_100, &[(hertz, 0.3); 2]);
        home.add(name, &wav(44_100, 2, None, Depth::S16, &tone));
    }
    let station = home.start_online();
    station.wait_on_air();
    station.wait_for("three segments", |station| (station.listed("hifi").len() >= 3).then_some(()));
    (home, station)
}

/// A kubo that is connected by the address that the station gives of itself.
fn connected_to(station: &Station) -> Kubo {
    let kubo = Kubo::start();
    kubo.connect(&address_of(station));
    kubo
}

/// Every block below a root as our own gateway gives it, by the bytes of its CID.
fn blocks_of(station: &Station, root: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut blocks, mut open) = (BTreeMap::new(), vec![root.parse::<Cid>().unwrap()]);
    while let Some(cid) = open.pop() {
        let answer = station.get(&format!("/ipfs/{cid}?format=raw"));
        assert_eq!(answer.status, 200, "{cid}");
        if cid.codec() == DAG_PB {
            open.extend(
                PbNode::from_bytes(answer.body.clone().into()).unwrap().links.iter().map(|link| link.cid),
            );
        }
        blocks.insert(cid.to_bytes(), answer.body);
    }
    blocks
}

/// What kubo says of the whole DAG: blocks, each counted once, and their bytes.
fn dag_stat(kubo: &Kubo, root: &str) -> (u64, u64) {
    let stat = kubo.rpc_json(&format!("dag/stat?arg={root}&progress=false"));
    let dag = &stat["DagStats"][0];
    assert_eq!(stat["UniqueBlocks"], dag["NumBlocks"], "{stat}");
    (dag["NumBlocks"].as_u64().expect("a number"), dag["Size"].as_u64().expect("a number"))
}

/// CIDs that kubo holds a pin of, of one type.
fn pins(kubo: &Kubo, kind: &str) -> HashSet<String> {
    let said = kubo.run(&["pin", "ls", "--quiet", &format!("--type={kind}")]);
    said.lines().map(str::to_owned).collect()
}

/// `ipfs ls`: name and size of every entry.
fn listing(kubo: &Kubo, path: &str) -> BTreeMap<String, u64> {
    let said = kubo.run(&["ls", "--size", path]);
    let entry = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let size = words.next()?.parse().unwrap_or(0);
        Some((words.next()?.trim_end_matches('/').to_owned(), size))
    };
    said.lines().filter_map(entry).collect()
}

/// Counted, pinned and exported, a DAG is the same for kubo as for us.
fn kubo_agrees(kubo: &Kubo, root: &str, ours: &BTreeMap<Vec<u8>, Vec<u8>>) {
    kubo.run(&["pin", "add", "--recursive", "--progress=false", root]);
    assert!(pins(kubo, "recursive").contains(root), "no recursive pin of {root}");
    let text = |cid: &Vec<u8>| Cid::read_bytes(cid.as_slice()).unwrap().to_string();
    let others: HashSet<_> = ours.keys().map(text).filter(|cid| cid != root).collect();
    assert_eq!(pins(kubo, "indirect"), others);
    let bytes = ours.values().map(|block| block.len() as u64).sum();
    assert_eq!(dag_stat(kubo, root), (ours.len() as u64, bytes));
    let (header, exported) = kubo.export(root);
    let root = root.parse::<Cid>().unwrap().to_bytes();
    assert!(header.windows(root.len()).any(|bytes| bytes == root), "the CAR names another root");
    assert!(exported == *ours, "{} blocks exported, {} are ours", exported.len(), ours.len());
}

#[test]
fn a_connected_kubo_lists_counts_pins_and_exports_our_tree() {
    if !kubo::available() {
        return;
    }
    let (_home, station) = on_the_air("");
    let kubo = connected_to(&station);
    let root = root_of(&station);
    let ours = blocks_of(&station, &root);
    let top = listing(&kubo, &root);
    let names: Vec<_> = top.keys().map(String::as_str).collect();
    assert_eq!(names, ["hifi", "index", "lofi", "midfi", "station.json", "stream.m3u8"]);
    for rendition in RENDITIONS {
        let folder = listing(&kubo, &format!("{root}/{rendition}"));
        let playlist = station.text(&format!("/ipfs/{root}/{rendition}/live.m3u8"));
        let listed: Vec<_> = playlist.lines().filter(|line| line.ends_with(".m4s")).collect();
        assert!(listed.len() >= 3, "{playlist}");
        for name in listed.into_iter().chain(["live.m3u8", "init.mp4"]) {
            let length = station.get(&format!("/ipfs/{root}/{rendition}/{name}")).body.len() as u64;
            assert_eq!(folder.get(name), Some(&length), "{rendition}/{name}: {folder:?}");
        }
    }
    kubo_agrees(&kubo, &root, &ours);
}

/// Has ffmpeg play a playlist on disk as it stands. It is a live one, so the end is named.
fn plays(path: &Path, segments: usize) {
    let seconds = segments.min(3) as f64 * SEGMENT;
    let media = Media::Url(path.to_str().unwrap(), seconds - 0.05);
    let decoded = decode_with_ffmpeg(media).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(decoded.stderr, "", "{}", path.display());
    let heard = decoded.stereo.len() as f64 / 2.0 / 48_000.0;
    assert!((heard - seconds).abs() < 0.1, "{}: {heard} s instead of {seconds} s", path.display());
    let loud = decoded.stereo.iter().filter(|sample| sample.abs() > 0.01).count();
    assert!(loud * 2 > decoded.stereo.len(), "{}: silence", path.display());
}

#[test]
fn what_ipfs_get_leaves_on_disk_obeys_every_rule_and_plays() {
    if !kubo::available() {
        return;
    }
    let (_home, station) = on_the_air("");
    let kubo = connected_to(&station);
    let folder = kubo.folder().join("station");
    let root = root_of(&station);
    kubo.run(&["get", "--output", folder.to_str().unwrap(), &root]);
    let mut checker =
        Checker::new(Expectations { fixed_media_sequence: true, ..Expectations::new(&RENDITIONS) });
    let mut source = FolderSource(folder.clone());
    let progress = checker.poll(&mut source).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(progress.new_segments >= 3, "{progress:?}");
    if peers_available() {
        for rendition in RENDITIONS {
            let path = folder.join(rendition).join("live.m3u8");
            let segments = fs::read_to_string(&path).unwrap().matches(".m4s").count();
            plays(&path, segments);
        }
        plays(&folder.join("stream.m3u8"), progress.new_segments);
    }
}

/// A node of ours without a station, for trees of any shape.
struct Shelf {
    runtime: tokio::runtime::Runtime,
    node: Node,
    _folder: tempfile::TempDir,
}

impl Shelf {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // In memory where there is such a place: the disk would have to take every small block by itself.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let config = IpfsConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            bootstrap: Vec::new(),
            mdns: false,
            hole_punching: false,
            upnp: false,
            ..IpfsConfig::default()
        };
        let node = runtime.block_on(Node::start(&config, Identity::generate(), folder.path())).unwrap();
        Self { runtime, node, _folder: folder }
    }

    fn address(&self) -> String {
        wait_until("an address", || self.node.addresses().first().cloned())
    }

    fn hold<'a>(&self, blocks: impl Iterator<Item = &'a Block>) {
        for block in blocks {
            self.runtime.block_on(self.node.blocks().put_pinned(block)).unwrap();
        }
    }
}

/// A tree with one folder of so many small files: its root, and all of its blocks.
fn large_tree(files: usize) -> (String, Vec<Block>) {
    let leaf = |n: usize| (format!("hifi/{}.m4s", 464_000_000 + n), Block::raw(format!("segment {n}")));
    let leaves: HashMap<_, _> = (0..files).map(leaf).collect();
    let entries = leaves.iter().map(|(path, block)| (path.clone(), Entry::from(block))).collect();
    let (tree, mut blocks) = stream_tree::build(0, entries);
    blocks.extend(leaves.into_values());
    (tree.root.to_string(), blocks)
}

#[test]
fn a_directory_of_thousands_plain_or_sharded_is_the_same_for_kubo_as_for_us() {
    if !kubo::available() {
        return;
    }
    let shelf = Shelf::start();
    for (files, sharded) in LARGE.into_iter().zip([false, true]) {
        let (root, blocks) = large_tree(files);
        assert_eq!(blocks.len() > files + 2, sharded, "{} blocks for {files} files", blocks.len());
        shelf.hold(blocks.iter());
        let kubo = Kubo::start();
        kubo.connect(&shelf.address());
        let folder = listing(&kubo, &format!("{root}/hifi"));
        assert_eq!(folder.len(), files);
        for n in [0, files / 2, files - 1] {
            let name = format!("{}.m4s", 464_000_000 + n);
            assert_eq!(kubo.run(&["cat", &format!("/ipfs/{root}/hifi/{name}")]), format!("segment {n}"));
            assert_eq!(folder[&name], format!("segment {n}").len() as u64);
        }
        kubo_agrees(&kubo, &root, &blocks.iter().map(|b| (b.cid.to_bytes(), b.data.to_vec())).collect());
    }
}

#[test]
fn the_gateway_of_kubo_serves_the_live_stream_for_a_minute_without_a_stall() {
    if !(kubo::available() && peers_available() && gateway_listener::browser_available()) {
        return;
    }
    // kubo takes the record of pubsub or that of the DHT, whichever comes last. In a LAN both are of the newest tick.
    let (_home, station) = on_the_air("");
    let answers = vec![("/Routing/Type", serde_json::json!("dhtserver"))];
    let kubo = Kubo::start_with(Setup { ipns_over_pubsub: true, config: answers, ..Setup::default() });
    kubo.connect(&address_of(&station));
    let url = format!("{}/ipns/{}/stream.m3u8", kubo.gateway(), station.ipns);
    wait_until("the stream on kubo's gateway", || {
        http_client::get(&url, PATIENCE).is_ok_and(|answer| answer.status == 200).then_some(())
    });
    gateway_listener::listen(&url, &format!("{}/assets/hls.js", station.url), 60);
    let name = &station.json("/health").expect("the station's health")["name"];
    let (signed, put) = (name["sequence"].as_u64(), name["dht_put_sequence"].as_u64());
    let behind = signed.zip(put).map(|(signed, put)| signed - put);
    assert!(behind.is_some_and(|records| records <= 2), "the DHT had its share: {name}");
}
