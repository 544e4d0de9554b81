//! What becomes of a change of another region.

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::keys::{KeyId, commutes};
use super::super::version::{Place, Version};
use super::{Again, COUNTED_MAX, Counted, Engine, Reason, Sabotage};
use crate::mutation::operation::{self, Kind, Operation, Operations};
use crate::mutation::v1;

/// A command for the datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The database it is for.
    pub database: u32,
    /// Its name and arguments.
    pub arguments: Vec<Bytes>,
}

/// A change of another region, at the place in its journal where it is told.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where it is, in that region's journal.
    pub place: Place,
    /// How old it is.
    pub version: Version,
    /// The database it begins in.
    pub database: u32,
    /// What it is.
    pub body: Body,
}

/// What a change is.
#[derive(Debug, Clone)]
pub enum Body {
    /// Deterministic commands, together.
    Commands(Vec<v1::Command>),
    /// A key's value.
    Snapshot(v1::Snapshot),
}

/// What is to be done for a change.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// To be executed, together.
    pub commands: Vec<Command>,
    /// It can't be decided before what is under way is settled.
    pub waits: bool,
    /// Operations that are older than what there is.
    pub older: u64,
    /// Keys for which the change was given up.
    pub lost: Vec<Bytes>,
    /// Overwrites that are done again later.
    again: Vec<Again>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Apply,
    /// And once more, when what is under way is settled.
    Twice,
    Older,
    /// And what is newer was done by clients of the own region who did not know it.
    Outdone,
    Lost,
}

impl Engine {
    /// Decides what is to be done for a change. Deciding again, if it could not
    /// be done, comes to the same unless something newer came between.
    pub fn decide(&mut self, change: &Change) -> Decision {
        let mut decision = Decision::default();
        if (self.is_flushing() || self.is_inexact) && !self.is_repeated {
            decision.waits = true;
            return decision;
        }
        match &change.body {
            Body::Commands(commands) => {
                for (database, arguments) in by_database(change.database, commands) {
                    self.decide_by_policy(change, database, arguments, &mut decision);
                }
            }
            Body::Snapshot(snapshot) => self.decide_value(change, snapshot, &mut decision),
        }
        decision
    }

    /// The keys of a change.
    pub(in super::super) fn each_key(&self, change: &Change, mut each: impl FnMut(u32, Bytes)) {
        match &change.body {
            Body::Snapshot(snapshot) => each(change.database, snapshot.key.clone()),
            Body::Commands(commands) => {
                for (database, arguments) in by_database(change.database, commands) {
                    for (database, key) in self.keys_of_command(database, arguments) {
                        each(database, key);
                    }
                }
            }
        }
    }

    /// The keys of a command.
    pub(in super::super) fn keys_of_command(
        &self,
        database: u32,
        arguments: &[Bytes],
    ) -> Vec<(u32, Bytes)> {
        let operations = self.operations_of(arguments);
        let mut keys: Vec<(u32, Bytes)> = Vec::with_capacity(operations.all.len());
        for operation in &operations.all {
            let is_known = keys.last().is_some_and(|(_, last)| last == operation.key);
            if operation.kind != Kind::Flush && !is_known {
                keys.push((database, slice_of(arguments, operation.key)));
            }
        }
        keys
    }

    /// Notes that what was decided is done.
    pub fn done(&mut self, decision: Decision) {
        for again in decision.again {
            self.again_later(again);
        }
    }

    pub(super) fn count(&mut self, id: KeyId, place: Place, version: Version, delta: i64) {
        let counted = Counted {
            place,
            version,
            delta,
        };
        let all = self.counters.entry(id).or_default();
        if all.len() == COUNTED_MAX {
            all.drain(..COUNTED_MAX / 2);
        }
        all.push(counted);
        if let Some(undo) = &mut self.undo {
            undo.counted.push(id);
        }
    }

