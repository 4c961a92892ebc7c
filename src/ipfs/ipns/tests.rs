//! Records of kubo 0.43.0 (`ipfs name publish`, `ipfs name get`), ours, and what forgers make of them.

use std::time::Duration;

use bytes::Bytes;
use cid::multibase::Base;
use libp2p_identity::Keypair;
use proptest::prelude::*;

use super::record::MAX_BYTES;
use super::*;
use crate::ipfs::Block;

/// 2026-11-22T20:00:00Z, when all three were valid.
const NOW: i64 = 1_795_377_600_000;
const VALUE: &str = "/ipfs/bafkreibhelkw7mbznzedt526nztknp6xhnxlgybxhgcw24zn7werpoqzw4";
/// `--lifetime 48h --ttl 90s`, Ed25519.
const V1_V2_NAME: &str = "k51qzi5uqu5dks93xac12gzrji4tujqp0stm7pufu2verttk0sqyiyhh1mzogg";
const V1_V2: &str = "\
    0a412f697066732f6261666b7265696268656c6b77376d627a6e7a6564743532366e7a746b6e703678686e786c6779627868\
    67637732347a6e37776572706f717a77341240471845e19dcaefa9eb1b08eaa377e1484684c0c358266ee1dbce06374cfd40\
    d5f25110715c0d71d663e2952d9b9bd835ca3cc3ced02386acb70585a2e95cf50f1800221e323032362d31312d3234543139\
    3a34393a34352e3035303133323133385a2800308088aca3cf02424075b8f0b7f8fac4a4f81e28ee190c4344250ca04d9bf2\
    7839db67ccb15d72df00f83bd8db4b9b5b114a3aacba6ce7e87d7957886d44e92fc90fe44933ab6d4e044a9801a56354544c\
    1b00000014f46b04006556616c756558412f697066732f6261666b7265696268656c6b77376d627a6e7a6564743532366e7a\
    746b6e703678686e786c677962786867637732347a6e37776572706f717a77346853657175656e6365006856616c69646974\
    79581e323032362d31312d32345431393a34393a34352e3035303133323133385a6c56616c69646974795479706500";
/// `--v1compat=false --ttl 60s --sequence 7`, Ed25519: none of the V1 fields.
const V2_ONLY_NAME: &str = "k51qzi5uqu5dld4vsiyz8cm3n2l0m1r7awvdov9mdcly0b2gbedih5cf163t5g";
const V2_ONLY: &str = "\
    424000da734b6912148b44787b399deec7e07182d67f7d552fedf74edd0afe9f78883968bb407fccff75bf6be31696c4ba82\
    0c67a5def39ece31fe96292371b9d3044a9801a56354544c1b0000000df84758006556616c756558412f697066732f626166\
    6b7265696268656c6b77376d627a6e7a6564743532366e7a746b6e703678686e786c677962786867637732347a6e37776572\
    706f717a77346853657175656e6365076856616c6964697479581e323032362d31312d32345431393a35303a30332e363030\
    3431313031395a6c56616c69646974795479706500";
