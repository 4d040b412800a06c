//! Three nodes of a cluster in one process: `cargo run -p presence-server --example cluster`.
//!
//! A program of one's own starts one node, as `start` does here, and is told where the others are. Here
//! they are all at home, so that one can watch what each lists: who is tracked on another, who is
//! gone when its process ends, and what is left when a node stops.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use presence_core::tracker;
use presence_server::cluster::{Mesh, MeshConfig, Secret};
use presence_server::env::System;
use presence_server::node::{Config, Node};
use serde_json::json;

const TOPIC: &str = "room:lobby";

/// How often the nodes speak: ten times as often as by default, so that this ends soon.
const PERIOD: Duration = Duration::from_millis(150);

/// A node that listens, and joins those at these addresses; and where it listens.
async fn start(name: &str, join: &[String]) -> Result<(Node, String), Box<dyn Error>> {
    let mut tracker = tracker::Config::with_periods(PERIOD, 10);
    // Its presences leave when it stops. By default they stay a while, for clients that come back.
    tracker.permdown_on_shutdown = true;
    let config = Config {
        name: name.into(),
        tracker,
        ..Config::default()
    };
    let node = Node::start(Arc::new(System::new()), config)?;
    // In earnest: 32 random bytes of a file that all nodes have, and nobody else.
    let secret = Secret::new("of this example alone")?;
    let mesh = MeshConfig {
        bind: "127.0.0.1:0".into(),
        join: join.to_vec(),
        ..MeshConfig::new(secret)
    };
    let mesh = Mesh::start_for(&node, mesh).await?;
    Ok((node, mesh.local_addr().to_string()))
}

/// Waits until a node lists so many presences, and prints them.
async fn show(node: &Node, count: usize) {
    while node.count(TOPIC).await != count {
        tokio::time::sleep(PERIOD / 10).await;
    }
    let list = node.list(TOPIC).await;
    println!("{} lists {}", node.config().name, list.as_str());
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (a, address) = start("a", &[]).await?;
    // b and c learn of each other from a.
    let join = [address];
    let (b, _) = start("b", &join).await?;
    let (c, _) = start("c", &join).await?;

    println!("Alice is tracked on a, Bob on b and on c.");
    let alice = a.process();
    alice
        .track(TOPIC, "Alice", &json!({ "status": "here" }))
        .await?;
    let bob = b.process();
    bob.track(TOPIC, "Bob", &json!({})).await?;
    let bob_again = c.process();
    bob_again.track(TOPIC, "Bob", &json!({})).await?;
    for node in [&a, &b, &c] {
        show(node, 3).await;
    }

    println!("Alice's process ends.");
    drop(alice);
    show(&c, 2).await;

    println!("c stops.");
    c.drain().await;
    show(&a, 1).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A node that finds no other waits for ever; an example should not.
    tokio::time::timeout(Duration::from_secs(30), run()).await?
}
