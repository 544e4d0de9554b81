//! Keys whose values are to be told, and overwrites that are to be made again.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::keys::{KeyId, KeyState};
use super::super::policy::Mode;
use super::super::version::{Place, Version};
use super::decide::slice_of;
use super::{
    Again, Command, Due, Engine, Included, READINGS_MAX, Reason, SNAPSHOT_PAUSE,
    SNAPSHOT_PAUSE_MAX, Sabotage, Told, is_own_key,
};
use crate::mutation::operation::Operations;

/// Few that wait are looked at each time.
const FEW: usize = 10_000;

/// How long a key that waits is not looked at again, for each there is where they
/// are many: looking takes a tenth of the time at most.
const PAUSE_OF_EACH: Duration = Duration::from_nanos(500);

impl Engine {
    /// Has a key told, not before `delay` is over. `cause` is the change that
    /// the value has to include for that; without effect if one that was told
    /// does.
    pub(in super::super) fn tell(
        &mut self,
        database: u32,
        key: &Bytes,
        reason: Reason,
        delay: Duration,
        cause: Option<Place>,
    ) {
        if self.sabotage == Sabotage::NoSnapshots || is_own_key(key) {
            return;
        }
        let id = KeyId::of(database, key);
        let companions = self.companions.remove(&id).unwrap_or_default();
        for (database, companion) in companions.keys {
            self.tell(database, &companion, reason, delay, None);
        }
        if self.policy.load().of(key).mode != Mode::Value {
            return;
        }
        if let Some(cause) = cause
            && self
                .told
                .get(&id)
                .is_some_and(|told| told.included.covers(cause))
        {
            return;
        }
        let at = self.not_before(id, delay);
        let due = self.due.entry(id).or_insert_with(|| Due {
            database,
            key: key.clone(),
            at,
            reason,
            causes: Some(SmallVec::new()),
            readings: 0,
        });
        due.at = due.at.max(self.now + delay);
        if reason == Reason::Bootstrap {
            due.reason = reason;
        }
        match (cause, &mut due.causes) {
            (Some(cause), Some(causes)) => causes.push(cause),
            _ => due.causes = None,
        }
    }

    /// Has a key told whatever was told before.
    pub(in super::super) fn tell_surely(&mut self, database: u32, key: &Bytes, reason: Reason) {
        self.tell(database, key, reason, Duration::ZERO, None);
    }

    /// A value was told by this region: keys that were due for what it includes
    /// are not any more.
    pub(super) fn note_told(&mut self, id: KeyId, version: Version, included: Included) {
        if let Some(due) = self.due.get_mut(&id)
            && let Some(causes) = &mut due.causes
        {
            causes.retain(|cause| !included.covers(*cause));
            if causes.is_empty() {
                self.due.remove(&id);
            }
        }
        let told = self.told.entry(id).or_default();
        told.version = version.max(told.version);
        told.included = included;
    }

    /// When a key may be told, `delay` from now at the earliest. One that has to be
    /// told again and again is told less and less often.
    fn not_before(&self, id: KeyId, delay: Duration) -> Duration {
        let rested = self.told.get(&id).map(|told| told.at + told.pause);
        let soonest = self.now + delay.max(SNAPSHOT_PAUSE);
        soonest.max(rested.unwrap_or_default())
    }

    /// The keys to tell whose time has come and whose changes are settled, so
    /// many at most. They count as being read until [`Engine::told`].
    pub(in super::super) fn take_due(&mut self, count: usize) -> Vec<Due> {
        if self.is_flushing() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while taken.len() < count {
            let Some(id) = self.ready.pop_front() else {
                if !self.look_for_ready() {
                    break;
                }
                continue;
            };
            let is_ready = |due: &Due| self.ready_at(id, due).is_some();
            if self.due.get(&id).is_some_and(is_ready)
                && let Some(due) = self.due.remove(&id)
                && !self.is_held_back(due.database, &due.key)
            {
                self.keys.entry(id).or_default().is_read = true;
                taken.push(due);
            }
        }
        taken
    }

