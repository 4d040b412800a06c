//! What holds for a socket under any sequence of inputs.

use std::collections::{BTreeMap, BTreeSet};

use presence_core::channel::{ChannelId, Config, Output, ReplyTo, Socket, StopReason};
use presence_core::wire::{
    Frame, Limits, Message, Payload, Ref, Reply, Serializer, ServerMessage, Status, event,
};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX_CHANNELS: usize = 2;
const MAX_HELD: usize = 3;
const TOPICS: [&str; 4] = ["conf:0", "conf:1", "conf:2", "nope:0"];

/// One input. Indexes pick among what there has been so far.
#[derive(Clone, Debug)]
enum Op {
    Join { topic: usize },
    Leave { topic: usize, join: Option<usize> },
    Send { topic: usize, join: Option<usize> },
    Heartbeat,
    Report { channel: usize, report: Report },
    Reply { message: usize },
    Disconnect,
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Report {
    Joined,
    JoinRefused,
    JoinCrashed,
    Push,
    Broadcast,
    Left,
    Stopped,
    Crashed,
}

fn op() -> impl Strategy<Value = Op> {
    let topic = 0..TOPICS.len();
    let join = prop::option::weighted(0.7, 0_usize..8);
    let report = prop::sample::select(vec![
        Report::Joined,
        Report::Joined,
        Report::Joined,
        Report::JoinRefused,
        Report::JoinCrashed,
        Report::Push,
        Report::Broadcast,
        Report::Left,
        Report::Left,
        Report::Stopped,
        Report::Crashed,
    ]);
    prop_oneof![
        12 => topic.clone().prop_map(|topic| Op::Join { topic }),
        8 => (topic.clone(), join.clone()).prop_map(|(topic, join)| Op::Leave { topic, join }),
        20 => (topic, join).prop_map(|(topic, join)| Op::Send { topic, join }),
        2 => Just(Op::Heartbeat),
        30 => (0_usize..6, report).prop_map(|(channel, report)| Op::Report { channel, report }),
        8 => (0_usize..6).prop_map(|message| Op::Reply { message }),
        1 => Just(Op::Disconnect),
        1 => Just(Op::Closed),
    ]
}

/// What a channel is, as far as the outputs tell.
#[derive(Debug, PartialEq)]
enum Seen {
    Joining,
    Subscribed,
    Leaving,
    Ended,
}

/// A socket with an observer that believes nothing but its outputs.
struct Run {
    socket: Socket,
    trace: Vec<Output>,
    /// Counts the messages of the client; each has its number as its ref.
    sent: u64,
    /// The ref of each join that was taken, in order, with the replies it got.
    joins: BTreeMap<u64, usize>,
    leaves: BTreeSet<u64>,
    channels: BTreeMap<ChannelId, (String, u64, Seen)>,
    messages: Vec<ReplyTo>,
    delivered: BTreeMap<String, u64>,
    /// Joins whose end the client was told.
    farewells: BTreeSet<u64>,
    heartbeats: usize,
    is_closed: bool,
}

impl Run {
    fn new() -> Self {
        let mut config = Config::default();
        config.max_channels = MAX_CHANNELS;
        config.max_held_messages = MAX_HELD;
        Self {
            socket: Socket::new(Serializer::V2, config),
            trace: Vec::new(),
            sent: 0,
            joins: BTreeMap::new(),
            leaves: BTreeSet::new(),
            channels: BTreeMap::new(),
            messages: Vec::new(),
            delivered: BTreeMap::new(),
            farewells: BTreeSet::new(),
            heartbeats: 0,
            is_closed: false,
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Join { topic } => {
                let own_ref = self.sent + 1;
                if self.message(TOPICS[*topic], event::JOIN, Some(own_ref)) && !self.is_closed {
                    self.joins.insert(own_ref, 0);
                }
            }
            Op::Leave { topic, join } => {
                let join_ref = self.join_ref(*join);
                self.leaves.insert(self.sent + 1);
                self.message(TOPICS[*topic], event::LEAVE, join_ref);
            }
            Op::Send { topic, join } => {
                let join_ref = self.join_ref(*join);
                self.message(TOPICS[*topic], "event", join_ref);
            }
            Op::Heartbeat => {
                let before = self.heartbeats;
                assert!(self.message(event::HEARTBEAT_TOPIC, event::HEARTBEAT, None));
                self.drain();
                assert_eq!(self.heartbeats - before, usize::from(!self.is_closed));
            }
            Op::Report { channel, report } => self.report(*channel, *report),
            Op::Reply { message } => {
                let mut newest_first = self.messages.iter().rev();
                if let Some(to) = newest_first.nth(*message).cloned() {
                    let reply = self.socket.handle_reply(&to, Status::Ok, &Payload::EMPTY);
                    reply.unwrap();
                }
            }
            Op::Disconnect => self.socket.handle_disconnect(),
            Op::Closed => {
                self.socket.handle_closed();
                self.is_closed = true;
            }
        }
        self.drain();
        let under_way = self.channels.values();
        let under_way = under_way.filter(|(_, _, seen)| *seen != Seen::Ended);
        assert_eq!(under_way.count(), self.socket.channels().count());
        assert!(self.socket.channels().count() <= MAX_CHANNELS);
    }

