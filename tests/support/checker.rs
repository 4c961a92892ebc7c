//! A strict judge of the station's stream. It reads bytes as a listener's player would, shares no code with the
//! station, and names the rule that was broken, the rendition, the segment, and what stood there instead.
//!
//! ```ignore
//! let mut checker = Checker::new(Expectations::new(&["lofi", "midfi", "hifi"]));
//! let mut source = HttpSource::new("http://127.0.0.1:8080/live/");
//! while station_is_on() {
//!     checker.poll(&mut source)?; // once per target duration or more often
//! }
//! let report = checker.finish()?;
//! ```
//!
//! A test binary declares the modules inline, so that they find their children:
//! `mod support { pub mod checker; pub mod http_client; }`.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

pub mod boxes;
pub mod id3;
pub mod init_segment;
pub mod media_playlist;
pub mod media_segment;
pub mod multivariant_playlist;
pub mod playlist;
pub mod rules;
pub mod second_opinion;
pub mod source;
pub mod synth;
pub mod tamper;
pub mod window;

use multivariant_playlist::{MultivariantPlaylist, Variant};
use rules::{Violation, ensure};
use source::{Kind, Source};
use std::collections::BTreeMap;
use window::Rendition;

/// How often differing media playlists are read again before they count as unaligned: the window may slide
/// between two of the requests of one poll.
const SKEW_ATTEMPTS: usize = 3;

/// What the stream under test promises.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// Samples per segment: 184,320 (3.84 s) or 92,160 (1.92 s).
    pub segment_samples: u64,
    /// Samples per second; the mdhd and emsg timescale as well.
    pub timescale: u32,
    /// Directory names under the stream tree, in any order.
    pub renditions: Vec<String>,
    /// Segment n starts at n x segment_samples of the media timeline and of Unix time.
    pub epoch_locked: bool,
    /// How far a PROGRAM-DATE-TIME may lie from n x duration when epoch locked: room for the encoder's priming
    /// (2,048 samples are 43 ms).
    pub pdt_tolerance_ms: u64,
    /// Holds a segment to the media sequence number that it had first, as RFC 8216bis section 6.2.2 demands. Off,
    /// it may be renumbered when its run becomes the first of the playlist: MEDIA-SEQUENCE is n in the design.
    pub fixed_media_sequence: bool,
    /// Lets EXT-X-GAP stand for segments that never were.
    pub gaps_allowed: bool,
    /// Segments fetched again in each poll and rendition, in turn through the window, to find changed bytes.
    pub refetch_per_poll: usize,
}

impl Expectations {
    /// The station's defaults: 3.84 s at 48 kHz, epoch locked.
    pub fn new(renditions: &[&str]) -> Self {
        Self {
            segment_samples: 184_320,
            timescale: 48_000,
            renditions: renditions.iter().map(ToString::to_string).collect(),
            epoch_locked: true,
            pdt_tolerance_ms: 100,
            fixed_media_sequence: false,
            gaps_allowed: false,
            refetch_per_poll: 4,
        }
    }

    /// A segment's length in microseconds; exact for both segment lengths.
    pub fn segment_micros(&self) -> i64 {
        (self.segment_samples * 1_000_000 / u64::from(self.timescale)) as i64
    }

    /// A segment's length in seconds.
    pub fn segment_seconds(&self) -> f64 {
        self.segment_samples as f64 / f64::from(self.timescale)
    }

    /// EXTINF as it must be written: six digits after the point.
    pub fn extinf(&self) -> String {
        let micros = self.segment_micros();
        format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// What one poll saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Highest segment number listed.
    pub newest: u64,
    /// Segments of one rendition that were judged in this poll for the first time.
    pub new_segments: usize,
    /// DISCONTINUITY tags among the new segments.
    pub discontinuities: usize,
    /// Places among the new segments where n jumped forward.
    pub jumps: usize,
}

/// What all polls saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Polls that passed.
    pub polls: usize,
    /// Lowest and highest segment number judged.
    pub range: (u64, u64),
    /// Segments judged, of one rendition.
    pub segments: usize,
    /// DISCONTINUITY tags seen, of one rendition.
    pub discontinuities: usize,
    /// Places where n jumped forward, of one rendition.
    pub jumps: usize,
    /// Measured bit rates by rendition, in bit/s: peak and average.
    pub bit_rates: BTreeMap<String, (u64, u64)>,
}

