//! Commands on whole keys.

use super::{effect, nothing_done};
use crate::mutation::Outcome;
use crate::mutation::derive::{MSetEx, Scratch, expire_at};
use crate::mutation::reply::Reply;

/// A command that does all of what it says or nothing, which the reply tells:
/// its unconditional form.
pub(super) fn conditional(arguments: &[&[u8]], reply: &Reply<'_>, now: i64) -> Option<Outcome> {
    let was_done = match reply {
        Reply::Nil | Reply::Boolean(false) => false,
        Reply::Integer(number) => *number > 0,
        Reply::Array(elements) => !elements.is_empty(),
        _ => true,
    };
    if !was_done {
        return Some(nothing_done());
    }
    let is = |name: &[u8]| arguments[0].eq_ignore_ascii_case(name);
    arguments.first()?;
    if is(b"MSETEX") {
        let mut scratch = Scratch::default();
        let form = MSetEx::parse(arguments, now)?.unconditional(&mut scratch);
        return Some(effect(&form));
    }
    let mut form = arguments.to_vec();
    if let Some((_, unconditional)) = UNCONDITIONAL.iter().find(|(name, _)| is(name)) {
        form[0] = unconditional;
    }
    if is(b"COPY") && !has_option(arguments.get(3..)?, b"REPLACE") {
        form.push(b"REPLACE");
    }
    Some(effect(&form))
}

const UNCONDITIONAL: [(&[u8], &[u8]); 6] = [
    (b"SETNX", b"SET"),
    (b"MSETNX", b"MSET"),
    (b"HSETNX", b"HSET"),
    (b"RENAMENX", b"RENAME"),
    (b"LPUSHX", b"LPUSH"),
    (b"RPUSHX", b"RPUSH"),
];

fn has_option(options: &[&[u8]], name: &[u8]) -> bool {
    options
        .iter()
        .any(|option| option.eq_ignore_ascii_case(name))
}

/// `EXPIRE key time NX|XX|GT|LT` and its relatives.
pub(super) fn expire(arguments: &[&[u8]], reply: &Reply<'_>, now: i64) -> Option<Outcome> {
    match reply {
        Reply::Integer(0) => Some(nothing_done()),
        Reply::Integer(1) => {
            let at = expire_at(arguments, now)?.to_string();
            Some(effect(&[b"PEXPIREAT", arguments[1], at.as_bytes()]))
        }
        _ => None,
    }
}

pub(super) fn delete_if(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    match reply {
        Reply::Integer(0) => Some(nothing_done()),
        Reply::Integer(1) => Some(effect(&[b"DEL", arguments.get(1)?])),
        _ => None,
    }
}

/// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password]
/// [AUTH2 name password] [KEYS key ...]`.
pub(super) fn migrate(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    let single = *arguments.get(3)?;
    let mut form = vec![&b"UNLINK"[..]];
    let mut is_copy = false;
    let mut options = arguments.get(6..)?;
    while let Some((name, rest)) = options.split_first() {
        let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
        if is(b"KEYS") {
            form.extend_from_slice(rest);
            break;
        }
        let values = match () {
            () if is(b"AUTH") => 1,
            () if is(b"AUTH2") => 2,
            () => 0,
        };
        is_copy |= is(b"COPY");
        options = rest.get(values..)?;
    }
    if form.len() == 1 {
        form.push(single);
    }
    match reply.text()? {
        b"OK" if is_copy => Some(nothing_done()),
        b"OK" => Some(effect(&form)),
        b"NOKEY" => Some(nothing_done()),
        _ => None,
    }
}
