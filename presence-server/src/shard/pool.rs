//! The shards of a node.

use std::sync::Arc;
use std::time::Duration;

use presence_core::entry::Pid;
use presence_core::tracker::ConfigError;
use presence_core::wire::cluster;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Command, Report, Setup, Word, shard_of};
use crate::env;

/// The shards of a node, which share its topics among them. They end when it is dropped.
///
/// Each channel has at most one command under way, beside the word that it has ended, so that the number
/// of channels bounds the queues.
#[derive(Debug)]
pub(crate) struct Pool {
    shards: Vec<mpsc::UnboundedSender<Command>>,
}

/// Where what the cluster says to the shards goes.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    shards: Vec<ShardWords>,
    /// The bytes that may wait for each of them.
    most: u32,
}

#[derive(Clone, Debug)]
struct ShardWords {
    words: mpsc::UnboundedSender<Word>,
    /// The bytes that may still wait.
    room: Arc<Semaphore>,
}

impl Pool {
    /// Starts a shard for each setup; `inbox_bytes` of messages may wait for each.
    pub(crate) fn start(
        setups: Vec<Setup>,
        incarnation: u64,
        inbox_bytes: usize,
    ) -> Result<(Self, Words), ConfigError> {
        let origin = Instant::now();
        let most = u32::try_from(inbox_bytes).unwrap_or(u32::MAX);
        let mut pool = Self { shards: Vec::new() };
        let mut all = Words {
            shards: Vec::new(),
            most,
        };
        for setup in setups {
            let first = setup.life(incarnation, origin)?;
            let (commands, asked) = mpsc::unbounded_channel();
            let (words, said) = mpsc::unbounded_channel();
            let env = Arc::clone(&setup.env);
            env::spawn(&*env, setup.run(first, origin, asked, said));
            pool.shards.push(commands);
            let room = Arc::new(Semaphore::new(most as usize));
            all.shards.push(ShardWords { words, room });
        }
        Ok((pool, all))
    }

    /// Gives a command to the shard of a topic; whether it still runs.
    pub(crate) fn send(&self, topic: &str, command: Command) -> bool {
        let shard = shard_of(topic, self.shards.len());
        let shard = self.shards.get(shard as usize);
        shard.is_some_and(|shard| shard.send(command).is_ok())
    }

    /// A process that was tracked in any topics has ended.
    pub(crate) fn gone(&self, pid: Pid) {
        for shard in &self.shards {
            // One that has ended holds no presences.
            let _ = shard.send(Command::Gone { pid, done: None });
        }
    }

    /// Tells all shards that the node stops, and waits until they have told the others.
    pub(crate) async fn stop(&self) {
        self.ask(|done| Command::Stop { done }).await;
    }

    /// How the shards are doing, in their order.
    pub(crate) async fn reports(&self) -> Vec<Report> {
        self.ask(|done| Command::Report { done }).await
    }

    /// The same of those that say so within `limit`, and the numbers of the others.
    pub(crate) async fn reports_within(&self, limit: Duration) -> (Vec<Report>, Vec<u32>) {
        let until = Instant::now() + limit;
        let (mut reports, mut silent) = (Vec::new(), Vec::new());
        for (shard, answer) in (0..).zip(self.asked(|done| Command::Report { done })) {
            match timeout_at(until, answer).await {
                Ok(Ok(report)) => reports.push(report),
                _ => silent.push(shard),
            }
        }
        (reports, silent)
    }

    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let mut answers = Vec::new();
        for answer in self.asked(command) {
            // One that has ended does not answer.
            answers.extend(answer.await);
        }
        answers
    }

    fn asked<T>(
        &self,
        command: impl Fn(oneshot::Sender<T>) -> Command,
    ) -> Vec<oneshot::Receiver<T>> {
        let ask = |shard: &mpsc::UnboundedSender<Command>| {
            let (done, answer) = oneshot::channel();
            let _ = shard.send(command(done));
            answer
        };
        self.shards.iter().map(ask).collect()
    }
}

impl Words {
    /// Passes a message on, once there is room for it; whether there is such a shard.
    pub(crate) async fn message(
        &self,
        shard: u32,
        peer: &Arc<str>,
        message: cluster::Message,
        bytes: usize,
    ) -> bool {
        let Some(ShardWords { words, room }) = self.shards.get(shard as usize) else {
            return false;
        };
        // One that is larger than all the room waits until it is alone.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.most);
        let Ok(room) = Arc::clone(room).acquire_many_owned(bytes).await else {
            return true;
        };
        let peer = Arc::clone(peer);
        let _ = words.send(Word::Message {
            peer,
            message,
            room,
        });
        true
    }

    /// Tells all shards something about a node.
    pub(crate) fn all(&self, word: impl Fn() -> Word) {
        for shard in &self.shards {
            let _ = shard.words.send(word());
        }
    }
}
