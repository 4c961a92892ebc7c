//! CAR files, out of a repo and into another, from other implementations, and damaged in every way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod http_client;
    pub(crate) mod station;
}

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt;
use proptest::prelude::*;
use skywave::ipfs::car::{self, CarError, MAX_SECTION_BYTES, Reader};
use skywave::ipfs::traversal::Walk;
use skywave::ipfs::{Block, Blocks};
use skywave::publisher::stream_tree::{self, Entry};
use support::station::{Home, run_to_end, skywave};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/car").join(name)
}

/// A CARv1 of these blocks.
fn car_of(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut file = car::header(roots).to_vec();
    blocks.iter().for_each(|block| file.extend(car::section(&block.cid, &block.data)));
    file
}

/// The CARv2 around a CARv1, with padding before the data and an index of so many bytes behind.
fn wrapped(car: &[u8], padding: usize, index: usize) -> Vec<u8> {
    let data = 51 + padding;
    let mut file = b"\x0a\xa1gversion\x02".to_vec();
    file.extend([0; 16]);
    let index_offset = if index == 0 { 0 } else { data + car.len() + 7 };
    [data, car.len(), index_offset].iter().for_each(|field| file.extend((*field as u64).to_le_bytes()));
    file.extend(vec![0; padding]);
    file.extend(car);
    file.extend(vec![0; if index == 0 { 0 } else { 7 }]);
    file.extend(vec![0xa5; index]);
    file
}

/// Reads in pieces whose sizes `piece` gives; no more is held than a section and a piece.
fn read(file: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<Block>, Result<Vec<Cid>, CarError>) {
    let (mut reader, mut blocks, mut rest) = (Reader::new(), Vec::new(), file);
    while !rest.is_empty() {
        let (next, later) = rest.split_at(piece().clamp(1, rest.len()));
        reader.push(next);
        rest = later;
        loop {
            match reader.next_block() {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => break,
                Err(error) => return (blocks, Err(error)),
            }
        }
        assert!(reader.buffered() as u64 <= MAX_SECTION_BYTES + next.len() as u64);
    }
    let end = reader.finish().map(|()| reader.roots().to_vec());
    (blocks, end)
}

/// Every file of a small tree, its blocks in the order of a CAR.
async fn tree(files: &[(&str, &[u8])]) -> (Cid, Vec<Block>) {
    let blocks = Blocks::in_memory();
    let mut entries = HashMap::new();
    for (path, bytes) in files {
        let block = Block::raw(bytes.to_vec());
        blocks.put(block.cid, block.data.clone()).await.unwrap();
        entries.insert((*path).to_owned(), Entry::from(&block));
    }
    let (tree, directories) = stream_tree::build(0, entries);
    for block in directories {
        blocks.put(block.cid, block.data).await.unwrap();
    }
    (tree.root, Walk::new(&blocks, tree.root).into_stream().try_collect().await.unwrap())
}

fn stream() -> (Cid, Vec<Block>) {
    let segment: Vec<u8> = (0..50_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let files = [
        ("stream.m3u8", &b"#EXTM3U\n"[..]),
        ("hifi/1.m4s", &segment[..]),
        ("hifi/live.m3u8", &b"#EXTM3U\n1.m4s\n"[..]),
        ("lofi/1.m4s", &segment[..9_000]),
        ("lofi/live.m3u8", &b"#EXTM3U\n1.m4s\n"[..]),
        ("station.json", &b"{}"[..]),
    ];
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(tree(&files))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_in_both_versions_and_pieces_of_any_size(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..12),
        roots in 0_usize..4,
        (padding, index) in (0_usize..90, 0_usize..40),
        seed in any::<u64>(),
    ) {
        let made: Vec<_> = contents
            .into_iter()
            .enumerate()
            .map(|(n, bytes)| if n % 3 == 0 { Block::dag_pb(bytes) } else { Block::raw(bytes) })
            .collect();
        let roots: Vec<_> = made.iter().take(roots).map(|block| block.cid).collect();
        let file = car_of(&roots, &made);
        let mut random = fastrand::Rng::with_seed(seed);
        for file in [file.clone(), wrapped(&file, padding, index)] {
            let (blocks, end) = read(&file, || random.usize(1..200));
            prop_assert_eq!(&blocks, &made);
            prop_assert_eq!(end, Ok(roots.clone()));
        }
    }
}

