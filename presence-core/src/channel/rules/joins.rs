//! Joins: who may, what they replace, and what waits for them.

use crate::wire::{Frame, FrameRef, Limits, Serializer};

use super::super::{Busy, ChannelId, Config, Socket};
use super::{Client, NONE};

#[test]
fn a_join_runs_the_handler_and_then_subscribes_and_replies() {
    let mut client = Client::new();
    assert_eq!(
        client.send(r#"["1","2","conf:1","phx_join",{"a": 1}]"#),
        [r#"join 0 conf:1 1 {"a": 1}"#]
    );
    assert_eq!(
        client.accept(0),
        [
            "subscribe 0 conf:1",
            r#"["1","2","conf:1","phx_reply",{"response":{},"status":"ok"}]"#
        ]
    );
    assert_eq!(client.0.channel("conf:1"), Some(ChannelId(0)));
}

#[test]
fn a_topic_without_a_route_is_unmatched_with_a_null_join_ref() {
    let mut client = Client::new();
    assert_eq!(
        client.send(r#"["1","2","nope:1","phx_join",{}]"#),
        [
            r#"[null,"2","nope:1","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#
        ]
    );
    assert_eq!(client.0.channel("nope:1"), None);
}

#[test]
fn a_refused_or_crashed_join_leaves_the_topic_unjoined() {
    let mut client = Client::new();
    client.send(r#"["1","2","conf:1","phx_join",{}]"#);
    assert_eq!(
        client.refuse(0, r#"{"reason":"full"}"#),
        [r#"["1","2","conf:1","phx_reply",{"response":{"reason":"full"},"status":"error"}]"#]
    );
    assert_eq!(client.0.channels().count(), 0);
    for (id, report) in [
        Socket::handle_join_crashed,
        Socket::handle_crashed,
        Socket::handle_stopped,
        Socket::handle_left,
    ]
    .into_iter()
    .enumerate()
    {
        let id = id as u64 + 1;
        client.send(r#"["3","4","conf:1","phx_join",{}]"#);
        assert_eq!(
            client.report(report, id),
            [
                r#"["3","4","conf:1","phx_reply",{"response":{"reason":"join crashed"},"status":"error"}]"#
            ]
        );
        assert_eq!(client.0.channels().count(), 0);
    }
}

#[test]
fn a_join_without_join_ref_lends_its_ref_to_replies_and_pushes_but_not_to_close() {
    for join_ref in ["null", "false"] {
        let mut client = Client::new();
        assert_eq!(
            client.send(&format!(r#"[{join_ref},"5","conf:1","phx_join",{{}}]"#)),
            ["join 0 conf:1 5 {}"]
        );
        assert_eq!(
            client.accept(0)[1],
            format!(r#"[{join_ref},"5","conf:1","phx_reply",{{"response":{{}},"status":"ok"}}]"#)
        );
        assert_eq!(client.push(0), [r#"["5",null,"conf:1","pushed",{}]"#]);
        // The table holds what the client sent, so that the lent ref is a stale one.
        assert_eq!(client.send(r#"["5","6","conf:1","ok",{}]"#), NONE);
        assert_eq!(
            client.send(r#"[null,"7","conf:1","ok",{}]"#),
            ["deliver 0 7 ok {}"]
        );
        assert_eq!(
            client.reply(0, "7", "{}"),
            [r#"["5","7","conf:1","phx_reply",{"response":{},"status":"ok"}]"#]
        );
        client.send(r#"[null,"8","conf:1","phx_leave",{}]"#);
        assert_eq!(
            client.report(Socket::handle_left, 0),
            [
                "unsubscribe 0".to_owned(),
                r#"["5","8","conf:1","phx_reply",{"response":{},"status":"ok"}]"#.to_owned(),
                format!(r#"[{join_ref},{join_ref},"conf:1","phx_close",{{}}]"#),
            ]
        );
    }
}

#[test]
fn a_duplicate_join_stops_the_old_channel_first_and_closes_it_after_the_reply() {
    let mut client = Client::joined();
    assert_eq!(
        client.send(r#"["2","2","conf:1","phx_join",{}]"#),
        [
            "unsubscribe 0",
            "stop 0 duplicate join",
            "join 1 conf:1 2 {}"
        ]
    );
    assert_eq!(
        client.accept(1),
        [
            "subscribe 1 conf:1",
            r#"["2","2","conf:1","phx_reply",{"response":{},"status":"ok"}]"#,
            r#"["1","1","conf:1","phx_close",{}]"#
        ]
    );
    assert_eq!(client.send(r#"["1","3","conf:1","ok",{}]"#), NONE);
    assert_eq!(
        client.send(r#"["2","4","conf:1","ok",{}]"#),
        ["deliver 1 4 ok {}"]
    );
}

#[test]
fn a_duplicate_join_that_is_refused_closes_the_old_channel_all_the_same() {
    let mut client = Client::joined();
    client.send(r#"["2","2","conf:1","phx_join",{}]"#);
    assert_eq!(
        client.refuse(1, "{}"),
        [
            r#"["2","2","conf:1","phx_reply",{"response":{},"status":"error"}]"#,
            r#"["1","1","conf:1","phx_close",{}]"#
        ]
    );
    assert_eq!(client.0.channel("conf:1"), None);
}

#[test]
fn a_duplicate_join_whose_route_is_gone_closes_the_old_channel_all_the_same() {
    let mut client = Client::new();
    let join = r#"["1","1","nope:1","phx_join",{}]"#;
    let message = Serializer::V2
        .decode_client(FrameRef::Text(join), &Limits::default())
        .unwrap();
    client.0.handle_message(&message, |_| true).unwrap();
    client.drain();
    client.accept(0);
    assert_eq!(
        client.send(r#"["2","2","nope:1","phx_join",{}]"#),
        [
            "unsubscribe 0",
            "stop 0 duplicate join",
            r#"[null,"2","nope:1","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#,
            r#"["1","1","nope:1","phx_close",{}]"#
        ]
    );
}

#[test]
fn a_join_behind_a_leave_answers_the_leave_before_the_close() {
    let mut client = Client::joined();
    client.send(r#"["1","2","conf:1","phx_leave",{}]"#);
    assert_eq!(
        client.send(r#"["3","3","conf:1","phx_join",{}]"#),
        [
            "unsubscribe 0",
            "stop 0 duplicate join",
            "join 1 conf:1 3 {}"
        ]
    );
    assert_eq!(
        client.accept(1)[1..],
        [
            r#"["3","3","conf:1","phx_reply",{"response":{},"status":"ok"}]"#,
            r#"["1","2","conf:1","phx_reply",{"response":{},"status":"ok"}]"#,
            r#"["1","1","conf:1","phx_close",{}]"#
        ]
    );
}

#[test]
fn what_a_replaced_or_ended_channel_sends_is_dropped() {
    let mut replaced = Client::joined();
    replaced.send(r#"["2","2","conf:1","phx_join",{}]"#);
    replaced.accept(1);
    let mut crashed = Client::joined();
    crashed.report(Socket::handle_crashed, 0);
    for client in [&mut replaced, &mut crashed] {
        let before = format!("{:?}", client.0);
        assert_eq!(client.reply(0, "1", "{}"), NONE);
        assert_eq!(client.push(0), NONE);
        client
            .0
            .handle_broadcast(ChannelId(0), Frame::Text("x".into()));
        assert_eq!(client.drain(), NONE);
        for report in [
            Socket::handle_left,
            Socket::handle_stopped,
            Socket::handle_crashed,
            Socket::handle_join_crashed,
        ] {
            assert_eq!(client.report(report, 0), NONE);
        }
        assert_eq!(client.accept(0), NONE);
        assert_eq!(client.refuse(0, "{}"), NONE);
        assert_eq!(client.accept(99), NONE);
        assert_eq!(format!("{:?}", client.0), before);
    }
}

#[test]
fn a_decided_join_cannot_be_decided_again() {
    let mut client = Client::joined();
    assert_eq!(client.accept(0), NONE);
    assert_eq!(client.refuse(0, "{}"), NONE);
    assert_eq!(client.report(Socket::handle_join_crashed, 0), NONE);
    assert_eq!(client.0.channel("conf:1"), Some(ChannelId(0)));
}

#[test]
fn messages_wait_for_the_join_of_their_topic_in_order_while_other_topics_proceed() {
    let mut client = Client::joined();
    client.send(r#"["2","2","conf:2","phx_join",{}]"#);
    assert_eq!(client.send(r#"["2","3","conf:2","a",{}]"#), NONE);
    assert_eq!(
        client.send(r#"["1","4","conf:1","b",{}]"#),
        ["deliver 0 4 b {}"]
    );
    assert_eq!(client.send(r#"["9","5","conf:2","stale",{}]"#), NONE);
    assert_eq!(client.send(r#"["2","6","conf:2","c",{}]"#), NONE);
    assert_eq!(
        client.accept(1),
        [
            "subscribe 1 conf:2",
            r#"["2","2","conf:2","phx_reply",{"response":{},"status":"ok"}]"#,
            "deliver 1 3 a {}",
            "deliver 1 6 c {}"
        ]
    );
}

#[test]
fn messages_that_waited_for_a_refused_join_are_unmatched() {
    let mut client = Client::new();
    client.send(r#"["1","1","conf:1","phx_join",{}]"#);
    client.send(r#"["1","2","conf:1","a",{}]"#);
    client.send(r#"["1","3","conf:1","phx_leave",{}]"#);
    assert_eq!(
        client.refuse(0, "{}"),
        [
            r#"["1","1","conf:1","phx_reply",{"response":{},"status":"error"}]"#,
            r#"[null,"2","conf:1","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#,
            r#"["1","3","conf:1","phx_reply",{"response":{},"status":"ok"}]"#
        ]
    );
}

#[test]
fn a_leave_waits_for_the_join_too() {
    let mut client = Client::new();
    client.send(r#"["1","1","conf:1","phx_join",{}]"#);
    client.send(r#"["1","2","conf:1","phx_leave",{}]"#);
    client.send(r#"["1","3","conf:1","a",{}]"#);
    assert_eq!(client.accept(0)[2..], ["leave 0"]);
}

#[test]
fn a_join_waits_for_the_join_before_it_and_what_follows_waits_for_both() {
    for accepted in [true, false] {
        let mut client = Client::new();
        client.send(r#"["1","1","conf:1","phx_join",{}]"#);
        client.send(r#"["1","2","conf:1","a",{}]"#);
        assert_eq!(client.send(r#"["3","3","conf:1","phx_join",{}]"#), NONE);
        assert_eq!(client.send(r#"["3","4","conf:1","b",{}]"#), NONE);
        if accepted {
            assert_eq!(
                client.accept(0)[2..],
                [
                    "deliver 0 2 a {}",
                    "unsubscribe 0",
                    "stop 0 duplicate join",
                    "join 1 conf:1 3 {}"
                ]
            );
        } else {
            assert_eq!(client.refuse(0, "{}")[2..], ["join 1 conf:1 3 {}"]);
        }
        assert_eq!(client.send(r#"["3","5","conf:1","c",{}]"#), NONE);
        let lines = client.accept(1);
        let end = lines.len() - 2;
        assert_eq!(lines[end..], ["deliver 1 4 b {}", "deliver 1 5 c {}"]);
        let closed = lines.contains(&r#"["1","1","conf:1","phx_close",{}]"#.to_owned());
        assert_eq!(closed, accepted);
    }
}

#[test]
fn at_the_bound_a_message_is_given_back_and_nothing_changes() {
    let config = Config {
        max_held_messages: 2,
        ..Config::default()
    };
    let mut client = Client::with(Serializer::V2, config);
    client.send(r#"["1","1","conf:1","phx_join",{}]"#);
    client.send(r#"["1","2","conf:1","a",{}]"#);
    client.send(r#"["1","3","conf:1","b",{}]"#);
    let before = format!("{:?}", client.0);
    let last = r#"["1","4","conf:1","c",{}]"#;
    let busy = Busy {
        messages: 2,
        bytes: 22,
    };
    assert_eq!(client.try_send(last), Err(busy));
    assert_eq!(format!("{:?}", client.0), before);
    client.send(r#"["5","5","conf:2","phx_join",{}]"#);
    client.send(r#"[null,"6","phoenix","heartbeat",{}]"#);
    client.accept(0);
    assert_eq!(client.send(last), ["deliver 0 4 c {}"]);
}

#[test]
fn too_many_channels_are_refused_and_a_join_under_way_counts() {
    let config = Config {
        max_channels: 2,
        ..Config::default()
    };
    let mut client = Client::with(Serializer::V2, config);
    client.send(r#"["1","1","conf:1","phx_join",{}]"#);
    client.accept(0);
    client.send(r#"["2","2","conf:2","phx_join",{}]"#);
    let third = r#"["3","3","conf:3","phx_join",{}]"#;
    assert_eq!(
        client.send(third),
        [
            r#"["3","3","conf:3","phx_reply",{"response":{"reason":"too many channels joined"},"status":"error"}]"#
        ]
    );
    assert_eq!(
        client.send(r#"["4","4","nope:3","phx_join",{}]"#),
        [
            r#"[null,"4","nope:3","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#
        ]
    );
    // A duplicate join takes the place of the channel that it ends.
    assert_eq!(
        client.send(r#"["5","5","conf:1","phx_join",{}]"#)[2],
        "join 2 conf:1 5 {}"
    );
    client.refuse(1, "{}");
    assert_eq!(client.send(third), ["join 3 conf:3 3 {}"]);
}

#[test]
fn the_default_is_100_channels() {
    let mut client = Client::new();
    for n in 0..101 {
        let lines = client.send(&format!(r#"["{n}","{n}","conf:{n}","phx_join",{{}}]"#));
        assert_eq!(lines[0].starts_with("join"), n < 100);
    }
}

#[test]
fn channels_are_listed_in_the_order_of_their_joins() {
    let mut client = Client::new();
    for topic in ["conf:b", "conf:a", "conf:c"] {
        client.send(&format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
    }
    let listed: Vec<_> = client.0.channels().collect();
    assert_eq!(
        listed,
        [
            (ChannelId(0), "conf:b"),
            (ChannelId(1), "conf:a"),
            (ChannelId(2), "conf:c")
        ]
    );
}
