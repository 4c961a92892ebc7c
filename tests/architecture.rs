//! Enforces who may import whom, which files stay pure, and the house rules that a machine can check.
//!
//! docs/architecture.md says why.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/source_code.rs"]
mod source_code;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source_code::{Token, code, from_root, module_of, paths};

/// Everything but the ground floor and the wiring, and whose types it may name.
const STAGES: [(&str, &[&str]); 18] = [
    ("audio", &[]),
    ("library", &["audio"]),
    ("player", &["library", "audio"]),
    ("encoder", &["player", "audio"]),
    ("hls", &["encoder"]),
    ("publisher", &["hls", "ipfs"]),
    ("relay", &["publisher", "ipfs"]),
    ("retention", &["publisher", "ipfs"]),
    ("archive", &["publisher", "ipfs"]),
    ("mirror", &["publisher", "ipfs"]),
    ("pins", &["publisher", "ipfs"]),
    ("sync", &["publisher", "ipfs"]),
    ("http", &["publisher"]),
    ("ipfs", &[]),
    ("leds", &[]),
    ("logging", &[]),
    ("notices", &[]),
    ("service", &[]),
];

/// Imports no stage, and every stage may import it.
const GROUND_FLOOR: [&str; 7] =
    ["clock", "health", "http_client", "metrics", "network", "state", "supervisor"];

/// Sees everything.
const WIRING: [&str; 5] = ["appliance", "car_command", "command_line", "main", "progress"];

/// In the http stage, the one part that reads blocks.
const GATEWAY: &str = "http/gateway";

/// Takes no runtime, no file, no socket and no clock: its tests need none either.
const PURE: [&str; 63] = [
    "archive/car.rs",
    "archive/day.rs",
    "archive/index.rs",
    "archive/record.rs",
    "http/content_type.rs",
    "http/gateway/redirects_file.rs",
    "http/request_path.rs",
    "http/respond.rs",
    "http_client/endpoint.rs",
    "http_client/retry_after.rs",
    "audio/decode/downmix.rs",
    "audio/decode/opus.rs",
    "audio/resample.rs",
    "hls/cmaf.rs",
    "hls/id3.rs",
    "hls/media_playlist.rs",
    "hls/multivariant_playlist.rs",
    "hls/segmenter.rs",
    "hls/timeline.rs",
    "ipfs/block.rs",
    "ipfs/peers/redial.rs",
    "ipfs/ipns/name.rs",
    "ipfs/ipns/record.rs",
    "ipfs/names/cache.rs",
    "ipfs/names/content_path.rs",
    "ipfs/unixfs/hamt.rs",
    "ipfs/unixfs/writer.rs",
    "ipfs/car.rs",
    "ipfs/car/reader.rs",
    "ipfs/car/varint.rs",
    "leds/pattern.rs",
    "leds/press.rs",
    "leds/state.rs",
    "library/natural_order.rs",
    "library/playlist_file.rs",
    "library/settling.rs",
    "library/shelf.rs",
    "mirror/queue.rs",
    "pins/ledger.rs",
    "pins/pin_status.rs",
    "player/gain.rs",
    "player/schedule.rs",
    "publisher/contents.rs",
    "publisher/index.rs",
    "publisher/live_window.rs",
    "publisher/station.rs",
    "publisher/stream_tree.rs",
    "relay/airtimes.rs",
    "relay/condition.rs",
    "relay/station.rs",
    "relay/window.rs",
    "retention/window.rs",
    "supervisor/backoff.rs",
    "ipfs/signature.rs",
    "network/http_url.rs",
    "publisher/announced.rs",
    "sync/announcement.rs",
    "sync/intake.rs",
    "sync/merge.rs",
    "sync/message.rs",
    "sync/neighbours.rs",
    "sync/relays.rs",
    "sync/token_bucket.rs",
];

