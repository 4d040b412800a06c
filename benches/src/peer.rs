//! `crdts::Orswot`, the nearest peer: an observed-remove set without tombstones.
//!
//! It keeps the same presences as members, is told operations (its `apply`) or whole states (its
//! `merge`), and reports no diff. A delta must never be fed to it as a state: its clock claims every
//! dot below, so it would delete the rest.

use std::sync::Arc;

use crdts::{CmRDT as _, CvRDT as _, Orswot};
use presence_core::delta::Delta;
use presence_core::entry::Pid;

use crate::workload::{Change, Topics, key, meta};

/// The one actor. A small integer, the cheapest that the peer could be given.
const WRITER: u8 = 1;

/// A presence as the peer's member.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    topic: Arc<str>,
    pid: Pid,
    key: Box<str>,
    meta: Box<str>,
}

impl Member {
    fn of(topics: &Topics, number: u64) -> Self {
        Self {
            topic: Arc::clone(topics.of(number)),
            pid: Pid(number),
            key: key(number).into(),
            meta: meta(number).into(),
        }
    }
}

/// An operation that one peer tells another.
pub type Op = crdts::orswot::Op<Member, u8>;

/// The peer's set.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Peer(Orswot<Member, u8>);

impl Peer {
    /// The peer with every presence of `delta`.
    pub fn of(delta: &Delta) -> Self {
        let mut peer = Self::default();
        for entry in delta.values() {
            let member = Member {
                topic: Arc::clone(entry.topic),
                pid: entry.pid,
                key: entry.key.as_str().into(),
                meta: entry.meta.into(),
            };
            peer.join(member);
        }
        peer
    }

    /// Makes the change of a writer, as operations to tell.
    pub fn change(&mut self, change: &Change, topics: &Topics) -> Vec<Op> {
        let mut ops = Vec::new();
        for (_, pid, _) in change.leaves.iter() {
            ops.push(self.leave(Member::of(topics, pid.0)));
        }
        for entry in change.delta.values() {
            ops.push(self.join(Member::of(topics, entry.pid.0)));
        }
        ops
    }

    fn join(&mut self, member: Member) -> Op {
        let op = self.0.add(member, self.0.read_ctx().derive_add_ctx(WRITER));
        self.0.apply(op.clone());
        op
    }

    fn leave(&mut self, member: Member) -> Op {
        let context = self.0.contains(&member).derive_rm_ctx();
        let op = self.0.rm(member, context);
        self.0.apply(op.clone());
        op
    }

    /// Applies what another made.
    pub fn apply(&mut self, ops: Vec<Op>) {
        for op in ops {
            self.0.apply(op);
        }
    }

    /// Merges the whole state of another.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    /// How many members there are. Copies them all.
    pub fn count(&self) -> usize {
        self.0.read().val.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Writer;

    #[test]
    fn operations_and_states_bring_the_peer_to_the_same_members() {
        let mut writer = Writer::new(300);
        let mut source = Peer::of(&writer.full_state());
        let (mut by_operation, mut by_state) = (source.clone(), source.clone());
        for _ in 0..5 {
            let change = writer.change();
            let ops = source.change(&change, writer.topics());
            assert_eq!(ops.len(), 100);
            by_operation.apply(ops);
            by_state.merge(source.clone());
        }
        assert_eq!(source.count(), 300);
        assert_eq!(by_operation, source);
        assert_eq!(by_state, source);
    }
}
