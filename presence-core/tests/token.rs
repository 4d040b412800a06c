//! Tokens against recordings of Plug.Crypto, and properties over arbitrary data.

#![allow(clippy::unwrap_used)] // A test may panic, and so may what builds its data.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use presence_core::token::{
    self, Atom, Digest, EncodeError, Float, KeyError, KeyOptions, MaxAge, SignError, SigningKey,
    Term, TokenError, VerifyError,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

const SIGNED: i64 = 1_780_000_000_000;

#[derive(Deserialize)]
struct Recording {
    secret_key_base: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    token: String,
    salt: String,
    verify_salt: String,
    now: i64,
    max_age: Option<i64>,
    expect: Value,
}

static RECORDING: LazyLock<Recording> = LazyLock::new(|| {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../conformance/fixtures/token.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

static KEY: LazyLock<SigningKey> = LazyLock::new(|| key("user socket", &KeyOptions::DEFAULT));

fn key(salt: &str, options: &KeyOptions) -> SigningKey {
    SigningKey::derive(&RECORDING.secret_key_base, salt, options).unwrap()
}

fn atom(name: &str) -> Term {
    Atom::new(name).unwrap().into()
}

fn recorded(name: &str) -> &'static str {
    let case = RECORDING.cases.iter().find(|case| case.case == name);
    &case.unwrap_or_else(|| panic!("no case {name:?}")).token
}

#[test]
fn verdicts_are_those_of_the_reference() {
    assert!(RECORDING.cases.len() >= 19);
    for case in &RECORDING.cases {
        let verdict = token::verify(
            &RECORDING.secret_key_base,
            &case.verify_salt,
            &case.token,
            case.now * 1000,
            case.max_age.map(MaxAge::Seconds),
        );
        let verdict = match verdict {
            Ok(data) => json!({"ok": data.to_json().unwrap()}),
            Err(VerifyError::Token(TokenError::Invalid)) => json!({"error": "invalid"}),
            Err(VerifyError::Token(TokenError::Expired)) => json!({"error": "expired"}),
            Err(VerifyError::Key(error)) => panic!("{}: {error}", case.case),
        };
        assert_eq!(verdict, case.expect, "{}", case.case);
    }
}

#[test]
fn signing_the_same_gives_the_same_bytes() {
    let day = MaxAge::DEFAULT;
    let id_and_name = Term::Map(BTreeMap::from([
        (atom("name"), "Zoë".into()),
        (atom("id"), 7.into()),
    ]));
    let big = Term::integer_from_le_bytes(
        false,
        &123_456_789_012_345_678_901_234_567_890_u128.to_le_bytes(),
    )
    .unwrap();
    let float = Float::new(1.5).unwrap().into();
    let cases = [
        ("integer id", Term::from(42), day),
        ("string id", "user-7".into(), day),
        ("map with atom keys", id_and_name, day),
        (
            "list",
            Term::List(vec![1.into(), "a".into(), Term::nil(), true.into()]),
            day,
        ),
        ("big integer", big, day),
        (
            "negative and float",
            Term::List(vec![(-5).into(), float]),
            day,
        ),
        (
            "max age carried in the token",
            42.into(),
            MaxAge::Seconds(60),
        ),
    ];
    for (name, data, max_age) in cases {
        assert_eq!(
            KEY.sign(&data, SIGNED, max_age).unwrap(),
            recorded(name),
            "{name}"
        );
        let token = token::sign(
            &RECORDING.secret_key_base,
            "user socket",
            &data,
            SIGNED,
            max_age,
        );
        assert_eq!(token.unwrap(), recorded(name), "{name}");
    }
    let other = key("other salt", &KeyOptions::DEFAULT);
    assert_eq!(
        other.sign(&42.into(), SIGNED, day).unwrap(),
        recorded("other salt")
    );
    // The digest is that of the key: such a token is signed with SHA-256 like any other.
    let sha512 = key(
        "user socket",
        &KeyOptions {
            digest: Digest::Sha512,
            ..KeyOptions::DEFAULT
        },
    );
    assert_eq!(
        sha512.sign(&42.into(), SIGNED, day).unwrap(),
        recorded("sha512")
    );
    assert_eq!(
        sha512.verify(recorded("sha512"), SIGNED, None),
        Ok(42.into())
    );
}

/// What the recorded tokens hold is written back as it was, whatever the data.
#[test]
fn every_recorded_token_is_signed_again_byte_for_byte() {
    let mut signed_again = 0;
    for case in &RECORDING.cases {
        let key = key(&case.salt, &KeyOptions::DEFAULT);
        if key
            .verify(&case.token, SIGNED, Some(MaxAge::Infinity))
            .is_err()
        {
            continue;
        }
        let payload = URL_SAFE_NO_PAD
            .decode(case.token.split('.').nth(1).unwrap())
            .unwrap();
        let Ok(Term::Tuple(parts)) = Term::from_bytes(&payload) else {
            panic!("{}", case.case)
        };
        let [data, Term::Integer(signed_at), Term::Integer(age)] = &parts[..] else {
            panic!("{parts:?}")
        };
        let token = key.sign(data, *signed_at, MaxAge::Seconds(*age)).unwrap();
        assert_eq!(token, case.token, "{}", case.case);
        signed_again += 1;
    }
    assert!(signed_again >= 12);
}

/// The tokens were computed with Python's `hmac`, with the key of the recording.
#[test]
fn signatures_of_all_three_algorithms_are_verified() {
    let tokens = [
        "SFMyNTY.g2gDYSpuBgAAiERwngFiAAFRgA.gUer-eauXx_yroSlB0IcwoYQXEV_MiJUWeIMUWut350",
        "SFMzODQ.g2gDYSpuBgAAiERwngFiAAFRgA.h6pXLPdfGxnIW2-9UxqOibgZmrMm0CXr34nUUoR-KfK0-YRpIDJyf2px7DhLVAkh",
        "SFM1MTI.g2gDYSpuBgAAiERwngFiAAFRgA.\
         o3XLVfQBgmsotenZ7MUhCOKDMf-7U2e0p1TbY65kyYpKEL9qAJiXI_C4RFtYvYyFwV19mbccjwLE3nag9x_jHA",
    ];
    for token in tokens {
        assert_eq!(KEY.verify(token, SIGNED, None), Ok(42.into()), "{token}");
    }
    // The right signature under the name of another algorithm, and under names that are none.
    for header in ["SFMzODQ", "SFM1MTI", "SFM", "", "bm9uZQ"] {
        let renamed = tokens[0].replacen("SFMyNTY", header, 1);
        assert_eq!(
            KEY.verify(&renamed, SIGNED, None),
            Err(TokenError::Invalid),
            "{header}"
        );
    }
}

#[test]
fn key_options_are_part_of_the_key() {
    let token = "SFMyNTY.g2gDYSpuBgAAiERwngFiAAFRgA.xLQebs_SxGltQlzm4vL9RLI6QbuZCQPGXVBDcLzkfyc";
    let options = KeyOptions {
        iterations: NonZeroU32::new(20).unwrap(),
        length: 64,
        digest: Digest::Sha512,
    };
    assert_eq!(
        key("user socket", &options)
            .sign(&42.into(), SIGNED, MaxAge::DEFAULT)
            .unwrap(),
        token
    );
    let others = [
        KeyOptions {
            iterations: NonZeroU32::new(21).unwrap(),
            ..options
        },
        KeyOptions {
            length: 63,
            ..options
        },
        KeyOptions {
            digest: Digest::Sha384,
            ..options
        },
    ];
    for other in others {
        assert_eq!(
            key("user socket", &other).verify(token, SIGNED, None),
            Err(TokenError::Invalid),
            "{other:?}"
        );
    }
}

#[test]
fn a_token_expires_after_the_last_millisecond_of_its_age() {
    let token = recorded("integer id");
    let end = SIGNED + 86_400_000;
    for max_age in [None, Some(MaxAge::Seconds(86_400))] {
        assert_eq!(
            KEY.verify(token, SIGNED - 1, max_age),
            Err(TokenError::Invalid)
        );
        assert_eq!(KEY.verify(token, SIGNED, max_age), Ok(42.into()));
        assert_eq!(KEY.verify(token, end, max_age), Ok(42.into()));
        assert_eq!(
            KEY.verify(token, end + 1, max_age),
            Err(TokenError::Expired)
        );
    }
    assert_eq!(
        KEY.verify(token, SIGNED, Some(MaxAge::Seconds(0))),
        Err(TokenError::Expired)
    );
    assert_eq!(
        KEY.verify(token, i64::MAX, Some(MaxAge::Infinity)),
        Ok(42.into())
    );
    assert_eq!(
        KEY.verify(token, SIGNED - 1, Some(MaxAge::Infinity)),
        Ok(42.into())
    );
}

#[test]
fn faults_of_the_caller_are_told_apart_from_those_of_the_token() {
    let short = KeyError::SecretTooShort { len: 5 };
    assert_eq!(
        token::verify("short", "salt", "", 0, None),
        Err(short.into())
    );
    assert_eq!(
        token::sign("short", "salt", &1.into(), 0, MaxAge::DEFAULT),
        Err(short.into())
    );
    let mut deep = Term::nil();
    for _ in 0..token::MAX_TERM_DEPTH {
        deep = Term::List(vec![deep]);
    }
    let secret = &RECORDING.secret_key_base;
    let signed = token::sign(secret, "salt", &deep, 0, MaxAge::DEFAULT);
    assert_eq!(signed, Err(SignError::Data(EncodeError::TooDeep)));
    assert_eq!(
        token::verify(secret, "salt", "hello", 0, None),
        Err(TokenError::Invalid.into())
    );
}

fn integer() -> impl Strategy<Value = Term> {
    prop_oneof![
        (-1000..1000_i64).prop_map(Term::from),
        any::<i64>().prop_map(Term::from),
        (any::<bool>(), vec(any::<u8>(), 0..300)).prop_map(|(negative, magnitude)| {
            Term::integer_from_le_bytes(negative, &magnitude).unwrap()
        }),
    ]
}

fn arbitrary_term() -> impl Strategy<Value = Term> {
    let leaf = prop_oneof![
        integer(),
        any::<f64>()
            .prop_filter_map("finite", Float::new)
            .prop_map(Term::from),
        "\\PC{0,9}".prop_map(|name| atom(&name)),
        prop_oneof![Just(Term::nil()), Just(true.into()), Just(false.into())],
        vec(any::<u8>(), 0..40).prop_map(Term::Binary),
        "\\PC*".prop_map(Term::from),
        vec(any::<u8>(), 0..40)
            .prop_map(|bytes| Term::List(bytes.into_iter().map(|b| u32::from(b).into()).collect())),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Term::List),
            vec(inner.clone(), 0..8).prop_map(Term::Tuple),
            btree_map(inner.clone(), inner, 0..8).prop_map(Term::Map),
        ]
    })
}

