//! What a mirror holds, and which blocks it lacks for another tree.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use cid::Cid;

use super::MirrorError;
use crate::ipfs::Blocks;
use crate::ipfs::block::RAW;
use crate::ipfs::traversal::{self, MAX_BLOCKS, TraversalError};

/// The blocks under the root that a mirror has pinned: each block with links, and what it links to.
///
/// Directories that stay the same from tick to tick are read once.
#[derive(Debug, Default)]
pub struct Holding {
    nodes: HashMap<Cid, Arc<[Cid]>>,
}

/// How a mirror gets to a root.
#[derive(Debug)]
pub struct Plan {
    /// What it holds then.
    pub holding: Holding,
    /// Blocks that it lacks: the root first, parents before children, none twice.
    pub fresh: Vec<Cid>,
}

impl Holding {
    /// Compares with the tree under `root`, which must be held in `blocks`.
    ///
    /// # Errors
    /// [`MirrorError::Gone`] when a block that the mirror lacks is not held here either; [`MirrorError::Tree`] and
    /// [`MirrorError::Store`] when the blocks cannot be read.
    pub async fn plan(&self, blocks: &Blocks, root: Cid) -> Result<Plan, MirrorError> {
        let held: HashSet<&Cid> = self.nodes.values().flat_map(|links| links.iter()).collect();
        let (mut nodes, mut fresh) = (HashMap::new(), Vec::new());
        let (mut pending, mut leaves) = (vec![root], HashSet::new());
        while let Some(cid) = pending.pop() {
            if cid.codec() == RAW {
                if !held.contains(&cid) && leaves.insert(cid) {
                    if !blocks.contains(&cid).await? {
                        return Err(MirrorError::Gone { cid });
                    }
                    fresh.push(cid);
                }
            } else if let Entry::Vacant(node) = nodes.entry(cid) {
                let links = match self.nodes.get(&cid) {
                    // Its leaves are held there as well.
                    Some(links) => {
                        pending.extend(links.iter().rev().filter(|link| link.codec() != RAW));
                        links.clone()
                    }
                    None => {
                        let links = read(blocks, cid).await?;
                        pending.extend(links.iter().rev());
                        fresh.push(cid);
                        links
                    }
                };
                node.insert(links);
            }
            if pending.len().max(fresh.len()).max(nodes.len()) > MAX_BLOCKS {
                return Err(TraversalError::TooMany { root, limit: MAX_BLOCKS }.into());
            }
        }
        Ok(Plan { holding: Self { nodes }, fresh })
    }
}

async fn read(blocks: &Blocks, cid: Cid) -> Result<Arc<[Cid]>, MirrorError> {
    let data = blocks.get(&cid).await?.ok_or(MirrorError::Gone { cid })?;
    Ok(traversal::links(cid, &data)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;
    use crate::publisher::stream_tree;
    use futures::TryStreamExt;
    use proptest::prelude::*;

    /// A tree of these files, all of it stored.
    async fn tree(blocks: &Blocks, files: &[(String, u8)]) -> Cid {
        let mut entries = HashMap::new();
        for (path, content) in files {
            let leaf = Block::raw(vec![*content]);
            blocks.put_pinned(&leaf).await.unwrap();
            entries.insert(path.clone(), stream_tree::Entry::from(&leaf));
        }
        let (tree, directories) = stream_tree::build(0, entries);
        for block in &directories {
            blocks.put_pinned(block).await.unwrap();
        }
        tree.root
    }

    async fn all(blocks: &Blocks, root: Cid) -> Vec<Cid> {
        let walk = traversal::Walk::new(blocks, root).into_stream();
        walk.map_ok(|block| block.cid).try_collect().await.unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_pushed_is_exactly_what_the_mirror_lacks(
            trees in prop::collection::vec(prop::collection::btree_map("[a-c]/[a-h]", 0_u8..12, 0..12), 1..8),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (blocks, mut holding) = (Blocks::in_memory(), Holding::default());
                let mut mirrored: HashSet<Cid> = HashSet::new();
                for files in trees {
                    let root = tree(&blocks, &files.into_iter().collect::<Vec<_>>()).await;
                    let whole = all(&blocks, root).await;
                    let plan = holding.plan(&blocks, root).await.unwrap();
                    let lacking: Vec<_> = whole.iter().copied().filter(|cid| !mirrored.contains(cid)).collect();
                    assert_eq!(plan.fresh, lacking);
                    // The mirror keeps the newest tree and no more.
                    mirrored = whole.into_iter().collect();
                    holding = plan.holding;
                }
            });
        }
    }

    #[tokio::test]
    async fn a_tick_whose_blocks_are_gone_is_told() {
        let blocks = Blocks::in_memory();
        let root = tree(&blocks, &[("a/x".into(), 1), ("b/y".into(), 2)]).await;
        let before = Holding::default().plan(&blocks, root).await.unwrap();
        blocks.remove(&Block::raw(vec![2]).cid).await.unwrap();
        assert!(matches!(Holding::default().plan(&blocks, root).await, Err(MirrorError::Gone { .. })));
        // What the mirror holds already need not be here.
        assert!(before.holding.plan(&blocks, root).await.unwrap().fresh.is_empty());
    }
}
