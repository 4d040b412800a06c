//! The links between nodes, as turmoil has them.
//!
//! Cuts and holds may overlap, of which turmoil knows the last only: a partition drops what was held, a
//! release heals what was cut. So what lies on a link is counted here, and turmoil told what comes of it.

use std::sync::Arc;

use turmoil::Sim;

use super::stage::Stage;

/// What turmoil is told of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Held,
    Cut,
    /// From the first to the second only.
    There,
    /// From the second to the first only.
    Back,
}

/// All links between nodes.
pub(super) struct Links {
    stage: Arc<Stage>,
    names: Vec<Arc<str>>,
    /// From each node to each.
    cuts: Vec<u32>,
    holds: Vec<u32>,
    states: Vec<State>,
}

impl Links {
    pub(super) fn new(stage: Arc<Stage>, names: Vec<Arc<str>>) -> Self {
        let links = names.len() * names.len();
        Self {
            stage,
            names,
            cuts: vec![0; links],
            holds: vec![0; links],
            states: vec![State::Open; links],
        }
    }

    fn link(&self, from: usize, to: usize) -> usize {
        from * self.names.len() + to
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[self.link(from, to)] > 0
    }

    pub(super) fn is_held(&self, from: usize, to: usize) -> bool {
        self.holds[self.link(from, to)] > 0
    }

    /// Nothing that is sent from the one arrives at the other.
    pub(super) fn cut(&mut self, sim: &Sim<'_>, from: usize, to: usize) {
        let link = self.link(from, to);
        self.cuts[link] += 1;
        self.tell(sim, from, to);
    }

    pub(super) fn mend(&mut self, sim: &Sim<'_>, from: usize, to: usize) {
        let link = self.link(from, to);
        self.cuts[link] = self.cuts[link].saturating_sub(1);
        self.tell(sim, from, to);
    }

    /// What is sent either way waits.
    pub(super) fn hold(&mut self, sim: &Sim<'_>, from: usize, to: usize) {
        let link = self.link(from, to);
        self.holds[link] += 1;
        self.tell(sim, from, to);
    }

    pub(super) fn release(&mut self, sim: &Sim<'_>, from: usize, to: usize) {
        let link = self.link(from, to);
        self.holds[link] = self.holds[link].saturating_sub(1);
        self.tell(sim, from, to);
    }

    /// Nothing lies on the link any more.
    pub(super) fn clear(&mut self, sim: &Sim<'_>, from: usize, to: usize) {
        let link = self.link(from, to);
        (self.cuts[link], self.holds[link]) = (0, 0);
        self.tell(sim, from, to);
    }

