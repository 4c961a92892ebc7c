//! Player stage: one endless stream of 48 kHz stereo PCM.

pub mod schedule;

use std::sync::Arc;
use std::time::Duration;

use crate::audio::CHANNELS;

/// Frames (samples per channel) in one [`PcmBlock`]: 15 AAC frames of 1024 = one HLS part, 0.32 s.
pub const BLOCK_FRAMES: usize = 15 * 1024;

/// Samples in one [`PcmBlock`]: frames times channels.
pub const BLOCK_SAMPLES: usize = BLOCK_FRAMES * CHANNELS;

/// A fixed slice of the programme.
#[derive(Debug, Clone)]
pub struct PcmBlock {
    /// `BLOCK_SAMPLES` interleaved samples (left, right), finite and within -1.0..=1.0.
    pub samples: Box<[f32]>,
    /// What starts inside this block: frame offset within the block, and what plays from there on.
    pub changes: Vec<(usize, Arc<NowPlaying>)>,
}

/// What the listener hears.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NowPlaying {
    /// Title tag, or the file name without its extension.
    pub title: String,
    /// Artist tag; empty where there is none.
    pub artist: String,
    /// Album tag; empty where there is none.
    pub album: String,
    /// Length of the track, where known.
    #[serde(skip)]
    pub duration: Option<Duration>,
    /// Where it comes from.
    pub source: Source,
}

/// The rungs of the fallback chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A track of the library.
    Library,
    /// The generated station ident: nothing playable is known.
    Ident,
}
