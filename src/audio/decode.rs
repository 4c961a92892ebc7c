//! Music files to stereo samples. symphonia, ropus and lewton are named in this module and nowhere
//! else.
//!
//! Takes a path; gives interleaved stereo at the file's own rate, trimmed to the sample, so that two
//! halves of one piece join without a gap. Damaged packets are left out and counted; a file too
//! damaged to play is an [`AudioError`]. Nothing here panics, loops or grows on any input.
//!
//! HE-AAC plays its AAC-LC core: half the bandwidth, and mono where parametric stereo was used.
//! AAC of more than two channels is [`AudioError::Unsupported`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use symphonia::core::formats::Track;

use super::{AudioError, CHANNELS};
use codec::Codec;
use container::{Container, Next};
use window::Window;

mod codec;
mod container;
mod downmix;
mod mp4;
mod opus;
mod vorbis;
mod window;

/// Damaged packets in a row that end a track: some ten seconds of MP3 or AAC. Bounds how long a
/// damaged file can keep the player waiting.
const MOST_BAD_PACKETS: u32 = 512;

/// Longer tracks are damaged headers.
const LONGEST_TRACK: Duration = Duration::from_secs(30 * 24 * 3_600);

/// One file being decoded, from its first sample to its last.
pub struct Decoder {
    path: PathBuf,
    container: Container,
    codec: Codec,
    window: Window,
    duration: Option<Duration>,
    block: Vec<f32>,
    /// Rate of the frames that the last call appended.
    rate: u32,
    skipped: u64,
    delivered: bool,
    first_damage: Option<String>,
    ended: bool,
}

impl Decoder {
    /// Opens a file, recognised by its contents whatever its extension.
    ///
    /// # Errors
    ///
    /// [`AudioError::Open`] for what is not a readable regular file, the other kinds for what holds
    /// no playable audio.
    pub fn open(path: &Path) -> Result<Decoder, AudioError> {
        let (file, length) =
            open_regular(path).map_err(|source| AudioError::Open { path: path.to_owned(), source })?;
        let unsupported = |reason: String| AudioError::Unsupported { path: path.to_owned(), reason };
        if length == 0 {
            return Err(unsupported("the file is empty".into()));
        }
        let mut container = Container::open(path, length).map_err(unsupported)?;
        let (track, parameters) =
            container.choose_track().ok_or_else(|| AudioError::NoAudio { path: path.to_owned() })?;
        let timescale_rate = parameters.sample_rate;
        let codec = Codec::open(parameters).map_err(unsupported)?;
        let window = Window::of(&track, &codec, Some(&file));
        let duration = duration(&track, timescale_rate, &window);
        Ok(Decoder {
            path: path.to_owned(),
            container,
            rate: codec.rate(),
            codec,
            window,
            duration,
            block: Vec::new(),
            skipped: 0,
            delivered: false,
            first_damage: None,
            ended: false,
        })
    }

    /// Samples per second of the frames that the last [`decode`](Self::decode) appended; before the
    /// first call, what the header says. Changes within a track only in chained Ogg and in MP3 files
    /// joined end to end.
    pub fn sample_rate(&self) -> u32 {
        self.rate
    }

    /// The length the file claims, after trimming. Exact for whole files, an estimate for MP3
    /// without a Xing header, the first link alone for chained Ogg.
    pub fn duration(&self) -> Option<Duration> {
        self.duration
    }

    /// Damaged packets left out so far.
    pub fn skipped_packets(&self) -> u64 {
        self.skipped
    }

    /// Appends the next block, interleaved left and right, finite and within [-1, 1]; returns its
    /// frames. 0 is the end of the track, and stays so.
    ///
    /// # Errors
    ///
    /// [`AudioError::Hopeless`], once, when a damaged file ends before it gave one frame. Damage
    /// after that ends the track early or is skipped.
    pub fn decode(&mut self, out: &mut Vec<f32>) -> Result<usize, AudioError> {
        let mut bad_run = 0;
        while !self.ended {
            match self.container.next() {
                Next::Packet(packet) => match self.codec.decode(&packet, &mut self.block) {
                    Ok(()) => {
                        let kept = self.window.admit(self.block.len() / CHANNELS);
                        if !kept.is_empty() {
                            let frames = kept.len();
                            out.extend_from_slice(&self.block[kept.start * CHANNELS..kept.end * CHANNELS]);
                            self.rate = self.codec.rate();
                            self.delivered = true;
                            return Ok(frames);
                        }
                    }
                    Err(reason) => {
                        self.skipped += 1;
                        bad_run += 1;
                        self.window.pass_over(packet.dur.get());
                        self.first_damage.get_or_insert(reason);
                        self.ended = bad_run > MOST_BAD_PACKETS;
                    }
                },
                Next::NewStream => self.next_stream(),
                Next::End(reason) => {
                    self.ended = true;
                    if let Some(reason) = reason {
                        self.first_damage.get_or_insert(reason);
                    }
                }
            }
        }
        self.end()
    }

    /// The next link of a chained Ogg file; one that cannot be played ends the track.
    fn next_stream(&mut self) {
        let opened = match self.container.choose_track() {
            Some((track, parameters)) => {
                Codec::open(parameters).map(|codec| (Window::of(&track, &codec, None), codec))
            }
            None => Err("a further stream without audio".into()),
        };
        match opened {
            Ok((window, codec)) => (self.window, self.codec) = (window, codec),
            Err(reason) => {
                self.ended = true;
                self.first_damage.get_or_insert(reason);
            }
        }
    }

    /// 0, or the reason why nothing was ever heard.
    fn end(&mut self) -> Result<usize, AudioError> {
        match self.first_damage.take() {
            Some(reason) if !self.delivered => Err(AudioError::Hopeless { path: self.path.clone(), reason }),
            _ => Ok(0),
        }
    }
}

/// Opens what is a regular file: opening a pipe would wait for its writer for ever.
fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((File::open(path)?, metadata.len()))
}

fn duration(track: &Track, rate: Option<u32>, window: &Window) -> Option<Duration> {
    let rate = f64::from(rate.filter(|rate| *rate > 0)?);
    let frames = match (window.length(), track.num_frames, track.duration, track.time_base) {
        (Some(length), ..) => length as f64,
        (None, Some(frames), ..) => frames.saturating_sub(window.start()) as f64,
        (None, None, Some(ticks), Some(base)) => {
            ticks.get() as f64 * f64::from(base.numer.get()) / f64::from(base.denom.get()) * rate
        }
        _ => return None,
    };
    let length = Duration::try_from_secs_f64(frames / rate).ok()?;
    (length <= LONGEST_TRACK).then_some(length)
}
