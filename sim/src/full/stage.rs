//! What the parts of a run share: which processes run, what is cut and spoilt, and what happened.
//!
//! Everything in a run happens on one thread; the locks are there because a node's world must be `Sync`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use presence_server::cluster::Handler;
use tokio::sync::{Notify, mpsc, watch};

use super::gate::Process;
use super::happened::Happened;
use super::stream::Fate;
use crate::cluster::Micros;
use crate::coverage::{Counted, Coverage};
use crate::sabotage::{Sabotage, Saboteur};
use crate::schedule::{Network, Schedule};
use crate::truth::Number;

/// The wall clock at the start of a run.
pub(super) const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// How a connection ends that goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Nothing comes and nothing goes any more, and nobody is told.
    Hung,
    /// Both ends are told, in the middle of a frame.
    Reset,
}

/// What a node's process is told from outside.
pub(super) enum Call {
    /// The metas of its presences in a topic change.
    UpdateTopic(Arc<str>),
    /// A list is read.
    List(Arc<str>),
}

/// Where a run takes place.
#[derive(Debug)]
pub(super) struct Stage {
    state: Mutex<State>,
}

struct State {
    now: Micros,
    rng: Rng,
    network: Network,
    /// Of a million connections so many are reset, and so many hang.
    resets: u32,
    hangs: u32,
    /// Whether reads are short.
    short_reads: bool,
    period_ms: u64,
    has_older: bool,
    /// Whether faults have ended everywhere.
    is_calm: bool,
    nodes: Vec<Node>,
    /// From each node to each.
    cuts: Vec<bool>,
    holds: Vec<bool>,
    narrow: Vec<Narrow>,
    /// When that was sent which went last.
    sent: Vec<Micros>,
    next_number: Number,
    happened: Vec<Happened>,
    coverage: Coverage,
    saboteur: Saboteur,
    /// Of all bytes that were written to any connection, in their order.
    written: Written,
}

/// How much the connections of a way take, and until when it is no more.
#[derive(Clone, Copy, Default)]
struct Narrow {
    bytes_per_s: u64,
    until: Micros,
}

/// How many bytes, and what they come to.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) digest: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

struct Node {
    name: Arc<str>,
    /// Whether it is to run: whoever starts its process asks.
    is_wanted: bool,
    life: Option<Life>,
    wall_ms: i64,
    is_paused: bool,
    slow_until: Micros,
    slow_us: u64,
    /// Whether faults have ended for it.
    is_healed: bool,
}

/// A process that runs.
struct Life {
    process: Process,
    stop: Arc<Stop>,
    crash: watch::Sender<bool>,
    calls: mpsc::UnboundedSender<Call>,
    handler: Option<Arc<dyn Handler>>,
}

/// The word that a process should stop. Those who wait for it are woken in their order, as those of a
/// `watch` are not.
#[derive(Debug, Default)]
pub(super) struct Stop {
    is_said: AtomicBool,
    said: Notify,
}

impl Stop {
    fn say(&self) {
        self.is_said.store(true, Ordering::Relaxed);
        self.said.notify_waiters();
    }

    fn is_said(&self) -> bool {
        self.is_said.load(Ordering::Relaxed)
    }

    /// Returns once it is said.
    pub(super) async fn wait(&self) {
        let said = self.said.notified();
        if !self.is_said() {
            said.await;
        }
    }
}

/// What a process begins with.
pub(super) struct Beginning {
    pub(super) process: Process,
    pub(super) stop: Arc<Stop>,
    pub(super) crash: watch::Receiver<bool>,
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    /// The seed of the random numbers that it draws.
    pub(super) seed: u64,
}

/// What becomes of a message.
pub(super) enum Way {
    Lost,
    Goes {
        copies: u32,
        /// After how long.
        late: Duration,
    },
}

