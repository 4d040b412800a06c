//! Lists and tracks that are made on a node all the time, and timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use benches::latencies::Latencies;
use serde_json::json;

use crate::member::{Member, Result};

/// Calls a node from a thread of its own until it is told to end.
pub(crate) struct Probe {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<(&'static str, Latencies)>>>,
}

impl Probe {
    pub(crate) fn start(member: &Member) -> Self {
        let ends = Arc::<AtomicBool>::default();
        let (node, is_over) = (member.node.clone(), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let mut times = ["list of nobody", "list of 100", "track"].map(|what| (what, vec![]));
            let calls: Result<()> = runtime.block_on(async {
                let process = node.process();
                for n in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let start = Instant::now();
                    node.list("nowhere").await;
                    times[0].1.push(start.elapsed());
                    let start = Instant::now();
                    node.list("room:1").await;
                    times[1].1.push(start.elapsed());
                    let start = Instant::now();
                    let key = format!("probe-{n}");
                    process.track("room:2", key.as_str(), &json!({})).await?;
                    times[2].1.push(start.elapsed());
                    process.untrack("room:2", key.as_str()).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            });
            calls?;
            Ok(times
                .map(|(what, times)| (what, Latencies::of(times)))
                .into())
        });
        Self { ends, thread }
    }

    /// What each kind of call took.
    pub(crate) fn end(self) -> Result<Vec<(&'static str, Latencies)>> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the probe has panicked")?
    }
}
