//! Which records a DHT server keeps for others: valid IPNS records, the newest of each name.

use bytes::Bytes;
use skywave_swarm::RecordRules;

use super::ipns::{Name, Record};

/// Judges by name, signature and end of life. Anything that is no IPNS record is refused.
pub(super) struct StoredRecords;

impl StoredRecords {
    fn record(key: &[u8], value: &[u8]) -> Option<Record> {
        let name = Name::from_routing_key(key)?;
        Record::verify(&name, &Bytes::copy_from_slice(value)).ok()
    }
}

impl RecordRules for StoredRecords {
    fn valid(&self, key: &[u8], value: &[u8]) -> bool {
        let now = chrono::Utc::now().timestamp_millis();
        Self::record(key, value).is_some_and(|record| record.check_time(now).is_ok())
    }

    fn newer(&self, key: &[u8], value: &[u8], stored: &[u8]) -> bool {
        Self::record(key, value) >= Self::record(key, stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::{Block, Identity, ipns};
    use std::time::Duration;

    fn record(identity: &Identity, sequence: u64) -> Vec<u8> {
        let now = chrono::Utc::now().timestamp_millis();
        let hour = Duration::from_secs(3600);
        let root = Block::raw("root").cid;
        ipns::sign(identity, root, sequence, now, hour, hour).unwrap().bytes.to_vec()
    }

    #[test]
    fn the_owners_newest_record_is_kept_and_no_other() {
        let (owner, forger) = (Identity::generate(), Identity::generate());
        let key = [b"/ipns/", owner.peer_id().to_bytes().as_slice()].concat();
        let (first, second) = (record(&owner, 1), record(&owner, 2));
        assert!(StoredRecords.valid(&key, &first));
        assert!(StoredRecords.newer(&key, &second, &first) && !StoredRecords.newer(&key, &first, &second));
        assert!(!StoredRecords.valid(&key, &record(&forger, 3)));
        assert!(!StoredRecords.valid(b"/pk/x", &first) && !StoredRecords.valid(&key, b""));
    }
}
