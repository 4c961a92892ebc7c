//! Writes test media of exactly known contents, and a corpus of broken media.
#![allow(dead_code, unreachable_pub, reason = "test binaries each use a part of it")]

use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};

/// How a WAV file stores a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    U8,
    S16,
    S24,
    S32,
    F32,
    F64,
}

impl Depth {
    pub const ALL: [Depth; 6] = [Depth::U8, Depth::S16, Depth::S24, Depth::S32, Depth::F32, Depth::F64];

    pub fn bits(self) -> u16 {
        match self {
            Depth::U8 => 8,
            Depth::S16 => 16,
            Depth::S24 => 24,
            Depth::S32 | Depth::F32 => 32,
            Depth::F64 => 64,
        }
    }

    /// The largest error of storing a sample in [-1, 1].
    pub fn error(self) -> f64 {
        match self {
            Depth::F32 | Depth::F64 | Depth::S32 => 1e-6,
            _ => 1.0 / f64::from(1u32 << (self.bits() - 1)),
        }
    }

    fn format_tag(self) -> u16 {
        if matches!(self, Depth::F32 | Depth::F64) { 3 } else { 1 }
    }

    fn write(self, sample: f64, out: &mut Vec<u8>) {
        let scaled = |full: f64| (sample * full).round().clamp(-full, full - 1.0) as i64;
        match self {
            Depth::U8 => out.push((scaled(128.0) + 128) as u8),
            Depth::S16 => out.extend((scaled(32_768.0) as i16).to_le_bytes()),
            Depth::S24 => out.extend(&(scaled(8_388_608.0) as i32).to_le_bytes()[..3]),
            Depth::S32 => out.extend((scaled(2_147_483_648.0) as i32).to_le_bytes()),
            Depth::F32 => out.extend((sample as f32).to_le_bytes()),
            Depth::F64 => out.extend(sample.to_le_bytes()),
        }
    }
}

/// Frames of sines, one (frequency, amplitude) per channel, interleaved, from frame `first` on.
pub fn sines(rate: u32, first: usize, frames: usize, channels: &[(f64, f64)]) -> Vec<f64> {
    (first..first + frames)
        .flat_map(|n| {
            let seconds = n as f64 / f64::from(rate);
            channels.iter().map(move |(hertz, level)| level * (TAU * hertz * seconds).sin())
        })
        .collect()
}

/// A WAV file of interleaved samples; with a channel mask it is WAVE_FORMAT_EXTENSIBLE.
pub fn wav(rate: u32, channels: u16, mask: Option<u32>, depth: Depth, samples: &[f64]) -> Vec<u8> {
    let mut data = Vec::new();
    samples.iter().for_each(|sample| depth.write(*sample, &mut data));
    let align = channels * (depth.bits() / 8);
    let tag = if mask.is_some() { 0xfffe } else { depth.format_tag() };
    let mut fmt = Vec::new();
    fmt.extend(tag.to_le_bytes());
    fmt.extend(channels.to_le_bytes());
    fmt.extend(rate.to_le_bytes());
    fmt.extend(rate.wrapping_mul(u32::from(align)).to_le_bytes());
    fmt.extend(align.to_le_bytes());
    fmt.extend(depth.bits().to_le_bytes());
    if let Some(mask) = mask {
        fmt.extend(22u16.to_le_bytes());
        fmt.extend(depth.bits().to_le_bytes());
        fmt.extend(mask.to_le_bytes());
        fmt.extend(depth.format_tag().to_le_bytes());
        fmt.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    }
    let chunks = [little_chunk(b"fmt ", &fmt), little_chunk(b"data", &data)].concat();
    little_chunk(b"RIFF", &[b"WAVE".to_vec(), chunks].concat())
}

