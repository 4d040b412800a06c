//! The presence lists of the clients of one case, kept as phoenix.js keeps them.

use std::collections::BTreeMap;

use presence_core::client::{Diff, PayloadError, Presences, sync_diff, sync_state};
use serde_json::Value;

use super::received::{Metas, Received};

/// The lists by client and topic.
#[derive(Default)]
pub(super) struct Views(BTreeMap<(String, String), View>);

#[derive(Default)]
struct View {
    list: Presences,
    /// Since the join of the channel.
    has_state: bool,
    /// Diffs that came before the state, which may lack them: they are applied to it again.
    early: Vec<Diff>,
}

impl Views {
    /// A client of this name connects: it lists nobody.
    pub(super) fn opened(&mut self, client: &str) {
        self.0.retain(|(name, _), _| name != client);
    }

    /// A client joins a channel: a state is to come, unlike in a channel that sends none.
    pub(super) fn joining(&mut self, client: &str, topic: &str) {
        if let Some(view) = self.0.get_mut(&(client.to_owned(), topic.to_owned())) {
            view.has_state = false;
            view.early.clear();
        }
    }

    /// Adds a frame to what a client received in a step. The answer to a long poll holds several.
    pub(super) fn take(&mut self, client: &str, mut frame: Value, received: &mut Received) {
        let polled = frame.pointer_mut("/json/messages");
        if let Some(messages) = polled.and_then(Value::as_array_mut) {
            messages.retain(|message| !self.presence(client, message, received));
        }
        let message = frame.get("text");
        if !message.is_some_and(|message| self.presence(client, message, received)) {
            received.frames.push(frame);
        }
    }

    /// Takes a message if it is one of presence; whether it was.
    fn presence(&mut self, client: &str, message: &Value, received: &mut Received) -> bool {
        let Some((topic, event, payload)) = presence_message(message) else {
            return false;
        };
        let view = (client.to_owned(), topic.to_owned());
        let view = self.0.entry(view).or_default();
        let taken = match event {
            Event::State => view.state(payload),
            Event::Diff => view.diff(payload),
        };
        // What no client could read is told as a frame.
        if taken.is_err() {
            return false;
        }
        let presence = received.presence.entry(topic.to_owned()).or_default();
        match event {
            Event::State => presence.state = true,
            Event::Diff => {
                let [joins, leaves] =
                    ["joins", "leaves"].map(|side| Metas::of_presences(&payload[side]));
                presence.fold(&joins, &leaves);
            }
        }
        true
    }

    /// At the end of a step: what the client lists in the topics that it was told of.
    pub(super) fn finish(&self, client: &str, received: &mut Received) {
        for (topic, presence) in &mut received.presence {
            if let Some(view) = self.0.get(&(client.to_owned(), topic.clone())) {
                let list = serde_json::to_value(&view.list).unwrap_or_default();
                presence.list = Some(Metas::of_presences(&list));
            }
        }
    }
}

impl View {
    fn state(&mut self, payload: &Value) -> Result<(), PayloadError> {
        let state = Presences::parse(&payload.to_string())?;
        sync_state(&mut self.list, &state, |_| {});
        for diff in self.early.drain(..) {
            sync_diff(&mut self.list, &diff, |_| {});
        }
        self.has_state = true;
        Ok(())
    }

    /// phoenix.js would list nothing before a state; of a channel that sends none, the recordings list
    /// what its diffs told.
    fn diff(&mut self, payload: &Value) -> Result<(), PayloadError> {
        let diff = Diff::parse(&payload.to_string())?;
        sync_diff(&mut self.list, &diff, |_| {});
        if !self.has_state {
            self.early.push(diff);
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Event {
    State,
    Diff,
}

/// The topic, event and payload of a message of presence, of either serializer.
fn presence_message(message: &Value) -> Option<(&str, Event, &Value)> {
    let (topic, event, payload) = message_parts(message)?;
    let event = match event {
        "presence_state" => Event::State,
        "presence_diff" => Event::Diff,
        _ => return None,
    };
    Some((topic, event, payload))
}

/// The topic, event and payload of a message of either serializer.
pub(super) fn message_parts(message: &Value) -> Option<(&str, &str, &Value)> {
    let (topic, event, payload) = match message {
        Value::Array(parts) => {
            let [_, _, topic, event, payload] = parts.as_slice() else {
                return None;
            };
            (topic, event, payload)
        }
        _ => (
            message.get("topic")?,
            message.get("event")?,
            message.get("payload")?,
        ),
    };
    Some((topic.as_str()?, event.as_str()?, payload))
}

/// Whether an answer to a long poll holds messages of presence.
pub(super) fn polls_presence(frame: &Value) -> bool {
    let messages = frame.pointer("/json/messages").and_then(Value::as_array);
    messages.is_some_and(|messages| {
        messages
            .iter()
            .any(|message| presence_message(message).is_some())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list_after(messages: &[Value]) -> Value {
        let mut views = Views::default();
        let mut received = Received::default();
        for message in messages {
            views.take("a", json!({ "text": message }), &mut received);
        }
        assert_eq!(received.frames, Vec::<Value>::new());
        views.finish("a", &mut received);
        serde_json::to_value(&views.0[&("a".into(), "t".into())].list).unwrap()
    }

    fn state(presences: &Value) -> Value {
        json!(["1", null, "t", "presence_state", presences])
    }

    fn diff(joins: &Value, leaves: &Value) -> Value {
        let payload = json!({"joins": joins, "leaves": leaves});
        json!({"topic": "t", "event": "presence_diff", "payload": payload, "ref": null})
    }

    #[test]
    fn diffs_are_listed_without_a_state_and_hold_beside_one() {
        let [a, b] = ["a", "b"].map(|name| json!({ name: {"metas": [{"phx_ref": name}]} }));
        let none = json!({});
        assert_eq!(list_after(&[diff(&a, &none)]), a);
        assert_eq!(list_after(&[diff(&a, &none), diff(&none, &a)]), none);
        // A state that is older than the diff before it.
        let both = json!({"a": a["a"], "b": b["b"]});
        assert_eq!(list_after(&[diff(&a, &none), state(&b)]), both);
        // A later state is the truth.
        assert_eq!(list_after(&[state(&a), state(&b)]), b);
    }

    #[test]
    fn what_is_no_presence_or_unreadable_is_a_frame() {
        let mut views = Views::default();
        let mut received = Received::default();
        let frames = [
            json!({"opened": true}),
            json!({"text": ["1", null, "t", "shout", {}]}),
            json!({"text": ["1", null, "t", "presence_diff", {"joins": []}]}),
        ];
        for frame in &frames {
            views.take("a", frame.clone(), &mut received);
        }
        assert_eq!(received.frames, frames);
        assert!(received.presence.is_empty());
    }

    #[test]
    fn presence_that_is_polled_is_folded_too() {
        let mut views = Views::default();
        let mut received = Received::default();
        let joins = json!({"a": {"metas": [{"phx_ref": "1"}]}});
        let shout = json!(["1", null, "t", "shout", {}]);
        let polled =
            json!({"status": 200, "json": {"messages": [diff(&joins, &json!({})), shout]}});
        assert!(polls_presence(&polled));
        views.take("a", polled, &mut received);
        assert_eq!(
            received.frames,
            [json!({"status": 200, "json": {"messages": [shout]}})]
        );
        assert_eq!(received.presence.len(), 1);
    }
}
