//! One client connection.
//!
//! A state machine polled by one task. Its events: replies are there, bytes
//! that answer no command are there, the client takes more, the client has
//! sent more. Commands that change the session are handled one at a time, when
//! nothing is in flight.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Cx, Poll, Waker};

use bytes::{Buf, BytesMut};
use tower::Service;

use super::session::{Action, ReplyMode, Session};
use super::{ConnectionMode, Context};
use crate::platform::stream::Stream;
use crate::protocol::resp::commands::{Classified, Control};
use crate::protocol::resp::replies::{ReplyScanner, subscription};
use crate::protocol::resp::scanner::{Frame, Scanner};
use crate::protocol::{Batch, Class, Command, ParseError, Pool, Replies};
use crate::stack::forward::Route;
use crate::stack::{Stack, build};

/// So many batches of one client are in flight at once.
const IN_FLIGHT_MAX: usize = 4;
/// So many commands are in a batch.
const BATCH_COMMANDS_MAX: usize = 1024;
/// Nothing more is read from a client that has this many bytes to read.
const OUTPUT_HIGH_WATER: usize = 256 * 1024;
/// While nothing can be sent on, this many bytes are read ahead, so that a
/// client that hangs up is noticed.
const READ_AHEAD_MAX: usize = 64 * 1024;
/// A buffer grows by at most this much before there are bytes to fill it.
const GROWTH_MAX: usize = 1024 * 1024;
/// With less room than this a buffer grows before it is read into.
const MIN_READ: usize = 2 * 1024;
/// A connection with more to do than this lets others have a turn.
const STEPS_PER_TURN: usize = 8;

type ResponseFuture = <Stack as Service<Batch>>::Future;

/// One client connection.
pub struct Connection {
    stream: Stream,
    pub(super) context: Rc<Context>,
    pub(super) session: Session,
    scanner: Scanner,
    /// What the client has sent that is in no batch yet. Its memory is the
    /// pool's: an idle client holds none.
    input: Batch,
    service: Stack,
    pub(super) route: Route,
    /// Whether the route's link is this client's alone.
    pub(super) exclusive: bool,
    in_flight: VecDeque<InFlight>,
    /// Replies that are being written, and how much of them is not.
    output: Option<Replies>,
    /// No more input is taken until nothing is in flight.
    hold: bool,
    state: State,
}

struct InFlight {
    future: ResponseFuture,
    action: Action,
    blocking: bool,
    /// The client is not answered.
    silent: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The client has sent its last; what is in flight is finished.
    InputEnded,
    /// Closes when the output is written.
    Closing,
}

/// Why the hot path hands over to the slow one.
pub(super) enum Turn {
    /// A command that changes the session is at the front of the input, and
    /// nothing is in flight.
    Control(Frame, Classified),
    /// So is a command that the table does not know.
    Unknown(Frame),
    /// The connection is over.
    End,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(stream: Stream, context: Rc<Context>) -> Connection {
        let route = Route::new(context.links.default_link());
        Connection {
            stream,
            session: Session::new(context.links.default_key()),
            scanner: Scanner::new(context.options.scanner),
            input: Batch::default(),
            service: build(&context.stack, route.clone()),
            route,
            exclusive: false,
            in_flight: VecDeque::new(),
            output: None,
            hold: false,
            state: State::Open,
            context,
        }
    }

    /// Serves the client until either side is done. What is in flight when the
    /// client hangs up is finished without it.
    pub async fn run(mut self) {
        let context = Rc::clone(&self.context);
        let registered = Registered::new(&context);
        self.serve(registered.key).await;
        self.finish().await;
    }

    /// What has been sent is finished; what blocks is cut off, so that the
    /// datastore gives nothing to a client that is gone.
    async fn finish(mut self) {
        let input = std::mem::take(&mut self.input);
        self.context.pool.give_batch(input);
        let link = self.exclusive.then(|| self.route.link());
        if let Some(link) = &link
            && self.is_blocking()
        {
            link.close();
        }
        for batch in std::mem::take(&mut self.in_flight) {
            batch.finish().await;
        }
        if let Some(link) = link {
            link.close();
        }
    }