/// `--lifetime 1h`, RSA with 2048 bits: the key is in the record, its hash in the name.
const RSA_NAME: &str = "k2k4r8ld1bw713uhotihqque4vuy3glg1nx9arcnu9p0hb3ohz3iffwv";
const RSA: &str = "\
    0a412f697066732f6261666b7265696268656c6b77376d627a6e7a6564743532366e7a746b6e703678686e786c6779627868\
    67637732347a6e37776572706f717a7734128002b0b804f1479213d521d4c9af7736a240b3e33ff1dcf8ca6e173a070a21eb\
    28a67a32c3db59b5fee188a8b966d25a9d00e75b9745972dd143ec71e9cecbaea146a7dec95dabb51ed81a358ddbccdd5180\
    05a6a8036df55cd693ecea38a3df0a69ab5ca0ec6c51c5a7f7acd154d39bed664997a0d9b44116ed7d4de8af8f1a3005d982\
    96b2d53b81b9f159d690c04801080421cc9c66af50b944c311f4b5bb969305e8d037ffae3e987fa512b2f9335c71421a1c68\
    23963f145afea698f78534070910d9450461c5b2e038beb5bc6100e0721effee3c91b5d39ab48892bad757fcb283bcd289b4\
    d5094b416d2f92791bef69812225634350ce62938162b598a5d61800221e323032362d31312d32325432303a34393a34352e\
    3532313436393239325a28003080f092cbdd083aab02080012a60230820122300d06092a864886f70d01010105000382010f\
    003082010a0282010100c3073a9e31f93ab9ae8e432769841702eaff7ea21e75123737445ee6e435e21c6de6dc8c5c9e8748\
    174d31be51855c5f20b12c98d1b8162822ac0e644f4836ab0cee7df7c8deb6c2f7bc4d6c9da6a141db0881c927a541fddf90\
    6715421c9eb409f8af86480258e5e1262bced08167626e818abf01ab6e1509935bd2c59f4a986e4e7a474340d4f7036bd31d\
    3334894ab4377e4ea23d641578c50ddb5a2c7cb93278786974c8407371b3debb45354a8c9257b3fcef3eacfaf64e3d862279\
    1f7c482f0477a5b98b63c16323edd68b62b7d1231a32314454b28d697b1f1406caaa18c4c31b17c82b980ee2933753220da1\
    68bdbf87b8dcc011cd07b28141b3e48f0203010001428002afd9b7c76da9eddf85250733d63ca488b400da043a7424c9e6df\
    0e4b36425911e149a16e13939f395e0b701be0bcadf1c129da5601c609bd91d56cb77570159b19200385cda30eed64cc4fad\
    090f15c3939e9f54af738a90534f45fbb35212d41ab1f30f5d7b254314566220518abffa7d9eef8ddd5b4692d19a496d95ea\
    86abd5c18666a8ef050c0f0ad5602949cc1b49b20fa24c13f122a4b2536e6cd841698268c5e6606d2e680882754f74ac9e2e\
    616da732f5c43a3356e3a02ce9b05cd92bc69613da87238b1ce1f78b0ffec22332c724a0729129516f7f6f08ca54aa0d7343\
    0d63944593598061d224f844b9d7ab4978c42b18970d2caa4ee5cb7b07894a9801a56354544c1b00000045d964b800655661\
    6c756558412f697066732f6261666b7265696268656c6b77376d627a6e7a6564743532366e7a746b6e703678686e786c6779\
    62786867637732347a6e37776572706f717a77346853657175656e6365006856616c6964697479581e323032362d31312d32\
    325432303a34393a34352e3532313436393239325a6c56616c69646974795479706500";

