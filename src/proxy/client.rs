//! What every client has, whatever it speaks: its socket, what it has sent
//! that is in no batch yet, and what it has not read yet.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context as Cx, Poll};

use bytes::Buf;

use super::Context;
use crate::platform::stream::Stream;
use crate::protocol::{Batch, Pool, Replies};

/// So many batches of one client are in flight at once.
pub(super) const IN_FLIGHT_MAX: usize = 4;
/// Or so many bytes, but always one batch: what a client pipelines beyond that
/// stays in its socket.
pub(super) const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// While nothing can be sent on, this many bytes are read ahead, so that a
/// client that hangs up is noticed.
const READ_AHEAD_MAX: usize = 64 * 1024;
/// A buffer grows by at most this much before there are bytes to fill it.
const GROWTH_MAX: usize = 1024 * 1024;
/// With less room than this a buffer grows before it is read into.
const MIN_READ: usize = 2 * 1024;
/// So many commands are in a batch.
const BATCH_COMMANDS_MAX: usize = 1024;
/// A client's first batch has at most this many reads: their replies may be large.
const BATCH_READS_START: usize = 8;
/// A batch has as many reads as get about this many bytes of replies, if they
/// are like those before: all of them are held at once, and others that share
/// the link wait for them.
const BATCH_REPLY_BYTES: usize = 1024 * 1024;

/// One client's side.
pub(super) struct Client {
    pub(super) stream: Stream,
    /// What the client has sent that is in no batch yet. Its memory is the
    /// pool's: an idle client holds none.
    pub(super) input: Batch,
    /// Replies that are being written, and how much of them is not.
    pub(super) output: Option<Replies>,
    /// There came more for the client though it had too much to read.
    pub(super) is_overflowing: bool,
    pub(super) state: State,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The client has sent its last; what is in flight is finished.
    InputEnded,
    /// Closes when the output is written.
    Closing,
}

impl Client {
    pub(super) fn new(stream: Stream) -> Client {
        Client {
            stream,
            input: Batch::default(),
            output: None,
            is_overflowing: false,
            state: State::Open,
        }
    }

    /// Ends at once, with nothing more written.
    pub(super) fn abort(&mut self) {
        self.state = State::Closing;
        self.output = None;
        self.input.clear();
    }

