//! Links: connections to nodes that have proved who they are.
//!
//! A link has a task that reads and one that writes. The reader decodes each message and waits until
//! the [`Handler`] has taken it, so that a node which can't follow slows down who sends to it; that
//! time is not the peer's silence. The writer gathers what waits into one write, and sends a keepalive
//! where nothing does.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use presence_core::wire::cluster::{Limits, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::codec::{self, DecodeError};
use super::frame::{self, FrameError, FrameReader, HEADER_BYTES, kind};
use super::handshake::{LinkId, Met};
use super::introduce::{self, Introduction, NoIntroduction};
use super::queue::Queue;
use super::{Handler, Message};
use crate::sabotage::{Defect, Sabotage};

/// Frames below this are copied together into one write.
const GATHER_BYTES: usize = 64 << 10;

/// What all links with one node have in common, one after the other.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The generation of the newest link. Messages of others are not delivered.
    pub(super) generation: AtomicU64,
    /// Held while a message is delivered, so that none of an older link is under way beside one of a
    /// newer.
    delivery: Mutex<()>,
    pub(super) dropped: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) received_bytes: AtomicU64,
}

/// What a link is told by its mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    Run,
    /// The mesh closes: what comes is read and dropped until the peer closes too.
    Drain,
    /// Another link has replaced this one.
    Stop,
}

/// A connection to a node.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) version: Version,
    pub(super) id: LinkId,
    /// Whether this node dialled, and not the other.
    pub(super) is_ours: bool,
    pub(super) generation: u64,
    pub(super) track: Arc<Track>,
    pub(super) queue: Queue,
    signal: watch::Sender<Signal>,
    /// Whether a defect spares it, once another link has replaced it.
    is_spared: OnceLock<bool>,
}

/// The bounds of a link.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) keepalive: Duration,
    pub(super) silence: Duration,
    pub(super) max_peers: usize,
    pub(super) pool_size: u32,
    pub(super) limits: Limits,
    pub(super) sabotage: Sabotage,
}

/// Why a link has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("{0}")]
    Broken(FrameError),
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Message(#[from] DecodeError),
    #[error("{0}")]
    Introduction(#[from] NoIntroduction),
    #[error("a frame of kind {0}, which has no place here")]
    Kind(u8),
    #[error("another connection has replaced it")]
    Replaced,
    #[error("this node closes it")]
    Closing,
    #[error("its task has ended")]
    Dropped,
}

impl End {
    /// Whether the peer has sent what it must not.
    pub(super) fn is_garbage(&self) -> bool {
        matches!(
            self,
            Self::Broken(FrameError::TooLong { .. } | FrameError::Empty)
                | Self::Message(_)
                | Self::Introduction(_)
                | Self::Kind(_)
        )
    }

    /// Whether the peer, or the way to it, has broken the link.
    pub(super) fn is_break(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Silent(_)) && !self.is_garbage()
    }
}

impl Link {
    pub(super) fn new(
        met: &Met,
        is_ours: bool,
        generation: u64,
        track: Arc<Track>,
        queue_bytes: usize,
    ) -> Self {
        Self {
            name: Arc::clone(&met.name),
            incarnation: met.incarnation,
            version: met.version,
            id: met.id,
            is_ours,
            generation,
            track,
            queue: Queue::new(queue_bytes),
            signal: watch::Sender::new(Signal::Run),
            is_spared: OnceLock::new(),
        }
    }

    /// Queues a message's frame, or drops and counts it; whether there was room.
    pub(super) fn send(&self, frame: Bytes) -> bool {
        let has_room = self.queue.push(frame);
        if !has_room {
            self.count_dropped();
        }
        has_room
    }

