//! What is on its way from node to node.
//!
//! A mesh brings what it was given in order, and nothing twice: a connection does, and a connection that
//! took the place of another brings nothing of the one before. It may lose what it was given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::cluster::Micros;

use presence_core::wire::cluster::{Body, Message};

/// Whether a message is one that was given. (An older version has no word for a handover.)
fn is_same(given: &Message, brought: &Message) -> bool {
    let clocks = |body: &Body| match body {
        Body::Stopping { clocks, .. } => Some(clocks.clone()),
        _ => None,
    };
    given == brought
        || given.from == brought.from
            && clocks(&given.body).is_some_and(|given| Some(given) == clocks(&brought.body))
}

/// All ways between nodes.
pub(super) struct Roads {
    nodes: usize,
    /// From each node to each, what its mesh was given and has not yet brought.
    given: Vec<VecDeque<Parcel>>,
    /// By receiver, sender and shard, what was brought and not yet taken.
    brought: BTreeMap<(usize, usize, usize), VecDeque<Parcel>>,
}

/// A message on its way.
pub(super) struct Parcel {
    /// When its tracker had it sent.
    pub(super) sent: Micros,
    /// Whether the mesh was given it later.
    pub(super) is_late: bool,
    pub(super) shard: usize,
    pub(super) message: Arc<Message>,
}

impl Roads {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            given: (0..nodes * nodes).map(|_| VecDeque::new()).collect(),
            brought: BTreeMap::new(),
        }
    }

    /// A mesh is given a message.
    pub(super) fn post(&mut self, from: usize, to: usize, parcel: Parcel) {
        self.given[from * self.nodes + to].push_back(parcel);
    }

    /// A mesh brings a message: whether it was given, and after whatever was brought before.
    pub(super) fn arrive(
        &mut self,
        from: usize,
        to: usize,
        shard: usize,
        message: &Message,
    ) -> bool {
        let given = &mut self.given[from * self.nodes + to];
        let same = |parcel: &Parcel| parcel.shard == shard && is_same(&parcel.message, message);
        let Some(at) = given.iter().position(same) else {
            return false;
        };
        // What was given before it is lost.
        given.drain(..at);
        if let Some(parcel) = given.pop_front() {
            let brought = self.brought.entry((to, from, shard)).or_default();
            brought.push_back(parcel);
        }
        true
    }

    /// A shard takes a message: when it was sent. (`None` where what it takes is not what was brought: a
    /// planted defect.)
    pub(super) fn take(
        &mut self,
        from: usize,
        to: usize,
        shard: usize,
        message: &Message,
    ) -> Option<Micros> {
        let brought = self.brought.get_mut(&(to, from, shard))?;
        let mut brought_now = brought.iter();
        let at = brought_now.position(|parcel| is_same(&parcel.message, message))?;
        brought.drain(..at);
        brought.pop_front().map(|parcel| parcel.sent)
    }

    /// What a node has sent another at some time, and its mesh was given at once and has not brought.
    pub(super) fn unheard(&self, from: usize, to: usize, at: Micros) -> Option<&Message> {
        let given = self.given[from * self.nodes + to].iter();
        let mut due = given.filter(|parcel| parcel.sent == at && !parcel.is_late);
        due.next().map(|parcel| &*parcel.message)
    }

    /// A process ends, and what was on its way to it.
    pub(super) fn end(&mut self, node: usize) {
        for from in 0..self.nodes {
            self.given[from * self.nodes + node].clear();
        }
        self.brought.retain(|&(to, _, _), _| to != node);
    }
}

#[cfg(test)]
mod tests {
    use presence_core::clock::{Context, ReplicaId};

    use super::*;

    const WAY: (usize, usize) = (0, 1);

    /// A message like no other.
    fn message(number: u64) -> Arc<Message> {
        let body = Body::Superseded { newest: number };
        of(body)
    }

