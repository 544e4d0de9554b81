//! Whether all of a topic's records are there: which sequences of each writer
//! were seen, in whatever order partitions are read.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::mutation::v1::Record;
use crate::mutation::v1::record::Body;

/// What was seen so far.
pub(super) struct Sequences {
    writers: HashMap<u64, Writer>,
    /// Of each partition: whether retention has removed records.
    removed: Vec<bool>,
    copies: u64,
}

#[derive(Default)]
struct Writer {
    seen: Ranges,
    declared: Ranges,
    settled_through: u64,
    /// The greatest sequence of each partition, and its clock.
    last: HashMap<u32, (u64, u64)>,
    /// The first sequence of each partition that has lost its first records.
    first_kept: HashMap<u32, u64>,
}

/// What all of it comes to.
pub(super) struct Found {
    pub(super) writers: usize,
    pub(super) copies: u64,
    /// Missing, and declared to be so.
    pub(super) unacknowledged: u64,
    /// Missing above what their writer called settled: it ended, or still writes.
    pub(super) unfinished: u64,
    pub(super) lost: Vec<Lost>,
}

/// Records that were acknowledged and are not there.
pub(super) struct Lost {
    writer: u64,
    first: u64,
    last: u64,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost {
            writer,
            first,
            last,
        } = self;
        write!(
            f,
            "sequences {first} to {last} of writer {writer:016x} are lost"
        )
    }
}

impl Sequences {
    pub(super) fn new(removed: Vec<bool>) -> Sequences {
        Sequences {
            writers: HashMap::new(),
            removed,
            copies: 0,
        }
    }