    pub(super) fn count_dropped(&self) {
        self.track.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the link's tasks to end: after all that waits is written, or at once.
    pub(super) fn signal(&self, signal: Signal) {
        self.queue.close();
        self.signal.send_replace(signal);
    }

    pub(super) fn is_current(&self) -> bool {
        self.track.generation.load(Ordering::Acquire) == self.generation
    }

    /// Whether a message of it may be delivered: none may once another link has replaced it.
    fn delivers(&self, sabotage: &Sabotage) -> bool {
        let acts = || sabotage.acts(Defect::OldConnection);
        self.is_current() || *self.is_spared.get_or_init(acts)
    }

    /// Writes what waits, until the queue is closed and empty: then it closes its half.
    pub(super) async fn write(
        &self,
        mut io: impl AsyncWrite + Unpin,
        keepalive: Duration,
    ) -> io::Result<()> {
        let idle = frame::frame(kind::KEEPALIVE, &[]);
        let mut gathered = BytesMut::new();
        loop {
            match timeout(keepalive, self.queue.take()).await {
                Ok(Some(frames)) => self.write_all(&mut io, &mut gathered, &frames).await?,
                Ok(None) => return io.shutdown().await,
                Err(_) => {
                    io.write_all(&idle).await?;
                    io.flush().await?;
                }
            }
        }
    }

    async fn write_all(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        gathered: &mut BytesMut,
        frames: &[Bytes],
    ) -> io::Result<()> {
        for frame in frames {
            if gathered.len() + frame.len() > GATHER_BYTES {
                io.write_all(gathered).await?;
                gathered.clear();
            }
            if frame.len() > GATHER_BYTES {
                io.write_all(frame).await?;
            } else {
                gathered.extend_from_slice(frame);
            }
        }
        io.write_all(gathered).await?;
        gathered.clear();
        io.flush().await?;
        self.queue.settle(frames.iter().map(Bytes::len).sum());
        let is_message = |frame: &&Bytes| codec::is_message(frame[HEADER_BYTES - 1]);
        let messages = frames.iter().filter(is_message);
        let (count, bytes) = messages.fold((0, 0), |(count, bytes), frame| {
            (count + 1, bytes + frame.len() as u64)
        });
        self.track.sent.fetch_add(count, Ordering::Relaxed);
        self.track.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Reads and delivers messages, until something ends the link.
    pub(super) async fn read<R: AsyncRead + Unpin>(
        &self,
        mut reader: FrameReader<R>,
        bounds: &Bounds,
        handler: &dyn Handler,
        introduced: impl Fn(Vec<Introduction>),
    ) -> End {
        let mut signal = self.signal.subscribe();
        let end = loop {
            match *signal.borrow_and_update() {
                Signal::Run => {}
                Signal::Drain => break End::Closing,
                Signal::Stop if self.delivers(&bounds.sabotage) => {}
                Signal::Stop => break End::Replaced,
            }
            let step = self.read_frames(&mut reader, bounds, handler, &introduced);
            let step = tokio::select! {
                biased;
                step = step => step,
                _ = signal.changed() => continue,
            };
            if let Err(end) = step {
                break end;
            }
        };
        if matches!(end, End::Closing) {
            // What stays unread when a connection is closed resets it, and with it what was sent.
            loop {
                reader.discard();
                if reader.read_some().await.is_err() {
                    break;
                }
            }
        }
        end
    }

    /// Reads once, and delivers what is whole.
    async fn read_frames<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
        bounds: &Bounds,
        handler: &dyn Handler,
        introduced: &impl Fn(Vec<Introduction>),
    ) -> Result<(), End> {
        while let Some(frame) = reader.next().map_err(End::Broken)? {
            let bytes = frame.bytes();
            match frame.kind {
                kind::KEEPALIVE => {}
                kind::PEERS => introduced(introduce::decode(frame.body, bounds.max_peers)?),
                kind if codec::is_message(kind) => {
                    let message =
                        codec::decode(frame, self.version, bounds.pool_size, &bounds.limits)?;
                    self.deliver(message, bytes, bounds, handler).await?;
                }
                kind => return Err(End::Kind(kind)),
            }
        }
        match timeout(bounds.silence, reader.read_some()).await {
            Ok(read) => read.map_err(End::Broken),
            Err(_) => Err(End::Silent(bounds.silence)),
        }
    }

    async fn deliver(
        &self,
        message: Message,
        bytes: usize,
        bounds: &Bounds,
        handler: &dyn Handler,
    ) -> Result<(), End> {
        let _delivery = self.track.delivery.lock().await;
        if !self.delivers(&bounds.sabotage) {
            return Err(End::Replaced);
        }
        let track = &self.track;
        track.received.fetch_add(1, Ordering::Relaxed);
        let received = &track.received_bytes;
        received.fetch_add(bytes as u64, Ordering::Relaxed);
        handler.received(&self.name, message, bytes).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use futures_util::future::BoxFuture;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes a while for each message.
    #[derive(Debug, Default)]
    struct Slow {
        takes: Duration,
        heard: std::sync::Mutex<Vec<String>>,
    }

    impl Slow {
        fn heard(&self) -> Vec<String> {
            let heard = self.heard.lock();
            heard.unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl Handler for Slow {
        fn connected(&self, _: &Arc<str>) {}

        fn gone(&self, _: &Arc<str>) {}

        fn received<'a>(
            &'a self,
            _: &'a Arc<str>,
            message: Message,
            _: usize,
        ) -> BoxFuture<'a, ()> {
            let Message::Disconnect { socket_id } = message else {
                panic!("{message:?}");
            };
            Box::pin(async move {
                self.heard.lock().unwrap().push(socket_id.to_string());
                sleep(self.takes).await;
            })
        }
    }

    fn bounds() -> Bounds {
        Bounds {
            keepalive: SECOND,
            silence: 4 * SECOND,
            max_peers: 9,
            pool_size: 1,
            limits: Limits::default(),
            sabotage: Sabotage::default(),
        }
    }

    fn link() -> Link {
        let met = Met {
            name: "peer".into(),
            incarnation: 1,
            advertised: "peer:1".into(),
            version: Version::V2,
            id: [0; 16],
        };
        Link::new(&met, true, 0, Arc::default(), 1000)
    }

    fn said(text: &str) -> Bytes {
        let socket_id = text.into();
        codec::encode(&Message::Disconnect { socket_id }, Version::V2).unwrap()
    }

    async fn read(link: &Link, io: DuplexStream, handler: &Slow) -> End {
        let reader = FrameReader::new(io, 1000);
        link.read(reader, &bounds(), handler, |_| {}).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_written_together_and_keepalives_where_nothing_does() {
        let (io, mut peer) = duplex(1000);
        let link = Arc::new(link());
        for text in ["one", "two"] {
            link.send(said(text));
        }
        let writing = Arc::clone(&link);
        let writing = tokio::spawn(async move { writing.write(io, SECOND).await });
        let mut bytes = [0; 1000];
        let first = peer.read(&mut bytes).await.unwrap();
        assert_eq!(bytes[..first], [said("one"), said("two")].concat());
        let since = Instant::now();
        let idle = peer.read(&mut bytes).await.unwrap();
        assert_eq!(bytes[..idle], frame::frame(kind::KEEPALIVE, &[]));
        assert!(since.elapsed() >= SECOND);
        link.send(said("last"));
        link.signal(Signal::Drain);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, said("last"));
        writing.await.unwrap().unwrap();
        assert_eq!(link.track.sent.load(Ordering::Relaxed), 3);
        let bytes: usize = ["one", "two", "last"]
            .map(|text| said(text).len())
            .iter()
            .sum();
        assert_eq!(link.track.sent_bytes.load(Ordering::Relaxed), bytes as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_link_but_not_that_of_its_own_handler() {
        let (mut peer, io) = duplex(1000);
        let handler = Slow {
            takes: 100 * SECOND,
            ..Slow::default()
        };
        let since = Instant::now();
        peer.write_all(&[said("one"), said("two")].concat())
            .await
            .unwrap();
        let end = read(&link(), io, &handler).await;
        assert_eq!(end.to_string(), "nothing was heard for 4s");
        assert!(end.is_break() && !end.is_garbage());
        assert_eq!(handler.heard(), ["one", "two"]);
        assert_eq!(since.elapsed().as_secs(), 204);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_no_silence() {
        let (mut peer, io) = duplex(1000);
        let handler = Slow::default();
        let dribble = async move {
            for byte in said("slow") {
                peer.write_all(&[byte]).await.unwrap();
                sleep(3 * SECOND).await;
            }
        };
        let link = link();
        let (end, ()) = tokio::join!(read(&link, io, &handler), dribble);
        assert!(matches!(end, End::Broken(FrameError::Closed)), "{end}");
        assert_eq!(handler.heard(), ["slow"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_place_ends_a_link_with_its_reason() {
        for (bytes, reason) in [
            (
                frame::frame(kind::HELLO, &[]),
                "a frame of kind 1, which has no place here",
            ),
            (frame::frame(99, &[]), "version 2 has no frame of kind 99"),
            (
                frame::frame(kind::PEERS, &[1]),
                "introductions: byte 0: no name and address",
            ),
            (vec![0, 0, 4, 0], "a frame of 1028 bytes, more than 1000"),
        ] {
            let (mut peer, io) = duplex(1000);
            let handler = Slow::default();
            peer.write_all(&said("before")).await.unwrap();
            peer.write_all(&bytes).await.unwrap();
            let end = read(&link(), io, &handler).await;
            assert_eq!(end.to_string(), reason);
            assert!(end.is_garbage() && !end.is_break());
            assert_eq!(handler.heard(), ["before"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_a_replaced_link_is_delivered() {
        let (mut peer, io) = duplex(1000);
        let handler = Slow::default();
        let link = link();
        link.track.generation.store(1, Ordering::Release);
        peer.write_all(&said("late")).await.unwrap();
        let end = read(&link, io, &handler).await;
        assert!(matches!(end, End::Replaced), "{end}");
        assert!(handler.heard().is_empty());
    }

    #[cfg(feature = "sabotage")]
    #[tokio::test(start_paused = true)]
    async fn a_defect_delivers_what_comes_of_a_replaced_link() {
        #[derive(Debug)]
        struct Always;

        impl crate::sabotage::Saboteur for Always {
            fn acts(&self, defect: Defect) -> bool {
                defect == Defect::OldConnection
            }
        }

        let (mut peer, io) = duplex(1000);
        let handler = Slow::default();
        let bounds = Bounds {
            sabotage: Sabotage::new(Arc::new(Always)),
            ..bounds()
        };
        let link = link();
        link.track.generation.store(1, Ordering::Release);
        link.signal(Signal::Stop);
        let talk = async move {
            for text in ["late", "later"] {
                peer.write_all(&said(text)).await.unwrap();
                sleep(SECOND).await;
            }
        };
        let read = link.read(FrameReader::new(io, 1000), &bounds, &handler, |_| {});
        let (end, ()) = tokio::join!(read, talk);
        assert!(matches!(end, End::Broken(FrameError::Closed)), "{end}");
        assert_eq!(handler.heard(), ["late", "later"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_closes_reads_and_drops_until_the_peer_closes() {
        let (mut peer, io) = duplex(64);
        let handler = Slow {
            takes: 1000 * SECOND,
            ..Slow::default()
        };
        let link = link();
        let talk = async {
            peer.write_all(&said("one")).await.unwrap();
            sleep(SECOND).await;
            link.signal(Signal::Drain);
            // More than there is room for, had it not been read.
            peer.write_all(&[7; 10_000]).await.unwrap();
            drop(peer);
        };
        let (end, ()) = tokio::join!(read(&link, io, &handler), talk);
        assert!(matches!(end, End::Closing), "{end}");
        assert_eq!(handler.heard(), ["one"]);
    }
}
