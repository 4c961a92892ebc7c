//! One rendition over time: the window slides, what was listed stays as it was, the timeline has no seams.

use super::media_playlist::{Entry, MediaPlaylist};
use super::media_segment::{self, MediaSegment};
use super::multivariant_playlist::Variant;
use super::rules::{self, Violation, ensure, ensure_eq};
use super::source::{Kind, Source};
use super::{Expectations, Progress, fetch, init_segment};
use std::collections::BTreeMap;

/// The end of the newest segment judged.
#[derive(Debug, Clone, Copy)]
struct End {
    n: u64,
    decode_time: u64,
    sequence_number: u32,
}

/// What is remembered of one rendition.
#[derive(Debug)]
pub struct Rendition {
    name: String,
    playlist: Option<MediaPlaylist>,
    init: Option<Vec<u8>>,
    object_type: u8,
    /// Bytes of the segments in the window, by number.
    segments: BTreeMap<u64, Vec<u8>>,
    end: Option<End>,
    /// The segment fetched again last.
    refetched: u64,
    peak: f64,
    bits: f64,
    seconds: f64,
}

impl Rendition {
    /// One of which nothing is known.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            playlist: None,
            init: None,
            object_type: 0,
            segments: BTreeMap::new(),
            end: None,
            refetched: 0,
            peak: 0.0,
            bits: 0.0,
            seconds: 0.0,
        }
    }

    /// Its directory in the stream tree.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The oldest segment in the window.
    pub fn oldest(&self) -> Option<u64> {
        self.segments.keys().next().copied()
    }

    /// Measured peak and average, bit/s.
    pub fn bit_rates(&self) -> (u64, u64) {
        (self.peak.ceil() as u64, self.average().round() as u64)
    }

    fn average(&self) -> f64 {
        if self.seconds > 0.0 { self.bits / self.seconds } else { 0.0 }
    }

    /// Judges a reading of the playlist by itself and against the reading before, which it then replaces.
    pub fn judge_playlist(
        &mut self,
        playlist: &MediaPlaylist,
        expectations: &Expectations,
    ) -> Result<(), Violation> {
        if let Some(before) = &self.playlist {
            let (found, wanted) = (playlist.target_duration, before.target_duration);
            ensure_eq(rules::TARGETDURATION, "changed to", found, wanted)?;
            slides_forward(before, playlist)?;
            entries_stay(before, playlist, expectations)?;
        }
        playlist.judge(expectations)?;
        if let Some(before) = &self.playlist {
            window_is_long_enough(before, playlist, expectations)?;
        }
        self.playlist = Some(playlist.clone());
        Ok(())
    }

    /// Fetches the init segment, every segment that is new in the window, and some that are not.
    pub fn judge_segments(
        &mut self,
        source: &mut dyn Source,
        expectations: &Expectations,
    ) -> Result<Progress, Violation> {
        let playlist = self.playlist.clone().expect("the playlist is judged before its segments");
        let bytes = fetch(source, &format!("{}/init.mp4", playlist.directory), Kind::Init)?;
        let init = init_segment::parse(&bytes, expectations.timescale)?;
        if let Some(before) = &self.init {
            ensure(*before == bytes, rules::SEGMENT_MUTATED, "init.mp4 with other bytes", "the same")?;
        }
        self.init = Some(bytes);
        self.object_type = init.object_type;
        self.segments.retain(|n, _| *n >= playlist.entries[0].n);
        let mut progress =
            Progress { newest: playlist.entries[playlist.entries.len() - 1].n, ..Progress::default() };
        self.refetch(source, &playlist, expectations.refetch_per_poll)?;
        for entry in &playlist.entries {
            let newest = self.end.map(|end| end.n);
            if newest.is_some_and(|newest| entry.n <= newest) || entry.gap {
                continue;
            }
            let bytes = fetch(source, &playlist.path(entry.n), Kind::Segment)
                .map_err(|violation| violation.at(entry.n))?;
            media_segment::parse(&bytes, &init, expectations.timescale, expectations.segment_samples)
                .and_then(|segment| self.judge_segment(&segment, entry, expectations))
                .map_err(|violation| violation.at(entry.n))?;
            self.measure(bytes, entry.n, expectations);
            progress.new_segments += 1;
            progress.discontinuities += usize::from(entry.discontinuity);
            progress.jumps +=
                usize::from(newest.is_some_and(|newest| entry.n > newest + 1) && entry.discontinuity);
        }
        Ok(progress)
    }

    /// Compares some of the window's segments with the bytes that they had, in turn from poll to poll.
    fn refetch(
        &mut self,
        source: &mut dyn Source,
        playlist: &MediaPlaylist,
        count: usize,
    ) -> Result<(), Violation> {
        let later = self.segments.keys().filter(|n| **n > self.refetched);
        let earlier = self.segments.keys().filter(|n| **n <= self.refetched);
        let chosen: Vec<u64> = later.chain(earlier).take(count).copied().collect();
        for n in chosen {
            let bytes =
                fetch(source, &playlist.path(n), Kind::Segment).map_err(|violation| violation.at(n))?;
            ensure(self.segments[&n] == bytes, rules::SEGMENT_MUTATED, "other bytes than before", "the same")
                .map_err(|violation| violation.at(n))?;
            self.refetched = n;
        }
        Ok(())
    }

    /// The rules that tie a segment to its number and to the one before.
    fn judge_segment(
        &mut self,
        segment: &MediaSegment,
        entry: &Entry,
        expectations: &Expectations,
    ) -> Result<(), Violation> {
        let samples = expectations.segment_samples;
        let start = segment.decode_time();
        let continues = self.end.filter(|_| !entry.discontinuity);
        let expected = match (expectations.epoch_locked, continues) {
            (true, _) => Some(entry.n * samples),
            (false, Some(end)) => Some(end.decode_time + (entry.n - end.n - 1) * samples),
            (false, None) => None,
        };
        if let Some(expected) = expected {
            ensure_eq(rules::TFDT_CONTINUITY, "baseMediaDecodeTime", start, expected)?;
        }
        if let Some(end) = continues.filter(|end| end.n + 1 == entry.n) {
            let (found, wanted) = (segment.chunks[0].sequence_number, end.sequence_number.wrapping_add(1));
            ensure_eq(rules::MFHD_SEQUENCE, "sequence_number", found, wanted)?;
        }
        for event in &segment.events {
            let inside = (start..start + samples).contains(&event.presentation_time);
            let wanted = format!("{start} to {}", start + samples - 1);
            ensure(inside, rules::EMSG_TIME, event.presentation_time, wanted)?;
        }
        let sequence_number = segment.last_sequence_number();
        self.end = Some(End { n: entry.n, decode_time: start + segment.duration(), sequence_number });
        Ok(())
    }

    fn measure(&mut self, bytes: Vec<u8>, n: u64, expectations: &Expectations) {
        let (bits, seconds) = (bytes.len() as f64 * 8.0, expectations.segment_seconds());
        self.peak = self.peak.max(bits / seconds);
        self.bits += bits;
        self.seconds += seconds;
        self.segments.insert(n, bytes);
    }

    /// Holds the attributes of EXT-X-STREAM-INF against what was measured.
    pub fn judge_variant(&self, variant: &Variant) -> Result<(), Violation> {
        ensure_eq(rules::CODECS, "CODECS", &variant.codecs, &format!("mp4a.40.{}", self.object_type))?;
        let (bandwidth, peak) = (variant.bandwidth, self.peak.ceil());
        ensure(bandwidth as f64 >= self.peak, rules::BANDWIDTH, bandwidth, format!("{peak} or more"))?;
        let (average, least) = (variant.average_bandwidth, (self.average() * 0.9).ceil());
        let sane = average as f64 >= self.average() * 0.9 && average <= bandwidth;
        ensure(sane, rules::AVERAGE_BANDWIDTH, average, format!("{least} to {bandwidth}"))
    }
}

