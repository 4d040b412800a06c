//! The client's presence list against recordings of phoenix.js, and against a model of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use presence_core::client::{
    ChannelPresence, Config, Event, Limits, PayloadError, Presence, StaleDiffs, SyncError,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

// ---- Recordings of phoenix.js 1.8.16 ----

#[derive(Deserialize)]
struct Series {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    event: String,
    payload: Option<Box<RawValue>>,
    calls: Vec<Value>,
    state: Value,
    pending: bool,
}

fn as_call(event: &Event) -> Value {
    match event {
        Event::Join {
            key,
            current,
            joined,
        } => json!({ "call": "join", "key": **key, "current": current, "presence": joined }),
        Event::Leave { key, current, left } => {
            json!({ "call": "leave", "key": **key, "current": current, "presence": left })
        }
        Event::Sync => json!({ "call": "sync" }),
    }
}

/// Each run of calls of one kind sorted, since the order of keys within a pass is not recorded.
fn by_pass(calls: &[Value]) -> Vec<Vec<String>> {
    calls
        .chunk_by(|a, b| a["call"] == b["call"])
        .map(|pass| {
            let mut pass: Vec<String> = pass.iter().map(Value::to_string).collect();
            pass.sort();
            pass
        })
        .collect()
}

fn drain(presence: &mut ChannelPresence) -> Vec<Event> {
    std::iter::from_fn(|| presence.poll_event()).collect()
}

#[test]
fn every_recorded_series_gives_the_calls_and_states_of_phoenix_js() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/client");
    let mut played = 0;
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let series: Series = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut presence = ChannelPresence::new(Config::default());
        let mut joins = 1;
        presence.rejoined("1");
        for (at, step) in series.steps.into_iter().enumerate() {
            let place = format!("{} step {at}", file.display());
            if step.event == "rejoin" {
                joins += 1;
                presence.rejoined(&joins.to_string());
            } else {
                let payload = step.payload.unwrap();
                assert!(
                    presence.handle_message(&step.event, payload.get()).unwrap(),
                    "{place}"
                );
            }
            let calls: Vec<Value> = drain(&mut presence).iter().map(as_call).collect();
            assert_eq!(by_pass(&calls), by_pass(&step.calls), "{place}");
            assert_eq!(json!(presence.state()), step.state, "{place}");
            assert_eq!(presence.is_pending(), step.pending, "{place}");
        }
        played += 1;
    }
    assert!(played >= 100, "only {played} series");
}

// ---- A model of the server ----

#[derive(Clone, Debug)]
enum Op {
    Track(usize),
    /// Replaces the n-th of the key's metas.
    Update(usize, usize),
    Untrack(usize, usize),
    /// Sends what changed since the last flush to the clients that are joined.
    Flush,
    /// The client joins again: what was sent to its last join and not received is lost.
    Rejoin,
    /// The server sends the state that the client's join calls for.
    PushState,
    /// The client receives the next message that waits for it.
    Receive,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS.len();
    prop_oneof![
        4 => key.clone().prop_map(Op::Track),
        3 => (key.clone(), any::<usize>()).prop_map(|(key, at)| Op::Update(key, at)),
        3 => (key, any::<usize>()).prop_map(|(key, at)| Op::Untrack(key, at)),
        4 => Just(Op::Flush),
        1 => Just(Op::Rejoin),
        2 => Just(Op::PushState),
        6 => Just(Op::Receive),
    ]
}

const KEYS: [&str; 6] = ["alice", "bob", "__proto__", "7", "10", ""];

/// Metas by key. None of the metas share a ref.
type Metas = BTreeMap<&'static str, Vec<Value>>;

