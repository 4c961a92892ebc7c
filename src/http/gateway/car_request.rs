//! What a client asks of a CAR (pure). Trustless gateway specification, "Request Query Parameters" and "CAR
//! Responses".

use std::ops::Range;

use cid::Cid;
use multihash_codetable::{Code, MultihashDigest};

use crate::http::call::Call;

/// Which blocks follow those of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The block that the path leads to.
    Block,
    /// What it takes to read that file, or to list that directory.
    Entity(Option<EntityBytes>),
    /// Everything below.
    All,
}

/// `entity-bytes`: first and last byte; negative numbers count from the end, no last byte means the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntityBytes {
    from: i64,
    to: Option<i64>,
}

/// Parameters of a CAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CarRequest {
    pub(super) scope: Scope,
    /// Whether a block is sent each time that it occurs.
    pub(super) duplicates: bool,
}

/// Why a CAR cannot be made as asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CarError {
    #[error("{0:?} is no dag-scope; block, entity and all are.")]
    Scope(String),
    #[error("{0:?} is no entity-bytes of the form from:to, such as 0:*, 5:-1 or -1024:*.")]
    EntityBytes(String),
    #[error("A CAR with {0} is not made here; version=1, order=dfs or unk and dups=y or n are.")]
    Variant(String),
    #[error("The entity-bytes lie outside of the content, which has {0} bytes.")]
    Outside(u64),
}

