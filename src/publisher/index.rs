//! The index of the stream tree: every segment, on air and announced ahead of it, sixteen numbers a file. Pure.
//!
//! `index/<k>.json` tells of the segments n with n div 16 = k. With it the chain from the signature of the IPNS record
//! reaches every segment before its airtime, and whoever has it makes every media playlist anew, byte for byte. A file
//! changes only while segments are added, so a full one never does; it leaves with the last of its segments.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::live_window::{LiveWindow, StoredSegment};
use super::stream_tree::Entry;
use crate::hls::{NowPlaying, RESERVED};
use crate::ipfs::Block;

/// The folder in the root.
pub const INDEX: &str = "index";
/// Numbers of a group.
pub const NUMBERS: u64 = 16;
/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Most renditions that are read.
pub const MAX_RENDITIONS: usize = 16;

/// Highest number that is read: what a JSON number holds exactly everywhere.
const MAX_NUMBER: u64 = 1 << 53;
/// Furthest moment that is read, from 1970 in either direction, in milliseconds: ten thousand years.
const MAX_MS: u64 = 315_576_000_000_000;

/// Why a group is refused.
#[derive(Debug, Error)]
pub enum IndexError {
    /// More than [`MAX_BYTES`].
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// Not JSON of this form.
    #[error("it is not JSON of an index")]
    Malformed(#[from] serde_json::Error),
    /// Too many renditions, none, or one whose name is no folder.
    #[error("its renditions are not 1 to 16 folders of different names")]
    Renditions,
    /// A segment that is not of this group, out of order, or without a file for each rendition.
    #[error("segment {0} does not belong there")]
    Segment(u64),
    /// A length or duration that no stream has.
    #[error("its lengths are out of range")]
    Lengths,
}

/// The group of segment `n`: the stem of its file's name.
pub fn group(n: u64) -> u64 {
    n / NUMBERS
}

/// Path of a group's file from the root.
pub fn path(group: u64) -> String {
    format!("{INDEX}/{group}.json")
}

/// What holds for every segment of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target_duration: u64,
    /// Segments that a media playlist lists at most.
    pub playlist_segments: usize,
    /// Length of a segment on the grid, in samples per channel at 48 kHz.
    pub segment_samples: u64,
    /// The renditions, in the order of the multivariant playlist.
    pub renditions: Vec<IndexedRendition>,
}

/// One rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedRendition {
    /// Name of its folder.
    pub name: String,
    /// Its `init.mp4`.
    pub init: Entry,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedSegment {
    /// Media sequence number.
    pub n: u64,
    /// Begin of its airtime in Unix milliseconds.
    pub unix_ms: i64,
    /// `EXT-X-PROGRAM-DATE-TIME` in Unix milliseconds.
    pub program_date_time_ms: i64,
    /// `EXTINF` in samples per channel at 48 kHz.
    pub samples: u64,
    /// `EXT-X-DISCONTINUITY` before it.
    pub discontinuity: bool,
    /// `EXT-X-DISCONTINUITY-SEQUENCE` of a playlist that begins with it.
    pub discontinuity_sequence: u64,
    /// The file of each rendition, in the order of the renditions.
    pub media: Vec<Entry>,
    /// What plays at its end; what this program does not understand of a newer one is none.
    #[serde(default, deserialize_with = "lenient")]
    pub now_playing: Option<NowPlaying>,
}

/// A file of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What holds for all its segments.
    #[serde(flatten)]
    pub head: Head,
    /// The segments, lowest number first.
    pub segments: Vec<IndexedSegment>,
}

impl Group {
    /// Reads the file of group `group`, which may come from anybody.
    ///
    /// # Errors
    /// [`IndexError`], the first thing that is wrong.
    pub fn parse(group: u64, bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.len() > MAX_BYTES {
            return Err(IndexError::TooLarge);
        }
        let read: Self = serde_json::from_slice(bytes)?;
        read.head.check()?;
        let mut before = None;
        for segment in &read.segments {
            let belongs = self::group(segment.n) == group && before.is_none_or(|before| before < segment.n);
            if !belongs || segment.media.len() != read.head.renditions.len() {
                return Err(IndexError::Segment(segment.n));
            }
            if segment.n > MAX_NUMBER || !segment.has_dates() {
                return Err(IndexError::Segment(segment.n));
            }
            if !(1..=2 * read.head.segment_samples).contains(&segment.samples) {
                return Err(IndexError::Lengths);
            }
            before = Some(segment.n);
        }
        Ok(read)
    }

    /// The file.
    pub fn to_block(&self) -> Block {
        Block::raw(serde_json::to_vec(self).expect("an index is plain data"))
    }
}

