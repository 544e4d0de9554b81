//! Which changes are applied, which are too old, and which keys' values have to
//! be told to all regions. Decides; does no input or output.
//!
//! # The rules
//!
//! All regions see the same changes, each region its own first, and must come
//! to the same value of each key.
//!
//! - A change that is older than the key's last overwrite is not applied. So of
//!   two overwrites the newer stays, wherever they meet.
//! - Changes that commute are all applied, in any order.
//! - Where a change comes that is older than one of the own region that it does
//!   not commute with, the two were made without knowing of each other: a
//!   conflict. The region of the newest change tells all others what it has: a
//!   snapshot, as old as the newest change it includes, that overwrites. The
//!   other region sees the changes in the other order, which is why only one of
//!   the two finds the conflict.
//! - Before changes are applied the own journal is read to its end, with the
//!   keys watched: changes that the datastore has executed are known then. One
//!   that comes up later was executed later. If it is older than what was
//!   applied, clocks are wrong, and its key is told to all.
//! - A change of the own region that is in the journal and not settled may be
//!   executed before or after what is applied: once it is settled an overwrite
//!   is applied again, and other changes' keys are told.
//! - Changes of the own region that overlap are in the journal in another order
//!   than the datastore executed them, perhaps: their key is told when they are
//!   settled. So are keys of changes that were rejected or left unknown after
//!   others may have applied them.
//! - Where own changes may be executed before they are journaled, those that come
//!   up of keys that something was applied to since are made again, or their keys
//!   told.
//! - Where own clients change keys so often that no transaction gets through,
//!   these are changed unwatched and told; what own clients overwrote in the gap
//!   is applied again.
//! - A snapshot says which changes of other regions it includes. Those it does
//!   not include are applied after it, though they be older: counters add up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use smallvec::SmallVec;

use super::keys::{KeyId, KeyMap, KeyState, Unsettled, commutes};
use super::policy::Policy;
use super::version::{OWN, Partition, Place, RegionId, Version};
use super::writers::Writers;
use crate::journal::Offset;
use crate::mutation::operation::Kind;
use crate::mutation::v1;

mod ahead;
mod decide;
mod due;
mod filling;
mod floor;
mod flush;
mod fresh;
mod own;
mod policed;
mod races;
mod repeat;
mod snapshot;
#[cfg(test)]
mod tests;

pub use super::included::Included;
pub use decide::{Body, Change, Command, Decision};
pub use repeat::Recent;

/// How long after a connection to the datastore was lost it may still execute
/// what it had been sent.
const UNKNOWN_DELAY: Duration = Duration::from_millis(1000);

/// A key is told at most this often.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(50);

/// And this often one that had to be told again and again: more often than a
/// snapshot gets around it would be for nothing.
const SNAPSHOT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Readings of a key that changes meanwhile before it is told as it is.
const READINGS_MAX: u32 = 10;

/// Changes to a counter that are remembered, for a snapshot that does not
/// include them. Of more the older half is forgotten.
const COUNTED_MAX: usize = 1 << 16;

/// Why a key's value is told to all regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Changes of several regions that do not commute.
    Conflict,
    /// Changes within the region whose order is not known.
    Overlap,
    /// A change that the journal holds was refused.
    Rejected,
    /// What a change did is not known.
    Unresolved,
    /// The writer of a change died.
    DeadWriter,
    /// A clock was behind what was applied.
    Skew,
    /// It was asked for.
    Bootstrap,
}

impl Reason {
    /// All, with the names they have in metrics.
    pub const ALL: [(Reason, &'static str); 7] = [
        (Reason::Conflict, "conflict"),
        (Reason::Overlap, "overlap"),
        (Reason::Rejected, "rejected"),
        (Reason::Unresolved, "unresolved"),
        (Reason::DeadWriter, "dead_writer"),
        (Reason::Skew, "skew"),
        (Reason::Bootstrap, "bootstrap"),
    ];
}

/// The last snapshot of a key that this region has told.
#[derive(Debug, Clone, Default)]
struct Told {
    version: Version,
    /// What the value included.
    included: Included,
    /// When, and for how long nothing more is told of it; nothing if it was before
    /// this replicator led.
    at: Duration,
    pause: Duration,
}

/// A key whose value is to be told.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its database.
    pub database: u32,
    /// Its name.
    pub key: Bytes,
    /// Not before.
    pub at: Duration,
    /// Why.
    pub reason: Reason,
    /// What has to be in its value for it to be told: places in journals. Not
    /// known where something else is the cause.
    causes: Option<SmallVec<[Place; 2]>>,
    /// How often it was read in vain: it changed meanwhile.
    readings: u32,
}

