//! How single values are written: durations, sizes, choices; and what was
//! probably meant where they are misspelled.

use super::document::{Node, Value};
use super::position::Position;
use serde::Serializer;
use std::time::Duration;

/// The units of a duration, the longest first, in nanoseconds.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// The units of a size, the largest first, in bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A value chosen from a fixed list of words.
pub(super) trait Choice: Copy + 'static {
    /// The words and what they stand for.
    const ALL: &'static [(&'static str, Self)];
    /// Words that are recognised, and why they cannot be used.
    const UNAVAILABLE: &'static [(&'static str, &'static str)];
}

/// Declares an enum that is written as one of a list of words.
macro_rules! choices {
    (
        $(#[$meta:meta])* $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
        unavailable { $($other:literal: $why:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word it is written as in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::values::Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, $name::$variant),)+];
            const UNAVAILABLE: &'static [(&'static str, &'static str)] = &[$(($other, $why),)*];
        }
    };
}
pub(super) use choices;

/// Reads one of a list of words.
pub(super) fn choice<T: Choice>(node: &Node) -> Result<T, String> {
    let words: Vec<&str> = T::ALL.iter().map(|(word, _)| *word).collect();
    let expected = match words.as_slice() {
        [only] => format!("expected \"{only}\""),
        _ => format!("expected one of {}", words.join(", ")),
    };
    let Value::String(found) = &node.value else {
        return Err(format!("{expected}, found {}", node.describe()));
    };
    if let Some((_, value)) = T::ALL.iter().find(|(word, _)| word == found) {
        return Ok(*value);
    }
    if let Some((word, why)) = T::UNAVAILABLE.iter().find(|(word, _)| word == found) {
        return Err(format!("{expected}; {why} (\"{word}\")"));
    }
    let hint = did_you_mean(found, &words);
    Err(format!("{expected}, found {found:?}{hint}"))
}

/// Reads a text.
pub(super) fn text(node: &Node) -> Result<String, String> {
    match &node.value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!(
            "expected a text in quotes, found {}",
            node.describe()
        )),
    }
}

/// Reads a whole number from `min` to `max`.
pub(super) fn boolean(node: &Node) -> Result<bool, String> {
    match &node.value {
        Value::Boolean(value) => Ok(*value),
        // As a variable has it.
        Value::String(text) if text == "true" || text == "false" => Ok(text == "true"),
        _ => Err(format!("expected true or false, found {}", node.describe())),
    }
}

pub(super) fn integer(node: &Node, min: u64, max: u64) -> Result<u64, String> {
    let expected = format!("expected a whole number from {min} to {max}");
    let found = match (&node.value, &node.at) {
        (Value::Integer(number), _) => u64::try_from(*number).ok(),
        // Variables have no types of their own.
        (Value::String(text), Position::Variable(_)) => text.parse().ok(),
        _ => None,
    };
    match found {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{expected}, found {}", node.describe())),
    }
}

/// Reads a duration of at least `min` and at most `max`.
pub(super) fn duration(node: &Node, min: Duration, max: Duration) -> Result<Duration, String> {
    let expected = "expected a duration such as \"250ms\", \"5s\", \"1h\" or \"1m30s\"";
    let found = match &node.value {
        Value::String(text) => parse_duration(text),
        Value::Integer(number) => {
            return Err(format!(
                "{expected}, found {} without a unit (\"{number}s\" or \"{number}ms\"?)",
                node.describe()
            ));
        }
        _ => None,
    };
    let Some(found) = found else {
        return Err(format!("{expected}, found {}", node.describe()));
    };
    if found < min || found > max {
        let (min, max) = (format_duration(min), format_duration(max));
        return Err(format!(
            "expected a duration from {min} to {max}, found {}",
            node.describe()
        ));
    }
    Ok(found)
}

