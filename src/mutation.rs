//! What a journaled change is, whatever protocol it came by.

use bytes::Bytes;

pub mod clock;
mod codec;
pub mod decoded;
pub mod derive;
pub mod memcached;
mod number;
pub mod operation;
pub mod outcome;
mod reply;
mod settled;
pub mod writer;

pub use codec::decode;
pub use decoded::{Application, commands_to_apply};
pub use derive::{Derived, Scratch, derive};
pub use outcome::transaction::resolve_transaction;
pub use outcome::{Journaled, resolve, resolve_final};
pub use writer::{MutationParts, Way, Writer, WriterOptions};

/// Generated from `proto/wal_sidecar/v1/record.proto`.
#[allow(missing_docs)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/wal_sidecar.v1.rs"));
}

/// The records that one worker hands to the journal at once: encoded, in the
/// order of their sequences, with what a backend has to know of each.
///
/// A backend returns it empty when it is done, so its memory is used again.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    /// The encoded records (`wal_sidecar.v1.Record`), one after the other.
    pub bytes: Vec<u8>,
    /// Where each record ends in `bytes`, and what it is.
    pub entries: Vec<RecordEntry>,
    /// Who wrote the records; 0 while there is none.
    pub writer: u64,
}

/// What a backend has to know of a record without decoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordEntry {
    /// Byte offset one past the record's last byte in [`RecordBatch::bytes`].
    pub end: usize,
    /// The record's first key, as a range of [`RecordBatch::bytes`]; empty
    /// where it has none (heartbeats, FLUSHALL). Partitions are chosen by it.
    pub key: (usize, usize),
    /// Which body the record has.
    pub kind: RecordKind,
    /// The record's sequence.
    pub sequence: u64,
    /// The record's hybrid logical clock.
    pub hlc: u64,
}

/// Which body a record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A change about to be forwarded.
    Mutation,
    /// What became of one.
    Outcome,
    /// A key's whole value.
    Snapshot,
    /// Nothing.
    Heartbeat,
}

impl RecordBatch {
    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.writer = 0;
    }

    /// Adds a record as it came out of a journal.
    pub fn push_encoded(&mut self, encoded: &[u8]) -> Result<(), prost::DecodeError> {
        use v1::record::Body;
        let bytes = Bytes::copy_from_slice(encoded);
        let record = decode(bytes.clone())?;
        let (kind, key) = match &record.body {
            Some(Body::Mutation(mutation)) => (RecordKind::Mutation, mutation.keys.first()),
            Some(Body::Outcome(outcome)) => (RecordKind::Outcome, Some(&outcome.key)),
            Some(Body::Snapshot(snapshot)) => (RecordKind::Snapshot, Some(&snapshot.key)),
            Some(Body::Heartbeat(_)) | None => (RecordKind::Heartbeat, None),
        };
        let start = self.bytes.len();
        let end = start + encoded.len();
        // Decoded fields are slices of the bytes they were decoded from.
        let key = key.filter(|key| !key.is_empty()).map(|key| {
            let at = start + (key.as_ptr() as usize - bytes.as_ptr() as usize);
            (at, at + key.len())
        });
        self.bytes.extend_from_slice(encoded);
        self.writer = record.writer;
        self.entries.push(RecordEntry {
            end,
            key: key.unwrap_or((end, end)),
            kind,
            sequence: record.sequence,
            hlc: record.hlc,
        });
        Ok(())
    }

    /// The encoded bytes of each record, in order.
    pub fn records(&self) -> impl Iterator<Item = (&RecordEntry, &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let bytes = &self.bytes[start..entry.end];
            start = entry.end;
            (entry, bytes)
        })
    }
}

/// The deterministic commands a mutation came to, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// These commands have the effect the mutation had.
    Effects(Vec<Vec<Bytes>>),
    /// These commands have the effect the mutation had on all but a few keys,
    /// whose values have to be taken from the datastore after the commands
    /// were applied: a transaction one of whose commands was a script.
    Partial {
        /// The deterministic commands, in the order they were executed.
        effects: Vec<Vec<Bytes>>,
        /// The keys the commands do not tell the value of; never empty.
        unknown_keys: Vec<Bytes>,
    },
    /// Nothing was changed; the text is the datastore's error, empty for a no-op.
    Rejected(String),
    /// The keys' values have to be taken from the datastore. No keys: the
    /// mutation's own.
    Unknown {
        /// Why, for people.
        reason: &'static str,
        /// The keys to take.
        keys: Vec<Bytes>,
    },
}
