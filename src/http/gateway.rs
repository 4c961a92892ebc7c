//! Content by path: `/live`, `/ipfs`, `/ipns` and `/station.json`, and by host: `<cid>.ipfs.localhost`.
//!
//! By the path, trustless and subdomain gateway specifications (<https://specs.ipfs.tech/http-gateways/>) for what this
//! station holds. Nothing is fetched for a client unless the configuration says so, so a stranger can't make the board
//! download.

mod archive;
mod block_format;
mod car_request;
mod car_stream;
mod config;
mod disposition;
mod format;
mod host;
mod hot_blocks;
mod listing;
mod redirect;
mod refusal;
mod source;
mod tar;
mod tar_stream;
mod visit;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use hyper::{Response, StatusCode, header};
use multihash_codetable::{Code, MultihashDigest};
use tokio::sync::{Semaphore, watch};

use super::body::Body;
use super::call::Call;
use super::content_type;
use super::respond::{self, IMMUTABLE};
use crate::health::Health;
use crate::ipfs::Blocks;
use crate::ipfs::ipns::{SignedRecord, name as ipns_name};
use crate::ipfs::unixfs::{self, Node, RAW, UnixFsError};
use crate::metrics::Metrics;
use crate::publisher::stream_tree::{ARCHIVE, StreamTree};
pub use config::GatewayConfig;
pub(super) use host::{Namespace, Site, site};
use source::{Source, Store};
use visit::{Place, Visit};

/// For playlists and station.json. A new segment comes every 3.84 s (1.92 s): one second lets a proxy answer a crowd
/// with one request and delays nobody by more than a fraction of a segment.
const PLAYLIST_CACHE: &str = "public, max-age=1";

/// For init segments, whose name outlives a change of the configuration.
const INIT_CACHE: &str = "public, max-age=60";

/// CARs and TARs that are sent at the same time. Bounds the memory of their walks.
const MAX_ARCHIVES: usize = 16;

/// What HTTP may see of the station.
#[derive(Clone)]
pub struct Content {
    /// The blocks held.
    pub blocks: Blocks,
    /// The newest stream tree; `None` before the station is on air.
    pub tree: watch::Receiver<Option<Arc<StreamTree>>>,
    /// The signed IPNS record of the newest tree; `None` while there is none.
    pub record: watch::Receiver<Option<SignedRecord>>,
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

/// What all connections share.
pub(super) struct Gateway {
    pub(super) content: Content,
    /// Hosts with an origin for each content root.
    pub(super) domains: Vec<String>,
    store: Arc<Store>,
    archives: Arc<Semaphore>,
    ipns_cache: String,
}

impl Gateway {
    pub(super) fn new(content: Content, config: GatewayConfig) -> Gateway {
        let domains = config.domains.clone();
        let store = Arc::new(Store::new(content.blocks.clone(), config, content.metrics.clone()));
        let ipns_cache = format!("public, max-age={}", content.ipns_ttl.as_secs());
        Gateway { content, domains, store, archives: Arc::new(Semaphore::new(MAX_ARCHIVES)), ipns_cache }
    }

