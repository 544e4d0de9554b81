//! How far it is, for people and for programs.

use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;

use crate::replication::request::{Phase, Progress};

/// Where lines are not redrawn they are so far apart.
const LINES_APART: Duration = Duration::from_secs(3);

/// The rate is that of so long, about.
const RATE_OVER: Duration = Duration::from_secs(5);

/// One line, redrawn or followed by others.
pub(super) struct Line {
    json: bool,
    is_terminal: bool,
    shown: Option<(Instant, String)>,
    /// When so many were seen.
    before: Option<(Instant, u64)>,
    rate: Option<f64>,
}

impl Line {
    pub(super) fn new(json: bool, is_terminal: bool) -> Line {
        Line {
            json,
            is_terminal: is_terminal && !json,
            shown: None,
            before: None,
            rate: None,
        }
    }

    /// Shows how far it is, if it is time to.
    pub(super) fn show(
        &mut self,
        progress: &Progress,
        is_led: bool,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        self.measure(progress);
        let why = match (is_led, progress.why.as_str()) {
            (false, _) => "no replicator leads; it goes on when one does",
            (true, why) => why,
        };
        let text = match self.json {
            true => object(progress, self.rate, why).to_string(),
            false => running(progress, self.rate, why),
        };
        let is_due = |(at, shown): &(Instant, String)| {
            self.is_terminal || LINES_APART <= at.elapsed() && *shown != text
        };
        if !self.shown.as_ref().is_none_or(is_due) {
            return Ok(());
        }
        match self.is_terminal {
            true => write!(out, "\r\x1b[K{text}")?,
            false => writeln!(out, "{text}")?,
        }
        self.shown = Some((Instant::now(), text));
        out.flush()
    }

    /// Shows what has come of it.
    pub(super) fn end(&self, progress: &Progress, out: &mut dyn Write) -> std::io::Result<()> {
        if self.is_terminal && self.shown.is_some() {
            writeln!(out)?;
        }
        if self.json {
            return writeln!(out, "{}", object(progress, None, ""));
        }
        let seconds = progress.ended_ms.saturating_sub(progress.begun_ms) as f64 / 1e3;
        let Progress { told, seen, .. } = progress;
        let left_out = match seen - told {
            0 => String::new(),
            count => format!(", {count} are not replicated"),
        };
        match progress.phase {
            Phase::Cancelled => writeln!(out, "cancelled after {told} keys and {seconds:.1} s"),
            _ => writeln!(
                out,
                "done: {told} keys told in {seconds:.1} s, {:.0} a second{left_out}",
                *told as f64 / seconds.max(0.001)
            ),
        }
    }

    fn measure(&mut self, progress: &Progress) {
        let now = Instant::now();
        let (at, seen) = *self.before.get_or_insert((now, progress.seen));
        let since = now.duration_since(at);
        if Duration::from_millis(500) <= since {
            self.rate = Some(progress.seen.saturating_sub(seen) as f64 / since.as_secs_f64());
        }
        if RATE_OVER <= since {
            self.before = Some((now, progress.seen));
        }
    }
}

/// How long it will take, if it goes on like this.
fn remaining(progress: &Progress, rate: Option<f64>) -> Option<u64> {
    let rate = rate.filter(|rate| 0.0 < *rate)?;
    Some((progress.total.saturating_sub(progress.seen) as f64 / rate).ceil() as u64)
}

fn running(progress: &Progress, rate: Option<f64>, why: &str) -> String {
    let Progress { seen, total, .. } = progress;
    let mut text = match progress.phase {
        Phase::Waiting => "waiting".to_owned(),
        _ => "copying".to_owned(),
    };
    let total = (*total).max(*seen);
    if 0 < total {
        let percent = *seen as f64 / total as f64 * 100.0;
        text += &format!(": {seen} of about {total} keys ({percent:.0} %)");
    }
    if let Some(rate) = rate.filter(|_| why.is_empty()) {
        text += &format!(", {rate:.0} a second");
    }
    if let Some(seconds) = remaining(progress, rate).filter(|_| why.is_empty()) {
        text += &format!(", {} to go", time(seconds));
    }
    if !why.is_empty() {
        text += &format!("; {why}");
    }
    if !progress.noted.is_empty() {
        text += &format!("; known in {}", progress.noted.join(", "));
    }
    text
}

fn time(seconds: u64) -> String {
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5400 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

fn object(progress: &Progress, rate: Option<f64>, why: &str) -> serde_json::Value {
    serde_json::json!({
        "phase": progress.phase,
        "why": why,
        "seen": progress.seen,
        "told": progress.told,
        "total": progress.total,
        "known_in": progress.noted,
        "keys_per_second": rate.map(f64::round),
        "remaining_seconds": remaining(progress, rate),
        "begun_ms": progress.begun_ms,
        "ended_ms": progress.ended_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_it_is() {
        let mut progress = Progress {
            id: 1,
            rate: 100,
            phase: Phase::Waiting,
            why: String::new(),
            seen: 0,
            told: 0,
            total: 2000,
            place: String::new(),
            noted: Vec::new(),
            begun_ms: 1_000,
            ended_ms: 0,
            at_ms: 1_000,
        };
        let waiting = "waiting: 0 of about 2000 keys (0 %); the journal of us is being read";
        let why = "the journal of us is being read";
        assert_eq!(running(&progress, None, why), waiting);
        progress.phase = Phase::Copying;
        progress.seen = 500;
        progress.noted = vec!["ap".to_owned()];
        let copying =
            "copying: 500 of about 2000 keys (25 %), 10 a second, 3 min to go; known in ap";
        assert_eq!(running(&progress, Some(10.0), ""), copying);
        let found = object(&progress, Some(10.0), "");
        assert_eq!(found["phase"], "copying");
        assert_eq!(found["remaining_seconds"], 150);
        progress.phase = Phase::Done;
        (progress.seen, progress.told, progress.ended_ms) = (2001, 2000, 11_000);
        let mut out = Vec::new();
        Line::new(false, true)
            .end(&progress, &mut out)
            .expect("memory");
        let done = "done: 2000 keys told in 10.0 s, 200 a second, 1 are not replicated\n";
        assert_eq!(String::from_utf8_lossy(&out), done);
        assert_eq!(time(89), "89 s");
        assert_eq!(time(6000), "1.7 h");
    }
}
