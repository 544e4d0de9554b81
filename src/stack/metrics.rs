//! What a worker counts: plain cells on the hot path, added to the registry's
//! handles a few times a second.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// A count that has not been added to its metric yet.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    /// What has not been added to the metric yet.
    #[cfg(test)]
    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }

    fn flush(&self, counter: &Counter) {
        counter.increment(self.0.take());
    }
}

/// Upper bounds in microseconds of the buckets times are counted in.
const BOUNDS_US: [u64; 24] = [
    25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10_000,
    20_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 10_000_000,
];

/// Times that have not been added to their metric yet, by bucket.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Cell<u64>; BOUNDS_US.len() + 1],
}

impl Times {
    /// Counts one time.
    pub fn record(&self, time: Duration) {
        let us = time.as_micros() as u64;
        let bucket = &self.buckets[BOUNDS_US.partition_point(|bound| *bound < us)];
        bucket.set(bucket.get() + 1);
    }

    /// Every time counts as its bucket's upper bound: sums are too high by less
    /// than the width of a bucket.
    fn flush(&self, histogram: &Histogram) {
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.take();
            if count > 0 {
                let bound = BOUNDS_US.get(index).unwrap_or(&20_000_000);
                histogram.record_many(*bound as f64 / 1e6, count as usize);
            }
        }
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $name:literal $(, $label:literal = $value:literal)?;)*) => {
        /// What one worker of one namespace counts.
        pub struct Metrics {
            $($(#[$doc])* pub $field: Count,)*
            /// From a batch's arrival to its replies, batches without mutations.
            pub read_times: Times,
            /// The same for batches with mutations.
            pub mutation_times: Times,
            /// Client connections open now.
            pub clients: Cell<i64>,
            handles: Handles,
        }

        struct Handles {
            $($field: Counter,)*
            read_times: Histogram,
            mutation_times: Histogram,
            clients: Gauge,
            clients_told: Cell<i64>,
        }

        impl Metrics {
            /// Looks the handles up; `namespace` is the label of all of them.
            pub fn new(namespace: &str) -> Rc<Metrics> {
                let label = || namespace.to_owned();
                Rc::new(Metrics {
                    $($field: Count::default(),)*
                    read_times: Times::default(),
                    mutation_times: Times::default(),
                    clients: Cell::new(0),
                    handles: Handles {
                        $($field: counter!($name, "namespace" => label() $(, $label => $value)?),)*
                        read_times: histogram!("wal_sidecar_batch_duration_seconds",
                            "namespace" => label(), "class" => "read"),
                        mutation_times: histogram!("wal_sidecar_batch_duration_seconds",
                            "namespace" => label(), "class" => "mutation"),
                        clients: gauge!("wal_sidecar_client_connections", "namespace" => label()),
                        clients_told: Cell::new(0),
                    },
                })
            }

            /// Adds what has been counted to the registry.
            pub fn flush(&self) {
                $(self.$field.flush(&self.handles.$field);)*
                self.read_times.flush(&self.handles.read_times);
                self.mutation_times.flush(&self.handles.mutation_times);
                // Workers share the gauge, so each adds its own change.
                let clients = self.clients.get();
                let change = clients - self.handles.clients_told.replace(clients);
                self.handles.clients.increment(change as f64);
            }
        }
    };
}

metrics! {
    /// Commands that change no data.
    reads: "wal_sidecar_commands_total", "class" = "read";
    /// Commands that may change data.
    mutations: "wal_sidecar_commands_total", "class" = "mutation";
    /// Batches.
    batches: "wal_sidecar_batches_total";
    /// Bytes of batches.
    request_bytes: "wal_sidecar_request_bytes_total";
    /// Bytes of replies.
    reply_bytes: "wal_sidecar_reply_bytes_total";
    /// Mutations in the journal.
    journaled: "wal_sidecar_mutations_journaled_total";
    /// Mutations answered with NOTJOURNALED.
    not_journaled: "wal_sidecar_mutations_not_journaled_total";
    /// Mutations answered with UNCERTAIN.
    uncertain: "wal_sidecar_mutations_uncertain_total";
    /// Mutations forwarded without a record because the journal took none.
    bypassed: "wal_sidecar_mutations_bypassed_total";
    /// Mutations forwarded without a record because of `durability = "off"`.
    unjournaled: "wal_sidecar_mutations_unjournaled_total";
    /// Outcomes that told an effect.
    outcome_effects: "wal_sidecar_outcomes_total", "result" = "effects";
    /// Outcomes of mutations that changed nothing.
    outcome_rejected: "wal_sidecar_outcomes_total", "result" = "rejected";
    /// Outcomes that ask for the keys' values.
    outcome_unknown: "wal_sidecar_outcomes_total", "result" = "unknown";
    /// Batches refused because too much is in flight.
    shed: "wal_sidecar_batches_shed_total";
    /// Batches answered because their time was up.
    expired: "wal_sidecar_batches_expired_total";
    /// Clients accepted.
    accepted: "wal_sidecar_clients_accepted_total";
    /// Clients refused because there are too many.
    refused: "wal_sidecar_clients_refused_total";
    /// Clients closed because they sent what is no command, or did not read.
    closed: "wal_sidecar_clients_closed_total";
    /// Connections to the datastore opened for one client.
    exclusive_links: "wal_sidecar_exclusive_links_total";
}
