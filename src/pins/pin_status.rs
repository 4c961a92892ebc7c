//! Answers of a pinning service (IPFS Pinning Services API 1.0.0, "Schemas"). Pure.
//!
//! Lists and texts that the API lets a service leave out are empty then; what a pin cannot do without is asked for, and
//! an answer without it is refused in words.

use cid::Cid;
use serde_json::{Value, json};

/// Bounds a text of a service that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// Addresses in one answer or request: `maxItems` of `Origins` and `Delegates`.
pub(super) const MAX_ADDRESSES: usize = 20;

/// `Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Waits its turn.
    Queued,
    /// The service fetches it.
    Pinning,
    /// The service holds all of it.
    Pinned,
    /// The service gave up.
    Failed,
}

impl Status {
    /// All of them, as a filter.
    pub(super) const ALL: &'static str = "queued,pinning,pinned,failed";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "queued" => Some(Self::Queued),
            "pinning" => Some(Self::Pinning),
            "pinned" => Some(Self::Pinned),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }

    /// Whether the service is still at it.
    pub(super) fn is_pending(self) -> bool {
        matches!(self, Self::Queued | Self::Pinning)
    }
}

/// `PinStatus`: a pin as the service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PinStatus {
    /// `requestid`.
    pub(super) requestid: String,
    /// `status`.
    pub(super) status: Status,
    /// `created`, as it was written: RFC 3339.
    pub(super) created: String,
    /// `pin.cid`.
    pub(super) cid: Cid,
    /// `pin.name`.
    pub(super) name: String,
    /// `pin.origins`.
    pub(super) origins: Vec<String>,
    /// `delegates`: peers of the service.
    pub(super) delegates: Vec<String>,
    /// `info.status_details`, shortened.
    pub(super) details: Option<String>,
}

/// `PinResults`, as far as it is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The pins that were asked for.
    pub(super) found: Vec<PinStatus>,
    /// Where the next page begins; `None` on the last one.
    pub(super) next: Option<String>,
}

/// `Pin`, as a request.
pub(super) fn request(cid: &Cid, name: &str, origins: &[String], station: &str) -> Value {
    json!({
        "cid": cid.to_string(),
        "name": name,
        "origins": &origins[..origins.len().min(MAX_ADDRESSES)],
        "meta": { "app": "skywave", "station": station },
    })
}

/// Reads `PinStatus`.
///
/// # Errors
/// Says in words what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<PinStatus, String> {
    parse_value(&serde_json::from_slice(body).map_err(|error| format!("no JSON ({error})"))?)
}

/// Reads `PinResults`, and of it the pins whose name is `ours`. The others may be of any shape.
///
/// # Errors
/// Says in words what is wrong with it.
pub(super) fn parse_page(body: &[u8], ours: impl Fn(&str) -> bool) -> Result<Page, String> {
    let page: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON ({error})"))?;
    let results = page["results"].as_array().ok_or("it has no results")?;
    let count = page["count"].as_u64().ok_or("it has no count")?;
    let is_ours = |pin: &&Value| pin["pin"]["name"].as_str().is_some_and(&ours);
    let found = results.iter().filter(is_ours).map(parse_value).collect::<Result<Vec<_>, _>>()?;
    let last = results.last().and_then(|pin| pin["created"].as_str()).map(shortened);
    let more = count > results.len() as u64;
    Ok(Page { found, next: last.filter(|_| more) })
}

fn parse_value(value: &Value) -> Result<PinStatus, String> {
    let text = |value: &Value| value.as_str().map(shortened).unwrap_or_default();
    let requestid = value["requestid"].as_str().unwrap_or_default();
    if requestid.is_empty() || requestid.len() > MAX_TEXT_BYTES {
        return Err(format!("it has no requestid of 1 to {MAX_TEXT_BYTES} bytes"));
    }
    let status = text(&value["status"]);
    let cid = text(&value["pin"]["cid"]);
    Ok(PinStatus {
        requestid: requestid.to_owned(),
        status: Status::parse(&status)
            .ok_or_else(|| format!("status {status:?} is none of {}", Status::ALL))?,
        created: text(&value["created"]),
        cid: cid.parse().map_err(|_| format!("{cid:?} is no CID"))?,
        name: text(&value["pin"]["name"]),
        origins: addresses(&value["pin"]["origins"]),
        delegates: addresses(&value["delegates"]),
        details: value["info"]["status_details"].as_str().map(shortened),
    })
}

