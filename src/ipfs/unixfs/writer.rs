//! Directories and files as blocks (UnixFS and DAG-PB specifications). Pure.

use bytes::{BufMut, Bytes, BytesMut};
use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};

use super::{Link, hamt};
use crate::ipfs::Block;

/// A directory whose names and CIDs are longer than this together is sharded: where kubo draws the line, so that both
/// give the same CID for the same entries.
pub const SHARDING_SIZE: usize = 256 * 1024;
/// Bytes of a file in one block; a larger file is split.
pub const CHUNK: usize = 1024 * 1024;

/// UnixFS `Data` of a plain directory: field 1 (`Type`) = 1 (`Directory`).
const DIRECTORY: &[u8] = &[0x08, 0x01];

/// What was written: a node and everything under it that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The node.
    pub cid: Cid,
    /// Bytes of the whole DAG under it, itself included (`Tsize` of a link to it).
    pub size: u64,
    /// The blocks that were made, the node itself last.
    pub blocks: Vec<Block>,
}

/// A directory of these entries, plain or sharded as its size asks. Names must differ.
pub fn directory(links: Vec<Link>) -> Written {
    let estimate: usize = links.iter().map(|link| link.name.len() + link.cid.encoded_len()).sum();
    if estimate > SHARDING_SIZE { hamt::shard(links) } else { plain(links) }
}

fn plain(mut links: Vec<Link>) -> Written {
    // DAG-PB specification: links are sorted by the bytes of their names.
    links.sort_by(|a, b| a.name.cmp(&b.name));
    node(links, DIRECTORY.into(), Vec::new())
}

/// A node of these links over the blocks made below it.
pub(super) fn node(links: Vec<Link>, data: Bytes, mut blocks: Vec<Block>) -> Written {
    let below: u64 = links.iter().map(|link| link.size).sum();
    let links = links
        .into_iter()
        .map(|link| PbLink { cid: link.cid, name: Some(link.name), size: Some(link.size) })
        .collect();
    let block = Block::dag_pb(PbNode { links, data: Some(data) }.into_bytes());
    let (cid, size) = (block.cid, below + block.data.len() as u64);
    blocks.push(block);
    Written { cid, size, blocks }
}

/// A file of these bytes: one raw block, or raw leaves of [`CHUNK`] bytes under one node. Holds 174 MiB at most by
/// the number of links that readers expect; playlists are far below.
pub fn file(bytes: Bytes) -> Written {
    if bytes.len() <= CHUNK {
        let block = Block::raw(bytes);
        return Written { cid: block.cid, size: block.data.len() as u64, blocks: vec![block] };
    }
    // Data.Type = 2 (`File`), filesize, then one blocksizes field per leaf.
    let mut data = BytesMut::from([0x08, 0x02, 0x18].as_slice());
    varint(&mut data, bytes.len() as u64);
    let (mut links, mut blocks, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let leaf = Block::raw(rest.split_to(rest.len().min(CHUNK)));
        data.put_u8(0x20);
        varint(&mut data, leaf.data.len() as u64);
        links.push(Link { name: String::new(), cid: leaf.cid, size: leaf.data.len() as u64 });
        blocks.push(leaf);
    }
    node(links, data.freeze(), blocks)
}

/// Protobuf varint.
pub(super) fn varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` files as `ipfs add -r --cid-version 1 --raw-leaves` sees them.
    fn links(count: usize) -> Vec<Link> {
        let link = |n: usize| {
            let block = Block::raw(format!("segment {n}"));
            Link { name: format!("{n}.m4s"), cid: block.cid, size: block.data.len() as u64 }
        };
        (466_900_000..).take(count).map(link).collect()
    }

    #[test]
    fn a_large_directory_has_the_cid_that_kubo_gives_it() {
        // kubo 0.43: 7,500 files are two levels deep in places, 22,500 everywhere.
        for (count, cid) in [
            (7_500, "bafybeigjpvaqwqyllpd5gg42vyfdgcfzaojndt2udlmheyp3zddgwwb7em"),
            (22_500, "bafybeigedqhirij4ouxilaayfja4phvbqacqshiw6rdq2owyq4wi7lyyvu"),
        ] {
            let written = directory(links(count));
            assert_eq!(written.cid.to_string(), cid);
            assert_eq!(written.blocks.last().unwrap().cid, written.cid);
            let largest = written.blocks.iter().map(|block| block.data.len()).max().unwrap();
            assert!(largest < 32 * 1024, "a block of {largest} bytes");
        }
    }

    #[test]
    fn the_line_between_plain_and_sharded_is_where_kubo_draws_it() {
        // 5,348 entries of 49 bytes, and one whose name fills up to the line or one byte past it.
        let x = Block::raw("x");
        for (name, blocks, cid) in [
            (56, 1, "bafybeifttifgyh2fmvtamjkuprle3xsauy4i2eq7md3ragmsdqcpfx72tq"),
            (57, 257, "bafybeibgmr6edtlgipumad56ka6l5unqgr75g7qkjwlkkrm4yor5xee2ei"),
        ] {
            let mut links = links(5_348);
            links.push(Link { name: "z".repeat(name), cid: x.cid, size: 1 });
            links.iter_mut().for_each(|link| (link.cid, link.size) = (x.cid, 1));
            let written = directory(links);
            assert_eq!((written.cid.to_string().as_str(), written.blocks.len() >= blocks), (cid, true));
        }
    }

    #[test]
    fn a_large_file_has_the_cid_that_kubo_gives_it() {
        // `ipfs add --cid-version 1 --raw-leaves --chunker size-1048576` of 3,000,000 bytes, the n-th of them n % 251.
        let bytes: Bytes = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let written = file(bytes);
        assert_eq!(written.cid.to_string(), "bafybeigqr2ulyhu7r6rmratednc5n7y6s4bl4yui725mm45qk7o2ydor3m");
        assert_eq!(written.blocks.len(), 4);
        assert_eq!(file(Bytes::from_static(b"hello")).cid, Block::raw("hello").cid);
    }
}
