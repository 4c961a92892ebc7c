//! Content types by file name, and by content where the name says nothing (pure).

/// How far into content is looked.
pub(super) const BEGINNING: usize = 512;

/// What a client should take a file for, by its name.
///
/// Segments are `audio/mp4`: the type RFC 6381 and the ISO-BMFF registration give to MP4 files with audio alone,
/// known to every browser and proxy. `video/iso.segment` would be for segments outside of a playable file, and makes
/// some proxies treat radio as video.
pub(super) fn of_name(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        // RFC 8216 section 4.
        "m3u8" => "application/vnd.apple.mpegurl",
        "m4s" | "mp4" | "m4a" => "audio/mp4",
        "aac" => "audio/aac",
        "flac" => "audio/flac",
        "mp3" => "audio/mpeg",
        "ogg" | "opus" => "audio/ogg",
        "wav" => "audio/wav",
        "json" => "application/json",
        "car" => "application/vnd.ipld.car; version=1",
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        _ => UNKNOWN,
    }
}

const UNKNOWN: &str = "application/octet-stream";

/// Whether the name alone tells the type.
pub(super) fn is_told_by(name: &str) -> bool {
    of_name(name) != UNKNOWN
}

/// What content without a telling name is, by its first [`BEGINNING`] bytes; `whole` where these are all.
pub(super) fn of_content(beginning: &[u8], whole: bool) -> &'static str {
    const SIGNATURES: [(usize, &[u8], &str); 14] = [
        (0, b"\x89PNG\r\n\x1a\n", "image/png"),
        (0, b"\xff\xd8\xff", "image/jpeg"),
        (0, b"GIF8", "image/gif"),
        (8, b"WEBP", "image/webp"),
        (0, b"%PDF-", "application/pdf"),
        (0, b"OggS", "audio/ogg"),
        (0, b"fLaC", "audio/flac"),
        (0, b"ID3", "audio/mpeg"),
        (8, b"WAVE", "audio/wav"),
        // ISO-BMFF: a file, or a segment as this station makes them.
        (4, b"ftyp", "audio/mp4"),
        (4, b"styp", "audio/mp4"),
        (4, b"moof", "audio/mp4"),
        (0, b"#EXTM3U", "application/vnd.apple.mpegurl"),
        (0, b"\x1aE\xdf\xa3", "video/webm"),
    ];
    let found = SIGNATURES
        .iter()
        .find(|(at, signature, _)| beginning.get(*at..).is_some_and(|rest| rest.starts_with(signature)));
    match (found, text(beginning, whole)) {
        (Some((_, _, kind)), _) => kind,
        (None, Some(text)) => of_text(text, whole),
        (None, None) => UNKNOWN,
    }
}

fn of_text(text: &str, whole: bool) -> &'static str {
    let start = text.trim_start().get(..14).unwrap_or(text.trim_start()).to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        "text/html; charset=utf-8"
    } else if start.starts_with("<svg") || (start.starts_with("<?xml") && text.contains("<svg")) {
        "image/svg+xml"
    } else if start.starts_with(['{', '[']) && whole && is_json(text.as_bytes()) {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}

/// Whether bytes are one JSON value.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// The bytes as text: UTF-8, which may be cut in its last letter, without control characters. Nothing is no text.
fn text(bytes: &[u8], whole: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && !whole => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b');
    (!text.is_empty() && text.chars().all(printable)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_extension_decides_in_any_case() {
        assert_eq!(of_name("live.m3u8"), "application/vnd.apple.mpegurl");
        assert_eq!(of_name("466900000.m4s"), "audio/mp4");
        assert_eq!(of_name("a.html.MP4"), "audio/mp4");
        assert_eq!(of_name("no extension"), "application/octet-stream");
        assert_eq!(of_name(""), "application/octet-stream");
    }

    #[test]
    fn content_without_a_telling_name_is_looked_into() {
        assert!(!is_told_by("README") && is_told_by("a.txt"));
        let cases: [(&[u8], &str); 12] = [
            (b"hello\n", "text/plain; charset=utf-8"),
            ("Grüße".as_bytes(), "text/plain; charset=utf-8"),
            (b" {\"a\": 1}\n", "application/json"),
            (b"[broken", "text/plain; charset=utf-8"),
            (b"<!DOCTYPE HTML><p>", "text/html; charset=utf-8"),
            (b"<svg xmlns=\"\">", "image/svg+xml"),
            (b"<?xml version=\"1.0\"?><svg>", "image/svg+xml"),
            (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
            (b"\x00\x00\x00\x18styp", "audio/mp4"),
            (b"#EXTM3U\n", "application/vnd.apple.mpegurl"),
            (b"\x00\x01", "application/octet-stream"),
            (b"", "application/octet-stream"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(of_content(bytes, true), expected, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(of_content("Grüße".as_bytes().split_at(3).0, false), "text/plain; charset=utf-8");
        assert_eq!(of_content("Grüße".as_bytes().split_at(3).0, true), "application/octet-stream");
        assert_eq!(of_content(b"{\"a\": 1}", false), "text/plain; charset=utf-8");
    }
}
