//! What is on air and what stands ready for it: the segments behind the playlists. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::index::{IndexedSegment, group};
use super::stream_tree::Entry;
use crate::hls::NowPlaying;
use crate::hls::media_playlist::{MediaPlaylist, MediaSegment};

/// A stored segment: where each rendition's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSegment {
    /// Media sequence number.
    pub n: u64,
    /// Begin of its airtime in Unix milliseconds.
    pub unix_ms: i64,
    /// Begin of its airtime in milliseconds of this run's monotonic clock: decides when it is revealed, so that a
    /// step of the wall clock neither holds up the air nor hurries it.
    #[serde(skip)]
    pub airtime_ms: i64,
    /// `EXT-X-PROGRAM-DATE-TIME` in Unix milliseconds.
    pub program_date_time_ms: i64,
    /// Length in samples per channel.
    pub samples: u64,
    /// It does not continue the segment before.
    pub discontinuity: bool,
    /// The file of each rendition, in configured order.
    pub media: Vec<Entry>,
    /// What plays at its end.
    pub now_playing: Option<NowPlaying>,
}

impl StoredSegment {
    /// Bytes of all renditions together.
    pub fn bytes(&self) -> u64 {
        self.media.iter().map(|entry| entry.size).sum()
    }
}

/// The segments on air, oldest first, and those that wait for their airtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveWindow {
    /// Revealed and still retained.
    aired: VecDeque<StoredSegment>,
    /// How many of `aired`, counted from the newest, the playlists list.
    listed: usize,
    /// Discontinuities that have left the playlists.
    discontinuity_sequence: u64,
    /// Stored, not yet revealed.
    ahead: VecDeque<StoredSegment>,
    /// No longer retained, but of a group of the index that others still stand in.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    left: VecDeque<StoredSegment>,
}

impl LiveWindow {
    /// An empty window whose playlists go on counting discontinuities at `discontinuity_sequence`.
    pub fn new(discontinuity_sequence: u64) -> Self {
        Self { discontinuity_sequence, ..Self::default() }
    }

