//! Read side of sharded directories: a hash array mapped trie over the names (UnixFS specification, "HAMT Sharded
//! Directories").

use std::io::Cursor;

use cid::Cid;

use super::{BlockReader, Link, Node, UnixFsError, load};

/// Multicodec of murmur3-x64-64, the one hash function that the specification allows.
const MURMUR3_X64_64: u64 = 0x22;

/// The widest shard that is read: 1024 slots, as the specification has it.
const MAX_FANOUT: u64 = 1024;

/// Shards that one listing reads at most.
const MAX_SHARDS: usize = 4096;

/// One block of a sharded directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Bits of the hash that choose the slot.
    bits: u32,
    /// Entries and further shards; a name begins with its slot in hexadecimal digits.
    links: Vec<Link>,
}

/// The entries of a directory, or as many of them as were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// The entries, sorted by name.
    pub links: Vec<Link>,
    /// Whether there are more.
    pub more: bool,
}

/// An entry, and the shards below the first that led to it.
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) shards: Vec<Cid>,
}

impl Shard {
    pub(super) fn new(
        hash_type: Option<u64>,
        fanout: Option<u64>,
        links: Vec<Link>,
    ) -> Result<Shard, &'static str> {
        if hash_type != Some(MURMUR3_X64_64) {
            return Err("its names are not hashed with murmur3-x64-64");
        }
        let fanout = fanout.filter(|n| n.is_power_of_two() && (8..=MAX_FANOUT).contains(n));
        let bits = fanout.ok_or("its number of slots is no power of two within 8 and 1024")?.ilog2();
        let shard = Shard { bits, links };
        let width = shard.width();
        let numbered = |link: &Link| link.name.get(..width).is_some_and(|slot| slot_of(slot).is_some());
        if !shard.links.iter().all(numbered) {
            return Err("one of its links has no slot");
        }
        Ok(shard)
    }

    /// Hexadecimal digits of a slot.
    fn width(&self) -> usize {
        // At most three: 1023 is 3FF.
        self.bits.div_ceil(4) as usize
    }

    /// The shards right below.
    pub fn shards(&self) -> impl Iterator<Item = Cid> + '_ {
        self.links.iter().filter(|link| link.name.len() == self.width()).map(|link| link.cid)
    }

    /// The one link of a slot, as in [`Shard::links`].
    fn in_slot(&self, slot: u64) -> Option<(Option<&str>, &Link)> {
        let width = self.width();
        self.links().find(|(_, link)| slot_of(&link.name[..width]) == Some(slot))
    }

    /// Links in order: the name of an entry, `None` for a shard.
    fn links(&self) -> impl DoubleEndedIterator<Item = (Option<&str>, &Link)> {
        let width = self.width();
        // `new` has checked that every name is that long.
        self.links.iter().map(move |link| (Some(&link.name[width..]).filter(|name| !name.is_empty()), link))
    }
}

fn slot_of(digits: &str) -> Option<u64> {
    let upper = digits.bytes().all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit));
    if upper { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// The hash whose bits, highest first, choose a slot in one shard after the other.
fn hash(name: &str) -> u64 {
    let hash = murmur3::murmur3_x64_128(&mut Cursor::new(name), 0);
    // The first of its two halves.
    hash.expect("reading from memory never fails") as u64
}

/// Follows the hash of `name` from `shard`, whose CID is `directory`.
pub(super) async fn find<S: BlockReader>(
    source: &S,
    directory: Cid,
    mut shard: Shard,
    name: &str,
) -> Result<Found, UnixFsError> {
    let hash = hash(name);
    let (mut cid, mut shards, mut used) = (directory, Vec::new(), 0);
    loop {
        let bits = shard.bits;
        used += bits;
        if used > u64::BITS {
            return Err(UnixFsError::Invalid { cid, reason: "its shards are nested too deeply" });
        }
        let slot = (hash >> (u64::BITS - used)) & ((1 << bits) - 1);
        let missing = || UnixFsError::NoSuchEntry { directory, name: name.to_owned() };
        match shard.in_slot(slot).ok_or_else(missing)? {
            (Some(entry), link) if entry == name => {
                return Ok(Found { link: Link { name: name.to_owned(), ..link.clone() }, shards });
            }
            (Some(_), _) => return Err(missing()),
            (None, link) => cid = link.cid,
        }
        shards.push(cid);
        shard = load_shard(source, cid).await?;
    }
}

async fn load_shard<S: BlockReader>(source: &S, cid: Cid) -> Result<Shard, UnixFsError> {
    match load(source, &cid).await? {
        Node::Shard(shard) => Ok(shard),
        _ => Err(UnixFsError::Invalid { cid, reason: "it is part of a sharded directory and no shard" }),
    }
}

/// The entries of a directory of either kind, `max` at most.
///
/// # Errors
/// As [`load`]; [`UnixFsError::NotADirectory`] for what is none.
pub(super) async fn list<S: BlockReader>(
    source: &S,
    cid: Cid,
    node: &Node,
    max: usize,
) -> Result<Entries, UnixFsError> {
    let first = match node {
        Node::Directory(links) => {
            let more = links.len() > max;
            return Ok(Entries { links: links.iter().take(max).cloned().collect(), more });
        }
        Node::Shard(shard) => shard.clone(),
        _ => return Err(UnixFsError::NotADirectory { cid, name: String::new() }),
    };
    let mut entries = Entries { links: Vec::new(), more: false };
    let (mut pending, mut read) = (vec![first], 0);
    let mut below = Vec::new();
    while let Some(shard) = pending.pop() {
        for (name, link) in shard.links() {
            match name {
                None => below.push(link.cid),
                Some(_) if entries.links.len() == max => entries.more = true,
                Some(name) => entries.links.push(Link { name: name.to_owned(), ..link.clone() }),
            }
        }
        entries.more |= !below.is_empty() && entries.links.len() == max;
        if entries.more {
            break;
        }
        if let Some(next) = below.pop() {
            read += 1;
            if read > MAX_SHARDS {
                return Err(UnixFsError::Invalid { cid, reason: "it has too many shards" });
            }
            pending.push(load_shard(source, next).await?);
        }
    }
    entries.links.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_hashed_as_every_implementation_does() {
        // The slots that kubo gives these names in a shard of 256.
        assert_eq!(hash("hello") >> 56, 0xcb);
        assert_eq!(hash("") >> 56, 0);
    }

    #[test]
    fn shards_of_another_hash_or_width_are_refused() {
        let link = |name: &str| Link { name: name.into(), cid: Cid::default(), size: 0 };
        assert!(Shard::new(Some(MURMUR3_X64_64), Some(256), vec![link("0Aname"), link("FF")]).is_ok());
        assert!(Shard::new(Some(0x12), Some(256), Vec::new()).is_err());
        for fanout in [None, Some(0), Some(4), Some(100), Some(2048), Some(u64::MAX)] {
            assert!(Shard::new(Some(MURMUR3_X64_64), fanout, Vec::new()).is_err(), "{fanout:?}");
        }
        for name in ["", "0", "name", "0é", "0a", "+1name"] {
            assert!(Shard::new(Some(MURMUR3_X64_64), Some(256), vec![link(name)]).is_err(), "{name}");
        }
    }
}
