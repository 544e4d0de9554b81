//! Reply to outcome: what the datastore's reply says a mutation came to.
//!
//! A final mutation has an outcome only where it was rejected. For the others
//! the reply is read for the deterministic commands that have the same effect.
//! Where a reply is not of a form that tells it, the keys' values are asked
//! for: that is always right, only dearer.

mod collections;
mod errors;
mod keys;
mod nothing;
mod streams;
mod strings;
pub mod transaction;

use bytes::Bytes;

use super::Outcome;
use super::reply::{self, Reply};
use crate::protocol::resp::commands::{Effect, Resolve};

/// A command that was journaled and forwarded, and waits for its reply.
#[derive(Debug, Clone, Copy)]
pub struct Journaled<'a> {
    /// The command table's word on it.
    pub effect: Effect,
    /// The arguments as the client sent them, the name first; what derive
    /// makes of them is not meant.
    pub arguments: &'a [&'a [u8]],
    /// Its keys. Only looked at in transactions.
    pub keys: &'a [&'a [u8]],
    /// What [`super::Derived`] said when it was journaled.
    pub is_final: bool,
    /// The time given to `derive`, milliseconds since the Unix epoch: relative
    /// times count from it.
    pub journaled_at_ms: u64,
}

/// What one complete RESP2 or RESP3 reply makes of a command. `None` where no
/// outcome has to be told: a final command that was not rejected, or a command
/// that reads.
pub fn resolve(journaled: &Journaled<'_>, reply: &[u8]) -> Option<Outcome> {
    if journaled.effect == Effect::None {
        return None;
    }
    if journaled.is_final {
        return resolve_final(reply);
    }
    if journaled.effect == Effect::Opaque && !reply::is_error(reply) {
        return Some(unknown(NOT_TOLD));
    }
    Some(match Reply::decode(reply) {
        Some(reply) => resolve_intent(journaled, &reply),
        None => unknown(UNREADABLE),
    })
}

/// What one complete reply makes of a final mutation: `Rejected` where it is
/// an error, else `None`. Looks at the first byte alone, as a rule.
pub fn resolve_final(reply: &[u8]) -> Option<Outcome> {
    if !reply::is_error(reply) {
        return None;
    }
    Some(match Reply::decode(reply) {
        Some(Reply::Error(text)) => rejected(text),
        _ => unknown(UNREADABLE),
    })
}

/// The reason of [`Outcome::Unknown`] where nobody saw a reply: the datastore
/// may not be done with the command.
pub const NO_REPLY: &str = "no reply";
/// The same where the outcome itself was lost once.
pub const TOLD_AGAIN: &str = "told again after the journal was unavailable";
const NOT_TOLD: &str = "the reply does not tell the effect";
const UNREADABLE: &str = "the reply can't be read";
const UNEXPECTED: &str = "the reply or the arguments are not of a known form";

/// The outcome of a command that is not final.
fn resolve_intent(journaled: &Journaled<'_>, reply: &Reply<'_>) -> Outcome {
    let Journaled {
        effect, arguments, ..
    } = *journaled;
    if let Reply::Error(text) = reply {
        return errors::outcome(effect, arguments, text);
    }
    let now = i64::try_from(journaled.journaled_at_ms).unwrap_or(i64::MAX);
    let Effect::Resolved(kind) = effect else {
        // Either opaque, or with arguments that `derive` did not understand
        // but the datastore did.
        return unknown(NOT_TOLD);
    };
    let outcome = match kind {
        Resolve::Conditional => keys::conditional(arguments, reply, now),
        Resolve::Set => strings::set(arguments, reply, now),
        Resolve::GetEx => strings::get_ex(arguments, reply, now),
        Resolve::IncrByFloat => strings::incr_by_float(arguments, reply),
        Resolve::DeleteIf => keys::delete_if(arguments, reply),
        Resolve::Expire => keys::expire(arguments, reply, now),
        Resolve::Migrate => keys::migrate(arguments, reply),
        Resolve::HIncrByFloat => collections::hash_incr_by_float(arguments, reply),
        Resolve::SPop => collections::set_pop(arguments, reply),
        Resolve::ZPop => collections::zset_pop(arguments, reply),
        Resolve::BlockingPop => collections::blocking_pop(arguments, reply),
        Resolve::LMPop => collections::list_mpop(arguments, reply),
        Resolve::BlockingMove => collections::blocking_move(arguments, reply),
        Resolve::BlockingZPop => collections::blocking_zset_pop(reply),
        Resolve::ZMPop => collections::zset_mpop(reply),
        Resolve::ZAddIncr | Resolve::ZIncrBy => collections::zset_incr(arguments, reply),
        Resolve::XAdd => streams::add(arguments, reply),
        Resolve::Flush => Some(Outcome::Effects(vec![owned(arguments)])),
        Resolve::SnapshotUnlessNothing => Some(nothing::outcome(arguments, reply)),
    };
    outcome.unwrap_or_else(|| unknown(UNEXPECTED))
}

/// One command with the same effect.
fn effect(arguments: &[&[u8]]) -> Outcome {
    Outcome::Effects(vec![owned(arguments)])
}

fn owned(arguments: &[&[u8]]) -> Vec<Bytes> {
    arguments
        .iter()
        .map(|argument| Bytes::copy_from_slice(argument))
        .collect()
}

/// The command changed nothing, and that is no error.
fn nothing_done() -> Outcome {
    Outcome::Rejected(String::new())
}

fn rejected(error: &[u8]) -> Outcome {
    Outcome::Rejected(String::from_utf8_lossy(error).into_owned())
}

/// The mutation's own keys have to be taken from the datastore.
fn unknown(reason: &'static str) -> Outcome {
    Outcome::Unknown {
        reason,
        keys: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
