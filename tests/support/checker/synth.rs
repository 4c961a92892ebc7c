//! A correct stream made of nothing: the smallest station that the checker must pass, for the checker's own tests.
//! The access units are noise of plausible size; no decoder would thank you for them.

use super::playlist::format_date_time;
use super::source::MapSource;
use std::collections::VecDeque;

/// Frames per segment of 3.84 s.
const FRAMES: u32 = 180;
const FRAME_SAMPLES: u64 = 1024;
const SEGMENT_SAMPLES: u64 = FRAMES as u64 * FRAME_SAMPLES;
const SEGMENT_MICROS: i64 = 3_840_000;
const TIMESCALE: u32 = 48_000;

/// A rendition: its name and the mean size of its access units in bytes.
type Rendition = (&'static str, u32);

/// A station whose window slides by hand.
#[derive(Debug, Clone)]
pub struct Synth {
    /// Directory names and frame sizes.
    pub renditions: Vec<Rendition>,
    /// Segments in the playlists.
    pub window: usize,
    /// moof and mdat pairs per segment; must divide 180.
    pub chunks: u32,
    /// A date on every segment, not only on the first of a run.
    pub all_dates: bool,
    /// Number and DISCONTINUITY flag of the listed segments.
    pub listed: VecDeque<(u64, bool)>,
    /// DISCONTINUITY tags that have left the window.
    pub discontinuity_sequence: u64,
}

impl Synth {
    /// A station on air since segment `first`, with a full window of six segments.
    pub fn new(first: u64) -> Self {
        Self {
            renditions: vec![("lofi", 170), ("midfi", 256), ("hifi", 512)],
            window: 6,
            chunks: 1,
            all_dates: true,
            listed: (first..first + 6).map(|n| (n, false)).collect(),
            discontinuity_sequence: 0,
        }
    }

    /// One segment more.
    pub fn tick(&mut self) {
        self.push(1, false);
    }

    /// One segment more behind a DISCONTINUITY, with `skipped` numbers left out.
    pub fn jump(&mut self, skipped: u64) {
        self.push(1 + skipped, true);
    }

    fn push(&mut self, step: u64, discontinuity: bool) {
        let newest = self.listed.back().map_or(0, |(n, _)| *n);
        self.listed.push_back((newest + step, discontinuity));
        while self.listed.len() > self.window {
            if let Some((_, true)) = self.listed.pop_front() {
                self.discontinuity_sequence += 1;
            }
        }
    }

    /// All files as they are now.
    pub fn source(&self) -> MapSource {
        let mut source = MapSource::default();
        source.0.insert("stream.m3u8".to_owned(), self.multivariant_playlist().into_bytes());
        for (name, frame_size) in &self.renditions {
            let mut put = |file: String, bytes| source.0.insert(format!("{name}/{file}"), bytes);
            put("live.m3u8".to_owned(), self.media_playlist().into_bytes());
            put("init.mp4".to_owned(), init_segment());
            for (n, _) in &self.listed {
                put(format!("{n}.m4s"), segment(*n, *frame_size, self.chunks));
            }
        }
        source
    }

    fn multivariant_playlist(&self) -> String {
        let mut text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
        for (name, frame_size) in &self.renditions {
            let average = frame_size * 375; // 46.875 frames of 8 bits a second
            let (average, peak) = (average * 105 / 100, average * 115 / 100);
            text.push_str(&format!(
                "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"mp4a.40.2\"\n\
                 {name}/live.m3u8\n"
            ));
        }
        text
    }

    fn media_playlist(&self) -> String {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n#EXT-X-MAP:URI=\"init.mp4\"\n",
            self.listed[0].0, self.discontinuity_sequence
        );
        for (index, (n, discontinuity)) in self.listed.iter().enumerate() {
            if *discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if index == 0 || *discontinuity || self.all_dates {
                // The encoder's priming, 2,048 samples, rounded down to whole milliseconds.
                let date = format_date_time(*n as i64 * SEGMENT_MICROS - 43_000);
                text.push_str(&format!("#EXT-X-PROGRAM-DATE-TIME:{date}\n"));
            }
            text.push_str(&format!("#EXTINF:3.840000,\n{n}.m4s\n"));
        }
        text
    }
}

/// A box around its parts.
pub fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let size = (payload.len() + 8) as u32;
    [&size.to_be_bytes(), name.as_slice(), &payload].concat()
}

/// A FullBox around its parts.
fn full(name: &[u8; 4], version: u8, flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let head = (u32::from(version) << 24 | flags).to_be_bytes();
    boxed(name, &[&head, &parts.concat()])
}

/// Big-endian 32-bit words.
fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// A CMAF header for AAC-LC, 48 kHz, stereo.
pub fn init_segment() -> Vec<u8> {
    let ftyp = boxed(b"ftyp", &[b"iso6", &words(&[0]), b"iso6cmfc"]);
    let mvhd_head = words(&[0, 0, 1000, 0, 0x1_0000, 0x100_0000, 0, 0]);
    let mvhd = full(b"mvhd", 0, 0, &[&mvhd_head, &words(&MATRIX), &[0; 24], &words(&[2])]);
    let trex = full(b"trex", 0, 0, &[&words(&[1, 1, FRAME_SAMPLES as u32, 0, 0])]);
    let moov = boxed(b"moov", &[&mvhd, &trak(), &boxed(b"mvex", &[&trex])]);
    [ftyp, moov].concat()
}

