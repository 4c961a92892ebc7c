//! One file of the archive: a CAR that only grows.
//!
//! Its blocks follow records that name them ([`super::record`]), so that a scan reads a record a minute and skips the
//! audio. A write goes through to the disk before it counts; what a power cut tore is the last record at most, and is cut
//! off by the next write. Every read checks the block's hash.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cid::Cid;
use multihash_codetable::{Code, MultihashDigest};

use super::car;
use super::index::Index;
use super::record::{JSON, Record};
use crate::ipfs::{self, Block};
use crate::state::{self, Durability};

/// A file and where its blocks lie. A write gives a new one, so that readers are never waited for.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    path: PathBuf,
    /// Bytes that are whole; what lies behind them is a torn write.
    len: u64,
    index: Index,
}

/// What a scan found.
pub(super) struct Scanned {
    pub(super) volume: Volume,
    /// The root that the header names.
    pub(super) root: Cid,
    /// The records, oldest first.
    pub(super) records: Vec<Record>,
}

/// Blocks by their place: CID, offset, length.
type Places = Vec<(Cid, u64, u64)>;

impl Volume {
    /// A file that is not there yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, len: 0, index: Index::default() }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The volume with `blocks` appended, through to the disk.
    ///
    /// # Errors
    /// What the system says; the volume before still stands.
    pub(super) fn append(&self, blocks: &[Block]) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(blocks.iter().map(|block| block.data.len() + 64).sum());
        if self.len == 0 {
            let root = blocks.first().map_or_else(Cid::default, |block| block.cid);
            bytes = ipfs::car::header(&[root]).to_vec();
        }
        let places = sections(&mut bytes, self.len, blocks);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        file.set_len(self.len)?;
        file.write_all_at(&bytes, self.len)?;
        file.sync_data()?;
        if self.len == 0 {
            sync_folder(&self.path)?;
        }
        let mut grown = Self { len: self.len + bytes.len() as u64, ..self.clone() };
        grown.index.extend(places);
        Ok(grown)
    }

    /// Writes a whole file at once, root last among the blocks. A crash leaves all of it or nothing.
    ///
    /// # Errors
    /// What the system says; no file is left at `path`.
    pub(super) fn create(path: PathBuf, root: &Cid, blocks: &[Block]) -> io::Result<Self> {
        let mut bytes = ipfs::car::header(&[*root]).to_vec();
        let places = sections(&mut bytes, 0, blocks);
        state::replace(&path, &bytes, Durability::Power, state::OPEN)?;
        let mut volume = Self { path, len: bytes.len() as u64, index: Index::default() };
        volume.index.extend(places);
        Ok(volume)
    }

    /// The block, where it is here and whole.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidData`] where the file is damaged at the block's place.
    pub(super) fn read(&self, cid: &Cid) -> io::Result<Option<Bytes>> {
        for (offset, len) in self.index.places(cid) {
            // The length fits: an index holds 24 bits of it.
            let mut bytes = vec![0; len as usize];
            File::open(&self.path)?.read_exact_at(&mut bytes, offset)?;
            if Code::Sha2_256.digest(&bytes).digest() == cid.hash().digest() {
                return Ok(Some(bytes.into()));
            }
        }
        if self.holds(cid) { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) }
    }

    /// Whether the block lies here.
    pub(super) fn holds(&self, cid: &Cid) -> bool {
        self.index.places(cid).next().is_some()
    }

    /// Reads the records of a file and notes where its blocks lie.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidData`] for a file without a header.
    pub(super) fn scan(path: &Path) -> io::Result<Scanned> {
        let file = File::open(path)?;
        let mut scan =
            Scan { file_len: file.metadata()?.len(), file, records: Vec::new(), index: Index::default() };
        let head = scan.bytes(0, 256)?;
        let (mut at, root) = car::parse_header(&head).ok_or(io::ErrorKind::InvalidData)?;
        let (mut newest, mut damaged) = (None, None);
        while let Some((end, places, section)) = scan.step(at)? {
            match section {
                Section::Record => (newest, damaged) = (Some((at, places.clone())), None),
                Section::Damaged => damaged = damaged.or(Some(at)),
                Section::Block => {}
            }
            scan.index.extend(places);
            at = end;
        }
        // Only what came last can be torn; all before it was on the disk when it was written.
        if let Some(begin) = damaged {
            at = begin;
        } else if let Some((begin, places)) = newest
            && !scan.are_whole(&places)?
        {
            scan.records.pop();
            at = begin;
        }
        let volume = Volume { path: path.to_owned(), len: at, index: scan.index };
        Ok(Scanned { volume, root, records: scan.records })
    }
}

enum Section {
    /// A record, and with it the blocks that it names.
    Record,
    /// A record that cannot be read; its blocks are walked one by one.
    Damaged,
    Block,
}

struct Scan {
    file: File,
    file_len: u64,
    records: Vec<Record>,
    index: Index,
}

impl Scan {
    /// Takes in the section at `at`, with the blocks that it names where it is a record. Returns the end, the blocks
    /// and what it was; `None` at the end of what is whole.
    fn step(&mut self, at: u64) -> io::Result<Option<(u64, Places, Section)>> {
        let Some((cid, head, len)) = car::parse_head(&self.bytes(at, car::LONGEST_HEAD)?) else {
            return Ok(None);
        };
        let mut end = at + head + len;
        if end > self.file_len {
            return Ok(None);
        }
        if cid.codec() != JSON {
            return Ok(Some((end, vec![(cid, at + head, len)], Section::Block)));
        }
        let bytes = self.bytes(at + head, len as usize)?;
        let Some(record) = Record::parse(&cid, bytes) else {
            return Ok(Some((end, Vec::new(), Section::Damaged)));
        };
        let mut places = vec![(cid, at + head, len)];
        for entry in record.blocks() {
            let data = end + car::head_len(&entry.cid, entry.size);
            places.push((entry.cid, data, entry.size));
            end = data.saturating_add(entry.size);
        }
        if end > self.file_len {
            return Ok(None);
        }
        self.records.push(record);
        Ok(Some((end, places, Section::Record)))
    }

