//! Places: where nodes may be reached, and when each is to be dialled next.
//!
//! A place is `HOST:PORT`. It comes from the settings, from what a name there stands for, from a node
//! that says where it is reached, or from one that tells of others; it is forgotten when it could not
//! be reached for long. A place is dialled again and again with growing pauses while there is no link
//! with the node behind it, and at once where a link breaks that had stood for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::MeshConfig;
use super::link::End;
use super::pauses::{Jitter, MAX_PERIOD, Pauses};
use super::roster::Roster;

/// Where nodes may be reached.
#[derive(Debug)]
pub(super) struct Places {
    all: BTreeMap<String, Place>,
    /// Where this node has met itself.
    own: BTreeSet<String>,
    max: usize,
    pauses: Pauses,
    forget_after: Duration,
}

#[derive(Debug)]
struct Place {
    /// The node that was last met there, or is told to be there.
    peer: Option<Arc<str>>,
    /// Dials in a row that came to nothing.
    failures: u32,
    due: Instant,
    forget_at: Instant,
    changed: Arc<Notify>,
}

/// What to do about a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Dial it at this time.
    Dial(Instant),
    /// The node there is connected.
    Rest,
    /// It is forgotten.
    Forget,
}

/// What came of dialling a place, where it is no link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialled {
    /// Another connection with the node is kept, or about to be.
    Already,
    Failed,
    /// It is this node.
    Itself,
}

impl Places {
    pub(super) fn new(config: &MeshConfig) -> Self {
        Self {
            all: BTreeMap::new(),
            own: BTreeSet::new(),
            max: config.max_peers.saturating_mul(2),
            pauses: Pauses::new(config),
            forget_after: config.forget_after.min(MAX_PERIOD),
        }
    }

    /// Nodes may be reached there. Returns what tells that something changed, where the place is new
    /// and someone must begin to dial it.
    pub(super) fn want(
        &mut self,
        address: &str,
        peer: Option<&Arc<str>>,
        roster: &mut Roster,
        now: Instant,
    ) -> Option<Arc<Notify>> {
        let forget_at = now + self.forget_after;
        if let Some(place) = self.all.get_mut(address) {
            place.forget_at = forget_at;
            if let Some(peer) = peer {
                place.peer = Some(Arc::clone(peer));
            }
            return None;
        }
        if self.own.contains(address) || !self.make_room(roster) {
            if let Some(peer) = peer {
                self.forget_homeless(peer, roster);
            }
            return None;
        }
        let changed = Arc::new(Notify::new());
        let place = Place {
            peer: peer.cloned(),
            failures: 0,
            due: now,
            forget_at,
            changed: Arc::clone(&changed),
        };
        self.all.insert(address.to_owned(), place);
        Some(changed)
    }

    /// What to do about a place, for the one who was given `changed` for it. One that is forgotten is
    /// gone afterwards.
    pub(super) fn next(
        &mut self,
        address: &str,
        changed: &Arc<Notify>,
        roster: &mut Roster,
        now: Instant,
    ) -> Next {
        let Some(place) = self.all.get_mut(address) else {
            return Next::Forget;
        };
        if !Arc::ptr_eq(&place.changed, changed) {
            // It was forgotten, and is wanted anew: another dials it.
            return Next::Forget;
        }
        if place.is_reached(roster) {
            place.forget_at = now + self.forget_after;
            return Next::Rest;
        }
        if now < place.forget_at {
            return Next::Dial(place.due);
        }
        self.remove(address, roster);
        Next::Forget
    }

    /// A dial has met a node.
    pub(super) fn met(&mut self, address: &str, peer: &Arc<str>) {
        if let Some(place) = self.all.get_mut(address) {
            place.peer = Some(Arc::clone(peer));
        }
    }

    /// The node that was last met at a place, or is told to be there.
    pub(super) fn peer(&self, address: &str) -> Option<Arc<str>> {
        self.all.get(address)?.peer.clone()
    }

    /// Whether there is a link with the node at each of these addresses, and one of them is not this
    /// node itself.
    pub(super) fn are_reached(&self, addresses: &[String], roster: &Roster) -> bool {
        let mut others = addresses
            .iter()
            .filter(|address| !self.own.contains(*address))
            .peekable();
        let is_reached = |address: &String| {
            let place = self.all.get(address);
            place.is_some_and(|place| place.is_reached(roster))
        };
        others.peek().is_some() && others.all(is_reached)
    }

    /// Whether this node itself was found at every place there was, and there was one.
    pub(super) fn are_all_its_own(&self) -> bool {
        self.all.is_empty() && !self.own.is_empty()
    }

