//! How many messages and bytes a second pass between two nodes. To be run by name, optimised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_server::cluster::{Handler, Mesh, Message, Transport as _};
use presence_server::env::System;
use tokio::time::Instant;

use crate::node::{Node, config, identity, joining, until};

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Handler for Counter {
    fn connected(&self, _: &Arc<str>) {}

    fn gone(&self, _: &Arc<str>) {}

    fn received<'a>(&'a self, _: &'a Arc<str>, _: Message, _: usize) -> BoxFuture<'a, ()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures"]
async fn rates() {
    for (bytes, count) in [(100, 2_000_000_u64), (10_000, 200_000), (1 << 20, 4_000)] {
        let a = Node::start("a", config()).await;
        let counter = Arc::new(Counter::default());
        let (config, handler) = (joining(&[a.address()]), Arc::clone(&counter));
        let b = Mesh::start(Arc::new(System::new()), identity("b"), config, handler);
        let _b = b.await.unwrap();
        a.connected("b").await;
        let body = Bytes::from(vec![7; bytes]);
        let since = Instant::now();
        for id in 0..count {
            while id % 16 == 0 && a.peer("b").unwrap().queued_bytes > 16 << 20 {
                tokio::task::yield_now().await;
            }
            let body = body.clone();
            a.mesh
                .send(&To::One("b".into()), &Message::Request { id, body });
        }
        until(|| counter.0.load(Ordering::Relaxed) == count).await;
        let per_second = count as f64 / since.elapsed().as_secs_f64();
        let megabytes = per_second * bytes as f64 / 1e6;
        println!("{bytes} bytes: {per_second:.0} messages/s, {megabytes:.0} MB/s");
    }
}
