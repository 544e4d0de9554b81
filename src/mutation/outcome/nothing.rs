//! Commands whose reply tells at most that nothing happened.

use super::{effect, nothing_done, unknown};
use crate::mutation::Outcome;
use crate::mutation::reply::Reply;

const CHANGED: &str = "the reply tells that something changed, not what";

/// As a rule nil, 0, -1, an empty array, and an array of such replies and of
/// -2 (HEXPIRE and HGETEX: a reply a field) tell that nothing changed.
///
/// A consumer of a stream that XREADGROUP or XAUTOCLAIM makes without giving
/// it an entry does not count as a change: any later one makes it again.
pub(super) fn outcome(arguments: &[&[u8]], reply: &Reply<'_>) -> Outcome {
    let is = |name: &[u8]| {
        arguments
            .first()
            .is_some_and(|first| first.eq_ignore_ascii_case(name))
    };
    if is(b"ZADD") {
        return zadd(arguments, reply);
    }
    let is_nothing = if is(b"XCLAIM") {
        // Entries that were deleted from the stream leave the pending list
        // without being in the reply, and LASTID may move the group.
        false
    } else if is(b"XAUTOCLAIM") {
        // The cursor comes first and is not a change.
        reply
            .array()
            .and_then(|elements| elements.get(1..))
            .is_some_and(|lists| !lists.is_empty() && lists.iter().all(Reply::is_empty))
    } else {
        is_no_change(reply)
    };
    if is_nothing {
        nothing_done()
    } else {
        unknown(CHANGED)
    }
}

fn is_no_change(reply: &Reply<'_>) -> bool {
    match reply {
        Reply::Nil | Reply::Boolean(false) => true,
        Reply::Integer(number) => *number <= 0,
        Reply::Array(elements) => elements
            .iter()
            .all(|element| matches!(element, Reply::Nil | Reply::Integer(..=0))),
        _ => false,
    }
}

/// `ZADD key [NX|XX] [GT|LT] [CH] score member ...`: without CH the reply does
/// not count changed scores, so 0 says nothing unless NX forbids changes. A
/// reply that counts every pair says that each was set in turn.
fn zadd(arguments: &[&[u8]], reply: &Reply<'_>) -> Outcome {
    let Reply::Integer(count) = *reply else {
        return unknown(CHANGED);
    };
    let mut counts_all_changes = false;
    let mut start = 2;
    for option in arguments.get(start..).unwrap_or_default() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"NX") || is(b"CH") {
            counts_all_changes = true;
        } else if !(is(b"XX") || is(b"GT") || is(b"LT")) {
            break;
        }
        start += 1;
    }
    let pairs = arguments.get(start..).unwrap_or_default();
    if count == 0 && counts_all_changes {
        nothing_done()
    } else if usize::try_from(count).is_ok_and(|count| count > 0 && count * 2 == pairs.len()) {
        let mut form = vec![&b"ZADD"[..], arguments[1]];
        form.extend_from_slice(pairs);
        effect(&form)
    } else {
        unknown(CHANGED)
    }
}
