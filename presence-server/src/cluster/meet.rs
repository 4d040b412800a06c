//! Two nodes meet on a stream: the handshake with its bytes and its time limit.
//!
//! This is where a stream becomes one of the cluster. It takes any stream, and wraps it in TLS where
//! the cluster speaks it: the time limit is for both handshakes together.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::config::MIN_MAX_FRAME_BYTES;
use super::frame::{Frame, FrameError, FrameReader};
use super::handshake::{self, Acceptor, Dialer, HandshakeError, LinkId, Local, Met, Nonce, Role};
use super::link::Link;
use super::secure::{Certificate, NoTls, Secure, Secured};
use crate::env::BoxStream;

/// How long one who is refused may take to read why, and how many bytes of it are read meanwhile.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSAL_READS: usize = 64;

/// A stream to a node, and what was read of it.
pub(super) struct Meeting {
    pub(super) reader: FrameReader<ReadHalf<BoxStream>>,
    pub(super) writer: WriteHalf<BoxStream>,
    /// That of the other node, where TLS is spoken.
    certificate: Option<Certificate>,
    since: Instant,
    limit: Duration,
}

/// Why a stream does not become a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeetError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Tls(NoTls),
    #[error("no handshake: {0}")]
    Frame(FrameError),
    #[error("the handshake took longer than {0:?}")]
    TimedOut(Duration),
}

impl From<FrameError> for MeetError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => match NoTls::of(&error) {
                Some(error) => Self::Tls(error),
                None => Self::Frame(error.into()),
            },
            FrameError::TooLong { len, .. } if is_tls(len) => Self::Tls(NoTls::NotOurs),
            error => Self::Frame(error),
        }
    }
}

/// Whether the length of a frame is what TLS begins with: a record of a handshake (22) or an alert (21),
/// and its version.
fn is_tls(len: usize) -> bool {
    matches!(len.saturating_sub(4) >> 16, 0x15_03 | 0x16_03)
}

impl MeetError {
    /// Which it is, for those who log each once.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Handshake(error) => error.kind(),
            Self::Tls(error) => error.kind(),
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
            // TLS tells by itself, where it is spoken here.
            Self::Tls(error) if *error != NoTls::NotOurs => None,
            other => Some(handshake::refusal(
                handshake::NO_HANDSHAKE,
                &other.to_string(),
            )),
        }
    }
}

impl Meeting {
    pub(super) fn new(stream: BoxStream, limit: Duration) -> Self {
        let (read, writer) = tokio::io::split(stream);
        Self {
            reader: FrameReader::new(read, MIN_MAX_FRAME_BYTES),
            writer,
            certificate: None,
            since: Instant::now(),
            limit,
        }
    }

    /// The same, once TLS is spoken.
    pub(super) async fn secure(
        stream: BoxStream,
        limit: Duration,
        secure: &Secure,
        role: Role,
    ) -> Result<Self, MeetError> {
        let since = Instant::now();
        match timeout(limit, secure.wrap(role, stream)).await {
            Ok(Ok(Secured {
                stream,
                certificate,
            })) => Ok(Self {
                certificate: Some(certificate),
                since,
                ..Self::new(stream, limit)
            }),
            Ok(Err((error, stream))) => {
                // TLS has told why.
                let mut plain = Self::new(stream, limit);
                let _ = timeout(REFUSAL_TIMEOUT, plain.refuse(&[])).await;
                Err(FrameError::Io(error).into())
            }
            Err(_) => Err(MeetError::TimedOut(limit)),
        }
    }

    /// Speaks first. `begin` is asked about the node that answers, and which link with it was lost.
    pub(super) async fn dial(
        &mut self,
        local: &Local,
        nonce: Nonce,
        begin: impl FnOnce(&Met) -> Result<Option<LinkId>, HandshakeError>,
    ) -> Result<Met, MeetError> {
        let left = self.left();
        let handshake = async {
            let (dialer, hello) = Dialer::new(local, nonce);
            self.send(&hello).await?;
            let introduced = dialer.handle_challenge(self.receive().await?)?;
            self.verify(&introduced.met)?;
            let lost = begin(&introduced.met)?;
            self.send(&introduced.begin(lost)).await?;
            introduced.handle_welcome(self.receive().await?)?;
            Ok(introduced.met)
        };
        let met = timeout(left, handshake).await;
        self.end(met).await
    }

