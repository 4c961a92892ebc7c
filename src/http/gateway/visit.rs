//! One request for a content path: the format chosen, the path followed, the answer made.

use std::borrow::Cow;

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, StreamExt, TryStreamExt};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::block_format::{Kind, has, kind_of};
use super::format::{self, BlockFormat, Format, Wanted};
use super::host::Namespace;
use super::source::Source;
use super::{Gateway, disposition, listing, redirect, refusal};
use crate::http::body::{Body, BodyError};
use crate::http::call::Call;
use crate::http::content_type::{self, BEGINNING};
use crate::http::respond::{self, IMMUTABLE, Representation};
use crate::ipfs::unixfs::{self, BlockReader, File, FileReader, Node, Resolved, UnixFsError};
use crate::ipfs::{Block, ipld};

const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// For pages that the gateway writes, which change with the program; under `/ipns` the TTL counts.
const PAGE_CACHE: &str = "public, max-age=604800, stale-while-revalidate=2678400";

/// The largest UnixFS file that is looked into to tell whether it is JSON.
const MAX_JSON: u64 = 1024 * 1024;

/// An answer, or the refusal that stands in for it.
pub(super) type Answered = Result<Response<Body>, Response<Body>>;

/// The origin that a browser gives content, and so what can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    /// That of the station, shared by all content.
    Shared,
    /// A subdomain of this domain of the gateway.
    Subdomain(&'a str),
    /// The host of a DNSLink, with its port.
    DnsLink(&'a str),
}

/// What a request is about.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// Content, `inner` below `root`.
    Content { root: Cid, inner: Vec<String> },
    /// The signed record of a name, as it was asked for.
    Record(Bytes),
}

/// Where a request stands in the content paths.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    namespace: Namespace,
    /// The segments below the root.
    pub(super) below: &'a [String],
    /// The content path in the spelling of the request, encoded.
    path: String,
    /// The root, in the spelling of the request.
    pub(super) root: &'a str,
    origin: Origin<'a>,
    pub(super) cache_control: Cow<'a, str>,
}

impl<'a> Place<'a> {
    /// `/<namespace>/<root>[/path]` on any host.
    pub(super) fn of_path(call: &'a Call, namespace: Namespace) -> Place<'a> {
        let (root, below) = (&call.path.segments[1], &call.path.segments[2..]);
        let path = redirect::ascii(&call.raw_path);
        let cache_control = Cow::Borrowed(IMMUTABLE);
        Place { namespace, below, path, root, origin: Origin::Shared, cache_control }
    }

    /// `[/path]` on the host of a root.
    pub(super) fn of_host(
        call: &'a Call,
        namespace: Namespace,
        root: &'a str,
        origin: Origin<'a>,
    ) -> Place<'a> {
        let path = redirect::ascii(&format!("/{}/{root}{}", namespace.name(), call.raw_path));
        let below = &call.path.segments[..];
        Place { namespace, below, path, root, origin, cache_control: Cow::Borrowed(IMMUTABLE) }
    }

    pub(super) fn has_own_origin(&self) -> bool {
        self.origin != Origin::Shared
    }

    /// Whether the path ends with a slash that somebody wrote: the root of a host always has one.
    fn is_directory(&self, call: &Call) -> bool {
        call.path.directory && !(self.below.is_empty() && self.has_own_origin())
    }
}

/// The request on its way.
pub(super) struct Visit<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) call: &'a Call,
    pub(super) place: Place<'a>,
    pub(super) found: Found,
    pub(super) source: Source,
}

