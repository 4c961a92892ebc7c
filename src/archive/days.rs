//! The days on the disk: written, closed, dropped. All of it blocks on the disk and runs beside the stage.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;

use super::ArchiveError;
use super::day::Day;
use super::record::{Record, Rendition, Segment, filed_under};
use super::store::Store;
use super::volume::{Scanned, Volume};
use crate::ipfs::Block;
use crate::ipfs::unixfs::writer::{Written, directory};
use crate::ipfs::unixfs::{self, Link, Node};
use crate::publisher::stream_tree::Entry;

/// File of the tree of a day that is over.
const TREE: &str = "tree.car";

/// Segments of one hour that are written at once.
pub(super) struct Minute {
    pub(super) renditions: Vec<Rendition>,
    /// `init.mp4` of each rendition.
    pub(super) inits: Vec<Block>,
    /// The segments, with the bytes of each rendition.
    pub(super) segments: Vec<(Segment, Vec<Bytes>)>,
}

/// What became of a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is on the disk.
    Written {
        /// An hour or a day was closed for it.
        closed: bool,
    },
    /// The limit leaves no room beside the day that goes on.
    Full,
}

/// The archive as the stage writes it.
pub(super) struct Days {
    folder: PathBuf,
    max_bytes: u64,
    store: Arc<Store>,
    /// Days that are over, oldest first, with the directory of each.
    closed: BTreeMap<String, Entry>,
    /// The day that goes on, with the hour that does.
    open: Option<(String, u8, Day)>,
    /// Days that are not linked any more and still lie on the disk.
    dropped: Vec<String>,
    newest: Option<u64>,
}

