//! The key of a private network, in the format of kubo's `swarm.key` (libp2p private network specification, PSK v1).

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::IpfsError;

/// First line of the file.
const HEADER: &str = "/key/swarm/psk/1.0.0/";
/// Bytes of a key.
const LENGTH: usize = 32;
/// Largest file that is read: the longest form is 64 digits and two short lines.
const MAX_FILE: u64 = 4096;

/// A pre-shared key. Its `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct SwarmKey([u8; LENGTH]);

impl fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SwarmKey")
    }
}

impl SwarmKey {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`IpfsError::SwarmKey`] names the file and what is wrong, also when there is none: a station that was meant to be
    /// private never becomes a public one by accident.
    pub fn load(path: &Path) -> Result<Self, IpfsError> {
        let failed = |reason: String| IpfsError::SwarmKey { path: path.to_owned(), reason };
        let length = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
        if length > MAX_FILE {
            return Err(failed(format!("{length} bytes are more than a key has")));
        }
        let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&bytes).map_err(failed)
    }

    /// Reads the content of such a file: the header, the encoding, the key.
    ///
    /// # Errors
    /// Says in words what is wrong; never what the key is.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (header, rest) = line(bytes);
        if header != HEADER.as_bytes() {
            return Err(format!("the first line must be {HEADER}"));
        }
        let (encoding, rest) = line(rest);
        let key = match encoding {
            b"/base16/" => base16(trim(rest))?,
            b"/base64/" => base64(trim(rest))?,
            b"/bin/" => rest.strip_suffix(b"\n").filter(|key| key.len() == LENGTH).unwrap_or(rest).to_vec(),
            _ => return Err("the second line must be /base16/, /base64/ or /bin/".into()),
        };
        let length = key.len();
        let key = key.try_into().map_err(|_| format!("the key has {length} bytes, not {LENGTH}"))?;
        Ok(Self(key))
    }

    /// The key itself.
    pub fn bytes(&self) -> [u8; LENGTH] {
        self.0
    }
}

/// The file that makes the network private: the one that the configuration names, else `<data>/swarm.key` where it is.
///
/// # Errors
/// [`IpfsError::SwarmKey`] when it cannot be told whether there is one.
pub fn find(configured: Option<&Path>, data: &Path) -> Result<Option<PathBuf>, IpfsError> {
    if let Some(path) = configured {
        return Ok(Some(path.to_owned()));
    }
    let path = data.join("swarm.key");
    match std::fs::symlink_metadata(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IpfsError::SwarmKey { path, reason: error.to_string() }),
    }
}

/// The first line without its end, and what follows.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let rest = bytes.get(end + 1..).unwrap_or_default();
    (bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), rest)
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

fn base16(text: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or("the key is not in base16");
    let digits = text.iter().map(digit).collect::<Result<Vec<_>, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err("the key has an odd number of digits".into());
    }
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

/// RFC 4648, section 4, with padding.
fn base64(text: &[u8]) -> Result<Vec<u8>, String> {
    let malformed = || "the key is not in base64".to_owned();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return Err(malformed());
    }
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in &text[..text.len() - padding] {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(malformed()),
        };
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = [0xa5; 32];

    fn file(encoding: &str, key: &[u8]) -> Vec<u8> {
        [format!("{HEADER}\n/{encoding}/\n").as_bytes(), key].concat()
    }

    #[test]
    fn every_encoding_of_kubo_is_read() {
        let base64 = "paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU=";
        for (encoding, key) in [
            ("base16", "a5".repeat(32).into_bytes()),
            ("base16", format!("{}\r\n", "A5".repeat(32)).into_bytes()),
            ("base64", format!("{base64}\n").into_bytes()),
            ("bin", KEY.to_vec()),
            ("bin", [&KEY[..], b"\n"].concat()),
        ] {
            assert_eq!(SwarmKey::parse(&file(encoding, &key)).unwrap().bytes(), KEY, "{encoding}");
        }
    }

    #[test]
    fn a_malformed_key_is_refused_in_words_that_do_not_tell_it() {
        let digits = "a5".repeat(32);
        for (bytes, says) in [
            (Vec::new(), "first line"),
            (digits.clone().into_bytes(), "first line"),
            (format!("{HEADER}\n{digits}\n").into_bytes(), "second line"),
            (file("base16", &digits.as_bytes()[2..]), "31 bytes"),
            (file("base16", &digits.as_bytes()[1..]), "odd"),
            (file("base16", &digits.replace('a', "x").into_bytes()), "not in base16"),
            (file("base64", b"paWl"), "3 bytes"),
            (file("base64", b"pa*l"), "not in base64"),
            (file("bin", &KEY[1..]), "31 bytes"),
        ] {
            let reason = SwarmKey::parse(&bytes).unwrap_err();
            assert!(reason.contains(says) && !reason.contains("a5a5"), "{reason}");
        }
    }

    #[test]
    fn a_key_that_was_asked_for_and_is_not_there_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("swarm.key");
        assert_eq!(find(None, folder.path()).unwrap(), None);
        assert_eq!(find(Some(&missing), folder.path()).unwrap(), Some(missing.clone()));
        let error = SwarmKey::load(&missing).unwrap_err().to_string();
        assert!(error.contains("swarm.key"), "{error}");
        // One that leads nowhere is one all the same.
        std::os::unix::fs::symlink("/nowhere", &missing).unwrap();
        assert_eq!(find(None, folder.path()).unwrap(), Some(missing));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0..3_usize) {
            let encoding = ["base16", "base64", "bin"][which];
            if let Ok(key) = SwarmKey::parse(&file(encoding, &bytes)) {
                prop_assert_eq!(key.bytes().len(), 32);
            }
        }
    }
}
