//! WebSocket.
//!
//! The frames are read and written here and not by a library, since that decides what a socket costs:
//! an idle one has no buffers, what waits for a client goes out in one write, and the text of a large
//! frame is written from where it is.

mod frame;
mod handshake;

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use presence_core::wire::{Enclosure, Frame, Json};
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

use self::frame::{Decoder, Incoming};
use self::handshake::Handshake;
use super::{Endpoint, connect_info};
use crate::connection::{Gone, Received, Transport};
use crate::env;
use crate::sockets::Via;

/// Bytes that are read at once, into the stack.
const READ: usize = 16 << 10;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 64 << 10;

/// From how many bytes on the text of a frame is written from where it is, and not gathered.
const LARGE: usize = 16 << 10;

/// How long a client is waited for when its socket is closed.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn handle<U: Send + Sync + 'static>(
    State(endpoint): State<Arc<Endpoint<U>>>,
    params: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
    mut request: Request,
) -> Response {
    let handshake = match Handshake::of(&mut request) {
        Ok(handshake) => handshake,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let params = match params {
        Ok(Query(params)) => params,
        Err(error) => return (StatusCode::BAD_REQUEST, error.body_text()).into_response(),
    };
    let info = connect_info(params, request.headers());
    let Ok(connection) = endpoint.connect(&info, Via::WebSocket) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let max_bytes = endpoint.node.config().wire.max_frame_bytes;
    let (answer, upgrade) = handshake.accept();
    env::spawn(&**endpoint.node.env(), async move {
        match upgrade.await {
            // In a task of its own, which is no larger than it must be.
            Ok(upgraded) => connection.start(Carrier::new(upgraded, max_bytes)),
            Err(error) => tracing::debug!(%error, "a client was gone before it was a WebSocket"),
        }
    });
    answer
}

struct Carrier {
    io: TokioIo<Upgraded>,
    decoder: Decoder,
    out: Vec<u8>,
    /// How much of `out` was written.
    written: usize,
    /// A large frame was begun, and not ended.
    is_torn: bool,
    /// The client sends nothing more.
    is_closed: bool,
}

impl Carrier {
    fn new(upgraded: Upgraded, max_bytes: usize) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            decoder: Decoder::new(max_bytes),
            out: Vec::new(),
            written: 0,
            is_torn: false,
            is_closed: false,
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<Received>> {
        loop {
            match self.decoder.next() {
                Ok(Some(Incoming::Message(frame))) => {
                    return Poll::Ready(Some(Received::Frame(frame)));
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    frame::put_pong(&mut self.out, &payload);
                    return Poll::Ready(Some(Received::Sign));
                }
                Ok(Some(Incoming::Pong)) => return Poll::Ready(Some(Received::Sign)),
                Ok(Some(Incoming::Close(code))) => {
                    self.is_closed = true;
                    return Poll::Ready(Some(Received::Close(code.unwrap_or(NORMAL))));
                }
                Ok(None) => {}
                Err(violation) => {
                    tracing::info!(error = %violation, "a client breaks the protocol");
                    return Poll::Ready(Some(Received::Close(violation.close_code())));
                }
            }
            // Nothing is read from a client that does not take the answers to its pings.
            if ready!(self.poll_flush(context)).is_err() {
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(context)) {
                Ok(0) | Err(_) => return Poll::Ready(None),
                Ok(_) => {}
            }
        }
    }

    /// How many bytes came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut read))?;
        self.decoder.extend(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = &self.out[self.written..] {
            match ready!(Pin::new(&mut self.io).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        frame::empty(&mut self.out);
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for a frame that is gathered.
    fn make_room(&mut self, len: usize) {
        if !self.out.is_empty() && self.out.capacity() < self.out.len() + len {
            // The second of what may be many.
            self.out.reserve(GATHERED / 4);
        }
    }

    async fn flush_if_much(&mut self) -> Result<(), Gone> {
        if self.out.len() < GATHERED {
            return Ok(());
        }
        self.flush().await
    }

    /// Sends what was gathered, and then a part of a frame from where it is.
    async fn write_large(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.is_torn = true;
        self.flush().await?;
        self.io.write_all(bytes).await.map_err(|_| Gone)?;
        self.is_torn = false;
        Ok(())
    }

    /// Reads and drops what a client still sends, until it agrees to the close or is gone.
    ///
    /// A connection that is closed while something is unread is reset, and the client may then lose
    /// what it was sent last: why it was closed.
    async fn until_closed(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_flush(context)).await?;
        self.io.shutdown().await?;
        while !self.is_closed {
            match self.decoder.next() {
                Ok(Some(Incoming::Close(_))) => break,
                Ok(Some(_)) => {}
                Ok(None) => {
                    if std::future::poll_fn(|context| self.poll_read(context)).await? == 0 {
                        break;
                    }
                }
                // It can't be understood.
                Err(_) => self.decoder = Decoder::new(0),
            }
        }
        Ok(())
    }
}

/// The code of a client that gives none.
const NORMAL: u16 = 1000;

impl Transport for Carrier {
    async fn receive(&mut self) -> Option<Received> {
        std::future::poll_fn(|context| self.poll_receive(context)).await
    }

    fn has_received(&self) -> bool {
        self.decoder.has_next()
    }

    async fn feed(&mut self, frame: Frame) -> Result<(), Gone> {
        let bytes = frame.as_frame_ref().as_bytes();
        self.make_room(bytes.len());
        frame::put_header(&mut self.out, frame::Kind::of(&frame), bytes.len());
        if bytes.len() < LARGE {
            self.out.extend_from_slice(bytes);
            return self.flush_if_much().await;
        }
        self.write_large(bytes).await
    }

    async fn feed_shared(
        &mut self,
        around: Enclosure,
        payload: Arc<Json<'static>>,
    ) -> Result<(), Gone> {
        let Enclosure { before, after } = around;
        let bytes = payload.as_str().as_bytes();
        let len = before.len() + bytes.len() + after.len();
        self.make_room(len.min(LARGE));
        frame::put_header(&mut self.out, frame::Kind::Text, len);
        self.out.extend_from_slice(before.as_bytes());
        if bytes.len() < LARGE {
            self.out.extend_from_slice(bytes);
        } else {
            self.write_large(bytes).await?;
        }
        self.out.extend_from_slice(after.as_bytes());
        self.flush_if_much().await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let flushed = std::future::poll_fn(|context| self.poll_flush(context)).await;
        flushed.map_err(|_| Gone)
    }

    async fn close(&mut self, code: u16) {
        if self.is_torn {
            return;
        }
        frame::put_close(&mut self.out, code);
        // Whoever is gone already needs no farewell; whoever does not read gets none.
        let _ = tokio::time::timeout(CLOSE_WAIT, self.until_closed()).await;
    }
}
