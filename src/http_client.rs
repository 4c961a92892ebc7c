//! HTTP/1.1 client for the services that an owner names: mirrors and pinning services. http and https, one connection a
//! request, nothing followed: a redirect is an answer like any other.

mod endpoint;
mod retry_after;
mod tls;
mod transfer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use endpoint::Endpoint;
pub use tls::{TlsError, Trust};

/// How long a connection may take, and then its handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long nothing may move: no byte taken, none given.
pub const STALL: Duration = Duration::from_secs(30);

/// A connection.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// Opens connections.
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

/// Why a body or a connection broke.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What a request carries.
pub type Body = UnsyncBoxBody<Bytes, Cause>;

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a request got no answer.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// No connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A connection, and no TLS on it.
    #[error("no secure connection to {host}")]
    Secure {
        /// Host and port.
        host: String,
        /// The cause.
        #[source]
        source: TlsError,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the connection broke off")]
    Broken(#[source] Cause),
    /// Nothing moved.
    #[error("nothing moved for {} s", STALL.as_secs())]
    Stalled,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `DELETE`.
    Delete,
    /// `GET`.
    Get,
    /// `POST`.
    Post,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// One request.
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// What follows the endpoint's own path, with its query.
    pub target: String,
    /// Type of the body.
    pub content_type: Option<String>,
    /// The body.
    pub body: Body,
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, target: String) -> Self {
        Self { method, target, content_type: None, body: empty() }
    }

    /// The same with a body.
    pub fn with(self, content_type: &str, body: Body) -> Self {
        Self { content_type: Some(content_type.to_owned()), body, ..self }
    }
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// How long the service asks to be left alone, an hour at most.
    pub retry_after: Option<Duration>,
    /// The body, 1 MiB at most.
    pub body: Bytes,
}

/// A service, one connection a request. Clones are the same.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    connect: Arc<dyn Connect>,
    trust: Trust,
}

impl Client {
    /// The service at `endpoint`; where that is https, public authorities vouch for it.
    pub fn new(endpoint: Endpoint, connect: Arc<dyn Connect>) -> Self {
        Self { endpoint, connect, trust: Trust::Public }
    }

    /// The same, believing others.
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`ExchangeError`] when there is no answer. One with any status is an answer.
    pub async fn send(&self, request: Request) -> Result<Answer, ExchangeError> {
        let pipe = self.pipe().await?;
        let mut head = self.endpoint.request(request.method, &request.target);
        if let Some(content_type) = &request.content_type {
            head = head.header(header::CONTENT_TYPE, content_type);
        }
        let (progress, body) = transfer::watched(request.body);
        let request = head.body(body).map_err(|error| ExchangeError::Broken(error.into()))?;
        tokio::select! {
            answer = transfer::exchange(pipe, request, &progress) => answer.map_err(ExchangeError::Broken),
            () = progress.stalled(STALL) => Err(ExchangeError::Stalled),
        }
    }

    async fn pipe(&self) -> Result<Box<dyn Pipe>, ExchangeError> {
        let host = self.endpoint.host();
        let failed = |source| ExchangeError::Connect { host: host.to_owned(), source };
        let pipe = timeout(CONNECT_LIMIT, self.connect.connect(host)).await;
        let pipe = pipe.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
        if !self.endpoint.is_secure() {
            return Ok(pipe);
        }
        let failed = |source| ExchangeError::Secure { host: host.to_owned(), source };
        let secure = timeout(CONNECT_LIMIT, tls::secure(pipe, self.endpoint.host_name(), &self.trust)).await;
        let slow = |_| failed(TlsError::Handshake("no answer in time".into()));
        secure.map_err(slow)?.map_err(failed)
    }
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is there.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is made while it is sent. An error of it breaks the request off.
pub fn streamed<S, E>(parts: S) -> Body
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<Cause>,
{
    let frames = parts.map(|part| part.map(Frame::data).map_err(Into::into));
    StreamBody::new(frames).boxed_unsync()
}

/// A value in a query or a part of a path: what is not plain goes as `%xx` (RFC 3986, section 2.1).
pub fn escaped(text: &str) -> String {
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
