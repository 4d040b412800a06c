//! Which serializer a client's `vsn` asks for.

use thiserror::Error;

use super::Serializer;

/// Why a `vsn` chooses no serializer; the connection is refused with 403.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VersionError {
    /// It is not a version by the rules of Elixir's `Version.parse`.
    #[error("the vsn {vsn:?} is not a version")]
    Invalid {
        /// What the client sent.
        vsn: String,
    },
    /// It is a version that no serializer serves.
    #[error("the vsn {vsn:?} is neither ~> 1.0.0 nor ~> 2.0.0")]
    Unsupported {
        /// What the client sent.
        vsn: String,
    },
}

impl Serializer {
    /// The serializer for a client's `vsn` parameter, 1.0.0 if there is none.
    ///
    /// Phoenix.Socket's requirements are `~> 1.0.0` and `~> 2.0.0`, read as Elixir's `Version.match?`
    /// does: any patch of 1.0 and 2.0 (2.0.1), pre-releases of a patch too (2.0.1-rc.1), but neither a
    /// pre-release of the first (2.0.0-rc.1, which comes before 2.0.0) nor one of the next minor
    /// (2.1.0-dev). The build (2.0.0+a1) does not count.
    ///
    /// # Errors
    ///
    /// [`VersionError`] for what is no version (an empty one, too) and for any other version.
    pub fn negotiate(vsn: Option<&str>) -> Result<Self, VersionError> {
        let Some(vsn) = vsn else {
            return Ok(Self::V1);
        };
        let version = Version::parse(vsn).ok_or_else(|| VersionError::Invalid {
            vsn: vsn.to_owned(),
        })?;
        match (version.major, version.minor) {
            ("1", "0") if !version.precedes_release() => Ok(Self::V1),
            ("2", "0") if !version.precedes_release() => Ok(Self::V2),
            _ => Err(VersionError::Unsupported {
                vsn: vsn.to_owned(),
            }),
        }
    }

    /// The version that a client sends as `vsn` to be served by this serializer.
    pub fn vsn(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// The parts of a version that decide; numbers stay text, since they may be of any length.
struct Version<'a> {
    major: &'a str,
    minor: &'a str,
    patch: &'a str,
    is_pre_release: bool,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (text, build) = split_off(text, '+');
        let (numbers, pre) = split_off(text, '-');
        let mut numbers = numbers.split('.');
        let version = Self {
            major: numbers.next()?,
            minor: numbers.next()?,
            patch: numbers.next()?,
            is_pre_release: pre.is_some(),
        };
        let valid = numbers.next().is_none()
            && [version.major, version.minor, version.patch]
                .into_iter()
                .all(|number| is_digits(number) && !has_leading_zero(number))
            && pre.is_none_or(|pre| {
                pre.split('.')
                    .all(|part| is_identifier(part) && !(is_digits(part) && has_leading_zero(part)))
            })
            && build.is_none_or(|build| build.split('.').all(is_identifier));
        valid.then_some(version)
    }

    /// Whether it comes before the first release of its minor version.
    fn precedes_release(&self) -> bool {
        self.patch == "0" && self.is_pre_release
    }
}

fn split_off(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((head, tail)) => (head, Some(tail)),
        None => (text, None),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0')
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_unsupported(vsn: &str) {
        assert_eq!(
            Serializer::negotiate(Some(vsn)),
            Err(VersionError::Unsupported {
                vsn: vsn.to_owned()
            }),
        );
    }

    fn assert_invalid(vsn: &str) {
        assert_eq!(
            Serializer::negotiate(Some(vsn)),
            Err(VersionError::Invalid {
                vsn: vsn.to_owned()
            }),
        );
    }

    #[test]
    fn a_missing_vsn_is_1_0_0() {
        assert_eq!(Serializer::negotiate(None), Ok(Serializer::V1));
    }

    #[test]
    fn each_serializer_is_chosen_by_its_own_vsn() {
        for serializer in [Serializer::V1, Serializer::V2] {
            assert_eq!(
                Serializer::negotiate(Some(serializer.vsn())),
                Ok(serializer)
            );
        }
    }

    #[test]
    fn any_patch_is_served() {
        for vsn in ["1.0.1", "1.0.10", "1.0.99999999999999999999999999"] {
            assert_eq!(
                Serializer::negotiate(Some(vsn)),
                Ok(Serializer::V1),
                "{vsn}"
            );
        }
        for vsn in ["2.0.1", "2.0.10", "2.0.99999999999999999999999999"] {
            assert_eq!(
                Serializer::negotiate(Some(vsn)),
                Ok(Serializer::V2),
                "{vsn}"
            );
        }
    }

    #[test]
    fn another_minor_or_major_is_refused() {
        for vsn in [
            "1.1.0", "1.9.0", "2.1.0", "2.10.0", "0.0.0", "3.0.0", "9.0.0", "10.0.0",
        ] {
            assert_unsupported(vsn);
        }
    }

    #[test]
    fn a_pre_release_of_the_first_or_of_the_next_minor_is_refused_and_of_a_patch_served() {
        for vsn in [
            "1.0.0-rc.1",
            "2.0.0-rc.1",
            "2.0.0-0",
            "2.1.0-dev",
            "2.1.0-0",
        ] {
            assert_unsupported(vsn);
        }
        assert_eq!(Serializer::negotiate(Some("1.0.1-0")), Ok(Serializer::V1));
        assert_eq!(
            Serializer::negotiate(Some("2.0.1-rc.1")),
            Ok(Serializer::V2)
        );
        assert_eq!(Serializer::negotiate(Some("2.0.10--")), Ok(Serializer::V2));
    }

    #[test]
    fn a_build_does_not_count() {
        assert_eq!(Serializer::negotiate(Some("1.0.0+7")), Ok(Serializer::V1));
        assert_eq!(
            Serializer::negotiate(Some("2.0.0+a-1.007")),
            Ok(Serializer::V2)
        );
        assert_eq!(Serializer::negotiate(Some("2.0.1-x+y")), Ok(Serializer::V2));
        assert_unsupported("2.0.0-x+y");
        assert_unsupported("2.1.0+y");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for vsn in [
            "",
            "banana",
            "2",
            "2.0",
            "2.0.",
            "2.0.0.",
            "2.0.0.0",
            ".0.0",
            "2..0",
            "02.0.0",
            "2.00.0",
            "2.0.00",
            "2.0.0-",
            "2.0.0+",
            "2.0.0-a..b",
            "2.0.1-01",
            "2.0.0-ä",
            "2.0.0+a+b",
            "2.0.0+a_b",
            "v2.0.0",
            " 2.0.0",
            "2.0.0 ",
            "2.0.x",
            "+2.0.0",
            "-2.0.0",
            "2.0.-1",
        ] {
            assert_invalid(vsn);
        }
    }

    #[test]
    fn a_numeric_part_of_a_pre_release_may_be_zero_but_not_begin_with_it() {
        assert_eq!(Serializer::negotiate(Some("2.0.1-0")), Ok(Serializer::V2));
        assert_eq!(Serializer::negotiate(Some("2.0.1-0a")), Ok(Serializer::V2));
        assert_invalid("2.0.1-00");
    }
}
