//! Ident: a generated piece that says the station is there while it has no music.
//!
//! Eight chords of four seconds, pads below, struck bells above, an echo and a room around them;
//! then again, without a seam and with other accents. Synthesised as it plays, so that it costs no memory worth naming.

use std::f32::consts::TAU;

use crate::audio::{CHANNELS, SAMPLE_RATE};

/// Frames computed at one go; notes start on this grid. Divides a step.
const SLICE: usize = 64;

/// Frames of one step of the arpeggio, half a second.
const STEP: usize = SAMPLE_RATE as usize / 2;

/// Steps of one chord.
const STEPS: usize = 8;

/// Brings the piece to -18 LUFS; a test holds it there.
const LEVEL: f32 = 0.363;

/// One chord, as MIDI note numbers.
struct Chord {
    bass: u8,
    pad: [u8; 4],
    /// What the bells choose from, rising.
    bells: [u8; 6],
}

/// D major, ending on a suspended dominant that leads back to the start.
const CHORDS: [Chord; 8] = [
    Chord { bass: 38, pad: [57, 61, 64, 66], bells: [69, 74, 76, 78, 81, 85] },
    Chord { bass: 42, pad: [57, 61, 64, 69], bells: [69, 73, 76, 78, 81, 85] },
    Chord { bass: 43, pad: [59, 62, 66, 69], bells: [71, 74, 78, 81, 83, 86] },
    Chord { bass: 45, pad: [59, 62, 64, 69], bells: [69, 71, 74, 76, 81, 83] },
    Chord { bass: 47, pad: [57, 62, 64, 66], bells: [66, 69, 74, 78, 81, 85] },
    Chord { bass: 43, pad: [57, 59, 62, 66], bells: [67, 71, 74, 78, 81, 83] },
    Chord { bass: 40, pad: [55, 59, 62, 66], bells: [67, 71, 74, 78, 79, 83] },
    Chord { bass: 45, pad: [57, 59, 62, 64], bells: [69, 71, 76, 78, 81, 83] },
];

/// Which bell sounds at each step, chord by chord; `None` is a rest.
const MELODY: [[Option<u8>; STEPS]; 8] = [
    [Some(0), Some(2), Some(3), None, Some(4), Some(2), None, Some(1)],
    [Some(0), None, Some(3), Some(4), None, Some(3), Some(2), None],
    [Some(1), Some(2), None, Some(4), Some(3), None, Some(5), Some(2)],
    [Some(0), None, Some(2), Some(3), Some(4), None, Some(3), None],
    [Some(1), Some(2), Some(4), None, Some(3), Some(2), None, Some(0)],
    [Some(0), None, Some(2), Some(4), None, Some(5), Some(3), None],
    [Some(0), Some(1), Some(3), None, Some(2), None, Some(4), Some(3)],
    [Some(1), None, Some(2), None, Some(0), None, None, None],
];

/// Partials of a bell: ratio to the note, level, seconds to fall to 1/e.
const BELL: [(f32, f32, f32); 5] =
    [(1.0, 1.0, 1.5), (2.0, 0.42, 0.9), (3.01, 0.16, 0.5), (4.17, 0.09, 0.28), (5.43, 0.05, 0.15)];

/// Levels of the harmonics of a pad note.
const PAD: [f32; 3] = [1.0, 0.3, 0.1];

/// The piece at some moment.
pub struct Ident {
    /// Frames since the start of the piece, in slices.
    slice: usize,
    bells: Vec<Bell>,
    pads: Vec<Pad>,
    echo: Echo,
    room: Room,
    /// Rendered beyond what was asked for.
    left_over: Vec<f32>,
}

impl Default for Ident {
    fn default() -> Self {
        Self::new()
    }
}

impl Ident {
    /// The piece at its beginning. It is the same every time.
    pub fn new() -> Self {
        Self {
            slice: 0,
            bells: Vec::new(),
            pads: Vec::new(),
            echo: Echo::new(),
            room: Room::new(),
            left_over: Vec::new(),
        }
    }

    /// Appends `frames` frames of interleaved stereo at 48 kHz, about -18 LUFS, below -3 dBTP.
    pub fn render(&mut self, frames: usize, samples: &mut Vec<f32>) {
        let mut missing = frames * CHANNELS;
        loop {
            let ready = missing.min(self.left_over.len());
            samples.extend(self.left_over.drain(..ready));
            missing -= ready;
            if missing == 0 {
                return;
            }
            self.render_slice();
        }
    }