    /// A place was dialled.
    pub(super) fn dialled(
        &mut self,
        address: &str,
        dialled: Dialled,
        roster: &mut Roster,
        jitter: Jitter,
        now: Instant,
    ) {
        if dialled == Dialled::Itself {
            self.remove(address, roster);
            if self.own.len() < self.max {
                self.own.insert(address.to_owned());
            }
            return;
        }
        let Some(place) = self.all.get_mut(address) else {
            return;
        };
        let peer = place.peer.as_deref();
        let is_suspected = peer.is_some_and(|peer| roster.is_suspected(peer, address));
        place.due = now
            + match dialled {
                Dialled::Failed if !is_suspected => {
                    self.pauses.after_failures(place.failures, jitter)
                }
                _ => self.pauses.short(jitter),
            };
        if dialled == Dialled::Failed {
            place.failures = place.failures.saturating_add(1);
        }
    }

    /// The link with a node has ended, after it stood for `lived`: its places are to be dialled again.
    pub(super) fn broken(
        &mut self,
        peer: &Arc<str>,
        end: &End,
        lived: Duration,
        roster: &mut Roster,
        jitter: Jitter,
        now: Instant,
    ) {
        let forget_at = now + self.forget_after;
        for place in self.all.values_mut() {
            if place.peer.as_ref() != Some(peer) {
                continue;
            }
            let pause = if end.is_garbage() {
                let failures = place.failures;
                place.failures = failures.saturating_add(1);
                self.pauses.after_failures(failures, jitter)
            } else {
                place.failures = 0;
                self.pauses.after_break(lived, jitter)
            };
            place.due = now + pause;
            place.forget_at = forget_at;
            place.changed.notify_one();
        }
        self.forget_homeless(peer, roster);
    }

    /// A dial that had begun a link with a node has failed: its other places may be dialled.
    pub(super) fn abandoned(&self, peer: &Arc<str>) {
        for place in self.of(peer) {
            place.changed.notify_one();
        }
    }

    fn of<'a>(&'a self, peer: &'a Arc<str>) -> impl Iterator<Item = &'a Place> {
        let all = self.all.values();
        all.filter(move |place| place.peer.as_ref() == Some(peer))
    }

    /// Whether there is room for one more place, for which the one that was out of reach the longest
    /// may have to go.
    fn make_room(&mut self, roster: &mut Roster) -> bool {
        if self.all.len() < self.max {
            return true;
        }
        let unreached = self.all.iter().filter(|(_, it)| !it.is_reached(roster));
        let Some((address, _)) = unreached.min_by_key(|(_, place)| place.forget_at) else {
            return false;
        };
        let address = address.clone();
        self.remove(&address, roster);
        true
    }

    /// Forgets a place, and the node that was nowhere else.
    fn remove(&mut self, address: &str, roster: &mut Roster) {
        let Some(place) = self.all.remove(address) else {
            return;
        };
        place.changed.notify_one();
        if let Some(peer) = place.peer {
            self.forget_homeless(&peer, roster);
        }
    }

    fn forget_homeless(&self, peer: &Arc<str>, roster: &mut Roster) {
        if self.of(peer).next().is_none() {
            roster.forget(peer);
        }
    }
}

impl Place {
    fn is_reached(&self, roster: &Roster) -> bool {
        let peer = self.peer.as_deref();
        peer.is_some_and(|peer| roster.is_reached(peer))
    }
}

#[cfg(test)]
mod tests {
    use presence_core::wire::cluster::Version;

    use super::super::config::Secret;
    use super::super::frame::FrameError;
    use super::super::handshake::Met;
    use super::super::link::Link;
    use super::*;

    const PERIOD: Duration = Duration::from_secs(2);

    struct World {
        places: Places,
        roster: Roster,
        now: Instant,
    }

    fn world() -> World {
        let mut config = MeshConfig::new(Secret::new([7; 16]).unwrap());
        config.broadcast_period = PERIOD;
        config.max_peers = 2;
        World {
            places: Places::new(&config),
            roster: Roster::new("own".into(), 2, 100),
            now: Instant::now(),
        }
    }

    impl World {
        fn want(&mut self, address: &str, peer: Option<&str>) -> Option<Arc<Notify>> {
            let Self {
                places,
                roster,
                now,
            } = self;
            let peer: Option<Arc<str>> = peer.map(Arc::from);
            places.want(address, peer.as_ref(), roster, *now)
        }

        fn next(&mut self, address: &str, changed: &Arc<Notify>) -> Next {
            let Self {
                places,
                roster,
                now,
            } = self;
            places.next(address, changed, roster, *now)
        }

        /// How long until a place is dialled.
        fn pause(&mut self, address: &str, changed: &Arc<Notify>) -> Duration {
            match self.next(address, changed) {
                Next::Dial(due) => due - self.now,
                other => panic!("{other:?}"),
            }
        }

        fn dialled(&mut self, address: &str, dialled: Dialled) {
            let Self {
                places,
                roster,
                now,
            } = self;
            places.dialled(address, dialled, roster, Jitter::of(0), *now);
        }

