//! The HTTP server as its clients see it, over real sockets.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod car;
mod client;
mod conformance;
mod content;
mod fetch;
mod limits;
mod listeners;
#[path = "../support/loopback.rs"]
mod loopback;
#[path = "../support/name_network.rs"]
mod name_network;
mod names;
mod redirects;
mod removal;
mod station;
mod subdomain;
