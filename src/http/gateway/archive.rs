//! CARs and TARs: answers of many blocks that are made while they are sent.

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, BoxStream, StreamExt};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::car_request::{CarRequest, Scope};
use super::car_stream::{Walk, WalkError};
use super::format::FormatError;
use super::source::Source;
use super::tar_stream::{TarError, TarWalk};
use super::visit::{Answered, Visit};
use super::{listing, refusal};
use crate::http::body::{Body, BodyError};
use crate::http::respond;
use crate::ipfs::car;
use crate::ipfs::unixfs::{Node, Resolved};
use crate::metrics::{LimitLabel, Metrics};

/// What of a TAR is made before its head goes out, so that a small one that cannot be made is an error and not a short
/// answer.
const TAR_HEAD: usize = 64 * 1024;

/// Why an archive ends early.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error(transparent)]
    Car(#[from] WalkError),
    #[error(transparent)]
    Tar(#[from] TarError),
}

type Pieces = BoxStream<'static, Result<Bytes, ArchiveError>>;

impl Visit<'_> {
    pub(super) fn car(&self, request: &CarRequest, resolved: &Resolved) -> Answered {
        let len = match &resolved.node {
            Node::File(file) => Some(file.size),
            Node::Raw(bytes) => Some(bytes.len() as u64),
            _ => None,
        };
        if let (Scope::Entity(Some(range)), Some(len)) = (request.scope, len) {
            range.of(len).map_err(|error| refusal::of_format(&FormatError::from(error)))?;
        }
        let etag = request.etag(&resolved.cid, &resolved.visited);
        let mut response = self.archive(&etag, request.content_type());
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        self.name(&mut response, "attachment", &format!("{}.car", resolved.cid));
        if self.call.get {
            let walk = Walk::new(self.source.clone(), &resolved.visited, resolved.cid, request);
            *response.body_mut() = self.sent(car_pieces(resolved.cid, walk))?;
        }
        Ok(response)
    }

    pub(super) async fn tar(&self, resolved: &Resolved) -> Answered {
        let etag = format!("{}.x-tar.{}", resolved.cid, listing::VERSION);
        let mut response = self.archive(&etag, "application/x-tar");
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let root = self.place.below.last().map_or(self.place.root, String::as_str);
        self.name(&mut response, "attachment", &format!("{root}.tar"));
        if self.call.get {
            let mut walk = TarWalk::new(self.source.clone(), root.to_owned(), resolved.cid);
            let mut head = Vec::new();
            while head.iter().map(Bytes::len).sum::<usize>() < TAR_HEAD {
                match walk.next().await {
                    Ok(Some(bytes)) => head.push(bytes),
                    Ok(None) => break,
                    Err(TarError::UnixFs(error)) => return Err(self.refuse(&error)),
                    Err(error) => {
                        return Err(respond::text(StatusCode::NOT_ACCEPTABLE, &format!("{error}.")));
                    }
                }
            }
            let rest = stream::try_unfold(walk, |mut walk| async {
                Ok(walk.next().await?.map(|bytes| (bytes, walk)))
            });
            *response.body_mut() = self.sent(stream::iter(head.into_iter().map(Ok)).chain(rest).boxed())?;
        }
        Ok(response)
    }

    /// The head of an archive: nobody can ask for a part of it, and its tag is weak.
    fn archive(&self, etag: &str, content_type: &'static str) -> Response<Body> {
        let mut response = Response::new(Body::default());
        respond::set(&mut response, header::ETAG, &format!("W/\"{etag}\""));
        respond::set(&mut response, header::CACHE_CONTROL, &self.place.cache_control);
        if respond::is_known(self.call, etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
        response
    }

    /// The archive as it is made; holds its place among all until it is sent or given up.
    fn sent(&self, pieces: Pieces) -> Result<Body, Response<Body>> {
        let metrics = &self.gateway.content.metrics;
        let place = self.gateway.archives.clone().try_acquire_owned().map_err(|_| {
            refused(metrics, "archive_concurrent");
            respond::unavailable("As many CARs and TARs as may be are being sent; try again.")
        })?;
        let place = (place, Counted::new(metrics.clone()));
        let sent = stream::try_unfold((pieces, place), |(mut pieces, place)| async {
            match pieces.next().await {
                None => Ok(None),
                Some(Ok(bytes)) => Ok(Some((bytes, (pieces, place)))),
                Some(Err(error)) => {
                    if matches!(
                        error,
                        ArchiveError::Car(WalkError::TooLarge) | ArchiveError::Tar(TarError::TooLarge)
                    ) {
                        refused(&place.1.metrics, "archive_size");
                    }
                    tracing::debug!(%error, "a CAR or TAR ended early");
                    // A pause in which hyper sends what there is, so that the client sees how far it went.
                    tokio::task::yield_now().await;
                    Err(BodyError::from(error))
                }
            }
        });
        Ok(Body::endless(sent.boxed()))
    }
}

fn car_pieces(root: Cid, walk: Walk<Source>) -> Pieces {
    let sections =
        stream::try_unfold(walk, |mut walk| async { Ok(walk.next().await?.map(|section| (section, walk))) });
    stream::iter([Ok(car::header(&[root]))]).chain(sections).boxed()
}

fn refused(metrics: &Metrics, reason: &'static str) {
    metrics.gateway_refusals.get_or_create(&LimitLabel { reason }).inc();
}

/// One more archive while it lives.
struct Counted {
    metrics: Metrics,
}

impl Counted {
    fn new(metrics: Metrics) -> Counted {
        metrics.gateway_archives.inc();
        Counted { metrics }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.gateway_archives.dec();
    }
}
