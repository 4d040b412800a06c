//! A node's process on its host: the node that ships, with the application of the conformance tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use presence_core::presence::Meta;
use presence_core::tracker;
use presence_core::wire::cluster::Version;
use presence_server::app::{self, Tokens};
use presence_server::cluster::{Identity, Mesh, MeshConfig, Secret};
use presence_server::env::Environment as _;
use presence_server::node::{Config, Node};
use presence_server::sabotage::Sabotage;
use presence_server::serve::serve;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::carrier::{Carrier, Ear};
use super::environment::World;
use super::happened::Happened;
use super::journals::StageJournals;
use super::play::TICK;
use super::spoil::{Ears, Mouths};
use super::stage::{Beginning, Call, Stage};
use crate::sabotage::spoil::spoil_config;
use crate::truth;

/// Where clients are awaited.
pub(super) const HTTP: u16 = 4000;
/// Where other nodes are.
const CLUSTER: u16 = 4370;

/// What a node is started with.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) node: usize,
    /// Where it looks for the others.
    pub(super) join: Vec<Arc<str>>,
    pub(super) tracker: tracker::Config,
    pub(super) pool_size: usize,
    /// How much faster its clock runs than that of the run, in millionths.
    pub(super) fast_ppm: u64,
    pub(super) version: Version,
    /// The longest that a message takes.
    pub(super) trip: Duration,
    pub(super) queue_bytes: usize,
    pub(super) bounds: Bounds,
    pub(super) tokens: Tokens,
}

/// Settings of a node that clients should not feel, as they are or so small that they act all the time.
#[derive(Clone)]
pub(super) struct Bounds {
    diff_pause: Duration,
    snapshot_bytes: usize,
    undelivered_messages: usize,
}

impl Bounds {
    /// Those of all nodes of a run.
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0xb0d5);
        Self {
            // For each client that was told, of which a topic has a few.
            diff_pause: Duration::from_micros([20, 20_000, 300_000][rng.usize(0..3)]),
            snapshot_bytes: [64 << 20, 2000][rng.usize(0..2)],
            undelivered_messages: [64, 1][rng.usize(0..2)],
        }
    }
}

/// How long a WebSocket may be silent.
pub(super) const IDLE: Duration = Duration::from_secs(15);
/// How long a long poll waits.
pub(super) const POLL_WINDOW: Duration = Duration::from_secs(5);
/// The longest pause before a node that can't be reached is dialled again.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// After how long without a byte a connection between nodes counts as broken.
pub(super) fn silence(period: Duration, trip: Duration) -> Duration {
    (period * 4).max(Duration::from_secs(1)) + trip * 2
}

/// Runs a process of the node until it has stopped or is gone, if it is to run at all.
pub(super) async fn run(stage: Arc<Stage>, mut setup: Setup) -> turmoil::Result {
    let node = setup.node;
    let Some(beginning) = stage.begin(node) else {
        return Ok(());
    };
    let Beginning {
        process,
        stop,
        mut crash,
        calls,
        seed,
    } = beginning;
    stage.sabotage(|saboteur| spoil_config(saboteur, &mut setup.tracker));
    let world = World::new(Arc::clone(&stage), node, process.clone(), stop, seed);
    let world = Arc::new(world);
    let fast_ppm = setup.fast_ppm;
    let serving = {
        let stage = Arc::clone(&stage);
        process.task(Box::pin(async move {
            if let Err(error) = begin(stage, setup, world, calls).await {
                panic!("a node does not start: {error}");
            }
        }))
    };
    let crashed = async {
        let _ = crash.wait_for(|&crash| crash).await;
    };
    tokio::select! {
        biased;
        () = crashed => {}
        () = skew(&stage, fast_ppm) => {}
        () = serving => {}
    }
    process.end();
    stage.end(node);
    Ok(())
}

