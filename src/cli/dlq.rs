//! `wal-sidecar dlq`: changes of other regions that were not applied.

use super::journal::{letter_json, letter_line};
use super::{BadUsage, directory, load};
use crate::journal::Offset;
use crate::journal::local::inspect::{Step, Walk};
use crate::mutation::v1::Letter;
use crate::replication::letters::{Decision, decide, decisions};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use prost::Message as _;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  wal-sidecar dlq list                       dead letters nobody has decided about
  wal-sidecar dlq show 7
  wal-sidecar dlq retry 7 8                  the running replicator tries them again
  wal-sidecar dlq discard --all
  wal-sidecar dlq list --conflicts --json    what lost conflicts, and its values

They are kept by the process that led when it could not apply a change: ask that one.
They work beside a running replicator, which takes decisions up within seconds while it
leads; one that stands by does when it leads again.";

#[derive(Debug, Args)]
pub(super) struct Place {
    /// The namespace; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the letters there are, the oldest first
    List {
        #[command(flatten)]
        place: Place,
        /// Also those that were discarded or applied
        #[arg(long)]
        all: bool,
        /// Changes that lost a conflict, instead of dead letters
        #[arg(long)]
        conflicts: bool,
    },
    /// Show one letter with its whole record
    Show {
        #[command(flatten)]
        place: Place,
        /// Its number, as `list` shows it
        number: Offset,
        /// One that lost a conflict
        #[arg(long)]
        conflicts: bool,
    },
    /// Have letters applied again
    Retry {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
    /// Give letters up
    Discard {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Their numbers, as `list` shows them
    numbers: Vec<Offset>,
    /// All that nobody has decided about
    #[arg(long)]
    all: bool,
}

/// What is known of a letter.
struct Known {
    number: Offset,
    letter: Letter,
    decision: Option<Decision>,
}

pub(super) fn execute(
    command: &Command,
    file: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::List {
            place,
            all,
            conflicts,
        } => {
            let directory = directory(place, file, *conflicts)?;
            let known = read(&directory)?;
            let is_shown = |one: &&Known| *all || one.decision.is_none_or(|one| !one.is_final());
            let shown: Vec<&Known> = known.iter().filter(is_shown).collect();
            if shown.is_empty() && !place.json {
                say_none(&directory, *conflicts, known.len())?;
            }
            for known in shown {
                print(known, place.json, false, out)?;
            }
        }
        Command::Show {
            place,
            number,
            conflicts,
        } => {
            let directory = directory(place, file, *conflicts)?;
            let found = read(&directory)?
                .into_iter()
                .find(|one| one.number == *number);
            match found {
                Some(known) => print(&known, place.json, true, out)?,
                None => bail!("there is no letter {number} in {}", directory.display()),
            }
        }
        Command::Retry { place, which } => decide_all(place, which, file, Decision::Retry, out)?,
        Command::Discard { place, which } => {
            decide_all(place, which, file, Decision::Discard, out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For people: nothing at all would look like a mistake.
fn say_none(directory: &Path, conflicts: bool, decided: usize) -> std::io::Result<()> {
    let what = match conflicts {
        true => "lost conflicts",
        false => "dead letters",
    };
    let directory_shown = directory.display();
    let mut errors = std::io::stderr();
    match directory.is_dir() {
        false => writeln!(
            errors,
            "no {what}: no replicator has run here, as {directory_shown} does not exist"
        ),
        true if decided > 0 => writeln!(
            errors,
            "no {what} to decide about in {directory_shown}; {decided} decided, see --all"
        ),
        true => writeln!(errors, "no {what} in {directory_shown}"),
    }
}

fn decide_all(
    place: &Place,
    which: &Which,
    file: &Path,
    decision: Decision,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let directory = directory(place, file, false)?;
    let known = read(&directory)?;
    let open: BTreeMap<Offset, bool> = known
        .iter()
        .map(|one| (one.number, one.decision.is_none_or(|one| !one.is_final())))
        .collect();
    for number in &which.numbers {
        match open.get(number) {
            Some(true) => {}
            Some(false) => bail!("letter {number} was discarded or applied already"),
            None => bail!("there is no letter {number} in {}", directory.display()),
        }
    }
    let all = open.iter().filter(|(_, open)| **open);
    let numbers: Vec<Offset> = match which.all {
        true => all.map(|(number, _)| *number).collect(),
        false => which.numbers.clone(),
    };
    for number in &numbers {
        decide(&directory, *number, decision)
            .with_context(|| format!("write to {}", directory.display()))?;
    }
    let verb = match decision {
        Decision::Retry => "to be tried again",
        _ => "discarded",
    };
    match place.json {
        true => writeln!(out, "{}", serde_json::json!({ "decided": numbers }))?,
        false => writeln!(out, "{} {verb}", numbers.len())?,
    }
    Ok(())
}

fn directory(place: &Place, file: &Path, conflicts: bool) -> Result<PathBuf, BadUsage> {
    let config = load(file)?;
    let namespace = directory::find(&config, place.namespace.as_deref(), file)?;
    Ok(match conflicts {
        true => config.conflict_directory(&namespace.name),
        false => config.dead_letter_directory(&namespace.name),
    })
}

fn read(directory: &Path) -> anyhow::Result<Vec<Known>> {
    let mut known = Vec::new();
    if !directory.is_dir() {
        // No replicator has run here.
        return Ok(known);
    }
    let decisions = decisions(directory)
        .with_context(|| format!("read what was decided in {}", directory.display()))?;
    let mut walk = Walk::open(directory, None)?;
    loop {
        match walk.step()? {
            Step::Record { offset, bytes, .. } => {
                let letter = Letter::decode(bytes)
                    .with_context(|| format!("decode the letter with number {offset}"))?;
                known.push(Known {
                    number: offset,
                    letter,
                    decision: decisions.get(&offset).copied(),
                });
            }
            Step::Damage(damage) => bail!(damage),
            Step::End => return Ok(known),
        }
    }
}

fn print(known: &Known, json: bool, whole: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let decision = known.decision.map_or("open", Decision::name);
    if json {
        let value = letter_json(known.number, decision, &known.letter);
        writeln!(out, "{value}")?;
    } else {
        let line = letter_line(known.number, decision, &known.letter, whole);
        writeln!(out, "{line}")?;
    }
    Ok(())
}
