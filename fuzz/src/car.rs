//! CAR files of others, in pieces. Input: the number of piece sizes, the sizes, the file.

use cid::Cid;

use crate::cut::Cut;
use crate::ipfs::Block;
use crate::ipfs::car::{CarError, MAX_SECTION_BYTES, Reader, header, section, section_len};
use multihash_codetable::{Code, MultihashDigest};

type Content = (Vec<Block>, Vec<Cid>, u64, Result<(), CarError>);

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    let sizes = cut.counted();
    let file = cut.0;
    let whole = read(file, &[]);
    let pieces = read(file, sizes);
    assert_eq!(whole, pieces, "how a file is cut makes a difference");
    let (blocks, roots, version, end) = whole;
    assert!(matches!(version, 1 | 2));
    blocks.iter().for_each(check);
    if end.is_ok() {
        written_again(&blocks, &roots);
    }
}

/// What a reader gives, with its end.
fn read(mut file: &[u8], sizes: &[u8]) -> Content {
    let (mut reader, mut blocks) = (Reader::new(), Vec::new());
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    let mut end = Ok(());
    while !file.is_empty() && end.is_ok() {
        let (piece, rest) = file.split_at(sizes.next().unwrap_or(file.len()).min(file.len()));
        file = rest;
        reader.push(piece);
        end = loop {
            match reader.next_block() {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        assert!(reader.buffered() as u64 <= MAX_SECTION_BYTES + piece.len() as u64);
    }
    let end = end.and_then(|()| reader.finish());
    if let Err(error) = &end {
        assert_eq!(reader.next_block().as_ref(), Err(error), "an error stays");
    }
    (blocks, reader.roots().to_vec(), reader.version(), end)
}

fn check(block: &Block) {
    let hash = block.cid.hash();
    let matches = match hash.code() {
        0x00 => hash.digest() == block.data,
        0x12 => Code::Sha2_256.digest(&block.data).digest() == hash.digest(),
        _ => false,
    };
    assert!(matches, "{} is not what its bytes say", block.cid);
}

fn written_again(blocks: &[Block], roots: &[Cid]) {
    let mut file = header(roots).to_vec();
    for block in blocks {
        let written = section(&block.cid, &block.data);
        assert_eq!(written.len() as u64, section_len(&block.cid, block.data.len() as u64));
        file.extend_from_slice(&written);
    }
    let again = read(&file, &[]);
    assert_eq!(again, (blocks.to_vec(), roots.to_vec(), 1, Ok(())));
}
