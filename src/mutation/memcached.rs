//! memcached's mutations: the form in which they are journaled, and what a
//! reply makes of them.
//!
//! Whichever dialect a mutation came in, its record is in the words of the
//! classic text protocol:
//!
//! | record | final |
//! |---|---|
//! | `set key flags time value` | yes |
//! | `delete key` | yes |
//! | `touch key time` | yes |
//! | `flush_all [time]` | yes |
//! | `add`, `replace`, `append`, `prepend` `key flags time value` | no |
//! | `cas key flags time value unique` | no |
//! | `incr`, `decr` `key delta [initial time]` | no |
//! | `gat time key ...` | no |
//! | `ms`, `md`, `mg`: what the classic commands have no words for | no |
//!
//! Times are absolute: seconds since the Unix epoch, 0 for never, -1 for at
//! once. What is not final and was done is told as a `set`, `delete` or `touch`
//! where request and reply tell the result, else the keys' values are asked for.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Outcome;
use crate::protocol::memcached::reply::{self, Answer, Values};
use crate::protocol::memcached::request::{Request, absolute_time};
use crate::protocol::memcached::verbs::{Effect, Specification, Verb};

const NOT_TOLD: &str = "the reply does not tell the effect";
const UNREADABLE: &str = "the command can't be read";
const FAILED: &str = "the datastore failed, and may have dropped the old value";

/// Room for the numbers of one command's journaled form.
#[derive(Default, Clone)]
pub struct Scratch {
    numbers: [itoa::Buffer; 4],
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Scratch")
    }
}

/// What is journaled for one command.
#[derive(Debug, Clone)]
pub struct Derived<'a> {
    /// The command in the words of the classic protocol.
    pub arguments: SmallVec<[&'a [u8]; 8]>,
    /// Whether applying the arguments has the effect that memcached's own
    /// execution has, unless it does not do it.
    pub is_final: bool,
    /// Whether a reply that is no error may say that it was not done.
    pub is_told: bool,
}

/// The form in which a mutation is journaled; `now_ms` is milliseconds since
/// the Unix epoch.
pub fn derive<'a, 'r: 'a>(
    request: &Request<'r>,
    now_ms: u64,
    scratch: &'a mut Scratch,
) -> Derived<'a> {
    let name = name(request);
    let mut arguments: SmallVec<[&[u8]; 8]> = SmallVec::new();
    arguments.push(name);
    let [first, second, third, fourth] = &mut scratch.numbers;
    let time = |time: Option<i64>| absolute(time, now_ms);
    let effect = request.verb.row().effect;
    if name == b"gat" {
        arguments.push(first.format(time(request.time)).as_bytes());
        arguments.extend(request.keys.iter().copied());
        return Derived {
            arguments,
            is_final: false,
            is_told: true,
        };
    }
    arguments.extend(request.keys.first().copied());
    match name {
        b"flush_all" => {
            if let Some(given) = request.time.filter(|given| *given > 0) {
                arguments.push(first.format(time(Some(given))).as_bytes());
            }
        }
        b"touch" => arguments.push(first.format(time(request.time)).as_bytes()),
        b"incr" | b"decr" => {
            arguments.push(first.format(request.delta).as_bytes());
            if let Some((initial, lives)) = request.initial {
                arguments.push(second.format(initial).as_bytes());
                arguments.push(third.format(time(Some(lives))).as_bytes());
            }
        }
        b"delete" | b"md" => {
            if request.compare != 0 {
                arguments.push(first.format(request.compare).as_bytes());
            }
        }
        b"mg" => {
            let (_, lives) = request.initial.unwrap_or_default();
            arguments.push(first.format(time(Some(lives))).as_bytes());
        }
        _ => {
            arguments.push(first.format(request.flags).as_bytes());
            arguments.push(second.format(time(request.time)).as_bytes());
            arguments.push(request.value);
            if request.compare != 0 {
                arguments.push(third.format(request.compare).as_bytes());
            }
            if let Some((_, lives)) = request.initial {
                arguments.push(fourth.format(time(Some(lives))).as_bytes());
            }
        }
    }
    Derived {
        arguments,
        is_final: matches!(
            effect,
            Effect::Overwrite | Effect::Delete | Effect::Touch | Effect::Flush
        ),
        is_told: !matches!(effect, Effect::Overwrite | Effect::Delete | Effect::Flush),
    }
}

