//! Which records a DHT server keeps for others: valid IPNS records, the newest of each name.

use rust_ipfs::PeerId;
use rust_ipns::Record;
use skywave_swarm::RecordRules;

/// Before the bytes of the peer id (IPNS specification, "Routing Record").
const PREFIX: &[u8] = b"/ipns/";

/// Judges by name, signature and end of life. Anything that is no IPNS record is refused.
pub(super) struct StoredRecords;

impl RecordRules for StoredRecords {
    fn valid(&self, key: &[u8], value: &[u8]) -> bool {
        let name = key.strip_prefix(PREFIX).and_then(|bytes| PeerId::from_bytes(bytes).ok());
        let record = Record::decode(value).ok();
        name.zip(record).is_some_and(|(name, record)| record.verify(name).is_ok())
    }

    fn newer(&self, _: &[u8], value: &[u8], stored: &[u8]) -> bool {
        match (Record::decode(value), Record::decode(stored)) {
            (Ok(new), Ok(old)) => new.compare(&old).is_ok_and(|order| order.is_ge()),
            (new, _) => new.is_ok(),
        }
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
        let key = [PREFIX, &owner.peer_id().to_bytes()].concat();
        let (first, second) = (record(&owner, 1), record(&owner, 2));
        assert!(StoredRecords.valid(&key, &first));
        assert!(StoredRecords.newer(&key, &second, &first) && !StoredRecords.newer(&key, &first, &second));
        assert!(!StoredRecords.valid(&key, &record(&forger, 3)));
        assert!(!StoredRecords.valid(b"/pk/x", &first) && !StoredRecords.valid(&key, b"") );
    }
}
