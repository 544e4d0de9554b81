//! Tells what became of forwarded mutations.

use smallvec::SmallVec;

use super::super::answers;
use super::Below;
use super::memcached;
use super::record::{Journaled, effect_of, keys_of, now_ms};
use super::state::{Failed, State};
use crate::journal::Verdict;
use crate::mutation::outcome::{self, transaction::resolve_transaction};
use crate::mutation::{Outcome, derive};
use crate::protocol::resp::arguments;
use crate::protocol::resp::commands::{Effect, Table};
use crate::protocol::{Batch, Class, Command, Failure, Protocol, Replies, Transaction};

/// Why a mutation whose record may be in the journal had none.
const NOT_FORWARDED: &str = "not forwarded: the journal can't tell whether it has the record";

/// Why an effect is not known.
const LATE: &str = "executed so long after it was journaled that its time to live ends later";

/// Times to live that begin so much later in the datastore than in the journal are
/// told, in milliseconds.
const LATE_MS: u64 = 2_000;

/// The ordinal among the mutations of each command of a batch.
pub(super) fn ordinals(batch: &Batch) -> Vec<usize> {
    let mut next = 0;
    let ordinal = |command: &Command| {
        let ordinal = next;
        next += usize::from(command.class == Class::Mutation);
        ordinal
    };
    batch.commands.iter().map(ordinal).collect()
}

impl<S: Below> State<S> {
    /// Records the outcomes of a batch's mutations and answers what the
    /// datastore did not.
    pub(super) fn settle(&mut self, mut replies: Replies, journaled: &Journaled) -> Replies {
        if !journaled.is_empty() {
            self.record_outcomes(&replies, journaled);
        }
        if !replies.failed.is_empty() {
            replies = self.answer_failed(replies, journaled);
        }
        if let Some(failure) = &replies.failure {
            let reason = super::answers::reason(failure);
            self.answer_uncertain(&mut replies, journaled, &reason);
        }
        replies
    }

    /// Puts answers where servers that failed left none.
    fn answer_failed(&mut self, mut replies: Replies, journaled: &Journaled) -> Replies {
        let writer = self.recorder.writer.id();
        let ordinals = ordinals(&replies.batch);
        let mut answered = Replies {
            batch: std::mem::take(&mut replies.batch),
            failure: replies.failure.take(),
            ..Replies::default()
        };
        for (index, ordinal) in ordinals.iter().enumerate().take(replies.ends.len()) {
            let Some(failure) = replies.failed(index) else {
                answered.push_from(&replies, index);
                continue;
            };
            // What there is of the reply comes before the answer.
            let begun = replies.reply(index).unwrap_or_default();
            answered.bytes.extend_from_slice(begun);
            let reason = answers::reason(failure);
            let sequence = journaled.sequences.get(*ordinal).copied();
            match (answered.batch.commands[index].class, failure) {
                (Class::Read | Class::Control, _) => {
                    answers::unavailable(&mut answered, index, &reason);
                }
                (Class::Mutation, Failure::NotSent(_)) => {
                    self.metrics.not_journaled.add(1);
                    answers::not_journaled(&mut answered, index, &reason);
                }
                (Class::Mutation, Failure::NoReply(_)) => {
                    self.metrics.uncertain.add(1);
                    let sequence = sequence.unwrap_or(0);
                    answers::uncertain(&mut answered, index, writer, sequence, &reason);
                }
            }
        }
        answered.errors = replies.errors;
        answered
    }

