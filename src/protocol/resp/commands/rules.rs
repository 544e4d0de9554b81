//! What a command's arguments decide where its name does not.
//!
//! Every function takes the arguments after the name. Where they are not what
//! the datastore would accept, the answer is one that journals and lets the
//! reply decide: a newer datastore may know an option this table does not.

use super::walk::{integer, is, is_any};
use super::{Effect, Resolve, Rewrite, Rule};

/// The arguments after a command's name.
pub(super) type Rest<'i, 'a> = &'i mut dyn Iterator<Item = &'a [u8]>;

/// Options that are followed by a time.
const EXPIRIES: &[&[u8]] = &[b"EX", b"PX", b"EXAT", b"PXAT"];

/// The reply tells no more than whether there was an effect.
pub(super) const SNAPSHOT: Effect = Effect::Resolved(Resolve::SnapshotUnlessNothing);

/// The effect of a command with these arguments; `default` is its row's.
pub(super) fn effect(rule: Rule, default: Effect, rest: Rest) -> Effect {
    match rule {
        Rule::Fixed | Rule::Container | Rule::XRead => default,
        Rule::Set => set(rest),
        Rule::Expire => match rest.nth(2) {
            None => Effect::Rewritten(Rewrite::Expire),
            Some(_) => Effect::Resolved(Resolve::Expire),
        },
        Rule::GetEx => match rest.nth(1) {
            None => Effect::None,
            Some(_) => Effect::Resolved(Resolve::GetEx),
        },
        Rule::BitField => bit_field(rest),
        Rule::MSetEx => multiple_set(rest),
        Rule::HExpire => match hash_options(rest, 2, 1) {
            HashOptions::None => Effect::Rewritten(Rewrite::HExpire),
            HashOptions::Expiry | HashOptions::Other => SNAPSHOT,
        },
        Rule::HSetEx => match hash_options(rest, 1, 2) {
            HashOptions::None | HashOptions::Expiry => Effect::Rewritten(Rewrite::HSetEx),
            HashOptions::Other => SNAPSHOT,
        },
        Rule::HGetEx => match hash_options(rest, 1, 1) {
            HashOptions::None => Effect::None,
            HashOptions::Expiry | HashOptions::Other => SNAPSHOT,
        },
        Rule::ZAdd => sorted_set_add(rest),
        Rule::GeoAdd => sorted_set_add(rest),
        Rule::GeoRadius => geo_radius(rest),
        Rule::Sort => sort(rest),
        Rule::XAdd => stream_add(rest),
        Rule::XTrim => match rest.nth(2) {
            Some(b"~") => SNAPSHOT,
            _ => Effect::Verbatim,
        },
        Rule::Migrate => migrate(rest),
    }
}

fn skip(rest: Rest, number: usize) {
    rest.nth(number - 1);
}

/// Whether an XREAD or XREADGROUP with these arguments may block.
pub(super) fn blocks(rest: Rest) -> bool {
    while let Some(option) = rest.next() {
        match option {
            _ if is(option, b"BLOCK") => return true,
            _ if is(option, b"STREAMS") => return false,
            _ if is(option, b"COUNT") || is(option, b"CLAIM") => skip(rest, 1),
            _ if is(option, b"GROUP") => skip(rest, 2),
            _ => {}
        }
    }
    false
}

/// `key value [options]`
fn set(rest: Rest) -> Effect {
    rest.nth(1);
    while let Some(option) = rest.next() {
        if is_any(option, EXPIRIES) {
            rest.next();
        } else if !is(option, b"GET") && !is(option, b"KEEPTTL") {
            return Effect::Resolved(Resolve::Set);
        }
    }
    Effect::Rewritten(Rewrite::Set)
}

/// `key (GET type offset | OVERFLOW how | SET ... | INCRBY ...)...`
fn bit_field(rest: Rest) -> Effect {
    rest.next();
    while let Some(operation) = rest.next() {
        match operation {
            _ if is(operation, b"GET") => skip(rest, 2),
            _ if is(operation, b"OVERFLOW") => skip(rest, 1),
            _ => return Effect::Verbatim,
        }
    }
    Effect::None
}

/// `numkeys (key value)... [options]`
fn multiple_set(rest: Rest) -> Effect {
    if !skip_counted(rest, 2) {
        return SNAPSHOT;
    }
    while let Some(option) = rest.next() {
        if is_any(option, EXPIRIES) {
            rest.next();
        } else if !is(option, b"KEEPTTL") {
            return SNAPSHOT;
        }
    }
    Effect::Rewritten(Rewrite::MSetEx)
}

