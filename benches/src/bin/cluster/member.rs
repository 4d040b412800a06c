//! A node on a thread of its own.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use presence_core::tracker::Status;
use presence_server::cluster::{Mesh, MeshConfig, Secret};
use presence_server::env::{Environment, System};
use presence_server::node::{Config, Node};
use presence_server::presence::Process;
use serde_json::json;
use tokio::runtime::Runtime;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) struct Member {
    pub(crate) node: Node,
    name: String,
    bind: String,
    mesh: OnceLock<Arc<Mesh>>,
    /// What is tracked for as long as the member lives.
    processes: Mutex<Vec<Process>>,
    /// Last, so that everything else ends within it.
    runtime: Runtime,
}

impl Member {
    /// A node that is alone.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let config = Config {
            name: name.into(),
            ..Config::default()
        };
        let system = System::new();
        let node = {
            let _in = runtime.enter();
            Node::start(Arc::new(system.clone()), config)?
        };
        // A port that was free a moment ago, so that the others can be told of it beforehand.
        let listening = runtime.block_on(system.listen(([127, 0, 0, 1], 0).into()))?;
        Ok(Self {
            node,
            name: name.to_owned(),
            bind: listening.local_addr()?.to_string(),
            mesh: OnceLock::new(),
            processes: Mutex::default(),
            runtime,
        })
    }

    /// Where it awaits others.
    pub(crate) fn address(&self) -> String {
        self.bind.clone()
    }

    /// Tracks so many presences, spread over so many topics.
    pub(crate) fn fill(&self, topics: usize, presences: usize) -> Result<()> {
        let (process, name) = (self.node.process(), self.name.clone());
        // In the node's own thread, since to wake another for each would take longer than all else.
        let filling = self.runtime.spawn(async move {
            for n in 0..presences {
                let (topic, key) = place(&name, n, topics);
                let meta = json!({ "online_at": "1700000000", "n": n });
                process.track(&topic, key.as_str(), &meta).await?;
            }
            Result::Ok(process)
        });
        let process = self.runtime.block_on(filling)??;
        self.processes().push(process);
        Ok(())
    }

    /// Untracks every second of the presences that it was filled with.
    pub(crate) fn thin(&self, topics: usize, presences: usize) -> Result<()> {
        let process = self.processes().pop().ok_or("it was not filled")?;
        let name = self.name.clone();
        let thinning = self.runtime.spawn(async move {
            for n in (0..presences).step_by(2) {
                let (topic, key) = place(&name, n, topics);
                process.untrack(&topic, key.as_str()).await;
            }
            process
        });
        let process = self.runtime.block_on(thinning)?;
        self.processes().push(process);
        Ok(())
    }

    fn processes(&self) -> MutexGuard<'_, Vec<Process>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it one of a cluster.
    pub(crate) fn join(&self, others: &[String]) -> Result<()> {
        let config = MeshConfig {
            bind: self.bind.clone(),
            join: others.to_vec(),
            ..MeshConfig::new(Secret::new("of this measurement alone")?)
        };
        let mesh = self.runtime.block_on(Mesh::start_for(&self.node, config))?;
        // It joins once.
        let _ = self.mesh.set(mesh);
        Ok(())
    }

    /// Whether it holds as many presences as it must, and lists so many other nodes.
    pub(crate) fn holds(&self, must: impl Fn(usize) -> bool, others: usize) -> Result<bool> {
        let reports = self.runtime.block_on(self.node.reports());
        let report = reports.first().ok_or("the shard has ended")?;
        let is_up = |(_, status): &&(_, Status)| *status == Status::Up;
        let up = report.replicas.iter().filter(is_up).count();
        Ok(must(report.presences) && up == others)
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.node.peers().iter().map(|peer| peer.sent_bytes).sum()
    }
}

/// The topic and the key of a presence.
fn place(name: &str, n: usize, topics: usize) -> (String, String) {
    (format!("room:{}", n % topics), format!("{name}-{n}"))
}
