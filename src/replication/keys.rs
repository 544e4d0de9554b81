//! What is known of each key: the newest changes, of which regions and kinds,
//! and which of the own region's are not settled.
//!
//! Keys are known by a 128-bit hash of database and name. What every region has
//! applied can be forgotten: nothing older than it will come.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3;

use super::included::Included;
use super::version::{OWN, Partition, Place, Version};
use crate::mutation::operation::Kind;

/// Changes to a key that are remembered while some are not settled.
const NOTED_MAX: usize = 64;

/// A key of a database, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u128);

impl KeyId {
    /// Of a key.
    pub fn of(database: u32, key: &[u8]) -> KeyId {
        let mut hasher = Xxh3::new();
        hasher.update(&database.to_le_bytes());
        hasher.update(key);
        KeyId(hasher.digest128())
    }

    /// Of an element of it; the key itself where there is none.
    pub fn element(self, element: &[u8]) -> KeyId {
        let mut hasher = Xxh3::with_seed(1);
        hasher.update(&self.0.to_le_bytes());
        hasher.update(element);
        KeyId(hasher.digest128())
    }
}

/// The hash of a [`KeyId`] is a part of it.
#[derive(Default)]
pub struct PartOfId(u64);

impl Hasher for PartOfId {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut part = [0; 8];
        let length = bytes.len().min(8);
        part[..length].copy_from_slice(&bytes[..length]);
        self.0 = u64::from_le_bytes(part);
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

/// A map by key.
pub type KeyMap<V> = HashMap<KeyId, V, BuildHasherDefault<PartOfId>>;

/// The changes to a key in one partition: they are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The newest, or one after it.
    pub place: Place,
    /// Where the newest is that is neither an overwrite nor a count, if there is one.
    pub uncounted: Option<Place>,
    /// The kinds of changes since the key was last overwritten, as bits.
    pub kinds: u8,
    /// How old the newest is.
    pub newest: Version,
}

/// A change of the own region that the datastore has perhaps not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsettled {
    /// Whose.
    pub writer: u64,
    /// Which.
    pub sequence: u64,
    /// What it does; [`Kind::Ordered`] where only its reply tells.
    pub kind: Kind,
    /// To which element; the key's own id for the whole.
    pub element: KeyId,
    /// Whether only its outcome tells its effect, and others apply it there.
    pub is_intent: bool,
    /// In which of the own region's partitions it is.
    pub partition: u32,
    /// Which of its writer's connections to the datastore it went down.
    pub link: u32,
    /// Whether it may wait there until there is something for it to do: nothing
    /// waits for it.
    pub waits: bool,
    /// Whether something that waits was not alone with the key meanwhile.
    pub is_touched: bool,
}

/// What is known of a key.
#[derive(Debug, Clone, Default)]
pub struct KeyState {
    /// When it was last overwritten, by a change or a snapshot.
    pub overwritten: Version,
    /// When it was last overwritten by a change.
    pub written: Version,
    /// Where the last snapshot of it is.
    pub snapshot: Option<Place>,
    /// The changes in each partition.
    pub marks: SmallVec<[Mark; 2]>,
    /// The own region's changes that are not settled.
    pub unsettled: SmallVec<[Unsettled; 1]>,
    /// Its value is being read, or the snapshot of it has not come back.
    pub is_read: bool,
    /// The newest change that the own datastore has refused though the journal
    /// has it. Others have applied it, so what is told is as new as this.
    pub rejected: Version,
    /// The newest value that was not taken, as it does not live long enough.
    pub held_back: Version,
    /// What was before the changes that are not settled.
    past: Option<Box<Past>>,
}

/// What was known of a key, and what was noted since.
#[derive(Debug, Clone)]
struct Past {
    overwritten: Version,
    written: Version,
    marks: SmallVec<[Mark; 2]>,
    /// What the value included, if it was a snapshot's.
    included: Option<Included>,
    noted: SmallVec<[(Place, Version, Kind); 2]>,
}

impl KeyState {
    /// The newest change there is.
    pub fn newest(&self) -> Version {
        let newest = self.marks.iter().map(|mark| mark.newest).max();
        let newest = newest.unwrap_or_default().max(self.overwritten);
        newest.max(self.rejected)
    }