    fn record_outcomes(&mut self, replies: &Replies, journaled: &Journaled) {
        let is_late = journaled.at_ms + LATE_MS <= now_ms();
        // What failed within a transaction is within EXEC's reply.
        let is_plain = !is_late
            && !journaled.has_intent
            && !replies.errors
            && replies.failure.is_none()
            && replies.failed.is_empty()
            && replies.batch.transaction.is_none();
        if is_plain {
            for sequence in &journaled.sequences {
                self.settle_one(*sequence, journaled);
            }
            return;
        }
        let table = self.recorder.table.load_full();
        let mut sequences = journaled.sequences.iter();
        for (index, command) in replies.batch.commands.iter().enumerate() {
            if command.class != Class::Mutation {
                continue;
            }
            let Some(&sequence) = sequences.next() else {
                break;
            };
            if journaled.is_lost(sequence) {
                continue;
            }
            let resolve = |at_ms: u64| match replies.batch.protocol {
                Protocol::Redis => resolve(&table, replies, index, command, at_ms),
                Protocol::Memcached => memcached::resolve(replies, index, command, at_ms),
            };
            let mut resolved = resolve(journaled.at_ms);
            let is_done = !matches!(
                resolved.0,
                Some(Outcome::Rejected(_) | Outcome::Unknown { .. })
            );
            if is_late && is_done {
                // What is another at another time has a time to live.
                let another = journaled.at_ms + 1;
                let is_timed = resolved.0 != resolve(another).0
                    || is_timed(&table, &replies.batch, command, (journaled.at_ms, another));
                if is_timed {
                    resolved.0 = Some(Outcome::Unknown {
                        reason: LATE,
                        keys: Vec::new(),
                    });
                }
            }
            self.tell(sequence, journaled, replies.batch.database, resolved);
        }
    }

    fn tell(
        &mut self,
        sequence: u64,
        journaled: &Journaled,
        database: u32,
        (outcome, key): (Option<Outcome>, Vec<u8>),
    ) {
        let Some(outcome) = outcome else {
            self.settle_one(sequence, journaled);
            return;
        };
        match outcome {
            Outcome::Effects(_) | Outcome::Partial { .. } => self.metrics.outcome_effects.add(1),
            Outcome::Rejected(_) => self.metrics.outcome_rejected.add(1),
            Outcome::Unknown { .. } => self.metrics.outcome_unknown.add(1),
        }
        let recorder = &mut self.recorder;
        recorder.writer.outcome(
            &mut recorder.staging,
            now_ms(),
            database,
            sequence,
            &key,
            &outcome,
        );
        self.wake_pump();
    }

    fn settle_one(&mut self, sequence: u64, journaled: &Journaled) {
        if !journaled.is_lost(sequence) {
            self.recorder.writer.settle(sequence);
        }
    }

    /// Records that mutations which may be in the journal were not forwarded;
    /// those that are not there need no word.
    pub(super) fn withdraw(&mut self, batch: &Batch, journaled: &Journaled, failed: &Failed) {
        let table = self.recorder.table.load_full();
        let mut sequences = journaled.sequences.iter();
        for command in &batch.commands {
            if command.class != Class::Mutation {
                continue;
            }
            let Some(&sequence) = sequences.next() else {
                break;
            };
            if journaled.is_lost(sequence) {
                continue;
            }
            if failed.verdict(sequence) == Verdict::Absent {
                self.recorder.writer.settle(sequence);
                continue;
            }
            let outcome = Outcome::Rejected(NOT_FORWARDED.to_owned());
            let key = first_key(&table, batch, command);
            self.tell(sequence, journaled, batch.database, (Some(outcome), key));
        }
    }
}

/// The first key of a mutation, of a transaction's first one for EXEC.
fn first_key(table: &Table, batch: &Batch, command: &Command) -> Vec<u8> {
    if batch.protocol == Protocol::Memcached {
        return memcached::first_key(batch, command);
    }
    let of = |command: &Command, bytes: &[u8]| {
        let mut inline = Vec::new();
        let arguments = arguments::parse(command.of(bytes), &mut inline);
        let keys = keys_of(table, command.specification, &arguments);
        keys.first().map(|key| key.to_vec())
    };
    let key = match &batch.transaction {
        None => of(command, &batch.bytes),
        Some(transaction) => transaction
            .commands
            .iter()
            .filter(|command| command.class == Class::Mutation)
            .find_map(|command| of(command, &transaction.bytes)),
    };
    key.unwrap_or_default()
}

