//! The world of a node: turmoil's network, and what goes wrong beyond it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::BoxFuture;
use presence_server::env::{BoxStream, Environment, Listener};
use turmoil::net::{TcpListener, TcpStream};

use super::gate::Process;
use super::stage::{Stage, Stop};
use super::stream::Fated;

/// A name that stands for the addresses of all nodes.
pub(super) const ALL: &str = "all-nodes";

/// The world of one life of a node.
#[derive(Debug)]
pub(super) struct World {
    stage: Arc<Stage>,
    node: usize,
    process: Process,
    stop: Arc<Stop>,
    rng: Mutex<Rng>,
}

impl World {
    /// `seed` is that of the random numbers that the node draws.
    pub(super) fn new(
        stage: Arc<Stage>,
        node: usize,
        process: Process,
        stop: Arc<Stop>,
        seed: u64,
    ) -> Self {
        Self {
            stage,
            node,
            process,
            stop,
            rng: Mutex::new(Rng::with_seed(seed)),
        }
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }
}

struct Listening {
    listener: TcpListener,
    node: usize,
    stage: Arc<Stage>,
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            let way = node_at(&self.stage, peer).map(|to| (self.node, to));
            Ok((fated(stream, way, &self.stage), peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Environment for World {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let listener: Box<dyn Listener> = Box::new(Listening {
                listener,
                node: self.node,
                stage: Arc::clone(&self.stage),
            });
            Ok(listener)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let to = node_at(&self.stage, address);
            let is_cut = to.is_some_and(|to| self.stage.is_cut(self.node, to));
            connect(&self.stage, address, (Some(self.node), to), is_cut).await
        })
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let found = match host.parse() {
                Ok(address) => vec![address],
                Err(_) if host == ALL => {
                    let names = self.stage.names();
                    names.iter().map(|name| turmoil::lookup(&**name)).collect()
                }
                // turmoil looks up whatever else it is asked for as a new host.
                Err(_) if self.stage.node_named(host).is_some() => vec![turmoil::lookup(host)],
                Err(_) => return Err(io::ErrorKind::NotFound.into()),
            };
            let found = found.into_iter();
            Ok(found
                .map(|address| SocketAddr::new(address, port))
                .collect())
        })
    }

    fn unix_time(&self) -> Duration {
        self.stage.unix_time(self.node)
    }

    fn random(&self) -> u64 {
        let rng = self.rng.lock();
        rng.unwrap_or_else(PoisonError::into_inner).u64(..)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.stop.wait())
    }

    fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        self.process.task(task)
    }
}

/// Opens a connection, from a node or else a client. Whoever can't be reached gives no answer, and the
/// machine of a process that is gone refuses, if there still is one. (turmoil refuses at once across a cut,
/// and lets a host without a process answer nothing.)
pub(super) async fn connect(
    stage: &Arc<Stage>,
    address: SocketAddr,
    (from, to): (Option<usize>, Option<usize>),
    is_cut: bool,
) -> io::Result<BoxStream> {
    // A process that is stopped answers nobody either, and turmoil's queue of connections is short.
    if is_cut || to.is_some_and(|to| stage.is_paused(to)) {
        return std::future::pending().await;
    }
    if to.is_some_and(|to| !stage.runs(to)) {
        if !stage.machines_stay() {
            return std::future::pending().await;
        }
        tokio::time::sleep(stage.round_trip()).await;
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    match TcpStream::connect(address).await {
        Ok(stream) => Ok(fated(stream, from.zip(to), stage)),
        // A cut that began meanwhile, or a process that does not listen yet.
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The node on the host of this address, if it is one of a node.
fn node_at(stage: &Stage, address: SocketAddr) -> Option<usize> {
    let host = turmoil::reverse_lookup(address.ip())?;
    stage.node_named(&host)
}

fn fated(stream: TcpStream, way: Option<(usize, usize)>, stage: &Arc<Stage>) -> BoxStream {
    Box::new(Fated::new(stream, way, stage.fate(), Arc::clone(stage)))
}
