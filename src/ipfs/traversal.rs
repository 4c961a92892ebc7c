//! Walks the blocks under a root: depth first, parents before children, links in their order, no block twice.
//!
//! That is the order in which CARs are written (`dfs`, no duplicates), and in which a reader can check every block by
//! one that it has seen. Memory is bounded by [`Walk::limit`], whatever the blocks claim.

use std::collections::HashSet;

use bytes::Bytes;
use cid::Cid;
use futures::{Stream, stream};
use thiserror::Error;

use super::{Block, Blocks, IpfsError, ipld};

/// Blocks that one walk visits at most unless it is told otherwise: a terabyte in blocks of 1 MiB.
pub const MAX_BLOCKS: usize = 1 << 20;

/// Multicodec of the identity hash: the CID holds the block.
const IDENTITY: u64 = 0x00;

/// Why a walk cannot visit a block. It concerns that block alone: the walk may go on behind it.
#[derive(Debug, Error)]
pub enum TraversalError {
    /// The block is not held here.
    #[error("block {cid} is not held here")]
    NotHeld {
        /// The missing block.
        cid: Cid,
    },
    /// The block store failed.
    #[error("cannot read block {cid}")]
    Store {
        /// The block asked for.
        cid: Cid,
        /// What the store says.
        #[source]
        source: IpfsError,
    },
    /// The block is not of the codec that its CID claims, so its links are not known.
    #[error("block {cid} breaks its codec")]
    Broken {
        /// The block at fault.
        cid: Cid,
    },
    /// The block is of a codec whose links are not followed here.
    #[error("the links of block {cid} are not known: its codec {codec:#x} is not read here")]
    Codec {
        /// The block.
        cid: Cid,
        /// Multicodec of its codec.
        codec: u64,
    },
    /// There are more blocks than the walk may visit.
    #[error("there are more than {limit} blocks under {root}")]
    TooMany {
        /// Where the walk began.
        root: Cid,
        /// Blocks that it may visit.
        limit: usize,
    },
}

/// A walk in progress.
#[derive(Debug)]
pub struct Walk {
    blocks: Blocks,
    root: Cid,
    /// What is still to be visited, next last.
    pending: Vec<Cid>,
    seen: HashSet<Cid>,
    limit: usize,
}

impl Walk {
    /// Begins at `root`, over the blocks that are held here.
    pub fn new(blocks: &Blocks, root: Cid) -> Self {
        Self { blocks: blocks.clone(), root, pending: vec![root], seen: HashSet::new(), limit: MAX_BLOCKS }
    }

    /// Bounds the number of blocks visited, and of links that wait to be.
    pub fn limit(mut self, blocks: usize) -> Self {
        self.limit = blocks;
        self
    }

    /// The next block; `None` at the end. A block that its CID holds itself is walked through and not given.
    ///
    /// # Errors
    /// [`TraversalError`]; but for [`TraversalError::TooMany`], the walk goes on with the next call.
    pub async fn next_block(&mut self) -> Result<Option<Block>, TraversalError> {
        while let Some(cid) = self.pending.pop() {
            if self.seen.contains(&cid) {
                continue;
            }
            if self.seen.len() >= self.limit {
                return Err(self.too_many());
            }
            self.seen.insert(cid);
            if cid.hash().code() == IDENTITY {
                self.follow(cid, &Bytes::copy_from_slice(cid.hash().digest()))?;
                continue;
            }
            let held = self.blocks.get(&cid).await.map_err(|source| TraversalError::Store { cid, source })?;
            let data = held.ok_or(TraversalError::NotHeld { cid })?;
            self.follow(cid, &data)?;
            return Ok(Some(Block { cid, data }));
        }
        Ok(None)
    }