    /// Answers. `admit` gives the link with the node that has dialled, if it may have one: the first
    /// frame that is sent to it is a welcome.
    pub(super) async fn answer(
        &mut self,
        local: &Local,
        nonce: Nonce,
        admit: impl FnOnce(&Met, Option<LinkId>) -> Result<Arc<Link>, HandshakeError>,
    ) -> Result<Arc<Link>, MeetError> {
        let left = self.left();
        let handshake = async {
            let (acceptor, challenge) = Acceptor::new(local, nonce, self.receive().await?)?;
            self.send(&challenge).await?;
            let (met, lost) = acceptor.handle_begin(self.receive().await?)?;
            self.verify(&met)?;
            Ok(admit(&met, lost)?)
        };
        let met = timeout(left, handshake).await;
        self.end(met).await
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.since.elapsed())
    }

    /// Whether the certificate is that of the node which the other says it is.
    fn verify(&self, met: &Met) -> Result<(), HandshakeError> {
        match &self.certificate {
            Some(certificate) if !certificate.is_for(&met.name) => {
                Err(HandshakeError::Certificate {
                    name: Arc::clone(&met.name),
                    names: certificate.names(),
                })
            }
            _ => Ok(()),
        }
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
    async fn end<T>(&mut self, met: Result<Result<T, MeetError>, Elapsed>) -> Result<T, MeetError> {
        let met = met.unwrap_or(Err(MeetError::TimedOut(self.limit)));
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::super::config::{Identity, MeshConfig, Secret};
    use super::super::roster::Roster;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    fn local(name: &str, secret: u8) -> Local {
        let identity = Identity {
            name: name.into(),
            incarnation: 1,
            pool_size: 4,
        };
        let config = MeshConfig::new(Secret::new([secret; 16]).unwrap());
        Local::new(identity, &config, "h:1".into())
    }

    fn meeting(stream: DuplexStream) -> Meeting {
        Meeting::new(Box::new(stream), LIMIT)
    }

    /// Answers as the node b.
    async fn answer(meeting: &mut Meeting) -> Result<Arc<Link>, MeetError> {
        let mut roster = Roster::new("b".into(), 9, 100);
        let admit = |met: &_, lost| roster.admit(met, String::new(), lost);
        meeting.answer(&local("b", 1), [2; 32], admit).await
    }

    #[tokio::test(start_paused = true)]
    async fn two_nodes_meet_on_any_stream() {
        let (dialer, acceptor) = duplex(7);
        let (mut dialer, mut acceptor) = (meeting(dialer), meeting(acceptor));
        let local = local("a", 1);
        let welcomed = async {
            let link = answer(&mut acceptor).await.unwrap();
            acceptor.send(&handshake::welcome()).await.unwrap();
            link
        };
        let dialed = dialer.dial(&local, [1; 32], |_| Ok(Some([9; 16])));
        let (met, link) = tokio::join!(dialed, welcomed);
        let met = met.unwrap();
        assert_eq!((&*met.name, &*link.name), ("b", "a"));
        assert_eq!(met.id, link.id);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_is_told() {
        let (dialer, acceptor) = duplex(4096);
        let (mut dialer, mut acceptor) = (meeting(dialer), meeting(acceptor));
        let local = local("a", 2);
        let dialed = async {
            let met = dialer.dial(&local, [1; 32], |_| panic!("nothing is proved"));
            let error = met.await.unwrap_err();
            drop(dialer);
            error
        };
        let (here, there) = tokio::join!(dialed, answer(&mut acceptor));
        assert_eq!(
            (here.kind(), there.unwrap_err().kind()),
            ("secret", "secret")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_has_its_time_and_is_told_so() {
        let (mut dialer, acceptor) = duplex(4096);
        dialer.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
        let since = Instant::now();
        let error = answer(&mut meeting(acceptor)).await.unwrap_err();
        assert_eq!(error.to_string(), "the handshake took longer than 3s");
        assert_eq!(since.elapsed(), LIMIT + REFUSAL_TIMEOUT);
        let mut told = Vec::new();
        dialer.read_to_end(&mut told).await.unwrap();
        assert!(told.ends_with(b"longer than 3s"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_too_long_is_not_awaited() {
        let (mut dialer, acceptor) = duplex(4096);
        dialer.write_all(&[0xFF; 100]).await.unwrap();
        let since = Instant::now();
        let error = answer(&mut meeting(acceptor)).await.unwrap_err();
        assert_eq!(error.kind(), "no handshake");
        assert!(since.elapsed() <= REFUSAL_TIMEOUT);
    }
}
