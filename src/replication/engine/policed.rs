//! What a region does with changes of keys that it does not replicate as they are: the
//! policy of its namespace, and of prefixes.

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::keys::KeyId;
use super::super::policy::Mode;
use super::decide::slice_of;
use super::{Change, Decision, Engine};
use crate::mutation::clock::milliseconds;
use crate::mutation::operation::{Kind, Operation};
use crate::mutation::v1;

/// What is done with a change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is made.
    Made,
    /// The key is deleted, as what it is set to does not live long enough.
    HeldBack,
    /// The key is deleted.
    Deletes,
    /// Nothing.
    LeftOut,
}

impl Engine {
    /// Whether all keys' changes are made as they are.
    pub(in super::super) fn is_plain(&self) -> bool {
        self.policy.load().is_plain()
    }

    /// Whether anything is done with changes of a key.
    pub(in super::super) fn is_taken(&self, key: &[u8]) -> bool {
        self.policy.load().of(key).mode != Mode::Off
    }

    /// What is done with a change of a key. `expires_at` is milliseconds since the Unix
    /// epoch, 0 for never. What is done to a value that was held back is, too.
    pub(super) fn fate(
        &self,
        (database, key): (u32, &[u8]),
        kind: Kind,
        change: &Change,
        expires_at: impl Fn() -> i64,
    ) -> Fate {
        let policy = self.policy.load().of(key);
        match policy.mode {
            Mode::Off => return Fate::LeftOut,
            Mode::Invalidate => return Fate::Deletes,
            Mode::Value if policy.ttl_min.is_zero() => return Fate::Made,
            Mode::Value => {}
        }
        let made = milliseconds(change.version.hlc.max(change.version.snapshot)) as i64;
        let at = expires_at();
        let is_short = at != 0 && at < made.saturating_add(policy.ttl_min.as_millis() as i64);
        let is_of_held_back = || kind != Kind::Overwrite && self.is_held_back(database, key);
        match is_short || is_of_held_back() {
            true => Fate::HeldBack,
            false => Fate::Made,
        }
    }

    /// Whether the newest value of a key was not taken, so that what is here is nothing to
    /// tell.
    pub(super) fn is_held_back(&self, database: u32, key: &[u8]) -> bool {
        let state = self.keys.get(&KeyId::of(database, key));
        state.is_some_and(|state| {
            state.held_back == state.newest() && state.held_back != Default::default()
        })
    }

    fn hold_back(&mut self, database: u32, key: &[u8], change: &Change) {
        let id = KeyId::of(database, key);
        let is_newest = |state: &super::KeyState| state.newest() == change.version;
        if self.keys.get(&id).is_some_and(is_newest) {
            self.key(id).held_back = change.version;
        }
    }

    /// Decides about a command of a change.
    pub(super) fn decide_by_policy(
        &mut self,
        change: &Change,
        database: u32,
        arguments: &[Bytes],
        decision: &mut Decision,
    ) {
        if self.is_plain() {
            return self.decide_command(change, database, arguments, decision);
        }
        let operations = self.operations_of(arguments);
        let expires = || expires_at(self.store, arguments);
        // Which keys are only read is not known of what can't be taken apart: none is
        // deleted because another one was held back.
        let is_whole = 1 < operations.all.len() && !operations.can_be_cut();
        let fate = |one: &Operation<'_>| {
            let kind = if is_whole { Kind::Overwrite } else { one.kind };
            self.fate((database, one.key), kind, change, expires)
        };
        let of_keys = operations.all.iter().filter(|one| one.kind != Kind::Flush);
        let fates: SmallVec<[Fate; 4]> = of_keys.map(fate).collect();
        let strictest = fates.iter().max().copied().unwrap_or(Fate::Made);
        if operations.can_be_cut() && fates.iter().any(|fate| *fate != strictest) {
            for index in 0..fates.len() {
                let part = operations.cut(arguments, |other| other == index);
                self.decide_by_policy(change, database, &part, decision);
            }
            return;
        }
        match strictest {
            Fate::LeftOut => return,
            Fate::Made => return self.decide_command(change, database, arguments, decision),
            Fate::HeldBack | Fate::Deletes => {}
        }
        let name = match self.store {
            v1::Store::Memcached => &b"delete"[..],
            _ => b"UNLINK",
        };
        let mut delete = vec![Bytes::from_static(name)];
        for operation in &operations.all {
            if !delete[1..].iter().any(|key| *key == operation.key) {
                delete.push(slice_of(arguments, operation.key));
            }
        }
        self.decide_command(change, database, &delete, decision);
        if strictest == Fate::HeldBack {
            for key in &delete[1..] {
                self.hold_back(database, key, change);
            }
        }
    }

    /// Decides about a value that another region tells.
    pub(super) fn decide_value(
        &mut self,
        change: &Change,
        snapshot: &v1::Snapshot,
        decision: &mut Decision,
    ) {
        let key = (change.database, &snapshot.key[..]);
        let fate = self.fate(key, Kind::Overwrite, change, || snapshot.expires_at);
        match fate {
            Fate::LeftOut => {}
            Fate::Made => self.decide_snapshot(change, snapshot, decision),
            Fate::HeldBack | Fate::Deletes => {
                let absent = v1::Snapshot {
                    value: None,
                    ..snapshot.clone()
                };
                self.decide_snapshot(change, &absent, decision);
                if fate == Fate::HeldBack {
                    self.hold_back(change.database, &snapshot.key, change);
                }
            }
        }
    }
}

/// When the value expires that a command sets, in milliseconds since the Unix
/// epoch; 0 for never, or not known.
pub(super) fn expires_at(store: v1::Store, arguments: &[Bytes]) -> i64 {
    let number = |index: usize| {
        let digits = std::str::from_utf8(arguments.get(index)?).ok()?;
        digits.parse::<i64>().ok()
    };
    let name = arguments.first().map_or(&[][..], |name| &name[..]);
    let at = match store {
        v1::Store::Memcached if name == b"set" => number(3).map(|seconds| seconds * 1000),
        v1::Store::Memcached => None,
        _ if name.eq_ignore_ascii_case(b"SET") => {
            let option = arguments
                .get(3)
                .filter(|one| one.eq_ignore_ascii_case(b"PXAT"));
            option.and_then(|_| number(4))
        }
        _ if name.eq_ignore_ascii_case(b"RESTORE") => number(2),
        _ => None,
    };
    at.unwrap_or(0)
}
