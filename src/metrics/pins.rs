//! Counters of the pinning services.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counts per service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PinLabel {
    /// Name of the service, as configured.
    pub pin: String,
}

/// Counts per service, request and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PinRequestLabel {
    /// Name of the service, as configured.
    pub pin: String,
    /// What was asked, in one word.
    pub operation: &'static str,
    /// How it ended, in one word.
    pub result: &'static str,
}

/// Counts per service and state of a day.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PinDaysLabel {
    /// Name of the service, as configured.
    pub pin: String,
    /// `pinned` or `wanted`.
    pub state: &'static str,
}

/// Where a clone writes to the same series.
#[derive(Debug, Clone, Default)]
pub struct PinMetrics {
    /// Requests to a service.
    pub requests: Family<PinRequestLabel, Counter>,
    /// Newest segment under the root that a service has pinned.
    pub newest_segment: Family<PinLabel, Gauge>,
    /// Days of the archive.
    pub days: Family<PinDaysLabel, Gauge>,
}

impl PinMetrics {
    /// Counts one request.
    pub fn count(&self, pin: &str, operation: &'static str, result: &'static str) {
        self.requests.get_or_create(&PinRequestLabel { pin: pin.to_owned(), operation, result }).inc();
    }

    /// Sets how many days are pinned, and how many are to be.
    pub fn set_days(&self, pin: &str, pinned: usize, wanted: usize) {
        for (state, days) in [("pinned", pinned), ("wanted", wanted)] {
            let label = PinDaysLabel { pin: pin.to_owned(), state };
            self.days.get_or_create(&label).set(i64::try_from(days).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("pin_requests", "Requests to a pinning service by result", self.requests.clone());
        let newest = self.newest_segment.clone();
        registry.register("pin_newest_segment", "Newest segment under the root that is pinned", newest);
        registry.register("pin_days", "Days of the archive at a pinning service", self.days.clone());
    }
}
