//! Negative controls: a source whose bytes are spoilt in one way on their way to the checker. A checker that passes
//! a tampered stream proves nothing about an untouched one.

use super::boxes::Fields;
use super::playlist::{date_time, format_date_time};
use super::rules::{self, Rule};
use super::source::{Fetched, Source};
use super::synth::boxed;

/// Ways to spoil a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// A listed segment is not there.
    RemoveSegment,
    /// An entry in the middle of the playlist is missing.
    RemoveEntry,
    /// One segment starts a sample late.
    ShiftTfdt,
    /// CODECS says HE-AAC.
    WrongCodecs,
    /// BANDWIDTH is 1 bit/s.
    LowBandwidth,
    /// AVERAGE-BANDWIDTH is 1 bit/s.
    LowAverageBandwidth,
    /// TARGETDURATION grows after the first reading.
    ChangeTargetDuration,
    /// An EXTINF is a microsecond long of the mark.
    WrongExtinf,
    /// One rendition lacks the newest segment.
    Unalign,
    /// MEDIA-SEQUENCE falls after the first reading.
    SequenceBack,
    /// Dates step by two seconds without a DISCONTINUITY.
    PdtJump,
    /// DISCONTINUITY-SEQUENCE grows though nothing left.
    WrongDiscontinuitySequence,
    /// An entry seen without a DISCONTINUITY gets one.
    ChangeEntry,
    /// Bytes that are no box follow the last.
    TrailingBytes,
    /// A box that nobody knows stands first.
    UnknownBox,
    /// A sample size is one byte off.
    TrunSizes,
    /// No now-playing.
    RemoveEmsg,
    /// The event belongs to another segment.
    EmsgOutside,
    /// An ID3 size that is not syncsafe.
    BadId3,
    /// A byte of audio changes after the first reading.
    MutateSegment,
    /// The stream ends.
    Endlist,
    /// Segments as text/plain.
    WrongContentType,
    /// The init segment says 44.1 kHz.
    WrongAsc,
    /// The init segment has an edit list.
    EditList,
}

impl Tamper {
    /// All of them.
    pub const ALL: [Tamper; 24] = [
        Tamper::RemoveSegment,
        Tamper::RemoveEntry,
        Tamper::ShiftTfdt,
        Tamper::WrongCodecs,
        Tamper::LowBandwidth,
        Tamper::LowAverageBandwidth,
        Tamper::ChangeTargetDuration,
        Tamper::WrongExtinf,
        Tamper::Unalign,
        Tamper::SequenceBack,
        Tamper::PdtJump,
        Tamper::WrongDiscontinuitySequence,
        Tamper::ChangeEntry,
        Tamper::TrailingBytes,
        Tamper::UnknownBox,
        Tamper::TrunSizes,
        Tamper::RemoveEmsg,
        Tamper::EmsgOutside,
        Tamper::BadId3,
        Tamper::MutateSegment,
        Tamper::Endlist,
        Tamper::WrongContentType,
        Tamper::WrongAsc,
        Tamper::EditList,
    ];

