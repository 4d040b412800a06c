//! The network between the nodes of one case, which can be cut and healed.
//!
//! A node's cluster address is one that no machine has, and the same in all its lives; the network
//! knows the port of this machine that it stands for now. Every connection between nodes goes through
//! here, so both its ends are known: a cut breaks those of the two nodes, as one that times out, and
//! lets none through until it is healed. A node that does not run refuses them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use presence_server::env::{BoxStream, Environment, Listener, System};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpSocket;
use tokio::sync::watch;

/// Every node's cluster port.
const PORT: u16 = 4369;

/// The first of the addresses, of a block that is for examples alone (RFC 5737).
const FIRST: u32 = 0xC000_0201;

/// A network. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Network(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By name, in the order of their addresses.
    nodes: Vec<Place>,
    /// The pairs that reach each other unless they are cut.
    met: BTreeSet<Pair>,
    cut: BTreeSet<Pair>,
    /// What tells the connections of a pair that it is cut.
    cuts: BTreeMap<Pair, watch::Sender<()>>,
    /// Who dials, by the address that it dials from, until the other side has accepted.
    dialing: BTreeMap<SocketAddr, (String, watch::Receiver<()>)>,
}

#[derive(Debug)]
struct Place {
    name: String,
    /// Where its present life listens.
    listens: Option<SocketAddr>,
}

/// Two nodes, whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair(String, String);

impl Pair {
    fn new(one: &str, other: &str) -> Self {
        let (one, other) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Self(one.to_owned(), other.to_owned())
    }
}

impl Network {
    /// Gives a node its place, if it has none.
    pub(super) fn add(&self, name: &str) {
        let mut state = self.state();
        if state.place(name).is_none() {
            state.nodes.push(Place {
                name: name.to_owned(),
                listens: None,
            });
        }
    }

    /// The world of a node in this network.
    pub(super) fn world(&self, name: &str) -> World {
        World {
            name: name.to_owned(),
            network: self.clone(),
            system: System::new(),
        }
    }

    /// Where a node listens for others, in all its lives.
    pub(super) fn address(&self, name: &str) -> SocketAddr {
        self.state().address(name)
    }

    /// Lets two nodes reach each other.
    pub(super) fn meet(&self, one: &str, other: &str) {
        self.state().met.insert(Pair::new(one, other));
    }

    /// Breaks what is between two nodes, and lets nothing new through.
    pub(super) fn cut(&self, one: &str, other: &str) {
        let mut state = self.state();
        let pair = Pair::new(one, other);
        if let Some(cut) = state.cuts.get(&pair) {
            cut.send_replace(());
        }
        state.cut.insert(pair);
    }

    /// Lets new connections of two nodes through again.
    pub(super) fn heal(&self, one: &str, other: &str) {
        self.state().cut.remove(&Pair::new(one, other));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, from: &str, address: SocketAddr) -> io::Result<BoxStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let local = socket.local_addr()?;
        let (listens, cut) = self.state().dial(from, address, local)?;
        let connected = socket.connect(listens).await;
        if connected.is_err() {
            self.state().dialing.remove(&local);
        }
        let stream = connected?;
        stream.set_nodelay(true)?;
        Ok(Box::new(Link::new(Box::new(stream), &cut)))
    }
}

impl State {
    fn place(&mut self, name: &str) -> Option<&mut Place> {
        self.nodes.iter_mut().find(|place| place.name == name)
    }

    fn address(&self, name: &str) -> SocketAddr {
        let at = self.nodes.iter().position(|place| place.name == name);
        let at = u32::try_from(at.unwrap_or(self.nodes.len())).unwrap_or(u32::MAX);
        let address = Ipv4Addr::from_bits(FIRST.saturating_add(at));
        (address, PORT).into()
    }

    /// The way to an address, if there is one now.
    fn dial(
        &mut self,
        from: &str,
        address: SocketAddr,
        local: SocketAddr,
    ) -> io::Result<(SocketAddr, watch::Receiver<()>)> {
        let place = self.nodes.iter();
        let place = place
            .into_iter()
            .find(|place| self.address(&place.name) == address);
        let place = place.ok_or(io::ErrorKind::HostUnreachable)?;
        let pair = Pair::new(from, &place.name);
        if self.cut.contains(&pair) || !self.met.contains(&pair) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let listens = place.listens.ok_or(io::ErrorKind::ConnectionRefused)?;
        let cut = self.cuts.entry(pair).or_default().subscribe();
        self.dialing.insert(local, (from.to_owned(), cut.clone()));
        Ok((listens, cut))
    }
}

/// The world of one life of a node: the real one, but that it reaches other nodes through the network.
#[derive(Clone, Debug)]
pub(super) struct World {
    name: String,
    network: Network,
    system: System,
}

impl World {
    /// The real world, for what the node has to do with others than nodes.
    pub(super) fn system(&self) -> &System {
        &self.system
    }
}

