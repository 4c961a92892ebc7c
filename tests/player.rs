//! The player, driven block by block: order, joins, levels, and what happens to bad files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/player_rig.rs"]
mod player_rig;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skywave::library::{LibraryActor, LibraryConfig, Tags, Track};
use skywave::player::programme::Programme;
use skywave::player::schedule::Order;
use skywave::player::track_source::{FileOpener, Opener, TrackSource};
use skywave::player::{BLOCK_FRAMES, PlayerActor, PlayerConfig, PlayerError, Source};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use player_rig::*;

#[test]
fn consecutive_tracks_are_joined_sample_by_sample() {
    for rate in [44_100, 48_000] {
        let folder = tempfile::tempdir().unwrap();
        let tracks = pieces_of_a_sine(folder.path(), rate).iter().map(|path| track(path)).collect();
        let heard = Rig::new(Order::Ordered, tracks).play(11);
        // Without the filter's first and last moments; all joins lie between.
        let samples = &heard.left()[4_800..168_000];
        let distance = distance_from_sine(samples, 441.0);
        assert!(distance < 2e-4, "{rate} Hz: {distance}");
        assert_eq!(heard.titles(), ["0", "1", "2"].map(|n| format!("{rate} {n}")));
        let expected = [0, rate as usize + 17, 2 * rate as usize + 1_234];
        for ((at, _), expected) in heard.changes.iter().zip(expected) {
            assert!(at.abs_diff(expected * 48_000 / rate as usize) < 2_400, "{at}");
        }
    }
}

#[test]
fn bad_files_between_good_ones_leave_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let good = pieces_of_a_sine(folder.path(), 48_000);
    let bad: Vec<PathBuf> = (0..6).map(|n| folder.path().join(format!("bad {n}.mp3"))).collect();
    std::fs::write(&bad[0], b"").unwrap();
    std::fs::write(&bad[1], b"this is no music at all\n".repeat(100)).unwrap();
    std::fs::write(&bad[2], &std::fs::read(&good[0]).unwrap()[..44]).unwrap();
    std::fs::create_dir(&bad[3]).unwrap();
    let all = [&good[0], &bad[0], &bad[1], &bad[2], &good[1], &bad[3], &bad[4], &bad[5], &good[2]];
    let mut rig = Rig::new(Order::Ordered, all.iter().map(|path| track(path)).collect());
    let heard = rig.play(11);
    assert!(distance_from_sine(&heard.left()[4_800..168_000], 441.0) < 2e-4);
    assert_eq!(heard.titles(), ["48000 0", "48000 1", "48000 2"]);
    assert_eq!(*rig.reports.lock().unwrap(), bad);
}

#[test]
fn a_measured_track_is_heard_at_the_target() {
    let folder = tempfile::tempdir().unwrap();
    for (rate, level) in [(44_100, 0.7), (48_000, 0.02), (22_050, 0.2)] {
        let path = folder.path().join(format!("{rate}.wav"));
        write_wav(&path, rate, &sine(997.0, rate, 0..rate as usize * 6, level));
        let heard = Rig::new(Order::Ordered, vec![measured(&path)]).play(15);
        let mut meter = ebur128::EbuR128::new(2, 48_000, ebur128::Mode::I).unwrap();
        meter.add_frames_f32(&heard.samples).unwrap();
        let lufs = meter.loudness_global().unwrap();
        assert!((lufs + 18.0).abs() < 0.5, "{rate} Hz at {level}: {lufs} LUFS");
    }
}

#[test]
fn loudness_that_becomes_known_changes_the_level_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quiet.wav");
    write_wav(&path, 48_000, &sine(1_000.0, 48_000, 0..48_000 * 30, 0.02));
    let mut rig = Rig::new(Order::Ordered, vec![track(&path)]);
    let level = |heard: &Heard| {
        let energy: f64 = heard.samples.iter().map(|sample| f64::from(sample * sample)).sum();
        10.0 * (energy / heard.samples.len() as f64).log10()
    };
    let before = level(&rig.play(3));
    rig.set(vec![measured(&path)]);
    let mut last = before;
    for _ in 0..60 {
        let now = level(&rig.play(1));
        assert!(now - last < 1.5 * 0.32 + 0.05, "from {last} to {now} dB");
        last = now;
    }
    // From the careful -8 dB to what -34 LUFS needs, +16 dB.
    assert!((last - before - 24.0).abs() < 1.0, "{before} to {last} dB");
}