    /// The rule that must name it.
    pub fn rule(self) -> Rule {
        match self {
            Tamper::RemoveSegment => rules::FETCHABLE,
            Tamper::RemoveEntry => rules::SEGMENT_NUMBER,
            Tamper::ShiftTfdt => rules::TFDT_CONTINUITY,
            Tamper::WrongCodecs => rules::CODECS,
            Tamper::LowBandwidth => rules::BANDWIDTH,
            Tamper::LowAverageBandwidth => rules::AVERAGE_BANDWIDTH,
            Tamper::ChangeTargetDuration => rules::TARGETDURATION,
            Tamper::WrongExtinf => rules::EXTINF,
            Tamper::Unalign => rules::ALIGNMENT,
            Tamper::SequenceBack => rules::MEDIA_SEQUENCE,
            Tamper::PdtJump => rules::PROGRAM_DATE_TIME,
            Tamper::WrongDiscontinuitySequence => rules::DISCONTINUITY_SEQUENCE,
            Tamper::ChangeEntry => rules::ENTRY_CHANGED,
            Tamper::TrailingBytes => rules::BOX_SYNTAX,
            Tamper::UnknownBox => rules::BOX_UNKNOWN,
            Tamper::TrunSizes => rules::TRUN_SIZES,
            Tamper::RemoveEmsg => rules::EMSG_MISSING,
            Tamper::EmsgOutside => rules::EMSG_TIME,
            Tamper::BadId3 => rules::ID3,
            Tamper::MutateSegment => rules::SEGMENT_MUTATED,
            Tamper::Endlist => rules::ENDLIST,
            Tamper::WrongContentType => rules::CONTENT_TYPE,
            Tamper::WrongAsc => rules::ASC,
            Tamper::EditList => rules::EDIT_LIST,
        }
    }

    /// Shows only from the second poll on: the first must be untouched.
    pub fn needs_two_polls(self) -> bool {
        matches!(
            self,
            Tamper::ChangeTargetDuration
                | Tamper::SequenceBack
                | Tamper::WrongDiscontinuitySequence
                | Tamper::ChangeEntry
                | Tamper::MutateSegment
        )
    }
}

/// A source with one tampering in one rendition. It picks the newest segment of the first playlist that passes. Use it
/// on polls less than a window apart, with `refetch_per_poll` as long as the window for [`Tamper::MutateSegment`].
#[derive(Debug)]
pub struct TamperedSource<S> {
    /// The untouched source; a test may replace it between polls.
    pub inner: S,
    tamper: Tamper,
    rendition: String,
    target: Option<u64>,
    playlists_read: usize,
    target_read: usize,
}

impl<S: Source> TamperedSource<S> {
    /// Spoils `rendition`, a directory name.
    pub fn new(inner: S, tamper: Tamper, rendition: &str) -> Self {
        let rendition = rendition.to_owned();
        Self { inner, tamper, rendition, target: None, playlists_read: 0, target_read: 0 }
    }

    fn tamper_media_playlist(&mut self, text: &str) -> Option<String> {
        let newest = text.lines().rev().find_map(|line| line.strip_suffix(".m4s")?.parse().ok())?;
        self.target.get_or_insert(newest);
        self.playlists_read += 1;
        if self.tamper.needs_two_polls() && self.playlists_read == 1 {
            return None;
        }
        let lines: Vec<&str> = text.lines().collect();
        let changed = match self.tamper {
            Tamper::RemoveEntry => without_entry(&lines, entry_count(&lines) / 2),
            Tamper::Unalign => without_entry(&lines, entry_count(&lines) - 1),
            Tamper::ChangeTargetDuration => with_number(&lines, "#EXT-X-TARGETDURATION:", |value| value + 1)?,
            Tamper::SequenceBack => {
                with_number(&lines, "#EXT-X-MEDIA-SEQUENCE:", |value| value.saturating_sub(1000))?
            }
            Tamper::WrongExtinf => text.replacen("0000,", "0001,", 1),
            Tamper::PdtJump => with_late_date(&lines)?,
            Tamper::WrongDiscontinuitySequence => {
                let tag = "#EXT-X-DISCONTINUITY-SEQUENCE:";
                let given = with_number(&lines, tag, |value| value + 1);
                given.unwrap_or_else(|| text.replacen("#EXTM3U\n", &format!("#EXTM3U\n{tag}1\n"), 1))
            }
            Tamper::ChangeEntry => with_discontinuity(&lines, self.target?),
            Tamper::Endlist => format!("{text}#EXT-X-ENDLIST\n"),
            _ => return None,
        };
        Some(changed)
    }

