//! One request and its answer, and whether anything moves meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{DATE, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, Body, Cause, Pipe, retry_after};

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// When something moved last.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn moved(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns once nothing has moved for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// The body, and what tells when a part of it was taken last.
pub(super) fn watched(body: Body) -> (Progress, Body) {
    let progress = Progress(Arc::new(Mutex::new(Instant::now())));
    let taken = progress.clone();
    let body = body.map_frame(move |frame| {
        taken.moved();
        frame
    });
    (progress, body.boxed_unsync())
}

/// Sends a request over a connection of its own.
pub(super) async fn exchange(
    pipe: Box<dyn Pipe>,
    request: Request<Body>,
    progress: &Progress,
) -> Result<Answer, Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(pipe)).await?;
    // Ends with this call, whoever is first.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let field = |name| response.headers().get(name)?.to_str().ok();
    let retry_after = field(RETRY_AFTER).and_then(|value| retry_after::delay(value, field(DATE)));
    progress.moved();
    let body = whole(response.into_body(), progress).await?;
    Ok(Answer { status, retry_after, body })
}

async fn whole(mut incoming: Incoming, progress: &Progress) -> Result<Bytes, Cause> {
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame?;
        progress.moved();
        // kubo tells of an error behind an answer that began well.
        let error = frame.trailers_ref().and_then(|trailers| trailers.get("x-stream-error"));
        if let Some(error) = error.filter(|error| !error.is_empty()) {
            return Err(String::from_utf8_lossy(error.as_bytes()).into());
        }
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if body.len() > MAX_ANSWER_BYTES {
            return Err(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes").into());
        }
    }
    Ok(body.freeze())
}
