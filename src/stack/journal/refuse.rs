//! What happens to a batch whose records the journal did not take.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::super::answers;
use super::super::metrics::Metrics;
use super::super::policy::{OnUnavailable, Policy};
use super::Below;
use super::memcached;
use super::record::{Journaled, keys_of};
use super::state::Failed;
use crate::journal::{AppendError, Verdict};
use crate::protocol::resp::arguments;
use crate::protocol::resp::commands::Table;
use crate::protocol::{Batch, Class, Command, Failure, Protocol, Replies};

/// A batch whose mutations are answered here, and whose other commands have
/// been forwarded without them.
pub(super) struct Refused<S: Below> {
    original: Batch,
    /// What each command's answer is; `None`: the next reply.
    answers: Vec<Option<Replies>>,
    forwarded: Option<S::Future>,
}

/// Everything the decision depends on.
pub(super) struct Refusal<'a> {
    pub failed: &'a Failed,
    pub writer: u64,
    pub table: &'a Table,
    pub policy: &'a Policy,
    pub metrics: &'a Metrics,
}

impl Refusal<'_> {
    /// Forwards what needs no record, or by policy goes without one, and
    /// answers the rest.
    pub(super) fn apply<S: Below>(
        &self,
        batch: Batch,
        journaled: &Journaled,
        service: &mut S,
    ) -> Refused<S> {
        let mut kept = Batch {
            bytes: BytesMut::with_capacity(batch.bytes.len()),
            database: batch.database,
            protocol: batch.protocol,
            expect: batch.expect,
            blocking: batch.blocking,
            kept: batch.kept,
            ..Batch::default()
        };
        let mut answers = Vec::with_capacity(batch.commands.len());
        let mut sequences = journaled.sequences.iter();
        for command in &batch.commands {
            let sequence = match command.class {
                Class::Mutation => sequences.next().copied().unwrap_or(0),
                Class::Read | Class::Control => 0,
            };
            let answer = (sequence != 0).then(|| self.answer(&batch, command, sequence));
            let answer = answer.flatten();
            if answer.is_none() {
                keep(&mut kept, command, command.of(&batch.bytes));
            }
            answers.push(answer);
        }
        if batch.transaction.is_some() && kept.is_empty() {
            // The datastore still holds what was queued.
            keep(&mut kept, &batch.commands[0], b"*1\r\n$7\r\nDISCARD\r\n");
        }
        // Nothing of it is resolved any more, so the link need not keep it.
        kept.mutations = 0;
        Refused {
            original: batch,
            answers,
            forwarded: (!kept.is_empty()).then(|| service.call(kept)),
        }
    }

    /// The answer to a mutation; none where it is forwarded all the same.
    fn answer(&self, batch: &Batch, command: &Command, sequence: u64) -> Option<Replies> {
        let mut replies = Replies {
            batch: Batch {
                bytes: BytesMut::from(command.of(&batch.bytes)),
                commands: vec![Command {
                    start: 0,
                    end: command.end - command.start,
                    ..*command
                }],
                protocol: batch.protocol,
                ..Batch::default()
            },
            ..Replies::default()
        };
        let (AppendError::Unknown(reason)
        | AppendError::NotAppended(reason)
        | AppendError::Skipped(reason)) = &self.failed.error;
        match self.failed.verdict(sequence) {
            Verdict::Unknown | Verdict::Stored => {
                self.metrics.uncertain.add(1);
                answers::uncertain(&mut replies, 0, self.writer, sequence, reason);
            }
            Verdict::Absent => {
                if self.is_bypassed(batch, command) {
                    self.metrics.bypassed.add(1);
                    return None;
                }
                self.metrics.not_journaled.add(1);
                answers::not_journaled(&mut replies, 0, reason);
            }
        }
        Some(replies)
    }

    fn is_bypassed(&self, batch: &Batch, command: &Command) -> bool {
        if batch.protocol == Protocol::Memcached {
            let policy = memcached::policy_of(self.policy, batch, command);
            return policy.on_unavailable == OnUnavailable::Bypass;
        }
        let of = |command: &Command, bytes: &[u8]| {
            let mut inline = Vec::new();
            let arguments = arguments::parse(command.of(bytes), &mut inline);
            let keys = keys_of(self.table, command.specification, &arguments);
            self.policy.of(keys.iter().copied()).on_unavailable == OnUnavailable::Bypass
        };
        match &batch.transaction {
            None => of(command, &batch.bytes),
            Some(transaction) => transaction
                .commands
                .iter()
                .filter(|command| command.class == Class::Mutation)
                .all(|command| of(command, &transaction.bytes)),
        }
    }
}

fn keep(kept: &mut Batch, command: &Command, bytes: &[u8]) {
    let start = kept.bytes.len() as u32;
    kept.bytes.extend_from_slice(bytes);
    kept.push(Command {
        start,
        end: kept.bytes.len() as u32,
        ..*command
    });
}

impl<S: Below> Refused<S> {
    /// The commands that are answered.
    pub(super) fn shape(&self) -> Batch {
        self.original.shape()
    }

    /// All answers, in the order of the commands.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Replies> {
        let forwarded = match &mut self.forwarded {
            None => Replies::default(),
            Some(inner) => match Pin::new(inner).poll(cx) {
                Poll::Ready(Ok::<_, Infallible>(replies)) => replies,
                Poll::Pending => return Poll::Pending,
            },
        };
        let mut merged = Replies {
            batch: std::mem::take(&mut self.original),
            failure: forwarded.failure.clone(),
            ..Replies::default()
        };
        let mut next = 0;
        for (index, answer) in self.answers.iter().enumerate() {
            match answer {
                Some(answer) => merged.push(&answer.bytes),
                None if merged.push_from(&forwarded, next) => next += 1,
                None => answer_missing(&mut merged, index),
            }
        }
        let is_discarded = next < forwarded.ends.len() && forwarded.reply(next) == Some(b"+OK\r\n");
        if merged.batch.transaction.is_some() && next == 0 && !is_discarded {
            // Renamed, or forbidden: the datastore still holds what was queued.
            let reason = Rc::from("the transaction could not be discarded");
            merged.failure.get_or_insert(Failure::NotSent(reason));
        }
        // The DISCARD in an EXEC's place is answered for nobody.
        let used = forwarded.ends[..next].last().copied().unwrap_or(0);
        for (from, to) in &forwarded.pushes {
            if used <= *from {
                merged.push_unasked(&forwarded.bytes[*from as usize..*to as usize]);
            }
        }
        Poll::Ready(merged)
    }
}

/// Answers a command that was forwarded and got no reply.
fn answer_missing(merged: &mut Replies, index: usize) {
    let (reason, is_sent) = match &merged.failure {
        Some(Failure::NotSent(reason)) => (Rc::clone(reason), false),
        Some(Failure::NoReply(reason)) => (Rc::clone(reason), true),
        None => (Rc::from("no reply"), true),
    };
    match merged.batch.commands[index].class {
        // It went without a record.
        Class::Mutation if is_sent => answers::uncertain(merged, index, 0, 0, &reason),
        Class::Mutation => answers::not_journaled(merged, index, &reason),
        Class::Read | Class::Control => answers::unavailable(merged, index, &reason),
    }
}
