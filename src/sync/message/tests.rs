use std::time::Duration;

use ipld_core::ipld::Ipld;
use proptest::prelude::*;

use super::*;
use crate::ipfs::{Block, Identity, ipns};

const NOW: i64 = 1_795_377_600_000;

fn node_facts(station: &Name) -> NodeFacts {
    NodeFacts {
        name: station.to_string(),
        seq: 7,
        time_ms: NOW,
        role: "relay".into(),
        software: "skywave/0.1.0".into(),
        newest: Some(466_900_000),
        held_until: None,
        http: vec!["http://192.168.1.20:8080".into()],
        swarm: vec!["/ip4/192.168.1.20/tcp/4001/p2p/12D3KooW".into()],
        listeners: 3,
    }
}

fn station_facts(station: &Name) -> StationFacts {
    StationFacts {
        name: station.to_string(),
        seq: 9,
        time_ms: NOW,
        newest: Some(466_900_000),
        ahead: Some(466_900_015),
        index: vec![Block::raw("group").cid],
        now_playing: Some(Playing {
            title: "t".into(),
            artist: String::new(),
            album: String::new(),
            position_ms: 5,
        }),
        relays_known: 2,
    }
}

fn record(station: &Identity) -> Bytes {
    let root = Block::raw("root").cid;
    ipns::sign(station, root, 5, NOW, Duration::from_secs(60), Duration::ZERO).unwrap().bytes
}

fn signed(identity: &Identity, facts: Box<[u8]>, payload: fn(&[u8]) -> Vec<u8>) -> Signed {
    let signature = identity.sign(&payload(&facts)).unwrap().into();
    Signed { facts, signature }
}

/// A message with the facts given as they are encoded.
fn message(station: &Identity, author: &Identity, node: Box<[u8]>, facts: Option<Box<[u8]>>) -> Bytes {
    let node = signed(author, node, node_payload);
    let part = facts.map(|facts| (signed(station, facts, station_payload), record(station)));
    write(&node, &author.public_key(), part.as_ref().map(|(part, record)| (part, &record[..])))
}

fn good(station: &Identity, author: &Identity) -> Bytes {
    let name = station.name();
    message(station, author, encode(&node_facts(&name)), Some(encode(&station_facts(&name))))
}

/// What is wrong with a message, all of it checked.
fn verdict(station: &Name, bytes: &[u8]) -> Result<(), Refusal> {
    let claim = Claim::read(station, bytes)?;
    claim.verify_node()?;
    claim.verify_station(station, Some(NOW)).map(|_| ())
}

/// The message with a field of its map replaced.
fn with(bytes: &[u8], field: &str, value: Ipld) -> Vec<u8> {
    let Ok(Ipld::Map(mut map)) = serde_ipld_dagcbor::from_slice(bytes) else { panic!("no map") };
    map.insert(field.into(), value);
    serde_ipld_dagcbor::to_vec(&Ipld::Map(map)).unwrap()
}

fn field(bytes: &[u8], field: &str) -> Ipld {
    let Ok(Ipld::Map(mut map)) = serde_ipld_dagcbor::from_slice(bytes) else { panic!("no map") };
    map.remove(field).unwrap()
}

#[test]
fn a_message_is_read_as_it_was_written_and_verifies() {
    let (station, author) = (Identity::generate(), Identity::generate());
    let bytes = good(&station, &author);
    let claim = Claim::read(&station.name(), &bytes).unwrap();
    assert_eq!(claim.peer, author.name());
    assert_eq!(claim.node, node_facts(&station.name()));
    assert_eq!(claim.station, Some(station_facts(&station.name())));
    claim.verify_node().unwrap();
    let record = claim.verify_station(&station.name(), Some(NOW)).unwrap().unwrap();
    assert_eq!(record.sequence, 5);
    assert!(bytes.len() < 1_500, "{}", bytes.len());
    let alone = message(&station, &author, encode(&node_facts(&station.name())), None);
    assert_eq!(verdict(&station.name(), &alone), Ok(()));
    assert!(Claim::read(&station.name(), &alone).unwrap().station.is_none());
}

