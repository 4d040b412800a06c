//! The embedded transport: a connection between any two nodes of a cluster, over TCP.
//!
//! A node listens, dials the addresses that it is given, and is told by whom it meets of others, until
//! it has one connection with each. What breaks is dialled again; a node whose connection breaks, and
//! where nobody listens any more, is gone.
//!
//! # What the secret protects, and what TLS adds
//!
//! Both ends of a connection prove that they know the cluster's [`Secret`](super::Secret) before a message is taken,
//! without telling it. So nobody without it can become one of the cluster, by accident or on purpose.
//! It does not
//!
//! - encrypt, or keep anyone from changing, what is sent after the handshake: who can read or write the
//!   packets between two nodes reads and writes what they say;
//! - keep a short or guessable secret from being found: who takes part in a handshake, or sees one, can
//!   try guesses against the proof at leisure. Take 32 random bytes;
//! - tell nodes apart: one that knows it may take any name;
//! - hide who is there: whoever connects is told the name, the address and the cluster of the node,
//!   since that is what an operator must know where two nodes don't suit each other.
//!
//! In a network that others use too, give each node a certificate ([`MeshConfig::tls`]). Then
//!
//! - what nodes say is encrypted, and nobody changes it unnoticed; what was recorded stays secret though
//!   a node's key becomes known later;
//! - only who has a certificate of the cluster's CA is told anything, or can try guesses of the secret,
//!   which is still asked for;
//! - a node has the name that is in its certificate, and no other. Both ends compare them, so that a
//!   node of the cluster can't stand between two others;
//! - all nodes must have one: who speaks TLS and who does not refuse each other.
//!
//! It does not hide who speaks with whom, how much and when, nor the certificates of who is dialled,
//! which anyone can ask for. No certificate is revoked before it ends: a node whose key is lost is shut
//! out by a new CA, or not before its certificate ends.
//!
//! # When a node is gone
//!
//! A node is [gone](Handler::gone) when an established link with it breaks and then two dials in a row
//! to where it listens are refused by its machine, which takes less than three broadcast periods. A
//! time-out is never taken for that: the machine, or the way to it, may come back. Whatever refuses in
//! place of a node that lives (an advertised address where another program or a gateway answers) makes
//! it look gone, so the address must be right.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_core::wire::cluster::{Limits, Version};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::config::{ConfigError, Identity, MeshConfig, split_address};
use super::frame::FrameError;
use super::handshake::{self, HandshakeError, LinkId, Local, Met, Nonce, Role};
use super::introduce::{self, Introduction};
use super::link::{Bounds, End, Link, Signal};
use super::meet::{MeetError, Meeting};
use super::pauses::Jitter;
use super::places::{Dialled, Next, Places};
use super::roster::{Attempt, Roster, Sign};
use super::said::Said;
use super::secure::Secure;
use super::tasks::{Owned, Tasks};
use super::tls::TlsError;
use super::{Handler, Message, Peer, Transport, accept, codec, dial};
use crate::env::{BoxStream, Environment, Listener};
use crate::node::Node;
use crate::sabotage::Defect;

/// After how long a node that has reached no other says that it is alone.
const ALONE_AFTER: Duration = Duration::from_secs(10);

/// The embedded transport of a node. It ends with its last `Arc`.
#[derive(Debug)]
pub struct Mesh {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Held by the one who closes.
    closing: tokio::sync::Mutex<()>,
}

/// Why a mesh can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings can't work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node can't speak TLS with its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection can be awaited there.
    #[error("{address} can't be listened at: {error}")]
    Bind {
        /// The address of the settings.
        address: String,
        /// What the operating system says.
        error: io::Error,
    },
}

