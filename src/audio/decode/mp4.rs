//! Which part of an ISO base media track is the music: encoder priming and padding cut off.
//!
//! The demuxer hands out every sample of the track. What is to be heard stands in the edit list
//! (ISO/IEC 14496-12 section 8.6.6) or in the `iTunSMPB` tag that iTunes writes; only those boxes are
//! read here, by seeking, so a large file costs no memory.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bounds the work that a file of nothing but tiny boxes can cause.
const MOST_BOXES: usize = 4_096;

/// Bounds what is read of any one box; the largest that matters is a tag of 118 characters.
const LONGEST_BODY: u64 = 4_096;

/// The audible part of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// First audible tick.
    pub(super) start: u64,
    /// Audible ticks, when the file tells.
    pub(super) length: Option<u64>,
    /// Ticks per second of both.
    pub(super) timescale: u32,
}

/// A box: its type and where its contents lie in the file.
type Atom = ([u8; 4], Range<u64>);

/// Finds the audible part of the track with this `track_ID`; `None` when the file does not say, or
/// is no such file.
pub(super) fn audible_span<F: Read + Seek>(file: &mut F, track_id: u32) -> Option<Span> {
    let end = file.seek(SeekFrom::End(0)).ok()?;
    let moov = child(file, 0..end, b"moov")?;
    let track = children(file, moov.clone())
        .into_iter()
        .filter(|(kind, _)| kind == b"trak")
        .find_map(|(_, trak)| Track::read(file, trak).filter(|track| track.id == track_id))?;
    let tag = gapless_tag(file, moov.clone()).and_then(|text| parse_gapless_tag(&text));
    if let Some((start, length)) = tag.filter(|tag| track.agrees_with(tag)) {
        return Some(Span { start, length: Some(length.1), timescale: track.timescale });
    }
    let movie_timescale = movie_timescale(file, moov)?;
    track.span_of_edit(movie_timescale)
}

struct Track {
    id: u32,
    /// `mdhd`: ticks per second, and ticks of all samples together.
    timescale: u32,
    duration: u64,
    edits: Vec<Edit>,
}

/// One entry of the edit list.
struct Edit {
    /// In ticks of the movie.
    segment_duration: u64,
    /// In ticks of the track; -1 is an empty edit.
    media_time: i64,
}

impl Track {
    fn read<F: Read + Seek>(file: &mut F, trak: Range<u64>) -> Option<Track> {
        let tkhd = child(file, trak.clone(), b"tkhd")?;
        let tkhd = body(file, tkhd).ok()?;
        let id = be32(&tkhd, if tkhd.first()? == &1 { 20 } else { 12 })?;
        let mdia = child(file, trak.clone(), b"mdia")?;
        let mdhd = child(file, mdia, b"mdhd")?;
        let (timescale, duration) = timescale_and_duration(&body(file, mdhd).ok()?)?;
        let edits = child(file, trak, b"edts")
            .and_then(|edts| child(file, edts, b"elst"))
            .and_then(|elst| body(file, elst).ok())
            .and_then(|elst| parse_edits(&elst))
            .unwrap_or_default();
        Some(Track { id, timescale, duration, edits })
    }

    /// A tag copied over from another file does not add up to this track and is not believed.
    fn agrees_with(&self, (delay, (padding, length)): &(u64, (u64, u64))) -> bool {
        const ONE_PACKET_MORE_OR_LESS: u64 = 2_048;
        let told = delay.saturating_add(*padding).saturating_add(*length);
        told.abs_diff(self.duration) <= ONE_PACKET_MORE_OR_LESS
    }

