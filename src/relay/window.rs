//! What a relay knows of the station's segments: which are announced, which are held, which are on air here. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cid::Cid;

use super::airtimes::Airtimes;
use crate::ipfs::Block;
use crate::publisher::index::{self, Group, Head, IndexedSegment};
use crate::publisher::live_window::LiveWindow;
use crate::publisher::stream_tree::Entry;

/// How much longer than its estimated airtime a segment waits for the station to list it, in milliseconds.
const PATIENCE_MS: i64 = 500;
/// Segments that a player needs to begin.
const BEGIN: u64 = 3;
/// Segments by which one that nobody sends holds up those behind it.
const HOLDS_UP: i64 = 2;

/// The index of a signed tree.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What holds for every segment.
    pub head: Head,
    /// The files as they are signed, with what they say.
    pub groups: BTreeMap<u64, (Block, Group)>,
    /// Lowest number in the folders.
    pub oldest: u64,
    /// Highest number on air.
    pub newest: u64,
}

impl Signed {
    /// Every segment, lowest number first.
    pub fn segments(&self) -> impl Iterator<Item = &IndexedSegment> {
        self.groups.values().flat_map(|(_, group)| &group.segments)
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This segment goes on air now.
    Reveal(u64),
    /// Nothing before that moment, where it is known, unless a segment comes.
    Wait(Option<i64>),
}

/// The window. Times are milliseconds of the clock of [`Airtimes`].
#[derive(Debug, Default)]
pub struct Window {
    head: Option<Head>,
    /// Files of the index, as they were signed.
    groups: BTreeMap<u64, Block>,
    segments: BTreeMap<u64, IndexedSegment>,
    held: HashSet<Cid>,
    /// Numbers that the newest signed tree tells of.
    told: BTreeSet<u64>,
    /// What the newest signed tree has on air.
    signed: Option<(u64, u64)>,
    on_air: Option<u64>,
    /// No playlist begins before it any more.
    first_listed: u64,
    keep_from: u64,
}

impl Window {
    /// Takes in the index of a newer signed tree. What it no longer announces goes, but for what is on air here already.
    /// Returns the media that are not needed any more.
    pub fn take_in(&mut self, signed: &Signed) -> Vec<Cid> {
        let before = std::mem::take(&mut self.segments);
        let same = self.head.as_ref().is_some_and(|head| head.renditions == signed.head.renditions);
        self.head = Some(signed.head.clone());
        self.signed = Some((signed.oldest, signed.newest));
        self.told = signed.segments().map(|segment| segment.n).collect();
        let on_air = self.on_air;
        let stays = |n: u64| same && on_air.is_some_and(|on_air| n <= on_air);
        self.segments = before.iter().filter(|(n, _)| stays(**n)).map(|(n, s)| (*n, s.clone())).collect();
        self.segments.extend(signed.segments().map(|segment| (segment.n, segment.clone())));
        self.groups.retain(|group, _| stays(group * index::NUMBERS) && !signed.groups.contains_key(group));
        self.groups.extend(signed.groups.iter().map(|(group, (block, _))| (*group, block.clone())));
        if !same {
            // Playlists of other renditions begin above all that was on air.
            self.end();
        }
        self.begin_anew_if_far_behind();
        self.drop_old();
        let needed: HashSet<Cid> = self.media().map(|entry| entry.cid).collect();
        let gone: HashSet<_> = before.values().flat_map(|segment| &segment.media).map(|e| e.cid).collect();
        self.held.retain(|cid| needed.contains(cid));
        gone.into_iter().filter(|cid| !needed.contains(cid)).collect()
    }

    /// What was on air before a restart goes on: up to `on_air`, in playlists from `first_listed` on, with segments that
    /// the signed tree no longer tells of.
    pub fn resume(&mut self, on_air: u64, first_listed: u64, beside: Vec<IndexedSegment>) {
        self.segments.extend(beside.into_iter().map(|segment| (segment.n, segment)));
        self.first_listed = first_listed;
        let stands = self.segments.get(&on_air).is_some_and(|segment| self.holds(segment));
        self.on_air = stands.then_some(on_air);
        if !stands {
            self.first_listed = on_air + 1;
        }
        self.begin_anew_if_far_behind();
    }

    /// Segments on air here that the signed tree does not tell of: what a restart must be told.
    pub fn beside(&self) -> Vec<IndexedSegment> {
        let aired = self.segments.range(..=self.on_air.unwrap_or(0));
        aired.filter(|(n, _)| !self.told.contains(n)).map(|(_, segment)| segment.clone()).collect()
    }

