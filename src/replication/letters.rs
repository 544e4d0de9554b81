//! Changes that were not applied: dead letters, and what lost a conflict.
//!
//! A journal of its own holds them, in files of this process; `DECISIONS` beside
//! its segments says what became of each, a line a decision: `retry 7`,
//! `discard 7`, `done 7`, `failed 7`. The command line adds lines, and so does the
//! replicator, each with one short write at the end: neither locks the other out.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use prost::Message as _;

use crate::journal::{
    Appender, Completion, Journal, LocalJournal, LocalOptions, Offset, OpenError, ReadBatch,
};
use crate::mutation::{RecordBatch, RecordEntry, RecordKind, v1};

/// Enough for the letters of a bad day; the oldest go first.
const BYTES_MAX: u64 = 256 << 20;

/// Batches that may be lost with the process, at most.
const UNDER_WAY_MAX: usize = 64;

const SEGMENT_BYTES: u64 = 4 << 20;

/// What was decided of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// To be applied again.
    Retry,
    /// Not to be.
    Discard,
    /// It was applied.
    Done,
    /// It was tried again, without success.
    Failed,
}

impl Decision {
    const ALL: [(Decision, &'static str); 4] = [
        (Decision::Retry, "retry"),
        (Decision::Discard, "discard"),
        (Decision::Done, "done"),
        (Decision::Failed, "failed"),
    ];

    /// Whether there is nothing more to be decided.
    pub fn is_final(self) -> bool {
        matches!(self, Decision::Discard | Decision::Done)
    }

    /// Its name in the file, and for people.
    pub fn name(self) -> &'static str {
        let known = Decision::ALL.iter().find(|(other, _)| *other == self);
        known.map_or("", |(_, name)| name)
    }
}

/// Takes letters, and gives those that are to be tried again.
pub struct Letters {
    directory: PathBuf,
    journal: Journal,
    appender: Appender,
    /// Batches that were handed over and are not known to be durable.
    under_way: usize,
}

impl Letters {
    /// Opens the journal in a directory, or creates it. Blocks.
    pub fn open(directory: &Path) -> Result<Letters, OpenError> {
        let options = LocalOptions {
            segment_bytes: SEGMENT_BYTES,
            retention_bytes: Some(BYTES_MAX),
            retention_age: None,
            ..LocalOptions::new(directory)
        };
        let journal = Journal::Local(Arc::new(LocalJournal::open(options)?));
        let appender = journal.appender();
        Ok(Letters {
            directory: directory.to_owned(),
            journal,
            appender,
            under_way: 0,
        })
    }

    /// Keeps letters; done when all are durable. The error is why they, or some that
    /// were added before, may not be.
    pub async fn add(&mut self, letters: &[v1::Letter]) -> Result<(), String> {
        self.submit(letters);
        self.until_under_way(0).await
    }

    /// Keeps letters, which are durable some time later. The error is why some that
    /// were added before may not be.
    pub async fn add_soon(&mut self, letters: &[v1::Letter]) -> Result<(), String> {
        let made_room = match self.appender.has_room() {
            true => Ok(()),
            false => self.until_under_way(0).await,
        };
        self.submit(letters);
        self.until_under_way(UNDER_WAY_MAX).await.and(made_room)
    }

    fn submit(&mut self, letters: &[v1::Letter]) {
        let mut batch = RecordBatch::default();
        for letter in letters {
            batch.bytes.extend(letter.encode_to_vec());
            let end = batch.bytes.len();
            batch.entries.push(RecordEntry {
                end,
                key: (end, end),
                kind: RecordKind::Mutation,
                sequence: 0,
                hlc: letter.hlc,
            });
        }
        self.appender.submit(batch);
        self.under_way += 1;
    }

