//! Read side of UnixFS: paths to nodes, files to byte ranges.
//!
//! In: a root CID, a path, the blocks this node holds. Out: one node, or a file's bytes as a stream that holds one
//! block at a time. Blocks may come from anyone, so every declared size is checked against what is there, and
//! depth, block size and file size are bounded: a hostile DAG costs its reader an error, not memory or a loop.
//!
//! Formats: the DAG-PB and UnixFS specifications (<https://specs.ipfs.tech/unixfs/>).

mod hamt;
mod path;
mod reader;
mod sharded_directory;
pub(in crate::ipfs) mod wire;
pub mod writer;

use std::future::Future;

use bytes::Bytes;
use cid::Cid;

use super::{Blocks, IpfsError};

pub use path::{Resolved, resolve};
pub use reader::FileReader;
pub use sharded_directory::{Entries, Shard};

/// Multicodec of a block that is nothing but bytes.
pub const RAW: u64 = 0x55;
/// Multicodec of a DAG-PB block.
pub const DAG_PB: u64 = 0x70;

/// Multicodec of the identity hash, whose digest is the block.
const IDENTITY: u64 = 0x00;

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
    /// The block is not held here, and could not be had from others.
    #[error("block {cid} is not held here, and {reason}")]
    NotFetched {
        /// The missing block.
        cid: Cid,
        /// Why it did not come.
        reason: NotFetched,
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

/// Why a block did not come from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFetched {
    /// Nobody sent it in time.
    #[error("nobody sent it in time")]
    Timeout,
    /// What the request may fetch is used up.
    #[error("the request needs more than may be fetched for one")]
    TooMuch,
    /// As many requests as may be are fetching already.
    #[error("too many requests are fetching already")]
    Busy,
}

/// Where a reader takes blocks from.
pub trait BlockReader: Clone + Send + Sync + 'static {
    /// The bytes of a block, which match its CID.
    ///
    /// # Errors
    /// [`UnixFsError::NotHeld`], [`UnixFsError::NotFetched`] and [`UnixFsError::Store`].
    fn read(&self, cid: &Cid) -> impl Future<Output = Result<Bytes, UnixFsError>> + Send;
}

impl BlockReader for Blocks {
    async fn read(&self, cid: &Cid) -> Result<Bytes, UnixFsError> {
        let held = self.get(cid).await.map_err(|source| UnixFsError::Store { cid: *cid, source })?;
        held.ok_or(UnixFsError::NotHeld { cid: *cid })
    }
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
    /// A directory split by the hash of its names (HAMT), or one of its parts.
    Shard(Shard),
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

/// Reads one block. A block under an identity hash is its own CID and is always there.
///
/// # Errors
/// [`UnixFsError::NotHeld`] for a block that is not here, [`UnixFsError::Invalid`] for one above
/// [`MAX_BLOCK_BYTES`].
pub async fn block<S: BlockReader>(source: &S, cid: &Cid) -> Result<Bytes, UnixFsError> {
    if is_identity(cid) {
        return Ok(Bytes::copy_from_slice(cid.hash().digest()));
    }
    let bytes = source.read(cid).await?;
    if bytes.len() > MAX_BLOCK_BYTES {
        return Err(UnixFsError::Invalid { cid: *cid, reason: "it is larger than 2 MiB" });
    }
    Ok(bytes)
}

/// Whether the CID itself holds the bytes.
pub fn is_identity(cid: &Cid) -> bool {
    cid.hash().code() == IDENTITY
}

/// Reads and parses one block.
///
/// # Errors
/// As [`block`] and [`parse`].
pub async fn load<S: BlockReader>(source: &S, cid: &Cid) -> Result<Node, UnixFsError> {
    parse(*cid, block(source, cid).await?)
}

/// Parses a block by the codec of its CID.
///
/// # Errors
/// [`UnixFsError::DagPb`] and [`UnixFsError::Invalid`] for a block that breaks its format.
pub fn parse(cid: Cid, bytes: Bytes) -> Result<Node, UnixFsError> {
    match cid.codec() {
        RAW => Ok(Node::Raw(bytes)),
        DAG_PB => wire::parse_dag_pb(cid, bytes),
        _ => Ok(Node::Other(bytes)),
    }
}

/// The entries of a directory of either kind, `max` at most.
///
/// # Errors
/// As [`load`]; [`UnixFsError::NotADirectory`] for what is none.
pub async fn list<S: BlockReader>(
    source: &S,
    cid: Cid,
    node: &Node,
    max: usize,
) -> Result<Entries, UnixFsError> {
    sharded_directory::list(source, cid, node, max).await
}

/// The entry `name` of a directory of either kind.
///
/// # Errors
/// As [`list`]; [`UnixFsError::NoSuchEntry`] where there is none of that name.
pub async fn entry<S: BlockReader>(
    source: &S,
    cid: Cid,
    node: &Node,
    name: &str,
) -> Result<Link, UnixFsError> {
    let missing = || UnixFsError::NoSuchEntry { directory: cid, name: name.to_owned() };
    match node {
        Node::Directory(links) => links.iter().find(|link| link.name == name).cloned().ok_or_else(missing),
        Node::Shard(shard) => Ok(sharded_directory::find(source, cid, shard.clone(), name).await?.link),
        _ => Err(UnixFsError::NotADirectory { cid, name: name.to_owned() }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
