//! `station.json`: what the station says of itself. Pure.

use bytes::Bytes;
use serde::Serialize;

use crate::hls::NowPlaying;
use crate::hls::multivariant_playlist::Variant;

/// The file's content; serialised as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Station {
    /// Name of the station, from the configuration.
    pub name: String,
    /// IPNS name, `k51...`.
    pub ipns: String,
    /// Whether anything is on air.
    pub on_air: bool,
    /// Lowest media sequence number that the renditions' folders hold.
    pub oldest: Option<u64>,
    /// Highest media sequence number on air.
    pub newest: Option<u64>,
    /// The renditions, as in the multivariant playlist.
    pub renditions: Vec<RenditionInfo>,
    /// What plays at the live edge.
    pub now_playing: Option<NowPlaying>,
    /// Program and version.
    pub software: &'static str,
    /// Addresses of the node, each ending in `/p2p/<peer id>`.
    pub addresses: Vec<String>,
    /// Nodes that serve the same stream, those with the fewest listeners first.
    pub relays: Vec<Relay>,
    /// Where the stream is, from the root of the station's own HTTP server.
    pub hls: &'static str,
}

/// One relay in `station.json`. What it serves is worth nothing before it is checked against the signed tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Relay {
    /// Its peer id.
    pub peer: String,
    /// URLs of its HTTP server, without a slash at the end.
    pub http: Vec<String>,
    /// Listeners that it counts.
    pub listeners: u64,
}

/// One rendition in `station.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenditionInfo {
    /// Name of its folder.
    pub name: String,
    /// Peak bits per second.
    pub bandwidth: u64,
    /// `CODECS` (RFC 6381).
    pub codecs: String,
}

impl Station {
    /// A station that is not on air yet.
    pub fn new(name: String, ipns: String) -> Self {
        Self {
            name,
            ipns,
            on_air: false,
            oldest: None,
            newest: None,
            renditions: Vec::new(),
            now_playing: None,
            software: concat!("skywave/", env!("CARGO_PKG_VERSION")),
            addresses: Vec::new(),
            relays: Vec::new(),
            hls: "/live/stream.m3u8",
        }
    }

    /// Takes in what a tick changed.
    pub fn update(&mut self, newest: u64, variants: Vec<Variant>, now_playing: Option<NowPlaying>) {
        self.on_air = true;
        self.newest = Some(newest);
        self.now_playing = now_playing;
        let info = |v: Variant| RenditionInfo { name: v.name, bandwidth: v.bandwidth, codecs: v.codecs };
        self.renditions = variants.into_iter().map(info).collect();
    }

    /// The file.
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("a station is plain data").into()
    }
}
