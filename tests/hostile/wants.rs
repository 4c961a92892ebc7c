//! Peers that abuse bitswap.

use std::time::Duration;

use cid::Cid;
use futures::{AsyncReadExt, AsyncWriteExt};
use multihash_codetable::{Code, MultihashDigest};
use skywave::ipfs::Block;
use skywave_swarm::bitswap::message::{Builder, Entry};
use tokio::time::timeout;

use crate::silent::honest;
use crate::stranger::Stranger;
use crate::support::station::PATIENCE;
use crate::target::Target;

const EVENT: &str = "skywave_network_events_total";
/// Peers that flood at the same time.
const STRANGERS: usize = 6;
/// Wants of each.
const WANTS: usize = 60_000;
/// Wants in a message.
const IN_ONE: usize = 2_000;

fn event(name: &str) -> String {
    format!("{EVENT}{{event=\"{name}\"}}")
}

fn unheard_of(n: usize) -> Cid {
    Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_le_bytes()))
}

fn wants(cids: impl Iterator<Item = Cid>) -> Vec<u8> {
    let mut message = Builder::default();
    for cid in cids {
        message.want(&Entry { cid, block: true, dont_have: true, cancel: false });
    }
    message.framed()
}

/// CIDs of segments on air.
fn on_air(target: &Target) -> Vec<Cid> {
    let segment = |rendition: &str, n: u64| {
        Block::raw(target.station.get(&format!("/live/{rendition}/{n}.m4s")).body).cid
    };
    ["lofi", "midfi", "hifi"]
        .into_iter()
        .flat_map(|rendition| {
            target.station.listed(rendition).into_iter().map(move |n| (rendition, n)).collect::<Vec<_>>()
        })
        .map(|(rendition, n)| segment(rendition, n))
        .collect()
}

/// Asks for what is there and what is not, again and again, and reads no answer. Ends with the connection.
async fn flood(stranger: Stranger, seed: usize, held: Vec<Cid>) -> Option<Stranger> {
    let mut stream = stranger.bitswap().await?;
    for message in 0..WANTS / IN_ONE {
        let first = (seed * WANTS + message) * IN_ONE;
        let unheard_of = (first..first + IN_ONE - held.len()).map(unheard_of);
        stream.write_all(&wants(held.iter().copied().chain(unheard_of))).await.ok()?;
        stream.flush().await.ok()?;
    }
    Some(stranger)
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_flood_wants_and_read_nothing_are_refused_and_the_others_are_served() {
    let target = Target::start();
    let held = on_air(&target);
    assert!(held.len() >= 9, "{} segments", held.len());
    let watch = target.watch();
    let mut floods = Vec::new();
    for seed in 0..STRANGERS {
        let stranger = Stranger::connect(&target.address).await;
        floods.push(tokio::spawn(flood(stranger, seed, held.clone())));
    }
    target.wait_for_metric(&event("wants_refused"), 1_000.0);
    let (peer, _folder) = honest().await;
    timeout(PATIENCE, peer.network().unwrap().dial(&target.address)).await.unwrap().unwrap();
    for cid in &held {
        let got = peer.blocks().fetch(cid, Duration::from_secs(10)).await.unwrap();
        assert_eq!(Block::raw(got.expect("a block that is there")).cid, *cid);
    }
    // Nobody reads the answers for longer than is borne.
    target.wait_for_metric(&event("readers_refused"), 1.0);
    let seen = watch.end();
    floods.into_iter().for_each(|flood| flood.abort());
    seen.assert_unharmed(40);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_too_large_malformed_or_of_blocks_that_nobody_wants_are_refused() {
    let target = Target::start();
    let mut unasked = Builder::default();
    unasked.block(&unheard_of(1), b"unasked");
    let far_too_long = [0xff, 0xff, 0xff, 0x7f];
    let larger_than_wants_are = [vec![0x80, 0x80, 0x40], vec![0; 64 * 1024]].concat();
    let no_protobuf = vec![3, 0x0f, 0x0f, 0x0f];
    let cases = [
        ("bitswap_refused", far_too_long.to_vec()),
        ("bitswap_refused", larger_than_wants_are),
        ("bitswap_refused", no_protobuf),
        ("blocks_refused", unasked.framed()),
    ];
    let stranger = Stranger::connect(&target.address).await;
    for (name, bytes) in cases {
        let before = target.metric(&event(name));
        let mut stream = stranger.bitswap().await.unwrap();
        // It may be closed before it is all there.
        _ = stream.write_all(&bytes).await;
        _ = stream.flush().await;
        target.wait_for_metric(&event(name), before + 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_a_bounded_number_of_streams() {
    let target = Target::start();
    let stranger = Stranger::connect(&target.address).await;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(stranger.bitswap().await.unwrap());
    }
    target.wait_for_metric(&event("bitswap_refused"), 20.0);
    let mut closed = 0;
    for stream in &mut open {
        // One that is open says nothing.
        let ended = timeout(Duration::from_millis(50), stream.read(&mut [0; 1])).await;
        closed += usize::from(ended.is_ok());
    }
    assert_eq!(open.len() - closed, 16);
}
