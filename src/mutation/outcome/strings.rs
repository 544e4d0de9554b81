//! SET with conditions, GETEX, INCRBYFLOAT.

use super::{effect, nothing_done};
use crate::mutation::Outcome;
use crate::mutation::derive::{Condition, Expiry, ExpiryOption, Scratch, SetOptions};
use crate::mutation::reply::Reply;

pub(super) fn set(arguments: &[&[u8]], reply: &Reply<'_>, now: i64) -> Option<Outcome> {
    let options = SetOptions::parse(arguments, now)?;
    let was_set = if options.get {
        was_set_given_old_value(options.condition, reply)?
    } else {
        *reply != Reply::Nil
    };
    if !was_set {
        return Some(nothing_done());
    }
    let mut scratch = Scratch::default();
    let form = options.unconditional(arguments[1], arguments[2], &mut scratch);
    Some(effect(&form))
}

/// With GET the reply is the value before, nil for none, set or not.
fn was_set_given_old_value(condition: Option<Condition<'_>>, old: &Reply<'_>) -> Option<bool> {
    let existed = *old != Reply::Nil;
    match condition {
        None => Some(true),
        Some(Condition::Missing) => Some(!existed),
        Some(Condition::Exists) => Some(existed),
        Some(Condition::Equal(value)) => Some(existed && old.text()? == value),
        Some(Condition::NotEqual(value)) => Some(!existed || old.text()? != value),
        // The digest is the datastore's own; it is not computed here.
        Some(Condition::DigestEqual) => (!existed).then_some(false),
        Some(Condition::DigestNotEqual) => (!existed).then_some(true),
    }
}

/// `GETEX key [EX|PX|EXAT|PXAT time | PERSIST]`.
pub(super) fn get_ex(arguments: &[&[u8]], reply: &Reply<'_>, now: i64) -> Option<Outcome> {
    if *reply == Reply::Nil {
        return Some(nothing_done());
    }
    let key = *arguments.get(1)?;
    let mut options = arguments.get(2..)?;
    let mut expiry = ExpiryOption::default();
    while !options.is_empty() {
        let taken = expiry.take(options, now)?;
        if taken == 0 {
            return None;
        }
        options = &options[taken..];
    }
    match expiry.expiry {
        None => Some(nothing_done()),
        Some(Expiry::At(at)) => Some(effect(&[b"PEXPIREAT", key, at.to_string().as_bytes()])),
        Some(Expiry::Persist) => Some(effect(&[b"PERSIST", key])),
        Some(Expiry::Keep) => None,
    }
}

/// The sum as the datastore rounded and wrote it; the key's time to live stays.
pub(super) fn incr_by_float(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    let key = *arguments.get(1)?;
    Some(effect(&[b"SET", key, reply.text()?, b"KEEPTTL"]))
}
