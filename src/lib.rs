//! Skywave: a radio station that broadcasts over IPFS, in one process.
//!
//! ```text
//! music file -> samples -> AAC frames -> segment -> block / CID -> stream tree -> IPNS record -> listener
//!   library     player      encoder       hls       publisher                                  http
//! ```

pub mod appliance;
pub mod archive;
pub mod audio;
pub mod clock;
pub mod config;
pub mod encoder;
pub mod health;
pub mod hls;
pub mod http;
pub mod http_client;
pub mod ipfs;
pub mod leds;
pub mod library;
pub mod logging;
pub mod metrics;
pub mod mirror;
pub mod network;
pub mod notices;
pub mod pins;
pub mod player;
pub mod publisher;
pub mod relay;
pub mod retention;
pub mod service;
pub mod state;
pub mod supervisor;
pub mod sync;
