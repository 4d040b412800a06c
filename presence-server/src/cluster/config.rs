//! The settings of a [`Mesh`](super::Mesh), and who a node is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use presence_core::wire::cluster::{Limits, Version};

use super::tls::Tls;
use crate::sabotage::Sabotage;

/// The longest name of a node or a cluster, in bytes: that of a replica.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// The longest `HOST:PORT`, in bytes: the longest host name, and brackets, colon and port.
pub(super) const MAX_ADDRESS_BYTES: usize = 255 + 8;

/// The least that `max_frame_bytes` can be: what a handshake needs.
pub(super) const MIN_MAX_FRAME_BYTES: usize = 4096;

/// What a frame has beyond the message of a tracker in it, or the texts of a broadcast.
const FRAME_OVERHEAD: usize = 64;

/// Who a node is, to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, which no other node of the cluster has: 1 to 255 bytes.
    pub name: Arc<str>,
    /// Its life: higher than that of any life before under this name.
    pub incarnation: u64,
    /// How many shards share the topics. Nodes whose numbers differ refuse each other.
    pub pool_size: u32,
}

/// What all nodes of a cluster know and nobody else does. Its `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The shortest, in bytes.
    pub const MIN_BYTES: usize = 16;

    /// The secret of these bytes. They should be random: see the [cluster's page](super::mesh) for what
    /// a guessed one opens.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Secret`] where there are fewer than [`MIN_BYTES`](Self::MIN_BYTES).
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        let bytes = bytes.as_ref();
        if bytes.len() < Self::MIN_BYTES {
            return Err(ConfigError::Secret { len: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The settings of a mesh. Where a period is `None`, it follows from `broadcast_period`.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// Where connections of other nodes are awaited, `HOST:PORT`. `0.0.0.0:4370` by default; port 0 is
    /// any that is free.
    pub bind: String,
    /// Where others reach this node, `HOST:PORT`. By default it is `bind`; where that is every address
    /// of the machine, each node takes the one that it sees. A node whose connection breaks counts as
    /// gone when this address refuses, so nothing else may refuse in its place.
    pub advertise: Option<String>,
    /// Nodes to begin with, each `HOST:PORT`. A name may stand for many nodes.
    pub join: Vec<String>,
    /// The name of the cluster, `presence` by default. Nodes of others are refused.
    pub cluster_name: Arc<str>,
    /// What proves that a node belongs to the cluster.
    pub secret: Secret,
    /// With what nodes speak TLS: not at all by default. All nodes of a cluster do, or none.
    pub tls: Option<Tls>,
    /// How often a tracker speaks: 1.5 s by default.
    pub broadcast_period: Duration,
    /// After how long without a frame one is sent: one broadcast period.
    pub keepalive: Option<Duration>,
    /// After how long without a byte of the peer a connection counts as broken: 4 broadcast periods, so
    /// that three keepalives of a peer with the same period may be late, and it is known long before
    /// the tracker counts the node as down, after 20 periods by default; but 1 s at least, since a busy
    /// machine may well pause for some 100 ms.
    pub silence: Option<Duration>,
    /// How long a connection may take to be made: 2 broadcast periods, but 1 s at least.
    pub connect_timeout: Option<Duration>,
    /// How long a handshake may take from its first byte to its last: 3 broadcast periods, but 1 s at
    /// least.
    pub handshake_timeout: Option<Duration>,
    /// How long to wait before the names in `join` are resolved again while a node that they stand for
    /// is not connected: 5 s by default. While all are, it is six times as long.
    pub resolve_period: Duration,
    /// The longest pause before an address that can't be reached is dialled again: 10 s by default.
    pub max_backoff: Duration,
    /// After how long an address that can't be reached is forgotten, unless it is in `join`: 1 h by
    /// default.
    pub forget_after: Duration,
    /// How long a mesh that closes waits for its peers to read what was sent: 1 s by default.
    pub close_timeout: Duration,
    /// Bytes that may wait for one peer: 64 MiB by default. What comes on top is dropped.
    pub queue_bytes: usize,
    /// The longest frame that is sent or read, in bytes: 64 MiB by default, and what a frame has beyond
    /// its message.
    pub max_frame_bytes: usize,
    /// Nodes that are known at once: 1,024 by default.
    pub max_peers: usize,
    /// Connections of others whose handshake is under way at once: 64 by default. More wait to be
    /// accepted.
    pub max_handshakes: usize,
    /// The defects that a simulation has planted: none by default.
    pub sabotage: Sabotage,
    /// The oldest version that is spoken.
    #[doc(hidden)]
    pub min_version: Version,
    /// The newest version that is spoken.
    #[doc(hidden)]
    pub max_version: Version,
}

/// Settings that can't work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The secret is too short.
    #[error("the secret has {len} bytes, fewer than {}", Secret::MIN_BYTES)]
    Secret {
        /// Its bytes.
        len: usize,
    },
    /// A name is empty, too long, or has control characters.
    #[error("{what} has {len} bytes, not 1 to {MAX_NAME_BYTES}, or control characters")]
    Name {
        /// Whose name.
        what: &'static str,
        /// Its bytes.
        len: usize,
    },
    /// A setting that must be at least one is zero.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// An address has not the form that it must have.
    #[error("{what} is {address:?}, not HOST:PORT")]
    Address {
        /// The setting.
        what: &'static str,
        /// Its value.
        address: String,
    },
    /// An idle connection would count as broken.
    #[error("silence is {silence:?}, not more than two keepalives of {keepalive:?}")]
    Silence {
        /// The setting.
        silence: Duration,
        /// The setting.
        keepalive: Duration,
    },
    /// A frame can't be so small or so large.
    #[error("max_frame_bytes is {0}, not {MIN_MAX_FRAME_BYTES} to {max}", max = u32::MAX)]
    Frame(usize),
    /// No version is left to speak.
    #[error("the oldest version is newer than the newest")]
    Versions,
}

impl MeshConfig {
    /// The default settings with this secret.
    pub fn new(secret: Secret) -> Self {
        Self {
            bind: "0.0.0.0:4370".into(),
            advertise: None,
            join: Vec::new(),
            cluster_name: "presence".into(),
            secret,
            tls: None,
            broadcast_period: Duration::from_millis(1500),
            keepalive: None,
            silence: None,
            connect_timeout: None,
            handshake_timeout: None,
            resolve_period: Duration::from_secs(5),
            max_backoff: Duration::from_secs(10),
            forget_after: Duration::from_secs(60 * 60),
            close_timeout: Duration::from_secs(1),
            queue_bytes: 64 << 20,
            max_frame_bytes: Limits::default().message_bytes + FRAME_OVERHEAD,
            max_peers: 1024,
            max_handshakes: 64,
            sabotage: Sabotage::default(),
            min_version: Version::OLDEST,
            max_version: Version::NEWEST,
        }
    }

    /// Refuses settings that can't work.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`], which says why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_name("cluster_name", &self.cluster_name)?;
        let zero = [
            ("broadcast_period", self.broadcast_period.is_zero()),
            ("keepalive", self.keepalive().is_zero()),
            ("connect_timeout", self.connect_timeout().is_zero()),
            ("handshake_timeout", self.handshake_timeout().is_zero()),
            ("resolve_period", self.resolve_period.is_zero()),
            ("max_backoff", self.max_backoff.is_zero()),
            ("queue_bytes", self.queue_bytes == 0),
            ("max_peers", self.max_peers == 0),
            ("max_handshakes", self.max_handshakes == 0),
        ];
        if let Some((name, _)) = zero.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(name));
        }
        let addresses = [("bind", &self.bind)]
            .into_iter()
            .chain(self.advertise.as_ref().map(|it| ("advertise", it)))
            .chain(self.join.iter().map(|it| ("join", it)));
        for (what, address) in addresses {
            if !is_address(address) {
                let address = address.clone();
                return Err(ConfigError::Address { what, address });
            }
        }
        let (silence, keepalive) = (self.silence(), self.keepalive());
        if silence <= keepalive.saturating_mul(2) {
            return Err(ConfigError::Silence { silence, keepalive });
        }
        let is_length = u32::try_from(self.max_frame_bytes).is_ok();
        if self.max_frame_bytes < MIN_MAX_FRAME_BYTES || !is_length {
            return Err(ConfigError::Frame(self.max_frame_bytes));
        }
        if self.min_version > self.max_version {
            return Err(ConfigError::Versions);
        }
        Ok(())
    }

    pub(super) fn keepalive(&self) -> Duration {
        self.keepalive.unwrap_or(self.broadcast_period)
    }

    pub(super) fn silence(&self) -> Duration {
        self.silence.unwrap_or_else(|| self.periods(4))
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or_else(|| self.periods(2))
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout.unwrap_or_else(|| self.periods(3))
    }

    /// So many broadcast periods, but 1 s at least.
    fn periods(&self, count: u32) -> Duration {
        let periods = self.broadcast_period.saturating_mul(count);
        periods.max(Duration::from_secs(1))
    }
}

