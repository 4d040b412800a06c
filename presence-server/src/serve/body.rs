//! The body of a request, which must come in time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body that fails when it has not come to its end in time.
pub(super) struct TimedBody {
    body: Incoming,
    limit: Duration,
    until: Instant,
    /// Made once the body has to be waited for, which most have not.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The client did not send the whole body in time.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request did not come within {0:?}")]
struct Late(Duration);

impl TimedBody {
    pub(super) fn new(body: Incoming, limit: Duration) -> Self {
        Self {
            body,
            limit,
            until: Instant::now() + limit,
            timer: None,
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let until = self.until;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        std::task::ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Late(self.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
