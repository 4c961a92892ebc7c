//! Segments that retention removes while somebody is still reading them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cid::Cid;
use skywave::health::Health;
use skywave::ipfs::unixfs::RAW;
use skywave::metrics::Metrics;
use skywave::publisher::stream_tree::{Entry, StreamTree};
use skywave::retention::{Retention, RetentionConfig};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, patiently};
use super::station::Station;

/// As large as a block may be, and more than what the sockets hold of a client that takes little at a time.
const SEGMENT: usize = 2 * 1024 * 1024;

fn bytes(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; SEGMENT];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Puts these segments of one rendition on air.
async fn show(station: &Station, segments: &[(&str, Cid)]) {
    let hifi = station.put_directory(segments).await;
    let root = station.put_directory(&[("hifi", hifi)]).await;
    let entry =
        |(name, cid): &(&str, Cid)| (format!("hifi/{name}"), Entry { cid: *cid, size: SEGMENT as u64 });
    let entries: HashMap<_, _> = segments.iter().map(entry).collect();
    station.tree.send_replace(Some(Arc::new(StreamTree { root, newest: 2, entries })));
}

/// Has the real stage remove blocks whose grace is over.
async fn removed_by_retention(station: &Station, gone: &[Cid]) {
    let (ticks, input) = mpsc::channel(1);
    let now = Instant::now();
    let retention = Retention {
        window: Mutex::new(RetentionConfig::default().window(std::time::Duration::from_millis(3_840))),
        remover: Arc::new(station.blocks.clone()),
        input: Arc::new(Mutex::new(input)),
        keep_from: watch::channel(0).0,
        archive: None,
        leaving: Mutex::new(gone.iter().map(|cid| (now, *cid)).collect::<VecDeque<_>>()),
        health: Health::new().stage("retention", None),
        metrics: Metrics::new(),
    };
    let (cancel, metrics) = (CancellationToken::new(), retention.metrics.clone());
    let stop = cancel.clone();
    let running = tokio::spawn(async move { retention.run(stop).await });
    patiently(async {
        while metrics.blocks_removed.get() < gone.len() as u64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    drop(ticks);
    for cid in gone {
        assert!(!station.blocks.contains(cid).await.unwrap());
    }
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_a_segment_that_is_removed_meanwhile() {
    let (old, new) = (bytes(1), bytes(2));
    let station = Station::start(Default::default()).await;
    let (old_cid, new_cid) = (station.put(RAW, &old).await, station.put(RAW, &new).await);
    show(&station, &[("1.m4s", old_cid), ("2.m4s", new_cid)]).await;
    let root = station.root();
    let paths =
        ["/live/hifi/1.m4s".to_owned(), format!("/ipfs/{root}/hifi/1.m4s"), format!("/ipfs/{old_cid}")];
    let mut readers = Vec::new();
    for path in &paths {
        let mut reader = Client::connect_narrow(station.address).await;
        reader.send(format!("GET {path} HTTP/1.1\r\nHost: station\r\n\r\n")).await;
        let head = reader.answer(false).await;
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, SEGMENT.to_string().as_str()),
            "{path}"
        );
        readers.push(reader);
    }
    // The window goes on without it, and its grace ends.
    show(&station, &[("2.m4s", new_cid)]).await;
    removed_by_retention(&station, &[old_cid, root]).await;
    for (path, mut reader) in paths.iter().zip(readers) {
        let got = reader.body(SEGMENT).await;
        assert!(got == old, "{path}: {} bytes", got.len());
    }
    assert_eq!(station.get("/live/hifi/1.m4s").await.status, 404);
    assert_eq!(station.get("/live/hifi/2.m4s").await.body, new);
}
