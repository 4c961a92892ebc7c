//! Shelf: every file in play order with what is known of it, and what to find out next. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{Catalogue, Facts, Verdict};
use super::scanner::File;
use super::{Library, Tags, Track, Unplayable};
use crate::audio::loudness::Measured;

/// The state behind a [`Library`] snapshot.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    slots: Vec<Slot>,
    index: HashMap<Arc<Path>, usize>,
    /// Files whose content, tags and headers are not known, in play order.
    unidentified: VecDeque<File>,
    /// Files not measured, in play order.
    unmeasured: VecDeque<File>,
}

#[derive(Debug)]
struct Slot {
    file: File,
    facts: Option<Facts>,
    /// Why the player gave it up. Believed until the scan has measured the file itself.
    rejected: Option<String>,
    track: Arc<Track>,
}

/// What a first look into a file gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Headers {
    pub(super) fingerprint: String,
    pub(super) tags: Tags,
    pub(super) duration: Option<Duration>,
}

impl Slot {
    fn new(file: File, facts: Option<Facts>) -> Self {
        let track = track(&file, facts.as_ref());
        Self { file, facts, rejected: None, track }
    }

    fn learn(&mut self, facts: Facts) {
        self.track = track(&self.file, Some(&facts));
        self.facts = Some(facts);
    }

    fn reason(&self) -> Option<&str> {
        match &self.facts {
            Some(Facts { verdict: Verdict::Unplayable { reason }, .. }) => Some(reason),
            _ => self.rejected.as_deref(),
        }
    }

    /// A file that could not be read may be readable by now.
    fn needs_identifying(&self) -> bool {
        self.facts.as_ref().is_none_or(|facts| facts.fingerprint.is_empty())
    }

    fn is_scanned(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.verdict != Verdict::Pending)
    }
}

fn track(file: &File, facts: Option<&Facts>) -> Arc<Track> {
    Arc::new(Track {
        path: Arc::clone(&file.path),
        tags: facts.map(|facts| facts.tags.clone()).unwrap_or_default(),
        duration: facts.and_then(|facts| facts.duration),
        loudness: facts.and_then(|facts| facts.verdict.loudness()),
        version: file.version,
    })
}

impl Shelf {
    /// Takes over what a walk found; files that stayed the same keep what is known of them.
    pub(super) fn restock(&mut self, files: Vec<File>, catalogue: &Catalogue) {
        let mut old: HashMap<_, _> =
            self.slots.drain(..).map(|slot| (Arc::clone(&slot.file.path), slot)).collect();
        for file in files {
            let same = old.remove(&file.path).filter(|slot| slot.file.version == file.version);
            let slot = same.unwrap_or_else(|| {
                let facts = catalogue.get(&file).cloned();
                Slot::new(file, facts)
            });
            self.slots.push(slot);
        }
        let slots = || self.slots.iter();
        self.index = slots().enumerate().map(|(at, slot)| (Arc::clone(&slot.file.path), at)).collect();
        self.unidentified = slots().filter(|slot| slot.needs_identifying()).map(|s| s.file.clone()).collect();
        let pending = |slot: &&Slot| !slot.needs_identifying() && !slot.is_scanned();
        self.unmeasured = slots().filter(pending).map(|slot| slot.file.clone()).collect();
    }

    /// Up to `count` files to look into.
    pub(super) fn take_unidentified(&mut self, count: usize) -> Vec<File> {
        let count = count.min(self.unidentified.len());
        self.unidentified.drain(..count).collect()
    }

    /// The next file to measure.
    pub(super) fn take_unmeasured(&mut self) -> Option<File> {
        self.unmeasured.pop_front()
    }

    /// Takes in a first look. A content already known needs no measuring.
    pub(super) fn identified(
        &mut self,
        file: &File,
        headers: Result<Headers, String>,
        catalogue: &mut Catalogue,
    ) {
        let Some(slot) = self.slot(file) else { return };
        let facts = match headers {
            Ok(Headers { fingerprint, tags, duration }) => {
                let known = catalogue.find(&fingerprint).cloned();
                known.unwrap_or(Facts { fingerprint, tags, duration, verdict: Verdict::Pending })
            }
            Err(reason) => {
                warn_once(slot, &reason);
                let (fingerprint, tags) = (String::new(), Tags::default());
                Facts { fingerprint, tags, duration: None, verdict: Verdict::Unplayable { reason } }
            }
        };
        let is_pending = facts.verdict == Verdict::Pending;
        catalogue.put(file, &facts);
        slot.learn(facts);
        if is_pending {
            self.unmeasured.push_back(file.clone());
        }
    }

    /// Takes in a measurement, which overrules what the player reported.
    pub(super) fn measured(
        &mut self,
        file: &File,
        result: Result<Measured, String>,
        catalogue: &mut Catalogue,
    ) {
        let Some(slot) = self.slot(file) else { return };
        let Some(mut facts) = slot.facts.clone() else { return };
        match result {
            Ok(measured) => {
                facts.duration = Some(measured.duration);
                facts.verdict = Verdict::Measured(measured.loudness);
            }
            Err(reason) => {
                warn_once(slot, &reason);
                facts.verdict = Verdict::Unplayable { reason };
            }
        }
        slot.rejected = None;
        catalogue.put(file, &facts);
        slot.learn(facts);
    }

    /// Gives up a file the player could not play.
    pub(super) fn reject(&mut self, path: &Path, reason: &str) {
        if let Some(&at) = self.index.get(path) {
            warn_once(&self.slots[at], reason);
            self.slots[at].rejected = Some(reason.to_owned());
        }
    }

