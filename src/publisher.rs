//! Publisher stage: segments to blocks, the stream tree and the IPNS record.

pub mod stream_tree;
