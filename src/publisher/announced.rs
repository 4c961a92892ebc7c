//! What a tick announced, for those who tell others: what is on air, what stands ready, what plays. Pure.

use std::collections::HashMap;

use cid::Cid;

use super::index;
use super::live_window::LiveWindow;
use super::stream_tree::Entry;
use crate::hls::NowPlaying;

/// Samples of a millisecond.
const SAMPLES: u64 = 48;

/// The live edge and what is ahead of it, as the tree of the same tick says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Highest media sequence number on air.
    pub newest: u64,
    /// Highest media sequence number stored.
    pub ahead: u64,
    /// The groups of the index that hold what is ahead of air; with nothing ahead, the one of the newest.
    pub index: Vec<Cid>,
    /// What plays at the live edge, and for how many milliseconds it has been on air: from the end of the segment in
    /// which it began, as far as the window goes back.
    pub now_playing: Option<(NowPlaying, u64)>,
}

impl Announced {
    /// What `window` has on air and ahead of it, whose index is in `entries`; `None` while nothing is on air.
    pub fn of(window: &LiveWindow, entries: &HashMap<String, Entry>) -> Option<Self> {
        let newest = window.aired().next_back()?;
        let ahead = window.newest_stored().map_or(newest.n, |segment| segment.n);
        let first = window.next().map_or(ahead, |segment| segment.n);
        let mut groups: Vec<_> = window.all().filter(|s| s.n >= first).map(|s| index::group(s.n)).collect();
        groups.dedup();
        let entry = |group: &u64| entries.get(&index::path(*group)).map(|entry| entry.cid);
        let index = groups.iter().filter_map(entry).collect();
        let now_playing = newest.now_playing.clone().map(|playing| {
            let same = |other: &NowPlaying| {
                (&other.title, &other.artist, &other.album)
                    == (&playing.title, &playing.artist, &playing.album)
            };
            let run = window.aired().rev().take_while(|s| s.now_playing.as_ref().is_some_and(same));
            let samples: u64 = run.map(|segment| segment.samples).sum();
            (playing, samples.saturating_sub(newest.samples) / SAMPLES)
        });
        Some(Self { newest: newest.n, ahead, index, now_playing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;
    use crate::player::Source;
    use crate::publisher::live_window::StoredSegment;

    fn playing(title: &str) -> NowPlaying {
        let (title, none) = (title.to_owned(), String::new);
        NowPlaying { title, artist: none(), album: none(), duration: None, source: Source::Library }
    }

    fn window(titles: &[Option<&str>], aired: usize) -> LiveWindow {
        let mut window = LiveWindow::new(0);
        for (n, title) in (30..).zip(titles) {
            window.store(StoredSegment {
                n,
                unix_ms: 0,
                airtime_ms: 0,
                program_date_time_ms: 0,
                samples: 184_320,
                discontinuity: false,
                media: Vec::new(),
                now_playing: title.map(playing),
            });
        }
        (0..aired).for_each(|_| _ = window.reveal(16));
        window
    }

    #[test]
    fn the_groups_are_those_of_what_is_ahead_and_the_position_counts_from_the_first_segment() {
        let titles = [Some("one"), Some("two"), Some("two"), Some("two"), Some("three")];
        let entry = |name: &str| Entry::from(&Block::raw(name.to_owned()));
        let entries: HashMap<_, _> =
            (0..5).map(|k| (format!("index/{k}.json"), entry(&format!("group {k}")))).collect();
        let announced = |aired| Announced::of(&window(&titles, aired), &entries);
        assert_eq!(announced(0), None);
        let groups =
            |groups: &[u64]| -> Vec<_> { groups.iter().map(|k| entry(&format!("group {k}")).cid).collect() };
        let first = announced(1).unwrap();
        assert_eq!((first.newest, first.ahead, first.index), (30, 34, groups(&[1, 2])));
        assert_eq!(first.now_playing, Some((playing("one"), 0)));
        let third = announced(4).unwrap();
        assert_eq!((third.newest, third.ahead, third.index), (33, 34, groups(&[2])));
        assert_eq!(third.now_playing, Some((playing("two"), 7_680)));
        let last = announced(5).unwrap();
        assert_eq!((last.newest, last.ahead, last.index), (34, 34, groups(&[2])));
    }
}
