//! How many connections there may be.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::env::BoxStream;

/// What one connection too many is told.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 27\r\n\r\nthe server has no room now\n";

/// The places of the connections, WebSockets among them.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    max: usize,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        let free = Semaphore::new(max.min(Semaphore::MAX_PERMITS));
        let free = Arc::new(free);
        Self { free, max }
    }

    /// Gives a connection its place, or tells it that there is none.
    pub(super) async fn take(&self, stream: BoxStream) -> Option<Placed> {
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(place) => Some(Placed {
                stream,
                _place: place,
            }),
            Err(_) => {
                let max = self.max;
                tracing::warn!(max, "a connection is refused: there are as many as may be");
                refuse(stream).await;
                None
            }
        }
    }
}

/// Tells a client that there is no room for it. It is not waited for: what it is told fits into the
/// buffer of a new connection.
async fn refuse(mut stream: BoxStream) {
    let told = std::future::poll_fn(|context| {
        let written = Pin::new(&mut stream).poll_write(context, REFUSAL);
        Poll::Ready(matches!(written, Poll::Ready(Ok(_))))
    });
    if told.await {
        // The end of the stream is sent either way.
        let _ = futures_util::FutureExt::now_or_never(stream.shutdown());
    }
}

/// A connection that holds its place among all until it is closed, whatever it has become.
pub(super) struct Placed {
    stream: BoxStream,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed").finish_non_exhaustive()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
