//! The rules, each with its name and where it is written, and the violation of one.

use std::fmt::{self, Display};

/// One thing the stream must hold to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Stable name, as tests assert it.
    pub name: &'static str,
    /// Standard and section, or the design of the station.
    pub source: &'static str,
}

macro_rules! rules {
    ($($constant:ident $name:literal $source:literal;)*) => {
        $(#[doc = $name] pub const $constant: Rule = Rule { name: $name, source: $source };)*
        /// Every rule there is.
        pub const ALL: &[Rule] = &[$($constant),*];
    };
}

rules! {
    PLAYLIST_SYNTAX "PLAYLIST-SYNTAX" "RFC 8216bis sections 4.1, 4.2";
    PLAYLIST_TAG "PLAYLIST-TAG" "RFC 8216bis section 4.4; the design";
    SECOND_OPINION "SECOND-OPINION" "quick-m3u8 reads the same playlist";
    VERSION "VERSION" "RFC 8216bis sections 4.4.1.2, 8";
    INDEPENDENT_SEGMENTS "INDEPENDENT-SEGMENTS" "RFC 8216bis section 4.4.2.1";
    STREAM_INF "STREAM-INF" "RFC 8216bis section 4.4.6.2";
    RELATIVE_URI "RELATIVE-URI" "the design, section 4";
    BANDWIDTH "BANDWIDTH" "RFC 8216bis section 4.4.6.2: peak segment bit rate";
    AVERAGE_BANDWIDTH "AVERAGE-BANDWIDTH" "RFC 8216bis section 4.4.6.2: average segment bit rate";
    CODECS "CODECS" "RFC 6381 section 3.3";
    TARGETDURATION "TARGETDURATION" "RFC 8216bis sections 4.4.3.1, 6.2.1";
    MEDIA_SEQUENCE "MEDIA-SEQUENCE" "RFC 8216bis sections 4.4.3.2, 6.2.2";
    SEGMENT_NUMBER "SEGMENT-NUMBER" "the design, section 2: MEDIA-SEQUENCE is n";
    ENTRY_CHANGED "ENTRY-CHANGED" "RFC 8216bis section 6.2.1";
    EXTINF "EXTINF" "RFC 8216bis section 4.4.4.1; the design, section 2";
    MAP "MAP" "RFC 8216bis section 4.4.4.5";
    GAP "GAP" "RFC 8216bis section 4.4.4.7";
    PROGRAM_DATE_TIME "PROGRAM-DATE-TIME" "RFC 8216bis section 4.4.4.6; the design, section 2";
    DISCONTINUITY_SEQUENCE "DISCONTINUITY-SEQUENCE" "RFC 8216bis sections 4.4.3.3, 6.2.2";
    WINDOW_LENGTH "WINDOW-LENGTH" "RFC 8216bis section 6.2.2: three target durations";
    ENDLIST "ENDLIST" "RFC 8216bis section 4.4.3.4: the stream never ends";
    PLAYLIST_TYPE "PLAYLIST-TYPE" "RFC 8216bis section 4.4.3.5: a sliding window has none";
    ALIGNMENT "ALIGNMENT" "RFC 8216bis section 6.2.4";
    FETCHABLE "FETCHABLE" "RFC 8216bis section 6.2.2: what is listed is available";
    CONTENT_TYPE "CONTENT-TYPE" "RFC 8216bis section 4; RFC 4337; ISO/IEC 23009-1 annex C";
    SEGMENT_MUTATED "SEGMENT-MUTATED" "RFC 8216bis section 6.2.1; a segment is its CID";
    BOX_SYNTAX "BOX-SYNTAX" "ISO/IEC 14496-12 section 4.2";
    BOX_UNKNOWN "BOX-UNKNOWN" "the design: no box but those named";
    BOX_COUNT "BOX-COUNT" "ISO/IEC 14496-12 section 6.2.3; ISO/IEC 23000-19 section 7.3";
    BOX_FIELD "BOX-FIELD" "ISO/IEC 14496-12 section 8; ISO/IEC 23000-19 section 7.5";
    BRANDS "BRANDS" "ISO/IEC 23000-19 section 7.2";
    EDIT_LIST "EDIT-LIST" "the design: none on a live stream";
    TIMESCALE "TIMESCALE" "the design, section 2: 48 kHz";
    ASC "ASC" "ISO/IEC 14496-3 section 1.6.2; ISO/IEC 14496-1 section 7.2.6";
    EMSG_MISSING "EMSG-MISSING" "the design, section 3: now playing in every segment";
    EMSG_FIELD "EMSG-FIELD" "ISO/IEC 23009-1 section 5.10.3.3; AOM ID3 in CMAF";
    EMSG_TIME "EMSG-TIME" "ISO/IEC 23000-19 section 7.4.5: inside its segment";
    ID3 "ID3" "ID3v2.4.0 sections 3 and 4";
    MFHD_SEQUENCE "MFHD-SEQUENCE" "ISO/IEC 14496-12 section 8.8.5";
    TFHD "TFHD" "ISO/IEC 14496-12 section 8.8.7; ISO/IEC 23000-19 section 7.5.16";
    TFDT_CONTINUITY "TFDT-CONTINUITY" "ISO/IEC 14496-12 section 8.8.12; the design, section 2";
    TRUN "TRUN" "ISO/IEC 14496-12 section 8.8.8";
    TRUN_SIZES "TRUN-SIZES" "ISO/IEC 14496-12 section 8.8.8: the samples are the mdat";
    SEGMENT_DURATION "SEGMENT-DURATION" "the design, section 2: 180 or 90 frames of 1,024";
    SAMPLE_FLAGS "SAMPLE-FLAGS" "ISO/IEC 14496-12 section 8.8.3.1: every AAC frame is a sync sample";
    ACCESS_UNIT "ACCESS-UNIT" "ISO/IEC 14496-3 section 4.5.3: 1 to 6,144 bits per channel";
    SOMETHING_JUDGED "SOMETHING-JUDGED" "a check of nothing is no check";
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// Rendition, when it lies in one.
    pub rendition: Option<String>,
    /// Segment number, when it lies in one.
    pub n: Option<u64>,
    /// What stood there.
    pub found: String,
    /// What should have.
    pub wanted: String,
}

impl Violation {
    /// A violation not yet tied to a rendition or a segment.
    pub fn new(rule: Rule, found: impl Display, wanted: impl Display) -> Self {
        Self { rule, rendition: None, n: None, found: found.to_string(), wanted: wanted.to_string() }
    }

    /// Ties it to a rendition, unless it is tied to one.
    pub fn in_rendition(mut self, name: &str) -> Self {
        self.rendition.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Ties it to segment n, unless it is tied to one.
    pub fn at(mut self, n: u64) -> Self {
        self.n.get_or_insert(n);
        self
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violated", self.rule.name)?;
        if let Some(rendition) = &self.rendition {
            write!(f, " in {rendition}")?;
        }
        if let Some(n) = self.n {
            write!(f, " at segment {n}")?;
        }
        write!(f, ": found {}, wanted {} ({})", self.found, self.wanted, self.rule.source)
    }
}

impl std::error::Error for Violation {}

/// Holds a condition, or names the rule.
pub fn ensure(holds: bool, rule: Rule, found: impl Display, wanted: impl Display) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(rule, found, wanted)) }
}

/// Holds two values to be the same; `what` names them in the violation.
pub fn ensure_eq<T: PartialEq + fmt::Debug>(
    rule: Rule,
    what: impl Display,
    found: T,
    wanted: T,
) -> Result<(), Violation> {
    if found == wanted {
        return Ok(());
    }
    Err(Violation::new(rule, format!("{what} {found:?}"), format!("{wanted:?}")))
}
