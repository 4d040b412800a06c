//! One step of a history, as the model tests draw them.

use std::fmt;

use presence_core::entry::Key;
use proptest::prelude::*;
use proptest::strategy::Union;

use crate::presence::Place;

/// One step. Nodes are numbers, shown as `a`, `b`, ..; messages, transfers and incarnations count
/// back from the latest, modulo how many there are, so that every step can be taken in every state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Join {
        at: u8,
        place: Spot,
    },
    /// So many processes join under one key.
    Crowd {
        at: u8,
        place: Spot,
        processes: u8,
    },
    Leave {
        at: u8,
        place: Spot,
    },
    LeavePid {
        at: u8,
        pid: u8,
    },
    Update {
        at: u8,
        place: Spot,
    },
    TakeDelta {
        at: u8,
    },
    /// A full state for what `asker` now knows.
    Extract {
        at: u8,
        asker: u8,
    },
    /// Plans an answer to what `asker` now knows; its chunks come with `NextChunk`.
    Answer {
        at: u8,
        asker: u8,
    },
    NextChunk {
        transfer: u8,
        limit: u8,
    },
    Deliver {
        message: u8,
        to: u8,
    },
    Up {
        at: u8,
        of: u8,
        older: u8,
    },
    Down {
        at: u8,
        of: u8,
        older: u8,
    },
    Remove {
        at: u8,
        of: u8,
        older: u8,
    },
    /// The node forgets everything and begins its next incarnation.
    Restart {
        node: u8,
    },
    Compact {
        at: u8,
    },
}

/// A topic, a process and a key, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    pub(crate) topic: u8,
    pub(crate) pid: u8,
    pub(crate) key: u8,
}

pub(crate) const TOPICS: [&str; 3] = ["s", "t", "u"];

/// Keys that look alike among them.
pub(crate) const KEYS: [Key<'static>; 5] = [
    Key::Text("1"),
    Key::Integer("1"),
    Key::Text("k"),
    Key::Text(""),
    Key::Integer("12"),
];

impl Spot {
    pub(crate) fn place(self) -> Place {
        let topic = TOPICS[usize::from(self.topic) % TOPICS.len()];
        let key = KEYS[usize::from(self.key) % KEYS.len()];
        Place::new(topic, self.pid.into(), key)
    }
}

/// How a history begins, and its steps.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) nodes: u8,
    /// Whether all know each other from the start.
    pub(crate) met: bool,
    pub(crate) removal_log: usize,
    pub(crate) observed: usize,
    pub(crate) ops: Vec<Op>,
}

fn node(number: u8) -> char {
    char::from(b'a' + number)
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = |of: u8, older: u8| match older {
            0 => node(of).to_string(),
            _ => format!("the {older}. last life of {}", node(of)),
        };
        match *self {
            Self::Join { at, place } => write!(f, "{}: join {:?}", node(at), place.place()),
            Self::Crowd {
                at,
                place,
                processes,
            } => {
                write!(
                    f,
                    "{}: {processes} join from {:?} on",
                    node(at),
                    place.place()
                )
            }
            Self::Leave { at, place } => write!(f, "{}: leave {:?}", node(at), place.place()),
            Self::LeavePid { at, pid } => write!(f, "{}: leave p{pid}", node(at)),
            Self::Update { at, place } => write!(f, "{}: update {:?}", node(at), place.place()),
            Self::TakeDelta { at } => write!(f, "{}: take delta", node(at)),
            Self::Extract { at, asker } => write!(f, "{}: extract for {}", node(at), node(asker)),
            Self::Answer { at, asker } => write!(f, "{}: answer {}", node(at), node(asker)),
            Self::NextChunk { transfer, limit } => {
                write!(f, "chunk of {limit} of transfer -{transfer}")
            }
            Self::Deliver { message, to } => write!(f, "{}: merge message -{message}", node(to)),
            Self::Up { at, of, older } => write!(f, "{}: up {}", node(at), life(of, older)),
            Self::Down { at, of, older } => write!(f, "{}: down {}", node(at), life(of, older)),
            Self::Remove { at, of, older } => write!(f, "{}: remove {}", node(at), life(of, older)),
            Self::Restart { node: of } => write!(f, "{}: restart", node(of)),
            Self::Compact { at } => write!(f, "{}: compact", node(at)),
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nodes,
            met,
            removal_log,
            observed,
            ops,
        } = self;
        write!(f, "{nodes} nodes, ")?;
        f.write_str(if *met { "all met" } else { "none met" })?;
        writeln!(f, ", removal log {removal_log}, observed {observed}")?;
        ops.iter().try_for_each(|op| writeln!(f, "  {op:?}"))
    }
}

