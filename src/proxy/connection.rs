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
use crate::datastore::Link;
use crate::platform::stream::Stream;
use crate::protocol::resp::commands::Classified;
use crate::protocol::resp::scanner::{Frame, Scanner};
use crate::protocol::{Batch, Class, Command, Expect, ParseError, Pool, Replies};
use crate::stack::forward::Route;
use crate::stack::{Stack, build};

/// So many batches of one client are in flight at once.
const IN_FLIGHT_MAX: usize = 4;
/// Or so many bytes, but always one batch: what a client pipelines beyond that
/// stays in its socket.
const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// So many commands are in a batch.
const BATCH_COMMANDS_MAX: usize = 1024;
/// A client's first batch has at most this many reads: their replies may be large.
const BATCH_READS_START: usize = 8;
/// A batch has as many reads as get about this many bytes of replies, if they
/// are like those before: all of them are held at once, and others that share
/// the link wait for them.
const BATCH_REPLY_BYTES: usize = 1024 * 1024;
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
    /// So many reads go into the next batch.
    batch_reads_max: usize,
    in_flight_bytes: usize,
    /// What CLIENT ID says: links are shared, so theirs would not tell clients
    /// apart.
    pub(super) id: u64,
    /// Replies that are being written, and how much of them is not.
    output: Option<Replies>,
    /// There came more for the client though it had too much to read.
    is_overflowing: bool,
    /// No more input is taken until nothing is in flight.
    hold: bool,
    state: State,
    registered: Registered,
}

struct InFlight {
    future: ResponseFuture,
    action: Action,
    blocking: bool,
    /// The client has turned replies off.
    silent: bool,
    bytes: usize,
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

/// What state the client's own link is in is nobody's business any more.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.exclusive {
            self.route.link().close();
        }
    }
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(stream: Stream, context: Rc<Context>) -> Connection {
        let route = Route::new(context.links.default_link());
        Connection {
            stream,
            session: Session::new(context.links.default_key()),
            scanner: Scanner::new(context.options.get().scanner),
            input: Batch::default(),
            service: build(&context.stack, route.clone()),
            route,
            exclusive: false,
            in_flight: VecDeque::new(),
            batch_reads_max: BATCH_READS_START,
            in_flight_bytes: 0,
            id: context.next_client_id(),
            output: None,
            is_overflowing: false,
            hold: false,
            state: State::Open,
            registered: Registered::new(&context),
            context,
        }
    }

    /// Serves the client until either side is done. What is in flight when the
    /// client hangs up is finished without it.
    pub async fn run(mut self) {
        self.serve().await;
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
    }

    async fn serve(&mut self) {
        let key = self.registered.key;
        if self.context.options.get().mode == ConnectionMode::Dedicated
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
            // Boxed: their state is several times that of the connection, and
            // an idle client should not hold it.
            match turn.await {
                Turn::Control(frame, classified) => {
                    Box::pin(self.control(frame, classified)).await;
                }
                Turn::Unknown(frame) => Box::pin(self.learn(frame)).await,
                Turn::End => return,
            }
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Turn> {
        for _ in 0..STEPS_PER_TURN {
            // What waits goes first, so that it is known what is unread.
            let is_written = self.poll_output(cx);
            self.poll_replies(cx);
            self.poll_unsolicited(cx);
            let is_written = is_written.and_then(|()| self.poll_output(cx));
            if is_written.is_err() || self.is_over() {
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
            let done = self.in_flight.pop_front().expect("there is a front");
            self.in_flight_bytes -= done.bytes;
            let is_shown = match done.action {
                // The reply to turning replies on is the first one seen.
                Action::ReplyMode(mode) if !replies.errors => mode == ReplyMode::On,
                _ => !done.silent,
            };
            self.apply(done.action, &replies);
            self.pace(&replies);
            match is_shown {
                true => self.write(replies),
                false => self.write_unasked(replies),
            }
        }
        self.hold = false;
        if self.exclusive {
            self.share_again();
        }
    }

    /// Fits the next batches to the size of the last one's replies.
    fn pace(&mut self, replies: &Replies) {
        let reads = replies.batch.commands.len() - replies.batch.mutations as usize;
        let Some(each) = replies.bytes.len().checked_div(reads) else {
            return;
        };
        let growth = (4 * self.batch_reads_max).min(BATCH_COMMANDS_MAX);
        self.batch_reads_max = (BATCH_REPLY_BYTES / each.max(1)).clamp(1, growth);
    }

    fn poll_unsolicited(&mut self, cx: &mut Cx<'_>) {
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

    fn is_over(&self) -> bool {
        if self.output.is_some() {
            return false;
        }
        match self.state {
            State::Open => self.context.draining.get() && self.has_nothing_to_do(),
            State::Closing => true,
            State::InputEnded => {
                self.in_flight.is_empty() && self.input.bytes.is_empty() || self.is_blocking()
            }
        }
    }

    /// Whether nothing is lost by closing: all that the client has sent, also
    /// what has not been read, is answered, or may wait for ever.
    fn has_nothing_to_do(&self) -> bool {
        let is_done = self.in_flight.is_empty() && self.input.bytes.is_empty();
        self.is_blocking() || is_done && !self.stream.has_input()
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
        self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
            && unread < self.context.output_high_water()
    }

    /// Sends the complete commands at the front of the input as one batch, up
    /// to the first that has to be handled alone.
    fn dispatch(&mut self) -> Dispatched {
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
        let silent = self.take_silence();
        batch.kept = matches!(action, Action::Queue(_) | Action::Subscriptions);
        self.hold |= batch.blocking || action != Action::None;
        let (blocking, bytes) = (batch.blocking, batch.bytes.len());
        self.in_flight_bytes += bytes;
        // The outermost layer sheds: it is always ready.
        let _ = self.service.poll_ready(&mut Cx::from_waker(Waker::noop()));
        self.in_flight.push_back(InFlight {
            future: self.service.call(batch),
            action,
            blocking,
            silent,
            bytes,
        });
    }

    /// Whether the command that is handled now goes unanswered. The datastore
    /// answers all of them: what became of a mutation has to be known.
    fn take_silence(&mut self) -> bool {
        let mode = self.session.replies;
        if mode == ReplyMode::SkipNext {
            self.session.replies = ReplyMode::On;
        }
        mode != ReplyMode::On
    }

    /// Asks the datastore on the sidecar's own account; no replies where it
    /// does not answer in the time that batches have.
    pub(super) async fn ask(&self, link: &Link, request: Batch) -> Replies {
        let timeout = self.context.stack.deadlines.timeout();
        let replies = tokio::time::timeout(timeout, link.send(request)).await;
        replies.unwrap_or_default()
    }

    /// Puts an answer of the sidecar's own behind what is being written.
    pub(super) fn reply(&mut self, bytes: &[u8]) {
        if !self.take_silence() {
            self.put(bytes);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let pool = &self.context.pool;
        let output = self.output.get_or_insert_with(|| pool.take_replies());
        output.bytes.extend_from_slice(bytes);
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

    /// Of the answer to a client that has turned replies off, what the
    /// datastore tells it all the same: pushes and confirmations.
    fn write_unasked(&mut self, mut replies: Replies) {
        let is_confirmed = replies.batch.expect == Expect::Confirmations && !replies.errors;
        if is_confirmed && replies.failure.is_none() {
            return self.write(replies);
        }
        for (from, to) in std::mem::take(&mut replies.pushes) {
            self.put(&replies.bytes[from as usize..to as usize]);
        }
        self.context.pool.give(replies);
    }

    fn write(&mut self, replies: Replies) {
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