/// One of the ways in which a file goes bad, or is made to look bad.
fn mutate(file: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let at = random.usize(..file.len());
    match random.u8(..8) {
        0 => file[at] ^= 1 << random.u8(..8),
        1 => file.truncate(at),
        2 => file[at] = random.u8(..),
        // A length past all reason, of up to ten bytes.
        3 => _ = file.splice(at..at, std::iter::repeat_n(0xff, random.usize(1..10)).chain([0x7f])),
        4 => _ = file.splice(at..at, [0x80, 0x80, 0x80, 0x01]),
        5 => _ = file.drain(at..file.len().min(at + random.usize(1..60))),
        6 => {
            let copy = file[at..file.len().min(at + random.usize(1..60))].to_vec();
            let to = random.usize(..file.len());
            file.splice(to..to, copy);
        }
        _ => file.extend((0..random.usize(1..40)).map(|_| random.u8(..))),
    }
}

#[test]
fn damaged_files_give_an_error_or_the_true_blocks_never_a_panic() {
    let (root, blocks) = stream();
    let small = car_of(&[root], &blocks.into_iter().filter(|b| b.data.len() < 500).collect::<Vec<_>>());
    let mut originals =
        vec![small.clone(), wrapped(&small, 30, 0), wrapped(&small, 0, 50), car::header(&[root]).into()];
    originals.extend(
        ["kubo-v1.car", "kubo-cidv0.car", "go-car-v2.car"].map(|name| fs::read(fixture(name)).unwrap()),
    );
    let (mut refused, mut read_whole) = (0, 0);
    let mut random = fastrand::Rng::with_seed(0x0ca7);
    for original in &originals {
        for _ in 0..600 {
            let mut file = original.clone();
            for _ in 0..random.usize(1..4) {
                mutate(&mut file, &mut random);
                if file.is_empty() {
                    break;
                }
            }
            let piece = random.usize(1..300);
            let (blocks, end) = read(&file, || piece);
            for block in blocks {
                // Judged here anew, not by the reader's own check.
                let (hash, digest) = (block.cid.hash(), *Block::raw(block.data.clone()).cid.hash());
                assert!(*hash == digest || (hash.code() == 0 && hash.digest() == block.data));
            }
            match end {
                Ok(_) => read_whole += 1,
                Err(error) => {
                    assert!(error.to_string().contains("byte"), "{error} names no place");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 2_000, "{refused} of the damaged files were refused, {read_whole} read whole");
}

#[test]
fn a_stream_without_end_is_given_up_after_one_section() {
    let header = car::header(&[Block::raw("x").cid]);
    for length in [&[0xff, 0xff, 0xff, 0x7f][..], &[0x80, 0x80, 0x80, 0x01], &[0xff, 0xff, 0x7f]] {
        let mut reader = Reader::new();
        reader.push(&header);
        reader.push(length);
        let mut pushed = 0;
        // Zeros are no CID, so whatever the length claims, it ends here.
        let error = loop {
            match reader.next_block() {
                Ok(_) => {}
                Err(error) => break error,
            }
            reader.push(&[0; 1024]);
            pushed += 1024;
            assert!(pushed < 8 * 1024 * 1024, "{} bytes held", reader.buffered());
        };
        assert!(pushed <= 4 * 1024, "{error} after {pushed} bytes only");
    }
}

#[test]
fn files_of_kubo_and_go_car_are_read() {
    for (name, blocks_in, version) in
        [("kubo-v1.car", 8, 1), ("kubo-cidv0.car", 8, 1), ("go-car-v2.car", 8, 2)]
    {
        let file = fs::read(fixture(name)).unwrap();
        let (blocks, end) = read(&file, || 100);
        assert_eq!((blocks.len(), end.unwrap()), (blocks_in, vec![blocks[0].cid]), "{name}");
        let mut reader = Reader::new();
        reader.push(&file);
        reader.next_block().unwrap();
        assert_eq!(reader.version(), version);
        let hello = Bytes::from_static(b"hello\n");
        assert!(name == "kubo-cidv0.car" || blocks.iter().any(|block| block.data == hello), "{name}");
    }
    // The order in which kubo writes a tree is ours: what it exported, we export to the same bytes.
    let file = fs::read(fixture("kubo-v1.car")).unwrap();
    let (blocks, roots) = read(&file, || 100);
    let again = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        let store = Blocks::in_memory();
        for block in blocks {
            store.put(block.cid, block.data).await.unwrap();
        }
        Walk::new(&store, roots.unwrap()[0]).into_stream().try_collect::<Vec<_>>().await.unwrap()
    });
    assert_eq!(car_of(&[again[0].cid], &again), file);
}

/// Runs `skywave car`: exit code, what it said on stdout, and on stderr.
fn run(arguments: &[&str], data: &Path) -> (Option<i32>, String, String) {
    let mut command = skywave(&["car"]);
    command.args(&arguments[..1]).arg("--data").arg(data).args(&arguments[1..]);
    let output = run_to_end(command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn import(file: &Path, data: &Path) -> String {
    let (code, out, err) = run(&["import", &file.display().to_string()], data);
    assert_eq!(code, Some(0), "{err}");
    out
}

fn export(path: &str, data: &Path) -> Vec<u8> {
    let file = data.with_extension("exported.car");
    let (code, out, err) = run(&["export", path, "-o", &file.display().to_string()], data);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    fs::read(file).unwrap()
}

/// Names of all files in a folder and below.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => names.extend(files(&path)),
            path => names.push(path.display().to_string()),
        }
    }
    names.sort();
    names
}

