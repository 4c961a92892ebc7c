//! Requests that are answered before any block is read (pure): native addresses, service workers, other spellings, and
//! the way from a path to an origin of its own.

use hyper::{Response, StatusCode};

use super::host::{LabelError, Namespace};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::{request_path, respond};

/// The URI router, and the refusal of service workers for more than one content root.
pub(super) fn before_reading(call: &Call) -> Option<Response<Body>> {
    if call.path.segments.len() == 1 {
        return call.parameter("uri").map(|uri| of_native(&uri));
    }
    // Path gateway specification, "Service-Worker": without the slash, its scope is every content path.
    let is_script = call.headers.get("service-worker").is_some_and(|value| value == "script");
    let is_root = call.path.segments.len() == 2 && !call.path.directory;
    (is_script && is_root).then(|| {
        let message = "A service worker needs a path below a content root: /ipfs/<cid>/ with a slash.";
        respond::text(StatusCode::BAD_REQUEST, message)
    })
}

/// `ipfs://` and `ipns://` as browsers hand them over (subdomain gateway specification, "URI router").
fn of_native(uri: &str) -> Response<Body> {
    let path = [("ipfs://", "/ipfs/"), ("ipns://", "/ipns/")]
        .iter()
        .find_map(|(scheme, path)| Some(format!("{path}{}", uri.strip_prefix(scheme)?)));
    match path {
        Some(path) => respond::redirect(StatusCode::MOVED_PERMANENTLY, &ascii(&path)),
        None => respond::text(StatusCode::BAD_REQUEST, "The uri is neither ipfs:// nor ipns://."),
    }
}

/// To the same content below its own origin.
pub(super) fn to_subdomain(
    call: &Call,
    namespace: Namespace,
    label: Result<String, LabelError>,
    domain: &str,
) -> Response<Body> {
    match label {
        Ok(label) => {
            // The path has a root, so it has two slashes at least before what follows.
            let rest = call.raw_path.splitn(4, '/').nth(3).unwrap_or_default();
            to_host(call, namespace, &label, domain, &format!("/{rest}"))
        }
        Err(error) => {
            let message = format!("invalid path {:?}: {error}.", call.decoded_path());
            respond::text(StatusCode::BAD_REQUEST, &message)
        }
    }
}

/// To the same path under another spelling of the host.
pub(super) fn to_label(call: &Call, namespace: Namespace, label: &str, domain: &str) -> Response<Body> {
    to_host(call, namespace, label, domain, &call.raw_path)
}

fn to_host(call: &Call, namespace: Namespace, label: &str, domain: &str, path: &str) -> Response<Body> {
    let forwarded = call.headers.get("x-forwarded-proto").is_some_and(|value| value == "https");
    let scheme = if forwarded { "https" } else { "http" };
    let path = ascii(&format!("{path}{}", query(call)));
    let location = format!("{scheme}://{label}.{}.{domain}{path}", namespace.name());
    respond::redirect(StatusCode::MOVED_PERMANENTLY, &location)
}

/// To the one spelling of a name that host names can hold.
pub(super) fn to_spelling(call: &Call, name: &str) -> Response<Body> {
    let rest = call.raw_path.splitn(4, '/').nth(3).map_or(String::new(), |rest| format!("/{rest}"));
    let location = ascii(&format!("/ipns/{name}{rest}{}", query(call)));
    respond::redirect(StatusCode::FOUND, &location)
}

/// Relative links of a page resolve only below a path that ends with a slash.
pub(super) fn with_slash(call: &Call) -> Response<Body> {
    let location = ascii(&format!("{}/{}", call.raw_path, query(call)));
    respond::redirect(StatusCode::MOVED_PERMANENTLY, &location)
}

fn query(call: &Call) -> String {
    if call.query.is_empty() { String::new() } else { format!("?{}", call.query) }
}

/// An address with everything encoded that a header cannot hold.
pub(super) fn ascii(address: &str) -> String {
    let mut encoded = String::with_capacity(address.len());
    for letter in address.chars() {
        match letter {
            '!'..='~' if !matches!(letter, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}') => {
                encoded.push(letter);
            }
            _ => encoded.push_str(&request_path::encode(letter.encode_utf8(&mut [0; 4]))),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::ascii;

    #[test]
    fn an_address_fits_into_a_header_and_stays_as_it_was() {
        let path = "/Portugal%252C+España=Peninsula%20Ibérica.txt?a=b&c#d";
        let expected = "/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt?a=b&c#d";
        assert_eq!(ascii(path), expected);
        assert_eq!(ascii("/a\r\nSet-Cookie: b\"<"), "/a%0D%0ASet-Cookie:%20b%22%3C");
    }
}