impl Visit<'_> {
    pub(super) async fn answer(&self) -> Response<Body> {
        let wanted = match format::wanted(self.call) {
            Ok(wanted) => wanted,
            Err(error) => return refusal::of_format(&error),
        };
        let (format, roots, mut response) = match self.negotiate(&wanted).await {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            respond::set(&mut response, X_IPFS_PATH, &self.place.path);
            if !roots.is_empty() {
                let roots: Vec<_> = roots.iter().map(Cid::to_string).collect();
                respond::set(&mut response, X_IPFS_ROOTS, &roots.join(","));
            }
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
            if wanted.by_header && *format != Format::File {
                respond::set(&mut response, header::CONTENT_LOCATION, &self.location(format));
            }
        }
        response
    }

    /// The best of the wanted formats that this content has.
    async fn negotiate<'w>(
        &self,
        wanted: &'w Wanted,
    ) -> Result<(&'w Format, Vec<Cid>, Response<Body>), Response<Body>> {
        let (root, inner) = match &self.found {
            Found::Content { root, inner } => (*root, inner),
            Found::Record(record) => {
                return Ok((&wanted.formats[0], Vec::new(), self.record(record.clone())));
            }
        };
        let mut formats = wanted.formats.iter().filter(|format| **format != Format::IpnsRecord);
        let Some(first) = formats.clone().next() else {
            let message = "An ipns-record is had from /ipns/<key>, without a path.";
            return Err(respond::text(StatusCode::BAD_REQUEST, message));
        };
        let root = self.base(root, inner).await?;
        if *first == Format::Raw && self.place.below.is_empty() {
            return Ok((first, vec![root], self.raw(root).await?));
        }
        let resolved = match unixfs::resolve(&self.source, root, self.place.below).await {
            Ok(resolved) => resolved,
            Err(error) if *first == Format::File => {
                let ruled = self.by_rules(root, &error).await?;
                let (roots, response) = ruled.ok_or_else(|| self.refuse(&error))?;
                return Ok((first, roots, response));
            }
            Err(error) => return Err(self.refuse(&error)),
        };
        if !resolved.remainder.is_empty() {
            let message = format!("{} goes on inside of a block, where no link leads.", self.place.path);
            return Err(respond::text(StatusCode::NOT_IMPLEMENTED, &message));
        }
        let chosen = formats.find(|format| has(&resolved.node, &resolved.cid, format));
        let chosen = chosen.unwrap_or(first);
        let response = self.as_format(chosen, wanted.html, &resolved).await?;
        let response = match response {
            Some(response) => response,
            // It looked like JSON could be had, and its bytes are none.
            None => {
                let other = formats.find(|format| has(&resolved.node, &resolved.cid, format));
                let other = other.ok_or_else(|| not_acceptable(&resolved.cid, chosen))?;
                let response = self.as_format(other, wanted.html, &resolved).await?;
                return Ok((
                    other,
                    resolved.roots,
                    response.ok_or_else(|| not_acceptable(&resolved.cid, other))?,
                ));
            }
        };
        Ok((chosen, resolved.roots, response))
    }

    /// The CID that the root of the path stands for.
    async fn base(&self, root: Cid, inner: &[String]) -> Result<Cid, Response<Body>> {
        if inner.is_empty() {
            return Ok(root);
        }
        let resolved = unixfs::resolve(&self.source, root, inner).await;
        resolved.map(|resolved| resolved.cid).map_err(|error| self.refuse(&error))
    }

    /// `None` where the content has no such form.
    async fn as_format(
        &self,
        format: &Format,
        html: bool,
        resolved: &Resolved,
    ) -> Result<Option<Response<Body>>, Response<Body>> {
        let cid = resolved.cid;
        match (format, &resolved.node) {
            (Format::File, node) => self.content(cid, node, html).await.map(Some),
            (Format::Raw, _) => self.raw(cid).await.map(Some),
            (Format::Car(request), _) => self.car(request, resolved).map(Some),
            (Format::Tar, _) => self.tar(resolved).await.map(Some),
            (Format::IpnsRecord, _) => Ok(None),
            (Format::Block(format), Node::Other(bytes)) => {
                Ok(kind_of(&cid, Some(*format)).map(|kind| self.block(cid, bytes.clone(), &kind)))
            }
            (Format::Block(BlockFormat::Json), Node::Raw(_) | Node::File(_)) => {
                self.json(cid, &resolved.node).await
            }
            (Format::Block(_), _) => Ok(None),
        }
    }

    /// A file, a page, or a block of data.
    pub(super) async fn content(&self, cid: Cid, node: &Node, html: bool) -> Answered {
        let call = self.call;
        match node {
            Node::Directory(_) | Node::Shard(_) => self.directory(cid, node).await,
            Node::Other(bytes) => {
                let Some(kind) = kind_of(&cid, None) else {
                    let message =
                        format!("The codec of {cid} is not known; its block can be had with ?format=raw.");
                    return Err(respond::text(StatusCode::BAD_REQUEST, &message));
                };
                if html && kind.preview {
                    self.preview(cid, bytes, &kind)
                } else {
                    Ok(self.block(cid, bytes.clone(), &kind))
                }
            }
            _ if self.place.is_directory(call) => {
                let message = "This is a file: its path ends without a slash.";
                Err(respond::text(StatusCode::NOT_FOUND, message))
            }
            _ => {
                let name = call.path.segments.last().filter(|_| !self.place.below.is_empty());
                self.send(cid, cid, node, name.map_or("", String::as_str)).await
            }
        }
    }

    /// The index.html of a directory, or else its page of links.
    async fn directory(&self, cid: Cid, node: &Node) -> Answered {
        let call = self.call;
        if !call.path.directory {
            return Err(redirect::with_slash(call));
        }
        match unixfs::entry(&self.source, cid, node, "index.html").await {
            Ok(index) => {
                let page =
                    unixfs::load(&self.source, &index.cid).await.map_err(|error| self.refuse(&error))?;
                // Tagged as the directory: the tag names what the address does.
                return self.send(cid, index.cid, &page, "index.html").await;
            }
            Err(UnixFsError::NoSuchEntry { .. }) => {}
            Err(error) => return Err(self.refuse(&error)),
        }
        let etag = format!("DirIndex-{}_CID-{cid}", listing::VERSION);
        // Large directories take many blocks: whoever has the page costs none of them.
        let page = if respond::is_known(call, &etag) {
            String::new()
        } else {
            let entries = unixfs::list(&self.source, cid, node, listing::MAX_ENTRIES).await;
            let entries = entries.map_err(|error| self.refuse(&error))?;
            self.written(|place| listing::page(place, &entries))
        };
        Ok(respond::bytes(call, &etag, self.page_cache(), "text/html; charset=utf-8", page.into()))
    }

    fn preview(&self, cid: Cid, bytes: &Bytes, kind: &Kind) -> Answered {
        let text = match (cid.codec(), ipld::decode(&cid, bytes)) {
            (ipld::DAG_CBOR, Some(value)) => format!("{value:#?}"),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        let page = self.written(|place| listing::preview(place, &cid, kind.format, &text));
        let etag = format!("DagIndex-{}_CID-{cid}", listing::VERSION);
        Ok(respond::bytes(self.call, &etag, self.page_cache(), "text/html; charset=utf-8", page.into()))
    }

    /// A page of our own, which knows where it stands.
    fn written(&self, page: impl FnOnce(&listing::Place<'_>) -> String) -> String {
        let mut segments = vec![self.place.namespace.name(), self.place.root];
        segments.extend(self.place.below.iter().map(String::as_str));
        let (gateway, host) = match self.place.origin {
            Origin::Shared => (String::new(), None),
            Origin::Subdomain(domain) => (format!("//{domain}"), None),
            Origin::DnsLink(host) => (String::new(), Some(host)),
        };
        let path = redirect::ascii(&self.call.raw_path);
        page(&listing::Place { segments: &segments, gateway: &gateway, host, path: &path })
    }

    fn page_cache(&self) -> &str {
        if self.place.cache_control == IMMUTABLE { PAGE_CACHE } else { &self.place.cache_control }
    }

    /// The bytes of a file, tagged with `tag`.
    async fn send(&self, tag: Cid, cid: Cid, node: &Node, name: &str) -> Answered {
        let filename = self.call.parameter("filename").filter(|name| !name.is_empty());
        let name = filename.as_deref().unwrap_or(name);
        let (etag, cache_control) = (tag.to_string(), &*self.place.cache_control);
        let mut response = match node {
            Node::Raw(bytes) => {
                let kind = self.kind(name, || (bytes.slice(..bytes.len().min(4096)), bytes.len() <= 4096));
                respond::bytes(self.call, &etag, cache_control, kind, bytes.clone())
            }
            Node::File(file) => {
                let content_type = match content_type::is_told_by(name) {
                    true => content_type::of_name(name),
                    false => self.look_into(file).await,
                };
                let of = Representation { etag: &etag, len: file.size, content_type, cache_control };
                self::file(self.call, self.source.clone(), file, &of).await?
            }
            Node::Symlink(target) => {
                let target = Bytes::from(target.clone());
                respond::bytes(self.call, &etag, cache_control, "inode/symlink", target)
            }
            Node::Directory(_) | Node::Shard(_) | Node::Other(_) => {
                let message = format!("{cid} is no file, and index.html has to be one.");
                return Err(respond::text(StatusCode::NOT_FOUND, &message));
            }
        };
        let download = self.call.parameter("download").is_some_and(|value| value == "true");
        if download || filename.is_some() {
            let name = if name.is_empty() { self.place.root } else { name };
            let kind = if download { "attachment" } else { "inline" };
            respond::set(&mut response, header::CONTENT_DISPOSITION, &disposition::header(kind, name));
        }
        Ok(response)
    }

    fn kind(&self, name: &str, beginning: impl FnOnce() -> (Bytes, bool)) -> &'static str {
        if content_type::is_told_by(name) {
            return content_type::of_name(name);
        }
        let (bytes, whole) = beginning();
        content_type::of_content(&bytes, whole)
    }

    /// The type by the first bytes, where they are here: a range further on needs none of them.
    async fn look_into(&self, file: &File) -> &'static str {
        let mut reader = FileReader::new(self.gateway.held(), file, 0..BEGINNING as u64);
        let beginning = reader.next().await.ok().flatten().unwrap_or_default();
        content_type::of_content(&beginning, beginning.len() as u64 == file.size)
    }

    /// A UnixFS file, if it is JSON.
    async fn json(&self, cid: Cid, node: &Node) -> Result<Option<Response<Body>>, Response<Body>> {
        let bytes = match node {
            Node::Raw(bytes) => bytes.clone(),
            Node::File(file) if file.size <= MAX_JSON => {
                let reader = FileReader::new(self.source.clone(), file, 0..file.size);
                let chunks: Result<Vec<Bytes>, _> = reader.into_stream().try_collect().await;
                chunks.map_err(|error| self.refuse(&error))?.concat().into()
            }
            _ => return Ok(None),
        };
        let json = content_type::is_json(&bytes);
        let (etag, cached) = (cid.to_string(), &self.place.cache_control);
        Ok(json.then(|| respond::bytes(self.call, &etag, cached, "application/json", bytes)))
    }

    /// A block of a codec that is a format by itself.
    fn block(&self, cid: Cid, bytes: Bytes, kind: &Kind) -> Response<Body> {
        let etag = format!("{cid}.{}", kind.format);
        let cached = &self.place.cache_control;
        let mut response = respond::bytes(self.call, &etag, cached, kind.content_type, bytes);
        let inline = kind.inline && self.call.parameter("download").is_none_or(|value| value != "true");
        let disposition = if inline { "inline" } else { "attachment" };
        self.name(&mut response, disposition, &format!("{cid}.{}", kind.extension));
        response
    }

    async fn raw(&self, cid: Cid) -> Answered {
        let bytes = unixfs::block(&self.source, &cid).await.map_err(|error| self.refuse(&error))?;
        let (etag, cached) = (format!("{cid}.raw"), &self.place.cache_control);
        let mut response = respond::bytes(self.call, &etag, cached, "application/vnd.ipld.raw", bytes);
        self.name(&mut response, "attachment", &format!("{cid}.bin"));
        Ok(response)
    }

    fn record(&self, record: Bytes) -> Response<Body> {
        let etag = format!("{}.ipns-record", Block::raw(record.clone()).cid);
        let (kind, cached) = ("application/vnd.ipfs.ipns-record", &self.place.cache_control);
        let mut response = respond::bytes(self.call, &etag, cached, kind, record);
        self.name(&mut response, "attachment", &format!("{}.ipns-record", self.place.root));
        response
    }

    /// Names the answer as a file, by the query or else by `own`.
    pub(super) fn name(&self, response: &mut Response<Body>, kind: &str, own: &str) {
        let filename = self.call.parameter("filename").filter(|name| !name.is_empty());
        let header = disposition::header(kind, filename.as_deref().unwrap_or(own));
        respond::set(response, header::CONTENT_DISPOSITION, &header);
    }

    /// The address of what the Accept field asked for.
    fn location(&self, format: &Format) -> String {
        let kept = self.call.query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("format="));
        let mut query: Vec<_> = kept.map(str::to_owned).collect();
        query.push(format!("format={}", format.name()));
        if let Format::Car(request) = format {
            query.retain(|pair| !pair.starts_with("car-"));
            query.push("car-version=1&car-order=dfs".to_owned());
            query.push(format!("car-dups={}", if request.duplicates { "y" } else { "n" }));
        }
        redirect::ascii(&format!("{}?{}", self.call.raw_path, query.join("&")))
    }

    pub(super) fn refuse(&self, error: &UnixFsError) -> Response<Body> {
        refusal::of(error, self.source.only_if_cached)
    }
}

fn not_acceptable(cid: &Cid, format: &Format) -> Response<Body> {
    let message = format!(
        "{cid} is not {} by its codec, and nothing is converted; ?format=raw gives the block.",
        format.name()
    );
    respond::text(StatusCode::NOT_ACCEPTABLE, &message)
}

/// A file, whole or in part. The first block is read before the head goes out, so that a missing file is an error and
/// not a short answer.
pub(super) async fn file<S: BlockReader>(
    call: &Call,
    source: S,
    file: &File,
    of: &Representation<'_>,
) -> Answered {
    let selection = respond::select(call, of.etag, file.size);
    let mut response = respond::head(&selection, of);
    let Some(range) = selection.range(file.size).filter(|_| call.get) else { return Ok(response) };
    let mut reader = FileReader::new(source, file, range.clone());
    let first = reader.next().await.map_err(|error| refusal::of(&error, false))?;
    let chunks = stream::iter(first.map(Ok)).chain(reader.into_stream()).map_err(BodyError::from);
    *response.body_mut() = Body::stream(chunks.boxed(), range.end - range.start);
    Ok(response)
}
