//! The handshake of two nodes, as a state machine without any input or output.
//!
//! | | dialer | acceptor |
//! |---|---|---|
//! | 1 | hello | |
//! | 2 | | its proof, hello |
//! | 3 | its proof, which link it has lost | |
//! | 4 | | welcome |
//!
//! In place of any of them a node may say why it refuses, and closes. A proof is the HMAC-SHA256, with the cluster's secret, of the role, the version, both
//! hellos and the rest of the frame that it is in: each hello has a random nonce, so that no proof is
//! good twice, and the role keeps a node from being shown its own.
//!
//! What differs is told before anyone has proved anything, since it is what an operator must know.
//! That a node has met itself, or its own name, counts only with a proof.

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use presence_core::wire::cluster::Version;
use sha2::{Digest as _, Sha256};

use super::config::{Identity, MeshConfig, Secret};
use super::frame::{self, Frame, kind};
use super::hello::{Hello, MAGIC};

/// The code of a refusal where there was no handshake.
pub(super) const NO_HANDSHAKE: u8 = 11;

const PROOF_BYTES: usize = 32;
/// The longest reason of a refusal, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// What makes a handshake the only one of its kind.
pub(super) type Nonce = [u8; 32];

/// The name of a link, the same at both ends: of both nonces.
pub(super) type LinkId = [u8; 16];

/// What a node says of itself.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) identity: Identity,
    pub(super) cluster_name: Arc<str>,
    pub(super) secret: Secret,
    pub(super) oldest: Version,
    pub(super) newest: Version,
    /// Where it is reached. An unspecified IP address stands for the one that the other node sees.
    pub(super) advertised: String,
}

/// A node that has proved that it belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) name: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) advertised: String,
    pub(super) version: Version,
    pub(super) id: LinkId,
}

/// Why two nodes don't connect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("no common version: this node speaks {} to {}, the other {} to {}", ours.0, ours.1, theirs.0, theirs.1)]
    NoCommonVersion { ours: (u8, u8), theirs: (u8, u8) },
    #[error("another cluster: this node is of {ours:?}, the other of {theirs:?}")]
    ClusterName { ours: Arc<str>, theirs: String },
    #[error("another pool size: this node has {ours}, the other {theirs}")]
    PoolSize { ours: u32, theirs: u32 },
    #[error("another topic hash: this node has {ours:?}, the other {theirs:?}")]
    TopicHash { ours: String, theirs: String },
    #[error("another secret: all nodes of a cluster need the same")]
    Secret,
    #[error(
        "another node has the name {name:?} too, with incarnation {incarnation}: each needs its own"
    )]
    OwnName { name: Arc<str>, incarnation: u64 },
    #[error("the node has met itself")]
    Itself,
    #[error(
        "an earlier incarnation: the other node is {name:?} with {theirs}, and {known} is connected; do two nodes have this name?"
    )]
    OldIncarnation {
        name: Arc<str>,
        theirs: u64,
        known: u64,
    },
    #[error("too many nodes: {max} are connected")]
    TooManyPeers { max: usize },
    #[error("already connected with {name:?}")]
    Already { name: Arc<str> },
    #[error(
        "another node's certificate: the other node says that it is {name:?}, and shows one for {names}"
    )]
    Certificate { name: Arc<str>, names: String },
    #[error("no handshake: byte {at}: no {what}")]
    Malformed { what: &'static str, at: usize },
    #[error("no handshake: a frame of kind {kind}, not {wanted}")]
    Unexpected { kind: u8, wanted: &'static str },
    #[error("the other node refuses and says: {reason}")]
    Refused { code: u8, reason: String },
}

impl HandshakeError {
    /// Which it is, on the wire.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::NoCommonVersion { .. } => 1,
            Self::ClusterName { .. } => 2,
            Self::PoolSize { .. } => 3,
            Self::TopicHash { .. } => 4,
            Self::Secret => 5,
            Self::OwnName { .. } => 6,
            Self::Itself => 7,
            Self::OldIncarnation { .. } => 8,
            Self::TooManyPeers { .. } => 9,
            Self::Already { .. } => 10,
            Self::Malformed { .. } | Self::Unexpected { .. } => NO_HANDSHAKE,
            Self::Certificate { .. } => 12,
            Self::Refused { code, .. } => *code,
        }
    }

    /// Which it is, for those who log each once.
    pub(super) fn kind(&self) -> &'static str {
        match self.code() {
            1 => "version",
            2 => "cluster name",
            3 => "pool size",
            4 => "topic hash",
            5 => "secret",
            6 => "own name",
            7 => "itself",
            8 => "incarnation",
            9 => "too many nodes",
            10 => "already connected",
            12 => "certificate",
            _ => "no handshake",
        }
    }

    /// Whether there is nothing wrong: the other connection is kept, or the node is this one.
    pub(super) fn is_expected(&self) -> bool {
        matches!(self.code(), 7 | 10)
    }

    /// The frame that tells the other node.
    pub(super) fn refusal(&self) -> Vec<u8> {
        refusal(self.code(), &self.to_string())
    }
}

