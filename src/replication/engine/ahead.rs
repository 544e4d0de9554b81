//! Where the own datastore may be ahead of the own journal: clients are answered before
//! Kafka has their changes, with a spool, or changes are forwarded without waiting for
//! the journal.
//!
//! Reading the own journal to its end then does not tell all that was executed. So it is
//! remembered when keys were changed by what was applied, and when their values were read
//! to be told. A change of the own region that comes up later, and is not newer than that,
//! was perhaps executed before: what it overwrites is overwritten with it again, and other
//! keys are told once more.

use std::collections::HashMap;

use bytes::Bytes;

use super::super::keys::{KeyId, KeyMap, commutes};
use super::super::version::{Place, Version};
use super::own::CLOCKS_DIFFER_MS;
use super::{Engine, Reason};
use crate::mutation::clock::milliseconds;
use crate::mutation::operation::{Kind, Operation, Operations};

/// What was touched is remembered for so long: what is in a spool may be as old.
const REMEMBERED_MS: u64 = 15 * 60 * 1000;

/// Keys and elements that are remembered; of more the older half is forgotten.
const TOUCHED_MAX: usize = 1 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct Ahead {
    /// Milliseconds since the Unix epoch when the engine's time was zero.
    started_ms: u64,
    touched: KeyMap<Touched>,
    /// When databases were emptied, all of them where none is named.
    flushed: HashMap<Option<u32>, u64>,
}

/// When a key, or an element of it, was touched, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default)]
struct Touched {
    applied_ms: u64,
    /// The kinds of what was applied, as bits.
    kinds: u8,
    /// When something of this region was made again.
    again_ms: u64,
    told_ms: u64,
}

impl Touched {
    fn at(&self) -> u64 {
        self.applied_ms.max(self.told_ms).max(self.again_ms)
    }
}

impl Engine {
    /// From now on own changes may be executed before they are journaled. `started_ms` is
    /// milliseconds since the Unix epoch when the engine's time was zero.
    pub(in super::super) fn is_ahead_of_journal(&mut self, started_ms: u64) {
        self.ahead = Some(Ahead {
            started_ms,
            touched: KeyMap::default(),
            flushed: HashMap::new(),
        });
    }

    fn touch(&mut self, id: KeyId, note: impl FnOnce(&mut Touched, u64)) {
        let Some(ahead) = &mut self.ahead else {
            return;
        };
        let now_ms = ahead.started_ms + self.now.as_millis() as u64;
        if TOUCHED_MAX <= ahead.touched.len() {
            let mut times: Vec<u64> = ahead.touched.values().map(Touched::at).collect();
            let middle = times.len() / 2;
            let (_, &mut median, _) = times.select_nth_unstable(middle);
            ahead.touched.retain(|_, one| median < one.at());
        }
        note(ahead.touched.entry(id).or_default(), now_ms);
    }

    /// A key is about to be changed by something that is applied.
    pub(super) fn touch_applied(&mut self, id: KeyId, operation: Option<&Operation<'_>>) {
        if self.ahead.is_none() {
            return;
        }
        // A value is nothing that anything commutes with.
        let kind = operation.map_or(Kind::Ordered, |one| one.kind) as u8;
        let note = |touched: &mut Touched, now_ms| {
            touched.applied_ms = now_ms;
            touched.kinds |= kind;
        };
        self.touch(id, note);
        if let Some(operation) = operation
            && matches!(operation.kind, Kind::Element | Kind::ElementCounter)
        {
            self.touch(id.element(operation.element), note);
        }
    }

    /// What was perhaps overwritten is made again: by the clock of who does it.
    pub(super) fn touch_again(&mut self, id: KeyId) {
        self.touch(id, |touched, now_ms| touched.again_ms = now_ms);
    }

    /// A database is emptied.
    pub(super) fn touch_flushed(&mut self, which: Option<u32>) {
        let now = self.now;
        if let Some(ahead) = &mut self.ahead {
            let now_ms = ahead.started_ms + now.as_millis() as u64;
            ahead.flushed.insert(which, now_ms);
        }
    }

    /// A key's value was read, at most now.
    pub(in super::super) fn touch_told(&mut self, database: u32, key: &[u8]) {
        if self.ahead.is_some() {
            let id = KeyId::of(database, key);
            self.touch(id, |touched, now_ms| touched.told_ms = now_ms);
        }
    }

    /// Does what is due for a change of the own region that comes up late.
    pub(super) fn notice_ahead(
        &mut self,
        place: Place,
        database: u32,
        version: Version,
        arguments: &[Bytes],
        operations: &Operations<'_>,
    ) {
        let Some(ahead) = &self.ahead else {
            return;
        };
        let made = milliseconds(version.hlc);
        let flushes = [None, Some(database)].map(|which| ahead.flushed.get(&which));
        let flushed_ms = flushes.into_iter().flatten().max();
        let is_flushed = flushed_ms.is_some_and(|at| made <= at + CLOCKS_DIFFER_MS)
            && self.flushed(database) < version;
        if ahead.touched.is_empty() && !is_flushed {
            return;
        }
        let mut again = Vec::new();
        let mut told = Vec::new();
        for (index, operation) in operations.all.iter().enumerate() {
            let id = KeyId::of(database, operation.key);
            let key = ahead.touched.get(&id).copied().unwrap_or_default();
            let kind = operation.kind;
            let is_before =
                |one: &Touched| one.kinds != 0 && made <= one.applied_ms + CLOCKS_DIFFER_MS;
            let is_again = made <= key.again_ms || is_flushed;
            let of_element = || ahead.touched.get(&id.element(operation.element));
            let is_crossed = is_again
                || is_before(&key) && !commutes(kind, key.kinds)
                || matches!(kind, Kind::Element | Kind::ElementCounter)
                    && of_element().is_some_and(|one| {
                        let both_count = Kind::ElementCounter as u8;
                        is_before(one) && (kind as u8 | one.kinds) != both_count
                    });
            let is_told = made <= key.told_ms;
            if kind == Kind::Overwrite && (is_before(&key) || is_again || is_told) {
                // What was told is perhaps something older that who led before has applied.
                again.push(index);
            } else if is_crossed || is_told && kind != Kind::Element {
                told.push(index);
            }
        }
        for index in again {
            self.overwrite_again(
                version,
                (database, arguments),
                (operations, index),
                self.now,
            );
        }
        for index in told {
            let key = super::decide::slice_of(arguments, operations.all[index].key);
            let (reason, delay) = (Reason::Overlap, Default::default());
            self.tell(database, &key, reason, delay, Some(place));
        }
    }

    /// Forgets what was touched so long ago that nothing older comes up any more.
    pub(super) fn forget_touched(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            let now_ms = ahead.started_ms + self.now.as_millis() as u64;
            let oldest = now_ms.saturating_sub(REMEMBERED_MS);
            ahead.touched.retain(|_, one| oldest <= one.at());
            ahead.flushed.retain(|_, at| oldest <= *at);
        }
    }
}
