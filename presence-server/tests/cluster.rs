//! A cluster as its operator and its clients meet it: programs that run, are killed, stopped, paused and
//! started again.
//!
//! Periods are short, so that nothing takes long. Each bound in time is one that the documentation
//! gives, with slack for a busy machine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a test begins is no task of a node"
)]

mod program;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use presence_core::client::{ChannelPresence, Event};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use program::{Client, Program, Site, patient};

/// How often the nodes speak.
const PERIOD: Duration = Duration::from_millis(200);

/// The time of so many periods, and some for the machine.
fn periods(count: u32) -> Duration {
    PERIOD * count + Duration::from_millis(200)
}

const SECRET: &str = "--cluster-secret=of these tests alone";

/// The addresses of a cluster's nodes.
struct Cluster {
    addresses: Vec<String>,
    flags: Vec<String>,
}

impl Cluster {
    /// A cluster of so many nodes, none of which runs yet.
    async fn new(nodes: usize, flags: &[&str]) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        }
        let addresses = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().to_string());
        Self {
            addresses: addresses.collect(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        }
    }

    async fn started(nodes: usize, flags: &[&str]) -> (Self, Vec<Program>) {
        let cluster = Self::new(nodes, flags).await;
        let programs = (0..nodes).map(|n| cluster.start(n)).collect();
        (cluster, programs)
    }

    fn start(&self, n: usize) -> Program {
        let own = [
            format!("--node=n{n}"),
            format!("--cluster-bind={}", self.addresses[n]),
            format!("--join={}", self.addresses.join(",")),
            format!("--broadcast-period={}", PERIOD.as_millis()),
            "--max-silent-periods=5".into(),
            SECRET.into(),
        ];
        let flags: Vec<_> = own.iter().chain(&self.flags).map(|flag| &**flag).collect();
        Program::start(&flags)
    }
}

/// A client that has joined a room and keeps its list as phoenix.js does.
struct Member {
    client: Client,
    presence: ChannelPresence,
    /// How often each key left.
    left: BTreeMap<String, usize>,
}

impl Member {
    async fn join(site: Site, name: &str) -> Self {
        Self::try_join(site, name).await.unwrap()
    }

    /// `None` where the node does not take it.
    async fn try_join(site: Site, name: &str) -> Option<Self> {
        let mut client = site.try_connect("").await?;
        let join = json!(["1", "1", "room:lobby", "phx_join", { "name": name }]);
        client.try_send(&join).await?;
        let mut presence = ChannelPresence::new(presence_core::client::Config::default());
        presence.rejoined("1");
        let mut member = Self {
            client,
            presence,
            left: BTreeMap::new(),
        };
        while member.presence.is_pending() {
            member.hear().await?;
        }
        Some(member)
    }

    /// The number of metas of each key.
    fn list(&self) -> BTreeMap<&str, usize> {
        let presences = self.presence.state().iter();
        presences
            .map(|(key, presence)| (key, presence.metas().len()))
            .collect()
    }

    /// Takes in the next message; `None` once the socket is closed.
    async fn hear(&mut self) -> Option<()> {
        let frame = self.client.next().await?;
        let (event, payload) = (frame[3].as_str()?, frame[4].to_string());
        self.presence.handle_message(event, &payload).unwrap();
        while let Some(event) = self.presence.poll_event() {
            if let Event::Leave { key, current, .. } = event
                && current.metas().is_empty()
            {
                *self.left.entry(key.to_string()).or_default() += 1;
            }
        }
        Some(())
    }

    /// Waits until its list is this; how long it took.
    async fn sees(&mut self, list: &[(&str, usize)]) -> Duration {
        let start = Instant::now();
        let wanted: BTreeMap<_, _> = list.iter().copied().collect();
        while self.list() != wanted {
            let heard = timeout(Duration::from_secs(20), self.hear()).await;
            let heard =
                heard.unwrap_or_else(|_| panic!("it sees {:?}, not {wanted:?}", self.list()));
            heard.expect("its socket is closed");
        }
        start.elapsed()
    }

