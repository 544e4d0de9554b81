//! What a scalar means, and how one is spelled.

use serde_json::Value;

/// A text, number, truth value or null.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// The text, without quotes and escapes.
    pub(super) value: String,
    pub(super) style: Style,
    /// How it stands in the source: on one line, or of a block the header and
    /// the lines, without what they are indented by.
    pub(super) source: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// No quotes: may be anything.
    Plain,
    /// In quotes: a text.
    Quoted,
    /// Lines of text under `|`.
    Block,
}

/// What a scalar means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Resolved {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text,
}

impl Scalar {
    /// A text, quoted where it has to be.
    pub(super) fn text(value: String) -> Scalar {
        let style = match value.contains('\n') {
            true if is_block(&value) => Style::Block,
            _ => Style::Quoted,
        };
        let source = is_plain(&value).then(|| value.clone());
        Scalar {
            value,
            style,
            source,
        }
    }

    /// Something that is written as it is.
    pub(super) fn plain(value: String) -> Scalar {
        Scalar {
            source: Some(value.clone()),
            value,
            style: Style::Plain,
        }
    }

    /// The text, without quotes and escapes.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The text, where it is one.
    pub fn as_str(&self) -> Option<&str> {
        (self.resolve() == Resolved::Text).then_some(self.value.as_str())
    }

    pub(super) fn is(&self, value: &str) -> bool {
        self.value == value
    }

    pub(super) fn resolve(&self) -> Resolved {
        match self.style {
            Style::Plain => resolve(&self.value),
            Style::Quoted | Style::Block => Resolved::Text,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self.resolve() {
            Resolved::Null => Value::Null,
            Resolved::Boolean(value) => Value::Bool(value),
            Resolved::Integer(number) => match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => (number as f64).into(),
            },
            Resolved::Float(number) => number.into(),
            Resolved::Text => Value::String(self.value.clone()),
        }
    }

    /// How it is written on one line.
    pub(super) fn line(&self) -> String {
        match &self.source {
            Some(source) => source.clone(),
            None if is_single_quoted(&self.value) => format!("'{}'", self.value),
            None => quoted(&self.value),
        }
    }

    /// How it is written at the start of a line, where it must not look like
    /// the line between documents.
    pub(super) fn key_line(&self) -> String {
        let line = self.flow_line();
        match line.starts_with("---") || line.starts_with("...") {
            true => quoted(&self.value),
            false => line,
        }
    }

    /// How it is written within brackets, where lines of text cannot stand.
    pub(super) fn flow_line(&self) -> String {
        match self.style {
            Style::Block => quoted(&self.value),
            Style::Plain | Style::Quoted => self.line(),
        }
    }
}

/// In double quotes. JSON's strings are YAML's too, but that YAML allows fewer
/// characters as they are.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for one in Value::String(text.to_owned()).to_string().chars() {
        match one.is_control() || is_break(one) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(one))),
            false => out.push(one),
        }
    }
    out
}

/// Characters that older readers of YAML take for the end of a line, and the
/// mark that begins a file.
fn is_break(one: char) -> bool {
    matches!(one, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// What kubectl makes of a plain scalar.
fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => {
            return Resolved::Boolean(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            return Resolved::Boolean(false);
        }
        _ => {}
    }
    let starts_like_a_number =
        text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.'));
    if !starts_like_a_number {
        return Resolved::Text;
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Resolved::Integer(number);
    }
    let is_decimal = digits
        .chars()
        .all(|one| one.is_ascii_digit() || matches!(one, '-' | '+' | '.' | 'e' | 'E'));
    match digits.parse() {
        Ok(number) if is_decimal && f64::is_finite(number) => Resolved::Float(number),
        _ => Resolved::Text,
    }
}

/// As Go's `ParseInt` with base 0: 0x, 0o, 0b, and 0 alone for octal.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let number = i128::from_str_radix(digits, base).ok()?;
    Some(sign * number)
}

/// Whether a text can stand without quotes and stays a text, to readers of
/// YAML 1.1 and 1.2.
fn is_plain(text: &str) -> bool {
    let first_fits = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let rest_fits = text.chars().all(|one| {
        one.is_ascii_alphanumeric()
            || matches!(one, '/' | '.' | '-' | '_' | ':' | '=' | '$' | '(' | ')')
    });
    let is_text =
        first_fits && rest_fits && !text.ends_with(':') && resolve(text) == Resolved::Text;
    is_text || is_quantity(text)
}

/// A number with a unit: no reader takes it for a number.
fn is_quantity(text: &str) -> bool {
    let unit = text.trim_start_matches(|one: char| one.is_ascii_digit());
    unit.len() < text.len() && matches!(unit, "m" | "s" | "Ki" | "Mi" | "Gi" | "Ti")
}

/// Whether a text is easier to read in single quotes: JSON is.
fn is_single_quoted(text: &str) -> bool {
    let fits = |one: char| matches!(one, ' '..='~') && one != '\'';
    text.contains('"') && text.chars().all(fits)
}

/// Whether a text of several lines can be written under `|` and be read as
/// it was.
fn is_block(text: &str) -> bool {
    let starts_right = !text.starts_with([' ', '\t', '\n']);
    let is_visible = text
        .lines()
        .all(|line| line.is_empty() || !line.trim().is_empty());
    let is_printable = text
        .chars()
        .all(|one| one == '\n' || one == '\t' || !(one.is_control() || is_break(one)));
    starts_right && is_visible && is_printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_kubectl_makes_of_them() {
        for (text, expected) in [
            ("", Resolved::Null),
            ("~", Resolved::Null),
            ("on", Resolved::Boolean(true)),
            ("No", Resolved::Boolean(false)),
            ("0644", Resolved::Integer(420)),
            ("0o644", Resolved::Integer(420)),
            ("0x1F", Resolved::Integer(31)),
            ("1_000", Resolved::Integer(1000)),
            ("-7", Resolved::Integer(-7)),
            ("0", Resolved::Integer(0)),
            ("1.5", Resolved::Float(1.5)),
            ("1e3", Resolved::Float(1000.0)),
            ("1.2.3", Resolved::Text),
            ("100m", Resolved::Text),
            ("089", Resolved::Float(89.0)),
            ("nan", Resolved::Text),
            ("1e400", Resolved::Text),
            ("y", Resolved::Boolean(true)),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_quoted_where_they_would_mean_something_else() {
        for (text, expected) in [
            ("sessions", "sessions"),
            ("/etc/wal-sidecar", "/etc/wal-sidecar"),
            ("redis://127.0.0.1:6380/2", "redis://127.0.0.1:6380/2"),
            ("9900", "\"9900\""),
            ("true", "\"true\""),
            ("on", "\"on\""),
            ("y", "\"y\""),
            ("null", "\"null\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("a:", "\"a:\""),
            ("{\"a\":1}", "'{\"a\":1}'"),
            ("it's \"so\"", "\"it's \\\"so\\\"\""),
            ("100m", "100m"),
            ("8Gi", "8Gi"),
            ("1e3", "\"1e3\""),
            ("1.5Gi", "\"1.5Gi\""),
        ] {
            assert_eq!(Scalar::text(text.to_owned()).line(), expected);
        }
    }
}
