//! A cluster of sets, each in lockstep with a naive one, and what the operations alone say is true.

use std::collections::{BTreeMap, BTreeSet};

use presence_core::clock::{Dot, ReplicaId};
use presence_core::delta::Delta;
use presence_core::entry::Pid;
use presence_core::set::{Diff, JoinError, Limits, Set, Status, Transfer, UpdateError};
use proptest::test_runner::TestCaseError;

use crate::compare::{Outcome, agree, compare, compare_unknown, holds, same};
use crate::naive::{self, Message, Naive};
use crate::op::{Op, Script};
use crate::presence::{Place, Presence, counters, reported, said};
use crate::watch::Watch;

pub(crate) struct Node {
    pub(crate) id: ReplicaId,
    pub(crate) set: Set,
    pub(crate) naive: Naive,
    watch: Watch,
}

/// A message on its way, which may arrive at any time, any number of times, or never.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) from: ReplicaId,
    pub(crate) delta: Delta,
    pub(crate) said: Message,
}

/// A presence from its join to its leave, over all its updates: named by the dot of the join.
#[derive(Clone)]
struct Tenure {
    first: Dot,
    meta: String,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    /// Every incarnation there ever was, by node, the latest last.
    pub(crate) lives: Vec<Vec<ReplicaId>>,
    pub(crate) pool: Vec<Sent>,
    transfers: Vec<(usize, Transfer, naive::Transfer)>,
    limits: Limits,
    seed: u64,
    /// What the operations say is tracked, by replica and place.
    tracked: BTreeMap<(ReplicaId, Place), Tenure>,
    /// The tenure of every dot of a join or update.
    tenures: BTreeMap<Dot, Dot>,
    metas: u32,
    /// What was done and what came of it, for whoever reads a failure.
    pub(crate) trace: Vec<String>,
    /// Whether the trace tells outputs in their own order.
    pub(crate) verbose: bool,
}

