//! The embedded IPFS node, and the only place that knows rust-ipfs.
