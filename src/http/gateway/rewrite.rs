//! What the `_redirects` file of a site makes of a path that the site does not have (web redirects file specification,
//! "Evaluation").

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};

use super::redirects_file::{MAX_BYTES, Rules, RulesError};
use super::visit::{Found, Visit};
use super::{format, redirect};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::{request_path, respond};
use crate::ipfs::unixfs::{self, FileReader, Node, Resolved, UnixFsError};

/// The file, below the root of the site ("File Name and Location").
const NAME: &str = "_redirects";

/// The CIDs on the way to the content, and the answer.
type Ruled = (Vec<Cid>, Response<Body>);

impl Visit<'_> {
    /// The answer of the rules of the site under `root`; `None` where there is none, or where other sites share the
    /// origin ("Same-Origin Requirement").
    pub(super) async fn by_rules(
        &self,
        root: Cid,
        error: &UnixFsError,
    ) -> Result<Option<Ruled>, Response<Body>> {
        if !self.place.has_own_origin() || !is_missing(error) {
            return Ok(None);
        }
        let Some(rules) = self.rules(root).await? else { return Ok(None) };
        let Some(outcome) = rules.find(self.place.below, &self.call.query) else { return Ok(None) };
        let status = StatusCode::from_u16(outcome.status).map_err(|error| broken(&error))?;
        if status.is_redirection() {
            let response = respond::redirect(status, &redirect::ascii(&outcome.to));
            return Ok(Some((Vec::new(), response)));
        }
        let path = outcome.to.split(['?', '#']).next().unwrap_or_default();
        let call = self.call_of(path, status.is_success()).map_err(|error| broken(&error))?;
        let mut place = self.place.clone();
        place.below = &call.path.segments;
        let found = Found::Content { root, inner: Vec::new() };
        let rewritten =
            Visit { gateway: self.gateway, call: &call, place, found, source: self.source.clone() };
        match unixfs::resolve(&self.source, root, &call.path.segments).await {
            Ok(resolved) if status.is_success() => rewritten.rewrite(resolved).await.map(Some),
            Ok(resolved) => rewritten.page_of(status, resolved).await.map(Some),
            Err(error) if status.is_success() => Err(self.refuse(&error)),
            Err(error) => Err(respond::text(status, &format!("The page about this is not there: {error}."))),
        }
    }

    /// The same request for another path. Conditions and ranges count for what is there alone (RFC 9110 section 13.2.1).
    fn call_of(&self, path: &str, conditional: bool) -> Result<Call, request_path::PathError> {
        let (headers, query) = match conditional {
            true => (self.call.headers.clone(), self.call.query.clone()),
            false => (HeaderMap::new(), String::new()),
        };
        let (get, gateway) = (self.call.get, self.call.gateway);
        Ok(Call { get, headers, path: request_path::parse(path)?, raw_path: path.to_owned(), query, gateway })
    }

    async fn rewrite(&self, resolved: Resolved) -> Result<Ruled, Response<Body>> {
        let html = format::wanted(self.call).is_ok_and(|wanted| wanted.html);
        let response = self.content(resolved.cid, &resolved.node, html).await?;
        Ok((resolved.roots, response))
    }

    async fn page_of(&self, status: StatusCode, resolved: Resolved) -> Result<Ruled, Response<Body>> {
        let mut response = self.content(resolved.cid, &resolved.node, false).await?;
        if response.status().is_success() {
            *response.status_mut() = status;
        }
        Ok((resolved.roots, response))
    }

    /// The rules under `root`; `None` where there is no file of them.
    async fn rules(&self, root: Cid) -> Result<Option<Rules>, Response<Body>> {
        let node = match unixfs::resolve(&self.source, root, &[NAME.to_owned()]).await {
            Ok(found) => found.node,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(broken(&error)),
        };
        let bytes = match &node {
            Node::Raw(bytes) => bytes.clone(),
            Node::File(file) if file.size > MAX_BYTES as u64 => return Err(broken(&RulesError::TooLarge)),
            Node::File(file) => {
                let reader = FileReader::new(self.source.clone(), file, 0..file.size);
                let chunks: Result<Vec<Bytes>, _> = reader.into_stream().try_collect().await;
                chunks.map_err(|error| broken(&error))?.concat().into()
            }
            _ => return Err(broken(&"it is no file")),
        };
        Rules::parse(&bytes).map(Some).map_err(|error| broken(&error))
    }
}

/// Whether a path is not there, and nothing is wrong with what is.
fn is_missing(error: &UnixFsError) -> bool {
    matches!(error, UnixFsError::NoSuchEntry { .. } | UnixFsError::NotADirectory { .. })
}

/// 500 whatever it is ("Error Handling").
fn broken(reason: &dyn std::fmt::Display) -> Response<Body> {
    let message = format!("could not parse _redirects: {reason}.");
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, &message)
}
