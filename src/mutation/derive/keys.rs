//! EXPIRE and its relatives, RESTORE, MIGRATE.

use super::super::number::parse_integer;
use super::expiry::{absolute, expire_at};
use super::{Derived, Form, Scratch};
use crate::protocol::resp::Arguments;

pub(super) fn expire<'a>(
    arguments: &'a [&'a [u8]],
    now: i64,
    scratch: &'a mut Scratch,
) -> Option<Derived<'a>> {
    let [_, key, _] = *arguments else {
        return None;
    };
    let at = expire_at(arguments, now)?;
    Some(Derived::rewritten(Arguments::from_slice(&[
        b"PEXPIREAT",
        key,
        scratch.milliseconds(at),
    ])))
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ n]`.
pub(super) fn restore<'a>(
    arguments: &'a [&'a [u8]],
    now: i64,
    scratch: &'a mut Scratch,
) -> Option<Derived<'a>> {
    let ttl = parse_integer(arguments.get(2)?).filter(|ttl| *ttl >= 0)?;
    let mut options = arguments.get(4..)?;
    let mut is_absolute = ttl == 0;
    while let Some((name, rest)) = options.split_first() {
        let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
        options = if is(b"REPLACE") {
            rest
        } else if is(b"ABSTTL") {
            is_absolute = true;
            rest
        } else if is(b"IDLETIME") || is(b"FREQ") {
            rest.get(1..)?
        } else {
            return None;
        };
    }
    if is_absolute {
        return Some(Derived::as_sent(arguments, true));
    }
    let at = absolute(ttl, 1, now)?;
    let mut form = Arguments::from_slice(arguments);
    form[2] = scratch.milliseconds(at);
    form.push(b"ABSTTL");
    Some(Derived::rewritten(form))
}

/// What stands in the journal for a user name or password.
const REDACTED: &[u8] = b"(redacted)";

/// MIGRATE is an intent, but its AUTH and AUTH2 options name a password of the
/// target, which must not get into the journal.
pub(super) fn migrate_without_secrets<'a>(arguments: &'a [&'a [u8]]) -> Derived<'a> {
    /// `MIGRATE host port key db timeout` come before the options.
    const OPTIONS_START: usize = 6;
    let mut form: Option<Arguments<'a>> = None;
    let mut index = OPTIONS_START;
    while let Some(name) = arguments.get(index) {
        let secrets = if name.eq_ignore_ascii_case(b"KEYS") {
            break;
        } else if name.eq_ignore_ascii_case(b"AUTH") {
            1
        } else if name.eq_ignore_ascii_case(b"AUTH2") {
            2
        } else {
            0
        };
        if secrets > 0 {
            let form = form.get_or_insert_with(|| Arguments::from_slice(arguments));
            let end = (index + 1 + secrets).min(form.len());
            form[index + 1..end].fill(REDACTED);
        }
        index += 1 + secrets;
    }
    Derived {
        form: form.map_or(Form::AsSent(arguments), Form::Rewritten),
        is_final: false,
    }
}