    /// Whether the socket took it.
    fn message(&mut self, topic: &str, event: &str, join_ref: Option<u64>) -> bool {
        let message = Message {
            join_ref: join_ref.map_or(Ref::NULL, |join_ref| Ref::from(join_ref.to_string())),
            msg_ref: Ref::from((self.sent + 1).to_string()),
            topic: topic.into(),
            event: event.into(),
            payload: Payload::EMPTY,
        };
        let before = format!("{:?}", self.socket);
        let is_routed = |topic: &str| topic.starts_with("conf:");
        let taken = self.socket.handle_message(&message, is_routed);
        self.sent += 1;
        if let Err(busy) = taken {
            assert_eq!(busy.messages, MAX_HELD);
            assert_eq!(format!("{:?}", self.socket), before);
            let joining =
                |(of, _, seen): &(String, u64, Seen)| of == topic && *seen == Seen::Joining;
            assert!(self.channels.values().any(joining));
        }
        taken.is_ok()
    }

    /// The join_ref of one of the latest joins.
    fn join_ref(&self, join: Option<usize>) -> Option<u64> {
        self.joins.keys().rev().nth(join?).copied()
    }

    fn report(&mut self, channel: usize, report: Report) {
        let Some(&channel) = self.channels.keys().rev().nth(channel) else {
            return;
        };
        let payload = Payload::EMPTY;
        match report {
            Report::Joined => self.socket.handle_joined(channel, &payload).unwrap(),
            Report::JoinRefused => self.socket.handle_join_refused(channel, &payload).unwrap(),
            Report::JoinCrashed => self.socket.handle_join_crashed(channel),
            Report::Push => self
                .socket
                .handle_push(channel, "pushed", &payload)
                .unwrap(),
            Report::Broadcast => {
                let topic = &self.channels[&channel].0;
                let frame = Serializer::V2.encode_broadcast(topic, "shout", &payload);
                self.socket.handle_broadcast(channel, frame.unwrap());
            }
            Report::Left => self.socket.handle_left(channel),
            Report::Stopped => self.socket.handle_stopped(channel),
            Report::Crashed => self.socket.handle_crashed(channel),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.socket.poll_output() {
            assert!(
                !self.is_closed
                    || matches!(output, Output::Unsubscribe { .. } | Output::Stop { .. }),
                "after the close: {output:?}"
            );
            self.observe(&output);
            self.trace.push(output);
        }
    }

    fn observe(&mut self, output: &Output) {
        match output {
            Output::Send(frame) => self.observe_frame(frame),
            Output::Join {
                channel,
                topic,
                join_ref,
                ..
            } => {
                let join_ref = join_ref.as_str().unwrap().parse().unwrap();
                assert!(self.channels.keys().next_back() < Some(channel));
                let alone =
                    |(of, _, seen): &(String, u64, Seen)| **of != **topic || *seen == Seen::Ended;
                assert!(self.channels.values().all(alone), "two channels of {topic}");
                let joining = (topic.to_string(), join_ref, Seen::Joining);
                self.channels.insert(*channel, joining);
            }
            Output::Subscribe { channel, topic } => {
                let (of, _, seen) = self.channels.get_mut(channel).unwrap();
                assert_eq!((&**of, &*seen), (&**topic, &Seen::Joining));
                *seen = Seen::Subscribed;
            }
            Output::Unsubscribe { channel } => {
                let (_, _, seen) = self.channels.get_mut(channel).unwrap();
                assert!(matches!(seen, Seen::Subscribed | Seen::Leaving));
                *seen = Seen::Ended;
            }
            Output::Deliver { reply_to, .. } => {
                let (topic, _, seen) = &self.channels[&reply_to.channel()];
                assert_eq!(*seen, Seen::Subscribed);
                let msg_ref = reply_to.msg_ref().as_str().unwrap().parse().unwrap();
                let last = self.delivered.insert(topic.clone(), msg_ref);
                assert!(last < Some(msg_ref), "out of order on {topic}");
                self.messages.push(reply_to.clone());
            }
            Output::Leave { channel } => {
                let (_, _, seen) = self.channels.get_mut(channel).unwrap();
                assert_eq!(*seen, Seen::Subscribed);
                *seen = Seen::Leaving;
            }
            Output::Stop { channel, reason } => {
                let (_, _, seen) = self.channels.get_mut(channel).unwrap();
                // Whoever was subscribed has been unsubscribed before.
                let expected = match reason {
                    StopReason::DuplicateJoin => matches!(seen, Seen::Ended),
                    StopReason::SocketClosed => matches!(seen, Seen::Ended | Seen::Joining),
                };
                assert!(expected, "{seen:?}");
                *seen = Seen::Ended;
            }
            Output::Close { code } => {
                assert_eq!(*code, 1001);
                self.is_closed = true;
            }
        }
    }

    fn observe_frame(&mut self, frame: &Frame) {
        let decoded = Serializer::V2
            .decode_server(frame.as_frame_ref(), &Limits::default())
            .unwrap();
        let number = |of: &Ref<'_>| of.as_str().map(|text| text.parse::<u64>().unwrap());
        let join_ref = number(decoded.join_ref());
        match &decoded {
            ServerMessage::Reply(reply) => {
                let msg_ref = number(&reply.msg_ref).unwrap();
                if let Some(replies) = self.joins.get_mut(&msg_ref) {
                    *replies += 1;
                    self.join_answered(msg_ref, reply);
                } else if reply.topic == event::HEARTBEAT_TOPIC {
                    self.heartbeats += 1;
                }
                // A leave of a topic that is not joined is answered with the join_ref it came with.
                let is_late = join_ref.is_some_and(|join_ref| self.farewells.contains(&join_ref));
                assert!(
                    !is_late || self.leaves.contains(&msg_ref),
                    "a reply after the close"
                );
            }
            ServerMessage::Push(push)
                if push.event == event::CLOSE || push.event == event::ERROR =>
            {
                let join_ref = join_ref.unwrap();
                assert_eq!(number(&push.msg_ref), Some(join_ref));
                assert!(self.farewells.insert(join_ref), "told twice");
                let mut channels = self.channels.values();
                let of = channels.find(|(_, own, _)| *own == join_ref).unwrap();
                assert_eq!(of.2, Seen::Ended);
            }
            ServerMessage::Push(push) => {
                if let Some(join_ref) = join_ref {
                    assert!(
                        !self.farewells.contains(&join_ref),
                        "a push after the close"
                    );
                }
                let heard = |(of, _, seen): &(String, u64, Seen)| {
                    *of == push.topic && matches!(seen, Seen::Subscribed | Seen::Leaving)
                };
                assert!(self.channels.values().any(heard), "nobody listens");
            }
        }
    }

    fn join_answered(&mut self, msg_ref: u64, reply: &Reply<'_>) {
        let channel = self
            .channels
            .values_mut()
            .find(|(_, own, _)| *own == msg_ref);
        match (channel, &reply.status) {
            (Some((_, _, seen)), Status::Ok) => assert_eq!(*seen, Seen::Subscribed),
            (Some((_, _, seen)), _) => {
                assert_eq!(*seen, Seen::Joining);
                *seen = Seen::Ended;
            }
            (None, status) => assert_eq!(*status, Status::Error),
        }
    }

    /// Decides every join that is still under way.
    fn settle(&mut self) {
        loop {
            let joining =
                |(_, (_, _, seen)): &(&ChannelId, &(String, u64, Seen))| *seen == Seen::Joining;
            let Some(channel) = self.channels.iter().find(joining).map(|(&id, _)| id) else {
                return;
            };
            self.socket.handle_joined(channel, &Payload::EMPTY).unwrap();
            self.drain();
        }
    }
}

fn run(ops: &[Op]) -> Run {
    let mut run = Run::new();
    ops.iter().for_each(|op| run.apply(op));
    run
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn each_join_is_answered_once_and_every_end_is_told_once(ops in vec(op(), 0..80)) {
        let mut run = run(&ops);
        run.settle();
        for (join, replies) in &run.joins {
            prop_assert!(*replies <= 1, "join {} has {} replies", join, replies);
            prop_assert!(*replies == 1 || run.is_closed, "join {} has no reply", join);
        }
        if !run.is_closed {
            for (topic, join, seen) in run.channels.values() {
                let was_refused = run.trace.iter().any(|output| is_refusal(output, *join));
                let told = run.farewells.contains(join);
                prop_assert_eq!(told, *seen == Seen::Ended && !was_refused, "{} {}", topic, join);
            }
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(ops in vec(op(), 0..40)) {
        prop_assert_eq!(run(&ops).trace, run(&ops).trace);
    }

    #[test]
    fn once_it_is_closed_every_channel_has_been_stopped(ops in vec(op(), 0..40)) {
        let mut run = run(&ops);
        run.apply(&Op::Closed);
        prop_assert!(run.channels.values().all(|(_, _, seen)| *seen == Seen::Ended));
        prop_assert_eq!(run.socket.channels().count(), 0);
        let outputs = run.trace.len();
        for op in &ops {
            run.apply(op);
        }
        prop_assert_eq!(run.trace.len(), outputs);
    }
}

fn is_refusal(output: &Output, join: u64) -> bool {
    let Output::Send(frame) = output else {
        return false;
    };
    let decoded = Serializer::V2.decode_server(frame.as_frame_ref(), &Limits::default());
    match decoded.unwrap() {
        ServerMessage::Reply(reply) => {
            reply.msg_ref == Ref::from(join.to_string()) && reply.status == Status::Error
        }
        ServerMessage::Push(_) => false,
    }
}
