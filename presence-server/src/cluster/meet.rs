//! Two nodes meet on a stream: the handshake with its bytes and its time limit.
//!
//! This is where a stream becomes one of the cluster. It takes any stream: one that is encrypted is
//! wrapped before it comes here.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::frame::{Frame, FrameError, FrameReader};
use super::handshake::{self, Acceptor, Dialer, HandshakeError, LinkId, Local, Met, Nonce};
use super::link::Link;
use crate::env::BoxStream;

/// How long one who is refused may take to read why, and how many bytes of it are read meanwhile.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSAL_READS: usize = 64;

/// A stream to a node, and what was read of it.
pub(super) struct Meeting {
    pub(super) reader: FrameReader<ReadHalf<BoxStream>>,
    pub(super) writer: WriteHalf<BoxStream>,
    timeout: Duration,
}

/// Why a stream does not become a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeetError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("no handshake: {0}")]
    Frame(#[from] FrameError),
    #[error("the handshake took longer than {0:?}")]
    TimedOut(Duration),
}

impl MeetError {
    /// Which it is, for those who log each once.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Handshake(error) => error.kind(),
            Self::Frame(FrameError::TooLong { .. } | FrameError::Empty) => "no handshake",
            Self::Frame(_) => "broken",
            Self::TimedOut(_) => "timed out",
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_expected(&self) -> bool {
        matches!(self, Self::Handshake(error) if error.is_expected())
    }

    /// What the other node is told, if it is not the one who refuses.
    fn refusal(&self) -> Option<Vec<u8>> {
        match self {
            Self::Handshake(HandshakeError::Refused { .. }) => None,
            Self::Handshake(error) => Some(error.refusal()),
            other => Some(handshake::refusal(
                handshake::NO_HANDSHAKE,
                &other.to_string(),
            )),
        }
    }
}

impl Meeting {
    pub(super) fn new(stream: BoxStream, timeout: Duration) -> Self {
        let (read, writer) = tokio::io::split(stream);
        Self {
            reader: FrameReader::new(read, handshake::MAX_FRAME_BYTES),
            writer,
            timeout,
        }
    }

    /// Speaks first. `begin` is asked about the node that answers, and which link with it was lost.
    pub(super) async fn dial(
        &mut self,
        local: &Local,
        nonce: Nonce,
        begin: impl FnOnce(&Met) -> Result<Option<LinkId>, HandshakeError>,
    ) -> Result<Met, MeetError> {
        let limit = self.timeout;
        let handshake = async {
            let (dialer, hello) = Dialer::new(local, nonce);
            self.send(&hello).await?;
            let introduced = dialer.handle_challenge(self.receive().await?)?;
            let lost = begin(&introduced.met)?;
            self.send(&introduced.begin(lost)).await?;
            introduced.handle_welcome(self.receive().await?)?;
            Ok(introduced.met)
        };
        let met = timeout(limit, handshake).await;
        self.end(met.unwrap_or(Err(MeetError::TimedOut(limit))))
            .await
    }

    /// Answers. `admit` gives the link with the node that has dialled, if it may have one: the first
    /// frame that is sent to it is a welcome.
    pub(super) async fn answer(
        &mut self,
        local: &Local,
        nonce: Nonce,
        admit: impl FnOnce(&Met, Option<LinkId>) -> Result<Arc<Link>, HandshakeError>,
    ) -> Result<Arc<Link>, MeetError> {
        let limit = self.timeout;
        let handshake = async {
            let (acceptor, challenge) = Acceptor::new(local, nonce, self.receive().await?)?;
            self.send(&challenge).await?;
            let (met, lost) = acceptor.handle_begin(self.receive().await?)?;
            Ok(admit(&met, lost)?)
        };
        let met = timeout(limit, handshake).await;
        self.end(met.unwrap_or(Err(MeetError::TimedOut(limit))))
            .await
    }

    async fn send(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        self.writer.write_all(frame).await?;
        Ok(self.writer.flush().await?)
    }

    async fn receive(&mut self) -> Result<Frame<'_>, FrameError> {
        self.reader.ready().await?;
        self.reader.next()?.ok_or(FrameError::Closed)
    }

    /// Tells the other node why it is refused, where it is.
    async fn end<T>(&mut self, met: Result<T, MeetError>) -> Result<T, MeetError> {
        if let Err(error) = &met
            && let Some(refusal) = error.refusal()
        {
            // It is told as well as may be.
            let _ = timeout(REFUSAL_TIMEOUT, self.refuse(&refusal)).await;
        }
        met
    }

    async fn refuse(&mut self, refusal: &[u8]) -> Result<(), FrameError> {
        self.send(refusal).await?;
        self.writer.shutdown().await?;
        // What stays unread when a connection is closed resets it, and the refusal may be lost.
        for _ in 0..REFUSAL_READS {
            self.reader.discard();
            self.reader.read_some().await?;
        }
        Ok(())
    }
}