    fn of(body: Body) -> Arc<Message> {
        let from = ReplicaId::new("n0", 1);
        Arc::new(Message { from, body })
    }

    fn parcel(sent: Micros, message: Arc<Message>) -> Parcel {
        Parcel {
            sent,
            is_late: false,
            shard: 0,
            message,
        }
    }

    fn posted(numbers: impl IntoIterator<Item = u64>) -> Roads {
        let mut roads = Roads::new(2);
        for number in numbers {
            roads.post(WAY.0, WAY.1, parcel(number, message(number)));
        }
        roads
    }

    fn arrives(roads: &mut Roads, number: u64) -> bool {
        roads.arrive(WAY.0, WAY.1, 0, &message(number))
    }

    #[test]
    fn what_was_given_arrives_in_order_and_may_be_lost() {
        let mut roads = posted(0..5);
        for number in [0, 1, 4] {
            assert!(arrives(&mut roads, number));
        }
    }

    #[test]
    fn what_arrives_out_of_order_is_not_in_order() {
        let mut roads = posted(0..3);
        assert!(arrives(&mut roads, 1));
        assert!(!arrives(&mut roads, 0));
        assert!(arrives(&mut roads, 2));
    }

    #[test]
    fn what_arrives_twice_must_have_been_given_twice() {
        let mut roads = posted([0, 1, 1]);
        assert!(arrives(&mut roads, 0));
        assert!(!arrives(&mut roads, 0));
        assert!(arrives(&mut roads, 1));
        assert!(arrives(&mut roads, 1));
        assert!(!arrives(&mut roads, 1));
    }

    #[test]
    fn nothing_arrives_that_was_not_given_or_was_given_elsewhere() {
        let mut roads = posted([0]);
        assert!(!roads.arrive(1, 0, 0, &message(0)), "the way back");
        assert!(!roads.arrive(0, 1, 1, &message(0)), "another shard");
        assert!(!arrives(&mut roads, 1));
        assert!(arrives(&mut roads, 0));
    }

    #[test]
    fn an_older_version_says_that_it_stops_and_nothing_of_a_handover() {
        let stopping = |handover| {
            let clocks = Context::default();
            of(Body::Stopping { clocks, handover })
        };
        let mut roads = Roads::new(2);
        roads.post(0, 1, parcel(0, stopping(true)));
        assert!(!arrives(&mut roads, 0));
        assert!(roads.arrive(0, 1, 0, &stopping(false)));
    }

    #[test]
    fn what_is_taken_was_sent_when_it_was_given() {
        let mut roads = posted([5, 6, 7]);
        assert_eq!(roads.take(0, 1, 0, &message(5)), None, "it has not arrived");
        for number in [5, 6, 7] {
            assert!(arrives(&mut roads, number));
        }
        // What a shard does not take is lost within its node.
        assert_eq!(roads.take(0, 1, 0, &message(6)), Some(6));
        assert_eq!(roads.take(0, 1, 0, &message(5)), None);
        assert_eq!(roads.take(0, 1, 0, &message(7)), Some(7));
    }

    #[test]
    fn what_the_mesh_was_given_at_once_is_unheard_until_it_arrives() {
        let mut roads = posted([5]);
        roads.post(
            0,
            1,
            Parcel {
                is_late: true,
                ..parcel(5, message(6))
            },
        );
        assert_eq!(roads.unheard(0, 1, 5), Some(&*message(5)));
        assert_eq!(roads.unheard(0, 1, 4), None);
        assert!(arrives(&mut roads, 5));
        assert_eq!(roads.unheard(0, 1, 5), None, "the other came late");
    }

    #[test]
    fn a_process_that_ends_gets_nothing_any_more() {
        let mut roads = posted([0, 1]);
        assert!(arrives(&mut roads, 0));
        roads.end(WAY.1);
        assert_eq!(roads.take(0, 1, 0, &message(0)), None);
        assert!(!arrives(&mut roads, 1));
    }
}