fn payload(metas: &Metas) -> Value {
    metas
        .iter()
        .filter(|(_, metas)| !metas.is_empty())
        .map(|(key, metas)| ((*key).to_owned(), json!({ "metas": metas })))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[derive(Default)]
struct Server {
    tracked: Metas,
    joins: Metas,
    leaves: Metas,
    refs: u32,
}

impl Server {
    fn track(&mut self, key: &'static str, previous: Option<&Value>) {
        self.refs += 1;
        let mut meta = json!({ "phx_ref": format!("r{}", self.refs), "n": self.refs });
        if let Some(previous) = previous {
            meta["phx_ref_prev"] = previous["phx_ref"].clone();
        }
        self.tracked.entry(key).or_default().push(meta.clone());
        self.joins.entry(key).or_default().push(meta);
    }

    fn untrack(&mut self, key: &'static str, at: usize) -> Option<Value> {
        let metas = self.tracked.entry(key).or_default();
        if metas.is_empty() {
            return None;
        }
        let meta = metas.remove(at % metas.len());
        self.leaves.entry(key).or_default().push(meta.clone());
        Some(meta)
    }

    fn flush(&mut self) -> Value {
        let diff = json!({ "joins": payload(&self.joins), "leaves": payload(&self.leaves) });
        self.joins.clear();
        self.leaves.clear();
        diff
    }
}

/// A client, and what an application makes of its events alone.
struct Client {
    presence: ChannelPresence,
    join_ref: u32,
    inbox: std::collections::VecDeque<(&'static str, Value)>,
    state_pushed: bool,
    /// Diffs of this join, and of earlier ones, that wait for a state.
    waiting: usize,
    waiting_stale: usize,
    /// The list holds what phoenix.js applies of earlier joins, so it may be wrong.
    stale: bool,
    folded: BTreeMap<String, Vec<Value>>,
}

impl Client {
    fn new(stale_diffs: StaleDiffs) -> Self {
        let mut client = Self {
            presence: ChannelPresence::new(Config {
                stale_diffs,
                ..Config::default()
            }),
            join_ref: 0,
            inbox: Default::default(),
            state_pushed: false,
            waiting: 0,
            waiting_stale: 0,
            stale: false,
            folded: BTreeMap::new(),
        };
        client.rejoin();
        client
    }

    fn rejoin(&mut self) {
        self.join_ref += 1;
        self.presence.rejoined(&self.join_ref.to_string());
        self.inbox.clear();
        self.state_pushed = false;
        self.waiting_stale += std::mem::take(&mut self.waiting);
    }

    fn receive(&mut self) {
        let Some((event, payload)) = self.inbox.pop_front() else {
            return;
        };
        let was_pending = self.presence.is_pending();
        let taken = self.presence.handle_message(event, &payload.to_string());
        assert!(taken.expect("a legal payload is taken"));
        let events = drain(&mut self.presence);
        if event == "presence_state" {
            self.stale = self.waiting_stale > 0;
            (self.waiting, self.waiting_stale) = (0, 0);
        } else if was_pending {
            self.waiting += 1;
            assert!(events.is_empty());
            return;
        }
        let syncs = events.iter().filter(|event| **event == Event::Sync).count();
        assert_eq!((syncs, events.last()), (1, Some(&Event::Sync)));
        for event in &events {
            self.fold(event);
        }
        let listed: BTreeMap<String, Vec<Value>> = self
            .presence
            .list_by(|key, presence| (key.to_owned(), metas(presence)))
            .into_iter()
            .collect();
        assert_eq!(listed, self.folded);
    }

    /// Applies one event to the list that the events before it gave.
    fn fold(&mut self, event: &Event) {
        let among = |metas: Vec<Value>| move |meta: &Value| metas.contains(meta);
        match event {
            Event::Join {
                key,
                current,
                joined,
            } => {
                assert_eq!(
                    current.as_ref().map(metas).as_ref(),
                    self.folded.get(&**key)
                );
                let joined = metas(joined);
                assert!(!joined.is_empty());
                let held = self.folded.entry(key.to_string()).or_default();
                let is_joined = among(joined.clone());
                held.retain(|meta| !is_joined(meta));
                held.extend(joined);
            }
            Event::Leave { key, current, left } => {
                let is_left = among(metas(left));
                let held = self.folded.get_mut(&**key).expect("what leaves is listed");
                held.retain(|meta| !is_left(meta));
                assert_eq!(&metas(current), held);
                if held.is_empty() {
                    self.folded.remove(&**key);
                }
            }
            Event::Sync => {}
        }
    }
}

fn metas(presence: &Presence) -> Vec<Value> {
    let parsed = |meta: &presence_core::client::Meta| {
        let meta_json: Value = serde_json::from_str(meta.json().get()).expect("a meta is JSON");
        assert_eq!(meta.phx_ref(), meta_json["phx_ref"].as_str());
        meta_json
    };
    presence.metas().iter().map(parsed).collect()
}

/// As sets, since which of two metas of a key is first differs after a rejoin.
fn as_sets<'a>(
    list: impl Iterator<Item = (String, &'a Vec<Value>)>,
) -> BTreeMap<String, BTreeSet<String>> {
    list.filter(|(_, metas)| !metas.is_empty())
        .map(|(key, metas)| (key, metas.iter().map(Value::to_string).collect()))
        .collect()
}

/// Runs `ops`, then lets all be sent and received.
fn run(mut ops: Vec<Op>, stale_diffs: StaleDiffs) -> (Server, Client) {
    let mut server = Server::default();
    let mut client = Client::new(stale_diffs);
    ops.extend([Op::PushState, Op::Flush]);
    for op in ops {
        match op {
            Op::Track(key) => server.track(KEYS[key], None),
            Op::Update(key, at) => {
                if let Some(previous) = server.untrack(KEYS[key], at) {
                    server.track(KEYS[key], Some(&previous));
                }
            }
            Op::Untrack(key, at) => {
                server.untrack(KEYS[key], at);
            }
            Op::Flush => {
                let diff = server.flush();
                client.inbox.push_back(("presence_diff", diff));
            }
            Op::Rejoin => client.rejoin(),
            Op::PushState => {
                if !client.state_pushed {
                    client.state_pushed = true;
                    let state = payload(&server.tracked);
                    client.inbox.push_back(("presence_state", state));
                }
            }
            Op::Receive => client.receive(),
        }
    }
    while !client.inbox.is_empty() {
        client.receive();
    }
    (server, client)
}

fn listed_as_tracked(server: &Server, client: &Client) -> Result<(), TestCaseError> {
    let tracked = server
        .tracked
        .iter()
        .map(|(key, metas)| ((*key).to_owned(), metas));
    let listed = client
        .folded
        .iter()
        .map(|(key, metas)| (key.clone(), metas));
    prop_assert_eq!(as_sets(listed), as_sets(tracked));
    prop_assert!(!client.presence.is_pending());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Folding the events to the same list is asserted at each message received.
    #[test]
    fn the_list_is_the_servers_once_all_is_received(
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let (server, client) = run(ops, StaleDiffs::Discard);
        listed_as_tracked(&server, &client)?;
    }

    #[test]
    fn as_phoenix_js_the_list_is_the_servers_unless_a_stale_diff_was_applied(
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let (server, mut client) = run(ops, StaleDiffs::Apply);
        if client.stale {
            client.rejoin();
            client.inbox.push_back(("presence_state", payload(&server.tracked)));
            client.receive();
        }
        listed_as_tracked(&server, &client)?;
    }
}

// ---- Payloads of any kind ----

/// JSON that is shaped as a payload in most places, and not in some.
fn nearly_presences() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("-0.0".to_owned()),
        Just("1e999".to_owned()),
        Just("true".to_owned()),
        Just(r#""a""#.to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
    ];
    let meta = prop_oneof![
        1 => scalar.clone(),
        6 => scalar.clone().prop_map(|phx_ref| format!(r#"{{"v":1,"phx_ref":{phx_ref}}}"#)),
    ];
    let metas = prop_oneof![
        1 => scalar.clone(),
        12 => prop::collection::vec(meta, 0..4).prop_map(|metas| format!("[{}]", metas.join(","))),
    ];
    let presence = prop_oneof![
        1 => scalar.clone(),
        12 => (metas, scalar).prop_map(|(metas, user)| {
            format!(r#"{{"user":{user},"metas":{metas}}}"#)
        }),
    ];
    let member = ("[a-c0-2]{0,2}", presence).prop_map(|(key, value)| format!(r#""{key}":{value}"#));
    prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn any_payload() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..64)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        1 => r#"[\[\]{}":,a-z0-9\\ ]{0,40}"#,
        4 => nearly_presences(),
        6 => (nearly_presences(), nearly_presences())
            .prop_map(|(joins, leaves)| format!(r#"{{"joins":{joins},"leaves":{leaves}}}"#)),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (0usize..4, 0usize..2_000, 0usize..2_000).prop_map(|(diffs, pending, list)| Limits {
        pending_diffs: diffs,
        pending_bytes: pending,
        list_bytes: list,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_payload_is_taken_whole_or_refused_without_effect(
        limits in any_limits(),
        steps in prop::collection::vec((0..8, any_payload()), 1..30),
    ) {
        let limit = limits.list_bytes;
        let mut presence = ChannelPresence::new(Config { limits, ..Config::default() });
        let mut joins = 0;
        for (choice, payload) in steps {
            let before = serde_json::to_string(presence.state()).unwrap();
            let was_pending = presence.is_pending();
            let result = match choice {
                0 => {
                    joins += 1;
                    presence.rejoined(&joins.to_string());
                    continue;
                }
                1..4 => presence.handle_state(&payload),
                _ => presence.handle_diff(&payload),
            };
            let events = drain(&mut presence);
            match result {
                Ok(()) => prop_assert_eq!(events.is_empty(), was_pending && choice >= 4),
                Err(error) => {
                    prop_assert!(events.is_empty());
                    prop_assert_eq!(&before, &serde_json::to_string(presence.state()).unwrap());
                    if let SyncError::Payload(
                        PayloadError::Shape { path, .. } | PayloadError::Json { path, .. },
                    ) = &error
                    {
                        prop_assert!(path.starts_with("payload"));
                        prop_assert_eq!(presence.is_pending(), was_pending);
                    } else {
                        prop_assert!(presence.is_pending());
                    }
                }
            }
            prop_assert!(presence.state().size() <= limit);
        }
    }
}
