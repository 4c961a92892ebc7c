//! Relays: one stage under simulated time with a network that is cut, and whole nodes on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
#[path = "../support"]
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod loopback;
    pub(crate) mod publisher_stage;
    pub(crate) mod relay_rig;
}

mod nodes;
mod simulated;
