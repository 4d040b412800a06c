//! Reading a vector: each value is taken out with its place, so that an error can name it.

use std::fmt;

use serde_json::{Map, Value};

use super::Unreadable;

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) value: &'a Value,
    place: Place<'a>,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Member(&'a At<'a>, &'a str),
    Element(&'a At<'a>, usize),
    /// A step or case, which people count from 1.
    Numbered(&'static str, usize),
}

impl<'a> At<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        let place = Place::Root;
        Self { value, place }
    }

    /// The `number`-th step, or case, from 1.
    pub(super) fn numbered(value: &'a Value, what: &'static str, number: usize) -> Self {
        let place = Place::Numbered(what, number);
        Self { value, place }
    }

    pub(super) fn wrong(&self, reason: impl fmt::Display) -> Unreadable {
        Unreadable::new(self.place.to_string(), reason)
    }

    fn expected(&self, what: &str) -> Unreadable {
        const SHOWN: usize = 60;
        let mut found = self.value.to_string();
        if let Some((end, _)) = found.char_indices().nth(SHOWN) {
            found.truncate(end);
            found.push('…');
        }
        self.wrong(format_args!("must be {what}, but is {found}"))
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, Unreadable> {
        let object = self.value.as_object();
        object.ok_or_else(|| self.expected("an object"))
    }

    pub(super) fn member(&'a self, name: &'a str) -> Result<Self, Unreadable> {
        self.optional(name)?
            .ok_or_else(|| self.wrong(format_args!("has no {name:?}")))
    }

    pub(super) fn optional(&'a self, name: &'a str) -> Result<Option<Self>, Unreadable> {
        let place = Place::Member(self, name);
        let value = self.object()?.get(name);
        Ok(value.map(|value| Self { value, place }))
    }

    pub(super) fn members(&'a self) -> Result<impl Iterator<Item = (&'a str, Self)>, Unreadable> {
        Ok(self.object()?.iter().map(|(name, value)| {
            let place = Place::Member(self, name);
            (name.as_str(), Self { value, place })
        }))
    }

    pub(super) fn elements(&'a self) -> Result<impl Iterator<Item = Self>, Unreadable> {
        let elements = self.value.as_array();
        let elements = elements.ok_or_else(|| self.expected("an array"))?;
        Ok(elements.iter().enumerate().map(|(index, value)| {
            let place = Place::Element(self, index);
            Self { value, place }
        }))
    }

    /// The elements of an array of exactly `N`, which `what` describes.
    pub(super) fn tuple<const N: usize>(&'a self, what: &str) -> Result<[Self; N], Unreadable> {
        let elements: Vec<Self> = match self.value {
            Value::Array(_) => self.elements()?.collect(),
            _ => Vec::new(),
        };
        elements.try_into().map_err(|_| self.expected(what))
    }

    /// The steps, or cases, of a vector: at least one.
    pub(super) fn numbered_elements(
        &self,
        what: &'static str,
    ) -> Result<impl Iterator<Item = (usize, At<'a>)> + use<'a>, Unreadable> {
        let elements = self.value.as_array();
        let elements = elements.ok_or_else(|| self.expected("an array"))?;
        if elements.is_empty() {
            return Err(self.wrong("is empty"));
        }
        let numbered = move |(number, value)| (number, At::numbered(value, what, number));
        Ok((1..).zip(elements).map(numbered))
    }

    pub(super) fn text(&self) -> Result<&'a str, Unreadable> {
        let text = self.value.as_str();
        text.ok_or_else(|| self.expected("a string"))
    }

    pub(super) fn owned_text(&self) -> Result<String, Unreadable> {
        self.text().map(str::to_owned)
    }

    pub(super) fn boolean(&self) -> Result<bool, Unreadable> {
        let boolean = self.value.as_bool();
        boolean.ok_or_else(|| self.expected("true or false"))
    }

    pub(super) fn counter(&self) -> Result<u64, Unreadable> {
        let counter = self.value.as_u64();
        counter.ok_or_else(|| self.expected("a whole number from 0"))
    }

    pub(super) fn integer(&self) -> Result<i64, Unreadable> {
        let integer = self.value.as_i64();
        integer.ok_or_else(|| self.expected("a whole number"))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Numbered(what, number) => write!(f, "{what} {number}"),
            Self::Element(of, index) => write!(f, "{}[{index}]", of.place),
            Self::Member(of, name) => {
                let separator = match of.place {
                    Self::Root => "",
                    Self::Numbered(..) => ", ",
                    Self::Member(..) | Self::Element(..) => ".",
                };
                write!(f, "{}{separator}{name}", of.place)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_names_the_place() {
        let value = json!({"joins": [["t", 5]]});
        let step = At::numbered(&value, "step", 3);
        let joins = step.member("joins").unwrap();
        let join = joins.elements().unwrap().next().unwrap();
        let [topic, pid] = join.tuple("[topic, pid]").unwrap();
        assert_eq!(topic.text().unwrap(), "t");
        assert_eq!(
            pid.text().unwrap_err().to_string(),
            "step 3, joins[0][1]: must be a string, but is 5"
        );
        let short = join.tuple::<3>("[topic, pid, key]").map(drop);
        assert_eq!(
            short.unwrap_err().to_string(),
            r#"step 3, joins[0]: must be [topic, pid, key], but is ["t",5]"#
        );
        let missing = step.member("leaves").map(drop).unwrap_err();
        assert_eq!(missing.to_string(), r#"step 3: has no "leaves""#);
        let root = At::root(&value).boolean().unwrap_err();
        assert_eq!(
            root.to_string(),
            r#"must be true or false, but is {"joins":[["t",5]]}"#
        );
    }

    #[test]
    fn what_was_found_is_cut_short() {
        let value = json!("é".repeat(100));
        let error = At::root(&value).counter().unwrap_err().to_string();
        assert!(error.ends_with("éé…"), "{error}");
        assert!(error.chars().count() < 110);
    }

    #[test]
    fn numbers_are_whole_and_not_negative_where_they_count() {
        for (value, counter, integer) in [
            (json!(0), true, true),
            (json!(-1), false, true),
            (json!(1.5), false, false),
            (json!(u64::MAX), true, false),
            (json!("1"), false, false),
        ] {
            assert_eq!(At::root(&value).counter().is_ok(), counter, "{value}");
            assert_eq!(At::root(&value).integer().is_ok(), integer, "{value}");
        }
    }
}