impl Mesh {
    /// Binds the listener, then keeps connections to all nodes of the cluster until it is closed or
    /// dropped. The handler lives for as long.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the settings can't work, the certificate is not one that others would take, or the
    /// address is not to be had.
    pub async fn start(
        env: Arc<dyn Environment>,
        identity: Identity,
        config: MeshConfig,
        handler: Arc<dyn Handler>,
    ) -> Result<Arc<Self>, StartError> {
        config.validate()?;
        identity.validate()?;
        let secure = config
            .tls
            .as_ref()
            .map(|tls| Secure::new(Arc::clone(&env), tls, &identity.name))
            .transpose()?;
        let (listener, address) = bind(&*env, &config)
            .await
            .map_err(|error| StartError::Bind {
                address: config.bind.clone(),
                error,
            })?;
        let advertised = config.advertise.clone().unwrap_or(address.to_string());
        let shared = Arc::new(Shared::new(
            env, identity, config, secure, advertised, handler,
        ));
        let tls = shared.secure.is_some();
        info!(%address, tls, "awaiting other nodes");
        shared
            .tasks
            .spawn(accept::accept(Arc::clone(&shared), listener));
        for entry in &shared.config.join {
            let follow = dial::follow(Arc::clone(&shared), entry.clone());
            shared.tasks.spawn(follow);
        }
        if !shared.config.join.is_empty() {
            shared.tasks.spawn(Arc::clone(&shared).tell_if_alone());
        }
        Ok(Arc::new(Self {
            shared,
            address,
            closing: tokio::sync::Mutex::new(()),
        }))
    }

    /// Makes a node one of a cluster; it speaks as often as the node's trackers do.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_for(node: &Node, config: MeshConfig) -> Result<Arc<Self>, StartError> {
        let identity = Identity {
            name: Arc::clone(&node.config().name),
            incarnation: node.incarnation(),
            pool_size: u32::try_from(node.config().pool_size).unwrap_or(u32::MAX),
        };
        let config = MeshConfig {
            broadcast_period: node.config().tracker.broadcast_period,
            ..config
        };
        let env = Arc::clone(node.env());
        let mesh = Self::start(env, identity, config, node.handler()).await?;
        node.attach(Arc::clone(&mesh) as Arc<dyn Transport>);
        Ok(mesh)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Transport for Mesh {
    fn send(&self, to: &To, message: &Message) {
        match to {
            To::All => {
                let links = self.shared.state().roster.links();
                self.shared.send(&links, message);
            }
            To::One(name) => {
                let link = self.shared.state().roster.link_with(name);
                self.shared.send(link.as_slice(), message);
            }
        }
    }

    fn peers(&self) -> Vec<Peer> {
        self.shared.state().roster.peers()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _closing = self.closing.lock().await;
            // The listener closes, and nothing is dialled any more.
            self.shared.tasks.take().shutdown().await;
            let mut running = self.shared.links.take();
            let links = self.shared.state().roster.links();
            for link in &*links {
                link.signal(Signal::Drain);
            }
            let closed = async { while running.join_next().await.is_some() {} };
            if timeout(self.shared.config.close_timeout, closed)
                .await
                .is_err()
            {
                debug!("some nodes have not read all that was sent");
                running.shutdown().await;
            }
        })
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        drop(self.shared.tasks.take());
        drop(self.shared.links.take());
    }
}

/// What the tasks of a mesh share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Arc<dyn Environment>,
    pub(super) config: MeshConfig,
    pub(super) local: Local,
    secure: Option<Secure>,
    pub(super) said: Said,
    /// All but those of links.
    pub(super) tasks: Tasks,
    links: Tasks,
    bounds: Bounds,
    handler: Arc<dyn Handler>,
    state: Mutex<State>,
    /// Held while the handler is told who is connected and who is gone, so that it hears in order.
    telling: Mutex<()>,
}

#[derive(Debug)]
pub(super) struct State {
    roster: Roster,
    places: Places,
}

impl Shared {
    fn new(
        env: Arc<dyn Environment>,
        identity: Identity,
        config: MeshConfig,
        secure: Option<Secure>,
        advertised: String,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let bounds = Bounds {
            keepalive: config.keepalive(),
            silence: config.silence(),
            max_peers: config.max_peers,
            pool_size: identity.pool_size,
            sabotage: config.sabotage.clone(),
            limits: Limits {
                message_bytes: config.max_frame_bytes,
                ..Limits::default()
            },
        };
        let name = Arc::clone(&identity.name);
        let state = State {
            roster: Roster::new(name, config.max_peers, config.queue_bytes),
            places: Places::new(&config),
        };
        Self {
            tasks: Tasks::new(Arc::clone(&env)),
            links: Tasks::new(Arc::clone(&env)),
            env,
            local: Local::new(identity, &config, advertised),
            secure,
            said: Said::default(),
            bounds,
            handler,
            state: Mutex::new(state),
            telling: Mutex::new(()),
            config,
        }
    }

