//! What becomes known of a change of the own region when its journal is read.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::keys::{KeyId, KeyMap, Mark, Unsettled, commutes};
use super::super::refusals::{is_undone, undo_all};
use super::super::version::{OWN, Partition, Place, Version};
use super::super::writers::Open;
use super::decide::{by_database, flushes, slice_of};
use super::{Element, Engine, Included, Reason, Sabotage, UNKNOWN_DELAY};
use crate::journal::Offset;
use crate::mutation::clock::milliseconds;
use crate::mutation::operation::{Kind, Operation};
use crate::mutation::outcome::{NO_REPLY, TOLD_AGAIN};
use crate::mutation::v1::{self, outcome::Result, record::Body};

/// Clocks within a region differ by less.
pub(super) const CLOCKS_DIFFER_MS: u64 = 500;

/// Keys that are remembered to have been changed with another.
const COMPANIONS_MAX: usize = 32;

impl Engine {
    /// Notes a record of the own region's journal, in the journal's order.
    pub fn own(&mut self, partition: u32, offset: Offset, record: &v1::Record) {
        let now = self.now;
        let place = Partition::own(partition).at(offset);
        let (writer, settled) = (record.writer, record.settled_through);
        // One that was taken for dead executes now what was given up for it.
        for open in self
            .writers
            .rise(writer, partition, milliseconds(record.hlc))
        {
            let reason = Reason::DeadWriter;
            self.unresolved(writer, &open, reason, UNKNOWN_DELAY);
            for key in &open.keys {
                // Whatever was told of it before.
                self.tell(open.database, key, reason, UNKNOWN_DELAY, None);
            }
        }
        match &record.body {
            // What it is about may be settled by its own header.
            Some(Body::Outcome(outcome)) => {
                self.own_outcome(place, record, outcome);
                self.writers.heard(partition, writer, settled, now);
            }
            Some(Body::Mutation(mutation)) => {
                self.writers.heard(partition, writer, settled, now);
                self.own_mutation(place, record, mutation);
            }
            Some(Body::Snapshot(snapshot)) => {
                self.writers.heard(partition, writer, settled, now);
                self.own_snapshot(place, record, snapshot);
            }
            Some(Body::Heartbeat(_)) | None => {
                self.writers.heard(partition, writer, settled, now);
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
                waits: mutation.waits,
                is_resolved: false,
            },
        );
        let version = Version::of(record);
        if mutation.r#final {
            self.own_commands(
                place,
                record.database,
                version,
                &mutation.commands,
                Some((sequence, mutation.link)),
            );
            return;
        }
        let unsettled = |id: KeyId| Unsettled {
            writer,
            sequence,
            kind: Kind::Ordered,
            element: id,
            is_intent: true,
            partition: place.partition.number,
            link: mutation.link,
            waits: mutation.waits,
            is_touched: false,
        };
        let of_none = unsettled(KeyId::of(record.database, b""));
        self.notice_flush(record.database, &mutation.commands, of_none);
        let is_flushing = self.is_flushing();
        for key in &mutation.keys {
            let id = KeyId::of(record.database, key);
            let unsettled = unsettled(id);
            if self.unsettle(id, unsettled) || is_flushing {
                self.tell(
                    record.database,
                    key,
                    Reason::Overlap,
                    Duration::ZERO,
                    Some(place),
                );
            }
        }
    }

    fn own_outcome(&mut self, place: Place, record: &v1::Record, outcome: &v1::Outcome) {
        let (partition, writer) = (place.partition.number, record.writer);
        let open = self.writers.resolve(partition, writer, outcome.of_sequence);
        let database = record.database;
        let is_final = open.as_ref().is_some_and(|open| open.is_final);
        let intended = open.as_ref().filter(|_| !outcome.waited);
        let version = match intended {
            Some(open) if open.is_final => Version {
                hlc: open.hlc,
                ..Version::of(record)
            },
            _ => Version::of_outcome(record, intended.map(|open| open.hlc)),
        };
        let own_keys = || match &open {
            Some(open) => open.keys.clone(),
            None if outcome.key.is_empty() => Vec::new(),
            None => vec![outcome.key.clone()],
        };
        match &outcome.result {
            Some(Result::Effects(effects)) => {
                if let Some(open) = open.as_ref().filter(|open| open.is_final) {
                    self.reject(record.writer, open);
                    self.own_commands(open.place, database, version, &effects.commands, None);
                    // Others have applied more than was done.
                    for key in own_keys() {
                        self.tell(
                            database,
                            &key,
                            Reason::Rejected,
                            Duration::ZERO,
                            Some(place),
                        );
                    }
                } else {
                    if outcome.waited {
                        self.tell_touched(place, record, outcome.of_sequence, &effects.commands);
                    }
                    self.own_commands(place, database, version, &effects.commands, None);
                    // So late that it counts as newer than what came after it.
                    let is_late = intended.is_some_and(|open| open.hlc != version.hlc);
                    for key in own_keys().iter().filter(|_| is_late) {
                        self.tell(database, key, Reason::Overlap, Duration::ZERO, Some(place));
                    }
                }
                for key in &effects.unknown_keys {
                    self.unknown(place, database, version, key, Duration::ZERO);
                }
            }
            Some(Result::Rejected(rejected)) => {
                if let Some(open) = open.as_ref().filter(|open| open.is_final) {
                    self.reject(record.writer, open);
                    let counts_back = self.sabotage != Sabotage::NoRefusals;
                    if self.store == v1::Store::Redis && counts_back && is_undone(&rejected.reason)
                    {
                        self.count_back(place, record.writer, open);
                    }
                }
                for key in own_keys().iter().filter(|_| is_final || open.is_none()) {
                    self.tell(database, key, Reason::Rejected, Duration::ZERO, Some(place));
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
                    self.unknown(place, database, version, &key, UNKNOWN_DELAY);
                }
            }
        }
    }

    /// Takes back what was noted of a change that was refused, of which others
    /// have applied all.
    fn reject(&mut self, writer: u64, open: &Open) {
        let version = Version {
            hlc: open.hlc,
            writer,
            ..Version::default()
        };
        for (database, arguments) in by_database(open.database, &open.commands) {
            let operations = self.operations_of(arguments);
            let of_keys = operations.all.iter();
            for operation in of_keys.filter(|one| one.kind != Kind::Flush) {
                let id = KeyId::of(database, operation.key);
                let before = self.keys.entry(id).or_default().reject(open.place, version);
                if let Some(included) = before {
                    self.set_included(id, included);
                }
                self.filling.reject(id, open.place);
                if let Some(counted) = self.counters.get_mut(&id) {
                    counted.retain(|one| one.place != open.place);
                }
            }
        }
    }

    /// Others have counted what was refused, and count it back: a value of theirs
    /// may have one of both.
    fn count_back(&mut self, place: Place, writer: u64, open: &Open) {
        let version = Version {
            hlc: open.hlc,
            writer,
            ..Version::default()
        };
        for (database, arguments) in by_database(open.database, &undo_all(&open.commands)) {
            let operations = self.operations_of(arguments);
            for operation in &operations.all {
                let id = KeyId::of(database, operation.key);
                if operation.kind == Kind::Counter {
                    self.count(id, open.place, version, operation.delta.wrapping_neg());
                    self.count(id, place, version, operation.delta);
                }
                self.note(id, place, version, operation);
            }
        }
    }

    /// When something that waited in the datastore was executed is not known: its
    /// keys are told, unless nothing else was done with them meanwhile.
    fn tell_touched(
        &mut self,
        place: Place,
        record: &v1::Record,
        sequence: u64,
        effects: &[v1::Command],
    ) {
        let is_it = |one: &&Unsettled| one.writer == record.writer && one.sequence == sequence;
        for command in effects {
            for (database, key) in self.keys_of_command(record.database, &command.arguments) {
                let state = self.keys.get(&KeyId::of(database, &key));
                let waited = state.and_then(|state| state.unsettled.iter().find(is_it));
                if waited.is_none_or(|waited| waited.is_touched) {
                    self.tell(database, &key, Reason::Overlap, Duration::ZERO, Some(place));
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
        self.tell(database, key, Reason::Unresolved, delay, Some(place));
        let id = KeyId::of(database, key);
        self.note(id, place, version, &whole(key));
    }

    /// A final change was executed or not. What it overwrites it overwrites
    /// again: others have done so. Of anything else the value is told.
    pub(super) fn unresolved(&mut self, writer: u64, open: &Open, reason: Reason, delay: Duration) {
        let version = Version {
            hlc: open.hlc,
            writer,
            ..Version::default()
        };
        if !open.is_final {
            for key in &open.keys {
                self.unknown(open.place, open.database, version, key, delay);
            }
            return;
        }
        for (database, arguments) in by_database(open.database, &open.commands) {
            let operations = self.operations_of(arguments);
            for (index, operation) in operations.all.iter().enumerate() {
                match operation.kind {
                    Kind::Flush => {}
                    Kind::Overwrite => {
                        let of = (&operations, index);
                        self.overwrite_again(version, (database, arguments), of, self.now + delay);
                    }
                    _ => {
                        let key = slice_of(arguments, operation.key);
                        self.tell(database, &key, reason, delay, Some(open.place));
                    }
                }
            }
        }
    }

    fn own_snapshot(&mut self, place: Place, record: &v1::Record, snapshot: &v1::Snapshot) {
        let id = KeyId::of(record.database, &snapshot.key);
        let version = Version::of_snapshot(record, snapshot);
        let included = Included::new(self.named(snapshot));
        let state = self.keys.entry(id).or_default();
        state.is_read = false;
        state.snapshot = Some(place);
        if state.overwritten < version {
            state.overwritten = version;
            state.written = state.written.max(Version::written(snapshot));
            self.included.insert(id, included.clone());
        }
        let (teller, since) = self.teller;
        let is_by_other = record.writer != teller && since < record.hlc;
        // Who told it had perhaps not read another own journal, so that the value has
        // more than it names, or has not told any more what was made on top of it.
        let unnamed = state.marks.iter().filter(|mark| {
            mark.place.partition.region == OWN
                && mark.place.partition != place.partition
                && mark.kinds & !(Kind::Overwrite as u8) != 0
                && !included.covers(mark.place)
        });
        let unnamed: SmallVec<[Place; 1]> = unnamed.map(|mark| mark.place).collect();
        self.note_told(id, version, included);
        if record.writer != teller {
            for cause in unnamed {
                let (delay, cause) = (Duration::ZERO, Some(cause));
                self.tell(
                    record.database,
                    &snapshot.key,
                    Reason::Conflict,
                    delay,
                    cause,
                );
            }
        }
        if is_by_other || self.is_late {
            // By one that has not noticed yet that it does not lead any more: what
            // it has read may be old. Or this one may have told something older
            // meanwhile, which nobody took.
            self.tell_surely(record.database, &snapshot.key, Reason::Overlap);
        }
    }

    /// Notes commands that have been or will be executed; `unsettled` is
    /// their record's sequence and link where they are not settled.
    fn own_commands(
        &mut self,
        place: Place,
        database: u32,
        version: Version,
        commands: &[v1::Command],
        unsettled: Option<(u64, u32)>,
    ) {
        for (database, arguments) in by_database(database, commands) {
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
                    known.newest = known.newest.max(version);
                    for other in others {
                        if known.keys.len() < COMPANIONS_MAX && !known.keys.contains(&other) {
                            known.keys.push(other);
                        }
                    }
                }
                self.own_operation(place, database, version, operation, &key, unsettled);
                self.notice_own(database, arguments, &key);
                self.remember(place, version, database, arguments, operation);
            }
            if unsettled.is_some() {
                self.notice_race(database, version, arguments, &operations);
            }
            self.notice_ahead(place, database, version, arguments, &operations);
            let is_whole = 1 < operations.all.len() && !operations.can_be_cut();
            if is_whole
                && operations
                    .all
                    .iter()
                    .any(|one| self.is_due(database, one.key))
            {
                // What others will be told of one it had before the others got it.
                for operation in &operations.all {
                    let key = slice_of(arguments, operation.key);
                    self.tell(database, &key, Reason::Overlap, Duration::ZERO, Some(place));
                }
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
        unsettled: Option<(u64, u32)>,
    ) {
        let id = KeyId::of(database, key);
        let kind = operation.kind;
        let is_flushed = version < self.flushed(database);
        let Engine {
            keys,
            elements,
            writers,
            included,
            ..
        } = self;
        let state = keys.entry(id).or_default();
        if unsettled.is_some() {
            state.keep_past(|one| writers.was_settled(one), included.get(&id));
        }
        let is_read = state.is_read;
        let newer = state.newer_than(place.partition, version);
        let is_older = version < state.overwritten && version.writer != state.overwritten.writer;
        let is_behind = is_older
            || is_flushed
            || !commutes(kind, newer.all)
            || is_behind_in_element(elements, id, version, operation);
        if is_behind {
            state.held_back = Version::default();
        }
        // Of two writers, one of which was shipped late, others hear in another order than
        // it was done in.
        let is_swapped = self.ahead.is_some()
            && state.marks.iter().any(|mark| {
                mark.place.partition == place.partition
                    && mark.newest.writer != version.writer
                    && version < mark.newest
                    && !commutes(kind, mark.kinds)
            });
        let is_near = state.marks.iter().any(|mark| is_near(mark, place, version));
        // Who led before has told the key later, without having read this.
        let told = self
            .told
            .get(&id)
            .filter(|told| told.version.teller != self.teller.0);
        let is_unnamed = told.is_some_and(|told| {
            version.hlc <= told.version.snapshot && !told.included.covers(place)
        });
        let is_unstable = self.is_unstable_under(id, place, kind);
        self.note(id, place, version, operation);
        if kind == Kind::Counter {
            self.count(id, place, version, operation.delta);
        }
        let is_flushing = unsettled.is_some() && self.is_flushing();
        let overlaps = unsettled.is_some_and(|(sequence, link)| {
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
                    partition: place.partition.number,
                    link,
                    waits: false,
                    is_touched: false,
                },
            )
        });
        let reason = if is_behind {
            Reason::Skew
        } else if is_unstable {
            Reason::Conflict
        } else if overlaps
            || is_flushing
            || is_read
            || is_near
            || is_swapped
            || is_unnamed
            || self.is_late
        {
            Reason::Overlap
        } else {
            return;
        };
        self.tell(database, key, reason, Duration::ZERO, Some(place));
    }

    /// Whether another region may get a change of the own region before something
    /// in another partition that it was made in the knowledge of.
    fn is_unstable_under(&self, id: KeyId, place: Place, kind: Kind) -> bool {
        let Some(state) = self.keys.get(&id).filter(|_| kind != Kind::Overwrite) else {
            return false;
        };
        let matters = |mark: &&Mark| {
            mark.place.partition != place.partition
                && state.overwritten <= mark.newest
                && (!commutes(kind, mark.kinds)
                    || mark.newest == state.overwritten
                    // It may be of this element.
                    || kind == Kind::ElementCounter && mark.kinds & Kind::Element as u8 != 0)
        };
        // A snapshot says itself which counts it lacks.
        let snapshot = state
            .snapshot
            .filter(|snapshot| kind != Kind::Counter && snapshot.partition != place.partition);
        let marks = state.marks.iter().filter(matters).map(|mark| mark.place);
        marks.chain(snapshot).any(|place| self.is_unstable(place))
    }
}

/// Whether others come to another value of an element, as something newer that does not
/// commute with a change of it was known before.
fn is_behind_in_element(
    elements: &KeyMap<Element>,
    id: KeyId,
    version: Version,
    operation: &Operation<'_>,
) -> bool {
    let is_newer = |known: Version| version < known && version.writer != known.writer;
    let known = || elements.get(&id.element(operation.element));
    match operation.kind {
        Kind::Element => {
            known().is_some_and(|known| is_newer(known.overwritten) || is_newer(known.counted))
        }
        Kind::ElementCounter => known().is_some_and(|known| is_newer(known.overwritten)),
        _ => false,
    }
}

/// Whether a change of the own region and one in another of its partitions are so
/// close that the clocks of their writers don't tell which was executed first.
fn is_near(mark: &Mark, place: Place, version: Version) -> bool {
    let between = milliseconds(mark.newest.hlc).abs_diff(milliseconds(version.hlc));
    mark.place.partition.region == OWN
        && mark.place.partition != place.partition
        && mark.newest.writer != version.writer
        && between < CLOCKS_DIFFER_MS
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
