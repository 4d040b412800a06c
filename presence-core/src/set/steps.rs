//! What takes long is done step by step: listing, hiding and removing replicas, and [leaves](super::leaving)
//! that are told in great numbers.
//!
//! Topic by topic: what one holds of a replica is listed as a whole or not at all. A replica is listed in
//! the topics with ids below a bound of its own, which rises as it is shown and falls as it is hidden, so
//! that it may turn back at any time. Replicas are taken one after the other, in the order in which
//! they turned.

use super::entries::{Handle, ReplicaIndex};
use super::leaving::Leaving;
use super::replicas::{Replica, Status, Turn};
use super::topics::Topic;
use super::{Diff, OWN, Set};
use crate::clock::ReplicaId;
use crate::cloud::Interval;
use crate::entry::Left;

impl Set {
    /// Lists the entries of a replica that is known in the [steps](Self::step) to come; it is
    /// [up](Status::Up) after the last.
    pub fn show(&mut self, replica: &ReplicaId) {
        if let Some(&index) = self.indices.get(replica)
            && self.at(index).status == Status::Down
        {
            self.turn(index, Turn::Up);
        }
    }

    /// Lists the entries of a replica no more from the [steps](Self::step) to come on; it is
    /// [down](Status::Down) at once. Whether it was up, or about to be.
    pub fn hide(&mut self, replica: &ReplicaId) -> bool {
        let index = match self.indices.get(replica) {
            Some(&index) if index != OWN => index,
            _ => return false,
        };
        let Replica { status, turn, .. } = self.at(index);
        let was_shown = *status == Status::Up || *turn == Turn::Up;
        if was_shown {
            self.set_status(index, Status::Down);
            self.turn(index, Turn::Down);
        }
        was_shown
    }

    /// Forgets a replica for good, as [`remove`](Self::remove) does, but hides and removes its entries in
    /// the [steps](Self::step) to come.
    ///
    /// It is unknown at once, and may be admitted anew.
    pub fn dismiss(&mut self, replica: &ReplicaId) {
        let index = match self.indices.get(replica) {
            Some(&index) if index != OWN => index,
            _ => return,
        };
        self.indices.remove(replica);
        self.observed.retain(|&(of, _)| of != index);
        self.set_status(index, Status::Down);
        self.turn(index, Turn::Away);
        self.at_mut(index).leaving = Leaving::default();
    }

    fn turn(&mut self, index: ReplicaIndex, turn: Turn) {
        self.begin_steps(index);
        self.at_mut(index).turn = turn;
    }

    /// The steps to come have to do with a replica.
    pub(super) fn begin_steps(&mut self, index: ReplicaIndex) {
        if self.at(index).is_still() {
            self.turning.push_back(index);
        }
    }

    /// Whether there is a step to do.
    pub fn is_turning(&self) -> bool {
        !self.turning.is_empty()
    }

    /// Lists, hides and removes about `limit` entries, or where replicas come and go those of one topic
    /// if they are more, and says in `diff` what joined and left. The replicas that are now up.
    pub fn step(&mut self, limit: usize, diff: &mut Diff) -> Vec<ReplicaId> {
        diff.clear();
        let mut shown = Vec::new();
        let mut room = limit.max(1);
        while room > 0
            && let Some(&index) = self.turning.front()
        {
            if !self.leave_some(index, &mut room, diff) {
                break;
            }
            let is_through = match self.at(index).turn {
                Turn::Up => self.show_some(index, &mut room, diff),
                Turn::Down => self.hide_some(index, &mut room, diff),
                Turn::Away => {
                    self.hide_some(index, &mut room, diff) && self.remove_some(index, &mut room)
                }
                Turn::Done => true,
            };
            if !is_through {
                break;
            }
            self.turning.pop_front();
            match std::mem::replace(&mut self.at_mut(index).turn, Turn::Done) {
                Turn::Up => {
                    self.set_status(index, Status::Up);
                    shown.push(self.at(index).id.clone());
                }
                Turn::Away => self.vacate(index),
                Turn::Down | Turn::Done => {}
            }
        }
        shown
    }