impl Environment for World {
    /// Listens at the node's cluster address, whatever `address` is.
    fn listen(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = self.system.listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
            let listens = listener.local_addr()?;
            if let Some(place) = self.network.state().place(&self.name) {
                place.listens = Some(listens);
            }
            Ok(Box::new(Listens {
                name: self.name.clone(),
                network: self.network.clone(),
                listener,
            }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(self.network.connect(&self.name, address))
    }

    /// Addresses are all that is ever told of a node.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let address = host.parse::<IpAddr>().map(|ip| vec![(ip, port).into()]);
        Box::pin(async move { address.map_err(io::Error::other) })
    }

    fn unix_time(&self) -> Duration {
        self.system.unix_time()
    }

    fn random(&self) -> u64 {
        self.system.random()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.system.stop()
    }
}

struct Listens {
    name: String,
    network: Network,
    listener: Box<dyn Listener>,
}

impl Listener for Listens {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            loop {
                let (stream, peer) = self.listener.accept().await?;
                let mut state = self.network.state();
                // Anyone else is no node of this network.
                if let Some((dialer, cut)) = state.dialing.remove(&peer) {
                    let peer = (state.address(&dialer).ip(), peer.port()).into();
                    let link: BoxStream = Box::new(Link::new(stream, &cut));
                    return Ok((link, peer));
                }
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.network.address(&self.name))
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        if let Some(place) = self.network.state().place(&self.name) {
            place.listens = None;
        }
    }
}

/// One end of a connection between nodes.
struct Link {
    stream: BoxStream,
    /// One for each direction, since a task of its own may wait for each.
    read_cut: Cut,
    write_cut: Cut,
}

/// Becomes true once the connection is cut, and stays so.
enum Cut {
    NotYet(BoxFuture<'static, ()>),
    Done,
}

impl Cut {
    fn new(cut: &watch::Receiver<()>) -> Self {
        let mut cut = cut.clone();
        Self::NotYet(Box::pin(async move {
            if cut.changed().await.is_err() {
                // The network is gone, and nobody cuts any more.
                std::future::pending::<()>().await;
            }
        }))
    }

    /// An error once it is cut; else the task is woken when it is.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Self::NotYet(cut) = self {
            if cut.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            *self = Self::Done;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Link {
    fn new(stream: BoxStream, cut: &watch::Receiver<()>) -> Self {
        Self {
            stream,
            read_cut: Cut::new(cut),
            write_cut: Cut::new(cut),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read_cut.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_cut.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_cut.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_cut.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Two nodes that have met, and where the second listens.
    async fn pair() -> (Network, World, Box<dyn Listener>) {
        let network = Network::default();
        for name in ["n1", "n2"] {
            network.add(name);
        }
        network.meet("n2", "n1");
        let listener = listen(&network).await;
        let dialer = network.world("n1");
        (network, dialer, listener)
    }

    async fn listen(network: &Network) -> Box<dyn Listener> {
        let anywhere = (Ipv4Addr::LOCALHOST, 0).into();
        network.world("n2").listen(anywhere).await.unwrap()
    }

    async fn dial(dialer: &World, network: &Network) -> Result<BoxStream, io::ErrorKind> {
        let dialed = dialer.connect(network.address("n2")).await;
        dialed.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn a_cut_breaks_both_ends_and_lets_none_through_until_it_is_healed() {
        let (network, dialer, mut listener) = pair().await;
        let mut one = dial(&dialer, &network).await.unwrap();
        let (mut other, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip(), network.address("n1").ip());
        one.write_all(b"a").await.unwrap();
        assert_eq!(other.read_u8().await.unwrap(), b'a');
        one.write_all(b"never read").await.unwrap();
        let waiting = tokio::spawn(async move { one.read_u8().await.unwrap_err().kind() });
        tokio::task::yield_now().await;

        network.cut("n1", "n2");
        assert_eq!(waiting.await.unwrap(), io::ErrorKind::TimedOut);
        for _ in 0..2 {
            assert_eq!(
                other.read_u8().await.unwrap_err().kind(),
                io::ErrorKind::TimedOut
            );
            assert_eq!(
                other.write_u8(1).await.unwrap_err().kind(),
                io::ErrorKind::TimedOut
            );
        }
        assert_eq!(
            dial(&dialer, &network).await.err(),
            Some(io::ErrorKind::TimedOut)
        );

        network.heal("n2", "n1");
        assert_eq!(
            other.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        let mut one = dial(&dialer, &network).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        one.write_all(b"b").await.unwrap();
        assert_eq!(other.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_before_it_is_accepted_is_broken() {
        let (network, dialer, mut listener) = pair().await;
        let mut one = dial(&dialer, &network).await.unwrap();
        network.cut("n1", "n2");
        let (mut other, _) = listener.accept().await.unwrap();
        assert_eq!(
            one.write_u8(1).await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(
            other.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }

    #[tokio::test]
    async fn a_node_that_is_gone_refuses_and_its_next_life_is_at_the_same_address() {
        let (network, dialer, listener) = pair().await;
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(
            dial(&dialer, &network).await.err(),
            Some(io::ErrorKind::ConnectionRefused)
        );
        let listener = listen(&network).await;
        assert_eq!(listener.local_addr().unwrap(), address);
        assert!(dial(&dialer, &network).await.is_ok());
    }

    #[tokio::test]
    async fn a_node_reaches_those_that_it_has_met() {
        let (network, _, _listener) = pair().await;
        network.add("n3");
        let stranger = network.world("n3");
        assert_eq!(
            dial(&stranger, &network).await.err(),
            Some(io::ErrorKind::TimedOut)
        );
        network.meet("n3", "n2");
        assert!(dial(&stranger, &network).await.is_ok());
        let nobody = stranger.connect((Ipv4Addr::LOCALHOST, 1).into()).await;
        assert_eq!(
            nobody.err().map(|error| error.kind()),
            Some(io::ErrorKind::HostUnreachable)
        );
    }
}
