//! What is known of the own region's writers: which of their changes are settled.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::keys::Unsettled;
use super::version::Place;
use crate::mutation::v1;

/// How long it is remembered what a writer left that was taken for dead.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A writer that said nothing for so long, by its own clock, stood still: who read
/// its journal then has perhaps taken it for dead. Longer than between two of its
/// heartbeats, of which one is left out after other records.
const STILL_MS: u64 = 4_500;

/// Changes of such writers that are remembered.
const LEFT_MAX: usize = 1 << 16;

/// The own region's writers.
#[derive(Debug, Default)]
pub struct Writers {
    all: HashMap<u64, Writer>,
    /// Those that were taken for dead, since when, and what they left unsettled.
    buried: HashMap<u64, (Duration, Vec<Open>)>,
}

#[derive(Debug, Default)]
struct Writer {
    heard: Duration,
    /// Its clock at its newest record, in milliseconds since the Unix epoch.
    spoke_ms: u64,
    /// All changes up to this are settled: their replies were seen. What became
    /// of those that were refused may stand in partitions that are not read yet.
    settled_through: u64,
    lanes: SmallVec<[Lane; 1]>,
    /// Changes that wait in the datastore.
    waiting: Vec<Open>,
}

/// A writer's changes in one partition.
#[derive(Debug)]
struct Lane {
    partition: u32,
    /// All up to this are settled, and what became of them was read.
    settled_through: u64,
    /// Its clock at the last record here; 0 before the first.
    spoke_ms: u64,
    /// Changes of which that is not so, in order.
    open: VecDeque<Open>,
}

/// A change that is not settled.
#[derive(Debug, Clone)]
pub struct Open {
    /// Its sequence.
    pub sequence: u64,
    /// Its database.
    pub database: u32,
    /// Its keys.
    pub keys: Vec<Bytes>,
    /// Whether others apply it without waiting for its outcome.
    pub is_final: bool,
    /// Its clock.
    pub hlc: u64,
    /// What it does, where that is final.
    pub commands: Vec<v1::Command>,
    /// Where it is.
    pub place: Place,
    /// Whether it may wait long in the datastore.
    pub waits: bool,
    /// Whether its outcome was read.
    pub is_resolved: bool,
}

impl Open {
    /// Whether it is not known what became of it, of a writer that says that so much is
    /// settled.
    fn is_left(&self, settled_through: u64) -> bool {
        !self.is_resolved && (!self.is_final || settled_through < self.sequence)
    }
}

impl Writer {
    fn lane(&self, partition: u32) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.partition == partition)
    }

    fn lane_mut(&mut self, partition: u32) -> &mut Lane {
        let at = self
            .lanes
            .iter()
            .position(|lane| lane.partition == partition);
        let at = at.unwrap_or_else(|| {
            self.lanes.push(Lane {
                partition,
                settled_through: 0,
                spoke_ms: 0,
                open: VecDeque::new(),
            });
            self.lanes.len() - 1
        });
        &mut self.lanes[at]
    }
}

impl Lane {
    fn find(&self, sequence: u64) -> Option<usize> {
        let found = self
            .open
            .binary_search_by_key(&sequence, |open| open.sequence);
        found.ok()
    }
}

impl Writers {
    /// Notes that a writer was heard of in a partition, and what it says is
    /// settled.
    pub fn heard(&mut self, partition: u32, writer: u64, settled_through: u64, now: Duration) {
        let writer = self.all.entry(writer).or_default();
        writer.heard = now;
        writer.settled_through = writer.settled_through.max(settled_through);
        let lane = writer.lane_mut(partition);
        lane.settled_through = lane.settled_through.max(settled_through);
        let through = lane.settled_through;
        while lane
            .open
            .front()
            .is_some_and(|open| open.sequence <= through)
        {
            lane.open.pop_front();
        }
    }

    /// A writer was heard of in a partition, by a record with that clock, in
    /// milliseconds since the Unix epoch. If it had stood still, what it had left is
    /// returned: here or elsewhere it was perhaps taken for dead and for settled.
    pub fn rise(&mut self, writer: u64, partition: u32, spoke_ms: u64) -> Vec<Open> {
        let known = self.all.entry(writer).or_default();
        let (newest_ms, through) = (known.spoke_ms, known.settled_through);
        known.spoke_ms = spoke_ms.max(newest_ms);
        let lane = known.lane_mut(partition);
        let is_gap = lane.spoke_ms != 0 && lane.spoke_ms + STILL_MS <= spoke_ms;
        lane.spoke_ms = spoke_ms.max(lane.spoke_ms);
        let mut left: Vec<Open> = Vec::new();
        if is_gap && newest_ms + STILL_MS <= spoke_ms {
            // It has said nothing anywhere.
            let open = known.lanes.iter().flat_map(|lane| &lane.open);
            let is_left =
                |open: &&Open| !open.is_resolved && (!open.is_final || through < open.sequence);
            left.extend(open.filter(is_left).cloned());
        } else if is_gap && spoke_ms + STILL_MS <= newest_ms {
            // Other partitions were read before this one.
            let open = lane.open.iter().filter(|open| !open.is_resolved);
            left.extend(open.cloned());
        }
        if !self.buried.is_empty() {
            let (_, buried) = self.buried.remove(&writer).unwrap_or_default();
            for open in &buried {
                self.open(writer, open.clone());
            }
            left.extend(buried);
        }
        left
    }

