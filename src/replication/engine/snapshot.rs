//! What becomes of a key's value that another region tells.

use bytes::Bytes;

use super::super::keys::KeyId;
use super::super::version::{OWN, Partition, RegionId, Version};
use super::{Change, Command, Decision, Engine, Included, Sabotage};
use crate::mutation::operation::Kind;
use crate::mutation::v1;

impl Engine {
    pub(super) fn decide_snapshot(
        &mut self,
        change: &Change,
        snapshot: &v1::Snapshot,
        decision: &mut Decision,
    ) {
        let database = change.database;
        let id = KeyId::of(database, &snapshot.key);
        let version = change.version;
        if version < self.flushed(database) {
            decision.older += 1;
            return;
        }
        let mut included = self.named(snapshot);
        let exactly = Included::new(included.clone());
        // What is before it in its partition it includes, or is about to be told
        // with again.
        included.push((change.place.partition, change.place.offset + 1));
        let included = Included::new(included);
        if self.was_used(id, version) {
            // Others may have got something else of the key.
            self.conflict(database, &snapshot.key, change);
        }
        // What it has of the key, it has without what was before.
        let is_part = self.may_be_part(id);
        let state = self.keys.entry(id).or_default();
        if version < state.overwritten && self.sabotage != Sabotage::NoVersions {
            decision.older += 1;
            // Its region has perhaps refused what was told here, as that did not
            // include a change that no other region hears of but by this. Only who
            // told what counts now answers: if all did, they would without end.
            let told = self.told.get(&id).map(|told| told.version);
            if told == Some(state.overwritten) {
                self.conflict(database, &snapshot.key, change);
            }
            return;
        }
        let not_counters = !(Kind::Overwrite as u8 | Kind::Counter as u8);
        let mut is_lost = false;
        let mut is_conflict = false;
        let mut is_superseded = false;
        for mark in &state.marks {
            let is_own = mark.place.partition.region == OWN;
            // Its region is still to get what was overwritten here, and has it come
            // on top of the value.
            let uncounted = mark.uncounted.filter(|place| !included.covers(*place));
            is_superseded |= is_own && uncounted.is_some();
            let is_uncovered = mark.kinds & not_counters != 0 && uncounted.is_some();
            is_lost |= is_uncovered && !is_part;
            is_conflict |= is_uncovered && is_own;
        }
        let told_at = state.snapshot.filter(|place| place.partition.region == OWN);
        let in_flight = self.writers.any_unsettled(&state.unsettled);
        if is_lost {
            if is_conflict {
                self.conflict(database, &snapshot.key, change);
            }
            // What came on top of it meanwhile is no reason where it was applied.
            if !self.is_repeated {
                decision.lost.push(snapshot.key.clone());
                return;
            }
        }
        let is_unread = |one: &(Partition, _)| included.through(one.0) < one.1;
        let is_any_unread = self.unread.iter().any(is_unread);
        // Who tells it has heard what was told here, and knows better.
        let is_answer = told_at.is_some_and(|place| included.covers(place));
        if is_any_unread && !is_part && !is_answer && !self.is_repeated {
            // What is here may have more, which is not known.
            self.conflict(database, &snapshot.key, change);
            decision.lost.push(snapshot.key.clone());
            return;
        }
        if in_flight && !self.is_repeated {
            // Whether what is under way would come on top of it is not known.
            decision.waits = true;
            return;
        }
        if is_superseded {
            self.conflict(database, &snapshot.key, change);
        }
        let written = self
            .keys
            .get(&id)
            .map_or(Version::default(), |one| one.written)
            // Which may be in a partition that is behind this one.
            .max(Version::written(snapshot))
            .max(self.flushed(database));
        // Adding nothing makes a key that is not there.
        let added = self.counters.get(&id).and_then(|counted| {
            let missing = counted
                .iter()
                .filter(|one| written < one.version && !exactly.covers(one.place));
            let deltas = missing.map(|one| one.delta);
            deltas.reduce(i64::wrapping_add)
        });
        let again = match is_part {
            true => self.made_again(id, &included),
            false => Vec::new(),
        };
        self.fresh.insert(id);
        self.touch_applied(id, None);
        let state = self.key(id);
        state.overwritten = version.max(state.overwritten);
        state.written = written.max(state.written);
        state.snapshot = Some(change.place);
        self.set_included(id, Some(included));
        decision
            .commands
            .push(self.restore(database, snapshot, change));
        decision.commands.extend(again);
        if let Some(added) = added {
            decision.commands.push(Command {
                database,
                arguments: vec![
                    Bytes::from_static(b"INCRBY"),
                    snapshot.key.clone(),
                    Bytes::from(added.to_string()),
                ],
            });
        }
    }

    /// What a snapshot says that it includes.
    pub(super) fn named(&self, snapshot: &v1::Snapshot) -> Vec<(Partition, u64)> {
        let named = |applied: &v1::Applied| {
            let region = self.names.iter().position(|name| *name == applied.region)?;
            let partition = Partition {
                region: RegionId(region as u8),
                number: applied.partition,
            };
            Some((partition, applied.next_offset))
        };
        snapshot.applied.iter().filter_map(named).collect()
    }

    /// The command that has a key have the value of a snapshot.
    fn restore(&self, database: u32, snapshot: &v1::Snapshot, _change: &Change) -> Command {
        let key = snapshot.key.clone();
        let expires_at = snapshot.expires_at.max(0);
        let arguments = match (self.store, &snapshot.value) {
            (v1::Store::Memcached, None) => vec![Bytes::from_static(b"delete"), key],
            (v1::Store::Memcached, Some(value)) => {
                let flags = value.first_chunk::<4>().copied().unwrap_or_default();
                vec![
                    Bytes::from_static(b"set"),
                    key,
                    Bytes::from(u32::from_be_bytes(flags).to_string()),
                    Bytes::from((expires_at / 1000).to_string()),
                    value.slice(value.len().min(4)..),
                ]
            }
            (_, None) => vec![Bytes::from_static(b"UNLINK"), key],
            (_, Some(value)) => vec![
                Bytes::from_static(b"RESTORE"),
                key,
                Bytes::from(expires_at.to_string()),
                value.clone(),
                Bytes::from_static(b"REPLACE"),
                Bytes::from_static(b"ABSTTL"),
            ],
        };
        Command {
            database,
            arguments,
        }
    }
}