impl Identity {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_name("the node's name", &self.name)?;
        if self.pool_size == 0 {
            return Err(ConfigError::Zero("pool_size"));
        }
        Ok(())
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), ConfigError> {
    let len = name.len();
    let named = is_name(name).then_some(());
    named.ok_or(ConfigError::Name { what, len })
}

/// Whether a node or a cluster can have this name: 1 to 255 bytes without control characters.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

/// Whether this is `HOST:PORT`, where a host that is an IPv6 address stands in brackets.
pub fn is_address(address: &str) -> bool {
    split_address(address).is_some()
}

/// The host and the port of `HOST:PORT`, where a host that is an IPv6 address stands in brackets.
pub(super) fn split_address(address: &str) -> Option<(&str, u16)> {
    if address.len() > MAX_ADDRESS_BYTES {
        return None;
    }
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None => host,
    };
    let is_host = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MeshConfig {
        MeshConfig::new(Secret::new([7; 16]).unwrap())
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(split_address("a.b:1"), Some(("a.b", 1)));
        assert_eq!(split_address("[::1]:65535"), Some(("::1", 65_535)));
        let long = format!("{}:1", "a".repeat(300));
        for wrong in [
            "", "a", "a:", ":1", "a:65536", "a:-1", "[::1:1", "a b:1", "a\n:1", &long,
        ] {
            assert_eq!(split_address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_and_not_short() {
        let error = Secret::new("fifteen bytes !").unwrap_err();
        assert_eq!(error, ConfigError::Secret { len: 15 });
        assert_eq!(error.to_string(), "the secret has 15 bytes, fewer than 16");
        let config = MeshConfig::new(Secret::new("sixteen bytes of").unwrap());
        assert!(!format!("{config:?}").contains("sixteen"));
    }

    #[test]
    fn periods_follow_the_broadcast_period_unless_set() {
        let mut config = config();
        assert_eq!(config.silence(), Duration::from_secs(6));
        config.broadcast_period = Duration::from_millis(50);
        assert_eq!(config.keepalive(), Duration::from_millis(50));
        assert_eq!(config.silence(), Duration::from_secs(1));
        config.silence = Some(Duration::from_millis(101));
        assert_eq!(config.validate(), Ok(()));
        config.silence = Some(Duration::from_millis(100));
        assert!(matches!(
            config.validate(),
            Err(ConfigError::Silence { .. })
        ));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |spoil: fn(&mut MeshConfig)| {
            let mut config = config();
            spoil(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(refused(|it| it.max_peers = 0), "max_peers must not be 0");
        assert_eq!(
            refused(|it| it.join = vec!["a:1".into(), "b".into()]),
            "join is \"b\", not HOST:PORT"
        );
        assert_eq!(
            refused(|it| it.cluster_name = "".into()),
            "cluster_name has 0 bytes, not 1 to 255, or control characters"
        );
        assert_eq!(
            refused(|it| it.max_frame_bytes = 100),
            "max_frame_bytes is 100, not 4096 to 4294967295"
        );
        assert_eq!(
            refused(|it| {
                it.min_version = Version::V2;
                it.max_version = Version::V1;
            }),
            "the oldest version is newer than the newest"
        );
    }
}
