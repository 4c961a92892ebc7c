//! Where the bytes of a stream tree come from: a live station, a plain folder, or a map made by a test.

use super::super::http_client;
use super::rules::{self, Violation, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One file as it was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// HTTP status; 200 and 404 for what is no HTTP.
    pub status: u16,
    /// The Content-Type field; none where there are no headers.
    pub content_type: Option<String>,
    /// The content.
    pub body: Vec<u8>,
}

/// A stream tree that can be read by path, relative to the directory of stream.m3u8.
pub trait Source {
    /// Reads one file. An absent file is a status, not an error; an error is a source that cannot answer.
    fn get(&mut self, path: &str) -> Result<Fetched, String>;
}

/// A station on the network.
#[derive(Debug, Clone)]
pub struct HttpSource {
    base: String,
    timeout: Duration,
}

impl HttpSource {
    /// `base` is the address of the directory that holds stream.m3u8.
    pub fn new(base: &str) -> Self {
        let base = if base.ends_with('/') { base.to_owned() } else { format!("{base}/") };
        Self { base, timeout: Duration::from_secs(10) }
    }
}

impl Source for HttpSource {
    fn get(&mut self, path: &str) -> Result<Fetched, String> {
        let response = http_client::get(&format!("{}{path}", self.base), self.timeout)?;
        let content_type = Some(response.header("content-type").unwrap_or_default().to_owned());
        Ok(Fetched { status: response.status, content_type, body: response.body })
    }
}

/// A stream tree on disk, as `ipfs get` leaves it.
#[derive(Debug, Clone)]
pub struct FolderSource(pub PathBuf);

impl Source for FolderSource {
    fn get(&mut self, path: &str) -> Result<Fetched, String> {
        match std::fs::read(self.0.join(path)) {
            Ok(body) => Ok(Fetched { status: 200, content_type: None, body }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Fetched { status: 404, content_type: None, body: Vec::new() })
            }
            Err(error) => Err(format!("{path}: {error}")),
        }
    }
}

/// A stream tree in memory.
#[derive(Debug, Clone, Default)]
pub struct MapSource(pub BTreeMap<String, Vec<u8>>);

impl Source for MapSource {
    fn get(&mut self, path: &str) -> Result<Fetched, String> {
        let content_type = Some(default_type(path).to_owned());
        Ok(match self.0.get(path) {
            Some(body) => Fetched { status: 200, content_type, body: body.clone() },
            None => Fetched { status: 404, content_type, body: Vec::new() },
        })
    }
}

fn default_type(path: &str) -> &'static str {
    if path.ends_with(".m3u8") { "application/vnd.apple.mpegurl" } else { "audio/mp4" }
}

/// What a file is, and so what its Content-Type may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A playlist.
    Playlist,
    /// An init segment.
    Init,
    /// A media segment.
    Segment,
}

impl Kind {
    fn content_types(self) -> &'static [&'static str] {
        match self {
            Kind::Playlist => &["application/vnd.apple.mpegurl", "audio/mpegurl"],
            Kind::Init => &["audio/mp4"],
            Kind::Segment => &["audio/mp4", "video/iso.segment"],
        }
    }
}

/// Reads a file that is listed, so must be there and be of the right type.
pub fn fetch(source: &mut dyn Source, path: &str, kind: Kind) -> Result<Vec<u8>, Violation> {
    let fetched = source
        .get(path)
        .map_err(|error| Violation::new(rules::FETCHABLE, format!("{path}: {error}"), "an answer"))?;
    ensure(fetched.status == 200, rules::FETCHABLE, format!("{path}: status {}", fetched.status), "200")?;
    if let Some(content_type) = &fetched.content_type {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let wanted = kind.content_types();
        ensure(
            wanted.contains(&essence.as_str()),
            rules::CONTENT_TYPE,
            format!("{path}: {content_type:?}"),
            format!("one of {wanted:?}"),
        )?;
    }
    Ok(fetched.body)
}

/// Reads a playlist.
pub fn fetch_text(source: &mut dyn Source, path: &str) -> Result<String, Violation> {
    let body = fetch(source, path, Kind::Playlist)?;
    String::from_utf8(body).map_err(|error| {
        Violation::new(rules::PLAYLIST_SYNTAX, format!("{path}: {error}"), "UTF-8 (RFC 8216bis section 4.1)")
    })
}