    fn tamper_stream_inf(&self, text: &str) -> Option<String> {
        let lines: Vec<&str> = text.lines().collect();
        let uri = lines.iter().position(|line| line.starts_with(&format!("{}/", self.rendition)))?;
        let inf = lines[uri.checked_sub(1)?];
        let changed = match self.tamper {
            Tamper::WrongCodecs => inf.replace("mp4a.40.2", "mp4a.40.5"),
            Tamper::LowBandwidth => with_attribute(inf, ":BANDWIDTH=", ",BANDWIDTH=", |_| 1)?,
            Tamper::LowAverageBandwidth => {
                with_attribute(inf, ":AVERAGE-BANDWIDTH=", ",AVERAGE-BANDWIDTH=", |_| 1)?
            }
            _ => return None,
        };
        Some(text.replacen(inf, &changed, 1))
    }

    fn tamper_target(&mut self, fetched: &mut Fetched) -> Option<()> {
        self.target_read += 1;
        let bytes = &mut fetched.body;
        match self.tamper {
            Tamper::RemoveSegment => *fetched = Fetched { status: 404, content_type: None, body: Vec::new() },
            Tamper::WrongContentType => fetched.content_type = Some("text/plain".to_owned()),
            Tamper::ShiftTfdt => {
                let tfdt = find(bytes, &["moof", "traf", "tfdt"])?;
                add(bytes, tfdt.0 + 12, 8, 1);
            }
            Tamper::TrailingBytes => bytes.extend([0; 4]),
            Tamper::UnknownBox => {
                bytes.splice(0..0, boxed(b"skyw", &[b"?"]));
            }
            Tamper::TrunSizes => {
                let trun = find(bytes, &["moof", "traf", "trun"])?;
                add(bytes, trun.0 + trun.1 - 4, 4, 1);
            }
            Tamper::RemoveEmsg => {
                while let Some((start, size)) = find(bytes, &["emsg"]) {
                    bytes.drain(start..start + size);
                }
            }
            Tamper::EmsgOutside => {
                let emsg = find(bytes, &["emsg"])?;
                add(bytes, emsg.0 + 16, 8, 10_000_000);
            }
            Tamper::BadId3 => {
                let tag = bytes.windows(4).position(|window| window == b"ID3\x04")?;
                bytes[tag + 9] |= 0x80;
            }
            Tamper::MutateSegment if self.target_read > 1 => *bytes.last_mut()? ^= 1,
            _ => return None,
        }
        Some(())
    }

    fn tamper_init(&self, bytes: &mut Vec<u8>) -> Option<()> {
        match self.tamper {
            Tamper::WrongAsc => {
                let asc = rfind(bytes, &[2, 0x11, 0x90])? + 1;
                bytes[asc..asc + 2].copy_from_slice(&[0x12, 0x10]);
            }
            Tamper::EditList => {
                let entry = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0];
                let edts = boxed(b"edts", &[&boxed(b"elst", &[&entry])]);
                let (moov, trak) = (find(bytes, &["moov"])?, find(bytes, &["moov", "trak"])?);
                let tkhd = find(bytes, &["moov", "trak", "tkhd"])?;
                for (start, _) in [moov, trak] {
                    add(bytes, start, 4, edts.len() as u64);
                }
                let at = tkhd.0 + tkhd.1;
                bytes.splice(at..at, edts);
            }
            _ => return None,
        }
        Some(())
    }
}

impl<S: Source> Source for TamperedSource<S> {
    fn get(&mut self, path: &str) -> Result<Fetched, String> {
        let mut fetched = self.inner.get(path)?;
        let below = path.strip_prefix(&self.rendition).and_then(|rest| rest.strip_prefix('/'));
        if path == "stream.m3u8" || path.ends_with("/live.m3u8") && below.is_some() {
            let text = String::from_utf8_lossy(&fetched.body).into_owned();
            let changed = match below {
                Some(_) => self.tamper_media_playlist(&text),
                None => self.tamper_stream_inf(&text),
            };
            if let Some(changed) = changed {
                fetched.body = changed.into_bytes();
            }
        } else if below == Some("init.mp4") {
            self.tamper_init(&mut fetched.body);
        } else if below.is_some() && below == self.target.map(|n| format!("{n}.m4s")).as_deref() {
            self.tamper_target(&mut fetched);
        }
        Ok(fetched)
    }
}

