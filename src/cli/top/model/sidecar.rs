//! One process, and what each of its namespaces does for clients.

use super::super::rates::Rates;
use super::super::scrape::{Check, Reading};
use super::super::watched::Watched;
use super::Counted;
use serde::Serialize;

/// Which part of the batches a latency is not exceeded by.
const QUANTILE: f64 = 0.99;
/// What a full disk is called by `/readyz`.
const DISK_FULL: &str = "the disk is full";

#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct Process {
    pub(in super::super) address: String,
    pub(in super::super) state: ProcessState,
    /// Why it can't be reached.
    pub(in super::super) error: Option<String>,
    /// Empty until it has answered.
    pub(in super::super) region: String,
    pub(in super::super) roles: Vec<String>,
    pub(in super::super) version: Option<String>,
    /// Of one core: 1 is all of it.
    pub(in super::super) cpu_cores: Option<f64>,
    pub(in super::super) resident_bytes: Option<f64>,
    pub(in super::super) namespaces: Vec<Namespace>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum ProcessState {
    Up,
    NotReady,
    Draining,
    Unreachable,
}

#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct Namespace {
    pub(in super::super) name: String,
    pub(in super::super) state: State,
    /// What `/readyz` says is wrong.
    pub(in super::super) problems: Vec<Problem>,
    pub(in super::super) clients: Option<f64>,
    pub(in super::super) reads: Counted,
    pub(in super::super) mutations: Counted,
    pub(in super::super) read_p99_seconds: Option<f64>,
    pub(in super::super) mutation_p99_seconds: Option<f64>,
    pub(in super::super) journal_bytes: Counted,
    /// How long records take to be durable once they are handed over.
    pub(in super::super) durable_p99_seconds: Option<f64>,
    /// Bytes that wait for the journal.
    pub(in super::super) waiting_bytes: Option<f64>,
    pub(in super::super) not_journaled: Counted,
    pub(in super::super) uncertain: Counted,
    pub(in super::super) bypassed: Counted,
    /// Batches refused because too much was in flight.
    pub(in super::super) shed: Counted,
    /// Bytes that wait to be shipped to Kafka.
    pub(in super::super) spool_bytes: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct Problem {
    /// `listener`, `datastore` or `journal`.
    pub(in super::super) part: String,
    pub(in super::super) reason: String,
}

/// The worst there is, of what a client meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum State {
    Accepting,
    /// Kafka does not take records; the local disk does.
    Spooling,
    DiskFull,
    JournalUnavailable,
    DatastoreDown,
    NotListening,
}

pub(super) fn process(watched: &Watched, is_shown: impl Fn(&str) -> bool) -> Process {
    let config = watched.last().map(|reading| &reading.config);
    let mut process = Process {
        address: watched.address.clone(),
        state: ProcessState::Unreachable,
        error: watched.problem.clone(),
        region: config.map_or_else(String::new, |config| config.region.clone()),
        roles: config.map_or_else(Vec::new, |config| config.roles.clone()),
        version: None,
        cpu_cores: None,
        resident_bytes: None,
        namespaces: Vec::new(),
    };
    let Some((reading, rates)) = watched.current() else {
        let not_yet = || "it has not been asked yet".to_owned();
        process.error = process.error.or_else(|| Some(not_yet()));
        return process;
    };
    let samples = &reading.samples;
    process.state = state(reading);
    process.version = samples
        .label_values("wal_sidecar_build_info", &[], "version")
        .pop();
    process.cpu_cores = rates.per_second("wal_sidecar_process_cpu_seconds_total", &[]);
    process.resident_bytes = samples.sum("wal_sidecar_process_resident_memory_bytes", &[]);
    let names = reading.config.namespaces.iter().map(|one| &one.name);
    process.namespaces = names
        .filter(|name| is_shown(name))
        .map(|name| namespace(name, reading, &rates))
        .collect();
    process
}

fn state(reading: &Reading) -> ProcessState {
    let readiness = &reading.readiness;
    let is_draining = |check: &Check| check.name == "drain" && !check.ok;
    if readiness.checks.iter().any(is_draining) {
        return ProcessState::Draining;
    }
    match readiness.ready {
        true => ProcessState::Up,
        false => ProcessState::NotReady,
    }
}

fn namespace(name: &str, reading: &Reading, rates: &Rates<'_>) -> Namespace {
    let labels = [("namespace", name)];
    let class = |class| [("namespace", name), ("class", class)];
    let (read, mutation) = (class("read"), class("mutation"));
    let gauge = |metric: &str| reading.samples.sum(metric, &labels);
    let counter = |metric: &str| Counted::of(rates, metric, &labels);
    let latency = |class: &[(&str, &str)]| {
        rates.quantile("wal_sidecar_batch_duration_seconds", class, QUANTILE)
    };
    let problems = problems(name, &reading.readiness.checks);
    let is_spooling = gauge("wal_sidecar_spool_active").is_some_and(|active| active > 0.0);
    Namespace {
        name: name.to_owned(),
        state: worst(&problems, is_spooling),
        problems,
        clients: gauge("wal_sidecar_client_connections"),
        reads: Counted::of(rates, "wal_sidecar_commands_total", &read),
        mutations: Counted::of(rates, "wal_sidecar_commands_total", &mutation),
        read_p99_seconds: latency(&read),
        mutation_p99_seconds: latency(&mutation),
        journal_bytes: counter("wal_sidecar_journal_bytes_total"),
        durable_p99_seconds: rates.quantile("wal_sidecar_journal_fsync_seconds", &labels, QUANTILE),
        waiting_bytes: gauge("wal_sidecar_journal_waiting_bytes"),
        not_journaled: counter("wal_sidecar_mutations_not_journaled_total"),
        uncertain: counter("wal_sidecar_mutations_uncertain_total"),
        bypassed: counter("wal_sidecar_mutations_bypassed_total"),
        shed: counter("wal_sidecar_batches_shed_total"),
        spool_bytes: gauge("wal_sidecar_spool_bytes"),
    }
}

