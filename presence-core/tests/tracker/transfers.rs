//! Answers: asking for what is missing, and being told.

use presence_core::clock::Context;
use presence_core::tracker::journal::{Input, Outcome};
use presence_core::wire::cluster::{Body, Message};

use super::world::{Sent, World, config, id, seconds, word};

/// Two nodes with ten values in a message, of which `a` holds 35 that `b` has not heard of: four parts,
/// and one of what is gone.
fn lagging() -> World {
    let mut config = config();
    config.chunk_values = 10;
    let mut world = World::with(config, &["a", "b"]);
    world.run(seconds(2.0));
    world.cut("a", "b");
    let pids = world.track_many("a", "t", "user", 36);
    world.untrack_pid("a", pids[0]);
    world.run(seconds(1.0));
    world.heal();
    world
}

fn part(sent: &Sent) -> Option<(u32, usize, bool)> {
    match &sent.message.body {
        Body::TransferReply {
            part, delta, last, ..
        } => Some((*part, delta.values().count(), *last)),
        _ => None,
    }
}

fn number(sent: &Sent) -> Option<u32> {
    part(sent).map(|(number, ..)| number)
}

/// The parts of answers that were sent.
fn parts(world: &World) -> Vec<Sent> {
    let sent = world.sent.iter();
    sent.filter(|sent| part(sent).is_some()).cloned().collect()
}

