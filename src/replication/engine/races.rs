//! Keys that own clients change so often that no transaction gets through.
//!
//! A transaction fails if a key that it watches is changed between the reading of
//! the own journal and its end. Where that goes on, the keys that own clients have
//! changed since are not watched any more. They are told afterwards, and what own
//! clients overwrote in that gap is overwritten with it again if it was newer.
//!
//! Values that other regions tell of such keys are never taken unwatched: what an
//! own client adds in the gap would be gone, and nobody would know whether it was.
//! They are tried alone; where that does not help either they are passed over. The
//! own value has all that was applied, and is told instead.

use bytes::Bytes;

use super::super::keys::KeyId;
use super::super::target::DatabaseKey;
use super::super::version::Version;
use super::fresh::Fresh;
use super::{Body, Change, Engine};
use crate::mutation::operation::{Kind, Operations};

/// Keys that are remembered; of more all are taken for such.
const KEYS_MAX: usize = 1 << 16;

/// See the module.
#[derive(Default)]
pub(super) struct Races {
    /// The keys own clients have changed since transactions began to fail.
    changed: Option<Fresh>,
    /// Those that what was applied last has changed without watching them.
    pub(super) unwatched: Fresh,
}

impl Engine {
    /// A transaction has failed: from now on it is noted which keys own clients
    /// change.
    pub(in super::super) fn raced(&mut self) {
        self.races.changed.get_or_insert_default();
        self.races.unwatched.clear();
    }

    /// One got through.
    pub(in super::super) fn is_not_racing(&mut self) {
        self.races.changed = None;
    }

    /// Takes out those that own clients have changed since transactions fail.
    /// None of those `held`, nor any of which this region may have a part only.
    pub(in super::super) fn take_racing(
        &self,
        keys: &mut Vec<DatabaseKey>,
        held: &[DatabaseKey],
    ) -> Vec<DatabaseKey> {
        let Some(changed) = &self.races.changed else {
            return Vec::new();
        };
        let is_racing = |one: &mut DatabaseKey| {
            let id = KeyId::of(one.0, &one.1);
            let is_noted = KEYS_MAX <= changed.len() || changed.contains(&id);
            is_noted && !held.contains(one) && !self.may_be_part(id)
        };
        keys.extract_if(.., is_racing).collect()
    }

    /// Whether a change is the value of a key that is not watched.
    pub(in super::super) fn passes_over(&self, change: &Change, racing: &[DatabaseKey]) -> bool {
        let Body::Snapshot(snapshot) = &change.body else {
            return false;
        };
        let is_it =
            |(database, key): &DatabaseKey| *database == change.database && *key == snapshot.key;
        racing.iter().any(is_it)
    }

    /// Keys are about to be changed that are not watched.
    pub(in super::super) fn are_unwatched(&mut self, keys: &[DatabaseKey]) {
        let ids = keys.iter().map(|(database, key)| KeyId::of(*database, key));
        self.races.unwatched.extend(ids);
    }

    /// A final command of an own client.
    pub(super) fn notice_race(
        &mut self,
        database: u32,
        version: Version,
        arguments: &[Bytes],
        operations: &Operations<'_>,
    ) {
        let is_noted = self.races.changed.is_some() || !self.races.unwatched.is_empty();
        if !is_noted {
            return;
        }
        for (index, operation) in operations.all.iter().enumerate() {
            let id = KeyId::of(database, operation.key);
            if let Some(changed) = &mut self.races.changed
                && changed.len() < KEYS_MAX
            {
                changed.insert(id);
            }
            if operation.kind == Kind::Overwrite && self.races.unwatched.contains(&id) {
                let of = (operations, index);
                self.overwrite_again(version, (database, arguments), of, self.now);
            }
        }
    }
}