    fn render_slice(&mut self) {
        self.start_notes();
        self.slice += 1;
        let (mut direct, mut sent) = ([[0.0; CHANNELS]; SLICE], [[0.0; CHANNELS]; SLICE]);
        self.pads.iter_mut().for_each(|pad| pad.add(&mut direct));
        self.bells.iter_mut().for_each(|bell| bell.add(&mut sent));
        self.pads.retain(|pad| pad.slices_left > 0);
        self.bells.retain(|bell| bell.slices_left > 0);
        for (pads, bells) in direct.into_iter().zip(sent) {
            let echo = self.echo.process(bells);
            let mix = [0, 1].map(|side| pads[side] + bells[side] + echo[side]);
            let room =
                self.room.process([0, 1].map(|side| 0.5 * pads[side] + 0.8 * bells[side] + echo[side]));
            self.left_over.extend([0, 1].map(|side| LEVEL * (mix[side] + 0.35 * room[side])));
        }
    }

    /// Starts the notes of this slice.
    fn start_notes(&mut self) {
        if !(self.slice * SLICE).is_multiple_of(STEP) {
            return;
        }
        let step = self.slice * SLICE / STEP;
        let bar = step / STEPS % CHORDS.len();
        let chord = &CHORDS[bar];
        if step.is_multiple_of(STEPS) {
            self.pads.push(Pad::new(chord.bass, 0.34, 0.0));
            for (note, pan) in chord.pad.into_iter().zip([-0.5, 0.3, -0.2, 0.6]) {
                self.pads.push(Pad::new(note, 0.13, pan));
            }
        }
        if let Some(which) = MELODY[bar][step % STEPS] {
            // Accents and places that return only after some bars, so that it does not tick.
            let accent = [1.0, 0.62, 0.8, 0.55, 0.9, 0.6, 0.72][step % 7];
            let pan = [-0.3, 0.5, -0.4, -0.1, 0.6, -0.75, 0.3][step % 7];
            self.bells.push(Bell::new(chord.bells[usize::from(which)], 0.3 * accent, pan));
        }
    }
}

fn hertz(note: u8) -> f32 {
    440.0 * ((f32::from(note) - 69.0) / 12.0).exp2()
}

/// Constant power; -1 is left, 1 right.
fn panned(level: f32, pan: f32) -> [f32; CHANNELS] {
    let angle = (pan + 1.0) * TAU / 8.0;
    [level * angle.cos(), level * angle.sin()]
}

/// A sine that turns, and shrinks by the same multiplication.
#[derive(Clone, Copy)]
struct Phasor {
    sine: f32,
    cosine: f32,
    turn: [f32; 2],
}

impl Phasor {
    fn new(hertz: f32, level: f32, phase: f32, shrink: f32) -> Self {
        let angle = TAU * hertz / SAMPLE_RATE as f32;
        let turn = [shrink * angle.cos(), shrink * angle.sin()];
        Self { sine: level * phase.sin(), cosine: level * phase.cos(), turn }
    }

    fn next(&mut self) -> f32 {
        let Self { sine, cosine, turn } = *self;
        self.sine = sine * turn[0] + cosine * turn[1];
        self.cosine = cosine * turn[0] - sine * turn[1];
        sine
    }
}

/// A struck note that dies away.
struct Bell {
    partials: [Phasor; BELL.len()],
    pan: [f32; CHANNELS],
    slices_left: usize,
    attack: f32,
}

impl Bell {
    fn new(note: u8, level: f32, pan: f32) -> Self {
        // High notes are softer and die sooner, as on any bell.
        let height = (f32::from(note) - 72.0) / 12.0;
        let partials = BELL.map(|(ratio, loud, seconds)| {
            let seconds = seconds * (-0.35 * height).exp2();
            let shrink = (-1.0 / (seconds * SAMPLE_RATE as f32)).exp();
            Phasor::new(hertz(note) * ratio, loud, 0.0, shrink)
        });
        let level = level * (-0.4 * height).exp2();
        Self { partials, pan: panned(level, pan), slices_left: 9 * SAMPLE_RATE as usize / SLICE, attack: 0.0 }
    }

