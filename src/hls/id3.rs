//! ID3v2.4 tags for timed metadata (id3.org, "ID3 tag version 2.4.0 - Main Structure" and "- Native Frames"). Pure.

use crate::encoder::NowPlaying;

/// Text encoding byte of UTF-8 (structure document, section 4).
const UTF_8: u8 = 3;
/// Longest text of one frame in bytes; keeps every size within one segment's budget.
const MAX_TEXT: usize = 512;

/// A tag of TIT2, TPE1 and TALB; empty texts but the title are left out.
pub fn tag(playing: &NowPlaying) -> Vec<u8> {
    let mut frames = Vec::new();
    text_frame(&mut frames, b"TIT2", &playing.title);
    for (id, text) in [(b"TPE1", &playing.artist), (b"TALB", &playing.album)] {
        if !text.is_empty() {
            text_frame(&mut frames, id, text);
        }
    }
    let mut tag = b"ID3\x04\x00\x00".to_vec();
    tag.extend(synchsafe(frames.len()));
    tag.extend(frames);
    tag
}

fn text_frame(out: &mut Vec<u8>, id: &[u8; 4], text: &str) {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let text: String = text[..end].chars().filter(|c| !c.is_control()).collect();
    out.extend(id);
    out.extend(synchsafe(text.len() + 2));
    out.extend([0, 0, UTF_8]);
    out.extend(text.as_bytes());
    out.push(0);
}

/// Four bytes of seven bits (structure document, section 6.2).
fn synchsafe(size: usize) -> [u8; 4] {
    [size >> 21 & 0x7F, size >> 14 & 0x7F, size >> 7 & 0x7F, size & 0x7F].map(|byte| byte as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::Source;

    fn playing(title: &str, artist: &str) -> NowPlaying {
        NowPlaying {
            title: title.into(),
            artist: artist.into(),
            album: String::new(),
            duration: None,
            source: Source::Library,
        }
    }

    #[test]
    fn sizes_are_synchsafe_and_cover_the_frames() {
        let tag = tag(&playing(&"x".repeat(300), "Anna"));
        let size = tag[6..10].iter().fold(0, |size, byte| size << 7 | usize::from(*byte));
        assert_eq!(size + 10, tag.len());
        assert!(tag[6..10].iter().all(|byte| byte & 0x80 == 0));
        assert_eq!(&tag[10..14], b"TIT2");
        assert!(tag.windows(4).any(|w| w == b"TPE1"));
        assert!(!tag.windows(4).any(|w| w == b"TALB"));
    }

    #[test]
    fn long_and_odd_texts_are_cut_at_a_character_and_lose_control_characters() {
        let tag = tag(&playing(&"ä\n".repeat(400), ""));
        let text = &tag[21..tag.len() - 1];
        let text = std::str::from_utf8(text).unwrap();
        assert!(text.len() <= MAX_TEXT && text.chars().all(|c| c == 'ä'));
    }
}
