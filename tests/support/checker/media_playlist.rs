//! live.m3u8, the media playlist: what one reading of it shows (RFC 8216bis sections 4.4.3 to 4.4.5).

use super::Expectations;
use super::playlist::{self, Attributes, Line, Once};
use super::rules::{self, Violation, ensure, ensure_eq};
use std::collections::BTreeMap;

const MIN_VERSION: u64 = 7;
/// Two dates in milliseconds may differ by their rounding.
const DATE_TOLERANCE_MICROS: i64 = 1000;

/// One media segment as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number in the file name.
    pub n: u64,
    /// Media sequence number: EXT-X-MEDIA-SEQUENCE plus index.
    pub media_sequence: u64,
    /// Discontinuity sequence number (section 6.2.2).
    pub discontinuity_sequence: u64,
    /// EXTINF as written.
    pub extinf: String,
    /// PROGRAM-DATE-TIME in microseconds since 1970, given or derived.
    pub date_micros: i64,
    /// An EXT-X-DISCONTINUITY stands before it.
    pub discontinuity: bool,
    /// It is marked EXT-X-GAP: there are no bytes.
    pub gap: bool,
}

/// A media playlist without its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// Directory of the playlist in the stream tree.
    pub directory: String,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u64,
    /// EXT-X-MEDIA-SEQUENCE.
    pub media_sequence: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE; 0 without the tag.
    pub discontinuity_sequence: u64,
    /// The segments, oldest first; never empty.
    pub entries: Vec<Entry>,
}

/// What is gathered line by line until a URI closes an entry.
#[derive(Default)]
struct Draft {
    version: u64,
    target_duration: u64,
    media_sequence: u64,
    discontinuity_sequence: u64,
    mapped: bool,
    extinf: Option<String>,
    date_micros: Option<i64>,
    discontinuity: bool,
    gap: bool,
    entries: Vec<Entry>,
}

/// Reads the tags and derives dates and numbers; [`MediaPlaylist::judge`] judges them.
pub fn parse(text: &str, directory: &str) -> Result<MediaPlaylist, Violation> {
    let mut draft = Draft::default();
    let mut once = Once::default();
    for line in playlist::lines(text)? {
        match line {
            Line::Uri(uri) => draft.close_entry(uri)?,
            Line::Tag(name, value) => {
                if header(name) {
                    once.note(name)?;
                    let late = !draft.entries.is_empty() || draft.extinf.is_some() || draft.discontinuity;
                    ensure(!late, rules::PLAYLIST_TAG, format!("{name} after a segment"), "it before")?;
                }
                draft.tag(name, value)?;
            }
        }
    }
    let open = draft.extinf.is_some() || draft.discontinuity || draft.gap || draft.date_micros.is_some();
    ensure(!open, rules::PLAYLIST_SYNTAX, "segment tags last", "the URI that they apply to")?;
    ensure(!draft.entries.is_empty(), rules::PLAYLIST_SYNTAX, "no segment", "one or more")?;
    let (version, wanted) = (draft.version, format!("{MIN_VERSION} or more"));
    ensure(version >= MIN_VERSION, rules::VERSION, version, wanted)?;
    let target_given = once.seen("#EXT-X-TARGETDURATION");
    ensure(target_given, rules::TARGETDURATION, "none", "EXT-X-TARGETDURATION")?;
    Ok(MediaPlaylist {
        directory: directory.to_owned(),
        target_duration: draft.target_duration,
        media_sequence: draft.media_sequence,
        discontinuity_sequence: draft.discontinuity_sequence,
        entries: draft.entries,
    })
}

/// Tags that may stand once, before the first segment.
fn header(name: &str) -> bool {
    const HEADER: [&str; 5] = [
        "#EXT-X-VERSION",
        "#EXT-X-TARGETDURATION",
        "#EXT-X-MEDIA-SEQUENCE",
        "#EXT-X-DISCONTINUITY-SEQUENCE",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ];
    HEADER.contains(&name)
}