    /// Whether a replica holds so little that its own entries cost less than a walk through all topics.
    fn is_small(&self, index: ReplicaIndex, room: usize) -> bool {
        self.at(index).present.len() <= room
    }

    fn show_some(&mut self, index: ReplicaIndex, room: &mut usize, diff: &mut Diff) -> bool {
        let listed = self.at(index).listed;
        if listed == 0 && self.is_small(index, *room) {
            let handles = self.at(index).present.from(1).map(|(_, handle)| handle);
            diff.joins.extend(handles);
            *room -= self.at(index).present.len();
            self.at_mut(index).listed = Replica::EVERYWHERE;
            return true;
        }
        let end = self.topics.end();
        let mut id = listed;
        while id < end && *room > 0 {
            if let Some(topic) = self.topics.at(id) {
                diff.joins.extend(handles_of(topic, index));
                *room = room.saturating_sub(topic.records.len());
            }
            *room = room.saturating_sub(1);
            id += 1;
        }
        let is_through = id >= end;
        self.at_mut(index).listed = if is_through { Replica::EVERYWHERE } else { id };
        is_through
    }

    fn hide_some(&mut self, index: ReplicaIndex, room: &mut usize, diff: &mut Diff) -> bool {
        let listed = self.at(index).listed;
        if listed == Replica::EVERYWHERE && self.is_small(index, *room) {
            let leaves = self.at(index).present.from(1);
            diff.leaves
                .extend(leaves.map(|(_, handle)| self.hidden(handle)));
            *room -= self.at(index).present.len();
            self.at_mut(index).listed = 0;
            return true;
        }
        let mut id = listed.min(self.topics.end());
        while id > 0 && *room > 0 {
            id -= 1;
            if let Some(topic) = self.topics.at(id) {
                let leaves = handles_of(topic, index).map(|handle| self.hidden(handle));
                diff.leaves.extend(leaves);
                *room = room.saturating_sub(topic.records.len());
            }
            *room = room.saturating_sub(1);
        }
        self.at_mut(index).listed = id;
        id == 0
    }

    fn hidden(&self, handle: Handle) -> Left {
        self.entry(handle).into()
    }

    /// Removes entries of a replica that is listed nowhere.
    fn remove_some(&mut self, index: ReplicaIndex, room: &mut usize) -> bool {
        let present = &self.at(index).present;
        let some: Vec<_> = present.from(1).take(*room).collect();
        if let (Some(&(first, _)), Some(&(last, _))) = (some.first(), some.last()) {
            let present = &mut self.at_mut(index).present;
            present.take(Interval { first, last }, |_, _| {});
        }
        *room -= some.len();
        for (_, handle) in some {
            self.detach(handle);
        }
        self.at(index).present.len() == 0
    }
}