/// The frame that says why a node refuses.
pub(super) fn refusal(code: u8, reason: &str) -> Vec<u8> {
    let mut body = vec![code];
    body.extend_from_slice(reason.as_bytes());
    body.truncate(1 + MAX_REASON_BYTES);
    frame::frame(kind::REFUSE, &body)
}

/// Dials: the one who speaks first.
#[derive(Debug)]
pub(super) struct Dialer<'a> {
    local: &'a Local,
    hello: Vec<u8>,
}

/// A dialer that knows whom it has dialled.
#[derive(Debug)]
pub(super) struct Introduced<'a> {
    pub(super) met: Met,
    transcript: Transcript<'a>,
}

/// Is dialled.
#[derive(Debug)]
pub(super) struct Acceptor<'a> {
    hello: Hello,
    transcript: Transcript<'a>,
}

impl<'a> Dialer<'a> {
    /// A dialer, and the frame that it sends.
    pub(super) fn new(local: &'a Local, nonce: Nonce) -> (Self, Vec<u8>) {
        let hello = Hello::of(local, nonce).encode();
        let frame = frame::frame(kind::HELLO, &hello);
        (Self { local, hello }, frame)
    }

    /// Takes the answer.
    pub(super) fn handle_challenge(
        self,
        answer: Frame<'_>,
    ) -> Result<Introduced<'a>, HandshakeError> {
        let body = expect(answer, kind::CHALLENGE, "an answer to a hello")?;
        let (proof, acceptor) = split_proof(body)?;
        let (hello, version) = Hello::decode(acceptor, self.local)?;
        let transcript = Transcript {
            local: self.local,
            version,
            dialer: self.hello,
            acceptor: acceptor.to_vec(),
        };
        transcript.verify(Role::Acceptor, &[], proof)?;
        let met = transcript.meet(hello)?;
        Ok(Introduced { met, transcript })
    }
}

impl Introduced<'_> {
    /// The frame that begins the connection, with the last link to the node that was lost, if any.
    pub(super) fn begin(&self, lost: Option<LinkId>) -> Vec<u8> {
        let lost = lost.as_ref().map_or(&[][..], |id| &id[..]);
        let proof = self.transcript.prove(Role::Dialer, lost);
        frame::frame(kind::BEGIN, &[&proof, lost].concat())
    }

    /// Takes the answer to that.
    pub(super) fn handle_welcome(&self, answer: Frame<'_>) -> Result<(), HandshakeError> {
        expect(answer, kind::WELCOME, "a welcome").map(|_| ())
    }
}

impl<'a> Acceptor<'a> {
    /// Takes a hello; the frame is to be sent back.
    pub(super) fn new(
        local: &'a Local,
        nonce: Nonce,
        hello: Frame<'_>,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let dialer = expect(hello, kind::HELLO, "a hello")?;
        let (hello, version) = Hello::decode(dialer, local)?;
        let transcript = Transcript {
            local,
            version,
            dialer: dialer.to_vec(),
            acceptor: Hello::of(local, nonce).encode(),
        };
        let proof = transcript.prove(Role::Acceptor, &[]);
        let body = [&proof[..], &transcript.acceptor].concat();
        let frame = frame::frame(kind::CHALLENGE, &body);
        Ok((Self { hello, transcript }, frame))
    }

