//! `/health`, `/healthz`, `/readyz`.

use hyper::{Response, StatusCode};

use super::body::Body;
use super::respond;
use crate::health::Health;

/// The whole report. Always 200: the report itself says how the station is.
pub(super) fn report(health: &Health) -> Response<Body> {
    match serde_json::to_vec(&health.report()) {
        Ok(json) => respond::fresh(StatusCode::OK, "application/json", json),
        Err(error) => {
            tracing::error!(%error, "the health report cannot be written");
            respond::text(StatusCode::INTERNAL_SERVER_ERROR, "The health report cannot be written.")
        }
    }
}

/// 200 as long as the process serves. A stalled stage does not turn it: its supervisor deals with that, and a
/// restart of the process would take the well stages off the air.
pub(super) fn alive() -> Response<Body> {
    respond::text(StatusCode::OK, "alive")
}

/// 200 on air, else 503.
pub(super) fn ready(health: &Health) -> Response<Body> {
    if health.ready() { respond::text(StatusCode::OK, "on air") } else { respond::unavailable("Not on air.") }
}