    /// With a whole playlist between what is on air here and what is there, the air begins anew behind a jump. Numbers
    /// never go back.
    fn begin_anew_if_far_behind(&mut self) {
        let (Some(on_air), Some((_, newest)), Some(head)) = (self.on_air, self.signed, &self.head) else {
            return;
        };
        let far = newest.saturating_sub(on_air) > head.playlist_segments as u64;
        if far || !self.segments.contains_key(&on_air) {
            self.end();
        }
    }

    /// The air is over: it begins anew above what was on air.
    pub fn end(&mut self) {
        self.first_listed = self.on_air.map_or(self.first_listed, |on_air| on_air + 1);
        self.on_air = None;
    }

    /// The block is held from now on.
    pub fn hold(&mut self, cid: Cid) {
        self.held.insert(cid);
    }

    /// The block is not held any more.
    pub fn release(&mut self, cid: &Cid) {
        self.held.remove(cid);
    }

    fn holds(&self, segment: &IndexedSegment) -> bool {
        segment.media.iter().all(|entry| self.held.contains(&entry.cid))
    }

    /// Every file of media that is needed.
    pub fn media(&self) -> impl Iterator<Item = &Entry> {
        let inits = self.head.iter().flat_map(|head| &head.renditions).map(|rendition| &rendition.init);
        inits.chain(self.segments.values().flat_map(|segment| &segment.media))
    }

    /// What is needed and not held of the playlists and of what comes, in the order in which it is fetched: what players
    /// need first, then by airtime.
    pub fn missing(&self) -> impl Iterator<Item = &Entry> {
        let inits = self.head.iter().flat_map(|head| &head.renditions).map(|rendition| &rendition.init);
        let ahead = self.segments.range(self.lists_from()..).flat_map(|(_, segment)| &segment.media);
        inits.chain(ahead).filter(|entry| !self.held.contains(&entry.cid))
    }

    /// What is not held of that which no playlist lists any more, the newest first: nobody waits for it.
    pub fn missing_past(&self) -> impl Iterator<Item = &Entry> {
        let past = self.segments.range(..self.lists_from()).rev().flat_map(|(_, segment)| &segment.media);
        past.filter(|entry| !self.held.contains(&entry.cid))
    }

    /// The number with which the playlists begin, or would.
    fn lists_from(&self) -> u64 {
        if self.on_air.is_some() { self.first_listed } else { self.would_list_from() }
    }

    /// Media of the segments from `n` on that is not held, each file with its number.
    pub fn missing_from(&self, n: u64) -> Vec<(u64, Cid)> {
        let files = self.segments.range(n..).flat_map(|(n, s)| s.media.iter().map(|entry| (*n, entry.cid)));
        files.filter(|(_, cid)| !self.held.contains(cid)).collect()
    }

    /// Where the playlists of the signed tree begin, as far as this relay may list so much.
    fn would_list_from(&self) -> u64 {
        let (Some((oldest, newest)), Some(head)) = (self.signed, &self.head) else { return 0 };
        let longest = newest.saturating_sub(head.playlist_segments as u64 - 1);
        let lowest = oldest.max(self.first_listed).max(longest);
        if lowest > newest {
            return lowest;
        }
        let run = self.segments.range(lowest..=newest).rev().zip((0..=newest).rev());
        run.take_while(|((n, _), expected)| *n == expected).last().map_or(newest, |((n, _), _)| *n)
    }

    /// Begins the air with what the signed tree has on air: as soon as all of its playlist is held, or at least what a
    /// player needs where the relay shall wait no longer. `true` when it did.
    pub fn begin(&mut self, wait_no_longer: bool) -> bool {
        let (None, Some((_, newest)), Some(head)) = (self.on_air, self.signed, &self.head) else {
            return false;
        };
        if !head.renditions.iter().all(|rendition| self.held.contains(&rendition.init.cid)) {
            return false;
        }
        let from = self.would_list_from();
        if from > newest {
            // All of it is below what was on air before.
            return false;
        }
        let mut run: Option<(u64, u64)> = None;
        for (n, segment) in self.segments.range(from..=newest).rev() {
            match (&mut run, self.holds(segment)) {
                (None, true) => run = Some((*n, *n)),
                (Some((first, _)), true) if *first == n + 1 => *first = *n,
                (Some(_), _) => break,
                (None, false) => {}
            }
        }
        let Some((first, last)) = run else { return false };
        let whole = (first, last) == (from, newest);
        let enough = last - first + 1 >= BEGIN.min(newest - from + 1);
        if whole || wait_no_longer && enough {
            (self.on_air, self.first_listed) = (Some(last), first);
        }
        self.on_air.is_some()
    }

