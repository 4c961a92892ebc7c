//! Why something could not be read, as an answer.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::format::FormatError;
use crate::http::body::Body;
use crate::http::respond;
use crate::ipfs::unixfs::{NotFetched, UnixFsError};

/// Advice after a failed fetch: providers come and go within minutes.
pub(super) const RETRY_FETCH: &str = "30";

/// The answer to a failed read. `only_if_cached`: the client asked for what is here and nothing else.
pub(super) fn of(error: &UnixFsError, only_if_cached: bool) -> Response<Body> {
    let status = match error {
        UnixFsError::NotHeld { cid } if only_if_cached => {
            let message = format!("Block {cid} is not here, and only-if-cached asks for no other.");
            return respond::text(StatusCode::PRECONDITION_FAILED, &message);
        }
        // A gateway that knows its content says 404, so that nobody tries again ("Recursive vs non-recursive").
        UnixFsError::NotHeld { cid } => {
            let message =
                format!("This gateway serves only what this station holds, and block {cid} is not here.");
            return respond::text(StatusCode::NOT_FOUND, &message);
        }
        UnixFsError::NotFetched { reason, .. } => {
            let mut response = respond::text(status_of(*reason), &format!("{error}."));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_FETCH));
            return response;
        }
        // "due to a invalid or missing DAG node": nothing that another try could mend.
        UnixFsError::NoSuchEntry { .. }
        | UnixFsError::NotADirectory { .. }
        | UnixFsError::Invalid { .. }
        | UnixFsError::DagPb { .. } => StatusCode::NOT_FOUND,
        UnixFsError::Store { cid, source } => {
            tracing::warn!(%cid, error = %source, "a block could not be read for HTTP");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    respond::text(status, &format!("{error}."))
}

/// The status of what others did not send.
pub(super) fn status_of(reason: NotFetched) -> StatusCode {
    match reason {
        NotFetched::Timeout => StatusCode::GATEWAY_TIMEOUT,
        NotFetched::TooMuch => StatusCode::BAD_GATEWAY,
        NotFetched::Busy => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The answer to a format that cannot be sent.
pub(super) fn of_format(error: &FormatError) -> Response<Body> {
    let status = match error {
        FormatError::NotMade(_) => StatusCode::NOT_ACCEPTABLE,
        FormatError::Unknown(_) | FormatError::Car(_) => StatusCode::BAD_REQUEST,
    };
    respond::text(status, &error.to_string())
}
