//! Which format of the content a client asks for (pure). Path gateway and trustless gateway specifications, `format`
//! and `Accept`.

use hyper::header;

use crate::http::call::Call;

/// What to send of a CID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// The file or directory page, as browsers and players expect.
    File,
    /// The block as it is.
    Raw,
    /// A format of the specifications that this gateway does not make, as the client named it.
    Unsupported(String),
}

const RAW_TYPE: &str = "application/vnd.ipld.raw";

/// Types that ask for something else than a file, in any of their spellings.
const SPECIFIC: [&str; 3] = ["application/vnd.ipld.", "application/vnd.ipfs.", "application/x-tar"];

/// The query wins over the header; in the header the first type of a specific format does.
pub(super) fn wanted(call: &Call) -> Format {
    if let Some(format) = call.parameter("format") {
        return match format.as_str() {
            "raw" => Format::Raw,
            _ => Format::Unsupported(format),
        };
    }
    let accepted = call.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = accepted.flat_map(|value| value.split(','));
    let names: Vec<_> =
        types.map(|kind| kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase()).collect();
    if names.iter().any(|name| name == RAW_TYPE) {
        return Format::Raw;
    }
    let specific = |name: &&String| SPECIFIC.iter().any(|start| name.starts_with(start));
    match names.iter().find(specific) {
        Some(name) if names.iter().all(|name| name != "*/*") => Format::Unsupported(name.clone()),
        _ => Format::File,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::http::request_path;

    fn format(query: &str, accept: &'static str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let (path, raw_path) = (request_path::parse("/ipfs/x").unwrap(), "/ipfs/x".to_owned());
        wanted(&Call { get: true, headers, path, raw_path, query: query.to_owned() })
    }

    #[test]
    fn browsers_and_players_get_files() {
        assert_eq!(format("", "text/html,application/xml;q=0.9,*/*;q=0.8"), Format::File);
        assert_eq!(format("download=true", ""), Format::File);
        assert_eq!(format("", "application/vnd.ipld.car, */*"), Format::File);
    }

    #[test]
    fn raw_blocks_are_asked_for_by_query_or_header() {
        assert_eq!(format("format=raw", "text/html"), Format::Raw);
        assert_eq!(format("a=b&format=r%61w", ""), Format::Raw);
        assert_eq!(format("", "text/html, Application/vnd.ipld.RAW;q=0.5"), Format::Raw);
    }

    #[test]
    fn formats_not_made_here_are_named_and_never_answered_with_something_else() {
        assert_eq!(format("format=car", "*/*"), Format::Unsupported("car".to_owned()));
        let record = "application/vnd.ipfs.ipns-record";
        assert_eq!(format("", record), Format::Unsupported(record.to_owned()));
    }
}
