//! Any rate to 48 kHz. rubato is named here and nowhere else.
//!
//! Takes interleaved stereo; gives interleaved stereo whose length is the input's times the ratio of
//! the rates, exactly, with nothing of the filter's delay in it. The filter runs on from track to
//! track, so that what was cut in two between them sounds whole.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::{CHANNELS, SAMPLE_RATE};

/// Input frames of one filter block, at least. The transition band is some eight bins of this: 20 kHz
/// passes untouched at 44.1 kHz.
const BLOCK: usize = 1_024;

/// The largest numerator or denominator of a ratio of rates that is used as it is. Bounds the memory
/// of the filter. Rates above it without a common factor with 48,000 exist in damaged headers only;
/// they play off pitch by up to one part in 60,000.
const MOST_TERMS: u64 = 65_536;

/// A resampler to 48 kHz.
#[derive(Default)]
pub struct Resampler {
    stage: Option<Stage>,
    rate: u32,
}

impl Resampler {
    /// A resampler that has heard nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what `input` (whole interleaved stereo frames at `rate`) becomes at 48 kHz. Some of it
    /// may come out with a later call. A rate other than the last one flushes first; 48 kHz passes
    /// bit-exact and at once.
    ///
    /// A rate of 0 stands for no audio and is left out.
    pub fn push(&mut self, rate: u32, input: &[f32], out: &mut Vec<f32>) {
        if rate == 0 || input.is_empty() {
            return;
        }
        if rate != self.rate {
            self.flush(out);
            self.rate = rate;
            self.stage = (rate != SAMPLE_RATE).then(|| Stage::new(rate)).flatten();
        }
        match &mut self.stage {
            Some(stage) => stage.push(input, out),
            None => out.extend_from_slice(input),
        }
    }

    /// Appends everything still inside, and starts anew. Belongs where the audio really ends, not
    /// between two tracks.
    pub fn flush(&mut self, out: &mut Vec<f32>) {
        if let Some(mut stage) = self.stage.take() {
            stage.flush(out);
        }
        self.rate = 0;
    }
}

/// The filter for one rate, and the account of what went in and came out.
struct Stage {
    filter: Fft<f32>,
    rate: u64,
    /// Input short of a whole block.
    pending: Vec<f32>,
    /// The filter's output for one block.
    block: Vec<f32>,
    /// Frames of filter delay still to be thrown away.
    delay: usize,
    frames_in: u64,
    frames_out: u64,
}

impl Stage {
    fn new(rate: u32) -> Option<Stage> {
        let (input, output) = bounded_ratio(u64::from(rate), u64::from(SAMPLE_RATE));
        // The filter's length is counted on the slower side, where its cut-off lies.
        let blocks = BLOCK.max(BLOCK * input / output.max(1)).div_ceil(input.max(1));
        // The delay is half a block and has to be a whole number of frames on both sides.
        let chunk = blocks.next_multiple_of(2) * input;
        let filter = Fft::new_custom(
            input,
            output,
            chunk,
            1,
            CHANNELS,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .ok()?;
        Some(Stage {
            block: vec![0.0; filter.output_frames_max() * CHANNELS],
            delay: filter.output_delay(),
            filter,
            rate: u64::from(rate),
            pending: Vec::new(),
            frames_in: 0,
            frames_out: 0,
        })
    }

    fn push(&mut self, input: &[f32], out: &mut Vec<f32>) {
        self.frames_in += (input.len() / CHANNELS) as u64;
        self.pending.extend_from_slice(input);
        let block = self.filter.input_frames_next() * CHANNELS;
        let whole = self.pending.len() / block * block;
        let pending = std::mem::take(&mut self.pending);
        for chunk in pending[..whole].chunks_exact(block) {
            self.run(chunk, u64::MAX, out);
        }
        self.pending = pending;
        self.pending.drain(..whole);
    }

    /// Feeds silence until everything that went in has come out.
    fn flush(&mut self, out: &mut Vec<f32>) {
        let owed = self.frames_in * u64::from(SAMPLE_RATE) / self.rate;
        let block = self.filter.input_frames_next() * CHANNELS;
        while self.frames_out < owed {
            let mut chunk = std::mem::take(&mut self.pending);
            chunk.resize(block, 0.0);
            let before = self.frames_out;
            let had_delay = self.delay;
            self.run(&chunk, owed, out);
            if self.frames_out == before && self.delay == had_delay {
                break;
            }
        }
    }

    /// Filters one block and appends what is neither delay nor beyond frame `owed`.
    fn run(&mut self, chunk: &[f32], owed: u64, out: &mut Vec<f32>) {
        let frames_in = chunk.len() / CHANNELS;
        let room = self.block.len() / CHANNELS;
        let Ok(input) = InterleavedSlice::new(chunk, CHANNELS, frames_in) else { return };
        let Ok(mut output) = InterleavedSlice::new_mut(&mut self.block, CHANNELS, room) else {
            return;
        };
        let Ok((_, frames)) = self.filter.process_into_buffer(&input, &mut output, None) else {
            return;
        };
        let skipped = self.delay.min(frames);
        self.delay -= skipped;
        let left = usize::try_from(owed - self.frames_out).unwrap_or(usize::MAX);
        let kept = (frames - skipped).min(left);
        self.frames_out += kept as u64;
        out.extend_from_slice(&self.block[skipped * CHANNELS..(skipped + kept) * CHANNELS]);
    }
}

/// The ratio in lowest terms, or the last convergent of its continued fraction within the bound.
fn bounded_ratio(numerator: u64, denominator: u64) -> (usize, usize) {
    let (mut a, mut b) = (numerator, denominator);
    let (mut last, mut here) = ((0, 1), (1, 0));
    while b != 0 {
        let whole = a / b;
        (a, b) = (b, a % b);
        let next = (whole * here.0 + last.0, whole * here.1 + last.1);
        if next.0.max(next.1) > MOST_TERMS {
            break;
        }
        (last, here) = (here, next);
    }
    (here.0 as usize, here.1 as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_rates_keep_their_exact_ratio() {
        for (rate, ratio) in [(44_100, (147, 160)), (96_000, (2, 1)), (8_000, (1, 6))] {
            assert_eq!(bounded_ratio(rate, 48_000), ratio);
        }
        assert_eq!(bounded_ratio(11_025, 48_000), (147, 640));
        assert_eq!(bounded_ratio(44_101, 48_000), (44_101, 48_000));
    }

    #[test]
    fn absurd_rates_are_approximated() {
        for rate in [65_537, 95_999, 96_001, 383_999, 767_999] {
            let (input, output) = bounded_ratio(rate, 48_000);
            let error = (input as f64 / output as f64) / (rate as f64 / 48_000.0) - 1.0;
            assert!(error.abs() < 1.7e-5, "{rate}: {input}/{output} is off by {error:e}");
            assert!(input.max(output) as u64 <= MOST_TERMS);
        }
    }

    #[test]
    fn forty_eight_kilohertz_passes_bit_exact() {
        let input: Vec<f32> = (0..1_001 * 2).map(|n| (n as f32 * 0.37).sin()).collect();
        let mut out = Vec::new();
        let mut resampler = Resampler::new();
        resampler.push(48_000, &input, &mut out);
        resampler.flush(&mut out);
        assert_eq!(out, input);
    }
}