/// An overwrite that is applied again when the own region's changes that were
/// under way at its time are settled.
#[derive(Debug, Clone)]
pub struct Again {
    /// How old it is.
    pub version: Version,
    /// Its command.
    pub command: Command,
    /// Its key.
    pub key: Bytes,
    /// Not before.
    pub at: Duration,
}

/// Keys that commands of the own region have changed together with one.
#[derive(Debug, Clone, Default)]
struct Companions {
    keys: Vec<(u32, Bytes)>,
    /// How old the newest of those commands is.
    newest: Version,
}

/// A change to a counter.
#[derive(Debug, Clone, Copy)]
struct Counted {
    place: Place,
    version: Version,
    delta: i64,
}

/// What is known of an element.
#[derive(Debug, Clone, Copy, Default)]
struct Element {
    /// When it was last overwritten.
    overwritten: Version,
    /// When it was last added to.
    counted: Version,
}

/// What was known before the changes of a transaction.
#[derive(Default)]
struct Undo {
    keys: KeyMap<KeyState>,
    elements: KeyMap<Element>,
    included: KeyMap<Option<Included>>,
    flushed: Option<HashMap<u32, Version>>,
    /// The counters that were added to, once for each time.
    counted: Vec<KeyId>,
    /// The keys a change was remembered of, likewise.
    remembered: Vec<KeyId>,
}

/// How the state of one namespace, or of one partition of it, comes about.
pub struct Engine {
    pub(super) table: Arc<ArcSwap<super::Table>>,
    pub(super) store: v1::Store,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) keys: KeyMap<KeyState>,
    elements: KeyMap<Element>,
    counters: KeyMap<Vec<Counted>>,
    included: KeyMap<Included>,
    /// What this region has told of keys.
    told: KeyMap<Told>,
    /// Keys that the own region's commands have changed together with one: what
    /// is wrong with it is wrong with them.
    companions: KeyMap<Companions>,
    /// Where other regions' data is being copied to this one.
    filling: filling::Filling,
    /// Changes that are older are forgotten.
    horizon: u64,
    undo: Option<Undo>,
    /// An empty one, with room.
    spare: Undo,
    /// When each database was last emptied.
    flushed: HashMap<u32, Version>,
    /// What empties one and is under way in the own region.
    flushing: Vec<Unsettled>,
    /// What has emptied one before this engine knew of it: of keys that have outlived
    /// it is not known whether they were told.
    pub(super) flushed_again: HashMap<Option<u32>, Version>,
    pub(super) writers: Writers,
    pub(super) due: KeyMap<Due>,
    /// Those that could be told when they were last looked at.
    ready: VecDeque<KeyId>,
    /// When they are looked at again.
    look_at: Duration,
    pub(super) again: KeyMap<Again>,
    /// Likewise.
    look_again_at: Duration,
    /// How many regions there are.
    pub(super) regions: usize,
    /// Their names; the own one is the first.
    pub(super) names: Vec<String>,
    /// Of each region that says so, how far it has applied each other one.
    pub(super) progress: HashMap<(RegionId, Partition), Offset>,
    /// Since some moment; given with each call that needs it.
    pub(super) now: Duration,
    /// Keys that were changed by what was applied last.
    fresh: fresh::Fresh,
    /// Keys that make transactions fail.
    races: races::Races,
    /// Where own changes are executed before they are journaled.
    ahead: Option<ahead::Ahead>,
    /// What is read of the own journals is read too late for what was applied.
    pub(super) is_late: bool,
    /// What is decided was applied before.
    is_repeated: bool,
    /// How much was applied before of partitions that can't be read again.
    unread: Vec<(Partition, Offset)>,
    /// A part of the own journal can't be read: what own clients have done, and is not
    /// known, must not be overwritten.
    pub(super) is_inexact: bool,
    /// What tests leave out, to see that they find it missing.
    #[doc(hidden)]
    pub sabotage: Sabotage,
    /// Who tells keys' values, and the clock since when nobody else should.
    pub(super) teller: (u64, u64),
    /// The own datastore was emptied by a client, checkpoints and all.
    pub(super) own_flushed: bool,
}

