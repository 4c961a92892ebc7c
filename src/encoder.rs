//! Encoder stage: PCM to AAC-LC access units, one set per rendition, from one frame counter.
//!
//! Takes [`PcmBlock`]s from the player, gives [`EncodedBlock`]s to hls. A crash loses the block in work and
//! re-primes the encoders, which the next block says in `first_of_encoder`.

pub mod aac;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

pub use crate::audio::{CHANNELS, SAMPLE_RATE};
use crate::health::StageHealth;
use crate::player::PcmBlock;
pub use crate::player::{BLOCK_FRAMES, NowPlaying, Source};
use crate::supervisor::waiting;
use aac::{AacEncoder, AacError, FRAME_SAMPLES};

/// `[[encoder.rendition]]`: one quality of the same programme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rendition {
    /// Name of its folder in the stream tree: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// Bits per second, 16,000 to 320,000.
    pub bitrate: u32,
    /// Better sound for about twice the CPU time of this rendition.
    #[serde(default = "better_sound")]
    pub afterburner: bool,
}

/// Names that no rendition may have: other folders of the stream tree.
pub const RESERVED: [&str; 2] = ["archive", "index"];

/// `[encoder]`: what is encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// Every rendition of the station, in the order of the multivariant playlist.
    pub rendition: Vec<Rendition>,
}

/// The better sound is worth its time: docs/decisions/0007-afterburner.md.
fn better_sound() -> bool {
    true
}

impl Default for EncoderConfig {
    fn default() -> Self {
        let rendition =
            |name: &str, bitrate| Rendition { name: name.into(), bitrate, afterburner: better_sound() };
        Self {
            rendition: vec![
                rendition("lofi", 64_000),
                rendition("midfi", 96_000),
                rendition("hifi", 192_000),
            ],
        }
    }
}

impl EncoderConfig {
    /// Checks what a type cannot say. The error is the key, a rendition's with its place in the list from 0, and
    /// what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        const KEY: &str = "encoder.rendition";
        if self.rendition.is_empty() {
            return Err((KEY.into(), "at least one rendition is needed".into()));
        }
        for (index, r) in self.rendition.iter().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            let key = format!("{KEY}[{index}]");
            if r.name.is_empty() || r.name.len() > 32 || !r.name.chars().all(plain) {
                return Err((key, format!("name {:?} must be 1 to 32 of a-z, 0-9, - and _", r.name)));
            }
            if RESERVED.contains(&r.name.as_str()) {
                return Err((key, format!("{:?} is the name of another folder of the stream", r.name)));
            }
            if self.rendition[..index].iter().any(|other| other.name == r.name) {
                return Err((key, format!("name {:?} is used twice", r.name)));
            }
            if !(16_000..=320_000).contains(&r.bitrate) {
                return Err((key, format!("{}: bitrate {} is not within 16000..=320000", r.name, r.bitrate)));
            }
        }
        Ok(())
    }
}

/// Why the encoder stage stopped.
#[derive(Debug, Error)]
pub enum EncoderError {
    /// The codec failed for one rendition.
    #[error("rendition {rendition}")]
    Codec {
        /// Name of the rendition.
        rendition: String,
        /// What the codec said.
        #[source]
        source: AacError,
    },
    /// The codec's thread panicked.
    #[error("an encoder panicked: {0}")]
    Panicked(String),
}

/// What stays the same for every access unit of one rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecParameters {
    /// Name of the rendition.
    pub rendition: String,
    /// Nominal bits per second.
    pub bitrate: u32,
    /// AudioSpecificConfig, ISO/IEC 14496-3 subclause 1.6.2.1.
    pub audio_specific_config: Vec<u8>,
    /// Samples per channel by which the coded audio lags the input.
    pub delay: u32,
}

/// One [`PcmBlock`], coded.
#[derive(Debug, Clone)]
pub struct EncodedBlock {
    /// Access units in order, 15 per rendition, renditions as configured.
    pub units: Vec<Vec<Bytes>>,
    /// What starts inside this block, by sample offset; carried through from the player.
    pub changes: Vec<(usize, Arc<NowPlaying>)>,
    /// The encoders were primed anew: this block does not continue the one before.
    pub first_of_encoder: bool,
}

/// The encoders of all renditions, in step.
pub struct EncoderSet {
    encoders: Vec<(String, AacEncoder)>,
    primed: bool,
}

impl EncoderSet {
    /// Opens one encoder per rendition.
    ///
    /// # Errors
    /// [`EncoderError::Codec`] names the rendition that the codec refuses.
    pub fn new(renditions: &[Rendition]) -> Result<Self, EncoderError> {
        let open = |r: &Rendition| match AacEncoder::new(r.bitrate, r.afterburner) {
            Ok(encoder) => Ok((r.name.clone(), encoder)),
            Err(source) => Err(EncoderError::Codec { rendition: r.name.clone(), source }),
        };
        Ok(Self { encoders: renditions.iter().map(open).collect::<Result<_, _>>()?, primed: false })
    }