    /// Whether the newest overwrite is perhaps the own region's.
    pub fn is_written_by_own(&self) -> bool {
        let is_it = |mark: &Mark| mark.place.partition.region == OWN && self.written <= mark.newest;
        self.marks.iter().any(is_it)
    }

    /// Notes a change.
    pub fn note(&mut self, place: Place, version: Version, kind: Kind) {
        match &mut self.past {
            Some(past) if past.noted.len() == NOTED_MAX => self.past = None,
            Some(past) => past.noted.push((place, version, kind)),
            None => {}
        }
        if kind == Kind::Overwrite {
            self.overwrite(version);
        }
        for waiting in self.unsettled.iter_mut().filter(|one| one.waits) {
            waiting.is_touched = true;
        }
        let mut marks = self.marks.iter_mut();
        let known = marks.position(|mark| mark.place.partition == place.partition);
        let known = known.unwrap_or_else(|| {
            self.marks.push(Mark {
                place,
                uncounted: None,
                kinds: 0,
                newest: version,
            });
            self.marks.len() - 1
        });
        let mark = &mut self.marks[known];
        mark.kinds |= kind as u8;
        mark.newest = mark.newest.max(version);
        mark.place = mark.place.max(place);
        if !matches!(kind, Kind::Overwrite | Kind::Counter) {
            mark.uncounted = mark.uncounted.max(Some(place));
        }
    }

    /// Has what is known now kept, until the changes that are not settled are:
    /// `was_settled` tells of which that is so, `included` what the value includes.
    pub fn keep_past(
        &mut self,
        was_settled: impl Fn(&Unsettled) -> bool,
        included: Option<&Included>,
    ) {
        self.unsettled.retain(|one| !was_settled(one));
        if self.unsettled.is_empty() {
            self.past = None;
        }
        if self.past.is_none() {
            self.past = Some(Box::new(Past {
                overwritten: self.overwritten,
                written: self.written,
                marks: self.marks.clone(),
                included: included.cloned(),
                noted: SmallVec::new(),
            }));
        }
    }

    /// Forgets what is of no use once all is settled.
    pub fn forget_past(&mut self) {
        self.past = None;
    }

    /// Takes back what was noted of a change: it was refused. What the value
    /// includes, if that is what it was before.
    pub fn reject(&mut self, place: Place, version: Version) -> Option<Option<Included>> {
        self.rejected = version.max(self.rejected);
        let mut past = self.past.take()?;
        past.noted.retain(|(noted, _, _)| *noted != place);
        let told = Some(self.overwritten).filter(|one| one.snapshot != 0);
        self.overwritten = past.overwritten;
        self.written = past.written;
        self.marks.clone_from(&past.marks);
        for (place, version, kind) in &past.noted {
            self.note(*place, *version, *kind);
        }
        self.overwritten = self.overwritten.max(told.unwrap_or_default());
        let is_as_before = self.overwritten == past.overwritten;
        let included = is_as_before.then(|| past.included.clone());
        self.past = Some(past);
        included
    }

    /// Notes that all older changes do not matter any more.
    fn overwrite(&mut self, version: Version) {
        self.written = version.max(self.written);
        if self.overwritten < version {
            self.overwritten = version;
            for mark in &mut self.marks {
                if mark.newest < version {
                    mark.kinds = 0;
                }
            }
        }
    }

    /// The kinds of the changes in other partitions than `partition` that are
    /// newer than `version`: of the own region, and of all.
    pub fn newer_than(&self, partition: Partition, version: Version) -> Newer {
        let mut newer = Newer::default();
        for mark in &self.marks {
            if mark.place.partition != partition && version < mark.newest {
                let kinds = mark.kinds & !(Kind::Overwrite as u8);
                newer.all |= kinds;
                if mark.place.partition.region == OWN {
                    newer.own |= kinds;
                }
            }
        }
        newer
    }
}

/// Kinds of changes, as bits, that are newer than some version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Newer {
    /// Of the own region.
    pub own: u8,
    /// Of all regions.
    pub all: u8,
}

