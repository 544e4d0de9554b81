//! What the command line asks the leading replicator for: to copy its region's
//! data to the others; and how far it is with that.
//!
//! The request is left at a [`Desk`](super::target::Desk), the answer is among the
//! checkpoints, under [`PROGRESS`]. Each is written by one side only, and both name
//! the request by the same number. A client that empties the datastore takes both
//! away; the leader then goes on with what it knows.

use serde::{Deserialize, Serialize};

/// The name of the progress among the checkpoints, which are named `source/partition`.
pub const PROGRESS: &str = ":bootstrap";

/// Keys a second, where nothing else is asked for. Each key that is told is
/// remembered for a minute or so by every region, in 0.9 KiB as measured: 110 MiB.
pub const RATE: u64 = 2_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Tells it from others; drawn at random.
    pub id: u64,
    /// Keys that are told a second, at most.
    pub rate: u64,
    /// That it be given up.
    #[serde(default)]
    pub is_cancelled: bool,
}

/// What has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// What the value of a key includes is not known yet; [`Progress::why`].
    Waiting,
    /// Keys are told.
    Copying,
    /// All were.
    Done,
    /// It was given up.
    Cancelled,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which request.
    pub id: u64,
    /// Keys that are told a second, at most.
    pub rate: u64,
    /// What has become of it.
    pub phase: Phase,
    /// Why nothing happens, if so.
    #[serde(default)]
    pub why: String,
    /// Keys that were looked at, and how many of them were told.
    pub seen: u64,
    /// Those that were told: the others are not replicated.
    pub told: u64,
    /// How many keys there were when it began.
    pub total: u64,
    /// Where to go on, as [`Target::scan`](super::target::Target::scan) has it.
    pub place: String,
    /// Regions that know of it: clients may write there.
    #[serde(default)]
    pub noted: Vec<String>,
    /// When it began, in milliseconds since the Unix epoch.
    pub begun_ms: u64,
    /// When it ended; 0 if it has not.
    pub ended_ms: u64,
    /// When this was written.
    pub at_ms: u64,
}

impl Request {
    /// The form it is left in.
    pub fn format(&self) -> String {
        serde_json::to_string(self).expect("numbers can be written")
    }

    /// Reads that form.
    pub fn parse(text: &str) -> Option<Request> {
        serde_json::from_str(text).ok()
    }
}

impl Progress {
    /// Of a request that was not looked at yet.
    pub(super) fn new(request: &Request, total: u64, now_ms: u64) -> Progress {
        Progress {
            id: request.id,
            rate: request.rate.max(1),
            phase: Phase::Waiting,
            why: String::new(),
            seen: 0,
            told: 0,
            total,
            place: String::new(),
            noted: Vec::new(),
            begun_ms: now_ms,
            ended_ms: 0,
            at_ms: now_ms,
        }
    }

    /// Whether there is anything to do.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Copying)
    }

    /// The form it is kept in: one line.
    pub fn format(&self) -> String {
        serde_json::to_string(self).expect("text and numbers can be written")
    }

    /// Reads that form.
    pub fn parse(text: &str) -> Option<Progress> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_no_checkpoint() {
        let request = Request {
            id: u64::MAX,
            rate: 7,
            is_cancelled: true,
        };
        assert_eq!(Request::parse(&request.format()), Some(request.clone()));
        let progress = Progress::new(&request, 9, 1);
        let text = progress.format();
        assert!(!text.contains(['\n', '\t']), "{text}");
        assert_eq!(Progress::parse(&text), Some(progress));
        assert_eq!(
            crate::replication::checkpoint::Checkpoint::parse(&text),
            None
        );
        for text in ["", "{}", "1 2 3 "] {
            assert_eq!(Request::parse(text), None, "{text}");
            assert_eq!(Progress::parse(text), None, "{text}");
        }
    }
}