/// Skips a count and `width` times as many arguments; false where there is no
/// such count or there are not so many.
fn skip_counted(rest: Rest, width: usize) -> bool {
    let count = rest.next().and_then(integer).unwrap_or(-1);
    match usize::try_from(count)
        .ok()
        .and_then(|n| n.checked_mul(width))
    {
        None => false,
        Some(0) => true,
        Some(number) => rest.nth(number - 1).is_some(),
    }
}

/// What stands beside the FIELDS of a hash command.
enum HashOptions {
    /// Nothing.
    None,
    /// When the fields expire, and nothing else.
    Expiry,
    /// A condition, or what this table does not know.
    Other,
}

/// `(leading arguments) [options] FIELDS count (width arguments)... [options]`
fn hash_options(rest: Rest, leading: usize, width: usize) -> HashOptions {
    rest.nth(leading - 1);
    let mut found = HashOptions::None;
    while let Some(option) = rest.next() {
        if is_any(option, EXPIRIES) {
            rest.next();
            found = HashOptions::Expiry;
        } else if is(option, b"KEEPTTL") || is(option, b"PERSIST") {
            found = HashOptions::Expiry;
        } else if !is(option, b"FIELDS") || !skip_counted(rest, width) {
            return HashOptions::Other;
        }
    }
    found
}

/// `key [options] (score member)...`
///
/// Without CH the reply counts only what was added, so with a condition that
/// lets members be updated a reply of 0 does not say that nothing was.
fn sorted_set_add(rest: Rest) -> Effect {
    let (mut added_only, mut updates, mut changed) = (false, false, false);
    for option in rest.skip(1) {
        match option {
            _ if is(option, b"INCR") => return Effect::Resolved(Resolve::ZAddIncr),
            _ if is(option, b"NX") => added_only = true,
            _ if is_any(option, &[b"XX", b"GT", b"LT"]) => updates = true,
            _ if is(option, b"CH") => changed = true,
            _ => break,
        }
    }
    match (updates, added_only) {
        (true, _) if !changed => Effect::Opaque,
        (false, false) => Effect::Verbatim,
        _ => SNAPSHOT,
    }
}

/// `key ... [options]`, the options from the fifth argument on.
fn geo_radius(rest: Rest) -> Effect {
    match rest.skip(4).any(|o| is(o, b"STORE") || is(o, b"STOREDIST")) {
        true => Effect::Verbatim,
        false => Effect::None,
    }
}

/// `key [options]`
fn sort(rest: Rest) -> Effect {
    rest.next();
    let (mut stores, mut unsorted) = (false, false);
    while let Some(option) = rest.next() {
        match option {
            _ if is_any(option, &[b"ASC", b"DESC", b"ALPHA"]) => {}
            _ if is(option, b"LIMIT") => skip(rest, 2),
            _ if is(option, b"GET") => skip(rest, 1),
            // A pattern without a star sorts nothing, so the order is the set's.
            _ if is(option, b"BY") => unsorted = rest.next().is_none_or(|by| !by.contains(&b'*')),
            _ if is(option, b"STORE") => {
                rest.next();
                stores = true;
            }
            _ => return Effect::Opaque,
        }
    }
    match (stores, unsorted) {
        (false, _) => Effect::None,
        (true, false) => Effect::Verbatim,
        (true, true) => Effect::Opaque,
    }
}

/// `key [options] id (field value)...`
fn stream_add(rest: Rest) -> Effect {
    rest.next();
    let mut approximate = false;
    while let Some(option) = rest.next() {
        match option {
            _ if is_any(option, &[b"NOMKSTREAM", b"KEEPREF", b"DELREF", b"ACKED"]) => {}
            _ if is(option, b"LIMIT") => skip(rest, 1),
            _ if is_any(option, &[b"MAXLEN", b"MINID"]) => match rest.next() {
                Some(b"~") => {
                    approximate = true;
                    rest.next();
                }
                Some(b"=") => skip(rest, 1),
                _ => {}
            },
            // A message that was added before is not added again, and the
            // reply is the id it has.
            _ if is_any(option, &[b"IDMP", b"IDMPAUTO"]) => return SNAPSHOT,
            _ if approximate => return SNAPSHOT,
            id if id.contains(&b'*') => return Effect::Resolved(Resolve::XAdd),
            _ => return Effect::Verbatim,
        }
    }
    SNAPSHOT
}

/// `host port key database timeout [options]`
fn migrate(rest: Rest) -> Effect {
    rest.nth(4);
    while let Some(option) = rest.next() {
        match option {
            _ if is(option, b"COPY") => return Effect::None,
            _ if is(option, b"AUTH") => skip(rest, 1),
            _ if is(option, b"AUTH2") => skip(rest, 2),
            _ if is(option, b"KEYS") => break,
            _ => {}
        }
    }
    Effect::Resolved(Resolve::Migrate)
}
