use std::ops::Range;

use ipld_dagpb::{PbLink, PbNode};
use multihash_codetable::{Code, MultihashDigest};
use proptest::prelude::*;

use super::*;

fn cid_of(codec: u64, bytes: &[u8]) -> Cid {
    Cid::new_v1(codec, Code::Sha2_256.digest(bytes))
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn data_message(data_type: u64, inline: &[u8], filesize: Option<u64>, blocksizes: &[u64]) -> Bytes {
    let mut out = Vec::new();
    let mut number = |tag: u8, value: u64| {
        out.push(tag);
        varint(value, &mut out);
    };
    number(0x08, data_type);
    if let Some(filesize) = filesize {
        number(0x18, filesize);
    }
    blocksizes.iter().for_each(|size| number(0x20, *size));
    out.push(0x12);
    varint(inline.len() as u64, &mut out);
    out.extend_from_slice(inline);
    out.into()
}

async fn put(blocks: &Blocks, codec: u64, bytes: impl Into<Bytes>) -> Cid {
    let bytes = bytes.into();
    let cid = cid_of(codec, &bytes);
    blocks.put(cid, bytes).await.unwrap();
    cid
}

async fn put_node(blocks: &Blocks, data: Bytes, links: &[(&str, Cid, u64)]) -> Cid {
    let links = links
        .iter()
        .map(|(name, cid, size)| PbLink { cid: *cid, name: Some((*name).to_owned()), size: Some(*size) })
        .collect();
    put(blocks, DAG_PB, PbNode { links, data: Some(data) }.into_bytes()).await
}

async fn put_file(blocks: &Blocks, inline: &[u8], parts: &[(Cid, u64)]) -> Cid {
    let sizes: Vec<u64> = parts.iter().map(|(_, size)| *size).collect();
    let size = inline.len() as u64 + sizes.iter().sum::<u64>();
    let links: Vec<_> = parts.iter().map(|(cid, size)| ("", *cid, *size)).collect();
    put_node(blocks, data_message(2, inline, Some(size), &sizes), &links).await
}

async fn put_directory(blocks: &Blocks, links: &[(&str, Cid, u64)]) -> Cid {
    put_node(blocks, data_message(1, &[], None, &[]), links).await
}

async fn read(blocks: &Blocks, cid: &Cid, range: Range<u64>) -> Result<Vec<u8>, UnixFsError> {
    let Node::File(file) = load(blocks, cid).await? else { panic!("{cid} is no file") };
    let mut reader = FileReader::new(blocks.clone(), &file, range);
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await? {
        assert!(!bytes.is_empty());
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

fn path(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

/// A file of three levels: inline bytes at two of them, raw leaves of different lengths.
async fn sample_file(blocks: &Blocks) -> (Cid, Vec<u8>) {
    let a = put(blocks, RAW, &b"bcdef"[..]).await;
    let b = put(blocks, RAW, &b"ghi"[..]).await;
    let lower = put_file(blocks, b"0123", &[(b, 3)]).await;
    let c = put(blocks, RAW, &b"z"[..]).await;
    (put_file(blocks, b"a", &[(a, 5), (lower, 7), (c, 1)]).await, b"abcdef0123ghiz".to_vec())
}

#[tokio::test]
async fn a_path_leads_through_directories_and_names_every_cid_on_the_way() {
    let blocks = Blocks::in_memory();
    let segment = put(&blocks, RAW, &b"audio"[..]).await;
    let hifi = put_directory(&blocks, &[("7.m4s", segment, 5)]).await;
    let root = put_directory(&blocks, &[("hifi", hifi, 60)]).await;
    let resolved = resolve(&blocks, root, &path("hifi/7.m4s")).await.unwrap();
    assert_eq!(resolved.cid, segment);
    assert_eq!(resolved.node, Node::Raw(Bytes::from_static(b"audio")));
    assert_eq!(resolved.roots, [root, hifi, segment]);
    assert!(resolved.remainder.is_empty());
}

#[tokio::test]
async fn a_path_that_ends_early_says_where() {
    let blocks = Blocks::in_memory();
    let segment = put(&blocks, RAW, &b"audio"[..]).await;
    let missing = cid_of(RAW, b"never stored");
    let root = put_directory(&blocks, &[("7.m4s", segment, 5), ("gone", missing, 5)]).await;
    let error = resolve(&blocks, root, &path("8.m4s")).await.unwrap_err();
    assert!(matches!(error, UnixFsError::NoSuchEntry { directory, .. } if directory == root), "{error}");
    let error = resolve(&blocks, root, &path("7.m4s/x")).await.unwrap_err();
    assert!(matches!(error, UnixFsError::NotADirectory { cid, .. } if cid == segment), "{error}");
    let error = resolve(&blocks, root, &path("gone")).await.unwrap_err();
    assert!(matches!(error, UnixFsError::NotHeld { cid } if cid == missing), "{error}");
}

#[tokio::test]
async fn a_path_below_another_codec_leaves_a_remainder() {
    const DAG_CBOR: u64 = 0x71;
    let blocks = Blocks::in_memory();
    // {"now": {"title": 1}}
    let cbor = put(&blocks, DAG_CBOR, &b"\xa1\x63now\xa1\x65title\x01"[..]).await;
    let root = put_directory(&blocks, &[("state", cbor, 1)]).await;
    let resolved = resolve(&blocks, root, &path("state/now/title")).await.unwrap();
    assert_eq!((resolved.cid, resolved.remainder), (cbor, path("now/title")));
}

/// The blocks of a CAR, and its root.
async fn import(blocks: &Blocks, car: &[u8]) -> Cid {
    let mut reader = crate::ipfs::car::Reader::new();
    reader.push(car);
    while let Some(block) = reader.next_block().unwrap() {
        blocks.put(block.cid, block.data).await.unwrap();
    }
    reader.finish().unwrap();
    reader.roots()[0]
}

#[tokio::test]
async fn every_entry_of_a_sharded_directory_made_by_kubo_is_found_and_listed() {
    let fixtures: [(&[u8], usize); 2] = [
        (include_bytes!("../../../tests/fixtures/unixfs/sharded-8.car"), 60),
        (include_bytes!("../../../tests/fixtures/unixfs/sharded-256.car"), 120),
    ];
    for (car, files) in fixtures {
        let blocks = Blocks::in_memory();
        let root = import(&blocks, car).await;
        let mut expected: Vec<_> =
            (1..=files).map(|n| (format!("file-{n}.txt"), format!("entry {n}"))).collect();
        expected.push(("ünï cödé.txt".into(), "deep".into()));
        let mut deepest = 0;
        for (name, text) in &expected {
            let resolved = resolve(&blocks, root, std::slice::from_ref(name)).await.unwrap();
            assert_eq!(resolved.node, Node::Raw(Bytes::from(text.clone())), "{name}");
            assert_eq!(resolved.roots, [root, resolved.cid]);
            assert_eq!(resolved.visited[0], root);
            deepest = deepest.max(resolved.visited.len());
        }
        assert!(deepest > 1, "no shard lies below another in this fixture");
        let error = resolve(&blocks, root, &path("file-0.txt")).await.unwrap_err();
        assert!(matches!(error, UnixFsError::NoSuchEntry { directory, .. } if directory == root), "{error}");
        let node = load(&blocks, &root).await.unwrap();
        let all = list(&blocks, root, &node, 1000).await.unwrap();
        expected.sort();
        let names: Vec<_> = all.links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, expected.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        assert!(!all.more);
        let some = list(&blocks, root, &node, 10).await.unwrap();
        assert_eq!((some.links.len(), some.more), (10, true));
    }
}

#[tokio::test]
async fn a_shard_that_leads_to_itself_or_to_a_file_is_refused() {
    let blocks = Blocks::in_memory();
    // Type 5, hash murmur3-x64-64, 256 slots.
    let data = Bytes::from_static(&[0x08, 5, 0x12, 0, 0x28, 0x22, 0x30, 0x80, 2]);
    let leaf = put(&blocks, RAW, &b"no shard"[..]).await;
    let every_slot: Vec<String> = (0..256).map(|slot| format!("{slot:02X}")).collect();
    let links: Vec<_> = every_slot.iter().map(|slot| (slot.as_str(), leaf, 1)).collect();
    let to_a_file = put_node(&blocks, data.clone(), &links).await;
    let error = resolve(&blocks, to_a_file, &path("x")).await.unwrap_err();
    assert!(matches!(error, UnixFsError::Invalid { cid, .. } if cid == leaf), "{error}");
    // Deeper than the hash has bits.
    let mut below = to_a_file;
    for _ in 0..9 {
        let links: Vec<_> = every_slot.iter().map(|slot| (slot.as_str(), below, 1)).collect();
        below = put_node(&blocks, data.clone(), &links).await;
    }
    let error = resolve(&blocks, below, &path("x")).await.unwrap_err();
    assert!(matches!(error, UnixFsError::Invalid { .. }), "{error}");
    let node = load(&blocks, &below).await.unwrap();
    assert!(matches!(list(&blocks, below, &node, 10).await, Err(UnixFsError::Invalid { .. })));
}

#[tokio::test]
async fn a_path_goes_through_links_of_other_codecs() {
    let blocks = Blocks::in_memory();
    let file = put(&blocks, RAW, &b"audio"[..]).await;
    let json = format!(r#"{{"now":{{"file":{{"/":"{file}"}}}}}}"#);
    let json = put(&blocks, crate::ipfs::ipld::DAG_JSON, json).await;
    let root = put_directory(&blocks, &[("state", json, 1)]).await;
    let resolved = resolve(&blocks, root, &path("state/now/file")).await.unwrap();
    assert_eq!((resolved.cid, resolved.roots), (file, vec![root, json, file]));
    assert_eq!(resolved.visited, [root, json]);
    let error = resolve(&blocks, root, &path("state/now/x")).await.unwrap_err();
    assert!(matches!(error, UnixFsError::NoSuchEntry { directory, .. } if directory == json), "{error}");
}

#[tokio::test]
async fn a_block_in_its_own_cid_is_always_there() {
    let cid: Cid = "bafkqabtimvwgy3yk".parse().unwrap();
    assert_eq!(load(&Blocks::in_memory(), &cid).await.unwrap(), Node::Raw(Bytes::from_static(b"hello\n")));
}

#[tokio::test]
async fn every_byte_range_of_a_file_reads_the_same_as_from_memory() {
    let blocks = Blocks::in_memory();
    let (cid, expected) = sample_file(&blocks).await;
    for from in 0..=expected.len() {
        for to in from..=expected.len() {
            let bytes = read(&blocks, &cid, from as u64..to as u64).await.unwrap();
            assert_eq!(bytes, &expected[from..to], "{from}..{to}");
        }
    }
    assert_eq!(read(&blocks, &cid, 0..u64::MAX).await.unwrap(), expected);
}

#[tokio::test]
async fn leaves_outside_the_range_are_never_loaded() {
    let blocks = Blocks::in_memory();
    let held = put(&blocks, RAW, &b"held"[..]).await;
    let missing = cid_of(RAW, b"gone");
    let file = put_file(&blocks, b"", &[(missing, 4), (held, 4), (missing, 4)]).await;
    assert_eq!(read(&blocks, &file, 4..8).await.unwrap(), b"held");
    assert!(matches!(read(&blocks, &file, 3..8).await, Err(UnixFsError::NotHeld { .. })));
}

#[tokio::test]
async fn declared_sizes_that_do_not_add_up_are_refused() {
    let blocks = Blocks::in_memory();
    let leaf = put(&blocks, RAW, &b"four"[..]).await;
    let wrong_sum = put_node(&blocks, data_message(2, &[], Some(9), &[4]), &[("", leaf, 4)]).await;
    let no_sizes = put_node(&blocks, data_message(2, &[], Some(4), &[]), &[("", leaf, 4)]).await;
    let overflow = data_message(2, &[], None, &[u64::MAX, 2]);
    let overflow = put_node(&blocks, overflow, &[("", leaf, 4), ("", leaf, 4)]).await;
    let huge = data_message(2, &[], None, &[MAX_FILE_BYTES + 1]);
    let huge = put_node(&blocks, huge, &[("", leaf, 4)]).await;
    for cid in [wrong_sum, no_sizes, overflow, huge] {
        assert!(matches!(load(&blocks, &cid).await, Err(UnixFsError::Invalid { .. })), "{cid}");
    }
    let lying = put_file(&blocks, b"", &[(leaf, 5)]).await;
    assert!(
        matches!(read(&blocks, &lying, 0..5).await, Err(UnixFsError::Invalid { cid, .. }) if cid == leaf)
    );
}

#[tokio::test]
async fn a_tower_of_nodes_ends_at_the_depth_limit() {
    let blocks = Blocks::in_memory();
    let mut top = put(&blocks, RAW, &b"x"[..]).await;
    for _ in 0..MAX_FILE_DEPTH {
        top = put_file(&blocks, b"", &[(top, 1)]).await;
    }
    assert_eq!(read(&blocks, &top, 0..1).await.unwrap(), b"x");
    top = put_file(&blocks, b"", &[(top, 1)]).await;
    top = put_file(&blocks, b"", &[(top, 1)]).await;
    assert!(matches!(read(&blocks, &top, 0..1).await, Err(UnixFsError::Invalid { .. })));
}

#[tokio::test]
async fn a_directory_inside_a_file_and_an_oversized_block_are_refused() {
    let blocks = Blocks::in_memory();
    let directory = put_directory(&blocks, &[]).await;
    let file = put_file(&blocks, b"", &[(directory, 3)]).await;
    assert!(
        matches!(read(&blocks, &file, 0..3).await, Err(UnixFsError::Invalid { cid, .. }) if cid == directory)
    );
    let big = put(&blocks, RAW, vec![0; MAX_BLOCK_BYTES + 1]).await;
    assert!(matches!(load(&blocks, &big).await, Err(UnixFsError::Invalid { .. })));
}

#[test]
fn packed_block_sizes_and_unknown_fields_are_read_as_protobuf_asks() {
    let message = [0x08, 2, 0x22, 3, 5, 0x80, 1, 0x38, 9, 0x45, 0, 0, 0, 0, 0x49, 0, 0, 0, 0, 0, 0, 0, 0];
    let data = wire::parse_data(&Bytes::copy_from_slice(&message)).unwrap();
    assert_eq!((data.data_type, data.blocksizes), (Some(2), vec![5, 128]));
}

#[test]
fn numbers_of_more_than_64_bits_are_refused() {
    let number = |last: &[u8]| Bytes::from([&[0x18], &[0xff; 9][..], last].concat());
    assert_eq!(wire::parse_data(&number(&[0x01])).unwrap().filesize, Some(u64::MAX));
    for last in [&[0x02][..], &[0x81, 0x00], &[0x80]] {
        assert_eq!(wire::parse_data(&number(last)), None, "{last:?}");
    }
}

#[test]
fn nodes_written_by_another_implementation_are_read() {
    // The empty directory and the empty file, whose CIDs every IPFS implementation agrees on.
    let directory: Cid = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn".parse().unwrap();
    let bytes = Bytes::from_static(&[0x0a, 0x02, 0x08, 0x01]);
    assert_eq!(directory.hash(), &Code::Sha2_256.digest(&bytes));
    assert_eq!(parse(directory, bytes).unwrap(), Node::Directory(Vec::new()));
    let file: Cid = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH".parse().unwrap();
    let bytes = Bytes::from_static(&[0x0a, 0x04, 0x08, 0x02, 0x18, 0x00]);
    assert_eq!(file.hash(), &Code::Sha2_256.digest(&bytes));
    let expected = File { size: 0, inline: Bytes::new(), blocks: Vec::new() };
    assert_eq!(parse(file, bytes).unwrap(), Node::File(expected));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(cid_of(DAG_PB, b""), Bytes::from(bytes.clone()));
        let _ = wire::parse_data(&Bytes::from(bytes));
    }

    #[test]
    fn a_message_is_read_as_written(
        inline in prop::collection::vec(any::<u8>(), 0..50),
        sizes in prop::collection::vec(any::<u64>(), 0..20),
        filesize in any::<Option<u64>>(),
    ) {
        let data = wire::parse_data(&data_message(2, &inline, filesize, &sizes)).unwrap();
        prop_assert_eq!(&data.data[..], &inline[..]);
        prop_assert_eq!(data.blocksizes, sizes);
        prop_assert_eq!(data.filesize, filesize);
    }
}
