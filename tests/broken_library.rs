//! A library of broken files, of nothing else, or gone altogether: the station is on air, steady and conformant.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod media;
    pub(crate) mod simulation;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use skywave::audio::decode::Decoder;
use skywave::clock::{SteppedClock, WallClock};
use skywave::config::Config;
use skywave::health::MAX_UNPLAYABLE_SHOWN;
use skywave::library::Library;
use skywave::player::schedule::Order;
use support::media;
use support::simulation::{Listener, OCTOBER_2026, Station, config, scratch};

const CORPUS_SEED: u64 = 3;
/// Ticks at the start that come as fast as they can.
const HEAD_START: usize = 4;
/// Simulated time stands still for no inotify event: so many ticks are long in real time.
const MOST_TICKS: usize = 400;

fn with_music(folder: &Path, music: &Path) -> Config {
    let mut config = config(folder);
    config.library.music = vec![music.to_path_buf()];
    config.library.settle = Duration::ZERO;
    config.player.order = Order::Ordered;
    config
}

/// A tone of `seconds`, named so that it stands where the order shall have it.
fn good_file(folder: &Path, name: &str, seconds: usize) -> PathBuf {
    let path = folder.join(name);
    let tone = media::sines(44_100, 0, 44_100 * seconds, &[(440.0, 0.3), (660.0, 0.3)]);
    std::fs::write(&path, media::wav(44_100, 2, None, media::Depth::S16, &tone)).unwrap();
    path
}

/// A station, who hears it, and what is heard.
struct Air {
    station: Station,
    listener: Listener,
    clock: Arc<SteppedClock>,
    /// Bytes of the init segment and of every segment, by number.
    init: Vec<u8>,
    media: BTreeMap<u64, Vec<u8>>,
}

impl Air {
    async fn start(config: &Config) -> Self {
        let clock = SteppedClock::starting_at(OCTOBER_2026);
        let station = Station::start(config, &clock).await;
        let listener = Listener::new(config, true);
        Self { station, listener, clock, init: Vec::new(), media: BTreeMap::new() }
    }

    /// Hears one tick; what plays: source and title.
    async fn tick(&mut self) -> (String, String) {
        let tree = self.station.tick().await;
        let mut source = self.station.fetch(&tree).await;
        self.listener.hear(&mut source, tree.newest, self.clock.unix_millis());
        self.init.clone_from(&source.0["lofi/init.mp4"]);
        let n = tree.newest;
        self.media.insert(n, source.0[&format!("lofi/{n}.m4s")].clone());
        let station: Value = serde_json::from_slice(&source.0["station.json"]).unwrap();
        let playing = |key: &str| station["now_playing"][key].as_str().unwrap_or_default().to_owned();
        (playing("source"), playing("title"))
    }

    /// Hears ticks until what plays comes from `source`.
    async fn until(&mut self, source: &str) {
        for _ in 0..MOST_TICKS {
            if self.tick().await.0 == source {
                return;
            }
        }
        panic!("{source} never came on air: {:#?}", self.station.appliance.health().report());
    }

    fn library(&self) -> Arc<Library> {
        self.station.appliance.library().borrow().clone()
    }

    async fn until_scanned(&mut self) {
        for _ in 0..MOST_TICKS {
            let library = self.library();
            if !library.scanning && library.found > 0 {
                return;
            }
            self.tick().await;
        }
        panic!("the scan never ended");
    }

    /// Steady, conformant, no stage restarted.
    async fn end(self) {
        self.listener.assert_steady_from(HEAD_START);
        assert_eq!(self.station.restarts(), 0, "{:#?}", self.station.appliance.health().report());
        self.station.appliance.stop().await;
        let report = self.listener.finish();
        assert_eq!((report.discontinuities, report.jumps), (0, 0));
    }
}

