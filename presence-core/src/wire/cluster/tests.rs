//! What the codec writes and what it refuses.

use proptest::prelude::*;

use super::*;
use crate::entry::Key;
use crate::set::{Diff, Set};

fn id(name: &str) -> ReplicaId {
    ReplicaId::new(name, 3)
}

fn message(body: Body) -> Message {
    Message {
        from: id("a"),
        body,
    }
}

fn set(name: &str) -> Set {
    Set::new(id(name), crate::set::Limits::default(), 1)
}

/// A delta with values, integer keys, gone dots and leaves of another replica.
fn delta() -> Delta {
    let mut other = set("b");
    let mut set = set("a");
    set.up(&id("b")).unwrap();
    for pid in 0..4 {
        other
            .join(&"t".into(), Pid(pid), Key::Text("k"), "{}")
            .unwrap();
    }
    set.merge(&other.take_delta(), &mut Diff::new()).unwrap();
    other.leave_pid(Pid(2));
    set.merge(&other.take_delta(), &mut Diff::new()).unwrap();
    for (pid, key) in [Key::Text("ünï"), Key::Integer("12"), Key::Text("")]
        .into_iter()
        .enumerate()
    {
        let topic = format!("topic:{}", pid / 2).into();
        set.join(&topic, Pid(pid as u64), key, "{\"a\":1}").unwrap();
    }
    set.leave_pid(Pid(1));
    set.take_delta()
}

fn bodies() -> Vec<Body> {
    let clocks: Context = [(id("a"), 7), (id("b"), 0), (id("ü"), MAX_COUNTER)]
        .into_iter()
        .collect();
    let mut closing = delta();
    closing.parts[0].closing = true;
    vec![
        Body::Heartbeat {
            delta: delta(),
            clocks: clocks.clone(),
        },
        Body::Heartbeat {
            delta: Delta::default(),
            clocks: Context::new(),
        },
        Body::TransferRequest {
            id: 3,
            clocks: clocks.clone(),
        },
        Body::TransferReply {
            id: 300,
            part: 1,
            delta: closing,
            clocks: clocks.clone(),
            last: false,
        },
        Body::TransferReply {
            id: u64::MAX,
            part: u32::MAX,
            delta: delta(),
            clocks: clocks.clone(),
            last: true,
        },
        Body::TransferContinue {
            id: 1 << 40,
            part: 2,
        },
        Body::Stopping {
            clocks,
            handover: true,
        },
        Body::Permdown,
        Body::Superseded { newest: u64::MAX },
    ]
}

#[test]
fn every_kind_of_message_comes_back_as_it_was() {
    for body in bodies() {
        let message = message(body);
        assert_eq!(decode(&encode(&message), &Limits::default()), Ok(message));
    }
}

#[test]
fn the_first_version_differs_in_the_handover_alone() {
    for body in bodies() {
        let bytes = encode_as(&message(body.clone()), Version::V1);
        assert_eq!(bytes[0], 1);
        let read = decode(&bytes, &Limits::default()).unwrap().body;
        match body {
            Body::Stopping { clocks, handover } => {
                assert!(handover);
                let handover = false;
                assert_eq!(read, Body::Stopping { clocks, handover });
            }
            body => {
                assert_eq!(read, body);
                assert_eq!(bytes[1..], encode(&message(body))[1..]);
            }
        }
    }
}

#[test]
fn a_version_is_its_number() {
    for number in 0..=u8::MAX {
        let version = Version::from_number(number);
        assert_eq!(version.is_some(), (1..=2).contains(&number));
        assert!(version.is_none_or(|version| version.number() == number));
    }
}

#[test]
fn an_unknown_version_or_kind_is_refused_by_name() {
    let mut bytes = encode(&message(Body::Permdown));
    for version in [0, 3] {
        bytes[0] = version;
        assert_eq!(
            decode(&bytes, &Limits::default()),
            Err(CodecError::Version(version))
        );
    }
    assert_eq!(
        CodecError::Version(3).to_string(),
        "the message is of version 3; 1 to 2 are spoken here"
    );
    bytes[0] = Version::NEWEST.number();
    *bytes.last_mut().unwrap() = 9;
    assert_eq!(decode(&bytes, &Limits::default()), Err(CodecError::Kind(9)));
}

#[test]
fn no_message_may_end_early_or_late() {
    let versions = [Version::V1, Version::V2];
    let all = bodies()
        .into_iter()
        .flat_map(|body| versions.map(|version| encode_as(&message(body.clone()), version)));
    for bytes in all {
        for end in 0..bytes.len() {
            assert!(
                decode(&bytes[..end], &Limits::default()).is_err(),
                "{end} of {bytes:?}"
            );
        }
        let at = bytes.len();
        let late = [&bytes[..], &[0, 0]].concat();
        let trailing = CodecError::Trailing { at, len: 2 };
        assert_eq!(decode(&late, &Limits::default()), Err(trailing));
    }
}