#[test]
fn each_signature_is_that_of_whose_words_it_covers() {
    let (station, author, other) = (Identity::generate(), Identity::generate(), Identity::generate());
    let (name, bytes) = (station.name(), good(&station, &author));
    let forged = |field: &str, value| verdict(&name, &with(&bytes, field, value));
    assert_eq!(forged("key", Ipld::Bytes(other.public_key())), Err(Refusal::Forged));
    assert_eq!(forged("sig", Ipld::Bytes(vec![0; 64])), Err(Refusal::Forged));
    let mut facts = node_facts(&name);
    facts.listeners += 1;
    assert_eq!(forged("node", Ipld::Bytes(encode(&facts).into())), Err(Refusal::Forged));
    // A relay that speaks for the station.
    let node = encode(&node_facts(&name));
    let own = signed(&author, encode(&station_facts(&name)), station_payload);
    let node = signed(&author, node, node_payload);
    let lie = write(&node, &author.public_key(), Some((&own, &record(&station))));
    assert_eq!(verdict(&name, &lie), Err(Refusal::Forged));
    // What a station signs as a node is no word of the station.
    let crossed = signed(&station, encode(&station_facts(&name)), node_payload);
    let lie = write(&node, &author.public_key(), Some((&crossed, &record(&station))));
    assert_eq!(verdict(&name, &lie), Err(Refusal::Forged));
}

#[test]
fn a_record_of_another_name_or_one_that_has_expired_is_refused() {
    let (station, other) = (Identity::generate(), Identity::generate());
    let name = station.name();
    let node = signed(&other, encode(&node_facts(&name)), node_payload);
    let part = signed(&station, encode(&station_facts(&name)), station_payload);
    let lie = write(&node, &other.public_key(), Some((&part, &record(&other))));
    assert!(matches!(verdict(&name, &lie), Err(Refusal::Record(_))));
    let good = write(&node, &other.public_key(), Some((&part, &record(&station))));
    let claim = Claim::read(&name, &good).unwrap();
    let late = claim.verify_station(&name, Some(NOW + 60_000));
    assert_eq!(late.unwrap_err(), Refusal::Record(RecordError::Expired));
    assert!(claim.verify_station(&name, None).is_ok(), "without a clock nothing has expired");
}

#[test]
fn words_of_another_station_are_refused() {
    let (station, other) = (Identity::generate(), Identity::generate());
    let name = station.name();
    assert_eq!(verdict(&other.name(), &good(&station, &other)), Err(Refusal::WrongStation));
    // Each part names its station.
    let node = encode(&node_facts(&name));
    let facts = encode(&station_facts(&other.name()));
    assert_eq!(verdict(&name, &message(&station, &other, node, Some(facts))), Err(Refusal::WrongStation));
}

#[test]
fn newer_versions_are_no_offence_and_what_is_too_large_is() {
    let (station, author) = (Identity::generate(), Identity::generate());
    let (name, bytes) = (station.name(), good(&station, &author));
    assert_eq!(verdict(&name, &with(&bytes, "v", Ipld::Integer(2))), Err(Refusal::Version));
    let two = serde_ipld_dagcbor::to_vec(&Ipld::Map([("v".to_owned(), Ipld::Integer(2))].into())).unwrap();
    assert_eq!(verdict(&name, &two), Err(Refusal::Version));
    assert!(!Refusal::Version.is_offence() && Refusal::TooLarge.is_offence());
    let large = [&bytes[..], &vec![0; MAX_BYTES]].concat();
    assert_eq!(verdict(&name, &large), Err(Refusal::TooLarge));
    for (field, most) in [("node", MAX_NODE_BYTES), ("key", MAX_KEY_BYTES), ("sig", MAX_KEY_BYTES)] {
        let long = with(&bytes, field, Ipld::Bytes(vec![0; most + 1]));
        assert_eq!(verdict(&name, &long), Err(Refusal::TooLarge), "{field}");
    }
    for part in ["facts", "sig", "record"] {
        let inner = serde_ipld_dagcbor::to_vec(&field(&bytes, "station")).unwrap();
        let long = with(&inner, part, Ipld::Bytes(vec![0; MAX_STATION_BYTES + 1]));
        let long = with(&bytes, "station", serde_ipld_dagcbor::from_slice(&long).unwrap());
        assert_eq!(verdict(&name, &long), Err(Refusal::TooLarge), "{part}");
    }
}

