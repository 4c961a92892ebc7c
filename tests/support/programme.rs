//! A programme of known sound: one sweep cut into files of three formats, and halves of sines in five more.

use super::audio_compare::chirp;
use super::media::{Depth, fixture_bytes, flac, wav};
use super::station::Home;
use std::f64::consts::TAU;

/// A stretch of the programme.
pub(crate) struct Part {
    /// For messages.
    pub(crate) name: &'static str,
    /// What it must sound like: mono, 48 kHz.
    pub(crate) sound: Vec<f32>,
    /// Long enough for a loudness (400 ms a file), and so brought to the target.
    pub(crate) measurable: bool,
}

/// Files of the programme.
pub(crate) const TITLES: usize = 3 + 2 * 5;
/// Length of each file of the sweep in seconds.
const PIECE: usize = 5;
/// Frames of both halves of a fixture (tests/fixtures/audio/README.md).
const SINE_FRAMES: f64 = 26_461.0;

/// The sweep over all three files, both channels alike. So low that a sample is a small part of a period: else the
/// half sample by which a change of rate may move the sound looks like a whole period in the other direction.
fn sweep(rate: u32) -> Vec<f32> {
    chirp(3.0 * PIECE as f64, 3.0 * PIECE as f64, rate, 200.0, 1_500.0)
}

/// Writes the files into the music folder, in natural order.
pub(crate) fn programme(home: &Home) -> Vec<Part> {
    let cut = |rate: u32, index: usize| -> Vec<f64> {
        let length = PIECE * rate as usize;
        let piece = &sweep(rate)[index * length..(index + 1) * length];
        piece.iter().flat_map(|sample| [f64::from(*sample); 2]).collect()
    };
    home.add("01 sweep.wav", &wav(44_100, 2, None, Depth::S16, &cut(44_100, 0)));
    home.add("02 sweep.flac", &flac(48_000, 2, 24, &cut(48_000, 1)));
    home.add("03 sweep.wav", &wav(96_000, 2, None, Depth::F32, &cut(96_000, 2)));
    let names = ["1: wav at 44.1 kHz", "2: flac at 48 kHz", "3: float at 96 kHz"];
    let whole = sweep(48_000);
    let sounds = whole.chunks(PIECE * 48_000).map(<[f32]>::to_vec);
    let sweeps = names.into_iter().zip(sounds);
    let mut parts: Vec<Part> = sweeps.map(|(name, sound)| Part { name, sound, measurable: true }).collect();
    let mut number = 4;
    for (extension, rate) in
        [("mp3", 44_100.0), ("ogg", 44_100.0), ("opus", 48_000.0), ("m4a", 44_100.0), ("alac.m4a", 44_100.0)]
    {
        for half in ["a", "b"] {
            home.add(
                &format!("{number:02} sine.{extension}"),
                &fixture_bytes(&format!("sine-{half}.{extension}")),
            );
            number += 1;
        }
        parts.push(Part { name: extension, sound: sines(rate), measurable: false });
    }
    parts
}

/// Both halves of a fixture as they must sound: 997 Hz on the left, 1,499 Hz on the right.
fn sines(rate: f64) -> Vec<f32> {
    let sample = |n: usize| {
        let turn = TAU * n as f64 / 48_000.0;
        ((0.5 * (997.0 * turn).sin() + 0.25 * (1_499.0 * turn).sin()) / 2.0) as f32
    };
    (0..(SINE_FRAMES * 48_000.0 / rate).round() as usize).map(sample).collect()
}
