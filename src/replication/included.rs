//! How much of each journal a value includes.

use std::rc::Rc;

use super::version::{Partition, Place};
use crate::journal::Offset;

/// Of each partition the offset after the last record that a value includes. Of
/// one that is not named it includes nothing. Cheap to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Included(Rc<[(Partition, Offset)]>);

impl Included {
    /// Of these; the last counts where one is named twice.
    pub fn new(mut through: Vec<(Partition, Offset)>) -> Included {
        through.sort();
        through.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                earlier.1 = later.1;
            }
            is_same
        });
        Included(through.into())
    }

    /// How much of a partition.
    pub fn through(&self, partition: Partition) -> Offset {
        let found = self.0.binary_search_by_key(&partition, |(one, _)| *one);
        found.map_or(0, |at| self.0[at].1)
    }

    /// Whether what is at a place is included.
    pub fn covers(&self, place: Place) -> bool {
        place.offset < self.through(place.partition)
    }

    /// What either includes.
    pub fn or(&self, other: &Included) -> Included {
        let is_more =
            |(partition, through): &&(Partition, Offset)| self.through(*partition) < *through;
        let more: Vec<_> = other.0.iter().filter(is_more).copied().collect();
        match more.is_empty() {
            true => self.clone(),
            false => Included::new(self.0.iter().copied().chain(more).collect()),
        }
    }

    /// All partitions that are named.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, Offset)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::version::RegionId;
    use super::*;

    #[test]
    fn what_either_includes_both_do() {
        let partition = |region, number| Partition {
            region: RegionId(region),
            number,
        };
        let (a, b, c) = (partition(0, 1), partition(1, 0), partition(1, 7));
        let one = Included::new(vec![(b, 5), (a, 3)]);
        let other = Included::new(vec![(b, 4), (c, 9), (a, 4)]);
        let both = one.or(&other);
        assert_eq!(both, Included::new(vec![(a, 4), (b, 5), (c, 9)]));
        assert!(both.covers(a.at(3)) && !both.covers(a.at(4)));
        assert!(!one.covers(c.at(0)));
        assert_eq!(one.or(&one), one);
    }
}
