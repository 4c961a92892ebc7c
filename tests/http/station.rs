//! A station made by hand: blocks in memory, a stream tree, a server on a free port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use multihash_codetable::{Code, MultihashDigest};
use skywave::health::Health;
use skywave::http::{self, Content, HttpConfig, HttpError, Upstream};
use skywave::ipfs::Blocks;
use skywave::ipfs::ipns::SignedRecord;
use skywave::ipfs::unixfs::{DAG_PB, RAW};
use skywave::metrics::Metrics;
use skywave::publisher::stream_tree::{Entry, StreamTree};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Client};

/// The station's name in two spellings of one key.
pub const PEER_ID: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
pub const NEWEST: u64 = 466_900_001;
pub const PLAYLIST: &[u8] = b"#EXTM3U\n#EXT-X-VERSION:7\n";
pub const SEGMENT: &[u8] = b"segment 466900000 of hifi";
pub const STATION_JSON: &[u8] = br#"{"name":"Test"}"#;

pub fn ipns_name() -> String {
    let hash = cid::multibase::Base::Base58Btc.decode(PEER_ID).unwrap();
    let hash = cid::multihash::Multihash::from_bytes(&hash).unwrap();
    Cid::new_v1(0x72, hash).to_string_of_base(cid::multibase::Base::Base36Lower).unwrap()
}

pub struct Station {
    pub address: SocketAddr,
    pub blocks: Blocks,
    pub tree: watch::Sender<Option<Arc<StreamTree>>>,
    pub record: watch::Sender<Option<SignedRecord>>,
    pub station: watch::Sender<Bytes>,
    pub health: Health,
    pub stop: CancellationToken,
    pub served: JoinHandle<Result<(), HttpError>>,
}

impl Station {
    /// A server that is not on air.
    pub async fn start(config: HttpConfig) -> Station {
        Station::start_with(config, Blocks::in_memory()).await
    }

    /// The same over blocks of a node.
    pub async fn start_with(config: HttpConfig, blocks: Blocks) -> Station {
        Station::start_on(config, blocks, Upstream::default()).await
    }

    /// The same with others to ask.
    pub async fn start_on(config: HttpConfig, blocks: Blocks, upstream: Upstream) -> Station {
        let bound = http::bind(&HttpConfig { listen: ([127, 0, 0, 1], 0).into(), ..config }).await.unwrap();
        let address = bound.address();
        let (tree, tree_seen) = watch::channel(None);
        let (station, station_seen) = watch::channel(Bytes::new());
        let (record, record_seen) = watch::channel(None);
        let (health, stop) = (Health::new(), CancellationToken::new());
        let content = Content {
            blocks: blocks.clone(),
            tree: tree_seen,
            record: record_seen,
            station: station_seen,
            ipns_name: ipns_name(),
            ipns_ttl: Duration::from_secs(4),
            upstream,
            health: health.clone(),
            metrics: Metrics::new(),
        };
        let served = tokio::spawn(bound.run(content, stop.clone()));
        Station { address, blocks, tree, record, station, health, stop, served }
    }

    /// A server on air with one rendition of one segment.
    pub async fn on_air() -> Station {
        Station::on_air_with(HttpConfig::default()).await
    }

    pub async fn on_air_with(config: HttpConfig) -> Station {
        let station = Station::start(config).await;
        station.go_on_air().await;
        station
    }

    pub async fn go_on_air(&self) {
        let master = self.put(RAW, b"#EXTM3U\nhifi/live.m3u8\n").await;
        let (playlist, init) = (self.put(RAW, PLAYLIST).await, self.put(RAW, b"init").await);
        let (segment, json) = (self.put(RAW, SEGMENT).await, self.put(RAW, STATION_JSON).await);
        let hifi = [("466900000.m4s", segment), ("init.mp4", init), ("live.m3u8", playlist)];
        let hifi = self.put_directory(&hifi).await;
        let root = [("hifi", hifi), ("station.json", json), ("stream.m3u8", master)];
        let root = self.put_directory(&root).await;
        let entries = [
            ("stream.m3u8", master, 23),
            ("station.json", json, STATION_JSON.len() as u64),
            ("hifi/live.m3u8", playlist, PLAYLIST.len() as u64),
            ("hifi/init.mp4", init, 4),
            ("hifi/466900000.m4s", segment, SEGMENT.len() as u64),
        ];
        let entries: HashMap<_, _> =
            entries.into_iter().map(|(path, cid, size)| (path.to_owned(), Entry { cid, size })).collect();
        self.tree.send_replace(Some(Arc::new(StreamTree { root, newest: NEWEST, entries })));
        self.station.send_replace(Bytes::from_static(STATION_JSON));
        self.health.set_on_air(NEWEST);
    }

    pub fn root(&self) -> Cid {
        self.tree.borrow().as_ref().unwrap().root
    }

    pub async fn put(&self, codec: u64, bytes: &[u8]) -> Cid {
        let cid = Cid::new_v1(codec, Code::Sha2_256.digest(bytes));
        self.blocks.put(cid, Bytes::copy_from_slice(bytes)).await.unwrap();
        cid
    }

    pub async fn put_directory(&self, links: &[(&str, Cid)]) -> Cid {
        let link =
            |(name, cid): &(&str, Cid)| PbLink { cid: *cid, name: Some((*name).to_owned()), size: Some(9) };
        let links = links.iter().map(link).collect();
        let node = PbNode { links, data: Some(Bytes::from_static(&[0x08, 1])) };
        self.put(DAG_PB, &node.into_bytes()).await
    }

    /// The blocks of a CAR; its root.
    pub async fn import(&self, car: &[u8]) -> Cid {
        let mut reader = skywave::ipfs::car::Reader::new();
        reader.push(car);
        while let Some(block) = reader.next_block().unwrap() {
            self.blocks.put(block.cid, block.data).await.unwrap();
        }
        reader.finish().unwrap();
        reader.roots()[0]
    }

    pub async fn put_symlink(&self, target: &str) -> Cid {
        let mut data = vec![0x08, 4, 0x12];
        varint(target.len() as u64, &mut data);
        data.extend_from_slice(target.as_bytes());
        let node = PbNode { links: Vec::new(), data: Some(data.into()) };
        self.put(DAG_PB, &node.into_bytes()).await
    }

    /// The CID of a block that is not here.
    pub fn gone(&self, bytes: &[u8]) -> Cid {
        Cid::new_v1(RAW, Code::Sha2_256.digest(bytes))
    }

    /// A file made of raw leaves.
    pub async fn put_file(&self, leaves: &[&[u8]]) -> Cid {
        let mut links = Vec::new();
        for leaf in leaves {
            links.push((self.put(RAW, leaf).await, leaf.len() as u64));
        }
        self.put_file_of(&links).await
    }

    pub async fn put_file_of(&self, leaves: &[(Cid, u64)]) -> Cid {
        let mut data = vec![0x08, 2, 0x18];
        varint(leaves.iter().map(|(_, size)| size).sum(), &mut data);
        for (_, size) in leaves {
            data.push(0x20);
            varint(*size, &mut data);
        }
        let link =
            |(cid, size): &(Cid, u64)| PbLink { cid: *cid, name: Some(String::new()), size: Some(*size) };
        let node = PbNode { links: leaves.iter().map(link).collect(), data: Some(data.into()) };
        self.put(DAG_PB, &node.into_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        Client::connect(self.address).await.request("GET", path, headers).await
    }
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