/// A crate of many, and the only places that name it.
const SEAMS: [(&str, &str); 20] = [
    ("symphonia", "audio/decode"),
    ("ropus", "audio/decode"),
    ("lewton", "audio/decode"),
    ("rubato", "audio/resample.rs"),
    ("ebur128", "audio/loudness.rs"),
    ("fdk_aac_sys", "encoder/aac.rs"),
    ("hickory_resolver", "ipfs"),
    ("libp2p_identity", "ipfs"),
    ("rust_ipfs", "ipfs"),
    ("rust_ipns", "ipfs"),
    ("rust_unixfs", "ipfs"),
    ("hyper", "http"),
    ("hyper", "http_client"),
    ("gpiocdev", "leds/gpio"),
    ("if_addrs", "network.rs"),
    ("lofty", "library/tags.rs"),
    ("notify", "library/watch.rs"),
    ("rppal", "leds/gpio"),
    ("tokio_rustls", "http_client/tls.rs"),
    ("webpki_roots", "http_client/tls.rs"),
];

const UNSAFE_SEAM: &str = "encoder/aac.rs";

const LONGEST_FILE: usize = 500;

const VAGUE_NAMES: [&str; 8] =
    ["common", "helper", "helpers", "manager", "misc", "util", "utilities", "utils"];

/// A source file by its path below `src`.
struct Source {
    path: PathBuf,
    text: String,
    code: Vec<Token>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.to_owned(), code: code(text) }
    }

    fn is_below(&self, place: &str) -> bool {
        let place = Path::new(place);
        self.path == place || self.path.with_extension("").starts_with(place)
    }

    fn top(&self) -> String {
        let first = self.path.iter().next().map(Path::new).unwrap_or(&self.path);
        first.with_extension("").display().to_string()
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("src/{}:{line}: {what}", self.path.display())
    }
}

/// Every file of the program; files of tests alone are left out.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    assert!(sources.len() > 50, "found {} source files only", sources.len());
    sources.into_iter().filter(|source| !source.path.ends_with("tests.rs")).collect()
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let name = path.strip_prefix(root).expect("below src").to_string_lossy();
            sources.push(Source::new(&name, &text));
        }
    }
}

