//! Where blocks lie in a file, in 16 bytes each: a day of three renditions takes about 1 MB. Pure.

use cid::Cid;

/// Bits of a place that hold the length of the block; the others hold its offset.
const LEN_BITS: u32 = 24;

/// The blocks of one file, by the first eight bytes of their hash.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    sorted: Vec<(u64, u64)>,
}

impl Index {
    /// Adds blocks with their offsets and lengths; what does not fit into a place is left out.
    pub(super) fn extend(&mut self, blocks: impl IntoIterator<Item = (Cid, u64, u64)>) {
        let fits = |offset: &u64, len: &u64| *len < 1 << LEN_BITS && *offset < 1 << (64 - LEN_BITS);
        let fitting = blocks.into_iter().filter(|(_, offset, len)| fits(offset, len));
        self.sorted.extend(fitting.map(|(cid, offset, len)| (key(&cid), offset << LEN_BITS | len)));
        self.sorted.sort_unstable();
    }

    /// Offset and length of what may be the block; whoever reads it checks its hash.
    pub(super) fn places(&self, cid: &Cid) -> impl Iterator<Item = (u64, u64)> + '_ {
        let key = key(cid);
        let first = self.sorted.partition_point(|(other, _)| *other < key);
        let same = self.sorted[first..].iter().take_while(move |(other, _)| *other == key);
        same.map(|(_, place)| (place >> LEN_BITS, place & ((1 << LEN_BITS) - 1)))
    }
}

fn key(cid: &Cid) -> u64 {
    let digest = cid.hash().digest();
    digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;

    #[test]
    fn every_block_is_found_where_it_was_put_and_no_other_is() {
        let mut index = Index::default();
        let cid = |n: u64| Block::raw(n.to_string()).cid;
        for batch in 0..4_u64 {
            index.extend((batch * 100..batch * 100 + 100).map(|n| (cid(n), n * 1_000_000_007, n)));
        }
        for n in 0..400 {
            assert_eq!(index.places(&cid(n)).collect::<Vec<_>>(), [(n * 1_000_000_007, n)]);
        }
        assert_eq!(index.places(&cid(400)).count(), 0);
    }
}
