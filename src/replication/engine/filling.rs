//! A region that another one's data is being copied to.
//!
//! Until a key's snapshot has come, this region has of it only what was changed
//! since it began: a part. While the other region says that it is copying,
//!
//! - such a key is not told. A region that told it would have all others lose the
//!   rest of it;
//! - a snapshot of it is taken whatever it lacks, and the changes that it lacks
//!   are made again on top of it, those of this region and of others. They are
//!   remembered for that until the copying region has applied them.
//!
//! A key whose last overwrite is known is no part: the rest of it was overwritten.
//! Nor is one that the own clients had changed before it was known that the other
//! region copies: where something is missing no client writes before.
//! Which keys a region had before is not known, so one that has all its data goes
//! by the same rules, at no harm but a delay.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::super::keys::{KeyId, KeyMap, Mark};
use super::super::version::{OWN, Partition, Place, Version};
use super::{Command, Engine, Included};
use crate::journal::Offset;
use crate::mutation::operation::{Kind, Operation};

/// Changes of one key that are remembered: as counters are.
const OF_KEY_MAX: usize = super::COUNTED_MAX;

/// What is remembered at most, of all keys.
const CHANGES_MAX: usize = 200_000;

/// A change that a snapshot may lack.
#[derive(Debug, Clone)]
struct Remembered {
    place: Place,
    version: Version,
    /// The element it overwrites, where it does that.
    element: Option<KeyId>,
    command: Command,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// While a region is being copied to this one: what its snapshots include of
    /// each, at least.
    through: Option<HashMap<Partition, Offset>>,
    /// Keys that this region's own clients had changed before: nothing is missing
    /// of them, and what was changed is not remembered here.
    before: HashSet<KeyId>,
    changes: KeyMap<Vec<Remembered>>,
    count: usize,
}

impl Filling {
    /// What was remembered last of these keys was not done.
    pub(super) fn take_back(&mut self, keys: Vec<KeyId>) {
        for id in keys {
            if self.changes.get_mut(&id).and_then(Vec::pop).is_some() {
                self.count -= 1;
            }
        }
    }

    /// What is at a place was refused: it is not made again.
    pub(super) fn reject(&mut self, id: KeyId, place: Place) {
        if let Some(known) = self.changes.get_mut(&id) {
            let before = known.len();
            known.retain(|one| one.place != place);
            self.count -= before - known.len();
        }
    }

    fn is_included(&self, one: &Remembered) -> bool {
        let through = self.through.as_ref();
        let through = through.and_then(|all| all.get(&one.place.partition));
        through.is_some_and(|through| one.place.offset < *through)
    }

    /// Forgets what all snapshots include that are still to come.
    fn prune(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.retain(|_, all| {
            all.retain(|one| !self.is_included(one));
            !all.is_empty()
        });
        self.count = changes.values().map(Vec::len).sum();
        self.changes = changes;
    }
}

impl Engine {
    /// Says whether other regions' data is being copied to this one, and what
    /// snapshots that come from now on include of each region.
    pub(in super::super) fn set_filling(&mut self, through: Option<HashMap<Partition, Offset>>) {
        if self.filling.through == through {
            return;
        }
        match through {
            None => self.filling = Filling::default(),
            Some(_) => {
                if self.filling.through.is_none() {
                    let is_own = |mark: &Mark| mark.place.partition.region == OWN;
                    let keys = self.keys.iter();
                    let changed = keys.filter(|(_, state)| state.marks.iter().any(is_own));
                    self.filling.before = changed.map(|(id, _)| *id).collect();
                }
                self.filling.through = through;
                self.filling.prune();
            }
        }
    }

    /// Whether this region may have no more than a part of a key.
    pub(super) fn may_be_part(&self, id: KeyId) -> bool {
        self.filling.through.is_some()
            && !self.filling.before.contains(&id)
            && self
                .keys
                .get(&id)
                .is_none_or(|state| state.overwritten == Version::default())
    }

    /// Remembers a change of a key that may be a part. Changes of several keys
    /// that can't be taken apart are not, nor are counters, which are remembered
    /// anyway.
    pub(super) fn remember(
        &mut self,
        place: Place,
        version: Version,
        database: u32,
        arguments: &[Bytes],
        operation: &Operation<'_>,
    ) {
        let id = KeyId::of(database, operation.key);
        if matches!(operation.kind, Kind::Counter | Kind::Flush) || !self.may_be_part(id) {
            return;
        }
        let operations = self.operations_of(arguments);
        let is_this = |index: usize| {
            let other = &operations.all[index];
            (other.key, other.element) == (operation.key, operation.element)
        };
        let arguments = match operations.all.len() {
            1 => arguments.to_vec(),
            _ if operations.can_be_cut() => operations.cut(arguments, is_this),
            _ => return,
        };
        let known = self.filling.changes.entry(id).or_default();
        if known.len() == OF_KEY_MAX || self.filling.count == CHANGES_MAX {
            return;
        }
        known.push(Remembered {
            place,
            version,
            element: (operation.kind == Kind::Element).then(|| id.element(operation.element)),
            command: Command {
                database,
                arguments,
            },
        });
        self.filling.count += 1;
        if let Some(undo) = &mut self.undo {
            undo.remembered.push(id);
        }
    }

    /// The changes of a key to be made again on top of a snapshot.
    pub(super) fn made_again(&self, id: KeyId, included: &Included) -> Vec<Command> {
        let known = self.filling.changes.get(&id).into_iter().flatten();
        let is_newest = |one: &&Remembered| {
            let element = one.element.and_then(|element| self.elements.get(&element));
            element.is_none_or(|element| element.overwritten <= one.version)
        };
        known
            .filter(|one| !included.covers(one.place))
            .filter(is_newest)
            .map(|one| one.command.clone())
            .collect()
    }
}