    /// Finds all keys that can be told, those that wait for longest first; false if
    /// there are none. Where there are many that can't it is not done each time.
    fn look_for_ready(&mut self) -> bool {
        if self.now < self.look_at {
            return false;
        }
        let ready = |(id, due): (&KeyId, &Due)| Some((self.ready_at(*id, due)?, *id));
        let mut found: Vec<(Duration, KeyId)> = self.due.iter().filter_map(ready).collect();
        found.sort_unstable();
        self.ready.extend(found.into_iter().map(|(_, id)| id));
        let left = self.due.len() - self.ready.len();
        self.look_at = self.now + pause_after(left);
        !self.ready.is_empty()
    }

    /// When the time of a key had come that can be told.
    fn ready_at(&self, id: KeyId, due: &Due) -> Option<Duration> {
        if self.now < due.at {
            return None;
        }
        let state = self.keys.get(&id);
        let unsettled = state.is_some_and(|state| self.writers.any_unsettled(&state.unsettled));
        let is_part = due.reason != Reason::Bootstrap && self.may_be_part(id);
        let waits = unsettled || self.again.contains_key(&id) || is_part;
        (!waits).then_some(due.at)
    }

    /// Whether there is something to be told, or to be made again.
    pub(in super::super) fn has_to_do(&self) -> bool {
        !self.due.is_empty() || !self.again.is_empty()
    }

    /// Puts back what was taken: it could not be told, and is not before `delay` is
    /// over.
    pub(in super::super) fn put_back(&mut self, due: Due, delay: Duration) {
        let id = KeyId::of(due.database, &due.key);
        self.keys.entry(id).or_default().is_read = false;
        self.told.remove(&id);
        let at = self.not_before(id, delay);
        self.due.entry(id).or_insert(Due { at, ..due });
    }

    /// A key that was taken is not told.
    pub(in super::super) fn leave_out(&mut self, due: &Due) {
        let id = KeyId::of(due.database, &due.key);
        self.keys.entry(id).or_default().is_read = false;
    }

    /// A key whose value was read, unless a change of the own region has come up
    /// since it was taken, which the value may include or not: then it is due
    /// once more.
    pub(in super::super) fn unless_changed(&mut self, mut due: Due) -> Option<Due> {
        let id = KeyId::of(due.database, &due.key);
        let state = self.keys.get(&id);
        let unsettled = state.is_some_and(|state| self.writers.any_unsettled(&state.unsettled));
        // Not so if it was told by somebody else meanwhile.
        let is_read = state.is_some_and(|state| state.is_read);
        let is_unchanged = is_read && !unsettled && !self.due.contains_key(&id);
        if is_unchanged || is_read && READINGS_MAX <= due.readings {
            return Some(due);
        }
        due.readings += 1;
        self.keys.entry(id).or_default().is_read = false;
        match self.due.get_mut(&id) {
            Some(again) => {
                again.readings = due.readings;
                again.reason = due.reason;
                again.causes = due.causes.zip(again.causes.take()).map(|(mut all, more)| {
                    all.extend(more);
                    all
                });
            }
            None => drop(self.due.insert(id, due)),
        }
        None
    }

    /// The version that a key's value has now, told by a record with that clock.
    /// Unknown keys are older than all that can still come: `floor`.
    pub(in super::super) fn told(
        &mut self,
        due: &Due,
        (record_hlc, teller): (u64, u64),
        floor: Version,
        included: Included,
    ) -> Version {
        let id = KeyId::of(due.database, &due.key);
        let flushed = self.flushed(due.database);
        let state = self.keys.entry(id).or_default();
        let newest = match state.newest() {
            known if known == Version::default() => floor,
            known => known,
        };
        let newest = newest.max(flushed);
        let version = Version {
            snapshot: record_hlc,
            teller,
            ..newest
        };
        state.overwritten = version.max(state.overwritten);
        let told = self.told.entry(id).or_default();
        let is_soon = self.now < told.at + told.pause * 4;
        *told = Told {
            version,
            included: included.clone(),
            at: self.now,
            pause: match is_soon {
                true => (told.pause * 2).clamp(SNAPSHOT_PAUSE, SNAPSHOT_PAUSE_MAX),
                false => SNAPSHOT_PAUSE,
            },
        };
        self.included.insert(id, included);
        version
    }