    /// Forgets what the player could not play: another medium may be in the drive.
    pub(super) fn forgive(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.rejected = None);
    }

    /// All paths.
    pub(super) fn paths(&self) -> HashSet<Arc<Path>> {
        self.index.keys().cloned().collect()
    }

    /// A snapshot. `is_walking`: more files may be found.
    pub(super) fn library(&self, is_walking: bool) -> Library {
        let scanned = self.slots.iter().filter(|slot| slot.is_scanned()).count();
        let found = self.slots.len();
        let mut library =
            Library { scanning: is_walking || scanned < found, scanned, found, ..Library::default() };
        for slot in &self.slots {
            match slot.reason() {
                None => library.tracks.push(Arc::clone(&slot.track)),
                Some(reason) => {
                    let (path, reason) = (slot.file.path.to_path_buf(), reason.to_owned());
                    library.unplayable.push(Unplayable { path, reason });
                }
            }
        }
        library
    }

    /// The slot of exactly this version of a file.
    fn slot(&mut self, file: &File) -> Option<&mut Slot> {
        let slot = &mut self.slots[*self.index.get(&file.path)?];
        (slot.file.version == file.version).then_some(slot)
    }
}

fn warn_once(slot: &Slot, reason: &str) {
    if slot.reason().is_none() {
        tracing::warn!(track = %slot.file.path.display(), reason, "file cannot be played: skipped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::loudness::{Loudness, SILENT_LUFS};
    use crate::library::FileVersion;

    fn file(name: &str, size: u64) -> File {
        File { path: Path::new(name).into(), version: FileVersion { size, modified: 0 } }
    }

    fn headers(fingerprint: &str) -> Headers {
        Headers { fingerprint: fingerprint.into(), tags: Tags::default(), duration: None }
    }

    fn stocked(names: &[&str]) -> (Shelf, Catalogue) {
        let (mut shelf, catalogue) = (Shelf::default(), Catalogue::default());
        shelf.restock(names.iter().map(|name| file(name, 1)).collect(), &catalogue);
        (shelf, catalogue)
    }

    const SILENT: Measured = Measured {
        loudness: Loudness { integrated_lufs: SILENT_LUFS, true_peak: 0.0 },
        duration: Duration::from_secs(1),
        skipped_packets: 0,
    };

    #[test]
    fn tracks_are_there_before_anything_is_known_of_them() {
        let (shelf, _) = stocked(&["b", "a"]);
        let library = shelf.library(false);
        let paths: Vec<_> = library.tracks.iter().map(|track| track.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["b", "a"]);
        assert!(library.scanning);
        assert_eq!((library.scanned, library.found), (0, 2));
    }

    #[test]
    fn a_scan_ends_and_a_known_content_is_not_measured_twice() {
        let (mut shelf, mut catalogue) = stocked(&["a", "copy"]);
        for file in shelf.take_unidentified(1) {
            shelf.identified(&file, Ok(headers("same")), &mut catalogue);
        }
        let first = shelf.take_unmeasured().unwrap();
        shelf.measured(&first, Ok(SILENT), &mut catalogue);
        for file in shelf.take_unidentified(9) {
            shelf.identified(&file, Ok(headers("same")), &mut catalogue);
        }
        assert_eq!(shelf.take_unmeasured(), None);
        assert!(!shelf.library(false).scanning);
    }

    #[test]
    fn a_changed_file_is_new_and_an_old_result_is_not_taken_for_it() {
        let (mut shelf, mut catalogue) = stocked(&["a"]);
        let old = shelf.take_unidentified(1).remove(0);
        shelf.restock(vec![file("a", 2)], &catalogue);
        shelf.identified(&old, Err("unreadable".into()), &mut catalogue);
        assert_eq!(shelf.library(false).tracks.len(), 1);
        assert_eq!(shelf.take_unidentified(9), [file("a", 2)]);
    }

    #[test]
    fn a_rejected_file_is_left_out_until_measured_and_for_good_after_that() {
        let (mut shelf, mut catalogue) = stocked(&["a"]);
        shelf.reject(Path::new("a"), "no");
        assert_eq!(shelf.library(false).unplayable[0].reason, "no");
        let a = shelf.take_unidentified(1).remove(0);
        shelf.identified(&a, Ok(headers("aa")), &mut catalogue);
        assert!(shelf.library(false).tracks.is_empty());
        shelf.measured(&a, Ok(SILENT), &mut catalogue);
        assert_eq!(shelf.library(false).tracks.len(), 1);
        shelf.reject(Path::new("a"), "still no");
        shelf.restock(vec![a.clone()], &catalogue);
        assert!(shelf.library(false).tracks.is_empty());
        shelf.forgive();
        assert_eq!(shelf.library(false).tracks.len(), 1);
    }

    #[test]
    fn an_unreadable_file_is_looked_into_at_each_walk_and_not_remembered() {
        let (mut shelf, mut catalogue) = stocked(&["a"]);
        let a = shelf.take_unidentified(1).remove(0);
        shelf.identified(&a, Err("denied".into()), &mut catalogue);
        assert_eq!(shelf.library(false).unplayable.len(), 1);
        assert_eq!(catalogue.get(&a), None);
        shelf.restock(vec![a.clone()], &catalogue);
        assert_eq!(shelf.take_unidentified(9), std::slice::from_ref(&a));
        shelf.identified(&a, Ok(headers("aa")), &mut catalogue);
        assert_eq!(shelf.library(false).tracks.len(), 1);
        assert_eq!(shelf.take_unmeasured(), Some(a));
    }
}
