//! Compares decoded audio with what was sent: offset, gaps and repeats, level, order of tones. The comparing is pure;
//! the decoding is done by peers, ffmpeg and ffprobe, that share no code with the station.
//!
//! Samples are mono, full scale is 1.0, unless said otherwise. The reference should be a sweep ([`chirp`]): in a
//! steady tone a gap of a whole number of periods cannot be heard, nor found.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::f64::consts::TAU;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bounds a run of a peer; a decoder faster than real time needs far less.
const PEER_TIMEOUT: Duration = Duration::from_secs(120);
/// Windows quieter than this say nothing about time.
const SILENCE_DB: f64 = -50.0;
/// So many windows in a row (half overlapping, 125 ms) that resemble nothing are no codec's doing.
const LOST_WINDOWS: usize = 4;
/// So many windows in a row that agree are a jump. They overlap by half, so the last has nothing in common with the first:
/// two that both hold the jump itself can agree on a lag that is neither the one before nor the one after.
const AGREEING_WINDOWS: usize = 3;
/// Peaks of correlation this close to the best one count as equal, and the nearest of them is taken.
const TIE: f64 = 0.01;

/// Where the reference begins in the decoded audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offset {
    /// Samples by which the decoded audio is late; negative if its beginning is missing.
    pub samples: i64,
    /// Normalised correlation over the overlap, -1.0 to 1.0; above 0.9 for a faithful codec.
    pub correlation: f64,
}

/// A place where time jumps in the decoded audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice {
    /// Sample of the reference near which it lies, within one window (50 ms).
    pub at: usize,
    /// Samples too many (a repeat or inserted silence) if positive, missing (a gap) if negative; `None` if the sound
    /// was not found again within 60 ms on either side: a longer run, an early end, or another sound.
    pub samples: Option<i64>,
}

/// A sweep at constant level that rises linearly from `from` to `to` hertz, again and again every `period` seconds.
pub fn chirp(seconds: f64, period: f64, sample_rate: u32, from: f64, to: f64) -> Vec<f32> {
    let rate = f64::from(sample_rate);
    let mut phase = 0.0;
    let sample = |index: usize| {
        let progress = (index as f64 / rate / period).fract();
        phase = (phase + (from + (to - from) * progress) / rate).fract();
        (0.5 * (TAU * phase).sin()) as f32
    };
    (0..(seconds * rate) as usize).map(sample).collect()
}

