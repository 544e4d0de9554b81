//! How old the value of a key is that no change is known of.

use super::Engine;
use crate::mutation::clock::COUNTER_BITS;
use crate::replication::version::Version;

/// Older than any change.
const OLDEST: u64 = 1 << COUNTER_BITS;

impl Engine {
    /// Changes before `hlc` are not known, or not any more: after a start, those
    /// from before the place that journals are read from; later, those that were
    /// forgotten.
    pub(in super::super) fn forget_before(&mut self, hlc: u64) {
        self.horizon = hlc.max(self.horizon);
    }

    /// The version of the value of a key that no change is known of: newer than
    /// all changes from before the horizon, older than all others.
    ///
    /// *Its value includes every change from before the horizon, of any region.*
    /// After a start the horizon is a minute before the least clock of all
    /// checkpoints, and what is before a checkpoint is applied; later it is what
    /// [`Engine::forget`] was given, a minute before what all sources are past.
    /// Own changes are executed before others hear of them.
    ///
    /// *It includes no change from after it*: such a one would be known, as the
    /// journals are read from the horizon on, and only older ones are forgotten.
    ///
    /// So an overwrite that another region finds in a journal that goes back far
    /// does not win over a value that is made of newer ones, and a change that the
    /// value lacks wins over it. Where a source was never heard of the horizon is
    /// the beginning of time; then all journals are read from their beginnings,
    /// and a change that is not known is in none of them.
    ///
    /// Where more keys change than are remembered the horizon may pass what a
    /// source has still to tell: what it tells then of such keys is lost, in all
    /// regions alike. [`Driver`](crate::replication::Driver) does not copy while
    /// that is so.
    pub(in super::super) fn floor(&self) -> Version {
        Version {
            hlc: self.horizon.max(OLDEST),
            ..Version::default()
        }
    }

    /// Where that is.
    pub(in super::super) fn horizon(&self) -> u64 {
        self.horizon
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::mutation::v1;
    use crate::replication::engine::{Body, Change};
    use crate::replication::version::{Partition, RegionId};

    fn engine() -> Engine {
        let table = Arc::new(arc_swap::ArcSwap::from_pointee(
            crate::replication::Table::built_in(),
        ));
        let names = vec!["eu".to_owned(), "us".to_owned()];
        Engine::new(table, v1::Store::Redis, names)
    }

    fn set(hlc: u64) -> Change {
        Change {
            place: Partition {
                region: RegionId(1),
                number: 0,
            }
            .at(0),
            version: Version {
                hlc,
                writer: 7,
                ..Version::default()
            },
            database: 0,
            body: Body::Commands(vec![v1::Command {
                arguments: ["SET", "k", "v"].map(Bytes::from).to_vec(),
            }]),
        }
    }

    #[test]
    fn what_is_forgotten_is_older_than_the_floor_and_what_is_known_is_not() {
        let mut engine = engine();
        assert_eq!(engine.floor().hlc, OLDEST);
        let known = |engine: &Engine| engine.keys.values().next().map(|one| one.newest());
        for (hlc, horizon, remains) in [(5 << 20, 5 << 20, true), (5 << 20, (5 << 20) + 1, false)] {
            engine.decide(&set(hlc));
            engine.forget(horizon);
            assert_eq!(known(&engine).is_some(), remains);
            if let Some(known) = known(&engine) {
                assert!(engine.floor() < known);
            }
        }
        assert!(set(5 << 20).version < engine.floor());
        engine.forget(0);
        assert_eq!(engine.horizon(), (5 << 20) + 1);
    }
}
