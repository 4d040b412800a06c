//! Each defect that a simulation can plant in a node acts where it should, and none where none is planted.

#![cfg(feature = "sabotage")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

mod program;

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use presence_core::tracker::To;
use presence_core::wire::cluster::Body;
use presence_server::app::{self, Tokens};
use presence_server::cluster::{Message, Peer, Transport};
use presence_server::env::{Environment as _, System};
use presence_server::node::{Config, Node};
use presence_server::sabotage::{Defect, Sabotage, Saboteur};
use presence_server::serve;
use serde_json::{Value, json};

use program::{Client, Site};

const TOPIC: &str = "conf:a";

/// A defect that acts whenever it can.
#[derive(Debug)]
struct Always(Defect);

impl Saboteur for Always {
    fn acts(&self, defect: Defect) -> bool {
        defect == self.0
    }
}

fn config(defect: Option<Defect>) -> Config {
    let sabotage = defect.map(|defect| Sabotage::new(Arc::new(Always(defect))));
    Config {
        sabotage: sabotage.unwrap_or_default(),
        ..Config::default()
    }
}

/// A node that serves the conformance application, and a client that has joined a topic there.
async fn joined(defect: Option<Defect>) -> (Node, Client) {
    let system = System::new();
    let listener = system.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = Node::start(Arc::new(system), config(defect)).unwrap();
    let tokens = Tokens::new(&app::conformance::secret_key_base()).unwrap();
    let router = app::conformance(&node, tokens);
    let served = node.clone();
    tokio::spawn(async move { serve::serve(&served, listener, router).await });
    let mut client = Site { address }.connect("").await.unwrap();
    client.join(TOPIC, &json!({})).await;
    (node, client)
}

/// What comes until the answer to the push, with that: each as its event and its payload.
async fn push(client: &mut Client, event: &str, payload: &Value) -> Vec<(String, Value)> {
    client.send(&json!(["1", "2", TOPIC, event, payload])).await;
    let mut came = Vec::new();
    loop {
        let frame = program::patient(client.next()).await.unwrap();
        let event = frame[3].as_str().unwrap().to_owned();
        came.push((event.clone(), frame[4].clone()));
        if event == "phx_reply" {
            return came;
        }
    }
}

/// The events that come of tracking `ann`, then of changing her meta, then of untracking her; each
/// followed by an empty push, by whose answer all has come.
async fn a_life(client: &mut Client) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (event, meta) in [("track", 1), ("update", 2), ("untrack", 3)] {
        let change = json!({ "key": "ann", "meta": { "n": meta } });
        let mut came = push(client, event, &change).await;
        came.extend(push(client, "ok", &json!({})).await);
        let diffs = came.iter().filter(|(event, _)| event == "presence_diff");
        let sides = |(_, diff): &(String, Value)| {
            let sides = ["joins", "leaves"].map(|side| diff[side].as_object().unwrap().len());
            format!("+{} -{}", sides[0], sides[1])
        };
        all.push(diffs.map(sides).collect());
    }
    all
}

#[tokio::test]
async fn what_diffs_a_client_sees() {
    let sound = [vec!["+1 -0"], vec!["+1 -1"], vec!["+0 -1"]];
    for (defect, expected) in [
        (None, sound.clone()),
        (
            Some(Defect::DiffTwice),
            sound
                .each_ref()
                .map(|diffs| [diffs.clone(), diffs.clone()].concat()),
        ),
        (Some(Defect::DiffLost), [vec![], vec![], vec![]]),
        (
            Some(Defect::UpdateSplit),
            [vec!["+1 -0"], vec!["+0 -1", "+1 -0"], vec!["+0 -1"]],
        ),
        (
            Some(Defect::BroadcastLost),
            [vec![], vec!["+1 -1"], vec!["+0 -1"]],
        ),
        (
            Some(Defect::LeaveIgnored),
            [vec!["+1 -0"], vec!["+1 -1"], vec![]],
        ),
    ] {
        let (_, mut client) = joined(defect).await;
        assert_eq!(a_life(&mut client).await, expected, "{defect:?}");
    }
}

#[tokio::test]
async fn presences_outlive_their_channel() {
    for (defect, count) in [(None, 0), (Some(Defect::PresencesKept), 1)] {
        let (node, mut client) = joined(defect).await;
        push(&mut client, "track", &json!({ "key": "ann", "meta": {} })).await;
        client
            .send(&json!(["1", "3", TOPIC, "phx_leave", {}]))
            .await;
        client.event("phx_close").await;
        assert_eq!(node.count(TOPIC).await, count, "{defect:?}");
    }
}

#[tokio::test]
async fn a_kept_list_is_read_after_its_topic_has_changed() {
    for (defect, expected) in [(None, "ann"), (Some(Defect::SnapshotLate), "nobody")] {
        let (node, mut client) = joined(defect).await;
        node.list(TOPIC).await;
        push(&mut client, "track", &json!({ "key": "ann", "meta": {} })).await;
        let list = node.list(TOPIC).await;
        let is_listed = list.as_str().contains("ann");
        assert_eq!(is_listed, expected == "ann", "{defect:?}");
    }
}

#[tokio::test]
async fn a_state_comes_after_a_diff_that_it_does_not_have() {
    for (defect, expected) in [
        (None, ["presence_state", "presence_diff"]),
        (Some(Defect::StateLate), ["presence_diff", "presence_state"]),
    ] {
        let (_, mut client) = joined(defect).await;
        client.send(&json!(["1", "2", TOPIC, "state", {}])).await;
        let mut came = push(&mut client, "track", &json!({ "key": "ann", "meta": {} })).await;
        came.extend(push(&mut client, "ok", &json!({})).await);
        came.retain(|(event, _)| event != "phx_reply");
        let events: Vec<_> = came.iter().map(|(event, _)| &**event).collect();
        assert_eq!(events, expected, "{defect:?}");
        let state = came.iter().find(|(event, _)| event == "presence_state");
        assert_eq!(state.unwrap().1, json!({}), "it was made before the diff");
    }
}

/// Keeps what a node says.
#[derive(Debug, Default)]
struct Said(Mutex<Vec<Message>>);

impl Transport for Said {
    fn send(&self, _: &To, message: &Message) {
        self.0.lock().unwrap().push(message.clone());
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test]
async fn a_node_that_stops_keeps_its_last_changes_to_itself() {
    for (defect, expected) in [
        (None, vec!["changes", "stops"]),
        (Some(Defect::DrainForgets), vec!["stops"]),
    ] {
        let node = Node::start(Arc::new(System::new()), config(defect)).unwrap();
        let said = Arc::<Said>::default();
        node.attach(Arc::clone(&said) as Arc<dyn Transport>);
        let ann = node.process();
        ann.track("t", "ann", &json!({})).await.unwrap();
        node.drain().await;
        let said = said.0.lock().unwrap();
        let words = said.iter().filter_map(|message| match message {
            Message::Tracker { message, .. } => match &message.body {
                Body::Heartbeat { delta, .. } if !delta.is_empty() => Some("changes"),
                Body::Stopping { .. } => Some("stops"),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(words.collect::<Vec<_>>(), expected, "{defect:?}");
    }
}
