//! WebSocket, as a browser speaks it.
//!
//! The library's frame headers are used, and not its sockets: those draw masks and keys from the
//! operating system.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use presence_core::wire::Frame;
use presence_server::env::BoxStream;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::carrier::{OpenError, Received};
use super::http::{self, HttpError};
use super::rules::{Broken, Rule};
use super::{Outside, Settings};

/// How long a client waits for the node when it closes (phoenix.js, `waitForSocketClosed`, about).
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// An open WebSocket.
pub(super) struct WebSocket {
    stream: BoxStream,
    outside: Arc<dyn Outside>,
    /// What came and was not looked at.
    input: Vec<u8>,
    /// What is to be written, and how much of it was.
    output: Vec<u8>,
    written: usize,
    /// The message that was begun, if one was.
    begun: Option<(Data, Vec<u8>)>,
    /// Since the node can't be understood any more.
    is_failed: bool,
}

/// What a frame says.
enum Incoming {
    Message(Frame),
    /// It closes, with this code if there is one.
    Close(Option<u16>),
    /// Nothing that the client must know.
    Control,
}

impl WebSocket {
    pub(super) async fn open(
        settings: &Settings,
        client: usize,
        node: usize,
        outside: Arc<dyn Outside>,
    ) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::Failed(error.to_string());
        let mut stream = outside.connect(client, node).await.map_err(failed)?;
        let key = [outside.random(), outside.random()].map(u64::to_be_bytes);
        let key = STANDARD.encode(key.concat());
        let vsn = settings.serializer.vsn();
        let request = format!(
            "GET /socket/websocket?vsn={vsn} HTTP/1.1\r\nhost: n{node}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
        );
        let (head, input) = match http::ask(&mut stream, request.as_bytes()).await {
            Ok(answered) => answered,
            Err(HttpError::Io(error)) => return Err(failed(error)),
            Err(HttpError::Malformed(what)) => return Err(Broken::new(Rule::Http, what).into()),
        };
        match head.status {
            101 => {}
            // It is full or stops.
            503 => return Err(OpenError::Failed("refused with 503".into())),
            status => {
                let what = format!("a WebSocket is refused with {status}");
                return Err(Broken::new(Rule::WebSocket, what).into());
            }
        }
        let accept = derive_accept_key(key.as_bytes());
        if head.header("sec-websocket-accept") != Some(&accept) {
            let what = "the key was not taken";
            return Err(Broken::new(Rule::WebSocket, what.into()).into());
        }
        Ok(Self {
            stream,
            outside,
            input,
            output: Vec::new(),
            written: 0,
            begun: None,
            is_failed: false,
        })
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        let kind = match frame {
            Frame::Text(_) => Data::Text,
            Frame::Binary(_) => Data::Binary,
        };
        self.put(OpCode::Data(kind), frame.as_frame_ref().as_bytes());
    }

    fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        let [a, b, c, d, ..] = self.outside.random().to_be_bytes();
        let mask = [a, b, c, d];
        let header = FrameHeader {
            opcode,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        header
            .format(payload.len() as u64, &mut self.output)
            .expect("a vector takes all that is written");
        let masked = payload.iter().zip(mask.iter().cycle());
        self.output.extend(masked.map(|(byte, mask)| byte ^ mask));
    }

    pub(super) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        reads: bool,
    ) -> Poll<Received> {
        loop {
            if self.is_failed {
                return Poll::Ready(Received::Closed("the node is not understood".into()));
            }
            if let Poll::Ready(Err(error)) = self.poll_flush(context) {
                return Poll::Ready(Received::Closed(error.to_string()));
            }
            if !reads {
                return Poll::Pending;
            }
            match self.next() {
                Ok(Some(Incoming::Message(frame))) => return Poll::Ready(Received::Frame(frame)),
                Ok(Some(Incoming::Control)) => continue,
                Ok(Some(Incoming::Close(code))) => {
                    self.put(OpCode::Control(Control::Close), &[]);
                    let _ = self.poll_flush(context);
                    let code = code.map_or("no code".into(), |code| code.to_string());
                    return Poll::Ready(Received::Closed(format!("closed with {code}")));
                }
                Ok(None) => {}
                Err(broken) => {
                    self.is_failed = true;
                    return Poll::Ready(Received::Broken(broken));
                }
            }
            match ready!(self.poll_read(context)) {
                Ok(0) => return Poll::Ready(Received::Closed("the stream ended".into())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Received::Closed(error.to_string())),
            }
        }
    }

    /// Says that it closes, and waits a little until the node has agreed.
    pub(super) async fn close(&mut self, code: u16) {
        self.put(OpCode::Control(Control::Close), &code.to_be_bytes());
        let closed = async {
            loop {
                let received = std::future::poll_fn(|context| self.poll_receive(context, true));
                if let Received::Closed(_) = received.await {
                    return;
                }
            }
        };
        // Whoever does not agree in time is left alone.
        let _ = tokio::time::timeout(CLOSE_WAIT, closed).await;
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = &self.output[self.written..] {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.output.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// How many bytes came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; http::READ];
        let mut read = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
        self.input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// What the next frame says, once it is all there.
    fn next(&mut self) -> Result<Option<Incoming>, Broken> {
        let broken = |what: String| Broken::new(Rule::WebSocket, what);
        let mut cursor = Cursor::new(&self.input);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| broken(error.to_string()))?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        if header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_some() {
            return Err(broken("a frame is masked, or has reserved bits set".into()));
        }
        let start = cursor.position() as usize;
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        let Some(payload) = self.input.get(start..end) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.input.drain(..end);
        let opcode = match header.opcode {
            OpCode::Control(_) if !header.is_final || payload.len() > 125 => {
                return Err(broken("a control frame is in parts, or too long".into()));
            }
            OpCode::Control(Control::Close) => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                return Ok(Some(Incoming::Close(code)));
            }
            OpCode::Control(control) => {
                if control == Control::Ping {
                    self.put(OpCode::Control(Control::Pong), &payload);
                }
                return Ok(Some(Incoming::Control));
            }
            OpCode::Data(opcode) => opcode,
        };
        let (kind, payload) = match (opcode, self.begun.take()) {
            (Data::Continue, Some((kind, mut begun))) => {
                begun.extend(payload);
                (kind, begun)
            }
            (Data::Text | Data::Binary, None) => (opcode, payload),
            _ => return Err(broken("the parts of messages are mixed".into())),
        };
        if !header.is_final {
            self.begun = Some((kind, payload));
            return Ok(Some(Incoming::Control));
        }
        Ok(Some(Incoming::Message(if kind == Data::Binary {
            Frame::Binary(payload.into())
        } else {
            let text = String::from_utf8(payload);
            let text = text.map_err(|error| broken(format!("a text is not UTF-8: {error}")))?;
            Frame::Text(text.into())
        })))
    }
}
