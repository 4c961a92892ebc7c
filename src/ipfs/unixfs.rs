//! Read side of UnixFS: paths to nodes, files to byte ranges.
//!
//! In: a root CID, a path, the blocks this node holds. Out: one node, or a file's bytes as a stream that holds one
//! block at a time. Blocks may come from anyone, so every declared size is checked against what is there, and
//! depth, block size and file size are bounded: a hostile DAG costs its reader an error, not memory or a loop.
//!
//! Formats: the DAG-PB and UnixFS specifications (<https://specs.ipfs.tech/unixfs/>).

mod hamt;
mod reader;
mod wire;
pub mod writer;

use bytes::Bytes;
use cid::Cid;

use super::{Blocks, IpfsError};

pub use reader::FileReader;

/// Multicodec of a block that is nothing but bytes.
pub const RAW: u64 = 0x55;
/// Multicodec of a DAG-PB block.
pub const DAG_PB: u64 = 0x70;

/// The largest block that is read; the limit of Bitswap.
pub const MAX_BLOCK_BYTES: usize = 2 * 1024 * 1024;
/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// The deepest tree of blocks under one file. With 174 links a block, 16 levels are far past [`MAX_FILE_BYTES`].
pub const MAX_FILE_DEPTH: usize = 16;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnixFsError {
    /// The block is not held here. Worth another try elsewhere; nothing is wrong with it.
    #[error("block {cid} is not held here")]
    NotHeld {
        /// The missing block.
        cid: Cid,
    },
    /// The directory has no such entry.
    #[error("directory {directory} has no entry {name:?}")]
    NoSuchEntry {
        /// The directory looked into.
        directory: Cid,
        /// The name looked for.
        name: String,
    },
    /// The path goes on below something that is not a directory.
    #[error("{cid} is not a directory, so it has no entry {name:?}")]
    NotADirectory {
        /// The file in the way.
        cid: Cid,
        /// The name looked for in it.
        name: String,
    },
    /// A directory split by the hash of its names (HAMT).
    #[error("{cid} is a sharded directory, which this gateway does not read")]
    Sharded {
        /// The shard.
        cid: Cid,
    },
    /// The block breaks its format or one of the limits.
    #[error("block {cid} is not valid: {reason}")]
    Invalid {
        /// The block at fault.
        cid: Cid,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The block is not DAG-PB as its CID claims.
    #[error("block {cid} is not DAG-PB")]
    DagPb {
        /// The block at fault.
        cid: Cid,
        /// What the decoder says.
        #[source]
        source: ipld_dagpb::Error,
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
}

/// What one block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A raw block: a whole file, or a leaf of one.
    Raw(Bytes),
    /// A file, with the blocks that make it.
    File(File),
    /// A directory.
    Directory(Vec<Link>),
    /// A symbolic link and its target. Never followed.
    Symlink(String),
    /// A block of another codec: no UnixFS, its bytes as they are.
    Other(Bytes),
}

/// The root of a file's tree of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Bytes of the whole file.
    pub size: u64,
    /// The first bytes of the file, when the block itself holds some.
    pub inline: Bytes,
    /// The blocks that hold the rest, in order, each with the number of file bytes under it.
    pub blocks: Vec<(Cid, u64)>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name of the entry.
    pub name: String,
    /// What it points to.
    pub cid: Cid,
    /// Bytes of the whole DAG under it, as the directory claims.
    pub size: u64,
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The node's CID.
    pub cid: Cid,
    /// The node.
    pub node: Node,
    /// The segments left over, when the path goes on below a node that is no UnixFS.
    pub remainder: Vec<String>,
    /// The root and the CID that each segment led to: the value of `X-Ipfs-Roots`.
    pub roots: Vec<Cid>,
}

/// Reads one block.
///
/// # Errors
/// [`UnixFsError::NotHeld`] for a block that is not here, [`UnixFsError::Invalid`] for one above
/// [`MAX_BLOCK_BYTES`].
pub async fn block(blocks: &Blocks, cid: &Cid) -> Result<Bytes, UnixFsError> {
    let held = blocks.get(cid).await.map_err(|source| UnixFsError::Store { cid: *cid, source })?;
    let bytes = held.ok_or(UnixFsError::NotHeld { cid: *cid })?;
    if bytes.len() > MAX_BLOCK_BYTES {
        return Err(UnixFsError::Invalid { cid: *cid, reason: "it is larger than 2 MiB" });
    }
    Ok(bytes)
}

/// Reads and parses one block.
///
/// # Errors
/// As [`block`] and [`parse`].
pub async fn load(blocks: &Blocks, cid: &Cid) -> Result<Node, UnixFsError> {
    parse(*cid, block(blocks, cid).await?)
}

/// Parses a block by the codec of its CID.
///
/// # Errors
/// [`UnixFsError::DagPb`] and [`UnixFsError::Invalid`] for a block that breaks its format,
/// [`UnixFsError::Sharded`] for a HAMT directory.
pub fn parse(cid: Cid, bytes: Bytes) -> Result<Node, UnixFsError> {
    match cid.codec() {
        RAW => Ok(Node::Raw(bytes)),
        DAG_PB => wire::parse_dag_pb(cid, bytes),
        _ => Ok(Node::Other(bytes)),
    }
}

/// Follows `path` from `root`, one directory per segment.
///
/// # Errors
/// As [`load`]; [`UnixFsError::NoSuchEntry`] and [`UnixFsError::NotADirectory`] where the path ends early.
pub async fn resolve(blocks: &Blocks, root: Cid, path: &[String]) -> Result<Resolved, UnixFsError> {
    let mut cid = root;
    let mut node = load(blocks, &cid).await?;
    let mut roots = vec![cid];
    for (depth, name) in path.iter().enumerate() {
        let links = match &node {
            Node::Directory(links) => links,
            Node::Other(_) => return Ok(Resolved { cid, node, remainder: path[depth..].to_vec(), roots }),
            Node::Raw(_) | Node::File(_) | Node::Symlink(_) => {
                return Err(UnixFsError::NotADirectory { cid, name: name.clone() });
            }
        };
        let link = links.iter().find(|link| link.name == *name);
        cid = link.ok_or_else(|| UnixFsError::NoSuchEntry { directory: cid, name: name.clone() })?.cid;
        node = load(blocks, &cid).await?;
        roots.push(cid);
    }
    Ok(Resolved { cid, node, remainder: Vec::new(), roots })
}

#[cfg(test)]
pub(crate) mod tests;
