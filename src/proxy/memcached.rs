//! One memcached client.
//!
//! A connection to memcached has no state but whether it has logged in, so all
//! clients share links: one for text, one for packets. What has more to say
//! than one reply, or cannot share a link for other reasons, goes down a link of
//! its own, alone, with nothing else in flight; a client that logs in keeps it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll, Waker};

use bytes::BytesMut;
use tower::Service;

use super::Context;
use super::client::{Client, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, Pace, Registered, State};
use crate::datastore::{LinkKey, Wire};
use crate::platform::stream::Stream;
use crate::protocol::memcached::Dialect;
use crate::protocol::memcached::answers::{local, refusal};
use crate::protocol::memcached::scanner::{Frame, Scanner};
use crate::protocol::memcached::silence::silence;
use crate::protocol::memcached::verbs::{Shape, Specification, Verb};
use crate::protocol::{Batch, Class, Command, ParseError, Protocol, Replies};
use crate::stack::forward::{Route, Target};
use crate::stack::{Stack, build};

mod alone;

/// A connection with more to do than this lets others have a turn.
const STEPS_PER_TURN: usize = 8;

/// One memcached client.
pub(super) struct Connection {
    client: Client,
    context: Rc<Context>,
    scanner: Scanner,
    service: Stack,
    route: Route,
    key: LinkKey,
    /// Whether the route's link is this client's alone: it has logged in.
    exclusive: bool,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    pace: Pace,
    registered: Registered,
}

struct InFlight {
    future: <Stack as Service<Batch>>::Future,
    /// Whether there are replies that the client does not get.
    is_quiet: bool,
    bytes: usize,
}

/// What the task has to do that cannot be done in a poll.
enum Turn {
    /// The client speaks in packets: the link is another one.
    Binary,
    /// A command that is handled alone is at the front of the input.
    Alone(Frame),
    /// The connection is over.
    End,
}

/// What ends a batch.
enum Stop {
    Alone(Frame),
    Local(Frame),
    Invalid(ParseError),
}

/// What [`Connection::dispatch`] came to.
enum Dispatched {
    Nothing,
    Sent,
    Turn(Turn),
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.exclusive {
            self.route.close();
        }
    }
}

impl Connection {
    /// A connection that has just been accepted.
    pub(super) fn new(stream: Stream, context: Rc<Context>) -> Connection {
        let route = Route::to(match &context.ring {
            None => Target::Link(context.links.default_link()),
            Some(ring) => Target::Ring(Rc::clone(ring), Wire::MemcachedText),
        });
        let id = context.next_client_id();
        Connection {
            client: Client::new(stream),
            scanner: Scanner::new(context.options.get().memcached),
            service: build(&context.stack, route.clone()),
            route,
            key: context.links.default_key(),
            exclusive: false,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            pace: Pace::default(),
            registered: Registered::new(&context, id),
            context,
        }
    }

    /// Serves the client until either side is done. What is in flight when the
    /// client hangs up is finished without it.
    pub(super) async fn run(mut self) {
        self.serve().await;
        let input = std::mem::take(&mut self.client.input);
        self.context.pool.give_batch(input);
        for batch in std::mem::take(&mut self.in_flight) {
            let _ = batch.future.await;
        }
    }

