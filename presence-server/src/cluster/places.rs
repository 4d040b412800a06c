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
use super::roster::Roster;

/// Where nodes may be reached.
#[derive(Debug)]
pub(super) struct Places {
    all: BTreeMap<String, Place>,
    /// Where this node has met itself.
    own: BTreeSet<String>,
    max: usize,
    broadcast_period: Duration,
    max_backoff: Duration,
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

/// A number from 0 to 1, drawn at random: it sets dials apart that would fall together.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub(super) struct Jitter(f64);

impl Jitter {
    pub(super) fn of(random: u64) -> Self {
        Self((random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    fn up_to(self, max: Duration) -> Duration {
        max.mul_f64(self.0)
    }
}

impl Places {
    pub(super) fn new(config: &MeshConfig) -> Self {
        Self {
            all: BTreeMap::new(),
            own: BTreeSet::new(),
            max: config.max_peers.saturating_mul(2),
            broadcast_period: config.broadcast_period,
            max_backoff: config.max_backoff,
            forget_after: config.forget_after,
        }
    }

    /// Nodes may be reached there. Returns what tells that something changed, where the place is new
    /// and someone must begin to dial it.
    pub(super) fn want(
        &mut self,
        address: &str,
        peer: Option<&Arc<str>>,
        roster: &Roster,
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

    /// What to do about a place. One that is forgotten is gone afterwards.
    pub(super) fn next(&mut self, address: &str, roster: &mut Roster, now: Instant) -> Next {
        let Some(place) = self.all.get_mut(address) else {
            return Next::Forget;
        };
        if place.is_reached(roster) {
            place.forget_at = now + self.forget_after;
            return Next::Rest;
        }
        if now < place.forget_at {
            return Next::Dial(place.due);
        }
        let place = self.all.remove(address).and_then(|place| place.peer);
        if let Some(peer) = place
            && !self.all.values().any(|it| it.peer.as_ref() == Some(&peer))
        {
            roster.forget(&peer);
        }
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

    /// Whether there is a link with the node at a place, or it is this one.
    pub(super) fn is_reached(&self, address: &str, roster: &Roster) -> bool {
        self.own.contains(address)
            || self
                .all
                .get(address)
                .is_some_and(|place| place.is_reached(roster))
    }

    /// A place was dialled.
    pub(super) fn dialled(
        &mut self,
        address: &str,
        dialled: Dialled,
        is_suspected: bool,
        jitter: Jitter,
        now: Instant,
    ) {
        let half = self.broadcast_period / 2;
        if dialled == Dialled::Itself {
            self.all.remove(address);
            if self.own.len() < self.max {
                self.own.insert(address.to_owned());
            }
            return;
        }
        let pause = |failures| self.pause(failures, jitter);
        let pause = match (dialled, self.all.get(address)) {
            (_, None) => return,
            (Dialled::Failed, Some(place)) if !is_suspected => pause(place.failures),
            _ => half - jitter.up_to(half / 4),
        };
        if let Some(place) = self.all.get_mut(address) {
            place.due = now + pause;
            if dialled == Dialled::Failed {
                place.failures = place.failures.saturating_add(1);
            }
        }
    }

    /// The link with a node has ended, after it stood for `lived`: its places are to be dialled again.
    pub(super) fn broken(
        &mut self,
        peer: &Arc<str>,
        end: &End,
        lived: Duration,
        jitter: Jitter,
        now: Instant,
    ) {
        let has_stood = lived >= self.broadcast_period && !end.is_garbage();
        let at_once = jitter.up_to(self.broadcast_period / 8);
        let pauses = |failures| self.pause(failures, jitter);
        let due: Vec<_> = self
            .of(peer)
            .map(|(address, place)| {
                let pause = if has_stood {
                    at_once
                } else {
                    pauses(place.failures)
                };
                (address.clone(), now + pause)
            })
            .collect();
        for (address, due) in due {
            if let Some(place) = self.all.get_mut(&address) {
                place.due = due;
                place.forget_at = now + self.forget_after;
                place.failures = if has_stood {
                    0
                } else {
                    place.failures.saturating_add(1)
                };
                place.changed.notify_one();
            }
        }
    }

    /// A dial that had begun a link with a node has failed: its other places may be dialled.
    pub(super) fn abandoned(&self, peer: &Arc<str>) {
        for (_, place) in self.of(peer) {
            place.changed.notify_one();
        }
    }

    fn of<'a>(&'a self, peer: &'a Arc<str>) -> impl Iterator<Item = (&'a String, &'a Place)> {
        let all = self.all.iter();
        all.filter(move |(_, place)| place.peer.as_ref() == Some(peer))
    }

    /// The pause after so many failures: half a broadcast period, and twice as long each time.
    fn pause(&self, failures: u32, jitter: Jitter) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        let pause = (self.broadcast_period / 2).saturating_mul(factor);
        let pause = pause.min(self.max_backoff);
        pause - jitter.up_to(pause / 4)
    }

    /// Whether there is room for one more place, for which the one that was out of reach the longest
    /// may have to go.
    fn make_room(&mut self, roster: &Roster) -> bool {
        if self.all.len() < self.max {
            return true;
        }
        let unreached = self.all.iter().filter(|(_, it)| !it.is_reached(roster));
        let Some((address, place)) = unreached.min_by_key(|(_, place)| place.forget_at) else {
            return false;
        };
        place.changed.notify_one();
        let address = address.clone();
        self.all.remove(&address);
        true
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
        fn want(&mut self, address: &str, peer: Option<&str>) -> bool {
            let peer: Option<Arc<str>> = peer.map(Arc::from);
            self.places
                .want(address, peer.as_ref(), &self.roster, self.now)
                .is_some()
        }

        fn next(&mut self, address: &str) -> Next {
            self.places.next(address, &mut self.roster, self.now)
        }

        /// How long until a place is dialled.
        fn pause(&mut self, address: &str) -> Duration {
            match self.next(address) {
                Next::Dial(due) => due - self.now,
                other => panic!("{other:?}"),
            }
        }

        fn fail(&mut self, address: &str, is_suspected: bool, jitter: f64) {
            let failed = Dialled::Failed;
            let jitter = Jitter(jitter);
            self.places
                .dialled(address, failed, is_suspected, jitter, self.now);
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_spread() {
        let mut world = world();
        world.want("a:1", None);
        assert_eq!(world.pause("a:1"), Duration::ZERO);
        let pauses: Vec<_> = (0..40)
            .map(|_| {
                world.fail("a:1", false, 0.0);
                world.pause("a:1").as_secs()
            })
            .collect();
        assert_eq!(pauses[..6], [1, 2, 4, 8, 10, 10]);
        assert!(pauses[6..].iter().all(|&pause| pause == 10));
        world.fail("a:1", false, 1.0);
        assert_eq!(world.pause("a:1"), Duration::from_millis(7500));
        // Not so while the process of the node there may be gone.
        world.fail("a:1", true, 0.0);
        assert_eq!(world.pause("a:1"), PERIOD / 2);
    }

    #[test]
    fn a_link_that_stood_is_dialled_again_at_once_and_one_that_did_not_is_not() {
        let mut world = world();
        let a: Arc<str> = "a".into();
        world.want("a:1", Some("a"));
        world.want("b:1", Some("b"));
        world.fail("a:1", false, 0.0);
        let closed = End::Broken(FrameError::Closed);
        let broken = |world: &mut World, end, lived| {
            let jitter = Jitter(0.5);
            world.places.broken(&a, &end, lived, jitter, world.now);
            world.pause("a:1")
        };
        assert_eq!(broken(&mut world, closed, PERIOD), PERIOD / 16);
        let soon = broken(&mut world, End::Broken(FrameError::Closed), PERIOD / 2);
        assert_eq!(soon, Duration::from_millis(875));
        let garbage = broken(&mut world, End::Kind(9), PERIOD * 100);
        assert_eq!(garbage, Duration::from_millis(1750));
        assert_eq!(world.pause("b:1"), Duration::ZERO);
    }

    #[test]
    fn a_place_rests_while_its_node_is_connected_and_is_forgotten_long_after() {
        let mut world = world();
        world.want("a:1", Some("a"));
        let met = Met {
            name: "a".into(),
            incarnation: 1,
            advertised: "a:1".into(),
            version: Version::V2,
            id: [0; 16],
        };
        let link = world.roster.admit(&met, "a:1".into(), None).unwrap();
        assert_eq!(world.next("a:1"), Next::Rest);
        world.now += Duration::from_secs(100_000);
        assert_eq!(world.next("a:1"), Next::Rest);
        let end = End::Broken(FrameError::Closed);
        world.roster.ended(&link, &end);
        let jitter = Jitter(0.0);
        world
            .places
            .broken(&met.name, &end, PERIOD, jitter, world.now);
        world.now += Duration::from_secs(3599);
        assert!(matches!(world.next("a:1"), Next::Dial(_)));
        world.now += Duration::from_secs(1);
        assert_eq!(world.next("a:1"), Next::Forget);
        assert!(world.roster.peers().is_empty());
        assert_eq!(world.next("a:1"), Next::Forget);
    }

    #[test]
    fn the_own_address_is_not_dialled_again() {
        let mut world = world();
        assert!(world.want("a:1", None));
        assert!(!world.want("a:1", None));
        let itself = Dialled::Itself;
        world
            .places
            .dialled("a:1", itself, false, Jitter(0.0), world.now);
        assert!(!world.want("a:1", None));
        assert_eq!(world.next("a:1"), Next::Forget);
        assert!(world.places.is_reached("a:1", &world.roster));
    }

    #[test]
    fn the_number_of_places_is_bounded() {
        let mut world = world();
        for n in 0..4 {
            assert!(world.want(&format!("a:{n}"), None));
            world.now += Duration::from_secs(1);
        }
        world.want("a:0", None);
        assert!(world.want("b:1", None));
        assert_eq!(world.next("a:1"), Next::Forget);
        assert!(matches!(world.next("a:0"), Next::Dial(_)));
    }
}
