//! Audio facts every stage agrees on, and the decoders, resampler and loudness meter.

pub mod decode;
pub mod loudness;
pub mod resample;

/// Samples per second of everything behind the resampler.
pub const SAMPLE_RATE: u32 = 48_000;

/// Channels of everything behind the decoder: left, right.
pub const CHANNELS: usize = 2;
