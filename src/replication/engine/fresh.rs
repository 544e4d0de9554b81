//! Keys that were changed by what was applied last.
//!
//! A command that comes to nothing (DEL of a key that is not there, SADD of a
//! member that is) does not fail a transaction that watches its key. One that the
//! own journal did not have yet when it was read to its end may so have been
//! executed before what was applied then, and nobody saw. Where such a one comes
//! up of a key that was changed, the key is told. What is journaled after that
//! end is known the next time the journal is read to its end.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use bytes::Bytes;

use super::super::keys::{KeyId, PartOfId};
use super::{Engine, Reason};

/// Commands that change their key whatever it holds, or fail: a transaction that
/// watches the key fails with them.
const ALWAYS_CHANGE: [&str; 14] = [
    "SET", "MSET", "SETEX", "PSETEX", "GETSET", "APPEND", "INCR", "INCRBY", "DECR", "DECRBY",
    "HSET", "HINCRBY", "RPUSH", "LPUSH",
];

/// See the module.
pub(super) type Fresh = HashSet<KeyId, BuildHasherDefault<PartOfId>>;

impl Engine {
    /// The own journals were read to their ends: what comes now was executed later
    /// than what was applied before.
    pub(in super::super) fn is_caught_up(&mut self) {
        self.fresh.clear();
    }

    /// Whether the own journals have to be read to their ends once more.
    pub(in super::super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Has a key told that was changed and then turns out to have had a command
    /// that perhaps found nothing to change.
    pub(super) fn notice_own(&mut self, database: u32, arguments: &[Bytes], key: &Bytes) {
        if self.fresh.is_empty() || !self.fresh.contains(&KeyId::of(database, key)) {
            return;
        }
        let name = arguments.first().map_or(&[][..], |name| &name[..]);
        let mut always = ALWAYS_CHANGE.iter();
        if !always.any(|one| name.eq_ignore_ascii_case(one.as_bytes())) {
            self.tell_surely(database, key, Reason::Overlap);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mutation::v1::{self, outcome::Result, record};
    use crate::replication::engine::{Body, Change};
    use crate::replication::version::{Partition, RegionId, Version};

    fn engine() -> Engine {
        let table = crate::replication::Table::built_in();
        let names = vec!["eu".to_owned(), "us".to_owned()];
        let table = Arc::new(arc_swap::ArcSwap::from_pointee(table));
        Engine::new(table, v1::Store::Redis, names)
    }

    fn commands(text: &str) -> Vec<v1::Command> {
        let arguments = text.split(' ').map(|word| Bytes::from(word.to_owned()));
        vec![v1::Command {
            arguments: arguments.collect(),
        }]
    }

    fn record(sequence: u64, body: record::Body) -> v1::Record {
        v1::Record {
            hlc: (100 + sequence) << 16,
            writer: 7,
            sequence,
            settled_through: sequence - 1,
            body: Some(body),
            ..Default::default()
        }
    }

    fn mutation(text: &str, waits: bool) -> record::Body {
        record::Body::Mutation(v1::Mutation {
            commands: commands(text),
            keys: vec![Bytes::from("k")],
            r#final: !waits,
            waits,
            ..Default::default()
        })
    }

    /// What another region has done to the key, older than all of the own.
    fn apply(engine: &mut Engine, text: &str) {
        let of_us = Partition {
            region: RegionId(1),
            number: 0,
        };
        let decision = engine.decide(&Change {
            place: of_us.at(0),
            version: Version {
                hlc: 50 << 16,
                writer: 9,
                ..Version::default()
            },
            database: 0,
            body: Body::Commands(commands(text)),
        });
        assert_eq!(decision.commands.len(), 1);
    }

    #[test]
    fn what_may_have_found_nothing_before_what_was_applied_has_its_key_told() {
        for (text, is_caught_up, is_told) in [
            ("DEL k", false, true),
            ("DEL k", true, false),
            ("SET k w", false, false),
            ("DEL other", false, false),
        ] {
            let mut engine = engine();
            apply(&mut engine, "SET k v");
            if is_caught_up {
                engine.is_caught_up();
            }
            engine.own(0, 0, &record(1, mutation(text, false)));
            assert_eq!(engine.is_due(0, b"k"), is_told, "{text} {is_caught_up}");
        }
    }

    #[test]
    fn what_waited_has_its_key_told_if_it_was_not_alone_with_it() {
        for (other, is_told) in [(None, false), (Some("own"), true), (Some("us"), true)] {
            let mut engine = engine();
            engine.own(0, 0, &record(1, mutation("BLPOP k 0", true)));
            let state = &engine.keys[&KeyId::of(0, b"k")];
            assert!(!engine.writers.any_unsettled(&state.unsettled));
            match other {
                Some("own") => engine.own(0, 1, &record(2, mutation("LPUSH k v", false))),
                Some(_) => apply(&mut engine, "LPUSH k v"),
                None => {}
            }
            engine.is_caught_up();
            let outcome = v1::Outcome {
                of_sequence: 1,
                waited: true,
                key: Bytes::from("k"),
                result: Some(Result::Effects(v1::Effects {
                    commands: commands("LPOP k"),
                    unknown_keys: Vec::new(),
                })),
            };
            let outcome = record(3, record::Body::Outcome(outcome));
            engine.own(0, 2, &outcome);
            assert_eq!(engine.is_due(0, b"k"), is_told, "{other:?}");
        }
    }
}
