//! The parsers of the station alone, in modules that lie as they do there, and what feeds them foreign bytes.
//!
//! The files are those of the station, not copies. What they need and is heavy has a stand-in here: the block store lies
//! in memory, types of libp2p have the shape that is used. One module of `input` each is the body of a fuzz target.
#![allow(dead_code, unused_imports, reason = "the station uses what no target does")]

// Paths of the station that begin with these crates end here.
extern crate self as libp2p;
extern crate self as rust_ipfs;
extern crate self as skywave_swarm;

pub use libp2p_identity::PeerId;
pub use multiaddr::Multiaddr;

mod cut;
pub mod libp2p_stand_in;
pub mod state;

pub use ipfs::swarm::input as swarm;
pub use libp2p_stand_in::{KnownPeer, StreamProtocol, request_response};

/// `src/ipfs`.
#[path = "../../src/ipfs"]
pub mod ipfs {
    pub mod block;
    pub mod car;
    pub mod ipld;
    pub mod private_network;
    pub mod signature;
    pub mod traversal;
    pub mod unixfs;

    #[path = "../../fuzz/src/ipfs_stand_in.rs"]
    mod stand_in;

    pub use block::Block;
    pub use stand_in::{Blocks, IpfsError};

    pub mod ipns {
        pub mod name;
        pub mod record;

        pub use name::Name;
        pub use record::{Record, RecordError};
    }

    pub mod peers {
        pub mod saved;
        pub mod seeds;
    }

    pub mod swarm {
        #[path = "src/bitswap"]
        pub mod bitswap {
            pub mod message;
        }

        #[path = "src/fetch.rs"]
        pub mod fetch;
        #[path = "../../../fuzz/src/swarm.rs"]
        pub mod input;
        #[path = "src/protobuf.rs"]
        pub(crate) mod protobuf;
    }
}

/// `src/http`.
#[path = "../../src/http"]
pub mod http {
    mod call;
    mod content_type;
    mod request_path;
    mod respond;
    mod weighted;

    #[path = "../../fuzz/src/body.rs"]
    mod body;

    pub mod gateway {
        mod car_request;
        mod disposition;
        mod format;
        mod host;
        mod redirect;
        mod redirects_file;

        #[path = "../../../fuzz/src/http_request.rs"]
        pub mod input;
    }
}

/// `src/network`.
#[path = "../../src/network"]
mod network {
    pub mod http_url;
}

/// `src/sync`.
#[path = "../../src/sync"]
mod sync {
    pub mod intake;
    pub mod merge;
    pub mod message;
    pub mod token_bucket;
}

/// `src/http_client`.
#[path = "../../src/http_client"]
mod http_client {
    mod retry_after;

    pub(crate) fn delay(value: &str, date: Option<&str>) -> Option<std::time::Duration> {
        retry_after::delay(value, date)
    }
}

/// `src/pins`.
#[path = "../../src/pins"]
pub mod pins {
    mod pin_status;

    #[path = "../../fuzz/src/pin_status.rs"]
    mod input;

    pub use input::run;
}

/// `src/publisher`.
#[path = "../../src/publisher"]
pub mod publisher {
    pub mod stream_tree;

    pub use crate::hls::multivariant_playlist::{MultivariantPlaylist, Variant};
}

/// As in `src/encoder.rs`.
mod encoder {
    pub const SAMPLE_RATE: u32 = 48_000;
}

/// `src/hls`.
#[path = "../../src/hls"]
mod hls {
    mod media_playlist;
    pub mod multivariant_playlist;
}

/// `src/archive`.
#[path = "../../src/archive"]
pub mod archive {
    mod car;
    mod day;
    mod index;
    mod record;
    mod volume;

    #[path = "../../fuzz/src/archive.rs"]
    mod input;

    pub use input::run;
}

/// `src/library`.
#[path = "../../src/library"]
mod library {
    mod playlist_file;

    #[path = "../../fuzz/src/playlist.rs"]
    pub(crate) mod input;
}

/// `src/audio`.
#[path = "../../src/audio"]
mod audio {
    pub(crate) mod decode {
        mod mp4;

        #[path = "../../../fuzz/src/mp4.rs"]
        pub(crate) mod input;
    }
}

pub use http::gateway::input as http_request;

pub mod car;
pub mod ipns_record;
pub mod media;
pub mod state_message;
pub mod unixfs;