#[test]
fn each_length_has_its_cap() {
    let message = message(bodies().swap_remove(0));
    let bytes = encode(&message);
    let fits = Limits {
        message_bytes: bytes.len(),
        replicas: 3,
        name_bytes: 2,
        topics: 2,
        topic_bytes: 7,
        values: 2,
        intervals: 2,
    };
    assert_eq!(decode(&bytes, &fits), Ok(message));
    let cap = |limits: &Limits| match decode(&bytes, limits) {
        Err(CodecError::Cap { what, len, max, .. }) => (what, len, max),
        other => panic!("{other:?}"),
    };
    let long = Limits {
        message_bytes: bytes.len() - 1,
        ..fits.clone()
    };
    let (len, max) = (bytes.len(), bytes.len() - 1);
    assert_eq!(decode(&bytes, &long), Err(CodecError::TooLong { len, max }));
    assert_eq!(
        cap(&Limits {
            replicas: 2,
            ..fits.clone()
        }),
        ("replicas", 3, 2)
    );
    assert_eq!(
        cap(&Limits {
            name_bytes: 1,
            ..fits.clone()
        }),
        ("bytes of a replica's name", 2, 1)
    );
    assert_eq!(
        cap(&Limits {
            topics: 1,
            ..fits.clone()
        }),
        ("topics", 2, 1)
    );
    assert_eq!(
        cap(&Limits {
            topic_bytes: 6,
            ..fits.clone()
        }),
        ("bytes of a topic", 7, 6)
    );
    assert_eq!(
        cap(&Limits {
            values: 1,
            ..fits.clone()
        }),
        ("values", 2, 1)
    );
    assert_eq!(
        cap(&Limits {
            intervals: 1,
            ..fits.clone()
        }),
        ("intervals", 2, 1)
    );
}

#[test]
fn a_length_beyond_the_bytes_allocates_nothing() {
    let mut writer = Writer(vec![Version::NEWEST.number()]);
    writer.replica(&id("a"));
    writer.put(1_u8);
    writer.put(7_u64);
    let at = writer.0.len();
    writer.put(60_000_u64);
    let malformed = CodecError::Malformed {
        what: "replicas",
        at,
    };
    assert_eq!(decode(&writer.0, &Limits::default()), Err(malformed));
}

#[test]
fn a_delta_that_is_none_is_refused() {
    let spoil = |spoil: fn(&mut Delta)| {
        let mut delta = delta();
        spoil(&mut delta);
        let clocks = Context::new();
        let bytes = encode(&message(Body::Heartbeat { delta, clocks }));
        decode(&bytes, &Limits::default()).unwrap_err()
    };
    let is_delta = |error: &CodecError| matches!(error, CodecError::Delta(_));
    assert!(is_delta(&spoil(|delta| delta.parts[1].replica = id("a"))));
    assert!(is_delta(&spoil(|delta| delta.parts[0].gone.insert(0))));
    assert!(is_delta(&spoil(|delta| delta.parts[0].gone.insert(1))));
    assert!(is_delta(&spoil(|delta| delta.parts[0].values[0].topic = 2)));
    assert!(is_delta(&spoil(|delta| delta.parts[0].values[0].len += 30)));
    assert!(is_delta(&spoil(
        |delta| delta.parts[0].through = MAX_COUNTER + 1
    )));
    let beyond = spoil(|delta| delta.parts[0].gone.insert(MAX_COUNTER + 1));
    assert!(matches!(
        beyond,
        CodecError::Malformed {
            what: "interval",
            ..
        }
    ));
}

proptest! {
    #[test]
    fn reading_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &Limits::default());
        for version in [Version::V1, Version::V2] {
            if let Some(first) = bytes.first_mut() {
                *first = version.number();
            }
            let _ = decode(&bytes, &Limits::default());
        }
    }

    #[test]
    fn what_is_read_of_spoiled_bytes_can_be_merged(
        which in 0..5_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = encode(&message(bodies().swap_remove(which)));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Message { body: Body::Heartbeat { delta, .. }, .. }) = decode(&bytes, &Limits::default()) {
            let mut set = set("c");
            set.up(&id("a")).unwrap();
            set.up(&id("b")).unwrap();
            let _ = set.merge(&delta, &mut Diff::new());
            let again = encode(&message(Body::Heartbeat { delta, clocks: set.clocks() }));
            prop_assert!(decode(&again, &Limits::default()).is_ok());
        }
    }
}
