//! One connection of a client, from its opening to its end.

mod incoming;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use presence_core::wire::{Frame, Json, Message, Payload, Ref, event};
use serde_json::json;
use tokio::time::Instant;

use super::carrier::{Carrier, Received};
use super::channel::{Channel, State};
use super::rules::{Broken, Rules, Sent};
use super::{Client, Order, Over, Said, Slow};

/// The close codes of a client that goes on elsewhere, and of a tab that is closed.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;

/// What the application sends on to all who are in a topic.
pub(super) const SHOUT: &str = "shout";

/// A connection and what is under way on it.
pub(super) struct Session<'a> {
    client: &'a mut Client,
    carrier: Carrier,
    rules: Rules,
    /// Messages that wait for their replies, by ref.
    pushes: BTreeMap<u64, Push>,
    heartbeat: Heartbeat,
    /// A slow client reads nothing before.
    reads_at: Instant,
}

/// A message that waits for its reply.
struct Push {
    topic: String,
    what: What,
    /// When it counts as not answered; `None` once it does.
    until: Option<Instant>,
}

#[derive(Clone)]
enum What {
    Join,
    Leave,
    Track { key: String, number: u32 },
    Update { key: String, number: u32 },
    Untrack { key: String, number: u32 },
}

struct Heartbeat {
    /// When the next is sent, or the last has gone without an answer; `None` where there are none.
    at: Option<Instant>,
    waiting: Option<u64>,
}

/// What happens next.
enum Step {
    Order(Option<Order>),
    Received(Received),
    Timer,
}

