//! Playlist files of others.

use super::playlist_file::entries;

pub(crate) fn run(text: &[u8]) {
    let entries = entries(text);
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    assert!(entries.len() <= lines);
    for spellings in entries {
        assert!((1..=3).contains(&spellings.len()));
        let longest = spellings.iter().map(|path| path.as_os_str().len()).max();
        // Latin-1 takes two bytes a character at most.
        assert!(longest.is_some_and(|len| len <= 2 * text.len()));
    }
}
