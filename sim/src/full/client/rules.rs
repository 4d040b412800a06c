//! The rules of the wire, held against everything that a node sends on one connection.
//!
//! They are those of the recorded transcripts, of [`presence_core::channel`] and of the conformance
//! application, as far as a client can tell. A client knows what it has sent and what came; the node
//! handles the messages of a topic in their order, so of each join it is known what may come next.

mod refs;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use presence_core::client::{Diff, Presences};
use presence_core::presence::{DIFF_EVENT, STATE_EVENT};
use presence_core::wire::{Message, Ref, Reply, Serializer, ServerMessage, Status, event};

use self::refs::Refs;
use super::session::{SHOUT, number};

/// A rule of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Rule {
    #[error("answers are HTTP/1.1 that says how long it is")]
    Http,
    #[error("a WebSocket is opened and framed as in RFC 6455")]
    WebSocket,
    #[error(
        "a long poll is answered with a status that the protocol knows, and what belongs to it"
    )]
    LongPoll,
    #[error("every frame parses in the serializer that was asked for")]
    Frames,
    #[error("refs are as the serializer has them: no join_ref in 1.0.0, no refs in a broadcast")]
    RefsOfSerializer,
    #[error("a reply answers a message that waits for one, on its topic, once")]
    ReplyOnce,
    #[error("a reply carries the join_ref of its message")]
    ReplyJoinRef,
    #[error("a channel answers in the order of its messages")]
    ReplyOrder,
    #[error("joins of a topic are answered in their order, and before their leaves")]
    JoinFirst,
    #[error("what has a join_ref belongs to the present join of its topic")]
    PresentJoin,
    #[error("nothing comes for a topic before its join was answered, nor after its end")]
    Silence,
    #[error(
        "a channel is closed once, after the answer to its leave or to the join that replaces it"
    )]
    CloseOnce,
    #[error("a channel crashes once, and not after it was replaced")]
    ErrorOnce,
    #[error("the node sends only the events of the application")]
    Events,
    #[error("heartbeats are answered ok, in their order")]
    Heartbeats,
    #[error("a presence_state comes once for each time that it was asked for")]
    StateOnce,
    #[error("a presence_state has what the diffs before it told, and no more of what they ended")]
    StatePlace,
    #[error("presence payloads are objects of metas, each with a phx_ref")]
    Payloads,
    #[error("a ref is in a list once, and joins only if it is not in it")]
    JoinsOnce,
    #[error("a ref leaves only a list that it is in")]
    LeavesOnce,
    #[error("an update is a leave and a join in one diff")]
    UpdateWhole,
    #[error(
        "what a client tracks on its node leaves when it says so, or as another takes its place"
    )]
    OwnStays,
}

/// A rule that a node broke, and with what.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{rule}: {what}")]
pub(super) struct Broken {
    rule: Rule,
    what: String,
}

impl Broken {
    pub(super) fn new(rule: Rule, what: String) -> Self {
        Self { rule, what }
    }
}

/// A message that the client sends.
pub(super) struct Sent<'a> {
    pub(super) topic: &'a str,
    pub(super) event: &'a str,
    pub(super) join_ref: Option<u64>,
    pub(super) msg_ref: u64,
    pub(super) payload: &'a serde_json::Value,
}

/// What was sent on one connection, and what may come.
pub(super) struct Rules {
    serializer: Serializer,
    /// The joins of each topic, in their order. Those that nothing can come for are gone.
    joins: BTreeMap<String, VecDeque<Join>>,
    /// Those that wait.
    heartbeats: VecDeque<u64>,
}

/// One join of a topic.
struct Join {
    join_ref: u64,
    stage: Stage,
    /// Messages that wait for a reply, in their order.
    waiting: VecDeque<u64>,
    leaves: BTreeSet<u64>,
    /// A leave was answered.
    has_left: bool,
    /// How many states are awaited.
    states: u32,
    refs: Refs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Its answer is awaited.
    Joining,
    Joined,
    /// A later join was answered: its end is told next.
    Replaced,
    /// Refused, closed or crashed.
    Ended,
}