#[test]
fn nothing_playable_gives_the_ident_and_opens_each_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let bad: Vec<_> = (0..30).map(|n| folder.path().join(format!("{n}.mp3"))).collect();
    bad.iter().for_each(|path| std::fs::write(path, b"nothing").unwrap());
    let all = || bad.iter().map(|path| track(path)).collect::<Vec<_>>();
    let mut rig = Rig::new(Order::Shuffled, all());
    let heard = rig.play(40);
    assert_eq!(heard.changes.len(), 1);
    assert_eq!(heard.changes[0].1.source, Source::Ident);
    assert_eq!(rig.opens(), 30);
    assert_eq!(rig.reports.lock().unwrap().len(), 30);
    let loudest = heard.samples.iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
    assert!(loudest > 0.05 && loudest < 0.71);
    // A snapshot that changes nothing about them is no reason to try again; a new content is.
    rig.set(all());
    rig.play(5);
    assert_eq!(rig.opens(), 30);
    write_wav(&bad[3], 48_000, &sine(440.0, 48_000, 0..48_000, 0.2));
    rig.set(all());
    let heard = rig.play(2);
    assert_eq!(heard.titles(), ["3"]);
    let of_changed = rig.opens.lock().unwrap()[&bad[3]];
    assert!(of_changed > 1);
    assert_eq!(rig.opens() - of_changed, 29);
}

#[test]
fn music_returns_from_the_ident_without_a_click() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    // Begins and ends at full swing: unfaded edges would click.
    let cosine: Vec<f32> = sine(500.0, 48_000, 24..48_024, 0.5).iter().map(|s| s.abs()).collect();
    write_wav(&path, 48_000, &cosine);
    let mut rig = Rig::new(Order::Ordered, vec![]);
    let mut heard = rig.play(4);
    rig.set(vec![track(&path)]);
    let returned = rig.play(1);
    assert_eq!(returned.titles(), ["a"]);
    rig.set(vec![]);
    let rest = rig.play(8);
    assert_eq!(rest.titles(), ["Station ident"]);
    for part in [&returned.samples, &rest.samples] {
        heard.samples.extend_from_slice(part);
    }
    let left = heard.left();
    let steepest = left.windows(2).map(|two| (two[1] - two[0]).abs()).fold(0.0, f32::max);
    assert!(steepest < 0.05, "{steepest}");
}

#[test]
fn a_skip_goes_on_with_the_next_track_at_once_and_without_a_click() {
    for rate in [44_100, 48_000] {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = ["a", "b", "c"].iter().map(|n| folder.path().join(format!("{n}.wav"))).collect();
        for path in &paths {
            // At full swing from the first sample on: unfaded edges would click.
            let cosine: Vec<f32> =
                sine(500.0, rate, 0..rate as usize * 30, 0.5).iter().map(|s| 0.5 - s.abs()).collect();
            write_wav(path, rate, &cosine);
        }
        let mut rig = Rig::new(Order::Ordered, paths.iter().map(|path| track(path)).collect());
        let mut heard = rig.play(10);
        for title in ["b", "c", "a"] {
            assert!(rig.programme.skip(Duration::from_secs(1)));
            let next = rig.play(10);
            assert_eq!(next.titles(), [title]);
            assert!(next.changes[0].0 < BLOCK_FRAMES, "within the next block");
            heard.samples.extend_from_slice(&next.samples);
        }
        let left = heard.left();
        let steepest = left.windows(2).map(|two| (two[1] - two[0]).abs()).fold(0.0, f32::max);
        assert!(steepest < 0.06, "{rate} Hz: {steepest}");
    }
}

