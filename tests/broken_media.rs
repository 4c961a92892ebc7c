//! Whatever is on the stick: it plays or it is refused by name, in bounded time and memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use skywave::audio::AudioError;
use skywave::audio::decode::Decoder;
use skywave::audio::loudness::measure;

#[path = "support/media.rs"]
mod media;

/// What became of one file: frames heard, or the error.
type Verdict = Result<usize, AudioError>;

const PATIENCE: Duration = Duration::from_secs(60);

/// Decodes a file to its end, checking every block.
fn play(path: &Path, most_frames: usize) -> Verdict {
    let mut decoder = Decoder::open(path)?;
    let mut block = Vec::new();
    let mut total = 0;
    loop {
        block.clear();
        let frames = decoder.decode(&mut block)?;
        assert_eq!(block.len(), frames * 2, "{}", path.display());
        let sound = block.iter().all(|sample| (-1.0..=1.0).contains(sample));
        assert!(sound, "{} gave a sample that is not finite or too large", path.display());
        if frames == 0 {
            break;
        }
        total += frames;
        assert!(total <= most_frames, "{} does not end", path.display());
    }
    assert_eq!(decoder.decode(&mut block)?, 0, "the end stays the end");
    Ok(total)
}

fn most_frames(path: &Path) -> usize {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len() as usize);
    4 * media::LONGEST_SOUND.max(bytes)
}

/// Runs `check` on every file in a thread of its own and fails, naming the file, when one takes
/// longer than anybody would wait.
fn each_in_time(paths: Vec<PathBuf>, check: fn(&Path) -> Verdict) -> Vec<(PathBuf, Verdict)> {
    let (sender, receiver) = mpsc::channel();
    let worker_paths = paths.clone();
    std::thread::spawn(move || {
        for path in worker_paths {
            let verdict = catch_unwind(AssertUnwindSafe(|| check(&path)));
            if sender.send((path, verdict)).is_err() {
                return;
            }
        }
    });
    let mut verdicts = Vec::new();
    for path in &paths {
        match receiver.recv_timeout(PATIENCE) {
            Ok((path, Ok(verdict))) => verdicts.push((path, verdict)),
            Ok((path, Err(_))) => panic!("{} made the decoder panic", path.display()),
            Err(error) => panic!("{} takes for ever: {error}", path.display()),
        }
    }
    verdicts
}

#[test]
fn broken_media_plays_or_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let paths = media::broken_corpus(dir.path(), 1);
    assert!(paths.len() >= 300, "{} cases", paths.len());
    let verdicts = each_in_time(paths, |path| play(path, most_frames(path)));
    let mut played = 0;
    for (path, verdict) in &verdicts {
        match verdict {
            Ok(_) => played += 1,
            Err(error) => {
                let name = path.display().to_string();
                assert!(error.to_string().contains(&name), "{error} does not name {name}");
                assert_eq!(error.path(), path);
            }
        }
    }
    eprintln!("{played} of {} played, the rest was refused", verdicts.len());
    assert!(played >= verdicts.len() / 3, "slight damage must not silence a track");
}

#[test]
fn another_seed_finds_nothing_either() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let paths = media::broken_corpus(dir.path(), 20_260_101);
    each_in_time(paths, |path| play(path, most_frames(path)));
}

#[test]
fn hopeless_files_are_refused_for_the_right_reason() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for path in media::broken_corpus(dir.path(), 2) {
        let name = path.display().to_string();
        let verdict = play(&path, most_frames(&path));
        if ["zero-bytes", "text", "zeros", "noise.", "rate-0", "rate-4", "channels-0", "channels-65"]
            .iter()
            .any(|what| name.contains(what))
        {
            let refused =
                matches!(verdict, Err(AudioError::Unsupported { .. } | AudioError::Hopeless { .. }));
            assert!(refused, "{name}: {verdict:?}");
        }
        if name.contains("directory") {
            assert!(matches!(verdict, Err(AudioError::Open { .. })), "{name}: {verdict:?}");
        }
    }
    let missing = dir.path().join("gone.mp3");
    assert!(matches!(play(&missing, 0), Err(AudioError::Open { .. })));
}

#[test]
fn wrong_extensions_still_play() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (index, (extension, file)) in media::sound_files().into_iter().enumerate() {
        let right = dir.path().join(format!("{index}.{extension}"));
        std::fs::write(&right, &file).expect("writable");
        let expected = play(&right, usize::MAX).expect("a whole file plays");
        for wrong in ["mp3", "wav", "flac", "ogg", "m4a", "txt"] {
            let path = dir.path().join(format!("{index}-{extension}.{wrong}"));
            std::fs::write(&path, &file).expect("writable");
            let frames = play(&path, usize::MAX).expect("contents decide, not the name");
            assert_eq!(frames, expected, "{}", path.display());
        }
    }
}

#[test]
fn noise_is_never_taken_for_music() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut random = fastrand::Rng::with_seed(7);
    for case in 0..24 {
        let noise: Vec<u8> = (0..400_000).map(|_| random.u8(..)).collect();
        let path = dir.path().join(format!("{case}.mp3"));
        std::fs::write(&path, noise).expect("writable");
        let verdict = play(&path, usize::MAX);
        assert!(verdict.is_err(), "case {case} gave {verdict:?} frames of noise");
    }
}

#[test]
fn measuring_stops_when_asked() {
    let path = media::fixture("sine-a.ogg");
    assert!(matches!(measure(&path, &|| false), Ok(None)));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_instead_of_waited_for() {
    let path = Path::new("/dev/zero");
    assert!(matches!(Decoder::open(path), Err(AudioError::Open { .. })));
}
