//! stream.m3u8, the multivariant playlist (RFC 8216bis section 4.4.6).

use super::playlist::{self, Attributes, Line, Once};
use super::rules::{self, Violation, ensure};
use std::collections::BTreeMap;

/// The lowest EXT-X-VERSION of fragmented MP4 with all the tags that we use (section 8).
const MIN_VERSION: u64 = 7;

/// One EXT-X-STREAM-INF and its URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Peak segment bit rate, bit/s.
    pub bandwidth: u64,
    /// Average segment bit rate, bit/s.
    pub average_bandwidth: u64,
    /// RFC 6381 codecs.
    pub codecs: String,
    /// Where the media playlist is, relative to stream.m3u8.
    pub uri: String,
}

impl Variant {
    /// The directory of the media playlist, which names the rendition.
    pub fn directory(&self) -> &str {
        self.uri.rsplit_once('/').map_or("", |(directory, _)| directory)
    }
}

/// A judged stream.m3u8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultivariantPlaylist {
    /// Variants by rendition name; exactly the renditions expected.
    pub variants: BTreeMap<String, Variant>,
}

/// Reads and judges all that the text alone can show.
pub fn parse(text: &str, renditions: &[String]) -> Result<MultivariantPlaylist, Violation> {
    let mut once = Once::default();
    let mut version = 0;
    let mut pending: Option<Attributes> = None;
    let mut variants = BTreeMap::new();
    for line in playlist::lines(text)? {
        if pending.is_some() && !matches!(line, Line::Uri(_)) {
            return Err(Violation::new(
                rules::STREAM_INF,
                format!("{line:?}"),
                "the URI after EXT-X-STREAM-INF",
            ));
        }
        match line {
            Line::Tag(name @ "#EXT-X-VERSION", value) => {
                once.note(name)?;
                version = playlist::decimal(name, value)?;
            }
            Line::Tag(name @ "#EXT-X-INDEPENDENT-SEGMENTS", value) => {
                once.note(name)?;
                playlist::no_value(name, value)?;
            }
            Line::Tag(name @ "#EXT-X-STREAM-INF", value) => pending = Some(Attributes::parse(name, value)?),
            Line::Tag(name, _) => {
                return Err(Violation::new(rules::PLAYLIST_TAG, name, "no such tag in stream.m3u8"));
            }
            Line::Uri(uri) => {
                let variant = variant(pending.take(), uri)?;
                let name = variant.directory().to_owned();
                let known = renditions.contains(&name) && !variants.contains_key(&name);
                ensure(known, rules::STREAM_INF, uri, format!("each of {renditions:?} once"))?;
                variants.insert(name, variant);
            }
        }
    }
    ensure(pending.is_none(), rules::STREAM_INF, "EXT-X-STREAM-INF last", "its URI")?;
    ensure(version >= MIN_VERSION, rules::VERSION, version, format!("{MIN_VERSION} or more"))?;
    let independent = once.seen("#EXT-X-INDEPENDENT-SEGMENTS");
    ensure(independent, rules::INDEPENDENT_SEGMENTS, "none in stream.m3u8", "EXT-X-INDEPENDENT-SEGMENTS")?;
    let (found, wanted) = (format!("{:?}", variants.keys()), format!("{renditions:?}"));
    ensure(variants.len() == renditions.len(), rules::STREAM_INF, found, wanted)?;
    Ok(MultivariantPlaylist { variants })
}

fn variant(attributes: Option<Attributes>, uri: &str) -> Result<Variant, Violation> {
    let attributes = attributes.ok_or_else(|| {
        Violation::new(rules::STREAM_INF, format!("{uri} alone"), "EXT-X-STREAM-INF before")
    })?;
    playlist::relative_uri(uri)?;
    let in_stream_inf = |violation: Violation| Violation { rule: rules::STREAM_INF, ..violation };
    attributes.only(&["BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS", "SCORE"]).map_err(in_stream_inf)?;
    Ok(Variant {
        bandwidth: attributes.decimal("BANDWIDTH").map_err(in_stream_inf)?,
        average_bandwidth: attributes.decimal("AVERAGE-BANDWIDTH").map_err(in_stream_inf)?,
        codecs: attributes.quoted("CODECS").map_err(in_stream_inf)?.to_owned(),
        uri: uri.to_owned(),
    })
}
