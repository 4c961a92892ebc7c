//! Counters of a relay: trees read, blocks fetched, segments put on air.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::OutcomeLabel;

/// Where a clone writes to the same series.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    /// Trees of the station, by how reading them ended.
    pub trees: Family<OutcomeLabel, Counter>,
    /// Blocks of media, by how fetching them ended.
    pub fetches: Family<OutcomeLabel, Counter>,
    /// Bytes of blocks fetched.
    pub fetched_bytes: Counter,
    /// Seconds from a block's announcement to its being held.
    pub held_after_seconds: Histogram,
    /// Segments put on air, by what told that they were due.
    pub reveals: Family<OutcomeLabel, Counter>,
    /// Segments that came on air late.
    pub late: Counter,
    /// Segments that nobody sent in time.
    pub skipped: Counter,
}

impl Default for RelayMetrics {
    fn default() -> Self {
        Self {
            trees: Family::default(),
            fetches: Family::default(),
            fetched_bytes: Counter::default(),
            held_after_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            reveals: Family::default(),
            late: Counter::default(),
            skipped: Counter::default(),
        }
    }
}

impl RelayMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("relay_trees", "Trees of the followed station", self.trees.clone());
        registry.register("relay_fetches", "Blocks of media asked of peers", self.fetches.clone());
        let bytes = self.fetched_bytes.clone();
        registry.register("relay_fetched_bytes", "Bytes of media that peers sent", bytes);
        let held = self.held_after_seconds.clone();
        registry.register("relay_held_after_seconds", "Time from announcement to block held", held);
        registry.register("relay_reveals", "Segments put on air by a relay", self.reveals.clone());
        registry.register("relay_segments_late", "Segments that came on air late", self.late.clone());
        let skipped = self.skipped.clone();
        registry.register("relay_segments_skipped", "Segments that nobody sent in time", skipped);
    }
}