/// MEDIA-SEQUENCE and the discontinuity sequence never fall, nor does the newest number.
fn slides_forward(before: &MediaPlaylist, after: &MediaPlaylist) -> Result<(), Violation> {
    let (old, new) = (before.media_sequence, after.media_sequence);
    ensure(new >= old, rules::MEDIA_SEQUENCE, format!("{new} after {old}"), "no step back")?;
    let (old, new) = (before.discontinuity_sequence, after.discontinuity_sequence);
    ensure(new >= old, rules::DISCONTINUITY_SEQUENCE, format!("{new} after {old}"), "no step back")?;
    let last = |playlist: &MediaPlaylist| playlist.entries[playlist.entries.len() - 1].n;
    let (old, new) = (last(before), last(after));
    ensure(new >= old, rules::MEDIA_SEQUENCE, format!("newest {new} after {old}"), "no step back")
}

/// Segments leave at the front only and one by one, come at the end only, and stay as they were meanwhile.
fn entries_stay(
    before: &MediaPlaylist,
    after: &MediaPlaylist,
    expectations: &Expectations,
) -> Result<(), Violation> {
    let first = after.entries[0].n;
    let newest = before.entries[before.entries.len() - 1].n;
    let stayed = before.entries.iter().filter(|entry| entry.n >= first);
    let mut listed = after.entries.iter();
    for old in stayed {
        let Some(new) = listed.next().filter(|new| new.n == old.n) else {
            let wanted = "it stays until it is the oldest";
            return Err(Violation::new(rules::SEGMENT_NUMBER, "an entry removed or put in", wanted).at(old.n));
        };
        let (found, wanted) = (new.discontinuity_sequence, old.discontinuity_sequence);
        if new.discontinuity == old.discontinuity {
            ensure_eq(rules::DISCONTINUITY_SEQUENCE, "of a segment", found, wanted)
                .map_err(|v| v.at(old.n))?;
        }
        let facts = |entry: &Entry| (entry.extinf.clone(), entry.date_micros, entry.discontinuity, entry.gap);
        // A derived date may differ from a given one by the rounding to milliseconds.
        let same_date = (new.date_micros - old.date_micros).abs() <= 1000;
        let same = facts(&Entry { date_micros: 0, ..new.clone() })
            == facts(&Entry { date_micros: 0, ..old.clone() });
        let (found, wanted) = (format!("{:?}", facts(new)), format!("{:?}", facts(old)));
        ensure(same && same_date, rules::ENTRY_CHANGED, found, wanted).map_err(|v| v.at(old.n))?;
        if expectations.fixed_media_sequence {
            let (found, wanted) = (new.media_sequence, old.media_sequence);
            ensure_eq(rules::MEDIA_SEQUENCE, "of a segment", found, wanted).map_err(|v| v.at(old.n))?;
        }
    }
    if let Some(added) = listed.next() {
        ensure(added.n > newest, rules::SEGMENT_NUMBER, added.n, format!("above {newest}"))?;
        step_over_the_poll(before, added)?;
    }
    Ok(())
}

