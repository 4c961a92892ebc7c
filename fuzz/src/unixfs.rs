//! Blocks of others as files and directories.
//!
//! Input: how to read, then the blocks. A block can link to those before it, which is what hashes allow.

use bytes::Bytes;
use cid::Cid;
use futures::executor::block_on;
use ipld_dagpb::{PbLink, PbNode};

use crate::cut::Cut;
use crate::ipfs::unixfs::writer::directory;
use crate::ipfs::unixfs::{FileReader, Link, Node, list, load, parse, resolve};
use crate::ipfs::{Block, Blocks, ipld, traversal};

const CODECS: [u64; 6] = [0x55, 0x70, 0x70, 0x71, 0x0129, 0x51];
/// Blocks of one input.
const MOST_BLOCKS: usize = 64;
/// Pieces of a file that are read; a small tree can stand for 64 GiB.
const MOST_PIECES: usize = 2_000;
const MOST_ENTRIES: usize = 100;

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    let (first, length) = (cut.long(), cut.long());
    let path = String::from_utf8_lossy(cut.counted()).into_owned();
    let path: Vec<_> = path.split('/').filter(|name| !name.is_empty()).take(32).map(str::to_owned).collect();
    let store = Blocks::default();
    let mut held = Vec::new();
    while !cut.is_empty() && held.len() < MOST_BLOCKS {
        let block = block(&mut cut, &held);
        store.put(block.cid, block.data.clone());
        held.push(block);
    }
    for block in &held {
        alone(block);
    }
    if let Some(root) = held.last() {
        read(&store, root.cid, &path, first, length);
        walk(&store, root.cid);
    }
    written(&held, &path);
}

fn block(cut: &mut Cut<'_>, held: &[Block]) -> Block {
    let kind = cut.byte();
    if kind & 0x80 == 0 {
        let len = cut.short();
        return Block::of(
            CODECS[usize::from(kind) % CODECS.len()],
            Bytes::copy_from_slice(cut.bytes(len.into())),
        );
    }
    if kind & 0x40 != 0 {
        return json(cut, held);
    }
    let links = (0..kind & 0x1f).filter_map(|_| {
        let block = chosen(cut, held)?;
        let name = String::from_utf8_lossy(cut.counted()).into_owned();
        Some(PbLink { cid: block, name: Some(name), size: Some(cut.byte().into()) })
    });
    let links = links.collect();
    let data = Bytes::copy_from_slice(cut.counted());
    Block::dag_pb(PbNode { links, data: (kind & 0x20 == 0).then_some(data) }.into_bytes())
}

/// A block that is held, one that is not, or one that its CID holds.
fn chosen(cut: &mut Cut<'_>, held: &[Block]) -> Option<Cid> {
    match cut.byte() {
        0xff => Some(Block::raw("missing").cid),
        0xfe => {
            let hash = cid::multihash::Multihash::wrap(0, cut.bytes(20)).ok()?;
            Some(Cid::new_v1(CODECS[usize::from(cut.byte()) % CODECS.len()], hash))
        }
        back => Some(held.iter().rev().nth(usize::from(back) % held.len().max(1))?.cid),
    }
}

/// DAG-JSON, and DAG-CBOR of the same, with links by the number of the block.
fn json(cut: &mut Cut<'_>, held: &[Block]) -> Block {
    let mut text = String::from_utf8_lossy(cut.counted()).into_owned();
    for (index, block) in held.iter().rev().enumerate().take(10) {
        text = text.replace(&format!("${index}"), &format!("{{\"/\":\"{}\"}}", block.cid));
    }
    let block = Block::of(ipld::DAG_JSON, text.into());
    let value = ipld::decode(&block.cid, &block.data);
    match value.and_then(|value| serde_ipld_dagcbor::to_vec(&value).ok()) {
        Some(cbor) if cut.byte() & 1 == 1 => Block::of(ipld::DAG_CBOR, cbor.into()),
        _ => block,
    }
}

fn alone(block: &Block) {
    let links = ipld::links(&block.cid, &block.data);
    if let Ok(node) = parse(block.cid, block.data.clone()) {
        match node {
            Node::File(file) => {
                let below: u64 = file.blocks.iter().map(|(_, size)| size).sum();
                assert_eq!(file.size, file.inline.len() as u64 + below);
                assert_eq!(links.map(|links| links.len()), Some(file.blocks.len()));
            }
            Node::Directory(entries) => assert_eq!(links.map(|links| links.len()), Some(entries.len())),
            Node::Shard(shard) => assert!(shard.shards().count() <= links.map_or(0, |links| links.len())),
            Node::Raw(bytes) | Node::Other(bytes) => assert_eq!(bytes, block.data),
            Node::Symlink(_) => {}
        }
    }
}

fn read(store: &Blocks, root: Cid, path: &[String], first: u64, length: u64) {
    store.take_reads();
    let resolved = block_on(resolve(store, root, path));
    // 21 shards of 8 slots use up the bits of a hash.
    assert!(store.take_reads() <= 1 + 23 * path.len() as u64);
    let Ok(resolved) = resolved else { return };
    assert!(resolved.roots.len() <= path.len() + 1 && resolved.roots.last() == Some(&resolved.cid));
    if let Ok(entries) = block_on(list(store, resolved.cid, &resolved.node, MOST_ENTRIES)) {
        assert!(entries.links.len() <= MOST_ENTRIES);
        for link in &entries.links {
            let _ = block_on(load(store, &link.cid));
        }
    }
    assert!(store.take_reads() <= 4_096 + MOST_ENTRIES as u64);
    if let Node::File(file) = &resolved.node {
        let wanted = first.min(file.size)..first.saturating_add(length).min(file.size);
        let mut reader = FileReader::new(store.clone(), file, first..first.saturating_add(length));
        let mut given = 0;
        for _ in 0..MOST_PIECES {
            match block_on(reader.next()) {
                Ok(Some(bytes)) => {
                    assert!(!bytes.is_empty());
                    given += bytes.len() as u64;
                }
                Ok(None) => return assert_eq!(given, wanted.end - wanted.start),
                Err(_) => break,
            }
        }
        assert!(given <= wanted.end - wanted.start);
    }
}

fn walk(store: &Blocks, root: Cid) {
    let mut walk = traversal::Walk::new(store, root).limit(1_000);
    let mut seen = std::collections::HashSet::new();
    loop {
        match block_on(walk.next_block()) {
            Ok(Some(block)) => assert!(seen.insert(block.cid), "a block comes twice"),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    assert!(seen.len() <= 1_000);
}

/// A directory that we write of such names reads the same.
fn written(held: &[Block], path: &[String]) {
    let mut names: Vec<_> = path.to_vec();
    names.sort();
    names.dedup();
    let links: Vec<_> = names
        .into_iter()
        .zip(held.iter().cycle())
        .map(|(name, block)| Link { name, cid: block.cid, size: block.data.len() as u64 })
        .collect();
    let written = directory(links.clone());
    let root = written.blocks.last().expect("a directory is a block");
    match parse(root.cid, root.data.clone()) {
        Ok(Node::Directory(read)) => assert_eq!(read, links),
        other => panic!("a directory of ours reads as {other:?}"),
    }
}