/// Guards against: a request in each look, although the answer is under way.
#[test]
fn an_answer_is_waited_for_before_it_is_asked_for_again() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(2.0));
    world.cut_one_way("a", "b");
    world.track("a", "t", "alice");
    world.run(seconds(1.0));
    world.heal();
    world.lose = |sent| matches!(sent.message.body, Body::TransferReply { .. });
    let mark = world.sent.len();
    world.connected("a", "b");
    // A look comes every two seconds, and an answer is waited for as long.
    let mut asked = Vec::new();
    for _ in 0..12 {
        world.run(seconds(1.0));
        asked.push(
            world
                .words("b", mark)
                .iter()
                .filter(|&&word| word == "request")
                .count(),
        );
    }
    assert_eq!(asked, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    let ids: Vec<u64> = world.sent[mark..]
        .iter()
        .filter_map(|sent| match sent.message.body {
            Body::TransferRequest { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    // Four times again, then anew.
    assert_eq!(ids, [1, 1, 1, 1, 1, 2]);
    assert_eq!(world.stats("b").transfers_asked, 2);
    world.heal();
    world.run(seconds(4.0));
    assert_eq!(world.list("b", "t"), ["alice"]);
}

#[test]
fn an_answer_names_only_what_was_left_where_the_log_reaches_back() {
    let mut config = config();
    config.max_delta_sizes = vec![2];
    for (leaves, incremental) in [(2, true), (3, false)] {
        let mut world = World::with(config.clone(), &["a", "b"]);
        let pids = world.track_many("a", "t", "user", 6);
        world.run(seconds(2.0));
        world.cut("a", "b");
        for &pid in &pids[..leaves] {
            world.untrack_pid("a", pid);
        }
        world.run(seconds(1.0));
        world.heal();
        world.connected("a", "b");
        world.run(seconds(2.0));
        assert_eq!(world.list("b", "t").len(), 6 - leaves);
        let stats = world.stats("a");
        assert_eq!(stats.transfers_incremental, u64::from(incremental));
        assert_eq!(stats.transfers_full, u64::from(!incremental));
        assert_eq!(world.stats("b").transfers_asked, 1);
    }
}

/// Gives the parts of answers that `a` gives unasked now.
fn ahead(world: &mut World) {
    while world.tracker("a").poll_timeout() == Some(world.now) {
        world.call("a", Input::Timeout);
    }
}

/// Guards against: heartbeats that wait behind an answer of many parts, and queues that it floods.
#[test]
fn an_answer_goes_part_by_part_and_heartbeats_go_between() {
    let mut world = lagging();
    world.connected("a", "b");
    world.deliver();
    // What lies between a part and the next is not delivered at once here.
    world.now = seconds(3.125);
    world.call("b", Input::Timeout);
    let request = world.queue.pop_back().unwrap();
    assert_eq!(word(&request.message.body), "request");
    world.give(&request);
    assert_eq!(world.queue.len(), 1, "one part in one call");
    ahead(&mut world);
    let parts: Vec<_> = world.queue.drain(..).collect();
    let told: Vec<_> = parts.iter().filter_map(part).collect();
    let expected = [
        (1, 10, false),
        (2, 10, false),
        (3, 10, false),
        (4, 5, false),
    ];
    assert_eq!(told, expected, "and no more before one has arrived");
    // A heartbeat is told at once, whatever is left of the answer.
    world.track("a", "other", "x");
    world.now += seconds(1.0);
    world.call("a", Input::Timeout);
    let heartbeat = world.queue.pop_front().unwrap();
    assert_eq!(word(&heartbeat.message.body), "delta");
    assert!(world.queue.is_empty());
    world.give(&heartbeat);
    for (sent, given) in parts.iter().zip([1, 0, 0, 0]) {
        world.give(sent);
        let go_on = world.queue.pop_front().unwrap();
        assert_eq!(word(&go_on.message.body), "continue");
        world.give(&go_on);
        assert_eq!(world.queue.len(), given);
        world.deliver();
    }
    assert_eq!(world.list("b", "t").len(), 35);
    assert_eq!(world.list("b", "other").len(), 1);
    assert_eq!(world.stats("a").chunks, 4);
    assert_eq!(world.stats("b").transfers_asked, 1);
}

/// Guards against: an answer of many parts that begins anew for each part that gets lost.
#[test]
fn a_part_that_gets_lost_is_asked_for_again_and_what_came_after_it() {
    let mut world = lagging();
    world.lose = |sent| part(sent).is_some_and(|(part, ..)| part == 2);
    world.connected("a", "b");
    world.run(seconds(1.0));
    assert_eq!(world.list("b", "t").len(), 25);
    world.heal();
    world.run(seconds(2.0));
    assert_eq!(world.list("b", "t").len(), 35);
    let parts = parts(&world);
    let parts: Vec<_> = parts.iter().filter_map(number).collect();
    assert_eq!(parts, [1, 2, 3, 4, 5, 2, 3, 4, 5]);
    assert_eq!(
        world.stats("b").deferred,
        1,
        "what is gone waits for the values"
    );
    assert_eq!(world.stats("b").transfers_asked, 1);
    assert_eq!(world.stats("a").chunks, 8);
}

#[test]
fn a_lost_word_to_go_on_is_said_again() {
    let mut world = lagging();
    world.lose = |sent| matches!(sent.message.body, Body::TransferContinue { .. });
    world.connected("a", "b");
    world.run(seconds(1.0));
    world.heal();
    world.run(seconds(2.0));
    assert_eq!(world.list("b", "t").len(), 35);
    let parts = parts(&world);
    let parts: Vec<_> = parts.iter().filter_map(number).collect();
    assert_eq!(parts, [1, 2, 3, 4, 5]);
}

/// Guards against: a repeated part that is taken for the next, so that the one between is never sent.
#[test]
fn parts_and_words_that_come_twice_lead_to_nothing_more() {
    let mut world = lagging();
    world.connected("a", "b");
    world.run(seconds(1.0));
    assert_eq!(world.list("b", "t").len(), 35);
    let again = parts(&world);
    for sent in &again {
        assert!(world.give(sent));
        assert!(world.queue.is_empty(), "{sent:?}");
    }
    // Not what was given last, nor what comes after the end, nor of another answer.
    for (id, part) in [(1, 0), (1, 1), (1, 4), (1, 7), (2, 5), (0, 5)] {
        let go_on = go_on(id, part);
        assert!(world.give(&go_on));
        assert!(world.queue.is_empty(), "{id} {part}");
    }
    // The last may have got lost.
    world.give(&go_on(1, 5));
    assert_eq!(
        world.queue.pop_front().as_ref().and_then(part),
        Some((5, 0, true))
    );
    // Unless that was said to have arrived.
    for part in [6, 5] {
        world.give(&go_on(1, part));
        assert!(world.queue.is_empty());
    }
}

fn go_on(id: u64, part: u32) -> Sent {
    let body = Body::TransferContinue { id, part };
    let from = self::id("b", 1);
    Sent {
        to: "a".into(),
        message: Message { from, body },
    }
}

/// Guards against: answers that are kept for ever for whoever asked and went away.
#[test]
fn an_answer_that_nobody_takes_is_dropped() {
    // Four times the time for which an answer is waited for.
    for (wait, kept) in [(8.0, true), (9.0, false)] {
        let mut world = lagging();
        world.lose = |sent| matches!(sent.message.body, Body::TransferContinue { .. });
        world.connected("a", "b");
        world.deliver();
        world.now = seconds(3.125);
        world.call("b", Input::Timeout);
        world.deliver();
        ahead(&mut world);
        let mut now = world.now;
        let end = now + seconds(wait);
        while now < end {
            now += seconds(1.0);
            world.now = now;
            world.call("a", Input::Timeout);
        }
        world.queue.clear();
        world.give(&go_on(1, 2));
        assert_eq!(world.queue.len(), usize::from(kept), "after {wait} s");
    }
}

/// Guards against: transfers that echo the asker's own entries back to it, or tell what was not asked.
#[test]
fn an_answer_tells_what_was_asked_for_and_nothing_of_the_asker() {
    let mut world = World::new(&["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        world.track(name, "t", name);
    }
    world.run(seconds(2.0));
    let mut answer = |clocks: &[(&str, u64)]| {
        let clocks = clocks
            .iter()
            .map(|&(name, seen)| (id(name, 1), seen))
            .collect();
        let body = Body::TransferRequest { id: 9, clocks };
        let from = id("b", 1);
        world.give(&Sent {
            to: "a".into(),
            message: Message { from, body },
        });
        match world.queue.pop_front().unwrap().message.body {
            Body::TransferReply {
                id,
                part,
                delta,
                last,
                ..
            } => {
                assert_eq!((id, part, last), (9, 1, true));
                let keys = delta.values().map(|entry| entry.key.as_str().to_owned());
                keys.collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answer(&[("a", 0), ("b", 0), ("c", 0)]), ["a", "c"]);
    assert_eq!(answer(&[("a", 0)]), ["a"]);
    assert_eq!(answer(&[("c", 0), ("nobody", 0)]), ["c"]);
    assert!(answer(&[("b", 0)]).is_empty());
    assert!(answer(&[("a", 1)]).is_empty());
    assert!(answer(&[]).is_empty());
}

/// Guards against: a transfer for ever because of an answer that can't be merged yet or at all.
#[test]
fn an_answer_that_is_refused_ends() {
    let mut world = lagging();
    world.connected("a", "b");
    world.deliver();
    world.now = seconds(3.125);
    world.call("b", Input::Timeout);
    world.queue.clear();
    // It claims a change of b that b never made.
    let mut liar =
        presence_core::set::Set::new(id("b", 1), presence_core::set::Limits::default(), 1);
    liar.join(&"t".into(), presence_core::entry::Pid(1), "x".into(), "{}")
        .unwrap();
    let body = Body::TransferReply {
        id: 1,
        part: 1,
        delta: liar.take_delta(),
        clocks: Context::from_iter([(id("a", 1), 35)]),
        last: false,
    };
    let sent = Sent {
        to: "b".into(),
        message: Message {
            from: id("a", 1),
            body,
        },
    };
    assert!(!world.give(&sent));
    assert!(world.queue.is_empty(), "it is not asked to go on");
    assert_eq!(world.node("b").refusals.len(), 1);
    // The next look asks anew.
    world.run(seconds(3.0));
    assert_eq!(world.list("b", "t").len(), 35);
    assert_eq!(world.stats("b").transfers_asked, 2);
}

#[test]
fn an_input_for_an_answer_that_was_never_asked_for_is_merged_and_nothing_more() {
    let mut world = World::new(&["a", "b"]);
    world.run(seconds(2.0));
    let mut set =
        presence_core::set::Set::new(id("a", 1), presence_core::set::Limits::default(), 1);
    set.join(&"t".into(), presence_core::entry::Pid(1), "x".into(), "{}")
        .unwrap();
    let body = Body::TransferReply {
        id: 7,
        part: 1,
        delta: set.take_delta(),
        clocks: Context::from_iter([(id("a", 1), 1)]),
        last: false,
    };
    let message = Message {
        from: id("a", 1),
        body,
    };
    let heard = world.call(
        "b",
        Input::Message {
            peer: "a".into(),
            message,
        },
    );
    assert_eq!(heard, Outcome::Heard(Ok(())));
    assert_eq!(world.list("b", "t"), ["x"]);
    assert!(world.queue.is_empty());
}

/// Guards against: a part that comes twice or late, of this answer or another, which is taken for the
/// next, so that the one between is never asked for.
#[test]
fn only_the_next_part_of_the_answer_that_is_waited_for_moves_it_on() {
    let mut world = lagging();
    world.lose = |sent| part(sent).is_some_and(|(part, ..)| part == 2);
    world.connected("a", "b");
    world.run(seconds(1.0));
    let first = world.last("a", "b", "part");
    let other = |id: u64, part: u32| {
        let mut sent = first.clone();
        if let Body::TransferReply {
            id: of, part: at, ..
        } = &mut sent.message.body
        {
            (*of, *at) = (id, part);
        }
        sent
    };
    for (id, part) in [
        (1, 1),
        (1, 3),
        (1, 0),
        (1, 66),
        (1, u32::MAX),
        (2, 2),
        (0, 2),
    ] {
        world.give(&other(id, part));
        assert!(world.queue.is_empty(), "part {part} of {id}");
    }
    world.heal();
    world.run(seconds(2.0));
    assert_eq!(world.list("b", "t").len(), 35);
    assert_eq!(world.stats("b").transfers_asked, 1);
}

/// Guards against: a network that changes the order of messages, and an answer that waits for its time-out
/// each time.
#[test]
fn parts_that_come_in_another_order_are_confirmed_once_those_before_have_come() {
    let mut world = lagging();
    world.lose = |sent| part(sent).is_some() || word(&sent.message.body) == "continue";
    world.connected("a", "b");
    world.run(seconds(1.0));
    let parts = parts(&world);
    assert_eq!(parts.len(), 4);
    for (at, expected) in [2, 0, 3, 1].into_iter().zip([None, Some(2), None, Some(5)]) {
        world.give(&parts[at]);
        let confirmed = world.queue.pop_front().map(|sent| match sent.message.body {
            Body::TransferContinue { part, .. } => part,
            other => panic!("{other:?}"),
        });
        assert_eq!(confirmed, expected, "after part {}", at + 1);
    }
    assert_eq!(world.list("b", "t").len(), 35);
}