/// How a connection ends.
enum End {
    /// It broke, or the node closed it.
    Lost {
        why: String,
    },
    /// The client believes in it no longer.
    GivenUp {
        why: String,
    },
    Moved {
        node: usize,
    },
    Closed,
    Crashed,
    Vanished,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a mut Client, carrier: Carrier) -> Self {
        let now = Instant::now();
        let heartbeat = Heartbeat {
            at: carrier
                .has_heartbeats()
                .then(|| now + client.settings.heartbeat),
            waiting: None,
        };
        Self {
            rules: Rules::new(client.settings.serializer),
            client,
            carrier,
            pushes: BTreeMap::new(),
            heartbeat,
            reads_at: now,
        }
    }

    /// Serves its user until the connection has ended, or the client.
    pub(super) async fn run(mut self) -> Result<(), Over> {
        let Err(end) = self.serve().await;
        match end {
            End::Lost { why } => self.client.disconnected(why),
            End::GivenUp { why } => {
                self.client.disconnected(why);
                self.carrier.close(NORMAL).await;
            }
            End::Moved { node } => {
                self.client.disconnected("it moves".into());
                (self.client.node, self.client.pause) = (node, Duration::ZERO);
                self.carrier.close(NORMAL).await;
            }
            End::Closed => {
                self.client.disconnected("it closes".into());
                self.carrier.close(GOING_AWAY).await;
                return Err(Over);
            }
            End::Crashed => {
                self.client.disconnected("it crashes".into());
                return Err(Over);
            }
            // The connection is held open.
            End::Vanished => return Err(self.client.vanish().await),
        }
        Ok(())
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        self.join_all();
        loop {
            self.handle_timers(Instant::now())?;
            match self.next().await {
                Step::Order(order) => self.handle_order(order.unwrap_or(Order::Crash))?,
                Step::Received(Received::Frame(frame)) => self.handle_frame(&frame),
                Step::Received(Received::Broken(broken)) => self.tell_broken(&broken),
                Step::Received(Received::Closed(why)) => return Err(End::Lost { why }),
                Step::Timer => {}
            }
        }
    }

    async fn next(&mut self) -> Step {
        let now = Instant::now();
        let reads = self.reads_at <= now;
        let wakes = [self.deadline(), (!reads).then_some(self.reads_at)];
        let wake = wakes.into_iter().flatten().min();
        let timer = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = self.client.orders.recv() => Step::Order(order),
            received = self.carrier.receive(reads) => Step::Received(received),
            () = timer => Step::Timer,
        }
    }

    /// When something is to be done without a cause from outside.
    fn deadline(&self) -> Option<Instant> {
        let channels = self.client.channels.values();
        let channels = channels.filter_map(Channel::deadline);
        let pushes = self.pushes.values().filter_map(|push| push.until);
        channels.chain(pushes).chain(self.heartbeat.at).min()
    }

    /// Does what is due.
    fn handle_timers(&mut self, now: Instant) -> Result<(), End> {
        if self.heartbeat.at.is_some_and(|at| at <= now) {
            if self.heartbeat.waiting.is_some() {
                let why = "a heartbeat is not answered".into();
                return Err(End::GivenUp { why });
            }
            let topic = event::HEARTBEAT_TOPIC;
            let msg_ref = self.send(topic, event::HEARTBEAT, None, &json!({}));
            self.heartbeat.waiting = Some(msg_ref);
            self.heartbeat.at = Some(now + self.client.settings.heartbeat);
        }
        let due = |(topic, channel): (&String, &Channel)| {
            let is_due = channel.deadline().is_some_and(|at| at <= now);
            is_due.then(|| topic.clone())
        };
        let due: Vec<_> = self.client.channels.iter().filter_map(due).collect();
        for topic in due {
            match self.client.channel(&topic).state {
                State::Apart { .. } => self.join(&topic),
                State::Joining { .. } => self.join_timed_out(&topic, now),
                State::Joined => {}
            }
        }
        for push in self.pushes.values_mut() {
            if push.until.is_none_or(|until| until > now) {
                continue;
            }
            push.until = None;
            if let What::Track { key, number } | What::Update { key, number } = &push.what {
                self.client.say(Said::Unanswered {
                    topic: push.topic.clone(),
                    key: key.clone(),
                    number: *number,
                });
            }
        }
        Ok(())
    }

    /// Joins whatever it was in before, and what was asked for meanwhile.
    fn join_all(&mut self) {
        let topics: Vec<_> = self.client.channels.keys().cloned().collect();
        for topic in topics {
            let has_joined = self.client.channel(&topic).has_joined;
            if !(has_joined && self.client.outside.misses_rejoin(self.client.id)) {
                self.join(&topic);
            }
        }
    }

    fn join(&mut self, topic: &str) {
        // What was sent for an earlier join is of no account any more.
        self.forget_pushes(topic);
        let join_ref = self.client.last_ref + 1;
        self.send(topic, event::JOIN, Some(join_ref), &json!({}));
        let until = Instant::now() + self.client.settings.timeout;
        self.client.channel(topic).joining(join_ref, until);
        let push = Push {
            topic: topic.into(),
            what: What::Join,
            until: None,
        };
        self.pushes.insert(join_ref, push);
    }

    /// As phoenix.js: it leaves what it may have joined, and tries again later.
    fn join_timed_out(&mut self, topic: &str, now: Instant) {
        self.forget_pushes(topic);
        let channel = self.client.channel(topic);
        let join_ref = channel.join_ref;
        channel.failed(now);
        self.client.say(Said::JoinFailed {
            topic: topic.into(),
            reason: "no answer in time".into(),
        });
        self.send(topic, event::LEAVE, join_ref, &json!({}));
    }

    fn joined(&mut self, topic: &str) {
        let channel = self.client.channel(topic);
        channel.joined();
        let (keys, join_ref) = (channel.keys.clone(), channel.join_ref);
        self.client.say(Said::Joined {
            topic: topic.into(),
        });
        self.send(topic, "state", join_ref, &json!({}));
        for key in keys {
            self.track(topic, key);
        }
    }

    fn track(&mut self, topic: &str, key: String) {
        let number = self.client.outside.number(self.client.id, topic, &key);
        let sent = &mut self.client.channel(topic).sent;
        // It is refused where there is one already.
        sent.entry(key.clone()).or_insert(number);
        self.push(topic, What::Track { key, number });
    }

    fn update(&mut self, topic: &str, key: String) {
        let number = self.client.outside.number(self.client.id, topic, &key);
        // It is refused where there is none.
        if let Some(sent) = self.client.channel(topic).sent.get_mut(&key) {
            *sent = number;
        }
        self.push(topic, What::Update { key, number });
    }

    fn untrack(&mut self, topic: &str, key: String) {
        if let Some(number) = self.client.channel(topic).sent.remove(&key) {
            self.client.say(Said::Untracking { number });
            self.push(topic, What::Untrack { key, number });
        }
    }

    fn leave(&mut self, topic: String) {
        let Some(channel) = self.client.channels.remove(&topic) else {
            return;
        };
        self.forget_pushes(&topic);
        // One that has not joined on this connection has nothing to leave.
        if channel.join_ref.is_none() {
            return;
        }
        self.client.say(Said::Leaving {
            topic: topic.clone(),
        });
        let msg_ref = self.send(&topic, event::LEAVE, channel.join_ref, &json!({}));
        let push = Push {
            topic,
            what: What::Leave,
            until: None,
        };
        self.pushes.insert(msg_ref, push);
    }

    /// Sends what the application calls for.
    fn push(&mut self, topic: &str, what: What) {
        let (event, payload) = match &what {
            What::Track { key, number } => {
                ("track", json!({ "key": key, "meta": { "n": number } }))
            }
            What::Update { key, number } => {
                ("update", json!({ "key": key, "meta": { "n": number } }))
            }
            What::Untrack { key, .. } => ("untrack", json!({ "key": key })),
            What::Join | What::Leave => return,
        };
        let join_ref = self.client.channel(topic).join_ref;
        let msg_ref = self.send(topic, event, join_ref, &payload);
        let push = Push {
            topic: topic.into(),
            what,
            until: Some(Instant::now() + self.client.settings.timeout),
        };
        self.pushes.insert(msg_ref, push);
    }

    /// Sends a message; its ref.
    fn send(
        &mut self,
        topic: &str,
        event: &str,
        join_ref: Option<u64>,
        payload: &serde_json::Value,
    ) -> u64 {
        self.client.last_ref += 1;
        let msg_ref = self.client.last_ref;
        self.rules.sent(&Sent {
            topic,
            event,
            join_ref,
            msg_ref,
            payload,
        });
        let text = payload.to_string();
        let payload = Json::parse(&text).expect("a JSON value is JSON");
        let message = Message {
            join_ref: join_ref.map_or(Ref::NULL, |join_ref| join_ref.to_string().into()),
            msg_ref: msg_ref.to_string().into(),
            topic: topic.into(),
            event: event.into(),
            payload: Payload::Json(payload),
        };
        let frame = self.client.settings.serializer.encode_client(&message);
        let frame = frame.expect("JSON has a frame in every serializer");
        self.trace(">", &frame);
        self.carrier.send(&frame);
        msg_ref
    }

    fn forget_pushes(&mut self, topic: &str) {
        self.pushes.retain(|_, push| push.topic != topic);
    }

    fn handle_order(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::Join { topic } => self.want(&topic),
            Order::Track { topic, key } => {
                self.want(&topic);
                let channel = self.client.channel(&topic);
                channel.keys.insert(key.clone());
                if channel.is_joined() {
                    self.track(&topic, key);
                }
            }
            Order::Update { topic, key } => {
                // What is not joined will be tracked with a new meta anyway.
                let channel = self.client.channels.get(&topic);
                if channel.is_some_and(Channel::is_joined) {
                    self.update(&topic, key);
                }
            }
            Order::Untrack { topic, key } => {
                if let Some(channel) = self.client.channels.get_mut(&topic) {
                    channel.keys.remove(&key);
                    self.untrack(&topic, key);
                }
            }
            Order::Shout { topic, number } => {
                let channel = self.client.channels.get(&topic);
                if let Some(channel) = channel.filter(|channel| channel.is_joined()) {
                    let join_ref = channel.join_ref;
                    self.send(&topic, SHOUT, join_ref, &json!({ "n": number }));
                }
            }
            Order::Leave { topic } => self.leave(topic),
            Order::Slow { per_message, lasts } => {
                let until = Instant::now() + lasts;
                self.client.slow = Some(Slow { per_message, until });
            }
            Order::Reset => {
                let why = "reset".into();
                return Err(End::Lost { why });
            }
            Order::Move { node } => return Err(End::Moved { node }),
            Order::Close => return Err(End::Closed),
            Order::Crash => return Err(End::Crashed),
            Order::Vanish => return Err(End::Vanished),
        }
        Ok(())
    }

    /// Joins a topic that is new to it.
    fn want(&mut self, topic: &str) {
        if !self.client.channels.contains_key(topic) {
            self.join(topic);
        }
    }

    fn tell_broken(&self, broken: &Broken) {
        self.client.say(Said::Broken {
            rule: broken.to_string(),
        });
    }

    fn trace(&self, direction: &str, frame: &Frame) {
        if self.client.outside.wants_frames() {
            let text = format!("{direction} {}", text_of(frame));
            self.client.say(Said::Frame { text });
        }
    }
}

/// A ref as this client counts them.
pub(super) fn number(of: &Ref<'_>) -> Option<u64> {
    of.as_str()?.parse().ok()
}

fn text_of(frame: &Frame) -> Cow<'_, str> {
    String::from_utf8_lossy(frame.as_frame_ref().as_bytes())
}
