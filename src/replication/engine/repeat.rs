//! What a replicator that led before this one has applied.

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::keys::{KeyId, Mark};
use super::super::version::{OWN, Partition};
use super::decide::by_database;
use super::policed::{Fate, expires_at};
use super::{Body, Change, Engine, Reason};
use crate::journal::Offset;
use crate::mutation::operation::Kind;

/// Of which changes that were applied before it is not known whether all was done
/// about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recent {
    /// Of none.
    None,
    /// Of those as new as this clock, where own clients have changed their keys as
    /// lately.
    Since(u64),
    /// Of all whose keys anybody else has changed: others were applied before these
    /// were known.
    All,
}

impl Engine {
    /// Notes a change that was applied before this engine knew of it. What has
    /// come up of its keys since then may be known already. What may not have been
    /// done about it is done: the last overwrite is made again, and keys are told.
    pub fn repeat(&mut self, change: &Change, recent: Recent) {
        self.is_repeated = true;
        let decision = self.decide(change);
        self.is_repeated = false;
        self.done(decision);
        let made = change.version.hlc.max(change.version.snapshot);
        let is_meant = match recent {
            Recent::None => false,
            Recent::Since(recent) => recent <= made,
            Recent::All => true,
        };
        if is_meant {
            self.do_again(change, recent);
            if let Body::Commands(commands) = &change.body {
                for which in self.flushes_in(change.database, commands) {
                    let known = self.flushed_again.entry(which).or_default();
                    *known = change.version.max(*known);
                }
            }
        }
    }

    fn do_again(&mut self, change: &Change, recent: Recent) {
        let is_recent = |mark: &Mark| match recent {
            Recent::None => false,
            Recent::Since(recent) => {
                mark.place.partition.region == OWN && recent <= mark.newest.hlc
            }
            Recent::All => mark.place.partition != change.place.partition,
        };
        let mut keys: SmallVec<[(u32, Bytes); 1]> = SmallVec::new();
        self.each_key(change, |database, key| {
            let state = self.keys.get(&KeyId::of(database, &key));
            if state.is_some_and(|state| state.marks.iter().any(is_recent)) {
                keys.push((database, key));
            }
        });
        if keys.is_empty() {
            return;
        }
        let commands = match &change.body {
            Body::Commands(commands) => &commands[..],
            // One that was told so late is told again whatever came after it.
            Body::Snapshot(_) if recent == Recent::All => &[],
            Body::Snapshot(_) => return,
        };
        for (database, arguments) in by_database(change.database, commands) {
            let operations = self.operations_of(arguments);
            for (index, operation) in operations.all.iter().enumerate() {
                let state = self.keys.get(&KeyId::of(database, operation.key));
                let is_newest = state.is_some_and(|state| state.newest() == change.version);
                let mut among = keys.iter();
                let is_meant = among.any(|(of, key)| *of == database && *key == operation.key);
                let expires = || expires_at(self.store, arguments);
                let key = (database, operation.key);
                let is_kept = || self.fate(key, operation.kind, change, expires) == Fate::Made;
                if operation.kind == Kind::Overwrite && is_newest && is_meant && is_kept() {
                    let of = (&operations, index);
                    self.overwrite_again(change.version, (database, arguments), of, self.now);
                }
            }
        }
        for (database, key) in keys {
            self.tell_surely(database, &key, Reason::Overlap);
        }
    }

    /// Of these partitions so much was applied before, and is not known: they can't
    /// be read. Overwrites are not made again where there are more than before, as
    /// what came after them is not known: their keys are told. Nor where a part of what is
    /// unread was read again: what came after that is not known either.
    pub(in super::super) fn goes_without(
        &mut self,
        unread: Vec<(Partition, Offset)>,
        is_part_known: bool,
    ) {
        let was_unread = |of: &Partition| self.unread.iter().any(|(known, _)| known == of);
        let is_more = unread.iter().any(|(partition, _)| !was_unread(partition));
        self.unread = unread;
        if !is_more && !is_part_known {
            return;
        }
        for again in std::mem::take(&mut self.again).into_values() {
            self.tell_surely(again.command.database, &again.key, Reason::Overlap);
        }
    }
}