#[test]
fn a_skip_spares_what_nobody_has_heard_yet_and_the_ident() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    write_wav(&path, 48_000, &sine(440.0, 48_000, 0..48_000 * 20, 0.2));
    let mut rig = Rig::new(Order::Ordered, vec![]);
    rig.play(2);
    assert!(!rig.programme.skip(Duration::ZERO), "the ident");
    rig.set(vec![track(&path)]);
    rig.play(10);
    assert!(!rig.programme.skip(Duration::from_secs(60)), "coded ahead of air");
    assert_eq!(rig.play(5).titles(), Vec::<&str>::new());
    assert!(rig.programme.skip(Duration::from_secs(2)));
    assert_eq!(rig.play(1).titles(), ["a"], "the only track begins anew");
    rig.set(vec![]);
    assert!(rig.programme.skip(Duration::ZERO));
    assert_eq!(rig.play(1).titles(), ["Station ident"]);
}

#[test]
fn a_vanished_track_that_was_opened_ahead_is_not_played() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = ["a", "b", "c"].iter().map(|n| folder.path().join(format!("{n}.wav"))).collect();
    for path in &paths {
        write_wav(path, 48_000, &sine(440.0, 48_000, 0..96_000, 0.2));
    }
    let mut rig = Rig::new(Order::Ordered, paths.iter().map(|path| track(path)).collect());
    rig.play(3);
    assert_eq!(rig.opens.lock().unwrap().get(&paths[1]), Some(&1), "opened ahead");
    rig.set(vec![track(&paths[0]), track(&paths[2])]);
    assert_eq!(rig.play(6).titles(), ["c"]);
}

#[test]
fn very_short_files_are_no_music() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("click.wav");
    write_wav(&path, 48_000, &[0.5; 100]);
    let mut rig = Rig::new(Order::Ordered, vec![track(&path)]);
    assert_eq!(rig.play(3).titles(), ["Station ident"]);
    assert_eq!(rig.opens(), 1);
}

#[test]
fn shuffled_plays_every_track_before_any_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let tracks: Vec<_> = (0..8)
        .map(|n| {
            let path = folder.path().join(format!("{n}.wav"));
            write_wav(&path, 48_000, &sine(440.0, 48_000, 0..24_000, 0.2));
            track(&path)
        })
        .collect();
    let heard = Rig::new(Order::Shuffled, tracks).play(26);
    let titles = heard.titles();
    for round in titles.chunks_exact(8) {
        let distinct: std::collections::HashSet<_> = round.iter().collect();
        assert_eq!(distinct.len(), 8, "{titles:?}");
    }
    assert!(titles.len() >= 16);
}

/// Yields samples that no encoder must see.
struct Poison;

impl TrackSource for Poison {
    fn sample_rate(&self) -> u32 {
        48_000
    }

    fn duration(&self) -> Option<Duration> {
        None
    }

    fn decode(&mut self, samples: &mut Vec<f32>) -> Result<usize, String> {
        samples.extend([f32::NAN, f32::INFINITY, f32::MAX, -7.0].repeat(2_400));
        Ok(4_800)
    }
}

struct Poisoned;

impl Opener for Poisoned {
    fn open(&mut self, _: &Track) -> Result<Box<dyn TrackSource>, String> {
        Ok(Box::new(Poison))
    }

    fn tags(&mut self, _: &Track) -> Tags {
        Tags::default()
    }
}

#[test]
fn not_one_sample_is_out_of_bounds_whatever_a_decoder_gives() {
    let (_sender, receiver) = watch::channel(library(vec![track(Path::new("/poison.wav"))]));
    let config = PlayerConfig::default();
    let mut programme = Programme::new(config, receiver, Box::new(Poisoned), Box::new(|_, _| {}), 0);
    let mut heard = Heard::default();
    for _ in 0..3 {
        heard.take(&programme.next_block());
    }
    assert!(programme.replaced_samples() >= 2 * 48_000 / 2);
}

