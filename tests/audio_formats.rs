//! Every format decodes to the sample, and what was one piece of sound is one again when joined.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::f64::consts::TAU;
use std::ops::Range;
use std::path::{Path, PathBuf};

use skywave::audio::AudioError;
use skywave::audio::decode::Decoder;
use skywave::audio::loudness::measure;
use skywave::audio::resample::Resampler;

use media::{Depth, aiff, fixture, fixture_bytes, flac, sines, wav};

#[path = "support/media.rs"]
mod media;

/// The signal of the fixtures, left and right, and where it was cut in two.
const TONES: [(f64, f64); 2] = [(997.0, 0.5), (1_499.0, 0.25)];
const CUT: usize = 13_007;
const END: usize = 26_461;

struct Decoded {
    rate: u32,
    /// Interleaved left and right.
    samples: Vec<f32>,
    skipped: u64,
}

impl Decoded {
    fn frames(&self) -> usize {
        self.samples.len() / 2
    }

    fn side(&self, side: usize) -> Vec<f64> {
        self.samples.iter().skip(side).step_by(2).map(|sample| f64::from(*sample)).collect()
    }
}

fn decode(path: &Path) -> Result<Decoded, AudioError> {
    let mut decoder = Decoder::open(path)?;
    let mut samples = Vec::new();
    while decoder.decode(&mut samples)? > 0 {}
    Ok(Decoded { rate: decoder.sample_rate(), samples, skipped: decoder.skipped_packets() })
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary directory"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("writable");
        path
    }

    fn decode(&self, name: &str, bytes: &[u8]) -> Decoded {
        decode(&self.file(name, bytes)).expect("it plays")
    }
}

/// Amplitude of the best fitting sine, and the RMS of what it leaves over.
fn fit(samples: &[f64], rate: f64, hertz: f64) -> (f64, f64) {
    let angle = |n: usize| TAU * hertz * n as f64 / rate;
    // Least squares for a sin + b cos: two equations.
    let (mut ss, mut sc, mut cc, mut ys, mut yc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, y) in samples.iter().enumerate() {
        let (s, c) = angle(n).sin_cos();
        (ss, sc, cc) = (ss + s * s, sc + s * c, cc + c * c);
        (ys, yc) = (ys + y * s, yc + y * c);
    }
    let determinant = ss * cc - sc * sc;
    let (a, b) = ((ys * cc - yc * sc) / determinant, (yc * ss - ys * sc) / determinant);
    let residue = samples.iter().enumerate().map(|(n, y)| {
        let (s, c) = angle(n).sin_cos();
        y - a * s - b * c
    });
    (a.hypot(b), rms(residue))
}

fn rms(samples: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = samples.len().max(1) as f64;
    (samples.map(|sample| sample * sample).sum::<f64>() / count).sqrt()
}

fn decibels(ratio: f64) -> f64 {
    20.0 * ratio.log10()
}

fn assert_level(name: &str, measured: f64, expected: f64) {
    let error = decibels(measured / expected);
    assert!(error.abs() < 0.5, "{name}: level is {error:+.2} dB off");
}

#[test]
fn wav_of_every_depth_is_exact() {
    let folder = Folder::new();
    for depth in Depth::ALL {
        for mask in [None, Some(3)] {
            let tone = sines(44_100, 0, 4_999, &TONES);
            let name = format!("{depth:?}-{mask:?}.wav");
            let decoded = folder.decode(&name, &wav(44_100, 2, mask, depth, &tone));
            assert_eq!((decoded.rate, decoded.frames()), (44_100, 4_999), "{name}");
            for (sample, original) in decoded.samples.iter().zip(&tone) {
                assert!((f64::from(*sample) - original).abs() <= depth.error(), "{name}");
            }
        }
    }
}

