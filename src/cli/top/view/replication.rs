//! What is replicated, by the region that applies it.

use super::super::model::replication::{Replication, Source};
use super::super::model::{Counted, Model};
use super::super::numbers::{UNKNOWN, age, count, rate};
use super::super::table::{Cell, Column, Line, Row, Table, Tone};
use super::{known, number, per, text, total};

/// Idle journals carry a heartbeat a second: with less all is well.
const LAG_WARNING_SECONDS: f64 = 5.0;
/// The alert on lag begins here too (k8s/monitoring/rules.yaml).
const LAG_BAD_SECONDS: f64 = 60.0;
/// Clocks kept by NTP are closer than this.
const SKEW_WARNING_SECONDS: f64 = 0.5;

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

/// A heading for each region and namespace, and a row for each of its sources.
pub(in super::super) fn sources(model: &Model, by_lag: bool) -> Table {
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
        ([], _) => Cell::new("  no leader among these", Tone::Warning),
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
    let mut text = format!(
        "  races {}/s, snapshots {}/s",
        per(one.races).text,
        per(snapshots).text
    );
    if !reasons.is_empty() {
        text += &format!(" ({})", reasons.join(", "));
    }
    let total = |counted: Counted| total(counted, Tone::Plain).text;
    text += &format!(
        "; in all: races {}, snapshots {}, dead letters {}",
        total(one.races),
        total(snapshots),
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
