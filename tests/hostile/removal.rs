//! A block that leaves the store while a peer is still reading it.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use skywave::ipfs::{Block, Identity, Node};
use skywave_swarm::bitswap::message::{self, Builder, Entry, Part};
use tokio::time::timeout;

use crate::stranger::Stranger;
use crate::support::loopback::loopback;
use crate::support::station::PATIENCE;

/// More than a stream takes in before somebody reads it.
const BLOCK: usize = 2_000_000;

/// Reads the length that stands before a message.
async fn length(stream: &mut (impl futures::AsyncRead + Unpin)) -> usize {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    length
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_slowly_gets_all_of_a_block_that_is_removed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&loopback(), Identity::generate(), folder.path()).await.unwrap();
    let mut bytes = vec![0; BLOCK];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    let block = Block::raw(bytes);
    node.blocks().put_pinned(&block).await.unwrap();
    let listens = async {
        loop {
            match node.addresses().first() {
                Some(address) => return address.parse().unwrap(),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let mut stranger = Stranger::connect(&timeout(PATIENCE, listens).await.unwrap()).await;
    let mut wants = Builder::default();
    wants.want(&Entry { cid: block.cid, block: true, dont_have: true, cancel: false });
    let mut asked = stranger.bitswap().await.unwrap();
    asked.write_all(&wants.framed()).await.unwrap();
    asked.flush().await.unwrap();
    let mut answer = timeout(PATIENCE, stranger.answers.recv()).await.unwrap().unwrap();
    let mut message = vec![0; length(&mut answer).await];
    let (first, rest) = message.split_at_mut(1_000);
    answer.read_exact(first).await.unwrap();
    // The rest does not fit into what the stream takes in: it is being sent.
    node.blocks().remove(&block.cid).await.unwrap();
    assert!(!node.blocks().contains(&block.cid).await.unwrap());
    timeout(PATIENCE, answer.read_exact(rest)).await.unwrap().unwrap();
    let parts: Vec<_> = message::parts(&message).map(Result::unwrap).collect();
    assert!(parts == [Part::Block(block.cid, &block.data)]);
}
