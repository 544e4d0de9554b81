//! XADD.

use super::{effect, nothing_done, unknown};
use crate::mutation::Outcome;
use crate::mutation::reply::Reply;

const APPROXIMATE: &str = "how much was trimmed depends on the stream's blocks";

/// `XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [MAXLEN|MINID [=|~] threshold
/// [LIMIT count]] id field value ...` with the id the reply tells. NOMKSTREAM
/// is left out: the stream existed.
pub(super) fn add(arguments: &[&[u8]], reply: &Reply<'_>) -> Option<Outcome> {
    if *reply == Reply::Nil {
        return Some(nothing_done());
    }
    let id = reply.text()?;
    let mut form = vec![&b"XADD"[..], *arguments.get(1)?];
    let mut rest = arguments.get(2..)?;
    loop {
        let (option, _) = rest.split_first()?;
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"NOMKSTREAM") {
            rest = &rest[1..];
            continue;
        }
        let taken = if is(b"KEEPREF") || is(b"DELREF") || is(b"ACKED") {
            1
        } else if is(b"MAXLEN") || is(b"MINID") {
            match *rest.get(1)? {
                b"~" => return Some(unknown(APPROXIMATE)),
                b"=" => 3,
                _ => 2,
            }
        } else if is(b"LIMIT") {
            2
        } else {
            break;
        };
        form.extend_from_slice(rest.get(..taken)?);
        rest = &rest[taken..];
    }
    // Options this does not know would otherwise be taken for the id.
    let is_id = |text: &[u8]| {
        text.iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'*'))
    };
    if !is_id(rest[0]) {
        return None;
    }
    form.push(id);
    form.extend_from_slice(&rest[1..]);
    Some(effect(&form))
}