fn little_chunk(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = [&id[..], &(body.len() as u32).to_le_bytes(), body].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

/// A 16-bit AIFF file.
pub fn aiff(rate: u32, channels: u16, samples: &[f64]) -> Vec<u8> {
    let frames = samples.len() as u32 / u32::from(channels);
    let mut comm = Vec::new();
    comm.extend(channels.to_be_bytes());
    comm.extend(frames.to_be_bytes());
    comm.extend(16u16.to_be_bytes());
    // The rate as an 80-bit float: exponent biased by 16,383, then the mantissa with its leading 1.
    let shift = rate.leading_zeros();
    comm.extend((16_383 + 31 - shift as u16).to_be_bytes());
    comm.extend((u64::from(rate << shift) << 32).to_be_bytes());
    let mut ssnd = vec![0; 8];
    for sample in samples {
        let scaled = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
        ssnd.extend(scaled.to_be_bytes());
    }
    let chunks = [big_chunk(b"COMM", &comm), big_chunk(b"SSND", &ssnd)].concat();
    big_chunk(b"FORM", &[b"AIFF".to_vec(), chunks].concat())
}

fn big_chunk(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = [&id[..], &(body.len() as u32).to_be_bytes(), body].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

/// A FLAC file of verbatim subframes (RFC 9639 section 9.2), 16 or 24 bits.
pub fn flac(rate: u32, channels: u8, bits: u8, samples: &[f64]) -> Vec<u8> {
    const BLOCK: usize = 4_096;
    let channel_count = usize::from(channels);
    let frames = samples.len() / channel_count;
    let mut file = b"fLaC".to_vec();
    file.extend([0x80, 0, 0, 34]);
    file.extend([(BLOCK as u16).to_be_bytes(), (BLOCK as u16).to_be_bytes()].concat());
    file.extend([0; 6]);
    let packed =
        u64::from(rate) << 44 | u64::from(channels - 1) << 41 | u64::from(bits - 1) << 36 | frames as u64;
    file.extend(packed.to_be_bytes());
    file.extend([0; 16]);
    for (number, block) in samples.chunks(BLOCK * channel_count).enumerate() {
        assert!(number < 128, "frame numbers of one byte are enough for tests");
        let length = (block.len() / channel_count - 1) as u16;
        let mut frame = vec![0xff, 0xf8, 0x70, (channels - 1) << 4, number as u8];
        frame.extend(length.to_be_bytes());
        frame.push(crc(&frame, 0x07, 8) as u8);
        for channel in 0..channel_count {
            frame.push(0x02);
            for sample in block.iter().skip(channel).step_by(channel_count) {
                let full = f64::from(1u32 << (bits - 1));
                let scaled = (sample * full).round().clamp(-full, full - 1.0) as i32;
                frame.extend(&scaled.to_be_bytes()[4 - usize::from(bits / 8)..]);
            }
        }
        frame.extend((crc(&frame, 0x8005, 16) as u16).to_be_bytes());
        file.extend(frame);
    }
    file
}

/// A cyclic redundancy check, most significant bit first, starting from 0.
fn crc(bytes: &[u8], polynomial: u64, width: u32) -> u64 {
    let mask = (1 << width) - 1;
    let mut register = 0;
    for byte in bytes {
        register ^= u64::from(*byte) << (width - 8);
        for _ in 0..8 {
            let top = register >> (width - 1) & 1;
            register = ((register << 1) ^ (top * polynomial)) & mask;
        }
    }
    register
}

/// A file of `tests/fixtures/audio`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name)
}

/// The contents of a fixture.
pub fn fixture_bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).expect("fixture is part of the source")
}

/// A whole piece of music in every format, as (extension, file).
pub fn sound_files() -> Vec<(&'static str, Vec<u8>)> {
    let stereo = [(997.0, 0.5), (1_499.0, 0.25)];
    let tone = sines(44_100, 0, 9_000, &stereo);
    let mut files = vec![
        ("wav", wav(44_100, 2, None, Depth::S16, &tone)),
        ("wav", wav(44_100, 2, Some(3), Depth::S24, &tone)),
        ("wav", wav(44_100, 2, None, Depth::F32, &tone)),
        ("aiff", aiff(44_100, 2, &tone)),
        ("flac", flac(44_100, 2, 16, &tone)),
    ];
    for (extension, name) in [
        ("mp3", "sine-a.mp3"),
        ("mp3", "bare-32.mp3"),
        ("ogg", "sine-a.ogg"),
        ("opus", "sine-a.opus"),
        ("opus", "surround.opus"),
        ("m4a", "sine-a.m4a"),
        ("m4a", "sine-a.alac.m4a"),
    ] {
        files.push((extension, fixture_bytes(name)));
    }
    files.push(("ogg", [fixture_bytes("sine-a.ogg"), fixture_bytes("sine-b.ogg")].concat()));
    files
}

/// Frames of the longest of [`sound_files`].
pub const LONGEST_SOUND: usize = 26_461;