/// The word of the classic protocol for a mutation.
fn name(request: &Request<'_>) -> &'static [u8] {
    match request.verb {
        Verb::Gat | Verb::Gats => b"gat",
        Verb::MetaGetTouch
        | Verb::Touch
        | Verb::BinaryTouch
        | Verb::BinaryGetAndTouch
        | Verb::BinaryGetAndTouchKey => b"touch",
        Verb::MetaGetVivify => b"mg",
        Verb::Set | Verb::MetaSet | Verb::BinarySet => b"set",
        Verb::Add | Verb::BinaryAdd => b"add",
        Verb::Replace | Verb::BinaryReplace => b"replace",
        Verb::Append | Verb::BinaryAppend => b"append",
        Verb::Prepend | Verb::BinaryPrepend => b"prepend",
        Verb::Cas | Verb::BinarySetConditional => b"cas",
        Verb::MetaSetConditional => match request.mode {
            _ if request.is_partial => b"ms",
            Some(b'E' | b'e') => b"add",
            Some(b'R' | b'r') => b"replace",
            Some(b'A' | b'a') => b"append",
            Some(b'P' | b'p') => b"prepend",
            _ => b"cas",
        },
        Verb::MetaDeleteConditional if request.is_partial => b"md",
        Verb::Increment | Verb::BinaryIncrement => b"incr",
        Verb::Decrement | Verb::BinaryDecrement => b"decr",
        Verb::MetaArithmetic if request.subtracts => b"decr",
        Verb::MetaArithmetic => b"incr",
        Verb::FlushAll | Verb::BinaryFlush => b"flush_all",
        _ => b"delete",
    }
}

fn absolute(time: Option<i64>, now_ms: u64) -> i64 {
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX / 2);
    absolute_time(time.unwrap_or(0), now)
}

/// What one complete reply makes of a mutation. `None` where no outcome has to
/// be told: a final one that was done. `journaled_at_ms` is the time given to
/// [`derive()`].
pub fn resolve(
    request: Option<&Request<'_>>,
    specification: Specification,
    reply: &[u8],
    journaled_at_ms: u64,
) -> Option<Outcome> {
    let Some(request) = request else {
        return Some(unknown(UNREADABLE));
    };
    let effect = request.verb.row().effect;
    match reply::answer(specification, reply) {
        Answer::Done => done(request, effect, reply, journaled_at_ms),
        // What is not there is gone.
        Answer::NotDone if effect == Effect::Delete => None,
        Answer::NotDone => Some(Outcome::Rejected(String::new())),
        Answer::Failed(_) if effect == Effect::Overwrite => Some(unknown(FAILED)),
        Answer::Refused(text) | Answer::Failed(text) => Some(Outcome::Rejected(
            String::from_utf8_lossy(text).into_owned(),
        )),
    }
}

fn done(
    request: &Request<'_>,
    effect: Effect,
    reply: &[u8],
    journaled_at_ms: u64,
) -> Option<Outcome> {
    match effect {
        Effect::None | Effect::Overwrite | Effect::Delete | Effect::Flush => None,
        Effect::Touch if matches!(request.verb, Verb::Gat | Verb::Gats) => {
            Some(touched(request, reply, journaled_at_ms))
        }
        Effect::Touch => None,
        Effect::Arithmetic => Some(unknown(NOT_TOLD)),
        Effect::Conditional => match name(request) {
            b"add" | b"replace" | b"cas" => {
                let mut numbers = [itoa::Buffer::new(), itoa::Buffer::new()];
                let [flags, time] = &mut numbers;
                Some(Outcome::Effects(vec![owned(&[
                    b"set",
                    request.keys[0],
                    flags.format(request.flags).as_bytes(),
                    time.format(absolute(request.time, journaled_at_ms))
                        .as_bytes(),
                    request.value,
                ])]))
            }
            b"delete" => Some(Outcome::Effects(vec![owned(&[b"delete", request.keys[0]])])),
            // Who was told to make the value anew has a stub of it made.
            b"mg" if request.time.is_none() && !is_vivified(reply) => {
                Some(Outcome::Rejected(String::new()))
            }
            _ => Some(unknown(NOT_TOLD)),
        },
    }
}

/// The keys that `gat` found.
fn touched(request: &Request<'_>, reply: &[u8], journaled_at_ms: u64) -> Outcome {
    let mut number = itoa::Buffer::new();
    let time = number.format(absolute(request.time, journaled_at_ms));
    let touch = |(key, _): (&[u8], &[u8])| owned(&[b"touch", key, time.as_bytes()]);
    Outcome::Effects(Values(reply).map(touch).collect())
}

/// Whether `mg` may have made an item, or changed one: it touched it, or says
/// that the client has won (flag `W`).
fn is_vivified(reply: &[u8]) -> bool {
    let line = reply
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    line.split(|byte| matches!(byte, b' ' | b'\r'))
        .any(|word| word == b"W")
}

fn unknown(reason: &'static str) -> Outcome {
    Outcome::Unknown {
        reason,
        keys: Vec::new(),
    }
}

fn owned(arguments: &[&[u8]]) -> Vec<Bytes> {
    let copy = |argument: &&[u8]| Bytes::copy_from_slice(argument);
    arguments.iter().map(copy).collect()
}

#[cfg(test)]
mod tests;
