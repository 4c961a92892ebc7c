//! What the archive writes down of a minute on air: the record in front of its blocks. Pure.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::ipfs::Block;
use crate::publisher::stream_tree::Entry;

/// Multicodec of JSON: what tells a record from a block.
pub(super) const JSON: u64 = 0x0200;
/// Shape of a record; another one is not read.
const VERSION: u32 = 1;
const SAMPLE_RATE: u64 = 48_000;
/// What a record may claim: blocks and files of the sizes that have a place ([`super::index`]), segments of an hour.
/// Sums of these stay far within 64 bits.
const LARGEST_BLOCK: u64 = 1 << 24;
const LARGEST_FOLDER: u64 = 1 << 40;
const LONGEST_SEGMENT: u64 = 3600 * SAMPLE_RATE;
/// 9999-12-31T23:59:59Z: a date has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// A record, and by its contents the blocks that follow it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    /// The renditions of the segments, in the order of their media.
    pub(super) renditions: Vec<Rendition>,
    /// The segments, oldest first.
    pub(super) segments: Vec<Segment>,
    /// Folders of the hour, once it is over: the rendition and the directory.
    pub(super) folders: Vec<(String, Entry)>,
    /// Blocks that stand between the record and the media, with their bytes.
    pub(super) others: Vec<Entry>,
}

/// How a rendition was coded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rendition {
    /// Name of its folder.
    pub name: String,
    /// `CODECS` (RFC 6381).
    pub codecs: String,
    /// `init.mp4`.
    pub init: Entry,
}

/// A segment that was on air.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Segment {
    pub(super) n: u64,
    /// `EXT-X-PROGRAM-DATE-TIME` in Unix milliseconds.
    pub(super) program_date_time_ms: i64,
    pub(super) samples: u64,
    pub(super) discontinuity: bool,
    /// The file of each rendition.
    pub(super) media: Vec<Entry>,
}

impl Record {
    pub(super) fn new(renditions: Vec<Rendition>, segments: Vec<Segment>, others: Vec<Entry>) -> Self {
        Self { version: VERSION, renditions, segments, others, ..Self::default() }
    }

    /// The record at the end of an hour.
    pub(super) fn closing(folders: Vec<(String, Entry)>, others: Vec<Entry>) -> Self {
        Self { version: VERSION, folders, others, ..Self::default() }
    }

    /// The blocks that follow it, in order, with their bytes.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Entry> {
        self.others.iter().chain(self.segments.iter().flat_map(|segment| &segment.media))
    }

    pub(super) fn to_block(&self) -> Block {
        let json = serde_json::to_vec(self).expect("a record has no map with odd keys");
        Block::of(JSON, Bytes::from(json))
    }

    /// `None` for bytes that are not a record of this version, or not those that `cid` names, or that claim what no
    /// archive holds.
    pub(super) fn parse(cid: &Cid, bytes: Vec<u8>) -> Option<Self> {
        let block = Block::of(JSON, Bytes::from(bytes));
        let whole = Some(&block).filter(|block| block.cid == *cid)?;
        let record: Self = serde_json::from_slice(&whole.data).ok()?;
        (record.version == VERSION && record.is_possible()).then_some(record)
    }

    fn is_possible(&self) -> bool {
        let segment = |segment: &Segment| {
            segment.media.len() == self.renditions.len()
                && (1..=LONGEST_SEGMENT).contains(&segment.samples)
                && segment.n < u64::MAX
        };
        let inits = self.renditions.iter().map(|rendition| &rendition.init);
        self.segments.iter().all(segment)
            && self.blocks().chain(inits).all(|entry| entry.size <= LARGEST_BLOCK)
            && self.folders.iter().all(|(_, folder)| folder.size <= LARGEST_FOLDER)
    }
}

/// The UTC day and hour that a segment is filed under: those of its number, which never goes back.
pub(super) fn filed_under(n: u64, samples: u64) -> (String, u8) {
    let seconds =
        (u128::from(n) * u128::from(samples) / u128::from(SAMPLE_RATE)).min(LAST_SECOND.into()) as u64;
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    (text[..10].to_owned(), (seconds / 3600 % 24) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_filed_under_the_utc_hour_of_its_number() {
        assert_eq!(filed_under(466_900_000, 184_320), ("2026-10-25".into(), 2));
        // The last segment that begins before midnight, and the first after it.
        let midnight = 20_749 * 86_400 * 48_000_u64;
        assert_eq!(filed_under((midnight - 1) / 184_320, 184_320).1, 23);
        assert_eq!(filed_under(midnight.div_ceil(184_320), 184_320).1, 0);
        assert_eq!(filed_under(u64::MAX, 184_320).0, "9999-12-31");
    }

    #[test]
    fn a_record_is_read_as_written_and_a_changed_one_is_refused() {
        let entry = Entry::from(&Block::raw("x"));
        let rendition = Rendition { name: "hifi".into(), codecs: "mp4a.40.2".into(), init: entry };
        let segment = Segment {
            n: 1,
            program_date_time_ms: -5,
            samples: 184_320,
            discontinuity: true,
            media: vec![entry],
        };
        let record = Record::new(vec![rendition], vec![segment], vec![entry]);
        let block = record.to_block();
        assert_eq!(Record::parse(&block.cid, block.data.to_vec()), Some(record.clone()));
        assert_eq!(record.blocks().count(), 2);
        let mut changed = block.data.to_vec();
        changed[20] ^= 1;
        assert_eq!(Record::parse(&block.cid, changed), None);
    }

    #[test]
    fn a_record_that_claims_what_no_archive_holds_is_refused() {
        let entry = Entry::from(&Block::raw("x"));
        let huge = Entry { size: u64::MAX, ..entry };
        let rendition = |init| vec![Rendition { name: "hifi".into(), codecs: "mp4a.40.2".into(), init }];
        let segment = |n, samples, media| {
            vec![Segment { n, program_date_time_ms: 0, samples, discontinuity: false, media: vec![media] }]
        };
        let is_read = |record: &Record| {
            let block = record.to_block();
            Record::parse(&block.cid, block.data.to_vec()).is_some()
        };
        assert!(is_read(&Record::new(rendition(entry), segment(1, 184_320, entry), vec![entry])));
        assert!(is_read(&Record::closing(vec![("hifi".into(), entry)], vec![])));
        for record in [
            Record::new(rendition(huge), segment(1, 184_320, entry), vec![]),
            Record::new(rendition(entry), segment(1, 184_320, huge), vec![]),
            Record::new(rendition(entry), segment(1, u64::MAX, entry), vec![]),
            Record::new(rendition(entry), segment(1, 0, entry), vec![]),
            Record::new(rendition(entry), segment(u64::MAX, 184_320, entry), vec![]),
            Record::new(vec![], vec![], vec![huge]),
            Record::closing(vec![("hifi".into(), huge)], vec![]),
        ] {
            assert!(!is_read(&record), "{record:?}");
        }
    }
}
