//! Requests that one node makes of another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_core::wire::cluster::Version;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};

use crate::cluster::{Message, Peer, Transport};
use crate::env::{self, Environment};

/// The service that says that a node is there.
const HERE: &str = "here";

/// What answers the requests of other nodes.
pub(crate) type Service = dyn Fn(Bytes) -> BoxFuture<'static, Bytes> + Send + Sync;

/// Asks other nodes, and answers them.
pub(crate) struct Relay {
    env: Arc<dyn Environment>,
    transport: Arc<OnceLock<Arc<dyn Transport>>>,
    /// By name.
    services: Mutex<BTreeMap<Arc<str>, Arc<Service>>>,
    /// The requests whose answer is waited for, by number.
    asked: Mutex<BTreeMap<u64, Asked>>,
    /// The number of the last request. It begins anywhere: what a process was asked for may be answered to the
    /// next process of its name, in which that number must be nobody's.
    last: AtomicU64,
    /// How many more requests of others may be under way.
    places: Arc<Semaphore>,
}

fn can_be_asked(peer: &Peer) -> bool {
    peer.is_connected && peer.version != Version::V1.number()
}

struct Asked {
    peer: Arc<str>,
    answer: oneshot::Sender<Bytes>,
}

/// A request, as it goes to another node.
#[derive(Serialize, Deserialize)]
struct Request<'a> {
    service: &'a str,
    body: &'a [u8],
}

impl Relay {
    /// At most `places` requests of other nodes are under way at once.
    pub(crate) fn new(
        env: Arc<dyn Environment>,
        transport: Arc<OnceLock<Arc<dyn Transport>>>,
        places: usize,
    ) -> Self {
        let last = AtomicU64::new(env.random());
        let relay = Self {
            env,
            transport,
            services: Mutex::default(),
            asked: Mutex::default(),
            last,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
        };
        let here = |_| Box::pin(std::future::ready(Bytes::from_static(b"here"))) as _;
        relay.serve(HERE, Arc::new(here));
        relay
    }

    /// Returns once all of these nodes that are connected have taken in what they were sent before.
    pub(crate) async fn reach_all(&self, peers: Vec<Peer>) {
        let connected = peers.into_iter().filter(can_be_asked);
        let asked = connected.map(|peer| async move { self.ask(&peer.name, HERE, b"").await });
        futures_util::future::join_all(asked).await;
    }

    /// Lets `service` answer the requests for its name.
    pub(crate) fn serve(&self, name: &str, service: Arc<Service>) {
        lock(&self.services).insert(name.into(), service);
    }

    /// Whether a node can be asked: there is a connection to it, and it speaks a version that has
    /// requests.
    pub(crate) fn reaches(&self, peer: &str) -> bool {
        let peers = self
            .transport
            .get()
            .map_or_else(Vec::new, |transport| transport.peers());
        let mut named = peers.iter().filter(|known| *known.name == *peer);
        named.any(can_be_asked)
    }

    /// Asks a service of a node. `None` where it has no such service or no room; of one that is gone
    /// there is no answer.
    pub(crate) async fn ask(&self, peer: &str, service: &str, body: &[u8]) -> Option<Bytes> {
        let transport = self.transport.get()?;
        let peer: Arc<str> = peer.into();
        let body = postcard::to_allocvec(&Request { service, body }).ok()?;
        let id = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            peer: Arc::clone(&peer),
            answer,
        };
        lock(&self.asked).insert(id, asked);
        // Forgotten when nobody waits any more.
        let _forget = Forget { relay: self, id };
        let body = body.into();
        transport.send(&To::One(peer), &Message::Request { id, body });
        answered.await.ok().filter(|answer| !answer.is_empty())
    }

    /// A node asks.
    pub(crate) fn handle_request(&self, peer: &Arc<str>, id: u64, body: &Bytes) {
        let Some(transport) = self.transport.get().map(Arc::clone) else {
            return;
        };
        let to = To::One(Arc::clone(peer));
        let refused = Message::Answer {
            id,
            body: Bytes::new(),
        };
        let request = postcard::from_bytes::<Request<'_>>(body).ok();
        let service = request.as_ref().and_then(|request| {
            let services = lock(&self.services);
            services.get(request.service).map(Arc::clone)
        });
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (Some(request), Some(service), Ok(place)) = (request, service, place) else {
            transport.send(&to, &refused);
            return;
        };
        let answer = service(body.slice_ref(request.body));
        env::spawn(&*self.env, async move {
            let body = answer.await;
            transport.send(&to, &Message::Answer { id, body });
            drop(place);
        });
    }

    /// A node answers.
    pub(crate) fn handle_answer(&self, peer: &str, id: u64, body: Bytes) {
        let mut asked = lock(&self.asked);
        if asked.get(&id).is_some_and(|asked| *asked.peer == *peer)
            && let Some(asked) = asked.remove(&id)
        {
            // Nobody may wait any more.
            let _ = asked.answer.send(body);
        }
    }
}

/// Forgets a request.
struct Forget<'a> {
    relay: &'a Relay,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.relay.asked).remove(&self.id);
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;
    use crate::env::System;

    /// Keeps what is to be sent.
    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Message>>);

    impl Transport for Kept {
        fn send(&self, _: &To, message: &Message) {
            lock(&self.0).push(message.clone());
        }

        fn peers(&self) -> Vec<Peer> {
            Vec::new()
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    impl Kept {
        /// The number of the last request.
        fn last(&self) -> u64 {
            match lock(&self.0).last() {
                Some(Message::Request { id, .. }) => *id,
                other => panic!("{other:?}"),
            }
        }
    }

    fn relay() -> (Relay, Arc<Kept>) {
        let kept = Arc::<Kept>::default();
        let transport = OnceLock::from(Arc::clone(&kept) as Arc<dyn Transport>);
        let env = Arc::new(System::new());
        (Relay::new(env, Arc::new(transport), 9), kept)
    }

    async fn waits(asked: impl Future<Output = Option<Bytes>>) -> bool {
        tokio::time::timeout(Duration::ZERO, asked).await.is_err()
    }

    #[tokio::test]
    async fn an_answer_to_the_process_before_is_nobodys() {
        let (before, kept) = relay();
        let mut asked = pin!(before.ask("b", HERE, b""));
        assert!(waits(&mut asked).await);
        let old = kept.last();

        let (relay, kept) = relay();
        let mut asked = pin!(relay.ask("b", HERE, b""));
        assert!(waits(&mut asked).await);
        relay.handle_answer("b", old, Bytes::from_static(b"to the one before"));
        assert!(waits(&mut asked).await);
        relay.handle_answer("b", kept.last(), Bytes::from_static(b"here"));
        assert_eq!(asked.await, Some(Bytes::from_static(b"here")));
    }

    #[tokio::test]
    async fn an_answer_of_another_node_is_nobodys() {
        let (relay, kept) = relay();
        let mut asked = pin!(relay.ask("b", HERE, b""));
        assert!(waits(&mut asked).await);
        relay.handle_answer("c", kept.last(), Bytes::from_static(b"not there"));
        assert!(waits(&mut asked).await);
        relay.handle_answer("b", kept.last(), Bytes::new());
        assert_eq!(asked.await, None, "it has no such service");
    }
}
