//! One life of a node: a whole server with the conformance application, on a thread of its own.
//!
//! Its runtime is of that thread alone, so a kill takes everything of the node at once, as the end of a
//! process does: its connections break without a word, and its ports refuse.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use presence_server::app::{self, Tokens};
use presence_server::cluster::{Mesh, MeshConfig, Secret};
use presence_server::env::{Environment as _, Listener};
use presence_server::node::{self, Node};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::case::{Bulk, Settings};
use super::network::World;

/// After so many periods without a word a node that has nothing to say speaks.
const MAX_SILENT_PERIODS: u32 = 5;

/// What all nodes of all cases know.
const SECRET: &str = "of the nodes of the conformance tests";

/// A node that runs. It is killed when it is dropped.
pub(super) struct Life {
    /// Where clients reach it: `HOST:PORT`.
    pub(super) authority: String,
    world: World,
    orders: mpsc::UnboundedSender<Order>,
    /// Its sender goes with the thread.
    ended: oneshot::Receiver<()>,
}

enum Order {
    Kill,
    Bulk(Bulk, oneshot::Sender<Result<(), String>>),
    /// How many nodes it is connected to.
    Connected(oneshot::Sender<usize>),
}

impl Life {
    /// Starts it; `bind` is its address in the cluster, and `join` are those of the others.
    pub(super) async fn start(
        name: &str,
        world: World,
        settings: Settings,
        bind: String,
        join: Vec<String>,
    ) -> Result<Self, String> {
        let config = node::Config {
            name: name.into(),
            tracker: settings.tracker(),
            pool_size: 1,
            poll_window: Duration::from_secs(1),
            ..node::Config::default()
        };
        let mesh = settings.mesh(bind, join)?;
        let (orders, given) = mpsc::unbounded_channel();
        let (started, start) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let world_of_node = world.clone();
        let live = move || {
            live(world_of_node, config, mesh, started, given);
            drop(end);
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(live);
        thread.map_err(|error| format!("no thread for the node: {error}"))?;
        let authority = start.await.map_err(|_| "the node crashed".to_owned())??;
        Ok(Self {
            authority,
            world,
            orders,
            ended,
        })
    }

    /// Tells it to end at once, so that several can before any is waited for.
    pub(super) fn kill(&self) {
        let _ = self.orders.send(Order::Kill);
    }

    /// Tells it to end in good order.
    pub(super) fn stop(&self) {
        self.world.system().request_stop();
    }

    /// Returns once it has ended.
    pub(super) async fn ended(self) {
        let _ = self.ended.await;
    }

    /// Lets processes of the node track.
    pub(super) async fn bulk(&self, bulk: &Bulk) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Bulk(bulk.clone(), done));
        answer.await.map_err(|_| "the node has ended".to_owned())?
    }

    /// How many nodes it is connected to.
    pub(super) async fn connected(&self) -> usize {
        let (done, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Connected(done));
        answer.await.unwrap_or(0)
    }
}

impl Settings {
    fn tracker(self) -> presence_core::tracker::Config {
        presence_core::tracker::Config {
            broadcast_period: self.broadcast_period,
            max_silent_periods: MAX_SILENT_PERIODS,
            down_period: self.down_period,
            permdown_period: self.permdown_period,
            permdown_on_shutdown: self.permdown_on_shutdown,
            ..Default::default()
        }
    }

    /// A mesh that tries at least once in a period to reach who is not reached.
    fn mesh(self, bind: String, join: Vec<String>) -> Result<MeshConfig, String> {
        let secret = Secret::new(SECRET).map_err(|error| error.to_string())?;
        let mut mesh = MeshConfig::new(secret);
        mesh.bind = bind;
        mesh.join = join;
        mesh.resolve_period = self.broadcast_period;
        mesh.max_backoff = self.broadcast_period;
        Ok(mesh)
    }
}

/// Lives until it is killed or has stopped.
fn live(
    world: World,
    config: node::Config,
    mesh: MeshConfig,
    started: oneshot::Sender<Result<String, String>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error.to_string()));
            return;
        }
    };
    runtime.block_on(async {
        let server = match Server::start(world, config, mesh).await {
            Ok(server) => server,
            Err(reason) => {
                let _ = started.send(Err(reason));
                return;
            }
        };
        let _ = started.send(Ok(server.authority.clone()));
        let node = server.node.clone();
        tokio::select! {
            biased;
            () = obey(&node, &mut orders) => {}
            () = server.serve() => {}
        }
    });
    runtime.shutdown_background();
}

/// Does as it is told, until it is told to end.
async fn obey(node: &Node, orders: &mut mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Kill => return,
            Order::Connected(done) => {
                let peers = node.peers().into_iter();
                let _ = done.send(peers.filter(|peer| peer.is_connected).count());
            }
            Order::Bulk(bulk, done) => {
                let node = node.clone();
                tokio::spawn(async move {
                    let mut processes = Vec::new();
                    let mut tracked = Ok(());
                    for number in 1..=bulk.count {
                        let process = node.process();
                        let key = format!("{}{number}", bulk.tag);
                        let meta = json!({ "n": number });
                        if let Err(error) = process.track(&bulk.topic, key.as_str(), &meta).await {
                            tracked = Err(error.to_string());
                            break;
                        }
                        processes.push(process);
                    }
                    let _ = done.send(tracked);
                    // They live as long as the node.
                    std::future::pending::<()>().await;
                });
            }
        }
    }
}

struct Server {
    node: Node,
    listener: Box<dyn Listener>,
    authority: String,
    tokens: Tokens,
}

impl Server {
    async fn start(world: World, config: node::Config, mesh: MeshConfig) -> Result<Self, String> {
        let tokens = Tokens::new(&app::conformance::secret_key_base());
        let tokens = tokens.map_err(|error| error.to_string())?;
        // Clients come from the real world.
        let listener = world.system().listen(([127, 0, 0, 1], 0).into()).await;
        let listener = listener.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let node = Node::start(Arc::new(world), config).map_err(|error| error.to_string())?;
        // It is the node's from here on.
        let mesh = Mesh::start_for(&node, mesh).await;
        mesh.map_err(|error| error.to_string())?;
        Ok(Self {
            node,
            listener,
            authority: address.to_string(),
            tokens,
        })
    }

    async fn serve(self) {
        let router = app::conformance(&self.node, self.tokens);
        presence_server::serve::serve(&self.node, self.listener, router).await;
    }
}
