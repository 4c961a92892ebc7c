//! Conditions, ranges and the head of a response, by RFC 9110 (pure).

use std::ops::Range;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;
use super::call::Call;

/// For what never changes under its address, in the words of the path gateway specification.
pub(super) const IMMUTABLE: &str = "public, max-age=29030400, immutable";

/// What a response would hold in full.
#[derive(Debug)]
pub(super) struct Representation<'a> {
    /// The opaque tag, without quotes.
    pub(super) etag: &'a str,
    pub(super) len: u64,
    pub(super) content_type: &'static str,
    pub(super) cache_control: &'a str,
}

/// What of a representation is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    Whole,
    Part(Range<u64>),
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
}

impl Selection {
    /// The bytes of a representation of `len` bytes that follow the head; `None` when none of them do.
    pub(super) fn range(&self, len: u64) -> Option<Range<u64>> {
        match self {
            Selection::Whole => Some(0..len),
            Selection::Part(range) => Some(range.clone()),
            Selection::NotModified | Selection::PreconditionFailed | Selection::Unsatisfiable => None,
        }
    }
}

/// Evaluates the preconditions in the order of RFC 9110 section 13.2.2. Without a modification date, the fields
/// that compare dates never apply. A range counts for GET alone (section 14.2).
pub(super) fn select(call: &Call, etag: &str, len: u64) -> Selection {
    let headers = &call.headers;
    if lists(headers, header::IF_MATCH, etag, Comparison::Strong) == Some(false) {
        return Selection::PreconditionFailed;
    }
    if lists(headers, header::IF_NONE_MATCH, etag, Comparison::Weak) == Some(true) {
        return Selection::NotModified;
    }
    let same = lists(headers, header::IF_RANGE, etag, Comparison::Strong) != Some(false);
    match headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(range) if call.get && same => byte_ranges(range, len, call.gateway),
        _ => Selection::Whole,
    }
}

/// Whether a client has what `etag` names, so that a weak tag of its own is answered with 304.
pub(super) fn is_known(call: &Call, etag: &str) -> bool {
    lists(&call.headers, header::IF_NONE_MATCH, etag, Comparison::Weak) == Some(true)
}

/// How two entity tags compare, RFC 9110 section 8.8.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether the field lists `etag`, which is strong; `None` without the field.
fn lists(headers: &HeaderMap, field: HeaderName, etag: &str, comparison: Comparison) -> Option<bool> {
    let mut values = headers.get_all(field).iter().peekable();
    values.peek()?;
    Some(values.any(|value| value_lists(value.as_bytes(), etag.as_bytes(), comparison)))
}

/// Reads `"a", W/"b"` or `*`; what follows the first mistake is ignored. A tag may hold commas.
fn value_lists(value: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    let mut rest = value.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        while let [b',' | b' ' | b'\t', after @ ..] = rest {
            rest = after;
        }
        let weak = rest.starts_with(b"W/");
        let opened = if weak { &rest[2..] } else { rest };
        let Some(tag) = opened.strip_prefix(b"\"") else { return false };
        let Some(end) = tag.iter().position(|byte| *byte == b'"') else { return false };
        if &tag[..end] == etag && (comparison == Comparison::Weak || !weak) {
            return true;
        }
        rest = &tag[end + 1..];
    }
}

/// Byte ranges, RFC 9110 section 14.1.2. What cannot be read gives the whole. Of several ranges the gateway sends the
/// first that there is, as section 15.3.7 lets it; elsewhere they give the whole, as section 14.2 allows.
fn byte_ranges(field: &str, len: u64, first_of_several: bool) -> Selection {
    let Some((unit, set)) = field.split_once('=') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || (set.contains(',') && !first_of_several) {
        return Selection::Whole;
    }
    let mut chosen = Selection::Unsatisfiable;
    for range in set.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        match byte_range(range, len) {
            Selection::Whole => return Selection::Whole,
            part if chosen == Selection::Unsatisfiable => chosen = part,
            _ => {}
        }
    }
    if set.split(',').all(|range| range.trim().is_empty()) { Selection::Whole } else { chosen }
}

