//! Which of a writer's sequences are settled, told as a low-water mark.
//!
//! Most sequences settle soon and nearly in order; a few (blocking pops) stay
//! open while hundreds of thousands pass them. So the newest [`WINDOW`]
//! sequences are a ring of bits, and what falls out of it unsettled is kept in
//! a sorted list. The list is as long as the number of commands that wait for
//! a reply, which the connections and their in-flight limits bound.

/// How many of the newest sequences the ring covers; a multiple of 64.
const WINDOW: u64 = 4096;
const WORDS: u64 = WINDOW / 64;

/// Sequences are taken densely from 1; each is settled at most once.
#[derive(Debug)]
pub(super) struct Settled {
    /// Bit `s % 64` of word `(s / 64) % WORDS` is set while `s` is unsettled.
    unsettled: Box<[u64]>,
    /// Every set bit is in this word (`s / 64`) or a later one.
    low_word: u64,
    /// Unsettled sequences older than the ring, ascending.
    stragglers: Vec<u64>,
    last: u64,
}

impl Settled {
    pub(super) fn new() -> Self {
        Settled {
            unsettled: vec![0; WORDS as usize].into_boxed_slice(),
            low_word: 0,
            stragglers: Vec::new(),
            last: 0,
        }
    }

    /// The newest sequence taken; 0 before the first.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Takes the next sequence, unsettled.
    pub(super) fn take(&mut self) -> u64 {
        let sequence = self.take_settled();
        self.unsettled[Self::slot(sequence)] |= 1 << (sequence % 64);
        sequence
    }

    /// Takes the next sequence, settled from the start.
    pub(super) fn take_settled(&mut self) -> u64 {
        self.last += 1;
        if self.last.is_multiple_of(64) {
            self.reuse_word();
        }
        self.last
    }

    /// Settles a sequence; one that is settled already stays so.
    pub(super) fn settle(&mut self, sequence: u64) {
        debug_assert!(0 < sequence && sequence <= self.last);
        if sequence / 64 + WORDS > self.last / 64 {
            self.unsettled[Self::slot(sequence)] &= !(1 << (sequence % 64));
        } else if let Ok(index) = self.stragglers.binary_search(&sequence) {
            self.stragglers.remove(index);
        }
    }

    /// Forgets the sequences after `last`: they will be taken again.
    pub(super) fn rewind(&mut self, last: u64) {
        assert!(last <= self.last);
        let kept = self.stragglers.partition_point(|s| *s <= last);
        self.stragglers.truncate(kept);
        // Of what is left, the ring holds the newest WINDOW, all of them if
        // more than that is forgotten.
        let oldest_held = (self.last / 64 + 1).saturating_sub(WORDS) * 64;
        for sequence in (last + 1).max(oldest_held)..=self.last {
            self.unsettled[Self::slot(sequence)] &= !(1 << (sequence % 64));
        }
        // Words that were entered after `last` hold nothing now, and those
        // before it that the ring has lost are stragglers, as they were.
        self.restore_words(last);
        self.last = last;
        self.low_word = self.low_word.min(last / 64);
    }

    /// Brings stragglers back whose words the ring covers again.
    fn restore_words(&mut self, last: u64) {
        let first_covered = ((last / 64 + 1).saturating_sub(WORDS)) * 64;
        let from = self.stragglers.partition_point(|s| *s < first_covered);
        for sequence in self.stragglers.split_off(from) {
            self.unsettled[Self::slot(sequence)] |= 1 << (sequence % 64);
            self.low_word = self.low_word.min(sequence / 64);
        }
    }

    /// The greatest sequence up to and including which all are settled.
    pub(super) fn through(&mut self) -> u64 {
        if let Some(oldest) = self.stragglers.first() {
            return oldest - 1;
        }
        while self.low_word <= self.last / 64 {
            let word = self.unsettled[(self.low_word % WORDS) as usize];
            if word != 0 {
                return self.low_word * 64 + u64::from(word.trailing_zeros()) - 1;
            }
            if self.low_word == self.last / 64 {
                break;
            }
            self.low_word += 1;
        }
        self.last
    }

    /// `last` enters a word of the ring: what it held is older than the ring.
    fn reuse_word(&mut self) {
        let word = self.last / 64;
        let slot = Self::slot(self.last);
        let mut bits = std::mem::take(&mut self.unsettled[slot]);
        if bits != 0 {
            debug_assert!(word >= WORDS);
            while bits != 0 {
                let bit = u64::from(bits.trailing_zeros());
                self.stragglers.push((word - WORDS) * 64 + bit);
                bits &= bits - 1;
            }
        }
        self.low_word = self.low_word.max((word + 1).saturating_sub(WORDS));
    }

    fn slot(sequence: u64) -> usize {
        ((sequence / 64) % WORDS) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_open_sequence_holds_the_mark_while_the_ring_goes_round() {
        let mut settled = Settled::new();
        let open = settled.take();
        for _ in 0..10 * WINDOW {
            let sequence = settled.take();
            settled.settle(sequence);
            assert_eq!(settled.through(), 0);
        }
        settled.settle(open);
        assert_eq!(settled.through(), settled.last());
        settled.settle(open);
        assert_eq!(settled.through(), settled.last());
    }

    #[test]
    fn more_than_the_ring_holds_can_be_forgotten() {
        for (before, lost) in [
            (10, 3),
            (10, 2 * WINDOW),
            (2 * WINDOW, 3 * WINDOW),
            (700, 3700),
        ] {
            let mut settled = Settled::new();
            let open: Vec<u64> = (0..before).map(|_| settled.take()).collect();
            for _ in 0..lost {
                settled.take();
            }
            settled.rewind(before);
            assert_eq!((settled.last(), settled.through()), (before, 0));
            // What was open before is settled one by one, as if nothing had been.
            for sequence in open {
                settled.settle(sequence);
                assert_eq!(settled.through(), sequence, "{before} {lost}");
            }
            assert_eq!(settled.take(), before + 1);
            assert_eq!(settled.through(), before);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(
            actions in prop::collection::vec((0..5u8, any::<u64>(), 1..600u64), 1..60)
        ) {
            let mut settled = Settled::new();
            let mut open = BTreeSet::new();
            for (kind, pick, times) in actions {
                if kind == 4 {
                    // Far enough, now and then, to forget more than the ring holds.
                    let back = (pick % (16 * times)).min(settled.last());
                    settled.rewind(settled.last() - back);
                    open.split_off(&(settled.last() + 1));
                }
                for step in 0..times {
                    match kind {
                        4 => break,
                        0 => {
                            open.insert(settled.take());
                        }
                        1 => {
                            settled.take_settled();
                        }
                        _ => {
                            let from = pick.wrapping_mul(step + 1) % (settled.last() + 1);
                            let Some(sequence) = open.range(from..).next().copied() else {
                                continue;
                            };
                            open.remove(&sequence);
                            settled.settle(sequence);
                        }
                    }
                }
                let expected = open.first().map_or(settled.last(), |oldest| oldest - 1);
                prop_assert_eq!(settled.through(), expected);
            }
        }
    }
}
