//! A pinning service: the calls of the IPFS Pinning Services API 1.0.0 (<https://ipfs.github.io/pinning-services-api-spec/>).

use cid::Cid;
use serde_json::Value;

use super::PinError;
use super::pin_status::{self, Page, PinStatus, Status};
use crate::http_client::{Answer, Client, Method, Request, escaped, whole};

/// Pins of one page.
const PAGE: usize = 100;
/// Pages that are read: bounds what a service that never ends can cost.
const MAX_PAGES: usize = 64;

/// Which names a listing is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The name itself.
    Exact,
    /// Names that it is a part of, where the service can do that.
    Partial,
}

/// The service; one connection a call.
#[derive(Clone)]
pub(super) struct Service {
    client: Client,
}

impl Service {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every pin that is `ours`, of those whose name matches, whatever its status.
    pub(super) async fn list(
        &self,
        name: &str,
        matching: Match,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<PinStatus>, PinError> {
        const OPERATION: &str = "list";
        let matching = if matching == Match::Exact { "exact" } else { "partial" };
        let query = format!("?name={}&match={matching}&status={}&limit={PAGE}", escaped(name), Status::ALL);
        let (mut found, mut before) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let target = match &before {
                Some(before) => format!("/pins{query}&before={}", escaped(before)),
                None => format!("/pins{query}"),
            };
            let answer = self.call(OPERATION, Request::new(Method::Get, target)).await?;
            let page = pin_status::parse_page(&answer.body, &ours);
            let Page { found: pins, next } = page.map_err(|reason| wrong(OPERATION, reason))?;
            found.extend(pins);
            // The same page again would have no end.
            if next.is_none() || next == before {
                break;
            }
            before = next;
        }
        Ok(found)
    }

    /// Pins.
    pub(super) async fn add(&self, pin: &Value, cid: &Cid) -> Result<PinStatus, PinError> {
        self.submit("add", "/pins".into(), pin, cid).await
    }

    /// Pins in the place of another pin, which the service deletes.
    pub(super) async fn replace(
        &self,
        requestid: &str,
        pin: &Value,
        cid: &Cid,
    ) -> Result<PinStatus, PinError> {
        self.submit("replace", path(requestid), pin, cid).await
    }

    /// How a pin does.
    pub(super) async fn look(&self, requestid: &str) -> Result<PinStatus, PinError> {
        const OPERATION: &str = "get";
        let answer = self.call(OPERATION, Request::new(Method::Get, path(requestid))).await?;
        let pin = pin_status::parse(&answer.body).map_err(|reason| wrong(OPERATION, reason))?;
        if pin.requestid != requestid {
            return Err(wrong(OPERATION, format!("it is about request {:?}", pin.requestid)));
        }
        Ok(pin)
    }

    /// Deletes a pin.
    pub(super) async fn remove(&self, requestid: &str) -> Result<(), PinError> {
        self.call("remove", Request::new(Method::Delete, path(requestid))).await.map(drop)
    }

    async fn submit(
        &self,
        operation: &'static str,
        target: String,
        pin: &Value,
        cid: &Cid,
    ) -> Result<PinStatus, PinError> {
        let request = Request::new(Method::Post, target).with("application/json", whole(pin.to_string()));
        let answer = self.call(operation, request).await?;
        let pin = pin_status::parse(&answer.body).map_err(|reason| wrong(operation, reason))?;
        if pin.cid.hash() != cid.hash() {
            return Err(wrong(operation, format!("it is about {}", pin.cid)));
        }
        Ok(PinStatus { cid: *cid, ..pin })
    }

    async fn call(&self, operation: &'static str, request: Request) -> Result<Answer, PinError> {
        let answer = self.client.send(request).await;
        judge(operation, answer.map_err(|source| PinError::Exchange { operation, source })?)
    }
}

fn path(requestid: &str) -> String {
    format!("/pins/{}", escaped(requestid))
}

fn wrong(operation: &'static str, reason: String) -> PinError {
    PinError::Answer { operation, reason }
}

fn judge(operation: &'static str, answer: Answer) -> Result<Answer, PinError> {
    match answer.status {
        200..=299 => Ok(answer),
        status @ (401 | 403) => Err(PinError::Unauthorized { operation, status }),
        404 => Err(PinError::Missing { operation }),
        status @ (429 | 503) => Err(PinError::Busy { operation, status, retry_after: answer.retry_after }),
        status => Err(PinError::Refused { operation, status, message: pin_status::failure(&answer.body) }),
    }
}
