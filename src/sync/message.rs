//! State messages: what the nodes of a station tell each other, in DAG-CBOR, each part signed by whose it is. Pure.
//!
//! ```text
//! { v: 1, node: bytes, key: bytes, sig: bytes, station: null | { facts: bytes, sig: bytes, record: bytes } }
//! ```
//!
//! `node` is [`NodeFacts`], signed by the key of the node that speaks; `facts` is [`StationFacts`], signed by the key of
//! the station, so that any node can pass it on. Both travel as bytes: fields that a newer version adds stay under their
//! signature through nodes that do not know them.

use bytes::Bytes;
use cid::Cid;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::ipfs::ipns::{Name, Record, RecordError};
use crate::ipfs::signature;
use crate::network::http_url;

/// The version that this program speaks.
pub const VERSION: u64 = 1;
/// Largest message.
pub const MAX_BYTES: usize = 8_192;
/// Largest [`NodeFacts`]. Bounds the memory that each of many claimed nodes takes.
pub const MAX_NODE_BYTES: usize = 1_024;
/// Largest [`StationFacts`].
pub const MAX_STATION_BYTES: usize = 4_096;
/// Largest IPNS record that a message carries; those of a station have about 400 bytes.
pub const MAX_RECORD_BYTES: usize = 2_048;
/// The largest key and signature; those of Ed25519 have 36 and 64 bytes.
const MAX_KEY_BYTES: usize = 64;
/// Swarm addresses of one node, and bytes of one.
pub const MAX_SWARM: usize = 4;
const MAX_SWARM_BYTES: usize = 200;
/// Groups of the index that are named: a lead of 30 minutes in segments of 1.92 s has 60.
pub const MAX_INDEX: usize = 64;
/// Stands before the bytes that a node signs.
const NODE_PREFIX: &[u8] = b"skywave-node-1:";
/// Stands before the bytes that a station signs.
const STATION_PREFIX: &[u8] = b"skywave-station-1:";

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It, or a part of it, has more bytes than it may.
    #[error("it is too large")]
    TooLarge,
    /// No DAG-CBOR of the form above.
    #[error("it is malformed")]
    Malformed,
    /// Of a version that this program does not speak.
    #[error("its version is not known")]
    Version,
    /// Of another station.
    #[error("it is of another station")]
    WrongStation,
    /// A signature is not that of its key.
    #[error("a signature in it is wrong")]
    Forged,
    /// The IPNS record in it is worth nothing.
    #[error("its IPNS record is refused")]
    Record(#[source] RecordError),
    /// Dated in the future.
    #[error("it is dated in the future")]
    Future,
    /// Nothing in it is newer than what is known, or it is dated in a past that has been forgotten.
    #[error("it is old")]
    Old,
    /// Its author sends too many.
    #[error("its author sends too many")]
    Rate,
    /// There are too many to verify.
    #[error("too many come to be verified")]
    Busy,
}

impl Refusal {
    /// One word, for the label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::WrongStation => "wrong_station",
            Self::Forged => "forged",
            Self::Record(_) => "record",
            Self::Future => "future",
            Self::Old => "old",
            Self::Rate => "rate",
            Self::Busy => "busy",
        }
    }

    /// Whether who passed it on did wrong: an honest node of this version would have refused it too.
    pub fn is_offence(self) -> bool {
        match self {
            Self::TooLarge | Self::Malformed | Self::WrongStation | Self::Forged => true,
            Self::Record(why) => why != RecordError::Expired,
            Self::Version | Self::Future | Self::Old | Self::Rate | Self::Busy => false,
        }
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// IPNS name of the station, `k51...`.
    pub name: String,
    /// Counts up with every message of the node.
    pub seq: u64,
    /// When it was said, in Unix milliseconds.
    pub time_ms: i64,
    /// `origin` or `relay`; a newer version may have others.
    pub role: String,
    /// Program and version.
    pub software: String,
    /// Highest media sequence number on air at the node.
    #[serde(default)]
    pub newest: Option<u64>,
    /// Highest media sequence number that it holds, on air or ahead of it.
    #[serde(default)]
    pub held_until: Option<u64>,
    /// URLs under which listeners reach it, [`http_url::MAX_URLS`] at most.
    #[serde(default)]
    pub http: Vec<String>,
    /// Multiaddrs of the node, [`MAX_SWARM`] at most.
    #[serde(default)]
    pub swarm: Vec<String>,
    /// Listeners who play from it.
    #[serde(default)]
    pub listeners: u64,
}

