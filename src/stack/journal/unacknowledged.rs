//! The sequences that the journal did not acknowledge and that no record has
//! declared yet.

use crate::journal::Ticket;

/// More ranges than this are told coarsely, so that an outage of any length
/// takes little memory: what lies between two ranges counts as unacknowledged
/// too.
const RANGES_MAX: usize = 4096;

/// Ranges of sequences (from, to), ascending and apart from one another.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    ranges: Vec<(u64, u64)>,
    /// The hand-over whose record declares so many of them.
    declared: Option<(Ticket, usize)>,
}

impl Unacknowledged {
    /// Adds a sequence; greater than all before it.
    pub(super) fn add(&mut self, sequence: u64) {
        let declared = self.declared.map_or(0, |(_, count)| count);
        let is_declared = self.ranges.len() == declared;
        match self.ranges.last_mut() {
            Some((_, last)) if !is_declared && *last + 1 == sequence => *last = sequence,
            last => {
                debug_assert!(last.is_none_or(|(_, last)| *last < sequence));
                self.ranges.push((sequence, sequence));
            }
        }
        if declared == 0 && RANGES_MAX < self.ranges.len() {
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        let pairs = self.ranges.chunks(2);
        self.ranges = pairs
            .map(|pair| (pair[0].0, pair[pair.len() - 1].1))
            .collect();
    }

    /// The ranges to declare, where that is not under way.
    pub(super) fn undeclared(&self) -> Option<&[(u64, u64)]> {
        (self.declared.is_none() && !self.ranges.is_empty()).then_some(&self.ranges[..])
    }

    /// All there are are declared by the hand-over.
    pub(super) fn declare_with(&mut self, ticket: Ticket) {
        self.declared = Some((ticket, self.ranges.len()));
    }

    /// A hand-over has completed.
    pub(super) fn completed(&mut self, ticket: Ticket, is_ok: bool) {
        if let Some((declaring, count)) = self.declared
            && declaring <= ticket
        {
            self.declared = None;
            if is_ok && declaring == ticket {
                self.ranges.drain(..count);
            }
        }
    }

    /// `through`, or what comes before the first sequence that is not declared.
    pub(super) fn limit(&self, through: u64) -> u64 {
        self.ranges
            .first()
            .map_or(through, |(first, _)| through.min(first - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sequences: &[u64]) -> Unacknowledged {
        let mut all = Unacknowledged::default();
        sequences.iter().for_each(|sequence| all.add(*sequence));
        all
    }

    #[test]
    fn neighbours_are_one_range() {
        let all = of(&[3, 4, 5, 9, 10, 12]);
        assert_eq!(all.undeclared(), Some(&[(3, 5), (9, 10), (12, 12)][..]));
        assert_eq!((all.limit(2), all.limit(20)), (2, 2));
    }

    #[test]
    fn what_was_declared_is_gone_when_that_is_durable_and_only_then() {
        let mut all = of(&[3, 4]);
        all.declare_with(7);
        assert_eq!(all.undeclared(), None);
        all.add(5);
        all.completed(6, true);
        assert_eq!(all.limit(9), 2);
        all.completed(7, true);
        assert_eq!(all.undeclared(), Some(&[(5, 5)][..]));
        all.declare_with(8);
        all.completed(8, false);
        assert_eq!(all.undeclared(), Some(&[(5, 5)][..]));
    }

    #[test]
    fn many_ranges_are_told_coarsely() {
        let mut all = Unacknowledged::default();
        for number in 0..1_000_000 {
            all.add(1 + 2 * number);
        }
        let ranges = all.undeclared().expect("there are some");
        assert!(ranges.len() <= RANGES_MAX);
        assert_eq!((ranges[0].0, ranges[ranges.len() - 1].1), (1, 1_999_999));
    }
}