    async fn serve(&mut self) {
        let key = self.registered.key;
        loop {
            let turn = poll_fn(|cx| {
                if let Some(place @ None) = self.context.connections.borrow_mut().get_mut(key) {
                    *place = Some(cx.waker().clone());
                }
                self.poll(cx)
            });
            match turn.await {
                Turn::Binary => Box::pin(self.take_binary_link()).await,
                Turn::Alone(frame) => Box::pin(self.alone(frame)).await,
                Turn::End => return,
            }
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Turn> {
        if self.registered.killed.load(Ordering::Acquire) {
            return Poll::Ready(Turn::End);
        }
        for _ in 0..STEPS_PER_TURN {
            let is_written = self.client.poll_output(cx, &self.context);
            self.poll_replies(cx);
            let is_written = is_written.and_then(|()| self.client.poll_output(cx, &self.context));
            if is_written.is_err() || self.is_over() {
                return Poll::Ready(Turn::End);
            }
            match self.dispatch() {
                Dispatched::Sent => continue,
                Dispatched::Turn(turn) => return Poll::Ready(turn),
                Dispatched::Nothing => {}
            }
            let can_dispatch = self.can_send();
            let needed = self.scanner.needed(self.client.input.bytes.len());
            let pool = &self.context.pool;
            match self.client.poll_input(cx, pool, can_dispatch, needed) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Turn::End),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_replies(&mut self, cx: &mut Cx<'_>) {
        while let Some(first) = self.in_flight.front_mut() {
            let Poll::Ready(Ok(replies)) = Pin::new(&mut first.future).poll(cx) else {
                return;
            };
            let done = self.in_flight.pop_front().expect("there is a front");
            self.in_flight_bytes -= done.bytes;
            self.pace.take(&replies);
            match done.is_quiet {
                false => self.client.write(&self.context, replies),
                true => self.write_loud(replies),
            }
        }
    }

    /// Writes of the replies what the client is to see.
    fn write_loud(&mut self, replies: Replies) {
        let mut shown = BytesMut::new();
        for (index, command) in replies.batch.commands.iter().enumerate() {
            let specification = Specification(command.specification);
            let reply = replies.reply(index).unwrap_or_default();
            silence(specification, reply, &mut shown);
        }
        self.client.put(&self.context.pool, &shown);
        self.client.is_overflowing |= self
            .client
            .output
            .as_ref()
            .is_some_and(|output| super::client::is_too_much(&self.context, output));
        self.context.pool.give(replies);
    }

    fn is_over(&self) -> bool {
        if self.client.output.is_some() {
            return false;
        }
        let is_done = self.in_flight.is_empty() && self.client.input.bytes.is_empty();
        match self.client.state {
            State::Open => {
                self.context.draining.get() && is_done && !self.client.stream.has_input()
            }
            State::Closing => self.in_flight.is_empty(),
            State::InputEnded => is_done,
        }
    }

    fn can_send(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
            && self.client.unread() < self.context.output_high_water()
            && self.client.state != State::Closing
    }

    /// Sends the complete commands at the front of the input as one batch.
    fn dispatch(&mut self) -> Dispatched {
        if !self.can_send() {
            return Dispatched::Nothing;
        }
        if self.key.wire == Wire::MemcachedText
            && self
                .client
                .input
                .bytes
                .first()
                .map(|first| Dialect::of(*first))
                == Some(Dialect::Binary)
            && self.scanner.dialect().is_none()
        {
            return Dispatched::Turn(Turn::Binary);
        }
        self.scanner
            .set_limits(self.context.options.get().memcached);
        let mut position = 0;
        let mut stop = None;
        let mut is_quiet = false;
        while position < self.client.input.bytes.len() && self.pace.has_room(&self.client.input) {
            let frame = match self.scanner.next(&self.client.input.bytes[position..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    stop = Some(Stop::Invalid(error));
                    break;
                }
            };
            if frame.class == Class::Control {
                let shape = frame.specification.row().map(|row| row.shape);
                stop = Some(match shape {
                    Some(Shape::Local) => Stop::Local(frame),
                    _ => Stop::Alone(frame),
                });
                break;
            }
            is_quiet |= frame.specification.is_quiet();
            self.client.input.push(Command {
                start: position as u32,
                end: (position + frame.end) as u32,
                specification: frame.specification.0,
                class: frame.class,
            });
            position += frame.end;
        }
        if !self.client.input.is_empty() {
            let batch = self.client.take_input(position, &self.context.pool);
            self.send(batch, is_quiet);
            // A command that ended the batch is looked at again.
            return Dispatched::Sent;
        }
        self.stop(stop)
    }

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
            Some(_) if !self.in_flight.is_empty() => Dispatched::Nothing,
            Some(Stop::Alone(frame)) => Dispatched::Turn(Turn::Alone(frame)),
            Some(Stop::Local(frame)) => {
                let batch = self.client.take_input(frame.end, &self.context.pool);
                let mut reply = BytesMut::new();
                local(&batch.bytes[..frame.end], frame.specification, &mut reply);
                self.client.put(&self.context.pool, &reply);
                self.context.pool.give_batch(batch);
                Dispatched::Sent
            }
            Some(Stop::Invalid(error)) => {
                self.context.metrics.closed.add(1);
                let mut reply = BytesMut::new();
                let dialect = self.scanner.dialect().unwrap_or(Dialect::Text);
                refusal(dialect, &error, &self.client.input.bytes, &mut reply);
                self.client.put(&self.context.pool, &reply);
                self.client.state = State::Closing;
                Dispatched::Sent
            }
        }
    }

    /// Sends a batch up the stack.
    fn send(&mut self, mut batch: Batch, is_quiet: bool) {
        batch.protocol = Protocol::Memcached;
        // A packet's answer has to bear its number.
        batch.kept = self.key.wire == Wire::MemcachedBinary;
        let bytes = batch.bytes.len();
        self.in_flight_bytes += bytes;
        // The outermost layer sheds: it is always ready.
        let _ = self.service.poll_ready(&mut Cx::from_waker(Waker::noop()));
        self.in_flight.push_back(InFlight {
            future: self.service.call(batch),
            is_quiet,
            bytes,
        });
    }

    /// From its first byte on a connection is one of packets, or it never is.
    async fn take_binary_link(&mut self) {
        self.key.wire = Wire::MemcachedBinary;
        if let Some(ring) = &self.context.ring {
            ring.open_binary().await;
            let target = Target::Ring(Rc::clone(ring), self.key.wire);
            return self.route.set_target(target);
        }
        let link = self.context.links.standing(&self.key).await;
        self.route.set(link);
    }

    /// Whether the front of the input is the verb.
    fn is(frame: &Frame, verb: Verb) -> bool {
        frame
            .specification
            .row()
            .is_some_and(|row| row.verb == verb)
    }
}
