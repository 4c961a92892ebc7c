//! The HTTP server as its clients see it, over real sockets.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod client;
mod content;
mod limits;
mod station;