impl Stage {
    pub(super) fn new(schedule: &Schedule, saboteur: Saboteur) -> Self {
        let count = schedule.nodes.len();
        let mut rng = Rng::with_seed(schedule.seed ^ 0x5ca1_ab1e);
        let calm = schedule.network.loss + schedule.network.repeat + schedule.network.late == 0;
        // Streams go wrong where messages do: a schedule of a calm network has a calm one.
        let mut rate = |one_in: u32, most: u32| match calm || rng.u32(0..one_in) > 0 {
            true => 0,
            false => rng.u32(0..most),
        };
        let (resets, hangs) = (rate(2, 100_000), rate(2, 50_000));
        let short_reads = rng.u32(0..4) == 0;
        let nodes = schedule.nodes.iter().map(|spec| Node {
            name: spec.name.as_str().into(),
            is_wanted: spec.starts,
            life: None,
            wall_ms: 0,
            is_paused: false,
            slow_until: 0,
            slow_us: 0,
            is_healed: false,
        });
        let state = State {
            now: 0,
            network: schedule.network.clone(),
            resets,
            hangs,
            short_reads,
            period_ms: schedule.settings.broadcast_period,
            has_older: false,
            is_calm: false,
            nodes: nodes.collect(),
            cuts: vec![false; count * count],
            holds: vec![false; count * count],
            narrow: vec![Narrow::default(); count * count],
            sent: vec![0; count * count],
            next_number: 0,
            happened: Vec::new(),
            coverage: Coverage::default(),
            saboteur,
            written: Written {
                bytes: 0,
                digest: 0xcbf2_9ce4_8422_2325,
            },
            rng,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What happens.

    /// Some node speaks an older version.
    pub(super) fn note_older(&self) {
        let mut state = self.lock();
        state.has_older = true;
        state.coverage.count(Counted::OlderVersion);
    }

    pub(super) fn has_older(&self) -> bool {
        self.lock().has_older
    }

    /// Whether a machine outlives the process on it, and refuses in its place.
    pub(super) fn machines_stay(&self) -> bool {
        self.lock().network.detects_crashes
    }

    /// How long an answer takes.
    pub(super) fn round_trip(&self) -> Duration {
        let network = &self.lock().network;
        Duration::from_micros(2 * network.latency_us + network.jitter_us)
    }

    /// When the present tick began.
    pub(super) fn now(&self) -> Micros {
        self.lock().now
    }

    pub(super) fn set_now(&self, now: Micros) {
        self.lock().now = now;
    }

    pub(super) fn note(&self, happened: Happened) {
        self.lock().happened.push(happened);
    }

    /// What happened since this was last asked for.
    pub(super) fn take_happened(&self, into: &mut Vec<Happened>) {
        into.clear();
        std::mem::swap(&mut self.lock().happened, into);
    }

    pub(super) fn count(&self, what: Counted) {
        self.lock().coverage.count(what);
    }

    pub(super) fn take_coverage(&self) -> Coverage {
        std::mem::take(&mut self.lock().coverage)
    }

    /// Bytes are written to a connection.
    pub(super) fn wrote(&self, bytes: &[u8]) {
        let written = &mut self.lock().written;
        written.bytes += bytes.len() as u64;
        // FNV-1a, of 64 bits.
        for &byte in bytes {
            written.digest = (written.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub(super) fn written(&self) -> Written {
        self.lock().written
    }

    pub(super) fn random(&self) -> u64 {
        self.lock().rng.u64(..)
    }

    /// A random number below `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.lock().rng.u64(0..end.max(1))
    }

    pub(super) fn next_number(&self) -> Number {
        let mut state = self.lock();
        let number = state.next_number;
        state.next_number += 1;
        number
    }

    // Defects.

    /// Whether a planted defect acts at this opportunity.
    pub(super) fn acts(&self, what: Sabotage) -> bool {
        self.sabotage(|saboteur| saboteur.acts(what))
    }

    /// Has the planted defect asked and counted.
    pub(super) fn sabotage<T>(&self, plant: impl FnOnce(&mut Saboteur) -> T) -> T {
        plant(&mut self.lock().saboteur)
    }

    /// How often the planted defect has acted.
    pub(super) fn sabotaged(&self) -> u64 {
        self.lock().saboteur.acted
    }

    // Processes.

    /// Wants a node to run, its wall clock having gone so far since.
    pub(super) fn want(&self, node: usize, clock_ms: i64) {
        let node = &mut self.lock().nodes[node];
        node.is_wanted = true;
        node.wall_ms += clock_ms;
    }

    /// A process begins, if the node is to run.
    pub(super) fn begin(&self, node: usize) -> Option<Beginning> {
        let mut state = self.lock();
        let seed = state.rng.u64(..);
        let node = &mut state.nodes[node];
        if !node.is_wanted || node.life.is_some() {
            return None;
        }
        let (process, stop) = (Process::default(), Arc::<Stop>::default());
        let (crash, crash_seen) = watch::channel(false);
        let (calls, calls_seen) = mpsc::unbounded_channel();
        let beginning = Beginning {
            process: process.clone(),
            stop: Arc::clone(&stop),
            crash: crash_seen,
            calls: calls_seen,
            seed,
        };
        node.life = Some(Life {
            process,
            stop,
            crash,
            calls,
            handler: None,
        });
        Some(beginning)
    }

    /// The node can be told what its mesh tells it.
    pub(super) fn hears(&self, node: usize, handler: Arc<dyn Handler>) {
        if let Some(life) = &mut self.lock().nodes[node].life {
            life.handler = Some(handler);
        }
    }

    /// A process is over.
    pub(super) fn end(&self, node: usize) {
        let mut state = self.lock();
        state.nodes[node].life = None;
        state.nodes[node].is_wanted = false;
        state.nodes[node].is_paused = false;
        state.happened.push(Happened::Over { node });
    }

    /// Whether a node's process runs, be it stopped for a while or not.
    pub(super) fn runs(&self, node: usize) -> bool {
        self.lock().nodes[node].life.is_some()
    }

    /// Whether a node's process runs, or begins with this tick.
    pub(super) fn is_up(&self, node: usize) -> bool {
        let state = self.lock();
        let node = &state.nodes[node];
        node.is_wanted || node.life.is_some()
    }

    /// Whether a node's process is about to be gone: it crashes, or was asked to stop.
    pub(super) fn is_ending(&self, node: usize) -> bool {
        let state = self.lock();
        let life = state.nodes[node].life.as_ref();
        life.is_some_and(|life| *life.crash.borrow() || life.stop.is_said())
    }

    /// Whether a load balancer would send requests to a node.
    pub(super) fn takes_requests(&self, node: usize) -> bool {
        let state = self.lock();
        let of_node = &state.nodes[node];
        let life = of_node.life.as_ref().filter(|_| !of_node.is_paused);
        life.is_some_and(|life| life.handler.is_some() && !life.stop.is_said())
    }

    pub(super) fn is_paused(&self, node: usize) -> bool {
        self.lock().nodes[node].is_paused
    }

    /// Ends a process at once, at its next tick.
    pub(super) fn crash(&self, node: usize) {
        let mut state = self.lock();
        state.nodes[node].is_wanted = false;
        if let Some(life) = &state.nodes[node].life {
            life.crash.send_replace(true);
        }
    }

    /// Asks a process to stop.
    pub(super) fn stop(&self, node: usize) {
        if let Some(life) = &self.lock().nodes[node].life {
            life.stop.say();
        }
    }

    /// Stops a process for a while, or lets it go on.
    pub(super) fn pause(&self, node: usize, paused: bool) {
        let mut state = self.lock();
        state.nodes[node].is_paused = paused;
        let process = state.nodes[node]
            .life
            .as_ref()
            .map(|life| life.process.clone());
        drop(state);
        match (process, paused) {
            (Some(process), true) => process.stop(),
            (Some(process), false) => process.go_on(),
            (None, _) => {}
        }
    }

    pub(super) fn slow(&self, node: usize, us_per_message: u64, until: Micros) {
        let node = &mut self.lock().nodes[node];
        node.slow_us = us_per_message;
        node.slow_until = until;
    }

    /// How long a node takes for a message.
    pub(super) fn slowness(&self, node: usize) -> Option<Duration> {
        let state = self.lock();
        let node = &state.nodes[node];
        (node.slow_until > state.now).then(|| Duration::from_micros(node.slow_us))
    }

    /// Tells a node something from outside.
    pub(super) fn call(&self, node: usize, call: Call) {
        if let Some(life) = &self.lock().nodes[node].life {
            // One that just ends does not hear it.
            let _ = life.calls.send(call);
        }
    }

    /// What a node's mesh would tell it, to tell it something else.
    pub(super) fn handler(&self, node: usize) -> Option<Arc<dyn Handler>> {
        self.lock().nodes[node].life.as_ref()?.handler.clone()
    }

    pub(super) fn name(&self, node: usize) -> Arc<str> {
        Arc::clone(&self.lock().nodes[node].name)
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        let state = self.lock();
        state
            .nodes
            .iter()
            .map(|node| Arc::clone(&node.name))
            .collect()
    }

    pub(super) fn node_named(&self, name: &str) -> Option<usize> {
        let state = self.lock();
        state.nodes.iter().position(|node| *node.name == *name)
    }

    /// What a node's wall clock says.
    pub(super) fn unix_time(&self, node: usize) -> Duration {
        let state = self.lock();
        let since = EPOCH + Duration::from_micros(state.now);
        let off = Duration::from_millis(state.nodes[node].wall_ms.unsigned_abs());
        match state.nodes[node].wall_ms {
            0.. => since + off,
            _ => since.saturating_sub(off),
        }
    }

    // The network.

    /// No fault begins any more: of these nodes, or, where it is all, at all.
    pub(super) fn calm(&self, healed: &[bool]) {
        let mut state = self.lock();
        state.is_calm = healed.iter().all(|&healed| healed);
        for (node, &healed) in state.nodes.iter_mut().zip(healed) {
            node.is_healed = healed;
            if healed {
                node.slow_until = 0;
            }
        }
    }

    /// Whether faults have ended everywhere.
    pub(super) fn is_calm(&self) -> bool {
        self.lock().is_calm
    }

    /// Whether faults have ended for a part of the nodes, which is cut off from the rest.
    pub(super) fn is_part_calm(&self) -> bool {
        let state = self.lock();
        !state.is_calm && state.nodes.iter().any(|node| node.is_healed)
    }

    /// What lies on the way from a node to another.
    pub(super) fn set_link(&self, from: usize, to: usize, is_cut: bool, is_held: bool) {
        let mut state = self.lock();
        let link = from * state.nodes.len() + to;
        state.cuts[link] = is_cut;
        state.holds[link] = is_held;
    }

    /// The connections from a node to another take so much and no more.
    pub(super) fn narrow(&self, from: usize, to: usize, bytes_per_s: u64, until: Micros) {
        let mut state = self.lock();
        let link = from * state.nodes.len() + to;
        state.narrow[link] = Narrow { bytes_per_s, until };
    }

    /// How many bytes a second the connections from a node to another take, where they are narrow.
    pub(super) fn bytes_per_s(&self, (from, to): (usize, usize)) -> Option<u64> {
        let state = self.lock();
        let Narrow { bytes_per_s, until } = state.narrow[from * state.nodes.len() + to];
        let is_healed = state.nodes[from].is_healed && state.nodes[to].is_healed;
        (state.now < until && !is_healed).then_some(bytes_per_s)
    }

    /// Whether a connection between two nodes is narrow.
    pub(super) fn is_narrow(&self, one: usize, other: usize) -> bool {
        let ways = [(one, other), (other, one)];
        ways.iter().any(|&way| self.bytes_per_s(way).is_some())
    }

    /// A message that was sent then goes on its way from a node to another: counts what awaits it.
    pub(super) fn count_way(&self, from: usize, to: usize, sent: Micros) {
        let mut state = self.lock();
        let state = &mut *state;
        let link = from * state.nodes.len() + to;
        for (counted, happens) in [
            (Counted::CutOff, state.cuts[link]),
            (Counted::Held, state.holds[link]),
            (Counted::Reordered, sent < state.sent[link]),
        ] {
            if happens {
                state.coverage.count(counted);
            }
        }
        state.sent[link] = state.sent[link].max(sent);
    }

    /// Whether something is cut anywhere.
    pub(super) fn is_apart(&self) -> bool {
        self.lock().cuts.iter().any(|&is_cut| is_cut)
    }

    /// Whether nothing passes between two nodes, one way at least.
    pub(super) fn is_cut(&self, one: usize, other: usize) -> bool {
        let state = self.lock();
        let count = state.nodes.len();
        state.cuts[one * count + other] || state.cuts[other * count + one]
    }

    /// What becomes of a message from a node to another.
    pub(super) fn way(&self, from: usize, to: usize) -> Way {
        let mut state = self.lock();
        let state = &mut *state;
        let mut goes = Way::Goes {
            copies: 1,
            late: Duration::ZERO,
        };
        if state.nodes[from].is_healed && state.nodes[to].is_healed {
            return goes;
        }
        let Network {
            loss, repeat, late, ..
        } = state.network;
        let mut happens = |rate: u32| rate > 0 && state.rng.u32(0..1_000_000) < rate;
        if happens(loss) {
            state.coverage.count(Counted::Lost);
            return Way::Lost;
        }
        let (repeated, is_late) = (happens(repeat), happens(late));
        if let Way::Goes { copies, late } = &mut goes {
            if repeated {
                state.coverage.count(Counted::Repeated);
                *copies = 2;
            }
            if is_late {
                state.coverage.count(Counted::Late);
                *late = Duration::from_millis(state.rng.u64(0..=3 * state.period_ms));
            }
        }
        goes
    }

    /// What becomes of a connection.
    pub(super) fn fate(&self) -> Fate {
        let mut state = self.lock();
        let state = &mut *state;
        let read_bytes = state.short_reads.then(|| state.rng.usize(1..64));
        if state.is_calm {
            return Fate {
                read_bytes,
                end: None,
            };
        }
        let roll = state.rng.u32(0..1_000_000);
        let end = if roll < state.resets {
            Some(Ended::Reset)
        } else if roll < state.resets + state.hangs {
            Some(Ended::Hung)
        } else {
            None
        };
        let end = end.map(|how| (state.rng.usize(1..20_000), how));
        Fate { read_bytes, end }
    }
}
