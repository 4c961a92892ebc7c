//! Tags in real files of every format, and the sound behind them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod media;
}

use std::fs;
use std::path::{Path, PathBuf};

use lofty::config::WriteOptions;
use lofty::file::TaggedFileExt;
use lofty::tag::{Accessor, Tag, TagExt};
use skywave::audio::decode::Decoder;
use skywave::library::Tags;
use support::media;

const TITLE: &str = "Übergang, 第二楽章";
const ARTIST: &str = "Ærø Strygere & Søn";
const ALBUM: &str = "A / B";

/// One file of each format, without tags of ours.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for name in ["sine-a.mp3", "sine-a.ogg", "sine-a.opus", "sine-a.m4a", "sine-a.alac.m4a"] {
        let path = folder.join(name);
        fs::copy(media::fixture(name), &path).unwrap();
        paths.push(path);
    }
    let sine = media::sines(44_100, 0, 20_000, &[(440.0, 0.5), (660.0, 0.5)]);
    for (name, bytes) in [
        ("sine.wav", media::wav(44_100, 2, None, media::Depth::S16, &sine)),
        ("sine.flac", media::flac(44_100, 2, 16, &sine)),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
        paths.push(folder.join(name));
    }
    paths
}

/// Writes the tag that is usual for the format.
fn tag(path: &Path) {
    let kind = lofty::read_from_path(path).unwrap().primary_tag_type();
    let mut tag = Tag::new(kind);
    tag.set_title(TITLE.into());
    tag.set_artist(ARTIST.into());
    tag.set_album(ALBUM.into());
    tag.save_to_path(path, WriteOptions::default()).unwrap();
}

fn decoded(path: &Path) -> Vec<f32> {
    let mut decoder = Decoder::open(path).unwrap();
    let mut samples = Vec::new();
    while decoder.decode(&mut samples).unwrap() > 0 {}
    samples
}

#[test]
fn tags_of_every_format_are_read_and_change_no_sample() {
    let folder = tempfile::tempdir().unwrap();
    for path in files(folder.path()) {
        let name = path.display();
        let before = decoded(&path);
        tag(&path);
        let expected = Tags { title: TITLE.into(), artist: ARTIST.into(), album: ALBUM.into() };
        assert_eq!(Tags::read(&path), expected, "{name}");
        assert!(!before.is_empty() && decoded(&path) == before, "{name} sounds different with tags");
    }
}
