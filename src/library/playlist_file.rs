//! Reads .m3u and .m3u8 playlist files. Pure.
//!
//! One path or `file:` URL per line; `#` lines are comments or extended information. An .m3u has no
//! declared encoding, so names are bytes first and Latin-1 second.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The entries in order; of each the spellings worth trying, likeliest first. Web addresses are left out.
pub(super) fn entries(text: &[u8]) -> Vec<Vec<PathBuf>> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#") && !line.contains(&0))
        .filter_map(spellings)
        .collect()
}

fn spellings(line: &[u8]) -> Option<Vec<PathBuf>> {
    if line.len() > 7 && line[..7].eq_ignore_ascii_case(b"file://") {
        let rest = &line[7..];
        let start = rest.iter().position(|&byte| byte == b'/')?;
        return Some(vec![path(percent_decoded(&rest[start..]))]);
    }
    if line.windows(3).any(|three| three == b"://") {
        return None;
    }
    let mut all = vec![path(line.to_vec())];
    if line.contains(&b'\\') {
        all.push(path(line.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()));
    }
    if std::str::from_utf8(line).is_err() {
        let latin_1: String = line.iter().map(|&byte| byte as char).collect();
        all.push(PathBuf::from(latin_1.replace('\\', "/")));
    }
    Some(all)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// RFC 3986 section 2.1; a `%` that starts no escape stands for itself.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).filter(|_| first == b'%').and_then(hex_byte);
        decoded.push(escape.unwrap_or(first));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| (digit as char).to_digit(16);
    u8::try_from(value(digits[0])? * 16 + value(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(text: &[u8]) -> Vec<PathBuf> {
        entries(text).into_iter().map(|spellings| spellings[0].clone()).collect()
    }

    #[test]
    fn entries_keep_their_order_and_comments_vanish() {
        let text =
            b"\xEF\xBB\xBF#EXTM3U\r\n#EXTINF:12,Some One - A Song\r\n b.mp3 \r\n\r\nsub/a.mp3\n/abs/c.ogg";
        assert_eq!(first(text), ["b.mp3", "sub/a.mp3", "/abs/c.ogg"].map(PathBuf::from));
    }

    #[test]
    fn file_urls_are_decoded_and_web_addresses_left_out() {
        let text =
            b"file:///music/a%20b%2.mp3\nfile://host/music/c.mp3\nhttp://example.org/live.mp3\nfile://";
        let all = first(text);
        assert_eq!(all[..2], ["/music/a b%2.mp3", "/music/c.mp3"].map(PathBuf::from));
        assert!(!all.iter().any(|path| path.to_string_lossy().contains("example.org")));
    }

    #[test]
    fn backslashes_and_latin_1_are_second_spellings() {
        assert_eq!(entries(br"disc 1\a.mp3")[0][1], PathBuf::from("disc 1/a.mp3"));
        assert_eq!(entries(b"caf\xe9.mp3")[0][1], PathBuf::from("café.mp3"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            for spellings in entries(&text) {
                prop_assert!(!spellings.is_empty());
            }
        }
    }
}
