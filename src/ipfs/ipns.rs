//! IPNS records of the station (IPNS specification, "IPNS Record", V1 and V2 signatures), made by ourselves:
//! rust-ipfs fixes validity and TTL and keeps no sequence.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use cid::Cid;
use rust_ipns::Record;

use super::{Identity, IpfsError};

/// A signed record, as it travels.
#[derive(Debug, Clone)]
pub struct SignedRecord {
    /// `Sequence`: the higher one wins.
    pub sequence: u64,
    /// What the name points at.
    pub root: Cid,
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
    let now =
        DateTime::<Utc>::from_timestamp_millis(unix_millis).ok_or_else(|| failed(&"time out of range"))?;
    let end = now + validity;
    let record = Record::new(identity.keypair(), format!("/ipfs/{root}"), end, sequence, ttl);
    let bytes = record.and_then(|record| record.encode()).map_err(|e| failed(&e))?;
    Ok(SignedRecord { sequence, root, bytes: bytes.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Block;

    #[test]
    fn a_record_verifies_under_the_stations_key_only_and_keeps_what_was_signed() {
        let identity = Identity::generate();
        let root = Block::raw("root").cid;
        let now = Utc::now().timestamp_millis();
        let hours = |h: u64| Duration::from_secs(h * 3600);
        let signed = sign(&identity, root, 42, now, hours(48), Duration::from_secs(5)).unwrap();
        let record = Record::decode(&signed.bytes).unwrap();
        assert_eq!(record.sequence(), 42);
        assert_eq!(record.value(), format!("/ipfs/{root}").as_bytes());
        assert!(record.has_signature_v1() && record.has_signature_v2());
        record.verify(identity.peer_id()).unwrap();
        assert!(record.verify(Identity::generate().peer_id()).is_err());
    }
}