    pub(super) fn operations_of<'a>(&self, arguments: &'a [Bytes]) -> Operations<'a> {
        match self.store {
            v1::Store::Memcached => operation::memcached_operations(arguments),
            _ => operation::operations(&self.table.load(), arguments),
        }
    }

    pub(super) fn decide_command(
        &mut self,
        change: &Change,
        database: u32,
        arguments: &[Bytes],
        decision: &mut Decision,
    ) {
        let operations = self.operations_of(arguments);
        if let Some(flush) = operations.all.first().filter(|one| one.kind == Kind::Flush) {
            debug_assert!(flush.key.is_empty());
            let which = flushes(arguments, database);
            self.flush(which, change.version);
            self.touch_flushed(which);
            // Emptied it was before; what this change did before that is gone.
            let stays = |one: &Command| which.is_some_and(|which| one.database != which);
            decision.commands.retain(stays);
            return;
        }
        let verdicts: SmallVec<[Verdict; 4]> = operations
            .all
            .iter()
            .map(|operation| self.judge(change, database, operation))
            .collect();
        let applies = |verdict: &Verdict| matches!(verdict, Verdict::Apply | Verdict::Twice);
        let is_older = |verdict: &&Verdict| matches!(verdict, Verdict::Older | Verdict::Outdone);
        decision.older += verdicts.iter().filter(is_older).count() as u64;
        for (operation, verdict) in operations.all.iter().zip(&verdicts) {
            let is_lost = matches!(verdict, Verdict::Lost | Verdict::Outdone);
            if is_lost && !decision.lost.iter().any(|key| *key == operation.key) {
                decision.lost.push(slice_of(arguments, operation.key));
            }
        }
        let command = if verdicts.iter().all(applies) {
            arguments.to_vec()
        } else if !verdicts.iter().any(applies) {
            return;
        } else if operations.can_be_cut() {
            operations.cut(arguments, |index| applies(&verdicts[index]))
        } else {
            // A part of it can't be done without the rest. The region that did
            // it all will tell these keys when it hears of them.
            for operation in &operations.all {
                let key = slice_of(arguments, operation.key);
                self.conflict(database, &key, change);
                decision.lost.push(key);
            }
            return;
        };
        let is_whole = 1 < operations.all.len() && !operations.can_be_cut();
        let is_due = |one: &Operation<'_>| self.is_due(database, one.key);
        if is_whole && operations.all.iter().any(is_due) {
            // What is not sure of one of them is not of what the others get of it.
            for operation in &operations.all {
                self.conflict(database, &slice_of(arguments, operation.key), change);
            }
        }
        for (operation, verdict) in operations.all.iter().zip(&verdicts) {
            self.note_applied(change, database, operation, *verdict, arguments, decision);
        }
        decision.commands.push(Command {
            database,
            arguments: command,
        });
    }

    /// Notes what will have been applied.
    fn note_applied(
        &mut self,
        change: &Change,
        database: u32,
        operation: &Operation<'_>,
        verdict: Verdict,
        arguments: &[Bytes],
        decision: &mut Decision,
    ) {
        if !matches!(verdict, Verdict::Apply | Verdict::Twice) {
            return;
        }
        let id = KeyId::of(database, operation.key);
        self.note(id, change.place, change.version, operation);
        if operation.kind == Kind::Counter {
            self.count(id, change.place, change.version, operation.delta);
        }
        self.fresh.insert(id);
        self.touch_applied(id, Some(operation));
        self.remember(change.place, change.version, database, arguments, operation);
        if verdict == Verdict::Twice {
            let key = slice_of(arguments, operation.key);
            let cut = self.operations_of(arguments);
            let of_key = |index: usize| cut.all[index].key == operation.key;
            decision.again.push(Again {
                version: change.version,
                command: Command {
                    database,
                    arguments: cut.cut(arguments, of_key),
                },
                key,
                at: self.now,
            });
        }
    }

    pub(super) fn note(
        &mut self,
        id: KeyId,
        place: Place,
        version: Version,
        operation: &Operation<'_>,
    ) {
        let state = self.key(id);
        state.note(place, version, operation.kind);
        match operation.kind {
            Kind::Overwrite if state.overwritten == version => self.set_included(id, None),
            Kind::Element => {
                let known = self.element(id.element(operation.element));
                known.overwritten = known.overwritten.max(version);
            }
            Kind::ElementCounter => {
                let known = self.element(id.element(operation.element));
                known.counted = known.counted.max(version);
            }
            _ => {}
        }
    }

    fn judge(&mut self, change: &Change, database: u32, operation: &Operation<'_>) -> Verdict {
        let Operation { kind, key, .. } = *operation;
        let version = match self.sabotage {
            Sabotage::NoVersions => return Verdict::Apply,
            Sabotage::NoTies => Version {
                writer: u64::MAX,
                ..change.version
            },
            _ => change.version,
        };
        if version < self.flushed(database) {
            return Verdict::Older;
        }
        let id = KeyId::of(database, key);
        let is_included = self.is_included(id, change.place);
        if self.was_used(id, version) {
            // What others got of it is not what they would have got after this.
            self.conflict(database, &Bytes::copy_from_slice(key), change);
        }
        let state = self.keys.entry(id).or_default();
        let is_older = version < state.overwritten;
        if version < state.written {
            return match state.is_written_by_own() && !self.is_repeated {
                true => Verdict::Outdone,
                false => Verdict::Older,
            };
        }
        let newer = state.newer_than(change.place.partition, version);
        // Others have made the change that was refused here, which is newer.
        let is_refused = version < state.rejected;
        if is_older && is_included {
            // It is in the value already. A snapshot that comes later may lack it.
            if kind != Kind::Overwrite {
                self.note(id, change.place, version, operation);
            }
            if kind == Kind::Counter {
                self.count(id, change.place, version, operation.delta);
            }
            return Verdict::Older;
        }
        let is_lost = is_older && !(is_refused && newer.all == 0);
        if is_lost && kind == Kind::Overwrite {
            // Changes before it that the value does not include were added to it
            // here, and are gone where it was made.
            if newer.own != 0 {
                self.conflict(database, &Bytes::copy_from_slice(key), change);
            }
            self.lose(id, version);
            return Verdict::Lost;
        }
        let in_flight = self.writers.any_unsettled(&state.unsettled);
        let mut verdict = Verdict::Apply;
        if matches!(kind, Kind::Element | Kind::ElementCounter)
            && let Some(known) = self.elements.get(&id.element(operation.element))
        {
            if version < known.overwritten {
                // But the key would have been there, for what was done to it.
                if !commutes(kind, newer.own) {
                    self.conflict(database, &Bytes::copy_from_slice(key), change);
                }
                return match newer.own != 0 && !self.is_repeated {
                    true => Verdict::Outdone,
                    false => Verdict::Older,
                };
            }
            if kind == Kind::Element && version < known.counted {
                verdict = Verdict::Lost;
            }
        }
        let mut is_conflict = is_refused || verdict == Verdict::Lost && newer.own != 0;
        if !commutes(kind, newer.all) {
            is_conflict |= !commutes(kind, newer.own);
            if kind == Kind::Overwrite {
                verdict = Verdict::Lost;
            }
        }
        if in_flight && verdict == Verdict::Apply {
            match kind {
                Kind::Overwrite => verdict = Verdict::Twice,
                _ => is_conflict |= self.is_crossed(id, operation),
            }
        }
        if is_conflict {
            self.conflict(database, &Bytes::copy_from_slice(key), change);
        }
        if verdict == Verdict::Lost && kind == Kind::Overwrite {
            self.lose(id, version);
        }
        verdict
    }

    /// Whether something of the own region is under way that does not commute with
    /// an operation: it may be executed before it or after it.
    fn is_crossed(&self, id: KeyId, operation: &Operation<'_>) -> bool {
        let kind = operation.kind;
        let unsettled = self.keys.get(&id).into_iter();
        let unsettled = unsettled.flat_map(|state| &state.unsettled);
        let element = match kind {
            Kind::Element | Kind::ElementCounter => Some(id.element(operation.element)),
            _ => None,
        };
        unsettled
            .filter(|one| !self.writers.is_settled(one))
            .any(|one| {
                let is_same = element == Some(one.element)
                    && (kind, one.kind) != (Kind::ElementCounter, Kind::ElementCounter);
                is_same || !commutes(kind, one.kind as u8)
            })
    }

    /// Whether a later command of the own region has taken from a key what others
    /// got.
    pub(super) fn was_used(&self, id: KeyId, version: Version) -> bool {
        let companions = self.companions.get(&id);
        companions.is_some_and(|companions| version < companions.newest)
    }

    /// An overwrite is not made, as a newer change does not commute with it; but
    /// what is older than it is gone where it was made, and counts no more.
    fn lose(&mut self, id: KeyId, version: Version) {
        let state = self.key(id);
        state.written = state.written.max(version);
    }

    /// Has a key told that a change is in conflict about.
    pub(super) fn conflict(&mut self, database: u32, key: &Bytes, change: &Change) {
        let cause = Some(change.place);
        self.tell(database, key, Reason::Conflict, Default::default(), cause);
    }

    /// Whether the value that a key was last overwritten with includes a change,
    /// or was no snapshot.
    fn is_included(&self, id: KeyId, place: Place) -> bool {
        let included = self.included.get(&id);
        included.is_none_or(|included| included.covers(place))
    }
}

