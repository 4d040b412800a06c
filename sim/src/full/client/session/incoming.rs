//! What a frame of the node means to a client.

use presence_core::presence::{DIFF_EVENT as DIFF, STATE_EVENT as STATE};
use presence_core::wire::{Frame, Json, Limits, Message, Reply, ServerMessage, Status, event};
use serde::Deserialize;
use tokio::time::Instant;

use super::super::rules::{Broken, Rule};
use super::super::{Said, Slow};
use super::{Push, SHOUT, Session, What, number, text_of};

#[derive(Deserialize)]
struct Shout {
    n: u32,
}

/// Why a join, a track or an update was refused.
#[derive(Deserialize)]
struct Refusal {
    reason: String,
}

impl Session<'_> {
    pub(super) fn handle_frame(&mut self, frame: &Frame) {
        self.trace("<", frame);
        if let Some(Slow { per_message, until }) = self.client.slow {
            let now = Instant::now();
            self.reads_at = if now < until { now + per_message } else { now };
        }
        let serializer = self.client.settings.serializer;
        let decoded = serializer.decode_server(frame.as_frame_ref(), &Limits::default());
        let message = match decoded {
            Ok(message) => message,
            Err(error) => {
                let what = format!("{error}: {}", text_of(frame));
                return self.tell_broken(&Broken::new(Rule::Frames, what));
            }
        };
        if let Err(rule) = self.rules.received(&message) {
            self.tell_broken(&Broken::new(rule, text_of(frame).into()));
        }
        match message {
            ServerMessage::Reply(reply) => self.handle_reply(&reply),
            ServerMessage::Push(push) => self.handle_push(&push),
        }
    }

    fn handle_reply(&mut self, reply: &Reply<'_>) {
        let Some(msg_ref) = number(&reply.msg_ref) else {
            return;
        };
        if self.heartbeat.waiting == Some(msg_ref) {
            self.heartbeat.waiting = None;
            self.heartbeat.at = Some(Instant::now() + self.client.settings.heartbeat);
            return;
        }
        let Some(Push { topic, what, .. }) = self.pushes.remove(&msg_ref) else {
            return;
        };
        if reply.status != Status::Ok {
            let refusal = reply.response.as_json().map(Json::deserialize);
            let reason = match refusal {
                Some(Ok(Refusal { reason })) => reason,
                _ => "no reason".into(),
            };
            return self.refused(topic, what, reason);
        }
        match what {
            What::Join => self.joined(&topic),
            What::Leave => self.client.say(Said::Left { topic }),
            What::Track { key, number } | What::Update { key, number } => {
                let tracked = &mut self.client.channel(&topic).tracked;
                let before = tracked.insert(key.clone(), number);
                self.client.say(Said::Tracked {
                    topic,
                    key,
                    number,
                    before,
                });
            }
            What::Untrack { key, number } => {
                self.client.channel(&topic).tracked.remove(&key);
                self.client.say(Said::Untracked { number });
            }
        }
    }

    fn refused(&mut self, topic: String, what: What, reason: String) {
        match what {
            What::Join => {
                self.client.channel(&topic).failed(Instant::now());
                self.client.say(Said::JoinFailed { topic, reason });
            }
            What::Track { key, number } | What::Update { key, number } => {
                let channel = self.client.channel(&topic);
                if channel.sent.get(&key) == Some(&number) {
                    match channel.tracked.get(&key) {
                        Some(&before) => channel.sent.insert(key.clone(), before),
                        None => channel.sent.remove(&key),
                    };
                }
                self.client.say(Said::Refused {
                    topic,
                    key,
                    number,
                    reason,
                });
            }
            // The application refuses neither.
            What::Leave | What::Untrack { .. } => {}
        }
    }

    fn handle_push(&mut self, push: &Message<'_>) {
        let topic = &*push.topic;
        let Some(channel) = self.client.channels.get_mut(topic) else {
            return;
        };
        // 1.0.0 has no join_ref, but the end of a channel has it as its ref as well.
        let of_join = number(&push.join_ref).or_else(|| number(&push.msg_ref));
        if of_join.is_some() && of_join != channel.join_ref {
            return;
        }
        match &*push.event {
            event::CLOSE => {
                self.client.channels.remove(topic);
                self.forget_pushes(topic);
                self.client.say(Said::ChannelClosed {
                    topic: topic.into(),
                });
            }
            event::ERROR => {
                channel.failed(Instant::now());
                self.forget_pushes(topic);
                self.client.say(Said::ChannelErrored {
                    topic: topic.into(),
                });
            }
            STATE | DIFF if channel.is_joined() => {
                let payload = push.payload.as_json().map_or("", |json| json.as_str());
                match channel.take(&push.event, payload) {
                    Ok(listed) => self.client.say(Said::List {
                        topic: topic.into(),
                        numbers: listed.numbers,
                        joins: listed.joins,
                        leaves: listed.leaves,
                        synced: listed.synced,
                        is_state: push.event == STATE,
                    }),
                    Err(what) => self.tell_broken(&Broken::new(Rule::Payloads, what)),
                }
            }
            SHOUT if channel.is_joined() => {
                let payload = push.payload.as_json().map(Json::deserialize);
                match payload {
                    Some(Ok(Shout { n })) => self.client.say(Said::Heard {
                        topic: topic.into(),
                        number: n,
                    }),
                    _ => self.tell_broken(&Broken::new(Rule::Payloads, "a shout".into())),
                }
            }
            _ => {}
        }
    }
}
