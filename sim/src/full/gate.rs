//! The tasks of a node's process: stopped with it for a while, and gone with it, in a certain order.
//!
//! turmoil can end a process, but not stop one. And what it ends is dropped in the order of tokio's task
//! ids, which are counted for the whole of the simulating process: a second run in it would say goodbye
//! to other peers first.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;

/// The tasks of one life of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Process(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    is_over: bool,
    /// Tasks that wanted to do something while the process was stopped.
    waiting: Vec<Waker>,
    /// In the order in which they began.
    tasks: Vec<Weak<Slot>>,
}

/// Where a task is kept, until it or its process ends.
struct Slot(Mutex<Option<BoxFuture<'static, ()>>>);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

/// A task of a process.
struct Gate {
    process: Process,
    slot: Arc<Slot>,
}

impl Process {
    /// A task that does nothing while the process is stopped, and ends with it.
    pub(super) fn task(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let mut state = self.lock();
        let kept = (!state.is_over).then_some(task);
        let slot = Arc::new(Slot(Mutex::new(kept)));
        if state.tasks.len() == state.tasks.capacity() {
            state.tasks.retain(|task| task.strong_count() > 0);
        }
        state.tasks.push(Arc::downgrade(&slot));
        let process = self.clone();
        Box::pin(Gate { process, slot })
    }

    /// Stops it, as SIGSTOP does: its timers run on, and fire late.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
    }

    /// Lets it go on.
    pub(super) fn go_on(&self) {
        let mut state = self.lock();
        state.is_stopped = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends all its tasks, the first that began first.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.waiting.clear();
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        for task in tasks.iter().filter_map(Weak::upgrade) {
            drop(task.take());
        }
    }

    /// Whether it is stopped; who asks is woken once it is not.
    pub(super) fn holds(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        let holds = state.is_stopped && !state.is_over;
        if holds {
            state.waiting.push(waker.clone());
        }
        holds
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.process.holds(context.waker()) {
            return Poll::Pending;
        }
        let mut kept = self.slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = &mut *kept else {
            return Poll::Ready(());
        };
        let polled = task.as_mut().poll(context);
        if polled.is_ready() {
            *kept = None;
        }
        polled
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.slot.take());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stopped_process_does_nothing_and_then_finds_its_timers_late() {
        let process = Process::default();
        let start = Instant::now();
        let task = process.task(Box::pin(sleep(Duration::from_secs(1))));
        let task = tokio::spawn(async move {
            task.await;
            start.elapsed().as_secs()
        });
        sleep(Duration::from_millis(500)).await;
        process.stop();
        sleep(Duration::from_secs(9)).await;
        assert!(!task.is_finished());
        process.go_on();
        assert_eq!(task.await.unwrap(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_ends_its_tasks_in_their_order_and_takes_no_more() {
        struct Tells(u32, Arc<Mutex<Vec<u32>>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.1.lock().unwrap().push(self.0);
            }
        }
        let (process, told) = (Process::default(), Arc::default());
        let begin = |n| {
            let tells = Tells(n, Arc::clone(&told));
            let task = process.task(Box::pin(async move {
                let _tells = tells;
                std::future::pending::<()>().await;
            }));
            tokio::spawn(task)
        };
        let tasks: Vec<_> = (0..5).map(begin).collect();
        tokio::task::yield_now().await;
        tasks[1].abort();
        sleep(Duration::from_millis(1)).await;
        process.end();
        assert_eq!(*told.lock().unwrap(), [1, 0, 2, 3, 4]);
        begin(5).await.unwrap();
        assert_eq!(told.lock().unwrap().len(), 6);
    }
}
