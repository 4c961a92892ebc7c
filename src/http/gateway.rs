//! Content by path: `/live`, `/ipfs`, `/ipns` and `/station.json`.
//!
//! By the path gateway specification (<https://specs.ipfs.tech/http-gateways/path-gateway/>) for what this station
//! holds. Nothing is ever fetched for a client, so a stranger can't make the board download.

mod format;
mod listing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, StreamExt, TryStreamExt};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use multihash_codetable::{Code, MultihashDigest};
use tokio::sync::watch;

use super::body::{Body, BodyError};
use super::call::Call;
use super::respond::{self, IMMUTABLE, Representation};
use super::{content_type, ipns_name};
use crate::health::Health;
use crate::ipfs::unixfs::{self, FileReader, Node, RAW, Resolved, UnixFsError};
use crate::ipfs::{Blocks, IpfsError};
use crate::metrics::Metrics;
use crate::publisher::stream_tree::{ARCHIVE, StreamTree};
use format::Format;

const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// For playlists and station.json. A new segment comes every 3.84 s (1.92 s): one second lets a proxy answer a crowd
/// with one request and delays nobody by more than a fraction of a segment.
const PLAYLIST_CACHE: &str = "public, max-age=1";

/// For init segments, whose name outlives a change of the configuration.
const INIT_CACHE: &str = "public, max-age=60";

/// For directory pages, whose look may change with the program; under `/ipns` the TTL counts.
const LISTING_CACHE: &str = "public, max-age=60";

/// What HTTP may see of the station.
#[derive(Clone)]
pub struct Content {
    /// The blocks held.
    pub blocks: Blocks,
    /// The newest stream tree; `None` before the station is on air.
    pub tree: watch::Receiver<Option<Arc<StreamTree>>>,
    /// station.json as it is sent; empty while there is none.
    pub station: watch::Receiver<Bytes>,
    /// The station's IPNS name, in any spelling.
    pub ipns_name: String,
    /// TTL of the station's IPNS records: how long others may keep what `/ipns` answers.
    pub ipns_ttl: Duration,
    /// The station's health.
    pub health: Health,
    /// The station's metrics.
    pub metrics: Metrics,
}

/// `/live/<path>`: the newest stream tree.
pub(super) async fn live(content: &Content, call: &Call) -> Response<Body> {
    let Some(tree) = content.tree.borrow().clone() else { return not_on_air() };
    let key = call.path.segments[1..].join("/");
    if call.path.segments.get(1).is_some_and(|name| name == ARCHIVE) && tree.entries.contains_key(ARCHIVE) {
        return to_archive(content, call);
    }
    let Some(entry) = tree.entries.get(&key).filter(|_| !call.path.directory) else {
        return respond::text(StatusCode::NOT_FOUND, &not_in_the_tree(&key, tree.newest));
    };
    let cache_control = live_cache(&key);
    match unixfs::load(&content.blocks, &entry.cid).await {
        Ok(node) => file(content, call, entry.cid, node, cache_control).await,
        // The tick after this one has removed it.
        Err(UnixFsError::NotHeld { .. }) => {
            respond::text(StatusCode::NOT_FOUND, &not_in_the_tree(&key, tree.newest))
        }
        Err(error) => refusal(&error),
    }
}

/// `/live/archive`: the same path under the station's name, where folders are followed.
fn to_archive(content: &Content, call: &Call) -> Response<Body> {
    let path = call.raw_path.strip_prefix("/live").unwrap_or_default();
    let mut response =
        respond::text(StatusCode::TEMPORARY_REDIRECT, "The archive is below the station's name.");
    respond::set(&mut response, header::LOCATION, &format!("/ipns/{}{path}", content.ipns_name));
    response
}

/// `/ipfs/<cid>[/path]`.
pub(super) async fn ipfs(content: &Content, call: &Call) -> Response<Body> {
    let cid = call.path.segments.get(1).filter(|text| text.len() <= ipns_name::MAX_LEN);
    let Some(cid) = cid.and_then(|text| Cid::try_from(text.as_str()).ok()) else {
        return respond::text(StatusCode::BAD_REQUEST, "What follows /ipfs/ is not a CID.");
    };
    below(content, call, cid, IMMUTABLE).await
}

