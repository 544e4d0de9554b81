//! Hashes, lists, sets and sorted sets.

use super::{effect, nothing_done};
use crate::mutation::Outcome;
use crate::mutation::number::parse_count;
use crate::mutation::reply::Reply;

pub(super) fn hash_incr_by_float(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    let [_, key, field, ..] = *arguments else {
        return None;
    };
    Some(effect(&[b"HSET", key, field, reply.text()?]))
}

/// `SPOP key [count]`: a member, or an array or set of them.
pub(super) fn set_pop(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    let mut form = vec![&b"SREM"[..], *arguments.get(1)?];
    match reply {
        Reply::Array(members) => {
            for member in members {
                form.push(member.text()?);
            }
        }
        Reply::Nil => {}
        member => form.push(member.text()?),
    }
    Some(removal(&form))
}

/// `ZPOPMIN key [count]`: members and scores in turns, or, in RESP3 with a
/// count, pairs.
pub(super) fn zset_pop(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    let mut form = vec![&b"ZREM"[..], *arguments.get(1)?];
    push_members(&mut form, reply)?;
    Some(removal(&form))
}

/// `BZPOPMIN key ... timeout`: key, member, score.
pub(super) fn blocking_zset_pop(reply: &Reply<'_>) -> Option<Outcome> {
    if reply.is_empty() {
        return Some(nothing_done());
    }
    let [key, member, _] = reply.array()? else {
        return None;
    };
    Some(effect(&[b"ZREM", key.text()?, member.text()?]))
}

/// `ZMPOP`, `BZMPOP`: key, then pairs of member and score.
pub(super) fn zset_mpop(reply: &Reply<'_>) -> Option<Outcome> {
    if reply.is_empty() {
        return Some(nothing_done());
    }
    let [key, members] = reply.array()? else {
        return None;
    };
    let mut form = vec![&b"ZREM"[..], key.text()?];
    push_members(&mut form, members)?;
    Some(removal(&form))
}

/// `BLPOP key ... timeout`, `BRPOP`: key, element.
pub(super) fn blocking_pop(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    if reply.is_empty() {
        return Some(nothing_done());
    }
    let [key, _] = reply.array()? else {
        return None;
    };
    let name: &[u8] = match arguments.first()?.get(1)? {
        b'l' | b'L' => b"LPOP",
        b'r' | b'R' => b"RPOP",
        _ => return None,
    };
    Some(effect(&[name, key.text()?]))
}

/// `LMPOP numkeys key ... LEFT|RIGHT [COUNT n]`, `BLMPOP` with a timeout before
/// that: key, then the elements.
pub(super) fn list_mpop(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    if reply.is_empty() {
        return Some(nothing_done());
    }
    let [key, elements] = reply.array()? else {
        return None;
    };
    let is_blocking = arguments.first()?.eq_ignore_ascii_case(b"BLMPOP");
    let count_at = if is_blocking { 2 } else { 1 };
    let keys = parse_count(arguments.get(count_at)?)?;
    let side = arguments.get(keys.checked_add(count_at + 1)?)?;
    let name: &[u8] = if side.eq_ignore_ascii_case(b"LEFT") {
        b"LPOP"
    } else if side.eq_ignore_ascii_case(b"RIGHT") {
        b"RPOP"
    } else {
        return None;
    };
    let count = elements.array()?.len();
    if count == 0 {
        return Some(nothing_done());
    }
    Some(effect(&[name, key.text()?, count.to_string().as_bytes()]))
}

/// `BRPOPLPUSH source destination timeout`, `BLMOVE source destination from to
/// timeout`: the same that does not block.
pub(super) fn blocking_move(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    if *reply == Reply::Nil {
        return Some(nothing_done());
    }
    match *arguments {
        [_, source, destination, _] => Some(effect(&[b"RPOPLPUSH", source, destination])),
        [_, source, destination, from, to, _] => {
            Some(effect(&[b"LMOVE", source, destination, from, to]))
        }
        _ => None,
    }
}

/// `ZINCRBY key increment member`, `ZADD key ... INCR score member`: the new
/// score, nil where a condition of ZADD was not met.
pub(super) fn zset_incr(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    if *reply == Reply::Nil {
        return Some(nothing_done());
    }
    let (key, member) = (arguments.get(1)?, arguments.last()?);
    Some(effect(&[b"ZADD", key, reply.text()?, member]))
}

fn push_members<'a>(form: &mut Vec<&'a [u8]>, reply: &Reply<'a>) -> Option<()> {
    if *reply == Reply::Nil {
        return Some(());
    }
    let elements = reply.array()?;
    if matches!(elements.first(), Some(Reply::Array(_))) {
        for pair in elements {
            form.push(pair.array()?.first()?.text()?);
        }
    } else {
        for member in elements.iter().step_by(2) {
            form.push(member.text()?);
        }
    }
    Some(())
}

/// `form` is a command, a key, and what is removed from it.
fn removal(form: &[&[u8]]) -> Outcome {
    if form.len() > 2 {
        effect(form)
    } else {
        nothing_done()
    }
}