    /// What comes next, and when. A segment goes on air when the station lists it or its estimated airtime is over,
    /// whichever is first; one that is not held is waited for, but not for long where the one behind it is due.
    pub fn step(&self, airtimes: &Airtimes, now_ms: i64) -> Step {
        let Some(on_air) = self.on_air else { return Step::Wait(None) };
        let mut ahead = self.segments.range(on_air + 1..);
        let Some((next, segment)) = ahead.next() else { return Step::Wait(None) };
        let at = if self.holds(segment) {
            self.listed_at(airtimes, *next).map(|at| (*next, at))
        } else {
            let behind = ahead.find(|(_, segment)| self.holds(segment)).map(|(n, _)| *n);
            let length = i64::try_from(segment.samples / 48).unwrap_or(i64::MAX);
            let given_up = airtimes.due(*next).map(|due| due.saturating_add(HOLDS_UP * length));
            behind.and_then(|n| Some((n, self.listed_at(airtimes, n)?.max(given_up?))))
        };
        match at {
            Some((n, at)) if at <= now_ms => Step::Reveal(n),
            at => Step::Wait(at.map(|(_, at)| at)),
        }
    }

    fn listed_at(&self, airtimes: &Airtimes, n: u64) -> Option<i64> {
        let listed = self.signed.is_some_and(|(_, newest)| n <= newest);
        if listed { Some(i64::MIN) } else { Some(airtimes.due(n)?.saturating_add(PATIENCE_MS)) }
    }

    /// Puts segment `n` on air. Where numbers jump, the playlists begin anew.
    pub fn reveal(&mut self, n: u64) -> Option<&IndexedSegment> {
        let follows = self.on_air.is_some_and(|on_air| on_air + 1 == n);
        let limit = self.head.as_ref().map_or(1, |head| head.playlist_segments as u64);
        self.first_listed = if follows { self.first_listed.max((n + 1).saturating_sub(limit)) } else { n };
        self.on_air = Some(n);
        self.segments.get(&n)
    }

    /// Drops what is older than `n`, but keeps what players need; returns the media that are not needed any more.
    pub fn forget_before(&mut self, n: u64) -> Vec<Cid> {
        self.keep_from = self.keep_from.max(n);
        let gone = self.drop_old();
        gone.iter().for_each(|cid| _ = self.held.remove(cid));
        gone
    }

    fn drop_old(&mut self) -> Vec<Cid> {
        let oldest = self.oldest();
        let stay = self.segments.split_off(&oldest);
        let gone = std::mem::replace(&mut self.segments, stay);
        self.groups = self.groups.split_off(&index::group(oldest));
        gone.values().flat_map(|segment| &segment.media).map(|entry| entry.cid).collect()
    }

    /// The lowest number that stays.
    pub fn oldest(&self) -> u64 {
        let floor = self.keep_from.max(self.signed.map_or(0, |(oldest, _)| oldest));
        let aired = self.on_air.into_iter().flat_map(|on_air| self.segments.range(..=on_air).rev());
        aired.take(BEGIN as usize).last().map_or(floor, |(n, _)| floor.min(*n))
    }

    /// The air as playlists and folders have it; `None` before anything is.
    pub fn live(&self) -> Option<LiveWindow> {
        let (on_air, head) = (self.on_air?, self.head.as_ref()?);
        let listed = usize::try_from(on_air + 1 - self.first_listed).unwrap_or(usize::MAX);
        let segments = self.segments.values().filter(|segment| segment.n > on_air || self.holds(segment));
        let limit = head.playlist_segments.min(listed);
        Some(LiveWindow::of_index(segments, self.oldest(), on_air, limit))
    }

    /// Renditions and grid, once a tree was read.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The files of the index.
    pub fn groups(&self) -> &BTreeMap<u64, Block> {
        &self.groups
    }

    /// Highest number on air here.
    pub fn on_air(&self) -> Option<u64> {
        self.on_air
    }

    /// The number with which the playlists begin.
    pub fn first_listed(&self) -> u64 {
        self.first_listed
    }

    /// A segment that is known.
    pub fn segment(&self, n: u64) -> Option<&IndexedSegment> {
        self.segments.get(&n)
    }

    /// Every segment that is known, lowest number first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &IndexedSegment> {
        self.segments.values()
    }

    /// Highest number up to which all that is announced is held, from the air on.
    pub fn held_until(&self) -> Option<u64> {
        let on_air = self.on_air?;
        let ahead = self.segments.range(on_air + 1..).take_while(|(_, segment)| self.holds(segment));
        Some(ahead.last().map_or(on_air, |(n, _)| *n))
    }

    /// Segments held and their bytes.
    pub fn weight(&self) -> (usize, u64) {
        let held = self.media().filter(|entry| self.held.contains(&entry.cid));
        held.fold((0, 0), |(blocks, bytes), entry| (blocks + 1, bytes + entry.size))
    }
}

#[cfg(test)]
mod tests;