fn arbitrary_age() -> impl Strategy<Value = MaxAge> {
    prop_oneof![
        (1..i64::MAX).prop_map(MaxAge::Seconds),
        (1e-3..1e12).prop_map(|seconds| MaxAge::FractionalSeconds(Float::new(seconds).unwrap())),
        Just(MaxAge::Infinity),
    ]
}

/// Bytes that are often nearly a term: a term with some of its bytes changed, or its end cut off.
fn nearly_a_term() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    (
        arbitrary_term(),
        changes,
        any::<proptest::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(term, changes, end, cut)| {
            let mut bytes = term.to_bytes().unwrap();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
}

proptest! {
    #[test]
    fn any_term_survives_encoding(term in arbitrary_term()) {
        let bytes = term.to_bytes().unwrap();
        prop_assert_eq!(Term::from_bytes(&bytes), Ok(term));
    }

    #[test]
    fn any_token_is_verified_by_its_key_alone(term in arbitrary_term(), signed_at: i64, age in arbitrary_age()) {
        let token = KEY.sign(&term, signed_at, age).unwrap();
        prop_assert_eq!(KEY.verify(&token, signed_at, None), Ok(term));
        static OTHER: LazyLock<SigningKey> = LazyLock::new(|| key("another salt", &KeyOptions::DEFAULT));
        prop_assert_eq!(OTHER.verify(&token, signed_at, None), Err(TokenError::Invalid));
    }

    #[test]
    fn big_integers_are_shown_in_full(value: i128) {
        let term = Term::integer_from_le_bytes(value < 0, &value.unsigned_abs().to_le_bytes()).unwrap();
        prop_assert_eq!(term.to_json().unwrap().to_string(), value.to_string());
    }

    #[test]
    fn what_is_read_from_any_bytes_can_be_written_and_read_again(
        bytes in prop_oneof![vec(any::<u8>(), 0..200), nearly_a_term()],
    ) {
        if let Ok(term) = Term::from_bytes(&bytes) {
            let written = term.to_bytes().unwrap();
            prop_assert_eq!(Term::from_bytes(&written), Ok(term));
        }
    }

    #[test]
    fn no_text_is_taken_for_a_token(text in "\\PC*", dotted in "SFM(yNTY|zODQ|1MTI)\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,90}") {
        prop_assert_eq!(KEY.verify(&text, SIGNED, Some(MaxAge::Infinity)), Err(TokenError::Invalid));
        prop_assert_eq!(KEY.verify(&dotted, SIGNED, Some(MaxAge::Infinity)), Err(TokenError::Invalid));
    }

    #[test]
    fn a_change_of_any_byte_makes_a_token_invalid(
        term in arbitrary_term(),
        at: proptest::sample::Index,
        byte in 0..128_u8,
    ) {
        let token = KEY.sign(&term, SIGNED, MaxAge::Infinity).unwrap();
        let mut changed = token.clone().into_bytes();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert_eq!(KEY.verify(&changed, SIGNED, None), Err(TokenError::Invalid));
    }
}

#[test]
fn a_change_of_any_byte_of_a_recorded_token_makes_it_invalid() {
    let token = recorded("integer id");
    for at in 0..token.len() {
        for byte in 0..128_u8 {
            let mut changed = token.as_bytes().to_vec();
            if std::mem::replace(&mut changed[at], byte) == byte {
                continue;
            }
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                KEY.verify(&changed, SIGNED, None),
                Err(TokenError::Invalid),
                "{changed}"
            );
        }
    }
}
