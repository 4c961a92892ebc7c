//! The station on the real path: start-up, CPU time, memory. Figures and method: docs/benchmarks.md.
//!
//! `cargo bench --bench station -- [start] [cpu] [day]`; without arguments start and cpu run. `MUSIC` names a folder
//! of real music; without it the bench makes its own. `SKYWAVE_BIN` names another build of the program to measure.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench talks to whoever runs it"
)]

#[path = "station/day.rs"]
mod day;
#[path = "station/process.rs"]
#[allow(dead_code, reason = "the other benches use the rest")]
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use process::{Station, cpu_seconds, peer_first_segment};
use skywave::audio::decode::Decoder;
use skywave::audio::resample::Resampler;
use skywave::encoder::{EncoderConfig, EncoderSet, Rendition};
use skywave::player::{BLOCK_SAMPLES, PcmBlock};

/// Tracks in the library of the start-up measurement.
const TRACKS: usize = 100;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |name: &str| wanted.iter().any(|w| w == name) || (wanted.is_empty() && name != "day");
    let folder = tempfile::tempdir().unwrap();
    let music = library(folder.path());
    if wants("start") {
        start(folder.path(), &music);
    }
    if wants("cpu") {
        cpu(folder.path(), &music);
    }
    if wants("day") {
        day::run(folder.path());
    }
}

/// A folder of [`TRACKS`] tracks: links to real music, as often as it takes, or generated tones.
fn library(folder: &Path) -> PathBuf {
    let music = folder.join("music");
    fs::create_dir(&music).unwrap();
    let mut sources = Vec::new();
    if let Ok(root) = std::env::var("MUSIC") {
        collect(Path::new(&root), &mut sources);
    }
    if sources.is_empty() {
        let path = folder.join("tone.wav");
        fs::write(&path, tone()).unwrap();
        sources.push(path);
    }
    for n in 0..TRACKS {
        let source = &sources[n % sources.len()];
        let extension = source.extension().unwrap().to_string_lossy().into_owned();
        fs::copy(source, music.join(format!("{n:03}.{extension}"))).unwrap();
    }
    music
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if skywave::library::is_audio(&path) {
            files.push(path);
        }
    }
    files.sort();
}

/// A minute of two tones, 16-bit stereo at 44.1 kHz.
fn tone() -> Vec<u8> {
    let frames = 60 * 44_100_u32;
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((36 + frames * 4).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    wav.extend(44_100_u32.to_le_bytes());
    wav.extend((44_100_u32 * 4).to_le_bytes());
    wav.extend(b"\x04\0\x10\0data");
    wav.extend((frames * 4).to_le_bytes());
    for k in 0..frames {
        for pitch in [0.031_f64, 0.047] {
            wav.extend((((f64::from(k) * pitch).sin() * 8_000.0) as i16).to_le_bytes());
        }
    }
    wav
}

/// From the start of the process to the first segment over HTTP: first with nothing known, then with the catalogue.
fn start(folder: &Path, music: &Path) {
    println!("start: {TRACKS} tracks, first segment over HTTP");
    let mut times = Vec::new();
    for run in ["first start", "second start"] {
        let began = Instant::now();
        let mut station = Station::start(&folder.join("start"), music, &[]);
        station.wait_for_first_segment();
        let took = began.elapsed();
        println!("  skywave, {run}: {:.3} s", took.as_secs_f64());
        times.push(took);
        station.wait_until_scanned();
        station.stop();
    }
    match peer_first_segment(folder, music) {
        Some(peer) => println!(
            "  liquidsoap: {:.3} s; ratio to our first start {:.1}",
            peer.as_secs_f64(),
            peer.as_secs_f64() / times[0].as_secs_f64()
        ),
        None => println!("  liquidsoap is not installed: no ratio"),
    }
}

/// CPU seconds per minute of audio: the whole program, and the encoders alone in the same run.
fn cpu(folder: &Path, music: &Path) {
    println!("cpu: seconds per minute of audio, three default renditions");
    let pcm = programme(music, 60);
    let default = EncoderConfig::default().rendition;
    let boosted = default.iter().map(|r| Rendition { afterburner: true, ..r.clone() }).collect::<Vec<_>>();
    let plain = default.iter().map(|r| Rendition { afterburner: false, ..r.clone() }).collect::<Vec<_>>();
    let encoding = encode_seconds(&default, &pcm);
    println!("  encoders as shipped: {encoding:.2}");
    println!("  encoders without afterburner: {:.2}", encode_seconds(&plain, &pcm));
    println!("  encoders with afterburner: {:.2}", encode_seconds(&boosted, &pcm));
    // A first run scans the library; the second one only broadcasts.
    let data = folder.join("cpu");
    let scanning = Station::start(&data, music, &[]);
    scanning.wait_until_scanned();
    scanning.stop();
    fs::remove_dir_all(data.join("ipfs")).unwrap();
    let station = Station::start(&data, music, &["lead = \"10m\""]);
    station.wait_for_lead(Duration::from_secs(590));
    let minutes = station.encoded_minutes();
    let whole = station.cpu_seconds() / minutes;
    println!("  whole program over {minutes:.1} min of audio: {whole:.2}");
    println!("  share of encoding: {:.0} %", 100.0 * encoding / whole);
    println!("  resident memory at the end: {:.1} MB", station.resident_megabytes());
}

/// The first `seconds` of the library as blocks.
fn programme(music: &Path, seconds: usize) -> Vec<PcmBlock> {
    let mut files = Vec::new();
    collect(music, &mut files);
    let (mut samples, mut chunk, mut resampler) = (Vec::new(), Vec::new(), Resampler::new());
    for file in files {
        let mut decoder = Decoder::open(&file).unwrap();
        while samples.len() < seconds * 96_000 && decoder.decode(&mut chunk).unwrap() > 0 {
            resampler.push(decoder.sample_rate(), &chunk, &mut samples);
            chunk.clear();
        }
    }
    let block = |samples: &[f32]| PcmBlock { samples: samples.into(), changes: Vec::new() };
    samples.chunks_exact(BLOCK_SAMPLES).map(block).collect()
}

fn encode_seconds(renditions: &[Rendition], pcm: &[PcmBlock]) -> f64 {
    let mut set = EncoderSet::new(renditions).unwrap();
    let before = cpu_seconds(std::process::id());
    pcm.iter().for_each(|block| drop(set.encode(block).unwrap()));
    let minutes = pcm.len() as f64 * 0.32 / 60.0;
    (cpu_seconds(std::process::id()) - before) / minutes
}
