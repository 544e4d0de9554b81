//! One pipelined connection to the datastore.
//!
//! Handles append batches to `unsent`; one driver task writes what has
//! accumulated and hands replies out in order. All of it is on one thread, so
//! state is shared by `Rc<RefCell<..>>` and borrowed only within a call.
//!
//! Formula: `sent batches = answered + pending`, in order, always.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use slab::Slab;

use super::handshake::Opened;
use super::receive::Receiver;
use crate::platform::stream::Stream;
use crate::protocol::memcached::loud::loud;
use crate::protocol::memcached::verbs::Specification;
use crate::protocol::{Batch, Class, Command, Expect, Failure, Pool, Protocol, Replies};

/// A handle on a connection. Cloning it shares the connection.
#[derive(Clone)]
pub struct Link {
    pub(super) inner: Rc<RefCell<Inner>>,
}

/// A link's state, shared by handles, responses and the driver.
pub(super) struct Inner {
    /// Bytes of batches that have not been written to the socket.
    unsent: BytesMut,
    /// How long each command of that is, where it matters: see [`Link::cut_commands`].
    lengths: Option<VecDeque<usize>>,
    unsent_max: usize,
    /// Batches in the order they were sent, by slot.
    pub(super) pending: VecDeque<usize>,
    pub(super) slots: Slab<Slot>,
    /// Bytes that answer no command, where somebody wants them.
    pub(super) unsolicited: Option<Unsolicited>,
    /// Why the link takes no batches; `None` while it does.
    down: Option<Rc<str>>,
    closed: bool,
    needs_auth: bool,
    /// Which of the worker's links it is.
    number: u32,
    /// What the datastore calls the connection, where it is exclusive.
    id: Option<u64>,
    /// What the connection is called in the datastore's CLIENT LIST.
    name: Vec<u8>,
    /// The datastore has no names for connections.
    is_nameless: bool,
    /// How many channels and patterns it is subscribed to.
    pub(super) subscriptions: usize,
    /// What comes unasked that cannot be told by its form alone.
    pub(super) unasked: Unasked,
    driver: Option<Waker>,
    driver_woken: bool,
    pub(super) pool: Rc<Pool>,
}

/// One batch in flight.
pub(super) struct Slot {
    pub(super) replies: Replies,
    pub(super) expected: usize,
    pub(super) expect: Expect,
    done: bool,
    abandoned: bool,
    waker: Option<Waker>,
}

/// What may come unasked besides push frames; once it may, it always may.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unasked {
    /// Status lines that begin with a time (MONITOR).
    pub monitor_lines: bool,
    /// Messages of channels whose subscription was not seen (in a transaction).
    pub messages: bool,
}

/// What a client with a link of its own gets besides replies.
#[derive(Default)]
pub(super) struct Unsolicited {
    pub(super) bytes: BytesMut,
    pub(super) waker: Option<Waker>,
}

impl Link {
    /// A link that takes no batches until a driver runs with it. `exclusive`
    /// keeps what answers no command for [`Link::poll_unsolicited`].
    pub fn new(pool: Rc<Pool>, unsent_max: usize, exclusive: bool) -> Link {
        Link {
            inner: Rc::new(RefCell::new(Inner {
                unsent: BytesMut::new(),
                lengths: None,
                unsent_max,
                pending: VecDeque::new(),
                slots: Slab::new(),
                unsolicited: exclusive.then(Unsolicited::default),
                down: Some(Rc::from("datastore not connected yet")),
                closed: false,
                needs_auth: false,
                number: 0,
                id: None,
                name: super::handshake::LINK_NAME.as_bytes().to_vec(),
                is_nameless: false,
                subscriptions: 0,
                unasked: Unasked::default(),
                driver: None,
                driver_woken: false,
                pool,
            })),
        }
    }

    /// Which of its worker's links it is; the first has 0.
    pub fn number(&self) -> u32 {
        self.inner.borrow().number
    }

    /// Gives the stream one command at a time, so that no TLS record has the end of
    /// one and the begin of another. memcached (1.6.18) leaves the rest of a record
    /// alone once it has read a value that ends in it, until something else comes.
    pub(super) fn cut_commands(&self) {
        self.inner.borrow_mut().lengths = Some(VecDeque::new());
    }

