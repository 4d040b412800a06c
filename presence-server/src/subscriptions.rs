//! Who is told of what: the channels that have joined each topic, and the sockets of each id.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use presence_core::channel::ChannelId;
use presence_core::wire::{EncodeError, Frame, Payload, Serializer};

use crate::inbox::{Event, Inbox};
use crate::sabotage::{Defect, Sabotage};

/// One channel that wants the broadcasts of its topic.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) channel: ChannelId,
    pub(crate) serializer: Serializer,
    /// It was sent no broadcast yet.
    pub(crate) is_new: bool,
}

impl Subscriber {
    fn is(&self, inbox: &Arc<Inbox>, channel: ChannelId) -> bool {
        self.channel == channel && Arc::ptr_eq(&self.inbox, inbox)
    }
}

/// The subscriptions of one node.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    topics: Mutex<BTreeMap<Arc<str>, Vec<Subscriber>>>,
    /// How many they are in all topics.
    channels: AtomicUsize,
    sockets: Mutex<BTreeMap<Arc<str>, Vec<Arc<Inbox>>>>,
    sabotage: Sabotage,
}

impl Subscriptions {
    pub(crate) fn new(sabotage: Sabotage) -> Self {
        Self {
            sabotage,
            ..Self::default()
        }
    }

    /// Passes the broadcasts of a topic to a channel, until the subscription is dropped.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        topic: &Arc<str>,
        subscriber: Subscriber,
    ) -> Subscription {
        let subscription = Subscription {
            subscriptions: Arc::clone(self),
            topic: Arc::clone(topic),
            inbox: Arc::clone(&subscriber.inbox),
            channel: subscriber.channel,
        };
        let mut topics = lock(&self.topics);
        topics
            .entry(Arc::clone(topic))
            .or_default()
            .push(subscriber);
        self.channels.fetch_add(1, Ordering::Relaxed);
        subscription
    }

    fn unsubscribe(&self, topic: &str, inbox: &Arc<Inbox>, channel: ChannelId) {
        let mut topics = lock(&self.topics);
        if let Some(subscribers) = topics.get_mut(topic) {
            let at = subscribers
                .iter()
                .position(|other| other.is(inbox, channel));
            if let Some(at) = at {
                subscribers.remove(at);
                self.channels.fetch_sub(1, Ordering::Relaxed);
            }
            if subscribers.is_empty() {
                topics.remove(topic);
            }
        }
    }

    /// Sends to every channel of a topic but `except`, encoded once for each serializer.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the payload has no frame in a serializer that someone speaks; the others
    /// have been told then.
    pub(crate) fn broadcast(
        &self,
        topic: &str,
        event: &str,
        payload: &Payload<'_>,
        except: Option<(&Arc<Inbox>, ChannelId)>,
    ) -> Result<(), EncodeError> {
        let mut frames: [Option<Result<Frame, EncodeError>>; 2] = [None, None];
        let mut failed = Ok(());
        let mut topics = lock(&self.topics);
        for subscriber in topics.get_mut(topic).into_iter().flatten() {
            if except.is_some_and(|(inbox, channel)| subscriber.is(inbox, channel)) {
                continue;
            }
            let is_first = std::mem::take(&mut subscriber.is_new);
            if is_first && self.sabotage.acts(Defect::BroadcastLost) {
                continue;
            }
            let serializer = subscriber.serializer;
            let frame = frames[serializer as usize]
                .get_or_insert_with(|| serializer.encode_broadcast(topic, event, payload));
            match frame {
                Ok(frame) => subscriber.inbox.send(Event::Broadcast {
                    channel: subscriber.channel,
                    frame: frame.clone(),
                }),
                Err(error) => failed = Err(error.clone()),
            }
        }
        failed
    }

    /// Lets the channels of the topics for which `is_lost` crash, so that their clients join again.
    pub(crate) fn crash(&self, is_lost: impl Fn(&str) -> bool) {
        let topics = lock(&self.topics);
        let lost = topics.iter().filter(|(topic, _)| is_lost(topic));
        for subscriber in lost.flat_map(|(_, subscribers)| subscribers) {
            let channel = subscriber.channel;
            subscriber.inbox.send(Event::Crash { channel });
        }
    }

    /// How many channels are told of a topic.
    pub(crate) fn count(&self, topic: &str) -> usize {
        lock(&self.topics).get(topic).map_or(0, Vec::len)
    }

    /// How many channels are told of any topic.
    pub(crate) fn channels(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }

    pub(crate) fn add_socket(&self, id: Arc<str>, inbox: Arc<Inbox>) {
        lock(&self.sockets).entry(id).or_default().push(inbox);
    }

    pub(crate) fn remove_socket(&self, id: &str, inbox: &Arc<Inbox>) {
        let mut sockets = lock(&self.sockets);
        if let Some(inboxes) = sockets.get_mut(id) {
            inboxes.retain(|other| !Arc::ptr_eq(other, inbox));
            if inboxes.is_empty() {
                sockets.remove(id);
            }
        }
    }

    /// Closes the sockets of an id, so that their clients connect again.
    pub(crate) fn disconnect(&self, id: &str) {
        for inbox in lock(&self.sockets).get(id).into_iter().flatten() {
            inbox.send(Event::Disconnect);
        }
    }
}

/// That a channel is told of its topic's broadcasts.
#[derive(Debug)]
pub(crate) struct Subscription {
    subscriptions: Arc<Subscriptions>,
    topic: Arc<str>,
    inbox: Arc<Inbox>,
    channel: ChannelId,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Self { topic, inbox, .. } = self;
        self.subscriptions.unsubscribe(topic, inbox, self.channel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