/// What a service says of a failure (`Failure`), or the beginning of whatever it says instead.
pub(super) fn failure(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let error = json.as_ref().map(|json| &json["error"]);
    let part = |name: &str| error.and_then(|error| error[name].as_str()).filter(|text| !text.is_empty());
    match (part("reason"), part("details")) {
        (Some(reason), Some(details)) => shortened(&format!("{reason}: {details}")),
        (Some(reason), None) => shortened(reason),
        _ => shortened(String::from_utf8_lossy(body).trim()),
    }
}

fn addresses(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.filter(|text| text.len() <= MAX_TEXT_BYTES).take(MAX_ADDRESSES).map(str::to_owned).collect()
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

    fn status() -> Value {
        json!({
            "requestid": "UniqueIdOfPinRequest", "status": "queued", "created": "2026-10-27T17:32:28Z",
            "pin": { "cid": CID, "name": "skywave/k51", "origins": ["/ip4/1.2.3.4/tcp/4001"], "meta": {} },
            "delegates": ["/dnsaddr/pin-service.example.com"],
            "info": { "status_details": "Queue position: 7 of 9" },
            "vendor": [1, 2, 3],
        })
    }

    fn read(value: &Value) -> Result<PinStatus, String> {
        parse(value.to_string().as_bytes())
    }

    #[test]
    fn a_status_is_read_with_and_without_what_may_be_left_out() {
        let whole = read(&status()).unwrap();
        assert_eq!((whole.status, whole.cid.to_string()), (Status::Queued, CID.to_owned()));
        assert_eq!(whole.delegates, ["/dnsaddr/pin-service.example.com"]);
        assert_eq!(whole.details.as_deref(), Some("Queue position: 7 of 9"));
        let bare = json!({ "requestid": "1", "status": "pinned", "pin": { "cid": CID, "name": null } });
        let bare = read(&bare).unwrap();
        assert!(bare.name.is_empty() && bare.origins.is_empty() && bare.delegates.is_empty());
    }

    #[test]
    fn bad_answers_are_named() {
        for (key, value, word) in [
            ("requestid", json!(""), "requestid"),
            ("requestid", json!("x".repeat(513)), "requestid"),
            ("requestid", json!(7), "requestid"),
            ("status", json!("undefined"), "\"undefined\""),
            ("status", json!(null), "none of queued"),
            ("pin", json!({ "cid": "Qm" }), "no CID"),
            ("pin", json!([]), "no CID"),
        ] {
            let mut bad = status();
            bad[key] = value;
            let reason = read(&bad).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
        assert!(parse(b"<html>").unwrap_err().contains("no JSON"));
        assert!(parse_page(b"{}", |_| true).unwrap_err().contains("no results"));
        assert!(parse_page(b"{\"results\":[]}", |_| true).unwrap_err().contains("no count"));
    }

    #[test]
    fn lists_and_texts_of_a_service_are_bounded() {
        let mut many = status();
        many["delegates"] = json!(vec!["/ip4/1.2.3.4/tcp/4001"; 1_000]);
        many["pin"]["origins"] = json!(["x".repeat(100_000), "/ip4/1.2.3.4/tcp/1"]);
        many["info"]["status_details"] = json!("ä".repeat(100_000));
        let bounded = read(&many).unwrap();
        assert_eq!((bounded.delegates.len(), bounded.origins.len()), (MAX_ADDRESSES, 1));
        assert_eq!(bounded.details.unwrap().len(), 512);
        let origins = vec![String::from("/ip4/1.2.3.4/tcp/4001"); 50];
        let asked = request(&CID.parse().unwrap(), "name", &origins, "k51");
        assert_eq!(asked["origins"].as_array().unwrap().len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_page_gives_our_pins_and_where_the_next_one_begins() {
        let other = json!({ "requestid": [], "created": "2026-10-01T00:00:00Z", "pin": { "name": "x" } });
        let page = |count: u64| json!({ "count": count, "results": [status(), other] }).to_string();
        let ours = |name: &str| name.starts_with("skywave/");
        let more = parse_page(page(3).as_bytes(), ours).unwrap();
        assert_eq!((more.found.len(), more.next.as_deref()), (1, Some("2026-10-01T00:00:00Z")));
        assert_eq!(parse_page(page(2).as_bytes(), ours).unwrap().next, None);
    }

    #[test]
    fn a_failure_says_what_the_service_says() {
        let said = |text: &str| failure(text.as_bytes());
        assert_eq!(said("{\"error\":{\"reason\":\"A\",\"details\":\"b\"}}"), "A: b");
        assert_eq!(said("{\"error\":{\"reason\":\"A\",\"details\":\"\"}}"), "A");
        assert_eq!(said("  404 page not found\n"), "404 page not found");
        assert_eq!(said(&"x".repeat(2_000)).len(), 512);
    }
}
