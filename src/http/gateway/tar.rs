//! Headers of TAR files (pure): the ustar format of POSIX.1-2017, "pax Interchange Format", with extended headers for
//! what it has no room for.

use bytes::Bytes;

/// Everything in a TAR stands in blocks of this size.
pub(super) const BLOCK: usize = 512;

/// The largest size that eleven octal digits hold.
const MAX_SIZE: u64 = 0o777_7777_7777;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    File { size: u64 },
    Directory,
    Symlink { target: &'a str },
}

/// The header of an entry, behind an extended one where name, target or size need it.
pub(super) fn header(name: &str, entry: Entry<'_>) -> Bytes {
    let name = if entry == Entry::Directory { format!("{name}/") } else { name.to_owned() };
    let mut records = String::new();
    if !fits(&name) {
        records.push_str(&record("path", &name));
    }
    let (kind, mode, size, target) = match entry {
        Entry::File { size } => (b'0', 0o644, size, ""),
        Entry::Directory => (b'5', 0o755, 0, ""),
        Entry::Symlink { target } => (b'2', 0o777, 0, target),
    };
    if !fits(target) {
        records.push_str(&record("linkpath", target));
    }
    if size > MAX_SIZE {
        records.push_str(&record("size", &size.to_string()));
    }
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let of_records = ustar("pax", b'x', 0o644, records.len() as u64, "");
        bytes.extend_from_slice(&of_records);
        bytes.extend_from_slice(records.as_bytes());
        bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    }
    bytes.extend_from_slice(&ustar(&name, kind, mode, size.min(MAX_SIZE), target));
    bytes.into()
}

/// Bytes between the end of content of `size` bytes and the next block.
pub(super) fn padding(size: u64) -> usize {
    // Less than a block.
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The end of a TAR.
pub(super) fn end() -> Bytes {
    Bytes::from_static(&[0; 2 * BLOCK])
}

fn fits(text: &str) -> bool {
    text.len() <= 100 && text.is_ascii()
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn ustar(name: &str, kind: u8, mode: u32, size: u64, target: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, length: usize, text: &str| {
        let length = text.len().min(length);
        block[at..at + length].copy_from_slice(&text.as_bytes()[..length]);
    };
    put(0, 100, name);
    put(100, 8, &format!("{mode:07o}"));
    put(108, 8, "0000000");
    put(116, 8, "0000000");
    put(124, 12, &format!("{size:011o}"));
    put(136, 12, "00000000000");
    put(148, 8, "        ");
    put(157, 100, target);
    put(257, 8, "ustar\0");
    put(263, 2, "00");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The path of `name` inside of the directory at `path`; `None` where it would lead out of the root, which is the first
/// part of every path, or is no name.
pub(super) fn inside(path: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.len() > 1 => _ = parts.pop(),
            _ if part == ".." || part.contains(['\\', '\0']) => return None,
            _ => parts.push(part),
        }
    }
    (parts.len() > 1).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_block_and_its_sum_is_right() {
        let header = header("root/a.txt", Entry::File { size: 34 });
        assert_eq!(header.len(), BLOCK);
        assert_eq!(&header[..11], b"root/a.txt\0");
        assert_eq!(&header[124..136], b"00000000042\0");
        let sum = u32::from_str_radix(std::str::from_utf8(&header[148..154]).unwrap(), 8).unwrap();
        let bytes = header.iter().enumerate();
        let counted: u32 =
            bytes.map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
        assert_eq!(sum, counted);
    }

    #[test]
    fn what_does_not_fit_stands_in_an_extended_header() {
        let long = header("ą/file", Entry::File { size: MAX_SIZE + 1 });
        assert_eq!((long.len(), long[156]), (3 * BLOCK, b'x'));
        let text = String::from_utf8_lossy(&long[BLOCK..2 * BLOCK]).into_owned();
        assert!(text.starts_with("16 path=ą/file\n19 size=8589934592\n"), "{text}");
        let link = header("a", Entry::Symlink { target: &"t".repeat(101) });
        assert!(String::from_utf8_lossy(&link).contains("115 linkpath=ttt"), "{link:?}");
        // The length of the length counts: 99 and 101, never 100.
        assert_eq!(record("path", &"x".repeat(90)).len(), 99);
        assert!(record("path", &"x".repeat(91)).starts_with("101 "));
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        assert_eq!(inside("root", "a").as_deref(), Some("root/a"));
        assert_eq!(inside("root/b", "../a/./c").as_deref(), Some("root/a/c"));
        for name in ["..", "../..", "a/../..", "", ".", "a/..", "a\\b", "a\0"] {
            assert_eq!(inside("root", name), None, "{name:?}");
        }
        assert_eq!(inside("root/b", "../../x"), None);
        assert_eq!((padding(0), padding(1), padding(512)), (0, 511, 0));
    }
}
