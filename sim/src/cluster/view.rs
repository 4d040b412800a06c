//! The lists of a shard, as its diffs tell them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::truth::Number;

/// The lists of all topics. They are compared with what a shard lists after most events, so that where
/// a presence stands is found by its number.
#[derive(Default)]
pub(crate) struct View {
    topics: BTreeMap<Arc<str>, usize>,
    lists: Vec<List>,
    places: Vec<Place>,
    len: usize,
}

struct List {
    topic: Arc<str>,
    len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Never,
    Listed(u32),
    Left,
}

impl View {
    /// Adds a presence; whether it was not there.
    pub(crate) fn join(&mut self, topic: &Arc<str>, number: Number) -> bool {
        let list = match self.topics.get(topic) {
            Some(list) => *list,
            None => {
                let list = self.lists.len();
                self.topics.insert(Arc::clone(topic), list);
                let topic = Arc::clone(topic);
                self.lists.push(List { topic, len: 0 });
                list
            }
        };
        if self.list_of(number).is_some() {
            return false;
        }
        *self.place(number) = Place::Listed(list as u32);
        self.lists[list].len += 1;
        self.len += 1;
        true
    }

    /// Takes a presence out; whether it was there.
    pub(crate) fn leave(&mut self, topic: &str, number: Number) -> bool {
        let Some(list) = self.list_of(number) else {
            return false;
        };
        let list = &mut self.lists[list];
        if *list.topic != *topic {
            return false;
        }
        list.len -= 1;
        self.len -= 1;
        *self.place(number) = Place::Left;
        true
    }

    pub(crate) fn has(&self, topic: &str, number: Number) -> bool {
        self.list_of(number)
            .is_some_and(|list| *self.lists[list].topic == *topic)
    }

    /// The list of a topic, to ask for many presences.
    pub(crate) fn list(&self, topic: &str) -> impl Fn(Number) -> bool {
        let list = self.topics.get(topic).copied();
        move |number| list.is_some() && self.list_of(number) == list
    }

    /// Whether it was listed once and is not any more.
    pub(crate) fn has_left(&self, number: Number) -> bool {
        self.places.get(number as usize) == Some(&Place::Left)
    }

    /// How many are listed in a topic.
    pub(crate) fn len_of(&self, topic: &str) -> usize {
        let list = self.topics.get(topic);
        list.map_or(0, |list| self.lists[*list].len)
    }

    /// How many are listed.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All that are listed.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Number> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(number, place)| {
            matches!(place, Place::Listed(_)).then_some(number as Number)
        })
    }

    /// All that are listed in a topic.
    pub(crate) fn numbers_of(&self, topic: &str) -> impl Iterator<Item = Number> {
        let is_in = self.list(topic);
        self.numbers().filter(move |&number| is_in(number))
    }

    fn list_of(&self, number: Number) -> Option<usize> {
        match self.places.get(number as usize) {
            Some(Place::Listed(list)) => Some(*list as usize),
            _ => None,
        }
    }

    fn place(&mut self, number: Number) -> &mut Place {
        let at = number as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, Place::Never);
        }
        &mut self.places[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presence_stands_in_one_list_until_it_leaves_that_list() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut view = View::default();
        assert!(view.join(&a, 7) && !view.join(&a, 7) && !view.join(&b, 7));
        assert!(view.has("a", 7) && !view.has("b", 7) && !view.has("a", 6));
        assert!(view.list("a")(7) && !view.list("b")(7) && !view.list("c")(7));
        assert!(!view.leave("b", 7) && !view.has_left(7));
        assert!(view.leave("a", 7) && !view.leave("a", 7) && view.has_left(7));
        assert!(view.join(&b, 7) && view.join(&a, 2));
        assert_eq!(view.numbers().collect::<Vec<_>>(), [2, 7]);
        assert_eq!((view.len_of("a"), view.len_of("b"), view.len()), (1, 1, 2));
    }
}