    /// How many bytes the client has not read.
    pub(super) fn unread(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.bytes.len())
    }

    /// Reads what the client has sent, `needed` bytes at least if they are
    /// there. Ready also at the end of its input.
    pub(super) fn poll_input(
        &mut self,
        cx: &mut Cx<'_>,
        pool: &Pool,
        can_dispatch: bool,
        needed: usize,
    ) -> Poll<io::Result<()>> {
        let may_read = can_dispatch || self.input.bytes.len() < READ_AHEAD_MAX;
        if self.state != State::Open || !may_read {
            return Poll::Pending;
        }
        if self.input.bytes.is_empty() {
            match self.stream.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Poll::Pending,
            }
            if self.input.bytes.capacity() == 0 {
                self.input = pool.take_batch();
            }
        }
        let bytes = &mut self.input.bytes;
        if bytes.capacity() - bytes.len() < needed.clamp(MIN_READ, Pool::READ_BYTES) {
            let growth = needed.min(GROWTH_MAX.max(bytes.len()));
            bytes.reserve(growth.max(Pool::READ_BYTES));
        }
        match self.stream.poll_read(cx, bytes) {
            Poll::Ready(Ok(0)) => {
                self.state = State::InputEnded;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(read) => Poll::Ready(read.map(drop)),
            Poll::Pending => {
                if self.input.bytes.is_empty() {
                    pool.give_batch(std::mem::take(&mut self.input));
                }
                Poll::Pending
            }
        }
    }

    /// Cuts the first `end` bytes off the input, with the commands found in
    /// them. The smaller part is copied, so that many small ones do not move
    /// the rest over and over.
    pub(super) fn take_input(&mut self, end: usize, pool: &Pool) -> Batch {
        let rest = self.input.bytes.len() - end;
        if rest == 0 {
            return std::mem::take(&mut self.input);
        }
        let mut other = pool.take_batch();
        if rest <= end {
            other.bytes.extend_from_slice(&self.input.bytes[end..]);
            self.input.bytes.truncate(end);
            return std::mem::replace(&mut self.input, other);
        }
        other.bytes.extend_from_slice(&self.input.bytes[..end]);
        self.input.bytes.advance(end);
        std::mem::swap(&mut other.commands, &mut self.input.commands);
        std::mem::swap(&mut other.mutations, &mut self.input.mutations);
        other
    }

    /// Writes what the client takes.
    pub(super) fn poll_output(&mut self, cx: &mut Cx<'_>, context: &Context) -> io::Result<()> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        while !output.bytes.is_empty() {
            match self.stream.poll_write(cx, &output.bytes) {
                Poll::Ready(written) => output.bytes.advance(written?),
                Poll::Pending if self.is_overflowing => {
                    context.metrics.closed.add(1);
                    return Err(io::Error::other("the client does not read"));
                }
                Poll::Pending => return Ok(()),
            }
        }
        if let Some(output) = self.output.take() {
            context.pool.give(output);
        }
        self.is_overflowing = false;
        Ok(())
    }

    /// Puts bytes behind what is being written.
    pub(super) fn put(&mut self, pool: &Pool, bytes: &[u8]) {
        let output = self.output.get_or_insert_with(|| pool.take_replies());
        output.bytes.extend_from_slice(bytes);
    }

    /// Puts replies behind what is being written.
    pub(super) fn write(&mut self, context: &Context, replies: Replies) {
        match &mut self.output {
            Some(output) => {
                self.is_overflowing |= is_too_much(context, output);
                output.bytes.extend_from_slice(&replies.bytes);
                context.pool.give(replies);
            }
            None => self.output = Some(replies),
        }
    }
}

/// Whether a client has so much unread that it gets no more. One reply, or
/// those to one batch, may be larger: the client is given time to read them.
pub(super) fn is_too_much(context: &Context, output: &Replies) -> bool {
    context.options.get().client_output_bytes_max < output.bytes.len()
}

/// How large a client's batches may be.
pub(super) struct Pace {
    /// So many reads go into the next one.
    reads_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            reads_max: BATCH_READS_START,
        }
    }
}

impl Pace {
    /// Fits the next batches to the size of the last one's replies.
    pub(super) fn take(&mut self, replies: &Replies) {
        let reads = replies.batch.commands.len() - replies.batch.mutations as usize;
        let Some(each) = replies.bytes.len().checked_div(reads) else {
            return;
        };
        let growth = (4 * self.reads_max).min(BATCH_COMMANDS_MAX);
        self.reads_max = (BATCH_REPLY_BYTES / each.max(1)).clamp(1, growth);
    }

    /// Whether one more command fits into the batch that is being made.
    pub(super) fn has_room(&self, batch: &Batch) -> bool {
        let commands = batch.commands.len();
        let reads = commands - batch.mutations as usize;
        commands < BATCH_COMMANDS_MAX && reads < self.reads_max
    }
}

/// Counted as a client until it is dropped, even by a panic.
pub(super) struct Registered {
    context: Rc<Context>,
    pub(super) key: usize,
    id: u64,
    /// Another client has ended this one.
    pub(super) killed: Arc<AtomicBool>,
}

impl Registered {
    pub(super) fn new(context: &Rc<Context>, id: u64) -> Registered {
        let clients = &context.metrics.clients;
        clients.set(clients.get() + 1);
        Registered {
            key: context.connections.borrow_mut().insert(None),
            id,
            killed: context.clients.add(id),
            context: Rc::clone(context),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let clients = &self.context.metrics.clients;
        clients.set(clients.get() - 1);
        self.context.connections.borrow_mut().remove(self.key);
        self.context.clients.remove(self.id);
    }
}
