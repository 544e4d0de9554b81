//! Hash commands that give single fields a time to live.

use super::super::number::parse_count;
use super::expiry::{Expiry, ExpiryOption, expire_at};
use super::strings::push_expiry;
use super::{Derived, Scratch};
use crate::protocol::resp::Arguments;

/// `HEXPIRE key time FIELDS n field ...` and its relatives.
pub(super) fn hexpire<'a>(
    arguments: &'a [&'a [u8]],
    now: i64,
    scratch: &'a mut Scratch,
) -> Option<Derived<'a>> {
    let fields = arguments.get(3..)?;
    if fields_length(fields, 1)? != fields.len() {
        return None;
    }
    let at = expire_at(arguments, now).filter(|at| *at >= 0)?;
    let mut form = Arguments::from_slice(arguments);
    form[0] = b"HPEXPIREAT";
    form[2] = scratch.milliseconds(at);
    Some(Derived::rewritten(form))
}

/// `HSETEX key [expiry] FIELDS n field value ...`; the options may also come
/// after the fields.
pub(super) fn hset_ex<'a>(
    arguments: &'a [&'a [u8]],
    now: i64,
    scratch: &'a mut Scratch,
) -> Option<Derived<'a>> {
    let mut rest = arguments.get(2..)?;
    let mut fields: Option<&[&[u8]]> = None;
    let mut expiry = ExpiryOption::default();
    while !rest.is_empty() {
        let taken = if rest[0].eq_ignore_ascii_case(b"FIELDS") && fields.is_none() {
            let length = fields_length(rest, 2)?;
            fields = Some(rest.get(..length)?);
            length
        } else {
            expiry.take(rest, now)?
        };
        if taken == 0 {
            return None;
        }
        rest = &rest[taken..];
    }
    let fields = fields?;
    if expiry.expiry == Some(Expiry::Persist) {
        return None;
    }
    let mut form = Arguments::from_slice(&[b"HSETEX", arguments[1]]);
    push_expiry(&mut form, expiry.expiry, scratch);
    form.extend_from_slice(fields);
    Some(Derived::rewritten(form))
}

/// `HGETDEL key FIELDS n field ...`.
pub(super) fn hget_del<'a>(arguments: &'a [&'a [u8]]) -> Option<Derived<'a>> {
    let fields = arguments.get(2..)?;
    if fields_length(fields, 1)? != fields.len() {
        return None;
    }
    let mut form = Arguments::from_slice(&[b"HDEL", arguments[1]]);
    form.extend_from_slice(&fields[2..]);
    Some(Derived::rewritten(form))
}

/// How many arguments `FIELDS n ...` takes where each of the `n` has `width`.
fn fields_length(arguments: &[&[u8]], width: usize) -> Option<usize> {
    if !arguments.first()?.eq_ignore_ascii_case(b"FIELDS") {
        return None;
    }
    let count = parse_count(arguments.get(1)?)?;
    count.checked_mul(width)?.checked_add(2)
}
