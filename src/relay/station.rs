//! `station.json` where a relay tells it: what the station said last, moved on to what is on air here. Pure.
//!
//! What this program does not know of a newer one stays as it was.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::publisher::Station;
use crate::publisher::index::IndexedSegment;

/// The tree's file where the relay is ahead of what the station has signed: on its own, or before the record came.
pub(super) fn moved_on(signed: &Bytes, oldest: u64, newest: &IndexedSegment) -> Bytes {
    let mut station = fields(signed);
    station.insert("on_air".into(), true.into());
    station.insert("oldest".into(), oldest.into());
    station.insert("newest".into(), newest.n.into());
    station.insert("now_playing".into(), json!(newest.now_playing));
    written(station)
}

/// The file that the relay's own HTTP server gives, made of the tree's; `None` of it before there is one.
pub(super) fn of_relay(tree: Option<&Bytes>, name: &str, ipns: &str, on_air: bool, addresses: &[String]) -> Bytes {
    let base = Station::new(name.to_owned(), ipns.to_owned());
    let mut station = tree.map_or_else(|| fields(&base.to_json()), fields);
    station.insert("role".into(), "relay".into());
    station.insert("on_air".into(), on_air.into());
    station.insert("software".into(), base.software.into());
    station.insert("addresses".into(), json!(addresses));
    station.insert("hls".into(), base.hls.into());
    written(station)
}

/// Addresses of the origin's node, whose id is `peer`, for whoever wants to be connected to it.
pub(super) fn addresses(signed: &Bytes, peer: &str, most: usize) -> Vec<String> {
    let station = fields(signed);
    let texts = station.get("addresses").and_then(Value::as_array).into_iter().flatten();
    let its_own = |text: &&str| text.len() <= 256 && text.rsplit('/').next() == Some(peer);
    texts.filter_map(Value::as_str).filter(its_own).take(most).map(str::to_owned).collect()
}

fn fields(file: &Bytes) -> Map<String, Value> {
    serde_json::from_slice(file).unwrap_or_default()
}

fn written(station: Map<String, Value>) -> Bytes {
    serde_json::to_vec(&station).expect("JSON is plain data").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &Bytes) -> Value {
        serde_json::from_slice(file).unwrap()
    }

    #[test]
    fn what_a_newer_station_says_stays_and_what_is_on_air_here_is_told() {
        let signed = Bytes::from_static(
            br#"{"name":"Radio","ipns":"k51","on_air":true,"oldest":3,"newest":7,"novelty":[1],"now_playing":null,
                 "addresses":["/ip4/127.0.0.1/tcp/4001/p2p/12D3"],"relays":[]}"#,
        );
        let newest = IndexedSegment {
            n: 9,
            unix_ms: 0,
            program_date_time_ms: 0,
            samples: 184_320,
            discontinuity: false,
            discontinuity_sequence: 0,
            media: Vec::new(),
            now_playing: None,
        };
        let moved = read(&moved_on(&signed, 4, &newest));
        assert_eq!((&moved["oldest"], &moved["newest"]), (&4.into(), &9.into()));
        assert_eq!((&moved["name"], &moved["novelty"][0]), (&"Radio".into(), &1.into()));
        assert_eq!(moved.get("role"), None, "the tree is the station's");
        let own = read(&of_relay(Some(&signed), "Skywave", "k51", false, &["/ip4/10.0.0.2/tcp/1".into()]));
        assert_eq!((&own["role"], &own["on_air"]), (&"relay".into(), &false.into()));
        assert_eq!((&own["name"], &own["newest"]), (&"Radio".into(), &7.into()));
        assert_eq!(own["addresses"], json!(["/ip4/10.0.0.2/tcp/1"]));
        assert_eq!(addresses(&signed, "12D3", 16), ["/ip4/127.0.0.1/tcp/4001/p2p/12D3"]);
        assert!(addresses(&signed, "12D4", 16).is_empty(), "of another node");
        assert!(addresses(&Bytes::from_static(b"no JSON"), "12D3", 16).is_empty());
        let before = read(&of_relay(None, "Skywave", "k51", false, &[]));
        assert_eq!((&before["name"], &before["ipns"]), (&"Skywave".into(), &"k51".into()));
    }
}
