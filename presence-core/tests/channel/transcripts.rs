//! Replays recorded transcripts without presence: a tiny application and a broadcast that reaches every
//! subscriber are all that is around the sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::PathBuf;

use presence_core::channel::{ChannelId, Config, Output, ReplyTo, Socket};
use presence_core::wire::{Frame, FrameRef, Json, Limits, Payload, Serializer, Status};
use serde_json::{Value, json};

/// What must be replayed; a case that is not here is replayed too if nothing in it needs presence.
const CASES: [&str; 35] = [
    "binary",
    "extra-elements",
    "heartbeat",
    "join-crash",
    "join-empty-suffix",
    "join-exact",
    "join-ok",
    "join-rejected",
    "join-reply",
    "join-unmatched",
    "leave",
    "leave-stale",
    "leave-unjoined",
    "malformed-binary",
    "malformed-not-json",
    "malformed-object",
    "malformed-short",
    "message-null-join-ref",
    "message-stale-join-ref",
    "message-unjoined",
    "payload-shapes",
    "push",
    "replies",
    "shout",
    "shout-from",
    "stop",
    "stop-reply",
    "too-many-channels",
    "unknown-event",
    "vsn-default",
    "vsn-invalid",
    "vsn-minor",
    "vsn-unsupported",
    // Without their presences.
    "crash",
    "join-duplicate",
];

struct Case {
    name: String,
    steps: Vec<Value>,
}

fn recorded() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/wire");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"))
        .collect();
    paths.sort();
    paths.iter().map(read).collect()
}

fn read(path: &PathBuf) -> Case {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().skip(1);
    Case {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        steps: lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    }
}

/// Takes presence out of a step, or says that nothing is left of it.
fn without_presence(step: &Value) -> Option<Value> {
    let asks_presence = ["track", "list", "state"].map(Value::from);
    if asks_presence.contains(&step["do"]["text"][3]) {
        return None;
    }
    let mut step = step.clone();
    for frames in step["then"].as_object_mut().unwrap().values_mut() {
        let frames = frames.as_array_mut().unwrap();
        frames.retain(|frame| frame["text"][3] != "presence_diff");
    }
    Some(step)
}

