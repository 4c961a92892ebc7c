//! Counters of IPNS records on their way out and in.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counts per outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// How it ended, in one word.
    pub outcome: &'static str,
}

/// Counts per source and reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabel {
    /// Where the record came from: `gossip`, `dht` or `peer`.
    pub source: &'static str,
    /// What was wrong with it, in one word.
    pub reason: &'static str,
}

/// Where a clone writes to the same series.
#[derive(Debug, Clone, Default)]
pub struct NameMetrics {
    /// Records sent on their topic.
    pub gossip_sent: Family<OutcomeLabel, Counter>,
    /// Records that came on a topic.
    pub gossip_received: Counter,
    /// Records that were not taken.
    pub refused: Family<RefusalLabel, Counter>,
    /// Records put to the DHT.
    pub dht_puts: Family<OutcomeLabel, Counter>,
    /// Peers that took the last put.
    pub dht_put_peers: Gauge,
    /// Unix time of the last put, in seconds.
    pub dht_put_timestamp: Gauge,
    /// Names resolved.
    pub resolves: Family<OutcomeLabel, Counter>,
}

impl NameMetrics {
    /// Counts one outcome.
    pub fn count(family: &Family<OutcomeLabel, Counter>, outcome: &'static str) {
        family.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a record that was not taken.
    pub fn refuse(&self, source: &'static str, reason: &'static str) {
        self.refused.get_or_create(&RefusalLabel { source, reason }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let sent = self.gossip_sent.clone();
        registry.register("ipns_gossip_sent", "Records sent on the topic of the name", sent);
        let received = self.gossip_received.clone();
        registry.register("ipns_gossip_received", "Records that came on a topic", received);
        registry.register("ipns_records_refused", "Records that were not taken", self.refused.clone());
        registry.register("ipns_dht_puts", "Records put to the DHT", self.dht_puts.clone());
        let peers = self.dht_put_peers.clone();
        registry.register("ipns_dht_put_peers", "Peers that took the last put", peers);
        let at = self.dht_put_timestamp.clone();
        registry.register("ipns_dht_put_timestamp_seconds", "Unix time of the last put", at);
        registry.register("ipns_resolves", "Names resolved", self.resolves.clone());
    }
}
