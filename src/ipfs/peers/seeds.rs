//! The seed list: peers that a board knows before its first query.
//!
//! TOML, one block per peer:
//!
//! ```toml
//! [[peer]]
//! id = "12D3KooW..."
//! addresses = ["/ip4/192.0.2.1/tcp/4001"]
//! ```

use std::io::ErrorKind;
use std::path::Path;

use rust_ipfs::{Multiaddr, PeerId};
use serde::Deserialize;
use toml::Spanned;

use crate::ipfs::IpfsError;

/// Where an image has its list.
pub const DEFAULT: &str = "/usr/share/skywave/peers.toml";
/// Peers in a list at most: a routing table holds no more of use.
const MAX_SEEDS: usize = 1000;
/// Addresses of one peer.
const MAX_ADDRESSES: usize = 16;

/// A peer and where it may be.
pub type Seed = (PeerId, Vec<Multiaddr>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    peer: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<String>,
    addresses: Vec<Spanned<String>>,
}

/// Reads the list at `path`. The default one need not be there.
///
/// # Errors
/// [`IpfsError::Seeds`] names the file and the line.
pub fn load(path: &Path) -> Result<Vec<Seed>, IpfsError> {
    let failed = |line, reason| IpfsError::Seeds { path: path.to_owned(), line, reason };
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|(line, reason)| failed(Some(line), reason)),
        Err(error) if error.kind() == ErrorKind::NotFound && path == Path::new(DEFAULT) => Ok(Vec::new()),
        Err(error) => Err(failed(None, error.to_string())),
    }
}

/// Reads the content of such a list.
///
/// # Errors
/// The line, from 1, and what is wrong there.
pub fn parse(text: &str) -> Result<Vec<Seed>, (usize, String)> {
    let line = |offset: usize| text.as_bytes()[..offset.min(text.len())].split(|b| *b == b'\n').count();
    let list: List = toml::from_str(text).map_err(|error| {
        (line(error.span().map_or(0, |span| span.start)), error.message().trim().to_owned())
    })?;
    let mut seeds = Vec::new();
    for entry in list.peer {
        let at = line(entry.id.span().start);
        if seeds.len() == MAX_SEEDS {
            return Err((at, format!("more than {MAX_SEEDS} peers")));
        }
        let id = entry.id.get_ref();
        let id: PeerId = id.parse().map_err(|_| (at, format!("{id:?} is no peer id")))?;
        if entry.addresses.len() > MAX_ADDRESSES {
            return Err((at, format!("more than {MAX_ADDRESSES} addresses")));
        }
        let address = |address: &Spanned<String>| {
            let wrong = |_| (line(address.span().start), format!("{:?} is no multiaddr", address.get_ref()));
            address.get_ref().parse::<Multiaddr>().map_err(wrong)
        };
        seeds.push((id, entry.addresses.iter().map(address).collect::<Result<_, _>>()?));
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    #[test]
    fn a_list_gives_peers_and_their_addresses() {
        let text = format!("[[peer]]\nid = \"{ID}\"\naddresses = [\"/ip4/192.0.2.1/tcp/4001\"]\n");
        let seeds = parse(&text).unwrap();
        assert_eq!(seeds, [(ID.parse().unwrap(), vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()])]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_broken_list_is_an_error_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.toml");
        for (text, line, says) in [
            ("[[peer]]\nid = \"nobody\"\naddresses = []\n".to_owned(), 2, "no peer id"),
            (format!("[[peer]]\nid = \"{ID}\"\naddresses = [\n\"/ip4/x\"]\n"), 4, "no multiaddr"),
            (format!("\n[[peer]]\nid = \"{ID}\"\naddress = []\n"), 4, "unknown field"),
            ("[[peer]\n".to_owned(), 1, ""),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("peers.toml:{line}: ")) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_list_that_was_asked_for_must_be_there_and_the_default_one_need_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(&folder.path().join("peers.toml")).unwrap_err().to_string().contains("peers.toml: "));
        if !Path::new(DEFAULT).exists() {
            assert_eq!(load(Path::new(DEFAULT)).unwrap(), []);
        }
    }
}
