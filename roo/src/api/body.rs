//! Bodies of requests: a client that lets its own wait for too long is told so, and loses its connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::ApiError;

/// For how long in all a body may be waited for before anything of it has come, and the most that it can earn.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many bytes earn another second: whoever sends faster than that has all the time in the world.
const BYTES_PER_SECOND: f64 = 16_384.0;

/// Has the request handled; 408 if its body came too slowly. Time counts only while the handler waits for the client.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    let late = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| Body::new(Awaited::new(body, Arc::clone(&late))));
    let response = next.run(request).await;
    if !late.load(Ordering::Relaxed) {
        return response;
    }
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "the body of the request came too slowly")
        .hint("nothing was changed; send it at once")
        .headers(HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))]))
        .into_response()
}

/// A body that fails when it is waited for too long.
struct Awaited {
    body: Body,
    late: Arc<AtomicBool>,
    patience: Duration,
    /// Since when nothing has come.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Awaited {
    fn new(body: Body, late: Arc<AtomicBool>) -> Self {
        Self { body, late, patience: PATIENCE, waiting: None }
    }

    fn came(&mut self, bytes: usize) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        let earned = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        self.patience = (self.patience.saturating_sub(waited) + earned).min(PATIENCE);
    }
}

impl hyper::body::Body for Awaited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let bytes = frame.iter().flatten().filter_map(Frame::data_ref).map(Bytes::len).sum();
            self.came(bytes);
            return Poll::Ready(frame);
        }
        let patience = self.patience;
        let begin = || (Instant::now(), Box::pin(tokio::time::sleep(patience)));
        let (_, end) = self.waiting.get_or_insert_with(begin);
        ready!(end.as_mut().poll(context));
        self.late.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware;
    use axum::routing::put;
    use futures_util::{StreamExt, stream};
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::super::error;
    use super::*;

    /// Sends a body of `pieces`, one after each `pause`, and none after them; the status and what was said.
    async fn sent(pieces: usize, bytes: usize, pause: Duration, ends: bool) -> (StatusCode, String) {
        let router = Router::new()
            .route("/", put(async |body: Bytes| body.len().to_string()))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(middleware::from_fn(in_time))
            .layer(middleware::from_fn(error::finish));
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, io::Error>(Bytes::from(vec![b'x'; bytes]))
        });
        let rest = if ends { stream::empty().boxed() } else { stream::pending().boxed() };
        let request = Request::put("/").body(Body::from_stream(pieces.chain(rest))).expect("a request");
        let response = TowerToHyperService::new(router).call(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_told_so() {
        let (status, said) = sent(3, 10, Duration::from_millis(1), false).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        assert!(said.contains("\"request-timeout\""), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_no_better() {
        let begin = Instant::now();
        let (status, _) = sent(1000, 1, Duration::from_secs(1), true).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        assert!(begin.elapsed() <= PATIENCE + Duration::from_secs(1), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_body_at_a_fair_pace_is_taken() {
        let (status, said) = sent(600, 32 << 10, Duration::from_secs(1), true).await;
        assert_eq!((status, said.parse().ok()), (StatusCode::OK, Some(600_usize * (32 << 10))));
    }
}
