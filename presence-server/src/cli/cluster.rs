//! The flags that make a node one of a cluster.

use std::path::PathBuf;

use clap::Args;
use presence_core::tracker;
use presence_server::cluster::{MeshConfig, Secret, Tls, TlsError, TlsPart};
use presence_server::node::Config;

use super::value::{Bytes, Period, count, host_and_port, node_name, secret_in, yes_or_no};

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Cluster {
    /// The name of this node, which no other node of the cluster has
    #[arg(long, env = "PRESENCE_NODE", value_name = "NAME", value_parser = node_name)]
    node: Option<String>,
    /// Where other nodes are awaited: makes this node one of a cluster
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_BIND",
        value_name = "HOST:PORT",
        value_parser = host_and_port,
        requires_all = ["node", "secret"]
    )]
    cluster_bind: Option<String>,
    /// Where other nodes reach this one, if not where it awaits them
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_ADVERTISE",
        value_name = "HOST:PORT",
        value_parser = host_and_port,
        requires = "cluster_bind"
    )]
    cluster_advertise: Option<String>,
    /// Nodes to begin with; a name may stand for many, and is resolved again and again
    #[arg(
        long,
        env = "PRESENCE_JOIN",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        value_parser = host_and_port,
        requires = "cluster_bind"
    )]
    join: Vec<String>,
    /// What all nodes of the cluster know and nobody else does, at least 16 bytes
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_SECRET",
        value_name = "SECRET",
        group = "secret",
        requires = "cluster_bind",
        conflicts_with = "cluster_secret_file"
    )]
    cluster_secret: Option<String>,
    /// A file that holds that secret; space around it is not part of it
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_SECRET_FILE",
        value_name = "FILE",
        group = "secret",
        requires = "cluster_bind"
    )]
    cluster_secret_file: Option<PathBuf>,
    /// The certificate of this node, for its name, in PEM: nodes speak TLS with each other
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_CERT",
        value_name = "FILE",
        requires_all = ["cluster_bind", "cluster_key", "cluster_ca"]
    )]
    cluster_cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_KEY",
        value_name = "FILE",
        requires = "cluster_cert"
    )]
    cluster_key: Option<PathBuf>,
    /// The certificate of the CA that has signed those of all nodes, in PEM
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_CA",
        value_name = "FILE",
        requires = "cluster_cert"
    )]
    cluster_ca: Option<PathBuf>,
    /// The name of the cluster; nodes of another are refused
    #[arg(
        long,
        env = "PRESENCE_CLUSTER_NAME",
        value_name = "NAME",
        default_value = "presence",
        value_parser = node_name
    )]
    cluster_name: String,
    /// How much may wait for one node; what comes on top is dropped and healed later
    #[arg(long, env = "PRESENCE_MAX_CLUSTER_QUEUE", value_name = "SIZE", default_value_t = Bytes(64 << 20))]
    max_cluster_queue: Bytes,
    /// How often a node that has something to say tells the others
    #[arg(long, env = "PRESENCE_BROADCAST_PERIOD", value_name = "MS", default_value_t = Period(tracker::Config::default().broadcast_period))]
    broadcast_period: Period,
    /// After how many periods without a word an idle node speaks nevertheless
    #[arg(long, env = "PRESENCE_MAX_SILENT_PERIODS", value_name = "COUNT", default_value_t = tracker::Config::default().max_silent_periods as usize, value_parser = count(u32::MAX as usize))]
    max_silent_periods: usize,
    /// After how much silence a node counts as down; without this 2 × silent periods × period
    #[arg(long, env = "PRESENCE_DOWN_PERIOD", value_name = "MS")]
    down_period: Option<Period>,
    /// After how much silence a node is forgotten
    #[arg(long, env = "PRESENCE_PERMDOWN_PERIOD", value_name = "MS", default_value_t = Period(tracker::Config::default().permdown_period))]
    permdown_period: Period,
    /// Shards that share the topics: as many on every node
    #[arg(long, env = "PRESENCE_POOL_SIZE", value_name = "COUNT", default_value_t = Config::default().pool_size, value_parser = count(1 << 16))]
    pool_size: usize,
    /// Say goodbye when this node stops, so that its presences leave at once
    #[arg(long, env = "PRESENCE_PERMDOWN_ON_SHUTDOWN", value_parser = yes_or_no)]
    permdown_on_shutdown: bool,
    /// When this node stops, let each of its presences go as soon as its key is tracked elsewhere
    #[arg(long, env = "PRESENCE_HANDOVER", value_parser = yes_or_no, conflicts_with = "permdown_on_shutdown")]
    handover: bool,
    /// Where to write down what happens to this node's shards, for sim replay
    #[arg(long, env = "PRESENCE_JOURNAL", value_name = "DIR")]
    pub(crate) journal: Option<PathBuf>,
}