async fn begin(
    stage: Arc<Stage>,
    setup: Setup,
    world: Arc<World>,
    calls: mpsc::UnboundedReceiver<Call>,
) -> Result<(), Box<dyn std::error::Error>> {
    let any = Ipv4Addr::UNSPECIFIED.into();
    let http = world.listen(SocketAddr::new(any, HTTP)).await?;
    let config = Config {
        name: Arc::clone(&setup.name),
        tracker: setup.tracker.clone(),
        pool_size: setup.pool_size,
        socket_queue_bytes: 256 << 10,
        diff_pause: setup.bounds.diff_pause,
        snapshot_bytes: setup.bounds.snapshot_bytes,
        undelivered_messages: setup.bounds.undelivered_messages,
        journals: Some(Arc::new(StageJournals {
            stage: Arc::clone(&stage),
            node: setup.node,
        })),
        idle_timeout: IDLE,
        send_timeout: IDLE,
        poll_window: POLL_WINDOW,
        request_timeout: IDLE,
        drain_batch: 3,
        drain_pause: Duration::from_millis(500),
        shutdown_timeout: Duration::from_secs(5),
        sabotage: Sabotage::new(Arc::clone(&stage) as _),
        ..Config::default()
    };
    let (period, second) = (setup.tracker.broadcast_period, Duration::from_secs(1));
    let mesh = MeshConfig {
        bind: format!("0.0.0.0:{CLUSTER}"),
        join: setup
            .join
            .iter()
            .filter(|name| **name != setup.name)
            .map(|name| format!("{name}:{CLUSTER}"))
            .collect(),
        broadcast_period: setup.tracker.broadcast_period,
        // Where messages take longer than the defaults allow for.
        connect_timeout: Some((period * 2).max(second).max(setup.trip * 4)),
        handshake_timeout: Some((period * 3).max(second).max(setup.trip * 10)),
        silence: Some(silence(period, setup.trip)),
        max_backoff: MAX_BACKOFF,
        queue_bytes: setup.queue_bytes,
        max_version: setup.version,
        sabotage: Sabotage::new(Arc::clone(&stage) as _),
        ..MeshConfig::new(Secret::new("of this simulation alone")?)
    };
    let node = Node::start(Arc::clone(&world) as _, config)?;
    let identity = Identity {
        name: setup.name,
        incarnation: node.incarnation(),
        pool_size: u32::try_from(setup.pool_size)?,
    };
    let ear = Arc::new(Ear {
        node: setup.node,
        inner: node.handler(),
        stage: Arc::clone(&stage),
        ears: Ears::default(),
    });
    let process = world.process();
    let mesh = Mesh::start(
        Arc::clone(&world) as _,
        identity,
        mesh,
        Arc::clone(&ear) as _,
    )
    .await?;
    node.attach(Arc::new(Carrier {
        mesh,
        stage: Arc::clone(&stage),
        node: setup.node,
        process: process.clone(),
        mouths: Mouths::default(),
        queue_bytes: setup.queue_bytes,
        dropped: Mutex::default(),
    }));
    stage.hears(setup.node, node.handler());
    let answering = answer(Arc::clone(&stage), setup.node, node.clone(), calls);
    tokio::spawn(process.task(Box::pin(answering)));
    serve(&node, http, app::conformance(&node, setup.tokens)).await;
    Ok(())
}

/// Does what the process is told from outside.
async fn answer(
    stage: Arc<Stage>,
    number: usize,
    node: Node,
    mut calls: mpsc::UnboundedReceiver<Call>,
) {
    while let Some(call) = calls.recv().await {
        match call {
            Call::UpdateTopic(topic) => {
                let numbers = Arc::clone(&stage);
                let renumber = move |_: &str, meta: &Meta| {
                    let before = truth::number(meta.as_str())?;
                    let next = numbers.next_number();
                    numbers.note(Happened::Renumbered { before, next });
                    Meta::parse(&truth::meta(next)).ok()
                };
                // A node that stops takes no updates.
                let _ = node.update_topic(&topic, renumber).await;
            }
            Call::List(topic) => {
                let asked = stage.now();
                let list = node.list(&topic).await;
                stage.note(Happened::Listed {
                    node: number,
                    numbers: super::lists::numbers(list.as_str()),
                    topic,
                    asked,
                });
            }
        }
    }
}

/// Lets a clock run fast: whenever it is a tick behind, it goes on by that at once. (turmoil moves the
/// clock of each host by the same; a clock that is moved by less than a tick within one is not ahead
/// after it.)
async fn skew(stage: &Stage, fast_ppm: u64) {
    if fast_ppm == 0 {
        return std::future::pending().await;
    }
    let tick = Duration::from_micros(TICK);
    let (start, began) = (Instant::now(), stage.now());
    loop {
        tokio::time::sleep(tick).await;
        let passed = Duration::from_micros(stage.now() - began);
        let due = passed + passed * u32::try_from(fast_ppm).unwrap_or(u32::MAX) / 1_000_000;
        let behind = due.saturating_sub(start.elapsed());
        if behind >= tick {
            tokio::time::advance(behind + tick).await;
        }
    }
}
