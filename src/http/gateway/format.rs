//! Which format of the content a client asks for (pure). Path gateway specification, `format` and `Accept`.

use hyper::header;

use super::car_request::{CarError, CarRequest};
use crate::http::call::Call;
use crate::http::weighted::Weighted;

/// What to send of a content path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// The file or directory page, as browsers and players expect.
    File,
    /// The block as it is.
    Raw,
    /// The blocks of a DAG.
    Car(CarRequest),
    /// A tree of files.
    Tar,
    /// The signed record of a name.
    IpnsRecord,
    /// A block of the codec, by the name of its format.
    Block(BlockFormat),
}

/// Formats that a block has by its codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockFormat {
    DagJson,
    DagCbor,
    Json,
    Cbor,
}

/// What a client takes, best first, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) formats: Vec<Format>,
    /// Whether it says that it shows HTML: a browser, for which data becomes a page.
    pub(super) html: bool,
    /// Whether the address alone would give another format, so that the answer has to name its own address.
    pub(super) by_header: bool,
}

/// Why no format can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    /// 400.
    #[error(
        "The format {0:?} is not known; raw, car, tar, ipns-record, dag-json, dag-cbor, json and cbor are."
    )]
    Unknown(String),
    /// 406.
    #[error("This gateway does not answer in the format {0:?}; with ?format=raw or ?format=car it does.")]
    NotMade(String),
    /// 400.
    #[error(transparent)]
    Car(#[from] CarError),
}

impl Format {
    /// The value of `?format=`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Format::File => "file",
            Format::Raw => "raw",
            Format::Car(_) => "car",
            Format::Tar => "tar",
            Format::IpnsRecord => "ipns-record",
            Format::Block(BlockFormat::DagJson) => "dag-json",
            Format::Block(BlockFormat::DagCbor) => "dag-cbor",
            Format::Block(BlockFormat::Json) => "json",
            Format::Block(BlockFormat::Cbor) => "cbor",
        }
    }
}

