//! A mesh closes: what was sent before arrives.

use std::time::Duration;

use presence_core::tracker::To;
use presence_server::cluster::Transport as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::node::{Event, LIMIT, Node, config, joining, message, sized, until};
use crate::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_message_arrives_though_the_process_ends_right_after() {
    let a = Node::start("a", config()).await;
    let b = Node::start("b", joining(&[a.address()])).await;
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
    a.heard("b", "none").now_or(Duration::from_millis(50)).await;
    for n in 0..100 {
        a.mesh.send(&To::All, &sized(&n.to_string(), 50_000));
    }
    a.mesh.send(&To::All, &message("goodbye"));
    timeout(LIMIT, a.mesh.close()).await.unwrap();
    drop(a.mesh);
    b.heard("a", "goodbye").await;
    chatter.abort();
    let mut expected: Vec<_> = (0..100).map(|n| sized(&n.to_string(), 50_000)).collect();
    expected.push(message("goodbye"));
    assert_eq!(b.record.messages("a"), expected);
}

/// Gives up a wait after a while.
trait NowOr: Future + Sized {
    async fn now_or(self, after: Duration) {
        let _ = timeout(after, self).await;
    }
}

impl<F: Future> NowOr for F {}

#[tokio::test]
async fn a_closed_mesh_neither_listens_nor_dials_nor_sends() {
    let a = Node::start("a", config()).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    a.connected("b").await;
    b.connected("a").await;
    a.mesh.close().await;
    assert!(!a.is_connected("b"));
    assert!(TcpStream::connect(a.socket_address()).await.is_err());
    a.say("b", "late");
    // Its process may as well have been killed: what it has said before tells the difference.
    b.record.wait_for(&Event::Gone("a".into())).await;
    assert_eq!(b.record.messages("a"), []);
    assert_eq!(a.record.count(&Event::Gone("b".into())), 0);
    a.mesh.close().await;
}

#[tokio::test]
async fn closing_does_not_wait_long_for_a_node_that_hangs() {
    let way = Proxy::start().await;
    let b = Node::start("b", config()).await;
    way.lead_to(b.socket_address());
    let mut config = joining(&[way.address()]);
    config.close_timeout = Duration::from_millis(300);
    let a = Node::start("a", config).await;
    a.connected("b").await;
    way.hang(true);
    let since = Instant::now();
    timeout(LIMIT, a.mesh.close()).await.unwrap();
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10));
    assert!(!a.is_connected("b"));
}

#[tokio::test]
async fn two_nodes_that_close_at_once_do_not_wait_for_each_other() {
    let mut config = config();
    config.close_timeout = LIMIT * 2;
    let a = Node::start("a", config.clone()).await;
    config.join = vec![a.address()];
    let b = Node::start("b", config).await;
    a.connected("b").await;
    b.connected("a").await;
    let both = futures_util::future::join(a.mesh.close(), b.mesh.close());
    timeout(LIMIT, both).await.unwrap();
}

#[tokio::test]
async fn a_dropped_mesh_lets_go_of_its_handler() {
    let a = Node::start("a", config()).await;
    let b = Node::start("b", joining(&[a.address()])).await;
    a.connected("b").await;
    let handler = std::sync::Arc::downgrade(&a.record);
    drop(a);
    until(|| handler.upgrade().is_none()).await;
    b.record.wait_for(&Event::Gone("a".into())).await;
}