fn handles_of(topic: &Topic, index: ReplicaIndex) -> impl Iterator<Item = Handle> {
    let records = topic.records.iter();
    let of = records.filter(move |record| record.replica() == index);
    of.map(|record| record.handle)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Dot;
    use crate::delta::Delta;
    use crate::entry::Pid;
    use crate::set::Limits;

    fn id(name: &str) -> ReplicaId {
        ReplicaId::new(name, 1)
    }

    /// A set that lists `b`, with three entries in each of three topics, and what told it of them.
    fn listener() -> (Set, Delta) {
        let [mut a, mut b] = ["a", "b"].map(|name| Set::new(id(name), Limits::default(), 1));
        for n in 0..9 {
            let topic = Arc::from(format!("t{}", n % 3));
            b.join(&topic, Pid(n), "k".into(), "{}").unwrap();
        }
        a.up(&id("b")).unwrap();
        let delta = b.take_delta();
        a.merge(&delta, &mut Diff::new()).unwrap();
        (a, delta)
    }

    /// One step of one topic: how many joined, how many left, and who is up.
    fn step(set: &mut Set) -> (usize, usize, Vec<ReplicaId>) {
        let mut diff = Diff::new();
        let shown = set.step(4, &mut diff);
        assert!(diff.leaves.iter().all(|left| left.listed));
        (diff.joins.len(), diff.leaves.len(), shown)
    }

    #[test]
    fn a_replica_turns_back_from_where_it_is() {
        let (mut a, _) = listener();
        assert!(a.hide(&id("b")) && !a.hide(&id("b")));
        assert_eq!(step(&mut a), (0, 3, vec![]));
        assert_eq!(step(&mut a), (0, 3, vec![]));
        assert_eq!(a.list_all().count(), 3);
        assert_eq!(a.status(&id("b")), Some(Status::Down));
        a.show(&id("b"));
        assert_eq!(step(&mut a), (3, 0, vec![]));
        assert!(a.hide(&id("b")), "it was about to be up");
        assert_eq!(step(&mut a), (0, 3, vec![]));
        a.show(&id("b"));
        assert_eq!(step(&mut a), (3, 0, vec![]));
        assert_eq!(step(&mut a), (3, 0, vec![id("b")]));
        assert!(!a.is_turning());
        assert_eq!((a.list_all().count(), a.down), (9, 0));
    }

    #[test]
    fn a_small_replica_is_listed_and_hidden_at_once() {
        let (mut a, _) = listener();
        let mut diff = Diff::new();
        assert!(a.hide(&id("b")));
        assert!(a.step(9, &mut diff).is_empty() && !a.is_turning());
        assert_eq!((diff.leaves.len(), a.list_all().count()), (9, 0));
        a.show(&id("b"));
        assert_eq!(a.step(9, &mut diff), [id("b")]);
        assert_eq!((diff.joins.len(), a.list_all().count()), (9, 9));
    }

    #[test]
    fn what_is_at_once_ends_the_steps() {
        let (mut a, _) = listener();
        a.hide(&id("b"));
        step(&mut a);
        assert_eq!(a.up(&id("b")), Ok(true));
        assert!(!a.is_turning() && a.list_all().count() == 9);
        a.hide(&id("b"));
        step(&mut a);
        assert!(!a.down(&id("b")), "it was down");
        assert!(!a.is_turning() && a.list_all().count() == 0);
        a.show(&id("b"));
        step(&mut a);
        assert_eq!(a.remove(&id("b")).len(), 9);
        assert_eq!((a.is_turning(), a.len(), a.down), (false, 0, 0));
    }

    /// Guards against: one presence listed twice, of a replica that is forgotten and heard again.
    #[test]
    fn a_dismissed_replica_that_is_admitted_anew_is_listed_once_it_has_gone() {
        let (mut a, delta) = listener();
        a.dismiss(&id("b"));
        assert_eq!(step(&mut a), (0, 3, vec![]));
        assert_eq!(a.status(&id("b")), None);
        let dot = Dot::new(id("b"), 1);
        assert!(a.find_dot(&dot).is_some(), "it may be told yet");
        a.up(&id("b")).unwrap();
        a.down(&id("b"));
        let mut diff = Diff::new();
        a.merge(&delta, &mut diff).unwrap();
        assert_eq!(diff.joins.len(), 9);
        assert!(!diff.joins.iter().any(|&handle| a.lists(handle)));
        a.show(&id("b"));
        let mut listed = 6;
        while a.is_turning() {
            let (joins, leaves, _) = step(&mut a);
            assert!(joins == 0 || listed == leaves || a.replicas.iter().flatten().count() == 2);
            listed = listed + joins - leaves;
            assert_eq!(a.list_all().count(), listed);
        }
        assert_eq!((listed, a.len(), a.down), (9, 9, 0));
        assert_eq!(a.status(&id("b")), Some(Status::Up));
    }
}