fn bytes(hex: &str) -> Bytes {
    Base::Base16Lower.decode(hex).unwrap().into()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

/// A field of a protobuf message: its number, and the bytes after its tag.
#[derive(Debug, Clone)]
enum Field {
    Number(u64, u64),
    Bytes(u64, Vec<u8>),
}

impl Field {
    fn number(&self) -> u64 {
        match self {
            Self::Number(field, _) | Self::Bytes(field, _) => *field,
        }
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn message(fields: &[Field]) -> Bytes {
    let one = |field: &Field| match field {
        Field::Number(field, number) => [varint(field << 3), varint(*number)].concat(),
        Field::Bytes(field, bytes) => {
            [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.clone()].concat()
        }
    };
    fields.iter().flat_map(one).collect()
}

fn fields(bytes: &Bytes) -> Vec<Field> {
    use crate::ipfs::unixfs::wire::{Fields, Value};
    let mut wire = Fields { rest: bytes.clone() };
    let mut fields = Vec::new();
    while !wire.rest.is_empty() {
        fields.push(match wire.next().unwrap() {
            (field, Value::Number(number)) => Field::Number(field, number),
            (field, Value::Bytes(bytes)) => Field::Bytes(field, bytes.to_vec()),
            (_, Value::Fixed) => unreachable!("no such field in a record"),
        });
    }
    fields
}

/// The record with one field replaced, in its place; or without it.
fn with(record: &Bytes, number: u64, value: Option<Field>) -> Bytes {
    let edit = |field: Field| if field.number() == number { value.clone() } else { Some(field) };
    message(&fields(record).into_iter().filter_map(edit).collect::<Vec<_>>())
}

/// What the owner of `keypair` can make of any `data`, without V1 fields.
fn signed(keypair: &Keypair, data: &[u8]) -> Bytes {
    let signature = keypair.sign(&[b"ipns-signature:", data].concat()).unwrap();
    message(&[Field::Bytes(8, signature), Field::Bytes(9, data.to_vec())])
}

fn name_of(keypair: &Keypair) -> Name {
    Name::from(*keypair.public().to_peer_id().as_ref())
}

/// DAG-CBOR of a document with the given fields.
fn document(value: &[u8], validity: &[u8], validity_type: u64, more: &[u8], count: u8) -> Vec<u8> {
    let string = |bytes: &[u8]| [&[0x58, bytes.len() as u8], bytes].concat();
    let number = |number: u64| [&[0x1b][..], &number.to_be_bytes()].concat();
    [
        vec![0xa0 + count],
        [b"\x63TTL".to_vec(), number(1)].concat(),
        [b"\x65Value".to_vec(), string(value)].concat(),
        [b"\x68Sequence".to_vec(), number(2)].concat(),
        [b"\x68Validity".to_vec(), string(validity)].concat(),
        [b"\x6cValidityType".to_vec(), number(validity_type)].concat(),
        more.to_vec(),
    ]
    .concat()
}

#[test]
fn records_of_kubo_verify_with_and_without_v1_fields_and_under_an_rsa_name() {
    let cases = [
        (V1_V2_NAME, V1_V2, 0, 90, "2026-11-24T19:49:45.050132138Z"),
        (V2_ONLY_NAME, V2_ONLY, 7, 60, "2026-11-24T19:50:03.600411019Z"),
        (RSA_NAME, RSA, 0, 300, "2026-11-22T20:49:45.521469292Z"),
    ];
    for (owner, hex, sequence, ttl, eol) in cases {
        let record = Record::verify_at(&name(owner), &bytes(hex), NOW).unwrap();
        assert_eq!((record.value.as_str(), record.sequence), (VALUE, sequence), "{owner}");
        assert_eq!(
            (record.ttl, record.eol.to_rfc3339()),
            (Duration::from_secs(ttl), eol.replace('Z', "+00:00"))
        );
        for other in [V1_V2_NAME, V2_ONLY_NAME, RSA_NAME].into_iter().filter(|other| *other != owner) {
            assert!(Record::verify(&name(other), &bytes(hex)).is_err(), "{hex} under {other}");
        }
    }
}

#[test]
fn a_record_is_worth_nothing_from_its_expiry_date_on() {
    let record = Record::verify(&name(RSA_NAME), &bytes(RSA)).unwrap();
    let end = record.eol.timestamp_millis();
    assert_eq!(record.check_time(end), Ok(()), "the half millisecond before");
    assert_eq!(record.check_time(end + 1), Err(RecordError::Expired));
    assert_eq!(record.check_time(i64::MAX), Err(RecordError::Expired));
    assert_eq!(Record::verify_at(&name(RSA_NAME), &bytes(RSA), end + 1), Err(RecordError::Expired));
}

#[test]
fn a_v1_field_that_says_something_else_than_the_signed_data_is_refused() {
    let record = bytes(V1_V2);
    for forged in [
        Field::Bytes(1, b"/ipfs/bafkqaaa".to_vec()),
        Field::Number(3, 1),
        Field::Bytes(4, b"2099-01-01T00:00:00Z".to_vec()),
        Field::Number(5, 1),
        Field::Number(6, 1),
    ] {
        let refused =
            Record::verify(&name(V1_V2_NAME), &with(&record, forged.number(), Some(forged.clone())));
        assert_eq!(refused, Err(RecordError::Mismatch), "{forged:?}");
    }
    for absent in [1, 4, 6] {
        let refused = Record::verify(&name(V1_V2_NAME), &with(&record, absent, None));
        assert_eq!(refused, Err(RecordError::Mismatch), "without field {absent}");
    }
    // The V1 signature itself counts for nothing.
    for value in [None, Some(Field::Bytes(2, vec![7; 64]))] {
        assert!(Record::verify(&name(V1_V2_NAME), &with(&record, 2, value)).is_ok());
    }
}

#[test]
fn a_signature_that_is_missing_or_wrong_is_refused() {
    let (record, owner) = (bytes(V1_V2), name(V1_V2_NAME));
    let refused = |number, value| Record::verify(&owner, &with(&record, number, value)).unwrap_err();
    assert_eq!(refused(8, None), RecordError::Unsigned);
    assert_eq!(refused(9, None), RecordError::Unsigned);
    assert_eq!(refused(8, Some(Field::Bytes(8, vec![0; 64]))), RecordError::Forged);
    let other = fields(&bytes(V2_ONLY));
    assert_eq!(refused(8, Some(other[0].clone())), RecordError::Forged);
    assert_eq!(refused(9, Some(other[1].clone())), RecordError::Forged);
    // Valid under V1 alone, as legacy software made them.
    let v1 = fields(&record).into_iter().filter(|field| field.number() < 8).collect::<Vec<_>>();
    assert_eq!(Record::verify(&owner, &message(&v1)), Err(RecordError::Unsigned));
}

#[test]
fn an_embedded_key_must_be_the_names_own() {
    let attacker = Keypair::generate_ed25519();
    let key = attacker.public().encode_protobuf();
    let mut forged = fields(&signed(&attacker, &document(b"/ipfs/x", b"2099-01-01T00:00:00Z", 0, &[], 5)));
    forged.push(Field::Bytes(7, key.clone()));
    assert!(Record::verify(&name_of(&attacker), &message(&forged)).is_ok());
    for victim in [V1_V2_NAME, RSA_NAME] {
        assert_eq!(Record::verify(&name(victim), &message(&forged)), Err(RecordError::OtherKey));
    }
    let rsa = bytes(RSA);
    assert_eq!(Record::verify(&name(RSA_NAME), &with(&rsa, 7, None)), Err(RecordError::NoKey));
    let damaged = Some(Field::Bytes(7, key[..20].to_vec()));
    assert_eq!(Record::verify(&name(RSA_NAME), &with(&rsa, 7, damaged)), Err(RecordError::NoKey));
}

#[test]
fn signed_nonsense_is_refused_too() {
    let keypair = Keypair::generate_ed25519();
    let verify = |data: &[u8]| Record::verify(&name_of(&keypair), &signed(&keypair, data));
    let good = document(b"/ipfs/x", b"2099-01-01T00:00:00.000000001Z", 0, &[], 5);
    assert_eq!(verify(&good).unwrap().sequence, 2);
    let unknown = document(b"/ipns/x", b"2099-01-01T00:00:00Z", 0, b"\x62_x\xa1\x61y\x80", 6);
    assert!(verify(&unknown).is_ok(), "unknown fields are ignored");
    for (data, why) in [
        (document(b"/ipfs/x", b"2099-01-01T00:00:00Z", 1, &[], 5), RecordError::Validity),
        (document(b"/ipfs/x", b"tomorrow", 0, &[], 5), RecordError::Validity),
        (document(b"/ipfs/x", b"\xff", 0, &[], 5), RecordError::Validity),
        (document(b"http://x", b"2099-01-01T00:00:00Z", 0, &[], 5), RecordError::NoPath),
        (document(b"/ipfs/", b"2099-01-01T00:00:00Z", 0, &[], 5), RecordError::NoPath),
        (document(b"/ipfs/\xff", b"2099-01-01T00:00:00Z", 0, &[], 5), RecordError::NoPath),
        (document(b"", b"2099-01-01T00:00:00Z", 0, &[], 5), RecordError::NoPath),
        (document(b"/ipfs/x", b"2099-01-01T00:00:00Z", 0, b"\x63TTL\x01", 6), RecordError::Data),
        (good[..good.len() - 1].to_vec(), RecordError::Data),
        ([&good[..], b"\x00"].concat(), RecordError::Data),
        (b"\xa0".to_vec(), RecordError::Data),
        (b"\x01".to_vec(), RecordError::Data),
    ] {
        assert_eq!(verify(&data), Err(why), "{data:?}");
    }
    // Text where bytes belong, and an unknown field that nests deeper than a stack is.
    let text = good.iter().map(|byte| if *byte == 0x58 { 0x78 } else { *byte }).collect::<Vec<_>>();
    assert_eq!(verify(&text), Err(RecordError::Data));
    let nested = [b"\x62_x".to_vec(), vec![0x81; 9_000], vec![0x01]].concat();
    let deep = document(b"/ipfs/x", b"2099-01-01T00:00:00Z", 0, &nested, 6);
    assert_eq!(verify(&deep), Err(RecordError::Data));
}

#[test]
fn a_record_above_ten_kibibytes_is_not_even_read() {
    let owner = name(V1_V2_NAME);
    let padded = |len: usize| {
        let padding = len - bytes(V1_V2).len() - 4;
        let mut fields = fields(&bytes(V1_V2));
        fields.push(Field::Bytes(15, vec![0; padding + 1]));
        message(&fields)
    };
    let (largest, larger) = (padded(MAX_BYTES), padded(MAX_BYTES + 1));
    assert_eq!((largest.len(), larger.len()), (MAX_BYTES, MAX_BYTES + 1));
    assert!(Record::verify(&owner, &largest).is_ok());
    assert_eq!(Record::verify(&owner, &larger), Err(RecordError::TooLarge));
}

#[test]
fn our_records_are_v1_and_v2_and_verify_under_our_name_alone() {
    let identity = Identity::generate();
    let root = Block::raw("root").cid;
    let ours = sign(&identity, root, 42, NOW, hours(48), Duration::from_secs(5)).unwrap();
    let record = Record::verify_at(&identity.name(), &ours.bytes, NOW).unwrap();
    assert_eq!((record.sequence, record.ttl), (42, Duration::from_secs(5)));
    assert_eq!(record.value, format!("/ipfs/{root}"));
    assert_eq!(record.eol.timestamp_millis(), NOW + 48 * 3_600_000);
    let numbers: Vec<_> = fields(&ours.bytes).iter().map(Field::number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 8, 9], "the key stands in the name");
    assert_eq!(Record::verify(&Identity::generate().name(), &ours.bytes), Err(RecordError::Forged));
    let theirs = rust_ipns::Record::decode(&ours.bytes).unwrap();
    theirs.verify_signature(identity.peer_id()).unwrap();
    // DAG-CBOR: keys by length, then by bytes.
    let Some(Field::Bytes(9, data)) = fields(&ours.bytes).pop() else { unreachable!("data is last") };
    let at = |key: &[u8]| data.windows(key.len()).position(|window| window == key).unwrap();
    let order = [at(b"cTTL"), at(b"eValue"), at(b"hSequence"), at(b"hValidity"), at(b"lValidityType")];
    assert!(order.is_sorted(), "{order:?}");
    let v1 = [record.value.as_bytes(), &fields_of(&ours.bytes, 4), b"EOL"].concat();
    assert!(identity.keypair().public().verify(&v1, &fields_of(&ours.bytes, 2)));
    assert!(sign(&identity, root, 1, i64::MAX, hours(1), hours(0)).is_err());
}

fn fields_of(record: &Bytes, number: u64) -> Vec<u8> {
    let found = fields(record).into_iter().find_map(|field| match field {
        Field::Bytes(field, bytes) if field == number => Some(bytes),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn the_higher_sequence_wins_then_the_later_expiry_then_the_greater_bytes() {
    let (identity, root) = (Identity::generate(), Block::raw("root").cid);
    let record = |sequence, validity, ttl| {
        let ours = sign(&identity, root, sequence, NOW, hours(validity), Duration::from_secs(ttl)).unwrap();
        Record::verify(&identity.name(), &ours.bytes).unwrap()
    };
    assert!(record(2, 1, 0) > record(1, 48, 0));
    assert!(record(2, 2, 0) > record(2, 1, 0));
    let (one, two) = (record(2, 2, 0), record(2, 2, 1));
    assert_eq!(one.cmp(&two), one.bytes.cmp(&two.bytes));
    assert_eq!(one.cmp(&one.clone()), std::cmp::Ordering::Equal);
}

proptest! {
    #[test]
    fn garbage_and_damaged_records_are_refused_and_break_nothing(
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        at in 0_usize..397,
        bit in 0_u8..8,
        end in 0_usize..397,
    ) {
        let owner = name(V1_V2_NAME);
        prop_assert!(Record::verify(&owner, &Bytes::from(garbage)).is_err());
        let mut flipped = bytes(V1_V2).to_vec();
        flipped[at] ^= 1 << bit;
        if let Ok(record) = Record::verify(&owner, &flipped.into()) {
            // Only what nobody trusts can have changed: the V1 signature, and unknown fields.
            prop_assert_eq!(record.value.as_str(), VALUE);
            prop_assert_eq!(record.sequence, 0);
        }
        prop_assert!(Record::verify(&owner, &bytes(V1_V2).slice(..end)).is_err());
    }
}