/// A rule that is left out: tests show that they notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[doc(hidden)]
pub enum Sabotage {
    /// None.
    #[default]
    Nothing,
    /// Older changes are applied over newer ones.
    NoVersions,
    /// Of two that are as new as each other the one that comes last stays.
    NoTies,
    /// Copies of a record are applied again.
    NoDedupe,
    /// Conflicts are not told.
    NoSnapshots,
    /// What was counted and then refused is not counted back.
    NoRefusals,
    /// Values are told, and changes applied, while a part of the own journal can't be
    /// read.
    Inexact,
}

impl Engine {
    /// One that knows nothing.
    pub fn new(table: Arc<ArcSwap<super::Table>>, store: v1::Store, names: Vec<String>) -> Engine {
        Engine {
            table,
            store,
            policy: Arc::default(),
            keys: KeyMap::default(),
            elements: KeyMap::default(),
            counters: KeyMap::default(),
            included: KeyMap::default(),
            told: KeyMap::default(),
            companions: KeyMap::default(),
            filling: Default::default(),
            horizon: 0,
            undo: None,
            spare: Undo::default(),
            flushed: HashMap::new(),
            flushing: Vec::new(),
            flushed_again: HashMap::new(),
            writers: Writers::default(),
            due: KeyMap::default(),
            ready: VecDeque::new(),
            look_at: Duration::ZERO,
            again: KeyMap::default(),
            look_again_at: Duration::ZERO,
            regions: names.len(),
            names,
            progress: HashMap::new(),
            now: Duration::ZERO,
            fresh: fresh::Fresh::default(),
            races: races::Races::default(),
            ahead: None,
            is_late: false,
            is_repeated: false,
            unread: Vec::new(),
            is_inexact: false,
            sabotage: Sabotage::default(),
            teller: (0, u64::MAX),
            own_flushed: false,
        }
    }

    /// Begins a transaction: what is decided from now on can be taken back.
    pub fn begin(&mut self) {
        self.undo = Some(std::mem::take(&mut self.spare));
    }

    /// What was decided is done.
    pub fn commit(&mut self) {
        let Some(mut undo) = self.undo.take() else {
            return;
        };
        undo.keys.clear();
        undo.elements.clear();
        undo.included.clear();
        undo.flushed = None;
        undo.counted.clear();
        undo.remembered.clear();
        self.spare = undo;
    }

    /// What was decided was not done.
    pub fn rollback(&mut self) {
        let Some(undo) = self.undo.take() else {
            return;
        };
        self.keys.extend(undo.keys);
        self.elements.extend(undo.elements);
        for (id, included) in undo.included {
            match included {
                Some(included) => drop(self.included.insert(id, included)),
                None => drop(self.included.remove(&id)),
            }
        }
        if let Some(flushed) = undo.flushed {
            self.flushed = flushed;
        }
        for id in undo.counted {
            self.counters.get_mut(&id).and_then(Vec::pop);
        }
        self.filling.take_back(undo.remembered);
    }

    fn key(&mut self, id: KeyId) -> &mut KeyState {
        let state = self.keys.entry(id).or_default();
        if let Some(undo) = &mut self.undo {
            undo.keys.entry(id).or_insert_with(|| state.clone());
        }
        state
    }

    fn element(&mut self, id: KeyId) -> &mut Element {
        let element = self.elements.entry(id).or_default();
        if let Some(undo) = &mut self.undo {
            undo.elements.entry(id).or_insert(*element);
        }
        element
    }