/// Which steps a property is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds {
    /// Answers in chunks.
    pub(crate) chunks: bool,
    /// Down, removal and new incarnations.
    pub(crate) faults: bool,
    /// Deltas also name leaves of others.
    pub(crate) observed: bool,
}

impl Kinds {
    pub(crate) const ALL: Self = Self {
        chunks: true,
        faults: true,
        observed: true,
    };
}

fn spot() -> impl Strategy<Value = Spot> {
    let spot = (0..TOPICS.len() as u8, 0..3_u8, 0..KEYS.len() as u8);
    // Most in one place, so that much happens to few.
    let crowded = (Just(1), 0..3_u8, 0..2_u8);
    prop_oneof![spot, crowded].prop_map(|(topic, pid, key)| Spot { topic, pid, key })
}

/// Counts back from the latest, which is met most often.
fn latest(all: u8) -> impl Strategy<Value = u8> {
    prop_oneof![2 => Just(0), 2 => 0..5_u8, 1 => 0..all]
}

fn op(nodes: u8, kinds: Kinds) -> impl Strategy<Value = Op> {
    let life = move || (0..nodes, 0..nodes, prop_oneof![3 => Just(0), 1 => 0..3_u8]);
    let pair = move || (0..nodes, 0..nodes);
    let limit = prop_oneof![3 => 1..4_u8, 1 => 1..40_u8];
    let local = prop_oneof![
        10 => (0..nodes, spot()).prop_map(|(at, place)| Op::Join { at, place }),
        1 => (0..nodes, spot(), 15..24_u8)
            .prop_map(|(at, place, processes)| Op::Crowd { at, place, processes }),
        4 => (0..nodes, spot()).prop_map(|(at, place)| Op::Leave { at, place }),
        1 => (0..nodes, 0..3_u8).prop_map(|(at, pid)| Op::LeavePid { at, pid }),
        8 => (0..nodes, spot()).prop_map(|(at, place)| Op::Update { at, place }),
        1 => (0..nodes).prop_map(|at| Op::Compact { at }),
    ];
    let messages = prop_oneof![
        12 => (0..nodes).prop_map(|at| Op::TakeDelta { at }),
        3 => pair().prop_map(|(at, asker)| Op::Extract { at, asker }),
        30 => (latest(100), 0..nodes).prop_map(|(message, to)| Op::Deliver { message, to }),
    ];
    let chunks = prop_oneof![
        2 => pair().prop_map(|(at, asker)| Op::Answer { at, asker }),
        3 => (latest(20), limit)
            .prop_map(|(transfer, limit)| Op::NextChunk { transfer, limit }),
    ];
    let faults = prop_oneof![
        4 => life().prop_map(|(at, of, older)| Op::Up { at, of, older }),
        2 => life().prop_map(|(at, of, older)| Op::Down { at, of, older }),
        2 => life().prop_map(|(at, of, older)| Op::Remove { at, of, older }),
        1 => (0..nodes).prop_map(|node| Op::Restart { node }),
    ];
    let mut all = vec![(25, local.boxed()), (45, messages.boxed())];
    if kinds.chunks {
        all.push((15, chunks.boxed()));
    }
    if kinds.faults {
        all.push((8, faults.boxed()));
    }
    Union::new_weighted(all)
}

/// Histories of 2 to 4 nodes and up to `most` steps.
pub(crate) fn scripts(kinds: Kinds, most: usize) -> impl Strategy<Value = Script> {
    (2..5_u8).prop_flat_map(move |nodes| {
        let observed = if kinds.observed {
            prop_oneof![Just(10_000_usize), 0..4_usize].boxed()
        } else {
            Just(0).boxed()
        };
        let met = prop_oneof![4 => Just(true), 1 => Just(!kinds.faults)];
        let log = prop_oneof![Just(10_000_usize), 0..5_usize];
        let ops = prop::collection::vec(op(nodes, kinds), 1..most);
        (met, log, observed, ops).prop_map(move |(met, removal_log, observed, ops)| Script {
            nodes,
            met,
            removal_log,
            observed,
            ops,
        })
    })
}
