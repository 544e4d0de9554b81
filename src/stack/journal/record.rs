//! Turns a batch's mutations into records.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use smallvec::SmallVec;

use super::super::policy::{Durability, KeyPolicy, Policy};
use crate::journal::RECORD_BYTES_MAX;
use crate::mutation::derive::{self, Scratch};
use crate::mutation::writer::{MutationParts, Writer};
use crate::mutation::{self, RecordBatch};
use crate::protocol::resp::arguments;
use crate::protocol::resp::commands::{Effect, Table};
use crate::protocol::{Batch, Class, Command, Protocol, Transaction};

/// What was recorded of a batch.
#[derive(Debug, Default)]
pub(super) struct Journaled {
    /// The sequence of each of the batch's mutations, in order; 0 for one that
    /// was not journaled. Empty where nothing was.
    pub sequences: SmallVec<[u64; 16]>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whether the batch is forwarded only when the records are durable.
    pub waits: bool,
    /// Whether a mutation's effect has to be told from its reply.
    pub has_intent: bool,
    /// How many bytes the batch has.
    pub bytes: usize,
    /// The first sequence of the batch's generation that was lost; see `state.rs`.
    pub lost: Option<Rc<Cell<u64>>>,
}

impl Journaled {
    pub(super) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Whether there is no record with the sequence: the mutation was not
    /// journaled, or its record was lost.
    pub(super) fn is_lost(&self, sequence: u64) -> bool {
        sequence == 0
            || self
                .lost
                .as_ref()
                .is_some_and(|lost| lost.get() <= sequence)
    }
}

/// Makes records, and stages them until they are handed to the journal.
pub(super) struct Recorder {
    pub(super) table: Arc<ArcSwap<Table>>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) writer: Writer,
    pub(super) staging: RecordBatch,
    pub(super) record_bytes_max: usize,
    scratch: Scratch,
    pub(super) memcached: mutation::memcached::Scratch,
}

/// A batch with a mutation whose record no journal takes.
#[derive(Debug, thiserror::Error)]
#[error("the command is too long for the journal")]
pub(super) struct TooLong;

/// The arguments of the commands of a transaction, and of their keys.
type Parts<'a> = SmallVec<[&'a [u8]; 8]>;

impl Recorder {
    pub(super) fn new(
        table: Arc<ArcSwap<Table>>,
        policy: Arc<ArcSwap<Policy>>,
        writer: Writer,
    ) -> Recorder {
        Recorder {
            table,
            policy,
            writer,
            staging: RecordBatch::default(),
            record_bytes_max: RECORD_BYTES_MAX,
            scratch: Scratch::default(),
            memcached: Default::default(),
        }
    }

    /// Stages the records of a batch's mutations, all or none: one that is too
    /// long would be refused with all that is handed over with it.
    pub(super) fn record(&mut self, batch: &Batch) -> Result<Journaled, TooLong> {
        let mut journaled = Journaled::default();
        if batch.mutations == 0 {
            return Ok(journaled);
        }
        let (bytes, entries) = (self.staging.bytes.len(), self.staging.entries.len());
        let last = self.writer.last_sequence();
        journaled.at_ms = now_ms();
        journaled.bytes = batch.bytes.len();
        let table = self.table.load();
        let policy = self.policy.load();
        for command in &batch.commands {
            if command.class != Class::Mutation {
                continue;
            }
            let sequence = match (batch.protocol, &batch.transaction) {
                (Protocol::Memcached, _) => self.memcached(&policy, batch, command, &mut journaled),
                (Protocol::Redis, Some(transaction)) => {
                    self.transaction(&table, &policy, batch.database, transaction, &mut journaled)
                }
                (Protocol::Redis, None) => {
                    self.command(&table, &policy, batch, command, &mut journaled)
                }
            };
            journaled.sequences.push(sequence);
        }
        if self.is_too_long(bytes, entries) {
            self.staging.bytes.truncate(bytes);
            self.staging.entries.truncate(entries);
            self.writer.rewind(last);
            return Err(TooLong);
        }
        if journaled.sequences.iter().all(|sequence| *sequence == 0) {
            journaled.sequences.clear();
        }
        Ok(journaled)
    }

    /// Whether one of the records staged behind so many bytes and entries is.
    fn is_too_long(&self, bytes: usize, entries: usize) -> bool {
        if self.staging.bytes.len() - bytes <= self.record_bytes_max {
            return false;
        }
        let ends = self.staging.entries[entries..]
            .iter()
            .map(|entry| entry.end);
        let starts = std::iter::once(bytes).chain(ends.clone());
        starts
            .zip(ends)
            .any(|(start, end)| self.record_bytes_max < end - start)
    }