/// The commands of a change that begins in a database, but for its SELECTs, each
/// with the database it is for.
pub(super) fn by_database(
    mut database: u32,
    commands: &[v1::Command],
) -> impl Iterator<Item = (u32, &[Bytes])> {
    commands.iter().filter_map(move |command| {
        let selected = selected(&command.arguments);
        database = selected.unwrap_or(database);
        let is_select = selected.is_some();
        (!is_select).then_some((database, &command.arguments[..]))
    })
}

/// The database that a SELECT within a transaction selects.
fn selected(arguments: &[Bytes]) -> Option<u32> {
    let [name, database] = arguments else {
        return None;
    };
    if !name.eq_ignore_ascii_case(b"SELECT") {
        return None;
    }
    std::str::from_utf8(database).ok()?.parse().ok()
}

/// Which database a flush empties; none for all.
pub(super) fn flushes(arguments: &[Bytes], database: u32) -> Option<u32> {
    let name = arguments.first().map_or(&[][..], |name| &name[..]);
    name.eq_ignore_ascii_case(b"FLUSHDB").then_some(database)
}

/// The part of the arguments that a slice of them is, without copying.
pub(super) fn slice_of(arguments: &[Bytes], slice: &[u8]) -> Bytes {
    let within = |argument: &&Bytes| {
        let range = argument.as_ptr_range();
        !slice.is_empty() && range.contains(&slice.as_ptr())
    };
    match arguments.iter().find(within) {
        Some(argument) => argument.slice_ref(slice),
        None => Bytes::copy_from_slice(slice),
    }
}