    /// Waits until no more than so many batches are under way.
    async fn until_under_way(&mut self, mut count: usize) -> Result<(), String> {
        let mut result = Ok(());
        let mut completions: Vec<Completion> = Vec::new();
        loop {
            let mut poll =
                |cx: &mut Context<'_>| self.appender.poll_completions(cx, &mut completions);
            if count < self.under_way {
                std::future::poll_fn(poll).await;
            } else {
                // What there is to be taken, without waiting for more.
                let _ = poll(&mut Context::from_waker(Waker::noop()));
            }
            self.under_way -= completions.len();
            for done in completions.drain(..) {
                if let Err(error) = done.result {
                    result = Err(error.to_string());
                    // Nothing is taken before all that came after it have failed too.
                    count = 0;
                }
            }
            if self.under_way <= count {
                if result.is_err() {
                    self.appender.resume();
                }
                return result;
            }
        }
    }

    /// How many are not decided, and those that are to be tried again.
    pub fn pending(&self) -> io::Result<(u64, Vec<(Offset, v1::Letter)>)> {
        let decisions = decisions(&self.directory)?;
        let first = self.journal.first_offset();
        let end = self.journal.durable_through().map_or(0, |last| last + 1);
        let decided = decisions.range(first..end);
        let decided = decided.filter(|(_, decision)| decision.is_final());
        let open = (end - first.min(end)).saturating_sub(decided.count() as u64);
        let retried = decisions.range(first..end);
        let retried = retried.filter(|(_, decision)| **decision == Decision::Retry);
        let mut letters = Vec::new();
        for (offset, _) in retried {
            let mut batch = ReadBatch::default();
            let read = self.journal.reader(*offset).next_batch(&mut batch, 1);
            read.map_err(io::Error::other)?;
            if let Some((_, bytes)) = batch.iter().next() {
                let letter = v1::Letter::decode(Bytes::copy_from_slice(bytes));
                letters.push((*offset, letter.map_err(io::Error::other)?));
            }
        }
        Ok((open, letters))
    }

    /// Notes what became of a letter.
    pub fn decide(&self, offset: Offset, decision: Decision) -> io::Result<()> {
        decide(&self.directory, offset, decision)
    }
}

impl Drop for Letters {
    fn drop(&mut self) {
        // What was added is durable.
        let _ = self.journal.close();
    }
}

/// Adds a decision to those of a directory.
pub fn decide(directory: &Path, offset: Offset, decision: Decision) -> io::Result<()> {
    let path = directory.join("DECISIONS");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{} {offset}\n", decision.name()).as_bytes())?;
    file.sync_data()
}

/// What was decided last of each letter of a directory.
pub fn decisions(directory: &Path) -> io::Result<BTreeMap<Offset, Decision>> {
    let text = match fs::read_to_string(directory.join("DECISIONS")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let line = |line: &str| {
        let (name, offset) = line.split_once(' ')?;
        let known = Decision::ALL.iter().find(|(_, other)| *other == name)?;
        Some((offset.parse().ok()?, known.0))
    };
    Ok(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_kept_and_decided() {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let letter = |offset| v1::Letter {
            offset,
            reason: "ERR no".to_owned(),
            ..Default::default()
        };
        {
            let mut letters = Letters::open(directory.path()).expect("opened");
            runtime.block_on(async {
                letters.add_soon(&[letter(7)]).await.expect("kept");
                letters.add(&[letter(8)]).await.expect("kept");
            });
            assert_eq!(letters.under_way, 0);
            assert_eq!(letters.pending().expect("read"), (2, vec![]));
        }
        decide(directory.path(), 1, Decision::Retry).expect("decided");
        decide(directory.path(), 0, Decision::Discard).expect("decided");
        let letters = Letters::open(directory.path()).expect("opened");
        assert_eq!(letters.pending().expect("read"), (1, vec![(1, letter(8))]));
        letters.decide(1, Decision::Done).expect("decided");
        assert_eq!(letters.pending().expect("read"), (0, vec![]));
    }
}
