//! A hand-over that is on its way, and what becomes of its records.

use std::time::Instant;

use super::super::appender::Staged;
use super::super::{AppendError, Offset, Verdict};
use super::link::{Sent, is_keyless};
use super::shared::QueueNumber;

/// Messages of a hand-over that librdkafka has, or had.
pub(super) struct HandOver {
    /// None where it was taken elsewhere.
    pub(super) staged: Option<Staged>,
    pub(super) queue: QueueNumber,
    pub(super) bytes: usize,
    /// Messages without a report.
    pub(super) remaining: usize,
    /// Where its first record is.
    pub(super) first: Offset,
    pub(super) error: Option<AppendError>,
    /// What became of each record; empty while none has failed.
    pub(super) verdicts: Vec<Verdict>,
    pub(super) since: Instant,
}

/// A record as librdkafka is given it to name in its report.
pub(super) fn pack(slot: usize, entry: usize) -> usize {
    slot << 32 | entry
}

pub(super) fn unpack(opaque: usize) -> (usize, usize) {
    (opaque >> 32, opaque & u32::MAX as usize)
}

impl HandOver {
    pub(super) fn fail(&mut self, entry: usize, error: AppendError) {
        let is_unknown = matches!(error, AppendError::Unknown(_));
        if let Some(staged) = &self.staged {
            let entries = &staged.records.entries;
            // A report can come while the batch is lent out: its length is not
            // known then, and the rest is filled up when it is complete.
            let records = entries.len().max(entry + 1);
            if self.verdicts.len() < records {
                self.verdicts.resize(records, Verdict::Stored);
            }
            // The other copies of a keyless record may be stored.
            let is_copied = entries.get(entry).is_none_or(is_keyless);
            let verdict = match is_unknown || is_copied {
                true => Verdict::Unknown,
                false => Verdict::Absent,
            };
            self.verdicts[entry] = self.verdicts[entry].max(verdict);
        }
        if self.error.is_none() || is_unknown {
            self.error = Some(error);
        }
    }

    /// Notes the records that librdkafka did not take.
    pub(super) fn note_unsent(&mut self, sent: Sent, records: usize) {
        let Some(reason) = sent.error else {
            return;
        };
        self.verdicts.resize(records, Verdict::Stored);
        for verdict in &mut self.verdicts[sent.records..] {
            *verdict = (*verdict).max(Verdict::Absent);
        }
        // Copies of it may be on their way.
        self.verdicts[sent.records] = Verdict::Unknown;
        self.error.get_or_insert(AppendError::Skipped(reason));
    }

    pub(super) fn result(&mut self, records: usize) -> Result<Offset, AppendError> {
        let Some(error) = self.error.take() else {
            return Ok(self.first);
        };
        self.verdicts.resize(records, Verdict::Stored);
        match self.verdicts.iter().all(|v| *v == Verdict::Absent) {
            true => Err(error),
            false => Err(AppendError::Unknown(error.to_string())),
        }
    }
}
