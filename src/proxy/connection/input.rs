//! What a client sends: read, cut into batches, and handed over to the slow
//! path where a command has to be handled alone.

use std::io;
use std::task::{Context as Cx, Poll};

use bytes::{Buf, BytesMut};

use super::super::session::{Action, ReplyMode};
use super::{Connection, State, Turn};
use crate::protocol::resp::commands::{Classified, Control};
use crate::protocol::resp::scanner::Frame;
use crate::protocol::{Batch, Class, Command, ParseError};
use crate::proxy::client::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};

impl Connection {
    /// Reads what the client has sent. Ready also at the end of its input.
    pub(super) fn poll_input(&mut self, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        let can_dispatch = !self.hold && self.can_send();
        let needed = self.scanner.needed();
        self.client
            .poll_input(cx, &self.context.pool, can_dispatch, needed)
    }

    fn can_send(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
            && self.client.unread() < self.context.output_high_water()
    }

    /// Sends the complete commands at the front of the input as one batch, up
    /// to the first that has to be handled alone.
    pub(super) fn dispatch(&mut self) -> Dispatched {
        if self.hold || !self.can_send() || self.client.state == State::Closing {
            return Dispatched::Nothing;
        }
        self.take_up_limits();
        let mut position = 0;
        let mut stop = None;
        let table = self.context.table.load();
        let one_at_a_time = self.session.replies == ReplyMode::SkipNext;
        let in_transaction = self.session.transaction.is_some();
        while position < self.client.input.bytes.len() && self.pace.has_room(&self.client.input) {
            let bytes = &self.client.input.bytes[position..];
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
            self.client.input.push(Command {
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
        if !self.client.input.is_empty() {
            let batch = self.client.take_input(position, &self.context.pool);
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

    /// What to do about what cannot be part of a batch, at the front of the input.
    fn stop(&mut self, stop: Option<Stop>) -> Dispatched {
        match stop {
            None => {
                if self.client.state == State::InputEnded && self.in_flight.is_empty() {
                    // The rest will never be a command.
                    self.client.input.clear();
                    return Dispatched::Sent;
                }
                Dispatched::Nothing
            }
            Some(Stop::Empty(frame)) => {
                self.client.input.bytes.advance(frame.end);
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

    /// Takes the command at the front of the input.
    pub(in crate::proxy) fn take_command(
        &mut self,
        frame: &Frame,
        specification: u16,
        class: Class,
    ) -> Batch {
        let mut batch = self.client.take_input(frame.end, &self.context.pool);
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
        &self.client.input.bytes[..frame.end]
    }

    /// What the client has sent that has not been looked at.
    pub(in crate::proxy) fn take_rest(&mut self) -> BytesMut {
        std::mem::take(&mut self.client.input).bytes
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
