//! Numbers as the datastore reads them.

/// An integer in the one way the datastore writes it: no sign but a minus, no
/// leading zeros, no spaces. What is written otherwise it rejects.
pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A count: an integer of at least 1.
pub(super) fn parse_count(text: &[u8]) -> Option<usize> {
    usize::try_from(parse_integer(text)?)
        .ok()
        .filter(|count| *count >= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_integer() {
        let cases: [(&str, Option<i64>); 16] = [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("+7", None),
            ("007", None),
            (" 7", None),
            ("7 ", None),
            ("7.0", None),
            ("1e3", None),
            ("-", None),
            ("", None),
            ("seven", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_count_is_at_least_one() {
        assert_eq!(parse_count(b"1"), Some(1));
        assert_eq!(parse_count(b"0"), None);
        assert_eq!(parse_count(b"-1"), None);
    }
}
