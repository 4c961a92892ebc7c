//! What is known of the station's IPNS name: whether records are signed, and how far they got.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{Health, bounded, rfc3339};

/// State behind [`NameReport`].
#[derive(Debug, Default)]
pub(super) struct NameState {
    unsigned: Option<String>,
    sequence: Option<u64>,
    dht_put: Option<DhtPut>,
    dht_error: Option<String>,
}

#[derive(Debug)]
struct DhtPut {
    at: Instant,
    sequence: u64,
    peers: usize,
}

/// The name part of a report.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NameReport {
    /// Why no IPNS record is signed at the moment, such as a clock that is not synchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsigned_reason: Option<String>,
    /// Sequence number of the newest record.
    pub sequence: Option<u64>,
    /// When the DHT last took a record, RFC 3339 in UTC.
    pub dht_put_at: Option<String>,
    /// Sequence number of that record.
    pub dht_put_sequence: Option<u64>,
    /// Peers that took it.
    pub dht_put_peers: Option<usize>,
    /// Why the newest attempt failed; none once one worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dht_error: Option<String>,
}

impl NameState {
    pub(super) fn report(&self, now: Instant, wall: SystemTime) -> NameReport {
        let put = self.dht_put.as_ref();
        NameReport {
            unsigned_reason: self.unsigned.clone(),
            sequence: self.sequence,
            dht_put_at: put.map(|put| rfc3339(put.at, now, wall)),
            dht_put_sequence: put.map(|put| put.sequence),
            dht_put_peers: put.map(|put| put.peers),
            dht_error: self.dht_error.clone(),
        }
    }
}

impl Health {
    /// A record with this sequence number was signed.
    pub fn set_signed(&self, sequence: u64) {
        let name = &mut self.lock().name;
        name.sequence = Some(sequence);
        name.unsigned = None;
    }

    /// No record can be signed, and why. Records that were signed before stay valid. `true` when that is news.
    pub fn set_unsigned(&self, why: &str) -> bool {
        let why = Some(bounded(why));
        let name = &mut self.lock().name;
        let news = name.unsigned != why;
        name.unsigned = why;
        news
    }

    /// The DHT took the record with this sequence number at so many peers.
    pub fn set_dht_put(&self, sequence: u64, peers: usize) {
        let name = &mut self.lock().name;
        name.dht_put = Some(DhtPut { at: Instant::now(), sequence, peers });
        name.dht_error = None;
    }

    /// The DHT did not take a record, and why.
    pub fn set_dht_failed(&self, why: &str) {
        self.lock().name.dht_error = Some(bounded(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_report_tells_why_nothing_is_signed_and_how_far_the_last_record_got() {
        let health = Health::new();
        assert!(health.set_unsigned("the clock is wrong"));
        assert!(!health.set_unsigned("the clock is wrong"), "said once");
        let json = serde_json::to_value(health.report()).unwrap();
        assert_eq!(json["name"]["unsigned_reason"], "the clock is wrong");
        assert!(json["name"]["sequence"].is_null());
        health.set_signed(7);
        health.set_dht_failed("no peer");
        health.set_dht_put(7, 3);
        health.set_dht_failed("no peer again");
        let json = serde_json::to_value(health.report()).unwrap();
        assert!(json["name"].get("unsigned_reason").is_none());
        assert_eq!(json["name"]["sequence"], 7);
        assert_eq!(json["name"]["dht_put_peers"], 3);
        assert_eq!(json["name"]["dht_error"], "no peer again");
        health.set_dht_put(8, 4);
        assert_eq!(health.report().name.dht_error, None);
    }
}
