//! The environment: everything that a node has of the outside world.
//!
//! A node listens, connects, resolves names, reads the wall clock, draws random numbers, begins tasks
//! and learns that it should stop through one value of [`Environment`], and in no other way. So two nodes live in one
//! process without sharing anything, and a simulation can put another world around the same node.
//! Monotonic time is `tokio::time`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A two-way stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, of whatever kind.
pub type BoxStream = Box<dyn Stream>;

/// A place where connections arrive.
pub trait Listener: Send {
    /// The next connection and its peer's address.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// That of the operating system.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// What a node has of the outside world.
pub trait Environment: Send + Sync + fmt::Debug {
    /// Begins to listen.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Opens a connection.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// The addresses of a host name and port.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// The time since the Unix epoch, by the wall clock.
    fn unix_time(&self) -> Duration;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Returns once the node should stop.
    fn stop(&self) -> BoxFuture<'_, ()>;

    /// What runs as a task of the node: `task` itself, unless the world puts something around it.
    ///
    /// Every task that a node begins goes through here, so that a world can pause them all as one
    /// stopped process, end them in an order of its own, and see a panic in any. It is boxed, since
    /// the world is one value for tasks of any kind.
    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        task
    }
}

/// Begins a task of a node in this world.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place where tasks begin"
)]
pub(crate) fn spawn(
    env: &dyn Environment,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(env.task(Box::pin(task)))
}

/// Begins a task of a node in this world, one of several that end together.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place where tasks begin"
)]
pub(crate) fn spawn_among(
    tasks: &mut JoinSet<()>,
    env: &dyn Environment,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(env.task(Box::pin(task)));
}

/// The real world: tokio's sockets, the system's clock and randomness.
///
/// Clones are told to stop together.
#[derive(Clone, Debug)]
pub struct System {
    stop: Arc<watch::Sender<bool>>,
}

impl System {
    /// A world that goes on until [`stop`](Self::request_stop) is requested.
    pub fn new() -> Self {
        Self {
            stop: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Tells the nodes in this world to stop.
    pub fn request_stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment for System {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place where the wall clock is read"
    )]
    fn unix_time(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place where random numbers are drawn"
    )]
    fn random(&self) -> u64 {
        getrandom::u64().expect("the operating system gives random numbers")
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        let mut stop = self.stop.subscribe();
        Box::pin(async move {
            // The sender lives as long as `self`.
            let _ = stop.wait_for(|&stop| stop).await;
        })
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = Self::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}
