//! What is known of one process: its last two readings, and what is wrong now.

use super::rates::Rates;
use super::scrape::Reading;

/// When the process began, in seconds since 1970.
const START: &str = "wal_sidecar_process_start_time_seconds";

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) address: String,
    /// Why it did not answer the last time.
    pub(super) problem: Option<String>,
    now: Option<Reading>,
    before: Option<Reading>,
}

impl Watched {
    pub(super) fn new(address: String) -> Watched {
        Watched {
            address,
            problem: None,
            now: None,
            before: None,
        }
    }

    /// Takes up what came of asking it.
    pub(super) fn take(&mut self, answer: Result<Reading, String>) {
        match answer {
            Ok(reading) => {
                self.before = self.now.take();
                // Another process at the same address: its counters are others.
                let start = |reading: &Reading| reading.samples.sum(START, &[]);
                if self.before.as_ref().and_then(start) != start(&reading) {
                    self.before = None;
                }
                self.now = Some(reading);
                self.problem = None;
            }
            // What it said before is kept: where it belongs, and what counters are
            // compared with when it is back.
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Its last answer, also where it has not answered since.
    pub(super) fn last(&self) -> Option<&Reading> {
        self.now.as_ref()
    }

    /// What it says now; none while it can't be reached.
    pub(super) fn current(&self) -> Option<(&Reading, Rates<'_>)> {
        let now = self.now.as_ref().filter(|_| self.problem.is_none())?;
        let before = self.before.as_ref().map(|before| {
            let apart = now.taken.saturating_duration_since(before.taken);
            (&before.samples, apart)
        });
        Some((now, Rates::new(&now.samples, before)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::exposition::Samples;
    use super::super::scrape::{Check, Effective, EffectiveNamespace, Readiness};
    use super::*;
    use std::time::{Duration, Instant};

    /// What a process of region `region` says `seconds` after `start`.
    pub(in super::super) fn reading(
        start: Instant,
        seconds: u64,
        region: &str,
        metrics: &str,
    ) -> Reading {
        let samples = Samples::parse(metrics).expect("they are right");
        let namespaces = samples.label_values("wal_sidecar_journal_accepting", &[], "namespace");
        let namespaces = namespaces
            .into_iter()
            .map(|name| EffectiveNamespace { name });
        Reading {
            taken: start + Duration::from_secs(seconds),
            samples,
            readiness: Readiness {
                ready: true,
                checks: Vec::new(),
            },
            config: Effective {
                region: region.to_owned(),
                roles: vec!["proxy".to_owned(), "replicator".to_owned()],
                namespaces: namespaces.collect(),
            },
        }
    }

    /// A check that fails.
    pub(in super::super) fn failing(name: &str, reason: &str) -> Check {
        Check {
            name: name.to_owned(),
            ok: false,
            reason: Some(reason.to_owned()),
        }
    }

    fn rate(watched: &Watched) -> Option<f64> {
        watched.current()?.1.per_second("a", &[])
    }

    #[test]
    fn rates_survive_outages_and_restarts() {
        let start = Instant::now();
        let mut watched = Watched::new("a:1".to_owned());
        let say = |process: u32, value: u32| format!("{START} {process}\na {value}\n");
        let mut take = |seconds: u64, process: u32, value: u32| {
            let said = reading(start, seconds, "eu", &say(process, value));
            watched.take(Ok(said));
            rate(&watched)
        };
        assert_eq!(take(0, 1, 100), None);
        assert_eq!(take(2, 1, 110), Some(5.0));
        assert_eq!(take(4, 2, 500), None, "another process");
        assert_eq!(take(5, 2, 507), Some(7.0));
        assert_eq!(take(6, 2, 3), None, "whatever made it smaller");
        assert_eq!(take(7, 2, 4), Some(1.0));
        watched.take(Err("gone".to_owned()));
        assert!(watched.current().is_none() && watched.last().is_some());
        watched.take(Ok(reading(start, 11, "eu", &say(2, 12))));
        assert_eq!(rate(&watched), Some(2.0), "over the time it was away");
    }
}
