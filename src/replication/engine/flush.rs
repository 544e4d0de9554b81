//! Databases that are emptied.
//!
//! A flush is an overwrite of all keys there are, known or not, so its version is
//! kept once for the database. It is told by its outcome: who may not empty the
//! own datastore shall not empty the others. While one of the own region is under
//! way nothing is applied, as it may be executed before or after.
//!
//! Keys that are newer stay. Of those that are so by a change that does not
//! overwrite, other regions have less: they are told.

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::keys::{KeyId, Unsettled};
use super::super::policy::Mode;
use super::super::version::Version;
use super::decide::{by_database, flushes};
use super::{Body, Change, Engine, Reason, is_own_key};
use crate::mutation::operation::Kind;
use crate::mutation::v1;

/// All databases.
const ALL: u32 = u32::MAX;

/// Databases; none for all.
pub(in super::super) type Flushes = SmallVec<[Option<u32>; 1]>;

impl Engine {
    /// Notes a flush.
    pub(super) fn flush(&mut self, which: Option<u32>, version: Version) {
        if let Some(undo) = &mut self.undo
            && undo.flushed.is_none()
        {
            undo.flushed = Some(self.flushed.clone());
        }
        let known = self.flushed.entry(which.unwrap_or(ALL)).or_default();
        *known = version.max(*known);
    }

    /// When a database was last emptied.
    pub(in super::super) fn flushed(&self, database: u32) -> Version {
        let of = |database: u32| self.flushed.get(&database).copied().unwrap_or_default();
        of(database).max(of(ALL))
    }

    /// The databases that are emptied; most changes empty none.
    pub(super) fn flushes_in(&self, database: u32, commands: &[v1::Command]) -> Flushes {
        let mut found = Flushes::new();
        for (database, arguments) in by_database(database, commands) {
            // Most are not even looked at.
            let name = arguments.first().map_or(&[][..], |name| &name[..]);
            let may_be = name.len() >= 7 && name[..5].eq_ignore_ascii_case(b"flush");
            let is_flush = || {
                let operations = self.operations_of(arguments);
                operations.all.iter().any(|one| one.kind == Kind::Flush)
            };
            if may_be && is_flush() {
                found.push(flushes(arguments, database));
            }
        }
        found
    }

    /// Whether a change empties a database.
    pub(in super::super) fn is_flush(&self, change: &Change) -> bool {
        match &change.body {
            Body::Commands(commands) => !self.flushes_in(change.database, commands).is_empty(),
            Body::Snapshot(_) => false,
        }
    }

    /// What a change empties that was not emptied later.
    pub(in super::super) fn flushes_of(&self, change: &Change) -> Flushes {
        let Body::Commands(commands) = &change.body else {
            return Flushes::new();
        };
        let mut found = self.flushes_in(change.database, commands);
        found.retain(|which| {
            let known = match which {
                Some(database) => self.flushed(*database),
                None => self.flushed.get(&ALL).copied().unwrap_or_default(),
            };
            known < change.version
        });
        found
    }

    /// Whether a key is older than a flush, so that it goes with it.
    pub fn goes_with(&self, flush: Version, database: u32, key: &[u8]) -> bool {
        let state = self.keys.get(&KeyId::of(database, key));
        let is_left_alone = is_own_key(key) || self.policy.load().of(key).mode == Mode::Off;
        !is_left_alone && state.is_none_or(|state| state.newest() < flush)
    }

    /// Has a key told, after a flush, that other regions have something else of:
    /// it is newer, but not all of it; or something is under way.
    pub(in super::super) fn outlives(&mut self, flush: Version, database: u32, key: &Bytes) {
        let Some(state) = self.keys.get(&KeyId::of(database, key)) else {
            return;
        };
        let is_newer_in_part = flush <= state.newest() && state.written < flush;
        if is_newer_in_part || self.writers.any_unsettled(&state.unsettled) {
            self.tell_surely(database, key, Reason::Conflict);
        }
    }

    /// Has all keys told that own changes are under way of: they may come before a
    /// flush or after it.
    pub(in super::super) fn tell_unsettled(&mut self) {
        for (database, key) in self.writers.unsettled_keys() {
            self.tell_surely(database, &key, Reason::Overlap);
        }
    }

    /// Whether one of the own region is under way.
    pub(in super::super) fn is_flushing(&self) -> bool {
        self.writers.any_unsettled(&self.flushing)
    }

    /// An own mutation that is told by its outcome; notes it if it empties.
    pub(super) fn notice_flush(
        &mut self,
        database: u32,
        commands: &[v1::Command],
        unsettled: Unsettled,
    ) {
        if self.flushes_in(database, commands).is_empty() {
            return;
        }
        let writers = &self.writers;
        self.flushing.retain(|one| !writers.is_settled(one));
        self.flushing.push(unsettled);
        self.tell_unsettled();
    }
}
