//! Where a name leads: the station's own to the newest stream tree, others by their records and DNSLinks as far as the
//! owner allows it.

use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::source::Source;
use super::{Gateway, refusal};
use crate::http::body::Body;
use crate::http::respond;
use crate::ipfs::ipns::{Name, Record};
use crate::ipfs::names::resolver::Fresh;
use crate::ipfs::names::{ContentPath, DnsLink, DnsLinkError, ResolveError, Root};
use crate::ipfs::unixfs::NotFetched;

/// Names that may lead to names (DNSLink gateway specification, "Host": "a hard recursion limit").
const MAX_STEPS: usize = 32;

/// How long caches may keep a record whose TTL is longer (path gateway specification, "Cache-Control": an upper bound).
const MOST_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Content that a name stands for at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) root: Cid,
    /// The segments between the root and what the name stands for.
    pub(super) inner: Vec<String>,
    /// How long that may be kept.
    pub(super) fresh_for: Duration,
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    #[error("This gateway resolves only the name of its own station, {own}, and no DNSLink of others.")]
    NotOurs { own: String },
    #[error("The station is not on air yet.")]
    OffAir,
    #[error("Where {0} leads is not known here, and only-if-cached asks for no more.")]
    NotKnown(String),
    #[error("The name {name} could not be resolved: {reason}.")]
    NotAnswered { name: String, reason: NotFetched },
    #[error("The name {name} could not be resolved: {source}.")]
    Record { name: String, source: ResolveError },
    #[error("The name could not be resolved: {0}.")]
    Link(#[from] DnsLinkError),
    #[error("The record of {name} leads to {value:?}, which is no path that can be followed.")]
    Value { name: String, value: String },
    #[error("The name leads from name to name, more than {MAX_STEPS} times or to too long a path.")]
    TooDeep,
}

impl NameError {
    /// Path gateway specification, "Response Status Codes".
    pub(super) fn response(&self) -> Response<Body> {
        let status = match self {
            NameError::OffAir => return respond::unavailable(&self.to_string()),
            NameError::NotOurs { .. } | NameError::Link(DnsLinkError::NoLink { .. }) => StatusCode::NOT_FOUND,
            NameError::NotKnown(_) => StatusCode::PRECONDITION_FAILED,
            NameError::TooDeep => StatusCode::BAD_REQUEST,
            NameError::NotAnswered { reason, .. } => refusal::status_of(*reason),
            NameError::Record { source: ResolveError::Busy, .. } => StatusCode::SERVICE_UNAVAILABLE,
            NameError::Record { .. } | NameError::Link(_) | NameError::Value { .. } => {
                StatusCode::BAD_GATEWAY
            }
        };
        let mut response = respond::text(status, &self.to_string());
        if status.is_server_error() {
            let later = HeaderValue::from_static(refusal::RETRY_FETCH);
            response.headers_mut().insert(header::RETRY_AFTER, later);
        }
        response
    }
}

/// Follows names of one request.
pub(super) struct Names<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) source: &'a Source,
}

impl Names<'_> {
    /// Whether `domain` may be looked up: the owner named it, or lets everything be.
    pub(super) fn may_look_up(&self, domain: &str) -> bool {
        self.source.open || self.is_listed(domain)
    }

    fn is_listed(&self, domain: &str) -> bool {
        self.gateway.dnslink_hosts.iter().any(|listed| listed == domain)
    }

    /// The content that `start` leads to, through as many names as it takes.
    pub(super) async fn follow(&self, start: Root) -> Result<Target, NameError> {
        let mut at = ContentPath { root: start, rest: Vec::new() };
        let mut fresh_for = Duration::MAX;
        for _ in 0..=MAX_STEPS {
            let (next, ttl) = match &at.root {
                Root::Content(root) => return Ok(Target { root: *root, inner: at.rest, fresh_for }),
                Root::Key(name) if self.is_own(name) => {
                    let tree = self.gateway.content.tree.borrow().as_ref().map(|tree| tree.root);
                    let fresh_for = fresh_for.min(self.gateway.content.ipns_ttl);
                    return Ok(Target { root: tree.ok_or(NameError::OffAir)?, inner: at.rest, fresh_for });
                }
                Root::Key(name) => self.by_record(name).await?,
                Root::Domain(domain) => self.by_dns(domain).await.map(|link| (link.path, link.fresh_for))?,
            };
            fresh_for = fresh_for.min(ttl);
            at = next.join(at.rest).ok_or(NameError::TooDeep)?;
        }
        Err(NameError::TooDeep)
    }

    /// The newest record of a key, signed, and how long it may be kept.
    pub(super) async fn record(&self, name: &Name) -> Result<(Bytes, Duration), NameError> {
        if self.is_own(name) {
            let record = self.gateway.content.record.borrow().clone().ok_or(NameError::OffAir)?;
            return Ok((record.bytes, self.gateway.content.ipns_ttl));
        }
        let Fresh { record, .. } = self.resolved(name).await?;
        let Record { ttl, bytes, .. } = &*record;
        Ok((bytes.clone(), (*ttl).min(MOST_KEPT)))
    }

    fn is_own(&self, name: &Name) -> bool {
        self.gateway.own_name == Some(*name)
    }

    async fn by_record(&self, name: &Name) -> Result<(ContentPath, Duration), NameError> {
        let Fresh { record, fresh_for } = self.resolved(name).await?;
        let path = ContentPath::parse(&record.value);
        let value = || NameError::Value { name: name.to_string(), value: record.value.clone() };
        Ok((path.ok_or_else(value)?, fresh_for))
    }

    async fn resolved(&self, name: &Name) -> Result<Fresh, NameError> {
        let resolver = self.gateway.content.upstream.resolver.as_ref();
        let Some(resolver) = resolver.filter(|_| self.source.open) else {
            return Err(self.not_ours());
        };
        if let Some(known) = resolver.known(name) {
            return Ok(known);
        }
        self.may_wait(&name.to_string())?;
        let resolved = self.source.wait(resolver.resolve_fresh(name)).await;
        let resolved =
            resolved.map_err(|reason| NameError::NotAnswered { name: name.to_string(), reason })?;
        resolved.map_err(|source| NameError::Record { name: name.to_string(), source })
    }

    async fn by_dns(&self, domain: &str) -> Result<DnsLink, NameError> {
        let links = self.gateway.content.upstream.links.as_ref();
        let Some(links) = links.filter(|_| self.may_look_up(domain)) else { return Err(self.not_ours()) };
        if let Some(known) = links.known(domain) {
            return Ok(known?);
        }
        self.may_wait(domain)?;
        let found = self.source.wait(links.look_up(domain)).await;
        Ok(found.map_err(|reason| NameError::NotAnswered { name: domain.to_owned(), reason })??)
    }

    fn may_wait(&self, name: &str) -> Result<(), NameError> {
        match self.source.only_if_cached {
            true => Err(NameError::NotKnown(name.to_owned())),
            false => Ok(()),
        }
    }

    pub(super) fn not_ours(&self) -> NameError {
        NameError::NotOurs { own: self.gateway.content.ipns_name.clone() }
    }
}

/// `Cache-Control` of what is fresh for so long; a second that has begun counts, so that no cache asks too early.
pub(super) fn cache_control(fresh_for: Duration) -> String {
    format!("public, max-age={}", fresh_for.as_millis().div_ceil(1_000))
}