impl Rules {
    pub(super) fn new(serializer: Serializer) -> Self {
        Self {
            serializer,
            joins: BTreeMap::new(),
            heartbeats: VecDeque::new(),
        }
    }

    /// The client sends this.
    pub(super) fn sent(&mut self, sent: &Sent<'_>) {
        if sent.topic == event::HEARTBEAT_TOPIC {
            self.heartbeats.push_back(sent.msg_ref);
            return;
        }
        let joins = self.joins.entry(sent.topic.to_owned()).or_default();
        if sent.event == event::JOIN {
            joins.push_back(Join {
                join_ref: sent.msg_ref,
                stage: Stage::Joining,
                waiting: VecDeque::new(),
                leaves: BTreeSet::new(),
                has_left: false,
                states: 0,
                refs: Refs::default(),
            });
            return;
        }
        let mut joins = joins.iter_mut();
        let Some(join) = joins.find(|join| Some(join.join_ref) == sent.join_ref) else {
            return;
        };
        match sent.event {
            event::LEAVE => {
                join.leaves.insert(sent.msg_ref);
                join.refs.release_all();
            }
            // It is not answered but by a presence_state.
            "state" => join.states += 1,
            // Nor is this, but by what all are told.
            SHOUT => {}
            _ => {
                join.waiting.push_back(sent.msg_ref);
                join.refs.sent(sent.event, sent.payload);
            }
        }
    }

