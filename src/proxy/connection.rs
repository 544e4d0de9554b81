//! One client connection.
//!
//! A state machine polled by one task. Its events: replies are there, bytes
//! that answer no command are there, the client takes more, the client has
//! sent more. Commands that change the session are handled one at a time, when
//! nothing is in flight.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll, Waker};

use tower::Service;

use super::client::{Client, Pace, Registered, State};
use super::session::{Action, ReplyMode, Session};
use super::{ConnectionMode, Context};
use crate::datastore::Link;
use crate::platform::stream::Stream;
use crate::protocol::resp::commands::Classified;
use crate::protocol::resp::scanner::{Frame, Scanner};
use crate::protocol::{Batch, Replies};
use crate::stack::forward::Route;
use crate::stack::{Stack, build};
use input::Dispatched;

mod input;
mod output;

/// A connection with more to do than this lets others have a turn.
const STEPS_PER_TURN: usize = 8;

type ResponseFuture = <Stack as Service<Batch>>::Future;

/// One client connection.
pub struct Connection {
    client: Client,
    pub(super) context: Rc<Context>,
    pub(super) session: Session,
    scanner: Scanner,
    service: Stack,
    pub(super) route: Route,
    /// Whether the route's link is this client's alone.
    pub(super) exclusive: bool,
    in_flight: VecDeque<InFlight>,
    pace: Pace,
    in_flight_bytes: usize,
    /// What CLIENT ID says: links are shared, so theirs would not tell clients
    /// apart.
    pub(super) id: u64,
    /// No more input is taken until nothing is in flight.
    hold: bool,
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
        let id = context.next_client_id();
        Connection {
            client: Client::new(stream),
            session: Session::new(context.links.default_key()),
            scanner: Scanner::new(context.options.get().scanner),
            service: build(&context.stack, route.clone()),
            route,
            exclusive: false,
            in_flight: VecDeque::new(),
            pace: Pace::default(),
            in_flight_bytes: 0,
            id,
            hold: false,
            registered: Registered::new(&context, id),
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
        let input = std::mem::take(&mut self.client.input);
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
                    self.context.clients.set_waker(self.id, cx.waker());
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
        if self.registered.killed.load(Ordering::Acquire) {
            return Poll::Ready(Turn::End);
        }
        for _ in 0..STEPS_PER_TURN {
            // What waits goes first, so that it is known what is unread.
            let is_written = self.client.poll_output(cx, &self.context);
            self.poll_replies(cx);
            self.poll_unsolicited(cx);
            let is_written = is_written.and_then(|()| self.client.poll_output(cx, &self.context));
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
            let Poll::Ready(Ok(mut replies)) = Pin::new(&mut first.future).poll(cx) else {
                return;
            };
            let done = self.in_flight.pop_front().expect("there is a front");
            self.in_flight_bytes -= done.bytes;
            let is_shown = match done.action {
                // The reply to turning replies on is the first one seen.
                Action::ReplyMode(mode) if !replies.errors => mode == ReplyMode::On,
                _ => !done.silent,
            };
            if let Action::Kill(victims) = &done.action {
                self.kill(victims, &mut replies);
            }
            self.apply(done.action, &replies);
            self.pace.take(&replies);
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

    fn is_over(&self) -> bool {
        if self.client.output.is_some() {
            return false;
        }
        match self.client.state {
            State::Open => self.context.draining.get() && self.has_nothing_to_do(),
            State::Closing => true,
            State::InputEnded => {
                self.in_flight.is_empty() && self.client.input.bytes.is_empty()
                    || self.is_blocking()
            }
        }
    }

    /// Whether nothing is lost by closing: all that the client has sent, also
    /// what has not been read, is answered, or may wait for ever.
    fn has_nothing_to_do(&self) -> bool {
        let is_done = self.in_flight.is_empty() && self.client.input.bytes.is_empty();
        self.is_blocking() || is_done && !self.client.stream.has_input()
    }

    fn is_blocking(&self) -> bool {
        self.in_flight.iter().any(|batch| batch.blocking)
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

    /// Asks the datastore on the sidecar's own account; no replies where it
    /// does not answer in the time that batches have.
    pub(super) async fn ask(&self, link: &Link, request: Batch) -> Replies {
        let timeout = self.context.stack.deadlines.timeout();
        let replies = tokio::time::timeout(timeout, link.send(request)).await;
        replies.unwrap_or_default()
    }

    /// Closes when everything is written.
    pub(super) fn close(&mut self) {
        self.client.state = State::Closing;
    }

    /// Ends at once, with nothing more written.
    pub(super) fn abort(&mut self) {
        self.client.abort();
    }

    /// Both halves of the client's stream, for raw copying.
    pub(super) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.client.stream
    }
}

impl InFlight {
    async fn finish(self) {
        let _ = self.future.await;
    }
}
