//! What a client gets: replies in their order, what came unasked between them,
//! and what the sidecar says itself.

use std::io;
use std::task::{Context as Cx, Poll};

use bytes::Buf;

use super::super::Context;
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
        let output = self.output.get_or_insert_with(|| pool.take_replies());
        let is_too_much = is_too_much(&self.context, output);
        while let Poll::Ready(received) = link.poll_unsolicited(cx, &mut output.bytes) {
            self.is_overflowing |= is_too_much;
            if received.is_err() {
                // Without its own connection the client's state is gone, and it
                // has to see that.
                self.state = State::Closing;
                return;
            }
        }
    }

    pub(super) fn poll_output(&mut self, cx: &mut Cx<'_>) -> io::Result<()> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        while !output.bytes.is_empty() {
            match self.stream.try_write(&output.bytes) {
                Ok(written) => output.bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_write_ready(cx) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending if self.is_overflowing => {
                            self.context.metrics.closed.add(1);
                            return Err(io::Error::other("the client does not read"));
                        }
                        Poll::Pending => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(output) = self.output.take() {
            self.context.pool.give(output);
        }
        self.is_overflowing = false;
        Ok(())
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
            self.put(bytes);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let pool = &self.context.pool;
        let output = self.output.get_or_insert_with(|| pool.take_replies());
        output.bytes.extend_from_slice(bytes);
    }

    /// Of the answer to a client that has turned replies off, what the
    /// datastore tells it all the same: pushes and confirmations.
    pub(super) fn write_unasked(&mut self, mut replies: Replies) {
        let is_confirmed = replies.batch.expect == Expect::Confirmations && !replies.errors;
        if is_confirmed && replies.failure.is_none() {
            return self.write(replies);
        }
        for (from, to) in std::mem::take(&mut replies.pushes) {
            self.put(&replies.bytes[from as usize..to as usize]);
        }
        self.context.pool.give(replies);
    }

    pub(super) fn write(&mut self, replies: Replies) {
        match &mut self.output {
            Some(output) => {
                self.is_overflowing |= is_too_much(&self.context, output);
                output.bytes.extend_from_slice(&replies.bytes);
                self.context.pool.give(replies);
            }
            None => self.output = Some(replies),
        }
    }
}

/// Whether a client has so much unread that it gets no more. One reply, or
/// those to one batch, may be larger: the client is given time to read them.
fn is_too_much(context: &Context, output: &Replies) -> bool {
    context.options.get().client_output_bytes_max < output.bytes.len()
}
