//! An ID3v2.4 tag, read without tolerance (ID3v2.4.0 main structure sections 3 and 4, native frames section 4.2).

use super::rules::{self, Violation, ensure};
use std::collections::BTreeMap;

/// Text frames by identifier, as TIT2; frames of other kinds are checked for their form only.
pub type TextFrames = BTreeMap<String, String>;

/// Reads a tag that fills its bytes exactly: no extended header, footer, padding or frame flags.
pub fn parse(bytes: &[u8]) -> Result<TextFrames, Violation> {
    ensure(bytes.len() >= 10, rules::ID3, format!("{} bytes", bytes.len()), "a header of 10")?;
    let (header, mut rest) = bytes.split_at(10);
    let start = &header[..6];
    ensure(
        start == b"ID3\x04\x00\x00",
        rules::ID3,
        format!("{start:02x?}"),
        "\"ID3\", version 4.0, no flags",
    )?;
    let size = syncsafe(&header[6..10])?;
    ensure(size == rest.len(), rules::ID3, format!("size {size}"), rest.len())?;
    let mut frames = TextFrames::new();
    while !rest.is_empty() {
        let (identifier, body, after) = frame(rest)?;
        if identifier.starts_with('T') && identifier != "TXXX" {
            let text = text(&identifier, body)?;
            let fresh = frames.insert(identifier.clone(), text).is_none();
            ensure(fresh, rules::ID3, format!("a second {identifier}"), "one")?;
        }
        rest = after;
    }
    let title = frames.get("TIT2").map(String::as_str).unwrap_or_default();
    ensure(!title.is_empty(), rules::ID3, format!("{:?}", frames.keys()), "a TIT2 with a title")?;
    Ok(frames)
}

/// Four bytes of seven bits each (section 6.2).
fn syncsafe(bytes: &[u8]) -> Result<usize, Violation> {
    let legal = bytes.iter().all(|byte| *byte < 0x80);
    ensure(legal, rules::ID3, format!("size {bytes:02x?}"), "four bytes below 0x80")?;
    Ok(bytes.iter().fold(0, |size, byte| size << 7 | usize::from(*byte)))
}

/// Splits a frame off the front: identifier, body, what follows.
fn frame(bytes: &[u8]) -> Result<(String, &[u8], &[u8]), Violation> {
    ensure(
        bytes.len() >= 10,
        rules::ID3,
        format!("{} bytes left over", bytes.len()),
        "a frame header of 10",
    )?;
    let legal = bytes[..4].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let identifier = String::from_utf8_lossy(&bytes[..4]).into_owned();
    ensure(legal, rules::ID3, format!("frame {identifier:?}"), "four of A-Z and 0-9")?;
    let size = syncsafe(&bytes[4..8])?;
    let flags = &bytes[8..10];
    ensure(flags == [0, 0], rules::ID3, format!("{identifier} flags {flags:02x?}"), "none")?;
    let fits = (1..=bytes.len() - 10).contains(&size);
    ensure(fits, rules::ID3, format!("{identifier} of size {size}"), format!("1 to {}", bytes.len() - 10))?;
    Ok((identifier, &bytes[10..10 + size], &bytes[10 + size..]))
}

/// A text in one of the four encodings of section 4; a closing NUL is taken off.
fn text(identifier: &str, body: &[u8]) -> Result<String, Violation> {
    let (encoding, text) = (body[0], &body[1..]);
    let wide = |big_endian: bool, bytes: &[u8]| {
        let units = bytes.chunks(2).map(|pair| match (pair, big_endian) {
            ([high, low], true) | ([low, high], false) => u16::from_be_bytes([*high, *low]),
            _ => 0xdfff, // half a unit: an unpaired surrogate fails the decoding
        });
        char::decode_utf16(units).collect::<Result<String, _>>().ok()
    };
    let decoded = match (encoding, text) {
        (0, latin) => Some(latin.iter().map(|byte| char::from(*byte)).collect()),
        (1, [0xff, 0xfe, rest @ ..]) => wide(false, rest),
        (1, [0xfe, 0xff, rest @ ..]) | (2, rest) => wide(true, rest),
        (3, utf8) => String::from_utf8(utf8.to_vec()).ok(),
        _ => None,
    };
    let decoded = decoded.ok_or_else(|| {
        Violation::new(rules::ID3, format!("{identifier} {body:02x?}"), "text in its encoding")
    })?;
    Ok(decoded.strip_suffix('\0').unwrap_or(&decoded).to_owned())
}