    /// The blocks as a stream that ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Block, TraversalError>> + Send {
        stream::unfold(Some(self), |walk| async move {
            let mut walk = walk?;
            match walk.next_block().await {
                Ok(block) => block.map(|block| (Ok(block), Some(walk))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Puts the links of a block on the list, the first one on top.
    fn follow(&mut self, cid: Cid, data: &Bytes) -> Result<(), TraversalError> {
        let before = self.pending.len();
        let links = links(cid, data)?;
        self.pending.extend(links.into_iter().filter(|link| !self.seen.contains(link)));
        self.pending[before..].reverse();
        if self.pending.len() > self.limit { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&mut self) -> TraversalError {
        self.pending = Vec::new();
        TraversalError::TooMany { root: self.root, limit: self.limit }
    }
}

/// What a block links to, in order and as often as it does.
///
/// # Errors
/// [`TraversalError::Broken`] for a block that breaks its codec, [`TraversalError::Codec`] for one of an unknown codec.
pub fn links(cid: Cid, data: &Bytes) -> Result<Vec<Cid>, TraversalError> {
    match cid.codec() {
        codec if !ipld::is_known(codec) => Err(TraversalError::Codec { cid, codec }),
        _ => ipld::links(&cid, data).ok_or(TraversalError::Broken { cid }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::unixfs::RAW;
    use futures::TryStreamExt;
    use ipld_dagpb::{PbLink, PbNode};

    /// Multicodec of a raw Git object.
    const GIT_RAW: u64 = 0x78;

    async fn stored(blocks: &Blocks, block: Block) -> Block {
        blocks.put(block.cid, block.data.clone()).await.unwrap();
        block
    }

    async fn node(blocks: &Blocks, children: &[&Block]) -> Block {
        let link = |block: &&Block| PbLink { cid: block.cid, name: Some(String::new()), size: None };
        let node = PbNode { links: children.iter().map(link).collect(), data: None };
        stored(blocks, Block::dag_pb(node.into_bytes())).await
    }

    #[tokio::test]
    async fn parents_come_before_children_links_in_order_and_no_block_twice() {
        let blocks = Blocks::in_memory();
        let [a, b, c] = [Block::raw("a"), Block::raw("b"), Block::raw("c")];
        for leaf in [&a, &b, &c] {
            stored(&blocks, leaf.clone()).await;
        }
        let left = node(&blocks, &[&b, &a]).await;
        let right = node(&blocks, &[&left, &c, &a]).await;
        let root = node(&blocks, &[&left, &right, &left]).await;
        let walked: Vec<_> = Walk::new(&blocks, root.cid).into_stream().try_collect().await.unwrap();
        assert_eq!(walked, [root, left, b, a, right, c]);
    }

    #[tokio::test]
    async fn links_of_dag_json_are_followed_as_those_of_directories_are() {
        let blocks = Blocks::in_memory();
        let leaf = stored(&blocks, Block::raw("leaf")).await;
        let directory = node(&blocks, &[&leaf]).await;
        let json = Block::raw(format!(r#"{{"a":[{{"/":"{}"}}]}}"#, directory.cid));
        let json = Block { cid: Cid::new_v1(ipld::DAG_JSON, *json.cid.hash()), data: json.data };
        stored(&blocks, json.clone()).await;
        let walked: Vec<_> = Walk::new(&blocks, json.cid).into_stream().try_collect().await.unwrap();
        assert_eq!(walked, [json, directory, leaf]);
    }

    #[tokio::test]
    async fn a_missing_block_is_named_and_the_walk_can_go_on() {
        let blocks = Blocks::in_memory();
        let (missing, there) = (Block::raw("missing"), stored(&blocks, Block::raw("there")).await);
        let root = node(&blocks, &[&missing, &there]).await;
        let mut walk = Walk::new(&blocks, root.cid);
        assert_eq!(walk.next_block().await.unwrap(), Some(root));
        let error = walk.next_block().await.unwrap_err();
        assert!(matches!(error, TraversalError::NotHeld { cid } if cid == missing.cid), "{error}");
        assert_eq!(walk.next_block().await.unwrap(), Some(there));
        assert_eq!(walk.next_block().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_walk_visits_no_more_blocks_than_it_may() {
        let blocks = Blocks::in_memory();
        let leaf = stored(&blocks, Block::raw("leaf")).await;
        let chain = node(&blocks, &[&leaf]).await;
        let root = node(&blocks, &[&chain]).await;
        let visit = |limit| Walk::new(&blocks, root.cid).limit(limit).into_stream().try_collect::<Vec<_>>();
        assert_eq!(visit(3).await.unwrap().len(), 3);
        assert!(matches!(visit(2).await, Err(TraversalError::TooMany { limit: 2, .. })));
        // A block of many links costs no more than the limit either.
        let wide = node(&blocks, &[&leaf; 50]).await;
        let walk = Walk::new(&blocks, wide.cid).limit(20).into_stream().try_collect::<Vec<_>>();
        assert!(matches!(walk.await, Err(TraversalError::TooMany { limit: 20, .. })));
    }

    #[tokio::test]
    async fn blocks_of_other_codecs_are_told_and_identity_blocks_are_walked_through() {
        let blocks = Blocks::in_memory();
        let git = Block::raw("tree");
        let git = Block { cid: Cid::new_v1(GIT_RAW, *git.cid.hash()), data: git.data };
        stored(&blocks, git.clone()).await;
        let error = Walk::new(&blocks, git.cid).next_block().await.unwrap_err();
        assert!(error.to_string().contains("0x78"), "{error}");
        let broken = Block::raw("\x18");
        let broken = Block { cid: Cid::new_v1(ipld::DAG_CBOR, *broken.cid.hash()), data: broken.data };
        stored(&blocks, broken.clone()).await;
        let error = Walk::new(&blocks, broken.cid).next_block().await.unwrap_err();
        assert!(matches!(error, TraversalError::Broken { cid } if cid == broken.cid), "{error}");
        let inline = cid::multihash::Multihash::wrap(IDENTITY, b"inline").unwrap();
        let inline = Block { cid: Cid::new_v1(RAW, inline), data: Bytes::new() };
        let root = node(&blocks, &[&inline]).await;
        let walked: Vec<_> = Walk::new(&blocks, root.cid).into_stream().try_collect().await.unwrap();
        assert_eq!(walked, [root]);
    }
}