/// `/ipns/<name>[/path]` for the station's own name, from the newest stream tree.
pub(super) async fn ipns(content: &Content, call: &Call) -> Response<Body> {
    let Some(name) = call.path.segments.get(1) else {
        return respond::text(StatusCode::BAD_REQUEST, "No name follows /ipns/.");
    };
    if !ipns_name::same(name, &content.ipns_name) {
        let message =
            format!("This gateway resolves only the name of its own station, {}.", content.ipns_name);
        return respond::text(StatusCode::NOT_FOUND, &message);
    }
    let root = content.tree.borrow().as_ref().map(|tree| tree.root);
    let Some(root) = root else { return not_on_air() };
    let cache_control = format!("public, max-age={}", content.ipns_ttl.as_secs());
    below(content, call, root, &cache_control).await
}

/// `/station.json`.
pub(super) fn station(content: &Content, call: &Call) -> Response<Body> {
    let json = content.station.borrow().clone();
    if json.is_empty() {
        return not_on_air();
    }
    let etag = Cid::new_v1(RAW, Code::Sha2_256.digest(&json)).to_string();
    respond::bytes(call, &etag, PLAYLIST_CACHE, "application/json", json)
}

/// The path below `root`: what `/ipfs` and `/ipns` share.
async fn below(content: &Content, call: &Call, root: Cid, cache_control: &str) -> Response<Body> {
    let wanted = format::wanted(call);
    if let Format::Unsupported(name) = wanted {
        let message =
            format!("This gateway does not answer in the format {name:?}; raw blocks and files it does.");
        return respond::text(StatusCode::NOT_ACCEPTABLE, &message);
    }
    let path = &call.path.segments[2..];
    let (roots, mut response) = if wanted == Format::Raw && path.is_empty() {
        match unixfs::block(&content.blocks, &root).await {
            Ok(bytes) => (vec![root], raw_block(call, root, cache_control, bytes)),
            Err(error) => return refusal(&error),
        }
    } else {
        match unixfs::resolve(&content.blocks, root, path).await {
            Ok(resolved) => {
                (resolved.roots.clone(), found(content, call, resolved, wanted, cache_control).await)
            }
            Err(error) => return refusal(&error),
        }
    };
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        let roots: Vec<_> = roots.iter().map(Cid::to_string).collect();
        respond::set(&mut response, X_IPFS_PATH, &call.raw_path);
        respond::set(&mut response, X_IPFS_ROOTS, &roots.join(","));
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    }
    response
}

async fn found(
    content: &Content,
    call: &Call,
    resolved: Resolved,
    wanted: Format,
    cache_control: &str,
) -> Response<Body> {
    let Resolved { cid, node, remainder, .. } = resolved;
    if !remainder.is_empty() {
        let message = format!("{cid} is no UnixFS, and this gateway does not look into it.");
        return respond::text(StatusCode::NOT_IMPLEMENTED, &message);
    }
    if wanted == Format::Raw {
        return match unixfs::block(&content.blocks, &cid).await {
            Ok(bytes) => raw_block(call, cid, cache_control, bytes),
            Err(error) => refusal(&error),
        };
    }
    let Node::Directory(links) = node else {
        return file(content, call, cid, node, cache_control).await;
    };
    if !call.path.directory {
        return with_slash(call);
    }
    if let Some(index) = links.iter().find(|link| link.name == "index.html") {
        return match unixfs::load(&content.blocks, &index.cid).await {
            Ok(node) => page(content, call, index.cid, node, cache_control).await,
            Err(error) => refusal(&error),
        };
    }
    let entries = links.iter().map(|link| (link.name.as_str(), link.size));
    let html = listing::page(&call.raw_path, entries);
    let etag = format!("directory-{}-{cid}", listing::VERSION);
    let cached = if cache_control == IMMUTABLE { LISTING_CACHE } else { cache_control };
    respond::bytes(call, &etag, cached, "text/html; charset=utf-8", html.into())
}

/// A file under its own name.
async fn file(content: &Content, call: &Call, cid: Cid, node: Node, cache_control: &str) -> Response<Body> {
    if call.path.directory {
        return respond::text(StatusCode::NOT_FOUND, "This is a file: its path ends without a slash.");
    }
    let name = call.path.segments.last().map_or("", String::as_str);
    send(content, call, cid, node, (content_type::of_name(name), cache_control)).await
}

/// The index.html of a directory.
async fn page(content: &Content, call: &Call, cid: Cid, node: Node, cache_control: &str) -> Response<Body> {
    send(content, call, cid, node, (content_type::of_name("index.html"), cache_control)).await
}

