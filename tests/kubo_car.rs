//! CAR files to and from the real kubo, and a kubo that mirrors the station. No swarm connects the two.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod audio_compare;
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod kubo;
    pub(crate) mod media;
    pub(crate) mod station;
}

use std::fs;
use std::path::{Path, PathBuf};

use support::audio_compare::{Media, decode_with_ffmpeg, peers_available};
use support::checker::source::FolderSource;
use support::checker::{Checker, Expectations};
use support::kubo::{self, Kubo, read_car, root_of};
use support::media::{Depth, sines, wav};
use support::station::{Home, Station, run_to_end, skywave};

const RENDITIONS: [&str; 3] = ["lofi", "midfi", "hifi"];
/// CARv2 pragma: `{"version": 2}` in DAG-CBOR, with its length before it.
const CARV2: [u8; 11] = [0x0a, 0xa1, 0x67, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x02];

fn music(sections: &str) -> Home {
    let home = Home::new(&format!("[player]\norder = \"ordered\"\n{sections}"));
    let tone = sines(44_100, 0, 20 * 44_100, &[(440.0, 0.3); 2]);
    home.add("tone.wav", &wav(44_100, 2, None, Depth::S16, &tone));
    home
}

fn wait_for_three(station: &Station) {
    station.wait_on_air();
    station.wait_for("three segments", |station| (station.listed("hifi").len() >= 3).then_some(()));
}