#[test]
fn flac_and_aiff_are_exact() {
    let folder = Folder::new();
    let tone = sines(96_000, 0, 10_001, &TONES);
    let files = [
        ("16.flac", flac(96_000, 2, 16, &tone)),
        ("24.flac", flac(96_000, 2, 24, &tone)),
        ("16.aiff", aiff(96_000, 2, &tone)),
    ];
    for (name, file) in files {
        let decoded = folder.decode(name, &file);
        assert_eq!((decoded.rate, decoded.frames()), (96_000, 10_001), "{name}");
        let worst = decoded.samples.iter().zip(&tone);
        let worst = worst.map(|(sample, original)| (f64::from(*sample) - original).abs());
        assert!(worst.fold(0.0, f64::max) <= Depth::S16.error(), "{name}");
    }
}

#[test]
fn rates_from_8_to_384_kilohertz_play() {
    let folder = Folder::new();
    for rate in [8_000, 11_025, 22_050, 32_000, 88_200, 176_400, 192_000, 352_800, 384_000] {
        let tone = sines(rate, 0, 3_000, &[(997.0, 0.5)]);
        let decoded = folder.decode("rate.wav", &wav(rate, 1, None, Depth::S24, &tone));
        assert_eq!((decoded.rate, decoded.frames()), (rate, 3_000));
        assert_eq!(decoded.side(0), decoded.side(1), "mono on both sides");
        assert!((decoded.side(0)[77] - tone[77]).abs() < 1e-6, "mono at 0 dB");
    }
}

/// Extension, rate, and whether the samples come back exactly.
const GAPLESS: [(&str, f64, bool); 5] = [
    ("mp3", 44_100.0, false),
    ("ogg", 44_100.0, false),
    ("opus", 48_000.0, false),
    ("m4a", 44_100.0, false),
    ("alac.m4a", 44_100.0, true),
];

#[test]
fn compressed_formats_have_the_right_length_level_and_sides() {
    for (extension, rate, _) in GAPLESS {
        for (half, frames) in [("a", CUT), ("b", END - CUT)] {
            let name = format!("sine-{half}.{extension}");
            let decoder = Decoder::open(&fixture(&name)).expect("a whole file");
            let seconds = decoder.duration().expect("a stated length").as_secs_f64();
            assert!((seconds * rate - frames as f64).abs() < 1.0, "{name} says {seconds} s");
            let decoded = decode(&fixture(&name)).expect("a whole file");
            assert_eq!(decoded.frames(), frames, "{name}");
            assert_eq!(f64::from(decoded.rate), rate, "{name}");
            assert_eq!(decoded.skipped, 0, "{name}");
            for (side, (hertz, level)) in TONES.into_iter().enumerate() {
                let (measured, _) = fit(&decoded.side(side), rate, hertz);
                assert_level(&name, measured, level);
            }
        }
    }
}

/// Both halves through one resampler, as the player does at a track change.
fn joined(first: &Decoded, second: &Decoded) -> Decoded {
    let mut resampler = Resampler::new();
    let mut samples = Vec::new();
    for half in [first, second] {
        for block in half.samples.chunks(2 * 1_151) {
            resampler.push(half.rate, block, &mut samples);
        }
    }
    resampler.flush(&mut samples);
    Decoded { rate: 48_000, samples, skipped: 0 }
}

/// RMS of the difference from the pure signal, relative to it, in the given frames from the join.
fn error_near_join(sound: &Decoded, rate: f64, side: usize, frames: Range<i64>) -> f64 {
    let (hertz, _) = TONES[side];
    let join = (CUT as f64 * 48_000.0 / rate) as i64;
    let samples = sound.side(side);
    // LAME turns everything down by 5 %; that is no error of ours.
    let (level, _) = fit(&samples, 48_000.0, hertz);
    let error: Vec<f64> = frames
        .map(|offset| (join + offset) as usize)
        .map(|n| samples[n] - level * (TAU * hertz * n as f64 / 48_000.0).sin())
        .collect();
    rms(error.into_iter()) / (level / 2f64.sqrt())
}