async fn send(
    content: &Content,
    call: &Call,
    cid: Cid,
    node: Node,
    (content_type, cache_control): (&'static str, &str),
) -> Response<Body> {
    let etag = cid.to_string();
    let file = match node {
        Node::Raw(bytes) => return respond::bytes(call, &etag, cache_control, content_type, bytes),
        Node::File(file) => file,
        Node::Symlink(_) => {
            return respond::text(StatusCode::NOT_FOUND, "This is a symbolic link, which is not followed.");
        }
        Node::Directory(_) => return respond::text(StatusCode::NOT_FOUND, "This is a directory."),
        Node::Other(_) => {
            let message = format!("{cid} is no UnixFS; its block can be had with ?format=raw.");
            return respond::text(StatusCode::NOT_ACCEPTABLE, &message);
        }
    };
    let selection = respond::select(call, &etag, file.size);
    let of = Representation { etag: &etag, len: file.size, content_type, cache_control };
    let mut response = respond::head(&selection, &of);
    let Some(range) = selection.range(file.size).filter(|_| call.get) else { return response };
    // The first block is read before the head goes out, so that a missing file is a 404 and not a short answer.
    let mut reader = FileReader::new(content.blocks.clone(), &file, range.clone());
    let first = match reader.next().await {
        Ok(first) => first,
        Err(error) => return refusal(&error),
    };
    let chunks = stream::iter(first.map(Ok)).chain(reader.into_stream()).map_err(BodyError::from);
    *response.body_mut() = Body::stream(chunks.boxed(), range.end - range.start);
    response
}

fn raw_block(call: &Call, cid: Cid, cache_control: &str, bytes: Bytes) -> Response<Body> {
    let etag = format!("{cid}.raw");
    let mut response = respond::bytes(call, &etag, cache_control, "application/vnd.ipld.raw", bytes);
    let name = format!("attachment; filename=\"{cid}.bin\"");
    respond::set(&mut response, header::CONTENT_DISPOSITION, &name);
    response
}

/// Relative links of a page resolve only below a path that ends with a slash.
fn with_slash(call: &Call) -> Response<Body> {
    let mut response =
        respond::text(StatusCode::MOVED_PERMANENTLY, "This is a directory: its path ends with a slash.");
    let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
    respond::set(&mut response, header::LOCATION, &format!("{}/{query}", call.raw_path));
    response
}

fn live_cache(key: &str) -> &'static str {
    if segment_number(key).is_some() {
        IMMUTABLE
    } else if key.ends_with(".mp4") {
        INIT_CACHE
    } else {
        PLAYLIST_CACHE
    }
}

/// The media sequence of `<rendition>/<n>.m4s`.
fn segment_number(key: &str) -> Option<u64> {
    let (_, name) = key.rsplit_once('/')?;
    name.strip_suffix(".m4s")?.parse().ok()
}

fn not_in_the_tree(key: &str, newest: u64) -> String {
    match segment_number(key) {
        Some(n) if n > newest => format!("Segment {n} is not on air yet; the newest is {newest}."),
        Some(n) => {
            format!("Segment {n} is not here, or has left the retention window; the newest is {newest}.")
        }
        None => "The stream has no such file. It begins with /live/stream.m3u8.".to_owned(),
    }
}

fn not_on_air() -> Response<Body> {
    respond::unavailable("The station is not on air yet.")
}

fn refusal(error: &UnixFsError) -> Response<Body> {
    let status = match error {
        UnixFsError::NotHeld { cid } => {
            let message =
                format!("This gateway serves only what this station holds, and block {cid} is not here.");
            return respond::text(StatusCode::NOT_FOUND, &message);
        }
        UnixFsError::NoSuchEntry { .. } | UnixFsError::NotADirectory { .. } => StatusCode::NOT_FOUND,
        UnixFsError::Sharded { .. } => StatusCode::NOT_IMPLEMENTED,
        UnixFsError::Invalid { .. } | UnixFsError::DagPb { .. } => StatusCode::BAD_GATEWAY,
        UnixFsError::Store { cid, source } => {
            report_store(cid, source);
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    respond::text(status, &format!("{error}."))
}

fn report_store(cid: &Cid, error: &IpfsError) {
    tracing::warn!(%cid, %error, "a block could not be read for HTTP");
}
