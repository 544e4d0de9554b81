//! memcached's mutations, to and from records.

use super::super::policy::{KeyPolicy, Policy};
use super::record::{Journaled, Recorder, note};
use super::settle::unanswered;
use crate::mutation::Outcome;
use crate::mutation::memcached::{Scratch, derive, resolve as resolve_reply};
use crate::mutation::writer::MutationParts;
use crate::protocol::memcached::KEY_BYTES_MAX;
use crate::protocol::memcached::request::{KeyBuffer, Request};
use crate::protocol::memcached::verbs::Specification;
use crate::protocol::{Batch, Command, Replies};

impl Recorder {
    /// Stages the record of one mutation; returns its sequence, 0 if there is
    /// none.
    pub(super) fn memcached(
        &mut self,
        policy: &Policy,
        batch: &Batch,
        command: &Command,
        journaled: &mut Journaled,
    ) -> u64 {
        let mut buffer = [0; KEY_BYTES_MAX];
        let Some(request) = request(batch, command, &mut buffer) else {
            debug_assert!(false, "{}", command.of(&batch.bytes).escape_ascii());
            return 0;
        };
        if !note(policy.of(request.keys.iter().copied()), journaled) {
            return 0;
        }
        let derived = derive(&request, journaled.at_ms, &mut self.memcached);
        journaled.has_intent |= derived.is_told;
        let parts = MutationParts {
            commands: &[&derived.arguments],
            keys: &request.keys,
            is_final: derived.is_final,
        };
        self.writer
            .mutation(&mut self.staging, journaled.at_ms, 0, &parts)
    }
}

/// What is promised for the keys of a mutation.
pub(super) fn policy_of(policy: &Policy, batch: &Batch, command: &Command) -> KeyPolicy {
    let mut buffer = [0; KEY_BYTES_MAX];
    let request = request(batch, command, &mut buffer);
    let keys = request.iter().flat_map(|request| &request.keys);
    policy.of(keys.copied())
}

/// The first key of a mutation; empty where it has none.
pub(super) fn first_key(batch: &Batch, command: &Command) -> Vec<u8> {
    let mut buffer = [0; KEY_BYTES_MAX];
    let request = request(batch, command, &mut buffer);
    let first = request.and_then(|request| request.keys.first().map(|key| key.to_vec()));
    first.unwrap_or_default()
}

/// The outcome of one mutation, if one has to be told, and its first key.
pub(super) fn resolve(
    replies: &Replies,
    index: usize,
    command: &Command,
    at_ms: u64,
) -> (Option<Outcome>, Vec<u8>) {
    let key = first_key(&replies.batch, command);
    let failure = replies.failed(index).or(replies.failure.as_ref());
    let reply = replies.reply(index);
    let Some(reply) = reply.filter(|_| replies.failed(index).is_none()) else {
        return (unanswered(failure), key);
    };
    let mut buffer = [0; KEY_BYTES_MAX];
    let request = request(&replies.batch, command, &mut buffer);
    let specification = Specification(command.specification);
    let outcome = resolve_reply(request.as_ref(), specification, reply, at_ms);
    (outcome, key)
}

/// Whether a mutation is journaled as something else at another time.
pub(super) fn is_timed(batch: &Batch, command: &Command, times: (u64, u64)) -> bool {
    let mut buffer = [0; KEY_BYTES_MAX];
    let Some(request) = request(batch, command, &mut buffer) else {
        return false;
    };
    // memcached's times are seconds.
    let seconds = (times.1 - times.0) * 1000;
    let (mut one, mut other) = (Scratch::default(), Scratch::default());
    let one = derive(&request, times.0, &mut one);
    let other = derive(&request, times.0 + seconds, &mut other);
    one.arguments != other.arguments
}

fn request<'a>(
    batch: &'a Batch,
    command: &Command,
    buffer: &'a mut KeyBuffer,
) -> Option<Request<'a>> {
    let specification = Specification(command.specification);
    Request::parse(command.of(&batch.bytes), specification, buffer)
}