#[test]
fn fields_of_a_newer_version_go_through_an_older_node_under_their_signature() {
    let (station, newer, older) = (Identity::generate(), Identity::generate(), Identity::generate());
    let name = station.name();
    let link = Ipld::List(vec![Ipld::Link(Block::raw("x").cid), Ipld::Null, Ipld::Float(0.5)]);
    let facts = with(&encode(&station_facts(&name)), "hymn", link.clone());
    let node = with(&encode(&node_facts(&name)), "hymn", link.clone());
    let bytes = with(&message(&station, &newer, node.into(), Some(facts.into())), "hymn", link.clone());
    assert_eq!(verdict(&name, &bytes), Ok(()));
    let claim = Claim::read(&name, &bytes).unwrap();
    assert_eq!(claim.station, Some(station_facts(&name)));
    // The older node says the same of the station in a message of its own.
    let (part, record) = claim.station_bytes().unwrap();
    let own = signed(&older, encode(&node_facts(&name)), node_payload);
    let passed_on = write(&own, &older.public_key(), Some((&part, record)));
    assert_eq!(verdict(&name, &passed_on), Ok(()));
    let (kept, _) = Claim::read(&name, &passed_on).unwrap().station_bytes().unwrap();
    assert_eq!(field(&kept.facts, "hymn"), link);
}

#[test]
fn addresses_beyond_the_bounds_are_left_out() {
    let (station, author) = (Identity::generate(), Identity::generate());
    let mut facts = node_facts(&station.name());
    facts.http =
        ["http://a", "http://b/path", "javascript:x", "http://c", "http://d", "http://e", "http://f"]
            .map(str::to_owned)
            .to_vec();
    facts.swarm = vec!["a b".into(), "x".repeat(MAX_SWARM_BYTES + 1), "/ip4/1.2.3.4/tcp/1".into()];
    let bytes = message(&station, &author, encode(&facts), None);
    let claim = Claim::read(&station.name(), &bytes).unwrap();
    assert_eq!(claim.node.http, ["http://a", "http://c", "http://d", "http://e"]);
    assert_eq!(claim.node.swarm, ["/ip4/1.2.3.4/tcp/1"]);
}

/// What a message says, where it verifies.
fn said(station: &Name, bytes: &[u8]) -> Option<(NodeFacts, Option<StationFacts>, u64, String)> {
    let claim = Claim::read(station, bytes).ok()?;
    claim.verify_node().ok()?;
    let record = claim.verify_station(station, Some(NOW)).ok()??;
    Some((claim.node, claim.station, record.sequence, record.value))
}

proptest! {
    #[test]
    fn a_changed_message_is_refused_or_says_the_same(
        at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>(), tail: Vec<u8>,
    ) {
        let (station, author) = (Identity::generate(), Identity::generate());
        let (name, mut bytes) = (station.name(), good(&station, &author).to_vec());
        let good = said(&name, &bytes);
        prop_assert!(good.is_some());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // The V1 signature of a record is verified by nobody (IPNS specification, "Record Verification").
        let changed = said(&name, &bytes);
        prop_assert!(changed.is_none() || changed == good, "bit {} of byte {}", bit, at);
        bytes.truncate(cut.index(bytes.len()));
        bytes.extend(tail);
        let _ = verdict(&name, &bytes);
    }
}
