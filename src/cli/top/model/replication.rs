//! What the replicators of a region do with a namespace: several processes may,
//! and one of them leads.

use super::super::rates::Rates;
use super::super::scrape::Reading;
use super::super::watched::Watched;
use super::Counted;
use serde::Serialize;
use std::collections::BTreeMap;

const LEADING: &str = "wal_sidecar_replication_leading";
const SOURCE_UP: &str = "wal_sidecar_replication_source_up";
const SNAPSHOTS: &str = "wal_sidecar_replication_snapshots_total";

/// Of one namespace in one region.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct Replication {
    pub(in super::super) region: String,
    pub(in super::super) namespace: String,
    /// Where the process is that writes to the datastore: one, or none while
    /// another is about to take over or it can't be reached.
    pub(in super::super) leaders: Vec<String>,
    /// Where those are that could.
    pub(in super::super) replicators: Vec<String>,
    /// Dead letters that nobody has decided about.
    pub(in super::super) dead_letters_pending: Option<f64>,
    pub(in super::super) dead_letters: Counted,
    pub(in super::super) races: Counted,
    pub(in super::super) snapshots: BTreeMap<String, Counted>,
    pub(in super::super) sources: Vec<Source>,
}

/// A journal of another region that is applied. What is no counter is as the
/// leader says: it is older where another one does.
#[derive(Debug, Clone, Default, Serialize)]
pub(in super::super) struct Source {
    pub(in super::super) source: String,
    pub(in super::super) up: Option<bool>,
    pub(in super::super) lag_seconds: Option<f64>,
    pub(in super::super) lag_records: Option<f64>,
    pub(in super::super) applied: Counted,
    pub(in super::super) skipped: Counted,
    pub(in super::super) conflicts: Counted,
    pub(in super::super) copies: Counted,
    pub(in super::super) gaps: Counted,
    pub(in super::super) clock_skew_seconds: Option<f64>,
}

impl Replication {
    fn new(region: &str, namespace: &str) -> Replication {
        Replication {
            region: region.to_owned(),
            namespace: namespace.to_owned(),
            leaders: Vec::new(),
            replicators: Vec::new(),
            dead_letters_pending: None,
            dead_letters: Counted::default(),
            races: Counted::default(),
            snapshots: BTreeMap::new(),
            sources: Vec::new(),
        }
    }

    /// The greatest lag of its sources.
    pub(in super::super) fn lag_seconds_max(&self) -> f64 {
        let lags = self.sources.iter().filter_map(|one| one.lag_seconds);
        lags.fold(0.0, f64::max)
    }

    fn source(&mut self, name: &str) -> &mut Source {
        let at = self.sources.iter().position(|one| one.source == name);
        let at = at.unwrap_or_else(|| {
            self.sources.push(Source {
                source: name.to_owned(),
                ..Source::default()
            });
            self.sources.len() - 1
        });
        &mut self.sources[at]
    }

    fn add(&mut self, address: &str, reading: &Reading, rates: &Rates<'_>) {
        let namespace = self.namespace.clone();
        let labels = [("namespace", namespace.as_str())];
        let gauge = |metric: &str| reading.samples.sum(metric, &labels);
        let counter = |metric: &str| Counted::of(rates, metric, &labels);
        self.replicators.push(address.to_owned());
        if gauge(LEADING) == Some(1.0) {
            self.leaders.push(address.to_owned());
            self.dead_letters_pending = gauge("wal_sidecar_replication_dead_letters");
        }
        let dead_letters = counter("wal_sidecar_replication_dead_letters_total");
        self.dead_letters.add(dead_letters);
        self.races
            .add(counter("wal_sidecar_replication_races_total"));
        for reason in reading.samples.label_values(SNAPSHOTS, &labels, "reason") {
            let labels = [("namespace", namespace.as_str()), ("reason", &reason)];
            let counted = Counted::of(rates, SNAPSHOTS, &labels);
            self.snapshots.entry(reason).or_default().add(counted);
        }
    }
}

impl Source {
    fn add(&mut self, namespace: &str, reading: &Reading, rates: &Rates<'_>) {
        let name = self.source.clone();
        let labels = [("namespace", namespace), ("source", name.as_str())];
        let gauge = |metric: &str| reading.samples.sum(metric, &labels);
        for (counted, metric) in [
            (
                &mut self.applied,
                "wal_sidecar_replication_applied_records_total",
            ),
            (
                &mut self.skipped,
                "wal_sidecar_replication_skipped_records_total",
            ),
            (
                &mut self.conflicts,
                "wal_sidecar_replication_conflicts_total",
            ),
            (&mut self.copies, "wal_sidecar_replication_copies_total"),
            (
                &mut self.gaps,
                "wal_sidecar_replication_sequence_gaps_total",
            ),
        ] {
            counted.add(Counted::of(rates, metric, &labels));
        }
        if reading.samples.sum(LEADING, &[("namespace", namespace)]) != Some(1.0) {
            return;
        }
        self.up = gauge(SOURCE_UP).map(|up| up > 0.0);
        // Before the first record was read it is 0, and says nothing.
        let lag = gauge("wal_sidecar_replication_lag_seconds");
        self.lag_seconds = lag.filter(|lag| self.up == Some(true) || *lag > 0.0);
        self.lag_records = gauge("wal_sidecar_replication_lag_records");
        self.clock_skew_seconds = gauge("wal_sidecar_replication_clock_skew_seconds");
    }
}

