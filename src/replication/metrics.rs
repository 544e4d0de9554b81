//! What a replicator counts.

use metrics::{Counter, Gauge, counter, gauge};

use super::engine::Reason;

/// Of one namespace.
pub struct Metrics {
    namespace: String,
    snapshots: Vec<(Reason, Counter)>,
    /// Whether this process is the one that writes: 1, or 0 while it stands by.
    pub leading: Gauge,
    /// Transactions that were given up as a key was changed meanwhile.
    pub races: Counter,
    /// Changes the datastore refused for good.
    pub dead_letters: Counter,
    /// Those of them nobody has decided about.
    pub pending_letters: Gauge,
}

/// Of one source of it.
pub struct SourceMetrics {
    /// Records that were applied, or had nothing to apply.
    pub applied: Counter,
    /// Changes that were older than what there was.
    pub skipped: Counter,
    /// Changes that another region's were preferred to.
    pub conflicts: Counter,
    /// Copies that were left out.
    pub copies: Counter,
    /// Records that were acknowledged and are not there.
    pub gaps: Counter,
    /// How old the oldest record is that is not applied, in seconds, or the last one that
    /// is; also while it can't be read.
    pub lag: Gauge,
    /// How many records its journal has that are not applied, as far as is known: not
    /// those of a partition that could not be read since the start.
    pub lag_records: Gauge,
    /// Whether all its partitions can be read.
    pub up: Gauge,
    /// How far its clock is ahead, in seconds.
    pub skew: Gauge,
}

impl Metrics {
    /// Of a namespace.
    pub fn new(namespace: &str) -> Metrics {
        let label = namespace.to_owned();
        let snapshot = |(reason, name): &(Reason, &'static str)| {
            let counter = counter!(
                "wal_sidecar_replication_snapshots_total",
                "namespace" => label.clone(), "reason" => *name
            );
            (*reason, counter)
        };
        Metrics {
            namespace: label.clone(),
            snapshots: Reason::ALL.iter().map(snapshot).collect(),
            leading: gauge!("wal_sidecar_replication_leading", "namespace" => label.clone()),
            races: counter!("wal_sidecar_replication_races_total", "namespace" => label.clone()),
            pending_letters: gauge!(
                "wal_sidecar_replication_dead_letters", "namespace" => label.clone()
            ),
            dead_letters: counter!(
                "wal_sidecar_replication_dead_letters_total", "namespace" => label.clone()
            ),
        }
    }

    /// Counts a snapshot.
    pub fn snapshot(&self, reason: Reason) {
        let known = self.snapshots.iter().find(|(other, _)| *other == reason);
        if let Some((_, counter)) = known {
            counter.increment(1);
        }
    }

    /// Of a source.
    pub fn source(&self, name: &str) -> SourceMetrics {
        let namespace = self.namespace.clone();
        macro_rules! metric {
            ($kind:ident, $name:literal) => {
                $kind!($name, "namespace" => namespace.clone(), "source" => name.to_owned())
            };
        }
        SourceMetrics {
            applied: metric!(counter, "wal_sidecar_replication_applied_records_total"),
            skipped: metric!(counter, "wal_sidecar_replication_skipped_records_total"),
            conflicts: metric!(counter, "wal_sidecar_replication_conflicts_total"),
            copies: metric!(counter, "wal_sidecar_replication_copies_total"),
            gaps: metric!(counter, "wal_sidecar_replication_sequence_gaps_total"),
            lag: metric!(gauge, "wal_sidecar_replication_lag_seconds"),
            lag_records: metric!(gauge, "wal_sidecar_replication_lag_records"),
            up: metric!(gauge, "wal_sidecar_replication_source_up"),
            skew: metric!(gauge, "wal_sidecar_replication_clock_skew_seconds"),
        }
    }
}
