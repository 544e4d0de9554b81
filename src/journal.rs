//! The journal's contract. Every backend keeps it, and one test suite shows it.

use crate::mutation::RecordBatch;

/// Where a record is: its offset in the (single) partition of a local journal.
/// Offsets are dense and start at 0.
pub type Offset = u64;

/// Names one hand-over of records by an [`Appender`]; counts up from 1.
pub type Ticket = u64;

/// What became of one hand-over.
#[derive(Debug)]
pub struct Completion {
    /// Which hand-over.
    pub ticket: Ticket,
    /// The offset of its first record where all of it is durable.
    pub result: Result<Offset, AppendError>,
    /// The batch, emptied, to be filled again.
    pub recycled: RecordBatch,
}

/// Why records were not made durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// None of the records is in the journal, nor will it be: safe to retry.
    #[error("{0}")]
    NotAppended(String),
    /// The records may be in the journal.
    #[error("{0}")]
    Unknown(String),
}
