//! Messages that wait until the join of their topic is decided.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::wire::Message;

use super::{Busy, Config};

/// One queue a topic, bounded over all of them.
#[derive(Debug, Default)]
pub(super) struct Held {
    topics: BTreeMap<Arc<str>, VecDeque<Message<'static>>>,
    messages: usize,
    bytes: usize,
}

impl Held {
    /// Puts a message at the end of its topic's queue.
    pub(super) fn push(
        &mut self,
        topic: Arc<str>,
        message: &Message<'_>,
        config: &Config,
    ) -> Result<(), Busy> {
        let bytes = self.bytes.saturating_add(message.len());
        if self.messages >= config.max_held_messages || bytes > config.max_held_bytes {
            return Err(Busy {
                messages: self.messages,
                bytes: self.bytes,
            });
        }
        self.messages += 1;
        self.bytes = bytes;
        let queue = self.topics.entry(topic).or_default();
        queue.push_back(message.clone().into_owned());
        Ok(())
    }

    /// Takes the oldest message of the topic.
    pub(super) fn pop(&mut self, topic: &str) -> Option<Message<'static>> {
        let queue = self.topics.get_mut(topic)?;
        let message = queue.pop_front()?;
        if queue.is_empty() {
            self.topics.remove(topic);
        }
        self.messages -= 1;
        self.bytes -= message.len();
        Some(message)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::{Payload, Ref};

    use super::*;

    /// 8 bytes.
    fn message(topic: &'static str, msg_ref: &'static str) -> Message<'static> {
        Message {
            join_ref: Ref::NULL,
            msg_ref: Ref::from(msg_ref),
            topic: topic.into(),
            event: "event".into(),
            payload: Payload::Binary(b""[..].into()),
        }
    }

    fn push(held: &mut Held, message: &Message<'_>, config: &Config) -> Result<(), Busy> {
        held.push(Arc::from(&*message.topic), message, config)
    }

    #[test]
    fn each_topic_keeps_its_order() {
        let mut held = Held::default();
        let config = Config::default();
        for (topic, msg_ref) in [("tt", "1"), ("uu", "2"), ("tt", "3")] {
            push(&mut held, &message(topic, msg_ref), &config).unwrap();
        }
        assert_eq!(held.pop("tt"), Some(message("tt", "1")));
        assert_eq!(held.pop("tt"), Some(message("tt", "3")));
        assert_eq!(held.pop("tt"), None);
        assert_eq!(held.pop("uu"), Some(message("uu", "2")));
        assert!(held.topics.is_empty());
    }

    #[test]
    fn messages_and_bytes_are_bounded_over_all_topics() {
        let by_messages = Config {
            max_held_messages: 2,
            ..Config::default()
        };
        let by_bytes = Config {
            max_held_bytes: 16,
            ..Config::default()
        };
        for config in [by_messages, by_bytes] {
            let mut held = Held::default();
            push(&mut held, &message("tt", "1"), &config).unwrap();
            push(&mut held, &message("uu", "2"), &config).unwrap();
            let busy = Busy {
                messages: 2,
                bytes: 16,
            };
            assert_eq!(push(&mut held, &message("tt", "3"), &config), Err(busy));
            held.pop("uu").unwrap();
            push(&mut held, &message("tt", "3"), &config).unwrap();
            assert_eq!(push(&mut held, &message("tt", "4"), &config), Err(busy));
            held.clear();
            push(&mut held, &message("tt", "4"), &config).unwrap();
            push(&mut held, &message("tt", "5"), &config).unwrap();
            assert_eq!(held.pop("tt"), Some(message("tt", "4")));
        }
    }
}