    /// What is here, whatever the configuration allows.
    fn held(&self) -> Source {
        self.store.source(true)
    }
}

/// `/live/<path>`: the newest stream tree.
pub(super) async fn live(gateway: &Gateway, call: &Call) -> Response<Body> {
    let Some(tree) = gateway.content.tree.borrow().clone() else { return not_on_air() };
    let key = call.path.segments[1..].join("/");
    if call.path.segments.get(1).is_some_and(|name| name == ARCHIVE) && tree.entries.contains_key(ARCHIVE) {
        return to_archive(&gateway.content, call);
    }
    let Some(entry) = tree.entries.get(&key).filter(|_| !call.path.directory) else {
        return respond::text(StatusCode::NOT_FOUND, &not_in_the_tree(&key, tree.newest));
    };
    let kind = content_type::of_name(&key);
    match unixfs::load(&gateway.held(), &entry.cid).await {
        Ok(Node::Raw(bytes)) => respond::bytes(call, &entry.cid.to_string(), live_cache(&key), kind, bytes),
        Ok(Node::File(file)) => {
            let etag = entry.cid.to_string();
            let of = respond::Representation {
                etag: &etag,
                len: file.size,
                content_type: kind,
                cache_control: live_cache(&key),
            };
            visit::file(call, gateway.held(), &file, &of).await.unwrap_or_else(|response| response)
        }
        // The tick after this one has removed it.
        Ok(_) | Err(UnixFsError::NotHeld { .. }) => {
            respond::text(StatusCode::NOT_FOUND, &not_in_the_tree(&key, tree.newest))
        }
        Err(error) => refusal::of(&error, false),
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
pub(super) async fn ipfs(gateway: &Gateway, call: &Call, site: Site<'_>) -> Response<Body> {
    if let Some(response) = redirect::before_reading(call) {
        return response;
    }
    let text = call.path.segments.get(1).map_or("", String::as_str);
    let Some(cid) = host::parse(text) else {
        let message = format!("invalid path {:?}: what follows /ipfs/ is not a CID.", call.decoded_path());
        return respond::text(StatusCode::BAD_REQUEST, &message);
    };
    if let Site::Domain(domain) = site {
        return redirect::to_subdomain(call, Namespace::Ipfs, text, domain);
    }
    let place = Place::of_path(call, Namespace::Ipfs, IMMUTABLE);
    Visit::new(gateway, call, place, cid).answer().await
}

/// `/ipns/<name>[/path]` for the station's own name, from the newest stream tree.
pub(super) async fn ipns(gateway: &Gateway, call: &Call, site: Site<'_>) -> Response<Body> {
    if let Some(response) = redirect::before_reading(call) {
        return response;
    }
    let Some(name) = call.path.segments.get(1) else {
        return respond::text(StatusCode::BAD_REQUEST, "No name follows /ipns/.");
    };
    let canonical = host::label(Namespace::Ipns, name);
    match (site, canonical) {
        (Site::Domain(domain), Ok(_) | Err(host::LabelError::TooLong)) => {
            return redirect::to_subdomain(call, Namespace::Ipns, name, domain);
        }
        (_, Ok(canonical)) if canonical != *name => return redirect::to_spelling(call, &canonical),
        _ => {}
    }
    let place = Place::of_path(call, Namespace::Ipns, &gateway.ipns_cache);
    own_name(gateway, call, place, name).await
}

/// `/[path]` of the host `<label>.ipfs.<domain>` or `<label>.ipns.<domain>`.
pub(super) async fn subdomain(
    gateway: &Gateway,
    call: &Call,
    (namespace, label, domain): (Namespace, &str, &str),
) -> Response<Body> {
    let bad = |error: host::LabelError| {
        let message = format!("invalid host {label:?}.{}.{domain}: {error}.", namespace.name());
        respond::text(StatusCode::BAD_REQUEST, &message)
    };
    let canonical = match host::label(namespace, label)
        .or_else(|_| host::label(namespace, &label.to_ascii_lowercase()))
    {
        Ok(canonical) => canonical,
        Err(host::LabelError::NoKey) => return not_our_name(gateway),
        Err(error) => return bad(error),
    };
    if !canonical.eq_ignore_ascii_case(label) {
        return redirect::to_label(call, namespace, &canonical, domain);
    }
    let cached = if namespace == Namespace::Ipfs { IMMUTABLE } else { &gateway.ipns_cache };
    let place = Place::of_host(call, namespace, &canonical, domain, cached);
    match namespace {
        Namespace::Ipns => own_name(gateway, call, place, &canonical).await,
        Namespace::Ipfs => match host::root_of_label(&canonical) {
            Ok(cid) => Visit::new(gateway, call, place, cid).answer().await,
            Err(error) => bad(error),
        },
    }
}

/// What is below the station's own name.
async fn own_name(gateway: &Gateway, call: &Call, place: Place<'_>, name: &str) -> Response<Body> {
    if !ipns_name::same(name, &gateway.content.ipns_name) {
        return not_our_name(gateway);
    }
    let root = gateway.content.tree.borrow().as_ref().map(|tree| tree.root);
    let Some(root) = root else { return not_on_air() };
    Visit::new(gateway, call, place, root).answer().await
}

/// `/station.json`.
pub(super) fn station(gateway: &Gateway, call: &Call) -> Response<Body> {
    let json = gateway.content.station.borrow().clone();
    if json.is_empty() {
        return not_on_air();
    }
    let etag = Cid::new_v1(RAW, Code::Sha2_256.digest(&json)).to_string();
    respond::bytes(call, &etag, PLAYLIST_CACHE, "application/json", json)
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

fn not_in_the_tree(key: &str, newest: u64) -> Cow<'static, str> {
    match segment_number(key) {
        Some(n) if n > newest => format!("Segment {n} is not on air yet; the newest is {newest}.").into(),
        Some(n) => {
            format!("Segment {n} is not here, or has left the retention window; the newest is {newest}.")
                .into()
        }
        None => "The stream has no such file. It begins with /live/stream.m3u8.".into(),
    }
}

fn not_on_air() -> Response<Body> {
    respond::unavailable("The station is not on air yet.")
}

/// DNSLink names are no names of keys, and never ours.
fn not_our_name(gateway: &Gateway) -> Response<Body> {
    let own = &gateway.content.ipns_name;
    let message = format!("This gateway resolves only the name of its own station, {own}, and no DNSLink.");
    respond::text(StatusCode::NOT_FOUND, &message)
}