    /// Notes a change that is not settled.
    pub fn open(&mut self, writer: u64, open: Open) {
        let writer = self.all.entry(writer).or_default();
        if open.waits {
            writer.waiting.push(open);
            return;
        }
        let lane = writer.lane_mut(open.place.partition.number);
        if lane.settled_through < open.sequence {
            lane.open.push_back(open);
        }
    }

    /// A change whose outcome was read, where it was not known to be settled.
    pub fn resolve(&mut self, partition: u32, writer: u64, sequence: u64) -> Option<Open> {
        let writer = self.all.get_mut(&writer)?;
        let mut waiting = writer.waiting.iter();
        if let Some(at) = waiting.position(|open| open.sequence == sequence) {
            return Some(writer.waiting.swap_remove(at));
        }
        let lane = writer.lane_mut(partition);
        let at = lane.find(sequence)?;
        let open = lane.open[at].clone();
        lane.open[at].is_resolved = true;
        Some(open)
    }

    /// Whether a change is settled, or waits. One whose effect only its outcome
    /// tells is when that was read: it may be in a partition that is behind the
    /// others.
    pub fn is_settled(&self, change: &Unsettled) -> bool {
        let Some(writer) = self.all.get(&change.writer) else {
            return true;
        };
        if !change.is_intent {
            return change.sequence <= writer.settled_through;
        }
        if change.waits {
            return true;
        }
        let lane = writer.lane(change.partition);
        lane.is_none_or(|lane| {
            let open = lane.find(change.sequence).map(|at| &lane.open[at]);
            open.is_none_or(|open| open.is_resolved)
        })
    }

    /// Whether a change was settled before what was read last of its partition.
    /// What other partitions say of it may have been said later.
    pub fn was_settled(&self, change: &Unsettled) -> bool {
        let writer = self.all.get(&change.writer);
        if change.waits {
            let is_it = |open: &Open| open.sequence == change.sequence;
            return writer.is_none_or(|writer| !writer.waiting.iter().any(is_it));
        }
        let lane = writer.and_then(|writer| writer.lane(change.partition));
        lane.is_none_or(|lane| change.sequence <= lane.settled_through)
    }

    /// Whether any of the changes is not settled.
    pub fn any_unsettled(&self, changes: &[Unsettled]) -> bool {
        changes.iter().any(|one| !self.is_settled(one))
    }

    /// The keys of changes that are not settled, with their databases.
    pub fn unsettled_keys(&self) -> Vec<(u32, Bytes)> {
        let lanes = self.all.values().flat_map(|writer| &writer.lanes);
        let open = lanes.flat_map(|lane| &lane.open);
        let keys = open.flat_map(|open| open.keys.iter().map(|key| (open.database, key.clone())));
        keys.collect()
    }

    /// The clock of the oldest change that would be left if its writer were dead.
    pub fn oldest_open(&self) -> Option<u64> {
        let of_writer = |writer: &Writer| {
            let open = writer.lanes.iter().flat_map(|lane| &lane.open);
            let left = open.filter(|open| open.is_left(writer.settled_through));
            left.map(|open| open.hlc).min()
        };
        self.all.values().filter_map(of_writer).min()
    }