    /// Takes the proof of the dialer, and which link it has lost.
    pub(super) fn handle_begin(
        self,
        begin: Frame<'_>,
    ) -> Result<(Met, Option<LinkId>), HandshakeError> {
        let body = expect(begin, kind::BEGIN, "a proof")?;
        let (proof, lost) = split_proof(body)?;
        self.transcript.verify(Role::Dialer, lost, proof)?;
        let lost = match lost {
            [] => None,
            lost => Some(lost.try_into().map_err(|_| HandshakeError::Malformed {
                what: "id of a link",
                at: PROOF_BYTES,
            })?),
        };
        let met = self.transcript.meet(self.hello)?;
        Ok((met, lost))
    }
}

/// The frame that ends a handshake.
pub(super) fn welcome() -> Vec<u8> {
    frame::frame(kind::WELCOME, &[])
}

/// The body of a frame that must be of this kind.
fn expect<'a>(
    frame: Frame<'a>,
    kind: u8,
    wanted: &'static str,
) -> Result<&'a [u8], HandshakeError> {
    if frame.kind == kind {
        return Ok(frame.body);
    }
    match (frame.kind, frame.body) {
        (kind::REFUSE, [code, reason @ ..]) => {
            let reason = &reason[..reason.len().min(MAX_REASON_BYTES)];
            let reason = String::from_utf8_lossy(reason).replace(char::is_control, " ");
            let code = *code;
            Err(HandshakeError::Refused { code, reason })
        }
        (kind, _) => Err(HandshakeError::Unexpected { kind, wanted }),
    }
}

fn split_proof(body: &[u8]) -> Result<(&[u8; PROOF_BYTES], &[u8]), HandshakeError> {
    let (what, at) = ("proof", 0);
    body.split_first_chunk()
        .ok_or(HandshakeError::Malformed { what, at })
}

/// Who speaks first, and who answers.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Dialer,
    Acceptor,
}

/// What both nodes have said.
#[derive(Debug)]
struct Transcript<'a> {
    local: &'a Local,
    version: Version,
    dialer: Vec<u8>,
    acceptor: Vec<u8>,
}

impl Transcript<'_> {
    fn prove(&self, role: Role, rest: &[u8]) -> [u8; PROOF_BYTES] {
        self.mac(role, rest).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    fn verify(
        &self,
        role: Role,
        rest: &[u8],
        proof: &[u8; PROOF_BYTES],
    ) -> Result<(), HandshakeError> {
        let proof = self.mac(role, rest).verify_slice(proof);
        proof.map_err(|_| HandshakeError::Secret)
    }

    fn mac(&self, role: Role, rest: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.local.secret.as_bytes())
            .expect("HMAC takes keys of any length");
        let role = match role {
            Role::Dialer => 0,
            Role::Acceptor => 1,
        };
        mac.update(MAGIC);
        mac.update(&[role, self.version.number()]);
        for part in [&self.dialer[..], &self.acceptor, rest] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    /// Of everything in both hellos, and so of both nonces.
    fn link_id(&self) -> LinkId {
        let mut hash = Sha256::new();
        hash.update(&self.dialer);
        hash.update(&self.acceptor);
        let hash: [u8; 32] = hash.finalize().into();
        *hash.first_chunk().expect("a hash has 32 bytes")
    }

    /// Who it is, once that is proved.
    fn meet(&self, hello: Hello) -> Result<Met, HandshakeError> {
        let Hello {
            name,
            incarnation,
            advertised,
            ..
        } = hello;
        let own = &self.local.identity;
        if name == own.name {
            return Err(if incarnation == own.incarnation {
                HandshakeError::Itself
            } else {
                HandshakeError::OwnName { name, incarnation }
            });
        }
        Ok(Met {
            name,
            incarnation,
            advertised,
            version: self.version,
            id: self.link_id(),
        })
    }
}

