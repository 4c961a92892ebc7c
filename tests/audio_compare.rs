//! The audio comparison under test: it finds what was done to a sweep, and nothing where nothing was done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod audio_compare;
}

use proptest::prelude::*;
use support::audio_compare::{
    Media, Tone, chirp, decode_with_ffmpeg, ffprobe_json, find_offset, gap_or_repeat, level_db, mono,
    peers_available, tone_power, tone_sequence,
};

const RATE: u32 = 48_000;

/// What the end-to-end tests play: half-second sweeps through the range that every bit rate keeps.
fn sweep(seconds: f64) -> Vec<f32> {
    chirp(seconds, 0.5, RATE, 500.0, 6000.0)
}

/// The noise of a mediocre codec, 30 dB below the sweep.
fn with_noise(samples: &[f32]) -> Vec<f32> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    samples.iter().map(|sample| sample + 0.02 * noise()).collect()
}

/// A WAV file of 16-bit stereo, both channels alike.
fn wav(samples: &[f32]) -> Vec<u8> {
    let length = samples.len() as u32 * 4;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    bytes.extend(RATE.to_le_bytes());
    bytes.extend((RATE * 4).to_le_bytes());
    bytes.extend(b"\x04\0\x10\0data");
    bytes.extend(length.to_le_bytes());
    for sample in samples {
        let value = ((sample * 32_767.0) as i16).to_le_bytes();
        bytes.extend([value, value].concat());
    }
    bytes
}

#[test]
fn the_offset_is_found_to_the_sample_on_either_side() {
    let reference = sweep(2.0);
    for offset in [0, 1, 2048, 30_000] {
        let late = with_noise(&[vec![0.0; offset], reference.clone()].concat());
        let found = find_offset(&reference, &late);
        assert_eq!(found.samples, offset as i64);
        assert!(found.correlation > 0.95, "{found:?}");
        let early = find_offset(&reference, &with_noise(&reference[offset..]));
        assert_eq!(early.samples, -(offset as i64));
    }
}

#[test]
fn unlike_signals_do_not_correlate() {
    let found = find_offset(&sweep(1.0), &with_noise(&vec![0.0; 48_000]));
    assert!(found.correlation < 0.2, "{found:?}");
}

#[test]
fn an_unbroken_signal_has_no_splice() {
    let reference = sweep(4.0);
    assert_eq!(gap_or_repeat(&reference, &with_noise(&reference), RATE), None);
    let late = [vec![0.0; 700], reference.clone()].concat();
    assert_eq!(gap_or_repeat(&reference, &with_noise(&late), RATE), None);
    let with_pause = [sweep(1.0), vec![0.0; 24_000], sweep(1.0)].concat();
    assert_eq!(gap_or_repeat(&with_pause, &with_noise(&with_pause), RATE), None);
}

#[test]
fn one_sample_is_forgiven_and_two_are_not() {
    let reference = sweep(4.0);
    let without = |count: usize| [&reference[..90_000], &reference[90_000 + count..]].concat();
    assert_eq!(gap_or_repeat(&reference, &without(1), RATE), None);
    assert_eq!(gap_or_repeat(&reference, &without(2), RATE).and_then(|splice| splice.samples), Some(-2));
}

#[test]
fn losing_the_signal_for_good_is_a_splice() {
    let reference = sweep(4.0);
    let hole = |count: usize| [&reference[..90_000], &reference[90_000 + count..]].concat();
    let mute = [&reference[..90_000], &vec![0.0; 102_000]].concat();
    for decoded in [hole(10_000), mute, reference[..90_000].to_vec(), vec![0.0; 192_000]] {
        assert!(gap_or_repeat(&reference, &decoded, RATE).is_some(), "{} samples", decoded.len());
    }
}

/// Drops or repeats so many samples there; the error is what was found instead.
fn spliced(at: usize, count: usize, repeat: bool) -> Result<(), String> {
    let reference = sweep(3.0);
    let resume = if repeat { at - count } else { at + count };
    let decoded = with_noise(&[&reference[..at], &reference[resume..]].concat());
    let wanted = if repeat { count as i64 } else { -(count as i64) };
    let splice = gap_or_repeat(&reference, &decoded, RATE).ok_or(format!("{wanted} at {at} unseen"))?;
    let found = splice.samples.unwrap_or_default();
    let right = (found - wanted).abs() <= 1 && splice.at.abs_diff(at) <= 7200;
    right.then_some(()).ok_or(format!("{splice:?}, {wanted} at {at}"))
}

#[test]
fn two_windows_that_hold_the_jump_and_agree_on_a_wrong_lag_are_no_verdict() {
    assert_eq!(spliced(95_278, 55, true), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn any_run_dropped_or_repeated_is_found_near_its_place(
        at in 20_000_usize..120_000,
        count in 2_usize..2500,
        repeat in any::<bool>(),
    ) {
        spliced(at, count, repeat).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn levels_are_in_decibels_of_full_scale() {
    assert!((level_db(&sweep(1.0)) - -9.03).abs() < 0.05, "half of full scale, a sine");
    assert!((level_db(&[1.0; 100])).abs() < 1e-9);
    assert_eq!(level_db(&[0.0; 100]), f64::NEG_INFINITY);
}

#[test]
fn tones_are_told_apart_in_their_order() {
    let frequencies = [600.0, 1000.0, 1700.0];
    let tone = |hertz: f64| chirp(0.2, 1.0, RATE, hertz, hertz);
    let sequence = [tone(1000.0), tone(600.0), vec![0.0; 4800], tone(1700.0)].concat();
    assert!((tone_power(&tone(1000.0), RATE, 1000.0) - 0.25).abs() < 0.01);
    let tones = tone_sequence(&with_noise(&sequence), RATE, &frequencies);
    let expected = [
        Tone { which: Some(1), start: 0, end: 9600 },
        Tone { which: Some(0), start: 9600, end: 19_200 },
        Tone { which: None, start: 19_200, end: 24_000 },
        Tone { which: Some(2), start: 24_000, end: 33_600 },
    ];
    assert_eq!(tones, expected);
}

#[test]
fn a_peer_decodes_what_was_written() {
    if !peers_available() {
        return;
    }
    let reference = sweep(1.0);
    let decoded = decode_with_ffmpeg(Media::Bytes(&wav(&reference))).expect("a plain WAV file");
    assert_eq!(decoded.stereo.len(), 96_000);
    let found = find_offset(&reference, &mono(&decoded.stereo));
    assert!(found.samples == 0 && found.correlation > 0.999, "{found:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sweep.wav");
    std::fs::write(&path, wav(&reference)).expect("a writable folder");
    let json = ffprobe_json(Media::File(&path)).expect("a plain WAV file");
    assert_eq!(json["streams"][0]["sample_rate"], "48000");
    assert_eq!(json["streams"][0]["channels"], 2);
}

#[test]
fn a_peer_that_fails_is_an_error_and_says_why() {
    if !peers_available() {
        return;
    }
    let error = decode_with_ffmpeg(Media::Bytes(b"no music at all")).expect_err("nothing to decode");
    assert!(error.contains("ffmpeg") && error.contains("Invalid data"), "{error}");
    assert!(ffprobe_json(Media::Bytes(b"no music at all")).is_err());
}
