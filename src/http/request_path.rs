//! The path of a request, taken apart (pure).

/// Bounds the path as sent, in bytes.
const MAX_BYTES: usize = 2048;

/// Bounds the depth of a path, and so the blocks that one request can make the gateway read.
const MAX_SEGMENTS: usize = 32;

/// A path whose segments are decoded and safe to look up by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestPath {
    pub(super) segments: Vec<String>,
    /// Whether it ends with a slash.
    pub(super) directory: bool,
}

/// Why a path is refused; the text goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    #[error("The path is longer than {MAX_BYTES} bytes.")]
    TooLong,
    #[error("The path has more than {MAX_SEGMENTS} segments.")]
    TooDeep,
    #[error("The path does not start with a slash.")]
    NotAbsolute,
    #[error("The path has an empty segment.")]
    EmptySegment,
    #[error("The path has a segment \".\" or \"..\".")]
    DotSegment,
    #[error("The path has a broken percent-encoding.")]
    PercentEncoding,
    #[error("The path is not UTF-8.")]
    NotUtf8,
    #[error("The path has an encoded slash, a backslash or a control character.")]
    Forbidden,
}

/// Splits at slashes first and decodes afterwards (RFC 3986 section 2.4), so that an encoded slash can't make a
/// segment.
pub(super) fn parse(raw: &str) -> Result<RequestPath, PathError> {
    if raw.len() > MAX_BYTES {
        return Err(PathError::TooLong);
    }
    let mut rest = raw.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    let directory = raw.ends_with('/');
    if rest.is_empty() {
        return Ok(RequestPath { segments: Vec::new(), directory });
    }
    rest = rest.strip_suffix('/').unwrap_or(rest);
    let segments = rest.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    if segments.len() > MAX_SEGMENTS {
        return Err(PathError::TooDeep);
    }
    Ok(RequestPath { segments, directory })
}

fn segment(raw: &str) -> Result<String, PathError> {
    let text = decode(raw)?;
    match text.as_str() {
        "" => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::DotSegment),
        _ if text.contains(|c: char| c == '/' || c == '\\' || c.is_control()) => Err(PathError::Forbidden),
        _ => Ok(text),
    }
}

/// Percent-decoding, RFC 3986 section 2.1.
pub(super) fn decode(raw: &str) -> Result<String, PathError> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or(PathError::PercentEncoding)?;
        // Two hexadecimal digits make one byte.
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| PathError::NotUtf8)
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 section 2.3.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(raw: &str) -> Vec<String> {
        parse(raw).unwrap().segments
    }

    #[test]
    fn paths_are_split_and_decoded() {
        assert_eq!(segments("/live/hifi/7.m4s"), ["live", "hifi", "7.m4s"]);
        assert_eq!(segments("/ipfs/x/a%20b%C3%BC"), ["ipfs", "x", "a bü"]);
        assert_eq!(segments("/"), [""; 0]);
        assert!(parse("/ipfs/x/").unwrap().directory);
        assert!(!parse("/ipfs/x").unwrap().directory);
    }

    #[test]
    fn names_with_dots_in_them_are_names() {
        assert_eq!(segments("/..a/b../..."), ["..a", "b..", "..."]);
    }

    #[test]
    fn odd_paths_are_refused_with_their_reason() {
        let cases = [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("//", PathError::EmptySegment),
            ("//live", PathError::EmptySegment),
            ("/live//x", PathError::EmptySegment),
            ("/live/../x", PathError::DotSegment),
            ("/live/%2e%2E/x", PathError::DotSegment),
            ("/live/./x", PathError::DotSegment),
            ("/live/a%2Fb", PathError::Forbidden),
            ("/live/a%5cb", PathError::Forbidden),
            ("/live/a%00", PathError::Forbidden),
            ("/live/a%0d%0aX: y", PathError::Forbidden),
            ("/live/%", PathError::PercentEncoding),
            ("/live/%4", PathError::PercentEncoding),
            ("/live/%zz", PathError::PercentEncoding),
            ("/live/%+1", PathError::PercentEncoding),
            ("/live/%ff", PathError::NotUtf8),
        ];
        for (raw, reason) in cases {
            assert_eq!(parse(raw), Err(reason), "{raw}");
        }
        assert_eq!(parse(&format!("/{}", "a".repeat(MAX_BYTES))), Err(PathError::TooLong));
        assert_eq!(parse(&"/a".repeat(MAX_SEGMENTS + 1)), Err(PathError::TooDeep));
    }

    proptest! {
        #[test]
        fn any_path_is_parsed_or_refused(raw in "\\PC{0,60}") {
            if let Ok(path) = parse(&raw) {
                for segment in path.segments {
                    prop_assert!(!segment.is_empty() && segment != "." && segment != "..");
                    prop_assert!(!segment.contains(['/', '\\', '\0']));
                }
            }
        }

        #[test]
        fn what_is_encoded_decodes_to_itself(text in any::<String>()) {
            prop_assert_eq!(decode(&encode(&text)).unwrap(), text);
        }
    }
}
