//! What must hold after and during any history, whatever is lost, late, repeated or reordered.

use std::collections::BTreeSet;

use presence_core::cloud::Cloud;
use presence_core::set::{Diff, Limits, Set};
use proptest::prelude::*;

use crate::cases;
use crate::heal::Net;
use crate::op::{Kinds, Op, Script, scripts};
use crate::presence::{id, sorted, state};
use crate::world::World;

fn nets() -> impl Strategy<Value = Net> {
    prop_oneof![Just(Net::Full), Just(Net::Line)]
}

/// Answers in chunks from one value on, or whole.
fn chunk_limits() -> impl Strategy<Value = usize> {
    prop_oneof![1..6_usize, Just(usize::MAX)]
}

/// A set that knows every replica of a world and has heard nothing.
pub(crate) fn listener(world: &World) -> Set {
    let mut set = Set::new(id("z"), Limits::default(), 3);
    for lives in &world.lives {
        set.up(&lives[lives.len() - 1]).unwrap();
    }
    set
}

/// Delivers messages by their numbers, over again as long as a part waits for another; what the
/// listener then holds.
fn hears(world: &World, messages: &[usize]) -> String {
    let mut set = listener(world);
    loop {
        let before = state(&set);
        let mut deferred = 0;
        for &message in messages {
            let mut diff = Diff::new();
            set.merge(&world.pool[message].delta, &mut diff).unwrap();
            deferred += diff.deferred;
        }
        if deferred == 0 || state(&set) == before {
            // What it would tell of others' leaves does depend on the order.
            set.take_delta();
            return state(&set);
        }
    }
}

