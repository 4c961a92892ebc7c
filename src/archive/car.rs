//! Finds its way in a CARv1 file (<https://ipld.io/specs/transport/car/carv1/>) by its frame, without reading the data.
//! Pure.

use cid::Cid;

use crate::ipfs::car;

/// Bytes of every CID here: version, codec of one or two bytes, sha2-256.
const LONGEST_CID: usize = 37;
/// Bytes that hold the head of any section: length and CID.
pub(super) const LONGEST_HEAD: usize = 10 + LONGEST_CID;
/// The longest section that is believed: the largest block that peers exchange, and its CID.
const LONGEST_SECTION: u64 = 2 * 1024 * 1024 + LONGEST_CID as u64;

/// Bytes of the header that `bytes` begin with, itself included, and its root; `None` where it is not one of ours.
pub(super) fn parse_header(bytes: &[u8]) -> Option<(u64, Cid)> {
    let (len, varint) = varint(bytes)?;
    let end = varint + usize::try_from(len).ok()?;
    let cid = bytes.get(varint..end)?.strip_prefix(b"\xa2\x65roots\x81\xd8\x2a\x58")?;
    let root = Cid::read_bytes(cid.get(2..)?).ok()?;
    (car::header(&[root]) == bytes[..end]).then_some((end as u64, root))
}

/// Bytes in front of the data in the section of a block of `len` bytes.
pub(super) fn head_len(cid: &Cid, len: u64) -> u64 {
    car::section_len(cid, len) - len
}

/// The head of the section that `bytes` begin with: its CID, bytes of the head, bytes of the data. `None` where
/// there is none.
pub(super) fn parse_head(bytes: &[u8]) -> Option<(Cid, u64, u64)> {
    let (len, varint) = varint(bytes)?;
    let cid = Cid::read_bytes(bytes.get(varint..)?).ok()?;
    let data = len.checked_sub(cid.encoded_len() as u64).filter(|_| len <= LONGEST_SECTION)?;
    Some((cid, (varint + cid.encoded_len()) as u64, data))
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_read_as_written_and_nothing_else_is_one() {
        let root = Block::raw("x").cid;
        let header = car::header(&[root]);
        assert_eq!(parse_header(&header), Some((header.len() as u64, root)));
        for end in 0..header.len() {
            assert_eq!(parse_header(&header[..end]), None);
        }
    }

    proptest! {
        #[test]
        fn a_section_is_read_as_written(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let block = Block::raw(data.clone());
            let bytes = car::section(&block.cid, &data);
            let (cid, head, len) = parse_head(&bytes).unwrap();
            prop_assert_eq!((cid, head), (block.cid, head_len(&block.cid, len)));
            prop_assert_eq!(&bytes[head as usize..], &data);
        }

        #[test]
        fn foreign_bytes_are_no_section_or_a_bounded_one(data in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some((_, _, len)) = parse_head(&data) {
                prop_assert!(len <= LONGEST_SECTION);
            }
            parse_header(&data);
        }
    }
}
