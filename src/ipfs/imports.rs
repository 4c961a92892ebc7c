//! What an owner has imported and wants kept, beside the repo that holds the blocks.
//!
//! The station removes blocks that its window does not need; those named here it leaves alone.

use std::path::Path;

use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::state::{Durability, StateError, StateFile};

const FILE: &str = "imports.json";

/// The imports, as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imports {
    /// In the order in which they came.
    pub imports: Vec<Import>,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// What the owner knows it by.
    #[serde(with = "cid_texts")]
    pub roots: Vec<Cid>,
    /// Bytes of its blocks.
    pub bytes: u64,
    /// Every block that came with it.
    #[serde(with = "cid_texts")]
    pub blocks: Vec<Cid>,
}

impl Imports {
    /// Reads the list in the station's data folder; an empty one where there is none. A damaged one is set aside, see
    /// [`Imports::damaged`].
    ///
    /// # Errors
    /// [`StateError::Read`] when the file is there and cannot be read.
    pub fn load(data: &Path) -> Result<Self, StateError> {
        Ok(file(data).load()?.unwrap_or_default())
    }

    /// Whether a damaged list lies in the data folder: while it does, nobody knows what was imported.
    pub fn damaged(data: &Path) -> bool {
        data.join(format!("{FILE}.damaged")).exists()
    }

    /// Writes the list, through to the disk.
    ///
    /// # Errors
    /// [`StateError::Write`]; the list before still stands.
    pub fn save(&self, data: &Path) -> Result<(), StateError> {
        file(data).save(self)
    }

    /// Adds an import; the same one twice stands there once.
    pub fn add(&mut self, import: Import) {
        if !self.imports.contains(&import) {
            self.imports.push(import);
        }
    }

    /// Takes imports of this root off the list; says whether there were any.
    pub fn forget(&mut self, root: &Cid) -> bool {
        let before = self.imports.len();
        self.imports.retain(|import| !import.roots.contains(root));
        self.imports.len() != before
    }

    /// Every imported block; one that came twice stands there twice.
    pub fn blocks(&self) -> impl Iterator<Item = &Cid> {
        self.imports.iter().flat_map(|import| &import.blocks)
    }
}

fn file(data: &Path) -> StateFile {
    StateFile::new(data.join(FILE), Durability::Power)
}

/// CIDs in their text form.
mod cid_texts {
    use cid::Cid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(cids: &[Cid], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(cids.iter().map(Cid::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cid>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;

    fn import(root: &str, blocks: &[&str]) -> Import {
        let cid = |text: &str| Block::raw(text.to_owned()).cid;
        Import { roots: vec![cid(root)], bytes: 5, blocks: blocks.iter().map(|block| cid(block)).collect() }
    }

    #[test]
    fn a_list_is_read_back_and_forgets_by_root() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Imports::load(folder.path()).unwrap(), Imports::default());
        let mut imports = Imports::default();
        imports.add(import("a", &["a", "b"]));
        imports.add(import("c", &["c"]));
        imports.add(import("a", &["a", "d"]));
        imports.add(import("a", &["a", "d"]));
        imports.save(folder.path()).unwrap();
        let mut read = Imports::load(folder.path()).unwrap();
        assert_eq!(read, imports);
        assert_eq!(read.blocks().count(), 5);
        assert!(read.forget(&Block::raw("a").cid) && !read.forget(&Block::raw("a").cid));
        assert_eq!(read.imports, [import("c", &["c"])]);
    }

    #[test]
    fn a_damaged_list_is_noticed_as_long_as_it_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), b"{\"imports\": [").unwrap();
        assert!(!Imports::damaged(folder.path()));
        assert_eq!(Imports::load(folder.path()).unwrap(), Imports::default());
        assert!(Imports::damaged(folder.path()));
    }
}
