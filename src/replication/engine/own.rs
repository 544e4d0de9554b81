//! What becomes known of a change of the own region when its journal is read.

use std::time::Duration;

use bytes::Bytes;

use super::super::keys::{KeyId, Unsettled, commutes};
use super::super::version::{OWN, RegionId, Version};
use super::super::writers::Open;
use super::decide::{flushes, selected, slice_of};
use super::{Again, Command, Counted, Engine, Reason, UNKNOWN_DELAY};
use crate::journal::Offset;
use crate::mutation::operation::{Kind, Operation};
use crate::mutation::outcome::{NO_REPLY, TOLD_AGAIN};
use crate::mutation::v1::{self, outcome::Result, record::Body};

/// Keys that are remembered to have been changed with another.
const COMPANIONS_MAX: usize = 32;

/// A partition of the own journal, and an offset there.
type Place = (u32, Offset);

impl Engine {
    /// Notes a record of the own region's journal, in the journal's order.
    pub fn own(&mut self, partition: u32, offset: Offset, record: &v1::Record) {
        let now = self.now;
        match &record.body {
            // What it is about may be settled by its own header.
            Some(Body::Outcome(outcome)) => {
                self.own_outcome((partition, offset), record, outcome);
                self.writers
                    .heard(record.writer, record.settled_through, now);
            }
            Some(Body::Mutation(mutation)) => {
                self.writers
                    .heard(record.writer, record.settled_through, now);
                self.own_mutation((partition, offset), record, mutation);
            }
            Some(Body::Snapshot(snapshot)) => {
                self.writers
                    .heard(record.writer, record.settled_through, now);
                self.own_snapshot(record, snapshot);
            }
            Some(Body::Heartbeat(_)) | None => {
                self.writers
                    .heard(record.writer, record.settled_through, now);
            }
        }
    }