/// Left and right averaged; an odd last sample is dropped.
pub fn mono(stereo: &[f32]) -> Vec<f32> {
    stereo.chunks_exact(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect()
}

/// RMS in dB relative to full scale: a full-scale sine is -3.01, silence is negative infinity.
pub fn level_db(samples: &[f32]) -> f64 {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    10.0 * (energy / samples.len().max(1) as f64).log10()
}

/// Finds the lag with the highest correlation among all where at least half of the shorter signal overlaps. The
/// reference's first seconds are enough to align by; two signals of a minute each would cost 400 MB.
pub fn find_offset(reference: &[f32], decoded: &[f32]) -> Offset {
    let raw = cross_correlation(reference, decoded);
    let (sums_r, sums_d) = (energy_sums(reference), energy_sums(decoded));
    let least = reference.len().min(decoded.len()).div_ceil(2);
    let mut best = Offset { samples: 0, correlation: f64::NEG_INFINITY };
    for lag in -(reference.len() as i64) + 1..decoded.len() as i64 {
        let (from_r, from_d) = ((-lag).max(0) as usize, lag.max(0) as usize);
        let length = (reference.len() - from_r).min(decoded.len() - from_d);
        if length < least {
            continue;
        }
        let energy = |sums: &[f64], from: usize| sums[from + length] - sums[from];
        let scale = (energy(&sums_r, from_r) * energy(&sums_d, from_d)).sqrt();
        let product = raw[lag.rem_euclid(raw.len() as i64) as usize];
        let correlation = if scale > 0.0 { product / scale } else { 0.0 };
        if correlation > best.correlation {
            best = Offset { samples: lag, correlation };
        }
    }
    best
}

/// Finds the first place where a run of two samples or more is missing or repeated; `None` when time runs on without
/// a jump to the end of the reference. Both signals must begin together (see [`find_offset`]) to within 60 ms. A run of
/// just one period of the sweep cannot be told from none: compare lengths, too.
pub fn gap_or_repeat(reference: &[f32], decoded: &[f32], sample_rate: u32) -> Option<Splice> {
    let (window, reach) = (sample_rate as usize / 20, i64::from(sample_rate) * 6 / 100);
    let mut steady: Option<i64> = None;
    let mut suspect: Option<(Splice, usize)> = None;
    let mut lost = 0;
    for at in (0..reference.len().saturating_sub(window)).step_by(window / 2) {
        let piece = &reference[at..at + window];
        if level_db(piece) < SILENCE_DB {
            continue;
        }
        let expected = steady.unwrap_or(0);
        let Some(lag) = local_lag(piece, decoded, at as i64 + expected, reach) else {
            lost += 1;
            if lost == LOST_WINDOWS {
                return Some(Splice { at: at - (LOST_WINDOWS - 1) * window / 2, samples: None });
            }
            continue;
        };
        lost = 0;
        let samples = expected + lag - *steady.get_or_insert(expected + lag);
        if samples.abs() < 2 {
            suspect = None;
            continue;
        }
        match &mut suspect {
            Some((first, agreeing)) if first.samples.is_some_and(|before| (before - samples).abs() <= 1) => {
                *agreeing += 1;
                if *agreeing == AGREEING_WINDOWS {
                    return Some(*first);
                }
            }
            // One odd window may be the codec's doing.
            _ => suspect = Some((Splice { at, samples: Some(samples) }, 1)),
        }
    }
    None
}

/// The lag of a piece around a place in the decoded audio: of all local peaks of correlation close to the highest,
/// the one nearest to no lag. `None` where the place lies outside or nothing resembles the piece.
fn local_lag(piece: &[f32], decoded: &[f32], place: i64, reach: i64) -> Option<i64> {
    let from = (place - reach).max(0);
    let to = (place + reach + piece.len() as i64).min(decoded.len() as i64);
    if to - from < piece.len() as i64 || place < 0 || place + piece.len() as i64 > decoded.len() as i64 {
        return None;
    }
    let area = &decoded[from as usize..to as usize];
    let raw = cross_correlation(piece, area);
    let sums = energy_sums(area);
    let energy: f64 = piece.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let score = |lag: usize| {
        let scale = (energy * (sums[lag + piece.len()] - sums[lag])).sqrt();
        if scale > 0.0 { raw[lag] / scale } else { 0.0 }
    };
    let scores: Vec<f64> = (0..=area.len() - piece.len()).map(score).collect();
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let peak = |at: usize| {
        let left = at.checked_sub(1).map_or(f64::NEG_INFINITY, |left| scores[left]);
        let right = scores.get(at + 1).copied().unwrap_or(f64::NEG_INFINITY);
        scores[at] >= left && scores[at] >= right && scores[at] >= best - TIE
    };
    if best < 0.7 {
        return None;
    }
    (0..scores.len()).filter(|at| peak(*at)).map(|at| at as i64 + from - place).min_by_key(|lag| lag.abs())
}

/// Power of one frequency, 1.0 for a full-scale sine (Goertzel's algorithm).
pub fn tone_power(samples: &[f32], sample_rate: u32, hertz: f64) -> f64 {
    let coefficient = 2.0 * (TAU * hertz / f64::from(sample_rate)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        let next = f64::from(*sample) + coefficient * last - before;
        (before, last) = (last, next);
    }
    let power = last * last + before * before - coefficient * last * before;
    4.0 * power / (samples.len().max(1) as f64).powi(2)
}

/// A stretch in which one tone was the loudest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tone {
    /// Index into the frequencies asked for; `None` for silence or another sound.
    pub which: Option<usize>,
    /// First sample, exact to a window of 10 ms.
    pub start: usize,
    /// Sample after the last.
    pub end: usize,
}

