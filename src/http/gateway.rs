//! Content by path: `/live`, `/ipfs`, `/ipns` and `/station.json`, and by host: `<cid>.ipfs.localhost`.
//!
//! By the path, trustless, subdomain and DNSLink gateway specifications (<https://specs.ipfs.tech/http-gateways/>) for what this
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
mod names;
mod redirect;
mod redirects_file;
mod refusal;
mod rewrite;
mod source;
mod tar;
mod tar_stream;
mod visit;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use multihash_codetable::{Code, MultihashDigest};
use tokio::sync::{Semaphore, watch};

use super::body::Body;
use super::call::Call;
use super::content_type;
use super::respond::{self, IMMUTABLE};
use crate::health::Health;
use crate::ipfs::ipns::{Name, SignedRecord};
use crate::ipfs::names::{DnsLinks, Resolver, Root};
use crate::ipfs::unixfs::{self, Node, RAW, UnixFsError};
use crate::ipfs::{Blocks, Network};
use crate::metrics::Metrics;
use crate::publisher::stream_tree::{ARCHIVE, StreamTree};
pub use config::GatewayConfig;
use format::Format;
pub(super) use host::{Namespace, Site, dnslink, site};
use names::{Names, cache_control};
use source::{Source, Store};
use visit::{Found, Origin, Place, Visit};

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
    /// Whom the gateway asks for what is not here.
    pub upstream: Upstream,
    /// The station's health.
    pub health: Health,
    /// The station's metrics.
    pub metrics: Metrics,
}

/// Whom the gateway asks, as far as the configuration lets it: `[http.gateway]`, `fetch` and `dnslink_hosts`.
#[derive(Clone, Default)]
pub struct Upstream {
    /// For names of other keys; `None` without a network.
    pub resolver: Option<Resolver>,
    /// For DNSLinks; `None` where none is looked up.
    pub links: Option<DnsLinks>,
    /// To reach those who provide content; `None` without a network.
    pub network: Option<Network>,
}

/// What all connections share.
pub(super) struct Gateway {
    pub(super) content: Content,
    /// Hosts with an origin for each content root.
    pub(super) domains: Vec<String>,
    /// Hosts that stand for the content of their DNSLink.
    pub(super) dnslink_hosts: Vec<String>,
    own_name: Option<Name>,
    store: Arc<Store>,
    archives: Arc<Semaphore>,
}

impl Gateway {
    pub(super) fn new(content: Content, config: GatewayConfig) -> Gateway {
        let (domains, dnslink_hosts) = (config.domains.clone(), config.dnslink_hosts.clone());
        let (blocks, network) = (content.blocks.clone(), content.upstream.network.clone());
        let store = Arc::new(Store::new(blocks, network, config, content.metrics.clone()));
        let own_name = Name::parse(&content.ipns_name);
        let archives = Arc::new(Semaphore::new(MAX_ARCHIVES));
        Gateway { content, domains, dnslink_hosts, own_name, store, archives }
    }

    /// What the request may have: without `only-if-cached`, also of others, where the configuration allows it.
    fn source(&self, call: &Call) -> Source {
        let asks = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("only-if-cached"));
        self.store.source(call.headers.get_all(header::CACHE_CONTROL).iter().any(asks))
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
        return redirect::to_subdomain(call, Namespace::Ipfs, host::label(Namespace::Ipfs, text), domain);
    }
    by_cid(gateway, call, cid, Place::of_path(call, Namespace::Ipfs)).await
}