    fn tell(&mut self, sim: &Sim<'_>, from: usize, to: usize) {
        let (is_cut, is_held) = (self.is_cut(from, to), self.is_held(from, to));
        self.stage.set_link(from, to, is_cut, is_held);
        let (one, other) = (from.min(to), from.max(to));
        let is_held = self.is_held(one, other) || self.is_held(other, one);
        let state = match (self.is_cut(one, other), self.is_cut(other, one)) {
            (true, true) => State::Cut,
            (true, false) => State::There,
            (false, true) => State::Back,
            (false, false) if is_held => State::Held,
            (false, false) => State::Open,
        };
        let link = self.link(one, other);
        if state == self.states[link] {
            return;
        }
        self.states[link] = state;
        let (one, other) = (&*self.names[one], &*self.names[other]);
        // Open, with what was held on its way; then whatever lies on it.
        sim.release(one, other);
        match state {
            State::Open => {}
            State::Held => sim.hold(one, other),
            State::Cut => sim.partition(one, other),
            State::There => sim.partition_oneway(one, other),
            State::Back => sim.partition_oneway(other, one),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;
    use std::time::Duration;

    use turmoil::net::UdpSocket;

    use super::*;
    use crate::bench;
    use crate::sabotage::Saboteur;

    const TICK: Duration = Duration::from_millis(10);
    const PORT: u16 = 1;

    /// Two hosts that send each other a number each tick.
    struct Pair {
        sim: Sim<'static>,
        links: Links,
        /// What has arrived at each since it was last asked for.
        arrived: [Arc<Mutex<Vec<u8>>>; 2],
    }

    impl Pair {
        fn new() -> Self {
            let schedule = bench::workload(1);
            let stage = Arc::new(Stage::new(&schedule, Saboteur::new(None, 0)));
            let mut sim = turmoil::Builder::new()
                .tick_duration(TICK)
                .min_message_latency(Duration::ZERO)
                .max_message_latency(Duration::from_millis(1))
                .simulation_duration(Duration::MAX)
                .build();
            let arrived = [(); 2].map(|()| Arc::default());
            let names = [stage.name(0), stage.name(1)];
            for (at, arrived) in arrived.iter().enumerate() {
                let (arrived, other) = (Arc::clone(arrived), Arc::clone(&names[1 - at]));
                sim.client(&*names[at], talk(other, arrived));
            }
            let links = Links::new(stage, names.to_vec());
            let mut pair = Self {
                sim,
                links,
                arrived,
            };
            pair.arrives(true, true);
            pair
        }

        /// Whether something arrives from the first at the second, and back.
        #[track_caller]
        fn arrives(&mut self, there: bool, back: bool) {
            let mut told = || {
                for _ in 0..5 {
                    self.sim.step().unwrap();
                }
                let [back, there] = &self.arrived;
                [there, back]
                    .map(|arrived| !std::mem::take(&mut *arrived.lock().unwrap()).is_empty())
            };
            // What was on its way before is of no account.
            told();
            assert_eq!(told(), [there, back]);
        }
    }

    async fn talk(other: Arc<str>, arrived: Arc<Mutex<Vec<u8>>>) -> turmoil::Result {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        let mut every = tokio::time::interval(TICK);
        let mut byte = [0];
        for number in 0.. {
            tokio::select! {
                biased;
                _ = every.tick() => {
                    socket.send_to(&[number], (&*other, PORT)).await?;
                }
                received = socket.recv_from(&mut byte) => {
                    received?;
                    arrived.lock().unwrap().push(byte[0]);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_link_is_cut_until_its_last_cut_is_mended() {
        let mut pair = Pair::new();
        let Pair { sim, links, .. } = &mut pair;
        for _ in 0..2 {
            links.cut(sim, 0, 1);
            links.cut(sim, 1, 0);
        }
        pair.arrives(false, false);
        pair.links.mend(&pair.sim, 0, 1);
        pair.links.mend(&pair.sim, 1, 0);
        pair.arrives(false, false);
        pair.links.mend(&pair.sim, 0, 1);
        pair.arrives(true, false);
        pair.links.mend(&pair.sim, 1, 0);
        pair.arrives(true, true);
        // One mend too many is none.
        pair.links.mend(&pair.sim, 1, 0);
        pair.links.cut(&pair.sim, 1, 0);
        pair.arrives(true, false);
    }

    #[test]
    fn a_cut_one_way_leaves_the_other() {
        let mut pair = Pair::new();
        pair.links.cut(&pair.sim, 0, 1);
        pair.arrives(false, true);
        assert!(pair.links.stage.is_cut(0, 1));
        pair.links.cut(&pair.sim, 1, 0);
        pair.links.mend(&pair.sim, 0, 1);
        pair.arrives(true, false);
    }

    #[test]
    fn what_is_held_arrives_when_the_last_hold_ends() {
        let mut pair = Pair::new();
        pair.links.hold(&pair.sim, 0, 1);
        pair.links.hold(&pair.sim, 1, 0);
        pair.arrives(false, false);
        pair.links.release(&pair.sim, 0, 1);
        pair.arrives(false, false);
        let held_from = pair.sim.elapsed();
        pair.links.release(&pair.sim, 1, 0);
        pair.sim.step().unwrap();
        pair.sim.step().unwrap();
        assert!(held_from >= TICK * 20);
        let arrived = pair.arrived[1].lock().unwrap().len();
        assert!(arrived >= 20, "{arrived} arrived of what was held");
    }

    #[test]
    fn a_hold_outlasts_a_cut_and_a_cut_a_hold() {
        let mut pair = Pair::new();
        pair.links.hold(&pair.sim, 0, 1);
        pair.links.cut(&pair.sim, 0, 1);
        pair.links.cut(&pair.sim, 1, 0);
        pair.arrives(false, false);
        pair.links.mend(&pair.sim, 0, 1);
        pair.links.mend(&pair.sim, 1, 0);
        assert!(pair.links.is_held(0, 1) && !pair.links.is_cut(0, 1));
        pair.arrives(false, false);
        pair.links.cut(&pair.sim, 1, 0);
        pair.links.release(&pair.sim, 0, 1);
        pair.arrives(true, false);
        pair.links.clear(&pair.sim, 1, 0);
        pair.arrives(true, true);
    }
}