/// Writes at least 300 broken media files into `dir`, the same ones for the same seed, and returns
/// their paths. Some still play; none may do harm. One is a directory and one cannot be read (except
/// by root).
pub fn broken_corpus(dir: &Path, seed: u64) -> Vec<PathBuf> {
    let mut corpus = Corpus { dir, random: Random(seed), paths: Vec::new() };
    for (extension, file) in sound_files() {
        corpus.damaged(extension, &file);
    }
    corpus.absurd_headers();
    corpus.chopped_atoms();
    corpus.broken_pages();
    corpus.not_media();
    corpus.paths
}

struct Corpus<'a> {
    dir: &'a Path,
    random: Random,
    paths: Vec<PathBuf>,
}

impl Corpus<'_> {
    fn path(&mut self, what: &str, extension: &str) -> PathBuf {
        let name = format!("{:03}-{what}.{extension}", self.paths.len());
        let path = self.dir.join(name);
        self.paths.push(path.clone());
        path
    }

    fn add(&mut self, what: &str, extension: &str, bytes: &[u8]) {
        let path = self.path(what, extension);
        fs::write(path, bytes).expect("test directory is writable");
    }

    fn damaged(&mut self, extension: &str, whole: &[u8]) {
        let length = whole.len();
        for within in [64, 512, length, length, length] {
            for flips in [1, 8, 64] {
                let mut bytes = whole.to_vec();
                for _ in 0..flips {
                    let at = self.random.below(within.min(length));
                    bytes[at] ^= 1 << self.random.below(8);
                }
                self.add("bit-flips", extension, &bytes);
            }
        }
        for point in [1, 4, 12, 27, 44, 100, length / 4, length / 2, length - 100, length - 1] {
            self.add("truncated", extension, &whole[..point]);
        }
        for fill in [0x00, 0xff] {
            let mut bytes = whole.to_vec();
            let start = self.random.below(length / 2);
            bytes[start..start + length / 4].fill(fill);
            self.add("overwritten", extension, &bytes);
        }
        let mut bytes = whole.to_vec();
        let at = self.random.below(length);
        let noise: Vec<u8> = (0..3_000).map(|_| self.random.byte()).collect();
        bytes.splice(at..at, noise);
        self.add("noise-inserted", extension, &bytes);
        let wrong = ["mp3", "wav", "flac", "ogg", "m4a"][self.random.below(5)];
        self.add("wrong-extension", wrong, whole);
    }

    fn absurd_headers(&mut self) {
        let tone = sines(48_000, 0, 2_000, &[(997.0, 0.5), (997.0, 0.5)]);
        let whole = wav(48_000, 2, None, Depth::S16, &tone);
        const CHANNELS: usize = 22;
        const RATE: usize = 24;
        const ALIGN: usize = 32;
        const BITS: usize = 34;
        const DATA_LENGTH: usize = 40;
        let cases: [(&str, usize, &[u8]); 16] = [
            ("rate-0", RATE, &[0; 4]),
            ("rate-1", RATE, &[1, 0, 0, 0]),
            ("rate-4-gigahertz", RATE, &[0xff; 4]),
            ("channels-0", CHANNELS, &[0; 2]),
            ("channels-26", CHANNELS, &[26, 0]),
            ("channels-65535", CHANNELS, &[0xff; 2]),
            ("align-0", ALIGN, &[0; 2]),
            ("align-65535", ALIGN, &[0xff; 2]),
            ("bits-0", BITS, &[0; 2]),
            ("bits-1", BITS, &[1, 0]),
            ("bits-64", BITS, &[64, 0]),
            ("bits-65535", BITS, &[0xff; 2]),
            ("endless-data", DATA_LENGTH, &[0xff; 4]),
            ("huge-data", DATA_LENGTH, &[0xfe, 0xff, 0xff, 0xff]),
            ("no-data", DATA_LENGTH, &[0; 4]),
            ("huge-fmt", 16, &[0xff; 4]),
        ];
        for (what, at, bytes) in cases {
            let mut file = whole.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            self.add(what, "wav", &file);
        }
        for (what, sample) in [("nan", f64::NAN), ("inf", f64::INFINITY), ("1e30", 1e30)] {
            let mut tone = tone.clone();
            tone.iter_mut().skip(101).step_by(7).for_each(|slot| *slot = sample);
            self.add(what, "wav", &wav(48_000, 2, None, Depth::F32, &tone));
            self.add(what, "wav", &wav(48_000, 2, None, Depth::F64, &tone));
        }
        let mut huge = flac(48_000, 2, 16, &tone);
        huge[21..26].fill(0xff);
        self.add("huge-total", "flac", &huge);
        self.add("headers-only", "flac", &huge[..42]);
        let mut tag = b"ID3\x04\0\0\x7f\x7f\x7f\x7f".to_vec();
        tag.extend(fixture_bytes("sine-a.mp3"));
        self.add("huge-id3", "mp3", &tag);
    }

    /// Sizes of boxes and counts in tables that do not fit.
    fn chopped_atoms(&mut self) {
        let whole = fixture_bytes("sine-a.m4a");
        let kinds: [&[u8; 4]; 13] = [
            b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts", b"stsz", b"stsc", b"stco", b"elst",
            b"mdhd", b"esds", b"mdat",
        ];
        for kind in kinds {
            let at = whole.windows(4).position(|window| window == kind).expect("box is there");
            for size in [0, 1, 9, 0x7fff_ffff, u32::MAX] {
                let mut bytes = whole.clone();
                bytes[at - 4..at].copy_from_slice(&u32::to_be_bytes(size));
                self.add("atom-size", "m4a", &bytes);
            }
            let mut bytes = whole.clone();
            bytes[at + 8..at + 12].fill(0xff);
            self.add("atom-count", "m4a", &bytes);
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(b"free");
            self.add("atom-missing", "m4a", &bytes);
        }
    }

    /// Pages with wrong checksums, and pages that are right but carry packets that are not.
    fn broken_pages(&mut self) {
        for name in ["sine-a.ogg", "sine-a.opus"] {
            let extension = name.rsplit('.').next().unwrap_or_default();
            let whole = fixture_bytes(name);
            let pages: Vec<usize> = page_starts(&whole);
            for page in &pages {
                let mut bytes = whole.clone();
                bytes[page + 22] ^= 0xff;
                self.add("page-checksum", extension, &bytes);
            }
            for (index, page) in pages.iter().enumerate() {
                let end = pages.get(index + 1).copied().unwrap_or(whole.len());
                let body = page + 27 + usize::from(whole[page + 26]);
                let mut bytes = whole.clone();
                bytes[body..end].fill_with(|| self.random.byte());
                seal_page(&mut bytes[*page..end]);
                self.add("random-page", extension, &bytes);
                let without = [&whole[..*page], &whole[end..]].concat();
                self.add("page-missing", extension, &without);
            }
        }
    }

    fn not_media(&mut self) {
        self.add("zero-bytes", "mp3", b"");
        self.add("zero-bytes", "flac", b"");
        self.add("text", "mp3", "This is not music, whatever its name says.\n".repeat(99).as_bytes());
        self.add("text", "ogg", b"OggS and then nothing that makes sense");
        self.add("zeros", "mp3", &[0; 20_000]);
        self.add("ones", "mp3", &[0xff; 20_000]);
        for extension in ["mp3", "wav", "m4a", "ogg", "flac", "opus", "mp3", "aac"] {
            let noise: Vec<u8> = (0..30_000).map(|_| self.random.byte()).collect();
            self.add("noise", extension, &noise);
        }
        let directory = self.path("directory", "mp3");
        fs::create_dir(directory).expect("test directory is writable");
        self.add("unreadable", "wav", &wav(48_000, 1, None, Depth::S16, &[0.0; 100]));
        #[cfg(unix)]
        if let Some(path) = self.paths.last() {
            use std::os::unix::fs::PermissionsExt;
            let nobody = fs::Permissions::from_mode(0o000);
            fs::set_permissions(path, nobody).expect("the file is ours");
        }
    }
}

/// Where the pages of an Ogg file begin.
pub fn page_starts(ogg: &[u8]) -> Vec<usize> {
    let is_page = |at: &usize| ogg[*at..].starts_with(b"OggS\0");
    (0..ogg.len()).filter(is_page).collect()
}

/// Makes the checksum of an Ogg page right (RFC 3533 section 6).
pub fn seal_page(page: &mut [u8]) {
    page[22..26].fill(0);
    let checksum = crc(page, 0x04c1_1db7, 32) as u32;
    page[22..26].copy_from_slice(&checksum.to_le_bytes());
}

/// A small generator (SplitMix64), so that a seed means the same files everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}
