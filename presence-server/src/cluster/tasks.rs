//! Tasks that end together.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::env::{self, Environment};

/// Tasks, until they are [taken](Self::take): after that no other begins.
#[derive(Debug)]
pub(super) struct Tasks {
    env: Arc<dyn Environment>,
    running: Mutex<Option<JoinSet<()>>>,
}

impl Tasks {
    pub(super) fn new(env: Arc<dyn Environment>) -> Self {
        Self {
            env,
            running: Mutex::new(Some(JoinSet::new())),
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *self.lock() {
            while tasks.try_join_next().is_some() {}
            env::spawn_among(tasks, &*self.env, task);
        }
    }

    /// The tasks; dropping them ends them.
    pub(super) fn take(&self) -> JoinSet<()> {
        self.lock().take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that ends with its handle.
#[derive(Debug)]
pub(super) struct Owned<T> {
    pub(super) task: JoinHandle<()>,
    /// What it comes to; nothing where it panics.
    pub(super) result: oneshot::Receiver<T>,
}

impl<T: Send + 'static> Owned<T> {
    pub(super) fn spawn(
        env: &dyn Environment,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let (done, result) = oneshot::channel();
        let task = env::spawn(env, async move {
            // Nobody waits where the link has ended.
            let _ = done.send(work.await);
        });
        Self { task, result }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
