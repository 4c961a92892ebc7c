//! Counters of state messages, and of the nodes that they tell of.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::OutcomeLabel;

/// Counts per reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// What was wrong, in one word.
    pub reason: &'static str,
}

/// Where a clone writes to the same series.
#[derive(Debug, Clone, Default)]
pub struct SyncMetrics {
    /// State messages sent.
    pub sent: Family<OutcomeLabel, Counter>,
    /// State messages taken.
    pub taken: Counter,
    /// State messages that were not taken.
    pub refused: Family<ReasonLabel, Counter>,
    /// Other nodes of the station that are known.
    pub nodes: Gauge,
    /// Those that are relays.
    pub relays: Gauge,
}

impl SyncMetrics {
    /// Counts a message that was not taken.
    pub fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a message that was sent, or was to be.
    pub fn sent(&self, outcome: &'static str) {
        self.sent.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("sync_messages_sent", "State messages sent", self.sent.clone());
        registry.register("sync_messages_taken", "State messages taken", self.taken.clone());
        registry.register(
            "sync_messages_refused",
            "State messages that were not taken",
            self.refused.clone(),
        );
        registry.register("sync_nodes", "Other nodes of the station that are known", self.nodes.clone());
        registry.register("sync_relays", "Relays of the station that are known", self.relays.clone());
    }
}
