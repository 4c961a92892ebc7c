use super::*;
use crate::ipfs::Block;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Pushes `bytes` in pieces of `piece` bytes and takes out what there is.
fn read(bytes: &[u8], piece: usize) -> Result<(Vec<Cid>, Vec<Block>), CarError> {
    let (mut reader, mut blocks) = (Reader::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        while let Some(block) = reader.next_block()? {
            blocks.push(block);
        }
    }
    reader.finish()?;
    Ok((reader.roots().to_vec(), blocks))
}

fn hello() -> Block {
    Block::raw("hello")
}

fn car() -> Vec<u8> {
    let block = hello();
    [header(&[block.cid]), section(&block.cid, &block.data)].concat()
}

fn wrap(car: &[u8], padding: usize, index: &[u8]) -> Vec<u8> {
    let mut file = b"\x0a\xa1gversion\x02".to_vec();
    file.extend([0; 16]);
    let data = 51 + padding as u64;
    let index_offset = if index.is_empty() { 0 } else { data + car.len() as u64 };
    for number in [data, car.len() as u64, index_offset] {
        file.extend(number.to_le_bytes());
    }
    file.extend(std::iter::repeat_n(0, padding));
    [&file, car, index].concat()
}

#[test]
fn what_is_written_is_what_the_specification_says_to_the_byte() {
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    // Length 58; map of 2; "roots": array of 1, tag 42, 37 bytes that begin with 0; "version": 1.
    let expected = format!("3aa265726f6f747381d82a58250001551220{digest}6776657273696f6e01");
    assert_eq!(hex(&header(&[hello().cid])), expected);
    assert_eq!(hex(&section(&hello().cid, b"hello")), format!("2901551220{digest}68656c6c6f"));
    assert_eq!(hex(&header(&[])), "11a265726f6f7473806776657273696f6e01");
}

#[test]
fn a_section_can_be_written_without_copying_and_its_length_is_known_before() {
    for size in [0, 90, 91, 92, 16_000, 17_000] {
        let block = Block::raw(vec![7; size]);
        let whole = section(&block.cid, &block.data);
        assert_eq!([section_begin(&block.cid, size), block.data].concat(), whole);
        assert_eq!(section_len(&block.cid, size as u64), whole.len() as u64);
    }
}

#[test]
fn pieces_of_any_size_give_the_same_blocks() {
    for file in [car(), wrap(&car(), 0, b""), wrap(&car(), 9, b""), wrap(&car(), 3, b"an index")] {
        for piece in 1..file.len() {
            let (roots, blocks) = read(&file, piece).unwrap();
            assert_eq!((roots, blocks), (vec![hello().cid], vec![hello()]), "pieces of {piece}");
        }
    }
    let mut reader = Reader::new();
    reader.push(&wrap(&car(), 0, b""));
    reader.next_block().unwrap();
    assert_eq!(reader.version(), 2);
}

#[test]
fn every_end_that_is_early_is_told_and_where() {
    // Before the first section a CARv1 is whole, of no blocks.
    let begin = header(&[hello().cid]).len();
    for (file, whole_at) in [(car(), begin), (wrap(&car(), 4, b"index"), usize::MAX)] {
        let index = if whole_at == begin { file.len() } else { file.len() - 4 };
        for end in 0..index {
            let told = read(&file[..end], 7);
            match told {
                Err(CarError::Truncated { offset, .. }) => assert_eq!(offset, end as u64),
                told => assert!(end == whole_at && told.is_ok(), "cut at {end}: {told:?}"),
            }
        }
    }
}

#[test]
fn a_block_that_is_not_the_one_it_is_called_is_named() {
    let mut file = car();
    *file.last_mut().unwrap() ^= 1;
    let error = read(&file, 64).unwrap_err();
    let offset = header(&[hello().cid]).len() as u64;
    assert_eq!(error, CarError::Hash { offset, cid: hello().cid });
    assert!(error.to_string().contains(&hello().cid.to_string()), "{error}");
}