/// The checks of a namespace that fail: `sessions/journal` is its journal's.
fn problems(namespace: &str, checks: &[Check]) -> Vec<Problem> {
    let failing = checks.iter().filter(|check| !check.ok);
    failing
        .filter_map(|check| {
            let (of, part) = check.name.rsplit_once('/')?;
            let reason = check.reason.clone().unwrap_or_default();
            let part = part.to_owned();
            (of == namespace).then_some(Problem { part, reason })
        })
        .collect()
}

fn worst(problems: &[Problem], is_spooling: bool) -> State {
    let reason = |wanted: &str| {
        let found = problems.iter().find(|one| one.part == wanted);
        found.map(|one| one.reason.as_str())
    };
    match (reason("listener"), reason("datastore"), reason("journal")) {
        (Some(_), _, _) => State::NotListening,
        (_, Some(_), _) => State::DatastoreDown,
        (_, _, Some(DISK_FULL)) => State::DiskFull,
        (_, _, Some(_)) => State::JournalUnavailable,
        _ if is_spooling => State::Spooling,
        _ => State::Accepting,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::watched::tests::{failing, reading};
    use super::*;
    use std::time::Instant;

    const SAID: &str = "wal_sidecar_build_info{version=\"1.2\"} 1
wal_sidecar_journal_accepting{namespace=\"carts\"} 1
wal_sidecar_client_connections{namespace=\"carts\"} 7
wal_sidecar_commands_total{namespace=\"carts\",class=\"read\"} READS
wal_sidecar_commands_total{namespace=\"carts\",class=\"mutation\"} 10
wal_sidecar_mutations_uncertain_total{namespace=\"carts\"} 4
";

    fn all(_: &str) -> bool {
        true
    }

    #[test]
    fn metrics_become_a_row() {
        let start = Instant::now();
        let mut watched = Watched::new("a:1".to_owned());
        assert_eq!(process(&watched, all).state, ProcessState::Unreachable);
        for (seconds, reads) in [(0, "100"), (2, "150")] {
            let said = SAID.replace("READS", reads);
            watched.take(Ok(reading(start, seconds, "eu", &said)));
        }
        let found = process(&watched, all);
        assert_eq!(found.version.as_deref(), Some("1.2"));
        assert_eq!(
            (found.state, found.region.as_str()),
            (ProcessState::Up, "eu")
        );
        let [namespace] = &found.namespaces[..] else {
            panic!("{found:?}");
        };
        assert_eq!(namespace.clients, Some(7.0));
        assert_eq!(namespace.reads.total, Some(150));
        assert_eq!(namespace.reads.per_second, Some(25.0));
        assert_eq!(namespace.uncertain.per_second, Some(0.0));
        assert_eq!(namespace.not_journaled, Counted::default());
        assert_eq!(namespace.mutation_p99_seconds, None);
        assert!(process(&watched, |_| false).namespaces.is_empty());
        watched.take(Err("refused".to_owned()));
        let found = process(&watched, all);
        assert_eq!(found.error.as_deref(), Some("refused"));
        assert_eq!(found.region, "eu", "it is still known");
        assert!(found.namespaces.is_empty());
    }

    #[test]
    fn states_are_what_clients_meet() {
        let mut said = reading(Instant::now(), 0, "eu", SAID.replace("READS", "1").as_str());
        for (checks, ready, expected) in [
            (vec![], true, (ProcessState::Up, State::Accepting)),
            (
                vec![failing("drain", "draining")],
                false,
                (ProcessState::Draining, State::Accepting),
            ),
            (
                vec![failing("carts/journal", DISK_FULL)],
                false,
                (ProcessState::NotReady, State::DiskFull),
            ),
            (
                vec![failing("carts/journal", "no brokers")],
                true,
                (ProcessState::Up, State::JournalUnavailable),
            ),
            (
                vec![
                    failing("carts/datastore", "refused"),
                    failing("carts/journal", DISK_FULL),
                ],
                false,
                (ProcessState::NotReady, State::DatastoreDown),
            ),
            (
                vec![failing("other/datastore", "refused")],
                false,
                (ProcessState::NotReady, State::Accepting),
            ),
        ] {
            said.readiness.checks = checks;
            said.readiness.ready = ready;
            let mut watched = Watched::new("a:1".to_owned());
            watched.take(Ok(said.clone()));
            let found = process(&watched, all);
            let states = (found.state, found.namespaces[0].state);
            assert_eq!(states, expected, "{:?}", said.readiness.checks);
        }
    }
}
