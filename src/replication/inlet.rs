//! One partition of another region's journal: which changes there are to apply,
//! in which order, and how far it has been done.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::engine::{Body, Change};
use super::feed::Found;
use super::version::{Partition, Version};
use crate::journal::Offset;
use crate::mutation::clock::COUNTER_BITS;
use crate::mutation::v1::{self, outcome::Result, record};
use copying::Copying;

mod copying;

/// Mutations whose outcome is waited for.
const INTENTS_MAX: usize = 100_000;

/// An outcome that is so late won't come: the sidecar died, and its region has
/// told the keys.
const INTENT_MS: u64 = 10 * 60_000;

/// How often it is looked for such.
const LOOK_MS: u64 = 60_000;

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
    bytes: usize,
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
    /// The newest sequence of each writer that was read.
    seen: HashMap<u64, u64>,
    /// The same, of what is applied.
    done: BTreeMap<u64, u64>,
    intents: HashMap<(u64, u64), (u64, Offset)>,
    /// When it was last looked for old ones, by their clocks.
    looked: u64,
    /// About how many bytes wait to be applied.
    pub bytes: usize,
    /// Whether its region is being copied to this one.
    pub(super) copying: Copying,
    is_dirty: bool,
    pub(super) dedupes: bool,
    /// Whether all records are in this one partition, so that a sequence that is
    /// left out is missing.
    pub(super) is_alone: bool,
    /// Sequences that were left out: whose, from, to.
    missing: Vec<(u64, u64, u64)>,
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
            done: checkpoint.writers.iter().copied().collect(),
            intents: HashMap::new(),
            looked: 0,
            bytes: 0,
            copying: Copying::default(),
            is_dirty: false,
            dedupes: true,
            is_alone: true,
            missing: Vec::new(),
            lost: 0,
        }
    }

    /// Takes the next record. One from before the checkpoint is returned as a
    /// change that was applied, for what is known of its keys.
    pub fn accept(&mut self, found: Found) -> (Option<Change>, Progress) {
        let Found { offset, record } = found;
        let writer = (record.writer, record.sequence);
        let seen = self.seen.entry(record.writer).or_insert(0);
        if record.sequence <= *seen && self.dedupes {
            self.copies += 1;
            self.push(offset, &record, None);
            return (None, Vec::new());
        }
        let expected = *seen + 1;
        if self.is_alone && 1 < expected && expected < record.sequence {
            let missing = (record.writer, expected, record.sequence - 1);
            self.missing.push(missing);
        }
        *seen = record.sequence.max(*seen);
        self.count_lost(&record);
        if self.begin <= offset
            && self.dedupes
            && self
                .done
                .get(&writer.0)
                .is_some_and(|done| writer.1 <= *done)
        {
            self.copies += 1;
            self.push(offset, &record, None);
            return (None, Vec::new());
        }
        let mut progress = Vec::new();
        let body = match &record.body {
            Some(record::Body::Mutation(mutation)) if mutation.r#final => Some((
                Version::of(&record),
                Body::Commands(mutation.commands.clone()),
            )),
            // Its outcome will tell all.
            Some(record::Body::Mutation(mutation)) if mutation.waits => None,
            Some(record::Body::Mutation(_)) => {
                self.forget_intents(record.hlc);
                if self.intents.len() < INTENTS_MAX {
                    self.intents.insert(writer, (record.hlc, offset));
                }
                None
            }
            Some(record::Body::Outcome(outcome)) => {
                let intent = self.intents.remove(&(writer.0, outcome.of_sequence));
                let hlc = intent.map_or(record.hlc, |(hlc, _)| hlc);
                match &outcome.result {
                    // Of what was applied already, its region tells the keys.
                    Some(Result::Effects(effects))
                        if intent.is_some() || outcome.waited || !self.dedupes =>
                    {
                        let version = Version {
                            hlc,
                            ..Version::of(&record)
                        };
                        Some((version, Body::Commands(effects.commands.clone())))
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
        let change = body.map(|(version, body)| Change {
            place: self.partition.at(offset),
            version,
            database: record.database,
            body,
        });
        if offset < self.begin {
            return (change, progress);
        }
        self.push(offset, &record, change);
        (None, progress)
    }

    /// Forgets mutations whose outcome won't come any more.
    fn forget_intents(&mut self, hlc: u64) {
        if hlc < self.looked.saturating_add(LOOK_MS << COUNTER_BITS) {
            return;
        }
        self.looked = hlc;
        let oldest = hlc.saturating_sub(INTENT_MS << COUNTER_BITS);
        self.intents.retain(|_, (made, _)| oldest <= *made);
    }

    /// What is missing and was not declared is lost, once its writer calls it
    /// settled.
    fn count_lost(&mut self, record: &v1::Record) {
        if self.missing.is_empty() {
            return;
        }
        if let Some(record::Body::Heartbeat(heartbeat)) = &record.body {
            self.missing.retain(|(writer, first, last)| {
                let declares = |one: &v1::Sequences| one.first <= *first && *last <= one.last;
                *writer != record.writer || !heartbeat.unacknowledged.iter().any(declares)
            });
        }
        let lost = &mut self.lost;
        self.missing.retain(|(writer, first, last)| {
            let is_lost = *writer == record.writer && *last <= record.settled_through;
            if is_lost {
                *lost += last - first + 1;
            }
            !is_lost
        });
    }

    fn push(&mut self, offset: Offset, record: &v1::Record, change: Option<Change>) {
        if offset < self.begin {
            return;
        }
        // Only what may have to be kept is.
        let kept = match change.is_some() {
            true => record.clone(),
            false => v1::Record::default(),
        };
        let bytes = size(&kept);
        self.bytes += bytes;
        self.queue.push_back(Pending {
            bytes,
            offset,
            hlc: record.hlc,
            writer: (record.writer, record.sequence),
            change,
            record: kept,
        });
    }

    /// Notes that what stands first is done, so many; removes it.
    pub fn complete(&mut self, count: usize) {
        for pending in self.queue.drain(..count) {
            self.bytes -= pending.bytes;
            self.applied = pending.offset + 1;
            self.applied_hlc = self.applied_hlc.max(pending.hlc);
            let done = self.done.entry(pending.writer.0).or_insert(0);
            *done = pending.writer.1.max(*done);
            self.is_dirty = true;
        }
        self.copying.applied(self.applied);
    }

    /// What stands first and has nothing to apply is done.
    pub fn skip(&mut self) {
        let empty = self.queue.iter().take_while(|one| one.change.is_none());
        let count = empty.count();
        self.complete(count);
    }

    /// The checkpoint once so many more are done.
    pub fn checkpoint_after(&self, count: usize) -> Checkpoint {
        let mut applied = self.applied;
        let mut hlc = self.applied_hlc;
        let mut writers = self.done.clone();
        for pending in self.queue.iter().take(count) {
            applied = pending.offset + 1;
            hlc = hlc.max(pending.hlc);
            let done = writers.entry(pending.writer.0).or_insert(0);
            *done = pending.writer.1.max(*done);
        }
        let oldest = self.intents.values().map(|(_, offset)| *offset).min();
        let resume = oldest.unwrap_or(applied).min(applied);
        Checkpoint {
            applied,
            resume: resume.max(applied.saturating_sub(GO_BACK_MAX)),
            hlc,
            writers: writers.into_iter().collect(),
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
        arguments.map(Bytes::len).sum()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::version::RegionId;

    fn mutation(sequence: u64, ms: u64, is_final: bool) -> Found {
        let command = v1::Command {
            arguments: vec![Bytes::from("SET"), Bytes::from("k"), Bytes::from("v")],
        };
        let mutation = v1::Mutation {
            commands: vec![command],
            keys: vec![Bytes::from("k")],
            r#final: is_final,
            ..Default::default()
        };
        Found {
            offset: sequence,
            record: v1::Record {
                hlc: ms << COUNTER_BITS,
                writer: 7,
                sequence,
                body: Some(record::Body::Mutation(mutation)),
                ..Default::default()
            },
        }
    }

    #[test]
    fn what_waits_is_counted_and_old_intents_are_forgotten() {
        let partition = Partition {
            region: RegionId(1),
            number: 0,
        };
        let mut inlet = Inlet::new(partition, &Checkpoint::default());
        inlet.accept(mutation(1, 1000, false));
        inlet.accept(mutation(2, 2000, true));
        assert_eq!(inlet.bytes, "SETkv".len());
        inlet.complete(2);
        assert_eq!(inlet.bytes, 0);
        let resume = |inlet: &Inlet| inlet.checkpoint_after(0).resume;
        assert_eq!(resume(&inlet), 1);
        for (sequence, ms) in [(3, INTENT_MS), (4, 2 * INTENT_MS)] {
            inlet.accept(mutation(sequence, ms, false));
        }
        inlet.complete(2);
        assert_eq!(resume(&inlet), 3);
    }
}