/// Reads a number of bytes of at least `min` and at most `max`.
pub(super) fn size(node: &Node, min: u64, max: u64) -> Result<u64, String> {
    let expected = "expected a size such as \"64MiB\", \"4GiB\" or a number of bytes";
    let found = match &node.value {
        Value::String(text) => parse_size(text),
        Value::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let Some(found) = found else {
        let hint = match &node.value {
            Value::String(text) => size_hint(text),
            _ => String::new(),
        };
        return Err(format!("{expected}, found {}{hint}", node.describe()));
    };
    if found < min || found > max {
        let (min, max) = (format_size(min), format_size(max));
        return Err(format!(
            "expected a size from {min} to {max}, found {}",
            node.describe()
        ));
    }
    Ok(found)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total: Option<u64> = None;
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()) {
        let number: u64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let unit = after[..unit_end].trim();
        let (_, nanoseconds) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        total = Some(
            total
                .unwrap_or(0)
                .checked_add(number.checked_mul(*nanoseconds)?)?,
        );
        rest = &after[unit_end..];
    }
    match rest {
        "" => total.map(Duration::from_nanos),
        _ => None,
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" => "B",
        unit => unit,
    };
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

/// "64MB" may mean two sizes that differ by 5 %; only one of them is offered.
fn size_hint(text: &str) -> String {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit = text[digits..].trim().to_ascii_uppercase();
    let binary = SIZE_UNITS.iter().find(|(name, _)| {
        let letter = &name[..1];
        unit == letter
            || unit == format!("{letter}B")
            || unit == format!("{letter}I")
            || unit == name.to_ascii_uppercase()
    });
    match binary {
        Some((name, _)) if digits > 0 => format!(" (did you mean \"{}{name}\"?)", &text[..digits]),
        _ => String::new(),
    }
}

/// A duration in its largest unit that needs no fraction: `"1500ms"`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let whole = |unit: &&(&str, u64)| nanoseconds >= unit.1 && nanoseconds % unit.1 == 0;
    match DURATION_UNITS.iter().find(whole) {
        Some((name, unit)) => format!("{}{name}", nanoseconds / unit),
        None => format!("{}us", nanoseconds / 1_000),
    }
}

/// A number of bytes in its largest unit that needs no fraction: `"64MiB"`.
pub fn format_size(bytes: u64) -> String {
    let whole = |unit: &&(&str, u64)| bytes >= unit.1 && bytes.is_multiple_of(unit.1);
    match SIZE_UNITS.iter().find(whole) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

pub(super) fn serialize_duration<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

pub(super) fn serialize_optional_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serialize_duration(duration, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn serialize_size<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_size(*bytes))
}

pub(super) fn serialize_optional_size<S: Serializer>(
    bytes: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serialize_size(bytes, serializer),
        None => serializer.serialize_none(),
    }
}

/// ` (did you mean "x"?)` where one of `candidates` is close to `found`,
/// else nothing.
pub(super) fn did_you_mean(found: &str, candidates: &[&str]) -> String {
    let found = found.to_lowercase();
    let closest = candidates
        .iter()
        .map(|candidate| (distance(&found, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance);
    match closest {
        // A third of the letters may be wrong, and at least one, at most three.
        Some((distance, candidate)) if distance <= (candidate.len() / 3).clamp(1, 3) => {
            format!(" (did you mean \"{candidate}\"?)")
        }
        _ => String::new(),
    }
}

/// How many letters have to be inserted, removed, replaced, or swapped with
/// their neighbour to make one word of the other (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        let ms = |text: &str| parse_duration(text).map(|d| d.as_micros() as f64 / 1000.0);
        for (text, expected) in [
            ("250ms", Some(250.0)),
            ("5s", Some(5000.0)),
            ("1h", Some(3_600_000.0)),
            ("1m30s", Some(90_000.0)),
            ("2 s", Some(2000.0)),
            ("50us", Some(0.05)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("1.5s", None),
            ("5 seconds", None),
            ("99999999999999999999s", None),
            ("9999999999d", None),
        ] {
            assert_eq!(ms(text), expected, "{text:?}");
        }
        for text in ["250ms", "5s", "1h", "90s", "1d", "50us"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, expected) in [
            ("64MiB", Some(64 << 20)),
            ("4 GiB", Some(4 << 30)),
            ("100", Some(100)),
            ("100B", Some(100)),
            ("64MB", None),
            ("MiB", None),
            ("-1", None),
            ("99999999TiB", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
        for text in ["64MiB", "1536MiB", "4GiB", "1000B"] {
            assert_eq!(format_size(parse_size(text).unwrap()), text);
        }
        assert_eq!(size_hint("64MB"), " (did you mean \"64MiB\"?)");
        assert_eq!(size_hint("64m"), " (did you mean \"64MiB\"?)");
        assert_eq!(size_hint("lots"), "");
    }

    #[test]
    fn near_misses_are_recognised() {
        let candidates = ["durable", "enqueued", "off"];
        for (found, hint) in [
            ("durible", " (did you mean \"durable\"?)"),
            ("Durable", " (did you mean \"durable\"?)"),
            ("enqeued", " (did you mean \"enqueued\"?)"),
            ("of", " (did you mean \"off\"?)"),
            ("sometimes", ""),
        ] {
            assert_eq!(did_you_mean(found, &candidates), hint, "{found}");
        }
        assert_eq!(distance("lisetn", "listen"), 1);
    }
}
