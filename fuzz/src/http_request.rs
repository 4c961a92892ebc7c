//! Requests of strangers. Input: the length of the content in eight bytes, then lines: path, query, Accept, Range,
//! If-None-Match, If-Match, If-Range, Host, a name that is a `_redirects` file as well.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::car_request::Scope;
use super::format::{Format, wanted};
use super::host::{self, Namespace, Site};
use super::redirects_file::Rules;
use super::{disposition, redirect};
use crate::cut::Cut;
use crate::http::call::Call;
use crate::http::respond::{self, Representation, Selection};
use crate::http::{content_type, request_path};

const FIELDS: [HeaderName; 5] =
    [header::ACCEPT, header::RANGE, header::IF_NONE_MATCH, header::IF_MATCH, header::IF_RANGE];

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    let len = cut.long();
    let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    let (path, query) = (text(cut.line()), text(cut.line()));
    let mut headers = HeaderMap::new();
    for field in FIELDS {
        if let Ok(value) = HeaderValue::from_bytes(cut.line())
            && !value.is_empty()
        {
            headers.insert(field, value);
        }
    }
    let (host, name) = (text(cut.line()), text(cut.0));
    hosts(&host, &name);
    names(&name);
    for beginning in [input, &input[input.len().min(8)..]] {
        let _ = content_type::of_content(&beginning[..beginning.len().min(512)], beginning.len() < 512);
    }
    let Ok(path) = request_path::parse(&path).map(|parsed| (parsed, path)) else { return };
    let segments = &path.0.segments;
    for segment in segments {
        assert!(!segment.is_empty() && segment != "." && segment != "..");
        assert!(!segment.contains(|c: char| c == '/' || c == '\\' || c.is_control()));
    }
    rules(&name, segments, &query);
    let (parsed, raw_path) = path;
    for (get, gateway) in [(true, true), (true, false), (false, true)] {
        let (headers, path, raw_path) = (headers.clone(), parsed.clone(), raw_path.clone());
        let call = Call { get, headers, path, raw_path, query: query.clone(), gateway };
        formats(&call, len);
        conditions(&call, len);
        redirects(&call);
    }
}

fn formats(call: &Call, len: u64) {
    let Ok(wanted) = wanted(call) else { return };
    assert!(!wanted.formats.is_empty());
    for format in &wanted.formats {
        assert!(!format.name().is_empty());
        if let Format::Car(request) = format
            && let Scope::Entity(Some(bytes)) = request.scope
            && let Ok(range) = bytes.of(len)
        {
            assert!(range.start <= range.end && range.end <= len, "{range:?} of {len}");
        }
    }
}

fn conditions(call: &Call, len: u64) {
    let selection = respond::select(call, "tag", len);
    if let Selection::Part(range) = &selection {
        assert!(call.get && range.start < range.end && range.end <= len, "{range:?} of {len}");
    }
    let of = Representation { etag: "tag", len, content_type: "text/plain", cache_control: "no-store" };
    let response = respond::head(&selection, &of);
    let number = |value: &HeaderValue| value.to_str().ok()?.parse::<u64>().ok();
    let length = response.headers().get(header::CONTENT_LENGTH).and_then(number);
    if let Some(range) = selection.range(len) {
        assert_eq!(length, Some(range.end - range.start));
    }
    let _ = respond::is_known(call, "tag");
    let content = vec![b'x'; len.min(100) as usize];
    respond::bytes(call, "tag", "no-store", "text/plain", content.into());
}

fn redirects(call: &Call) {
    let _ = redirect::before_reading(call);
    let response = redirect::with_slash(call);
    assert!(response.headers().contains_key(header::LOCATION));
    assert!(call.decoded_path().starts_with('/'));
}

fn rules(file: &str, path: &[String], query: &str) {
    if let Some(outcome) = Rules::parse(file.as_bytes()).ok().and_then(|rules| rules.find(path, query)) {
        assert!(hyper::StatusCode::from_u16(outcome.status).is_ok());
        assert!(HeaderValue::from_str(&redirect::ascii(&outcome.to)).is_ok(), "{}", outcome.to);
    }
}

fn hosts(host: &str, name: &str) {
    let domains = ["localhost".to_owned(), "gateway.example.org".to_owned()];
    if let Site::Content { label, domain, .. } = host::site(host, &domains) {
        assert!(host.starts_with(label) && host.ends_with(domain));
        let _ = host::root_of_label(label);
    }
    if let Ok(label) = host::inlined(name) {
        assert!(label.len() <= 63 && !label.contains('.'));
        // Of dots and dashes side by side, which no name of a host has, the label does not tell which is which.
        if !["..", "-.", ".-"].iter().any(|odd| name.contains(odd)) {
            assert_eq!(host::uninlined(&label), name);
        }
    }
    for namespace in [Namespace::Ipfs, Namespace::Ipns] {
        if let Ok(label) = host::label(namespace, name) {
            assert!(label.len() <= 63 && !label.contains('.'));
            let root = host::root_of_label(&label).expect("a label of ours is a root");
            assert_eq!(host::label(namespace, &root.to_string()).as_deref(), Ok(label.as_str()));
        }
    }
}

fn names(name: &str) {
    assert_eq!(request_path::decode(&request_path::encode(name)).as_deref(), Ok(name));
    assert!(HeaderValue::from_str(&disposition::header("attachment", name)).is_ok());
    assert!(HeaderValue::from_str(&redirect::ascii(name)).is_ok());
    let _ = content_type::of_name(name);
}
