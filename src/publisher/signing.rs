//! The station's IPNS record: signed with each tick, and again before it expires when there are no ticks.

use std::time::Duration;

use cid::Cid;

use super::{Published, Publisher};
use crate::clock::EARLIEST;
use crate::ipfs::ipns::{self, SignedRecord};

/// How often the stage looks whether the record must be signed again.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(5);
/// A record is signed again at this age, so that the DHT, whose peers come and go, gets a new one.
const RENEW_AT: Duration = Duration::from_secs(4 * 3_600);
/// A record of short validity is signed again when this part of it is over.
const RENEW_PART: u32 = 4;

impl Publisher {
    /// Signs `root` under the next sequence number. A station that cannot sign is still on air in the house, and says
    /// why it does not; the record before stays.
    pub(super) fn sign(&self, published: &mut Published, root: Cid) -> Option<SignedRecord> {
        match self.try_sign(published, root) {
            Ok(record) => {
                self.metrics.ipns_sequence.set(i64::try_from(record.sequence).unwrap_or(i64::MAX));
                self.overall.set_signed(record.sequence);
                Some(record)
            }
            Err(why) => {
                if self.overall.set_unsigned(&why) {
                    tracing::warn!(why, "no IPNS record is signed");
                }
                None
            }
        }
    }

    fn try_sign(&self, published: &mut Published, root: Cid) -> Result<SignedRecord, String> {
        self.clock.synchronised().map_err(|e| e.to_string())?;
        let now = self.clock.unix_millis();
        let numbers = &mut published.numbers;
        numbers.raise_above(*self.highest_seen.borrow());
        let seconds = |millis: i64| u64::try_from(millis / 1_000).unwrap_or(0);
        if numbers.sequence() < seconds(EARLIEST) {
            // The numbers began before the clock was synchronised.
            numbers.raise_above(seconds(now));
        }
        let sequence = numbers.next_sequence().map_err(|e| e.to_string())?;
        let (validity, ttl) = (self.settings.record_validity, self.settings.record_ttl);
        ipns::sign(&self.identity, root, sequence, now, validity, ttl).map_err(|e| e.to_string())
    }

    /// Signs the root on air again where that is due.
    pub(super) fn renew(&self, published: &mut Published) {
        let Some(root) = self.tree.borrow().as_ref().map(|tree| tree.root) else { return };
        let renewal = RENEW_AT.min(self.settings.record_validity / RENEW_PART);
        let (now, seen) = (self.clock.unix_millis(), *self.highest_seen.borrow());
        if is_due(self.record.borrow().as_ref(), now, seen, renewal) {
            self.announce(published, root);
        }
    }

    /// Signs and hands on.
    pub(super) fn announce(&self, published: &mut Published, root: Cid) {
        if let Some(record) = self.sign(published, root) {
            self.record.send_replace(Some(record));
        }
    }
}

/// Whether the record is missing, superseded by a foreign one, old, or dated in a future that the clock has left.
fn is_due(record: Option<&SignedRecord>, now: i64, seen: u64, renewal: Duration) -> bool {
    let Some(record) = record else { return true };
    let renewal = i64::try_from(renewal.as_millis()).unwrap_or(i64::MAX);
    let age = now.saturating_sub(record.signed_at);
    seen >= record.sequence || age >= renewal || age <= -renewal
}
