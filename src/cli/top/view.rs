//! The model as tables and lines, with what is worth a look marked.

use super::model::replication::{Replication, Source};
use super::model::sidecar::{Namespace, Process, ProcessState, State};
use super::model::{Counted, Model};
use super::numbers::{UNKNOWN, age, bytes, count, latency, rate};
use super::table::{Cell, Column, Line, Row, Table, Tone};

/// Idle journals carry a heartbeat a second: with less all is well.
const LAG_WARNING_SECONDS: f64 = 5.0;
/// The alert on lag begins here too (k8s/monitoring/rules.yaml).
const LAG_BAD_SECONDS: f64 = 60.0;
/// Clocks kept by NTP are closer than this.
const SKEW_WARNING_SECONDS: f64 = 0.5;

const fn text(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        is_number: false,
        rank,
    }
}

const fn number(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        is_number: true,
        rank,
    }
}

const SOURCES: &[Column] = &[
    text("SOURCE", 0),
    text("UP", 1),
    number("LAG", 1),
    number("BEHIND", 4),
    number("APPLIED/s", 2),
    number("SKIPPED/s", 5),
    number("CONFL/s", 4),
    number("CONFLICTS", 2),
    number("GAPS", 3),
    number("SKEW", 6),
    number("COPIES", 7),
    number("APPLIED", 8),
    number("SKIPPED", 9),
];