#[test]
fn identity_blocks_are_read_and_other_hash_functions_are_named() {
    let named = |function: u64, digest: &[u8]| {
        Cid::new_v1(0x55, cid::multihash::Multihash::wrap(function, digest).unwrap())
    };
    let file = |cid: &Cid| [header(&[*cid]), section(cid, b"hello")].concat();
    let identity = named(IDENTITY, b"hello");
    assert_eq!(read(&file(&identity), 9).unwrap().1[0].data, "hello");
    assert!(matches!(read(&file(&named(IDENTITY, b"olleh")), 9), Err(CarError::Hash { .. })));
    let blake3 = named(0x1e, &[0; 32]);
    let error = read(&file(&blake3), 9).unwrap_err();
    assert!(matches!(error, CarError::HashFunction { function: 0x1e, cid, .. } if cid == blake3), "{error}");
    // As old as IPFS: a bare SHA2-256 multihash.
    let old = Cid::new_v0(*Block::dag_pb("hello").cid.hash()).unwrap();
    assert_eq!(read(&file(&old), 9).unwrap().1[0].cid, old);
}

#[test]
fn lengths_that_lie_are_refused_before_any_memory_is_spent() {
    let begin = header(&[hello().cid]);
    let after = |bytes: &[u8]| read(&[&begin, bytes].concat(), 1 << 16).unwrap_err();
    assert_eq!(after(&[0]), CarError::EmptySection { offset: begin.len() as u64 });
    assert!(matches!(after(&[0x80, 0x00]), CarError::Varint { reason: "not minimal", .. }));
    assert!(matches!(after(&[0xff; 10]), CarError::Varint { reason: "longer than 9 bytes", .. }));
    assert!(matches!(after(&[0xff, 0xff, 0xff, 0xff, 0x7f]), CarError::SectionTooLong { .. }));
    let mut large = BytesMut::new();
    varint::put(&mut large, 36 + MAX_BLOCK_BYTES + 1);
    large.put_slice(&hello().cid.to_bytes());
    assert!(matches!(after(&large), CarError::BlockTooLarge { length: 2_097_153, .. }));
    let mut shorter = BytesMut::new();
    varint::put(&mut shorter, 10);
    shorter.put_slice(&hello().cid.to_bytes());
    assert!(matches!(after(&shorter), CarError::Cid { .. }));
    assert!(matches!(read(&[0x81, 0x80, 0x02], 9), Err(CarError::Header { offset: 0, .. })));
    assert!(matches!(read(&[0x00], 9), Err(CarError::Header { offset: 0, .. })));
}

#[test]
fn other_versions_and_headers_that_say_something_else_are_refused() {
    let of = |block: &[u8]| read(&[&[block.len() as u8], block].concat(), 64).unwrap_err();
    assert_eq!(of(b"\xa1gversion\x03"), CarError::Version { offset: 0, version: 3 });
    for block in
        [&b"\xa1gversion\x01"[..], b"\xa1eroots\x80", b"\xa2eroots\x80gversion\x02", b"\x80", b"hello"]
    {
        assert!(matches!(of(block), CarError::Header { .. }), "{block:?}");
    }
    assert!(matches!(of(b"\xa2eroots\x80gversion\x01\x00"), CarError::Header { .. }), "trailing bytes");
    let nested = wrap(&wrap(&car(), 0, b""), 0, b"");
    assert_eq!(read(&nested, 64), Err(CarError::Version { offset: 51, version: 2 }));
}

#[test]
fn a_carv2_header_that_contradicts_itself_is_refused() {
    let with = |at: usize, number: u64| {
        let mut file = wrap(&car(), 0, b"index");
        file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        read(&file, 64).unwrap_err()
    };
    let envelope = |error| matches!(error, CarError::Envelope { offset: 11, .. });
    assert!(envelope(with(27, 50)) && envelope(with(35, 0)) && envelope(with(35, u64::MAX)));
    assert!(envelope(with(43, 60)));
    // Data that end inside a section.
    assert!(matches!(with(35, car().len() as u64 - 1), CarError::SectionTooLong { .. }));
    assert!(matches!(with(35, 20), CarError::Header { .. }));
    let mut file = wrap(&car(), 0, b"");
    file.extend([0, 0, 0]);
    assert!(read(&file, 64).is_ok(), "padding may follow");
    file.push(1);
    let offset = file.len() as u64 - 1;
    assert_eq!(read(&file, 64), Err(CarError::TrailingBytes { offset }));
}

#[test]
fn after_an_error_the_reader_says_the_same_again() {
    let mut reader = Reader::new();
    reader.push(&[0x00]);
    let error = reader.next_block().unwrap_err();
    reader.push(&car());
    assert_eq!(reader.next_block(), Err(error.clone()));
    assert_eq!(reader.finish(), Err(error));
}
