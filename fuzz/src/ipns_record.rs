//! IPNS records of others. The first byte says what the rest is.

use bytes::Bytes;
use libp2p_identity::Keypair;

use crate::cut::Cut;
use crate::ipfs::ipns::record::MAX_BYTES;
use crate::ipfs::ipns::{Name, Record, RecordError, name};

/// Names and records of kubo 0.43.0; see the tests of `src/ipfs/ipns`.
const KNOWN: [(&str, &[u8]); 3] = [
    (
        "k51qzi5uqu5dks93xac12gzrji4tujqp0stm7pufu2verttk0sqyiyhh1mzogg",
        include_bytes!("../corpus/ipns_record/kubo-v1-v2"),
    ),
    (
        "k51qzi5uqu5dld4vsiyz8cm3n2l0m1r7awvdov9mdcly0b2gbedih5cf163t5g",
        include_bytes!("../corpus/ipns_record/kubo-v2"),
    ),
    (
        "k2k4r8ld1bw713uhotihqque4vuy3glg1nx9arcnu9p0hb3ohz3iffwv",
        include_bytes!("../corpus/ipns_record/kubo-rsa"),
    ),
];

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    match cut.byte() % 4 {
        0 => as_sent(cut.0),
        1 => under_its_own_name(&mut cut),
        2 => changed(&mut cut),
        _ => signed(&mut cut),
    }
}

/// Nobody here has kubo's keys: what verifies under one of its names says what kubo signed.
fn expect_no_forgery(name: &str, good: &Bytes, bytes: &Bytes) {
    let name = Name::parse(name).expect("a known name");
    let good = Record::verify(&name, good).expect("a known record");
    if let Ok(record) = Record::verify(&name, bytes) {
        let said = |record: &Record| (record.value.clone(), record.sequence, record.eol, record.ttl);
        assert_eq!(said(&record), said(&good), "a forged record");
    }
}

/// The seeds begin with the byte that chose this.
fn known(index: usize) -> (&'static str, Bytes) {
    let (name, seed) = KNOWN[index % KNOWN.len()];
    (name, Bytes::from_static(&seed[1..]))
}

fn as_sent(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    for index in 0..KNOWN.len() {
        let (name, good) = known(index);
        expect_no_forgery(name, &good, &bytes);
    }
}

fn under_its_own_name(cut: &mut Cut<'_>) {
    let text = String::from_utf8_lossy(cut.counted()).into_owned();
    let bytes = Bytes::copy_from_slice(cut.0);
    assert!(name::same(&text, &text));
    let Some(name) = Name::parse(&text) else { return };
    assert_eq!(Name::from_routing_key(&name.routing_key()), Some(name));
    assert!(name.topic().starts_with("/record/"));
    // A peer id is a multihash of 64 bytes at most, and so is what a CID in base 36 can hold.
    assert_eq!(Name::parse(&name.to_string()), Some(name));
    consistent(Record::verify(&name, &bytes), &bytes);
}

/// A good record with bytes set, inserted and removed.
fn changed(cut: &mut Cut<'_>) {
    let (name, good) = known(cut.byte().into());
    let mut bytes = good.to_vec();
    while !cut.is_empty() && bytes.len() < 2 * MAX_BYTES {
        let (kind, at, byte) = (cut.byte(), cut.short(), cut.byte());
        let at = usize::from(at) % bytes.len().max(1);
        match kind % 4 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            2 => bytes.insert(at, byte),
            _ => drop(bytes.drain(at..bytes.len().min(at + usize::from(byte)))),
        }
    }
    expect_no_forgery(name, &good, &bytes.into());
}

/// Foreign data and foreign fields around them under a good signature: what a peer can send under its own name.
fn signed(cut: &mut Cut<'_>) {
    let key = Keypair::ed25519_from_bytes([7; 32]).expect("any 32 bytes are a key");
    let len = cut.short();
    let data = cut.bytes(len.into());
    let signature = key.sign(&[b"ipns-signature:", data].concat()).expect("Ed25519 signs everything");
    let mut bytes = cut.0.to_vec();
    field(&mut bytes, 8, &signature);
    field(&mut bytes, 9, data);
    let (bytes, hash) = (Bytes::from(bytes), *key.public().to_peer_id().as_ref());
    let verified = Record::verify(&Name::from(hash), &bytes);
    let refused = matches!(verified, Err(RecordError::Forged | RecordError::Unsigned));
    // What stands in front of the fields can swallow them.
    assert!(!refused || data.is_empty() || !cut.0.is_empty(), "a good signature is refused");
    consistent(verified, &bytes);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

fn consistent(verified: Result<Record, RecordError>, bytes: &Bytes) {
    match verified {
        Ok(record) => {
            assert!(bytes.len() <= MAX_BYTES && record.bytes == *bytes);
            assert!(record.value.starts_with("/ipfs/") || record.value.starts_with("/ipns/"));
            for millis in [i64::MIN, 0, 1_795_377_600_000, i64::MAX] {
                let _ = record.check_time(millis);
            }
            assert_eq!(record.cmp(&record), std::cmp::Ordering::Equal);
        }
        Err(error) => assert!(!error.label().is_empty()),
    }
}