/// The order of tones, found in windows of 10 ms; the tones should be 200 Hz apart or more.
pub fn tone_sequence(samples: &[f32], sample_rate: u32, frequencies: &[f64]) -> Vec<Tone> {
    let window = sample_rate as usize / 100;
    let mut tones: Vec<Tone> = Vec::new();
    for (index, piece) in samples.chunks_exact(window).enumerate() {
        let which = loudest(piece, sample_rate, frequencies);
        let (start, end) = (index * window, (index + 1) * window);
        match tones.last_mut() {
            Some(last) if last.which == which => last.end = end,
            _ => tones.push(Tone { which, start, end }),
        }
    }
    tones
}

/// The tone that carries more than half of the power, if one does.
fn loudest(piece: &[f32], sample_rate: u32, frequencies: &[f64]) -> Option<usize> {
    let level = level_db(piece);
    let power = |index: usize| tone_power(piece, sample_rate, frequencies[index]);
    let which = (0..frequencies.len()).max_by(|a, b| power(*a).total_cmp(&power(*b)))?;
    let share = power(which) / 2.0 / 10_f64.powf(level / 10.0);
    (level > SILENCE_DB && share > 0.5).then_some(which)
}

/// Running sums of squares: `sums[b] - sums[a]` is the energy of samples a to b.
fn energy_sums(samples: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0];
    sums.extend(samples.iter().scan(0.0, |sum, sample| {
        *sum += f64::from(*sample).powi(2);
        Some(*sum)
    }));
    sums
}

/// Circular cross-correlation, long enough not to wrap: element k, modulo its length, is the sum of
/// reference[i] x decoded[i + k].
fn cross_correlation(reference: &[f32], decoded: &[f32]) -> Vec<f64> {
    let length = (reference.len() + decoded.len()).next_power_of_two();
    let spectrum = |samples: &[f32]| {
        let mut bins: Vec<Complex> = samples.iter().map(|sample| (f64::from(*sample), 0.0)).collect();
        bins.resize(length, (0.0, 0.0));
        fourier(&mut bins);
        bins
    };
    let (a, b) = (spectrum(reference), spectrum(decoded));
    // Correlation is the conjugate of one spectrum times the other; conjugating the product instead makes the forward
    // transform do for the inverse, as the result is real.
    let mut product: Vec<Complex> =
        a.iter().zip(&b).map(|(a, b)| (a.0 * b.0 + a.1 * b.1, -(a.0 * b.1 - a.1 * b.0))).collect();
    fourier(&mut product);
    product.iter().map(|bin| bin.0 / length as f64).collect()
}

/// Real and imaginary part.
type Complex = (f64, f64);

/// Radix-2 decimation in time, in place; the length is a power of two.
fn fourier(bins: &mut [Complex]) {
    let length = bins.len();
    let bits = length.trailing_zeros();
    for index in 0..length {
        let mirrored = if bits == 0 { 0 } else { index.reverse_bits() >> (usize::BITS - bits) };
        if index < mirrored {
            bins.swap(index, mirrored);
        }
    }
    let mut half = 1;
    while half < length {
        let twiddles: Vec<Complex> = (0..half)
            .map(|k| (-TAU / 2.0 * k as f64 / half as f64).sin_cos())
            .map(|(sin, cos)| (cos, sin))
            .collect();
        for block in bins.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), w) in low.iter_mut().zip(high).zip(&twiddles) {
                let turned = (b.0 * w.0 - b.1 * w.1, b.0 * w.1 + b.1 * w.0);
                (*a, *b) = ((a.0 + turned.0, a.1 + turned.1), (a.0 - turned.0, a.1 - turned.1));
            }
        }
        half *= 2;
    }
}

