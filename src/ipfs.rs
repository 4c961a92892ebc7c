//! The embedded IPFS node, and the only place that knows rust-ipfs.

pub mod blocks;
pub mod unixfs;

pub use blocks::Blocks;

/// Stub for the branch: replaced at merge.
#[derive(Debug, thiserror::Error)]
pub enum IpfsError {
    /// Stub.
    #[error("the block store failed on {cid}")]
    Store {
        /// Stub.
        cid: cid::Cid,
    },
}
