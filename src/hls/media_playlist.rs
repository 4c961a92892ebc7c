//! Media playlists (RFC 8216 section 4.3; draft-pantos-hls-rfc8216bis for EXT-X-PROGRAM-DATE-TIME per segment). Pure.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, UNIX_EPOCH};

use crate::encoder::SAMPLE_RATE;

/// `EXT-X-VERSION`: EXT-X-MAP without EXT-X-I-FRAMES-ONLY needs 6, fMP4 players expect 7.
pub const VERSION: u8 = 7;

/// 9999-12-31T23:59:59Z in Unix milliseconds: ISO 8601 has four digits for the year. A clock that is further off must
/// not take the playlist down.
const LAST_DATE_MS: i64 = 253_402_300_799_000;

/// One media segment of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSegment {
    /// Media sequence number, and stem of the file name.
    pub n: u64,
    /// `EXTINF` in samples per channel at 48 kHz.
    pub duration_samples: u64,
    /// `EXT-X-PROGRAM-DATE-TIME` of its first sample in milliseconds of Unix time.
    pub program_date_time_ms: i64,
    /// `EXT-X-DISCONTINUITY` before it.
    pub discontinuity: bool,
}

/// A live media playlist; printed by [`Display`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// `EXT-X-TARGETDURATION` in seconds; must never change while the station lives.
    pub target_duration: u64,
    /// `EXT-X-MEDIA-SEQUENCE`: the number of the first segment listed.
    pub media_sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`: how many discontinuities have left the playlist.
    pub discontinuity_sequence: u64,
    /// The segments, oldest first.
    pub segments: Vec<MediaSegment>,
}

impl Display for MediaPlaylist {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{VERSION}")?;
        writeln!(f, "#EXT-X-TARGETDURATION:{}", self.target_duration)?;
        writeln!(f, "#EXT-X-MEDIA-SEQUENCE:{}", self.media_sequence)?;
        writeln!(f, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuity_sequence)?;
        writeln!(f, "#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"")?;
        for segment in &self.segments {
            if segment.discontinuity {
                writeln!(f, "#EXT-X-DISCONTINUITY")?;
            }
            let begin = UNIX_EPOCH
                + Duration::from_millis(segment.program_date_time_ms.clamp(0, LAST_DATE_MS) as u64);
            writeln!(f, "#EXT-X-PROGRAM-DATE-TIME:{}", humantime::format_rfc3339_millis(begin))?;
            writeln!(f, "#EXTINF:{},\n{}.m4s", Seconds(segment.duration_samples), segment.n)?;
        }
        Ok(())
    }
}

/// Samples at 48 kHz, printed as seconds with six decimals, without a float in between.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let micros = self.0 * 1_000_000 / u64::from(SAMPLE_RATE);
        write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn playlist(first: u64, count: u64, cut: Option<u64>) -> MediaPlaylist {
        let segment = |n| MediaSegment {
            n,
            duration_samples: 184_320,
            program_date_time_ms: n as i64 * 3_840 - 43,
            discontinuity: cut == Some(n),
        };
        MediaPlaylist {
            target_duration: 4,
            media_sequence: first,
            discontinuity_sequence: 2,
            segments: (first..first + count).map(segment).collect(),
        }
    }

    #[test]
    fn a_playlist_reads_as_the_specification_writes_it() {
        let text = playlist(466_900_000, 2, Some(466_900_001)).to_string();
        assert_eq!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:466900000\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:2\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-10-25T02:39:59.957Z\n#EXTINF:3.840000,\n466900000.m4s\n\
             #EXT-X-DISCONTINUITY\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-10-25T02:40:03.797Z\n#EXTINF:3.840000,\n466900001.m4s\n"
        );
    }

    proptest! {
        #[test]
        fn another_parser_reads_back_what_was_written(first in 0_u64..60_000_000_000, count in 1_u64..40) {
            let text = playlist(first, count, Some(first)).to_string();
            let uris: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect();
            prop_assert_eq!(uris.len() as u64, count);
            let mut reader = quick_m3u8::Reader::from_str(&text, quick_m3u8::config::ParsingOptions::default());
            let mut lines = 0;
            while let Ok(Some(_)) = reader.read_line() {
                lines += 1;
            }
            prop_assert_eq!(lines, text.lines().count());
        }
    }
}