/// What a peer decodes.
#[derive(Debug, Clone, Copy)]
pub enum Media<'a> {
    /// A whole file in memory, handed over through a pipe.
    Bytes(&'a [u8]),
    /// A file.
    File(&'a Path),
    /// An address, as a playlist; a live one needs an end, in seconds of audio.
    Url(&'a str, f64),
}

/// What ffmpeg made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Interleaved left and right, at the rate of the source.
    pub stereo: Vec<f32>,
    /// Warnings and errors; empty when there was nothing to say.
    pub stderr: String,
}

/// Whether ffmpeg and ffprobe are here. Without them a test skips its part aloud, unless SKYWAVE_PEERS=required: then
/// their absence is a failure.
pub fn peers_available() -> bool {
    let runs = |name: &str| {
        let status = Command::new(name).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let available = runs("ffmpeg") && runs("ffprobe");
    let required = std::env::var("SKYWAVE_PEERS").is_ok_and(|value| value == "required");
    assert!(available || !required, "SKYWAVE_PEERS=required, but ffmpeg or ffprobe does not run");
    if !available {
        eprintln!("SKIPPED: ffmpeg or ffprobe does not run here");
    }
    available
}

/// Decodes all of it; a damaged stream is an error (`-xerror`), a doubtful one shows in `stderr`.
pub fn decode_with_ffmpeg(media: Media<'_>) -> Result<Decoded, String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-xerror", "-nostdin", "-i"]);
    match media {
        Media::Bytes(_) => command.arg("pipe:0"),
        Media::File(path) => command.arg(path),
        Media::Url(url, seconds) => command.args([url, "-t", &seconds.to_string()]),
    };
    command.args(["-map", "0:a:0", "-ac", "2", "-f", "f32le", "-"]);
    let input = if let Media::Bytes(bytes) = media { Some(bytes) } else { None };
    let (stdout, stderr) = run_peer(command, input)?;
    let stereo = stdout.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Decoded { stereo, stderr })
}

/// Streams and format as ffprobe sees them; any warning is an error.
pub fn ffprobe_json(media: Media<'_>) -> Result<serde_json::Value, String> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "warning", "-of", "json", "-show_streams", "-show_format", "-i"]);
    match media {
        Media::Bytes(_) => command.arg("pipe:0"),
        Media::File(path) => command.arg(path),
        Media::Url(url, _) => command.arg(url),
    };
    let input = if let Media::Bytes(bytes) = media { Some(bytes) } else { None };
    let (stdout, stderr) = run_peer(command, input)?;
    if !stderr.is_empty() {
        return Err(format!("ffprobe: {stderr}"));
    }
    serde_json::from_slice(&stdout).map_err(|error| format!("ffprobe: {error}"))
}

/// Integrated loudness of a whole file in LUFS, by ffmpeg's own meter (EBU R 128).
pub fn loudness(file: &[u8]) -> Result<f64, String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "info", "-nostats", "-nostdin", "-i", "pipe:0"]);
    command.args(["-af", "ebur128=framelog=verbose", "-f", "null", "-"]);
    let (_, stderr) = run_peer(command, Some(file))?;
    let line = stderr.lines().rev().find_map(|line| line.trim().strip_prefix("I:"));
    let value = line.and_then(|line| line.trim().strip_suffix("LUFS")?.trim().parse().ok());
    value.ok_or_else(|| format!("ffmpeg gave no loudness: {stderr}"))
}

/// Runs a peer to its end or to the deadline, when it is killed. Returns stdout and stderr; a bad exit is an error.
fn run_peer(mut command: Command, input: Option<&[u8]>) -> Result<(Vec<u8>, String), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("{name}: {error}"))?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let feeder = child.stdin.take().zip(input.map(<[u8]>::to_vec)).map(|(mut stdin, bytes)| {
        // A peer that has seen enough closes its end; its exit code tells whether that was well.
        std::thread::spawn(move || drop(stdin.write_all(&bytes)))
    });
    let deadline = Instant::now() + PEER_TIMEOUT;
    let collected = collect(&mut child, &stdout, deadline)
        .and_then(|stdout| Ok((stdout, collect(&mut child, &stderr, deadline)?)));
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    if let Some(feeder) = feeder {
        feeder.join().map_err(|_| format!("{name}: feeding it failed"))?;
    }
    let (stdout, stderr) = collected.map_err(|error| format!("{name}: {error}"))?;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    if status.success() { Ok((stdout, stderr)) } else { Err(format!("{name}: {status}: {stderr}")) }
}

/// Reads a pipe to its end on a thread of its own, so that neither pipe can fill up and stop the peer.
fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        if matches!(read, Some(Ok(_))) {
            // Nobody waits any more once the peer was killed.
            let _ = sender.send(bytes);
        }
    });
    receiver
}

fn collect(child: &mut Child, pipe: &mpsc::Receiver<Vec<u8>>, deadline: Instant) -> Result<Vec<u8>, String> {
    pipe.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|error| {
        // Already dead is as good.
        let _ = child.kill();
        format!("no end of its output: {error}")
    })
}
