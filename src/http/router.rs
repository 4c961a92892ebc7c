//! A request to its handler, and what every response has in common.

use std::net::IpAddr;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};

use super::body::Body;
use super::call::Call;
use super::gateway::{self, Gateway, Namespace, Site};
use super::{health, metrics, player_page, request_path, respond};

/// What a page of another origin may read of a response. The two streams are names of kubo's that clients ask for.
const EXPOSED: &str = "Accept-Ranges, Content-Length, Content-Location, Content-Range, ETag, Retry-After, \
     X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, X-Stream-Output";

/// What a page of another origin may send to the gateway.
const ALLOWED_HEADERS: &str = "Content-Type, If-None-Match, Range, User-Agent, X-Requested-With";

/// Name of the media playlist in each rendition's folder.
const MEDIA_PLAYLIST: &str = "live.m3u8";

/// Where proxies tell for whom they ask.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The kinds of request. Bounds the route label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Page,
    Assets,
    Live,
    Ipfs,
    Ipns,
    Station,
    Health,
    Alive,
    Ready,
    Metrics,
    Other,
}

impl Route {
    fn of(segments: &[String]) -> Route {
        match (segments.first().map(String::as_str), segments.len()) {
            (None, _) => Route::Page,
            (Some("assets"), _) => Route::Assets,
            (Some("live"), _) => Route::Live,
            (Some("ipfs"), _) => Route::Ipfs,
            (Some("ipns"), _) => Route::Ipns,
            (Some("station.json"), 1) => Route::Station,
            (Some("health"), 1) => Route::Health,
            (Some("healthz"), 1) => Route::Alive,
            (Some("readyz"), 1) => Route::Ready,
            (Some("metrics"), 1) => Route::Metrics,
            _ => Route::Other,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Route::Page => "page",
            Route::Assets => "assets",
            Route::Live => "live",
            Route::Ipfs => "ipfs",
            Route::Ipns => "ipns",
            Route::Station => "station",
            Route::Health | Route::Alive | Route::Ready => "health",
            Route::Metrics => "metrics",
            Route::Other => "other",
        }
    }

    /// Content is for every page on the web. Health and metrics tell of the owner's network, so a foreign page in a
    /// browser on that network can't read them.
    fn is_content(self) -> bool {
        matches!(self, Route::Live | Route::Ipfs | Route::Ipns | Route::Station)
    }

    /// Whether the gateway specifications rule the answer.
    fn is_gateway(self) -> bool {
        matches!(self, Route::Ipfs | Route::Ipns)
    }

    fn methods(self) -> &'static str {
        if self.is_gateway() { "GET, HEAD, OPTIONS" } else { "GET, HEAD" }
    }
}

