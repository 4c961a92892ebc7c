//! The body of a response: nothing, bytes at hand, or bytes that are read while they are sent.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream};
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;

/// Why a body ended early; hyper closes the connection then, so the listener sees a short answer.
pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// Counts what it hands out.
#[derive(Default)]
pub(super) struct Body {
    source: Source,
    sent: Option<Counter>,
}

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    Whole(Bytes),
    Stream {
        chunks: BoxStream<'static, Result<Bytes, BodyError>>,
        /// `None` where nobody knows.
        left: Option<u64>,
    },
}

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        let source = if bytes.is_empty() { Source::Empty } else { Source::Whole(bytes) };
        Body { source, sent: None }
    }

    /// `chunks` give `len` bytes together.
    pub(super) fn stream(chunks: BoxStream<'static, Result<Bytes, BodyError>>, len: u64) -> Body {
        Body { source: Source::Stream { chunks, left: Some(len) }, sent: None }
    }

    /// `chunks` until they end.
    pub(super) fn endless(chunks: BoxStream<'static, Result<Bytes, BodyError>>) -> Body {
        Body { source: Source::Stream { chunks, left: None }, sent: None }
    }

    /// Adds every byte handed out to `sent`.
    pub(super) fn counted(self, sent: Counter) -> Body {
        Body { sent: Some(sent), ..self }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match std::mem::take(&mut self.source) {
            Source::Empty => Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(Some(Ok(bytes))),
            Source::Stream { mut chunks, left } => {
                let next = Pin::new(&mut chunks).poll_next(cx);
                let given = match &next {
                    Poll::Ready(Some(Ok(bytes))) => bytes.len() as u64,
                    Poll::Ready(Some(Err(_)) | None) => return next,
                    Poll::Pending => 0,
                };
                self.source = Source::Stream { chunks, left: left.map(|left| left.saturating_sub(given)) };
                next
            }
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = self.next(cx);
        if let (Poll::Ready(Some(Ok(bytes))), Some(sent)) = (&next, &self.sent) {
            sent.inc_by(bytes.len() as u64);
        }
        next.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream { left: Some(left), .. } => SizeHint::with_exact(*left),
            Source::Stream { left: None, .. } => SizeHint::new(),
        }
    }
}
