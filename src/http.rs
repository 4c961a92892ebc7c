//! HTTP stage: the page, HLS, gateway, health and metrics.
