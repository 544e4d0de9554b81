//! What is printed: differences, a summary, and on the way how far it is.

use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::journal::bytes_field;
use crate::replication::verify::{Counts, Difference, What};

/// Short runs need no progress.
const FIRST_AFTER: Duration = Duration::from_secs(3);

/// Further lines are so far apart; on a terminal one is redrawn.
const APART: Duration = Duration::from_secs(10);
const REDRAWN: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Report<'a> {
    json: bool,
    /// Keys on both sides, about.
    total: u64,
    started: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
    out: &'a mut dyn Write,
}

impl<'a> Report<'a> {
    pub(super) fn new(json: bool, total: u64, out: &'a mut dyn Write) -> Report<'a> {
        Report {
            json,
            total,
            started: Instant::now(),
            shown: None,
            is_terminal: std::io::stderr().is_terminal(),
            out,
        }
    }

    /// On standard error: it is no part of the result.
    pub(super) fn progress(&mut self, counts: &Counts) {
        let pause = match self.is_terminal {
            true => REDRAWN,
            false => APART,
        };
        let is_due = match self.shown {
            None => FIRST_AFTER <= self.started.elapsed(),
            Some(at) => pause <= at.elapsed(),
        };
        if !is_due {
            return;
        }
        self.shown = Some(Instant::now());
        let seen = counts.seen;
        let total = self.total.max(seen);
        let rate = seen as f64 / self.started.elapsed().as_secs_f64();
        let seconds = (total - seen) as f64 / rate.max(1.0);
        let text = format!(
            "{seen} of about {total} keys seen on both sides, {} differ; {rate:.0} a second, \
             {seconds:.0} s to go",
            counts.unequal()
        );
        let mut errors = std::io::stderr();
        // Nothing depends on it.
        let _ = match self.is_terminal {
            true => write!(errors, "\r\x1b[K{text}"),
            false => writeln!(errors, "{text}"),
        };
    }

    /// Ends a line that was redrawn.
    fn clear(&mut self) {
        if self.is_terminal && self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    pub(super) fn difference(&mut self, one: &Difference) -> std::io::Result<()> {
        self.clear();
        match self.json {
            true => writeln!(self.out, "{}", object(one, "difference")),
            false => writeln!(self.out, "{}", line(one)),
        }
    }

    pub(super) fn repairing(&mut self, keys: u64) -> std::io::Result<()> {
        self.clear();
        match self.json {
            true => Ok(()),
            false => writeln!(self.out, "having {keys} keys told by this region"),
        }
    }

    pub(super) fn not_repaired(&mut self, one: &Difference) -> std::io::Result<()> {
        match self.json {
            true => writeln!(self.out, "{}", object(one, "not_repaired")),
            false => writeln!(self.out, "not repaired: {}", line(one)),
        }
    }

    /// Of the repair: how many keys are equal now, and how many were too many to
    /// be told.
    pub(super) fn summary(
        &mut self,
        counts: &Counts,
        repaired: Option<(u64, u64)>,
    ) -> std::io::Result<()> {
        self.clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let Counts {
            compared,
            differing,
            missing_here,
            missing_there,
            ..
        } = counts;
        let equal = compared.saturating_sub(counts.unequal());
        if self.json {
            let mut summary = json!({
                "compared": compared,
                "equal": equal,
                "differing": differing,
                "missing_here": missing_here,
                "missing_there": missing_there,
                "seconds": (seconds * 1e3).round() / 1e3,
            });
            if let Some((repaired, not_told)) = repaired {
                summary["repaired"] = json!(repaired);
                summary["not_told"] = json!(not_told);
            }
            return writeln!(self.out, "{}", json!({ "summary": summary }));
        }
        writeln!(
            self.out,
            "{compared} keys compared in {seconds:.1} s: {equal} equal, {differing} differing, \
             {missing_here} missing here, {missing_there} missing there"
        )?;
        match repaired {
            Some((repaired, 0)) => writeln!(self.out, "{repaired} repaired"),
            Some((repaired, more)) => writeln!(
                self.out,
                "{repaired} repaired; {more} were too many to be told at once: run it again"
            ),
            None => Ok(()),
        }
    }
}

fn name(what: What) -> &'static str {
    match what {
        What::MissingHere => "missing here",
        What::MissingThere => "missing there",
        What::Value => "value differs",
        What::Expiry => "expiry differs",
    }
}

fn line(one: &Difference) -> String {
    let (database, key) = &one.key;
    let database = match database {
        0 => String::new(),
        number => format!(" in database {number}"),
    };
    let detail = match one.detail.as_str() {
        "" => String::new(),
        detail => format!(", {detail}"),
    };
    let key = key.escape_ascii();
    format!("\"{key}\"{database}: {}{detail}", name(one.what))
}

fn object(one: &Difference, kind: &str) -> Value {
    let (database, key) = &one.key;
    let (name, key) = bytes_field("key", key);
    let mut about = json!({ "database": database, "what": one.what, "detail": one.detail });
    about[name] = key;
    json!({ kind: about })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn differences_are_lines() {
        let one = |database, key: &'static [u8], what, detail: &str| Difference {
            key: (database, Bytes::from_static(key)),
            what,
            detail: detail.to_owned(),
        };
        let missing = one(0, b"k", What::MissingThere, "");
        assert_eq!(line(&missing), "\"k\": missing there");
        let value = one(3, b"\xff", What::Value, "list here, set there");
        let expected = "\"\\xff\" in database 3: value differs, list here, set there";
        assert_eq!(line(&value), expected);
        let found = object(&value, "difference");
        assert_eq!(found["difference"]["key_base64"], "/w==");
        assert_eq!(found["difference"]["what"], "value");
    }
}
