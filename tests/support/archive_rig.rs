//! The archive stage fed by hand, and what it shows.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use skywave::archive::{Archive, ArchiveSettings, Kept, Rendition, Store};
use skywave::health::Health;
use skywave::ipfs::unixfs::{self, FileReader, Node};
use skywave::ipfs::{Block, Blocks};
use skywave::metrics::Metrics;
use skywave::publisher::live_window::StoredSegment;
use skywave::publisher::stream_tree::Entry;
use skywave::supervisor::Supervisor;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The first segment of 2026-10-23, 22:00 UTC.
pub const EVENING: u64 = (20_749 * 86_400 + 22 * 3_600) * 25 / 96 + 1;
/// Segments of an hour, rounded up.
pub const HOUR: u64 = 938;
/// Segments of a minute that is written at once.
pub const MINUTE: u64 = 16;

pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

pub fn audio(rendition: &str, n: u64) -> Block {
    Block::raw(format!("{rendition} {n} ").repeat(if rendition == "hifi" { 20 } else { 5 }))
}

/// The archive stage under its supervisor, fed by hand.
pub struct Rig {
    pub blocks: Blocks,
    pub store: Arc<Store>,
    pub link: watch::Receiver<Option<Entry>>,
    pub input: mpsc::Sender<StoredSegment>,
    pub health: Health,
    pub metrics: Metrics,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Rig {
    pub async fn start(folder: &Path, max_bytes: u64, blocks: Blocks, offered: Vec<StoredSegment>) -> Self {
        let (health, metrics, stop) = (Health::new(), Metrics::new(), CancellationToken::new());
        let (input, receiver) = mpsc::channel(64);
        let (link_sender, link) = watch::channel(None);
        let store = Arc::<Store>::default();
        let init = Block::raw("init");
        blocks.put_pinned(&init).await.unwrap();
        let rendition = |name: &str| Rendition {
            name: name.into(),
            codecs: "mp4a.40.2".into(),
            init: Entry::from(&init),
        };
        let archive = Arc::new(Archive {
            settings: ArchiveSettings { folder: folder.to_owned(), max_bytes },
            renditions: ["lofi", "hifi"].map(rendition).into(),
            blocks: blocks.clone(),
            store: store.clone(),
            input: Arc::new(Mutex::new(receiver)),
            kept: Mutex::new(Kept::new(offered)),
            link: link_sender,
            health: health.stage("archive", None),
            metrics: metrics.clone(),
        });
        let supervisor = Supervisor { health: health.clone(), metrics: metrics.clone() };
        let (report, cancel) = (archive.health.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let stage = |cancel| {
                let archive = archive.clone();
                async move { archive.run(cancel).await }
            };
            supervisor.keep_running("archive", report, cancel, stage).await;
        });
        Self { blocks, store, link, input, health, metrics, stop, task }
    }

    /// Puts segments on air.
    pub async fn air(&self, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            let segment = stored(&self.blocks, n).await;
            self.input.send(segment).await.unwrap();
        }
    }

    /// Ends the stage as a shutdown does.
    pub async fn end(self) -> (Option<Entry>, Arc<Store>) {
        self.stop.cancel();
        self.task.await.unwrap();
        (*self.link.borrow(), self.store)
    }

    /// Ends it as `kill -9` does: what it had in memory is gone.
    pub async fn kill(self) {
        self.until("taken in", |rig| rig.input.capacity() == rig.input.max_capacity()).await;
        // A write that is under way ends first: a thread cannot be killed. Torn writes are for the tests of the files.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let met = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(600), met).await.unwrap_or_else(|_| panic!("{what}"));
    }

    pub fn count(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("skywave_{name} ")));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    pub fn reader(&self) -> Blocks {
        Blocks::in_memory().with_source(self.store.clone())
    }
}

pub async fn stored(blocks: &Blocks, n: u64) -> StoredSegment {
    let media = ["lofi", "hifi"].map(|rendition| audio(rendition, n));
    for block in &media {
        blocks.put_pinned(block).await.unwrap();
    }
    StoredSegment {
        n,
        unix_ms: n as i64 * 3_840,
        airtime_ms: 0,
        program_date_time_ms: n as i64 * 3_840 - 43,
        samples: 184_320,
        discontinuity: false,
        media: media.iter().map(Entry::from).collect(),
        now_playing: None,
    }
}

pub async fn read(blocks: &Blocks, root: Cid, path: &str) -> Option<String> {
    let path: Vec<_> = path.split('/').map(str::to_owned).collect();
    let resolved = unixfs::resolve(blocks, root, &path).await.ok()?;
    match resolved.node {
        Node::Raw(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        Node::File(file) => {
            let mut reader = FileReader::new(blocks.clone(), &file, 0..file.size);
            let mut text = Vec::new();
            while let Some(bytes) = reader.next().await.unwrap() {
                text.extend_from_slice(&bytes);
            }
            Some(String::from_utf8(text).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

pub async fn days(blocks: &Blocks, root: Cid) -> Vec<String> {
    match unixfs::load(blocks, &root).await.unwrap() {
        Node::Directory(links) => links.into_iter().map(|link| link.name).collect(),
        other => panic!("{other:?}"),
    }
}

/// The numbers that a day's playlists list, every file fetched and compared. Both renditions list the same.
pub async fn listed(blocks: &Blocks, root: Cid, day: &str) -> (Vec<u64>, String) {
    let mut all = BTreeMap::new();
    for rendition in ["lofi", "hifi"] {
        let playlist = read(blocks, root, &format!("{day}/{rendition}/live.m3u8")).await.expect("a playlist");
        let mut numbers = Vec::new();
        for uri in playlist.lines().filter(|line| !line.starts_with('#')) {
            let n: u64 = uri.rsplit('/').next().unwrap().strip_suffix(".m4s").unwrap().parse().unwrap();
            let file = read(blocks, root, &format!("{day}/{rendition}/{uri}")).await;
            let file = file.unwrap_or_else(|| panic!("{day}/{rendition}/{uri} is listed and not there"));
            assert_eq!(file.as_bytes(), audio(rendition, n).data, "{uri}");
            numbers.push(n);
        }
        assert_eq!(read(blocks, root, &format!("{day}/{rendition}/init.mp4")).await.unwrap(), "init");
        all.insert(numbers, playlist);
    }
    assert_eq!(all.len(), 1, "the renditions list different segments");
    all.pop_first().unwrap()
}
