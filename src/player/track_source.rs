//! Track source: where the samples of one track come from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::audio::decode::Decoder;
use crate::library::{Tags, Track};

/// An open track.
pub trait TrackSource: Send {
    /// Samples per second of what the last [`decode`](Self::decode) appended.
    fn sample_rate(&self) -> u32;

    /// The length the file claims, where it does.
    fn duration(&self) -> Option<Duration>;

    /// Appends interleaved stereo samples; the number of frames, 0 at the end.
    ///
    /// # Errors
    /// Why no more can be had, in words.
    fn decode(&mut self, samples: &mut Vec<f32>) -> Result<usize, String>;

    /// Damaged packets skipped so far.
    fn skipped_packets(&self) -> u64 {
        0
    }
}

/// Opens tracks; the seam at which tests count and fake.
pub trait Opener: Send {
    /// Opens a track at its first sample.
    ///
    /// # Errors
    /// Why it cannot be played, in words.
    fn open(&mut self, track: &Track) -> Result<Box<dyn TrackSource>, String>;

    /// The tags of a track that the scan has not reached.
    fn tags(&mut self, track: &Track) -> Tags;
}

/// Opens files with the decoders of [`crate::audio`].
#[derive(Debug, Default)]
pub struct FileOpener;

impl Opener for FileOpener {
    fn open(&mut self, track: &Track) -> Result<Box<dyn TrackSource>, String> {
        let decoder = unpanicked(|| Decoder::open(&track.path).map_err(|error| error.to_string()))?;
        Ok(Box::new(FileSource { decoder }))
    }

    fn tags(&mut self, track: &Track) -> Tags {
        Tags::read(&track.path)
    }
}

struct FileSource {
    decoder: Decoder,
}

impl TrackSource for FileSource {
    fn sample_rate(&self) -> u32 {
        self.decoder.sample_rate()
    }

    fn duration(&self) -> Option<Duration> {
        self.decoder.duration()
    }

    fn skipped_packets(&self) -> u64 {
        self.decoder.skipped_packets()
    }

    fn decode(&mut self, samples: &mut Vec<f32>) -> Result<usize, String> {
        unpanicked(|| self.decoder.decode(samples).map_err(|error| error.to_string()))
    }
}

/// A decoder that panics on one file must not take the programme with it. It is not used again:
/// an error ends the track.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the decoder panicked".to_owned()))
}
