//! A node that records what its mesh tells it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_core::wire::Payload;
use presence_server::cluster::{
    Handler, Identity, Mesh, MeshConfig, Message, Peer, Secret, Transport as _,
};
use presence_server::env::{Environment, System};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Far more than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The broadcast period of these nodes.
pub(crate) const PERIOD: Duration = Duration::from_millis(100);

/// What a node was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Connected(String),
    Gone(String),
    Received(String, Message),
}

/// Records, and takes messages only while its gate is open.
#[derive(Debug)]
pub(crate) struct Record {
    events: watch::Sender<Vec<Event>>,
    gate: Semaphore,
}

impl Record {
    fn push(&self, event: Event) {
        self.events.send_modify(|events| events.push(event));
    }

    /// From now on messages wait.
    pub(crate) async fn shut(&self) {
        self.gate.acquire().await.unwrap().forget();
    }

    /// Messages are taken again.
    pub(crate) fn open(&self) {
        self.gate.add_permits(1);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    pub(crate) fn count(&self, event: &Event) -> usize {
        let events = self.events.borrow();
        events.iter().filter(|other| *other == event).count()
    }

    /// The messages of a node, in the order in which they came.
    pub(crate) fn messages(&self, from: &str) -> Vec<Message> {
        let events = self.events.borrow();
        let message = |event: &Event| match event {
            Event::Received(name, message) if name == from => Some(message.clone()),
            _ => None,
        };
        events.iter().filter_map(message).collect()
    }

    pub(crate) async fn wait(&self, is_met: impl FnMut(&Vec<Event>) -> bool) {
        let mut events = self.events.subscribe();
        let met = timeout(LIMIT, events.wait_for(is_met)).await;
        assert!(met.is_ok(), "{:?}", self.events());
    }

    pub(crate) async fn wait_for(&self, event: &Event) {
        self.wait(|events| events.contains(event)).await;
    }
}

impl Handler for Record {
    fn connected(&self, peer: &Arc<str>) {
        self.push(Event::Connected(peer.to_string()));
    }

    fn gone(&self, peer: &Arc<str>) {
        self.push(Event::Gone(peer.to_string()));
    }

    fn received<'a>(
        &'a self,
        peer: &'a Arc<str>,
        message: Message,
        bytes: usize,
    ) -> BoxFuture<'a, ()> {
        assert!(bytes > 0);
        Box::pin(async move {
            drop(self.gate.acquire().await.unwrap());
            self.push(Event::Received(peer.to_string(), message));
        })
    }
}

/// A node's mesh and its record.
pub(crate) struct Node {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) record: Arc<Record>,
}

pub(crate) fn config() -> MeshConfig {
    let mut config = MeshConfig::new(Secret::new("what only these nodes know").unwrap());
    config.bind = "127.0.0.1:0".into();
    config.broadcast_period = PERIOD;
    config.max_backoff = Duration::from_millis(500);
    config
}

pub(crate) fn joining(addresses: &[String]) -> MeshConfig {
    let mut config = config();
    config.join = addresses.to_vec();
    config
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        name: name.into(),
        incarnation: 1,
        pool_size: 4,
    }
}

impl Node {
    pub(crate) async fn start(name: &str, config: MeshConfig) -> Self {
        Self::start_as(identity(name), config).await
    }

    pub(crate) async fn start_as(identity: Identity, config: MeshConfig) -> Self {
        Self::start_in(Arc::new(System::new()), identity, config).await
    }

    pub(crate) async fn start_in(
        env: Arc<dyn Environment>,
        identity: Identity,
        config: MeshConfig,
    ) -> Self {
        let record = Arc::new(Record {
            events: watch::Sender::default(),
            gate: Semaphore::new(1),
        });
        let handler = Arc::clone(&record);
        let mesh = Mesh::start(env, identity, config, handler);
        let mesh = mesh.await.unwrap();
        Self { mesh, record }
    }

    pub(crate) fn address(&self) -> String {
        self.socket_address().to_string()
    }

    pub(crate) fn socket_address(&self) -> SocketAddr {
        self.mesh.local_addr()
    }

    pub(crate) fn peer(&self, name: &str) -> Option<Peer> {
        let mut peers = self.mesh.peers().into_iter();
        peers.find(|peer| &*peer.name == name)
    }

    pub(crate) fn is_connected(&self, name: &str) -> bool {
        self.peer(name).is_some_and(|peer| peer.is_connected)
    }

    pub(crate) async fn connected(&self, name: &str) {
        self.record.wait_for(&Event::Connected(name.into())).await;
    }

    /// Waits until the mesh knows this of a peer.
    pub(crate) async fn wait_peer(&self, name: &str, is_met: impl Fn(&Peer) -> bool) {
        until(|| self.peer(name).is_some_and(|peer| is_met(&peer))).await;
    }

    pub(crate) fn say(&self, to: &str, text: &str) {
        self.mesh.send(&To::One(to.into()), &message(text));
    }

    /// Waits until a node has said this.
    pub(crate) async fn heard(&self, from: &str, text: &str) {
        let event = Event::Received(from.into(), message(text));
        self.record.wait_for(&event).await;
    }

    /// Waits until a node has said anything.
    pub(crate) async fn heard_some(&self, from: &str) {
        let is_met = |event: &Event| matches!(event, Event::Received(name, _) if name == from);
        self.record.wait(|events| events.iter().any(is_met)).await;
    }

    /// Says something to a node until it was heard.
    pub(crate) async fn reach(&self, other: &Self, from: &str, to: &str, text: &str) {
        let event = Event::Received(from.into(), message(text));
        until(|| {
            self.say(to, text);
            other.record.count(&event) > 0
        })
        .await;
    }
}

/// Waits for what no event tells.
pub(crate) async fn until(mut is_met: impl FnMut() -> bool) {
    let met = timeout(LIMIT, async {
        while !is_met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    met.await.expect("it comes to be");
}

pub(crate) fn message(text: &str) -> Message {
    sized(text, 0)
}

/// A message with so many bytes of payload.
pub(crate) fn sized(text: &str, bytes: usize) -> Message {
    Message::Broadcast {
        topic: "room:1".into(),
        event: text.into(),
        payload: Payload::Binary(vec![7; bytes].into()),
    }
}
