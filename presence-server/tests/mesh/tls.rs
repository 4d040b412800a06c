//! Nodes that speak TLS: who has no certificate of the cluster's CA, for the name that it goes by, is
//! refused, and both sides say why.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_server::cluster::{
    Mesh, MeshConfig, Secret, StartError, Tls, TlsPart, Transport as _,
};
use presence_server::env::{BoxStream, Environment, Listener, System};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::certificates::{Authority, Signed};
use crate::log::Log;
use crate::node::{Event, LIMIT, Node, config, identity, message, sized, until};
use crate::relay::{self, Relay};

#[tokio::test]
async fn three_nodes_of_a_chain_all_find_each_other() {
    let ca = Authority::new();
    let a = Node::start("a.test", ca.config("a.test")).await;
    let b = Node::start("b", ca.joining("b", &[a.address()])).await;
    let c = Node::start("node_c", ca.joining("node_c", &[b.address()])).await;
    for (node, others) in [
        (&a, ["b", "node_c"]),
        (&b, ["a.test", "node_c"]),
        (&c, ["a.test", "b"]),
    ] {
        for other in others {
            node.connected(other).await;
        }
    }
    a.reach(&c, "a.test", "node_c", "hello").await;
    c.reach(&a, "node_c", "a.test", "hello").await;
}

#[tokio::test]
async fn certificates_may_be_for_many_names_and_signed_by_one_between() {
    let ca = Authority::new();
    let many = ca.sign(&["x.test", "b", "*.y.test"]);
    let a = Node::start("a", ca.config("a")).await;
    let b = Node::start("b", ca.joining_with(&many, &[a.address()])).await;
    a.connected("b").await;
    b.connected("a").await;

    let between = ca.between();
    let signed = between.sign(&["c"]);
    let chain = Signed {
        certificate: signed.certificate + &between.pem(),
        ..signed
    };
    let c = Node::start("c", ca.joining_with(&chain, &[a.address()])).await;
    a.connected("c").await;
    c.connected("b").await;
}

/// Two nodes of which the second dials the first, and what each logs, once.
async fn refuse_each_other(
    (first, of_first): (MeshConfig, &str),
    (second, of_second): (MeshConfig, &str),
) {
    refuse_each_other_in(
        Arc::new(System::new()),
        (first, of_first),
        (second, of_second),
    )
    .await;
}

/// The second node lives in this world.
async fn refuse_each_other_in(
    env: Arc<dyn Environment>,
    (first, of_first): (MeshConfig, &str),
    (mut second, of_second): (MeshConfig, &str),
) {
    let (log, _guard) = Log::start();
    let a = Node::start("a", first).await;
    second.join = vec![a.address()];
    second.max_backoff = Duration::from_millis(50);
    let b = Node::start_in(env, identity("b"), second).await;
    until(|| log.count("DEBUG", "no connection with a node") >= 6).await;
    for reason in [of_first, of_second] {
        assert_eq!(log.count("WARN", reason), 1, "{reason}\n{}", log.text());
    }
    assert_eq!(log.count("WARN", ""), 2, "{}", log.text());
    for node in [&a, &b] {
        assert!(node.mesh.peers().iter().all(|peer| !peer.is_connected));
        assert_eq!(node.record.events(), []);
    }
}

#[tokio::test]
async fn one_who_speaks_tls_and_one_who_does_not() {
    let ca = Authority::new();
    let speaks = "this node speaks TLS, and the other does not";
    let does_not = "the other node speaks TLS, and this one does not";
    refuse_each_other((config(), does_not), (ca.config("b"), speaks)).await;
    refuse_each_other((ca.config("a"), speaks), (config(), does_not)).await;
}

#[tokio::test]
async fn another_secret() {
    let ca = Authority::new();
    let mut second = ca.config("b");
    second.secret = Secret::new("something else than that").unwrap();
    let reason = "error=another secret: ";
    let told = "the other node refuses and says: another secret: ";
    refuse_each_other((ca.config("a"), told), (second, reason)).await;
}

#[tokio::test]
async fn a_certificate_of_another_ca() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let refused = "the other node's certificate is refused: it is not signed by the CA";
    let told = "the other node refuses this one's certificate: it is not signed by the other's CA";
    refuse_each_other((ours.config("a"), told), (theirs.config("b"), refused)).await;
    // One that takes ours.
    let mut second = config();
    let both = ours.pem() + &theirs.pem();
    second.tls = Some(theirs.sign(&["b"]).tls(&both).unwrap());
    refuse_each_other((ours.config("a"), refused), (second, told)).await;
}

/// The world in 2015.
#[derive(Debug)]
struct Past(System);

impl Environment for Past {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.0.listen(address)
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        self.0.connect(address)
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.0.resolve(host, port)
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_420_070_400)
    }

    fn random(&self) -> u64 {
        self.0.random()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.stop()
    }
}