impl World {
    pub(crate) fn new(script: &Script, seed: u64) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            lives: Vec::new(),
            pool: Vec::new(),
            transfers: Vec::new(),
            limits: Limits {
                removal_log: script.removal_log,
                observed: script.observed,
                ..Limits::default()
            },
            seed,
            tracked: BTreeMap::new(),
            tenures: BTreeMap::new(),
            metas: 0,
            trace: Vec::new(),
            verbose: false,
        };
        for node in 0..script.nodes {
            let id = ReplicaId::new(char::from(b'a' + node).to_string(), 1);
            world.lives.push(vec![id.clone()]);
            let node = world.node(id);
            world.nodes.push(node);
        }
        if script.met {
            for node in &mut world.nodes {
                for lives in &world.lives {
                    node.set.up(&lives[0]).expect("all are first incarnations");
                    node.naive.up(&lives[0]);
                }
            }
        }
        world
    }

    fn node(&self, id: ReplicaId) -> Node {
        let limits = self.limits.clone();
        Node {
            naive: Naive::new(id.clone(), limits.removal_log, limits.observed),
            set: Set::new(id.clone(), limits, self.seed),
            id,
            watch: Watch::default(),
        }
    }

    /// Takes every step of a script; a failure tells the story up to it.
    pub(crate) fn run(&mut self, script: &Script) -> Result<(), TestCaseError> {
        for op in &script.ops {
            let taken = self.step(*op);
            self.explain(taken)?;
        }
        Ok(())
    }

    pub(crate) fn explain(&self, outcome: Outcome) -> Result<(), TestCaseError> {
        outcome.map_err(|reason| {
            let story = self.trace.join("\n  ");
            TestCaseError::fail(format!("{reason}\nafter\n  {story}"))
        })
    }

    /// Takes one step, in every set and its naive twin, and compares all that can be asked.
    pub(crate) fn step(&mut self, op: Op) -> Outcome {
        self.trace.push(format!("{op:?}"));
        let at = match op {
            Op::Join { at, place } => self.join(at, &place.place())?,
            Op::Crowd {
                at,
                place,
                processes,
            } => {
                let mut node = 0;
                for more in 0..processes {
                    let mut place = place.place();
                    place.pid += u64::from(more);
                    node = self.join(at, &place)?;
                }
                node
            }
            Op::Leave { at, place } => self.leave(at, &place.place())?,
            Op::LeavePid { at, pid } => self.leave_pid(at, pid.into())?,
            Op::Update { at, place } => self.update(at, &place.place())?,
            Op::TakeDelta { at } => {
                let node = self.at(at);
                let Node { id, set, naive, .. } = &mut self.nodes[node];
                let waits = set.has_delta();
                let (from, delta, expected) = (id.clone(), set.take_delta(), naive.take_delta());
                same("whether a delta waits", &waits, &!delta.is_empty())?;
                self.send(from, delta, expected)?;
                node
            }
            Op::Extract { at, asker } => {
                let (node, asker) = (self.at(at), self.at(asker));
                let (id, context) = (&self.nodes[asker].id, self.nodes[asker].set.clocks());
                let Node {
                    id: from,
                    set,
                    naive,
                    ..
                } = &self.nodes[node];
                let delta = set.extract(id, &context);
                let expected = naive.extract(id, &counters(&context));
                self.send(from.clone(), delta, expected)?;
                node
            }
            Op::Answer { at, asker } => self.answer(at, asker)?,
            Op::NextChunk { transfer, limit } => return self.next_chunk(transfer, limit),
            Op::Deliver { message, to } => {
                let to = self.at(to);
                let Some(message) = back(self.pool.len(), message) else {
                    return Ok(());
                };
                self.trace_last(&format!(" = m{message}"));
                return self.deliver(message, to);
            }
            Op::Up { at, of, older } => {
                let (node, id) = (self.at(at), self.life(of, older));
                self.up(node, &id)?
            }
            Op::Down { at, of, older } => {
                let (node, id) = (self.at(at), self.life(of, older));
                let Node {
                    set, naive, watch, ..
                } = &mut self.nodes[node];
                let down = set.down(&id);
                same("whether down is a change", &down, &naive.down(&id))?;
                if down {
                    watch.down(&naive.entries_of(&id))?;
                }
                node
            }
            Op::Remove { at, of, older } => {
                let (node, id) = (self.at(at), self.life(of, older));
                self.remove(node, &id)?
            }
            Op::Restart { node } => self.restart(node),
            Op::Compact { at } => {
                let node = self.at(at);
                self.nodes[node].set.compact();
                node
            }
        };
        self.compare(at)
    }

    fn at(&self, node: u8) -> usize {
        usize::from(node) % self.nodes.len()
    }

    fn life(&self, of: u8, older: u8) -> ReplicaId {
        let lives = &self.lives[self.at(of)];
        lives[back(lives.len(), older).unwrap_or(0)].clone()
    }

    fn trace_last(&mut self, more: &str) {
        if let Some(last) = self.trace.last_mut() {
            last.push_str(more);
        }
    }

    fn join(&mut self, at: u8, place: &Place) -> Result<usize, String> {
        let node = self.at(at);
        self.metas += 1;
        let meta = format!("{{\"n\":{}}}", self.metas);
        let id = self.nodes[node].id.clone();
        let Node {
            set, naive, watch, ..
        } = &mut self.nodes[node];
        let joined = set.join(&place.topic, place.pid(), place.key(), &meta);
        let joined = joined.map(|handle| Presence::from(set.entry(handle)));
        let expected = naive.join(place, &meta).ok_or(JoinError::AlreadyTracked);
        same("joins", &joined, &expected)?;
        if let Ok(joined) = joined {
            watch.reported(set, std::slice::from_ref(&joined), &[])?;
            self.trace_last(&format!(" {joined:?}"));
            let first = joined.dot();
            self.tenures.insert(first.clone(), first.clone());
            let earlier = self
                .tracked
                .insert((id, place.clone()), Tenure { first, meta });
            holds("tracked twice", earlier.is_none())?;
        }
        Ok(node)
    }

    fn leave(&mut self, at: u8, place: &Place) -> Result<usize, String> {
        let node = self.at(at);
        let Node {
            id,
            set,
            naive,
            watch,
            ..
        } = &mut self.nodes[node];
        let left = set.leave(&place.topic, place.pid(), place.key());
        let left = left.as_ref().map(Presence::from);
        same("leaves", &left, &naive.leave(place))?;
        watch.reported(set, &[], left.as_slice())?;
        let tracked = self.tracked.remove(&(id.clone(), place.clone()));
        same(
            "whether it was tracked",
            &left.is_some(),
            &tracked.is_some(),
        )?;
        Ok(node)
    }

    fn leave_pid(&mut self, at: u8, pid: u64) -> Result<usize, String> {
        let node = self.at(at);
        let Node {
            id,
            set,
            naive,
            watch,
            ..
        } = &mut self.nodes[node];
        let mut left = Vec::new();
        // Each takes one counter, in the order in which they are told: the naive set follows it.
        for presence in set.leave_pid(Pid(pid)).iter().map(Presence::from) {
            let expected = naive.leave(&presence.place);
            same("leaves", &Some(&presence), &expected.as_ref())?;
            left.push(presence);
        }
        watch.reported(set, &[], &left)?;
        let of = |replica: &ReplicaId, place: &Place| replica == id && place.pid == pid;
        let tracked = self
            .tracked
            .keys()
            .filter(|(replica, place)| of(replica, place));
        same("leaves of a pid", &left.len(), &tracked.count())?;
        self.tracked
            .retain(|(replica, place), _| !of(replica, place));
        Ok(node)
    }

    fn update(&mut self, at: u8, place: &Place) -> Result<usize, String> {
        let node = self.at(at);
        self.metas += 1;
        let meta = format!("{{\"n\":{}}}", self.metas);
        let id = self.nodes[node].id.clone();
        let Node {
            set, naive, watch, ..
        } = &mut self.nodes[node];
        let updated = set.update(&place.topic, place.pid(), place.key(), &meta);
        let updated = updated
            .map(|(left, handle)| (Presence::from(&left), Presence::from(set.entry(handle))));
        let expected = naive.update(place, &meta).ok_or(UpdateError::NotTracked);
        same("updates", &updated, &expected)?;
        if let Ok((left, joined)) = updated {
            let slice = std::slice::from_ref;
            watch.reported(set, slice(&joined), slice(&left))?;
            self.trace_last(&format!(" {left:?} -> {joined:?}"));
            let tenure = self.tracked.get_mut(&(id, place.clone()));
            let tenure = tenure.ok_or("updated what is not tracked")?;
            tenure.meta = meta;
            self.tenures.insert(joined.dot(), tenure.first.clone());
        }
        Ok(node)
    }

    pub(crate) fn send(&mut self, from: ReplicaId, delta: Delta, expected: Message) -> Outcome {
        let mut open = expected.clone();
        open.values_mut().for_each(|claims| claims.closing = false);
        same("messages", &said(&delta), &open)?;
        let size: usize = expected.values().map(|claims| claims.values.len()).sum();
        same("values of a message", &delta.values().count(), &size)?;
        self.trace_last(&format!(" -> m{} {delta:?}", self.pool.len()));
        self.pool.push(Sent {
            from,
            delta,
            said: expected,
        });
        Ok(())
    }

    fn answer(&mut self, at: u8, asker: u8) -> Result<usize, String> {
        let (node, asker) = (self.at(at), self.at(asker));
        let (id, context) = (&self.nodes[asker].id, self.nodes[asker].set.clocks());
        let Node { set, naive, .. } = &self.nodes[node];
        let transfer = set.answer(id, &context);
        let expected = naive.answer(id, &counters(&context));
        same(
            "whether nothing is lacking",
            &transfer.is_empty(),
            &expected.steps.is_empty(),
        )?;
        let logged = expected.steps.iter().all(|step| step.2);
        same(
            "whether the log reaches back",
            &transfer.is_incremental(),
            &logged,
        )?;
        self.trace_last(&format!(" = t{}", self.transfers.len()));
        self.transfers.push((node, transfer, expected));
        Ok(node)
    }

    fn next_chunk(&mut self, transfer: u8, limit: u8) -> Outcome {
        let Some(index) = back(self.transfers.len(), transfer) else {
            return Ok(());
        };
        self.trace_last(&format!(" = t{index}"));
        let limit = usize::from(limit);
        let (node, transfer, expected) = &mut self.transfers[index];
        let Node { id, set, naive, .. } = &self.nodes[*node];
        let chunk = set.next_chunk(transfer, limit);
        let expected = naive.next_chunk(expected, limit);
        same(
            "whether a chunk follows",
            &chunk.is_some(),
            &expected.is_some(),
        )?;
        let (from, chunk) = (id.clone(), chunk.zip(expected));
        let Some((delta, expected)) = chunk else {
            return Ok(());
        };
        let closing = expected.values().any(|claims| claims.closing);
        let within = delta.values().count() <= limit;
        holds("a chunk is within its limit", within || closing)?;
        self.send(from, delta, expected)
    }

    /// Merges message `message` of the pool into node `to`.
    pub(crate) fn deliver(&mut self, message: usize, to: usize) -> Outcome {
        let Sent { from, delta, said } = self.pool[message].clone();
        let listed = self.listed(to);
        let node = &mut self.nodes[to];
        let before: BTreeSet<Presence> = node.naive.all().into_iter().collect();
        let mut diff = Diff::new();
        let merged = node.set.merge(&delta, &mut diff);
        merged.map_err(|error| format!("a delta was refused: {error}"))?;
        let expected = node.naive.merge(&said);
        let (joins, leaves) = reported(&node.set, &diff);
        let mut sorted = (expected.joins, expected.leaves);
        sorted.0.sort();
        sorted.1.sort();
        same("joins of a merge", &joins, &sorted.0)?;
        same("leaves of a merge", &leaves, &sorted.1)?;
        same(
            "parts of unknown replicas",
            &diff.unknown,
            &expected.unknown,
        )?;
        same("parts that wait", &diff.deferred, &expected.deferred)?;
        node.watch.reported(&node.set, &joins, &leaves)?;
        // The diff is the truth: what was, and what it says, is what is.
        let mut folded = before;
        folded.extend(joins.iter().cloned());
        for leave in &leaves {
            holds("what leaves was there", folded.remove(leave))?;
        }
        let after: BTreeSet<_> = self.nodes[to].naive.all().into_iter().collect();
        same("the fold of a diff", &folded, &after)?;
        self.trace_last(&format!(": joins {joins:?} leaves {leaves:?}"));
        if self.verbose {
            let set = &self.nodes[to].set;
            let order: Vec<_> = diff.joins.iter().map(|&handle| set.entry(handle)).collect();
            let order = format!(" in order {order:?} {:?}", diff.leaves);
            self.trace_last(&order);
        }
        self.compare(to)?;
        self.lost_nothing(to, &listed, &from, &said)
    }

    /// Listed entries by the tenure that they belong to.
    fn listed(&self, node: usize) -> BTreeMap<Dot, Presence> {
        let listed = self.nodes[node].naive.listed().into_iter();
        listed
            .map(|presence| (self.tenures[&presence.dot()].clone(), presence))
            .collect()
    }

    /// What was listed before a merge and is still tracked is listed after it.
    ///
    /// But for one case, which the reference shares: another replica than its own says in a delta
    /// that a dot is gone, and can't say into what it was updated.
    fn lost_nothing(
        &self,
        to: usize,
        before: &BTreeMap<Dot, Presence>,
        from: &ReplicaId,
        said: &Message,
    ) -> Outcome {
        let now = self.listed(to);
        for (tenure, presence) in before {
            let place = (presence.replica.clone(), presence.place.clone());
            let tracked = self.tracked.get(&place);
            let tracked = tracked.is_some_and(|current| current.first == *tenure);
            let hearsay = self.limits.observed > 0
                && presence.replica != *from
                && said
                    .get(&presence.replica)
                    .is_some_and(|claims| claims.dots.contains(&presence.counter));
            if tracked && !hearsay && !now.contains_key(tenure) {
                return Err(format!("{presence:?} is tracked throughout and was lost"));
            }
        }
        Ok(())
    }

    pub(crate) fn up(&mut self, node: usize, id: &ReplicaId) -> Result<usize, String> {
        let Node {
            set, naive, watch, ..
        } = &mut self.nodes[node];
        let unknown = set.status(id).is_none();
        let admitted = set.up(id).ok();
        same("admission", &admitted, &naive.up(id))?;
        if admitted == Some(true) && unknown {
            watch.admitted(id);
        } else if admitted == Some(true) {
            watch.up(&naive.entries_of(id));
        }
        Ok(node)
    }

    pub(crate) fn remove(&mut self, node: usize, id: &ReplicaId) -> Result<usize, String> {
        let Node {
            set, naive, watch, ..
        } = &mut self.nodes[node];
        let listed = set.status(id) == Some(Status::Up);
        let removed = set.remove(id);
        let removed: Vec<_> = removed.iter().map(Presence::from).collect();
        same("entries of a removed replica", &removed, &naive.remove(id))?;
        if listed {
            watch.down(&removed)?;
        }
        Ok(node)
    }

    fn restart(&mut self, node: u8) -> usize {
        let node = self.at(node);
        let old = self.nodes[node].id.clone();
        let id = ReplicaId::new(old.name(), old.incarnation() + 1);
        self.lives[node].push(id.clone());
        self.tracked.retain(|(replica, _), _| *replica != old);
        self.transfers.retain(|(from, ..)| *from != node);
        self.nodes[node] = self.node(id);
        node
    }

    /// What the operations say `node` tracks.
    pub(crate) fn tracked_by(&self, id: &ReplicaId) -> Vec<(Place, String)> {
        let of = self
            .tracked
            .iter()
            .filter(|((replica, _), _)| replica == id);
        of.map(|((_, place), tenure)| (place.clone(), tenure.meta.clone()))
            .collect()
    }

    /// Compares node `at` with its naive twin, with what was done, and with the other nodes.
    fn compare(&mut self, at: usize) -> Outcome {
        let Node {
            id,
            set,
            naive,
            watch,
            ..
        } = &self.nodes[at];
        compare(set, naive, 1 + self.trace.len() % 5)?;
        watch.compare(set)?;
        let mut own: Vec<_> = set
            .entries_of(id)
            .map(|entry| (Presence::from(entry).place, entry.meta.to_owned()))
            .collect();
        own.sort();
        same("what a node tracks", &own, &self.tracked_by(id))?;
        for id in self.lives.iter().flatten() {
            if !naive.known.contains_key(id) {
                compare_unknown(set, id)?;
            }
            // What one replica tells of another's leaves, its own may not have told yet.
            let hearsay = self.limits.observed > 0;
            for other in &self.nodes {
                if !hearsay || *id == other.id || *id == self.nodes[at].id {
                    agree(set, &other.set, id)?;
                }
            }
        }
        if self.verbose {
            let order: Vec<_> = self.nodes[at].set.list_all().collect();
            let order = format!(" lists {order:?}");
            self.trace_last(&order);
        }
        Ok(())
    }
}

/// The index that is `count` before the last of `len`, modulo `len`.
fn back(len: usize, count: u8) -> Option<usize> {
    (len > 0).then(|| len - 1 - usize::from(count) % len)
}
