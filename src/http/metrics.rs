//! `/metrics`, and the counting of answers.

use hyper::{Response, StatusCode};

use super::body::Body;
use super::respond;
use crate::metrics::{CONTENT_TYPE, Metrics, RequestLabel};

/// The OpenMetrics page.
pub(super) fn page(metrics: &Metrics) -> Response<Body> {
    respond::fresh(StatusCode::OK, CONTENT_TYPE, metrics.encode())
}

/// Counts one answer. `route` is one of the router's fixed words.
pub(super) fn count(metrics: &Metrics, route: &'static str, status: StatusCode) {
    metrics.http_requests.get_or_create(&RequestLabel { route, status: status.as_u16() }).inc();
}
