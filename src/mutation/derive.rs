//! Command to mutation: the form in which a command is journaled before it is
//! forwarded.
//!
//! A command that is final gets its deterministic form: relative times become
//! absolute ones, what only asks for a reply is taken out. All others are
//! journaled as they were sent, and an outcome follows. That is also what
//! happens to arguments this module does not understand: the datastore rejects
//! them, or it understands more than we do and its keys are looked at.

mod expiry;
mod hashes;
mod keys;
mod strings;

use crate::protocol::resp::Arguments;
use crate::protocol::resp::commands::{Effect, Resolve, Rewrite};

pub(super) use expiry::{Expiry, ExpiryOption, expire_at};
pub(super) use strings::{Condition, MSetEx, SetOptions};

/// Room for the one number that a command's deterministic form may need.
/// One per command whose [`Derived`] is alive.
#[derive(Default, Clone)]
pub struct Scratch {
    number: itoa::Buffer,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Scratch")
    }
}

impl Scratch {
    fn milliseconds(&mut self, at: i64) -> &[u8] {
        self.number.format(at).as_bytes()
    }
}

/// What is journaled for one command.
#[derive(Debug, Clone)]
pub struct Derived<'a> {
    form: Form<'a>,
    /// Whether applying the arguments has the effect the datastore's own
    /// execution has, unless it rejects the command.
    pub is_final: bool,
}

#[derive(Debug, Clone)]
enum Form<'a> {
    AsSent(&'a [&'a [u8]]),
    Rewritten(Arguments<'a>),
}

impl<'a> Derived<'a> {
    /// The command's name and arguments, to be journaled.
    pub fn arguments(&self) -> &[&'a [u8]] {
        match &self.form {
            Form::AsSent(arguments) => arguments,
            Form::Rewritten(arguments) => arguments,
        }
    }

    fn as_sent(arguments: &'a [&'a [u8]], is_final: bool) -> Self {
        Derived {
            form: Form::AsSent(arguments),
            is_final,
        }
    }

    fn rewritten(arguments: Arguments<'a>) -> Self {
        Derived {
            form: Form::Rewritten(arguments),
            is_final: true,
        }
    }
}

/// The form in which a command is journaled. `arguments` starts with the
/// command's name, `effect` is the command table's word on exactly these
/// arguments, `now_ms` is milliseconds since the Unix epoch.
///
/// A reading command ([`Effect::None`]) comes out as it was sent; it need not
/// be journaled at all.
pub fn derive<'a>(
    effect: Effect,
    arguments: &'a [&'a [u8]],
    now_ms: u64,
    scratch: &'a mut Scratch,
) -> Derived<'a> {
    let rewrite = match effect {
        Effect::None | Effect::Verbatim => return Derived::as_sent(arguments, true),
        Effect::Opaque => return Derived::as_sent(arguments, false),
        Effect::Resolved(Resolve::Migrate) => return keys::migrate_without_secrets(arguments),
        Effect::Resolved(_) => return Derived::as_sent(arguments, false),
        Effect::Rewritten(rewrite) => rewrite,
    };
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let derived = match rewrite {
        Rewrite::Set => strings::set(arguments, now, scratch),
        Rewrite::SetEx => strings::set_ex(arguments, 1000, now, scratch),
        Rewrite::PSetEx => strings::set_ex(arguments, 1, now, scratch),
        Rewrite::GetSet => strings::get_set(arguments),
        Rewrite::GetDel => strings::get_del(arguments),
        Rewrite::MSetEx => strings::mset_ex(arguments, now, scratch),
        Rewrite::Expire => keys::expire(arguments, now, scratch),
        Rewrite::Restore => keys::restore(arguments, now, scratch),
        Rewrite::HExpire => hashes::hexpire(arguments, now, scratch),
        Rewrite::HSetEx => hashes::hset_ex(arguments, now, scratch),
        Rewrite::HGetDel => hashes::hget_del(arguments),
    };
    derived.unwrap_or_else(|| Derived::as_sent(arguments, false))
}

#[cfg(test)]
mod tests;