    /// Hears what comes in a time.
    async fn hear_for(&mut self, time: Duration) {
        let heard = async { while self.hear().await.is_some() {} };
        let _ = timeout(time, heard).await;
    }
}

/// The median of what was measured.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn clients_of_any_node_see_those_of_the_others_within_a_period() {
    let (_cluster, nodes) = Cluster::started(3, &[]).await;
    let mut alice = Member::join(*nodes[0], "Alice").await;
    let mut bob = Member::join(*nodes[1], "Bob").await;
    let mut carol = Member::join(*nodes[2], "Carol").await;
    let all = [("Alice", 1), ("Bob", 1), ("Carol", 1)];
    for member in [&mut alice, &mut bob, &mut carol] {
        member.sees(&all).await;
    }
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let dave = Member::join(*nodes[1], "Dave").await;
        let with_dave = [("Alice", 1), ("Bob", 1), ("Carol", 1), ("Dave", 1)];
        joins.push(alice.sees(&with_dave).await);
        drop(dave);
        leaves.push(alice.sees(&all).await);
    }
    assert!(median(joins) <= periods(1) && median(leaves) <= periods(1));
}

#[tokio::test]
async fn a_node_that_is_killed_takes_its_presences_along_and_comes_back_without_ghosts() {
    let (cluster, mut nodes) = Cluster::started(3, &[]).await;
    let mut alice = Member::join(*nodes[0], "Alice").await;
    let mut bob = Member::join(*nodes[1], "Bob").await;
    let carol = Member::join(*nodes[2], "Carol").await;
    for member in [&mut alice, &mut bob] {
        member.sees(&[("Alice", 1), ("Bob", 1), ("Carol", 1)]).await;
    }
    // It is killed as it is dropped.
    drop(nodes.pop());
    for member in [&mut alice, &mut bob] {
        let left = member.sees(&[("Alice", 1), ("Bob", 1)]).await;
        assert!(left <= periods(3), "{left:?}");
    }
    drop(carol);

    nodes.push(cluster.start(2));
    let mut carol = Member::join(*nodes[2], "Carol").await;
    for member in [&mut alice, &mut bob, &mut carol] {
        member.sees(&[("Alice", 1), ("Bob", 1), ("Carol", 1)]).await;
        member.left.clear();
        member.hear_for(periods(12)).await;
        assert_eq!(member.list().len(), 3);
        assert_eq!(member.left, BTreeMap::new());
    }
}

#[tokio::test]
async fn a_node_that_is_paused_is_down_until_it_goes_on_and_accuses_nobody() {
    let (_cluster, nodes) = Cluster::started(3, &["--down-period=1600"]).await;
    let mut alice = Member::join(*nodes[0], "Alice").await;
    let mut bob = Member::join(*nodes[1], "Bob").await;
    let mut carol = Member::join(*nodes[2], "Carol").await;
    let all = [("Alice", 1), ("Bob", 1), ("Carol", 1)];
    for member in [&mut alice, &mut bob, &mut carol] {
        member.sees(&all).await;
    }
    nodes[2].signal("STOP");
    let left = alice.sees(&[("Alice", 1), ("Bob", 1)]).await;
    assert!(left >= Duration::from_millis(1000), "{left:?}");
    bob.sees(&[("Alice", 1), ("Bob", 1)]).await;
    nodes[2].signal("CONT");
    for member in [&mut alice, &mut bob] {
        member.sees(&all).await;
    }
    carol.hear_for(periods(12)).await;
    assert_eq!(carol.left, BTreeMap::new());
    assert_eq!(carol.list().len(), 3);
}

#[tokio::test]
async fn a_goodbye_arrives() {
    let (_cluster, mut nodes) = Cluster::started(2, &["--permdown-on-shutdown"]).await;
    let mut alice = Member::join(*nodes[0], "Alice").await;
    let _bob = Member::join(*nodes[1], "Bob").await;
    alice.sees(&[("Alice", 1), ("Bob", 1)]).await;
    nodes[1].signal("TERM");
    let left = alice.sees(&[("Alice", 1)]).await;
    assert!(left <= periods(1), "{left:?}");
    assert_eq!(nodes.pop().unwrap().ended().await.code, Some(0));
}