    fn add(&mut self, out: &mut [[f32; CHANNELS]; SLICE]) {
        self.slices_left -= 1;
        for frame in out {
            // 5 ms: a felt mallet.
            self.attack = (self.attack + 1.0 / 240.0).min(1.0);
            let sum: f32 = self.partials.iter_mut().map(Phasor::next).sum();
            let sample = sum * self.attack;
            frame[0] += sample * self.pan[0];
            frame[1] += sample * self.pan[1];
        }
    }
}

/// Slices a pad note takes to swell, and to fade under the next chord.
const SWELL: usize = 2 * SAMPLE_RATE as usize / SLICE;

/// Slices of a whole pad note: one chord, and the fade.
const PAD_SLICES: usize = STEP * STEPS / SLICE + SWELL;

/// A note that swells and fades; slightly out of tune between left and right, which makes it wide.
struct Pad {
    left: [Phasor; PAD.len()],
    right: [Phasor; PAD.len()],
    pan: [f32; CHANNELS],
    slices_left: usize,
    envelope: f32,
}

impl Pad {
    fn new(note: u8, level: f32, pan: f32) -> Self {
        let voice = |detune: f32, phase: f32| {
            let mut harmonic = 0.0;
            PAD.map(|loud| {
                harmonic += 1.0;
                Phasor::new(hertz(note) * harmonic * detune, loud, phase * harmonic, 1.0)
            })
        };
        let (left, right) = (voice(0.9991, 0.0), voice(1.0009, 1.7));
        Self { left, right, pan: panned(level, pan), slices_left: PAD_SLICES, envelope: 0.0 }
    }

    fn add(&mut self, out: &mut [[f32; CHANNELS]; SLICE]) {
        let (from, age) = (self.envelope, PAD_SLICES - self.slices_left + 1);
        self.slices_left -= 1;
        let along = age.min(self.slices_left).min(SWELL) as f32 / SWELL as f32;
        // Raised cosine: two chords cross at equal sums.
        self.envelope = 0.5 - 0.5 * (along * TAU / 2.0).cos();
        let slope = (self.envelope - from) / SLICE as f32;
        for (at, frame) in out.iter_mut().enumerate() {
            let level = from + slope * at as f32;
            let left: f32 = self.left.iter_mut().map(Phasor::next).sum();
            let right: f32 = self.right.iter_mut().map(Phasor::next).sum();
            frame[0] += left * level * self.pan[0];
            frame[1] += right * level * self.pan[1];
        }
    }
}

/// Repeats that wander between the sides and grow darker, one and a half steps apart.
struct Echo {
    lines: [Box<[f32]>; CHANNELS],
    at: usize,
    dark: [f32; CHANNELS],
}

impl Echo {
    fn new() -> Self {
        let line = || vec![0.0; STEP * 3 / 2].into_boxed_slice();
        Self { lines: [line(), line()], at: 0, dark: [0.0; CHANNELS] }
    }

    fn process(&mut self, input: [f32; CHANNELS]) -> [f32; CHANNELS] {
        let heard = [self.lines[0][self.at], self.lines[1][self.at]];
        for side in 0..CHANNELS {
            self.dark[side] += 0.45 * (heard[1 - side] - self.dark[side]);
            self.lines[side][self.at] = 0.35 * input[side] + 0.45 * self.dark[side];
        }
        self.at = (self.at + 1) % self.lines[0].len();
        heard
    }
}

/// Lengths of the room's delay lines in frames: primes, so that no pitch stands out.
const ROOM: [usize; 8] = [1_433, 1_867, 2_221, 2_647, 3_089, 3_541, 4_001, 4_507];

/// A room of about three seconds: eight delay lines that feed each other through a Hadamard matrix
/// (feedback delay network after Jot).
struct Room {
    lines: [Box<[f32]>; ROOM.len()],
    at: [usize; ROOM.len()],
    dark: [f32; ROOM.len()],
}

impl Room {
    fn new() -> Self {
        let lines = ROOM.map(|length| vec![0.0; length].into_boxed_slice());
        Self { lines, at: [0; ROOM.len()], dark: [0.0; ROOM.len()] }
    }

    fn process(&mut self, input: [f32; CHANNELS]) -> [f32; CHANNELS] {
        let mut heard = [0.0; ROOM.len()];
        for (line, heard) in heard.iter_mut().enumerate() {
            self.dark[line] += 0.5 * (self.lines[line][self.at[line]] - self.dark[line]);
            *heard = self.dark[line];
        }
        let mut fed = heard;
        hadamard(&mut fed);
        for (line, fed) in fed.into_iter().enumerate() {
            self.lines[line][self.at[line]] = 0.87 * fed + 0.5 * input[line % CHANNELS];
            self.at[line] = (self.at[line] + 1) % ROOM[line];
        }
        [heard[0] + heard[2] - heard[4] + heard[6], heard[1] + heard[3] - heard[5] + heard[7]]
    }
}