#[test]
fn a_tree_goes_from_one_data_folder_to_another_byte_for_byte() {
    let (root, blocks) = stream();
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let original = car_of(&[root], &blocks);
    let file = folder.path().join("tree.car");
    // In another order and with a block twice, as a CAR may be.
    let mixed: Vec<_> = blocks.iter().rev().chain(&blocks[..2]).cloned().collect();
    fs::write(&file, wrapped(&car_of(&[root], &mixed), 5, 9)).unwrap();
    let out = import(&file, &first);
    assert!(out.contains(&format!("root {root}\n")), "{out}");
    assert!(out.contains(&format!("{} blocks, ", mixed.len())), "{out}");
    assert!(out.contains(&format!("{} blocks are new", blocks.len())), "{out}");
    fs::write(&file, export(&root.to_string(), &first)).unwrap();
    assert_eq!(fs::read(&file).unwrap(), original);
    import(&file, &second);
    assert_eq!(export(&format!("/ipfs/{root}"), &second), original);
    // A part of it, by its path.
    let segment = blocks.iter().max_by_key(|block| block.data.len()).unwrap();
    let part = export(&format!("/ipfs/{root}/hifi/1.m4s"), &second);
    assert_eq!(part, car_of(&[segment.cid], std::slice::from_ref(segment)));
    assert!(import(&file, &second).contains("; 0 blocks are new"));
}

#[test]
fn stdin_and_stdout_carry_a_car_as_well() {
    let (root, blocks) = stream();
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tree.car"));
    fs::write(&file, car_of(&[root], &blocks)).unwrap();
    let mut command = skywave(&["car", "import", "-", "--data"]);
    command.arg(&data).stdin(Stdio::from(File::open(&file).unwrap()));
    let output = run_to_end(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(files(&data).iter().all(|name| !name.ends_with(".car")), "the copy of stdin is gone");
    let out = folder.path().join("out.car");
    let mut command = skywave(&["car", "export", &root.to_string(), "--data"]);
    let status = command.arg(&data).stdout(Stdio::from(File::create(&out).unwrap())).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read(out).unwrap(), fs::read(file).unwrap());
}

#[test]
fn a_bad_file_leaves_nothing_behind() {
    let (root, blocks) = stream();
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("bad.car"));
    let good = car_of(&[root], &blocks);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let last = blocks.last().unwrap().cid.to_string();
    for (bytes, words) in [
        (forged.clone(), &["do not match", &last, "byte "][..]),
        (good[..good.len() - 1].to_vec(), &["ends at byte", &last]),
        (car_of(&[], &blocks), &["names no root"]),
        (b"not a CAR at all. ".repeat(9), &["byte 0", "header"]),
    ] {
        fs::write(&file, bytes).unwrap();
        let (code, out, err) = run(&["import", &file.display().to_string()], &data);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(words.iter().all(|word| err.contains(word)) && err.contains("bad.car"), "{words:?}: {err}");
        assert!(!data.exists(), "not even the folder");
    }
    fs::write(&file, good).unwrap();
    import(&file, &data);
    let before = files(&data);
    fs::write(&file, forged).unwrap();
    let mut command = skywave(&["car", "import", "-", "--data"]);
    let output = run_to_end({
        command.arg(&data).stdin(Stdio::from(File::open(&file).unwrap()));
        command
    });
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(files(&data), before);
}

