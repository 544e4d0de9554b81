//! The newest sequence of each writer that is applied: what comes again is a copy.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::checkpoint::{Checkpoint, WRITERS_MAX};
use crate::journal::Offset;

/// See the module. With each sequence goes where the writer was applied last: of
/// too many those go first of which there was nothing for longest.
#[derive(Debug, Clone)]
pub struct Done(BTreeMap<u64, (u64, Offset)>);

impl Done {
    /// As it was kept, the newest first.
    pub fn of(checkpoint: &Checkpoint) -> Done {
        let writers = checkpoint.writers.iter().zip(1..);
        let before = |places| checkpoint.applied.saturating_sub(places);
        let each =
            writers.map(|(&(writer, sequence), places)| (writer, (sequence, before(places))));
        Done(each.collect())
    }

    /// Whether a record of a writer is applied.
    pub fn has(&self, (writer, sequence): (u64, u64)) -> bool {
        let known = self.0.get(&writer);
        known.is_some_and(|(newest, _)| sequence <= *newest)
    }

    /// Notes that it is.
    pub fn note(&mut self, (writer, sequence): (u64, u64), offset: Offset) {
        let known = self.0.entry(writer).or_default();
        *known = (sequence.max(known.0), offset);
        if 2 * WRITERS_MAX < self.0.len() {
            self.0 = self.in_order().into_iter().collect();
        }
    }

    /// The writers to be kept, the newest first.
    pub fn newest(&self) -> Vec<(u64, u64)> {
        let newest = self.in_order().into_iter();
        newest
            .map(|(writer, (sequence, _))| (writer, sequence))
            .collect()
    }

    fn in_order(&self) -> Vec<(u64, (u64, Offset))> {
        let all = self.0.iter();
        let mut all: Vec<_> = all.map(|(writer, known)| (*writer, *known)).collect();
        all.sort_by_key(|(_, (_, offset))| Reverse(*offset));
        all.truncate(WRITERS_MAX);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_that_are_silent_go_first() {
        let most = WRITERS_MAX as u64;
        let mut done = Done::of(&Checkpoint::default());
        // The first has by far the greatest sequence, and is heard of no more.
        done.note((1, 1 << 40), 0);
        for offset in 1..=4 * most {
            done.note((2, offset), 2 * offset);
            done.note((1000 + offset, 1), 2 * offset + 1);
        }
        let newest = done.newest();
        assert_eq!(newest[..2], [(1000 + 4 * most, 1), (2, 4 * most)]);
        assert_eq!(newest.len(), WRITERS_MAX);
        assert!(!done.has((1, 1)) && done.has((2, 4 * most)) && !done.has((2, 4 * most + 1)));
        // A copy is older, and changes no more than that.
        done.note((2, 1), 8 * most + 2);
        assert_eq!(done.newest()[0], (2, 4 * most));
        let checkpoint = Checkpoint {
            applied: 8 * most + 3,
            writers: done.newest(),
            ..Checkpoint::default()
        };
        let checkpoint = Checkpoint::parse(&checkpoint.format()).expect("a checkpoint");
        assert_eq!(Done::of(&checkpoint).newest(), done.newest());
    }
}
