//! Content types by file name (pure).

/// What a client should take a file for. Content is never looked into, so nothing becomes a page by accident.
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
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::of_name;

    #[test]
    fn the_last_extension_decides_in_any_case() {
        assert_eq!(of_name("live.m3u8"), "application/vnd.apple.mpegurl");
        assert_eq!(of_name("466900000.m4s"), "audio/mp4");
        assert_eq!(of_name("a.html.MP4"), "audio/mp4");
        assert_eq!(of_name("no extension"), "application/octet-stream");
        assert_eq!(of_name(""), "application/octet-stream");
    }
}
