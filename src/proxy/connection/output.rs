//! What a client gets: replies in their order, what came unasked between them,
//! and what the sidecar says itself.

use std::task::{Context as Cx, Poll};

use super::super::client::is_too_much;
use super::super::session::ReplyMode;
use super::{Connection, State};
use crate::protocol::{Expect, Replies};

impl Connection {
    pub(super) fn poll_unsolicited(&mut self, cx: &mut Cx<'_>) {
        if !self.exclusive {
            return;
        }
        let link = self.route.link();
        let pool = &self.context.pool;
        let output = self
            .client
            .output
            .get_or_insert_with(|| pool.take_replies());
        let is_too_much = is_too_much(&self.context, output);
        while let Poll::Ready(received) = link.poll_unsolicited(cx, &mut output.bytes) {
            self.client.is_overflowing |= is_too_much;
            if received.is_err() {
                // Without its own connection the client's state is gone, and it
                // has to see that.
                self.client.state = State::Closing;
                return;
            }
        }
    }

    /// Whether the command that is handled now goes unanswered. The datastore
    /// answers all of them: what became of a mutation has to be known.
    pub(super) fn take_silence(&mut self) -> bool {
        let mode = self.session.replies;
        if mode == ReplyMode::SkipNext {
            self.session.replies = ReplyMode::On;
        }
        mode != ReplyMode::On
    }

    /// Puts an answer of the sidecar's own behind what is being written.
    pub(in crate::proxy) fn reply(&mut self, bytes: &[u8]) {
        if !self.take_silence() {
            self.client.put(&self.context.pool, bytes);
        }
    }

    /// Of the answer to a client that has turned replies off, what the
    /// datastore tells it all the same: pushes and confirmations.
    pub(super) fn write_unasked(&mut self, mut replies: Replies) {
        let is_confirmed = replies.batch.expect == Expect::Confirmations && !replies.errors;
        if is_confirmed && replies.failure.is_none() {
            return self.write(replies);
        }
        for (from, to) in std::mem::take(&mut replies.pushes) {
            self.client.put(
                &self.context.pool,
                &replies.bytes[from as usize..to as usize],
            );
        }
        self.context.pool.give(replies);
    }

    pub(super) fn write(&mut self, replies: Replies) {
        self.client.write(&self.context, replies);
    }
}