/// `/ipns/<name>[/path]`: the station's own name from the newest stream tree, others as far as they may be resolved.
pub(super) async fn ipns(gateway: &Gateway, call: &Call, site: Site<'_>) -> Response<Body> {
    if let Some(response) = redirect::before_reading(call) {
        return response;
    }
    let Some(text) = call.path.segments.get(1) else {
        return respond::text(StatusCode::BAD_REQUEST, "No name follows /ipns/.");
    };
    let (label, start) = (host::label(Namespace::Ipns, text), Root::of_name(text));
    let source = gateway.source(call);
    let names = Names { gateway, source: &source };
    match (&start, label, site) {
        (Some(Root::Domain(name)), _, _) if !names.may_look_up(name) => {
            return names.not_ours().response();
        }
        (Some(Root::Domain(name)), _, Site::Domain(domain)) => {
            return redirect::to_subdomain(call, Namespace::Ipns, host::inlined(name), domain);
        }
        (Some(Root::Domain(_)), ..) => {}
        (_, label @ (Ok(_) | Err(host::LabelError::TooLong)), Site::Domain(domain)) => {
            return redirect::to_subdomain(call, Namespace::Ipns, label, domain);
        }
        (_, Ok(canonical), _) if canonical != *text => return redirect::to_spelling(call, &canonical),
        _ => {}
    }
    let Some(start) = start else { return names.not_ours().response() };
    by_name(&names, call, start, Place::of_path(call, Namespace::Ipns)).await
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
        Err(host::LabelError::NoKey) => {
            let name = host::uninlined(label).to_ascii_lowercase();
            return by_domain(gateway, call, &name, Origin::Subdomain(domain)).await;
        }
        Err(error) => return bad(error),
    };
    if !canonical.eq_ignore_ascii_case(label) {
        return redirect::to_label(call, namespace, &canonical, domain);
    }
    let place = Place::of_host(call, namespace, &canonical, Origin::Subdomain(domain));
    match (namespace, Root::of_name(&canonical), host::root_of_label(&canonical)) {
        (Namespace::Ipns, Some(name), _) => {
            let source = gateway.source(call);
            by_name(&Names { gateway, source: &source }, call, name, place).await
        }
        (Namespace::Ipns, None, _) => bad(host::LabelError::NoKey),
        (Namespace::Ipfs, _, Ok(cid)) => by_cid(gateway, call, cid, place).await,
        (Namespace::Ipfs, _, Err(error)) => bad(error),
    }
}

/// `/[path]` of a host that stands for the content of its own DNSLink (DNSLink gateway specification).
pub(super) async fn dnslink_host(gateway: &Gateway, call: &Call, host: &str) -> Response<Body> {
    let name = host::without_port(host).to_ascii_lowercase();
    by_domain(gateway, call, &name, Origin::DnsLink(host)).await
}

async fn by_domain(gateway: &Gateway, call: &Call, name: &str, origin: Origin<'_>) -> Response<Body> {
    let source = gateway.source(call);
    let names = Names { gateway, source: &source };
    match Root::of_name(name) {
        Some(Root::Domain(domain)) if names.may_look_up(&domain) => {
            let place = Place::of_host(call, Namespace::Ipns, name, origin);
            by_name(&names, call, Root::Domain(domain), place).await
        }
        _ => names.not_ours().response(),
    }
}

async fn by_cid(gateway: &Gateway, call: &Call, root: Cid, place: Place<'_>) -> Response<Body> {
    let (found, source) = (Found::Content { root, inner: Vec::new() }, gateway.source(call).below(root));
    Visit { gateway, call, place, found, source }.answer().await
}

/// What is below a name, or the record of a key where that is asked for.
async fn by_name(names: &Names<'_>, call: &Call, start: Root, mut place: Place<'_>) -> Response<Body> {
    let (gateway, source) = (names.gateway, names.source);
    let best = || format::wanted(call).ok().and_then(|wanted| wanted.formats.into_iter().next());
    let found = match &start {
        Root::Key(name) if place.below.is_empty() && best() == Some(Format::IpnsRecord) => names
            .record(name)
            .await
            .map(|(record, kept_for)| (Found::Record(record), kept_for, source.clone())),
        _ => names.follow(start).await.map(|target| {
            let source = source.clone().below(target.root);
            (Found::Content { root: target.root, inner: target.inner }, target.fresh_for, source)
        }),
    };
    match found {
        Ok((found, fresh_for, source)) => {
            place.cache_control = cache_control(fresh_for).into();
            Visit { gateway, call, place, found, source }.answer().await
        }
        Err(error) => error.response(),
    }
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