impl Draft {
    fn tag(&mut self, name: &str, value: Option<&str>) -> Result<(), Violation> {
        match name {
            "#EXT-X-VERSION" => self.version = playlist::decimal(name, value)?,
            "#EXT-X-TARGETDURATION" => self.target_duration = playlist::decimal(name, value)?,
            "#EXT-X-MEDIA-SEQUENCE" => self.media_sequence = playlist::decimal(name, value)?,
            "#EXT-X-DISCONTINUITY-SEQUENCE" => self.discontinuity_sequence = playlist::decimal(name, value)?,
            "#EXT-X-INDEPENDENT-SEGMENTS" => playlist::no_value(name, value)?,
            "#EXT-X-MAP" => self.map(name, value)?,
            "#EXTINF" => self.extinf(value.unwrap_or_default())?,
            "#EXT-X-PROGRAM-DATE-TIME" => self.date(value.unwrap_or_default())?,
            "#EXT-X-DISCONTINUITY" => {
                playlist::no_value(name, value)?;
                ensure(!self.discontinuity, rules::PLAYLIST_TAG, "two EXT-X-DISCONTINUITY", "one")?;
                self.discontinuity = true;
            }
            "#EXT-X-GAP" => {
                playlist::no_value(name, value)?;
                self.gap = true;
            }
            "#EXT-X-ENDLIST" => return Err(Violation::new(rules::ENDLIST, name, "none")),
            "#EXT-X-PLAYLIST-TYPE" => return Err(Violation::new(rules::PLAYLIST_TYPE, name, "none")),
            _ => return Err(Violation::new(rules::PLAYLIST_TAG, name, "no such tag in live.m3u8")),
        }
        Ok(())
    }

    fn map(&mut self, name: &str, value: Option<&str>) -> Result<(), Violation> {
        let attributes = Attributes::parse(name, value)?;
        attributes.only(&["URI"])?;
        ensure_eq(rules::MAP, "URI", attributes.quoted("URI")?, "init.mp4")?;
        self.mapped = true;
        Ok(())
    }

    fn extinf(&mut self, value: &str) -> Result<(), Violation> {
        ensure(self.extinf.is_none(), rules::PLAYLIST_SYNTAX, "two EXTINF for one URI", "one")?;
        let (duration, _title) = value
            .split_once(',')
            .ok_or_else(|| Violation::new(rules::PLAYLIST_SYNTAX, format!("EXTINF {value:?}"), "a comma"))?;
        self.extinf = Some(duration.to_owned());
        Ok(())
    }

    fn date(&mut self, value: &str) -> Result<(), Violation> {
        let bad = || Violation::new(rules::PROGRAM_DATE_TIME, value, "an ISO 8601 date with a time zone");
        ensure(self.date_micros.is_none(), rules::PROGRAM_DATE_TIME, "two for one segment", "one")?;
        self.date_micros = Some(playlist::date_time(value).ok_or_else(bad)?);
        Ok(())
    }

    /// A URI ends an entry; a date that is not given follows from the one before.
    fn close_entry(&mut self, uri: &str) -> Result<(), Violation> {
        playlist::relative_uri(uri)?;
        let n = segment_number(uri)?;
        let extinf = self
            .extinf
            .take()
            .ok_or_else(|| Violation::new(rules::EXTINF, "none", "EXTINF before the URI").at(n))?;
        ensure(self.mapped, rules::MAP, "none", "EXT-X-MAP before the first segment")?;
        let discontinuity = std::mem::take(&mut self.discontinuity);
        let date_micros = match (self.date_micros.take(), self.entries.last()) {
            (Some(given), _) => given,
            (None, Some(last)) if !discontinuity => last.date_micros + seconds_to_micros(&last.extinf),
            _ => {
                let wanted = "one on the first segment and after a DISCONTINUITY";
                return Err(Violation::new(rules::PROGRAM_DATE_TIME, "none", wanted).at(n));
            }
        };
        let before =
            self.entries.last().map_or(self.discontinuity_sequence, |last| last.discontinuity_sequence);
        self.entries.push(Entry {
            n,
            media_sequence: self.media_sequence + self.entries.len() as u64,
            discontinuity_sequence: before + u64::from(discontinuity),
            extinf,
            date_micros,
            discontinuity,
            gap: std::mem::take(&mut self.gap),
        });
        Ok(())
    }
}

/// `<n>.m4s`, n in decimal without leading zeros.
fn segment_number(uri: &str) -> Result<u64, Violation> {
    let digits = uri.strip_suffix(".m4s").unwrap_or_default();
    let n = digits.parse::<u64>().ok().filter(|n| n.to_string() == digits);
    n.ok_or_else(|| Violation::new(rules::SEGMENT_NUMBER, format!("{uri:?}"), "<n>.m4s"))
}

fn seconds_to_micros(text: &str) -> i64 {
    text.parse::<f64>().map_or(0, |seconds| (seconds * 1e6).round() as i64)
}