    /// Sends a message over each of these links, written once for each version.
    fn send(&self, links: &[Arc<Link>], message: &Message) {
        let mut written: [Option<Option<Bytes>>; 2] = [None, None];
        for link in links {
            let written = match link.version {
                Version::V1 => &mut written[0],
                Version::V2 => &mut written[1],
            };
            let written = written.get_or_insert_with(|| codec::encode(message, link.version));
            match written {
                Some(frame) if frame.len() <= self.config.max_frame_bytes => {
                    let has_room = link.send(frame.clone());
                    if !has_room && self.config.sabotage.acts(Defect::OverflowUnhealed) {
                        link.queue.deafen();
                    }
                }
                Some(frame) => {
                    link.count_dropped();
                    if self.said.is_new("messages", "too large") {
                        let (bytes, max) = (frame.len(), self.config.max_frame_bytes);
                        warn!(bytes, max, "a message is too large to be sent");
                    }
                }
                None => link.count_dropped(),
            }
        }
    }

    pub(super) async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        resolve(&*self.env, address, self.config.connect_timeout()).await
    }

    pub(super) fn nonce(&self) -> Nonce {
        let mut nonce = Nonce::default();
        for part in nonce.chunks_exact_mut(size_of::<u64>()) {
            part.copy_from_slice(&self.env.random().to_be_bytes());
        }
        nonce
    }

    /// A meeting on a stream, in TLS if this node speaks it.
    pub(super) async fn meeting(
        &self,
        role: Role,
        stream: BoxStream,
    ) -> Result<Meeting, MeetError> {
        let limit = self.config.handshake_timeout();
        match &self.secure {
            Some(secure) => Meeting::secure(stream, limit, secure, role).await,
            None => Ok(Meeting::new(stream, limit)),
        }
    }

    fn jitter(&self) -> Jitter {
        Jitter::of(self.env.random())
    }

    /// Nodes may be reached there: it is dialled from now on.
    pub(super) fn want(self: &Arc<Self>, address: &str, peer: Option<&Arc<str>>) {
        let State { roster, places } = &mut *self.state();
        if let Some(changed) = places.want(address, peer, roster, Instant::now()) {
            let keep = dial::keep(Arc::clone(self), address.to_owned(), changed);
            self.tasks.spawn(keep);
        }
    }

    /// What to do about a place, for the one who was given `changed` for it.
    pub(super) fn next(&self, address: &str, changed: &Arc<Notify>) -> Next {
        let State { roster, places } = &mut *self.state();
        places.next(address, changed, roster, Instant::now())
    }

    /// Whether the nodes at all of these addresses are connected.
    pub(super) fn are_reached(&self, addresses: &[String]) -> bool {
        let state = self.state();
        state.places.are_reached(addresses, &state.roster)
    }

    pub(super) fn attempt(&self) -> Attempt {
        self.state().roster.attempt()
    }

    /// A dial has met a node: whether it may go on, and the last link with the node that was lost.
    pub(super) fn begin(
        &self,
        address: &str,
        attempt: Attempt,
        met: &Met,
    ) -> Result<Option<LinkId>, HandshakeError> {
        let State { roster, places } = &mut *self.state();
        places.met(address, &met.name);
        roster.begin(attempt, met)
    }

    /// The link of a dial that is welcome.
    pub(super) fn welcomed(
        self: &Arc<Self>,
        attempt: Attempt,
        met: &Met,
        seen: IpAddr,
    ) -> Result<Arc<Link>, HandshakeError> {
        self.connected(met, seen, |roster, address| {
            roster.welcomed(attempt, met, address)
        })
    }

    /// The link of a node that has dialled. The first frame in its queue is the welcome.
    pub(super) fn admit(
        self: &Arc<Self>,
        met: &Met,
        seen: IpAddr,
        lost: Option<LinkId>,
    ) -> Result<Arc<Link>, HandshakeError> {
        self.connected(met, seen, |roster, address| {
            let link = roster.admit(met, address, lost)?;
            link.queue.push_news(handshake::welcome().into());
            Ok(link)
        })
    }

    /// Introduces a node whose link counts from now on, and the nodes that are connected, to each other.
    fn connected(
        self: &Arc<Self>,
        met: &Met,
        seen: IpAddr,
        link: impl FnOnce(&mut Roster, String) -> Result<Arc<Link>, HandshakeError>,
    ) -> Result<Arc<Link>, HandshakeError> {
        let address = reached_at(&met.advertised, seen);
        let link = {
            let roster = &mut self.state().roster;
            let is_news = roster.is_news(&met.name, &address);
            let link = link(roster, address.clone())?;
            for frame in introduce::encode(roster.others(&met.name)) {
                link.queue.push_news(frame);
            }
            if is_news {
                let news = introduce::encode([(&*met.name, &*address)].into_iter());
                let links = roster.links();
                for other in links.iter().filter(|other| other.name != met.name) {
                    for frame in &news {
                        other.queue.push_news(frame.clone());
                    }
                }
            }
            link
        };
        self.want(&address, Some(&met.name));
        Ok(link)
    }

    /// Nodes are told of by another.
    fn introduced(self: &Arc<Self>, introductions: &[Introduction]) {
        for Introduction { name, address } in introductions {
            let is_wanted = self.state().roster.introduce(name, address);
            if is_wanted {
                self.want(address, Some(name));
            }
        }
    }

    /// Starts the tasks of a link.
    pub(super) fn run(self: &Arc<Self>, link: Arc<Link>, meeting: Meeting, address: String) {
        let running = Running {
            shared: Arc::clone(self),
            link,
            address,
            since: Instant::now(),
            end: End::Dropped,
        };
        self.links.spawn(running.run(meeting));
    }

    /// A dial is over: whatever it had begun is open to others.
    pub(super) fn abandon(&self, attempt: Attempt) {
        let State { roster, places } = &mut *self.state();
        if let Some(peer) = roster.abandon(attempt) {
            places.abandoned(&peer);
        }
    }

    /// A dial has made no link.
    pub(super) fn dialled(&self, address: &str, dialled: Dialled, sign: Sign) {
        let gone = {
            let State { roster, places } = &mut *self.state();
            let peer = places.peer(address);
            let gone = peer
                .as_ref()
                .and_then(|peer| roster.dialled(peer, address, sign));
            let (jitter, now) = (self.jitter(), Instant::now());
            places.dialled(address, dialled, roster, jitter, now);
            gone
        };
        if let Some(gone) = gone {
            let _telling = self.telling();
            let is_still = self.state().roster.is_still(&gone);
            if is_still {
                // Whether anything is lost by that is the trackers' to say: they know whether it has
                // said that it stops.
                info!(peer = &*gone.name, address, "a node's process is gone");
                self.handler.gone(&gone.name);
            }
        }
    }

    /// Logs why a stream has not become a link: once for each address and reason, and as a warning
    /// where it will not do so until somebody acts.
    pub(super) fn log_refusal(&self, address: &str, error: &MeetError) {
        if error.is_expected() || !self.said.is_new(address, error.kind()) {
            debug!(address, %error, "no connection with a node");
        } else if is_passing(error) {
            info!(address, %error, "no connection with a node");
        } else {
            warn!(address, %error, "no connection with a node");
        }
    }

    /// Says so where no other node is reached within a time: a node whose addresses are wrong looks
    /// as if all were well.
    async fn tell_if_alone(self: Arc<Self>) {
        tokio::time::sleep(ALONE_AFTER).await;
        let is_alone = {
            let State { roster, places } = &*self.state();
            roster.links().is_empty() && !places.are_all_its_own()
        };
        if is_alone {
            let join = self.config.join.join(",");
            warn!(
                join,
                "no other node is reached: this node is alone until one is"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link whose tasks run. Its end is told wherever it comes from, a panic of the handler included.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    link: Arc<Link>,
    /// Of the place that was dialled, or the IP address of the node that has dialled.
    address: String,
    since: Instant,
    end: End,
}

impl Running {
    async fn run(mut self, meeting: Meeting) {
        self.end = self.run_until_it_ends(meeting).await;
    }

    async fn run_until_it_ends(&self, meeting: Meeting) -> End {
        let Meeting {
            mut reader, writer, ..
        } = meeting;
        let Self { shared, link, .. } = self;
        {
            let _telling = shared.telling();
            if link.is_current() {
                self.log("connected");
                shared.handler.connected(&link.name);
            }
        }
        shared.said.forget(&self.address);
        let keepalive = shared.bounds.keepalive;
        let writing = Arc::clone(link);
        let mut writing = Owned::spawn(&*shared.env, async move {
            writing.write(writer, keepalive).await
        });
        reader.set_max(shared.config.max_frame_bytes);
        let introduced = |all: Vec<_>| shared.introduced(&all);
        let reading = link.read(reader, &shared.bounds, &*shared.handler, introduced);
        let mut reading = pin!(reading);
        let end = tokio::select! {
            biased;
            end = &mut reading => end,
            error = failure(&mut writing.result) => {
                // What has come is still taken: it may say why.
                let rest = timeout(shared.bounds.silence, reading).await;
                rest.unwrap_or(End::Broken(error.into()))
            }
        };
        if matches!(end, End::Closing) {
            let _ = (&mut writing.task).await;
        }
        end
    }

    fn log(&self, what: &'static str) {
        let Link {
            name,
            incarnation,
            version,
            ..
        } = &*self.link;
        let (address, version) = (&*self.address, version.number());
        info!(peer = &**name, incarnation, address, version, "{what}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Self {
            shared, link, end, ..
        } = self;
        link.signal(Signal::Stop);
        let counts = {
            let State { roster, places } = &mut *shared.state();
            let counts = roster.ended(link, end);
            if counts {
                let now = Instant::now();
                let jitter = shared.jitter();
                let lived = now - self.since;
                places.broken(&link.name, end, lived, roster, jitter, now);
            }
            counts
        };
        let (peer, address) = (&*link.name, &*self.address);
        if end.is_garbage() && shared.said.is_new(peer, "garbage") {
            warn!(peer, address, reason = %end, "a node has sent what it must not");
        }
        if counts {
            info!(peer, address, reason = %end, "disconnected");
        } else {
            debug!(peer, address, reason = %end, "a replaced connection has ended");
        }
    }
}

/// Whether a stream has not become a link for a reason that goes away by itself: one of the two nodes
/// was paused, or stopped, or whoever connected wanted no more than that.
fn is_passing(error: &MeetError) -> bool {
    match error {
        MeetError::TimedOut(_) => true,
        MeetError::Frame(error) => !matches!(error, FrameError::TooLong { .. } | FrameError::Empty),
        MeetError::Handshake(error) => matches!(
            error,
            HandshakeError::Refused { code, .. } if *code == handshake::NO_HANDSHAKE
        ),
        MeetError::Tls(_) => false,
    }
}

/// Why a link's writer has failed, once it has.
async fn failure(written: &mut oneshot::Receiver<io::Result<()>>) -> io::Error {
    match written.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => error,
        Err(_) => io::Error::other("its writer has panicked"),
    }
}

/// Listens at the first address of the settings that is to be had.
async fn bind(
    env: &dyn Environment,
    config: &MeshConfig,
) -> io::Result<(Box<dyn Listener>, SocketAddr)> {
    let mut error = io::ErrorKind::NotFound.into();
    for address in resolve(env, &config.bind, config.connect_timeout()).await? {
        match env.listen(address).await {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok((listener, address));
            }
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// The addresses of `HOST:PORT`.
async fn resolve(
    env: &dyn Environment,
    address: &str,
    limit: Duration,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = split_address(address).ok_or(io::ErrorKind::InvalidInput)?;
    let resolved = timeout(limit, env.resolve(host, port)).await;
    resolved.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// Where a node is reached that says `advertised` and was seen at an IP address.
fn reached_at(advertised: &str, seen: IpAddr) -> String {
    match advertised.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            SocketAddr::new(seen.to_canonical(), address.port()).to_string()
        }
        Ok(address) => address.to_string(),
        Err(_) => advertised.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_stands_for_the_one_that_is_seen() {
        let seen: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        assert_eq!(reached_at("0.0.0.0:4370", seen), "10.0.0.7:4370");
        assert_eq!(reached_at("[::]:4370", seen), "10.0.0.7:4370");
        assert_eq!(reached_at("10.1.1.1:4370", seen), "10.1.1.1:4370");
        assert_eq!(reached_at("a.example:4370", seen), "a.example:4370");
    }
}