/// What the station says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationFacts {
    /// IPNS name of the station, `k51...`.
    pub name: String,
    /// Counts up with every message of the origin, also over a restart.
    pub seq: u64,
    /// When it was said, in Unix milliseconds.
    pub time_ms: i64,
    /// Highest media sequence number on air.
    #[serde(default)]
    pub newest: Option<u64>,
    /// Highest media sequence number announced.
    #[serde(default)]
    pub ahead: Option<u64>,
    /// The groups of the index that hold what is ahead of air, [`MAX_INDEX`] at most.
    #[serde(default)]
    pub index: Vec<Cid>,
    /// What plays at the live edge.
    #[serde(default)]
    pub now_playing: Option<Playing>,
    /// Relays that the origin knows.
    #[serde(default)]
    pub relays_known: u64,
}

/// What plays, and how far it has played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playing {
    /// Title.
    pub title: String,
    /// Artist; empty where there is none.
    #[serde(default)]
    pub artist: String,
    /// Album; empty where there is none.
    #[serde(default)]
    pub album: String,
    /// How much of it has been on air at the end of the newest segment, to the length of a segment.
    #[serde(default)]
    pub position_ms: u64,
}

/// The message; its byte strings are what is signed.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    v: u64,
    #[serde(borrow, serialize_with = "octets")]
    node: &'a [u8],
    #[serde(borrow, serialize_with = "octets")]
    key: &'a [u8],
    #[serde(borrow, serialize_with = "octets")]
    sig: &'a [u8],
    #[serde(borrow)]
    station: Option<StationEnvelope<'a>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct StationEnvelope<'a> {
    #[serde(borrow, serialize_with = "octets")]
    facts: &'a [u8],
    #[serde(borrow, serialize_with = "octets")]
    sig: &'a [u8],
    #[serde(borrow, serialize_with = "octets")]
    record: &'a [u8],
}

/// As much of a message as every version has.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// A slice of serde's is a list of numbers, not a byte string.
fn octets<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// A signed part of a message as it travels: what is signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signed {
    /// DAG-CBOR of the facts.
    pub facts: Box<[u8]>,
    /// The signature.
    pub signature: Box<[u8]>,
}

/// The bytes whose signature makes `facts` those of a node.
pub fn node_payload(facts: &[u8]) -> Vec<u8> {
    [NODE_PREFIX, facts].concat()
}

/// The bytes whose signature makes `facts` those of a station.
pub fn station_payload(facts: &[u8]) -> Vec<u8> {
    [STATION_PREFIX, facts].concat()
}

/// DAG-CBOR of facts. Nothing in them can fail to be written.
pub fn encode(facts: &impl Serialize) -> Box<[u8]> {
    serde_ipld_dagcbor::to_vec(facts).expect("facts are plain data").into()
}

/// The message of a node with the public `key`, with the newest station part that it knows.
pub fn write(node: &Signed, key: &[u8], station: Option<(&Signed, &[u8])>) -> Bytes {
    let envelope = Envelope {
        v: VERSION,
        node: &node.facts,
        key,
        sig: &node.signature,
        station: station.map(|(part, record)| StationEnvelope {
            facts: &part.facts,
            sig: &part.signature,
            record,
        }),
    };
    Bytes::from(encode(&envelope))
}

/// A message that has been read. What it claims is worth nothing before [`Claim::verify_node`] and
/// [`Claim::verify_station`].
pub struct Claim<'a> {
    envelope: Envelope<'a>,
    /// The name of the key that claims to have signed.
    pub peer: Name,
    /// What the node says; addresses beyond the bounds are left out.
    pub node: NodeFacts,
    /// What the station says, where it says something.
    pub station: Option<StationFacts>,
}

