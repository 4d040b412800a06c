//! The rules of a socket, a test each.

mod joins;

use crate::wire::{
    DecodeError, EncodeError, Frame, FrameRef, Json, Limits, Payload, Serializer, Status,
};

use super::{Busy, ChannelId, Config, Output, ReplyTo, Socket, StopReason};

/// A socket whose outputs are read as lines.
struct Client(Socket);

impl Client {
    fn new() -> Self {
        Self::with(Serializer::V2, Config::default())
    }

    fn with(serializer: Serializer, config: Config) -> Self {
        Self(Socket::new(serializer, config))
    }

    /// With `conf:1` joined as channel 0 under the join_ref "1".
    fn joined() -> Self {
        let mut client = Self::new();
        client.send(r#"["1","1","conf:1","phx_join",{}]"#);
        client.accept(0);
        client
    }

    fn try_send(&mut self, text: &str) -> Result<Vec<String>, Busy> {
        let serializer = self.0.serializer();
        let message = serializer
            .decode_client(FrameRef::Text(text), &Limits::default())
            .unwrap();
        self.0
            .handle_message(&message, |topic| !topic.starts_with("nope"))?;
        Ok(self.drain())
    }

    fn send(&mut self, text: &str) -> Vec<String> {
        self.try_send(text).unwrap()
    }

    fn accept(&mut self, channel: u64) -> Vec<String> {
        let payload = Payload::EMPTY;
        self.0.handle_joined(ChannelId(channel), &payload).unwrap();
        self.drain()
    }

    fn refuse(&mut self, channel: u64, response: &str) -> Vec<String> {
        let response = Json::parse(response).unwrap().into();
        self.0
            .handle_join_refused(ChannelId(channel), &response)
            .unwrap();
        self.drain()
    }

    fn reply(&mut self, channel: u64, msg_ref: &'static str, response: &str) -> Vec<String> {
        let to = reply_to(channel, msg_ref);
        let response = Json::parse(response).unwrap().into();
        self.0.handle_reply(&to, Status::Ok, &response).unwrap();
        self.drain()
    }

    fn push(&mut self, channel: u64) -> Vec<String> {
        self.0
            .handle_push(ChannelId(channel), "pushed", &Payload::EMPTY)
            .unwrap();
        self.drain()
    }

    fn report(&mut self, report: fn(&mut Socket, ChannelId), channel: u64) -> Vec<String> {
        report(&mut self.0, ChannelId(channel));
        self.drain()
    }

    fn drain(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.poll_output())
            .map(|output| line(&output))
            .collect()
    }
}

fn reply_to(channel: u64, msg_ref: &'static str) -> ReplyTo {
    ReplyTo {
        channel: ChannelId(channel),
        msg_ref: msg_ref.into(),
    }
}

