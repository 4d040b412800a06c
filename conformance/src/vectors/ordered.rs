//! Work on all cores whose results come in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Does `work` for each number below `count` and hands the results to `take` in the order of the
/// numbers, each as soon as those before it are there.
///
/// `take` may break off what is left.
pub(super) fn each<T: Send, E>(
    count: usize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    // Bounded, so that results do not pile up before a slow reader.
    let (sender, receiver) = mpsc::sync_channel(256);
    thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            let (sender, next, stopped, work) = (sender.clone(), &next, &stopped, &work);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || sender.send((number, work(number))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (number, result) in receiver {
            early.insert(number, result);
            while let Some(result) = early.remove(&due) {
                if let Err(error) = take(due, result) {
                    stopped.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                due += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_takes_longer() {
        let slow = |number: usize| (0..(number % 7) * 10_000).fold(number, |sum, n| sum ^ n ^ n);
        let mut taken = Vec::new();
        let done: Result<(), ()> = each(1_000, slow, |number, result| {
            assert_eq!(number, result);
            taken.push(number);
            Ok(())
        });
        assert_eq!(done, Ok(()));
        assert_eq!(taken, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_breaks_off_the_rest() {
        let mut taken = 0;
        let done = each(
            100_000,
            |number| number,
            |number, _| {
                taken += 1;
                if number == 10 { Err("stop") } else { Ok(()) }
            },
        );
        assert_eq!((done, taken), (Err("stop"), 11));
    }

    #[test]
    fn nothing_to_do_is_done_at_once() {
        assert_eq!(each(0, |_| (), |_, ()| Err(())), Ok(()));
    }
}
