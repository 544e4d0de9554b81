//! What is different about a key, as far as its bytes and its expiry tell.

use super::super::target::{DatabaseKey, Value};

/// What is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The own region lacks the key.
    MissingHere,
    /// The other region lacks it.
    MissingThere,
    /// Its value.
    Value,
    /// When it expires.
    Expiry,
}

/// A key that is not the same in both regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which key.
    pub key: DatabaseKey,
    /// What is different about it.
    pub what: What,
    /// For people: what each region has.
    pub detail: String,
}

/// The difference between two values, going by their bytes. A key that is about
/// to expire may be gone on one side.
pub(super) fn quick(
    key: &DatabaseKey,
    ours: &Value,
    theirs: &Value,
    now_ms: i64,
    tolerance: i64,
) -> Option<Difference> {
    let is_going =
        |value: &Value| 0 < value.expires_at_ms && value.expires_at_ms <= now_ms + tolerance;
    let missing = |what, there: &Value| {
        let difference = Difference {
            key: key.clone(),
            what,
            detail: String::new(),
        };
        (!is_going(there)).then_some(difference)
    };
    match (&ours.bytes, &theirs.bytes) {
        (None, None) => None,
        (None, Some(_)) => missing(What::MissingHere, theirs),
        (Some(_), None) => missing(What::MissingThere, ours),
        (Some(one), Some(other)) if one == other => expiry(key, ours, theirs, tolerance),
        (Some(_), Some(_)) => Some(Difference {
            key: key.clone(),
            what: What::Value,
            detail: String::new(),
        }),
    }
}

/// The difference between the times when two equal values expire.
pub(super) fn expiry(
    key: &DatabaseKey,
    ours: &Value,
    theirs: &Value,
    tolerance: i64,
) -> Option<Difference> {
    let (one, other) = (ours.expires_at_ms, theirs.expires_at_ms);
    let is_near = one.abs_diff(other) <= tolerance as u64;
    if one == other || is_near && 0 < one && 0 < other {
        return None;
    }
    let time = |at: i64| match at {
        0 => "never".to_owned(),
        at => format!("at {}.{:03}", at / 1000, at % 1000),
    };
    Some(Difference {
        key: key.clone(),
        what: What::Expiry,
        detail: format!("expires {} here, {} there", time(one), time(other)),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn bytes_and_expiries_are_compared() {
        let key = (0, Bytes::from("k"));
        let value = |bytes: Option<&'static str>, expires_at_ms| Value {
            bytes: bytes.map(Bytes::from),
            expires_at_ms,
        };
        for (ours, theirs, expected) in [
            (value(None, 0), value(None, 0), None),
            (value(Some("a"), 0), value(Some("a"), 0), None),
            (value(Some("a"), 0), value(Some("b"), 0), Some(What::Value)),
            (
                value(Some("a"), 0),
                value(None, 0),
                Some(What::MissingThere),
            ),
            (value(None, 0), value(Some("a"), 0), Some(What::MissingHere)),
            // About to go, or gone.
            (value(None, 0), value(Some("a"), 10_500), None),
            (value(Some("a"), 9_000), value(None, 0), None),
            (
                value(Some("a"), 20_000),
                value(None, 0),
                Some(What::MissingThere),
            ),
            (value(Some("a"), 20_000), value(Some("a"), 21_000), None),
            (
                value(Some("a"), 20_000),
                value(Some("a"), 21_001),
                Some(What::Expiry),
            ),
            (
                value(Some("a"), 500),
                value(Some("a"), 0),
                Some(What::Expiry),
            ),
        ] {
            let found = quick(&key, &ours, &theirs, 10_000, 1_000);
            assert_eq!(found.map(|one| one.what), expected, "{ours:?} {theirs:?}");
        }
        let found = expiry(
            &key,
            &value(None, 1_700_000_000_123),
            &value(None, 0),
            1_000,
        );
        let detail = "expires at 1700000000.123 here, never there";
        assert_eq!(found.map(|one| one.detail).as_deref(), Some(detail));
    }
}
