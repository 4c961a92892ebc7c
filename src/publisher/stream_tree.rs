//! The stream tree: a UnixFS directory of links to blocks (UnixFS specification, "Directory"; DAG-PB). Pure.

use std::collections::{BTreeMap, HashMap};

use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::ipfs::Block;
use crate::ipfs::unixfs::Link;
use crate::ipfs::unixfs::writer::directory;

/// One file of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The raw block that holds the whole file.
    #[serde(with = "cid_text")]
    pub cid: Cid,
    /// Bytes of the file.
    pub size: u64,
}

impl From<&Block> for Entry {
    fn from(block: &Block) -> Self {
        Self { cid: block.cid, size: block.data.len() as u64 }
    }
}

/// The entry of the root that is a folder of days: the archive.
pub const ARCHIVE: &str = "archive";

/// What is on air, as a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTree {
    /// CID of the root directory.
    pub root: Cid,
    /// Highest media sequence number that the playlists list.
    pub newest: u64,
    /// Every file by its path from the root, such as `hifi/live.m3u8`; [`ARCHIVE`] is a folder, where there is one.
    pub entries: HashMap<String, Entry>,
}

/// Builds the tree of `files` (paths of one or two parts) out of links alone. A folder that is too large for one
/// block is sharded.
///
/// Returns the tree and the directory blocks to store, root last.
pub fn build(newest: u64, files: HashMap<String, Entry>) -> (StreamTree, Vec<Block>) {
    let mut root = Vec::new();
    let mut folders: BTreeMap<&str, Vec<Link>> = BTreeMap::new();
    for (path, entry) in &files {
        let (links, name) = match path.split_once('/') {
            Some((folder, name)) => (folders.entry(folder).or_default(), name),
            None => (&mut root, path.as_str()),
        };
        links.push(Link { name: name.to_owned(), cid: entry.cid, size: entry.size });
    }
    let mut blocks = Vec::with_capacity(folders.len() + 1);
    for (name, links) in folders {
        let mut folder = directory(links);
        root.push(Link { name: name.to_owned(), cid: folder.cid, size: folder.size });
        blocks.append(&mut folder.blocks);
    }
    let mut top = directory(root);
    blocks.append(&mut top.blocks);
    (StreamTree { root: top.cid, newest, entries: files }, blocks)
}

/// A CID as its text form.
pub(super) mod cid_text {
    use cid::Cid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(cid: &Cid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(cid)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    /// The same, where there may be none.
    pub(crate) mod option {
        use super::{Cid, Deserialize, Deserializer, Error, Serializer};

        pub(crate) fn serialize<S: Serializer>(cid: &Option<Cid>, serializer: S) -> Result<S::Ok, S::Error> {
            match cid {
                Some(cid) => super::serialize(cid, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Cid>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipld_dagpb::PbNode;
    use proptest::prelude::*;

    fn entry(text: &str) -> Entry {
        Entry::from(&Block::raw(text.to_owned()))
    }

    #[test]
    fn an_empty_tree_is_the_empty_directory_that_everybody_knows() {
        let (tree, blocks) = build(0, HashMap::new());
        assert_eq!(tree.root.to_string(), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
        assert_eq!(blocks.len(), 1);
    }

    #[test]
    fn folders_become_directories_and_the_root_comes_last() {
        let files = [("stream.m3u8", "a"), ("hifi/live.m3u8", "b"), ("lofi/1.m4s", "c")];
        let (tree, blocks) = build(1, files.map(|(path, text)| (path.to_owned(), entry(text))).into());
        assert_eq!(blocks.len(), 3);
        assert_eq!(blocks[2].cid, tree.root);
        let root = PbNode::from_bytes(blocks[2].data.clone()).unwrap();
        let names: Vec<_> = root.links.iter().filter_map(|link| link.name.as_deref()).collect();
        assert_eq!(names, ["hifi", "lofi", "stream.m3u8"]);
        assert_eq!(root.links[0].cid, blocks[0].cid);
    }

    proptest! {
        #[test]
        fn the_root_depends_on_content_alone_and_every_file_is_linked_once(
            names in prop::collection::btree_set("[a-z]{1,4}(/[a-z0-9]{1,6})?", 1..40),
        ) {
            let folders: Vec<_> = names.iter().filter_map(|n| n.split_once('/').map(|(f, _)| f.to_owned())).collect();
            let names: Vec<_> = names.into_iter().filter(|n| n.contains('/') || !folders.contains(n)).collect();
            let forward: HashMap<_, _> = names.iter().map(|n| (n.clone(), entry(n))).collect();
            let backward: HashMap<_, _> = names.iter().rev().map(|n| (n.clone(), entry(n))).collect();
            let (tree, blocks) = build(0, forward);
            prop_assert_eq!(tree.root, build(0, backward).0.root);
            let links: usize = blocks
                .iter()
                .map(|block| PbNode::from_bytes(block.data.clone()).unwrap().links.len())
                .sum();
            prop_assert_eq!(links, names.len() + blocks.len() - 1);
        }
    }
}