impl MediaPlaylist {
    /// Path of a segment in the stream tree.
    pub fn path(&self, n: u64) -> String {
        format!("{}/{n}.m4s", self.directory)
    }

    /// Judges what needs no past.
    pub fn judge(&self, expectations: &Expectations) -> Result<(), Violation> {
        let wanted = expectations.extinf();
        for entry in &self.entries {
            let extinf = entry.extinf.as_str();
            ensure_eq(rules::EXTINF, "EXTINF", extinf, wanted.as_str()).map_err(|v| v.at(entry.n))?;
            let gap_legal = !entry.gap || expectations.gaps_allowed;
            ensure(gap_legal, rules::GAP, "EXT-X-GAP", "a segment").map_err(|v| v.at(entry.n))?;
            self.judge_epoch(entry, expectations)?;
        }
        let rounded = expectations.segment_seconds().round() as u64;
        let (found, wanted) = (self.target_duration, format!("{rounded} or more"));
        ensure(self.target_duration >= rounded, rules::TARGETDURATION, found, wanted)?;
        let (first, mut jumped) = (&self.entries[0], false);
        ensure_eq(rules::SEGMENT_NUMBER, "the first file with MEDIA-SEQUENCE", first.n, self.media_sequence)?;
        for pair in self.entries.windows(2) {
            jumped |= pair[1].discontinuity;
            judge_step(&pair[0], &pair[1], expectations).map_err(|v| v.at(pair[1].n))?;
            let indexed = jumped || pair[1].n == pair[1].media_sequence;
            ensure(indexed, rules::SEGMENT_NUMBER, pair[1].n, pair[1].media_sequence)
                .map_err(|v| v.at(pair[1].n))?;
        }
        Ok(())
    }

    fn judge_epoch(&self, entry: &Entry, expectations: &Expectations) -> Result<(), Violation> {
        if !expectations.epoch_locked {
            return Ok(());
        }
        let wanted = entry.n as i64 * expectations.segment_micros();
        let off = (entry.date_micros - wanted).unsigned_abs() / 1000;
        ensure(
            off <= expectations.pdt_tolerance_ms,
            rules::PROGRAM_DATE_TIME,
            playlist::format_date_time(entry.date_micros),
            format!("{} within {} ms", playlist::format_date_time(wanted), expectations.pdt_tolerance_ms),
        )
        .map_err(|violation| violation.at(entry.n))
    }
}

/// Two neighbours: n and date step by one segment; across a DISCONTINUITY n may jump forward.
fn judge_step(before: &Entry, after: &Entry, expectations: &Expectations) -> Result<(), Violation> {
    let (found, wanted) = (after.n, before.n + 1);
    if after.discontinuity {
        return ensure(found >= wanted, rules::SEGMENT_NUMBER, found, format!("{wanted} or more"));
    }
    ensure_eq(rules::SEGMENT_NUMBER, "file number", found, wanted)?;
    let step = after.date_micros - before.date_micros;
    ensure(
        (step - expectations.segment_micros()).abs() <= DATE_TOLERANCE_MICROS,
        rules::PROGRAM_DATE_TIME,
        format!("a step of {step} us"),
        format!("{} us within 1 ms", expectations.segment_micros()),
    )
}

/// Holds the playlists of all renditions to the same segments, dates and discontinuities.
pub fn alignment(playlists: &BTreeMap<String, MediaPlaylist>) -> Result<(), Violation> {
    let mut all = playlists.iter();
    let Some((first_name, first)) = all.next() else { return Ok(()) };
    for (name, playlist) in all {
        let headers = |p: &MediaPlaylist| (p.target_duration, p.media_sequence, p.discontinuity_sequence);
        ensure_eq(rules::ALIGNMENT, format!("against {first_name}"), headers(playlist), headers(first))
            .map_err(|violation| violation.in_rendition(name))?;
        let lengths = (playlist.entries.len(), first.entries.len());
        let differing = playlist.entries.iter().zip(&first.entries).find(|(entry, other)| entry != other);
        if let Some((entry, other)) = differing {
            let violation = Violation::new(rules::ALIGNMENT, format!("{entry:?}"), format!("{other:?}"));
            return Err(violation.in_rendition(name).at(entry.n));
        }
        ensure_eq(rules::ALIGNMENT, format!("segments against {first_name}"), lengths.0, lengths.1)
            .map_err(|violation| violation.in_rendition(name))?;
    }
    Ok(())
}