/// Judges one stream over time; see the module.
#[derive(Debug)]
pub struct Checker {
    expectations: Expectations,
    renditions: BTreeMap<String, Rendition>,
    polls: usize,
    first: Option<u64>,
    total: Progress,
}

impl Checker {
    /// A checker that has seen nothing yet.
    pub fn new(expectations: Expectations) -> Self {
        let renditions =
            expectations.renditions.iter().map(|name| (name.clone(), Rendition::new(name))).collect();
        Self { expectations, renditions, polls: 0, first: None, total: Progress::default() }
    }

    /// Reads all playlists once, and every init segment, every segment not seen before, and some of those seen.
    /// After a violation the checker's memory is of no further use.
    pub fn poll(&mut self, source: &mut dyn Source) -> Result<Progress, Violation> {
        let multivariant = self.multivariant_playlist(source)?;
        self.media_playlists(source, &multivariant)?;
        let mut progress = Progress::default();
        for rendition in self.renditions.values_mut() {
            progress = rendition
                .judge_segments(source, &self.expectations)
                .map_err(|violation| violation.in_rendition(rendition.name()))?;
        }
        // Read again: a new segment may have raised the peak after the first reading.
        let multivariant = self.multivariant_playlist(source)?;
        for (name, variant) in &multivariant.variants {
            let rendition = &self.renditions[name];
            rendition.judge_variant(variant).map_err(|violation| violation.in_rendition(name))?;
        }
        self.count(progress);
        Ok(progress)
    }

    /// Sums up; a checker that has judged no segment has proved nothing and says so.
    pub fn finish(self) -> Result<Report, Violation> {
        let found = format!("{} polls, {} segments", self.polls, self.total.new_segments);
        ensure(self.total.new_segments > 0, rules::SOMETHING_JUDGED, found, "at least one segment")?;
        Ok(Report {
            polls: self.polls,
            range: (self.first.unwrap_or_default(), self.total.newest),
            segments: self.total.new_segments,
            discontinuities: self.total.discontinuities,
            jumps: self.total.jumps,
            bit_rates: self.renditions.iter().map(|(name, seen)| (name.clone(), seen.bit_rates())).collect(),
        })
    }

    fn count(&mut self, progress: Progress) {
        self.polls += 1;
        self.first = self.first.or_else(|| self.renditions.values().next().and_then(Rendition::oldest));
        self.total.newest = progress.newest;
        self.total.new_segments += progress.new_segments;
        self.total.discontinuities += progress.discontinuities;
        self.total.jumps += progress.jumps;
    }

    fn multivariant_playlist(&self, source: &mut dyn Source) -> Result<MultivariantPlaylist, Violation> {
        let text = source::fetch_text(source, "stream.m3u8")?;
        let playlist = multivariant_playlist::parse(&text, &self.expectations.renditions)?;
        second_opinion::agrees(&text)?;
        Ok(playlist)
    }

    /// Reads the media playlists until they agree, judges each against its past and all against each other.
    fn media_playlists(
        &mut self,
        source: &mut dyn Source,
        multivariant: &MultivariantPlaylist,
    ) -> Result<(), Violation> {
        let mut playlists = BTreeMap::new();
        for _ in 0..SKEW_ATTEMPTS {
            for (name, variant) in &multivariant.variants {
                let playlist =
                    media_playlist(source, variant).map_err(|violation| violation.in_rendition(name))?;
                playlists.insert(name.clone(), playlist);
            }
            if media_playlist::alignment(&playlists).is_ok() {
                break;
            }
        }
        for (name, playlist) in &playlists {
            let rendition = self.renditions.get_mut(name).expect("variants are the expected renditions");
            rendition
                .judge_playlist(playlist, &self.expectations)
                .map_err(|violation| violation.in_rendition(name))?;
        }
        media_playlist::alignment(&playlists)
    }
}

fn media_playlist(
    source: &mut dyn Source,
    variant: &Variant,
) -> Result<media_playlist::MediaPlaylist, Violation> {
    let text = source::fetch_text(source, &variant.uri)?;
    let playlist = media_playlist::parse(&text, variant.directory())?;
    second_opinion::agrees(&text)?;
    Ok(playlist)
}

/// One file of the stream tree, judged for status and Content-Type.
fn fetch(source: &mut dyn Source, path: &str, kind: Kind) -> Result<Vec<u8>, Violation> {
    source::fetch(source, path, kind)
}
