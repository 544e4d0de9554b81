//! The model as tables and lines, with what is worth a look marked.

mod replication;
mod sidecars;

pub(super) use replication::sources;
pub(super) use sidecars::sidecars;

use super::model::sidecar::ProcessState;
use super::model::{Counted, Model};
use super::numbers::{UNKNOWN, count, rate};
use super::table::{Cell, Column, Line, Tone};

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