const SIDECARS: &[Column] = &[
    text("SIDECAR", 0),
    text("STATE", 0),
    text("REGION", 2),
    text("NAMESPACE", 1),
    text("ROLES", 8),
    number("CLIENTS", 3),
    number("READS/s", 2),
    number("WRITES/s", 2),
    number("READ p99", 6),
    number("WRITE p99", 3),
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

/// What there is to say of all processes, in one line.
pub(super) fn summary(model: &Model) -> Line {
    let number = model.processes.len();
    let noun = if number == 1 { "process" } else { "processes" };
    let mut line = vec![Cell::plain(format!("{number} {noun}: "))];
    for (state, name, tone) in [
        (ProcessState::Up, "up", Tone::Good),
        (ProcessState::NotReady, "not ready", Tone::Bad),
        (ProcessState::Draining, "draining", Tone::Warning),
        (ProcessState::Unreachable, "unreachable", Tone::Bad),
    ] {
        let in_state = model.processes.iter().filter(|one| one.state == state);
        let number = in_state.count();
        if number > 0 {
            if line.len() > 1 {
                line.push(Cell::plain(", "));
            }
            line.push(Cell::new(format!("{number} {name}"), tone));
        }
    }
    let versions = model.processes.iter().filter_map(|one| one.version.clone());
    let mut versions: Vec<String> = versions.collect();
    versions.sort();
    versions.dedup();
    if !versions.is_empty() {
        let versions = format!("  version {}", versions.join(", "));
        line.push(Cell::plain(versions));
    }
    line
}

/// What is replicated, by the region that applies it.
pub(super) fn sources(model: &Model, by_lag: bool) -> Table {
    let mut all: Vec<&Replication> = model.replication.iter().collect();
    if by_lag {
        all.sort_by(|a, b| b.lag_seconds_max().total_cmp(&a.lag_seconds_max()));
    }
    let mut rows = Vec::new();
    for one in all {
        rows.push(Row::Line(heading(one)));
        rows.push(Row::Line(vec![Cell::new(repairs(one), Tone::Dim)]));
        let mut sources: Vec<&Source> = one.sources.iter().collect();
        if by_lag {
            let lag = |source: &Source| source.lag_seconds.unwrap_or(f64::MAX);
            sources.sort_by(|a, b| lag(b).total_cmp(&lag(a)));
        }
        rows.extend(sources.into_iter().map(source));
    }
    if rows.is_empty() {
        let nothing = "none of these processes replicates";
        rows.push(Row::Line(vec![Cell::new(nothing, Tone::Dim)]));
    }
    Table {
        title: "Replication",
        columns: SOURCES,
        rows,
    }
}

fn heading(one: &Replication) -> Line {
    let name = format!("{} / {}", one.region, one.namespace);
    let leader = match (&one.leaders[..], &one.replicators[..]) {
        ([leader], _) => Cell::plain(format!("  led by {leader}")),
        ([], []) => Cell::new("  no replicator can be reached", Tone::Bad),
        ([], _) => Cell::new("  nobody leads", Tone::Warning),
        (several, _) => {
            let several = several.join(" and ");
            Cell::new(format!("  led by {several}"), Tone::Warning)
        }
    };
    let mut line = vec![Cell::new(name, Tone::Strong), leader];
    if let Some(pending) = one.dead_letters_pending.filter(|pending| *pending > 0.0) {
        let letters = format!("  dead letters: {}", count(pending));
        line.push(Cell::new(letters, Tone::Bad));
    }
    line
}

/// Snapshots by reason, and what clients' changes made futile.
fn repairs(one: &Replication) -> String {
    let per_second = |counted: &Counted| counted.per_second.filter(|rate| *rate > 0.0);
    let reasons = one.snapshots.iter().filter_map(|(reason, counted)| {
        let rate = rate(per_second(counted)?);
        Some(format!("{} {rate}", reason.replace('_', " ")))
    });
    let reasons: Vec<String> = reasons.collect();
    let snapshots = one
        .snapshots
        .values()
        .fold(Counted::default(), |mut sum, counted| {
            sum.add(*counted);
            sum
        });
    let mut text = format!("  snapshots {}/s", per(snapshots).text);
    if !reasons.is_empty() {
        text += &format!(" ({})", reasons.join(", "));
    }
    let total = |counted: Counted| total(counted, Tone::Plain).text;
    text += &format!(
        ", {} in all; races {}/s, {} in all; dead letters {} in all",
        total(snapshots),
        per(one.races).text,
        total(one.races),
        total(one.dead_letters),
    );
    text
}

fn source(one: &Source) -> Row {
    let up = match one.up {
        Some(true) => Cell::new("up", Tone::Good),
        Some(false) => Cell::new("down", Tone::Bad),
        None => Cell::plain(UNKNOWN),
    };
    let skew = known(one.clock_skew_seconds, age, |skew| {
        match skew < SKEW_WARNING_SECONDS {
            true => Tone::Plain,
            false => Tone::Warning,
        }
    });
    Row::Cells(vec![
        Cell::plain(format!("  {}", one.source)),
        up,
        known(one.lag_seconds, age, lag_tone),
        known(one.lag_records, count, |_| Tone::Plain),
        per(one.applied),
        per(one.skipped),
        per(one.conflicts),
        total(one.conflicts, Tone::Plain),
        total(one.gaps, Tone::Bad),
        skew,
        total(one.copies, Tone::Plain),
        total(one.applied, Tone::Plain),
        total(one.skipped, Tone::Plain),
    ])
}

fn lag_tone(seconds: f64) -> Tone {
    match seconds {
        seconds if seconds < LAG_WARNING_SECONDS => Tone::Good,
        seconds if seconds < LAG_BAD_SECONDS => Tone::Warning,
        _ => Tone::Bad,
    }
}

/// The processes, each with what its namespaces do.
pub(super) fn sidecars(model: &Model) -> Table {
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

fn known(value: Option<f64>, format: fn(f64) -> String, tone: fn(f64) -> Tone) -> Cell {
    match value.filter(|value| value.is_finite()) {
        Some(value) => Cell::new(format(value), tone(value)),
        None => Cell::plain(UNKNOWN),
    }
}

fn per(counted: Counted) -> Cell {
    known(counted.per_second, rate, |_| Tone::Plain)
}

/// A total, in another tone where there is something.
fn total(counted: Counted, tone: Tone) -> Cell {
    match counted.total {
        Some(0) => Cell::plain("0"),
        Some(total) => Cell::new(count(total as f64), tone),
        None => Cell::plain(UNKNOWN),
    }
}