impl Local {
    pub(super) fn new(identity: Identity, config: &MeshConfig, advertised: String) -> Self {
        Self {
            identity,
            cluster_name: Arc::clone(&config.cluster_name),
            secret: config.secret.clone(),
            oldest: config.min_version,
            newest: config.max_version,
            advertised,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hello::tests::local;
    use super::*;

    fn read(bytes: &[u8]) -> Frame<'_> {
        Frame {
            kind: bytes[4],
            body: &bytes[frame::HEADER_BYTES..],
        }
    }

    type Outcome<T> = Result<T, HandshakeError>;

    /// What the dialer and the acceptor find; one that hears nothing has heard the other refuse.
    fn shake(a: &Local, b: &Local, lost: Option<LinkId>) -> (Outcome<Met>, Outcome<Met>) {
        let told = |error: &HandshakeError| {
            let refusal = error.refusal();
            expect(read(&refusal), kind::HELLO, "a hello").unwrap_err()
        };
        let (dialer, hello) = Dialer::new(a, [1; 32]);
        let (acceptor, challenge) = match Acceptor::new(b, [2; 32], read(&hello)) {
            Ok(both) => both,
            Err(error) => return (Err(told(&error)), Err(error)),
        };
        let introduced = match dialer.handle_challenge(read(&challenge)) {
            Ok(introduced) => introduced,
            Err(error) => {
                let told = acceptor.handle_begin(read(&error.refusal())).unwrap_err();
                return (Err(error), Err(told));
            }
        };
        let begin = introduced.begin(lost);
        match acceptor.handle_begin(read(&begin)) {
            Ok((met, heard)) => {
                assert_eq!(heard, lost);
                introduced.handle_welcome(read(&welcome())).unwrap();
                (Ok(introduced.met), Ok(met))
            }
            Err(error) => (Err(told(&error)), Err(error)),
        }
    }

    fn refused(spoil: impl Fn(&mut Local)) -> (HandshakeError, HandshakeError) {
        let (a, mut b) = (local("a"), local("b"));
        spoil(&mut b);
        let (dialer, acceptor) = shake(&a, &b, None);
        (dialer.unwrap_err(), acceptor.unwrap_err())
    }

    #[test]
    fn two_nodes_meet() {
        for lost in [None, Some([9; 16])] {
            let (there, here) = shake(&local("a"), &local("b"), lost);
            let (there, here) = (there.unwrap(), here.unwrap());
            assert_eq!((&*there.name, &*here.name), ("b", "a"));
            assert_eq!(there.advertised, "b.example:1");
            assert_eq!((there.incarnation, there.version), (7, Version::V2));
            assert_eq!(there.id, here.id);
        }
    }

    #[test]
    fn the_lower_one_of_the_newest_versions_is_spoken() {
        let mut old = local("old");
        old.newest = Version::V1;
        for (a, b) in [(&old, &local("b")), (&local("b"), &old)] {
            let (there, here) = shake(a, b, None);
            assert_eq!(there.unwrap().version, Version::V1);
            assert_eq!(here.unwrap().version, Version::V1);
        }
    }

    #[test]
    fn whatever_differs_is_named_on_both_sides() {
        let both = |(dialer, acceptor): (HandshakeError, HandshakeError)| {
            assert_eq!(dialer.code(), acceptor.code());
            let is_told = |it: &_| matches!(it, HandshakeError::Refused { .. });
            assert_ne!(is_told(&dialer), is_told(&acceptor));
            let told = [&dialer, &acceptor].map(HandshakeError::to_string);
            let [first, second] =
                told.map(|text| text.replace("the other node refuses and says: ", ""));
            assert_eq!(first, second);
            first
        };
        assert_eq!(
            both(refused(|it| it.cluster_name = "other".into())),
            "another cluster: this node is of \"other\", the other of \"presence\""
        );
        assert_eq!(
            both(refused(|it| it.identity.pool_size = 5)),
            "another pool size: this node has 5, the other 4"
        );
        assert_eq!(
            both(refused(|it| it.secret = Secret::new([8; 16]).unwrap())),
            "another secret: all nodes of a cluster need the same"
        );
        assert_eq!(
            both(refused(|it| {
                it.identity.name = "a".into();
                it.identity.incarnation = 6;
            })),
            "another node has the name \"a\" too, with incarnation 6: each needs its own"
        );
        assert_eq!(
            both(refused(|it| it.identity.name = "a".into())),
            "the node has met itself"
        );
        let (mut old, mut new) = (local("a"), local("b"));
        old.newest = Version::V1;
        new.oldest = Version::V2;
        let (dialer, acceptor) = shake(&old, &new, None);
        assert_eq!(
            both((dialer.unwrap_err(), acceptor.unwrap_err())),
            "no common version: this node speaks 2 to 2, the other 1 to 1"
        );
    }

    #[test]
    fn a_proof_is_good_for_one_handshake_and_one_role() {
        let (a, b) = (local("a"), local("b"));
        let (dialer, hello) = Dialer::new(&a, [1; 32]);
        let (acceptor, challenge) = Acceptor::new(&b, [2; 32], read(&hello)).unwrap();
        let begin = dialer
            .handle_challenge(read(&challenge))
            .unwrap()
            .begin(None);
        acceptor.handle_begin(read(&begin)).unwrap();

        // Another nonce of the acceptor: what the dialer has said before proves nothing.
        let (acceptor, _) = Acceptor::new(&b, [3; 32], read(&hello)).unwrap();
        let again = acceptor.handle_begin(read(&begin));
        assert_eq!(again, Err(HandshakeError::Secret));

        // The acceptor's own proof, shown to it.
        let (acceptor, challenge) = Acceptor::new(&b, [2; 32], read(&hello)).unwrap();
        let own = &challenge[frame::HEADER_BYTES..][..PROOF_BYTES];
        let reflected = acceptor.handle_begin(read(&frame::frame(kind::BEGIN, own)));
        assert_eq!(reflected, Err(HandshakeError::Secret));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let (a, b) = (local("a"), local("b"));
        let (_, hello) = Dialer::new(&a, [1; 32]);
        let (_, challenge) = Acceptor::new(&b, [2; 32], read(&hello)).unwrap();
        for at in 4..challenge.len() {
            let mut spoiled = challenge.clone();
            spoiled[at] ^= 1;
            let (dialer, _) = Dialer::new(&a, [1; 32]);
            assert!(dialer.handle_challenge(read(&spoiled)).is_err(), "{at}");
        }
        for at in 4..hello.len() {
            let mut spoiled = hello.clone();
            spoiled[at] ^= 1;
            let Ok((_, challenge)) = Acceptor::new(&b, [2; 32], read(&spoiled)) else {
                continue;
            };
            let (dialer, _) = Dialer::new(&a, [1; 32]);
            let answer = dialer.handle_challenge(read(&challenge));
            assert_eq!(answer.unwrap_err(), HandshakeError::Secret, "{at}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused_and_never_panics() {
        let a = local("a");
        let (_, hello) = Dialer::new(&local("b"), [1; 32]);
        for end in frame::HEADER_BYTES..hello.len() {
            let cut = Acceptor::new(&a, [2; 32], read(&hello[..end]));
            assert!(matches!(cut, Err(HandshakeError::Malformed { .. })));
        }
        let wrong = Acceptor::new(&a, [2; 32], read(&welcome())).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "no handshake: a frame of kind 4, not a hello"
        );
        let (acceptor, _) = Acceptor::new(&a, [2; 32], read(&hello)).unwrap();
        let short = acceptor.handle_begin(read(&frame::frame(kind::BEGIN, &[0; 31])));
        let (what, at) = ("proof", 0);
        assert_eq!(short, Err(HandshakeError::Malformed { what, at }));
    }

    #[test]
    fn a_refusal_is_bounded_and_has_no_control_characters() {
        let body = [&[5][..], b"a\x1b[31m\nb\xFF", &[b'x'; 3000]].concat();
        let long = frame::frame(kind::REFUSE, &body);
        let Err(HandshakeError::Refused { code, reason }) = expect(read(&long), 1, "a hello")
        else {
            panic!("it is a refusal");
        };
        assert_eq!(code, 5);
        assert!(reason.starts_with("a [31m b\u{FFFD}xxx"), "{reason}");
        assert!(reason.len() <= MAX_REASON_BYTES + 2);
    }
}