/// The outcome of one mutation, if one has to be told, and its first key.
fn resolve(
    table: &Table,
    replies: &Replies,
    index: usize,
    command: &Command,
    at_ms: u64,
) -> (Option<Outcome>, Vec<u8>) {
    let batch = &replies.batch;
    let mut inline = Vec::new();
    let arguments = arguments::parse(command.of(&batch.bytes), &mut inline);
    let effect = effect_of(table, command, &arguments);
    let keys = keys_of(table, command.specification, &arguments);
    let key = || keys.first().map(|key| key.to_vec()).unwrap_or_default();
    let is_final =
        derive::derive(effect, &arguments, at_ms, &mut derive::Scratch::default()).is_final;
    let Some(reply) = replies.reply(index) else {
        return (
            unanswered(replies.failure.as_ref()),
            first_key(table, batch, command),
        );
    };
    if let Some(transaction) = &batch.transaction {
        return resolve_exec(table, transaction, reply, at_ms);
    }
    let part = outcome::Journaled {
        effect,
        arguments: &arguments,
        keys: &keys,
        is_final,
        journaled_at_ms: at_ms,
    };
    (outcome::resolve(&part, reply), key())
}

/// Whether a mutation, or a part of a transaction, is journaled as something else at
/// another time.
fn is_timed(table: &Table, batch: &Batch, command: &Command, times: (u64, u64)) -> bool {
    if batch.protocol == Protocol::Memcached {
        return memcached::is_timed(batch, command, times);
    }
    let (commands, bytes) = match &batch.transaction {
        Some(transaction) => (&transaction.commands[..], &transaction.bytes[..]),
        None => (std::slice::from_ref(command), &batch.bytes[..]),
    };
    let mut mutations = commands.iter().filter(|one| one.class == Class::Mutation);
    mutations.any(|one| {
        let mut inline = Vec::new();
        let arguments = arguments::parse(one.of(bytes), &mut inline);
        let effect = effect_of(table, one, &arguments);
        let (mut one, mut other) = (derive::Scratch::default(), derive::Scratch::default());
        let one = derive::derive(effect, &arguments, times.0, &mut one);
        let other = derive::derive(effect, &arguments, times.1, &mut other);
        one.arguments() != other.arguments()
    })
}

pub(super) fn unanswered(failure: Option<&Failure>) -> Option<Outcome> {
    let unknown = |reason| Outcome::Unknown {
        reason,
        keys: Vec::new(),
    };
    match failure {
        Some(Failure::NotSent(reason)) => Some(Outcome::Rejected(reason.to_string())),
        Some(Failure::NoReply(_)) => Some(unknown(outcome::NO_REPLY)),
        None => Some(unknown(outcome::NO_REPLY)),
    }
}

fn resolve_exec(
    table: &Table,
    transaction: &Transaction,
    reply: &[u8],
    at_ms: u64,
) -> (Option<Outcome>, Vec<u8>) {
    let mut inline: Vec<Vec<u8>> = vec![Vec::new(); transaction.commands.len()];
    let mut first_key = Vec::new();
    let mut parsed = Vec::with_capacity(transaction.commands.len());
    for (command, inline) in transaction.commands.iter().zip(&mut inline) {
        let arguments = arguments::parse(command.of(&transaction.bytes), inline);
        let keys = keys_of(table, command.specification, &arguments);
        let effect = match command.class {
            Class::Mutation => effect_of(table, command, &arguments),
            // A SELECT: a part of the effect for those that follow.
            Class::Control => Effect::Verbatim,
            Class::Read => Effect::None,
        };
        if command.class == Class::Mutation
            && first_key.is_empty()
            && let Some(key) = keys.first()
        {
            first_key = key.to_vec();
        }
        parsed.push((effect, arguments, keys));
    }
    let mut scratch = derive::Scratch::default();
    let parts: SmallVec<[outcome::Journaled<'_>; 8]> = parsed
        .iter()
        .map(|(effect, arguments, keys)| outcome::Journaled {
            effect: *effect,
            arguments,
            keys,
            is_final: derive::derive(*effect, arguments, at_ms, &mut scratch).is_final,
            journaled_at_ms: at_ms,
        })
        .collect();
    let is_final = !transaction.watched;
    (resolve_transaction(&parts, is_final, reply), first_key)
}
