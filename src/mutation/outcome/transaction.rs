//! EXEC's reply: the outcomes of a transaction's commands made one.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Journaled, UNREADABLE, nothing_done, owned, rejected, resolve_intent, unknown};
use crate::mutation::reply::Reply;
use crate::mutation::{Outcome, Scratch, derive};
use crate::protocol::resp::commands::Effect;

const NOT_TOLD: &str = "the replies of a transaction do not tell its effect";

/// What one complete reply to EXEC makes of a transaction. `parts` are the
/// queued commands in order, those that read (of [`Effect::None`]) included,
/// each with its keys; `is_final` says whether the record is: it is not where
/// keys were watched, whatever its parts are.
///
/// - The whole was refused (an error, nil because of WATCH): `Rejected`.
/// - The record and every part are final, none was refused: `None`, the record
///   stands.
/// - Otherwise `Effects` of the parts in order: final ones in their final form,
///   the others as their replies tell, refused ones left out. `Rejected` with
///   the first error where nothing is left.
/// - Some parts' effects are unknown: `Partial`. The keys of such a part, and
///   of every later part that touches one of them, are unknown; those later
///   parts are left out, as a replica could not execute them on the values it
///   has. `Unknown` where no effect is left.
pub fn resolve_transaction(
    parts: &[Journaled<'_>],
    is_final: bool,
    reply: &[u8],
) -> Option<Outcome> {
    let replies = match Reply::decode(reply) {
        Some(Reply::Array(replies)) if replies.len() == parts.len() => replies,
        Some(Reply::Error(text)) => return Some(rejected(text)),
        Some(Reply::Nil) => return Some(nothing_done()),
        _ => return Some(unknown(UNREADABLE)),
    };
    let mut merged = Merged::default();
    let mut stands = is_final;
    for (part, reply) in parts.iter().zip(&replies) {
        if part.effect == Effect::None {
            continue;
        }
        stands &= part.is_final && !matches!(reply, Reply::Error(_));
        merged.add(part, reply);
    }
    (!stands).then(|| merged.outcome(parts))
}

#[derive(Default)]
struct Merged<'a> {
    effects: Vec<Vec<Bytes>>,
    unknown_keys: Vec<&'a [u8]>,
    /// The same as `unknown_keys`.
    is_unknown: HashSet<&'a [u8]>,
    /// A part without keys is unknown: all of the transaction's keys are.
    all_unknown: bool,
    first_error: Option<String>,
}

impl<'a> Merged<'a> {
    fn add(&mut self, part: &Journaled<'a>, reply: &Reply<'_>) {
        let outcome = match reply {
            Reply::Error(text) if part.is_final => rejected(text),
            _ if part.is_final => Outcome::Effects(vec![final_form(part)]),
            _ => resolve_intent(part, reply),
        };
        match outcome {
            Outcome::Rejected(error) => {
                if !error.is_empty() {
                    self.first_error.get_or_insert(error);
                }
            }
            Outcome::Effects(mut effects) => {
                if part.keys.iter().any(|key| self.is_unknown.contains(key)) {
                    self.forget(part.keys);
                } else {
                    self.effects.append(&mut effects);
                }
            }
            Outcome::Partial { .. } | Outcome::Unknown { .. } => {
                self.all_unknown |= part.keys.is_empty();
                self.forget(part.keys);
            }
        }
    }

    fn forget(&mut self, keys: &[&'a [u8]]) {
        for key in keys {
            if self.is_unknown.insert(key) {
                self.unknown_keys.push(key);
            }
        }
    }

    fn outcome(mut self, parts: &[Journaled<'a>]) -> Outcome {
        if self.all_unknown {
            for part in parts.iter().filter(|part| part.effect != Effect::None) {
                self.forget(part.keys);
            }
        }
        let is_unknown = self.all_unknown || !self.unknown_keys.is_empty();
        if self.effects.is_empty() && is_unknown {
            return Outcome::Unknown {
                reason: NOT_TOLD,
                keys: owned(&self.unknown_keys),
            };
        }
        if self.effects.is_empty() {
            return Outcome::Rejected(self.first_error.unwrap_or_default());
        }
        if self.unknown_keys.is_empty() {
            return Outcome::Effects(self.effects);
        }
        Outcome::Partial {
            effects: self.effects,
            unknown_keys: owned(&self.unknown_keys),
        }
    }
}

fn final_form(part: &Journaled<'_>) -> Vec<Bytes> {
    let mut scratch = Scratch::default();
    let derived = derive(
        part.effect,
        part.arguments,
        part.journaled_at_ms,
        &mut scratch,
    );
    debug_assert!(derived.is_final);
    owned(derived.arguments())
}

#[cfg(test)]
mod tests;
