//! The tree of one day: playlists and folders over what was archived of it. Pure.
//!
//! ```text
//! 2026-11-22/  stream.m3u8
//!              lofi/ midfi/ hifi/   live.m3u8  init.mp4  00/ 01/ ... 23/   <n>.m4s
//! ```
//!
//! A folder an hour keeps every directory in one block of a size that all peers take.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::record::{Record, Rendition, Segment, filed_under};
use crate::ipfs::Block;
use crate::ipfs::unixfs::Link;
use crate::ipfs::unixfs::writer::{Written, directory, file};
use crate::publisher::stream_tree::Entry;
use crate::publisher::{MultivariantPlaylist, Variant};

/// Samples per channel and second.
const SAMPLE_RATE: u64 = 48_000;
/// 9999-12-31T23:59:59Z in Unix milliseconds: a date has four digits for the year.
const LAST_DATE_MS: i64 = 253_402_300_799_000;

/// What is known of a day.
#[derive(Debug, Default)]
pub(super) struct Day {
    /// In the order in which they first came.
    tracks: Vec<Track>,
    newest: Option<u64>,
}

/// One rendition's day.
#[derive(Debug)]
struct Track {
    name: String,
    codecs: String,
    /// `init.mp4`, and what it was changed to in the course of the day.
    inits: Vec<Entry>,
    /// Which of them the newest segment needs.
    init: usize,
    hours: BTreeMap<u8, Hour>,
    /// The segments of the media playlist.
    listed: String,
    target_duration: u64,
    peak: u64,
    bytes: u64,
    samples: u64,
}

#[derive(Debug)]
enum Hour {
    /// Its directory is stored.
    Closed(Entry),
    /// The links of its segments.
    Open(Vec<Link>),
}

impl Day {
    /// Takes in a record. Segments at or below the newest are left out.
    pub(super) fn add(&mut self, record: &Record) {
        for segment in &record.segments {
            if self.newest.is_none_or(|newest| segment.n > newest) {
                let gap = self.newest.is_some_and(|newest| newest + 1 != segment.n);
                self.newest = Some(segment.n);
                for (rendition, media) in record.renditions.iter().zip(&segment.media) {
                    self.track(rendition).push(segment, *media, rendition, gap);
                }
            }
        }
        for (name, folder) in &record.folders {
            let track = self.tracks.iter_mut().find(|track| track.name == *name);
            let hour = track.and_then(|track| track.hours.values_mut().next_back());
            if let Some(hour) = hour {
                *hour = Hour::Closed(*folder);
            }
        }
    }

    /// The newest segment.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// The record that ends the newest hour, and its directories.
    pub(super) fn close_hour(&self) -> (Record, Vec<Block>) {
        let (mut folders, mut blocks) = (Vec::new(), Vec::new());
        for track in &self.tracks {
            if let Some((_, Hour::Open(links))) = track.hours.last_key_value() {
                let mut written = directory(links.clone());
                folders.push((track.name.clone(), Entry { cid: written.cid, size: written.size }));
                blocks.append(&mut written.blocks);
            }
        }
        (Record::closing(folders, blocks.iter().map(Entry::from).collect()), blocks)
    }

    /// The whole tree: what is not stored of it, the day's directory last. A day that is over gets playlists that end.
    pub(super) fn tree(&self, over: bool) -> Written {
        let mut links = Vec::new();
        let mut blocks = Vec::new();
        let mut add = |links: &mut Vec<Link>, name: &str, mut written: Written| {
            links.push(Link { name: name.to_owned(), cid: written.cid, size: written.size });
            blocks.append(&mut written.blocks);
        };
        for track in &self.tracks {
            let mut below = Vec::new();
            add(&mut below, "live.m3u8", file(Bytes::from(track.playlist(over))));
            for (index, init) in track.inits.iter().enumerate() {
                below.push(Link { name: init_name(index), cid: init.cid, size: init.size });
            }
            for (hour, folder) in &track.hours {
                let name = format!("{hour:02}");
                match folder {
                    Hour::Closed(entry) => below.push(Link { name, cid: entry.cid, size: entry.size }),
                    Hour::Open(links) => add(&mut below, &name, directory(links.clone())),
                }
            }
            add(&mut links, &track.name, directory(below));
        }
        let variants = self.tracks.iter().map(Track::variant).collect();
        let multivariant = MultivariantPlaylist { variants }.to_string();
        add(&mut links, "stream.m3u8", file(Bytes::from(multivariant)));
        let mut day = directory(links);
        blocks.append(&mut day.blocks);
        Written { blocks, ..day }
    }