        fn link(&mut self, name: &str, address: &str) -> Arc<Link> {
            let met = Met {
                name: name.into(),
                incarnation: 1,
                advertised: address.into(),
                version: Version::V2,
                id: [0; 16],
            };
            self.roster.admit(&met, address.into(), None).unwrap()
        }

        fn broken(&mut self, link: &Arc<Link>, end: &End, lived: Duration) {
            let Self {
                places,
                roster,
                now,
            } = self;
            roster.ended(link, end);
            places.broken(&link.name, end, lived, roster, Jitter::of(0), *now);
        }
    }

    const CLOSED: End = End::Broken(FrameError::Closed);

    #[test]
    fn failures_make_pauses_longer_but_for_a_node_that_may_be_gone() {
        let mut world = world();
        let a = world.want("a:1", None).unwrap();
        assert_eq!(world.pause("a:1", &a), Duration::ZERO);
        for seconds in [1, 2, 4, 8, 10, 10] {
            world.dialled("a:1", Dialled::Failed);
            assert_eq!(world.pause("a:1", &a), Duration::from_secs(seconds));
        }
        world.dialled("a:1", Dialled::Already);
        assert_eq!(world.pause("a:1", &a), PERIOD / 2);
        world.want("a:1", Some("a"));
        let link = world.link("a", "a:1");
        world.broken(&link, &CLOSED, PERIOD);
        assert_eq!(world.pause("a:1", &a), Duration::ZERO);
        for _ in 0..3 {
            world.dialled("a:1", Dialled::Failed);
            assert_eq!(world.pause("a:1", &a), PERIOD / 2);
        }
    }

    #[test]
    fn one_that_sends_garbage_is_dialled_again_after_longer_and_longer() {
        let mut world = world();
        let a = world.want("a:1", Some("a")).unwrap();
        let b = world.want("b:1", Some("b")).unwrap();
        for seconds in [1, 2, 4] {
            let link = world.link("a", "a:1");
            world.broken(&link, &End::Kind(9), PERIOD * 9);
            assert_eq!(world.pause("a:1", &a), Duration::from_secs(seconds));
        }
        assert_eq!(world.pause("b:1", &b), Duration::ZERO);
    }

    #[test]
    fn a_place_rests_while_its_node_is_connected_and_is_forgotten_long_after() {
        let mut world = world();
        let a = world.want("a:1", Some("a")).unwrap();
        let link = world.link("a", "a:1");
        assert_eq!(world.next("a:1", &a), Next::Rest);
        world.now += Duration::from_secs(100_000);
        assert_eq!(world.next("a:1", &a), Next::Rest);
        world.broken(&link, &CLOSED, PERIOD);
        world.now += Duration::from_secs(3599);
        assert!(matches!(world.next("a:1", &a), Next::Dial(_)));
        world.now += Duration::from_secs(1);
        assert_eq!(world.next("a:1", &a), Next::Forget);
        assert!(world.roster.peers().is_empty());
        assert_eq!(world.next("a:1", &a), Next::Forget);
    }

    #[test]
    fn the_own_address_is_not_dialled_again() {
        let mut world = world();
        let addresses = ["a:1".to_owned(), "b:1".to_owned()];
        assert!(!world.places.are_all_its_own());
        let own = world.want("a:1", None).unwrap();
        assert!(world.want("a:1", None).is_none());
        assert!(!world.places.are_all_its_own());
        world.dialled("a:1", Dialled::Itself);
        assert!(world.places.are_all_its_own());
        assert!(world.want("a:1", None).is_none());
        assert_eq!(world.next("a:1", &own), Next::Forget);
        // It does not count as another that is reached.
        let are_reached = |world: &World, addresses: &[String]| {
            world.places.are_reached(addresses, &world.roster)
        };
        assert!(!are_reached(&world, &addresses[..1]));
        assert!(!are_reached(&world, &addresses));
        world.want("b:1", Some("b"));
        world.link("b", "b:1");
        assert!(are_reached(&world, &addresses));
        // Nobody is where this node is, whatever others say.
        world.roster.introduce(&"c".into(), "a:1");
        assert!(world.want("a:1", Some("c")).is_none());
        assert_eq!(world.roster.peers().len(), 1);
    }

    #[test]
    fn the_number_of_places_is_bounded() {
        let mut world = world();
        let given: Vec<_> = (0..4)
            .map(|n| {
                world.now += Duration::from_secs(1);
                world.want(&format!("a:{n}"), None).unwrap()
            })
            .collect();
        world.now += Duration::from_secs(1);
        world.want("a:0", None);
        assert!(world.want("b:1", None).is_some());
        assert_eq!(world.next("a:1", &given[1]), Next::Forget);
        assert!(matches!(world.next("a:0", &given[0]), Next::Dial(_)));
        // Wanted anew, it is dialled by another.
        let anew = world.want("a:1", None).unwrap();
        assert_eq!(world.next("a:1", &given[1]), Next::Forget);
        assert!(matches!(world.next("a:1", &anew), Next::Dial(_)));
    }
}
