//! Audio facts every stage agrees on, and the decoders, resampler and loudness meter.
//!
//! Takes music files; gives 48 kHz stereo samples and loudness figures. Holds nothing that outlives
//! the track being played, so a crash loses no state of its own.

use std::io;
use std::path::{Path, PathBuf};

pub mod decode;
pub mod loudness;
pub mod resample;

/// Samples per second of everything behind the resampler.
pub const SAMPLE_RATE: u32 = 48_000;

/// Channels of everything behind the decoder: left, right.
pub const CHANNELS: usize = 2;

/// Why a file gives no audio. Every variant has the same consequence: skip this track, go on.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The file cannot be opened or read; it may be back later (a USB stick, a permission).
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No decoder of ours takes this container, codec, sample rate or channel count.
    #[error("{} is not a format that can be played: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A media file that carries no audio track.
    #[error("{} has no audio track", path.display())]
    NoAudio {
        /// The file.
        path: PathBuf,
    },
    /// The right kind of file, too damaged to give one sample.
    #[error("{} is damaged beyond playing: {reason}", path.display())]
    Hopeless {
        /// The file.
        path: PathBuf,
        /// The first thing that was wrong.
        reason: String,
    },
}

impl AudioError {
    /// The file the error is about.
    pub fn path(&self) -> &Path {
        match self {
            AudioError::Open { path, .. }
            | AudioError::Unsupported { path, .. }
            | AudioError::NoAudio { path }
            | AudioError::Hopeless { path, .. } => path,
        }
    }
}