impl CarRequest {
    /// Reads query and media type parameters; the query wins.
    pub(super) fn new(call: &Call, parameters: Option<&str>) -> Result<CarRequest, CarError> {
        let of_type = |name: &str| {
            let pairs = parameters.unwrap_or_default().split(';').filter_map(|pair| pair.split_once('='));
            let mut same = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            same.next().map(|(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let parameter =
            |name: &str, of: &str| call.parameter(of).or_else(|| of_type(name)).filter(|v| !v.is_empty());
        let not_made = |name: &str, value: String| CarError::Variant(format!("{name}={value}"));
        if let Some(version) = parameter("version", "car-version").filter(|version| version != "1") {
            return Err(not_made("version", version));
        }
        if let Some(order) = parameter("order", "car-order").filter(|order| order != "dfs" && order != "unk")
        {
            return Err(not_made("order", order));
        }
        let duplicates = match parameter("dups", "car-dups") {
            None => false,
            Some(dups) if dups == "n" => false,
            Some(dups) if dups == "y" => true,
            Some(dups) => return Err(not_made("dups", dups)),
        };
        Ok(CarRequest { scope: Scope::of(call)?, duplicates })
    }

    /// The order is always depth first, so every answer can say so.
    pub(super) fn content_type(&self) -> &'static str {
        if self.duplicates {
            "application/vnd.ipld.car; version=1; order=dfs; dups=y"
        } else {
            "application/vnd.ipld.car; version=1; order=dfs; dups=n"
        }
    }

    /// The opaque part of the weak tag of a CAR: scope, duplicates, bytes and the way to `cid`.
    pub(super) fn etag(&self, cid: &Cid, visited: &[Cid]) -> String {
        let mut said = format!("{self:?}");
        visited.iter().for_each(|cid| said.push_str(&cid.to_string()));
        let hash = Code::Sha2_256.digest(said.as_bytes());
        let hash = hash.digest().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let scope = match self.scope {
            Scope::Block => "block",
            Scope::Entity(_) => "entity",
            Scope::All => "all",
        };
        format!("{cid}.car.{scope}.{hash}")
    }
}

impl Scope {
    fn of(call: &Call) -> Result<Scope, CarError> {
        let scope = match call.parameter("dag-scope").as_deref() {
            None | Some("" | "all") => Scope::All,
            Some("entity") => Scope::Entity(None),
            Some("block") => Scope::Block,
            Some(other) => return Err(CarError::Scope(other.to_owned())),
        };
        match call.parameter("entity-bytes").filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => Ok(Scope::Entity(Some(EntityBytes::parse(&bytes)?))),
            None => Ok(scope),
        }
    }
}

impl EntityBytes {
    fn parse(text: &str) -> Result<EntityBytes, CarError> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|_| !text.starts_with('+'));
        let parsed = text.split_once(':').and_then(|(from, to)| {
            let to = if to == "*" { None } else { Some(number(to)?) };
            Some(EntityBytes { from: number(from)?, to })
        });
        // A range that ends before it begins can be told without the file where both count from the same end.
        let parsed =
            parsed.filter(|bytes| bytes.to.is_none_or(|to| (to < 0) != (bytes.from < 0) || bytes.from <= to));
        parsed.ok_or_else(|| CarError::EntityBytes(text.to_owned()))
    }

    /// The bytes of a file of `len` bytes; empty where the range ends before it begins.
    pub(super) fn of(&self, len: u64) -> Result<Range<u64>, CarError> {
        let at = |position: i64| match u64::try_from(position) {
            Ok(position) => Some(position),
            Err(_) => len.checked_sub(position.unsigned_abs()),
        };
        let from = at(self.from).unwrap_or(0);
        let to = match self.to {
            None => len,
            Some(to) => match at(to) {
                Some(last) => last.saturating_add(1).min(len),
                None => 0,
            },
        };
        let outside = from >= len && !(len == 0 && from == 0);
        if outside || self.to.is_some_and(|to| at(to).is_none()) {
            return Err(CarError::Outside(len));
        }
        Ok(from..to.max(from))
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::http::request_path;

    fn request(query: &str, parameters: &str) -> Result<CarRequest, CarError> {
        let (path, raw_path) = (request_path::parse("/ipfs/x").unwrap(), "/ipfs/x".to_owned());
        let query = query.to_owned();
        let call = Call { get: true, headers: HeaderMap::new(), path, raw_path, query, gateway: true };
        CarRequest::new(&call, Some(parameters))
    }

    fn bytes(text: &str, len: u64) -> Result<Range<u64>, CarError> {
        EntityBytes::parse(text)?.of(len)
    }

    #[test]
    fn the_whole_dag_without_duplicates_is_the_default() {
        let default = CarRequest { scope: Scope::All, duplicates: false };
        assert_eq!(request("", ""), Ok(default));
        assert_eq!(request("dag-scope=all", " version=1; order=dfs; dups=n; q=0.5"), Ok(default));
        assert_eq!(request("", "order=unk"), Ok(default));
    }

    #[test]
    fn the_query_wins_over_the_media_type() {
        assert!(request("car-dups=y", "dups=n").unwrap().duplicates);
        assert!(request("car-order=dfs", "order=foo").is_ok());
        assert!(request("", "Dups=\"y\"").unwrap().duplicates);
    }

    #[test]
    fn scopes_are_read_and_entity_bytes_imply_the_entity() {
        assert_eq!(request("dag-scope=block", "").unwrap().scope, Scope::Block);
        assert_eq!(request("dag-scope=entity", "").unwrap().scope, Scope::Entity(None));
        let range = EntityBytes { from: 0, to: None };
        assert_eq!(request("entity-bytes=0:*", "").unwrap().scope, Scope::Entity(Some(range)));
    }

    #[test]
    fn what_cannot_be_made_is_refused_by_name() {
        for query in ["car-version=2", "car-order=bfs", "car-dups=maybe"] {
            assert!(matches!(request(query, ""), Err(CarError::Variant(_))), "{query}");
        }
        assert!(matches!(request("dag-scope=some", ""), Err(CarError::Scope(_))));
        for text in ["", "5", ":", "a:b", "1:", "*:1", "0:+5", "5:4", "-1:-2", "0:99999999999999999999"] {
            assert!(EntityBytes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn entity_bytes_are_bytes_of_the_file() {
        let cases = [("0:*", 0..1026), ("512:1023", 512..1024), ("512:-256", 512..771), ("-5:*", 1021..1026)];
        for (text, expected) in cases {
            assert_eq!(bytes(text, 1026), Ok(expected), "{text}");
        }
        assert_eq!(bytes("-9999:*", 1026), Ok(0..1026));
        assert_eq!(bytes("-9999:-3", 1026), Ok(0..1024));
        assert_eq!(bytes("0:0", 1026), Ok(0..1));
        assert_eq!(bytes("0:999999", 10), Ok(0..10));
        assert_eq!(bytes("5:-8", 10), Ok(5..5));
        assert_eq!(bytes("0:*", 0), Ok(0..0));
        assert_eq!(bytes("10:*", 10), Err(CarError::Outside(10)));
        assert_eq!(bytes("-30:-20", 10), Err(CarError::Outside(10)));
    }

    #[test]
    fn each_scope_and_way_has_a_tag_of_its_own() {
        let (cid, way) = (Cid::default(), [Cid::new_v1(0x55, Code::Sha2_256.digest(b"x"))]);
        let queries =
            ["", "dag-scope=block", "dag-scope=entity", "entity-bytes=0:5", "entity-bytes=0:6", "car-dups=y"];
        let mut tags: Vec<_> =
            queries.iter().map(|query| request(query, "").unwrap().etag(&cid, &[])).collect();
        tags.push(request("", "").unwrap().etag(&cid, &way));
        let unique: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(unique.len(), tags.len(), "{tags:?}");
    }

    proptest! {
        #[test]
        fn any_range_lies_within_the_file(from in any::<i64>(), to in any::<Option<i64>>(), len in any::<u64>()) {
            if let Ok(range) = (EntityBytes { from, to }).of(len) {
                prop_assert!(range.start <= range.end && range.end <= len);
            }
        }
    }
}
