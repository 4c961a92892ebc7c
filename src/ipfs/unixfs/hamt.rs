//! Sharded directories, written (UnixFS specification, "HAMT Directory"). Pure.
//!
//! Each level takes the next byte of a name's hash as the slot of a shard of 256. A slot with one name holds its link,
//! one with several holds another shard. The shape depends on the names alone.

use bytes::{BufMut, Bytes, BytesMut};
use murmur3::murmur3_x64_128;

use super::Link;
use super::writer::{Written, node, varint};
use crate::ipfs::Block;

/// Slots of a shard (`Data.fanout`).
const FANOUT: u64 = 256;
/// Multicodec of murmur3-x64-64 (`Data.hashType`).
const HASH_TYPE: u64 = 0x22;

/// A name's hash and its link.
struct Hashed {
    hash: [u8; 8],
    link: Link,
}

/// The sharded directory of these entries.
pub(super) fn shard(links: Vec<Link>) -> Written {
    let mut hashed: Vec<_> = links.into_iter().map(|link| Hashed { hash: hash(&link.name), link }).collect();
    hashed.sort_by(|a, b| (a.hash, &a.link.name).cmp(&(b.hash, &b.link.name)));
    let mut blocks = Vec::new();
    let mut root = level(&hashed, 0, &mut blocks);
    blocks.append(&mut root.blocks);
    Written { blocks, ..root }
}

/// The first 64 bits of murmur3-x64-128, most significant byte first.
fn hash(name: &str) -> [u8; 8] {
    let hash = murmur3_x64_128(&mut name.as_bytes(), 0).expect("a slice can be read");
    (hash as u64).to_be_bytes()
}

/// The shard of names whose hashes agree in their first `depth` bytes. Shards below it go to `blocks`.
fn level(hashed: &[Hashed], depth: usize, blocks: &mut Vec<Block>) -> Written {
    let mut bitfield = [0_u8; FANOUT as usize / 8];
    let mut links = Vec::new();
    for slot in hashed.chunk_by(|a, b| a.hash[depth] == b.hash[depth]) {
        let index = slot[0].hash[depth];
        bitfield[bitfield.len() - 1 - usize::from(index / 8)] |= 1 << (index % 8);
        match slot {
            [only] => {
                links.push(Link { name: format!("{index:02X}{}", only.link.name), ..only.link.clone() })
            }
            // All 64 bits alike: no deeper shard could tell the names apart, so one slot holds them all.
            alike if depth + 1 == alike[0].hash.len() => {
                let link =
                    |one: &Hashed| Link { name: format!("{index:02X}{}", one.link.name), ..one.link.clone() };
                links.extend(alike.iter().map(link));
            }
            several => {
                let mut below = level(several, depth + 1, blocks);
                blocks.append(&mut below.blocks);
                links.push(Link { name: format!("{index:02X}"), cid: below.cid, size: below.size });
            }
        }
    }
    node(links, data(&bitfield), Vec::new())
}

/// UnixFS `Data`: Type = 5 (`HAMTShard`), the bitfield of taken slots without its leading zeros, hashType, fanout.
fn data(bitfield: &[u8]) -> Bytes {
    let first = bitfield.iter().position(|byte| *byte != 0).unwrap_or(bitfield.len());
    let taken = &bitfield[first..];
    let mut data = BytesMut::from([0x08, 0x05, 0x12].as_slice());
    varint(&mut data, taken.len() as u64);
    data.put_slice(taken);
    data.put_u8(0x28);
    varint(&mut data, HASH_TYPE);
    data.put_u8(0x30);
    varint(&mut data, FANOUT);
    data.freeze()
}