/// Answers one request.
pub(super) async fn answer<B>(
    gateway: &Gateway,
    request: Request<B>,
    client: Option<IpAddr>,
) -> Response<Body> {
    let (head, _) = request.into_parts();
    let path = request_path::parse(head.uri.path());
    let host = host(&head);
    let site = gateway::dnslink(&host, &gateway.dnslink_hosts);
    let site = site.unwrap_or_else(|| gateway::site(&host, &gateway.domains));
    let route = match (site, &path) {
        (Site::Content { namespace: Namespace::Ipfs, .. }, _) => Route::Ipfs,
        (Site::Content { namespace: Namespace::Ipns, .. } | Site::DnsLink(_), _) => Route::Ipns,
        (_, path) => path.as_ref().map_or(Route::Other, |path| Route::of(&path.segments)),
    };
    let is_head = head.method == Method::HEAD;
    let response = if head.method == Method::OPTIONS && route.is_gateway() {
        preflight()
    } else if !is_head && head.method != Method::GET {
        method_not_allowed(route)
    } else {
        match path {
            Ok(path) => {
                let raw_path = head.uri.path().to_owned();
                let query = head.uri.query().unwrap_or_default().to_owned();
                let (get, headers) = (!is_head, head.headers);
                let call = Call { get, headers, path, raw_path, query, gateway: route.is_gateway() };
                let response = dispatch(gateway, route, site, &call).await;
                count_listener(gateway, &call, route, client, response.status());
                response
            }
            Err(error) => respond::text(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    };
    metrics::count(&gateway.content.metrics, route.label(), response.status());
    finish(gateway, route, is_head, response)
}

/// Whoever is given a media playlist listens; behind a proxy on this machine, the proxy's client.
fn count_listener(gateway: &Gateway, call: &Call, route: Route, client: Option<IpAddr>, status: StatusCode) {
    let given = call.get && (status.is_success() || status == StatusCode::NOT_MODIFIED);
    let playlist = call.path.segments.last().is_some_and(|name| name == MEDIA_PLAYLIST);
    let Some(client) = client.filter(|_| given && playlist && route.is_content()) else { return };
    let forwarded = call.headers.get_all(FORWARDED_FOR).iter().next_back().filter(|_| client.is_loopback());
    // A proxy appends the address that it saw; what stands before, its client has made up.
    let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    gateway.content.health.heard_by(last.unwrap_or(client));
}

/// The host asked for: that of a proxy's client, of an address in full, or of the Host field.
fn host(head: &Parts) -> String {
    let field = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = field(HeaderName::from_static("x-forwarded-host"));
    let own = head.uri.authority().map(Authority::as_str).or_else(|| field(header::HOST));
    forwarded.or(own).unwrap_or_default().to_owned()
}

async fn dispatch(gateway: &Gateway, route: Route, site: Site<'_>, call: &Call) -> Response<Body> {
    match site {
        Site::Content { namespace, label, domain } => {
            return gateway::subdomain(gateway, call, (namespace, label, domain)).await;
        }
        Site::DnsLink(host) => return gateway::dnslink_host(gateway, call, host).await,
        Site::Station | Site::Domain(_) => {}
    }
    let content = &gateway.content;
    match route {
        Route::Live => gateway::live(gateway, call).await,
        Route::Ipfs => gateway::ipfs(gateway, call, site).await,
        Route::Ipns => gateway::ipns(gateway, call, site).await,
        Route::Page => page(call),
        _ if call.path.directory => not_found(),
        Route::Station => gateway::station(gateway, call),
        Route::Health => health::report(&content.health),
        Route::Alive => health::alive(),
        Route::Ready => health::ready(&content.health),
        Route::Metrics => metrics::page(&content.metrics),
        Route::Assets | Route::Other => page(call),
    }
}

/// The page and what it loads, packed for who takes it so. Asked for again at each visit, so an upgraded station never shows
/// a mix of old and new; the tag makes that a 304.
fn page(call: &Call) -> Response<Body> {
    let Some(asset) = player_page::asset(&call.decoded_path()) else { return not_found() };
    let gzip = call.takes_gzip();
    let (tag, body) = match gzip {
        true => (asset.packed_tag(), bytes::Bytes::from_static(asset.packed)),
        false => (asset.cid.clone(), asset.unpacked().into()),
    };
    let mut response = respond::bytes(call, &tag, "no-cache", asset.content_type, body);
    respond::set(&mut response, header::VARY, "Accept-Encoding");
    if gzip && response.status().is_success() {
        respond::set(&mut response, header::CONTENT_ENCODING, "gzip");
    }
    if asset.content_type.starts_with("text/html") {
        respond::set(&mut response, header::CONTENT_SECURITY_POLICY, player_page::CONTENT_SECURITY_POLICY);
    }
    response
}

fn not_found() -> Response<Body> {
    respond::text(StatusCode::NOT_FOUND, "There is nothing here. The stream is /live/stream.m3u8.")
}

fn method_not_allowed(route: Route) -> Response<Body> {
    let mut response = respond::text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are allowed.");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(route.methods()));
    response
}

/// The answer to OPTIONS; what it allows stands in every answer of the gateway.
fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(Route::Ipfs.methods()));
    response
}

/// A response to HEAD keeps every header and loses its body (RFC 9110 section 9.3.2).
fn finish(gateway: &Gateway, route: Route, is_head: bool, response: Response<Body>) -> Response<Body> {
    let sent = gateway.content.metrics.http_response_bytes.clone();
    let mut response = response.map(|body| if is_head { Body::default() } else { body.counted(sent) });
    let mut fixed = |name: HeaderName, value| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if route.is_content() {
        fixed(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        fixed(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    if route.is_gateway() {
        fixed(header::ACCESS_CONTROL_ALLOW_METHODS, route.methods());
        fixed(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    }
    response
}
