//! The nodes of one case, and the network between them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::case::{Bulk, Case, Settings};
use super::network::Network;
use super::node::Life;

/// How long the nodes may take to become one cluster.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often they are asked whether they are.
const GLANCE: Duration = Duration::from_millis(5);

/// The nodes of a case.
pub(super) struct Nodes {
    settings: Settings,
    network: Network,
    running: BTreeMap<String, Life>,
    /// All that ever ran.
    known: Vec<String>,
    /// Those that are one cluster, which a new one joins.
    cluster: Vec<String>,
}

impl Nodes {
    /// Starts those that a case begins with; returns once they are one cluster, unless they are apart.
    pub(super) async fn start(case: &Case) -> Result<Self, String> {
        let mut nodes = Self {
            settings: case.settings,
            network: Network::default(),
            running: BTreeMap::new(),
            known: Vec::new(),
            cluster: Vec::new(),
        };
        for name in &case.nodes {
            nodes.network.add(name);
            nodes.known.push(name.clone());
        }
        if !case.is_apart {
            nodes.meet(&case.nodes);
        }
        for name in &case.nodes {
            nodes.live(name).await?;
        }
        if !case.is_apart {
            let assembled = tokio::time::timeout(PATIENCE, nodes.assembled()).await;
            assembled.map_err(|_| format!("no cluster after {PATIENCE:?}"))?;
        }
        Ok(nodes)
    }

    /// Starts a node, new or again.
    pub(super) async fn begin(&mut self, name: &str) -> Result<(), String> {
        if !self.known.iter().any(|known| known == name) {
            self.network.add(name);
            self.known.push(name.to_owned());
            let mut cluster = self.cluster.clone();
            cluster.push(name.to_owned());
            self.meet(&cluster);
        }
        self.live(name).await
    }

    /// Ends nodes at once, all in the same moment.
    pub(super) async fn kill(&mut self, names: &[String]) -> Result<(), String> {
        let mut dying = Vec::new();
        for name in names {
            let life = self.running.remove(name);
            dying.push(life.ok_or_else(|| does_not_run(name))?);
        }
        dying.iter().for_each(Life::kill);
        for life in dying {
            life.ended().await;
        }
        Ok(())
    }

    /// Ends a node in good order.
    pub(super) async fn stop(&mut self, name: &str) -> Result<(), String> {
        let life = self.running.remove(name);
        let life = life.ok_or_else(|| does_not_run(name))?;
        life.stop();
        life.ended().await;
        Ok(())
    }

    pub(super) fn cut(&self, pairs: &[[String; 2]]) {
        for [one, other] in pairs {
            self.network.cut(one, other);
        }
    }

    pub(super) fn heal(&self, pairs: &[[String; 2]]) {
        for [one, other] in pairs {
            self.network.heal(one, other);
        }
    }

    /// Makes nodes one cluster.
    pub(super) fn meet(&mut self, names: &[String]) {
        for (at, one) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                self.network.meet(one, other);
            }
            if !self.cluster.contains(one) {
                self.cluster.push(one.clone());
            }
        }
    }

    pub(super) async fn bulk(&self, bulk: &Bulk) -> Result<(), String> {
        self.running(&bulk.node)?.bulk(bulk).await
    }

    /// Where clients reach a node.
    pub(super) fn authority(&self, name: &str) -> Result<String, String> {
        Ok(self.running(name)?.authority.clone())
    }

    /// A node that runs, the first by name.
    pub(super) fn any(&self) -> Option<&str> {
        self.running.keys().next().map(String::as_str)
    }

    fn running(&self, name: &str) -> Result<&Life, String> {
        self.running.get(name).ok_or_else(|| does_not_run(name))
    }

    async fn live(&mut self, name: &str) -> Result<(), String> {
        let others = self.known.iter().filter(|known| *known != name);
        let join = others.map(|other| self.network.address(other).to_string());
        let join = join.collect();
        let bind = self.network.address(name).to_string();
        let world = self.network.world(name);
        let life = Life::start(name, world, self.settings, bind, join).await;
        let life = life.map_err(|reason| format!("the node {name:?} does not start: {reason}"))?;
        self.running.insert(name.to_owned(), life);
        Ok(())
    }

    /// Returns once every node is connected to every other.
    async fn assembled(&self) {
        for life in self.running.values() {
            while life.connected().await + 1 < self.running.len() {
                tokio::time::sleep(GLANCE).await;
            }
        }
    }
}

fn does_not_run(name: &str) -> String {
    format!("the node {name:?} does not run")
}
