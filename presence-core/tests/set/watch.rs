//! One who sees a set only through what it reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use presence_core::clock::{Dot, ReplicaId};
use presence_core::set::Set;

use crate::compare::{Outcome, holds, same};
use crate::presence::Presence;

/// Refs by topic, key and whether that is an integer.
type Shown = BTreeMap<(Arc<str>, String, bool), BTreeSet<Dot>>;

/// The list as joins and leaves make it, and every dot that ever joined or left.
#[derive(Default)]
pub(crate) struct Watch {
    shown: Shown,
    joined: BTreeSet<Dot>,
    left: BTreeSet<Dot>,
}

fn place(presence: &Presence) -> (Arc<str>, String, bool) {
    let key = presence.place.key();
    let text = key.as_str().to_owned();
    (presence.place.topic.clone(), text, key.is_integer())
}

impl Watch {
    /// What a merge or a local change reported: each dot joins once and leaves once.
    pub(crate) fn reported(
        &mut self,
        set: &Set,
        joins: &[Presence],
        leaves: &[Presence],
    ) -> Outcome {
        for join in joins {
            holds("a dot joins once", self.joined.insert(join.dot()))?;
        }
        for leave in leaves {
            holds("what leaves has joined", self.joined.contains(&leave.dot()))?;
            holds("a dot leaves once", self.left.insert(leave.dot()))?;
        }
        // Raw changes: those of replicas that are down are nobody's business.
        let up: BTreeSet<_> = set.clocks().iter().map(|(id, _)| id.clone()).collect();
        let listed = |presence: &&Presence| up.contains(&presence.replica);
        joins.iter().filter(listed).for_each(|join| self.show(join));
        let mut leaves = leaves.iter().filter(listed);
        leaves.try_for_each(|leave| self.hide(leave))
    }

    fn show(&mut self, join: &Presence) {
        self.shown
            .entry(place(join))
            .or_default()
            .insert(join.dot());
    }

    fn hide(&mut self, leave: &Presence) -> Outcome {
        let refs = self.shown.entry(place(leave)).or_default();
        holds("what leaves was shown", refs.remove(&leave.dot()))?;
        if refs.is_empty() {
            self.shown.remove(&place(leave));
        }
        Ok(())
    }

    /// All of a replica came back.
    pub(crate) fn up<'a>(&mut self, entries: impl IntoIterator<Item = &'a Presence>) {
        entries.into_iter().for_each(|join| self.show(join));
    }

    /// All of a replica went.
    pub(crate) fn down<'a>(&mut self, entries: impl IntoIterator<Item = &'a Presence>) -> Outcome {
        let mut entries = entries.into_iter();
        entries.try_for_each(|leave| self.hide(leave))
    }

    /// A replica is admitted like one never heard of.
    pub(crate) fn admitted(&mut self, id: &ReplicaId) {
        self.joined.retain(|dot| dot.replica != *id);
        self.left.retain(|dot| dot.replica != *id);
    }

    /// What was reported makes up the list.
    pub(crate) fn compare(&self, set: &Set) -> Outcome {
        let mut listed = Shown::new();
        for presence in set.list_all().map(Presence::from) {
            let dot = presence.dot();
            listed.entry(place(&presence)).or_default().insert(dot);
        }
        same("the list and the fold of all diffs", &self.shown, &listed)
    }
}
