//! How loud a track is, and how much to turn it up or down. ebur128 is named here and nowhere else.
//!
//! Takes a file; gives its integrated loudness and true peak after EBU R 128 and ITU-R BS.1770. A crash
//! loses the measurement under way and nothing else.

use std::path::Path;
use std::time::Duration;

use ebur128::{EbuR128, Mode};
use serde::{Deserialize, Serialize};

use super::decode::Decoder;
use super::{AudioError, CHANNELS};

/// The loudness of a track.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loudness {
    /// Integrated loudness in LUFS; [`SILENT_LUFS`] for silence and for what is shorter than one
    /// gating block (400 ms).
    pub integrated_lufs: f64,
    /// The highest true peak of the channels; 1.0 is 0 dBTP.
    pub true_peak: f64,
}

/// Stands for silence, a true -inf, in figures that JSON can carry. Nothing above the absolute gate
/// of BS.1770 is as low.
pub const SILENT_LUFS: f64 = -120.0;

/// The most that a quiet track is turned up. Bounds what a recording of almost nothing becomes.
const MOST_GAIN_DB: f64 = 20.0;

impl Loudness {
    /// The factor that brings the track to `target_lufs` with its true peak at or below
    /// `ceiling_dbtp`. Silence is left alone.
    pub fn gain(&self, target_lufs: f64, ceiling_dbtp: f64) -> f32 {
        if !(self.integrated_lufs.is_finite() && self.integrated_lufs > SILENT_LUFS) {
            return 1.0;
        }
        let wanted = from_db((target_lufs - self.integrated_lufs).min(MOST_GAIN_DB));
        let allowed = match self.true_peak {
            peak if peak > 0.0 && peak.is_finite() => from_db(ceiling_dbtp) / peak,
            _ => f64::INFINITY,
        };
        let gain = wanted.min(allowed) as f32;
        // Rounding to f32 must not lift the peak over the ceiling.
        if f64::from(gain) > allowed { gain.next_down() } else { gain }
    }
}

fn from_db(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

/// What measuring a whole file tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// How loud it is.
    pub loudness: Loudness,
    /// How long it really plays.
    pub duration: Duration,
    /// Damaged packets left out.
    pub skipped_packets: u64,
}

/// Decodes a whole file and measures it. `keep_going` is asked before every block;
/// `None` is the answer when it says no.
///
/// # Errors
///
/// What [`Decoder::open`] and [`Decoder::decode`] say.
pub fn measure(path: &Path, keep_going: &dyn Fn() -> bool) -> Result<Option<Measured>, AudioError> {
    let mut decoder = Decoder::open(path)?;
    let mut meter = Meter::default();
    let mut block = Vec::new();
    loop {
        if !keep_going() {
            return Ok(None);
        }
        block.clear();
        if decoder.decode(&mut block)? == 0 {
            break;
        }
        meter.add(decoder.sample_rate(), &block);
    }
    Ok(Some(Measured {
        loudness: meter.loudness(),
        duration: meter.duration(),
        skipped_packets: decoder.skipped_packets(),
    }))
}

/// One R 128 meter for every run of one sample rate; gated together in the end.
#[derive(Default)]
struct Meter {
    runs: Vec<Run>,
}

struct Run {
    r128: EbuR128,
    frames: u64,
}

impl Meter {
    fn add(&mut self, rate: u32, samples: &[f32]) {
        if self.runs.last().is_none_or(|run| run.r128.rate() != rate) {
            let Ok(r128) = EbuR128::new(CHANNELS as u32, rate, Mode::I | Mode::TRUE_PEAK) else {
                return; // No rate that the decoder lets through is refused.
            };
            self.runs.push(Run { r128, frames: 0 });
        }
        if let Some(run) = self.runs.last_mut() {
            // Fails only for a sample count that is no multiple of the channels.
            if run.r128.add_frames_f32(samples).is_ok() {
                run.frames += (samples.len() / CHANNELS) as u64;
            }
        }
    }

    fn duration(&self) -> Duration {
        let nanoseconds = |run: &Run| run.frames * 1_000_000_000 / u64::from(run.r128.rate());
        Duration::from_nanos(self.runs.iter().map(nanoseconds).sum())
    }

    fn loudness(&self) -> Loudness {
        let integrated = EbuR128::loudness_global_multiple(self.runs.iter().map(|run| &run.r128));
        let integrated_lufs = match integrated {
            Ok(lufs) if lufs.is_finite() => lufs.max(SILENT_LUFS),
            _ => SILENT_LUFS,
        };
        let peaks = self
            .runs
            .iter()
            .flat_map(|run| (0..CHANNELS as u32).filter_map(|channel| run.r128.true_peak(channel).ok()));
        Loudness { integrated_lufs, true_peak: peaks.fold(0.0, f64::max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gain(integrated_lufs: f64, true_peak: f64) -> f32 {
        Loudness { integrated_lufs, true_peak }.gain(-18.0, -1.0)
    }

    #[test]
    fn loud_tracks_come_down_and_quiet_ones_up_to_the_target() {
        assert!((gain(-8.0, 1.1) - 10f32.powf(-0.5)).abs() < 1e-6);
        assert!((gain(-24.0, 0.1) - 10f32.powf(0.3)).abs() < 1e-5);
    }

    #[test]
    fn peaks_limit_the_gain() {
        for peak in [0.3, 0.5, 0.7, 1.0, 1.7] {
            let gain = gain(-30.0, peak);
            assert!(f64::from(gain) * peak <= 10f64.powf(-1.0 / 20.0), "{peak}: {gain}");
            assert!(f64::from(gain) * peak > 10f64.powf(-1.001 / 20.0), "{peak}: {gain}");
        }
    }

    #[test]
    fn silence_is_left_alone() {
        for lufs in [SILENT_LUFS, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(gain(lufs, 0.0), 1.0);
        }
        assert!(gain(-69.0, 0.001) <= 10.0, "almost silence is not blown up without bounds");
    }
}
