//! The roster: which nodes are known, and which link with each is the one that counts.
//!
//! Nodes dial each other as soon as they know of each other, often both at once, and one link is to be
//! left. Both ends must choose the same one, without asking:
//!
//! - A dialer that has a link with the node that answers, or has begun one, does not begin another.
//! - Who is dialled keeps what it has where it was dialled *by itself* and its name is the lower one:
//!   two dials have crossed. In all other cases the new one stays: the other node would not have dialled
//!   had it not lost the one before, and it says which one that was.
//! - A higher incarnation replaces a lower one; a lower one is refused while the higher is connected.
//!   (Afterwards it is not: a node whose clock went back learns from the trackers what to do.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use presence_core::wire::cluster::Version;

use super::Peer;
use super::handshake::{HandshakeError, LinkId, Met};
use super::link::{End, Link, Signal, Track};

/// How many dials after a break may find the peer's process gone.
const SUSPICIOUS_DIALS: u32 = 5;

/// How many of them in a row must be refused.
const REFUSED_DIALS: u32 = 2;

/// The nodes that are known, but this one.
#[derive(Debug)]
pub(super) struct Roster {
    own: Arc<str>,
    max_peers: usize,
    queue_bytes: usize,
    known: BTreeMap<Arc<str>, Known>,
    /// The links of all, for those who send.
    links: Arc<[Arc<Link>]>,
    last_attempt: u64,
}

/// One node.
#[derive(Debug, Default)]
struct Known {
    incarnation: u64,
    version: Option<Version>,
    address: String,
    link: Option<Arc<Link>>,
    /// The dial that has begun a link and awaits its welcome.
    attempt: Option<Attempt>,
    /// The last link that broke.
    lost: Option<LinkId>,
    suspicion: Option<Suspicion>,
    track: Arc<Track>,
}

/// A dial of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt(u64);

/// A link broke, and the node's process may be gone.
#[derive(Debug)]
struct Suspicion {
    /// Where it listened.
    address: String,
    dials: u32,
    refused: u32,
}

/// What came of a dial, as far as it tells whether the peer's process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nobody listens.
    Refused,
    /// No answer: it says nothing.
    TimedOut,
    /// Anything else: somebody is there.
    Other,
}

/// A node that is gone, unless it has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) name: Arc<str>,
    generation: u64,
}

impl Roster {
    pub(super) fn new(own: Arc<str>, max_peers: usize, queue_bytes: usize) -> Self {
        Self {
            own,
            max_peers,
            queue_bytes,
            known: BTreeMap::new(),
            links: Arc::new([]),
            last_attempt: 0,
        }
    }

    /// A new dial.
    pub(super) fn attempt(&mut self) -> Attempt {
        self.last_attempt += 1;
        Attempt(self.last_attempt)
    }

    /// Whether a dial may begin a link with the node that it has met, and the link with it that was
    /// lost last.
    pub(super) fn begin(
        &mut self,
        attempt: Attempt,
        met: &Met,
    ) -> Result<Option<LinkId>, HandshakeError> {
        let known = self.meet(met)?;
        let has_link = known
            .link
            .as_ref()
            .is_some_and(|link| link.incarnation == met.incarnation);
        if has_link || known.attempt.is_some() {
            let name = Arc::clone(&met.name);
            return Err(HandshakeError::Already { name });
        }
        known.attempt = Some(attempt);
        Ok(known.lost)
    }

    /// The link of a dial that is welcome.
    pub(super) fn welcomed(
        &mut self,
        attempt: Attempt,
        met: &Met,
        address: String,
    ) -> Result<Arc<Link>, HandshakeError> {
        let known = self.meet(met)?;
        if known.attempt != Some(attempt) {
            // The other node's dial has won meanwhile.
            let name = Arc::clone(&met.name);
            return Err(HandshakeError::Already { name });
        }
        Ok(self.link(met, address, true))
    }

    /// A dial is over, whatever came of it. Returns the node that it had begun a link with.
    pub(super) fn abandon(&mut self, attempt: Attempt) -> Option<Arc<str>> {
        let mut known = self.known.iter_mut();
        let (name, known) = known.find(|(_, known)| known.attempt == Some(attempt))?;
        known.attempt = None;
        Some(Arc::clone(name))
    }

    /// The link of a node that has dialled, and has lost this one before.
    pub(super) fn admit(
        &mut self,
        met: &Met,
        address: String,
        lost: Option<LinkId>,
    ) -> Result<Arc<Link>, HandshakeError> {
        let is_lower = self.own < met.name;
        let known = self.meet(met)?;
        let has_dialled = match &known.link {
            Some(link) => {
                link.is_ours && link.incarnation == met.incarnation && lost != Some(link.id)
            }
            None => known.attempt.is_some(),
        };
        if has_dialled && is_lower {
            let name = Arc::clone(&met.name);
            return Err(HandshakeError::Already { name });
        }
        Ok(self.link(met, address, false))
    }

