//! SET and its relatives.

use super::super::number::parse_count;
use super::expiry::{Expiry, ExpiryOption, absolute};
use super::{Derived, Scratch};
use crate::protocol::resp::Arguments;

/// The condition under which SET sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mutation) enum Condition<'a> {
    /// The key does not exist.
    Missing,
    /// The key exists.
    Exists,
    /// `IFEQ`: its value is this one.
    Equal(&'a [u8]),
    /// `IFNE`: its value is not this one, or there is none.
    NotEqual(&'a [u8]),
    /// `IFDEQ`: its value has this digest.
    DigestEqual,
    /// `IFDNE`: its value has another digest, or there is none.
    DigestNotEqual,
}

/// What `SET key value ...` says after the value.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::mutation) struct SetOptions<'a> {
    pub(in crate::mutation) condition: Option<Condition<'a>>,
    /// Whether the reply is the old value.
    pub(in crate::mutation) get: bool,
    /// Never [`Expiry::Persist`].
    pub(in crate::mutation) expiry: Option<Expiry>,
}

impl<'a> SetOptions<'a> {
    /// Reads the options of a SET whose name is `arguments[0]`; `None` where
    /// they are invalid.
    pub(in crate::mutation) fn parse(arguments: &[&'a [u8]], now: i64) -> Option<Self> {
        let mut options = arguments.get(3..)?;
        let mut get = false;
        let mut condition = None;
        let mut expiry = ExpiryOption::default();
        while let Some(name) = options.first() {
            let taken = if name.eq_ignore_ascii_case(b"GET") {
                get = true;
                1
            } else if let Some((parsed, taken)) = parse_condition(options) {
                if condition.is_some_and(|earlier| earlier != parsed) {
                    return None;
                }
                condition = Some(parsed);
                taken
            } else {
                expiry.take(options, now)?
            };
            if taken == 0 {
                return None;
            }
            options = &options[taken..];
        }
        if expiry.expiry == Some(Expiry::Persist) {
            return None;
        }
        Some(SetOptions {
            condition,
            get,
            expiry: expiry.expiry,
        })
    }

    /// `SET key value` with nothing but the expiry.
    pub(in crate::mutation) fn unconditional(
        &self,
        key: &'a [u8],
        value: &'a [u8],
        scratch: &'a mut Scratch,
    ) -> Arguments<'a> {
        let mut arguments = Arguments::from_slice(&[b"SET", key, value]);
        push_expiry(&mut arguments, self.expiry, scratch);
        arguments
    }
}

fn parse_condition<'a>(options: &[&'a [u8]]) -> Option<(Condition<'a>, usize)> {
    let name = options.first()?;
    let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
    if is(b"NX") {
        return Some((Condition::Missing, 1));
    }
    if is(b"XX") {
        return Some((Condition::Exists, 1));
    }
    let operand = options.get(1)?;
    let condition = if is(b"IFEQ") {
        Condition::Equal(operand)
    } else if is(b"IFNE") {
        Condition::NotEqual(operand)
    } else if is(b"IFDEQ") {
        Condition::DigestEqual
    } else if is(b"IFDNE") {
        Condition::DigestNotEqual
    } else {
        return None;
    };
    Some((condition, 2))
}

/// Adds `PXAT ms` or `KEEPTTL`.
pub(super) fn push_expiry<'a>(
    arguments: &mut Arguments<'a>,
    expiry: Option<Expiry>,
    scratch: &'a mut Scratch,
) {
    match expiry {
        None => {}
        Some(Expiry::At(at)) => {
            arguments.push(b"PXAT");
            arguments.push(scratch.milliseconds(at));
        }
        Some(Expiry::Keep) => arguments.push(b"KEEPTTL"),
        Some(Expiry::Persist) => arguments.push(b"PERSIST"),
    }
}

pub(super) fn set<'a>(
    arguments: &'a [&'a [u8]],
    now: i64,
    scratch: &'a mut Scratch,
) -> Option<Derived<'a>> {
    if arguments.len() == 3 {
        return Some(Derived::as_sent(arguments, true));
    }
    let options = SetOptions::parse(arguments, now)?;
    if options.condition.is_some() {
        return None;
    }
    let form = options.unconditional(arguments[1], arguments[2], scratch);
    Some(Derived::rewritten(form))
}

/// SETEX and PSETEX: `unit` is 1000 or 1 milliseconds.
pub(super) fn set_ex<'a>(
    arguments: &'a [&'a [u8]],
    unit: i64,
    now: i64,
    scratch: &'a mut Scratch,
) -> Option<Derived<'a>> {
    let [_, key, amount, value] = *arguments else {
        return None;
    };
    let amount = super::super::number::parse_integer(amount).filter(|amount| *amount > 0)?;
    let at = absolute(amount, unit, now)?;
    let mut form = Arguments::from_slice(&[b"SET", key, value]);
    push_expiry(&mut form, Some(Expiry::At(at)), scratch);
    Some(Derived::rewritten(form))
}

pub(super) fn get_set<'a>(arguments: &'a [&'a [u8]]) -> Option<Derived<'a>> {
    let [_, key, value] = *arguments else {
        return None;
    };
    Some(Derived::rewritten(Arguments::from_slice(&[
        b"SET", key, value,
    ])))
}

pub(super) fn get_del<'a>(arguments: &'a [&'a [u8]]) -> Option<Derived<'a>> {
    let [_, key] = *arguments else {
        return None;
    };
    Some(Derived::rewritten(Arguments::from_slice(&[b"DEL", key])))
}

/// The parts of `MSETEX numkeys key value [key value ...] [NX|XX] [expiry]`.
pub(in crate::mutation) struct MSetEx<'a> {
    /// From the name to the last value.
    head: Arguments<'a>,
    pub(in crate::mutation) is_conditional: bool,
    expiry: Option<Expiry>,
}

impl<'a> MSetEx<'a> {
    pub(in crate::mutation) fn parse(arguments: &[&'a [u8]], now: i64) -> Option<Self> {
        let pairs = parse_count(arguments.get(1)?)?;
        let end = pairs.checked_mul(2)?.checked_add(2)?;
        let head = Arguments::from_slice(arguments.get(..end)?);
        let mut options = &arguments[end..];
        let mut is_conditional = false;
        let mut expiry = ExpiryOption::default();
        while let Some(name) = options.first() {
            let taken = if name.eq_ignore_ascii_case(b"NX") || name.eq_ignore_ascii_case(b"XX") {
                is_conditional = true;
                1
            } else {
                expiry.take(options, now)?
            };
            if taken == 0 {
                return None;
            }
            options = &options[taken..];
        }
        if expiry.expiry == Some(Expiry::Persist) {
            return None;
        }
        Some(MSetEx {
            head,
            is_conditional,
            expiry: expiry.expiry,
        })
    }

    /// The command with nothing but the expiry after its pairs.
    pub(in crate::mutation) fn unconditional(mut self, scratch: &'a mut Scratch) -> Arguments<'a> {
        push_expiry(&mut self.head, self.expiry, scratch);
        self.head
    }
}

pub(super) fn mset_ex<'a>(
    arguments: &'a [&'a [u8]],
    now: i64,
    scratch: &'a mut Scratch,
) -> Option<Derived<'a>> {
    let parsed = MSetEx::parse(arguments, now)?;
    if parsed.is_conditional {
        return None;
    }
    Some(Derived::rewritten(parsed.unconditional(scratch)))
}