impl Head {
    fn check(&self) -> Result<(), IndexError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let names: Vec<_> = self.renditions.iter().map(|rendition| rendition.name.as_str()).collect();
        let good = |(index, name): (usize, &&str)| {
            (1..=32).contains(&name.len())
                && name.chars().all(plain)
                && !RESERVED.contains(name)
                && !names[..index].contains(name)
        };
        if !(1..=MAX_RENDITIONS).contains(&names.len()) || !names.iter().enumerate().all(good) {
            return Err(IndexError::Renditions);
        }
        // A minute a segment is far past any stream of ours.
        let lengths = (1..=60).contains(&self.target_duration)
            && (1..=60 * 48_000).contains(&self.segment_samples)
            && (1..=100_000).contains(&self.playlist_segments);
        if lengths { Ok(()) } else { Err(IndexError::Lengths) }
    }
}

impl IndexedSegment {
    /// The segment as the index tells it.
    pub fn of(segment: &StoredSegment, discontinuity_sequence: u64) -> Self {
        Self {
            n: segment.n,
            unix_ms: segment.unix_ms,
            program_date_time_ms: segment.program_date_time_ms,
            samples: segment.samples,
            discontinuity: segment.discontinuity,
            discontinuity_sequence,
            media: segment.media.clone(),
            now_playing: segment.now_playing.clone(),
        }
    }

    fn has_dates(&self) -> bool {
        self.unix_ms.unsigned_abs() <= MAX_MS && self.program_date_time_ms.unsigned_abs() <= MAX_MS
    }

    /// The segment as a window holds it, with no place on this machine's monotonic clock.
    pub fn to_stored(&self) -> StoredSegment {
        StoredSegment {
            n: self.n,
            unix_ms: self.unix_ms,
            airtime_ms: 0,
            program_date_time_ms: self.program_date_time_ms,
            samples: self.samples,
            discontinuity: self.discontinuity,
            media: self.media.clone(),
            now_playing: self.now_playing.clone(),
        }
    }
}

/// The files of the index, made again only where segments were added.
#[derive(Debug, Default)]
pub struct Index {
    files: BTreeMap<u64, IndexFile>,
}

#[derive(Debug)]
struct IndexFile {
    /// First and last number, and how many there are.
    span: (u64, u64, usize),
    block: Block,
}

impl Index {
    /// Brings the files up to the window; gives each with its group. `head` must be the same in every call.
    pub fn update(&mut self, head: &Head, window: &LiveWindow) -> impl Iterator<Item = (u64, &Block)> {
        let mut groups: BTreeMap<u64, Vec<(&StoredSegment, u64)>> = BTreeMap::new();
        for (segment, discontinuities) in window.indexed() {
            groups.entry(group(segment.n)).or_default().push((segment, discontinuities));
        }
        self.files.retain(|group, _| groups.contains_key(group));
        for (group, segments) in groups {
            let (first, last) = (segments[0].0.n, segments[segments.len() - 1].0.n);
            let span = (first, last, segments.len());
            if self.files.get(&group).is_none_or(|file| file.span != span) {
                let segments = segments.iter().map(|(segment, before)| IndexedSegment::of(segment, *before));
                let block = Group { head: head.clone(), segments: segments.collect() }.to_block();
                self.files.insert(group, IndexFile { span, block });
            }
        }
        self.files.iter().map(|(group, file)| (*group, &file.block))
    }
}

fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NowPlaying>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> Head {
        let rendition = |name: &str| IndexedRendition {
            name: name.into(),
            init: Entry::from(&Block::raw(name.to_owned())),
        };
        Head {
            target_duration: 4,
            playlist_segments: 6,
            segment_samples: 184_320,
            renditions: vec![rendition("lofi"), rendition("hifi")],
        }
    }

    fn segment(n: u64, discontinuity: bool) -> StoredSegment {
        let entry = |rendition: &str| Entry::from(&Block::raw(format!("{rendition} {n}")));
        StoredSegment {
            n,
            unix_ms: n as i64 * 3_840,
            airtime_ms: 0,
            program_date_time_ms: n as i64 * 3_840 - 43,
            samples: 184_320,
            discontinuity,
            media: vec![entry("lofi"), entry("hifi")],
            now_playing: None,
        }
    }

    fn groups(index: &mut Index, window: &LiveWindow) -> BTreeMap<u64, Group> {
        let read = |(k, block): (u64, &Block)| (k, Group::parse(k, &block.data).unwrap());
        index.update(&head(), window).map(read).collect()
    }

    fn cids(index: &mut Index, window: &LiveWindow) -> BTreeMap<u64, String> {
        index.update(&head(), window).map(|(k, block)| (k, block.cid.to_string())).collect()
    }

    #[test]
    fn the_file_is_the_json_that_the_specification_shows() {
        let mut window = LiveWindow::new(3);
        window.store(segment(462_000_000, true));
        let groups: Vec<_> =
            Index::default().update(&head(), &window).map(|(k, b)| (path(k), b.data.clone())).collect();
        assert_eq!(groups[0].0, "index/28875000.json");
        let json: serde_json::Value = serde_json::from_slice(&groups[0].1).unwrap();
        assert_eq!(json["target_duration"], 4);
        assert_eq!((&json["playlist_segments"], &json["segment_samples"]), (&6.into(), &184_320.into()));
        assert_eq!(json["renditions"][1]["name"], "hifi");
        assert_eq!(json["renditions"][1]["init"]["size"], 4);
        let segment = &json["segments"][0];
        assert_eq!((&segment["n"], &segment["discontinuity"]), (&462_000_000_u64.into(), &true.into()));
        assert_eq!(segment["discontinuity_sequence"], 3, "its own is not before it");
        assert!(segment["media"][0]["cid"].as_str().unwrap().starts_with("bafk"));
        assert!(segment["now_playing"].is_null());
    }

    #[test]
    fn what_is_ahead_of_air_is_in_it_and_a_full_file_never_changes_until_its_last_segment_leaves() {
        let (mut window, mut index) = (LiveWindow::new(0), Index::default());
        (32..80).for_each(|n| assert!(window.store(segment(n, n % 10 == 0))));
        assert_eq!(groups(&mut index, &window).keys().collect::<Vec<_>>(), [&2, &3, &4]);
        let announced = cids(&mut index, &window);
        for n in 32..80 {
            window.reveal(6);
            window.forget_before(n - 9);
            let now = cids(&mut index, &window);
            assert!(now.iter().all(|(k, cid)| announced[k] == *cid), "at {n}");
            assert_eq!(now.contains_key(&2), n - 9 < 48, "at {n}");
        }
        // The same from scratch, as after a restart.
        assert_eq!(cids(&mut Index::default(), &window), cids(&mut index, &window));
    }

    #[test]
    fn what_a_newer_program_adds_is_passed_over() {
        let mut window = LiveWindow::new(0);
        window.store(segment(16, false));
        let block = Index::default().update(&head(), &window).next().unwrap().1.clone();
        let mut json: serde_json::Value = serde_json::from_slice(&block.data).unwrap();
        json["novelty"] = 1.into();
        json["segments"][0]["now_playing"] = serde_json::json!({ "title": "x", "source": "novelty" });
        let group = Group::parse(1, json.to_string().as_bytes()).unwrap();
        assert_eq!(group.segments[0].now_playing, None);
        assert_eq!(group.segments[0].n, 16);
    }

    #[test]
    fn a_group_that_lies_about_its_form_is_refused() {
        let good = Group { head: head(), segments: vec![IndexedSegment::of(&segment(17, false), 0)] };
        let parse = |group: &Group| Group::parse(1, &group.to_block().data);
        assert_eq!(parse(&good).unwrap(), good);
        let refused = |change: &dyn Fn(&mut Group)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(parse(&bad).is_err(), "{bad:?}");
        };
        refused(&|g| g.segments[0].n = 32);
        refused(&|g| g.segments.push(g.segments[0].clone()));
        refused(&|g| _ = g.segments[0].media.pop());
        refused(&|g| g.segments[0].samples = 0);
        refused(&|g| g.segments[0].samples = 1 << 40);
        refused(&|g| g.segments[0].unix_ms = i64::MAX);
        refused(&|g| g.segments[0].program_date_time_ms = i64::MIN);
        refused(&|g| g.head.renditions.clear());
        refused(&|g| g.head.renditions[0].name = "../x".into());
        refused(&|g| g.head.renditions[0].name = "index".into());
        refused(&|g| g.head.renditions[0].name = "hifi".into());
        refused(&|g| g.head.segment_samples = 0);
        refused(&|g| g.head.target_duration = 0);
        assert!(matches!(Group::parse(1, &vec![b' '; MAX_BYTES + 1]), Err(IndexError::TooLarge)));
        assert!(Group::parse(1, b"{}").is_err());
    }

    proptest! {
        /// What the specification of the index promises: every media playlist, byte for byte.
        #[test]
        fn every_media_playlist_follows_from_the_index(
            steps in prop::collection::vec((1_u64..4, prop::bool::weighted(0.2), 0_u64..30, 0_usize..10), 1..120),
        ) {
            let (mut window, mut index, mut n) = (LiveWindow::new(2), Index::default(), 100);
            for (gap, cut, back, forget) in steps {
                n += gap;
                prop_assert!(window.store(segment(n, cut || gap > 1)));
                window.reveal(6);
                if forget == 0 {
                    window.forget_before(n.saturating_sub(back));
                }
                let oldest = window.aired().next().unwrap().n;
                let known = groups(&mut index, &window);
                let segments: Vec<_> = known.values().flat_map(|group| &group.segments).collect();
                prop_assert!(segments.windows(2).all(|pair| pair[0].n < pair[1].n));
                let again = LiveWindow::of_index(segments.into_iter(), oldest, n, 6);
                prop_assert_eq!(
                    again.media_playlist(4).unwrap().to_string(),
                    window.media_playlist(4).unwrap().to_string()
                );
            }
        }
    }
}