    /// The window of a station whose index tells of `segments`, lowest number first: on air from `oldest` to `newest`, the
    /// last `limit` of them without a jump in the playlists.
    pub fn of_index<'a>(
        segments: impl Iterator<Item = &'a IndexedSegment>,
        oldest: u64,
        newest: u64,
        limit: usize,
    ) -> Self {
        let (mut window, mut run, mut before) = (Self::default(), 0, Vec::new());
        for segment in segments {
            let stored = segment.to_stored();
            if segment.n < oldest {
                window.left.push_back(stored);
                continue;
            }
            before.push(segment.discontinuity_sequence);
            if segment.n > newest {
                window.ahead.push_back(stored);
                continue;
            }
            let follows = window.aired.back().is_some_and(|last| last.n + 1 == segment.n);
            run = if follows { run + 1 } else { 1 };
            window.aired.push_back(stored);
        }
        window.listed = run.min(limit.max(1));
        let first_listed = window.aired.len() - window.listed;
        window.discontinuity_sequence = before.get(first_listed).copied().unwrap_or(0);
        window
    }

    /// Adds a stored segment behind all others. A number at or below the newest is refused by `false`.
    pub fn store(&mut self, segment: StoredSegment) -> bool {
        let higher = self.newest_stored().is_none_or(|newest| segment.n > newest.n);
        if higher {
            self.ahead.push_back(segment);
        }
        higher
    }

    /// The segment that goes on air next.
    pub fn next(&self) -> Option<&StoredSegment> {
        self.ahead.front()
    }

    /// Puts the next segment on air and keeps the playlists at `limit` segments. Where numbers jump, the playlists
    /// begin anew at the jump, so that EXT-X-MEDIA-SEQUENCE counts the segments that are listed.
    pub fn reveal(&mut self, limit: usize) -> Option<&StoredSegment> {
        let segment = self.ahead.pop_front()?;
        let jumped = self.aired.back().is_some_and(|newest| newest.n + 1 != segment.n);
        if jumped {
            self.unlist(self.listed);
        }
        self.aired.push_back(segment);
        self.listed += 1;
        self.unlist(self.listed.saturating_sub(limit.max(1)));
        self.aired.back()
    }

    fn unlist(&mut self, count: usize) {
        let first = self.aired.len() - self.listed;
        let leaving = self.aired.iter().skip(first).take(count);
        self.discontinuity_sequence += leaving.filter(|segment| segment.discontinuity).count() as u64;
        self.listed -= count;
    }

    /// Drops what is older than segment `n`, but keeps three: with fewer, the station counts as one that begins, and the
    /// next segment would be revealed before its airtime.
    pub fn forget_before(&mut self, n: u64) -> Vec<StoredSegment> {
        let mut gone = Vec::new();
        while self.aired.len() > 3 && self.aired.front().is_some_and(|oldest| oldest.n < n) {
            if self.listed == self.aired.len() {
                self.unlist(1);
            }
            gone.extend(self.aired.pop_front());
        }
        self.leave(gone.iter().cloned());
        gone
    }

    /// Keeps in mind what the index still names beside segments that stay.
    fn leave(&mut self, gone: impl Iterator<Item = StoredSegment>) {
        self.left.extend(gone);
        let oldest = self.aired.front().map(|segment| group(segment.n));
        self.left.retain(|segment| oldest.is_some_and(|oldest| group(segment.n) >= oldest));
    }

    /// Lays out the airtimes of another run's segments, one after the other, so that the newest begins at
    /// `newest_ms`.
    pub fn lay_out(&mut self, newest_ms: i64, segment_ms: i64) {
        let segments = self.ahead.iter_mut().rev().chain(self.aired.iter_mut().rev());
        let airtimes = (0..).map(|back| newest_ms - back * segment_ms);
        segments.zip(airtimes).for_each(|(segment, airtime_ms)| segment.airtime_ms = airtime_ms);
    }

    /// Drops the segments that wait for their airtime.
    pub fn drop_ahead(&mut self) {
        self.ahead.clear();
    }

    /// How many segments the playlists list.
    pub fn listed(&self) -> usize {
        self.listed
    }

    /// The retained segments that are or were on air, oldest first.
    pub fn aired(&self) -> impl DoubleEndedIterator<Item = &StoredSegment> {
        self.aired.iter()
    }

    /// Every segment, on air or ahead of it, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &StoredSegment> {
        self.aired.iter().chain(&self.ahead)
    }

    /// What the index tells of, oldest first: each segment with the discontinuities before it.
    pub fn indexed(&self) -> impl Iterator<Item = (&StoredSegment, u64)> {
        let all = || self.left.iter().chain(self.all());
        let first_listed = self.left.len() + self.aired.len() - self.listed;
        let before = all().take(first_listed).filter(|segment| segment.discontinuity).count() as u64;
        let mut count = self.discontinuity_sequence.saturating_sub(before);
        all().map(move |segment| {
            let before = count;
            count += u64::from(segment.discontinuity);
            (segment, before)
        })
    }

    /// The newest segment, on air or not.
    pub fn newest_stored(&self) -> Option<&StoredSegment> {
        self.ahead.back().or(self.aired.back())
    }

    /// Discontinuities that have left the playlists.
    pub fn discontinuity_sequence(&self) -> u64 {
        self.discontinuity_sequence
    }

    /// Discontinuities that have left the playlists or stand in them: where a window that begins anew goes on.
    pub fn discontinuities(&self) -> u64 {
        let first = self.aired.len() - self.listed;
        let standing = self.aired.iter().skip(first).chain(&self.ahead).filter(|s| s.discontinuity).count();
        self.discontinuity_sequence + standing as u64
    }

    /// Makes the count of discontinuities at least `durable`: the window may be older than what was on air, and
    /// EXT-X-DISCONTINUITY-SEQUENCE never goes back.
    pub fn raise_discontinuities(&mut self, durable: u64) {
        self.discontinuity_sequence += durable.saturating_sub(self.discontinuities());
    }

    /// Keeps the newest run of segments for which `held` is true, so that nothing is listed that cannot be fetched.
    pub fn retain_newest(&mut self, held: impl Fn(&StoredSegment) -> bool) {
        let ahead = self.ahead.iter().take_while(|segment| held(segment)).count();
        self.ahead.truncate(ahead);
        let keep = self.aired.iter().rev().take_while(|segment| held(segment)).count();
        let drop = self.aired.len() - keep;
        self.unlist(self.listed.saturating_sub(keep));
        let dropped: Vec<_> = self.aired.drain(..drop).collect();
        self.leave(dropped.into_iter());
        // A hole behind the newest aired segment leaves the lead without its beginning.
        if keep == 0 && drop > 0 {
            self.ahead.clear();
        }
    }

    /// The media playlist; the same for every rendition. `None` while nothing is on air.
    pub fn media_playlist(&self, target_duration: u64) -> Option<MediaPlaylist> {
        let listed = self.aired.iter().skip(self.aired.len() - self.listed);
        let segments: Vec<_> = listed
            .map(|s| MediaSegment {
                n: s.n,
                duration_samples: s.samples,
                program_date_time_ms: s.program_date_time_ms,
                discontinuity: s.discontinuity,
            })
            .collect();
        Some(MediaPlaylist {
            target_duration,
            media_sequence: segments.first()?.n,
            discontinuity_sequence: self.discontinuity_sequence,
            segments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;
    use proptest::prelude::*;

    fn segment(n: u64, discontinuity: bool) -> StoredSegment {
        StoredSegment {
            n,
            unix_ms: 0,
            airtime_ms: 0,
            program_date_time_ms: 0,
            samples: 184_320,
            discontinuity,
            media: vec![Entry::from(&Block::raw(n.to_string()))],
            now_playing: None,
        }
    }

    fn numbers(window: &LiveWindow) -> Vec<u64> {
        window.media_playlist(4).map_or_else(Vec::new, |p| p.segments.iter().map(|s| s.n).collect())
    }

    #[test]
    fn a_jump_begins_the_playlists_anew_and_counts_what_left() {
        let mut window = LiveWindow::new(5);
        for (n, cut) in [(10, true), (11, false), (12, false), (900, true), (901, false)] {
            window.store(segment(n, cut));
            window.reveal(16);
        }
        let playlist = window.media_playlist(4).unwrap();
        assert_eq!(numbers(&window), [900, 901]);
        assert_eq!((playlist.media_sequence, playlist.discontinuity_sequence), (900, 6));
        assert_eq!(window.aired().count(), 5, "what left the playlists can still be fetched");
        assert_eq!(window.discontinuities(), 7);
    }

    #[test]
    fn a_stale_window_counts_on_from_what_was_written_through() {
        let mut window = LiveWindow::new(5);
        for (n, cut) in [(10, false), (11, true)] {
            window.store(segment(n, cut));
            window.reveal(16);
        }
        window.raise_discontinuities(4);
        assert_eq!(window.discontinuities(), 6, "a lower count changes nothing");
        window.raise_discontinuities(9);
        assert_eq!(window.discontinuities(), 9);
        window.store(segment(900, true));
        window.reveal(16);
        assert_eq!(window.media_playlist(4).unwrap().discontinuity_sequence, 9);
    }

    #[test]
    fn old_segments_before_a_jump_leave_when_three_newer_are_on_air() {
        let mut window = LiveWindow::new(0);
        for n in [1, 2, 3, 4, 900, 901, 902] {
            window.store(segment(n, n == 900));
            window.reveal(16);
            window.forget_before(n.saturating_sub(100));
            assert!(n < 3 || window.aired().count() >= 3, "after {n}");
        }
        assert_eq!(window.aired().map(|s| s.n).collect::<Vec<_>>(), [900, 901, 902]);
    }

    #[test]
    fn what_is_not_held_any_more_is_not_listed() {
        let mut window = LiveWindow::new(0);
        (1..=8).for_each(|n| assert!(window.store(segment(n, false))));
        (0..6).for_each(|_| assert!(window.reveal(16).is_some()));
        window.retain_newest(|s| s.n != 3 && s.n != 8);
        assert_eq!(numbers(&window), [4, 5, 6]);
        assert_eq!(window.all().map(|s| s.n).collect::<Vec<_>>(), [4, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn playlists_obey_the_specification_whatever_happens(
            steps in prop::collection::vec((1_u64..4, prop::bool::weighted(0.2), 0_u64..30, 0_usize..10), 1..200),
        ) {
            let mut window = LiveWindow::new(0);
            let (mut n, mut before) = (0, None::<MediaPlaylist>);
            let mut cuts = std::collections::HashMap::new();
            for (gap, cut, back, forget) in steps {
                n += gap;
                let cut = cut || gap > 1;
                cuts.insert(n, cut);
                prop_assert!(window.store(segment(n, cut)));
                prop_assert!(!window.store(segment(n, cut)), "a number is never used twice");
                window.reveal(6);
                if forget == 0 {
                    window.forget_before(n.saturating_sub(back));
                }
                let now = window.media_playlist(4).unwrap();
                prop_assert!(now.segments.len() <= 6 && !now.segments.is_empty());
                for (index, listed) in now.segments.iter().enumerate() {
                    prop_assert_eq!(listed.n, now.media_sequence + index as u64);
                }
                if let Some(before) = before {
                    prop_assert!(now.media_sequence >= before.media_sequence);
                    let left = before.segments.iter().filter(|s| s.n < now.media_sequence && s.discontinuity).count();
                    prop_assert_eq!(now.discontinuity_sequence, before.discontinuity_sequence + left as u64);
                }
                before = Some(now);
            }
        }
    }
}