fn trak() -> Vec<u8> {
    let tkhd_head = words(&[0, 0, 1, 0, 0, 0, 0, 0, 0x100_0000]);
    let tkhd = full(b"tkhd", 0, 3, &[&tkhd_head, &words(&MATRIX), &words(&[0, 0])]);
    let mdhd = full(b"mdhd", 0, 0, &[&words(&[0, 0, TIMESCALE, 0, 0x55c4_0000])]);
    let hdlr = full(b"hdlr", 0, 0, &[&words(&[0]), b"soun", &[0; 12], b"sound\0"]);
    let dref = full(b"dref", 0, 0, &[&words(&[1]), &full(b"url ", 0, 1, &[])]);
    let stbl = boxed(
        b"stbl",
        &[
            &stsd(),
            &full(b"stts", 0, 0, &[&words(&[0])]),
            &full(b"stsc", 0, 0, &[&words(&[0])]),
            &full(b"stsz", 0, 0, &[&words(&[0, 0])]),
            &full(b"stco", 0, 0, &[&words(&[0])]),
        ],
    );
    let smhd = full(b"smhd", 0, 0, &[&[0; 4]]);
    let minf = boxed(b"minf", &[&smhd, &boxed(b"dinf", &[&dref]), &stbl]);
    boxed(b"trak", &[&tkhd, &boxed(b"mdia", &[&mdhd, &hdlr, &minf])])
}

fn stsd() -> Vec<u8> {
    let decoder_config =
        [&[4, 17, 0x40, 0x15, 0, 0, 0][..], &words(&[128_000, 128_000]), &[5, 2, 0x11, 0x90]].concat();
    let es = [&[3, 25, 0, 0, 0][..], &decoder_config, &[6, 1, 2]].concat();
    let mp4a_head =
        [&[0; 6][..], &[0, 1], &[0; 8], &[0, 2, 0, 16, 0, 0, 0, 0], &words(&[TIMESCALE << 16])].concat();
    let mp4a = boxed(b"mp4a", &[&mp4a_head, &full(b"esds", 0, 0, &[&es])]);
    full(b"stsd", 0, 0, &[&words(&[1]), &mp4a])
}

/// Segment n: styp, emsg, and `chunks` pairs of moof and mdat.
pub fn segment(n: u64, frame_size: u32, chunks: u32) -> Vec<u8> {
    let mut bytes = boxed(b"styp", &[b"msdh", &words(&[0]), b"msdhcmfc"]);
    bytes.extend(emsg(n));
    let frames = FRAMES / chunks;
    for chunk in 0..chunks {
        let sizes: Vec<u32> =
            (0..frames).map(|frame| frame_bytes(n, chunk * frames + frame, frame_size)).collect();
        let decode_time = n * SEGMENT_SAMPLES + u64::from(chunk * frames) * FRAME_SAMPLES;
        let sequence_number = (n as u32).wrapping_mul(chunks).wrapping_add(chunk);
        bytes.extend(moof(sequence_number, decode_time, &sizes));
        let payload: Vec<u8> =
            (0..sizes.iter().sum()).map(|at: u32| (at.wrapping_mul(193) >> 3) as u8).collect();
        bytes.extend(boxed(b"mdat", &[&payload]));
    }
    bytes
}

/// The size of a frame: the mean, give or take an eighth.
fn frame_bytes(n: u64, frame: u32, mean: u32) -> u32 {
    let noise = (n as u32).wrapping_mul(2_654_435_761).wrapping_add(frame.wrapping_mul(40_503)) >> 7;
    mean - mean / 8 + noise % (mean / 4)
}

fn emsg(n: u64) -> Vec<u8> {
    let title = format!("\u{3}Artist \u{2013} Song {n}");
    let frame = [b"TIT2", &syncsafe(title.len())[..], &[0, 0], title.as_bytes()].concat();
    let tag = [b"ID3\x04\x00\x00", &syncsafe(frame.len())[..], &frame].concat();
    let time = (n * SEGMENT_SAMPLES).to_be_bytes();
    let scheme = b"https://aomedia.org/emsg/ID3\0\0";
    full(b"emsg", 1, 0, &[&words(&[TIMESCALE]), &time, &words(&[u32::MAX, n as u32]), scheme, &tag])
}

fn syncsafe(size: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8)
}

fn moof(sequence_number: u32, decode_time: u64, sizes: &[u32]) -> Vec<u8> {
    let with_offset = |data_offset: u32| {
        let mfhd = full(b"mfhd", 0, 0, &[&words(&[sequence_number])]);
        let tfhd = full(b"tfhd", 0, 0x02_0000, &[&words(&[1])]);
        let tfdt = full(b"tfdt", 1, 0, &[&decode_time.to_be_bytes()]);
        let trun = full(b"trun", 0, 0x201, &[&words(&[sizes.len() as u32, data_offset]), &words(sizes)]);
        boxed(b"moof", &[&mfhd, &boxed(b"traf", &[&tfhd, &tfdt, &trun])])
    };
    let size = with_offset(0).len() as u32;
    with_offset(size + 8)
}
