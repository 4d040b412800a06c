//! Values of flags: times, sizes and counts, written as a person writes them.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use presence_server::cluster;

/// A time: `500ms`, `30s`, `5m`, `12h`, `14d`; a bare number is seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Time(pub(crate) Duration);

/// The units of a time in milliseconds, the largest first.
const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A hundred years, so that no sum of times overflows.
const LONGEST_MS: u64 = 36_500 * 86_400_000;

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text)
            .ok_or("write a time such as 500ms, 30s, 5m, 12h or 14d; a bare number is seconds")?;
        let unit = if unit.is_empty() { "s" } else { unit };
        let known = TIMES.iter().find(|(name, _)| *name == unit);
        let (_, ms) =
            known.ok_or_else(|| format!("{unit:?} is no unit of time: ms, s, m, h or d"))?;
        match number.checked_mul(*ms) {
            Some(ms) if ms <= LONGEST_MS => Ok(Self(Duration::from_millis(ms))),
            _ => Err("a time is at most 36500d".into()),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = |(_, unit): &&(&str, u64)| ms > 0 && ms.is_multiple_of(*unit);
        match TIMES.iter().find(whole) {
            Some((name, unit)) => write!(f, "{}{name}", ms / unit),
            None => f.write_str("0s"),
        }
    }
}

/// A time that is more than none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SomeTime(pub(crate) Duration);

impl FromStr for SomeTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Time(Duration::ZERO) => Err("it must be more than zero".into()),
            Time(time) => Ok(Self(time)),
        }
    }
}

impl fmt::Display for SomeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Time(self.0).fmt(f)
    }
}

/// A time as the reference has it in its settings: a bare number is milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Period(pub(crate) Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_bare = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        let text = if is_bare {
            format!("{text}ms")
        } else {
            text.to_owned()
        };
        match text.parse() {
            Ok(SomeTime(time)) => Ok(Self(time)),
            Err(error) => Err(error.replace("seconds", "milliseconds")),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Time(self.0).fmt(f)
    }
}

/// A number of bytes: `512`, `64KiB`, `8MiB`, `1GiB`; at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bytes(pub(crate) usize);

/// The units of a size, the largest first.
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text)
            .ok_or("write a size such as 512, 64KiB, 8MiB or 1GiB; a bare number is bytes")?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let known = SIZES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, size) = known.ok_or_else(|| format!("{unit:?} is no unit: KiB, MiB or GiB"))?;
        let bytes = number.checked_mul(*size);
        match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(0) => Err("it must be at least one byte".into()),
            Some(bytes) => Ok(Self(bytes)),
            None => Err("it is more than this machine can address".into()),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let whole = |(_, unit): &&(&str, u64)| bytes.is_multiple_of(*unit);
        match SIZES.iter().find(whole) {
            Some((name, unit)) if *unit > 1 => write!(f, "{}{name}", bytes / unit),
            _ => write!(f, "{bytes}"),
        }
    }
}

/// A number and what follows it; `None` where there is no number, or none that 64 bits hold.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Reads a count from 1 to `max`.
pub(crate) fn count(max: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let count = text.parse().ok().filter(|count| (1..=max).contains(count));
        count.ok_or_else(|| match max {
            usize::MAX => "write a whole number, at least 1".into(),
            max => format!("write a whole number from 1 to {max}"),
        })
    }
}

/// Reads whether a switch is on.
pub(crate) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

/// Reads a secret from a file; space around it is not part of it.
pub(crate) fn secret_in(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

/// Reads where a node is, or is to be.
pub(crate) fn host_and_port(text: &str) -> Result<String, String> {
    let address = cluster::is_address(text).then(|| text.into());
    address.ok_or_else(|| {
        "write HOST:PORT, such as 10.0.0.1:4370, [::1]:4370 or nodes.example:4370".into()
    })
}

/// Reads the name of a node or of a cluster.
pub(crate) fn node_name(text: &str) -> Result<String, String> {
    let name = cluster::is_name(text).then(|| text.into());
    name.ok_or_else(|| "a name has 1 to 255 bytes and no control characters".into())
}

/// Reads the port of a listener.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "write a number from 0 to 65535".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<String, String> {
        text.parse().map(|Time(time)| format!("{time:?}"))
    }

    fn bytes(text: &str) -> Result<usize, String> {
        text.parse().map(|Bytes(bytes)| bytes)
    }

    #[test]
    fn a_time_is_a_number_with_a_unit_or_seconds() {
        assert_eq!(time("90").unwrap(), "90s");
        assert_eq!(time("0").unwrap(), "0ns");
        assert_eq!(time("1500ms").unwrap(), "1.5s");
        assert_eq!(time("30s").unwrap(), "30s");
        assert_eq!(time("5 m").unwrap(), "300s");
        assert_eq!(time("12h").unwrap(), "43200s");
        assert_eq!(time("14d").unwrap(), "1209600s");
    }

    #[test]
    fn what_is_no_time_says_why() {
        for text in ["", "soon", "-5s", "d", "99999999999999999999"] {
            assert!(
                time(text).unwrap_err().starts_with("write a time"),
                "{text}"
            );
        }
        assert_eq!(
            time("3 weeks").unwrap_err(),
            "\"weeks\" is no unit of time: ms, s, m, h or d"
        );
        assert_eq!(time("36501d").unwrap_err(), "a time is at most 36500d");
        assert_eq!(
            time("9999999999999999d").unwrap_err(),
            "a time is at most 36500d"
        );
        assert_eq!(
            "0s".parse::<SomeTime>().unwrap_err(),
            "it must be more than zero"
        );
    }

    #[test]
    fn a_size_is_a_number_of_bytes_or_of_a_power_of_two() {
        assert_eq!(bytes("1").unwrap(), 1);
        assert_eq!(bytes("64KiB").unwrap(), 65_536);
        assert_eq!(bytes("8 mib").unwrap(), 8 << 20);
        assert_eq!(bytes("1GiB").unwrap(), 1 << 30);
        assert!(bytes("many").unwrap_err().starts_with("write a size"));
        assert_eq!(
            bytes("1MB").unwrap_err(),
            "\"MB\" is no unit: KiB, MiB or GiB"
        );
        assert_eq!(bytes("0").unwrap_err(), "it must be at least one byte");
        assert!(
            bytes("99999999999GiB")
                .unwrap_err()
                .starts_with("it is more")
        );
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        for text in ["0s", "500ms", "90s", "5m", "36h", "14d"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        for text in ["1", "1000", "3KiB", "8MiB", "2GiB"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_count_has_bounds() {
        assert_eq!(count(10)("10"), Ok(10));
        assert_eq!(
            count(10)("0").unwrap_err(),
            "write a whole number from 1 to 10"
        );
        assert_eq!(
            count(10)("11").unwrap_err(),
            "write a whole number from 1 to 10"
        );
        assert_eq!(
            count(usize::MAX)("-1").unwrap_err(),
            "write a whole number, at least 1"
        );
    }
}