/// Where a pattern stands last.
fn rfind(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).rposition(|window| window == pattern)
}

/// Offset and size of the first box on a path.
fn find(bytes: &[u8], path: &[&str]) -> Option<(usize, usize)> {
    let mut fields = Fields::of_file(bytes);
    let mut found = None;
    for name in path {
        loop {
            let next = fields.next_box().ok()??;
            if next.name == *name {
                found = Some((next.offset, next.size));
                fields = next.fields;
                break;
            }
        }
    }
    found
}

/// Adds to a big-endian integer in place.
fn add(bytes: &mut [u8], at: usize, width: usize, amount: u64) {
    let value = bytes[at..at + width].iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
    let changed = value.wrapping_add(amount).to_be_bytes();
    bytes[at..at + width].copy_from_slice(&changed[8 - width..]);
}

fn joined(lines: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n")
}

fn entry_count(lines: &[&str]) -> usize {
    lines.iter().filter(|line| line.ends_with(".m4s")).count()
}

/// Drops the entry of that index, its tags with it.
fn without_entry(lines: &[&str], index: usize) -> String {
    let mut seen = 0;
    joined(lines.iter().filter(|line| {
        let segment_tag = ["#EXTINF", "#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-DISCONTINUITY"]
            .iter()
            .any(|tag| line.split(':').next() == Some(tag));
        let uri = line.ends_with(".m4s");
        let dropped = (segment_tag || uri) && seen == index;
        seen += usize::from(uri);
        !dropped
    }))
}

fn with_number(lines: &[&str], tag: &str, change: impl Fn(u64) -> u64) -> Option<String> {
    let at = lines.iter().position(|line| line.starts_with(tag))?;
    let value: u64 = lines[at][tag.len()..].parse().ok()?;
    let changed = format!("{tag}{}", change(value));
    Some(joined(lines.iter().enumerate().map(|(i, line)| if i == at { changed.as_str() } else { line })))
}

/// Changes a number in an attribute list, wherever in the list it stands.
fn with_attribute(inf: &str, first: &str, later: &str, change: impl Fn(u64) -> u64) -> Option<String> {
    let prefix = if inf.contains(first) { first } else { later };
    let start = inf.find(prefix)? + prefix.len();
    let end = inf[start..].find(',').map_or(inf.len(), |comma| start + comma);
    let value: u64 = inf[start..end].parse().ok()?;
    Some(format!("{}{}{}", &inf[..start], change(value), &inf[end..]))
}

/// Moves the last date by two seconds, or gives the last segment one that is so far off.
fn with_late_date(lines: &[&str]) -> Option<String> {
    const TAG: &str = "#EXT-X-PROGRAM-DATE-TIME:";
    let dates: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with(TAG)).collect();
    let at = *dates.last()?;
    let late = date_time(&lines[at][TAG.len()..])? + 2_000_000;
    let changed = format!("{TAG}{}", format_date_time(late));
    let mut lines: Vec<&str> = lines.to_vec();
    if dates.len() > 1 {
        lines[at] = &changed;
    } else {
        let last = lines.iter().rposition(|line| line.starts_with("#EXTINF"))?;
        lines.insert(last, &changed);
    }
    Some(joined(lines))
}

fn with_discontinuity(lines: &[&str], n: u64) -> String {
    let uri = format!("{n}.m4s");
    let at = lines.iter().position(|line| *line == uri).unwrap_or(lines.len());
    let mut lines = lines.to_vec();
    let extinf = lines[..at].iter().rposition(|line| line.starts_with("#EXTINF")).unwrap_or(at);
    lines.insert(extinf, "#EXT-X-DISCONTINUITY");
    joined(lines)
}