/// The files that nobody can play, whatever they are named.
fn hopeless(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let is_hopeless = |path: &&PathBuf| path.is_file() && Decoder::open(path).is_err();
    paths.iter().filter(is_hopeless).cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn a_stick_full_of_broken_files_is_played_through_without_a_seam_and_each_is_named() {
    let folder = scratch();
    let music = folder.path().join("music");
    std::fs::create_dir(&music).unwrap();
    let broken = media::broken_corpus(&music, CORPUS_SEED);
    assert!(broken.len() >= 300);
    let good = ["000-good.wav", "250-good.wav", "450-good.wav"].map(|name| good_file(&music, name, 12));
    let mut air = Air::start(&with_music(folder.path(), &music)).await;
    let mut heard = BTreeSet::new();
    for _ in 0..90 {
        heard.insert(air.tick().await.1);
    }
    air.until_scanned().await;
    for file in &good {
        let title = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(heard.contains(&title), "{title} among {heard:?}");
    }
    let library = air.library();
    let given_up: BTreeSet<_> = library.unplayable.iter().map(|file| file.path.clone()).collect();
    let forgotten: Vec<_> = hopeless(&broken).into_iter().filter(|path| !given_up.contains(path)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
    assert!(good.iter().all(|file| !given_up.contains(file)));
    assert!(library.unplayable.iter().all(|file| !file.reason.is_empty()));
    // Lets the counts travel to health.
    air.tick().await;
    let health = air.station.appliance.health().report().library;
    assert_eq!((health.found, health.scanned, health.scanning), (library.found, library.found, false));
    assert_eq!(health.tracks + health.unplayable_count, health.found);
    assert_eq!(health.unplayable_count, given_up.len());
    let shown: Vec<_> = health.unplayable.iter().map(|file| PathBuf::from(&file.path)).collect();
    assert_eq!(shown.len(), given_up.len().min(MAX_UNPLAYABLE_SHOWN));
    assert!(shown.iter().all(|path| given_up.contains(path)));
    air.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_nothing_playable_the_ident_is_on_air_until_music_comes_goes_and_comes_back() {
    let folder = scratch();
    let music = folder.path().join("music");
    std::fs::create_dir(&music).unwrap();
    let broken = media::broken_corpus(&music, CORPUS_SEED);
    let hopeless = hopeless(&broken);
    for path in broken.iter().filter(|path| path.is_file() && !hopeless.contains(*path)) {
        std::fs::remove_file(path).unwrap();
    }
    let mut air = Air::start(&with_music(folder.path(), &music)).await;
    air.until_scanned().await;
    air.until("ident").await;
    for _ in 0..12 {
        assert_eq!(air.tick().await.0, "ident");
    }
    assert!(air.library().tracks.is_empty(), "{:?}", air.library().tracks);
    good_file(&music, "good.wav", 9);
    air.until("library").await;
    let away = folder.path().join("pulled");
    std::fs::rename(&music, &away).unwrap();
    air.until("ident").await;
    assert!(air.library().tracks.is_empty());
    std::fs::rename(&away, &music).unwrap();
    air.until("library").await;
    air.end().await;
}

/// What the segments decode to: frames, and the largest absolute sample.
fn decode(air: &Air, folder: &Path) -> (usize, f32) {
    let path = folder.join("heard.m4a");
    let stream: Vec<u8> = [&air.init].into_iter().chain(air.media.values()).flatten().copied().collect();
    std::fs::write(&path, stream).unwrap();
    let mut decoder = Decoder::open(&path).unwrap();
    let (mut samples, mut frames) = (Vec::new(), 0);
    loop {
        match decoder.decode(&mut samples).unwrap() {
            0 => break,
            decoded => frames += decoded,
        }
    }
    assert!(samples.iter().all(|sample| sample.is_finite()));
    (frames, samples.iter().fold(0.0, |peak, sample| sample.abs().max(peak)))
}

#[tokio::test(start_paused = true)]
async fn a_file_of_nothing_but_nan_is_silence_on_air() {
    let folder = scratch();
    let music = folder.path().join("music");
    std::fs::create_dir(&music).unwrap();
    for (name, sample) in [("a.wav", f64::NAN), ("b.wav", f64::NAN), ("c.wav", -f64::NAN)] {
        let samples = vec![sample; 48_000 * 2 * 20];
        std::fs::write(music.join(name), media::wav(48_000, 2, None, media::Depth::F32, &samples)).unwrap();
    }
    let mut air = Air::start(&with_music(folder.path(), &music)).await;
    for _ in 0..15 {
        assert_eq!(air.tick().await.0, "library");
    }
    let (frames, peak) = decode(&air, folder.path());
    assert!(frames >= 12 * 184_320, "{frames} frames");
    assert!(peak < 0.001, "a peak of {peak} where all is silent");
    air.end().await;
}

#[tokio::test(start_paused = true)]
async fn infinities_and_absurd_levels_are_heard_within_full_scale() {
    let folder = scratch();
    let music = folder.path().join("music");
    std::fs::create_dir(&music).unwrap();
    let mut tone = media::sines(48_000, 0, 48_000 * 30, &[(440.0, 0.3), (440.0, 0.3)]);
    for (index, bad) in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e30, -1e30].into_iter().enumerate() {
        tone.iter_mut().skip(index * 1_009).step_by(9_973).for_each(|slot| *slot = bad);
    }
    std::fs::write(music.join("a.wav"), media::wav(48_000, 2, None, media::Depth::F32, &tone)).unwrap();
    let mut air = Air::start(&with_music(folder.path(), &music)).await;
    for _ in 0..12 {
        assert_eq!(air.tick().await.0, "library");
    }
    let (frames, peak) = decode(&air, folder.path());
    assert!(frames >= 9 * 184_320, "{frames} frames");
    assert!((0.05..=1.0).contains(&peak), "a peak of {peak}");
    air.end().await;
}