#[test]
fn halves_of_one_sine_join_without_a_gap() {
    let mut cases = vec![];
    for (extension, rate, exact) in GAPLESS {
        let half = |half| decode(&fixture(&format!("sine-{half}.{extension}"))).expect("plays");
        cases.push((extension, rate, exact, half("a"), half("b")));
    }
    let folder = Folder::new();
    let (first, second) = (sines(44_100, 0, CUT, &TONES), sines(44_100, CUT, END - CUT, &TONES));
    for (extension, write) in [
        ("wav", (|tone| wav(44_100, 2, None, Depth::S24, tone)) as fn(&[f64]) -> Vec<u8>),
        ("flac", |tone| flac(44_100, 2, 24, tone)),
        ("aiff", |tone| aiff(44_100, 2, tone)),
    ] {
        let half = |tone| folder.decode(&format!("half.{extension}"), &write(tone));
        cases.push((extension, 44_100.0, true, half(&first), half(&second)));
    }
    for (name, rate, exact, first, second) in cases {
        let whole = joined(&first, &second);
        let expected = END as f64 * 48_000.0 / rate;
        assert!((whole.frames() as f64 - expected).abs() <= 1.0, "{name}: {}", whole.frames());
        for side in 0..2 {
            // One frame too many or too few is an error of 0.14 at 997 Hz, and 0.21 at 1,499 Hz.
            let (limit_beside, limit_at) = if exact { (0.001, 0.001) } else { (0.05, 0.3) };
            let before = error_near_join(&whole, rate, side, -3_000..-600);
            let after = error_near_join(&whole, rate, side, 600..3_000);
            // The encoders saw a hard end here, and blur it.
            let at = error_near_join(&whole, rate, side, -600..600);
            eprintln!("{name}, side {side}: {before:.4} before, {at:.4} at, {after:.4} after");
            assert!(before < limit_beside && after < limit_beside, "{name}: {before} {after}");
            assert!(at < limit_at, "{name}: {at}");
        }
    }
}

#[test]
fn a_frame_lost_at_the_join_would_be_noticed() {
    let folder = Folder::new();
    let (first, second) = (sines(44_100, 0, CUT, &TONES), sines(44_100, CUT + 1, 9_999, &TONES));
    let half = |tone: &[f64]| folder.decode("half.wav", &wav(44_100, 2, None, Depth::S24, tone));
    let whole = joined(&half(&first), &half(&second));
    assert!(error_near_join(&whole, 44_100.0, 0, 600..3_000) > 0.1);
}

#[test]
fn chained_ogg_goes_on_with_the_next_stream_and_its_rate() {
    let folder = Folder::new();
    let chain = ["sine-a.ogg", "sine-b.ogg", "sine-a.opus"].map(fixture_bytes).concat();
    let mut decoder = Decoder::open(&folder.file("chain.ogg", &chain)).expect("it plays");
    let (mut frames_at_44, mut frames_at_48, mut block) = (0, 0, Vec::new());
    loop {
        let frames = decoder.decode(&mut block).expect("it plays");
        match decoder.sample_rate() {
            _ if frames == 0 => break,
            44_100 => frames_at_44 += frames,
            48_000 => frames_at_48 += frames,
            rate => panic!("{rate} Hz"),
        }
    }
    assert_eq!((frames_at_44, frames_at_48), (END, CUT));
}

#[test]
fn mp3_without_a_header_is_not_cut_at_its_estimated_length() {
    // 5 frames at 320 kb/s, then 3 x 21 at 32 kb/s: by the first frame's rate it would be short.
    let folder = Folder::new();
    let low = fixture_bytes("bare-32.mp3");
    let file = [fixture_bytes("bare-320.mp3"), low.clone(), low.clone(), low].concat();
    let decoded = folder.decode("joined.mp3", &file);
    assert_eq!(decoded.frames(), (5 + 3 * 21) * 1_152);
}

