//! One partition of another region's journal: which changes there are to apply,
//! in which order, and how far it has been done.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::engine::{Body, Change};
use super::feed::Found;
use super::refusals::Refusables;
use super::version::{Partition, Version};
use crate::journal::Offset;
use crate::mutation::clock::COUNTER_BITS;
use crate::mutation::v1::{self, outcome::Result, record};
use copying::Copying;
use done::Done;
use missing::Missing;

mod copying;
mod done;
mod missing;
#[cfg(test)]
mod tests;

/// Mutations whose outcome is waited for.
const INTENTS_MAX: usize = 100_000;

/// The outcome of a mutation that is so old won't come where its writer was not
/// heard of since, or says that it is settled: its region has told the keys.
const INTENT_MS: u64 = 10 * 60_000;

/// How often it is looked for such.
const LOOK_MS: u64 = 60_000;

/// What an argument takes beside its bytes, in a change and in its record.
const ARGUMENT_BYTES: usize = 2 * size_of::<Bytes>();

/// What a record takes beside its change's bytes, about.
const RECORD_BYTES: usize = 300;

/// So far may a restart go back for a mutation whose outcome is waited for.
const GO_BACK_MAX: Offset = 1_000_000;

/// Something that takes its place in the order of a journal.
#[derive(Debug)]
pub struct Pending {
    /// Where it is.
    pub offset: Offset,
    /// Its record's clock.
    pub hlc: u64,
    /// Whose record it is, and which.
    pub writer: (u64, u64),
    /// What is to be applied, if anything.
    pub change: Option<Change>,
    /// Its record, to be kept where it can't be applied.
    pub record: v1::Record,
    /// About how long that is.
    pub bytes: usize,
}

/// What was read of a writer.
#[derive(Debug, Default)]
struct Seen {
    /// Its newest sequence.
    sequence: u64,
    /// What it says is settled.
    settled_through: u64,
    /// The greatest clock.
    hlc: u64,
    refusables: Refusables,
}

/// See the module.
pub struct Inlet {
    /// Which it is.
    pub partition: Partition,
    /// What waits to be applied, in order.
    pub queue: VecDeque<Pending>,
    /// All before it are applied.
    pub applied: Offset,
    /// The clock of the last record that was applied, or had nothing to apply.
    pub applied_hlc: u64,
    /// Copies of records that were left out.
    pub copies: u64,
    /// Not before this offset is anything applied: it was, before a restart.
    begin: Offset,
    seen: HashMap<u64, Seen>,
    done: Done,
    /// Mutations whose outcome is waited for: their clocks, and where they are.
    intents: HashMap<(u64, u64), (u64, Offset)>,
    /// What the clock was when it was last looked for old ones.
    looked: u64,
    /// About how many bytes wait to be applied.
    pub bytes: usize,
    /// Whether its region is being copied to this one.
    pub(super) copying: Copying,
    is_dirty: bool,
    /// Others were gone on with before what was applied of it was read again.
    pub(super) is_late: bool,
    /// Of what is read again of it since, a part counts already.
    pub(super) is_part: bool,
    /// What does not count yet, and about how many bytes that is.
    aside: (Vec<Found>, usize),
    pub(super) dedupes: bool,
    pub(super) counts_back: bool,
    /// Whether all records are in this one partition, so that a sequence that is
    /// left out is missing.
    pub(super) is_alone: bool,
    /// It was told that its changes wait as their clocks are ahead.
    pub(super) is_held: bool,
    missing: Missing,
    /// How many records were acknowledged and are not there.
    pub lost: u64,
}

/// What a region says of how far it has applied another: name, offset.
pub type Progress = Vec<(String, u32, Offset)>;

impl Inlet {
    /// Goes on from a checkpoint.
    pub fn new(partition: Partition, checkpoint: &Checkpoint) -> Inlet {
        Inlet {
            partition,
            queue: VecDeque::new(),
            applied: checkpoint.applied,
            applied_hlc: checkpoint.hlc,
            copies: 0,
            begin: checkpoint.applied,
            seen: HashMap::new(),
            done: Done::of(checkpoint),
            intents: HashMap::new(),
            looked: 0,
            bytes: 0,
            copying: Copying::default(),
            is_dirty: false,
            is_late: false,
            is_part: false,
            aside: Default::default(),
            dedupes: true,
            counts_back: true,
            is_alone: true,
            is_held: false,
            missing: Missing::default(),
            lost: 0,
        }
    }

