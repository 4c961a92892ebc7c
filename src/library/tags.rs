//! Tags: what a file says of itself (lofty only here).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use lofty::config::ParseOptions;
use lofty::file::{AudioFile, TaggedFileExt};
use lofty::probe::Probe;
use lofty::tag::Accessor;
use serde::{Deserialize, Serialize};

/// Longest tag kept, in characters: it travels in every segment.
const MAX_CHARS: usize = 256;

/// What a file says of itself; every field is empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tags {
    /// Track title.
    pub title: String,
    /// Track artist.
    pub artist: String,
    /// Album title.
    pub album: String,
}

impl Tags {
    /// Reads the tags of a file; nothing readable means no tags, never an error.
    pub fn read(path: &Path) -> Self {
        read_headers(path).0
    }
}

/// Tags, and the duration that the headers claim.
pub(super) fn read_headers(path: &Path) -> (Tags, Option<Duration>) {
    // A parser that panics on one odd file must not cost the others their tags.
    let read = catch_unwind(AssertUnwindSafe(|| parse(path)));
    read.ok().flatten().unwrap_or_default()
}

fn parse(path: &Path) -> Option<(Tags, Option<Duration>)> {
    let options = ParseOptions::new().read_cover_art(false);
    let file = Probe::open(path).ok()?.options(options).guess_file_type().ok()?.read().ok()?;
    let duration = Some(file.properties().duration()).filter(|duration| !duration.is_zero());
    let Some(tag) = file.primary_tag().or_else(|| file.first_tag()) else {
        return Some((Tags::default(), duration));
    };
    let text = |value: Option<std::borrow::Cow<'_, str>>| value.map(|text| tidy(&text)).unwrap_or_default();
    Some((Tags { title: text(tag.title()), artist: text(tag.artist()), album: text(tag.album()) }, duration))
}

/// One line of bounded length: control characters would break playlists, logs and terminals.
fn tidy(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_one_bounded_line() {
        assert_eq!(tidy("  A\0 Song\r\n of\ttwo "), "A Song of two");
        assert_eq!(tidy(&"é".repeat(1000)).chars().count(), MAX_CHARS);
    }

    #[test]
    fn an_unreadable_file_has_no_tags() {
        assert_eq!(Tags::read(Path::new("/nowhere/x.mp3")), Tags::default());
    }
}