#[test]
fn surround_is_mixed_down_by_position() {
    // Left, right, centre, LFE, left and right surround.
    let tones = [(440.0, 0.3), (550.0, 0.3), (660.0, 0.3), (60.0, 0.3), (770.0, 0.3), (880.0, 0.3)];
    let folder = Folder::new();
    let sound = sines(48_000, 0, 9_600, &tones);
    let side_surrounds = Some(0x60f);
    let rear_surrounds = Some(0x3f);
    let files = [
        folder.file("side.wav", &wav(48_000, 6, side_surrounds, Depth::S16, &sound)),
        folder.file("rear.wav", &wav(48_000, 6, rear_surrounds, Depth::S16, &sound)),
        folder.file("plain.wav", &wav(48_000, 6, None, Depth::S16, &sound)),
        folder.file("5.1.flac", &flac(48_000, 6, 16, &sound)),
        fixture("surround.opus"),
        fixture("surround.ogg"),
        fixture("surround.m4a"),
    ];
    let scale = 1.0 / (1.0 + 2f64.sqrt());
    let soft = scale / 2f64.sqrt();
    let left = [scale, 0.0, soft, 0.0, soft, 0.0];
    let right = [0.0, scale, soft, 0.0, 0.0, soft];
    for path in files {
        let decoded = decode(&path).expect("it plays");
        assert_eq!(decoded.frames(), 9_600, "{}", path.display());
        for (side, shares) in [left, right].into_iter().enumerate() {
            for ((hertz, level), share) in tones.into_iter().zip(shares) {
                let (measured, _) = fit(&decoded.side(side), 48_000.0, hertz);
                let name = format!("{}, {hertz} Hz on side {side}", path.display());
                if share == 0.0 {
                    assert!(measured < 0.02, "{name}: {measured}");
                } else {
                    assert_level(&name, measured, level * share);
                }
            }
        }
    }
}

#[test]
fn seven_point_one_cannot_clip() {
    let folder = Folder::new();
    let loud = vec![1.0; 8 * 1_000];
    let decoded = folder.decode("7.1.wav", &wav(48_000, 8, Some(0x63f), Depth::F32, &loud));
    assert!(decoded.samples.iter().all(|sample| (*sample - 1.0).abs() < 1e-6));
    let mut left_rear = vec![0.0; 8 * 1_000];
    left_rear.iter_mut().skip(4).step_by(8).for_each(|sample| *sample = 1.0);
    let decoded = folder.decode("7.1.wav", &wav(48_000, 8, Some(0x63f), Depth::F32, &left_rear));
    let share = (1.0 / 2f64.sqrt()) / (1.0 + 3.0 / 2f64.sqrt());
    assert!((decoded.side(0)[0] - share).abs() < 1e-6 && decoded.side(1)[0] == 0.0);
}

#[test]
fn damage_in_the_middle_leaves_a_hole_and_not_an_end() {
    let folder = Folder::new();
    let mut m4a = fixture_bytes("sine-a.m4a");
    let mdat = m4a.windows(4).position(|window| window == b"mdat").expect("a box");
    m4a[mdat + 2_000..mdat + 2_300].fill(0xff);
    let decoded = folder.decode("hole.m4a", &m4a);
    assert!((1..=3).contains(&decoded.skipped), "{} packets", decoded.skipped);
    let lost = CUT - decoded.frames();
    assert_eq!(lost, decoded.skipped as usize * 1_024, "the end stays where it was");
}

#[test]
fn samples_that_are_no_numbers_are_silence_and_loud_ones_are_limited() {
    let folder = Folder::new();
    for (bad, becomes) in [(f64::NAN, 0.0), (f64::NEG_INFINITY, 0.0), (3.5, 1.0), (-1e30, -1.0)] {
        for depth in [Depth::F32, Depth::F64] {
            let file = wav(48_000, 2, None, depth, &[0.25, bad, bad, -0.25]);
            let decoded = folder.decode("bad.wav", &file);
            assert_eq!(decoded.samples, [0.25, becomes, becomes, -0.25]);
        }
    }
}

/// A tone through the resampler in uneven pieces.
fn resampled(rate: u32, frames: usize, hertz: f64, level: f64) -> Decoded {
    let tone: Vec<f32> = sines(rate, 0, frames, &[(hertz, level); 2]).into_iter().map(|s| s as f32).collect();
    let mut resampler = Resampler::new();
    let mut samples = Vec::new();
    for (index, piece) in tone.chunks(2 * 777).enumerate() {
        let cut = (index * 7 % 100) * 2;
        let (head, tail) = piece.split_at(cut.min(piece.len()));
        resampler.push(rate, head, &mut samples);
        resampler.push(rate, tail, &mut samples);
    }
    resampler.flush(&mut samples);
    Decoded { rate: 48_000, samples, skipped: 0 }
}