    /// The span of the one edit with content. Movie ticks may be as coarse as a millisecond: where
    /// the edit ends within one of them of the end of the track, the end of the track is meant.
    fn span_of_edit(&self, movie_timescale: u32) -> Option<Span> {
        let mut with_content = self.edits.iter().filter(|edit| edit.media_time >= 0);
        let edit = with_content.next()?;
        let start = u64::try_from(edit.media_time).ok()?;
        let only_one = with_content.next().is_none();
        let ticks =
            |movie: u64| u128::from(movie) * u128::from(self.timescale) / u128::from(movie_timescale.max(1));
        let length = u64::try_from(ticks(edit.segment_duration)).ok()?;
        let rest = self.duration.saturating_sub(start);
        let coarse = u64::try_from(ticks(1)).unwrap_or(0) + 1;
        let length = match length {
            0 => None,
            length if length.abs_diff(rest) <= coarse => Some(rest),
            length => Some(length),
        };
        Some(Span { start, length: length.filter(|_| only_one), timescale: self.timescale })
    }
}

fn movie_timescale<F: Read + Seek>(file: &mut F, moov: Range<u64>) -> Option<u32> {
    let mvhd = child(file, moov, b"mvhd")?;
    timescale_and_duration(&body(file, mvhd).ok()?).map(|(timescale, _)| timescale)
}

/// The fields that `mvhd` and `mdhd` have in the same places.
fn timescale_and_duration(header: &[u8]) -> Option<(u32, u64)> {
    let (timescale, duration) = match header.first()? {
        1 => (be32(header, 20)?, be64(header, 24)?),
        _ => (be32(header, 12)?, u64::from(be32(header, 16)?)),
    };
    (timescale > 0).then_some((timescale, duration))
}

fn parse_edits(elst: &[u8]) -> Option<Vec<Edit>> {
    let count = be32(elst, 4)?;
    let wide = elst.first()? == &1;
    let entry = |index: usize| {
        Some(if wide {
            let at = 8 + index * 20;
            Edit { segment_duration: be64(elst, at)?, media_time: be64(elst, at + 8)? as i64 }
        } else {
            let at = 8 + index * 12;
            let media_time = i64::from(be32(elst, at + 4)? as i32);
            Edit { segment_duration: u64::from(be32(elst, at)?), media_time }
        })
    };
    (0..usize::try_from(count).ok()?.min(64)).map(entry).collect()
}

/// The text of `moov/udta/meta/ilst/----` with the name `iTunSMPB`.
fn gapless_tag<F: Read + Seek>(file: &mut F, moov: Range<u64>) -> Option<String> {
    const FULL_BOX_HEADER: u64 = 4;
    const DATA_HEADER: usize = 8;
    let udta = child(file, moov, b"udta")?;
    let meta = child(file, udta, b"meta")?;
    let ilst = child(file, meta.start + FULL_BOX_HEADER..meta.end, b"ilst")?;
    for (_, item) in children(file, ilst).into_iter().filter(|(kind, _)| kind == b"----") {
        let name = child(file, item.clone(), b"name").and_then(|name| body(file, name).ok());
        if name.is_some_and(|name| name.ends_with(b"iTunSMPB")) {
            let data = child(file, item, b"data").and_then(|data| body(file, data).ok())?;
            return String::from_utf8(data.get(DATA_HEADER..)?.to_vec()).ok();
        }
    }
    None
}

/// Priming, padding and length: the second to fourth of the hexadecimal words.
fn parse_gapless_tag(text: &str) -> Option<(u64, (u64, u64))> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let mut word = || u64::from_str_radix(words.next()?, 16).ok();
    let (delay, padding, length) = (word()?, word()?, word()?);
    (length > 0).then_some((delay, (padding, length)))
}

fn child<F: Read + Seek>(file: &mut F, within: Range<u64>, kind: &[u8; 4]) -> Option<Range<u64>> {
    children(file, within).into_iter().find(|(found, _)| found == kind).map(|(_, body)| body)
}

/// The boxes directly inside a range. A box that claims more than its parent has ends the list.
fn children<F: Read + Seek>(file: &mut F, within: Range<u64>) -> Vec<Atom> {
    let mut found = Vec::new();
    let mut at = within.start;
    while found.len() < MOST_BOXES {
        match next_box(file, at..within.end) {
            Ok(Some((kind, body))) => {
                at = body.end;
                found.push((kind, body));
            }
            Ok(None) | Err(_) => break,
        }
    }
    found
}