fn must_be_empty(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// Why `source` may not import from the module `target`; `None` when it may.
fn objection(source: &Source, target: &str) -> Option<String> {
    let own = source.top();
    let upstream = |name: &str| STAGES.iter().find(|(stage, _)| *stage == name).map(|(_, from)| *from);
    let on_floor = |name: &str| GROUND_FLOOR.contains(&name);
    let allowed = match own.as_str() {
        _ if own == target => true,
        _ if WIRING.contains(&target) => own == "main",
        _ if WIRING.contains(&own.as_str()) => true,
        "config" => upstream(target).is_some(),
        "http" if target == "ipfs" => source.is_below(GATEWAY),
        _ if on_floor(&own) => on_floor(target),
        _ => match upstream(&own) {
            Some(from) => from.contains(&target) || (on_floor(target) && own != "audio"),
            None => return Some(format!("the module {own} has no place in the flow: add it to the table")),
        },
    };
    (!allowed).then(|| format!("{own} may not import {target}"))
}

fn arrows_against(source: &Source, modules: &BTreeSet<String>) -> Vec<String> {
    let module = module_of(&source.path);
    let judge = |path: source_code::CodePath| {
        let target = from_root(&path.segments, &module)?.into_iter().next()?;
        let why = if target == "*" {
            Some("a glob import of the whole crate hides the arrows".to_owned())
        } else if modules.contains(&target) {
            objection(source, &target)
        } else {
            None
        };
        Some(source.at(path.line, &why?))
    };
    paths(&source.code).into_iter().filter_map(judge).collect()
}

fn impurities(source: &Source) -> Vec<String> {
    const SYSTEM: [&str; 5] = ["env", "fs", "net", "process", "thread"];
    let judge = |path: source_code::CodePath| {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let reads_clock =
            segments.ends_with(&["Instant", "now"]) || segments.ends_with(&["SystemTime", "now"]);
        let foreign = match segments.as_slice() {
            ["tokio" | "tokio_util", ..] => true,
            ["std", module, ..] => SYSTEM.contains(module),
            _ => false,
        };
        let name = path.segments.join("::");
        (reads_clock || foreign).then(|| source.at(path.line, &format!("a pure file takes no {name}")))
    };
    paths(&source.code).into_iter().filter_map(judge).collect()
}

fn misplaced_crates(source: &Source) -> Vec<String> {
    let judge = |path: source_code::CodePath| {
        let first = path.segments.first()?;
        // symphonia's parts are crates of their own.
        let family = if first.starts_with("symphonia_") { "symphonia" } else { first.as_str() };
        let places: Vec<_> =
            SEAMS.iter().filter(|(name, _)| *name == family).map(|(_, place)| *place).collect();
        let strays = !places.is_empty() && !places.iter().any(|place| source.is_below(place));
        strays.then(|| source.at(path.line, &format!("{first} belongs to src/{}", places.join(" or src/"))))
    };
    paths(&source.code).into_iter().filter_map(judge).collect()
}

fn unsafe_code(source: &Source) -> Vec<String> {
    if source.is_below(UNSAFE_SEAM) {
        return Vec::new();
    }
    let found = source.code.iter().filter(|token| token.text == "unsafe");
    found.map(|token| source.at(token.line, &format!("unsafe belongs to src/{UNSAFE_SEAM}"))).collect()
}

fn shape(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    let lines = source.text.lines().count();
    if lines > LONGEST_FILE {
        violations.push(source.at(lines, &format!("more than {LONGEST_FILE} lines")));
    }
    for name in module_of(&source.path) {
        if VAGUE_NAMES.contains(&name.as_str()) || name == "mod" {
            violations.push(source.at(1, &format!("{name} is no name for a thing")));
        }
    }
    if !source.text.starts_with("//!") {
        violations.push(source.at(1, "a file begins with what it is for"));
    }
    violations
}

fn modules_of(sources: &[Source]) -> BTreeSet<String> {
    sources.iter().map(Source::top).collect()
}

#[test]
fn a_stage_imports_its_upstream_and_the_ground_floor_alone() {
    let sources = sources();
    let modules = modules_of(&sources);
    for (name, upstream) in STAGES {
        assert!(modules.contains(name), "the table names {name}, which is no module");
        assert!(upstream.iter().all(|name| modules.contains(*name)), "{name}: {upstream:?}");
    }
    let arrows: usize = sources.iter().map(|source| paths(&source.code).len()).sum();
    assert!(arrows > 500, "the scanner found {arrows} paths only");
    must_be_empty(sources.iter().flat_map(|source| arrows_against(source, &modules)).collect());
}

#[test]
fn pure_files_take_no_runtime_file_socket_or_clock() {
    let sources = sources();
    for name in PURE {
        assert!(sources.iter().any(|source| source.path == Path::new(name)), "src/{name} is not there");
    }
    let says_so = |source: &&Source| {
        let header = source.text.lines().take_while(|line| line.starts_with("//!"));
        header.flat_map(|line| line.split_whitespace()).any(|word| word == "Pure.")
    };
    let is_pure =
        |source: &&Source| says_so(source) || PURE.iter().any(|name| source.path == Path::new(name));
    must_be_empty(sources.iter().filter(is_pure).flat_map(impurities).collect());
}

#[test]
fn every_foreign_binding_stays_behind_its_seam() {
    must_be_empty(sources().iter().flat_map(misplaced_crates).collect());
}

#[test]
fn unsafe_stands_in_the_codec_seam_alone() {
    let sources = sources();
    must_be_empty(sources.iter().flat_map(unsafe_code).collect());
    let seam = sources.iter().find(|source| source.is_below(UNSAFE_SEAM)).expect("the seam is there");
    assert!(seam.code.iter().any(|token| token.text == "unsafe"), "the scanner sees no unsafe at all");
}

#[test]
fn files_are_short_and_named_after_one_thing() {
    must_be_empty(sources().iter().flat_map(shape).collect());
}

/// The negative control: each rule is broken once, in every way that the code could hide it.
#[test]
fn the_scanner_finds_what_is_planted() {
    let modules = modules_of(&sources());
    let arrows = |path: &str, text: &str| arrows_against(&Source::new(path, text), &modules).len();
    for planted in [
        "use crate::publisher::Tick;",
        "use crate::{clock::SharedClock, publisher};",
        "use super::super::player::NowPlaying;",
        "use super::super::{audio, encoder::{self, aac}};",
        "fn f() { let t: crate::publisher::Tick = todo!(); }",
        "fn f<'a>(q: &'a str) { g('\"', '\\'', crate::http::X) }",
        "const S: &str = r#\"\"#; pub use crate :: library :: Library;",
        "/* a /* nested */ comment */ use skywave::config::Config;",
        "#[cfg(test)] use crate::hls::{Segment}; use crate::appliance::Appliance;",
        "#[cfg(test)] mod tests { use crate::http::X; } use crate::http::Y;",
        "use crate::*;",
    ] {
        assert_eq!(arrows("hls/cmaf.rs", planted), 1, "{planted}");
    }
    for innocent in [
        "// use crate::publisher::Tick;\nuse crate::encoder::EncodedBlock;",
        "const S: &str = \"use crate::publisher::Tick\\\";\";",
        "const S: &str = r##\"crate::http::X \"# crate::http::Y\"##;",
        "#[cfg(test)]\nmod tests { use crate::http::X; fn f() { { } } }",
        "#[cfg(test)] mod tests; use crate::clock::SharedClock;",
        "use std::{fs, io}; use super::timeline::Slot; fn f(crate_http: http::Method) {}",
    ] {
        assert_eq!(arrows("hls/cmaf.rs", innocent), 0, "{innocent}");
    }
    assert_eq!(arrows("http/router.rs", "use crate::ipfs::Blocks;"), 1);
    assert_eq!(arrows("http/gateway/format.rs", "use crate::ipfs::Blocks;"), 0);
    assert_eq!(arrows("ipfs/node.rs", "use crate::publisher::Tick;"), 1);
    assert_eq!(arrows("health.rs", "use crate::player::NowPlaying;"), 1);
    assert_eq!(arrows("config.rs", "use crate::appliance::Appliance;"), 1);
    assert_eq!(arrows("newcomer.rs", "use crate::audio::CHANNELS;"), 1, "a module outside the table");

    let impure = |text: &str| impurities(&Source::new("hls/timeline.rs", text)).len();
    for planted in
        ["use tokio::time::Instant;", "use std::{fs, io};", "fn f() { std::time::SystemTime::now(); }"]
    {
        assert_eq!(impure(planted), 1, "{planted}");
    }
    assert_eq!(impure("use std::time::{Duration, Instant}; fn f(now: Instant) {}"), 0);

    let misplaced = |path: &str, text: &str| misplaced_crates(&Source::new(path, text)).len();
    assert_eq!(misplaced("http.rs", "use rust_ipfs as node;"), 1);
    assert_eq!(misplaced("player.rs", "fn f(t: symphonia_core::formats::Track) {}"), 1);
    assert_eq!(misplaced("audio.rs", "use symphonia::core::formats::Track;"), 1);
    assert_eq!(misplaced("ipfs.rs", "pub use rust_ipfs::Ipfs;"), 0);
    assert_eq!(misplaced("http_client/transfer.rs", "use hyper::Request;"), 0);
    assert_eq!(misplaced("mirror.rs", "use hyper::Request;"), 1);

    assert_eq!(unsafe_code(&Source::new("state.rs", "fn f() { unsafe { g() } } // unsafe")).len(), 1);
    let long = format!("//! x\n{}", "\n".repeat(LONGEST_FILE));
    assert_eq!(shape(&Source::new("state.rs", &long)).len(), 1);
    assert_eq!(shape(&Source::new("hls/utils.rs", "//! x")).len(), 1);
}