/// Joins the last segment of one reading to the first new one of the next.
fn step_over_the_poll(before: &MediaPlaylist, added: &Entry) -> Result<(), Violation> {
    let last = &before.entries[before.entries.len() - 1];
    let (found, wanted) = (added.discontinuity_sequence, last.discontinuity_sequence);
    if added.n == last.n + 1 {
        let wanted = wanted + u64::from(added.discontinuity);
        return ensure_eq(rules::DISCONTINUITY_SEQUENCE, "of a new segment", found, wanted)
            .map_err(|violation| violation.at(added.n));
    }
    // The numbers between were never seen: a jump, or polls too far apart.
    ensure(found >= wanted, rules::DISCONTINUITY_SEQUENCE, found, format!("{wanted} or more"))
        .map_err(|violation| violation.at(added.n))
}

/// A server may not take segments away until three target durations would be left.
fn window_is_long_enough(
    before: &MediaPlaylist,
    after: &MediaPlaylist,
    expectations: &Expectations,
) -> Result<(), Violation> {
    let removed = after.media_sequence > before.media_sequence;
    let broken = after.entries.iter().any(|entry| entry.discontinuity);
    let (length, least) =
        (after.entries.len() as f64 * expectations.segment_seconds(), 3.0 * after.target_duration as f64);
    let found = format!("{length} s left after a removal");
    ensure(!removed || broken || length >= least, rules::WINDOW_LENGTH, found, format!("{least} s"))
}