impl Days {
    /// Reads what is there. A day that cannot be read is told and left alone; it counts for nothing.
    ///
    /// # Errors
    /// [`ArchiveError::Folder`] when the folder can be neither made nor listed.
    pub(super) fn load(folder: PathBuf, max_bytes: u64, store: Arc<Store>) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Folder { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            names.extend(Some(name).filter(|name| is_day(name)));
        }
        names.sort();
        let mut days = Self {
            folder,
            max_bytes,
            store,
            closed: BTreeMap::new(),
            open: None,
            dropped: Vec::new(),
            newest: None,
        };
        for name in names {
            days.load_day(name)?;
        }
        Ok(days)
    }

    /// Takes in a day from its files. Where it has no tree, it is the one that goes on, until a later one is found.
    fn load_day(&mut self, name: String) -> Result<(), ArchiveError> {
        self.close_day()?;
        let mut day = Day::default();
        let mut hour = 0;
        for file in (0..24).map(hour_file) {
            if let Some(scanned) = scan(&self.folder.join(&name).join(&file)) {
                hour = file[..2].parse().unwrap_or(hour);
                scanned.records.iter().for_each(|record| day.add(record));
                self.store.put(&name, &file, scanned.volume);
            }
        }
        self.newest = self.newest.max(day.newest());
        match self.load_tree(&name) {
            Some(root) => drop(self.closed.insert(name, root)),
            None if day.newest().is_some() => self.open = Some((name, hour, day)),
            None => {}
        }
        Ok(())
    }

    /// The directory of a day that is over, where its tree is whole.
    fn load_tree(&self, name: &str) -> Option<Entry> {
        let scanned = scan(&self.folder.join(name).join(TREE))?;
        let bytes = scanned.volume.read(&scanned.root).ok().flatten()?;
        let size = bytes.len() as u64;
        let Ok(Node::Directory(links)) = unixfs::parse(scanned.root, bytes) else { return None };
        let size = links.iter().fold(size, |sum, link| sum.saturating_add(link.size));
        self.store.put(name, TREE, scanned.volume);
        Some(Entry { cid: scanned.root, size })
    }

    /// The newest segment that is archived.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Bytes of all files, those of dropped days left out.
    pub(super) fn bytes(&self) -> u64 {
        let open = self.open.iter().map(|(name, ..)| name);
        self.closed.keys().chain(open).map(|name| self.store.bytes_of(name)).sum()
    }

    /// Writes a minute: closes what is over, drops the oldest days where the limit asks.
    ///
    /// # Errors
    /// [`ArchiveError::Write`]; nothing of the minute counts as written.
    pub(super) fn write(&mut self, minute: &Minute) -> Result<Outcome, ArchiveError> {
        let Some((first, _)) = minute.segments.first() else { return Ok(Outcome::Written { closed: false }) };
        let (name, hour) = filed_under(first.n, first.samples);
        let closed = self.turn_to(&name, hour)?;
        let media = minute.segments.iter().flat_map(|(_, media)| media).map(|bytes| bytes.len() as u64).sum();
        if !self.make_room(media) {
            return Ok(Outcome::Full);
        }
        let folder = self.folder.join(&name);
        fs::create_dir_all(&folder).map_err(|source| ArchiveError::Write { path: folder.clone(), source })?;
        let (record, blocks) = self.blocks_of(&name, &hour_file(hour), minute);
        self.append(&name, hour, &blocks)?;
        let (_, _, day) = self.open.get_or_insert_with(|| (name, hour, Day::default()));
        day.add(&record);
        self.newest = self.newest.max(day.newest());
        Ok(Outcome::Written { closed })
    }

    /// Closes the hour and the day that are over when a segment of another one comes.
    fn turn_to(&mut self, name: &str, hour: u8) -> Result<bool, ArchiveError> {
        match &self.open {
            Some((open, ..)) if open != name => self.close_day()?,
            Some((_, open, _)) if *open != hour => self.close_hour(hour)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Ends the hour: its directories go behind its segments.
    fn close_hour(&mut self, next: u8) -> Result<(), ArchiveError> {
        let Some((name, hour, day)) = &self.open else { return Ok(()) };
        let (record, mut blocks) = day.close_hour();
        blocks.insert(0, record.to_block());
        self.append(&name.clone(), *hour, &blocks)?;
        if let Some((_, hour, day)) = &mut self.open {
            day.add(&record);
            *hour = next;
        }
        Ok(())
    }

    /// Ends the day: its tree goes into a file of its own.
    fn close_day(&mut self) -> Result<(), ArchiveError> {
        let Some((name, _, day)) = &self.open else { return Ok(()) };
        let Written { cid, size, mut blocks } = day.tree(true);
        // The renditions' playlists are mostly one and the same.
        let mut seen = std::collections::HashSet::new();
        blocks.retain(|block| seen.insert(block.cid));
        let path = self.folder.join(name).join(TREE);
        let volume = Volume::create(path.clone(), &cid, &blocks)
            .map_err(|source| ArchiveError::Write { path, source })?;
        self.store.put(name, TREE, volume);
        self.closed.insert(name.clone(), Entry { cid, size });
        self.open = None;
        Ok(())
    }

    /// The record of a minute and its blocks, the record first. Init segments stand once in each file.
    fn blocks_of(&self, name: &str, file: &str, minute: &Minute) -> (Record, Vec<Block>) {
        let volume = self.store.volume(name, file);
        let known = |block: &&Block| volume.as_ref().is_some_and(|volume| volume.holds(&block.cid));
        let inits: Vec<_> = minute.inits.iter().filter(|block| !known(block)).cloned().collect();
        let segments = minute.segments.iter().map(|(segment, _)| segment.clone()).collect();
        let others = inits.iter().map(Entry::from).collect();
        let record = Record::new(minute.renditions.clone(), segments, others);
        let mut blocks = vec![record.to_block()];
        blocks.extend(inits);
        blocks.extend(minute.segments.iter().flat_map(|(_, media)| media).cloned().map(Block::raw));
        (record, blocks)
    }

    fn append(&self, name: &str, hour: u8, blocks: &[Block]) -> Result<(), ArchiveError> {
        let file = hour_file(hour);
        let path = self.folder.join(name).join(&file);
        let volume = self.store.volume(name, &file);
        let volume = volume.map_or_else(|| Volume::new(path.clone()), |volume| (*volume).clone());
        let grown = volume.append(blocks).map_err(|source| ArchiveError::Write { path, source })?;
        self.store.put(name, &file, grown);
        Ok(())
    }

    /// Unlinks the oldest days until `coming` bytes fit; false where the day that goes on leaves no room for them.
    fn make_room(&mut self, coming: u64) -> bool {
        while self.bytes() + coming > self.max_bytes {
            let Some((name, _)) = self.closed.pop_first() else { return false };
            tracing::info!(day = name, "the oldest day leaves the archive");
            self.dropped.push(name);
        }
        true
    }

    /// Days that nothing links any more, to be removed once nobody reads them.
    pub(super) fn take_dropped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.dropped)
    }

    /// Removes the files of a day that was dropped.
    pub(super) fn remove(&mut self, name: &str) {
        self.store.remove_day(name);
        let path = self.folder.join(name);
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a day that left the archive is not removed");
        }
    }

    /// The folder of all days; its new blocks go to the store. `None` while there is none.
    pub(super) fn publish(&self) -> Option<Entry> {
        let link = |name: &str, cid: Cid, size: u64| Link { name: name.to_owned(), cid, size };
        let mut links: Vec<_> = self.closed.iter().map(|(name, day)| link(name, day.cid, day.size)).collect();
        let mut blocks = Vec::new();
        if let Some((name, _, day)) = &self.open {
            let mut tree = day.tree(false);
            links.push(link(name, tree.cid, tree.size));
            blocks.append(&mut tree.blocks);
        }
        if links.is_empty() {
            return None;
        }
        let mut top = directory(links);
        blocks.append(&mut top.blocks);
        self.store.refresh(blocks);
        Some(Entry { cid: top.cid, size: top.size })
    }
}

fn hour_file(hour: u8) -> String {
    format!("{hour:02}.car")
}

/// A file of the archive; `None` where there is none, or none that can be read, which is told.
fn scan(path: &Path) -> Option<Scanned> {
    match Volume::scan(path) {
        Ok(scanned) => Some(scanned),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a file of the archive cannot be read; it is set aside");
            // What is written next must not go into it.
            let _ = fs::rename(path, path.with_extension("damaged"));
            None
        }
    }
}

/// `2026-11-22`: nothing else in the folder is ours.
fn is_day(name: &str) -> bool {
    let shape = |(index, byte): (usize, u8)| {
        if matches!(index, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() }
    };
    name.len() == 10 && name.bytes().enumerate().all(shape)
}