    /// Notes a record. The error is what is wrong with its place.
    pub(super) fn note(
        &mut self,
        partition: u32,
        record: &Record,
        has_key: bool,
    ) -> Result<(), String> {
        let writer = self.writers.entry(record.writer).or_default();
        writer.settled_through = writer.settled_through.max(record.settled_through);
        if let Some(Body::Heartbeat(heartbeat)) = &record.body {
            for range in &heartbeat.unacknowledged {
                writer.declared.add(range.first, range.last);
            }
        }
        let sequence = record.sequence;
        let is_removed = self.removed.get(partition as usize) == Some(&true);
        if is_removed {
            writer.first_kept.entry(partition).or_insert(sequence);
        }
        // What has no key is in every partition.
        if !writer.seen.add(sequence, sequence) && has_key {
            self.copies += 1;
            return Ok(());
        }
        let (last, clock) = writer.last.entry(partition).or_default();
        if sequence <= *last {
            if !has_key {
                self.copies += 1;
                return Ok(());
            }
            return Err(format!(
                "sequence {sequence} of writer {:016x} comes behind {last}",
                record.writer
            ));
        }
        let (last, clock) = (
            std::mem::replace(last, sequence),
            std::mem::replace(clock, record.hlc),
        );
        if record.hlc <= clock {
            return Err(format!(
                "sequence {sequence} of writer {:016x} has no later clock than {last}",
                record.writer
            ));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Found {
        let mut found = Found {
            writers: self.writers.len(),
            copies: self.copies,
            unacknowledged: 0,
            unfinished: 0,
            lost: Vec::new(),
        };
        for (id, writer) in self.writers {
            // Before this, what is missing may have been removed.
            let begin = writer.first_kept.values().max().copied().unwrap_or(1);
            for (first, last) in writer.seen.gaps(begin) {
                for sequence in first..=last {
                    if writer.declared.has(sequence) {
                        found.unacknowledged += 1;
                    } else if writer.settled_through < sequence {
                        found.unfinished += 1;
                    } else {
                        match found.lost.last_mut() {
                            Some(lost) if lost.writer == id && lost.last + 1 == sequence => {
                                lost.last = sequence;
                            }
                            _ => found.lost.push(Lost {
                                writer: id,
                                first: sequence,
                                last: sequence,
                            }),
                        }
                    }
                }
            }
        }
        found.lost.sort_by_key(|lost| (lost.writer, lost.first));
        found
    }
}

/// A set of sequences as ranges: first to last.
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Whether any of it is new.
    fn add(&mut self, first: u64, last: u64) -> bool {
        let (mut first, mut last) = (first, last);
        if let Some((&before, &end)) = self.0.range(..=first).next_back() {
            if last <= end {
                return false;
            }
            if first <= end + 1 {
                first = before;
                last = last.max(end);
            }
        }
        // What the new range reaches into, or touches.
        while let Some((&next, &end)) = self.0.range(first..).next()
            && next <= last + 1
        {
            self.0.remove(&next);
            last = last.max(end);
        }
        self.0.insert(first, last);
        true
    }

    fn has(&self, sequence: u64) -> bool {
        let before = self.0.range(..=sequence).next_back();
        before.is_some_and(|(_, end)| sequence <= *end)
    }

    /// What is missing from `begin` up to the last.
    fn gaps(&self, begin: u64) -> Vec<(u64, u64)> {
        let mut next = begin;
        let mut gaps = Vec::new();
        for (first, last) in &self.0 {
            if next < *first {
                gaps.push((next, first - 1));
            }
            next = next.max(last + 1);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::v1;

    fn record(sequence: u64, settled_through: u64, unacknowledged: &[(u64, u64)]) -> Record {
        let ranges = unacknowledged.iter();
        Record {
            hlc: sequence,
            writer: 7,
            sequence,
            settled_through,
            body: Some(Body::Heartbeat(v1::Heartbeat {
                unacknowledged: ranges
                    .map(|(first, last)| v1::Sequences {
                        first: *first,
                        last: *last,
                    })
                    .collect(),
                ..Default::default()
            })),
            ..Record::default()
        }
    }

    #[test]
    fn ranges_merge_and_tell_what_is_missing() {
        let mut ranges = Ranges::default();
        for sequence in [5, 3, 9, 4, 10, 1] {
            assert!(ranges.add(sequence, sequence));
        }
        assert!(!ranges.add(4, 4));
        assert_eq!(ranges.gaps(1), [(2, 2), (6, 8)]);
        assert_eq!(ranges.gaps(4), [(6, 8)]);
        assert!(ranges.add(2, 7));
        assert_eq!(ranges.gaps(1), [(8, 8)]);
        assert!(ranges.has(10) && !ranges.has(8) && !ranges.has(11));
    }

    #[test]
    fn what_is_missing_is_lost_declared_or_unfinished() {
        let mut sequences = Sequences::new(vec![false, false]);
        for (partition, record) in [
            (0, record(1, 0, &[])),
            (1, record(2, 0, &[])),
            (1, record(6, 5, &[(4, 4)])),
            (0, record(9, 5, &[])),
            // A copy, and one that comes too late.
            (0, record(1, 0, &[])),
        ] {
            assert_eq!(sequences.note(partition, &record, true), Ok(()));
        }
        let late = sequences.note(1, &record(3, 0, &[]), true).unwrap_err();
        assert!(late.ends_with("comes behind 6"), "{late}");
        let found = sequences.finish();
        assert_eq!((found.writers, found.copies), (1, 1));
        assert_eq!((found.unacknowledged, found.unfinished), (1, 2));
        let lost: Vec<String> = found.lost.iter().map(ToString::to_string).collect();
        assert_eq!(
            lost,
            ["sequences 5 to 5 of writer 0000000000000007 are lost"]
        );
    }

    #[test]
    fn what_retention_removed_is_not_missed() {
        let mut sequences = Sequences::new(vec![true, false]);
        for (partition, sequence) in [(1, 2), (1, 5), (0, 4), (0, 7)] {
            let noted = sequences.note(partition, &record(sequence, 7, &[]), true);
            assert_eq!(noted, Ok(()));
        }
        let lost: Vec<_> = sequences.finish().lost;
        assert_eq!(lost.len(), 1);
        assert_eq!((lost[0].first, lost[0].last), (6, 6));
    }
}