#[tokio::test]
async fn an_expired_certificate_by_the_clock_of_each_node() {
    let ca = Authority::new();
    let old = ca.sign_old("b");
    let refused = "the other node's certificate is refused: it has ended ";
    let told = "the other node refuses this one's certificate: it is not good now";
    let past = Arc::new(Past(System::new()));
    refuse_each_other_in(
        past,
        (ca.config("a"), refused),
        (ca.joining_with(&old, &[]), told),
    )
    .await;
    // Where nobody thinks so it is good.
    let a = Node::start_in(Arc::new(Past(System::new())), identity("a"), ca.config("a")).await;
    let b = Node::start_in(
        Arc::new(Past(System::new())),
        identity("b"),
        ca.joining_with(&old, &[a.address()]),
    )
    .await;
    a.connected("b").await;
    b.connected("a").await;
}

/// A node of the cluster that stands between two others, with these certificates for who dials and for
/// who is dialled.
async fn is_found_out(to_dialer: &str, to_acceptor: &str, of_acceptor: &str, of_dialer: &str) {
    let (log, _guard) = Log::start();
    let ca = Authority::new();
    let a = Node::start("a", ca.config("a")).await;
    let way = Relay::start(
        &ca.sign(&[to_dialer]),
        a.socket_address(),
        ca.sign(&[to_acceptor]),
    )
    .await;
    let b = Node::start("b", ca.joining("b", &[way.address()])).await;
    until(|| log.count("WARN", "no connection with a node") >= 2).await;
    for reason in [of_acceptor, of_dialer] {
        assert_eq!(log.count("WARN", reason), 1, "{reason}\n{}", log.text());
    }
    assert_eq!((a.record.events(), b.record.events()), (vec![], vec![]));
}

#[tokio::test]
async fn who_is_dialled_and_shows_the_certificate_of_another_node() {
    let reason =
        "another node's certificate: the other node says that it is \"a\", and shows one for \"c\"";
    is_found_out(
        "c",
        "b",
        &format!("the other node refuses and says: {reason}"),
        &format!("error={reason}"),
    )
    .await;
}

#[tokio::test]
async fn who_dials_and_shows_the_certificate_of_another_node() {
    let reason =
        "another node's certificate: the other node says that it is \"b\", and shows one for \"c\"";
    is_found_out(
        "a",
        "c",
        &format!("error={reason}"),
        &format!("the other node refuses and says: {reason}"),
    )
    .await;
}

#[tokio::test]
async fn a_wildcard_and_another_case_are_no_names() {
    for shown in ["*.node.test", "B.node.test"] {
        let (log, _guard) = Log::start();
        let ca = Authority::new();
        let a = Node::start("a", ca.config("a")).await;
        let way = Relay::start(&ca.sign(&["a"]), a.socket_address(), ca.sign(&[shown])).await;
        let _b = Node::start("b.node.test", ca.joining("b.node.test", &[way.address()])).await;
        let reason = format!("it is \"b.node.test\", and shows one for {shown:?}");
        until(|| log.count("WARN", &reason) == 2).await;
        assert!(a.mesh.peers().is_empty());
    }
}

#[tokio::test]
async fn who_shows_no_certificate() {
    let (log, _guard) = Log::start();
    let ca = Authority::new();
    let a = Node::start("a", ca.config("a")).await;
    let mut stream = relay::dial(a.socket_address(), None).await;
    let read = timeout(LIMIT, stream.read_u8()).await.unwrap();
    let error = read.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    until(|| log.count("WARN", "the other node shows no certificate") == 1).await;
}

#[tokio::test]
async fn both_handshakes_together_have_their_time() {
    let (log, _guard) = Log::start();
    let ca = Authority::new();
    let mut config = ca.config("a");
    config.handshake_timeout = Some(Duration::from_millis(300));
    config.max_handshakes = 3;
    let a = Node::start("a", config).await;
    let since = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..9 {
        silent.push(TcpStream::connect(a.socket_address()).await.unwrap());
    }
    // One that says nothing after TLS is told in TLS.
    let mut stream = relay::dial(a.socket_address(), Some(&ca.sign(&["b"]))).await;
    let mut told = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut told)).await.unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.ends_with("took longer than 300ms"), "{told:?}");
    // Three times three were before it.
    assert!(since.elapsed() >= Duration::from_millis(1200));
    until(|| log.count("", "the handshake took longer than 300ms") == 10).await;
    let b = Node::start("b", ca.joining("b", &[a.address()])).await;
    b.connected("a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_message_arrives_though_the_process_ends_right_after() {
    let ca = Authority::new();
    let a = Node::start("a", ca.config("a")).await;
    let b = Node::start("b", ca.joining("b", &[a.address()])).await;
    a.connected("b").await;
    b.connected("a").await;
    // Both ways at once: what comes in while one closes must not undo what goes out.
    let sender = b.mesh.clone();
    let chatter = tokio::spawn(async move {
        loop {
            sender.send(&To::All, &sized("chatter", 10_000));
            tokio::task::yield_now().await;
        }
    });
    a.heard_some("b").await;
    for n in 0..100 {
        a.mesh.send(&To::All, &sized(&n.to_string(), 50_000));
    }
    a.mesh.send(&To::All, &message("goodbye"));
    timeout(LIMIT, a.mesh.close()).await.unwrap();
    drop(a.mesh);
    b.heard("a", "goodbye").await;
    chatter.abort();
    assert_eq!(b.record.messages("a").len(), 101);
}