#[test]
fn what_cannot_be_exported_is_told_and_makes_no_file() {
    let (root, blocks) = stream();
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("part.car"));
    let export = |path: &str| {
        let (code, out, err) =
            run(&["export", path, "-o", &folder.path().join("x.car").display().to_string()], &data);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{path}: {err}");
        assert!(!files(folder.path()).iter().any(|name| name.contains("x.car")), "{path}");
        err
    };
    assert!(export(&root.to_string()).contains("there is no repo"));
    assert!(!data.exists());
    // All but one block: what is there is kept, and what is missing is told.
    let missing = blocks.iter().position(|block| block.data.len() == 9_000).unwrap();
    let part: Vec<_> =
        blocks.iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, b)| b.clone()).collect();
    fs::write(&file, car_of(&[root], &part)).unwrap();
    let out = import(&file, &data);
    assert!(out.contains("incomplete: 1 blocks"), "{out}");
    let err = export(&root.to_string());
    assert!(err.contains(&blocks[missing].cid.to_string()) && err.contains("not held"), "{err}");
    assert!(export(&Block::raw("elsewhere").cid.to_string()).contains("not held"));
    assert!(export("neither").contains("no CID"));
    assert!(export("/ipns/k51elsewhere").contains("no station"));
    assert!(export(&format!("/ipfs/{root}/hifi/2.m4s")).contains("2.m4s"));
}

#[test]
fn an_import_outlives_the_stations_sweep_until_it_is_forgotten() {
    let (root, blocks) = stream();
    let home =
        Home::new("[hls]\nsegment = \"1s 920ms\"\nlead = \"8s\"\nident_lead = \"8s\"\nplaylist = \"12s\"\n");
    let file = home.path().join("tree.car");
    let original = car_of(&[root], &blocks);
    fs::write(&file, &original).unwrap();
    import(&file, &home.data());

    let station = home.start();
    station.wait_on_air();
    let served = station.get(&format!("/ipfs/{root}/hifi/1.m4s"));
    assert_eq!((served.status, served.body.len()), (200, 50_000), "the station serves it");
    // The repo is the station's alone while it runs.
    for arguments in [["import", &file.display().to_string()], ["export", &root.to_string()]] {
        let (code, _, err) = run(&arguments, &home.data());
        assert_eq!(code, Some(1), "{arguments:?}");
        assert!(err.contains("stop it first"), "{err}");
    }
    let name = station.ipns.clone();
    assert!(station.terminate().0.success());
    assert_eq!(export(&root.to_string(), &home.data()), original);

    // What was on air can be exported as well, under the station's own name and no other.
    let air = export(&format!("/ipns/{name}"), &home.data());
    let (on_air, roots) = read(&air, || 1 << 16);
    let air_root = roots.unwrap()[0];
    assert!(on_air.len() > 10 && on_air[0].cid == air_root);
    let (code, _, err) = run(
        &[
            "export",
            "/ipns/k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r",
            "-o",
            "/dev/null",
        ],
        &home.data(),
    );
    assert_eq!(code, Some(1));
    assert!(err.contains(&name), "{err}");
    // Kept while the window that it came from goes on and leaves it behind.
    fs::write(&file, &air).unwrap();
    import(&file, &home.data());
    let station = home.start();
    station.wait_on_air();
    assert!(station.terminate().0.success());
    assert_eq!(export(&air_root.to_string(), &home.data()), air);

    let (code, out, err) = run(&["forget", &root.to_string()], &home.data());
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("next start"), "{out}");
    let (code, ..) = run(&["forget", &root.to_string()], &home.data());
    assert_eq!(code, Some(1), "it is forgotten already");
    let station = home.start();
    station.wait_on_air();
    assert_eq!(station.get(&format!("/ipfs/{root}/hifi/1.m4s")).status, 404);
    assert!(station.terminate().0.success());
    assert_eq!(export(&air_root.to_string(), &home.data()), air);
}

#[test]
fn a_damaged_list_of_imports_lets_no_block_go() {
    let (root, blocks) = stream();
    let home = Home::new("");
    let file = home.path().join("tree.car");
    fs::write(&file, car_of(&[root], &blocks)).unwrap();
    import(&file, &home.data());
    fs::write(home.data().join("imports.json"), b"{\"imports\": [").unwrap();
    for _ in 0..2 {
        let station = home.start();
        station.wait_on_air();
        assert_eq!(station.get(&format!("/ipfs/{root}/hifi/1.m4s")).status, 200);
        assert!(station.stderr().contains("imports.json.damaged"), "{}", station.stderr());
        assert!(station.terminate().0.success());
    }
}