fn line(output: &Output) -> String {
    let json = |payload: &Payload<'_>| match payload {
        Payload::Json(json) => json.as_str().to_owned(),
        Payload::Binary(data) => format!("{data:?}"),
    };
    match output {
        Output::Send(Frame::Text(text)) => text.to_string(),
        Output::Send(Frame::Binary(bytes)) => format!("{}", bytes.escape_ascii()),
        Output::Join {
            channel,
            topic,
            join_ref,
            payload,
        } => {
            let join_ref = join_ref.as_str().unwrap_or("-");
            format!("join {channel} {topic} {join_ref} {}", json(payload))
        }
        Output::Subscribe { channel, topic } => format!("subscribe {channel} {topic}"),
        Output::Unsubscribe { channel } => format!("unsubscribe {channel}"),
        Output::Deliver {
            reply_to,
            event,
            payload,
        } => {
            let msg_ref = reply_to.msg_ref().as_str().unwrap_or("-");
            format!(
                "deliver {} {msg_ref} {event} {}",
                reply_to.channel(),
                json(payload)
            )
        }
        Output::Leave { channel } => format!("leave {channel}"),
        Output::Stop { channel, reason } => match reason {
            StopReason::DuplicateJoin => format!("stop {channel} duplicate join"),
            StopReason::SocketClosed => format!("stop {channel} socket closed"),
        },
        Output::Close { code } => format!("close {code}"),
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_heartbeat_is_answered_even_while_a_join_is_under_way() {
    let mut client = Client::new();
    client.send(r#"["1","1","phoenix","phx_join",{}]"#);
    assert_eq!(
        client.send(r#"["7","2","phoenix","heartbeat",{"any":1}]"#),
        [r#"[null,"2","phoenix","phx_reply",{"response":{},"status":"ok"}]"#]
    );
}

#[test]
fn a_message_to_an_unjoined_topic_is_unmatched_with_a_null_join_ref() {
    assert_eq!(
        Client::new().send(r#"["1","2","conf:1","ok",{}]"#),
        [
            r#"[null,"2","conf:1","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#
        ]
    );
}

#[test]
fn a_leave_of_an_unjoined_topic_answers_ok_with_its_join_ref() {
    assert_eq!(
        Client::new().send(r#"["1","2","nope:1","phx_leave",{}]"#),
        [r#"["1","2","nope:1","phx_reply",{"response":{},"status":"ok"}]"#]
    );
}

#[test]
fn a_message_is_delivered_and_its_reply_carries_the_refs_of_join_and_message() {
    let mut client = Client::joined();
    assert_eq!(
        client.send(r#"["1","2","conf:1","echo",{"x": 1}]"#),
        [r#"deliver 0 2 echo {"x": 1}"#]
    );
    assert_eq!(
        client.reply(0, "2", "[1]"),
        [r#"["1","2","conf:1","phx_reply",{"response":[1],"status":"ok"}]"#]
    );
}

#[test]
fn a_null_join_ref_is_accepted_and_a_stale_one_ignored() {
    let mut client = Client::joined();
    assert_eq!(
        client.send(r#"[null,"2","conf:1","ok",{}]"#),
        ["deliver 0 2 ok {}"]
    );
    for join_ref in ["\"2\"", "1", "\"\"", "false", "[\"1\"]"] {
        for event in ["ok", "phx_leave"] {
            let text = format!(r#"[{join_ref},"3","conf:1","{event}",{{}}]"#);
            assert_eq!(client.send(&text), NONE, "{text}");
        }
    }
    assert_eq!(
        client.send(r#"[null,"4","conf:1","phx_leave",{}]"#),
        ["leave 0"]
    );
}

#[test]
fn a_push_carries_the_join_ref_and_a_null_ref() {
    assert_eq!(
        Client::joined().push(0),
        [r#"["1",null,"conf:1","pushed",{}]"#]
    );
}

#[test]
fn a_broadcast_reaches_the_client_between_the_join_and_the_close_only() {
    let mut client = Client::new();
    let broadcast = |client: &mut Client| {
        client
            .0
            .handle_broadcast(ChannelId(0), Frame::Text("x".into()));
        client.drain()
    };
    client.send(r#"["1","1","conf:1","phx_join",{}]"#);
    assert_eq!(broadcast(&mut client), NONE);
    assert_eq!(client.push(0), NONE);
    assert_eq!(client.reply(0, "1", "{}"), NONE);
    client.accept(0);
    assert_eq!(broadcast(&mut client), ["x"]);
    client.send(r#"["1","2","conf:1","phx_leave",{}]"#);
    assert_eq!(broadcast(&mut client), ["x"]);
    client.report(Socket::handle_left, 0);
    assert_eq!(broadcast(&mut client), NONE);
}

#[test]
fn only_the_event_heartbeat_on_the_topic_phoenix_is_a_heartbeat() {
    let mut client = Client::joined();
    assert_eq!(
        client.send(r#"[null,"2","phoenix","beat",{}]"#),
        [
            r#"[null,"2","phoenix","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#
        ]
    );
    assert_eq!(
        client.send(r#"[null,"3","conf:1","heartbeat",{}]"#),
        ["deliver 0 3 heartbeat {}"]
    );
}

#[test]
fn replies_may_come_late_and_in_any_order() {
    let mut client = Client::joined();
    client.send(r#"["1","2","conf:1","a",{}]"#);
    client.send(r#"["1","3","conf:1","b",{}]"#);
    assert_eq!(
        client.reply(0, "3", "{}"),
        [r#"["1","3","conf:1","phx_reply",{"response":{},"status":"ok"}]"#]
    );
    let response = Json::parse(r#"{"e":1}"#).unwrap().into();
    client
        .0
        .handle_reply(&reply_to(0, "2"), Status::Error, &response)
        .unwrap();
    assert_eq!(
        client.drain(),
        [r#"["1","2","conf:1","phx_reply",{"response":{"e":1},"status":"error"}]"#]
    );
}

#[test]
fn in_1_0_0_close_has_a_null_ref() {
    let mut client = Client::with(Serializer::V1, Config::default());
    client.send(r#"{"topic":"conf:1","event":"phx_join","payload":{},"ref":"1"}"#);
    assert_eq!(
        client.accept(0)[1],
        r#"{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"1","topic":"conf:1"}"#
    );
    assert_eq!(
        client.report(Socket::handle_stopped, 0)[1],
        r#"{"event":"phx_close","payload":{},"ref":null,"topic":"conf:1"}"#
    );
}

#[test]
fn a_leave_is_answered_once_the_channel_has_left_and_then_closed() {
    let mut client = Client::joined();
    client.send(r#"["1","2","conf:1","slow",{}]"#);
    assert_eq!(
        client.send(r#"["1","3","conf:1","phx_leave",{}]"#),
        ["leave 0"]
    );
    assert_eq!(
        client.reply(0, "2", "{}"),
        [r#"["1","2","conf:1","phx_reply",{"response":{},"status":"ok"}]"#]
    );
    assert_eq!(
        client.report(Socket::handle_left, 0),
        [
            "unsubscribe 0",
            r#"["1","3","conf:1","phx_reply",{"response":{},"status":"ok"}]"#,
            r#"["1","1","conf:1","phx_close",{}]"#
        ]
    );
    assert_eq!(client.0.channel("conf:1"), None);
}

#[test]
fn messages_behind_a_leave_are_lost() {
    let mut client = Client::joined();
    client.send(r#"["1","2","conf:1","phx_leave",{}]"#);
    assert_eq!(client.send(r#"["1","3","conf:1","ok",{}]"#), NONE);
    assert_eq!(client.send(r#"["1","4","conf:1","phx_leave",{}]"#), NONE);
    assert_eq!(
        client.report(Socket::handle_left, 0)[1],
        r#"["1","2","conf:1","phx_reply",{"response":{},"status":"ok"}]"#
    );
}

#[test]
fn a_channel_that_stops_or_crashes_before_it_leaves_does_not_answer_the_leave() {
    for (report, end) in [
        (
            Socket::handle_stopped as fn(&mut Socket, ChannelId),
            r#"["1","1","conf:1","phx_close",{}]"#,
        ),
        (
            Socket::handle_crashed,
            r#"["1","1","conf:1","phx_error",{"reason":"channel_crash"}]"#,
        ),
    ] {
        let mut client = Client::joined();
        client.send(r#"["1","2","conf:1","phx_leave",{}]"#);
        assert_eq!(client.report(report, 0), ["unsubscribe 0", end]);
        assert_eq!(client.report(Socket::handle_left, 0), NONE);
    }
}

#[test]
fn a_stop_sends_close_and_a_crash_sends_error_and_both_free_the_topic() {
    for (report, end) in [
        (
            Socket::handle_stopped as fn(&mut Socket, ChannelId),
            r#"["1","1","conf:1","phx_close",{}]"#,
        ),
        (Socket::handle_left, r#"["1","1","conf:1","phx_close",{}]"#),
        (
            Socket::handle_crashed,
            r#"["1","1","conf:1","phx_error",{"reason":"channel_crash"}]"#,
        ),
    ] {
        let mut client = Client::joined();
        assert_eq!(client.report(report, 0), ["unsubscribe 0", end]);
        assert_eq!(client.0.channels().count(), 0);
        assert_eq!(
            client.send(r#"["2","2","conf:1","phx_join",{}]"#),
            ["join 1 conf:1 2 {}"]
        );
    }
}

#[test]
fn a_disconnect_closes_with_1001_and_stops_every_channel() {
    let mut client = Client::joined();
    client.send(r#"["2","2","conf:2","phx_join",{}]"#);
    client.send(r#"["2","3","conf:2","waiting",{}]"#);
    assert!(!client.0.is_closed());
    client.0.handle_disconnect();
    assert_eq!(
        client.drain(),
        [
            "close 1001",
            "unsubscribe 0",
            "stop 0 socket closed",
            "stop 1 socket closed"
        ]
    );
    assert!(client.0.is_closed());
    assert_eq!(client.0.channel("conf:1"), None);
    // What waited is given up, and not kept for as long as the socket is.
    assert!(!format!("{:?}", client.0).contains("waiting"));
}

#[test]
fn a_drain_closes_with_1012_and_a_bad_frame_with_its_code() {
    let mut client = Client::new();
    client.0.handle_drain();
    assert_eq!(client.drain(), ["close 1012"]);
    for (error, line) in [
        (DecodeError::UnknownKind { kind: 9 }, "close 1011"),
        (DecodeError::FrameTooLarge { len: 2, max: 1 }, "close 1009"),
    ] {
        let mut client = Client::new();
        client.0.handle_decode_error(&error);
        assert_eq!(client.drain(), [line]);
    }
}

#[test]
fn a_connection_that_is_gone_is_told_nothing() {
    let mut client = Client::joined();
    client.0.handle_closed();
    assert_eq!(client.drain(), ["unsubscribe 0", "stop 0 socket closed"]);
    assert!(client.0.is_closed());
}

#[test]
fn nothing_happens_after_the_socket_is_closed() {
    let mut client = Client::joined();
    client.0.handle_disconnect();
    client.drain();
    assert_eq!(client.send(r#"[null,"1","phoenix","heartbeat",{}]"#), NONE);
    assert_eq!(client.send(r#"["2","2","conf:2","phx_join",{}]"#), NONE);
    assert_eq!(client.reply(0, "1", "{}"), NONE);
    assert_eq!(client.report(Socket::handle_stopped, 0), NONE);
    client.0.handle_drain();
    client.0.handle_closed();
    assert_eq!(client.drain(), NONE);
    assert_eq!(client.0.channels().count(), 0);
}

#[test]
fn what_was_to_be_sent_before_the_close_is_sent_before_it() {
    let mut client = Client::joined();
    let payload = Payload::EMPTY;
    client
        .0
        .handle_push(ChannelId(0), "last", &payload)
        .unwrap();
    client.0.handle_disconnect();
    assert_eq!(
        client.drain()[..2],
        [r#"["1",null,"conf:1","last",{}]"#, "close 1001"]
    );
}

#[test]
fn binary_payloads_go_in_and_out() {
    let mut client = Client::joined();
    let frame = b"\x00\x01\x01\x06\x0412conf:1echo\x00\xff";
    let message = Serializer::V2
        .decode_client(FrameRef::Binary(frame), &Limits::default())
        .unwrap();
    client.0.handle_message(&message, |_| true).unwrap();
    assert_eq!(client.drain(), ["deliver 0 2 echo [0, 255]"]);
    let payload = Payload::Binary(b"\x00\xff"[..].into());
    let to = reply_to(0, "2");
    client.0.handle_reply(&to, Status::Ok, &payload).unwrap();
    client
        .0
        .handle_push(ChannelId(0), "pushed", &payload)
        .unwrap();
    assert_eq!(
        client.drain(),
        [
            r"\x01\x01\x01\x06\x0212conf:1ok\x00\xff",
            r"\x00\x01\x06\x061conf:1pushed\x00\xff"
        ]
    );
}

#[test]
fn what_has_no_frame_is_an_error_and_changes_nothing() {
    let mut client = Client::with(Serializer::V1, Config::default());
    client.send(r#"{"topic":"conf:1","event":"phx_join","payload":{},"ref":"1"}"#);
    let binary = Payload::Binary(b""[..].into());
    let before = format!("{:?}", client.0);
    let error = Err(EncodeError::BinaryInV1);
    assert_eq!(client.0.handle_joined(ChannelId(0), &binary), error);
    assert_eq!(client.0.handle_join_refused(ChannelId(0), &binary), error);
    assert_eq!(format!("{:?}", client.0), before);
    client.accept(0);
    let before = format!("{:?}", client.0);
    let reply = client
        .0
        .handle_reply(&reply_to(0, "2"), Status::Ok, &binary);
    assert_eq!(reply, error);
    assert_eq!(client.0.handle_push(ChannelId(0), "e", &binary), error);
    assert_eq!(format!("{:?}", client.0), before);
    let array = Json::parse("[]").unwrap().into();
    assert_eq!(
        Client::joined().0.handle_push(ChannelId(0), "e", &array),
        Err(EncodeError::PayloadNotAnObject)
    );
}
