//! The processes, each with what its namespaces do.

use super::super::model::Model;
use super::super::model::sidecar::{Namespace, Process, ProcessState, State};
use super::super::numbers::{UNKNOWN, bytes, count, latency, rate};
use super::super::table::{Cell, Column, Row, Table, Tone};
use super::{known, number, per, text};

const SIDECARS: &[Column] = &[
    text("SIDECAR", 0),
    text("STATE", 0),
    text("REGION", 2),
    text("NAMESPACE", 1),
    text("ROLES", 8),
    number("CLIENTS", 3),
    number("READS/s", 2),
    number("WRITES/s", 2),
    number("R p99", 6),
    number("W p99", 3),
    number("JOURNAL/s", 4),
    number("DURABLE p99", 5),
    number("WAITING", 9),
    number("SPOOL", 9),
    number("REFUSED/s", 5),
    number("UNCERTAIN/s", 5),
    number("CPU", 7),
    number("MEMORY", 7),
    text("VERSION", 10),
];

/// A row for each namespace of each process, and what is wrong with it below.
pub(in super::super) fn sidecars(model: &Model) -> Table {
    let mut rows = Vec::new();
    for process in &model.processes {
        if process.namespaces.is_empty() {
            rows.push(Row::Cells(sidecar(process, None)));
        }
        if let Some(error) = &process.error {
            rows.push(note(error, Tone::Bad));
        }
        for namespace in &process.namespaces {
            rows.push(Row::Cells(sidecar(process, Some(namespace))));
            for problem in &namespace.problems {
                let text = format!("{}: {}", problem.part, problem.reason);
                rows.push(note(&text, Tone::Bad));
            }
            if let Some(failed) = failed(namespace) {
                rows.push(note(&failed, Tone::Bad));
            }
        }
    }
    Table {
        title: "Sidecars",
        columns: SIDECARS,
        rows,
    }
}

fn note(text: &str, tone: Tone) -> Row {
    Row::Line(vec![Cell::new(format!("  {text}"), tone)])
}

/// What clients were told meanwhile, or not told; shown whatever the width.
fn failed(namespace: &Namespace) -> Option<String> {
    let parts = [
        ("refused", namespace.not_journaled),
        ("uncertain", namespace.uncertain),
        ("unjournaled", namespace.bypassed),
    ];
    let mut parts: Vec<String> = parts
        .iter()
        .filter_map(|(name, counted)| {
            let per_second = counted.per_second.filter(|rate| *rate > 0.0)?;
            Some(format!("{name} {}/s", rate(per_second)))
        })
        .collect();
    if let Some(shed) = namespace.shed.per_second.filter(|rate| *rate > 0.0) {
        parts.push(format!("too much in flight {}/s", rate(shed)));
    }
    (!parts.is_empty()).then(|| format!("writes {}", parts.join(", ")))
}

fn sidecar(process: &Process, namespace: Option<&Namespace>) -> Vec<Cell> {
    let of = |get: fn(&Namespace) -> Cell| namespace.map_or(Cell::plain(UNKNOWN), get);
    let text = |text: &str| match text {
        "" => Cell::plain(UNKNOWN),
        text => Cell::plain(text),
    };
    vec![
        text(&process.address),
        state(process, namespace),
        text(&process.region),
        of(|one| Cell::plain(&one.name)),
        text(&process.roles.join("+")),
        of(|one| known(one.clients, count, |_| Tone::Plain)),
        of(|one| per(one.reads)),
        of(|one| per(one.mutations)),
        of(|one| known(one.read_p99_seconds, latency, |_| Tone::Plain)),
        of(|one| known(one.mutation_p99_seconds, latency, |_| Tone::Plain)),
        of(|one| known(one.journal_bytes.per_second, bytes, |_| Tone::Plain)),
        of(|one| known(one.durable_p99_seconds, latency, |_| Tone::Plain)),
        of(|one| known(one.waiting_bytes, bytes, |_| Tone::Plain)),
        of(|one| known(one.spool_bytes, bytes, |_| Tone::Plain)),
        of(|one| known(one.not_journaled.per_second, rate, bad_above_zero)),
        of(|one| known(one.uncertain.per_second, rate, bad_above_zero)),
        known(
            process.cpu_cores,
            |cpu| format!("{:.0}%", cpu * 100.0),
            |_| Tone::Plain,
        ),
        known(process.resident_bytes, bytes, |_| Tone::Plain),
        text(process.version.as_deref().unwrap_or_default()),
    ]
}

fn state(process: &Process, namespace: Option<&Namespace>) -> Cell {
    let (name, tone) = match (process.state, namespace.map(|one| one.state)) {
        (ProcessState::Unreachable, _) => ("unreachable", Tone::Bad),
        (ProcessState::Draining, _) => ("draining", Tone::Warning),
        (_, Some(State::NotListening)) => ("starting", Tone::Warning),
        (_, Some(State::DatastoreDown)) => ("no datastore", Tone::Bad),
        (_, Some(State::DiskFull)) => ("disk full", Tone::Bad),
        (_, Some(State::JournalUnavailable)) => ("no journal", Tone::Bad),
        (ProcessState::NotReady, None) => ("not ready", Tone::Bad),
        (_, Some(State::Spooling)) => ("spooling", Tone::Warning),
        // Only clients' changes are accepted or not.
        _ if !process.roles.iter().any(|role| role == "proxy") => ("up", Tone::Good),
        (_, Some(State::Accepting)) => ("accepting", Tone::Good),
        (ProcessState::Up, None) => ("up", Tone::Good),
    };
    Cell::new(name, tone)
}

fn bad_above_zero(value: f64) -> Tone {
    if value > 0.0 { Tone::Bad } else { Tone::Plain }
}
