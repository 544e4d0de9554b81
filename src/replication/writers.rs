//! What is known of the own region's writers: which of their changes are settled.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::keys::Unsettled;
use crate::journal::Offset;
use crate::mutation::v1;

/// The own region's writers.
#[derive(Debug, Default)]
pub struct Writers(HashMap<u64, Writer>);

#[derive(Debug, Default)]
struct Writer {
    settled_through: u64,
    heard: Duration,
    /// Changes that are not settled, in order.
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
    /// Where it is in the own journal.
    pub place: (u32, Offset),
}

impl Writers {
    /// Notes that a writer was heard of, and what it says is settled.
    pub fn heard(&mut self, writer: u64, settled_through: u64, now: Duration) {
        let writer = self.0.entry(writer).or_default();
        writer.heard = now;
        writer.settled_through = writer.settled_through.max(settled_through);
        let through = writer.settled_through;
        while writer
            .open
            .front()
            .is_some_and(|open| open.sequence <= through)
        {
            writer.open.pop_front();
        }
    }

    /// Notes a change that is not settled.
    pub fn open(&mut self, writer: u64, open: Open) {
        let writer = self.0.entry(writer).or_default();
        if writer.settled_through < open.sequence {
            writer.open.push_back(open);
        }
    }

    /// A change that is not settled, or is about to be.
    pub fn find(&self, writer: u64, sequence: u64) -> Option<&Open> {
        let open = &self.0.get(&writer)?.open;
        let at = open.binary_search_by_key(&sequence, |open| open.sequence);
        at.ok().map(|at| &open[at])
    }

    /// Whether a change is settled.
    pub fn is_settled(&self, writer: u64, sequence: u64) -> bool {
        let known = self.0.get(&writer);
        known.is_none_or(|writer| sequence <= writer.settled_through)
    }

    /// Whether any of the changes is not settled.
    pub fn any_unsettled(&self, changes: &[Unsettled]) -> bool {
        let is_open = |one: &Unsettled| !self.is_settled(one.writer, one.sequence);
        changes.iter().any(is_open)
    }

    /// Ends the writers that have not been heard of for so long; returns what
    /// they left unsettled.
    pub fn bury(&mut self, now: Duration, silence: Duration) -> Vec<(u64, Open)> {
        let mut left = Vec::new();
        self.0.retain(|id, writer| {
            if now < writer.heard + silence {
                return true;
            }
            left.extend(writer.open.drain(..).map(|open| (*id, open)));
            false
        });
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(sequence: u64) -> Open {
        Open {
            sequence,
            database: 0,
            keys: vec![Bytes::from(format!("k{sequence}"))],
            is_final: true,
            hlc: 0,
            commands: Vec::new(),
            place: (0, 0),
        }
    }

    #[test]
    fn changes_settle_in_order_and_the_dead_leave_theirs() {
        let mut writers = Writers::default();
        let second = Duration::from_secs(1);
        writers.heard(7, 0, second);
        writers.open(7, open(1));
        writers.open(7, open(2));
        assert!(!writers.is_settled(7, 1));
        writers.heard(7, 1, second);
        assert!(writers.is_settled(7, 1) && !writers.is_settled(7, 2));
        assert!(writers.find(7, 1).is_none() && writers.find(7, 2).is_some());
        assert!(writers.bury(second * 2, second * 2).is_empty());
        let left = writers.bury(second * 4, second * 2);
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].0, left[0].1.sequence), (7, 2));
        assert!(writers.is_settled(7, 2));
    }
}
