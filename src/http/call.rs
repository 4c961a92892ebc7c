//! A GET or HEAD, taken apart.

use hyper::HeaderMap;

use super::request_path::{self, RequestPath};

/// What handlers may know of a request.
#[derive(Debug)]
pub(super) struct Call {
    /// GET; HEAD otherwise.
    pub(super) get: bool,
    pub(super) headers: HeaderMap,
    pub(super) path: RequestPath,
    /// The path as sent.
    pub(super) raw_path: String,
    /// The query as sent, without the question mark.
    pub(super) query: String,
    /// Whether the gateway specifications rule the answer: under `/ipfs`, `/ipns` and their subdomains.
    pub(super) gateway: bool,
}

impl Call {
    /// The decoded value of the first query parameter of that name; empty where it has none.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        if self.query.is_empty() {
            return None;
        }
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key == name { request_path::decode(value).ok() } else { None }
        })
    }

    /// The decoded path, without a slash at its end.
    pub(super) fn decoded_path(&self) -> String {
        format!("/{}", self.path.segments.join("/"))
    }
}
