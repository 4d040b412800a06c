//! Hellos: what nodes say of themselves before anything is proved.
//!
//! A hello has a magic number, the oldest and the newest version that the node speaks, and fields in
//! postcard's encoding; what a later version adds to its end is not looked at.

use std::sync::Arc;

use presence_core::tracker::shard_of;
use presence_core::wire::cluster::Version;
use serde::{Deserialize, Serialize};

use super::config::{MAX_ADDRESS_BYTES, MAX_NAME_BYTES, split_address};
use super::handshake::{HandshakeError, Local, Nonce};

/// What every hello begins with.
pub(super) const MAGIC: &[u8; 8] = b"PRESMESH";

/// How topics are laid on shards: the name of the hash, and what it gives for one topic.
fn topic_hash() -> String {
    let shard = shard_of("room:lobby", 1_000_000_007);
    format!("fnv1a64-splitmix64:{shard}")
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fields<'a> {
    cluster_name: &'a str,
    name: &'a str,
    incarnation: u64,
    pool_size: u32,
    topic_hash: &'a str,
    nonce: Nonce,
    advertised: &'a str,
}

/// A hello, by itself sound.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    oldest: u8,
    newest: u8,
    cluster_name: String,
    pub(super) name: Arc<str>,
    pub(super) incarnation: u64,
    pool_size: u32,
    topic_hash: String,
    nonce: Nonce,
    pub(super) advertised: String,
}

impl Hello {
    pub(super) fn of(local: &Local, nonce: Nonce) -> Self {
        Self {
            oldest: local.oldest.number(),
            newest: local.newest.number(),
            cluster_name: (*local.cluster_name).into(),
            name: Arc::clone(&local.identity.name),
            incarnation: local.identity.incarnation,
            pool_size: local.identity.pool_size,
            topic_hash: topic_hash(),
            nonce,
            advertised: local.advertised.clone(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let bytes = [&MAGIC[..], &[self.oldest, self.newest]].concat();
        let fields = Fields {
            cluster_name: &self.cluster_name,
            name: &self.name,
            incarnation: self.incarnation,
            pool_size: self.pool_size,
            topic_hash: &self.topic_hash,
            nonce: self.nonce,
            advertised: &self.advertised,
        };
        postcard::to_extend(&fields, bytes).expect("a growing buffer takes any value")
    }

    /// Reads a hello that suits this node, and the version to speak. Versions are compared before the
    /// fields are read, which another version may have otherwise.
    pub(super) fn decode(bytes: &[u8], local: &Local) -> Result<(Self, Version), HandshakeError> {
        let malformed = |what, at| HandshakeError::Malformed { what, at };
        let at = MAGIC.len();
        let fields = bytes
            .strip_prefix(MAGIC)
            .ok_or(malformed("magic number", 0))?;
        let (&[oldest, newest], fields) = fields
            .split_first_chunk()
            .ok_or(malformed("versions", at))?;
        let version = common_version(local, oldest, newest)?;
        let at = at + 2;
        let (fields, _): (Fields<'_>, _) =
            postcard::take_from_bytes(fields).map_err(|_| malformed("fields of a hello", at))?;
        let is_text =
            |text: &str, max| (1..=max).contains(&text.len()) && !text.contains(char::is_control);
        if !is_text(fields.cluster_name, MAX_NAME_BYTES) {
            return Err(malformed("name of a cluster", at));
        }
        if !is_text(fields.name, MAX_NAME_BYTES) {
            return Err(malformed("name of a node", at));
        }
        if !is_text(fields.topic_hash, MAX_NAME_BYTES) {
            return Err(malformed("topic hash", at));
        }
        let address = fields.advertised;
        if !is_text(address, MAX_ADDRESS_BYTES) || split_address(address).is_none() {
            return Err(malformed("advertised address", at));
        }
        let hello = Self {
            oldest,
            newest,
            cluster_name: fields.cluster_name.into(),
            name: fields.name.into(),
            incarnation: fields.incarnation,
            pool_size: fields.pool_size,
            topic_hash: fields.topic_hash.into(),
            nonce: fields.nonce,
            advertised: fields.advertised.into(),
        };
        hello.suits(local)?;
        Ok((hello, version))
    }

    /// Whether it is of the same cluster.
    fn suits(&self, local: &Local) -> Result<(), HandshakeError> {
        let ours = Self::of(local, self.nonce);
        if self.cluster_name != ours.cluster_name {
            return Err(HandshakeError::ClusterName {
                ours: Arc::clone(&local.cluster_name),
                theirs: self.cluster_name.clone(),
            });
        }
        if self.topic_hash != ours.topic_hash {
            return Err(HandshakeError::TopicHash {
                ours: ours.topic_hash,
                theirs: self.topic_hash.clone(),
            });
        }
        let (ours, theirs) = (ours.pool_size, self.pool_size);
        if theirs != ours {
            return Err(HandshakeError::PoolSize { ours, theirs });
        }
        Ok(())
    }
}

/// The lower one of both newest versions.
fn common_version(local: &Local, oldest: u8, newest: u8) -> Result<Version, HandshakeError> {
    let ours = (local.oldest.number(), local.newest.number());
    let common = newest.min(ours.1);
    Version::from_number(common)
        .filter(|_| common >= oldest.max(ours.0))
        .ok_or(HandshakeError::NoCommonVersion {
            ours,
            theirs: (oldest, newest),
        })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::config::{Identity, MeshConfig, Secret};
    use super::*;

    pub(in super::super) fn local(name: &str) -> Local {
        let identity = Identity {
            name: name.into(),
            incarnation: 7,
            pool_size: 4,
        };
        let config = MeshConfig::new(Secret::new([7; 16]).unwrap());
        Local::new(identity, &config, format!("{name}.example:1"))
    }

    #[test]
    fn a_later_version_is_met_as_the_newest_that_both_speak() {
        let mut body = Hello::of(&local("b"), [1; 32]).encode();
        body[9] = 9;
        body.extend_from_slice(b"more, that comes later");
        let (hello, version) = Hello::decode(&body, &local("a")).unwrap();
        assert_eq!((&*hello.name, version), ("b", Version::V2));
        body[8] = 3;
        assert_eq!(
            Hello::decode(&body, &local("a")).unwrap_err().to_string(),
            "no common version: this node speaks 1 to 2, the other 3 to 9"
        );
    }

    #[test]
    fn another_topic_hash_is_refused() {
        let a = local("a");
        let mut hello = Hello::of(&local("b"), [1; 32]);
        hello.topic_hash = "phash2:1".into();
        let error = Hello::decode(&hello.encode(), &a).unwrap_err();
        assert_eq!(
            error.to_string(),
            "another topic hash: this node has \"fnv1a64-splitmix64:71933755\", the other \"phash2:1\""
        );
    }

    #[test]
    fn what_is_no_hello_is_named_with_its_place() {
        let refused = |spoil: fn(&mut Hello)| {
            let mut hello = Hello::of(&local("b"), [1; 32]);
            spoil(&mut hello);
            let error = Hello::decode(&hello.encode(), &local("a")).unwrap_err();
            error.to_string()
        };
        let malformed = |what| format!("no handshake: byte 10: no {what}");
        assert_eq!(
            refused(|it| it.name = "".into()),
            malformed("name of a node")
        );
        assert_eq!(
            refused(|it| it.name = "a\nb".into()),
            malformed("name of a node")
        );
        assert_eq!(
            refused(|it| it.cluster_name = "x".repeat(256)),
            malformed("name of a cluster")
        );
        assert_eq!(
            refused(|it| it.advertised = "nowhere".into()),
            malformed("advertised address")
        );
    }
}