    /// Says which of its worker's links it is.
    pub(super) fn set_number(&self, number: u32) {
        self.inner.borrow_mut().number = number;
    }

    /// Why the link takes no batches, if it does not.
    pub fn unavailable(&self) -> Option<Rc<str>> {
        self.inner.borrow().unavailable()
    }

    /// Whether nothing is in flight, not even a dropped response's batch, and
    /// nothing that came unasked waits for its client.
    pub fn is_idle(&self) -> bool {
        let inner = self.inner.borrow();
        let unsolicited = inner.unsolicited.as_ref();
        inner.pending.is_empty()
            && unsolicited.is_none_or(|unsolicited| unsolicited.bytes.is_empty())
    }

    /// From now on more than push frames comes unasked.
    pub fn expect_unasked(&self, unasked: Unasked) {
        let known = &mut self.inner.borrow_mut().unasked;
        known.monitor_lines |= unasked.monitor_lines;
        known.messages |= unasked.messages;
    }

    /// How many handles and responses there are.
    pub fn holders(&self) -> usize {
        Rc::strong_count(&self.inner)
    }

    /// Puts a batch behind all that was sent before.
    pub fn send(&self, batch: Batch) -> Response {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let mut replies = inner.pool.take_replies();
        let expect = batch.expect;
        let expected = match expect {
            Expect::Each => batch.commands.len(),
            Expect::Confirmations => usize::MAX,
        };
        let failure = inner.unavailable().map(Failure::NotSent);
        if failure.is_none() {
            push_forwarded(&batch, &mut inner.unsent, inner.lengths.as_mut());
            if !inner.driver_woken {
                inner.driver_woken = true;
                if let Some(waker) = &inner.driver {
                    waker.wake_by_ref();
                }
            }
        }
        replies.batch = batch;
        if replies.batch.mutations == 0 && !replies.batch.kept {
            // Nobody looks at the commands again; the replies can have their memory.
            replies.batch.bytes.clear();
            let replies = &mut replies;
            std::mem::swap(&mut replies.batch.bytes, &mut replies.bytes);
        }
        let done = failure.is_some();
        replies.failure = failure;
        let slot = inner.slots.insert(Slot {
            replies,
            expected,
            expect,
            done,
            abandoned: false,
            waker: None,
        });
        if !done {
            inner.pending.push_back(slot);
        }
        Response {
            link: self.clone(),
            slot: Some(slot),
        }
    }

    /// Moves bytes that answer no command to the end of `into`; ready if there
    /// were any, or if the link is down with none left.
    pub fn poll_unsolicited(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<Result<(), Rc<str>>> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let Some(unsolicited) = &mut inner.unsolicited else {
            return Poll::Pending;
        };
        if !unsolicited.bytes.is_empty() {
            into.extend_from_slice(&unsolicited.bytes);
            unsolicited.bytes.clear();
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = &inner.down
            && inner.pending.is_empty()
        {
            return Poll::Ready(Err(Rc::clone(reason)));
        }
        set_waker(&mut unsolicited.waker, cx);
        Poll::Pending
    }

    /// Writes batches and hands out replies until the connection ends or the
    /// link is closed; returns why it ended.
    pub async fn drive(&self, opened: Opened) -> Rc<str> {
        let Opened {
            mut stream,
            needs_auth,
            wire,
            id: _,
        } = opened;
        self.inner.borrow_mut().needs_auth = needs_auth;
        self.set_up();
        let mut driver = Driver {
            link: self,
            stream: &mut stream,
            input: BytesMut::new(),
            receiver: Receiver::new(wire),
        };
        let reason = std::future::poll_fn(|cx| driver.poll(cx)).await;
        let reason: Rc<str> = Rc::from(format!("datastore connection lost: {reason}"));
        self.fail(&reason);
        reason
    }

    /// Takes batches from now on: a driver is about to run.
    pub fn set_up(&self) {
        let mut inner = self.inner.borrow_mut();
        if !inner.closed {
            inner.down = None;
        }
    }

    /// Notes that the client has named its connection itself.
    pub fn note_name(&self, name: &[u8]) {
        self.inner.borrow_mut().name = name.to_vec();
    }

    /// Calls the connection `name` in the datastore's CLIENT LIST from the next
    /// command on, if it is not called so.
    pub fn set_name(&self, name: &[u8]) {
        if self.inner.borrow().name == name || self.inner.borrow().is_nameless {
            return;
        }
        self.inner.borrow_mut().name = name.to_vec();
        let mut bytes = BytesMut::new();
        super::handshake::push_command(&mut bytes, &[b"CLIENT", b"SETNAME", name]);
        let batch = Batch::single(&bytes, Command::UNKNOWN, Class::Read);
        drop(self.send(batch));
    }

    /// What the datastore calls the connection, of an exclusive link.
    pub fn id(&self) -> Option<u64> {
        self.inner.borrow().id
    }

    pub(super) fn set_nameless(&self) {
        self.inner.borrow_mut().is_nameless = true;
    }

    pub(super) fn set_id(&self, id: Option<u64>) {
        self.inner.borrow_mut().id = id;
    }

    /// Whether the datastore takes nothing from the connection before AUTH.
    pub fn needs_auth(&self) -> bool {
        self.inner.borrow().needs_auth
    }

    /// How many channels and patterns the connection is subscribed to.
    pub fn subscriptions(&self) -> usize {
        self.inner.borrow().subscriptions
    }

    /// Whether [`Link::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.inner.borrow().closed
    }

