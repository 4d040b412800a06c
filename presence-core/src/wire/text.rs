//! Reading the outermost array or object of a JSON text, and writing strings.
//!
//! Only the outermost level is taken apart: each element is checked to be JSON and kept as the text that
//! it is. `serde_json` skips over a value without recursion, so depth costs nothing here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Limits;
use super::error::{DecodeError, Field};
use super::payload::Json;
use super::reference::Ref;

/// The first five elements of the array that `text` is; further ones are only checked to be JSON.
pub(super) fn parse_array(text: &str) -> Result<[Option<&RawValue>; 5], DecodeError> {
    deserialize(text, Elements, "an array")
}

/// The values of the keys named, in that order; of a repeated key the last one, as in JavaScript.
pub(super) fn parse_object<const N: usize>(
    text: &str,
    fields: [Field; N],
) -> Result<[Option<&RawValue>; N], DecodeError> {
    deserialize(text, Entries(fields), "an object")
}

fn deserialize<'a, S: DeserializeSeed<'a>>(
    text: &'a str,
    seed: S,
    expected: &'static str,
) -> Result<S::Value, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    seed.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| not_json(&error, text, expected))
}

fn not_json(error: &serde_json::Error, text: &str, expected: &'static str) -> DecodeError {
    let reason = if error.is_data() {
        // Elements are taken as they are, so that only the outermost type can be wrong. The rest has
        // not been read then, and may not be JSON at all.
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => return DecodeError::WrongShape { expected },
            Err(error) => error.to_string(),
        }
    } else {
        error.to_string()
    };
    DecodeError::NotJson { reason }
}

struct Elements;

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = [Option<&'de RawValue>; 5];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = [Option<&'de RawValue>; 5];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = [None; 5];
        for element in &mut elements {
            *element = seq.next_element()?;
            if element.is_none() {
                return Ok(elements);
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(elements)
    }
}

struct Entries<const N: usize>([Field; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Entries<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Entries<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(found) = map.next_key_seed(Key(&self.0))? {
            match found {
                Some(index) => values[index] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// The index of a key among the fields looked for.
struct Key<'f>(&'f [Field]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|field| field.name() == key))
    }
}

/// A field that must be a string, borrowed from the frame unless it has escapes.
pub(super) fn string<'a>(
    frame: &str,
    raw: &'a RawValue,
    field: Field,
    limits: &Limits,
) -> Result<Cow<'a, str>, DecodeError> {
    let at = offset(frame, raw);
    let text = unquote(raw)
        .ok_or(DecodeError::NotAString { field, at })?
        .map_err(|LoneSurrogate| DecodeError::LoneSurrogate { field, at })?;
    limits.check_field(field, at, text.len())?;
    Ok(text)
}

/// A ref, of whatever JSON it is.
pub(super) fn reference<'a>(
    frame: &str,
    raw: &'a RawValue,
    field: Field,
    limits: &Limits,
) -> Result<Ref<'a>, DecodeError> {
    let at = offset(frame, raw);
    if has_lone_surrogate(raw.get()) {
        return Err(DecodeError::LoneSurrogate { field, at });
    }
    let reference = match unquote(raw) {
        Some(Ok(text)) => Ref::from_string(text),
        Some(Err(LoneSurrogate)) => return Err(DecodeError::LoneSurrogate { field, at }),
        None => Ref::from_json_text(raw.get()),
    };
    limits.check_field(field, at, reference.len())?;
    Ok(reference)
}

/// A field that may be any JSON.
pub(super) fn json<'a>(
    frame: &str,
    raw: &'a RawValue,
    field: Field,
) -> Result<Json<'a>, DecodeError> {
    let at = offset(frame, raw);
    Json::from_raw(raw).ok_or(DecodeError::LoneSurrogate { field, at })
}

/// The bytes of the frame before a value of it.
pub(super) fn offset(frame: &str, raw: &RawValue) -> usize {
    (raw.get().as_ptr() as usize).saturating_sub(frame.as_ptr() as usize)
}

struct LoneSurrogate;