/// One byte range, as it stands in a set.
fn byte_range(range: &str, len: u64) -> Selection {
    let Some((first, last)) = range.split_once('-') else { return Selection::Whole };
    match (position(first), position(last)) {
        (Position::At(first), Position::At(last)) if first > last => Selection::Whole,
        (Position::At(first), _) if first >= len && !matches!(position(last), Position::Broken) => {
            Selection::Unsatisfiable
        }
        (Position::At(first), Position::At(last)) => Selection::Part(first..last.saturating_add(1).min(len)),
        (Position::At(first), Position::Absent) => Selection::Part(first..len),
        (Position::Absent, Position::At(0)) => Selection::Unsatisfiable,
        // Nothing is no range, so the suffix of nothing is the whole.
        (Position::Absent, Position::At(_)) if len == 0 => Selection::Whole,
        (Position::Absent, Position::At(suffix)) => Selection::Part(len.saturating_sub(suffix)..len),
        _ => Selection::Whole,
    }
}

enum Position {
    Absent,
    At(u64),
    Broken,
}

fn position(digits: &str) -> Position {
    if digits.is_empty() {
        Position::Absent
    } else if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        // Digits alone fail only by being too many.
        Position::At(digits.parse().unwrap_or(u64::MAX))
    } else {
        Position::Broken
    }
}

/// The head for a selection. Bodies of errors are in place; the caller puts in the selected bytes.
pub(super) fn head(selection: &Selection, of: &Representation<'_>) -> Response<Body> {
    let mut response = match selection {
        Selection::Whole => described(StatusCode::OK, of, of.len),
        Selection::Part(range) => {
            let mut response = described(StatusCode::PARTIAL_CONTENT, of, range.end - range.start);
            let place = format!("bytes {}-{}/{}", range.start, range.end - 1, of.len);
            set(&mut response, header::CONTENT_RANGE, &place);
            response
        }
        Selection::NotModified => {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        Selection::PreconditionFailed => {
            return text(StatusCode::PRECONDITION_FAILED, "The content is not what If-Match asks for.");
        }
        Selection::Unsatisfiable => {
            let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, "The range lies outside the content.");
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", of.len));
            return response;
        }
    };
    set(&mut response, header::ETAG, &format!("\"{}\"", of.etag));
    set(&mut response, header::CACHE_CONTROL, of.cache_control);
    response
}

fn described(status: StatusCode, of: &Representation<'_>, len: u64) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(of.content_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

/// A representation whose bytes are at hand. Nothing is copied.
pub(super) fn bytes(call: &Call, etag: &str, cached: &str, kind: &'static str, all: Bytes) -> Response<Body> {
    let len = all.len() as u64;
    let selection = select(call, etag, len);
    let of = Representation { etag, len, content_type: kind, cache_control: cached };
    let mut response = head(&selection, &of);
    if let Some(range) = selection.range(len) {
        // Within the length of a slice.
        *response.body_mut() = Body::whole(all.slice(range.start as usize..range.end as usize));
    }
    response
}

/// A representation that is made anew for every request and must not be kept.
pub(super) fn fresh(status: StatusCode, content_type: &'static str, all: impl Into<Bytes>) -> Response<Body> {
    let all = all.into();
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(all.len()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Body::whole(all);
    response
}

/// A sentence for people, with a line end.
pub(super) fn text(status: StatusCode, message: &str) -> Response<Body> {
    fresh(status, "text/plain; charset=utf-8", format!("{message}\n"))
}

/// 503 with the advice to come back in a second: shorter than any segment.
pub(super) fn unavailable(message: &str) -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A redirect, with the same in words.
pub(super) fn redirect(status: StatusCode, location: &str) -> Response<Body> {
    let mut response = text(status, &format!("This has moved to {location}."));
    set(&mut response, header::LOCATION, location);
    response
}

/// Sets a header from text; text that no header can hold leaves it out.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests;