    fn set_included(&mut self, id: KeyId, included: Option<Included>) {
        let before = match included {
            Some(included) => self.included.insert(id, included),
            None => self.included.remove(&id),
        };
        if let Some(undo) = &mut self.undo {
            undo.included.entry(id).or_insert(before);
        }
    }

    /// Notes that a region has applied another's journal up to an offset; which
    /// partition that is, if its region is known.
    pub(super) fn note_progress(
        &mut self,
        region: RegionId,
        of: &str,
        partition: u32,
        offset: Offset,
    ) -> Option<Partition> {
        let at = self.names.iter().position(|name| name == of)?;
        let partition = Partition {
            region: RegionId(at as u8),
            number: partition,
        };
        let known = self.progress.entry((region, partition)).or_insert(0);
        *known = offset.max(*known);
        Some(partition)
    }

    /// Whether a region has said how far it is.
    pub(super) fn has_told_progress(&self, region: RegionId) -> bool {
        self.progress.keys().any(|(one, _)| *one == region)
    }

    /// How far a region has applied a partition, as far as it has said so.
    pub(super) fn progress_of(&self, region: RegionId, partition: Partition) -> Offset {
        let known = self.progress.get(&(region, partition));
        known.copied().unwrap_or(0)
    }

    /// Treats the changes of writers that have not been heard of as settled.
    pub(super) fn bury(&mut self, silence: Duration) {
        for (writer, open) in self.writers.bury(self.now, silence) {
            self.unresolved(writer, &open, Reason::DeadWriter, Duration::ZERO);
        }
    }

    /// Forgets what is older than all that can still come: changes before `hlc`.
    pub(super) fn forget(&mut self, hlc: u64) {
        self.forget_before(hlc);
        self.forget_touched();
        let (due, again) = (&self.due, &self.again);
        self.keys.retain(|id, state| {
            if !self.writers.any_unsettled(&state.unsettled) {
                state.forget_past();
            }
            hlc <= state.newest().hlc.max(state.overwritten.snapshot)
                || state.is_read
                || self.writers.any_unsettled(&state.unsettled)
                || due.contains_key(id)
                || again.contains_key(id)
        });
        self.elements
            .retain(|_, one| hlc <= one.overwritten.max(one.counted).hlc);
        let keys = &self.keys;
        self.included.retain(|id, _| keys.contains_key(id));
        self.told.retain(|id, _| keys.contains_key(id));
        self.companions.retain(|id, _| keys.contains_key(id));
        self.counters.retain(|id, counted| {
            counted.retain(|one| hlc <= one.version.hlc);
            !counted.is_empty() && keys.contains_key(id)
        });
    }

    fn unsettle(&mut self, id: KeyId, mut unsettled: Unsettled) -> bool {
        let Engine { keys, writers, .. } = self;
        let state = keys.entry(id).or_default();
        state.unsettled.retain(|one| !writers.was_settled(one));
        let others = state.unsettled.iter().filter(|other| !other.waits);
        let overlaps = others.into_iter().any(|other| {
            // One writer's are executed in the order of the journal, down one link;
            // but others apply an intent where its outcome is: after what comes
            // between.
            let is_in_order = other.writer == unsettled.writer
                && other.link == unsettled.link
                && (unsettled.is_intent || !other.is_intent);
            !is_in_order
                && !(commutes(unsettled.kind, other.kind as u8)
                    && (other.element != unsettled.element
                        || other.kind == Kind::Counter
                        || other.kind == Kind::Register))
        });
        unsettled.is_touched = overlaps;
        state.unsettled.push(unsettled);
        overlaps && !unsettled.waits
    }

    /// Whether another region may not have what is at a place.
    fn is_unstable(&self, place: Place) -> bool {
        let is_behind = |region: RegionId| {
            let known = self.progress.get(&(region, place.partition));
            known.is_none_or(|through| *through <= place.offset)
        };
        (0..self.regions as u8)
            .map(RegionId)
            .filter(|region| ![OWN, place.partition.region].contains(region))
            .any(is_behind)
    }
}

/// Keys that this program keeps in the datastore for itself.
pub fn is_own_key(key: &[u8]) -> bool {
    key.starts_with(super::OWN_KEYS)
}