/// A client that goes to the next node whenever its own is gone, until it is told to end.
async fn wander(
    name: String,
    sites: Arc<Vec<std::sync::Mutex<Option<SocketAddr>>>>,
    mut at: usize,
    is_over: Arc<AtomicBool>,
    seen: Arc<Seen>,
) -> Option<Member> {
    loop {
        let address = *sites[at % sites.len()].lock().unwrap();
        let joined = match address {
            Some(address) => Member::try_join(Site { address }, &name).await,
            None => None,
        };
        let Some(mut member) = joined else {
            at += 1;
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            if is_over.load(Ordering::Relaxed) {
                return Some(member);
            }
            let heard = timeout(Duration::from_millis(50), member.hear()).await;
            seen.look(&name, &member);
            if matches!(heard, Ok(None)) {
                break;
            }
        }
        at += 1;
    }
}

/// What clients saw of others that were there all the time.
#[derive(Default)]
struct Seen {
    blinks: AtomicUsize,
    doubles: AtomicUsize,
}

impl Seen {
    fn look(&self, own: &str, member: &Member) {
        let blinks = member.left.keys().filter(|key| *key != own).count();
        self.blinks.fetch_max(blinks, Ordering::Relaxed);
        let doubles = member
            .list()
            .into_values()
            .filter(|&count| count > 1)
            .count();
        self.doubles.fetch_max(doubles, Ordering::Relaxed);
    }
}

/// Stops each node in turn while clients come and go, and starts it again; what they saw.
async fn renewed(flags: &[&str]) -> Arc<Seen> {
    let (cluster, nodes) = Cluster::started(3, flags).await;
    let sites = nodes
        .iter()
        .map(|node| std::sync::Mutex::new(Some(node.address)));
    let sites = Arc::new(sites.collect::<Vec<_>>());
    let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
    let is_over = Arc::<AtomicBool>::default();
    let seen = Arc::<Seen>::default();
    let names: Vec<_> = (0..12).map(|n| format!("user{n}")).collect();
    let clients: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let (sites, is_over) = (Arc::clone(&sites), Arc::clone(&is_over));
            tokio::spawn(wander(name.clone(), sites, n, is_over, Arc::clone(&seen)))
        })
        .collect();
    sleep(periods(3)).await;
    seen.blinks.store(0, Ordering::Relaxed);
    for n in 0..nodes.len() {
        let node = nodes[n].take().unwrap();
        *sites[n].lock().unwrap() = None;
        node.signal("TERM");
        assert_eq!(node.ended().await.code, Some(0));
        // As long as a program takes to be replaced, and clients to come back elsewhere.
        sleep(PERIOD).await;
        let node = cluster.start(n);
        *sites[n].lock().unwrap() = Some(node.address);
        nodes[n] = Some(node);
        sleep(periods(3)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let all: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
    let mut members = Vec::new();
    for client in clients {
        members.push(patient(client).await.unwrap().unwrap());
    }
    for member in &mut members {
        member.sees(&all).await;
    }
    for node in nodes.iter().flatten() {
        let with_late = [&[("late", 1)], &*all].concat();
        let mut late = Member::join(**node, "late").await;
        late.sees(&with_late).await;
        drop(late);
        members[0].sees(&all).await;
    }
    seen
}

#[tokio::test]
async fn a_rolling_deploy_loses_nobody() {
    renewed(&[]).await;
}

#[tokio::test]
async fn with_handover_nobody_blinks_or_counts_twice() {
    let seen = renewed(&["--handover"]).await;
    let (blinks, doubles) = (&seen.blinks, &seen.doubles);
    assert_eq!(doubles.load(Ordering::Relaxed), 0);
    assert_eq!(blinks.load(Ordering::Relaxed), 0);
}
