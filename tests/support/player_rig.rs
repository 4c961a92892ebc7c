//! A programme that is played block by block, and the files that it plays.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skywave::audio::loudness;
use skywave::library::{FileVersion, Library, Tags, Track};
use skywave::player::programme::Programme;
use skywave::player::schedule::Order;
use skywave::player::track_source::{FileOpener, Opener, TrackSource};
use skywave::player::{BLOCK_FRAMES, BLOCK_SAMPLES, NowPlaying, PcmBlock, PlayerConfig};
use tokio::sync::watch;

/// Long enough for any machine, short enough to see a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A 16-bit stereo WAV file, both channels alike.
pub fn write_wav(path: &Path, rate: u32, samples: &[f32]) {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|sample| {
            let value = (sample * 32_767.0).round() as i16;
            [value, value]
        })
        .flat_map(i16::to_le_bytes)
        .collect();
    let length = u32::try_from(data.len()).unwrap();
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend([1, 0, 2, 0]);
    file.extend(rate.to_le_bytes());
    file.extend((rate * 4).to_le_bytes());
    file.extend([4, 0, 16, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

pub fn sine(hertz: f64, rate: u32, frames: std::ops::Range<usize>, level: f64) -> Vec<f32> {
    let angle = std::f64::consts::TAU * hertz / f64::from(rate);
    frames.map(|at| (level * (angle * at as f64).sin()) as f32).collect()
}

pub fn track(path: &Path) -> Arc<Track> {
    let version =
        std::fs::metadata(path).map_or(FileVersion { size: 0, modified: 0 }, |m| FileVersion::of(&m));
    Arc::new(Track { path: path.into(), tags: Tags::default(), duration: None, loudness: None, version })
}

pub fn measured(path: &Path) -> Arc<Track> {
    let measured = loudness::measure(path, &|| true).unwrap().unwrap();
    let track = track(path);
    Arc::new(Track {
        loudness: Some(measured.loudness),
        duration: Some(measured.duration),
        ..Track::clone(&track)
    })
}

pub fn library(tracks: Vec<Arc<Track>>) -> Arc<Library> {
    Arc::new(Library { found: tracks.len(), tracks, ..Library::default() })
}

/// Counts every opening of a file.
pub struct Counting {
    pub opens: Arc<Mutex<HashMap<PathBuf, usize>>>,
}

impl Opener for Counting {
    fn open(&mut self, track: &Track) -> Result<Box<dyn TrackSource>, String> {
        *self.opens.lock().unwrap().entry(track.path.to_path_buf()).or_default() += 1;
        FileOpener.open(track)
    }

    fn tags(&mut self, track: &Track) -> Tags {
        FileOpener.tags(track)
    }
}

/// A programme with all that a test wants to see of it.
pub struct Rig {
    pub programme: Programme,
    pub library: watch::Sender<Arc<Library>>,
    pub opens: Arc<Mutex<HashMap<PathBuf, usize>>>,
    pub reports: Arc<Mutex<Vec<PathBuf>>>,
}

impl Rig {
    pub fn new(order: Order, tracks: Vec<Arc<Track>>) -> Self {
        let (sender, receiver) = watch::channel(library(tracks));
        let (opens, reports) = (Arc::<Mutex<HashMap<_, _>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let opener = Box::new(Counting { opens: Arc::clone(&opens) });
        let told = Arc::clone(&reports);
        let report = Box::new(move |path: &Path, _: &str| told.lock().unwrap().push(path.to_path_buf()));
        let config = PlayerConfig { order, ..PlayerConfig::default() };
        Self {
            programme: Programme::new(config, receiver, opener, report, 7),
            library: sender,
            opens,
            reports,
        }
    }

    pub fn set(&self, tracks: Vec<Arc<Track>>) {
        self.library.send_replace(library(tracks));
    }

    pub fn opens(&self) -> usize {
        self.opens.lock().unwrap().values().sum()
    }

    pub fn play(&mut self, blocks: usize) -> Heard {
        let mut heard = Heard::default();
        for _ in 0..blocks {
            let block = self.programme.next_block();
            heard.take(&block);
        }
        heard
    }
}

#[derive(Default)]
pub struct Heard {
    pub samples: Vec<f32>,
    pub changes: Vec<(usize, Arc<NowPlaying>)>,
}

impl Heard {
    pub fn take(&mut self, block: &PcmBlock) {
        assert_eq!(block.samples.len(), BLOCK_SAMPLES);
        assert!(block.samples.iter().all(|sample| sample.is_finite() && sample.abs() <= 1.0));
        let start = self.samples.len() / 2;
        for (at, now) in &block.changes {
            assert!(*at < BLOCK_FRAMES);
            self.changes.push((start + at, Arc::clone(now)));
        }
        self.samples.extend_from_slice(&block.samples);
    }

    pub fn titles(&self) -> Vec<&str> {
        self.changes.iter().map(|(_, now)| now.title.as_str()).collect()
    }

    pub fn left(&self) -> Vec<f32> {
        self.samples.iter().step_by(2).copied().collect()
    }
}

/// The greatest distance from a sine of this frequency, whose level and phase are fitted.
pub fn distance_from_sine(samples: &[f32], hertz: f64) -> f64 {
    let angle = std::f64::consts::TAU * hertz / 48_000.0;
    let (mut ss, mut sc, mut cc, mut ys, mut yc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let (s, c) = (angle * at as f64).sin_cos();
        let y = f64::from(*sample);
        (ss, sc, cc, ys, yc) = (ss + s * s, sc + s * c, cc + c * c, ys + y * s, yc + y * c);
    }
    let determinant = ss * cc - sc * sc;
    let (a, b) = ((ys * cc - yc * sc) / determinant, (yc * ss - ys * sc) / determinant);
    let fit = |at: usize| a * (angle * at as f64).sin() + b * (angle * at as f64).cos();
    samples.iter().enumerate().map(|(at, y)| (f64::from(*y) - fit(at)).abs()).fold(0.0, f64::max)
}

/// Files of one sine cut at odd places.
pub fn pieces_of_a_sine(folder: &Path, rate: u32) -> Vec<PathBuf> {
    let cuts = [0, rate as usize + 17, 2 * rate as usize + 1_234, 4 * rate as usize];
    cuts.windows(2)
        .enumerate()
        .map(|(at, cut)| {
            let path = folder.join(format!("{rate} {at}.wav"));
            write_wav(&path, rate, &sine(441.0, rate, cut[0]..cut[1], 0.25));
            path
        })
        .collect()
}
