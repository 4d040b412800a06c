//! A node in a world of a test's own, which holds its tasks and its clock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

#[path = "program/answer.rs"]
mod answer;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use answer::Answer;
use axum::Router;
use futures_util::future::BoxFuture;
use presence_server::cluster::{Mesh, MeshConfig, Secret, Transport as _};
use presence_server::env::{BoxStream, Environment, Listener, System};
use presence_server::node::{Config, Node};
use presence_server::serve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a test waits for what must not happen.
const MOMENT: Duration = Duration::from_millis(100);

/// How long anything may take before a test gives up.
const LIMIT: Duration = Duration::from_secs(30);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// The real world, but that its clock stands still, and so do the tasks of a node while it is stopped.
#[derive(Clone, Debug, Default)]
struct World {
    system: System,
    stopped: Arc<Stopped>,
}

#[derive(Debug, Default)]
struct Stopped {
    is_stopped: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl World {
    fn stop_process(&self) {
        self.stopped.is_stopped.store(true, Ordering::SeqCst);
    }

    fn continue_process(&self) {
        self.stopped.is_stopped.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.stopped.waiting.lock().unwrap());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Environment for World {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.system.listen(address)
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        self.system.connect(address)
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.system.resolve(host, port)
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs(784_111_777)
    }

    fn random(&self) -> u64 {
        self.system.random()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.system.stop()
    }

    fn task(&self, mut task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let stopped = Arc::clone(&self.stopped);
        Box::pin(poll_fn(move |context| {
            if stopped.is_stopped.load(Ordering::SeqCst) {
                let mut waiting = stopped.waiting.lock().unwrap();
                waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            task.as_mut().poll(context)
        }))
    }
}

fn node(world: &World, name: &str) -> Node {
    let config = Config {
        name: name.into(),
        ..Config::default()
    };
    Node::start(Arc::new(world.clone()), config).unwrap()
}

async fn mesh(node: &Node, join: Vec<String>) -> Arc<Mesh> {
    let config = MeshConfig {
        bind: "127.0.0.1:0".into(),
        join,
        ..MeshConfig::new(Secret::new("what only these nodes know").unwrap())
    };
    Mesh::start_for(node, config).await.unwrap()
}

async fn patient<F: Future>(future: F) -> F::Output {
    let outcome = tokio::time::timeout(LIMIT, future).await;
    outcome.expect("it takes for ever")
}

#[tokio::test]
async fn a_stopped_node_does_nothing_until_it_goes_on() {
    let world = World::default();
    let (a, b) = (node(&world, "a"), node(&World::default(), "b"));
    let listener = world.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    // Accepting is not a task of the node but of whoever serves; all that comes of it is.
    let served = a.clone();
    tokio::spawn(async move { serve::serve(&served, listener, Router::new()).await });
    let mesh_a = mesh(&a, Vec::new()).await;

    world.stop_process();
    let joined = mesh(&b, vec![mesh_a.local_addr().to_string()]).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = String::new();
    let mut count = Box::pin(a.count("t"));
    let answered = tokio::time::timeout(MOMENT, stream.read_to_string(&mut answer)).await;
    assert!(answered.is_err(), "{answered:?}");
    assert!(tokio::time::timeout(MOMENT, &mut count).await.is_err());
    assert!(!joined.peers().iter().any(|peer| peer.is_connected));

    world.continue_process();
    assert_eq!(patient(count).await, 0);
    patient(stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(Answer::parse(&answer).status, 404);
    let connected = async {
        while !joined.peers().iter().any(|peer| peer.is_connected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patient(connected).await;
}

#[tokio::test]
async fn an_answer_is_dated_by_the_clock_of_the_world() {
    let world = World::default();
    let node = node(&world, "a");
    let listener = world.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { serve::serve(&node, listener, Router::new()).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = String::new();
    patient(stream.read_to_string(&mut answer)).await.unwrap();
    let date = Answer::parse(&answer).header("date").map(str::to_owned);
    assert_eq!(date.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
}