/// The query wins over the header; in the header the highest quality does, then the format over the wildcard, then the
/// earlier one (RFC 9110 section 12.5.1).
pub(super) fn wanted(call: &Call) -> Result<Wanted, FormatError> {
    let mut ranges = Vec::new();
    for value in call.headers.get_all(header::ACCEPT) {
        ranges.extend(value.to_str().unwrap_or_default().split(',').filter_map(Weighted::parse));
    }
    let html = ranges.iter().any(|range| range.is("text/html"));
    if let Some(name) = call.parameter("format").filter(|name| !name.is_empty()) {
        let parameters = ranges.iter().find(|range| range.is(CAR_TYPE)).map(|range| range.parameters);
        let format = by_name(&name, call, parameters)?;
        let other = |range: &Weighted<'_>| specific(range.name).is_some_and(|kind| kind != format.name());
        let by_header = ranges.iter().any(other);
        return Ok(Wanted { formats: vec![format], html: false, by_header });
    }
    ranges.retain(|range| quality(range) > 0);
    if ranges.is_empty() {
        return Ok(Wanted { formats: vec![Format::File], html, by_header: false });
    }
    ranges.sort_by_key(|range| (std::cmp::Reverse(quality(range)), specific(range.name).is_none()));
    let (mut formats, mut refused) = (Vec::new(), None);
    for range in ranges {
        match of_range(&range, call) {
            Ok(format) if formats.contains(&format) => {}
            Ok(format) => formats.push(format),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match (formats.is_empty(), refused) {
        (true, Some(error)) => Err(error),
        _ => Ok(Wanted { formats, html, by_header: true }),
    }
}

/// A weight that is no number is as if it were left out.
fn quality(range: &Weighted<'_>) -> u32 {
    range.weight.unwrap_or(1_000)
}

const CAR_TYPE: &str = "application/vnd.ipld.car";

/// The name of the format that a media type asks for; `None` where any file will do.
fn specific(kind: &str) -> Option<&'static str> {
    const TYPES: [(&str, &str); 8] = [
        ("application/vnd.ipld.raw", "raw"),
        (CAR_TYPE, "car"),
        ("application/vnd.ipfs.ipns-record", "ipns-record"),
        ("application/x-tar", "tar"),
        ("application/vnd.ipld.dag-json", "dag-json"),
        ("application/vnd.ipld.dag-cbor", "dag-cbor"),
        ("application/json", "json"),
        ("application/cbor", "cbor"),
    ];
    let known = TYPES.iter().find(|(name, _)| kind.eq_ignore_ascii_case(name));
    let foreign = || {
        let start = |prefix: &str| kind.get(..prefix.len()).is_some_and(|s| s.eq_ignore_ascii_case(prefix));
        start("application/vnd.ipld.") || start("application/vnd.ipfs.")
    };
    known.map(|(_, name)| *name).or_else(|| foreign().then_some(""))
}

fn of_range(range: &Weighted<'_>, call: &Call) -> Result<Format, FormatError> {
    match specific(range.name) {
        None => Ok(Format::File),
        Some("") => Err(FormatError::NotMade(range.name.to_owned())),
        // A variant that is not made is as if it were not listed.
        Some("car") => match CarRequest::new(call, Some(range.parameters)) {
            Err(CarError::Variant(_)) => Err(FormatError::NotMade(range.name.to_owned())),
            request => Ok(Format::Car(request?)),
        },
        Some(name) => by_name(name, call, None),
    }
}

fn by_name(name: &str, call: &Call, car_parameters: Option<&str>) -> Result<Format, FormatError> {
    Ok(match name {
        "raw" => Format::Raw,
        "car" => Format::Car(CarRequest::new(call, car_parameters)?),
        "tar" => Format::Tar,
        "ipns-record" => Format::IpnsRecord,
        "dag-json" => Format::Block(BlockFormat::DagJson),
        "dag-cbor" => Format::Block(BlockFormat::DagCbor),
        "json" => Format::Block(BlockFormat::Json),
        "cbor" => Format::Block(BlockFormat::Cbor),
        _ => return Err(FormatError::Unknown(name.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::http::request_path;

    fn ask(query: &str, accept: &'static str) -> Result<Wanted, FormatError> {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let (path, raw_path) = (request_path::parse("/ipfs/x").unwrap(), "/ipfs/x".to_owned());
        wanted(&Call { get: true, headers, path, raw_path, query: query.to_owned(), gateway: true })
    }

    fn names(query: &str, accept: &'static str) -> Vec<&'static str> {
        ask(query, accept).unwrap().formats.iter().map(Format::name).collect()
    }

    #[test]
    fn browsers_and_players_get_files() {
        assert_eq!(names("", ""), ["file"]);
        assert_eq!(names("", "text/html,application/xml;q=0.9,*/*;q=0.8"), ["file"]);
        assert!(ask("", "text/html,application/xml;q=0.9,*/*;q=0.8").unwrap().html);
        assert_eq!(names("download=true", "*/*"), ["file"]);
        assert!(!ask("", "*/*").unwrap().html);
    }

    #[test]
    fn the_query_wins_and_says_so_where_the_header_differs() {
        assert_eq!(names("format=raw", "text/html"), ["raw"]);
        assert_eq!(names("a=b&format=r%61w", "application/vnd.ipld.car"), ["raw"]);
        assert!(ask("format=raw", "application/vnd.ipld.car").unwrap().by_header);
        assert!(!ask("format=raw", "application/vnd.ipld.raw, */*").unwrap().by_header);
        assert!(ask("", "application/vnd.ipld.raw").unwrap().by_header);
    }

    #[test]
    fn quality_then_precision_then_order_decide() {
        assert_eq!(names("", "text/html, Application/vnd.ipld.RAW;q=0.5"), ["file", "raw"]);
        assert_eq!(names("", "*/*, application/vnd.ipld.raw"), ["raw", "file"]);
        assert_eq!(
            names("", "application/vnd.ipld.car;q=0.1, application/vnd.ipld.raw;q=0.2"),
            ["raw", "car"]
        );
        assert_eq!(names("", "application/vnd.ipld.raw;q=0, */*"), ["file"]);
        assert_eq!(names("", "application/vnd.ipld.raw;q=much, */*;q=0.9"), ["raw", "file"]);
        assert_eq!(names("", "application/json, text/plain, */*"), ["json", "file"]);
        assert_eq!(names("", "application/x-tar, */*;q=0.1"), ["tar", "file"]);
        assert_eq!(names("", "application/vnd.ipld.car;order=foo, application/vnd.ipld.car;q=0.5"), ["car"]);
    }

    #[test]
    fn formats_not_made_here_are_named_and_never_answered_with_something_else() {
        let not_made = |name: &str| Err(FormatError::NotMade(name.to_owned()));
        assert_eq!(ask("", "application/vnd.ipld.new"), not_made("application/vnd.ipld.new"));
        assert_eq!(ask("", "application/vnd.ipld.car;version=2"), not_made("application/vnd.ipld.car"));
        assert_eq!(ask("format=zip", "*/*"), Err(FormatError::Unknown("zip".to_owned())));
    }
}
