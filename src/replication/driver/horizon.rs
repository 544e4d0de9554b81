//! What can be forgotten: changes that all regions are past.
//!
//! A change is remembered while another region may still send something that was
//! done without it: that is until this region has applied what is as old, and
//! until the other one has applied it. How far that one is its heartbeats say, in
//! offsets, of which the clocks are remembered here. A heartbeat tells of what
//! its region sends after it: it counts once what it had sent before is applied.

use std::collections::{HashMap, VecDeque};

use super::super::version::Partition;
use super::*;
use crate::journal::Offset;

/// Under what the horizon is kept among the checkpoints.
const KEPT: &str = ":horizon";

/// Clocks that are remembered of a partition. Even, so the newest stays.
const CLOCKS_MAX: usize = 4096;

/// How long after the start it is waited for what other regions say of themselves.
const HEARD_WITHIN: Duration = Duration::from_secs(120);

/// The same of one that could not be reached since, and never before.
const REACHED_WITHIN: Duration = Duration::from_secs(10);

/// At some offsets of each partition the greatest clock before it.
#[derive(Debug, Default)]
pub(super) struct Clocks(HashMap<Partition, VecDeque<(Offset, u64)>>);

impl Clocks {
    fn note(&mut self, partition: Partition, offset: Offset, hlc: u64) {
        let clocks = self.0.entry(partition).or_default();
        if clocks.back().is_none_or(|(last, _)| *last < offset) {
            clocks.push_back((offset, hlc));
        }
        thin(clocks);
    }

    /// All that is at `offset` or after it is as new as that, or newer; 0 where it
    /// is not known.
    fn at(&self, partition: Partition, offset: Offset) -> u64 {
        let clocks = self.0.get(&partition);
        let before = clocks.map(|clocks| {
            let count = clocks.partition_point(|(noted, _)| *noted <= offset);
            count.checked_sub(1).map_or(0, |last| clocks[last].1)
        });
        before.unwrap_or(0)
    }
}

/// Leaves every other one out where there are too many.
fn thin<T>(all: &mut VecDeque<T>) {
    if all.len() <= CLOCKS_MAX {
        return;
    }
    let mut is_kept = false;
    all.retain(|_| {
        is_kept = !is_kept;
        is_kept
    });
}

/// What regions have said of how far they have applied others.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// In the order it was read, with the clock at which each region said so. What
    /// is left out counts later, with what was said next.
    waiting: HashMap<(RegionId, Partition), VecDeque<(u64, Offset)>>,
    /// What counts.
    through: HashMap<(RegionId, Partition), Offset>,
}

impl Heard {
    pub(super) fn note(&mut self, by: RegionId, hlc: u64, partition: Partition, offset: Offset) {
        let waiting = self.waiting.entry((by, partition)).or_default();
        waiting.push_back((hlc, offset));
        thin(waiting);
    }

    /// All that regions have sent before these clocks is applied.
    fn heed(&mut self, applied: &HashMap<RegionId, u64>) {
        for (said, waiting) in &mut self.waiting {
            let applied = applied.get(&said.0).copied().unwrap_or(u64::MAX);
            let through = self.through.entry(*said).or_insert(0);
            waiting.retain(|(hlc, offset)| {
                let is_early = applied < *hlc;
                if !is_early {
                    *through = (*through).max(*offset);
                }
                is_early
            });
        }
    }

    fn through(&self, by: RegionId, partition: Partition) -> Offset {
        let known = self.through.get(&(by, partition));
        known.copied().unwrap_or(0)
    }
}

impl<T: Target> Driver<T> {
    /// Takes account of what regions said before what is applied of them.
    pub(super) fn heed_progress(&mut self) {
        let mut applied: HashMap<RegionId, u64> = HashMap::new();
        for (_, inlet, _) in &self.inlets {
            let least = applied.entry(inlet.partition.region).or_insert(u64::MAX);
            *least = inlet.hlc().min(*least);
        }
        // What a source has that is away is not applied.
        for closed in &self.closed {
            applied.insert(closed.partition.region, 0);
        }
        self.heard.heed(&applied);
    }

    /// The horizon of the one that led before.
    pub(super) fn kept_horizon(known: &HashMap<String, String>) -> u64 {
        let kept = known.get(KEPT).and_then(|text| text.parse().ok());
        kept.unwrap_or(u64::MAX)
    }