fn next_box<F: Read + Seek>(file: &mut F, within: Range<u64>) -> io::Result<Option<Atom>> {
    if within.end.saturating_sub(within.start) < 8 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(within.start))?;
    let mut header = [0; 8];
    file.read_exact(&mut header)?;
    let [s0, s1, s2, s3, kind @ ..] = header;
    let (header_length, length) = match u32::from_be_bytes([s0, s1, s2, s3]) {
        0 => (8, within.end - within.start),
        1 => {
            let mut large = [0; 8];
            file.read_exact(&mut large)?;
            (16, u64::from_be_bytes(large))
        }
        length => (8, u64::from(length)),
    };
    let end = within.start.saturating_add(length);
    let fits = length >= header_length && end <= within.end;
    Ok(fits.then(|| (kind, within.start + header_length..end)))
}

fn body<F: Read + Seek>(file: &mut F, range: Range<u64>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    let length = (range.end - range.start).min(LONGEST_BODY);
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn atom(kind: &[u8; 4], parts: &[Vec<u8>]) -> Vec<u8> {
        let length: usize = 8 + parts.iter().map(Vec::len).sum::<usize>();
        let mut bytes = (length as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend(parts.concat());
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn movie(movie_timescale: u32, duration: u32, edit: Option<(u32, i32)>, tag: &str) -> Vec<u8> {
        let mvhd = atom(b"mvhd", &[words(&[0, 0, 0, movie_timescale, 0])]);
        let tkhd = atom(b"tkhd", &[words(&[0, 0, 0, 7, 0])]);
        let mdhd = atom(b"mdhd", &[words(&[0, 0, 0, 44_100, duration])]);
        let mut trak = vec![tkhd, atom(b"mdia", &[mdhd])];
        if let Some((length, media_time)) = edit {
            let elst = atom(b"elst", &[words(&[0, 1, length, media_time as u32, 0x1_0000])]);
            trak.push(atom(b"edts", &[elst]));
        }
        let name = atom(b"name", &[words(&[0]), b"iTunSMPB".to_vec()]);
        let data = atom(b"data", &[words(&[1, 0]), tag.as_bytes().to_vec()]);
        let ilst = atom(b"ilst", &[atom(b"----", &[name, data])]);
        let udta = atom(b"udta", &[atom(b"meta", &[words(&[0]), ilst])]);
        atom(b"moov", &[mvhd, atom(b"trak", &trak), udta])
    }

    fn span(movie: Vec<u8>) -> Option<(u64, Option<u64>)> {
        audible_span(&mut Cursor::new(movie), 7).map(|span| (span.start, span.length))
    }

    #[test]
    fn edit_in_milliseconds_ends_where_the_track_ends() {
        let movie = movie(1_000, 1_024 + 44_117, Some((1_000, 1_024)), "");
        assert_eq!(span(movie), Some((1_024, Some(44_117))));
    }

    #[test]
    fn edit_that_ends_before_the_track_is_kept() {
        let movie = movie(44_100, 50 * 1_024, Some((44_101, 2_112)), "");
        assert_eq!(span(movie), Some((2_112, Some(44_101))));
    }

    #[test]
    fn itunes_tag_wins_when_it_adds_up() {
        let tag = " 00000000 00000840 0000037C 000000000000AC44 00000000";
        let whole = 0x840 + 0x37c + 0xac44;
        assert_eq!(span(movie(600, whole, None, tag)), Some((0x840, Some(0xac44))));
        assert_eq!(span(movie(600, whole + 9_000, None, tag)), None, "another file's tag");
    }

    #[test]
    fn files_without_either_are_left_as_they_are() {
        assert_eq!(span(movie(600, 44_100, None, "")), None);
        assert_eq!(span(b"no boxes at all, only text".to_vec()), None);
        let whole = movie(1_000, 45_141, Some((1_000, 1_024)), "");
        for length in 0..whole.len() {
            span(whole[..length].to_vec());
        }
    }
}
