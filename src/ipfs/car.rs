//! CAR files: blocks with their CIDs in one stream (<https://ipld.io/specs/transport/car/>). Pure.
//!
//! Written is CARv1, a [`header`] and then one [`section`] for each block; whoever streams one sends these as they come.
//! Read are CARv1 and CARv2, by a [`Reader`] that is given bytes in pieces of any size and holds one section at most.

mod reader;
mod varint;

use bytes::{BufMut, Bytes, BytesMut};
use cid::Cid;
use multihash_codetable::{Code, MultihashDigest};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use reader::Reader;

/// Media type of what is written, as registered at IANA.
pub const CONTENT_TYPE: &str = "application/vnd.ipld.car; version=1";

/// The longest header that is read, its length not counted. Enough for 700 roots.
pub const MAX_HEADER_BYTES: u64 = 32 * 1024;
/// The longest section that is read: CID and block.
pub const MAX_SECTION_BYTES: u64 = 4 * 1024 * 1024;
/// The largest block that is read; the limit of Bitswap.
pub const MAX_BLOCK_BYTES: u64 = 2 * 1024 * 1024;

/// Multicodec of the identity hash: the digest is the block.
const IDENTITY: u64 = 0x00;
/// Multicodec of SHA2-256.
const SHA2_256: u64 = 0x12;

/// Why a CAR is refused. Offsets count from the first byte of the file; that of a block is where its section begins.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CarError {
    /// The bytes end early.
    #[error("the CAR ends at byte {offset}, in the middle of {part}")]
    Truncated {
        /// Bytes that there were.
        offset: u64,
        /// What is cut off.
        part: String,
    },
    /// A length is no varint as the multiformats specification has it.
    #[error("byte {offset}: the length is {reason}")]
    Varint {
        /// Where the length begins.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The header is empty, too long, or not the DAG-CBOR that it should be.
    #[error("byte {offset}: the header {reason}")]
    Header {
        /// Where the header begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A version that is not read: neither 1 nor 2, or another one than 1 inside a CARv2.
    #[error("byte {offset}: version {version} of the CAR format is not known")]
    Version {
        /// Where the header begins.
        offset: u64,
        /// The version that it claims.
        version: u64,
    },
    /// The CARv2 header contradicts itself.
    #[error("byte {offset}: the CARv2 header {reason}")]
    Envelope {
        /// Where the CARv2 header begins.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A section of no bytes; some writers pad with them, and the specification has none.
    #[error("byte {offset}: a section of zero bytes")]
    EmptySection {
        /// Where it begins.
        offset: u64,
    },
    /// A section is longer than [`MAX_SECTION_BYTES`] or than what is left of a CARv2's data.
    #[error("byte {offset}: a section of {length} bytes, more than {limit}")]
    SectionTooLong {
        /// Where it begins.
        offset: u64,
        /// Bytes that it claims.
        length: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// A section does not begin with a CID.
    #[error("byte {offset}: no valid CID ({reason})")]
    Cid {
        /// Where the section begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A block is larger than [`MAX_BLOCK_BYTES`].
    #[error("byte {offset}: block {cid} has {length} bytes, more than {MAX_BLOCK_BYTES}")]
    BlockTooLarge {
        /// Where its section begins.
        offset: u64,
        /// Its CID.
        cid: Cid,
        /// Its bytes.
        length: u64,
    },
    /// A block is not the one that its CID names.
    #[error("byte {offset}: the bytes of block {cid} do not match its CID")]
    Hash {
        /// Where its section begins.
        offset: u64,
        /// The CID that was claimed.
        cid: Cid,
    },
    /// A block is named by a hash function other than SHA2-256 and identity, so it cannot be checked.
    #[error("byte {offset}: block {cid} is hashed with function {function:#x}, which is not known here")]
    HashFunction {
        /// Where its section begins.
        offset: u64,
        /// Its CID.
        cid: Cid,
        /// Multicodec of the hash function.
        function: u64,
    },
    /// A CARv2 goes on behind its data, and announces no index there.
    #[error("byte {offset}: the CARv2 goes on behind its data")]
    TrailingBytes {
        /// The first byte that is neither data, index nor padding.
        offset: u64,
    },
}

/// The header block in DAG-CBOR; keys in the order that DAG-CBOR asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    roots: Option<Vec<Cid>>,
    version: u64,
}

/// The beginning of a CARv1 with these roots, length included. The same roots always give the same bytes.
pub fn header(roots: &[Cid]) -> Bytes {
    let header = Header { roots: Some(roots.to_vec()), version: 1 };
    let block = serde_ipld_dagcbor::to_vec(&header).expect("links and a number can be encoded");
    let mut bytes = BytesMut::with_capacity(varint::MAX_BYTES + block.len());
    varint::put(&mut bytes, block.len() as u64);
    bytes.put_slice(&block);
    bytes.freeze()
}

/// One block of a CAR: length, CID, bytes.
pub fn section(cid: &Cid, data: &[u8]) -> Bytes {
    let begin = section_begin(cid, data.len());
    let mut bytes = BytesMut::with_capacity(begin.len() + data.len());
    bytes.put_slice(&begin);
    bytes.put_slice(data);
    bytes.freeze()
}

/// What stands before the `length` bytes of a block, for writers that do not want to copy these.
pub fn section_begin(cid: &Cid, length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(varint::MAX_BYTES + cid.encoded_len());
    varint::put(&mut bytes, (cid.encoded_len() + length) as u64);
    cid.write_bytes((&mut bytes).writer()).expect("memory takes every byte");
    bytes.freeze()
}

/// Bytes of the section of a block of `length` bytes.
pub fn section_len(cid: &Cid, length: u64) -> u64 {
    let inner = cid.encoded_len() as u64 + length;
    varint::len(inner) + inner
}

/// Checks `data` against its CID. The error is the hash function's multicodec where it is not known, else `None`.
fn verify(cid: &Cid, data: &[u8]) -> Result<(), Option<u64>> {
    let matches = match cid.hash().code() {
        SHA2_256 => Code::Sha2_256.digest(data).digest() == cid.hash().digest(),
        IDENTITY => cid.hash().digest() == data,
        function => return Err(Some(function)),
    };
    if matches { Ok(()) } else { Err(None) }
}

#[cfg(test)]
mod tests;