    /// The node, if it may be connected.
    fn meet(&mut self, met: &Met) -> Result<&mut Known, HandshakeError> {
        let link = self.known.get(&met.name).and_then(|it| it.link.as_ref());
        if let Some(link) = link
            && link.incarnation > met.incarnation
        {
            return Err(HandshakeError::OldIncarnation {
                name: Arc::clone(&met.name),
                theirs: met.incarnation,
                known: link.incarnation,
            });
        }
        if !self.known.contains_key(&met.name) && !self.make_room() {
            let max = self.max_peers;
            return Err(HandshakeError::TooManyPeers { max });
        }
        Ok(self.known.entry(Arc::clone(&met.name)).or_default())
    }

    /// Makes a link the one that counts.
    fn link(&mut self, met: &Met, address: String, is_ours: bool) -> Arc<Link> {
        let known = self.known.entry(Arc::clone(&met.name)).or_default();
        let generation = known.track.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let track = Arc::clone(&known.track);
        let link = Link::new(met, is_ours, generation, track, self.queue_bytes);
        let link = Arc::new(link);
        if let Some(replaced) = known.link.replace(Arc::clone(&link)) {
            replaced.signal(Signal::Stop);
        }
        known.attempt = None;
        known.suspicion = None;
        known.incarnation = met.incarnation;
        known.version = Some(met.version);
        known.address = address;
        self.publish();
        link
    }

    /// A link has ended. Returns false where it had been replaced before.
    pub(super) fn ended(&mut self, link: &Arc<Link>, end: &End) -> bool {
        let Some(known) = self.known.get_mut(&link.name) else {
            return false;
        };
        if known
            .link
            .take_if(|counts| Arc::ptr_eq(counts, link))
            .is_none()
        {
            return false;
        }
        known.lost = Some(link.id);
        if end.is_break() {
            known.suspicion = Some(Suspicion {
                address: known.address.clone(),
                dials: 0,
                refused: 0,
            });
        }
        self.publish();
        true
    }

    /// What came of a dial to where a node is reached. Returns it once it must be gone.
    pub(super) fn dialled(&mut self, name: &Arc<str>, address: &str, sign: Sign) -> Option<Gone> {
        let known = self.known.get_mut(name)?;
        let suspicion = known.suspicion.as_mut()?;
        if suspicion.address != address {
            return None;
        }
        suspicion.dials += 1;
        match sign {
            Sign::Refused => suspicion.refused += 1,
            Sign::TimedOut => suspicion.dials = SUSPICIOUS_DIALS,
            Sign::Other => suspicion.refused = 0,
        }
        let is_gone = suspicion.refused == REFUSED_DIALS;
        if is_gone || suspicion.dials >= SUSPICIOUS_DIALS {
            known.suspicion = None;
        }
        is_gone.then(|| Gone {
            name: Arc::clone(name),
            generation: known.track.generation.load(Ordering::Acquire),
        })
    }

    /// Whether a node has not come back since it was found gone.
    pub(super) fn is_still(&self, gone: &Gone) -> bool {
        self.known
            .get(&gone.name)
            .is_some_and(|known| known.track.generation.load(Ordering::Acquire) == gone.generation)
    }

    /// Whether the process of a node at this address may be gone.
    pub(super) fn is_suspected(&self, name: &str, address: &str) -> bool {
        let suspicion = self.known.get(name).and_then(|it| it.suspicion.as_ref());
        suspicion.is_some_and(|suspicion| suspicion.address == address)
    }

    /// Whether there is a link with a node, or a dial that has begun one.
    pub(super) fn is_reached(&self, name: &str) -> bool {
        let known = self.known.get(name);
        known.is_some_and(|known| known.link.is_some() || known.attempt.is_some())
    }