    /// Says why the link takes no batches, while it has no connection.
    pub fn set_down(&self, reason: Rc<str>) {
        self.inner.borrow_mut().down = Some(reason);
    }

    /// Ends the connection: the driver sees it at its next turn.
    pub fn close(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.closed = true;
        inner.down = Some(Rc::from("closed"));
        if let Some(waker) = inner.driver.take() {
            waker.wake();
        }
    }

    fn fail(&self, reason: &Rc<str>) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        inner.down = Some(Rc::clone(reason));
        inner.unsent = BytesMut::new();
        if let Some(lengths) = &mut inner.lengths {
            lengths.clear();
        }
        inner.driver = None;
        inner.driver_woken = false;
        while let Some(slot) = inner.pending.pop_front() {
            inner.slots[slot].replies.failure = Some(Failure::NoReply(Rc::clone(reason)));
            inner.finish(slot);
        }
        if let Some(unsolicited) = &mut inner.unsolicited
            && let Some(waker) = unsolicited.waker.take()
        {
            waker.wake();
        }
    }
}

impl Inner {
    /// So many bytes of what was unsent are with the stream.
    fn sent(&mut self, bytes: usize) {
        self.unsent.advance(bytes);
        if let Some(lengths) = &mut self.lengths
            && let Some(first) = lengths.front_mut()
        {
            *first -= bytes;
            if *first == 0 {
                lengths.pop_front();
            }
        }
    }

    fn unavailable(&self) -> Option<Rc<str>> {
        match &self.down {
            Some(reason) => Some(Rc::clone(reason)),
            None if self.unsent_max < self.unsent.len() => {
                Some(Rc::from("datastore does not keep up"))
            }
            None => None,
        }
    }

    /// Takes bytes that answer no command. They stay between the replies they
    /// came between: the client may draw conclusions from the order.
    pub(super) fn push_unasked(&mut self, bytes: &[u8]) {
        if let Some(&head) = self.pending.front() {
            let slot = &mut self.slots[head];
            if !slot.abandoned && !slot.replies.bytes.is_empty() {
                slot.replies.push_unasked(bytes);
                return;
            }
        }
        let Some(unsolicited) = &mut self.unsolicited else {
            return;
        };
        unsolicited.bytes.extend_from_slice(bytes);
        if let Some(waker) = unsolicited.waker.take() {
            waker.wake();
        }
    }

    /// Puts what came before the first reply of a batch, and has not been
    /// fetched yet, in front of it.
    pub(super) fn take_unasked(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        if let Some(unsolicited) = &mut self.unsolicited
            && !unsolicited.bytes.is_empty()
            && !slot.abandoned
            && slot.replies.bytes.is_empty()
        {
            slot.replies.push_unasked(&unsolicited.bytes);
            unsolicited.bytes.clear();
        }
    }