    fn track(&mut self, rendition: &Rendition) -> &mut Track {
        let known = self.tracks.iter().position(|track| track.name == rendition.name);
        let index = known.unwrap_or_else(|| {
            self.tracks.push(Track::new(rendition));
            self.tracks.len() - 1
        });
        &mut self.tracks[index]
    }
}

impl Track {
    fn new(rendition: &Rendition) -> Self {
        Self {
            name: rendition.name.clone(),
            codecs: rendition.codecs.clone(),
            inits: vec![rendition.init],
            init: 0,
            hours: BTreeMap::new(),
            listed: String::new(),
            target_duration: 0,
            peak: 0,
            bytes: 0,
            samples: 0,
        }
    }

    fn push(&mut self, segment: &Segment, media: Entry, rendition: &Rendition, gap: bool) {
        let (_, hour) = filed_under(segment.n, segment.samples);
        let init = self.inits.iter().position(|init| *init == rendition.init).unwrap_or_else(|| {
            self.inits.push(rendition.init);
            self.inits.len() - 1
        });
        let changed = std::mem::replace(&mut self.init, init) != init;
        let first = self.listed.is_empty();
        let cut = !first && (gap || changed || segment.discontinuity);
        let new_hour = !self.hours.contains_key(&hour);
        self.list(segment, hour, cut, changed.then_some(init), first || cut || new_hour);
        let link = Link { name: format!("{}.m4s", segment.n), cid: media.cid, size: media.size };
        match self.hours.entry(hour).or_insert_with(|| Hour::Open(Vec::new())) {
            Hour::Open(links) => links.push(link),
            // Numbers do not go back, so no closed hour gets another segment; its directory would not name it.
            Hour::Closed(_) => {}
        }
        self.target_duration = self.target_duration.max(segment.samples.div_ceil(SAMPLE_RATE));
        self.peak = self.peak.max((media.size * 8 * SAMPLE_RATE).div_ceil(segment.samples));
        self.bytes += media.size;
        self.samples += segment.samples;
    }

    /// A date for each hour and after each cut: between them, durations tell the time.
    fn list(&mut self, segment: &Segment, hour: u8, cut: bool, init: Option<usize>, dated: bool) {
        let out = &mut self.listed;
        if cut {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(index) = init {
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}\"", init_name(index));
        }
        if dated {
            let millis = segment.program_date_time_ms.clamp(0, LAST_DATE_MS) as u64;
            let date = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis));
            let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{date}");
        }
        let micros = segment.samples * 1_000_000 / SAMPLE_RATE;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let _ = writeln!(out, "#EXTINF:{seconds}.{micros:06},\n{hour:02}/{}.m4s", segment.n);
    }

    fn playlist(&self, over: bool) -> String {
        let kind = if over { "VOD" } else { "EVENT" };
        let end = if over { "#EXT-X-ENDLIST\n" } else { "" };
        let target = self.target_duration;
        format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:{kind}\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"{}\"\n{}{end}",
            init_name(0),
            self.listed
        )
    }

    fn variant(&self) -> Variant {
        let average =
            (u128::from(self.bytes) * 8 * u128::from(SAMPLE_RATE)).div_ceil(self.samples.max(1).into());
        let rounded = |rate: u64| rate.div_ceil(1_000) * 1_000;
        Variant {
            name: self.name.clone(),
            bandwidth: rounded(self.peak),
            average_bandwidth: rounded(u64::try_from(average).unwrap_or(u64::MAX)),
            codecs: self.codecs.clone(),
        }
    }
}