/// A number for each message, as good as random, the same for the same seed (splitmix64).
pub(crate) fn draw(seed: u64, message: usize) -> u64 {
    let mut z = seed.wrapping_add((message as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The same history, but no place is ever joined twice, and no meta is updated.
fn without_returns(mut script: Script) -> Script {
    let mut joined = BTreeSet::new();
    script.ops.retain(|op| match op {
        Op::Join { at, place } => joined.insert((*at, place.topic, place.pid, place.key)),
        Op::Update { .. } | Op::Crowd { .. } => false,
        _ => true,
    });
    script
}

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn all_agree_on_what_the_operations_say_once_the_faults_are_over(
        script in scripts(Kinds::ALL, 80),
        net in nets(),
        limit in chunk_limits(),
    ) {
        let mut world = World::new(&script, 1);
        world.run(&script)?;
        let healed = world
            .meet()
            .and_then(|()| world.exchange(net, limit))
            .and_then(|()| world.agreed());
        world.explain(healed)?;
    }

    #[test]
    fn what_has_left_is_never_listed_again(
        script in scripts(Kinds::ALL, 60),
        limit in chunk_limits(),
    ) {
        let mut world = World::new(&script, 1);
        world.run(&script)?;
        let healed = world
            .meet()
            .and_then(|()| world.exchange(Net::Full, limit))
            .and_then(|()| world.agreed())
            .and_then(|()| world.nothing_comes_back())
            .and_then(|()| world.agreed());
        world.explain(healed)?;
        // The last node goes for good: late messages bring back nothing of it either.
        let gone = world.nodes.pop().map(|node| node.id).expect("there are two at least");
        for node in 0..world.nodes.len() {
            let removed = world.remove(node, &gone).map(|_| ());
            world.explain(removed)?;
        }
        let late = world.nothing_comes_back();
        world.explain(late)?;
        for set in world.sets() {
            prop_assert!(set.list_all().all(|entry| *entry.replica != gone));
        }
    }

    #[test]
    fn what_is_listed_stays_listed_until_it_leaves(
        script in scripts(Kinds { observed: false, ..Kinds::ALL }, 120),
    ) {
        // Checked after every merge, see `World::lost_nothing`.
        World::new(&script, 1).run(&script)?;
    }

    #[test]
    fn joins_and_leaves_fold_to_the_list(script in scripts(Kinds::ALL, 120)) {
        // Checked after every step, see `Watch`.
        World::new(&script, 1).run(&script)?;
    }

    #[test]
    fn a_second_merge_changes_nothing(script in scripts(Kinds::ALL, 60)) {
        let mut world = World::new(&script, 1);
        world.run(&script)?;
        for node in &mut world.nodes {
            for sent in &world.pool {
                let mut diff = Diff::new();
                node.set.merge(&sent.delta, &mut diff).unwrap();
                let once = state(&node.set);
                node.set.merge(&sent.delta, &mut diff).unwrap();
                prop_assert!(diff.joins.is_empty() && diff.leaves.is_empty(), "{diff:?}");
                prop_assert_eq!(once, state(&node.set));
            }
        }
    }

    #[test]
    fn the_order_in_which_all_messages_arrive_does_not_matter(
        script in scripts(Kinds { chunks: false, faults: false, ..Kinds::ALL }, 80),
        seed: u64,
    ) {
        let mut world = World::new(&script, 1);
        world.run(&script)?;
        for node in 0..script.nodes {
            let told = world.step(Op::TakeDelta { at: node });
            world.explain(told)?;
        }
        let order: Vec<usize> = (0..world.pool.len()).collect();
        let mut other = order.clone();
        other.sort_by_key(|&message| draw(seed, message));
        // Some arrive twice.
        let again: Vec<_> = other.iter().copied().filter(|m| draw(seed, *m).is_multiple_of(3)).collect();
        let repeated = [other.clone(), again].concat();
        prop_assert_eq!(hears(&world, &order), hears(&world, &other));
        prop_assert_eq!(hears(&world, &order), hears(&world, &repeated));
    }

    #[test]
    fn the_order_of_some_messages_does_not_matter_where_nothing_returns(
        script in scripts(Kinds { chunks: false, faults: false, ..Kinds::ALL }, 80),
        seed: u64,
    ) {
        let script = without_returns(script);
        let mut world = World::new(&script, 1);
        world.run(&script)?;
        let arrive = |message: &usize| !draw(seed, *message).is_multiple_of(4);
        let order: Vec<usize> = (0..world.pool.len()).filter(arrive).collect();
        let mut other = order.clone();
        other.sort_by_key(|&message| draw(seed, message));
        prop_assert_eq!(hears(&world, &order), hears(&world, &other));
    }

    #[test]
    fn any_part_of_an_answer_in_any_order_is_sound(
        script in scripts(Kinds { faults: false, ..Kinds::ALL }, 60),
        (from, to) in (0..4_usize, 1..4_usize),
        limit in 1..4_usize,
        seed: u64,
    ) {
        let mut world = World::new(&script, 1);
        world.run(&script)?;
        let nodes = world.nodes.len();
        let from = from % nodes;
        let to = (from + 1 + to % (nodes - 1)) % nodes;
        let met = world.meet();
        world.explain(met)?;
        // The chunks lie in the pool, and come in an order of their own: some twice, some never.
        let first = world.pool.len();
        let chunks = world.plan(from, to, limit);
        world.explain(chunks)?;
        let mut order: Vec<usize> = (first..world.pool.len()).collect();
        order.sort_by_key(|&message| draw(seed, message));
        for message in order.into_iter().filter(|message| !draw(seed, *message).is_multiple_of(4)) {
            let merged = world.deliver(message, to);
            world.explain(merged)?;
        }
        // Then a whole answer: both have seen the same, and hold the same.
        let whole = world.ask(from, to, usize::MAX);
        world.explain(whole)?;
        let (sender, receiver) = (&world.nodes[from].set, &world.nodes[to].set);
        for (id, _) in sender.replicas().filter(|(id, _)| *id != receiver.replica()) {
            let dominates = receiver.counter(id) >= sender.counter(id);
            prop_assert!(dominates, "{} is behind of {}", receiver.replica(), id);
            if sender.counter(id) == receiver.counter(id) && id == sender.replica() {
                prop_assert_eq!(sorted(sender.entries_of(id)), sorted(receiver.entries_of(id)));
            }
        }
    }

    #[test]
    fn memory_follows_what_is_present(
        script in scripts(Kinds::ALL, 60),
        net in nets(),
        limit in chunk_limits(),
    ) {
        let mut world = World::new(&script, 1);
        world.run(&script)?;
        let left = world
            .meet()
            .and_then(|()| world.everyone_leaves())
            .and_then(|()| world.exchange(net, limit));
        world.explain(left)?;
        for set in world.sets() {
            prop_assert_eq!((set.len(), set.topic_count(), set.topics().count()), (0, 0, 0));
            prop_assert_eq!(set.replicas().count(), world.nodes.len());
            for (id, _) in set.replicas() {
                prop_assert!(set.cloud(id).is_some_and(Cloud::is_empty));
            }
            // A full state of nothing is one interval a replica, however long the history was.
            let everyone = world.nodes[0].set.clocks();
            prop_assert!(set.extract(&id("z"), &everyone).size() <= world.nodes.len());
        }
    }
}

#[test]
fn a_long_life_of_few_presences_leaves_little_behind() {
    let script = Script {
        nodes: 2,
        met: true,
        removal_log: 8,
        observed: 8,
        ops: Vec::new(),
    };
    let mut world = World::new(&script, 1);
    let place = |n: u32| crate::op::Spot {
        topic: (n % 3) as u8,
        pid: (n % 4) as u8,
        key: (n % 5) as u8,
    };
    for n in 0..150 {
        let at = 0;
        for op in [
            Op::Join {
                at,
                place: place(n),
            },
            Op::Update {
                at,
                place: place(n),
            },
            Op::Leave {
                at,
                place: place(n + 3),
            },
            Op::LeavePid {
                at,
                pid: (n % 7) as u8,
            },
        ] {
            world.step(op).unwrap();
        }
        // Every third delta is lost, the others come late.
        world.step(Op::TakeDelta { at }).unwrap();
        if n % 3 != 0 {
            world
                .step(Op::Deliver {
                    message: (n % 5) as u8,
                    to: 1,
                })
                .unwrap();
        }
    }
    world.exchange(Net::Full, usize::MAX).unwrap();
    world.agreed().unwrap();
    let owner = world.nodes[0].id.clone();
    let set = &world.nodes[1].set;
    assert!(set.len() < 30, "{} entries", set.len());
    assert!(set.counter(&owner).unwrap() > 350);
    assert!(world.nodes[1].set.extract(&id("z"), &set.clocks()).size() <= 2 * set.len() + 1);
}