    fn command(
        &mut self,
        table: &Table,
        policy: &Policy,
        batch: &Batch,
        command: &Command,
        journaled: &mut Journaled,
    ) -> u64 {
        let mut inline = Vec::new();
        let arguments = arguments::parse(command.of(&batch.bytes), &mut inline);
        let effect = effect_of(table, command, &arguments);
        if effect == Effect::None {
            // Its arguments say that it only reads (MIGRATE with COPY).
            return 0;
        }
        let keys = keys_of(table, command.specification, &arguments);
        if !note(policy.of(keys.iter().copied()), journaled) {
            return 0;
        }
        let derived = derive::derive(effect, &arguments, journaled.at_ms, &mut self.scratch);
        journaled.has_intent |= !derived.is_final;
        let parts = MutationParts {
            commands: &[derived.arguments()],
            keys: &keys,
            is_final: derived.is_final,
        };
        self.writer
            .mutation(&mut self.staging, journaled.at_ms, batch.database, &parts)
    }

    /// A transaction is one record of all its mutations; final only if it
    /// surely executes and each of them is.
    fn transaction(
        &mut self,
        table: &Table,
        policy: &Policy,
        database: u32,
        transaction: &Transaction,
        journaled: &mut Journaled,
    ) -> u64 {
        let mut owned: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut is_final = !transaction.watched;
        let mut strictest: Option<KeyPolicy> = None;
        for command in &transaction.commands {
            if command.class == Class::Read {
                continue;
            }
            let mut inline = Vec::new();
            let arguments = arguments::parse(command.of(&transaction.bytes), &mut inline);
            if command.class == Class::Control {
                // The database of the commands that follow is another one.
                owned.push(arguments.iter().map(|a| a.to_vec()).collect());
                continue;
            }
            let effect = effect_of(table, command, &arguments);
            if effect == Effect::None {
                continue;
            }
            let own = keys_of(table, command.specification, &arguments);
            strictest = strictest.max(Some(policy.of(own.iter().copied())));
            for key in &own {
                if !keys.iter().any(|known| known == key) {
                    keys.push(key.to_vec());
                }
            }
            let derived = derive::derive(effect, &arguments, journaled.at_ms, &mut self.scratch);
            is_final &= derived.is_final;
            owned.push(derived.arguments().iter().map(|a| a.to_vec()).collect());
        }
        if !strictest.is_some_and(|policy| note(policy, journaled)) {
            return 0;
        }
        journaled.has_intent |= !is_final;
        let commands: Vec<Parts<'_>> = owned
            .iter()
            .map(|arguments| arguments.iter().map(Vec::as_slice).collect())
            .collect();
        let commands: Vec<&[&[u8]]> = commands.iter().map(|parts| &parts[..]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let parts = MutationParts {
            commands: &commands,
            keys: &keys,
            is_final,
        };
        self.writer
            .mutation(&mut self.staging, journaled.at_ms, database, &parts)
    }
}

/// Notes what the policy of one mutation means for its batch; whether it is
/// journaled at all.
pub(super) fn note(policy: KeyPolicy, journaled: &mut Journaled) -> bool {
    journaled.waits |= policy.durability == Durability::Durable;
    policy.durability != Durability::Off
}

/// The keys of a command, without repetition. Of one that is in no table the
/// first argument is taken to be it, as that of nearly every command is.
pub(super) fn keys_of<'a>(
    table: &Table,
    specification: u16,
    arguments: &[&'a [u8]],
) -> SmallVec<[&'a [u8]; 8]> {
    let mut keys: SmallVec<[&[u8]; 8]> = SmallVec::new();
    if specification == Command::UNKNOWN {
        keys.extend(arguments.get(1).copied());
        return keys;
    }
    table.keys(specification, arguments, |index| {
        if let Some(&key) = arguments.get(index) {
            keys.push(key);
        }
    });
    if keys.len() > 1 {
        let mut seen = std::collections::HashSet::with_capacity(keys.len());
        keys.retain(|key| seen.insert(*key));
    }
    keys
}

/// The effect of a command that may be in no table.
pub(super) fn effect_of(table: &Table, command: &Command, arguments: &[&[u8]]) -> Effect {
    match command.specification {
        Command::UNKNOWN => Effect::Opaque,
        specification => table.effect(specification, arguments),
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