    /// At most `len` bytes at `at`, fewer at the end of the file.
    fn bytes(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let len = (len as u64).min(self.file_len.saturating_sub(at));
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn are_whole(&self, places: &Places) -> io::Result<bool> {
        for (cid, offset, len) in places {
            let bytes = self.bytes(*offset, *len as usize)?;
            if Code::Sha2_256.digest(&bytes).digest() != cid.hash().digest() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Appends the sections of `blocks` to `out`, whose first byte lies at `base`, and tells where each block lies.
fn sections(out: &mut Vec<u8>, base: u64, blocks: &[Block]) -> Places {
    let place = |block: &Block| {
        out.extend_from_slice(&ipfs::car::section_begin(&block.cid, block.data.len()));
        out.extend_from_slice(&block.data);
        let len = block.data.len() as u64;
        (block.cid, base + out.len() as u64 - len, len)
    };
    blocks.iter().map(place).collect()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    use crate::archive::record::{Rendition, Segment};
    use crate::publisher::stream_tree::Entry;

    /// A record of two segments and their blocks.
    fn minute(first: u64) -> Vec<Block> {
        let media: Vec<_> = (first..first + 2).map(|n| Block::raw(format!("audio {n}").repeat(9))).collect();
        let init = Entry::from(&Block::raw("init"));
        let rendition = Rendition { name: "hifi".into(), codecs: "mp4a.40.2".into(), init };
        let segment = |(n, block): (u64, &Block)| Segment {
            n,
            program_date_time_ms: 0,
            samples: 184_320,
            discontinuity: false,
            media: vec![Entry::from(block)],
        };
        let record = Record::new(vec![rendition], (first..).zip(&media).map(segment).collect(), Vec::new());
        [vec![record.to_block()], media].concat()
    }

    fn numbers(scanned: &Scanned) -> Vec<u64> {
        scanned.records.iter().flat_map(|record| &record.segments).map(|segment| segment.n).collect()
    }

    fn three_minutes(path: &Path) -> (Vec<Block>, Volume) {
        let minutes = [minute(1), minute(3), minute(5)];
        let volume = minutes.iter().fold(Volume::new(path.to_owned()), |v, blocks| v.append(blocks).unwrap());
        (minutes.concat(), volume)
    }

    #[test]
    fn a_scan_finds_what_was_appended_and_every_block_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("13.car");
        let (blocks, volume) = three_minutes(&path);
        let scanned = Volume::scan(&path).unwrap();
        assert_eq!((numbers(&scanned), scanned.volume.len()), (vec![1, 2, 3, 4, 5, 6], volume.len()));
        assert_eq!(volume.len(), fs::metadata(&path).unwrap().len());
        for block in &blocks {
            for volume in [&volume, &scanned.volume] {
                assert_eq!(volume.read(&block.cid).unwrap(), Some(block.data.clone()));
            }
        }
        assert!(volume.read(&Block::raw("another").cid).unwrap().is_none());
    }

    #[test]
    fn wherever_a_write_was_torn_all_before_it_stands_and_the_next_write_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("13.car");
        let (_, whole) = three_minutes(&path);
        let bytes = fs::read(&path).unwrap();
        let two = {
            let other = folder.path().join("two.car");
            [minute(1), minute(3)].iter().fold(Volume::new(other), |v, b| v.append(b).unwrap()).len()
        };
        for end in two..whole.len() {
            // Cut short, or filled with zeros as some file systems leave it.
            let mut torn = bytes[..end as usize].to_vec();
            if end % 2 == 0 {
                torn.resize(bytes.len(), 0);
            }
            fs::write(&path, torn).unwrap();
            let scanned = Volume::scan(&path).unwrap();
            assert_eq!((numbers(&scanned), scanned.volume.len()), (vec![1, 2, 3, 4], two), "torn at {end}");
            let mended = scanned.volume.append(&minute(5)).unwrap();
            assert_eq!((mended.len(), fs::read(&path).unwrap() == bytes), (whole.len(), true));
        }
    }

    #[test]
    fn a_damaged_byte_costs_its_block_or_its_minute_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("13.car");
        let (blocks, whole) = three_minutes(&path);
        let bytes = fs::read(&path).unwrap();
        let last = minute(5).iter().map(|block| block.data.len() + 40).sum::<usize>();
        for at in (0..bytes.len() - last).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let unread = blocks.iter().filter(|block| !matches!(whole.read(&block.cid), Ok(Some(_)))).count();
            assert!(unread <= 1, "{unread} blocks at {at}");
            // A header or a length that is damaged ends the scan; it never fails otherwise.
            let Ok(scanned) = Volume::scan(&path) else { continue };
            assert!(numbers(&scanned).is_sorted());
        }
    }

    #[test]
    fn a_file_that_is_no_car_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("13.car");
        for bytes in [Vec::new(), vec![0; 300], b"hello".to_vec()] {
            fs::write(&path, bytes).unwrap();
            assert!(Volume::scan(&path).is_err());
        }
    }
}
