//! IPNS names and records of the station and of others (IPNS specification, "IPNS Record").
//!
//! Ours are made here, with V1 and V2 signatures: rust-ipfs fixes validity and TTL and keeps no sequence.

pub mod name;
pub mod record;

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use cid::Cid;

use super::{Identity, IpfsError};
pub use name::Name;
pub use record::{Record, RecordError};

/// A signed record of our own, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRecord {
    /// `Sequence`: the higher one wins.
    pub sequence: u64,
    /// What the name points at.
    pub root: Cid,
    /// Unix time of the signature in milliseconds.
    pub signed_at: i64,
    /// Protobuf `IpnsEntry`.
    pub bytes: Bytes,
}

/// Signs "this name is `/ipfs/<root>`" under `sequence`, valid for `validity` from `unix_millis` on.
///
/// # Errors
/// [`IpfsError::Record`] when signing fails or the time is out of range.
pub fn sign(
    identity: &Identity,
    root: Cid,
    sequence: u64,
    unix_millis: i64,
    validity: Duration,
    ttl: Duration,
) -> Result<SignedRecord, IpfsError> {
    let failed = |e: &dyn std::fmt::Display| IpfsError::Record(e.to_string());
    let now = DateTime::<Utc>::from_timestamp_millis(unix_millis);
    let end = now.and_then(|now| now.checked_add_signed(chrono::TimeDelta::from_std(validity).ok()?));
    let end = end.ok_or_else(|| failed(&"time out of range"))?;
    let record = rust_ipns::Record::new(identity.keypair(), format!("/ipfs/{root}"), end, sequence, ttl);
    let bytes = record.and_then(|record| record.encode()).map_err(|e| failed(&e))?;
    Ok(SignedRecord { sequence, root, signed_at: unix_millis, bytes: bytes.into() })
}

#[cfg(test)]
mod tests;