const RATES: [u32; 16] = [
    8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_056, 44_100, 44_101, 48_000, 88_200,
    96_000, 192_000, 384_000,
];

#[test]
fn resampling_keeps_length_level_and_phase_and_adds_nothing() {
    for rate in RATES {
        let frames = rate as usize / 3 + 1;
        let out = resampled(rate, frames, 997.0, 0.5);
        assert_eq!(out.frames(), frames * 48_000 / rate as usize, "{rate} Hz");
        // At the very ends the sine starts and stops; what is judged is the middle.
        let samples = out.side(0);
        let middle = 2_000..samples.len() - 2_000;
        let error = middle.map(|n| samples[n] - 0.5 * (TAU * 997.0 * n as f64 / 48_000.0).sin());
        let error = decibels(rms(error) / 0.5);
        assert!(error < -80.0, "{rate} Hz: everything but the tone is at {error:.1} dB");
    }
}

#[test]
fn resampling_lets_no_alias_through() {
    for (rate, hertz) in [(64_000, 26_000.0), (88_200, 30_000.0), (96_000, 25_500.0), (192_000, 70_000.0)] {
        let out = resampled(rate, rate as usize / 2, hertz, 0.5);
        let samples = out.side(0);
        let middle = samples[2_000..samples.len() - 2_000].iter().copied();
        let alias = decibels(rms(middle) / 0.5);
        assert!(alias < -80.0, "{hertz} Hz at {rate} Hz comes through at {alias:.1} dB");
    }
}

#[test]
fn resampling_keeps_twenty_kilohertz() {
    for rate in [44_100, 96_000, 192_000] {
        let out = resampled(rate, rate as usize / 2, 20_000.0, 0.5);
        let samples = out.side(0);
        let (level, _) = fit(&samples[2_000..samples.len() - 2_000], 48_000.0, 20_000.0);
        assert!(decibels(level / 0.5).abs() < 0.1, "{rate} Hz: {:.2} dB", decibels(level / 0.5));
    }
}

#[test]
fn a_change_of_rate_loses_nothing() {
    let mut resampler = Resampler::new();
    let mut out = Vec::new();
    let rates = [44_100, 48_000, 96_000, 8_000];
    for rate in rates {
        resampler.push(rate, &vec![0.25; rate as usize / 10 * 2], &mut out);
    }
    resampler.flush(&mut out);
    assert_eq!(out.len() / 2, rates.len() * 4_800);
}

#[test]
fn reference_tone_measures_as_ebu_tech_3341_says() {
    // Case 1 of EBU Tech 3341: a stereo sine at -23 dBFS measures -23.0 LUFS, to 0.1 LU.
    let folder = Folder::new();
    let level = 10f64.powf(-23.0 / 20.0);
    for rate in [44_100, 48_000, 96_000] {
        let tone = sines(rate, 0, rate as usize * 20, &[(997.0, level); 2]);
        let path = folder.file("tone.wav", &wav(rate, 2, None, Depth::S24, &tone));
        let measured = measure(&path, &|| true).expect("it plays").expect("not stopped");
        let lufs = measured.loudness.integrated_lufs;
        assert!((lufs + 23.0).abs() < 0.1, "{rate} Hz: {lufs:.2} LUFS");
        let peak = decibels(measured.loudness.true_peak);
        assert!((peak + 23.0).abs() < 0.4, "{rate} Hz: {peak:.2} dBTP");
        assert_eq!(measured.duration.as_secs_f64(), 20.0);
        let gain = measured.loudness.gain(-18.0, -1.0);
        assert!((decibels(f64::from(gain)) - 5.0).abs() < 0.1);
    }
}

#[test]
fn silence_measures_as_silence() {
    let folder = Folder::new();
    let path = folder.file("silence.wav", &wav(48_000, 2, None, Depth::S16, &[0.0; 96_000]));
    let measured = measure(&path, &|| true).expect("it plays").expect("not stopped");
    assert_eq!(measured.loudness.gain(-18.0, -1.0), 1.0);
    assert!(measured.loudness.integrated_lufs.is_finite(), "the cache keeps it as JSON");
}
