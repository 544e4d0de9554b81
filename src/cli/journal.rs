//! `wal-sidecar journal tail | verify | stats`: looks at the files of one
//! journal stream, beside a running sidecar or on what one left behind; at a
//! Kafka topic in [`topic`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use prost::Message;
use serde_json::json;

use crate::journal::local::inspect::{Step, Walk, summarize};
use crate::journal::{Offset, OpenError};
use crate::mutation::v1::Record;

mod render;
mod sequences;
pub mod topic;

pub(super) use render::{bytes_field, letter_json, letter_line, time};

/// How often a journal that is followed is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);

/// The clock is looked at after so many records.
const PROGRESS_RECORDS: u64 = 1 << 14;

/// A terminal is told this often how far a long walk has come.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// `journal tail`.
#[derive(Debug, Clone, Default)]
pub struct TailOptions {
    /// Go on with records that are yet to come.
    pub follow: bool,
    /// One JSON object a line.
    pub json: bool,
    /// The first record to print; none: the first there is.
    pub from: Option<Offset>,
}

/// `journal verify`.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// One JSON object a line.
    pub json: bool,
}

/// `journal stats`.
#[derive(Debug, Clone, Default)]
pub struct StatsOptions {
    /// One JSON object a line.
    pub json: bool,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Fine,
    /// Something is damaged or lost, and was printed.
    Damaged,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> ExitCode {
        match verdict {
            Verdict::Fine => ExitCode::SUCCESS,
            Verdict::Damaged => ExitCode::FAILURE,
        }
    }
}