    pub(super) fn is_connected(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|it| it.link.is_some())
    }

    /// Whether a node was never connected before, or not at this address.
    pub(super) fn is_news(&self, name: &str, address: &str) -> bool {
        let known = self.known.get(name);
        known.is_none_or(|known| known.version.is_none() || known.address != address)
    }

    /// Others tell of a node. Returns whether it is to be dialled there.
    pub(super) fn introduce(&mut self, name: &Arc<str>, address: &str) -> bool {
        if *name == self.own || self.is_connected(name) {
            return false;
        }
        if !self.known.contains_key(name) && self.known.len() >= self.max_peers {
            return false;
        }
        let known = self.known.entry(Arc::clone(name)).or_default();
        known.address = address.to_owned();
        true
    }

    /// Forgets a node that is not connected.
    pub(super) fn forget(&mut self, name: &str) {
        if !self.is_reached(name) {
            self.known.remove(name);
        }
    }

    /// Whether there is room for one more node, for which one that is not connected may have to go.
    fn make_room(&mut self) -> bool {
        if self.known.len() < self.max_peers {
            return true;
        }
        // One that was never met goes first.
        let unreached = self.known.iter().filter(|(name, _)| !self.is_reached(name));
        let Some((name, _)) = unreached.min_by_key(|(_, known)| known.incarnation) else {
            return false;
        };
        let name = Arc::clone(name);
        self.known.remove(&name);
        true
    }

    fn publish(&mut self) {
        let links = self.known.values().filter_map(|known| known.link.clone());
        self.links = links.collect();
    }

    /// The links with all nodes.
    pub(super) fn links(&self) -> Arc<[Arc<Link>]> {
        Arc::clone(&self.links)
    }

    /// The link with a node.
    pub(super) fn link_with(&self, name: &str) -> Option<Arc<Link>> {
        self.known.get(name)?.link.clone()
    }

    /// The nodes that are connected and where they are reached, but one.
    pub(super) fn others<'a>(&'a self, but: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let connected = self.known.iter().filter(|(_, known)| known.link.is_some());
        connected
            .map(|(name, known)| (&**name, &*known.address))
            .filter(move |(name, _)| *name != but)
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        let peer = |(name, known): (&Arc<str>, &Known)| {
            let track = &known.track;
            let link = known.link.as_ref();
            Peer {
                name: Arc::clone(name),
                incarnation: known.incarnation,
                address: known.address.clone(),
                is_connected: link.is_some(),
                version: known.version.map_or(0, Version::number),
                queued_bytes: link.map_or(0, |link| link.queue.bytes()),
                dropped: track.dropped.load(Ordering::Relaxed),
                sent: track.sent.load(Ordering::Relaxed),
                sent_bytes: track.sent_bytes.load(Ordering::Relaxed),
                received: track.received.load(Ordering::Relaxed),
                received_bytes: track.received_bytes.load(Ordering::Relaxed),
            }
        };
        self.known.iter().map(peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::frame::FrameError;
    use super::*;

    fn roster(own: &str) -> Roster {
        Roster::new(own.into(), 2, 100)
    }

    fn met(name: &str, incarnation: u64, id: u8) -> Met {
        Met {
            name: name.into(),
            incarnation,
            advertised: format!("{name}:1"),
            version: Version::V2,
            id: [id; 16],
        }
    }

    fn dial(roster: &mut Roster, met: &Met) -> Result<Arc<Link>, HandshakeError> {
        let attempt = roster.attempt();
        roster.begin(attempt, met)?;
        roster.welcomed(attempt, met, met.advertised.clone())
    }

    fn admit(
        roster: &mut Roster,
        met: &Met,
        lost: Option<LinkId>,
    ) -> Result<Arc<Link>, HandshakeError> {
        roster.admit(met, met.advertised.clone(), lost)
    }

    fn broken() -> End {
        End::Broken(FrameError::Closed)
    }

    fn already(name: &str) -> HandshakeError {
        HandshakeError::Already { name: name.into() }
    }

    #[test]
    fn of_two_dials_at_once_the_lower_name_wins_at_both_ends() {
        let (mut a, mut b) = (roster("a"), roster("b"));
        let (at_a, at_b) = (a.attempt(), b.attempt());
        a.begin(at_a, &met("b", 1, 1)).unwrap();
        b.begin(at_b, &met("a", 1, 2)).unwrap();
        assert_eq!(
            admit(&mut a, &met("b", 1, 2), None).unwrap_err(),
            already("b")
        );
        let kept = admit(&mut b, &met("a", 1, 1), None).unwrap();
        let link = a.welcomed(at_a, &met("b", 1, 1), String::new()).unwrap();
        assert_eq!((link.id, kept.id), ([1; 16], [1; 16]));
        // The dial of b hears nothing of it, or too late.
        let late = b.welcomed(at_b, &met("a", 1, 2), String::new());
        assert_eq!(late.unwrap_err(), already("a"));
        assert_eq!(b.links().len(), 1);
    }

    #[test]
    fn a_dialer_with_a_link_begins_no_other() {
        let mut a = roster("a");
        admit(&mut a, &met("b", 1, 1), None).unwrap();
        assert_eq!(dial(&mut a, &met("b", 1, 2)).unwrap_err(), already("b"));
        let attempt = a.attempt();
        a.begin(attempt, &met("c", 1, 3)).unwrap();
        assert_eq!(dial(&mut a, &met("c", 1, 4)).unwrap_err(), already("c"));
        assert_eq!(a.abandon(attempt).as_deref(), Some("c"));
        dial(&mut a, &met("c", 1, 5)).unwrap();
    }

    #[test]
    fn who_has_lost_a_link_replaces_it_at_the_other_end() {
        let mut a = roster("a");
        let first = dial(&mut a, &met("b", 1, 1)).unwrap();
        assert_eq!(
            admit(&mut a, &met("b", 1, 2), Some([9; 16])).unwrap_err(),
            already("b")
        );
        let second = admit(&mut a, &met("b", 1, 3), Some([1; 16])).unwrap();
        assert!(second.is_current() && !first.is_current());
        // Dialled by the other both times: it has lost the one before, whatever it says.
        let third = admit(&mut a, &met("b", 1, 4), None).unwrap();
        assert!(third.is_current() && !second.is_current());
        assert!(!a.ended(&first, &broken()) && !a.ended(&second, &broken()));
        assert!(a.ended(&third, &broken()));
        let attempt = a.attempt();
        assert_eq!(a.begin(attempt, &met("b", 1, 5)), Ok(Some([4; 16])));
    }

    #[test]
    fn a_higher_incarnation_replaces_and_a_lower_is_refused() {
        let mut a = roster("a");
        let old = dial(&mut a, &met("b", 5, 1)).unwrap();
        let new = admit(&mut a, &met("b", 6, 2), None).unwrap();
        assert!(!old.is_current() && new.is_current());
        let refused = admit(&mut a, &met("b", 5, 3), Some([2; 16])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "an earlier incarnation: the other node is \"b\" with 5, and 6 is connected; do two nodes have this name?"
        );
        assert_eq!(dial(&mut a, &met("b", 5, 3)).unwrap_err(), refused);
        let newer = dial(&mut a, &met("b", 7, 4)).unwrap();
        assert!(newer.is_current());
        a.ended(&newer, &broken());
        admit(&mut a, &met("b", 5, 5), None).unwrap();
    }

    #[test]
    fn two_refused_dials_in_a_row_tell_that_a_process_is_gone() {
        use Sign::{Other, Refused, TimedOut};
        let find = |signs: &[Sign]| {
            let mut a = roster("a");
            let link = dial(&mut a, &met("b", 1, 1)).unwrap();
            a.ended(&link, &broken());
            let b: Arc<str> = "b".into();
            assert_eq!(a.dialled(&b, "elsewhere:1", Refused), None);
            let found = |&sign| a.dialled(&b, "b:1", sign).is_some();
            signs.iter().map(found).collect::<Vec<_>>()
        };
        assert_eq!(find(&[Refused, Refused, Refused]), [false, true, false]);
        assert_eq!(
            find(&[Refused, Other, Refused, Refused]),
            [false, false, false, true]
        );
        assert_eq!(find(&[TimedOut, Refused, Refused]), [false; 3]);
        assert_eq!(find(&[Refused, TimedOut, Refused, Refused]), [false; 4]);
        assert_eq!(
            find(&[Other, Other, Other, Other, Refused, Refused]),
            [false; 6]
        );
    }

    #[test]
    fn a_node_that_came_back_is_not_gone() {
        let mut a = roster("a");
        let b: Arc<str> = "b".into();
        let link = dial(&mut a, &met("b", 1, 1)).unwrap();
        a.ended(&link, &broken());
        assert!(a.is_suspected("b", "b:1"));
        a.dialled(&b, "b:1", Sign::Refused);
        let gone = a.dialled(&b, "b:1", Sign::Refused).unwrap();
        assert!(a.is_still(&gone) && !a.is_suspected("b", "b:1"));
        admit(&mut a, &met("b", 1, 2), None).unwrap();
        assert!(!a.is_still(&gone));
    }

    #[test]
    fn only_a_broken_link_raises_suspicion() {
        for (end, suspected) in [
            (broken(), true),
            (End::Silent(Duration::ZERO), true),
            (End::Kind(9), false),
            (End::Broken(FrameError::Empty), false),
            (End::Closing, false),
        ] {
            let mut a = roster("a");
            let link = dial(&mut a, &met("b", 1, 1)).unwrap();
            a.ended(&link, &end);
            assert_eq!(a.is_suspected("b", "b:1"), suspected, "{end}");
        }
    }

    #[test]
    fn the_number_of_nodes_is_bounded() {
        let mut a = roster("a");
        assert!(a.introduce(&"x".into(), "x:1"));
        assert!(a.introduce(&"y".into(), "y:1"));
        assert!(!a.introduce(&"z".into(), "z:1"));
        assert!(!a.introduce(&"a".into(), "a:1"));
        dial(&mut a, &met("b", 1, 1)).unwrap();
        dial(&mut a, &met("c", 1, 2)).unwrap();
        let peers: Vec<_> = a.peers().into_iter().map(|peer| peer.name).collect();
        assert_eq!(peers, ["b".into(), "c".into()]);
        let error = dial(&mut a, &met("d", 1, 3)).unwrap_err();
        assert_eq!(error, HandshakeError::TooManyPeers { max: 2 });
    }
}