    /// Marks a slot that is no longer pending as answered.
    pub(super) fn finish(&mut self, slot: usize) {
        if self.slots[slot].abandoned {
            let gone = self.slots.remove(slot);
            for (from, to) in &gone.replies.pushes {
                self.push_unasked(&gone.replies.bytes[*from as usize..*to as usize]);
            }
            self.pool.give(gone.replies);
            return;
        }
        let slot = &mut self.slots[slot];
        slot.done = true;
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

/// The replies to one batch, when they are all there.
///
/// Dropping it before that is safe: the replies are read and thrown away.
pub struct Response {
    link: Link,
    slot: Option<usize>,
}

impl Response {
    /// The commands of the batch that waits, without their bytes.
    pub fn shape(&self) -> Batch {
        let Some(key) = self.slot else {
            return Batch::default();
        };
        let inner = self.link.inner.borrow();
        let batch = &inner.slots[key].replies.batch;
        batch.shape()
    }
}

impl Future for Response {
    type Output = Replies;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Replies> {
        let key = self.slot.expect("not polled after it was ready");
        let mut inner = self.link.inner.borrow_mut();
        let slot = &mut inner.slots[key];
        if !slot.done {
            set_waker(&mut slot.waker, cx);
            return Poll::Pending;
        }
        let replies = inner.slots.remove(key).replies;
        drop(inner);
        self.slot = None;
        Poll::Ready(replies)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        let Some(key) = self.slot else { return };
        let mut inner = self.link.inner.borrow_mut();
        if inner.slots[key].done {
            let gone = inner.slots.remove(key);
            inner.pool.give(gone.replies);
        } else {
            inner.slots[key].abandoned = true;
        }
    }
}

/// Appends what the datastore gets of a batch.
fn push_forwarded(batch: &Batch, unsent: &mut BytesMut, mut lengths: Option<&mut VecDeque<usize>>) {
    let specification = |command: &Command| Specification(command.specification);
    let is_rewritten = batch.protocol == Protocol::Memcached
        && batch
            .commands
            .iter()
            .any(|command| specification(command).is_rewritten());
    if !is_rewritten && lengths.is_none() {
        unsent.extend_from_slice(&batch.bytes);
        return;
    }
    for command in &batch.commands {
        let before = unsent.len();
        loud(command.of(&batch.bytes), specification(command), unsent);
        if let Some(lengths) = &mut lengths {
            lengths.push_back(unsent.len() - before);
        }
    }
}

fn set_waker(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}

/// Reads at most this many bytes at a time.
const READ_BYTES: usize = 64 * 1024;

/// What runs a link's connection: written by one task, polled by one future.
struct Driver<'a> {
    link: &'a Link,
    stream: &'a mut Stream,
    input: BytesMut,
    receiver: Receiver,
}

impl Driver<'_> {
    /// Ready with the reason when the connection has ended. Events: bytes to
    /// write (a handle woke us), the socket takes more, the socket has more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        {
            let mut inner = self.link.inner.borrow_mut();
            inner.driver_woken = false;
            set_waker(&mut inner.driver, cx);
            if let Some(reason) = &inner.down {
                return Poll::Ready(reason.to_string());
            }
        }
        if let Err(error) = self.write(cx) {
            return Poll::Ready(error.to_string());
        }
        match self.read(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error.to_string()),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut inner = self.link.inner.borrow_mut();
        while !inner.unsent.is_empty() {
            let next = inner.lengths.as_ref().and_then(|all| all.front().copied());
            let length = next.unwrap_or(inner.unsent.len());
            match self.stream.poll_write(cx, &inner.unsent[..length]) {
                Poll::Ready(written) => inner.sent(written?),
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(flushed) = self.stream.poll_flush(cx) {
            flushed?;
        }
        if inner.unsent.is_empty() && inner.unsent.capacity() > 4 * READ_BYTES {
            inner.unsent = BytesMut::new();
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            self.input.reserve(READ_BYTES.max(self.input.len()));
            let Poll::Ready(read) = self.stream.poll_read(cx, &mut self.input) else {
                return Ok(());
            };
            if read? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "closed by the datastore",
                ));
            }
            let mut inner = self.link.inner.borrow_mut();
            self.receiver
                .receive(&mut self.input, &mut inner)
                .map_err(io::Error::other)?;
            if self.input.is_empty() && 4 * READ_BYTES < self.input.capacity() {
                // One large reply must not hold memory for good.
                self.input = BytesMut::new();
            }
        }
    }
}
