//! The part of kubo's RPC that a mirror needs (<https://docs.ipfs.tech/reference/kubo/rpc/>), over plain HTTP/1.1.

mod endpoint;
mod transfer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::header;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::MirrorError;
pub use endpoint::Endpoint;
use transfer::Answer;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long nothing may move: no byte taken, none given.
pub const STALL: Duration = Duration::from_secs(30);

/// A connection to the mirror.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// Opens connections to the mirror.
pub trait Connect: Send + Sync {
    /// A fresh connection to `host`, which is a name or address with a port.
    fn connect<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Pipe>>>;
}

/// Over the network, names by the system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct Tcp;

impl Connect for Tcp {
    fn connect<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Pipe>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(host).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Pipe>)
        })
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Cause>;

/// A kubo, one connection a call.
#[derive(Clone)]
pub struct Kubo {
    endpoint: Endpoint,
    connect: Arc<dyn Connect>,
}

impl Kubo {
    /// The kubo at `endpoint`.
    pub fn new(endpoint: Endpoint, connect: Arc<dyn Connect>) -> Self {
        Self { endpoint, connect }
    }

    /// Imports a CAR and pins `root`, which kubo does only when it has every block under it. It never asks the network
    /// for one that is missing.
    ///
    /// # Errors
    /// [`MirrorError::Incomplete`] when blocks are missing; any error of a call.
    pub async fn import<S>(&self, root: Cid, car: S) -> Result<(), MirrorError>
    where
        S: Stream<Item = Result<Bytes, MirrorError>> + Send + 'static,
    {
        const OPERATION: &str = "dag/import";
        let (content_type, body) = multipart(car);
        let answer = self.call(OPERATION, "?pin-roots=true&stats=false", Some(&content_type), body).await?;
        for line in answer.lines(OPERATION)? {
            let line = &line["Root"];
            if line["Cid"]["/"].as_str().and_then(|cid| cid.parse().ok()) == Some(root) {
                return match line["PinErrorMsg"].as_str().unwrap_or_default() {
                    "" => Ok(()),
                    message => Err(MirrorError::Incomplete { root, message: shortened(message) }),
                };
            }
        }
        Err(MirrorError::Answer {
            operation: OPERATION,
            reason: "it does not say whether the root is pinned".into(),
        })
    }

    /// Gives the pin of `root` a name.
    ///
    /// # Errors
    /// Any error of a call.
    pub async fn name_pin(&self, root: Cid, name: &str) -> Result<(), MirrorError> {
        let query = format!("?arg={root}&name={}", escaped(name));
        self.call("pin/add", &query, None, empty()).await.map(drop)
    }

    /// The roots that are pinned under a name.
    ///
    /// # Errors
    /// Any error of a call.
    pub async fn pinned(&self, name: &str) -> Result<Vec<Cid>, MirrorError> {
        const OPERATION: &str = "pin/ls";
        let query = format!("?type=recursive&names=true&name={}", escaped(name));
        let answer = self.call(OPERATION, &query, None, empty()).await?;
        let mut roots = Vec::new();
        for line in answer.lines(OPERATION)? {
            // The filter is for names that contain the one asked for.
            let pins = line["Keys"].as_object().into_iter().flatten();
            let ours = pins.filter(|(_, pin)| pin["Name"] == name);
            roots.extend(ours.filter_map(|(cid, _)| cid.parse::<Cid>().ok()));
        }
        Ok(roots)
    }

    /// Removes the pin of `root`, if there is one.
    ///
    /// # Errors
    /// Any error of a call.
    pub async fn unpin(&self, root: Cid) -> Result<(), MirrorError> {
        match self.call("pin/rm", &format!("?arg={root}"), None, empty()).await {
            Err(MirrorError::Refused { message, .. }) if message.contains("not pinned") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn call(
        &self,
        operation: &'static str,
        query: &str,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Answer, MirrorError> {
        let host = self.endpoint.host();
        let failed = |source| MirrorError::Connect { host: host.to_owned(), source };
        let pipe = timeout(CONNECT_LIMIT, self.connect.connect(host)).await;
        let pipe = pipe.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
        let mut request = self.endpoint.request(operation, query);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let http = |source: Cause| MirrorError::Http { operation, source };
        let (progress, body) = transfer::watched(body);
        let request = request.body(body).map_err(|error| http(error.into()))?;
        let answer = transfer::exchange(pipe, request, &progress);
        tokio::select! {
            answer = answer => judge(operation, answer.map_err(http)?),
            () = progress.stalled(STALL) => Err(MirrorError::Stalled { operation }),
        }
    }
}

fn judge(operation: &'static str, answer: Answer) -> Result<Answer, MirrorError> {
    match answer.status {
        200 => Ok(answer),
        status @ (401 | 403) => Err(MirrorError::Unauthorized { operation, status }),
        status => Err(MirrorError::Refused { operation, status, message: answer.message() }),
    }
}

impl Answer {
    /// The JSON documents of the body, one after another.
    fn lines(&self, operation: &'static str) -> Result<Vec<Value>, MirrorError> {
        let lines = serde_json::Deserializer::from_slice(&self.body).into_iter::<Value>();
        let lines: Result<Vec<_>, _> = lines.collect();
        lines.map_err(|error| MirrorError::Answer { operation, reason: format!("no JSON ({error})") })
    }

    fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let json = serde_json::from_str::<Value>(&text).ok();
        let message = json.and_then(|json| json["Message"].as_str().map(str::to_owned));
        shortened(message.as_deref().unwrap_or(text.trim()))
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(200)].to_owned()
}

/// A file upload (RFC 7578). The boundary is random: the bytes of a block may come from anywhere.
fn multipart<S>(car: S) -> (String, Body)
where
    S: Stream<Item = Result<Bytes, MirrorError>> + Send + 'static,
{
    let boundary = format!("skywave-{:032x}", fastrand::u128(..));
    let begin = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"tick.car\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let end = format!("\r\n--{boundary}--\r\n");
    let parts = stream::iter([Ok(Bytes::from(begin))]).chain(car).chain(stream::iter([Ok(Bytes::from(end))]));
    let frames = parts.map(|part| part.map(Frame::data).map_err(Cause::from));
    (format!("multipart/form-data; boundary={boundary}"), StreamBody::new(frames).boxed_unsync())
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A query value: what is not plain goes as `%xx`.
fn escaped(text: &str) -> String {
    let mut query = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => query.push(byte.into()),
            _ => query += &format!("%{byte:02X}"),
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(escaped("skywave/k51 ä"), "skywave%2Fk51%20%C3%A4");
    }
}