fn init_name(index: usize) -> String {
    if index == 0 { "init.mp4".into() } else { format!("init-{}.mp4", index + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cid::Cid;

    /// 2026-10-23, a whole number of hours.
    const NOON: u64 = 20_749 * 86_400 + 12 * 3_600;

    fn segments(from: u64, numbers: &[u64]) -> Vec<Segment> {
        let first = (from * 48_000).div_ceil(184_320);
        let segment = |n: &u64| Segment {
            n: first + n,
            program_date_time_ms: ((first + n) * 3_840) as i64,
            samples: 184_320,
            discontinuity: false,
            media: vec![Entry::from(&Block::raw(n.to_string()))],
        };
        numbers.iter().map(segment).collect()
    }

    fn record(init: &str, segments: Vec<Segment>) -> Record {
        let init = Entry::from(&Block::raw(init.to_owned()));
        let rendition = Rendition { name: "hifi".into(), codecs: "mp4a.40.2".into(), init };
        Record::new(vec![rendition], segments, Vec::new())
    }

    fn find<'a>(written: &'a Written, cid: &Cid) -> &'a Block {
        written.blocks.iter().find(|block| block.cid == *cid).unwrap()
    }

    fn links(block: &Block) -> Vec<Link> {
        match crate::ipfs::unixfs::parse(block.cid, block.data.clone()).unwrap() {
            crate::ipfs::unixfs::Node::Directory(links) => links,
            other => panic!("{other:?}"),
        }
    }

    fn playlist(day: &Day, over: bool) -> String {
        let tree = day.tree(over);
        let top = links(find(&tree, &tree.cid));
        let below = links(find(&tree, &top[0].cid));
        let file = below.iter().find(|link| link.name == "live.m3u8").unwrap();
        String::from_utf8(find(&tree, &file.cid).data.to_vec()).unwrap()
    }

    #[test]
    fn a_day_that_is_over_ends_and_one_that_goes_on_does_not() {
        let mut day = Day::default();
        day.add(&record("init", segments(NOON, &[0, 1])));
        assert!(!playlist(&day, false).contains("ENDLIST") && playlist(&day, false).contains("TYPE:EVENT"));
        let over = playlist(&day, true);
        assert!(over.ends_with("#EXT-X-ENDLIST\n") && over.contains("TYPE:VOD"), "{over}");
        assert!(over.contains("#EXTINF:3.840000,\n12/"), "{over}");
        let event = playlist(&day, false);
        day.add(&record("init", segments(NOON, &[1, 2])));
        assert!(playlist(&day, false).starts_with(&event), "an event playlist only grows");
        assert_eq!(playlist(&day, false).matches(".m4s").count(), 3, "no segment comes twice");
    }

    #[test]
    fn holes_jumps_and_a_new_init_segment_are_cuts() {
        let mut day = Day::default();
        let mut cut = segments(NOON, &[7]);
        cut[0].discontinuity = true;
        day.add(&record("init", segments(NOON, &[0, 1, 5, 6])));
        day.add(&record("init", cut));
        day.add(&record("other", segments(NOON, &[8])));
        day.add(&record("init", segments(NOON, &[9])));
        let text = playlist(&day, true);
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 4, "{text}");
        assert_eq!(text.matches("PROGRAM-DATE-TIME").count(), 5, "{text}");
        let maps: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-MAP:URI=")).collect();
        assert_eq!(maps, ["\"init.mp4\"", "\"init-2.mp4\"", "\"init.mp4\""]);
    }

    #[test]
    fn a_closed_hour_changes_nothing_but_what_has_to_be_stored() {
        let (mut open, mut closed) = (Day::default(), Day::default());
        let hours = [segments(NOON, &[0, 1]), segments(NOON + 3_600, &[0, 1])];
        for (index, hour) in hours.into_iter().enumerate() {
            open.add(&record("init", hour.clone()));
            closed.add(&record("init", hour));
            if index == 0 {
                let (record, blocks) = closed.close_hour();
                assert_eq!((record.folders.len(), blocks.len()), (1, 1));
                closed.add(&record);
            }
        }
        assert_eq!(open.tree(true).cid, closed.tree(true).cid);
        assert_eq!(open.tree(true).blocks.len(), closed.tree(true).blocks.len() + 1);
    }

    #[test]
    fn a_whole_day_of_the_shorter_grid_keeps_every_block_below_a_mebibyte() {
        let mut day = Day::default();
        let first = NOON / 86_400 * 86_400 * 48_000 / 92_160 + 1;
        let media = vec![Entry::from(&Block::raw("x"))];
        let segment = |n| Segment {
            n,
            program_date_time_ms: (n * 1_920) as i64,
            samples: 92_160,
            discontinuity: false,
            media: media.clone(),
        };
        day.add(&record("init", (first..first + 44_998).map(segment).collect()));
        let tree = day.tree(true);
        assert!(tree.blocks.iter().all(|block| block.data.len() <= 1024 * 1024));
        assert_eq!(
            tree.blocks.len(),
            24 + 3 + 3,
            "hours, the playlist in two leaves, stream.m3u8, two folders"
        );
    }
}