/// Mixes without changing the energy.
fn hadamard(values: &mut [f32; ROOM.len()]) {
    for half in [1, 2, 4] {
        for start in (0..values.len()).step_by(2 * half) {
            for at in start..start + half {
                let (a, b) = (values[at], values[at + half]);
                (values[at], values[at + half]) = (a + b, a - b);
            }
        }
    }
    values.iter_mut().for_each(|value| *value *= 0.353_553_4);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebur128::{EbuR128, Mode};

    const LOOP: usize = STEP * STEPS * CHORDS.len();

    fn rendered(frames: usize) -> Vec<f32> {
        let mut samples = Vec::new();
        Ident::new().render(frames, &mut samples);
        samples
    }

    #[test]
    fn loudness_and_peak_are_those_of_the_station() {
        let samples = rendered(2 * LOOP);
        let mut meter = EbuR128::new(2, SAMPLE_RATE, Mode::I | Mode::TRUE_PEAK).unwrap();
        meter.add_frames_f32(&samples).unwrap();
        let loudness = meter.loudness_global().unwrap();
        assert!((loudness + 18.0).abs() < 0.5, "{loudness} LUFS");
        let peak = meter.true_peak(0).unwrap().max(meter.true_peak(1).unwrap());
        assert!(20.0 * peak.log10() < -3.0, "{} dBTP", 20.0 * peak.log10());
    }

    #[test]
    fn it_is_the_same_however_it_is_asked_for() {
        let whole = rendered(50_000);
        let (mut pieces, mut ident) = (Vec::new(), Ident::new());
        for frames in [1, 63, 64, 65, 20_000, 29_807] {
            ident.render(frames, &mut pieces);
        }
        assert_eq!(pieces, whole);
    }

    #[test]
    fn it_loops_without_a_seam_and_does_not_drift() {
        let samples = rendered(5 * LOOP);
        let energy = |of: &[f32]| of.iter().map(|sample| f64::from(sample * sample)).sum::<f64>();
        let loops: Vec<f64> = samples.chunks_exact(LOOP * CHANNELS).map(energy).collect();
        for later in &loops[2..] {
            assert!((10.0 * (later / loops[1]).log10()).abs() < 0.6, "{loops:?}");
        }
        let step = |two: &[f32]| (two[CHANNELS] - two[0]).abs();
        let steepest = samples.windows(CHANNELS + 1).map(step).fold(0.0, f32::max);
        assert!(steepest < 0.1, "{steepest}");
    }

    #[test]
    fn both_sides_are_as_loud() {
        let samples = rendered(2 * LOOP);
        let energy = |side: usize| samples[side..].iter().step_by(2).map(|s| f64::from(s * s)).sum::<f64>();
        let balance = 10.0 * (energy(0) / energy(1)).log10();
        assert!(balance.abs() < 1.0, "{balance} dB");
    }

    #[test]
    fn it_is_stereo_and_never_silent() {
        let samples = rendered(LOOP);
        let side: f32 = samples.chunks_exact(2).map(|frame| (frame[0] - frame[1]).powi(2)).sum();
        let middle: f32 = samples.chunks_exact(2).map(|frame| (frame[0] + frame[1]).powi(2)).sum();
        assert!(side > 0.02 * middle, "{}", side / middle);
        for second in samples[2 * SAMPLE_RATE as usize..].chunks_exact(SAMPLE_RATE as usize) {
            let energy: f32 = second.iter().map(|sample| sample * sample).sum();
            assert!(energy / second.len() as f32 > 1e-4);
        }
    }

    /// `SKYWAVE_IDENT=/tmp/ident.f32 cargo test --lib ident -- --ignored`, then
    /// `ffplay -f f32le -ar 48000 -ac 2 /tmp/ident.f32`.
    #[test]
    #[ignore = "writes a file to listen to"]
    fn listen() {
        let path = std::env::var_os("SKYWAVE_IDENT").expect("SKYWAVE_IDENT names the file to write");
        let bytes: Vec<u8> = rendered(2 * LOOP).iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::fs::write(path, bytes).unwrap();
    }
}