/// Whether a change of one kind comes to the same before and after changes of
/// other kinds (bits) to the key, where elements are told apart elsewhere.
pub fn commutes(kind: Kind, others: u8) -> bool {
    let with = match kind {
        Kind::Overwrite | Kind::Ordered | Kind::Flush => 0,
        Kind::Element | Kind::ElementCounter => Kind::Element as u8 | Kind::ElementCounter as u8,
        Kind::Counter => Kind::Counter as u8,
        Kind::Register => Kind::Register as u8,
    };
    others & !with == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::version::RegionId;

    fn version(hlc: u64) -> Version {
        Version {
            hlc,
            ..Version::default()
        }
    }

    #[test]
    fn an_overwrite_ends_what_was_before() {
        let mut state = KeyState::default();
        let own = Partition::own(0);
        let of = |region| Partition {
            region: RegionId(region),
            number: 0,
        };
        state.note(own.at(0), version(5), Kind::Counter);
        assert_eq!(state.newer_than(of(1), version(4)).own, Kind::Counter as u8);
        assert_eq!(state.newer_than(of(1), version(6)), Newer::default());
        assert_eq!(state.newer_than(own, version(4)), Newer::default());
        state.note(of(1).at(0), version(7), Kind::Overwrite);
        assert_eq!(state.newer_than(of(2), version(4)), Newer::default());
        state.note(own.at(1), version(9), Kind::Ordered);
        assert_eq!(state.newer_than(of(1), version(8)).own, Kind::Ordered as u8);
        // Other partitions of the same region are not in order with this one.
        let other = Partition::own(1);
        assert_eq!(state.newer_than(other, version(8)).own, Kind::Ordered as u8);
        assert_eq!(state.newest(), version(9));
        assert_eq!(state.overwritten, version(7));
    }

    #[test]
    fn what_was_refused_was_not_there() {
        let mut state = KeyState::default();
        let own = Partition::own(0);
        let other = Partition {
            region: RegionId(1),
            number: 0,
        };
        state.note(own.at(0), version(3), Kind::Overwrite);
        state.note(own.at(1), version(4), Kind::Counter);
        state.keep_past(|_| true, None);
        state.note(own.at(2), version(8), Kind::Overwrite);
        state.note(other.at(0), version(9), Kind::Counter);
        assert_eq!(state.written, version(8));
        assert_eq!(state.newer_than(other, version(3)), Newer::default());
        state.reject(own.at(2), version(8));
        assert_eq!((state.written, state.overwritten), (version(3), version(3)));
        assert_eq!(state.newer_than(other, version(3)).own, Kind::Counter as u8);
        assert_eq!(state.newer_than(own, version(8)).all, Kind::Counter as u8);
        // Others have applied it.
        state.note(other.at(1), version(5), Kind::Overwrite);
        assert_eq!((state.written, state.newest()), (version(5), version(9)));
        // So does what a value included that was told before.
        let included = Included::new(vec![(other, 7)]);
        let told = Version {
            snapshot: 4,
            ..version(3)
        };
        let mut over = KeyState {
            overwritten: told,
            ..KeyState::default()
        };
        over.keep_past(|_| true, Some(&included));
        over.note(own.at(0), version(8), Kind::Overwrite);
        let before = over.reject(own.at(0), version(8));
        assert_eq!((before, over.overwritten), (Some(Some(included)), told));
        let mut alone = KeyState::default();
        alone.keep_past(|_| true, None);
        alone.note(own.at(0), version(8), Kind::Overwrite);
        alone.reject(own.at(0), version(8));
        assert_eq!(
            (alone.written, alone.newest()),
            (Version::default(), version(8))
        );
    }

    #[test]
    fn kinds_commute_with_themselves_or_not() {
        for kind in [
            Kind::Counter,
            Kind::Register,
            Kind::Element,
            Kind::ElementCounter,
        ] {
            assert!(commutes(kind, kind as u8), "{kind:?}");
            assert!(!commutes(kind, Kind::Ordered as u8), "{kind:?}");
        }
        assert!(!commutes(Kind::Ordered, Kind::Ordered as u8));
        assert!(!commutes(Kind::Overwrite, Kind::Counter as u8));
        assert!(commutes(Kind::Overwrite, 0));
    }

    #[test]
    fn elements_and_databases_are_told_apart() {
        let key = KeyId::of(0, b"k");
        assert_ne!(key, KeyId::of(1, b"k"));
        assert_ne!(key.element(b"a"), key.element(b"b"));
        assert_ne!(key.element(b"a"), key);
    }
}
