//! How old a change is.

use crate::journal::Offset;
use crate::mutation::clock::milliseconds;
use crate::mutation::v1;

/// An outcome that comes so long after its mutation, by its writer's clock, comes
/// perhaps after the writer was taken for dead.
const LATE_MS: u64 = 4_000;

/// Orders changes, of all regions: by clock, then writer. Writers are drawn at
/// random, and a writer's clock never repeats, so no two changes are equal.
///
/// A snapshot is as old as the newest change its value includes, and newer than
/// that by the clock of its own record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Version {
    /// Hybrid logical clock; see [`crate::mutation::clock`].
    pub hlc: u64,
    /// Which writer.
    pub writer: u64,
    /// The clock of the snapshot's record; 0 for other changes.
    pub snapshot: u64,
    /// Who wrote that record; 0 for other changes.
    pub teller: u64,
}

impl Version {
    /// The version of a record's change.
    pub fn of(record: &v1::Record) -> Version {
        Version {
            hlc: record.hlc,
            writer: record.writer,
            ..Version::default()
        }
    }

    /// The version of the effects in an outcome's record: the mutation's, whose clock
    /// is `intended`; its own where that is not known, or it is so late that what came
    /// between has perhaps been applied without waiting for it.
    pub fn of_outcome(record: &v1::Record, intended: Option<u64>) -> Version {
        let is_late = |hlc: u64| milliseconds(hlc) + LATE_MS <= milliseconds(record.hlc);
        Version {
            hlc: intended.filter(|hlc| !is_late(*hlc)).unwrap_or(record.hlc),
            ..Version::of(record)
        }
    }

    /// The version of the value in a snapshot record.
    pub fn of_snapshot(record: &v1::Record, snapshot: &v1::Snapshot) -> Version {
        match snapshot.content_hlc {
            0 => Version {
                snapshot: record.hlc,
                teller: record.writer,
                ..Version::of(record)
            },
            hlc => Version {
                hlc,
                writer: snapshot.content_writer,
                snapshot: record.hlc,
                teller: record.writer,
            },
        }
    }

    /// When the value in a snapshot was last overwritten by a change.
    pub fn written(snapshot: &v1::Snapshot) -> Version {
        Version {
            hlc: snapshot.written_hlc,
            writer: snapshot.written_writer,
            ..Version::default()
        }
    }
}

/// A region, by its place in the list of those that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u8);

/// The region this process is in.
pub const OWN: RegionId = RegionId(0);

/// A partition of a region's journals: what is in it is in order, to everybody.
///
/// Of a topic it is the partition's number, of a journal in files a number made
/// of its identity: see [`journal_number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Whose.
    pub region: RegionId,
    /// Which of the region's.
    pub number: u32,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// In which partition.
    pub partition: Partition,
    /// Where in it.
    pub offset: Offset,
}

impl Partition {
    /// A place in it.
    pub fn at(self, offset: Offset) -> Place {
        Place {
            partition: self,
            offset,
        }
    }

    /// One of the own region.
    pub fn own(number: u32) -> Partition {
        Partition {
            region: OWN,
            number,
        }
    }
}

/// The number of the one partition of a journal in files: all regions know it by
/// the same, wherever they read it, and one that was begun anew by another.
pub fn journal_number(identity: u64) -> u32 {
    (identity ^ (identity >> 32)) as u32 | 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_as_old_as_their_mutation_unless_they_come_late() {
        let record = v1::Record {
            hlc: 10_000 << 16,
            writer: 7,
            ..Default::default()
        };
        let hlc = |intended| Version::of_outcome(&record, intended).hlc >> 16;
        assert_eq!(hlc(Some(6_001 << 16)), 6_001);
        assert_eq!(hlc(Some(6_000 << 16)), 10_000);
        assert_eq!(hlc(None), 10_000);
    }

    #[test]
    fn a_snapshot_is_newer_than_what_it_includes_only() {
        let version = |hlc, writer, snapshot| Version {
            hlc,
            writer,
            snapshot,
            teller: 0,
        };
        let snapshot = version(5, 1, 9);
        assert!(version(5, 1, 0) < snapshot);
        assert!(snapshot < version(5, 2, 0));
        assert!(snapshot < version(6, 0, 0));
        assert!(snapshot < version(5, 1, 10));
    }
}