#[tokio::test]
async fn a_node_that_ends_without_a_word_is_gone_and_may_come_back() {
    let (log, _guard) = Log::start();
    let ca = Authority::new();
    let a = Node::start("a", ca.config("a")).await;
    let b = Node::start("b", ca.joining("b", &[a.address()])).await;
    a.connected("b").await;
    b.connected("a").await;
    let mut again = ca.config("a");
    again.bind = a.address();
    drop(a);
    b.record.wait_for(&Event::Gone("a".into())).await;
    let reason = "reason=the connection was closed";
    assert_eq!(log.count("disconnected peer=\"a\"", reason), 1);
    let mut later = identity("a");
    later.incarnation = 2;
    let _a = Node::start_as(later, again).await;
    b.wait_peer("a", |peer| peer.incarnation == 2 && peer.is_connected)
        .await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let ca = Authority::new();
    let start = async |name: &str, config: MeshConfig| {
        let node = Node::start("other", self::config()).await;
        let started = Mesh::start(
            Arc::new(System::new()),
            identity(name),
            config,
            node.record.clone(),
        );
        match started.await.unwrap_err() {
            StartError::Tls(error) => error.to_string(),
            error => panic!("{error}"),
        }
    };
    assert_eq!(
        start("a@10.0.0.1", ca.config("a")).await,
        "the node's name, \"a@10.0.0.1\", is no DNS name, and so no certificate can be for it"
    );
    assert_eq!(
        start("b", ca.config("a")).await,
        "the node's name is \"b\", and its certificate is for \"a\""
    );
    assert_eq!(
        start("b", ca.joining_with(&ca.sign(&[]), &[])).await,
        "the node's name is \"b\", and its certificate is for no DNS name"
    );
    let good_for_nobody = async |signed: Signed| {
        let error = start("a", ca.joining_with(&signed, &[])).await;
        let reason = error.strip_prefix("the node's certificate is good for nobody: ");
        reason.expect(&error).to_owned()
    };
    let reason = good_for_nobody(Authority::new().sign(&["a"])).await;
    assert_eq!(reason, "it is not signed by the CA");
    let reason = good_for_nobody(ca.sign_old("a")).await;
    assert!(reason.starts_with("it has ended "), "{reason}");
    for purpose in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ] {
        let one_sided = ca.sign_with(&["a"], |it| it.extended_key_usages = vec![purpose]);
        let reason = good_for_nobody(one_sided).await;
        assert!(reason.contains("extended key usage"), "{reason}");
    }
}

#[test]
fn what_is_no_certificate_or_key_is_named() {
    let ca = Authority::new();
    let Signed { certificate, key } = ca.sign(&["a"]);
    let refused = |certificate: &str, key: &str, ca: &str| {
        let error = Tls::new(certificate, key, ca).unwrap_err();
        (error.part(), error.to_string())
    };
    let is = |(part, error): (TlsPart, String), expected, text| {
        assert_eq!((part, &*error), (expected, text));
    };
    is(
        refused("", &key, &ca.pem()),
        TlsPart::Certificate,
        "the node's certificate is missing: there is no PEM section of a CERTIFICATE",
    );
    is(
        refused(&certificate, &certificate, &ca.pem()),
        TlsPart::Key,
        "the node's key is missing: there is no PEM section of a PRIVATE KEY that is not encrypted",
    );
    is(
        refused(&certificate, &key, &key),
        TlsPart::Ca,
        "the CA's certificate is missing: there is no PEM section of a CERTIFICATE",
    );
    is(
        refused(&certificate[..100], &key, &ca.pem()),
        TlsPart::Certificate,
        "the node's certificate is no PEM: a section has no END",
    );
    is(
        refused(&certificate, &ca.sign(&["a"]).key, &ca.pem()),
        TlsPart::Key,
        "the node's key is not that of its certificate",
    );
    let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    for (part, error) in [
        (TlsPart::Certificate, refused(empty, &key, &ca.pem())),
        (TlsPart::Ca, refused(&certificate, &key, empty)),
        (
            TlsPart::Key,
            refused(
                &certificate,
                &empty.replace("CERTIFICATE", "PRIVATE KEY"),
                &ca.pem(),
            ),
        ),
    ] {
        assert_eq!(error.0, part);
        assert!(error.1.contains(" can't be used: "), "{}", error.1);
    }
    let tls = ca.sign(&["a"]).tls(&ca.pem());
    assert_eq!(tls.map(|tls| format!("{tls:?}")), Ok("Tls".into()));
}
