//! What the replicator itself writes to the own region's journal: snapshots, and
//! how far other regions' changes are applied.

use std::collections::HashMap;

use crate::journal::{AppendError, Appender, Completion};
use crate::mutation::{RecordBatch, Writer, v1};

/// A writer of the own region that is no worker.
pub struct Outlet {
    writer: Writer,
    appender: Appender,
    staged: RecordBatch,
    /// Sequences that may not be in the journal.
    unacknowledged: Vec<(u64, u64)>,
}

impl Outlet {
    /// One that has written nothing.
    pub fn new(writer: Writer, appender: Appender) -> Outlet {
        Outlet {
            writer,
            appender,
            staged: RecordBatch::default(),
            unacknowledged: Vec::new(),
        }
    }

    /// Who writes.
    pub fn id(&self) -> u64 {
        self.writer.id()
    }

    /// What is written next is newer than a change that was seen.
    pub fn observe(&mut self, hlc: u64) {
        self.writer.observe(hlc);
    }

    /// Adds a snapshot to what [`Outlet::append`] writes; returns its clock.
    pub fn snapshot(&mut self, now_ms: u64, database: u32, snapshot: &v1::Snapshot) -> u64 {
        self.writer
            .snapshot(&mut self.staged, now_ms, database, snapshot);
        self.staged.entries.last().map_or(0, |entry| entry.hlc)
    }

    /// Adds a heartbeat that tells how far other regions' changes are applied, and
    /// whether this region is copied to them.
    pub fn progress(&mut self, now_ms: u64, applied: &HashMap<(String, u32), u64>, copying: bool) {
        if !self.unacknowledged.is_empty() {
            let declared = std::mem::take(&mut self.unacknowledged);
            self.writer.heartbeat(&mut self.staged, now_ms, &declared);
        }
        let applied = applied
            .iter()
            .map(|((region, partition), next_offset)| v1::Applied {
                region: region.clone(),
                partition: *partition,
                next_offset: *next_offset,
            });
        self.writer
            .progress(&mut self.staged, now_ms, applied.collect(), copying);
    }

    /// Writes what was added; done when it is durable.
    pub async fn append(&mut self) -> Result<(), AppendError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.staged);
        let first = batch.entries.first().map_or(0, |entry| entry.sequence);
        let last = batch.entries.last().map_or(0, |entry| entry.sequence);
        let ticket = self.appender.submit(batch);
        let mut completions: Vec<Completion> = Vec::new();
        loop {
            std::future::poll_fn(|cx| self.appender.poll_completions(cx, &mut completions)).await;
            for completion in completions.drain(..) {
                if completion.ticket != ticket {
                    continue;
                }
                let Err(error) = completion.result else {
                    self.writer.acknowledge(last);
                    self.staged = completion.recycled;
                    self.staged.clear();
                    return Ok(());
                };
                self.appender.resume();
                match &error {
                    AppendError::NotAppended(_) => self.writer.rewind(first - 1),
                    AppendError::Skipped(_) | AppendError::Unknown(_) => {
                        self.unacknowledged.push((first, last));
                    }
                }
                return Err(error);
            }
        }
    }
}