/// Why the node can't be one of the cluster that its flags name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("the cluster's secret cannot be read from {}: {error}", .path.display())]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{part} cannot be read from {}: {error}", .path.display())]
    TlsFile {
        part: TlsPart,
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{error} ({})", .path.display())]
    Tls { path: PathBuf, error: TlsError },
    #[error("{0} (--cluster-secret or --cluster-secret-file)")]
    Secret(#[from] presence_server::cluster::ConfigError),
}

impl Cluster {
    /// Sets what the flags say of the node.
    pub(super) fn configure(&self, config: &mut Config) {
        if let Some(name) = &self.node {
            config.name = name.as_str().into();
        }
        config.pool_size = self.pool_size;
        let silent_periods = u32::try_from(self.max_silent_periods).unwrap_or(u32::MAX);
        let Period(period) = self.broadcast_period;
        let mut tracker = tracker::Config::with_periods(period, silent_periods);
        if let Some(Period(down_period)) = self.down_period {
            tracker.down_period = down_period;
        }
        tracker.permdown_period = self.permdown_period.0;
        tracker.permdown_on_shutdown = self.permdown_on_shutdown;
        tracker.handover = self.handover;
        config.tracker = tracker;
    }

    /// How the node is to find the others, if it is one of a cluster.
    pub(crate) fn mesh(&self) -> Result<Option<MeshConfig>, ClusterError> {
        let Some(bind) = &self.cluster_bind else {
            return Ok(None);
        };
        let secret = match (&self.cluster_secret, &self.cluster_secret_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => secret_in(path).map_err(|error| {
                let path = path.clone();
                ClusterError::File { path, error }
            })?,
            (None, None) => String::new(),
        };
        let Period(broadcast_period) = self.broadcast_period;
        Ok(Some(MeshConfig {
            bind: bind.clone(),
            advertise: self.cluster_advertise.clone(),
            join: self.join.clone(),
            cluster_name: self.cluster_name.as_str().into(),
            broadcast_period,
            queue_bytes: self.max_cluster_queue.0,
            tls: self.tls()?,
            ..MeshConfig::new(Secret::new(secret)?)
        }))
    }

    fn tls(&self) -> Result<Option<Tls>, ClusterError> {
        let (Some(certificate), Some(key), Some(ca)) =
            (&self.cluster_cert, &self.cluster_key, &self.cluster_ca)
        else {
            return Ok(None);
        };
        let read = |part, path: &PathBuf| {
            std::fs::read(path).map_err(|error| {
                let path = path.clone();
                ClusterError::TlsFile { part, path, error }
            })
        };
        let tls = Tls::new(
            read(TlsPart::Certificate, certificate)?,
            read(TlsPart::Key, key)?,
            read(TlsPart::Ca, ca)?,
        );
        let tls = tls.map_err(|error| {
            let path = match error.part() {
                TlsPart::Certificate => certificate,
                TlsPart::Key => key,
                TlsPart::Ca => ca,
            };
            let path = path.clone();
            ClusterError::Tls { path, error }
        });
        tls.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        cluster: Cluster,
    }

    fn flags(args: &[&str]) -> Cluster {
        let args = [&["presence-server"], args].concat();
        Flags::try_parse_from(args).unwrap().cluster
    }

    fn configured(args: &[&str]) -> Config {
        let mut config = Config::default();
        flags(args).configure(&mut config);
        config
    }

    /// The least that makes a node one of a cluster.
    const MEMBER: [&str; 3] = [
        "--node=a",
        "--cluster-bind=127.0.0.1:0",
        "--cluster-secret=sixteen bytes of",
    ];

    fn mesh(args: &[&str]) -> MeshConfig {
        let args = [&MEMBER, args].concat();
        flags(&args).mesh().unwrap().unwrap()
    }

    #[test]
    fn without_flags_a_node_is_alone_and_its_trackers_are_as_they_are() {
        assert_eq!(
            format!("{:?}", configured(&[])),
            format!("{:?}", Config::default())
        );
        assert!(flags(&[]).mesh().unwrap().is_none());
    }

    #[test]
    fn what_is_left_out_follows_from_the_broadcast_period() {
        let tracker = configured(&["--broadcast-period=200", "--max-silent-periods=5"]).tracker;
        assert_eq!(tracker.broadcast_period, Duration::from_millis(200));
        assert_eq!(tracker.down_period, Duration::from_secs(2));
        let given = configured(&["--broadcast-period=1s", "--down-period=1m"]).tracker;
        assert_eq!(given.down_period, Duration::from_secs(60));
        assert_eq!(
            mesh(&["--broadcast-period=200"]).broadcast_period,
            Duration::from_millis(200)
        );
    }

    #[test]
    fn flags_set_what_they_name() {
        let config = configured(&[
            "--node=a",
            "--pool-size=8",
            "--permdown-period=3600000",
            "--handover",
        ]);
        assert_eq!((&*config.name, config.pool_size), ("a", 8));
        assert_eq!(config.tracker.permdown_period, Duration::from_secs(3600));
        assert!(config.tracker.handover && !config.tracker.permdown_on_shutdown);
        assert!(
            configured(&["--permdown-on-shutdown"])
                .tracker
                .permdown_on_shutdown
        );

        let mesh = mesh(&[
            "--cluster-advertise=a.example:4370",
            "--join=b:1,[::1]:2",
            "--join=c:3",
            "--cluster-name=blue",
            "--max-cluster-queue=1MiB",
        ]);
        assert_eq!(mesh.bind, "127.0.0.1:0");
        assert_eq!(mesh.advertise.as_deref(), Some("a.example:4370"));
        assert_eq!(mesh.join, ["b:1", "[::1]:2", "c:3"]);
        assert_eq!((&*mesh.cluster_name, mesh.queue_bytes), ("blue", 1_048_576));
        assert_eq!(mesh.validate(), Ok(()));
    }

    #[test]
    fn a_short_secret_and_a_file_that_is_not_there_are_told() {
        let told = |secret: &str| {
            let mesh = flags(&["--node=a", "--cluster-bind=127.0.0.1:0", secret]).mesh();
            mesh.unwrap_err().to_string()
        };
        assert_eq!(
            told("--cluster-secret=short"),
            "the secret has 5 bytes, fewer than 16 (--cluster-secret or --cluster-secret-file)"
        );
        let told = told("--cluster-secret-file=/nowhere/secret");
        let said = "the cluster's secret cannot be read from /nowhere/secret: ";
        assert!(told.starts_with(said), "{told}");
    }
}
