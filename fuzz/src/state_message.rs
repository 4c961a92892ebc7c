//! State messages of strangers, and of nodes whose signatures are good. The first byte says what the rest is.

use bytes::Bytes;
use libp2p_identity::Keypair;
use std::sync::LazyLock;
use std::time::Duration;

use crate::cut::Cut;
use crate::ipfs::ipns::Name;
use crate::sync::intake::{Intake, Moment};
use crate::sync::merge::State;
use crate::sync::message::{self, Claim, NodeFacts, Signed, StationFacts};

const NOW: i64 = 1_795_377_600_000;
/// Nodes that the state holds.
const CAPACITY: usize = 4;

/// Anybody's keys, the first one the station's.
static KEYS: LazyLock<Vec<Keypair>> = LazyLock::new(|| {
    (0..8).map(|n| Keypair::ed25519_from_bytes([n; 32]).expect("any 32 bytes are a key")).collect()
});

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    let mut intake = intake();
    match cut.byte() % 3 {
        0 => taken_or_nothing(&mut intake, cut.0, 0),
        1 => signed(&mut intake, &mut cut),
        _ => changed(&mut cut),
    }
}

fn name(key: &Keypair) -> Name {
    Name::from(*key.public().to_peer_id().as_ref())
}

fn intake() -> Intake {
    let own = name(&KEYS[7]);
    Intake::new(name(&KEYS[0]), own, Duration::from_secs(4), State::with_capacity(CAPACITY))
}

/// A refusal changes nothing; what is taken twice is news once.
fn taken_or_nothing(intake: &mut Intake, bytes: &[u8], seconds: u64) {
    let believed = seconds % 2 == 0;
    let unix_ms = believed.then(|| NOW.saturating_add(i64::try_from(seconds).unwrap_or(0) * 1_000));
    let now = Moment { mono_ms: seconds * 1_000, unix_ms };
    let before = intake.state().clone();
    match intake.take(bytes, now) {
        Ok(taken) => {
            assert!(bytes.len() <= message::MAX_BYTES);
            assert!(intake.take(bytes, now).is_err(), "the same is news again");
            assert!(!taken.station || intake.state().station().is_some());
        }
        Err(refusal) => {
            assert!(*intake.state() == before, "{} changed something", refusal.label());
            assert!(!refusal.to_string().is_empty());
        }
    }
    let state = intake.state();
    assert!(state.len() <= CAPACITY);
    let mut merged = before.clone();
    merged.merge(state);
    assert!(merged == *state, "what is taken in is a merge");
    merged.merge(&before);
    assert!(merged == *state);
    if let Some((part, record)) = intake.station_to_pass_on(now) {
        assert!(part.signed.facts.len() <= message::MAX_STATION_BYTES);
        assert!(record.len() <= message::MAX_RECORD_BYTES);
    }
    let _ = (intake.period(), intake.reference(now));
    if seconds % 16 == 15 {
        intake.forget_stale(now);
    }
}

/// Foreign facts under good signatures, one message after the other.
fn signed(intake: &mut Intake, cut: &mut Cut<'_>) {
    let mut seconds = 0;
    while !cut.is_empty() && seconds < 256 {
        let (author, wait, record) = (cut.byte(), cut.byte(), cut.byte());
        seconds += u64::from(wait);
        let len = cut.short();
        let node = cut.bytes(len.into());
        let len = cut.short();
        let station = cut.bytes(len.into());
        let part = (!station.is_empty()).then(|| sign(0, station, message::station_payload));
        let record = ipns_record(record.into());
        let author = usize::from(author) % KEYS.len();
        let node = sign(author, node, message::node_payload);
        let part = part.as_ref().map(|part| (part, &record[..]));
        let bytes = message::write(&node, &KEYS[author].public().encode_protobuf(), part);
        taken_or_nothing(intake, &bytes, seconds);
    }
}

fn sign(key: usize, facts: &[u8], payload: fn(&[u8]) -> Vec<u8>) -> Signed {
    let signature = KEYS[key].sign(&payload(facts)).expect("Ed25519 signs everything");
    Signed { facts: facts.into(), signature: signature.into() }
}

/// A record of the station, without the fields of V1.
fn ipns_record(sequence: u64) -> Vec<u8> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Data {
        value: ipld_core::ipld::Ipld,
        validity: ipld_core::ipld::Ipld,
        validity_type: u64,
        sequence: u64,
        #[serde(rename = "TTL")]
        ttl: u64,
    }
    let text = |text: &str| ipld_core::ipld::Ipld::Bytes(text.into());
    let data = Data {
        value: text("/ipfs/bafkqaaa"),
        validity: text("2100-01-01T00:00:00Z"),
        validity_type: 0,
        sequence,
        ttl: 0,
    };
    let data = serde_ipld_dagcbor::to_vec(&data).expect("plain data");
    let signature =
        KEYS[0].sign(&[b"ipns-signature:", &data[..]].concat()).expect("Ed25519 signs everything");
    let mut bytes = Vec::new();
    for (number, field) in [(8_u8, &signature), (9, &data)] {
        bytes.push(number << 3 | 2);
        let len = u8::try_from(field.len()).expect("a short field");
        if len >= 0x80 {
            bytes.extend([len | 0x80, 1]);
        } else {
            bytes.push(len);
        }
        bytes.extend_from_slice(field);
    }
    bytes
}

/// A good message with bytes set, inserted and removed is refused, or says the same.
fn changed(cut: &mut Cut<'_>) {
    let good = good();
    let said = |bytes: &Bytes| {
        let station = name(&KEYS[0]);
        let claim = Claim::read(&station, bytes).ok()?;
        claim.verify_node().ok()?;
        let record = claim.verify_station(&station, Some(NOW)).ok()??;
        Some((claim.peer, claim.node, claim.station, record.sequence, record.value))
    };
    let expected = said(&good);
    assert!(expected.is_some(), "a good message is refused");
    let mut bytes = good.to_vec();
    while !cut.is_empty() && bytes.len() < 2 * message::MAX_BYTES {
        let (kind, at, byte) = (cut.byte(), cut.short(), cut.byte());
        let at = usize::from(at) % bytes.len().max(1);
        match kind % 4 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            2 => bytes.insert(at, byte),
            _ => drop(bytes.drain(at..bytes.len().min(at + usize::from(byte)))),
        }
    }
    let changed = said(&bytes.into());
    assert!(changed.is_none() || changed == expected, "a forged message");
}

fn good() -> Bytes {
    let station = name(&KEYS[0]).to_string();
    let node = NodeFacts {
        name: station.clone(),
        seq: 7,
        time_ms: NOW,
        role: "relay".into(),
        software: "skywave/0.1.0".into(),
        newest: Some(466_900_000),
        held_until: Some(466_900_015),
        http: vec!["http://192.168.1.20:8080".into()],
        swarm: vec!["/ip4/192.168.1.20/tcp/4001".into()],
        listeners: 3,
    };
    let facts = StationFacts {
        name: station,
        seq: 9,
        time_ms: NOW,
        newest: Some(466_900_000),
        ahead: Some(466_900_015),
        index: Vec::new(),
        now_playing: None,
        relays_known: 2,
    };
    let node = sign(1, &message::encode(&node), message::node_payload);
    let part = sign(0, &message::encode(&facts), message::station_payload);
    message::write(&node, &KEYS[1].public().encode_protobuf(), Some((&part, &ipns_record(5))))
}
