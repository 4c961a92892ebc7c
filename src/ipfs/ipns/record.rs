//! Validation and order of foreign IPNS records (IPNS specification, "Record Verification"). Pure.
//!
//! rust-ipns refuses records without the V1 fields, takes any number for the V1 validity type EOL, and asks the
//! machine's clock for the time; so records are read here.

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use libp2p_identity::PublicKey;
use serde::Deserialize;
use thiserror::Error;

use super::Name;
use crate::ipfs::unixfs::wire::{Fields, Value};

/// Largest record ("Record Size Limit").
pub const MAX_BYTES: usize = 10 * 1024;
/// Stands before `data` in what `signatureV2` signs.
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";
/// Multihash code of a key that stands in the name as a whole.
const IDENTITY: u64 = 0;
/// `ValidityType` of an expiry date.
const EOL: u64 = 0;

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum RecordError {
    /// More than [`MAX_BYTES`].
    #[error("it is larger than 10 KiB")]
    TooLarge,
    /// No protobuf message `IpnsEntry`.
    #[error("it is no protobuf message")]
    Malformed,
    /// `signatureV2` or `data` is missing.
    #[error("it has no V2 signature")]
    Unsigned,
    /// Neither record nor name holds the public key, or it is damaged.
    #[error("its public key is not known")]
    NoKey,
    /// The key is that of another name.
    #[error("its public key is that of another name")]
    OtherKey,
    /// The signature is not that of the key.
    #[error("its signature is wrong")]
    Forged,
    /// `data` is no DAG-CBOR map with the five fields.
    #[error("its signed data is damaged")]
    Data,
    /// The V1 fields say something else than the signed data.
    #[error("its V1 fields differ from what is signed")]
    Mismatch,
    /// Not an expiry date, or not a date at all.
    #[error("its validity is no expiry date")]
    Validity,
    /// What it points at is no `/ipfs/` or `/ipns/` path.
    #[error("its value is no content path")]
    NoPath,
    /// Its expiry date has passed.
    #[error("it has expired")]
    Expired,
}

impl RecordError {
    /// One word, for the label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Unsigned => "unsigned",
            Self::NoKey => "no_key",
            Self::OtherKey => "other_key",
            Self::Forged => "forged",
            Self::Data => "data",
            Self::Mismatch => "mismatch",
            Self::Validity => "validity",
            Self::NoPath => "no_path",
            Self::Expired => "expired",
        }
    }
}

/// A record whose signature is that of its name. Orders by precedence: the greater one wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the name points at: a path that begins with `/ipfs/` or `/ipns/`.
    pub value: String,
    /// `Sequence`.
    pub sequence: u64,
    /// `Validity`: the moment from which on it is worth nothing.
    pub eol: DateTime<Utc>,
    /// `TTL`: how long it may be kept without asking again.
    pub ttl: Duration,
    /// The protobuf message as it travelled.
    pub bytes: Bytes,
}

impl Record {
    /// Reads and verifies the record of `name`, but for the time: [`Record::check_time`] is the other half.
    ///
    /// # Errors
    /// [`RecordError`], the first thing that is wrong.
    pub fn verify(name: &Name, bytes: &Bytes) -> Result<Self, RecordError> {
        if bytes.len() > MAX_BYTES {
            return Err(RecordError::TooLarge);
        }
        let entry = IpnsEntry::parse(bytes).ok_or(RecordError::Malformed)?;
        if entry.signature_v2.is_empty() || entry.data.is_empty() {
            return Err(RecordError::Unsigned);
        }
        let signed = [SIGNATURE_PREFIX, &entry.data].concat();
        if !public_key(name, &entry.pub_key)?.verify(&signed, &entry.signature_v2) {
            return Err(RecordError::Forged);
        }
        let data: Data<'_> = serde_ipld_dagcbor::from_slice(&entry.data).map_err(|_| RecordError::Data)?;
        if !entry.agrees_with(&data) {
            return Err(RecordError::Mismatch);
        }
        let value = std::str::from_utf8(data.value).ok().filter(|path| is_content_path(path));
        Ok(Self {
            value: value.ok_or(RecordError::NoPath)?.to_owned(),
            sequence: data.sequence,
            eol: data.eol().ok_or(RecordError::Validity)?,
            ttl: Duration::from_nanos(data.ttl),
            bytes: bytes.clone(),
        })
    }