    /// The node has sent this.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub(super) fn received(&mut self, message: &ServerMessage<'_>) -> Result<(), Rule> {
        if self.serializer == Serializer::V1 && !message.join_ref().is_null() {
            return Err(Rule::RefsOfSerializer);
        }
        match message {
            ServerMessage::Reply(reply) if reply.topic == event::HEARTBEAT_TOPIC => {
                self.check_heartbeat(reply)
            }
            ServerMessage::Reply(reply) => self.check_reply(reply),
            ServerMessage::Push(push) => match &*push.event {
                event::CLOSE | event::ERROR => self.check_end(push),
                STATE_EVENT => self.check_state(push),
                DIFF_EVENT => self.check_diff(push),
                SHOUT => self.check_shout(push),
                _ => Err(Rule::Events),
            },
        }
    }

    fn check_heartbeat(&mut self, reply: &Reply<'_>) -> Result<(), Rule> {
        let oldest = self.heartbeats.pop_front();
        let answers = oldest.is_some() && number(&reply.msg_ref) == oldest;
        if !answers || reply.status != Status::Ok || !reply.join_ref.is_null() {
            return Err(Rule::Heartbeats);
        }
        Ok(())
    }

    fn check_reply(&mut self, reply: &Reply<'_>) -> Result<(), Rule> {
        let msg_ref = number(&reply.msg_ref).ok_or(Rule::ReplyOnce)?;
        let joins = self.joins.get_mut(&*reply.topic).ok_or(Rule::ReplyOnce)?;
        let at = joins.iter().position(|join| join.waits_for(msg_ref));
        let at = at.ok_or(Rule::ReplyOnce)?;
        let join = &mut joins[at];
        let has_join_ref = match self.serializer {
            Serializer::V1 => true,
            Serializer::V2 => number(&reply.join_ref) == Some(join.join_ref),
        };
        if join.join_ref == msg_ref {
            if joins
                .iter()
                .take(at)
                .any(|join| join.stage == Stage::Joining)
            {
                return Err(Rule::JoinFirst);
            }
            answer_join(joins, at, reply.status == Status::Ok);
        } else if join.leaves.remove(&msg_ref) {
            if join.stage == Stage::Joining {
                return Err(Rule::JoinFirst);
            }
            if reply.status != Status::Ok {
                return Err(Rule::ReplyOnce);
            }
            join.has_left = true;
        } else {
            let is_next = join.waiting.front() == Some(&msg_ref);
            join.waiting.retain(|&waiting| waiting != msg_ref);
            match join.stage {
                Stage::Joining => return Err(Rule::JoinFirst),
                Stage::Replaced => return Err(Rule::PresentJoin),
                // It reached a topic that was not joined any more, which has no join_ref.
                Stage::Ended => {
                    let is_unmatched = reply.status == Status::Error && reply.join_ref.is_null();
                    return if is_unmatched {
                        Ok(())
                    } else {
                        Err(Rule::Silence)
                    };
                }
                Stage::Joined if !is_next => return Err(Rule::ReplyOrder),
                Stage::Joined => {}
            }
        }
        if has_join_ref {
            Ok(())
        } else {
            Err(Rule::ReplyJoinRef)
        }
    }

    fn check_end(&mut self, push: &Message<'_>) -> Result<(), Rule> {
        // Both refs are those of the join.
        let join_ref = number(&push.msg_ref).ok_or(Rule::PresentJoin)?;
        if self.serializer == Serializer::V2 && push.join_ref != push.msg_ref {
            return Err(Rule::PresentJoin);
        }
        let joins = self.joins.get_mut(&*push.topic).ok_or(Rule::Silence)?;
        let mut others = joins.iter_mut();
        let join = others.find(|join| join.join_ref == join_ref);
        let join = join.ok_or(Rule::PresentJoin)?;
        let is_close = push.event == event::CLOSE;
        let (once, may_end) = if is_close {
            let is_left = join.has_left && join.stage == Stage::Joined;
            let is_replaced =
                join.stage == Stage::Replaced && (join.leaves.is_empty() || join.has_left);
            (Rule::CloseOnce, is_left || is_replaced)
        } else {
            (Rule::ErrorOnce, join.stage == Stage::Joined)
        };
        if !may_end {
            return Err(once);
        }
        join.stage = Stage::Ended;
        Ok(())
    }

    fn check_state(&mut self, push: &Message<'_>) -> Result<(), Rule> {
        let (serializer, join) = (self.serializer, self.present(&push.topic)?);
        if serializer == Serializer::V2 && number(&push.join_ref) != Some(join.join_ref) {
            return Err(Rule::PresentJoin);
        }
        if !push.msg_ref.is_null() {
            return Err(Rule::RefsOfSerializer);
        }
        join.states = join.states.checked_sub(1).ok_or(Rule::StateOnce)?;
        let state = Presences::parse(json(push)).map_err(|_| Rule::Payloads)?;
        join.refs.state(&state)
    }

    fn check_diff(&mut self, push: &Message<'_>) -> Result<(), Rule> {
        let join = self.present(&push.topic)?;
        if push.join_ref != Ref::NULL || push.msg_ref != Ref::NULL {
            return Err(Rule::RefsOfSerializer);
        }
        let diff = Diff::parse(json(push)).map_err(|_| Rule::Payloads)?;
        join.refs.diff(&diff)
    }

    fn check_shout(&mut self, push: &Message<'_>) -> Result<(), Rule> {
        self.present(&push.topic)?;
        if push.join_ref != Ref::NULL || push.msg_ref != Ref::NULL {
            return Err(Rule::RefsOfSerializer);
        }
        Ok(())
    }

    /// The join of a topic that pushes and broadcasts are for.
    fn present(&mut self, topic: &str) -> Result<&mut Join, Rule> {
        let joins = self.joins.get_mut(topic).ok_or(Rule::Silence)?;
        let mut joins = joins.iter_mut();
        let present = joins.find(|join| join.stage == Stage::Joined);
        present.ok_or(Rule::Silence)
    }
}

impl Join {
    fn waits_for(&self, msg_ref: u64) -> bool {
        (self.stage == Stage::Joining && self.join_ref == msg_ref)
            || self.waiting.contains(&msg_ref)
            || self.leaves.contains(&msg_ref)
    }
}

/// The join at `at` was answered: the node has done with all that was sent before.
fn answer_join(joins: &mut VecDeque<Join>, at: usize, is_ok: bool) {
    let mut rest = joins.split_off(at);
    joins.retain_mut(|join| {
        let was_joined = join.stage == Stage::Joined;
        join.stage = Stage::Replaced;
        join.waiting.clear();
        was_joined
    });
    if let Some(join) = rest.front_mut() {
        join.stage = if is_ok { Stage::Joined } else { Stage::Ended };
    }
    joins.extend(rest);
}

fn json<'a>(push: &'a Message<'_>) -> &'a str {
    push.payload.as_json().map_or("", |json| json.as_str())
}
