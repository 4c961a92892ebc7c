//! Gain: how much a track is turned up or down, and how it gets there. Pure.

use std::sync::Arc;

use super::PlayerConfig;
use crate::audio::CHANNELS;
use crate::audio::loudness::{Loudness, SILENT_LUFS};
use crate::library::Track;

/// What a track of unknown loudness is taken for, in LUFS: as loud as most are mastered today.
/// Quieter ones start too quiet, which startles nobody.
const UNKNOWN_LUFS: f64 = -10.0;

/// The steepest change of a gain within a track: slow enough to pass for the music's own dynamics.
const GLIDE_DB_PER_SECOND: f64 = 1.5;

/// The factor for the track at `index`, from what is known by now. With `by_album`, tracks that
/// follow one another from one album share one factor, so that their joins have no step.
pub(super) fn wanted(tracks: &[Arc<Track>], index: usize, by_album: bool, config: &PlayerConfig) -> f32 {
    let run = if by_album { album(tracks, index) } else { &tracks[index..=index] };
    match mean(run) {
        Some(loudness) => loudness.gain(config.loudness_target, config.true_peak_ceiling),
        None => 10f64.powf((config.loudness_target - UNKNOWN_LUFS).min(0.0) / 20.0) as f32,
    }
}

/// True where two tracks belong to one album: same tag, same folder.
pub(super) fn is_same_album(a: &Track, b: &Track) -> bool {
    !a.tags.album.is_empty() && a.tags.album == b.tags.album && a.path.parent() == b.path.parent()
}

/// The run of tracks around `index` that are from its album.
fn album(tracks: &[Arc<Track>], index: usize) -> &[Arc<Track>] {
    let of_album = |track: &&Arc<Track>| is_same_album(track, &tracks[index]);
    let before = tracks[..index].iter().rev().take_while(of_album).count();
    let after = tracks[index + 1..].iter().take_while(of_album).count();
    &tracks[index - before..=index + after]
}

/// The loudness of the tracks as one: mean energy weighted by duration, highest peak. Silent ones
/// and those not measured yet do not count.
fn mean(tracks: &[Arc<Track>]) -> Option<Loudness> {
    let known = || tracks.iter().filter_map(|track| Some((track.loudness?, track.duration)));
    let true_peak = known().map(|(loudness, _)| loudness.true_peak).reduce(f64::max)?;
    let (mut energy, mut weight) = (0.0, 0.0);
    for (loudness, duration) in known().filter(|(loudness, _)| loudness.integrated_lufs > SILENT_LUFS) {
        let seconds = duration.map_or(1.0, |duration| duration.as_secs_f64().max(1.0));
        energy += seconds * 10f64.powf(loudness.integrated_lufs / 10.0);
        weight += seconds;
    }
    let integrated_lufs = if weight > 0.0 { 10.0 * (energy / weight).log10() } else { SILENT_LUFS };
    Some(Loudness { integrated_lufs, true_peak })
}

/// A factor that moves towards its aim without steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gain {
    now: f64,
    aim: f64,
}

impl Gain {
    pub(super) fn new(factor: f32) -> Self {
        Self { now: factor.into(), aim: factor.into() }
    }

    /// Jumps: between two tracks that have nothing to do with one another.
    pub(super) fn set(&mut self, factor: f32) {
        *self = Self::new(factor);
    }

    /// Goes there slowly.
    pub(super) fn aim(&mut self, factor: f32) {
        self.aim = factor.into();
    }

    /// Multiplies interleaved stereo samples; returns how many were not finite, which become 0.
    pub(super) fn apply(&mut self, samples: &mut [f32], sample_rate: u32) -> u64 {
        let step = 10f64.powf(GLIDE_DB_PER_SECOND / 20.0 / f64::from(sample_rate.max(1)));
        let mut replaced = 0;
        for frame in samples.chunks_exact_mut(CHANNELS) {
            if self.now < self.aim {
                self.now = (self.now * step).min(self.aim);
            } else if self.now > self.aim {
                self.now = (self.now / step).max(self.aim);
            }
            for sample in frame {
                let louder = *sample * self.now as f32;
                replaced += u64::from(!louder.is_finite());
                *sample = if louder.is_finite() { louder } else { 0.0 };
            }
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::{FileVersion, Tags};
    use std::path::Path;
    use std::time::Duration;

    fn track(path: &str, album: &str, lufs: Option<f64>) -> Arc<Track> {
        Arc::new(Track {
            path: Path::new(path).into(),
            tags: Tags { album: album.into(), ..Tags::default() },
            duration: Some(Duration::from_secs(100)),
            loudness: lufs.map(|integrated_lufs| Loudness { integrated_lufs, true_peak: 0.1 }),
            version: FileVersion { size: 1, modified: 0 },
        })
    }

    fn db(factor: f32) -> f64 {
        20.0 * f64::from(factor).log10()
    }

    #[test]
    fn a_measured_track_comes_to_the_target() {
        let tracks = [track("/a", "", Some(-10.0))];
        assert!((db(wanted(&tracks, 0, true, &PlayerConfig::default())) + 8.0).abs() < 1e-3);
    }

    #[test]
    fn a_track_not_measured_yet_is_turned_down_and_never_up() {
        let tracks = [track("/a", "", None)];
        let mut config = PlayerConfig::default();
        assert!((db(wanted(&tracks, 0, true, &config)) + 8.0).abs() < 1e-3);
        config.loudness_target = -6.0;
        assert!(db(wanted(&tracks, 0, true, &config)).abs() < 1e-6);
    }

    #[test]
    fn an_album_in_a_row_has_one_gain() {
        let tracks = [
            track("/x/0", "Other", Some(-30.0)),
            track("/x/1", "A", Some(-10.0)),
            track("/x/2", "A", Some(-20.0)),
            track("/x/3", "A", None),
            track("/y/4", "A", Some(-30.0)),
        ];
        let gain = |index, by_album| db(wanted(&tracks, index, by_album, &PlayerConfig::default()));
        let mean = 10.0 * f64::log10(f64::midpoint(0.1, 0.01));
        for index in 1..=3 {
            assert!((gain(index, true) - (-18.0 - mean)).abs() < 1e-3, "{index}");
        }
        assert!((gain(2, false) - 2.0).abs() < 1e-3);
        assert!((gain(4, true) - 12.0).abs() < 1e-3);
    }

    #[test]
    fn tracks_without_an_album_stand_alone() {
        let tracks = [track("/x/1", "", Some(-10.0)), track("/x/2", "", Some(-20.0))];
        assert!(db(wanted(&tracks, 1, true, &PlayerConfig::default())) > 0.0);
    }

    #[test]
    fn a_glide_is_no_steeper_than_promised_and_arrives() {
        let mut gain = Gain::new(0.5);
        gain.aim(1.0);
        let mut samples = vec![1.0; 48_000 * CHANNELS];
        let mut before = 0.5f32;
        for _ in 0..4 {
            samples.fill(1.0);
            gain.apply(&mut samples, 48_000);
            let after = samples[samples.len() - 1];
            assert!(db(after / before) <= GLIDE_DB_PER_SECOND + 1e-3);
            before = after;
        }
        samples.fill(1.0);
        gain.apply(&mut samples, 48_000);
        assert!((samples[samples.len() - 1] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_finite_becomes_silence_and_is_counted() {
        let mut samples = [f32::NAN, 1.0, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(Gain::new(0.5).apply(&mut samples, 48_000), 3);
        assert_eq!(samples, [0.0, 0.5, 0.0, 0.0]);
    }
}
