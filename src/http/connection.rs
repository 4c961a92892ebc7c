//! One TCP connection: its limits, its requests, its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::gateway::Gateway;
use super::{metrics, respond, router};

/// Bounds the request head and the bytes buffered for one connection.
const MAX_BUFFER_BYTES: usize = 16 * 1024;

/// Bounds the header lines of one request.
const MAX_HEADERS: usize = 64;

/// How long a connection above the limit may take for its request.
const REFUSAL_LIMITS: Limits =
    Limits { header_timeout: Duration::from_secs(1), write_timeout: Duration::from_secs(1) };

/// How long a peer may keep a connection busy with nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) header_timeout: Duration,
    pub(super) write_timeout: Duration,
}

/// Answers requests until the peer goes, breaks a limit, or `stop`.
pub(super) async fn serve(stream: TcpStream, limits: Limits, gateway: Arc<Gateway>, stop: CancellationToken) {
    // One that is gone already asks for nothing.
    let client = stream.peer_addr().ok().map(|address| address.ip());
    let answer = move |request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        async move { router::answer(&gateway, request, client).await }
    };
    converse(stream, limits, stop, answer).await;
}

/// Answers one request with 503.
pub(super) async fn refuse(stream: TcpStream, gateway: Arc<Gateway>, stop: CancellationToken) {
    let answer = move |_: Request<Incoming>| {
        let mut response = respond::unavailable("All connections of this station are taken; try again.");
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        metrics::count(&gateway.content.metrics, "other", response.status());
        std::future::ready(response)
    };
    converse(stream, REFUSAL_LIMITS, stop, answer).await;
}

async fn converse<A, F>(stream: TcpStream, limits: Limits, stop: CancellationToken, answer: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    // Without it an answer may wait for an acknowledgement; the connection works either way.
    let _ = stream.set_nodelay(true);
    let stream = WriteLimit { stream, limit: limits.write_timeout, waiting: None };
    let service = service_fn(|request| {
        let answering = answer(request);
        async { Ok::<_, Infallible>(answering.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// A stream whose writes fail once the peer has taken no byte for `limit`.
struct WriteLimit {
    stream: TcpStream,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl WriteLimit {
    /// Passes on a finished write; starts or checks the clock of one that has to wait.
    fn limited<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }
}

impl AsyncRead for WriteLimit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for WriteLimit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
