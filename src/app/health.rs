//! What the admin endpoint tells of the process.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{counter, gauge, histogram};
use tokio::sync::watch;

use super::Orders;
use super::namespace::Namespace;
use crate::admin::Readiness;
use crate::journal::{HistogramSnapshot, JournalState, ServedCounters, SpoolStats};

/// Looks at the parts when it is asked.
pub(super) struct Status {
    namespaces: Vec<Arc<Namespace>>,
    orders: watch::Receiver<Orders>,
    served: Option<ServedCounters>,
    /// What the journals' histograms held when they were last shown.
    shown: Mutex<HashMap<(usize, &'static str), Vec<u64>>>,
}

impl Status {
    pub(super) fn new(
        namespaces: &[Arc<Namespace>],
        orders: watch::Receiver<Orders>,
        served: Option<ServedCounters>,
    ) -> Status {
        Status {
            namespaces: namespaces.to_vec(),
            orders,
            served,
            shown: Mutex::default(),
        }
    }

    /// A full or broken disk makes a process unready only where writes are
    /// refused for it; all checks are shown in any case.
    pub(super) fn readiness(&self) -> Readiness {
        let (mut checks, mut ready) = (Vec::new(), true);
        let mut check = |name: String, result: Result<(), String>, counts: bool| {
            ready &= result.is_ok() || !counts;
            checks.push((name, result));
        };
        if self.orders.borrow().draining {
            check("drain".to_owned(), Err("draining".to_owned()), true);
        }
        for namespace in &self.namespaces {
            let name = &namespace.name;
            let listening = match namespace.listening.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("not listening yet".to_owned()),
            };
            check(format!("{name}/listener"), listening, true);
            check(format!("{name}/datastore"), namespace.datastore.get(), true);
            let journal = match namespace.journal.state() {
                JournalState::Accepting => Ok(()),
                JournalState::DiskFull => Err("the disk is full".to_owned()),
                JournalState::Unavailable(reason) => Err(reason),
                JournalState::Poisoned(reason) => Err(format!("{reason}; restart")),
            };
            let refuses = namespace.policy.load().refuses();
            check(format!("{name}/journal"), journal, refuses);
        }
        Readiness { ready, checks }
    }

    pub(super) fn config(&self) -> String {
        self.orders.borrow().config.to_redacted_json()
    }

    /// Brings the metrics that are read off the journals up to date.
    pub(super) fn record(&self) {
        for (index, namespace) in self.namespaces.iter().enumerate() {
            self.record_journal(index, namespace);
            let is_up = f64::from(u8::from(namespace.datastore.get().is_ok()));
            gauge!("wal_sidecar_datastore_up", "namespace" => namespace.name.clone()).set(is_up);
        }
        if let Some(served) = &self.served {
            record_served(served);
        }
    }

    fn record_journal(&self, index: usize, namespace: &Namespace) {
        let stats = namespace.journal.stats();
        let label = || namespace.name.clone();
        let accepting = namespace.journal.state() == JournalState::Accepting;
        for (name, value) in [
            ("wal_sidecar_journal_records_total", stats.records),
            ("wal_sidecar_journal_bytes_total", stats.bytes),
            (
                "wal_sidecar_journal_failed_records_total",
                stats.failed_records,
            ),
            ("wal_sidecar_journal_fsyncs_total", stats.fsyncs),
            (
                "wal_sidecar_journal_removed_segments_total",
                stats.removed_segments,
            ),
            (
                "wal_sidecar_journal_forced_segments_total",
                stats.forced_segments,
            ),
        ] {
            counter!(name, "namespace" => label()).absolute(value);
        }
        for (name, value) in [
            (
                "wal_sidecar_journal_waiting_bytes",
                stats.waiting_bytes as f64,
            ),
            ("wal_sidecar_journal_segments", stats.segments as f64),
            ("wal_sidecar_journal_disk_bytes", stats.disk_bytes as f64),
            (
                "wal_sidecar_journal_accepting",
                f64::from(u8::from(accepting)),
            ),
            (
                "wal_sidecar_journal_durable_offset",
                namespace
                    .journal
                    .durable_through()
                    .map_or(-1.0, |offset| offset as f64),
            ),
        ] {
            gauge!(name, "namespace" => label()).set(value);
        }
        if let Some(spool) = &stats.spool {
            record_spool(&namespace.name, spool);
        }
        for (name, unit, snapshot) in [
            (
                "wal_sidecar_journal_fsync_seconds",
                1e-6,
                &stats.fsync_micros,
            ),
            (
                "wal_sidecar_journal_group_records",
                1.0,
                &stats.group_records,
            ),
        ] {
            self.record_histogram(index, namespace, name, unit, snapshot);
        }
    }

    /// Adds what is new since the last time, each value as its bucket's bound.
    fn record_histogram(
        &self,
        index: usize,
        namespace: &Namespace,
        name: &'static str,
        unit: f64,
        snapshot: &HistogramSnapshot,
    ) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.entry((index, name)).or_default();
        shown.resize(snapshot.counts.len(), 0);
        let handle = histogram!(name, "namespace" => namespace.name.clone());
        let last = snapshot.bounds.last().map_or(0, |bound| bound * 2);
        for (bucket, (count, shown)) in snapshot.counts.iter().zip(shown).enumerate() {
            let bound = snapshot.bounds.get(bucket).copied().unwrap_or(last);
            let new = (count - *shown) as usize;
            *shown = *count;
            if new > 0 {
                handle.record_many(bound as f64 * unit, new);
            }
        }
    }
}

fn record_served(served: &ServedCounters) {
    for stats in served.stats() {
        let label = || stats.namespace.clone();
        for (name, value) in [
            ("wal_sidecar_journal_served_records_total", stats.records),
            ("wal_sidecar_journal_served_bytes_total", stats.bytes),
        ] {
            counter!(name, "namespace" => label()).absolute(value);
        }
        let readers = stats.readers as f64;
        gauge!("wal_sidecar_journal_served_readers", "namespace" => label()).set(readers);
    }
}

fn record_spool(namespace: &str, spool: &SpoolStats) {
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let age = spool
        .oldest_ms
        .map_or(0.0, |made| now_ms.saturating_sub(made) as f64 / 1000.0);
    for (name, value) in [
        (
            "wal_sidecar_spool_active",
            f64::from(u8::from(spool.active)),
        ),
        ("wal_sidecar_spool_records", spool.records as f64),
        ("wal_sidecar_spool_bytes", spool.bytes as f64),
        ("wal_sidecar_spool_oldest_age_seconds", age),
        (
            "wal_sidecar_spool_disk_left_bytes",
            spool.disk_left_bytes.map_or(f64::NAN, |bytes| bytes as f64),
        ),
    ] {
        gauge!(name, "namespace" => namespace.to_owned()).set(value);
    }
    for (name, value) in [
        (
            "wal_sidecar_spool_shipped_records_total",
            spool.shipped_records,
        ),
        ("wal_sidecar_spool_diversions_total", spool.diversions),
    ] {
        counter!(name, "namespace" => namespace.to_owned()).absolute(value);
    }
}