    /// Ends the writers that have not been heard of for so long; returns what
    /// they left unsettled.
    pub fn bury(&mut self, now: Duration, silence: Duration) -> Vec<(u64, Open)> {
        let mut left = Vec::new();
        let buried = &mut self.buried;
        buried.retain(|_, (since, _)| now < *since + REMEMBERED);
        let mut count: usize = buried.values().map(|(_, left)| left.len()).sum();
        self.all.retain(|id, writer| {
            if now < writer.heard + silence {
                return true;
            }
            let through = writer.settled_through;
            let lanes = writer.lanes.iter_mut();
            let open = lanes.flat_map(|lane| lane.open.drain(..));
            let mut its: Vec<Open> = open.filter(|open| open.is_left(through)).collect();
            its.append(&mut writer.waiting);
            count += its.len();
            if !its.is_empty() && count <= LEFT_MAX {
                buried.insert(*id, (now, its.clone()));
            }
            left.extend(its.into_iter().map(|open| (*id, open)));
            false
        });
        left
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::KeyId;
    use super::super::version::Partition;
    use super::*;
    use crate::mutation::operation::Kind;

    fn open(partition: u32, sequence: u64, is_final: bool) -> Open {
        Open {
            sequence,
            database: 0,
            keys: vec![Bytes::from(format!("k{sequence}"))],
            is_final,
            hlc: 0,
            commands: Vec::new(),
            place: Partition::own(partition).at(sequence),
            waits: false,
            is_resolved: false,
        }
    }

    fn change(open: &Open) -> Unsettled {
        Unsettled {
            writer: 7,
            sequence: open.sequence,
            kind: Kind::Ordered,
            element: KeyId(0),
            is_intent: !open.is_final,
            partition: open.place.partition.number,
            link: 0,
            waits: false,
            is_touched: false,
        }
    }

    #[test]
    fn changes_settle_in_order_and_the_dead_leave_theirs() {
        let mut writers = Writers::default();
        let second = Duration::from_secs(1);
        let (one, two) = (open(0, 1, true), open(0, 2, true));
        writers.heard(0, 7, 0, second);
        writers.open(7, one.clone());
        writers.open(7, two.clone());
        assert!(!writers.is_settled(&change(&one)));
        writers.heard(0, 7, 1, second);
        assert!(writers.is_settled(&change(&one)) && !writers.is_settled(&change(&two)));
        assert!(writers.resolve(0, 7, 1).is_none());
        assert!(writers.bury(second * 2, second * 2).is_empty());
        let left = writers.bury(second * 4, second * 2);
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].0, left[0].1.sequence), (7, 2));
        assert!(writers.is_settled(&change(&two)));
        // It had stood still.
        let risen = writers.rise(7, 0, 0);
        assert_eq!((risen.len(), risen[0].sequence), (1, 2));
        assert!(writers.rise(7, 0, 0).is_empty());
        writers.heard(0, 7, 1, second * 5);
        assert!(!writers.is_settled(&change(&two)));
        writers.heard(0, 7, 2, second * 5);
        assert!(writers.is_settled(&change(&two)));
        // What the dead left is not remembered for ever.
        writers.open(7, open(0, 3, true));
        assert_eq!(writers.bury(second * 9, second).len(), 1);
        writers.bury(second * 9 + REMEMBERED, second);
        assert!(writers.rise(7, 0, 0).is_empty());
    }

    #[test]
    fn who_said_nothing_for_long_has_perhaps_been_taken_for_dead_elsewhere() {
        let risen = |writers: &mut Writers, partition, ms| -> Vec<u64> {
            let risen = writers.rise(7, partition, ms);
            risen.iter().map(|open| open.sequence).collect()
        };
        let mut writers = Writers::default();
        assert_eq!(risen(&mut writers, 0, 10_000), [0; 0]);
        assert_eq!(risen(&mut writers, 1, 10_000), [0; 0]);
        writers.open(7, open(0, 1, true));
        writers.open(7, open(1, 2, true));
        writers.open(7, open(0, 3, true));
        writers.heard(1, 7, 1, Duration::ZERO);
        assert_eq!(risen(&mut writers, 1, 10_000 + STILL_MS - 1), [0; 0]);
        // It goes on in another partition.
        assert_eq!(risen(&mut writers, 0, 10_000 + STILL_MS), [0; 0]);
        // Nothing anywhere; that the first is settled it has said before.
        assert_eq!(risen(&mut writers, 1, 10_000 + 2 * STILL_MS), [3, 2]);
        assert_eq!(risen(&mut writers, 0, 10_001 + 2 * STILL_MS), [0; 0]);
        // One that is read long after the others has the same gap.
        assert_eq!(risen(&mut writers, 2, 10_000), [0; 0]);
        writers.open(7, open(2, 4, true));
        assert_eq!(risen(&mut writers, 2, 10_000 + STILL_MS), [4]);
    }

    #[test]
    fn what_only_its_outcome_tells_is_settled_when_that_is_read() {
        let mut writers = Writers::default();
        let (last, intent) = (open(0, 1, true), open(0, 2, false));
        writers.open(7, last.clone());
        writers.open(7, intent.clone());
        // Another partition is ahead of this one.
        writers.heard(1, 7, 2, Duration::ZERO);
        assert!(writers.is_settled(&change(&last)));
        assert!(!writers.is_settled(&change(&intent)));
        assert!(writers.resolve(0, 7, 1).is_some_and(|open| open.is_final));
        assert!(writers.resolve(0, 7, 2).is_some());
        assert!(writers.is_settled(&change(&intent)));
        let (late, lost) = (open(0, 3, false), open(1, 4, true));
        writers.open(7, late.clone());
        writers.open(7, lost.clone());
        writers.heard(0, 7, 3, Duration::ZERO);
        assert!(writers.is_settled(&change(&late)) && !writers.is_settled(&change(&lost)));
        let left = writers.bury(Duration::from_secs(9), Duration::from_secs(1));
        let left: Vec<u64> = left.iter().map(|(_, open)| open.sequence).collect();
        assert_eq!(left, [4]);
    }
}