/// The content of a JSON string; None for any other value.
fn unquote(raw: &RawValue) -> Option<Result<Cow<'_, str>, LoneSurrogate>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(if inner.contains('\\') {
        // The text has been checked to be JSON, but for its surrogates.
        serde_json::from_str(text)
            .map(Cow::Owned)
            .map_err(|_| LoneSurrogate)
    } else {
        Ok(Cow::Borrowed(inner))
    })
}

/// Whether a `\u` escape in this JSON text is half of a surrogate pair.
pub(super) fn has_lone_surrogate(json: &str) -> bool {
    let mut rest = json;
    // A backslash is always within a string, and the byte after it is not the begin of an escape.
    while let Some(at) = rest.find('\\') {
        rest = &rest[at..];
        match code_unit(rest) {
            Some(0xD800..=0xDBFF) => match rest.get(6..).and_then(code_unit) {
                Some(0xDC00..=0xDFFF) => rest = &rest[12..],
                _ => return true,
            },
            Some(0xDC00..=0xDFFF) => return true,
            Some(_) => rest = &rest[6..],
            None => rest = rest.get(2..).unwrap_or_default(),
        }
    }
    false
}

/// The code unit of the `\uXXXX` that the text begins with.
fn code_unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// Writes a JSON string.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\u{1f}')) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(control >> 4)]));
                out.push(char::from(HEX[usize::from(control & 15)]));
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_serde_json_reads_them() {
        let every_control: String = ('\0'..='\u{20}').collect();
        for text in [
            "",
            "plain",
            "é☃🎉",
            "a\"b\\c/d",
            "\u{7f}\u{80}",
            &every_control,
        ] {
            let mut out = String::new();
            write_string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_is_found_wherever_it_is() {
        for json in [
            r#""\ud800""#,
            r#""\uDBFF""#,
            r#""\udc00""#,
            r#""\uDFFF""#,
            r#""\ud83d\u0041""#,
            r#""\ud83dx""#,
            r#""\ud83d\n""#,
            r#""\ud83d\ud83d\ude00""#,
            r#""\ude00\ud83d""#,
            r#"{"\ud800":1}"#,
            r#"["\\","\\\ud800"]"#,
            r#""\u00e9\ud800""#,
            r#""\ud83d\ude00\ud800""#,
        ] {
            assert!(has_lone_surrogate(json), "{json}");
        }
        for json in [
            "{}",
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00\ud83d\ude00""#,
            r#""\\ud800""#,
            r#""\\\\ud800""#,
            r#""\u0041\ud7ff\ue000\"""#,
        ] {
            assert!(!has_lone_surrogate(json), "{json}");
        }
    }

    #[test]
    fn the_fields_of_an_object_are_found_in_any_order_and_the_last_of_a_repeated_key_counts() {
        let text = r#" {"x":[{}],"ref":1, "t\u006fpic":"a","ref" : 2 } "#;
        let [reference, topic, event] =
            parse_object(text, [Field::Ref, Field::Topic, Field::Event]).unwrap();
        assert_eq!(reference.unwrap().get(), "2");
        assert_eq!(topic.unwrap().get(), "\"a\"");
        assert!(event.is_none());
    }

    #[test]
    fn what_is_json_of_another_shape_is_told_from_what_is_not_json() {
        for text in ["{}", "1", "null", "\"a\"", "true"] {
            let expected = "an array";
            assert_eq!(
                parse_array(text).unwrap_err(),
                DecodeError::WrongShape { expected }
            );
        }
        for text in [
            "",
            "{",
            "{}}",
            "[1,2,3,4,5",
            "[1,2,3,4,5]x",
            "[1,2,3,4,5,]",
            "hello",
        ] {
            assert!(
                matches!(parse_array(text), Err(DecodeError::NotJson { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("[1,2,3,4,{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse_array(&deep).unwrap()[4].unwrap().get().len(), 200_000);
        let deep = format!("[1,2,3,4,5,{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse_array(&deep).is_ok());
        let wrong = format!("{}{}", "{\"a\":".repeat(100_000), "[");
        assert!(parse_array(&wrong).is_err());
    }
}