#[tokio::test(start_paused = true)]
async fn blocks_flow_as_fast_as_they_are_taken_and_stop_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let music = folder.path().join("music");
    std::fs::create_dir(&music).unwrap();
    write_wav(&music.join("a.wav"), 44_100, &sine(440.0, 44_100, 0..88_200, 0.2));
    let config = LibraryConfig { music: vec![music], settle: Duration::ZERO };
    let (library, mut librarian) = LibraryActor::new(config, folder.path());
    let (_handle, mut player) = PlayerActor::new(PlayerConfig::default(), library, 1);
    let cancel = CancellationToken::new();
    let (sender, mut blocks) = mpsc::channel(2);
    let stop = cancel.clone();
    let scanning = tokio::spawn(async move { librarian.run(stop).await });
    let stop = cancel.clone();
    let playing = tokio::spawn(async move { player.run(&sender, stop).await });
    let mut heard = Heard::default();
    for _ in 0..20 {
        heard.take(&tokio::time::timeout(PATIENCE, blocks.recv()).await.unwrap().unwrap());
    }
    assert_eq!(heard.titles()[0], "a", "music, not ident, comes first");
    cancel.cancel();
    tokio::time::timeout(PATIENCE, playing).await.unwrap().unwrap().unwrap();
    tokio::time::timeout(PATIENCE, scanning).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_player_without_an_encoder_says_so_and_can_be_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let (library, _librarian) = LibraryActor::new(LibraryConfig::default(), folder.path());
    let (_handle, mut player) = PlayerActor::new(PlayerConfig::default(), library, 1);
    let (sender, blocks) = mpsc::channel(2);
    drop(blocks);
    let result = player.run(&sender, CancellationToken::new()).await;
    assert!(matches!(result, Err(PlayerError::EncoderGone)));
    let (sender, mut blocks) = mpsc::channel(2);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let playing = tokio::spawn(async move { player.run(&sender, stop).await });
    let block = tokio::time::timeout(PATIENCE, blocks.recv()).await.unwrap().unwrap();
    assert_eq!(block.changes[0].1.source, Source::Ident);
    cancel.cancel();
    tokio::time::timeout(PATIENCE, playing).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_skip_by_the_handle_reaches_the_programme() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.wav", "b.wav"] {
        write_wav(&folder.path().join(name), 48_000, &sine(440.0, 48_000, 0..48_000 * 60, 0.2));
    }
    let config = LibraryConfig { music: vec![folder.path().to_owned()], settle: Duration::ZERO };
    let (library, mut librarian) = LibraryActor::new(config, &folder.path().join("data"));
    let ordered = PlayerConfig { order: Order::Ordered, ..PlayerConfig::default() };
    let (handle, mut player) = PlayerActor::new(ordered, library, 1);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let scanning = tokio::spawn(async move { librarian.run(stop).await });
    let (sender, mut blocks) = mpsc::channel(2);
    let stop = cancel.clone();
    let playing = tokio::spawn(async move { player.run(&sender, stop).await });
    let listen = async {
        let mut titles = Vec::new();
        while titles.len() < 3 {
            let block = blocks.recv().await.unwrap();
            let started = block.changes.iter().map(|(_, playing)| playing.title.clone());
            let started: Vec<_> = started.filter(|title| title != "Station ident").collect();
            if !started.is_empty() {
                handle.skip(Duration::ZERO);
            }
            titles.extend(started);
        }
        titles
    };
    let titles = tokio::time::timeout(PATIENCE, listen).await.unwrap();
    assert_eq!(titles, ["a", "b", "a"]);
    cancel.cancel();
    playing.await.unwrap().unwrap();
    scanning.await.unwrap().unwrap();
}

/// Panics on the first track it opens.
struct Fragile {
    may_panic: Arc<Mutex<bool>>,
}

impl Opener for Fragile {
    fn open(&mut self, track: &Track) -> Result<Box<dyn TrackSource>, String> {
        let panics = std::mem::take(&mut *self.may_panic.lock().unwrap());
        assert!(!panics, "a bug");
        FileOpener.open(track)
    }

