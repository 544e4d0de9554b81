//! Sequences of writers that were left out: declared by whoever could not store
//! them, or lost.
//!
//! A writer's sequences are dense. It declares in a heartbeat those that the journal
//! did not acknowledge, before any record of it says that they are settled. What was
//! left out, is not declared and is called settled is lost. That includes what was
//! removed before it was read; what is before the first record that was read of a
//! writer is not known.

use crate::mutation::v1::{self, record};

/// See the module.
#[derive(Debug, Default)]
pub struct Missing {
    /// Whose, from, to: what is neither declared nor lost so far.
    ranges: Vec<(u64, u64, u64)>,
}

impl Missing {
    /// A writer's sequences from the first to the last were left out.
    pub fn note(&mut self, writer: u64, first: u64, last: u64) {
        debug_assert!(first <= last);
        self.ranges.push((writer, first, last));
    }

    /// How many are lost by what the next record of a writer says; each once.
    pub fn take_lost(&mut self, record: &v1::Record) -> u64 {
        if self.ranges.is_empty() {
            return 0;
        }
        if let Some(record::Body::Heartbeat(heartbeat)) = &record.body {
            for declared in &heartbeat.unacknowledged {
                self.take_out(record.writer, declared);
            }
        }
        let mut lost = 0;
        self.ranges.retain(|(writer, first, last)| {
            let is_lost = *writer == record.writer && *last <= record.settled_through;
            if is_lost {
                lost += last - first + 1;
            }
            !is_lost
        });
        lost
    }

    /// What is declared may be a part of what was left out at one place.
    fn take_out(&mut self, writer: u64, declared: &v1::Sequences) {
        for (of, first, last) in std::mem::take(&mut self.ranges) {
            if of != writer || last < declared.first || declared.last < first {
                self.ranges.push((of, first, last));
                continue;
            }
            if first < declared.first {
                self.ranges.push((of, first, declared.first - 1));
            }
            if declared.last < last {
                self.ranges.push((of, declared.last + 1, last));
            }
        }
    }
}