/// Prints the records of the journal stream in `directory`. Ends without an
/// error when the reader of `out` goes away; stops at damage with an error.
pub fn tail(directory: &Path, options: &TailOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    let outcome = print_records(directory, options, out);
    match outcome {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

fn print_records(
    directory: &Path,
    options: &TailOptions,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut walk = Walk::open(directory, options.from)?;
    let mut out = io::BufWriter::new(out);
    loop {
        match walk.step()? {
            Step::Record { offset, bytes, .. } => {
                let record = Record::decode(bytes)
                    .with_context(|| format!("decode the record with offset {offset}"))?;
                if options.json {
                    serde_json::to_writer(&mut out, &render::json(offset, &record))
                        .map_err(io::Error::from)?;
                    out.write_all(b"\n")?;
                } else {
                    writeln!(out, "{}", render::line(offset, &record))?;
                }
            }
            Step::Damage(damage) => {
                out.flush()?;
                bail!(damage);
            }
            Step::End => {
                out.flush()?;
                if !options.follow {
                    return Ok(());
                }
                std::thread::park_timeout(FOLLOW_INTERVAL);
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|e| e.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Walks all of the journal stream in `directory`: frames and checksums, dense
/// offsets, records that decode, dense sequences for each writer. Prints what
/// is wrong with file and byte, then a line that sums up.
///
/// The records of a torn group at the end are not damage: they were never
/// durable.
pub fn verify(
    directory: &Path,
    options: &VerifyOptions,
    out: &mut dyn Write,
) -> anyhow::Result<Verdict> {
    let mut check = Check::default();
    let mut progress = Progress::new();
    let mut walk = match Walk::open(directory, None) {
        Err(OpenError::Damaged(damage)) => {
            print_problem(
                out,
                options.json,
                "damage",
                &damage.file,
                damage.byte,
                &damage.reason,
            )?;
            return Ok(Verdict::Damaged);
        }
        walk => walk?.thorough(),
    };
    loop {
        let problem = match walk.step()? {
            Step::Record {
                offset,
                bytes,
                file,
                at,
            } => match check.record(offset, bytes) {
                Ok(()) => None,
                Err(reason) => Some(("sequence", file.to_owned(), at, reason)),
            },
            Step::Damage(damage) => Some(("damage", damage.file, damage.byte, damage.reason)),
            Step::End => break,
        };
        if let Some((kind, file, byte, reason)) = problem {
            check.problems += 1;
            print_problem(out, options.json, kind, &file, byte, &reason)?;
        }
        progress.tell(check.records, || format!("{} MiB", walk.bytes_left() >> 20));
    }
    progress.clear();
    check.print(options.json, out)?;
    Ok(match check.problems {
        0 => Verdict::Fine,
        _ => Verdict::Damaged,
    })
}

/// What `verify` has seen so far.
#[derive(Debug, Default)]
struct Check {
    records: u64,
    bytes: u64,
    problems: u64,
    first: Option<Offset>,
    last: Option<Offset>,
    /// The last sequence of each writer.
    writers: HashMap<u64, u64>,
}

impl Check {
    /// The error is what is wrong with the record, or before it.
    fn record(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), String> {
        self.records += 1;
        self.bytes += bytes.len() as u64;
        self.last = Some(offset);
        let first = *self.first.get_or_insert(offset);
        let record = Record::decode(bytes)
            .map_err(|error| format!("the record with offset {offset} is not one: {error}"))?;
        let (writer, sequence) = (record.writer, record.sequence);
        let expected = match self.writers.entry(writer) {
            Entry::Occupied(mut last) => last.insert(sequence).wrapping_add(1),
            Entry::Vacant(new) => {
                new.insert(sequence);
                // Retention may have removed the writer's first records.
                if first == 0 { 1 } else { sequence }
            }
        };
        if sequence == expected {
            return Ok(());
        }
        let what = match expected < sequence {
            true => "records are lost",
            false => "it was there before",
        };
        Err(format!(
            "the record with offset {offset} has sequence {sequence} of writer {writer:016x}, \
             {expected} was expected: {what}"
        ))
    }

    fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            let summary = json!({
                "kind": "summary",
                "records": self.records,
                "bytes": self.bytes,
                "first_offset": self.first,
                "last_offset": self.last,
                "writers": self.writers.len(),
                "problems": self.problems,
            });
            return writeln!(out, "{summary}");
        }
        let verdict = match self.problems {
            0 => "fine".to_owned(),
            problems => format!("{problems} problems"),
        };
        let offsets = match (self.first, self.last) {
            (Some(first), Some(last)) => format!(", offsets {first} to {last}"),
            _ => String::new(),
        };
        let (records, bytes, writers) = (self.records, self.bytes, self.writers.len());
        writeln!(
            out,
            "{verdict}: {records} records of {writers} writers, {bytes} bytes{offsets}"
        )
    }
}

fn print_problem(
    out: &mut dyn Write,
    json: bool,
    kind: &str,
    file: &Path,
    byte: u64,
    reason: &str,
) -> io::Result<()> {
    if json {
        let (name, text) = render::bytes_field("file", file.as_os_str().as_encoded_bytes());
        let problem = json!({"kind": kind, name: text, "byte": byte, "reason": reason});
        return writeln!(out, "{problem}");
    }
    writeln!(out, "{} byte {byte}: {reason}", file.display())
}

/// Prints what the journal stream in `directory` holds.
pub fn stats(directory: &Path, options: &StatsOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    let summary = summarize(directory)?;
    let records = summary.next - summary.first;
    if options.json {
        let segments = summary.segments.iter().map(|segment| {
            let (name, text) =
                render::bytes_field("file", segment.file.as_os_str().as_encoded_bytes());
            json!({
                name: text,
                "first_offset": segment.base,
                "records": segment.records,
                "bytes": segment.bytes,
                "begun_ms": segment.begun_ms,
            })
        });
        let object = json!({
            "records": records,
            "first_offset": summary.first,
            "next_offset": summary.next,
            "disk_bytes": summary.disk_bytes,
            "closed": summary.closed,
            "opens": summary.epoch,
            "segments": segments.collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    let state = match summary.closed {
        true => "closed in order",
        false => "open, or not closed in order",
    };
    writeln!(
        out,
        "records     {records}, offsets {} up to {}",
        summary.first, summary.next
    )?;
    writeln!(out, "on disk     {} bytes", summary.disk_bytes)?;
    writeln!(out, "state       {state}, opened {} times", summary.epoch)?;
    for segment in &summary.segments {
        let name = segment.file.file_name().unwrap_or_default();
        let (begun, records) = (render::time(segment.begun_ms), segment.records);
        let (base, bytes) = (segment.base, segment.bytes);
        let name = name.display();
        writeln!(
            out,
            "{name}  begun {begun}  {records} records from offset {base}  {bytes} bytes"
        )?;
    }
    Ok(())
}

/// Tells a terminal how far a long walk has come.
struct Progress {
    shown: bool,
    next: Option<Instant>,
}

impl Progress {
    fn new() -> Progress {
        let next = io::stderr()
            .is_terminal()
            .then(|| Instant::now() + PROGRESS_INTERVAL);
        Progress { shown: false, next }
    }

    fn tell(&mut self, records: u64, left: impl Fn() -> String) {
        // Looking at the clock for each record would be most of the work.
        if !records.is_multiple_of(PROGRESS_RECORDS) {
            return;
        }
        if let Some(next) = self.next
            && next <= Instant::now()
        {
            // The display is not worth an error.
            let _ = write!(io::stderr(), "\r{records} records, {} left  ", left());
            self.next = Some(Instant::now() + PROGRESS_INTERVAL);
            self.shown = true;
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{:60}\r", "");
        }
    }
}