/// Whether the case needs no more than this application.
fn is_replayable(case: &Case) -> bool {
    let presence = [
        "track",
        "update",
        "merge",
        "untrack",
        "list",
        "get_by_key",
        "state",
    ];
    case.steps.iter().all(|step| {
        let action = &step["do"];
        let (topic, event) = match &action["text"] {
            Value::Array(elements) => (elements.get(2), elements.get(3)),
            object => (object.get("topic"), object.get("event")),
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
        let is_socket = action.get("http").is_none() && action.get("ctl").is_none();
        let query = &action["query"];
        is_socket
            && query.get("token").is_none()
            && query.get("refuse").is_none()
            && action.get("subprotocols").is_none()
            && !text(topic).starts_with("room:")
            && !presence.contains(&&*text(event))
    })
}

#[test]
fn the_recorded_transcripts_replay() {
    let mut replayed = BTreeSet::new();
    for case in recorded() {
        if case.name == "crash" || case.name == "join-duplicate" {
            let steps = case.steps.iter().filter_map(without_presence).collect();
            replay(&Case {
                name: case.name.clone(),
                steps,
            });
        } else if is_replayable(&case) {
            replay(&case);
        } else {
            continue;
        }
        replayed.insert(case.name);
    }
    for name in CASES {
        assert!(replayed.contains(name), "{name} was not replayed");
    }
}

fn replay(case: &Case) {
    let mut server = Server::default();
    for (number, step) in case.steps.iter().enumerate() {
        let mut seen = server.act(&step["do"]);
        let mut expected: BTreeMap<String, Vec<Value>> = step["then"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(client, frames)| (client.clone(), frames.as_array().unwrap().clone()))
            .filter(|(_, frames)| !frames.is_empty())
            .collect();
        for client in step["unordered"].as_array().into_iter().flatten() {
            for frames in [&mut seen, &mut expected] {
                if let Some(frames) = frames.get_mut(client.as_str().unwrap()) {
                    frames.sort_by_key(Value::to_string);
                }
            }
        }
        assert_eq!(seen, expected, "{}, step {}", case.name, number + 1);
    }
}

/// The conformance application, as far as it has no presence, and its clients.
#[derive(Default)]
struct Server {
    clients: BTreeMap<String, Client>,
    seen: BTreeMap<String, Vec<Value>>,
}

struct Client {
    socket: Socket,
    topics: BTreeMap<ChannelId, String>,
    subscriptions: BTreeMap<ChannelId, String>,
}

impl Server {
    fn act(&mut self, action: &Value) -> BTreeMap<String, Vec<Value>> {
        let name = |key: &str| action[key].as_str().map(str::to_owned);
        if let Some(client) = name("open") {
            self.open(client, action["query"]["vsn"].as_str());
        } else if let Some(client) = name("send") {
            self.send(&client, action);
        } else if let Some(client) = name("close").or(name("abort")) {
            let gone = self.clients.get_mut(&client).unwrap();
            gone.socket.handle_closed();
            self.drain(&client);
        } else {
            panic!("no such action: {action}");
        }
        std::mem::take(&mut self.seen)
    }

    fn open(&mut self, client: String, vsn: Option<&str>) {
        let outcome = match Serializer::negotiate(vsn) {
            Ok(serializer) => {
                let opened = Client {
                    socket: Socket::new(serializer, Config::default()),
                    topics: BTreeMap::new(),
                    subscriptions: BTreeMap::new(),
                };
                self.clients.insert(client.clone(), opened);
                json!({"opened": true})
            }
            Err(_) => json!({"refused": 403}),
        };
        self.seen.entry(client).or_default().push(outcome);
    }

    fn send(&mut self, client: &str, action: &Value) {
        let text = action["text"].to_string();
        let bytes = action["binary"].as_str().map(from_hex).unwrap_or_default();
        let frame = if action.get("text").is_some() {
            FrameRef::Text(&text)
        } else if let Some(raw) = action["raw"].as_str() {
            FrameRef::Text(raw)
        } else {
            FrameRef::Binary(&bytes)
        };
        let socket = &mut self.clients.get_mut(client).unwrap().socket;
        match socket.serializer().decode_client(frame, &Limits::default()) {
            Ok(message) => {
                let is_routed = |topic: &str| topic.starts_with("conf:") || topic == "exact";
                socket.handle_message(&message, is_routed).unwrap();
            }
            Err(error) => socket.handle_decode_error(&error),
        }
        self.drain(client);
    }

    fn drain(&mut self, client: &str) {
        while let Some(output) = self.client(client).socket.poll_output() {
            match output {
                Output::Send(frame) => self.see(client, &frame),
                Output::Join {
                    channel,
                    topic,
                    payload,
                    ..
                } => {
                    let client = self.client(client);
                    client.topics.insert(channel, topic.to_string());
                    join(&mut client.socket, channel, &payload);
                }
                Output::Subscribe { channel, topic } => {
                    let client = self.client(client);
                    client.subscriptions.insert(channel, topic.to_string());
                }
                Output::Unsubscribe { channel } => {
                    self.client(client).subscriptions.remove(&channel);
                }
                Output::Deliver {
                    reply_to,
                    event,
                    payload,
                } => self.handle(client, &reply_to, &event, &payload),
                Output::Leave { channel } => self.client(client).socket.handle_left(channel),
                Output::Stop { .. } => {}
                Output::Close { code } => {
                    let seen = self.seen.entry(client.to_owned()).or_default();
                    seen.push(json!({"closed": code}));
                }
            }
        }
    }

    fn client(&mut self, client: &str) -> &mut Client {
        self.clients.get_mut(client).unwrap()
    }

    fn see(&mut self, client: &str, frame: &Frame) {
        let value = match frame {
            Frame::Text(text) => json!({"text": serde_json::from_str::<Value>(text).unwrap()}),
            Frame::Binary(bytes) => json!({"binary": to_hex(bytes)}),
        };
        self.seen.entry(client.to_owned()).or_default().push(value);
    }

    fn handle(&mut self, client: &str, reply_to: &ReplyTo, event: &str, payload: &Payload<'_>) {
        let channel = reply_to.channel();
        let socket = &mut self.client(client).socket;
        match event {
            "echo" => socket.handle_reply(reply_to, Status::Ok, payload).unwrap(),
            "fail" => socket
                .handle_reply(reply_to, Status::Error, payload)
                .unwrap(),
            "ok" => ok(socket, reply_to),
            "noreply" => {}
            "shout" => self.broadcast(None, (client, channel), payload),
            "shout_from" => {
                ok(socket, reply_to);
                self.broadcast(Some(client), (client, channel), payload);
            }
            "push" => socket.handle_push(channel, "pushed", payload).unwrap(),
            "stop" => socket.handle_stopped(channel),
            "stop_reply" => {
                socket.handle_reply(reply_to, Status::Ok, payload).unwrap();
                socket.handle_stopped(channel);
            }
            _ => socket.handle_crashed(channel),
        }
    }

    fn broadcast(&mut self, except: Option<&str>, by: (&str, ChannelId), payload: &Payload<'_>) {
        let topic = self.client(by.0).topics[&by.1].clone();
        let mut reached = VecDeque::new();
        for (name, client) in &mut self.clients {
            let serializer = client.socket.serializer();
            for (&channel, subscribed) in &client.subscriptions {
                if *subscribed == topic && except != Some(name) {
                    let frame = serializer.encode_broadcast(&topic, "shout", payload);
                    client.socket.handle_broadcast(channel, frame.unwrap());
                    reached.push_back(name.clone());
                }
            }
        }
        for name in reached.into_iter().filter(|name| name != by.0) {
            self.drain(&name);
        }
    }
}

fn ok(socket: &mut Socket, reply_to: &ReplyTo) {
    let reply = socket.handle_reply(reply_to, Status::Ok, &Payload::EMPTY);
    reply.unwrap();
}

fn join(socket: &mut Socket, channel: ChannelId, payload: &Payload<'_>) {
    let params: Value = payload.as_json().unwrap().deserialize().unwrap();
    let response = |value: &Value| Payload::Json(Json::serialize(value).unwrap());
    if params.get("reject").is_some() {
        let reason = response(&json!({"reason": params["reject"]}));
        socket.handle_join_refused(channel, &reason).unwrap();
    } else if params.get("crash").is_some() {
        socket.handle_join_crashed(channel);
    } else if let Some(reply) = params.get("reply") {
        socket.handle_joined(channel, &response(reply)).unwrap();
    } else {
        socket.handle_joined(channel, &Payload::EMPTY).unwrap();
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
