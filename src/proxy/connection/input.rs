//! What a client sends: read, cut into batches, and handed over to the slow
//! path where a command has to be handled alone.

use std::io;
use std::task::{Context as Cx, Poll};

use bytes::{Buf, BytesMut};

use super::super::session::{Action, ReplyMode};
use super::{BATCH_COMMANDS_MAX, Connection, State, Turn};
use crate::protocol::resp::commands::{Classified, Control};
use crate::protocol::resp::scanner::Frame;
use crate::protocol::{Batch, Class, Command, ParseError, Pool};

/// So many batches of one client are in flight at once.
const IN_FLIGHT_MAX: usize = 4;
/// Or so many bytes, but always one batch: what a client pipelines beyond that
/// stays in its socket.
const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// While nothing can be sent on, this many bytes are read ahead, so that a
/// client that hangs up is noticed.
const READ_AHEAD_MAX: usize = 64 * 1024;
/// A buffer grows by at most this much before there are bytes to fill it.
const GROWTH_MAX: usize = 1024 * 1024;
/// With less room than this a buffer grows before it is read into.
const MIN_READ: usize = 2 * 1024;

impl Connection {
    /// Reads what the client has sent. Ready also at the end of its input.
    pub(super) fn poll_input(&mut self, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        let can_dispatch = !self.hold && self.can_send();
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
                self.input = self.context.pool.take_batch();
            }
        }
        let bytes = &mut self.input.bytes;
        let needed = self.scanner.needed();
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
                    let idle = std::mem::take(&mut self.input);
                    self.context.pool.give_batch(idle);
                }
                Poll::Pending
            }
        }
    }

    fn can_send(&self) -> bool {
        let unread = self.output.as_ref().map_or(0, |output| output.bytes.len());
        self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
            && unread < self.context.output_high_water()
    }

    /// Sends the complete commands at the front of the input as one batch, up
    /// to the first that has to be handled alone.
    pub(super) fn dispatch(&mut self) -> Dispatched {
        if self.hold || !self.can_send() || self.state == State::Closing {
            return Dispatched::Nothing;
        }
        self.take_up_limits();
        let mut position = 0;
        let mut stop = None;
        let table = self.context.table.load();
        let one_at_a_time = self.session.replies == ReplyMode::SkipNext;
        let in_transaction = self.session.transaction.is_some();
        while position < self.input.bytes.len() && self.has_room() {
            let bytes = &self.input.bytes[position..];
            let frame = match self.scanner.next(bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    stop = Some(Stop::Invalid(error));
                    break;
                }
            };
            if frame.arguments == 0 {
                stop = Some(Stop::Empty(frame));
                break;
            }
            let mut classified = table.classify(&bytes[..frame.end], &frame);
            if classified.specification == Command::UNKNOWN {
                let name = &bytes[frame.name.0..frame.name.1];
                if self.context.is_to_be_asked(name) {
                    stop = Some(Stop::Unknown(frame));
                    break;
                }
                classified.class = Class::Mutation;
            }
            if in_transaction && classified.specification != Command::UNKNOWN {
                // Even EXEC with too many arguments ends the transaction.
                let named = table.specification(classified.specification).control;
                classified.control = classified.control.or(named.filter(|c| *c == Control::Exec));
            }
            if classified.control.is_some() {
                stop = Some(Stop::Control(frame, classified));
                break;
            }
            if in_transaction {
                // It is only queued; EXEC journals it.
                classified.class = Class::Read;
            }
            self.input.push(Command {
                start: position as u32,
                end: (position + frame.end) as u32,
                specification: classified.specification,
                class: classified.class,
            });
            position += frame.end;
            if one_at_a_time {
                break;
            }
        }
        drop(table);
        if !self.input.is_empty() {
            let batch = self.take_input(position);
            let action = match in_transaction {
                true => Action::Queue(None),
                false => Action::None,
            };
            self.send(batch, action);
            return Dispatched::Sent;
        }
        self.stop(stop)
    }

    /// What a client may send depends on the configuration, and on whether it
    /// has authenticated: on a shared link Redis would hang up on all for one.
    fn take_up_limits(&mut self) {
        let limits = self.context.options.get().scanner;
        if self.scanner.limits() != limits {
            self.scanner.set_limits(limits);
        }
        self.scanner.set_unauthenticated(self.route.needs_auth());
    }

    /// Whether one more command fits into the batch that is being made.
    fn has_room(&self) -> bool {
        let commands = self.input.commands.len();
        let reads = commands - self.input.mutations as usize;
        commands < BATCH_COMMANDS_MAX && reads < self.batch_reads_max
    }

    /// What to do about what cannot be part of a batch, at the front of the input.
    fn stop(&mut self, stop: Option<Stop>) -> Dispatched {
        match stop {
            None => {
                if self.state == State::InputEnded && self.in_flight.is_empty() {
                    // The rest will never be a command.
                    self.input.clear();
                    return Dispatched::Sent;
                }
                Dispatched::Nothing
            }
            Some(Stop::Empty(frame)) => {
                self.input.bytes.advance(frame.end);
                Dispatched::Sent
            }
            Some(_) if !self.in_flight.is_empty() => Dispatched::Nothing,
            Some(Stop::Control(frame, classified)) => {
                Dispatched::Turn(Turn::Control(frame, classified))
            }
            Some(Stop::Unknown(frame)) => Dispatched::Turn(Turn::Unknown(frame)),
            Some(Stop::Invalid(error)) => {
                self.context.metrics.closed.add(1);
                self.reply(format!("-ERR {error}\r\n").as_bytes());
                self.close();
                Dispatched::Sent
            }
        }
    }

    /// Cuts the first `end` bytes off the input, with the commands found in
    /// them. The smaller part is copied, so that many small ones do not move
    /// the rest over and over.
    fn take_input(&mut self, end: usize) -> Batch {
        let rest = self.input.bytes.len() - end;
        if rest == 0 {
            return std::mem::take(&mut self.input);
        }
        let mut other = self.context.pool.take_batch();
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

    /// Takes the command at the front of the input.
    pub(in crate::proxy) fn take_command(
        &mut self,
        frame: &Frame,
        specification: u16,
        class: Class,
    ) -> Batch {
        let mut batch = self.take_input(frame.end);
        batch.push(Command {
            start: 0,
            end: frame.end as u32,
            specification,
            class,
        });
        batch
    }

    /// The bytes of the command at the front of the input.
    pub(in crate::proxy) fn front(&self, frame: &Frame) -> &[u8] {
        &self.input.bytes[..frame.end]
    }

    /// What the client has sent that has not been looked at.
    pub(in crate::proxy) fn take_rest(&mut self) -> BytesMut {
        std::mem::take(&mut self.input).bytes
    }
}

/// What [`Connection::dispatch`] came to.
pub(super) enum Dispatched {
    /// There is nothing to send, or no room.
    Nothing,
    /// Something was taken off the input.
    Sent,
    /// The slow path has to take over.
    Turn(Turn),
}

/// What ends a batch.
enum Stop {
    Empty(Frame),
    Control(Frame, Classified),
    Unknown(Frame),
    Invalid(ParseError),
}