    /// As it is kept.
    pub(super) fn horizon_to_keep(&self) -> (String, String) {
        (KEPT.to_owned(), self.engine.horizon().to_string())
    }

    /// Notes how far all journals are, with the clock there.
    pub(super) fn note_clocks(&mut self) {
        for feed in &self.own {
            let partition = Partition::own(feed.partition);
            self.clocks.note(partition, feed.next, feed.newest_hlc);
        }
        for (_, inlet, _) in &self.inlets {
            self.clocks
                .note(inlet.partition, inlet.applied, inlet.hlc());
        }
    }

    /// The least clock of what this region has not applied of others, or another
    /// one not of this one and of others, and of what own clients have under way.
    pub(super) fn oldest(&self) -> u64 {
        let inlets = self.inlets.iter();
        let applied = inlets.map(|(_, inlet, _)| inlet.hlc()).min();
        let mut oldest = applied.unwrap_or(u64::MAX);
        // What became of it whoever leads next has to find out.
        let open = self.engine.writers.oldest_open();
        oldest = oldest.min(open.unwrap_or(u64::MAX));
        let own = self
            .own
            .iter()
            .map(|feed| (Partition::own(feed.partition), feed.next));
        let inlets = self.inlets.iter();
        let inlets = inlets.map(|(_, inlet, _)| (inlet.partition, inlet.applied));
        let partitions: Vec<(Partition, Offset)> = own.chain(inlets).collect();
        for region in (1..self.engine.regions as u8).map(RegionId) {
            if !self.engine.has_told_progress(region) {
                // One that replicates says so soon.
                let is_open = self
                    .inlets
                    .iter()
                    .any(|one| one.1.partition.region == region);
                let patience = match is_open {
                    true => HEARD_WITHIN,
                    false => REACHED_WITHIN,
                };
                if self.opening.elapsed() < patience {
                    return 0;
                }
                continue;
            }
            for &(partition, end) in &partitions {
                let through = self.heard.through(region, partition);
                if partition.region != region && through < end {
                    oldest = oldest.min(self.clocks.at(partition, through));
                }
            }
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_region_says_counts_once_what_it_said_before_is_applied() {
        let (us, own) = (RegionId(1), Partition::own(0));
        let mut heard = Heard::default();
        heard.note(us, 50, own, 5);
        heard.note(us, 90, own, 9);
        for (applied, through) in [(49, 0), (50, 5), (89, 5), (90, 9)] {
            heard.heed(&HashMap::from([(us, applied)]));
            assert_eq!(heard.through(us, own), through, "{applied}");
        }
        assert_eq!(heard.through(RegionId(2), own), 0);
    }

    #[test]
    fn what_is_left_out_of_what_a_region_says_counts_later() {
        let (us, own) = (RegionId(1), Partition::own(0));
        let mut heard = Heard::default();
        let last = 5 * CLOCKS_MAX as u64 + 2;
        for offset in 1..=last {
            heard.note(us, offset * 10, own, offset);
            assert!(heard.waiting[&(us, own)].len() <= CLOCKS_MAX);
        }
        for applied in 1..=last {
            heard.heed(&HashMap::from([(us, applied * 10)]));
            assert!(heard.through(us, own) <= applied);
        }
        assert_eq!(heard.through(us, own), last);
        assert!(heard.waiting[&(us, own)].is_empty());
    }

    #[test]
    fn clocks_are_those_before_an_offset() {
        let mut clocks = Clocks::default();
        let own = Partition::own(0);
        assert_eq!(clocks.at(own, 7), 0);
        for (offset, hlc) in [(5, 50), (9, 90), (9, 95)] {
            clocks.note(own, offset, hlc);
        }
        let at = [4, 5, 8, 9, 99].map(|offset| clocks.at(own, offset));
        assert_eq!(at, [0, 50, 50, 90, 90]);
        for offset in 10..20_000 {
            clocks.note(own, offset, offset * 10);
        }
        assert!(clocks.0[&own].len() <= CLOCKS_MAX);
        assert_eq!(clocks.at(own, 4), 0);
        assert!((50..=5000).contains(&clocks.at(own, 500)));
    }
}
