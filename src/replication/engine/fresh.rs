//! Keys that were changed by what was applied last.
//!
//! A command that comes to nothing (DEL of a key that is not there, SADD of a
//! member that is) does not fail a transaction that watches its key. One that the
//! own journal did not have yet when it was read to its end may so have been
//! executed before what was applied then, and nobody saw. Where such a one comes
//! up of a key that was changed, the key is told. What is journaled after that
//! end is known the next time the journal is read to its end.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use bytes::Bytes;

use super::super::keys::{KeyId, PartOfId};
use super::{Engine, Reason};

/// Commands that change their key whatever it holds, or fail: a transaction that
/// watches the key fails with them.
const ALWAYS_CHANGE: [&str; 14] = [
    "SET", "MSET", "SETEX", "PSETEX", "GETSET", "APPEND", "INCR", "INCRBY", "DECR", "DECRBY",
    "HSET", "HINCRBY", "RPUSH", "LPUSH",
];

/// See the module.
pub(super) type Fresh = HashSet<KeyId, BuildHasherDefault<PartOfId>>;

impl Engine {
    /// The own journals were read to their ends: what comes now was executed later
    /// than what was applied before.
    pub(in super::super) fn is_caught_up(&mut self) {
        self.fresh.clear();
        self.races.unwatched.clear();
    }

    /// Whether the own journals have to be read to their ends once more.
    pub(in super::super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Has a key told that was changed and then turns out to have had a command
    /// that perhaps found nothing to change.
    pub(super) fn notice_own(&mut self, database: u32, arguments: &[Bytes], key: &Bytes) {
        if self.fresh.is_empty() || !self.fresh.contains(&KeyId::of(database, key)) {
            return;
        }
        let name = arguments.first().map_or(&[][..], |name| &name[..]);
        let mut always = ALWAYS_CHANGE.iter();
        if !always.any(|one| name.eq_ignore_ascii_case(one.as_bytes())) {
            self.tell_surely(database, key, Reason::Overlap);
        }
    }
}