impl<'a> Claim<'a> {
    /// Reads a message of the nodes of `station`.
    ///
    /// # Errors
    /// [`Refusal`] for a form that no node of this version sends, and for versions that are not known.
    pub fn read(station: &Name, bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let version: Version = parse(bytes)?;
        if version.v != VERSION {
            return Err(Refusal::Version);
        }
        let envelope: Envelope<'_> = parse(bytes)?;
        envelope.check_sizes()?;
        let mut node: NodeFacts = parse(envelope.node)?;
        node.keep_to_bounds();
        let mut facts = envelope.station.map(|part| parse::<StationFacts>(part.facts)).transpose()?;
        facts.iter_mut().for_each(|facts| facts.index.truncate(MAX_INDEX));
        let named = [Some(&node.name), facts.as_ref().map(|facts| &facts.name)];
        if named.into_iter().flatten().any(|name| Name::parse(name) != Some(*station)) {
            return Err(Refusal::WrongStation);
        }
        let peer = signature::name_of(envelope.key).ok_or(Refusal::Malformed)?;
        Ok(Self { envelope, peer, node, station: facts })
    }

    /// What the node signs.
    pub fn node_bytes(&self) -> &'a [u8] {
        self.envelope.node
    }

    /// What the station signs, its signature, and the record that came with it.
    pub fn station_bytes(&self) -> Option<(Signed, &'a [u8])> {
        let part = self.envelope.station?;
        Some((Signed { facts: part.facts.into(), signature: part.sig.into() }, part.record))
    }

    /// Checks the node's signature.
    ///
    /// # Errors
    /// [`Refusal::Forged`].
    pub fn verify_node(&self) -> Result<(), Refusal> {
        let payload = node_payload(self.envelope.node);
        let good = signature::verify(self.envelope.key, &payload, self.envelope.sig);
        if good { Ok(()) } else { Err(Refusal::Forged) }
    }

    /// Checks the station's signature and its record; `None` where there is no station part. The record is checked
    /// against the time too where that is known.
    ///
    /// # Errors
    /// [`Refusal::Forged`], [`Refusal::Record`].
    pub fn verify_station(
        &self,
        station: &Name,
        unix_millis: Option<i64>,
    ) -> Result<Option<Record>, Refusal> {
        let Some(part) = self.envelope.station else { return Ok(None) };
        if !signature::verify_by_name(station, &station_payload(part.facts), part.sig) {
            return Err(Refusal::Forged);
        }
        let record =
            Record::verify(station, &Bytes::copy_from_slice(part.record)).map_err(Refusal::Record)?;
        unix_millis.map_or(Ok(()), |now| record.check_time(now)).map_err(Refusal::Record)?;
        Ok(Some(record))
    }
}

impl Envelope<'_> {
    fn check_sizes(&self) -> Result<(), Refusal> {
        let station = self.station.as_ref();
        let bounds = [
            (self.node.len(), MAX_NODE_BYTES),
            (self.key.len(), MAX_KEY_BYTES),
            (self.sig.len(), MAX_KEY_BYTES),
            (station.map_or(0, |part| part.facts.len()), MAX_STATION_BYTES),
            (station.map_or(0, |part| part.sig.len()), MAX_KEY_BYTES),
            (station.map_or(0, |part| part.record.len()), MAX_RECORD_BYTES),
        ];
        if bounds.into_iter().any(|(len, most)| len > most) { Err(Refusal::TooLarge) } else { Ok(()) }
    }
}

impl NodeFacts {
    /// Reads facts that were verified before.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut facts: Self = parse(bytes).ok()?;
        facts.keep_to_bounds();
        Some(facts)
    }

    /// Leaves out addresses of a form that this version does not know, and those beyond the bounds.
    pub fn keep_to_bounds(&mut self) {
        self.http.retain(|url| http_url::check(url).is_ok());
        self.http.truncate(http_url::MAX_URLS);
        self.swarm.retain(|address| {
            address.len() <= MAX_SWARM_BYTES && address.bytes().all(|byte| byte.is_ascii_graphic())
        });
        self.swarm.truncate(MAX_SWARM);
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Refusal> {
    serde_ipld_dagcbor::from_slice(bytes).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests;