    /// The overwrites to be applied again whose time has come.
    pub(in super::super) fn take_again(&mut self) -> Vec<Again> {
        if self.is_flushing() || self.now < self.look_again_at {
            return Vec::new();
        }
        let now = self.now;
        let is_ready = |(id, again): (&KeyId, &Again)| {
            let state = self.keys.get(id);
            let unsettled = state.is_some_and(|state| self.writers.any_unsettled(&state.unsettled));
            (!unsettled && again.at <= now).then_some(*id)
        };
        let ready: Vec<KeyId> = self.again.iter().filter_map(is_ready).collect();
        let mut taken = Vec::with_capacity(ready.len());
        for id in ready {
            let Some(again) = self.again.remove(&id) else {
                continue;
            };
            let is_flushed = again.version < self.flushed(again.command.database);
            let newest = self.keys.get(&id).map(KeyState::newest);
            if is_flushed {
                // It may have been executed after that.
                let key = again.key.clone();
                self.tell_surely(again.command.database, &key, Reason::Overlap);
            } else if newest == Some(again.version) {
                self.fresh.insert(id);
                self.touch_again(id);
                taken.push(again);
            } else if newest > Some(again.version) {
                // Something came after it: what the datastore has, counts.
                let key = again.key.clone();
                self.tell_surely(again.command.database, &key, Reason::Overlap);
            }
        }
        self.look_again_at = now + pause_after(self.again.len());
        taken
    }

    /// Has one operation of a command, an overwrite, applied again.
    pub(super) fn overwrite_again(
        &mut self,
        version: Version,
        (database, arguments): (u32, &[Bytes]),
        (operations, index): (&Operations<'_>, usize),
        at: Duration,
    ) {
        self.again_later(Again {
            version,
            command: Command {
                database,
                arguments: operations.cut(arguments, |other| other == index),
            },
            key: slice_of(arguments, operations.all[index].key),
            at,
        });
    }

    /// Has an overwrite applied again.
    pub(in super::super) fn again_later(&mut self, again: Again) {
        let id = KeyId::of(again.command.database, &again.key);
        match self.again.get(&id) {
            Some(known) if again.version < known.version => {}
            _ => drop(self.again.insert(id, again)),
        }
    }

    /// Whether nothing came after an overwrite.
    pub(in super::super) fn is_newest(&self, again: &Again) -> bool {
        let id = KeyId::of(again.command.database, &again.key);
        let state = self.keys.get(&id);
        state.is_some_and(|state| {
            state.newest() == again.version && !self.writers.any_unsettled(&state.unsettled)
        })
    }

    /// The newest change of a key that is to be told; of unknown ones `floor`.
    pub(in super::super) fn newest(&self, due: &Due, floor: Version) -> Version {
        let state = self.keys.get(&KeyId::of(due.database, &due.key));
        let newest = match state.map_or(Version::default(), KeyState::newest) {
            known if known == Version::default() => floor,
            known => known,
        };
        newest.max(self.flushed(due.database))
    }

    /// When a key was last overwritten by a change.
    pub(in super::super) fn written(&self, due: &Due) -> Version {
        let state = self.keys.get(&KeyId::of(due.database, &due.key));
        state.map_or(Version::default(), |state| state.written)
    }

    /// What a key's value includes, where it was restored from a snapshot that
    /// includes more than was applied here.
    pub(in super::super) fn merge_included(&self, due: &Due, applied: &Included) -> Included {
        let restored = self.included.get(&KeyId::of(due.database, &due.key));
        restored.map_or_else(|| applied.clone(), |restored| applied.or(restored))
    }

    /// Whether a key is about to be told.
    pub(in super::super) fn is_due(&self, database: u32, key: &[u8]) -> bool {
        self.due.contains_key(&KeyId::of(database, key))
    }
}

fn pause_after(left: usize) -> Duration {
    match left {
        ..FEW => Duration::ZERO,
        _ => PAUSE_OF_EACH * u32::try_from(left).unwrap_or(u32::MAX),
    }
}