    /// The parameters of each rendition, in order.
    pub fn parameters(&self, renditions: &[Rendition]) -> Vec<CodecParameters> {
        let parameters = |((_, e), r): (&(String, AacEncoder), &Rendition)| CodecParameters {
            rendition: r.name.clone(),
            bitrate: r.bitrate,
            audio_specific_config: e.audio_specific_config().to_vec(),
            delay: e.delay(),
        };
        self.encoders.iter().zip(renditions).map(parameters).collect()
    }

    /// Encodes one block for all renditions, each on a thread of its own.
    ///
    /// # Errors
    /// The first codec failure; the set must then be opened anew.
    pub fn encode(&mut self, block: &PcmBlock) -> Result<EncodedBlock, EncoderError> {
        let samples = &block.samples;
        let results: Vec<_> = std::thread::scope(|scope| {
            let (first, rest) = self.encoders.split_first_mut().expect("validated: one rendition at least");
            let threads: Vec<_> =
                rest.iter_mut().map(|e| scope.spawn(move || encode_units(e, samples))).collect();
            let mut results = vec![encode_units(first, samples)];
            results.extend(threads.into_iter().map(|t| {
                t.join().unwrap_or_else(|_| Err(EncoderError::Panicked("rendition thread".into())))
            }));
            results
        });
        let units = results.into_iter().collect::<Result<_, _>>()?;
        let first_of_encoder = !std::mem::replace(&mut self.primed, true);
        Ok(EncodedBlock { units, changes: block.changes.clone(), first_of_encoder })
    }
}

fn encode_units(
    (name, encoder): &mut (String, AacEncoder),
    samples: &[f32],
) -> Result<Vec<Bytes>, EncoderError> {
    let encode = |frame| encoder.encode(frame);
    let units: Result<Vec<_>, _> = samples.chunks_exact(FRAME_SAMPLES * CHANNELS).map(encode).collect();
    units.map_err(|source| EncoderError::Codec { rendition: name.clone(), source })
}

/// The stage's ends; survives a restart of the stage.
pub struct Encoder {
    /// The renditions, in order.
    pub renditions: Vec<Rendition>,
    /// PCM from the player.
    pub input: Arc<Mutex<mpsc::Receiver<PcmBlock>>>,
    /// Access units to hls.
    pub output: mpsc::Sender<EncodedBlock>,
    /// Where the stage reports.
    pub health: StageHealth,
}

impl Encoder {
    /// Encodes until the player ends or `cancel` fires.
    ///
    /// # Errors
    /// A codec failure or panic; calling `run` again starts with fresh encoders.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), EncoderError> {
        let mut input = self.input.lock().await;
        let mut set = EncoderSet::new(&self.renditions)?;
        loop {
            let block = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                block = waiting(&self.health, input.recv()) => match block { Some(block) => block, None => return Ok(()) },
            };
            let work = tokio::task::spawn_blocking(move || {
                let encoded = set.encode(&block);
                (set, encoded)
            });
            let (returned, encoded) = work.await.map_err(|e| EncoderError::Panicked(e.to_string()))?;
            set = returned;
            let sent = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                sent = waiting(&self.health, self.output.send(encoded?)) => sent,
            };
            if sent.is_err() {
                return Ok(());
            }
            self.health.progress();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::BLOCK_SAMPLES;

    #[test]
    fn every_rendition_gets_the_same_number_of_units_and_only_the_first_block_is_marked() {
        let config = EncoderConfig::default();
        let mut set = EncoderSet::new(&config.rendition).unwrap();
        let block = PcmBlock { samples: vec![0.1; BLOCK_SAMPLES].into(), changes: Vec::new() };
        for round in 0..3 {
            let encoded = set.encode(&block).unwrap();
            assert_eq!(encoded.units.iter().map(Vec::len).collect::<Vec<_>>(), [15, 15, 15]);
            assert_eq!(encoded.first_of_encoder, round == 0);
        }
    }

    #[test]
    fn a_rendition_list_that_cannot_work_is_refused_with_the_reason() {
        let check = |renditions: &[(&str, u32)]| {
            let rendition = |&(name, bitrate): &(&str, u32)| Rendition {
                name: name.to_string(),
                bitrate,
                afterburner: false,
            };
            let config = EncoderConfig { rendition: renditions.iter().map(rendition).collect() };
            config.validate().map_err(|(_, why)| why)
        };
        assert!(check(&[]).unwrap_err().contains("at least one"));
        assert!(check(&[("a", 64_000), ("a", 96_000)]).unwrap_err().contains("twice"));
        assert!(check(&[("../x", 64_000)]).unwrap_err().contains("../x"));
        assert!(check(&[("archive", 64_000)]).is_err() && check(&[("index", 64_000)]).is_err());
        assert!(check(&[("x", 1)]).unwrap_err().contains("16000"));
        assert!(check(&[("x", 64_000)]).is_ok());
    }
}
