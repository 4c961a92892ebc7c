//! Those who follow the name: a second node of ours, and a kubo. Each hears of a root over pubsub and fetches the new
//! segments by path, as a relay or a gateway does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::PbNode;
use serde_json::json;
use skywave::ipfs::ipns::Record;
use skywave::ipfs::{Blocks, Node, Verdict};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::origin::{Origin, node};
use crate::support::http_client;
use crate::support::kubo::{Kubo, Setup};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node of ours that hears every record and has fetched the newest tree's directories.
pub(crate) struct NodeFollower {
    node: Arc<Node>,
    root: watch::Receiver<Option<Cid>>,
    _folder: tempfile::TempDir,
}

impl NodeFollower {
    pub(crate) async fn start(origin: &Origin) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let node = Arc::new(node(folder.path()).await);
        let network = node.network().unwrap();
        let name = origin.node.identity().name();
        let judge = move |message: &Bytes| match Record::verify(&name, message) {
            Ok(_) => Verdict::Accept,
            Err(_) => Verdict::Reject,
        };
        let mut records = network.subscribe(&name.topic(), Arc::new(judge)).await.unwrap();
        network.dial(&origin.address().await.parse().unwrap()).await.unwrap();
        let (sender, root) = watch::channel(None);
        tokio::spawn(async move {
            while let Some((_, message)) = records.recv().await {
                let record = Record::verify(&name, &message).expect("accepted");
                let root = record.value.trim_start_matches("/ipfs/").parse().expect("a CID");
                sender.send_replace(Some(root));
            }
        });
        Self { node, root, _folder: folder }
    }

    /// When every rendition of segment `number` has come.
    pub(crate) async fn has(&self, number: u64, media: &[(&'static str, Bytes)]) -> Instant {
        let mut root = self.root.clone();
        let name = format!("{number}.m4s");
        let fetched = async {
            loop {
                let newest = *root.borrow_and_update();
                if let Some(newest) = newest
                    && let Some(segments) = fetch_all(self.node.blocks(), newest, &name, media).await
                {
                    return segments;
                }
                root.changed().await.unwrap();
            }
        };
        let segments = timeout(PATIENCE, fetched).await.expect("the segment at our second node");
        let now = Instant::now();
        assert!(segments.iter().eq(media.iter().map(|(_, bytes)| bytes)), "other bytes");
        now
    }
}

/// The segment of every rendition; `None` where the tree does not have it yet.
async fn fetch_all(
    blocks: &Blocks,
    root: Cid,
    name: &str,
    media: &[(&'static str, Bytes)],
) -> Option<Vec<Bytes>> {
    let root = links(blocks, root).await;
    let segments = media.iter().map(|(rendition, _)| async {
        let folder = links(blocks, link(&root, rendition)?).await;
        Some(fetch(blocks, link(&folder, name)?).await)
    });
    futures::future::join_all(segments).await.into_iter().collect()
}

async fn fetch(blocks: &Blocks, cid: Cid) -> Bytes {
    blocks.fetch(&cid, PATIENCE).await.unwrap().expect("a block that the origin has")
}

async fn links(blocks: &Blocks, cid: Cid) -> PbNode {
    PbNode::from_bytes(fetch(blocks, cid).await).unwrap()
}

fn link(node: &PbNode, name: &str) -> Option<Cid> {
    node.links.iter().find(|link| link.name.as_deref() == Some(name)).map(|link| link.cid)
}

/// A kubo with IPNS over pubsub that keeps no answer of its own.
pub(crate) struct KuboFollower {
    kubo: Arc<Kubo>,
    name: String,
}

impl KuboFollower {
    pub(crate) async fn start(origin: &Origin) -> Self {
        let (address, name) = (origin.address().await, origin.node.identity().ipns_name());
        let topic_of = name.clone();
        let kubo = tokio::task::spawn_blocking(move || {
            let config = vec![("/Ipns/MaxCacheTTL", json!("0s"))];
            let kubo = Kubo::start_with(Setup { ipns_over_pubsub: true, config, ..Setup::default() });
            kubo.connect(&address);
            // The first question subscribes to the topic, and brings the record that is there.
            crate::support::station::wait_until("kubo on the name", || {
                kubo.try_rpc(&format!("name/resolve?arg=/ipns/{topic_of}")).ok()
            });
            kubo
        });
        Self { kubo: Arc::new(kubo.await.unwrap()), name }
    }

    /// When its gateway has served every rendition of segment `number`.
    pub(crate) async fn has(&self, number: u64, media: &[(&'static str, Bytes)]) -> Instant {
        let served = media.iter().map(|(rendition, bytes)| {
            let url = format!("{}/ipns/{}/{rendition}/{number}.m4s", self.kubo.gateway(), self.name);
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || served(&url, &bytes))
        });
        let times = futures::future::join_all(served).await;
        times.into_iter().map(Result::unwrap).max().unwrap()
    }
}

/// Asks until the gateway has it.
fn served(url: &str, bytes: &[u8]) -> Instant {
    let began = Instant::now();
    loop {
        let answer = http_client::get(url, PATIENCE).unwrap();
        if answer.status == 200 {
            let now = Instant::now();
            assert!(answer.body == bytes, "{url}: other bytes");
            return now;
        }
        assert!(began.elapsed() < PATIENCE, "{url}: {} {:?}", answer.status, answer.text());
        std::thread::sleep(Duration::from_millis(2));
    }
}
