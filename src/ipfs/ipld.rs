//! Links inside of blocks, by codec. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use cid::Cid;
use ipld_core::codec::Links;
use ipld_core::ipld::Ipld;
use ipld_dagpb::PbNode;
use serde_ipld_dagcbor::codec::DagCborCodec;

use super::block::{DAG_PB, RAW};

/// Multicodec of plain CBOR.
pub const CBOR: u64 = 0x51;
/// Multicodec of DAG-CBOR.
pub const DAG_CBOR: u64 = 0x71;
/// Multicodec of DAG-JSON.
pub const DAG_JSON: u64 = 0x0129;
/// Multicodec of plain JSON.
pub const JSON: u64 = 0x0200;

/// The largest block that is taken apart into values, which take up to a hundred times its bytes.
const MAX_DECODED_BYTES: usize = 128 * 1024;

/// Where a path leads inside of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// To a link, after `used` segments.
    Link {
        /// The block to go on in.
        cid: Cid,
        /// Segments used up.
        used: usize,
    },
    /// To a value that is no link, or the block cannot be looked into.
    Ends,
    /// Nowhere: the block has no segment of that name.
    Missing {
        /// Index of that segment.
        used: usize,
    },
}

/// Follows `path` inside of a DAG-CBOR or DAG-JSON block until its first link.
pub fn walk(cid: &Cid, bytes: &Bytes, path: &[String]) -> Walk {
    let Some(root) = decode(cid, bytes) else { return Walk::Ends };
    let mut place = &root;
    for (used, name) in path.iter().enumerate() {
        let below = match place {
            Ipld::Map(map) => map.get(name),
            Ipld::List(list) => name.parse::<usize>().ok().and_then(|index| list.get(index)),
            _ => None,
        };
        match below {
            None => return Walk::Missing { used },
            Some(Ipld::Link(cid)) => return Walk::Link { cid: *cid, used: used + 1 },
            Some(below) => place = below,
        }
    }
    Walk::Ends
}

/// Whether it is known what blocks of this codec link to.
pub fn is_known(codec: u64) -> bool {
    matches!(codec, RAW | CBOR | DAG_PB | DAG_CBOR | DAG_JSON | JSON)
}

/// Every link of a block in the order in which it stands there, as often as it does; `None` for a block that breaks its
/// codec. Codecs that are not known have no links.
pub fn links(cid: &Cid, bytes: &Bytes) -> Option<Vec<Cid>> {
    match cid.codec() {
        DAG_PB => {
            let node = PbNode::from_bytes(bytes.clone()).ok()?;
            Some(node.links.into_iter().map(|link| link.cid).collect())
        }
        DAG_CBOR => Some(DagCborCodec::links(bytes).ok()?.collect()),
        DAG_JSON => {
            let mut links = Vec::new();
            decode(cid, bytes)?.references(&mut links);
            Some(links)
        }
        _ => Some(Vec::new()),
    }
}

/// The value of a DAG-CBOR or DAG-JSON block; `None` for others, for broken ones and for ones above 128 KiB.
pub fn decode(cid: &Cid, bytes: &Bytes) -> Option<Ipld> {
    match cid.codec() {
        _ if bytes.len() > MAX_DECODED_BYTES => None,
        DAG_CBOR => serde_ipld_dagcbor::from_slice(bytes).ok(),
        DAG_JSON => serde_json::from_slice(bytes).ok().and_then(from_json),
        _ => None,
    }
}

/// DAG-JSON specification, "Links" and "Bytes": what stands alone under `/`.
fn from_json(value: serde_json::Value) -> Option<Ipld> {
    use serde_json::Value;
    Some(match value {
        Value::Null => Ipld::Null,
        Value::Bool(bool) => Ipld::Bool(bool),
        Value::Number(number) => match number.as_i128() {
            Some(integer) => Ipld::Integer(integer),
            None => Ipld::Float(number.as_f64()?),
        },
        Value::String(text) => Ipld::String(text),
        Value::Array(items) => Ipld::List(items.into_iter().map(from_json).collect::<Option<_>>()?),
        Value::Object(fields) => match (fields.get("/"), fields.len()) {
            (Some(Value::String(cid)), 1) => Ipld::Link(cid.parse().ok()?),
            _ => {
                let fields = fields.into_iter().map(|(name, value)| Some((name, from_json(value)?)));
                Ipld::Map(fields.collect::<Option<BTreeMap<_, _>>>()?)
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('/').map(str::to_owned).collect()
    }

    fn cid(codec: u64) -> Cid {
        Cid::new_v1(codec, Code::Sha2_256.digest(b"x"))
    }

    #[test]
    fn a_path_goes_to_the_first_link_or_says_where_it_ends() {
        let target = cid(DAG_CBOR);
        let json = Bytes::from(format!(r#"{{"a":{{"b":[1,{{"/":"{target}"}}]}},"c":2}}"#));
        let cbor = serde_ipld_dagcbor::to_vec(&decode(&cid(DAG_JSON), &json).unwrap()).unwrap();
        for (codec, bytes) in [(DAG_JSON, json), (DAG_CBOR, cbor.into())] {
            let walk = |text| walk(&cid(codec), &bytes, &path(text));
            assert_eq!(walk("a/b/1/on"), Walk::Link { cid: target, used: 3 });
            assert_eq!(walk("a/b"), Walk::Ends);
            assert_eq!(walk("c"), Walk::Ends);
            assert_eq!(walk("a/x"), Walk::Missing { used: 1 });
            assert_eq!(walk("a/b/2"), Walk::Missing { used: 2 });
            assert_eq!(links(&cid(codec), &bytes), Some(vec![target]));
        }
    }

    #[test]
    fn blocks_without_links_and_broken_ones_are_told_apart() {
        assert_eq!(links(&cid(0x55), &Bytes::from_static(b"{")), Some(Vec::new()));
        for codec in [DAG_PB, DAG_CBOR, DAG_JSON] {
            assert_eq!(links(&cid(codec), &Bytes::from_static(b"\xff\xff")), None);
        }
        assert_eq!(walk(&cid(JSON), &Bytes::from_static(b"{\"a\":1}"), &path("a")), Walk::Ends);
    }

    #[test]
    fn a_block_nested_without_end_is_broken() {
        for (codec, open) in [(DAG_CBOR, 0x81), (DAG_JSON, b'[')] {
            for length in [1_000, 100_000, 2_000_000] {
                let bytes = Bytes::from(vec![open; length]);
                assert_eq!(links(&cid(codec), &bytes), None);
                assert_eq!(walk(&cid(codec), &bytes, &path("0/0")), Walk::Ends);
            }
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for codec in [DAG_PB, DAG_CBOR, DAG_JSON] {
                let bytes = Bytes::from(bytes.clone());
                let _ = links(&cid(codec), &bytes);
                let _ = walk(&cid(codec), &bytes, &path("a/b"));
            }
        }
    }
}
