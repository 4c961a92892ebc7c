//! Content paths that records and DNSLinks point at. Pure.

use cid::Cid;

use crate::ipfs::ipns::{Name, name};

/// The longest path that is followed, in bytes.
const MAX_BYTES: usize = 2048;
/// Segments behind the root.
const MAX_SEGMENTS: usize = 32;
/// The longest domain name (RFC 1035 section 2.3.4), without the dot at its end.
const MAX_DOMAIN: usize = 253;
/// The longest label of a domain name.
const MAX_LABEL: usize = 63;

/// What stands behind `/ipfs/` or `/ipns/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `/ipfs/<cid>`.
    Content(Cid),
    /// `/ipns/<key>`.
    Key(Name),
    /// `/ipns/<domain>`, in lower case.
    Domain(String),
}

impl Root {
    /// Reads what stands behind `/ipns/`: a key in any spelling, or a domain.
    pub fn of_name(text: &str) -> Option<Root> {
        Name::parse(text).map(Root::Key).or_else(|| domain(text).map(Root::Domain))
    }
}

/// `/ipfs/<cid>/a/b` or `/ipns/<name>/a/b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentPath {
    /// Where it begins.
    pub root: Root,
    /// The segments behind the root, none of them empty, `.` or `..`.
    pub rest: Vec<String>,
}

impl ContentPath {
    /// Reads a path; nothing in it is percent-encoded.
    pub fn parse(text: &str) -> Option<ContentPath> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (namespace, path) = text.strip_prefix('/')?.split_once('/')?;
        let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
        let root = segments.next()?;
        let root = match namespace {
            "ipfs" if root.len() <= name::MAX_LEN => Root::Content(Cid::try_from(root).ok()?),
            "ipns" => Root::of_name(root)?,
            _ => return None,
        };
        let rest: Vec<_> = segments.map(str::to_owned).collect();
        let odd = |segment: &String| {
            segment.is_empty() || segment == "." || segment == ".." || segment.contains(char::is_control)
        };
        (rest.len() <= MAX_SEGMENTS && !rest.iter().any(odd)).then_some(ContentPath { root, rest })
    }

    /// The same with more segments; `None` where these are too many.
    pub fn join(mut self, below: Vec<String>) -> Option<ContentPath> {
        self.rest.extend(below);
        (self.rest.len() <= MAX_SEGMENTS).then_some(self)
    }
}

/// The domain in lower case; `None` for what is none: a name without a dot, an address, or odd characters. Underscores
/// are allowed, as names of TXT records have them.
fn domain(text: &str) -> Option<String> {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(inner)
    };
    let is_domain = text.len() <= MAX_DOMAIN && text.contains('.') && text.split('.').all(label);
    let is_address = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (is_domain && !is_address).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CID: &str = "bafkqabtimvwgy3yk";
    const KEY: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    fn rest(text: &str) -> Option<Vec<String>> {
        ContentPath::parse(text).map(|path| path.rest)
    }

    #[test]
    fn content_keys_and_domains_are_told_apart() {
        let root = |text: &str| ContentPath::parse(text).map(|path| path.root);
        assert_eq!(root(&format!("/ipfs/{CID}/a")), Some(Root::Content(CID.parse().unwrap())));
        assert_eq!(root(&format!("/ipns/{KEY}")), Some(Root::Key(Name::parse(KEY).unwrap())));
        assert_eq!(root("/ipns/Docs.example.ORG/x"), Some(Root::Domain("docs.example.org".into())));
        assert_eq!(rest(&format!("/ipfs/{CID}/a/b c/")), Some(vec!["a".into(), "b c".into()]));
        assert_eq!(rest(&format!("/ipfs/{CID}")), Some(Vec::new()));
    }

    #[test]
    fn odd_paths_lead_nowhere() {
        for text in [
            "",
            "/",
            "/ipfs",
            "/ipfs/",
            "ipfs/x",
            CID,
            "/ipld/x",
            "/ipfs/example.org",
            "/ipns/localhost",
            "/ipns/.",
            "/ipns/a..b",
            "/ipns/10.0.0.1",
            "/ipns/a b.c",
            "/ipns/ü.org",
        ] {
            assert_eq!(ContentPath::parse(text), None, "{text}");
        }
        for tail in ["//b", "/../b", "/.", "/a\nb"] {
            assert_eq!(rest(&format!("/ipfs/{CID}{tail}")), None, "{tail}");
        }
        assert_eq!(rest(&format!("/ipfs/{CID}{}", "/a".repeat(MAX_SEGMENTS + 1))), None);
        assert_eq!(rest(&format!("/ipfs/{CID}/{}", "a".repeat(MAX_BYTES))), None);
        assert_eq!(Root::of_name(&format!("{}.org", "a".repeat(MAX_LABEL + 1))), None);
        let path = ContentPath::parse(&format!("/ipfs/{CID}/a")).unwrap();
        assert_eq!(path.clone().join(vec!["b".into()]).unwrap().rest, ["a", "b"]);
        assert_eq!(path.join(vec!["b".into(); MAX_SEGMENTS]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_none(text in "/ip[fn]s/\\PC{0,40}") {
            if let Some(path) = ContentPath::parse(&text) {
                prop_assert!(path.rest.iter().all(|segment| !segment.is_empty() && !segment.contains('/')));
            }
        }
    }
}