    /// [`Record::verify`] and [`Record::check_time`] in one.
    ///
    /// # Errors
    /// [`RecordError`], the first thing that is wrong.
    pub fn verify_at(name: &Name, bytes: &Bytes, unix_millis: i64) -> Result<Self, RecordError> {
        let record = Self::verify(name, bytes)?;
        record.check_time(unix_millis)?;
        Ok(record)
    }

    /// Whether it is still valid.
    ///
    /// # Errors
    /// [`RecordError::Expired`].
    pub fn check_time(&self, unix_millis: i64) -> Result<(), RecordError> {
        match DateTime::from_timestamp_millis(unix_millis) {
            Some(now) if self.eol > now => Ok(()),
            _ => Err(RecordError::Expired),
        }
    }
}

impl Ord for Record {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |record: &Self| (record.sequence, record.eol);
        key(self).cmp(&key(other)).then_with(|| self.bytes.cmp(&other.bytes))
    }
}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The key that must have signed, checked against the name.
fn public_key(name: &Name, embedded: &[u8]) -> Result<PublicKey, RecordError> {
    let hash = name.multihash();
    let encoded = match embedded {
        [] if hash.code() == IDENTITY => hash.digest(),
        [] => return Err(RecordError::NoKey),
        embedded => embedded,
    };
    let key = PublicKey::try_decode_protobuf(encoded).map_err(|_| RecordError::NoKey)?;
    if key.to_peer_id().as_ref() == hash { Ok(key) } else { Err(RecordError::OtherKey) }
}

fn is_content_path(path: &str) -> bool {
    let rest = path.strip_prefix("/ipfs/").or_else(|| path.strip_prefix("/ipns/"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

/// The protobuf message, its fields named as in the specification.
#[derive(Default)]
struct IpnsEntry {
    value: Bytes,
    signature_v1: Bytes,
    validity_type: u64,
    validity: Bytes,
    sequence: u64,
    ttl: u64,
    pub_key: Bytes,
    signature_v2: Bytes,
    data: Bytes,
}

impl IpnsEntry {
    fn parse(bytes: &Bytes) -> Option<Self> {
        let mut entry = Self::default();
        let mut fields = Fields { rest: bytes.clone() };
        while !fields.rest.is_empty() {
            match fields.next()? {
                (1, Value::Bytes(bytes)) => entry.value = bytes,
                (2, Value::Bytes(bytes)) => entry.signature_v1 = bytes,
                (3, Value::Number(number)) => entry.validity_type = number,
                (4, Value::Bytes(bytes)) => entry.validity = bytes,
                (5, Value::Number(number)) => entry.sequence = number,
                (6, Value::Number(number)) => entry.ttl = number,
                (7, Value::Bytes(bytes)) => entry.pub_key = bytes,
                (8, Value::Bytes(bytes)) => entry.signature_v2 = bytes,
                (9, Value::Bytes(bytes)) => entry.data = bytes,
                (1..=9, _) => return None,
                _ => {}
            }
        }
        Some(entry)
    }

    /// A record without V1 fields agrees with everything.
    fn agrees_with(&self, data: &Data<'_>) -> bool {
        let v1 = !self.signature_v1.is_empty() || !self.value.is_empty();
        let same = self.value == data.value
            && self.validity == data.validity
            && self.validity_type == data.validity_type
            && self.sequence == data.sequence
            && self.ttl == data.ttl;
        !v1 || same
    }
}

/// The signed document; unknown fields are ignored ("Extensible Data").
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data<'a> {
    #[serde(borrow)]
    value: &'a [u8],
    #[serde(borrow)]
    validity: &'a [u8],
    validity_type: u64,
    sequence: u64,
    #[serde(rename = "TTL")]
    ttl: u64,
}

impl Data<'_> {
    fn eol(&self) -> Option<DateTime<Utc>> {
        let text = std::str::from_utf8(self.validity).ok().filter(|_| self.validity_type == EOL)?;
        DateTime::parse_from_rfc3339(text).ok().map(|date| date.to_utc())
    }
}
