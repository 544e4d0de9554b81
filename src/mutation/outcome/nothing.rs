//! Commands whose reply tells at most that nothing happened.

use super::{effect, nothing_done, unknown};
use crate::mutation::Outcome;
use crate::mutation::reply::Reply;

const CHANGED: &str = "the reply tells that something changed, not what";

/// Nil and an empty array tell that nothing changed, and so does what the
/// table below lists, by command. Any other reply asks for the keys' values:
/// the 0 of a command that is not known here may be a new value.
///
/// A consumer of a stream that XREADGROUP or XAUTOCLAIM makes without giving
/// it an entry does not count as a change: any later one makes it again.
pub(super) fn outcome(arguments: &[&[u8]], reply: &Reply<'_>) -> Outcome {
    let name = arguments.first().copied().unwrap_or_default();
    if name.eq_ignore_ascii_case(b"ZADD") {
        return zadd(arguments, reply);
    }
    let nothing = NOTHING
        .iter()
        .find(|(command, _)| name.eq_ignore_ascii_case(command.as_bytes()))
        .map_or(Nothing::Empty, |(_, nothing)| *nothing);
    let is_nothing = match nothing {
        Nothing::Empty => reply.is_empty(),
        Nothing::Zero => reply.is_empty() || *reply == Reply::Integer(0),
        Nothing::EachField => reply.array().is_some_and(|fields| {
            fields
                .iter()
                .all(|field| matches!(field, Reply::Nil | Reply::Integer(0 | -2)))
        }),
        // The cursor comes first and is not a change.
        Nothing::EmptyAfterCursor => reply
            .array()
            .and_then(|elements| elements.get(1..))
            .is_some_and(|lists| !lists.is_empty() && lists.iter().all(Reply::is_empty)),
        Nothing::Never => false,
    };
    if is_nothing {
        nothing_done()
    } else {
        unknown(CHANGED)
    }
}

/// How a reply tells that nothing changed.
#[derive(Clone, Copy)]
enum Nothing {
    /// Nil or an empty array.
    Empty,
    /// That, or 0: a count, or a condition that was not met.
    Zero,
    /// An array with a reply for each field: nil, 0 for a condition that was
    /// not met, -2 for a field that does not exist.
    EachField,
    /// A cursor and lists, all empty.
    EmptyAfterCursor,
    /// In no way.
    Never,
}

const NOTHING: [(&str, Nothing); 11] = [
    ("HSETEX", Nothing::Zero),
    ("MSETEX", Nothing::Zero),
    ("XTRIM", Nothing::Zero),
    ("XNACK", Nothing::Zero),
    ("HEXPIRE", Nothing::EachField),
    ("HPEXPIRE", Nothing::EachField),
    ("HEXPIREAT", Nothing::EachField),
    ("HPEXPIREAT", Nothing::EachField),
    ("HGETEX", Nothing::EachField),
    ("XAUTOCLAIM", Nothing::EmptyAfterCursor),
    // Entries that were deleted from the stream leave the pending list
    // without being in the reply, and LASTID may move the group.
    ("XCLAIM", Nothing::Never),
];

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
