//! What strangers do to a station on the network: nothing they do takes it off the air or fills its memory, and each
//! refusal is counted. The station is the real program in a process of its own, so its memory is its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
#[path = "../support"]
mod support {
    pub(crate) mod http_client;
    pub(crate) mod loopback;
    pub(crate) mod station;
}

mod removal;
mod silent;
mod stranger;
mod target;
mod wants;
