//! Counters and gauges in the Prometheus text format.