    fn tags(&mut self, _: &Track) -> Tags {
        Tags::default()
    }
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_next_run_plays() {
    let folder = tempfile::tempdir().unwrap();
    write_wav(&folder.path().join("a.wav"), 48_000, &sine(440.0, 48_000, 0..48_000, 0.2));
    let config = LibraryConfig { music: vec![folder.path().into()], settle: Duration::ZERO };
    let (library, mut librarian) = LibraryActor::new(config, &folder.path().join("data"));
    let may_panic = Arc::new(Mutex::new(true));
    let make = Box::new(move || Box::new(Fragile { may_panic: Arc::clone(&may_panic) }) as Box<dyn Opener>);
    let (_handle, mut player) = PlayerActor::with_opener(PlayerConfig::default(), library, 1, make);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let scanning = tokio::spawn(async move { librarian.run(stop).await });
    let (sender, mut blocks) = mpsc::channel(2);
    let result = tokio::time::timeout(PATIENCE, player.run(&sender, cancel.clone())).await.unwrap();
    assert!(matches!(result, Err(PlayerError::Produce(_))));
    let stop = cancel.clone();
    let playing = tokio::spawn(async move { player.run(&sender, stop).await });
    let block = tokio::time::timeout(PATIENCE, blocks.recv()).await.unwrap().unwrap();
    assert_eq!(block.changes[0].1.title, "a");
    cancel.cancel();
    playing.await.unwrap().unwrap();
    scanning.await.unwrap().unwrap();
}

#[test]
fn settings_are_read_and_bounded() {
    let config: PlayerConfig = toml::from_str("order = \"ordered\"\nloudness_target = -23.0").unwrap();
    assert_eq!((config.order, config.loudness_target), (Order::Ordered, -23.0));
    assert_eq!(toml::from_str::<PlayerConfig>("").unwrap(), PlayerConfig::default());
    assert!(toml::from_str::<PlayerConfig>("volume = 11").is_err());
    for (target, ceiling) in [(-41.0, -1.0), (-4.0, -1.0), (f64::NAN, -1.0), (-18.0, 0.5), (-18.0, -21.0)] {
        let config = PlayerConfig { loudness_target: target, true_peak_ceiling: ceiling, ..config };
        assert!(config.validate().is_err(), "{target} {ceiling}");
    }
    assert!(PlayerConfig::default().validate().is_ok());
}

/// The first file it opens hangs until it is let go.
struct Hanging(Arc<Mutex<Option<std::sync::mpsc::Receiver<()>>>>);

impl Opener for Hanging {
    fn open(&mut self, track: &Track) -> Result<Box<dyn TrackSource>, String> {
        let gate = self.0.lock().unwrap().take();
        gate.map(|gate| gate.recv());
        FileOpener.open(track)
    }

    fn tags(&mut self, track: &Track) -> Tags {
        FileOpener.tags(track)
    }
}

#[tokio::test]
async fn a_mount_that_hangs_gives_the_ident_until_it_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    write_wav(&folder.path().join("a.wav"), 48_000, &sine(440.0, 48_000, 0..96_000, 0.2));
    let config = LibraryConfig { music: vec![folder.path().into()], settle: Duration::ZERO };
    let (library, mut actor) = LibraryActor::new(config, folder.path());
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let scan = tokio::spawn(async move { actor.run(stop).await });
    library.snapshot().wait_for(|library| !library.tracks.is_empty()).await.unwrap();

    let (release, gate) = std::sync::mpsc::channel();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let hanging = Box::new(move || Box::new(Hanging(Arc::clone(&gate))) as Box<dyn Opener>);
    let (_settings, mut player) = PlayerActor::with_opener(PlayerConfig::default(), library, 1, hanging);
    let (blocks, mut heard) = mpsc::channel(2);
    // What the supervisor does with a stage that makes no progress.
    let hung = tokio::time::timeout(Duration::from_millis(300), player.run(&blocks, cancel.clone())).await;
    assert!(hung.is_err() && heard.try_recv().is_err());

    let listen = async {
        let first = heard.recv().await.unwrap();
        assert_eq!(first.changes[0].1.source, Source::Ident);
        release.send(()).unwrap();
        loop {
            let block = heard.recv().await.unwrap();
            if block.changes.iter().any(|(_, playing)| playing.source == Source::Library) {
                return;
            }
        }
    };
    tokio::select! {
        ended = player.run(&blocks, cancel.clone()) => panic!("{ended:?}"),
        heard = tokio::time::timeout(PATIENCE, listen) => heard.unwrap(),
    }
    cancel.cancel();
    scan.await.unwrap().unwrap();
}
