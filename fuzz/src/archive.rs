//! Files of an archive on a damaged disk.
//!
//! Input: the sections, each with its kind; hashes are right where the kind says so, as a fuzzer does not guess them.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use cid::Cid;

use super::day::Day;
use super::record::{JSON, Record, filed_under};
use super::volume::Volume;
use super::{car, index::Index};
use crate::cut::Cut;
use crate::ipfs::{self, Block};

/// The file of this process, in memory where the system has a place for that.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("skywave-fuzz-{}.car", std::process::id()))
});

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    let (n, samples) = (cut.long(), cut.long());
    let (day, hour) = filed_under(n, samples);
    assert!(day.len() == 10 && hour < 24);
    parts(cut.0);
    scan(cut.0);
    let (file, held) = file(&mut cut);
    if let Some(volume) = scan(&file) {
        for cid in held {
            let _ = volume.read(&cid);
        }
        goes_on(&volume);
    }
}

fn parts(bytes: &[u8]) {
    if let Some((len, root)) = car::parse_header(bytes) {
        assert!(len as usize <= bytes.len() && ipfs::car::header(&[root]) == bytes[..len as usize]);
    }
    if let Some((cid, head, len)) = car::parse_head(bytes) {
        assert!(head as usize <= bytes.len());
        let mut index = Index::default();
        index.extend([(cid, head, len)]);
        assert!(index.places(&cid).all(|place| place == (head, len)));
    }
    let block = Block::of(JSON, Bytes::copy_from_slice(bytes));
    if let Some(record) = Record::parse(&block.cid, bytes.to_vec()) {
        let written = record.to_block();
        assert_eq!(Record::parse(&written.cid, written.data.to_vec()), Some(record));
    }
}

/// A file of sections: blocks, records, and what is torn or overwritten.
fn file(cut: &mut Cut<'_>) -> (Vec<u8>, Vec<Cid>) {
    let mut file = ipfs::car::header(&[Block::raw("root").cid]).to_vec();
    let mut held = Vec::new();
    while !cut.is_empty() && held.len() < 64 {
        let kind = cut.byte();
        let len = cut.short();
        let data = cut.bytes(len.into());
        let block = match kind % 4 {
            0 => Block::raw(data.to_vec()),
            1 => Block::of(JSON, record(data, &held).into()),
            2 => Block { data: data.to_vec().into(), ..Block::of(JSON, "damaged".into()) },
            _ => {
                file.extend_from_slice(data);
                continue;
            }
        };
        file.extend_from_slice(&ipfs::car::section(&block.cid, &block.data));
        held.push(block.cid);
    }
    (file, held)
}

/// `$0` is the newest CID before it.
fn record(text: &[u8], held: &[Cid]) -> String {
    let mut text = String::from_utf8_lossy(text).into_owned();
    for (index, cid) in held.iter().rev().enumerate().take(10) {
        text = text.replace(&format!("${index}"), &cid.to_string());
    }
    text
}

fn scan(bytes: &[u8]) -> Option<Volume> {
    fs::write(&*FILE, bytes).expect("the file can be written");
    let scanned = Volume::scan(&FILE).ok()?;
    assert!(scanned.volume.len() <= bytes.len() as u64, "whole is no more than there is");
    let mut day = Day::default();
    for record in &scanned.records {
        assert!(record.blocks().count() <= bytes.len());
        day.add(record);
    }
    for written in [day.tree(false), day.tree(true)] {
        assert_eq!(written.blocks.last().map(|block| block.cid), Some(written.cid));
    }
    let (closing, blocks) = day.close_hour();
    assert!(closing.blocks().map(|entry| entry.cid).eq(blocks.iter().map(|block| block.cid)));
    Some(scanned.volume)
}

/// The next minute goes behind what is whole, and both are found by the next scan.
fn goes_on(volume: &Volume) {
    let media = Block::raw("the next minute");
    let next = Record::new(Vec::new(), Vec::new(), vec![(&media).into()]).to_block();
    let grown = volume.append(&[next.clone(), media.clone()]).expect("the file can be written");
    let read = grown.read(&media.cid).expect("the file can be read");
    assert_eq!(read.as_ref(), Some(&media.data));
    let again = Volume::scan(&FILE).expect("a file with a header");
    assert!(again.volume.len() >= grown.len() && again.volume.holds(&next.cid));
}
