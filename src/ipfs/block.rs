//! Blocks with their CIDs (CIDv1, sha2-256). Pure.

use bytes::Bytes;
use cid::Cid;
use multihash_codetable::{Code, MultihashDigest};

/// Multicodec of raw bytes.
pub const RAW: u64 = 0x55;
/// Multicodec of DAG-PB.
pub const DAG_PB: u64 = 0x70;

/// Bytes under the name of their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// CIDv1 of `data`.
    pub cid: Cid,
    /// The bytes.
    pub data: Bytes,
}

impl Block {
    /// A raw leaf: a whole file that is one block.
    pub fn raw(data: impl Into<Bytes>) -> Self {
        Self::new(RAW, data.into())
    }

    /// An encoded DAG-PB node.
    pub fn dag_pb(data: impl Into<Bytes>) -> Self {
        Self::new(DAG_PB, data.into())
    }

    /// Bytes of another codec, by its multicodec.
    pub fn of(codec: u64, data: Bytes) -> Self {
        Self::new(codec, data)
    }

    fn new(codec: u64, data: Bytes) -> Self {
        Self { cid: Cid::new_v1(codec, Code::Sha2_256.digest(&data)), data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cid_is_the_one_that_every_implementation_gives() {
        // `printf hello | ipfs add --raw-leaves --cid-version 1`
        let block = Block::raw("hello");
        assert_eq!(block.cid.to_string(), "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq");
    }
}
