//! A GET or HEAD, taken apart.

use hyper::{HeaderMap, header};

use super::request_path::{self, RequestPath};
use super::weighted::Weighted;

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
    /// Whether the client takes a body that is packed by gzip (RFC 9110 section 12.5.3).
    pub(super) fn takes_gzip(&self) -> bool {
        let fields = self.headers.get_all(header::ACCEPT_ENCODING).iter();
        let fields = fields.filter_map(|field| field.to_str().ok());
        let codings: Vec<_> = fields.flat_map(|field| field.split(',')).filter_map(Weighted::parse).collect();
        let named = ["gzip", "x-gzip", "*"];
        let coding = named.iter().find_map(|name| codings.iter().find(|coding| coding.is(name)));
        // The plain file is safe where the weight is none.
        coding.and_then(|coding| coding.weight).is_some_and(|weight| weight > 0)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn takes_gzip(fields: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::ACCEPT_ENCODING, header::HeaderValue::from_static(field));
        }
        let path = request_path::parse("/").expect("a path");
        let raw_path = "/".to_owned();
        Call { get: true, headers, path, raw_path, query: String::new(), gateway: false }.takes_gzip()
    }

    #[test]
    fn gzip_is_sent_to_whoever_names_it_or_takes_anything() {
        for fields in
            [&["gzip"][..], &["br, gzip;q=0.5"], &["deflate", "GZIP"], &["x-gzip"], &["*"], &["gzip ; Q=1.0"]]
        {
            assert!(takes_gzip(fields), "{fields:?}");
        }
        for fields in [
            &[][..],
            &[""],
            &["identity"],
            &["br"],
            &["gzip;q=0"],
            &["gzip;q=0.000, *"],
            &["*;q=0"],
            &["gzipped"],
            &["gzip;q=much"],
        ] {
            assert!(!takes_gzip(fields), "{fields:?}");
        }
    }
}