    /// What is read again of one that others were gone on with before counts at once,
    /// when all of it is there (up to `next`), or more than `max` bytes: nothing can be
    /// decided while a part of it is known. Until then it is kept aside.
    pub(super) fn put_aside(
        &mut self,
        found: Vec<Found>,
        next: Offset,
        max: usize,
    ) -> Option<Vec<Found>> {
        let is_again = self.is_late && found.first().is_some_and(|one| one.offset < self.applied);
        if !is_again && self.aside.0.is_empty() {
            return Some(found);
        }
        let (aside, bytes) = &mut self.aside;
        let each = found.iter().map(|one| RECORD_BYTES + size(&one.record));
        *bytes += each.sum::<usize>();
        aside.extend(found);
        if next < self.applied && *bytes < max {
            return None;
        }
        self.is_part = next < self.applied;
        Some(std::mem::take(&mut self.aside).0)
    }

    /// Takes the next record. One from before the checkpoint is returned as a
    /// change that was applied, for what is known of its keys.
    pub fn accept(&mut self, found: Found) -> (Option<Change>, Progress) {
        let Found { offset, record } = found;
        let writer = (record.writer, record.sequence);
        let seen = self.seen.entry(record.writer).or_default();
        seen.settled_through = record.settled_through.max(seen.settled_through);
        seen.hlc = record.hlc.max(seen.hlc);
        if record.sequence <= seen.sequence && self.dedupes {
            self.copies += 1;
            self.push(offset, record, None);
            return (None, Vec::new());
        }
        let expected = seen.sequence + 1;
        if self.is_alone && 1 < expected && expected < record.sequence {
            self.missing
                .note(record.writer, expected, record.sequence - 1);
        }
        seen.sequence = record.sequence.max(seen.sequence);
        self.lost += self.missing.take_lost(&record);
        if self.begin <= offset && self.dedupes && self.done.has(writer) {
            self.copies += 1;
            self.push(offset, record, None);
            return (None, Vec::new());
        }
        let mut progress = Vec::new();
        let seen = self.seen.entry(record.writer).or_default();
        let (settled_through, refusables) = (seen.settled_through, &mut seen.refusables);
        let body = match &record.body {
            Some(record::Body::Mutation(mutation)) if mutation.r#final => {
                if record.store == v1::Store::Redis as i32 {
                    refusables.note(record.sequence, record.hlc, &mutation.commands);
                }
                let commands = mutation.commands.clone();
                Some((Version::of(&record), Body::Commands(commands)))
            }
            // Its outcome will tell all.
            Some(record::Body::Mutation(mutation)) if mutation.waits => None,
            Some(record::Body::Mutation(_)) => {
                if self.intents.len() < INTENTS_MAX {
                    self.intents.insert(writer, (record.hlc, offset));
                }
                None
            }
            Some(record::Body::Outcome(outcome)) => {
                let of_sequence = outcome.of_sequence;
                let intent = self.intents.remove(&(writer.0, of_sequence));
                match &outcome.result {
                    // Of what was applied already, its region tells the keys.
                    Some(Result::Effects(effects))
                        if intent.is_some() || outcome.waited || !self.dedupes =>
                    {
                        let version = Version::of_outcome(&record, intent.map(|(hlc, _)| hlc));
                        Some((version, Body::Commands(effects.commands.clone())))
                    }
                    Some(Result::Rejected(rejected)) if self.counts_back => {
                        let refused = refusables.refuse(of_sequence, &rejected.reason);
                        refused.map(|(hlc, undone)| {
                            let version = Version {
                                hlc,
                                ..Version::of(&record)
                            };
                            (version, Body::Commands(undone))
                        })
                    }
                    _ => None,
                }
            }
            Some(record::Body::Snapshot(snapshot)) => Some((
                Version::of_snapshot(&record, snapshot),
                Body::Snapshot(snapshot.clone()),
            )),
            Some(record::Body::Heartbeat(heartbeat)) => {
                let each = heartbeat.applied.iter();
                progress = each
                    .map(|one| (one.region.clone(), one.partition, one.next_offset))
                    .collect();
                self.copying
                    .note(offset, self.applied, heartbeat.copying, &progress);
                None
            }
            None => None,
        };
        refusables.settle(settled_through);
        let change = body.map(|(version, body)| Change {
            place: self.partition.at(offset),
            version,
            database: record.database,
            body,
        });
        if offset < self.begin {
            return (change, progress);
        }
        self.push(offset, record, change);
        (None, progress)
    }

    /// Forgets mutations whose outcome won't come any more: a restart would go
    /// back for them.
    fn forget_intents(&mut self) {
        // What was read before a restart says of each writer whether it lives.
        let is_read_again = self.begin < self.applied;
        let next = self.looked.saturating_add(LOOK_MS << COUNTER_BITS);
        if !is_read_again || self.applied_hlc < next {
            return;
        }
        self.looked = self.applied_hlc;
        let oldest = self.applied_hlc.saturating_sub(INTENT_MS << COUNTER_BITS);
        let seen = &self.seen;
        self.intents.retain(|(writer, sequence), (hlc, _)| {
            let may_come = |seen: &Seen| oldest <= seen.hlc && seen.settled_through < *sequence;
            oldest <= *hlc || seen.get(writer).is_some_and(may_come)
        });
    }

    fn push(&mut self, offset: Offset, record: v1::Record, change: Option<Change>) {
        if offset < self.begin {
            return;
        }
        let (hlc, writer) = (record.hlc, (record.writer, record.sequence));
        // Only what may have to be kept is.
        let record = match change.is_some() {
            true => record,
            false => v1::Record::default(),
        };
        let bytes = size(&record);
        self.bytes += bytes;
        self.queue.push_back(Pending {
            bytes,
            offset,
            hlc,
            writer,
            change,
            record,
        });
    }

    /// Notes that what stands first is done, so many; removes it.
    pub fn complete(&mut self, count: usize) {
        for pending in self.queue.drain(..count) {
            self.bytes -= pending.bytes;
            self.applied = pending.offset + 1;
            self.applied_hlc = self.applied_hlc.max(pending.hlc);
            self.done.note(pending.writer, pending.offset);
            self.is_dirty = true;
        }
        self.forget_intents();
        self.copying.applied(self.applied);
    }

    /// What stands first and has nothing to apply is done.
    pub fn skip(&mut self) {
        self.complete(self.empty());
    }

    /// All before it are applied, or stand first and have nothing to apply.
    pub fn cleared(&self) -> Offset {
        let last = self.empty().checked_sub(1);
        last.map_or(self.applied, |last| self.queue[last].offset + 1)
    }

    /// How many stand first and have nothing to apply.
    fn empty(&self) -> usize {
        let empty = self.queue.iter().take_while(|one| one.change.is_none());
        empty.count()
    }

    /// The checkpoint once so many more are done.
    pub fn checkpoint_after(&self, count: usize) -> Checkpoint {
        let mut applied = self.applied;
        let mut hlc = self.applied_hlc;
        let mut done = self.done.clone();
        for pending in self.queue.iter().take(count) {
            applied = pending.offset + 1;
            hlc = hlc.max(pending.hlc);
            done.note(pending.writer, pending.offset);
        }
        let oldest = self.intents.values().map(|(_, offset)| *offset).min();
        let resume = oldest.unwrap_or(applied).min(applied);
        Checkpoint {
            applied,
            resume: resume.max(applied.saturating_sub(GO_BACK_MAX)),
            hlc,
            writers: done.newest(),
        }
    }

    /// Whether something was done since the last checkpoint was taken.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.is_dirty)
    }

    /// The clock of the oldest record that is not applied; of the last one,
    /// where all are.
    pub fn hlc(&self) -> u64 {
        self.queue.front().map_or(self.applied_hlc, |one| one.hlc)
    }
}

fn size(record: &v1::Record) -> usize {
    let of = |commands: &[v1::Command]| -> usize {
        let arguments = commands.iter().flat_map(|one| &one.arguments);
        arguments.map(|one| one.len() + ARGUMENT_BYTES).sum()
    };
    match &record.body {
        Some(record::Body::Mutation(mutation)) => of(&mutation.commands),
        Some(record::Body::Outcome(outcome)) => match &outcome.result {
            Some(Result::Effects(effects)) => of(&effects.commands),
            _ => 0,
        },
        Some(record::Body::Snapshot(snapshot)) => snapshot.value.as_ref().map_or(0, Bytes::len),
        _ => 0,
    }
}
