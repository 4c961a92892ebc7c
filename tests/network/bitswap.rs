//! Blocks between nodes.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use skywave::ipfs::{Block, Blocks};

use crate::swarm::{LIMIT, Peer, client, start, wait};

const BRIEF: Duration = Duration::from_millis(300);

/// Two peers, connected.
async fn pair() -> (Peer, Peer) {
    let (giver, taker) = (start(&client()).await, start(&client()).await);
    taker.network().dial(&giver.address().await).await.unwrap();
    (giver, taker)
}

async fn hold(blocks: &Blocks, text: impl Into<Bytes>) -> Block {
    let block = Block::raw(text);
    blocks.put_pinned(&block).await.unwrap();
    block
}

async fn fetched(taker: &Peer, block: &Block) -> bool {
    taker.node.blocks().fetch(&block.cid, LIMIT).await.unwrap() == Some(block.data.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_comes_from_the_peer_that_has_it_and_is_not_kept() {
    let (giver, taker) = pair().await;
    let block = hold(giver.node.blocks(), "block").await;
    assert!(fetched(&taker, &block).await);
    assert!(!taker.node.blocks().contains(&block.cid).await.unwrap());
    assert_eq!(giver.network().counts().blocks_sent, 1);
    wait("the block is counted", || taker.network().counts().blocks_received == 1).await;
    let empty = hold(giver.node.blocks(), "").await;
    assert!(fetched(&taker, &empty).await, "a block of no bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_a_block_as_soon_as_it_is_stored() {
    let (giver, taker) = pair().await;
    let block = Block::raw("later");
    let waits = taker.node.blocks().fetch(&block.cid, LIMIT);
    let stores = async {
        wait("the want is known", || giver.node.wanted() == [block.cid]).await;
        hold(giver.node.blocks(), "later").await
    };
    let (got, _) = tokio::join!(waits, stores);
    assert_eq!(got.unwrap().as_ref(), Some(&block.data));
    wait("nothing is wanted any more", || giver.node.wanted().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_want_that_nobody_fulfils_ends_in_time_and_is_taken_back() {
    let (giver, taker) = pair().await;
    let nowhere = Block::raw("nowhere").cid;
    let blocks = taker.node.blocks();
    let (two, one) = (blocks.fetch(&nowhere, 2 * BRIEF), blocks.fetch(&nowhere, BRIEF));
    let (two, one) = tokio::join!(two, one);
    assert_eq!((two.unwrap(), one.unwrap()), (None, None));
    wait("the want is taken back", || giver.node.wanted().is_empty()).await;
    assert!(giver.network().counts().wants >= 2, "the want, and its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_peers_has_it_and_one_that_comes_while_it_is_wanted() {
    let taker = start(&client()).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        let other = start(&client()).await;
        taker.network().dial(&other.address().await).await.unwrap();
        others.push(other);
    }
    let block = hold(others[2].node.blocks(), "one of four").await;
    assert!(fetched(&taker, &block).await);
    let late = start(&client()).await;
    let block = hold(late.node.blocks(), "of a fifth").await;
    let comes = async {
        wait("it is wanted", || others.iter().all(|other| other.node.wanted() == [block.cid])).await;
        taker.network().dial(&late.address().await).await.unwrap();
    };
    let (got, ()) = tokio::join!(fetched(&taker, &block), comes);
    assert!(got);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_blocks_at_once_in_both_directions_all_arrive() {
    let (one, other) = pair().await;
    let all: Vec<_> = (0..400_u32)
        .map(|n| Bytes::from(n.to_le_bytes().repeat(if n % 50 == 0 { 400_000 } else { 10_000 })))
        .collect();
    let (even, odd): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let exchange = async |giver: &Peer, taker: &Peer, data: Vec<(usize, Bytes)>| {
        let held = join_all(data.into_iter().map(|(_, data)| hold(giver.node.blocks(), data))).await;
        let got = join_all(held.iter().map(|block| fetched(taker, block))).await;
        assert!(got.into_iter().all(|got| got));
    };
    tokio::join!(exchange(&one, &other, even), exchange(&other, &one, odd));
    assert_eq!(one.network().counts().wants_refused, 0);
}