/// `skywave car` with these arguments on the folder of a home whose station does not run.
fn car(home: &Home, arguments: &[&str]) -> String {
    let (config, data) = (home.config(), home.data());
    let mut command = skywave(&["car"]);
    command.args(&arguments[..1]).arg("--config").arg(config).arg("--data").arg(data).args(&arguments[1..]);
    let output = run_to_end(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skywave car {}: {stderr}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

/// Has kubo import a CAR and pin its root.
fn import(kubo: &Kubo, path: &Path, root: &str) {
    let said = kubo.run(&["dag", "import", "--stats", path.to_str().unwrap()]);
    assert!(said.contains(&format!("Pinned root\t{root}\tsuccess")), "{said}");
}

/// What kubo holds below a root, without asking anybody, is a whole stream tree that plays.
fn holds_the_stream(kubo: &Kubo, root: &str) {
    let folder = kubo.folder().join(format!("got-{root}"));
    kubo.run(&["--offline", "get", "--output", folder.to_str().unwrap(), root]);
    let mut checker =
        Checker::new(Expectations { fixed_media_sequence: true, ..Expectations::new(&RENDITIONS) });
    checker.poll(&mut FolderSource(folder.clone())).unwrap_or_else(|violation| panic!("{violation}"));
    if peers_available() {
        let path = folder.join("stream.m3u8");
        let decoded =
            decode_with_ffmpeg(Media::Url(path.to_str().unwrap(), 3.0)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(decoded.stderr, "");
        assert!((decoded.stereo.len() as f64 / 96_000.0 - 3.0).abs() < 0.1, "{}", decoded.stereo.len());
    }
}

#[test]
fn kubo_imports_the_car_of_our_gateway_and_of_car_export() {
    if !kubo::available() {
        return;
    }
    let home = music("");
    let station = home.start();
    wait_for_three(&station);
    let root = root_of(&station);
    let answer = station.get(&format!("/ipfs/{root}?format=car"));
    assert_eq!(answer.status, 200, "{:?}", answer.text());
    let kubo = Kubo::start();
    let path = home.path().join("gateway.car");
    fs::write(&path, &answer.body).unwrap();
    import(&kubo, &path, &root);
    holds_the_stream(&kubo, &root);
    let name = station.ipns.clone();
    assert!(station.terminate().0.success());
    let path = home.path().join("export.car");
    car(&home, &["export", "--output", path.to_str().unwrap(), &format!("/ipns/{name}")]);
    let last = fs::read(&path).unwrap();
    let root = first_root(&last);
    let kubo = Kubo::start();
    import(&kubo, &path, &root);
    holds_the_stream(&kubo, &root);
    assert!(kubo.export(&root).1 == read_car(&last).1, "kubo exports other blocks than it took");
}

/// The CID at the end of a CAR's header, the only root of ours.
fn first_root(car: &[u8]) -> String {
    let (header, _) = read_car(car);
    let start = header.windows(4).position(|bytes| bytes == [0x01, 0x70, 0x12, 0x20]).expect("a root");
    cid::Cid::read_bytes(&header[start..]).unwrap().to_string()
}

/// Files of one and of many blocks, in a folder within a folder: the root in kubo.
fn kubos_own_tree(kubo: &Kubo) -> String {
    let folder = kubo.folder().join("tree");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::write(folder.join("small.txt"), "small").unwrap();
    let large: Vec<u8> =
        (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(folder.join("deep/er/large.bin"), large).unwrap();
    let place = folder.to_str().unwrap();
    kubo.run(&["add", "-r", "-Q", "--cid-version=1", place]).trim().to_owned()
}

/// The same CAR within a CARv2, without an index.
fn as_v2(v1: &[u8]) -> Vec<u8> {
    let offset = (CARV2.len() + 40) as u64;
    let mut v2 = CARV2.to_vec();
    v2.extend([0; 16]);
    v2.extend(offset.to_le_bytes());
    v2.extend((v1.len() as u64).to_le_bytes());
    v2.extend(0_u64.to_le_bytes());
    v2.extend(v1);
    v2
}

#[test]
fn we_import_kubos_car_of_both_versions_serve_it_and_export_the_same() {
    if !kubo::available() {
        return;
    }
    let kubo = Kubo::start();
    let root = kubos_own_tree(&kubo);
    let v1 = kubo.rpc(&format!("dag/export?arg={root}&progress=false"));
    let blocks = read_car(&v1).1;
    assert!(blocks.len() > 10, "{} blocks", blocks.len());
    for (version, bytes) in [(1, v1.clone()), (2, as_v2(&v1))] {
        let home = music("");
        let place = |name: &str| -> PathBuf { home.path().join(name) };
        fs::write(place("in.car"), &bytes).unwrap();
        // What kubo takes is a CAR of that version.
        import(&Kubo::start(), &place("in.car"), &root);
        car(&home, &["import", place("in.car").to_str().unwrap()]);
        let station = home.start();
        station.wait_on_air();
        let large = station.get(&format!("/ipfs/{root}/deep/er/large.bin"));
        let wanted = fs::read(kubo.folder().join("tree/deep/er/large.bin")).unwrap();
        assert!(large.status == 200 && large.body == wanted, "version {version}: {}", large.status);
        assert!(station.terminate().0.success());
        car(&home, &["export", "--output", place("out.car").to_str().unwrap(), &format!("/ipfs/{root}")]);
        let out = read_car(&fs::read(place("out.car")).unwrap()).1;
        assert!(out == blocks, "version {version}: {} blocks out, {} in", out.len(), blocks.len());
    }
}

/// Roots of the pins by which the station keeps its newest tree at a mirror.
fn pinned(kubo: &Kubo, name: &str) -> Vec<String> {
    let said = kubo.run(&["pin", "ls", "--names", "--type=recursive"]);
    let pin = format!("skywave/{name}");
    let pins = said.lines().filter(|line| line.ends_with(&pin));
    let roots: Vec<_> = pins.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(roots.len() <= 2, "pins pile up:\n{said}");
    roots
}

/// The one root that is pinned; none between the moments in which a newer one gets its pin and the one before loses it.
fn mirrored(kubo: &Kubo, name: &str) -> Option<String> {
    let mut roots = pinned(kubo, name);
    if roots.len() == 1 { roots.pop() } else { None }
}

#[test]
fn a_mirror_holds_the_newest_tree_when_the_station_is_gone() {
    if !kubo::available() {
        return;
    }
    let kubo = Kubo::start();
    let url = format!("http://127.0.0.1:{}", kubo.api_port);
    let home = music(&format!("[[mirror]]\nurl = {url:?}\nname = \"nas\"\n"));
    let station = home.start();
    wait_for_three(&station);
    let name = station.ipns.clone();
    let first = station.wait_for("a first push", |_| mirrored(&kubo, &name));
    station.wait_for("the mirror on a newer tree", |station| {
        let health = station.json("/health")?;
        let newer = mirrored(&kubo, &name).is_some_and(|root| root != first);
        (newer && health["mirrors"]["nas"]["state"] == "current").then_some(())
    });
    station.wait_for("the mirror on the newest tree", |station| {
        (mirrored(&kubo, &name)? == root_of(station)).then_some(())
    });
    station.kill();
    // Killed between two pins it leaves both, each of a whole tree.
    let newest = pinned(&kubo, &name).pop().expect("the station's pin");
    holds_the_stream(&kubo, &newest);
    // Nothing but the newest tree is kept: kubo's own collection leaves it whole.
    kubo.run(&["repo", "gc", "--quiet"]);
    fs::remove_dir_all(kubo.folder().join(format!("got-{newest}"))).unwrap();
    holds_the_stream(&kubo, &newest);
}