pub(super) fn replication(
    watched: &[Watched],
    is_shown: impl Fn(&str) -> bool,
) -> Vec<Replication> {
    let mut all: BTreeMap<(String, String), Replication> = BTreeMap::new();
    for one in watched {
        // One that can't be reached has its place still, without numbers.
        let Some(last) = one.last() else { continue };
        let names = last.samples.label_values(LEADING, &[], "namespace");
        for namespace in names.iter().filter(|name| is_shown(name)) {
            let region = &last.config.region;
            let replication = all
                .entry((region.clone(), namespace.clone()))
                .or_insert_with(|| Replication::new(region, namespace));
            let current = one.current();
            if let Some((reading, rates)) = &current {
                replication.add(&one.address, reading, rates);
            }
            let labels = [("namespace", namespace.as_str())];
            for name in last.samples.label_values(SOURCE_UP, &labels, "source") {
                let source = replication.source(&name);
                if let Some((reading, rates)) = &current {
                    source.add(namespace, reading, rates);
                }
            }
        }
    }
    let mut all: Vec<Replication> = all.into_values().collect();
    for one in &mut all {
        one.sources.sort_by(|a, b| a.source.cmp(&b.source));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::super::watched::tests::reading;
    use super::*;
    use std::time::Instant;

    fn said(leading: u32, lag: f64, up: u32, applied: u32) -> String {
        format!(
            "wal_sidecar_replication_leading{{namespace=\"carts\"}} {leading}\n\
             wal_sidecar_replication_dead_letters{{namespace=\"carts\"}} {leading}\n\
             wal_sidecar_replication_races_total{{namespace=\"carts\"}} 3\n\
             wal_sidecar_replication_snapshots_total{{namespace=\"carts\",reason=\"skew\"}} 2\n\
             wal_sidecar_replication_source_up{{namespace=\"carts\",source=\"us\"}} {up}\n\
             wal_sidecar_replication_lag_seconds{{namespace=\"carts\",source=\"us\"}} {lag}\n\
             wal_sidecar_replication_applied_records_total{{namespace=\"carts\",source=\"us\"}} {applied}\n"
        )
    }

    fn of(watched: &[Watched]) -> Replication {
        let mut all = replication(watched, |_| true);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn the_leader_says_how_far_it_is_and_all_count() {
        let start = Instant::now();
        let mut watched = ["a:1", "b:1"].map(|one| Watched::new(one.to_owned()));
        assert!(replication(&watched, |_| true).is_empty());
        watched[0].take(Ok(reading(start, 0, "eu", &said(0, 900.0, 1, 100))));
        watched[1].take(Ok(reading(start, 0, "eu", &said(1, 0.5, 1, 40))));
        watched[1].take(Ok(reading(start, 2, "eu", &said(1, 0.25, 1, 60))));
        let found = of(&watched);
        assert_eq!(
            (found.region.as_str(), &found.namespace[..]),
            ("eu", "carts")
        );
        assert_eq!(found.leaders, ["b:1"]);
        assert_eq!(found.replicators, ["a:1", "b:1"]);
        assert_eq!(found.dead_letters_pending, Some(1.0));
        assert_eq!(found.races.total, Some(6));
        assert_eq!(found.snapshots["skew"].total, Some(4));
        let [source] = &found.sources[..] else {
            panic!("{found:?}");
        };
        assert_eq!((source.lag_seconds, source.up), (Some(0.25), Some(true)));
        assert_eq!(source.applied.total, Some(160));
        assert_eq!(source.applied.per_second, Some(10.0));
        assert!(replication(&watched, |name| name != "carts").is_empty());

        // Without the leader nobody knows how far it is.
        watched[1].take(Err("refused".to_owned()));
        let found = of(&watched);
        assert!(found.leaders.is_empty());
        assert_eq!(found.sources[0].lag_seconds, None);
        assert_eq!(found.sources[0].applied.total, Some(100));
        watched[0].take(Err("refused".to_owned()));
        let found = of(&watched);
        assert!(found.replicators.is_empty());
        assert_eq!(found.sources[0].applied, Counted::default());
    }

    #[test]
    fn a_lag_that_was_never_measured_is_none() {
        let mut watched = [Watched::new("a:1".to_owned())];
        for (lag, up, expected) in [(0.0, 0, None), (7.5, 0, Some(7.5)), (0.0, 1, Some(0.0))] {
            let said = said(1, lag, up, 0);
            watched[0].take(Ok(reading(Instant::now(), 0, "eu", &said)));
            assert_eq!(of(&watched).sources[0].lag_seconds, expected);
        }
    }
}