    fn own_mutation(&mut self, place: Place, record: &v1::Record, mutation: &v1::Mutation) {
        let (writer, sequence) = (record.writer, record.sequence);
        self.writers.open(
            writer,
            Open {
                sequence,
                database: record.database,
                keys: mutation.keys.clone(),
                is_final: mutation.r#final,
                hlc: record.hlc,
                commands: match mutation.r#final {
                    true => mutation.commands.clone(),
                    false => Vec::new(),
                },
                place,
            },
        );
        let version = Version::of(record);
        if mutation.r#final {
            self.own_commands(
                place,
                record.database,
                version,
                &mutation.commands,
                Some(sequence),
            );
            return;
        }
        for key in &mutation.keys {
            let id = KeyId::of(record.database, key);
            let unsettled = Unsettled {
                writer,
                sequence,
                kind: Kind::Ordered,
                element: id,
                is_intent: true,
            };
            if self.unsettle(id, unsettled) {
                self.tell(
                    record.database,
                    key,
                    Reason::Overlap,
                    Duration::ZERO,
                    cause(place),
                );
            }
        }
    }

    fn own_outcome(&mut self, place: Place, record: &v1::Record, outcome: &v1::Outcome) {
        let open = self
            .writers
            .find(record.writer, outcome.of_sequence)
            .cloned();
        let database = record.database;
        let is_final = open.as_ref().is_some_and(|open| open.is_final);
        let version = match &open {
            Some(open) => Version {
                hlc: open.hlc,
                ..Version::of(record)
            },
            None => Version::of(record),
        };
        let own_keys = || match &open {
            Some(open) => open.keys.clone(),
            None if outcome.key.is_empty() => Vec::new(),
            None => vec![outcome.key.clone()],
        };
        match &outcome.result {
            Some(Result::Effects(effects)) => {
                if is_final {
                    // Others have applied more than was done.
                    for key in own_keys() {
                        self.tell(
                            database,
                            &key,
                            Reason::Rejected,
                            Duration::ZERO,
                            cause(place),
                        );
                    }
                } else {
                    self.own_commands(place, database, version, &effects.commands, None);
                }
                for key in &effects.unknown_keys {
                    self.tell(
                        database,
                        key,
                        Reason::Unresolved,
                        Duration::ZERO,
                        cause(place),
                    );
                }
            }
            Some(Result::Rejected(_)) => {
                for key in own_keys().iter().filter(|_| is_final || open.is_none()) {
                    self.tell(
                        database,
                        key,
                        Reason::Rejected,
                        Duration::ZERO,
                        cause(place),
                    );
                }
            }
            Some(Result::Unknown(unknown)) => {
                // Keys that were asked for are read when the reply was seen.
                let delay = match is_lost(unknown) {
                    true => UNKNOWN_DELAY,
                    false => Duration::ZERO,
                };
                match open.as_ref().filter(|open| open.is_final) {
                    Some(open) => {
                        self.unresolved(record.writer, open, Reason::Unresolved, delay);
                        return;
                    }
                    None if unknown.keys.is_empty() => {}
                    None => {
                        for key in &unknown.keys {
                            self.unknown(place, database, version, key, delay);
                        }
                        return;
                    }
                }
                for key in own_keys() {
                    self.unknown(place, database, version, &key, delay);
                }
            }
            None => {
                for key in own_keys() {
                    self.tell(
                        database,
                        &key,
                        Reason::Unresolved,
                        UNKNOWN_DELAY,
                        cause(place),
                    );
                }
            }
        }
    }

    /// What became of a key is not known.
    fn unknown(
        &mut self,
        place: Place,
        database: u32,
        version: Version,
        key: &Bytes,
        delay: Duration,
    ) {
        self.tell(database, key, Reason::Unresolved, delay, cause(place));
        let id = KeyId::of(database, key);
        self.note(id, OWN, version, place.1, &whole(key));
    }

    /// A final change was executed or not. What it overwrites it overwrites
    /// again: others have done so. Of anything else the value is told.
    pub(super) fn unresolved(&mut self, writer: u64, open: &Open, reason: Reason, delay: Duration) {
        let mut database = open.database;
        let version = Version {
            hlc: open.hlc,
            writer,
            ..Version::default()
        };
        if !open.is_final {
            for key in &open.keys {
                self.unknown(open.place, database, version, key, delay);
            }
            return;
        }
        for command in &open.commands {
            let arguments = &command.arguments;
            if let Some(selected) = selected(arguments) {
                database = selected;
                continue;
            }
            let operations = self.operations_of(arguments);
            for (index, operation) in operations.all.iter().enumerate() {
                let key = slice_of(arguments, operation.key);
                match operation.kind {
                    Kind::Flush => {}
                    Kind::Overwrite => self.again_later(Again {
                        version,
                        command: Command {
                            database,
                            arguments: operations.cut(arguments, |at| at == index),
                        },
                        key,
                        at: self.now + delay,
                    }),
                    _ => self.tell(database, &key, reason, delay, cause(open.place)),
                }
            }
        }
    }

    fn own_snapshot(&mut self, record: &v1::Record, snapshot: &v1::Snapshot) {
        let id = KeyId::of(record.database, &snapshot.key);
        let version = Version::of_snapshot(record, snapshot);
        let named = |applied: &v1::Applied| {
            let region = self.names.iter().position(|name| *name == applied.region)?;
            Some((RegionId(region as u8), applied.next_offset))
        };
        let included: Vec<_> = snapshot.applied.iter().filter_map(named).collect();
        let state = self.keys.entry(id).or_default();
        state.is_read = false;
        if state.overwritten < version {
            state.overwritten = version;
            state.written = state.written.max(Version {
                hlc: snapshot.written_hlc,
                writer: snapshot.written_writer,
                ..Version::default()
            });
            self.included.insert(id, included.clone());
        }
        self.note_told(id, included);
    }

    /// Notes commands that have been or will be executed; `sequence` is their
    /// record's where they are not settled.
    fn own_commands(
        &mut self,
        place: Place,
        mut database: u32,
        version: Version,
        commands: &[v1::Command],
        sequence: Option<u64>,
    ) {
        for command in commands {
            let arguments = &command.arguments;
            if let Some(selected) = selected(arguments) {
                database = selected;
                continue;
            }
            let operations = self.operations_of(arguments);
            for operation in &operations.all {
                if operation.kind == Kind::Flush {
                    self.flush(flushes(arguments, database), version);
                    self.own_flushed = true;
                    continue;
                }
                let key = slice_of(arguments, operation.key);
                if operation.kind == Kind::Ordered && operations.all.len() > 1 {
                    let others = operations.all.iter().filter(|one| one.key != operation.key);
                    let others = others.map(|one| (database, slice_of(arguments, one.key)));
                    let known = self
                        .companions
                        .entry(KeyId::of(database, &key))
                        .or_default();
                    for other in others {
                        if known.len() < COMPANIONS_MAX && !known.contains(&other) {
                            known.push(other);
                        }
                    }
                }
                self.own_operation(place, database, version, operation, &key, sequence);
                self.notice_own(database, arguments, &key);
                self.remember((OWN, place.1), version, database, arguments, operation);
            }
        }
    }

    fn own_operation(
        &mut self,
        place: Place,
        database: u32,
        version: Version,
        operation: &Operation<'_>,
        key: &Bytes,
        sequence: Option<u64>,
    ) {
        let id = KeyId::of(database, key);
        let kind = operation.kind;
        let state = self.keys.entry(id).or_default();
        let is_read = state.is_read;
        let newer = state.newer_than(OWN, version);
        let is_behind = version < state.overwritten || !commutes(kind, newer.all);
        let others: Vec<(RegionId, Offset)> = match kind {
            Kind::Overwrite => Vec::new(),
            _ if self.regions < 3 => Vec::new(),
            _ => state
                .marks
                .iter()
                .filter(|mark| mark.region != OWN && state.overwritten <= mark.newest)
                .filter(|mark| {
                    !commutes(kind, mark.kinds)
                        || mark.newest == state.overwritten
                        // It may be of this element.
                        || kind == Kind::ElementCounter && mark.kinds & Kind::Element as u8 != 0
                })
                .map(|mark| (mark.region, mark.offset))
                // A snapshot says itself which counts it lacks.
                .chain(state.restored.filter(|_| kind != Kind::Counter))
                .collect(),
        };
        self.note(id, OWN, version, place.1, operation);
        if kind == Kind::Counter {
            let counted = Counted {
                region: OWN,
                offset: place.1,
                version,
                delta: operation.delta,
                at: self.now,
            };
            self.count(id, counted);
        }
        let overlaps = sequence.is_some_and(|sequence| {
            let element = match operation.element {
                [] => id,
                element => id.element(element),
            };
            self.unsettle(
                id,
                Unsettled {
                    writer: version.writer,
                    sequence,
                    kind,
                    element,
                    is_intent: false,
                },
            )
        });
        // Another region may get this before what it was made in the knowledge of.
        let is_unstable = others
            .iter()
            .any(|(region, offset)| self.is_unstable(*region, place.0, *offset));
        let reason = if is_behind {
            Reason::Skew
        } else if is_unstable {
            Reason::Conflict
        } else if overlaps || is_read {
            Reason::Overlap
        } else {
            return;
        };
        self.tell(database, key, reason, Duration::ZERO, cause(place));
    }
}

fn cause(place: Place) -> Option<(RegionId, Offset)> {
    Some((OWN, place.1))
}

/// Whether nobody saw the reply, so that the datastore may not be done with it.
fn is_lost(unknown: &v1::Unknown) -> bool {
    unknown.reason == NO_REPLY || unknown.reason == TOLD_AGAIN
}

fn whole(key: &[u8]) -> Operation<'_> {
    Operation {
        kind: Kind::Ordered,
        key,
        element: b"",
        delta: 0,
    }
}