    async fn serve(&mut self, key: usize) {
        if self.context.options.mode == ConnectionMode::Dedicated
            && let Err(error) = self.make_exclusive().await
        {
            tracing::debug!(%error, "client without an upstream connection");
        }
        loop {
            let turn = poll_fn(|cx| {
                if let Some(place @ None) = self.context.connections.borrow_mut().get_mut(key) {
                    *place = Some(cx.waker().clone());
                }
                self.poll(cx)
            });
            match turn.await {
                Turn::Control(frame, classified) => self.control(frame, classified).await,
                Turn::Unknown(frame) => self.learn(frame).await,
                Turn::End => return,
            }
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Turn> {
        for _ in 0..STEPS_PER_TURN {
            self.poll_replies(cx);
            self.poll_unsolicited(cx);
            if self.poll_output(cx).is_err() || self.is_over() {
                return Poll::Ready(Turn::End);
            }
            match self.dispatch() {
                Dispatched::Sent => continue,
                Dispatched::Turn(turn) => return Poll::Ready(turn),
                Dispatched::Nothing => {}
            }
            match self.poll_input(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Turn::End),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes the answers at the front. Only the first batch in flight has to
    /// be asked: the others move on without being polled.
    fn poll_replies(&mut self, cx: &mut Cx<'_>) {
        while let Some(first) = self.in_flight.front_mut() {
            let Poll::Ready(Ok(replies)) = Pin::new(&mut first.future).poll(cx) else {
                return;
            };
            let InFlight { action, silent, .. } =
                self.in_flight.pop_front().expect("there is a front");
            let is_shown = match action {
                // The reply to turning replies on is the first one seen.
                Action::ReplyMode(mode) if !replies.errors => mode == ReplyMode::On,
                _ => !silent,
            };
            self.apply(action, &replies);
            match is_shown {
                true => self.write(replies),
                false => self.write_pushes(replies),
            }
        }
        self.hold = false;
        if self.exclusive {
            self.share_again();
        }
    }

    fn poll_unsolicited(&mut self, cx: &mut Cx<'_>) {
        if !self.exclusive {
            return;
        }
        let link = self.route.link();
        let pool = &self.context.pool;
        let output = self.output.get_or_insert_with(|| pool.take_replies());
        while let Poll::Ready(received) = link.poll_unsolicited(cx, &mut output.bytes) {
            if received.is_err() {
                // Without its own connection the client's state is gone, and it
                // has to see that.
                self.state = State::Closing;
                return;
            }
        }
    }

    fn poll_output(&mut self, cx: &mut Cx<'_>) -> io::Result<()> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        while !output.bytes.is_empty() {
            match self.stream.try_write(&output.bytes) {
                Ok(written) => output.bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_write_ready(cx) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending
                            if self.context.options.client_output_bytes_max
                                < output.bytes.len() =>
                        {
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
        Ok(())
    }

    fn is_over(&self) -> bool {
        if self.output.is_some() {
            return false;
        }
        match self.state {
            State::Open => {
                self.context.draining.get()
                    && self.in_flight.is_empty()
                    && self.input.bytes.is_empty()
            }
            State::Closing => true,
            State::InputEnded => {
                self.in_flight.is_empty() && self.input.bytes.is_empty() || self.is_blocking()
            }
        }
    }

    fn is_blocking(&self) -> bool {
        self.in_flight.iter().any(|batch| batch.blocking)
    }

    /// Reads what the client has sent. Ready also at the end of its input.
    fn poll_input(&mut self, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
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
        self.in_flight.len() < IN_FLIGHT_MAX && unread < OUTPUT_HIGH_WATER
    }

    /// Sends the complete commands at the front of the input as one batch, up
    /// to the first that has to be handled alone.
    fn dispatch(&mut self) -> Dispatched {
        if self.hold || !self.can_send() || self.state == State::Closing {
            return Dispatched::Nothing;
        }
        let mut position = 0;
        let mut stop = None;
        let table = self.context.table.load();
        let one_at_a_time = self.session.replies == ReplyMode::SkipNext;
        let in_transaction = self.session.transaction.is_some();
        while position < self.input.bytes.len() && self.input.commands.len() < BATCH_COMMANDS_MAX {
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
            if classified.specification == Command::UNKNOWN
                && !self
                    .context
                    .is_no_command(&bytes[frame.name.0..frame.name.1])
            {
                stop = Some(Stop::Unknown(frame));
                break;
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

    /// Cuts the first `end` bytes off the input, with the commands found in them.
    fn take_input(&mut self, end: usize) -> Batch {
        let mut batch = std::mem::take(&mut self.input);
        if end < batch.bytes.len() {
            self.input = self.context.pool.take_batch();
            self.input.bytes.extend_from_slice(&batch.bytes[end..]);
            batch.bytes.truncate(end);
        }
        batch
    }

    /// Takes the command at the front of the input.
    pub(super) fn take_command(
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

    /// Sends a batch up the stack. An action that changes the session holds
    /// back what follows until it is done.
    pub(super) fn send(&mut self, mut batch: Batch, action: Action) {
        batch.database = self.session.key.database;
        let silent = self.is_silent();
        batch.kept = matches!(action, Action::Queue(_) | Action::Subscriptions);
        self.hold |= batch.blocking || action != Action::None;
        let blocking = batch.blocking;
        // The outermost layer sheds: it is always ready.
        let _ = self.service.poll_ready(&mut Cx::from_waker(Waker::noop()));
        self.in_flight.push_back(InFlight {
            future: self.service.call(batch),
            action,
            blocking,
            silent,
        });
    }

    /// Whether the next command's reply is kept from the client; a skip is
    /// used up.
    fn is_silent(&mut self) -> bool {
        let mode = self.session.replies;
        if mode == ReplyMode::SkipNext {
            self.session.replies = ReplyMode::On;
        }
        mode != ReplyMode::On
    }

    /// Puts an answer of the sidecar's own behind what is being written.
    pub(super) fn reply(&mut self, bytes: &[u8]) {
        if !self.is_silent() {
            self.show(bytes);
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        let pool = &self.context.pool;
        let output = self.output.get_or_insert_with(|| pool.take_replies());
        output.bytes.extend_from_slice(bytes);
    }

    /// Of replies the client has turned off it still gets what it has not
    /// asked for.
    fn write_pushes(&mut self, replies: Replies) {
        if self.exclusive {
            let mut scanner = ReplyScanner::default();
            let mut rest = &replies.bytes[..];
            while let Ok(Some(frame)) = scanner.next(rest) {
                let (bytes, after) = rest.split_at(frame.end);
                if frame.kind == b'>' || subscription(bytes).is_some() {
                    self.show(bytes);
                }
                rest = after;
            }
        }
        self.context.pool.give(replies);
    }

    /// Closes when everything is written.
    pub(super) fn close(&mut self) {
        self.state = State::Closing;
    }

    /// Ends at once, with nothing more written.
    pub(super) fn abort(&mut self) {
        self.state = State::Closing;
        self.output = None;
        self.input.clear();
    }

    /// Both halves of the client's stream, for raw copying.
    pub(super) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The bytes of the command at the front of the input.
    pub(super) fn front(&self, frame: &Frame) -> &[u8] {
        &self.input.bytes[..frame.end]
    }

    /// What the client has sent that has not been looked at.
    pub(super) fn take_rest(&mut self) -> BytesMut {
        std::mem::take(&mut self.input).bytes
    }

    fn write(&mut self, replies: Replies) {
        match &mut self.output {
            Some(output) => {
                output.bytes.extend_from_slice(&replies.bytes);
                self.context.pool.give(replies);
            }
            None => self.output = Some(replies),
        }
    }
}

/// Counted as a client until it is dropped, even by a panic.
struct Registered {
    context: Rc<Context>,
    key: usize,
}

impl Registered {
    fn new(context: &Rc<Context>) -> Registered {
        let clients = &context.metrics.clients;
        clients.set(clients.get() + 1);
        Registered {
            key: context.connections.borrow_mut().insert(None),
            context: Rc::clone(context),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let clients = &self.context.metrics.clients;
        clients.set(clients.get() - 1);
        self.context.connections.borrow_mut().remove(self.key);
    }
}

impl InFlight {
    async fn finish(self) {
        let _ = self.future.await;
    }
}

/// What [`Connection::dispatch`] came to.
enum Dispatched {
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
