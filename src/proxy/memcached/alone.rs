//! Commands that are handled alone: what ends a connection, logs in, streams,
//! or prints what is stored without saying how long it is.

use bytes::BytesMut;

use super::Connection;
use crate::datastore::Link;
use crate::platform::stream::Stream;
use crate::protocol::memcached::answers::{self, Failure};
use crate::protocol::memcached::reply::{Answer, answer};
use crate::protocol::memcached::scanner::Frame;
use crate::protocol::memcached::verbs::{Specification, Verb};
use crate::protocol::{Batch, Class, Command, Protocol};
use crate::proxy::client::State;

/// The status of a login that goes on (`PROTOCOL_BINARY_RESPONSE_AUTH_CONTINUE`).
const STATUS_CONTINUE: [u8; 2] = [0, 0x21];

const BUFFER_BYTES: usize = 16 * 1024;

impl Connection {
    /// Handles the command at the front of the input, with nothing in flight.
    /// Not cancel-safe.
    pub(super) async fn alone(&mut self, frame: Frame) {
        let Some(row) = frame.specification.row() else {
            return;
        };
        let batch = self.take_command(&frame);
        match row.verb {
            Verb::Quit | Verb::BinaryQuit => {
                if row.verb == Verb::BinaryQuit && !frame.specification.is_quiet() {
                    let mut reply = BytesMut::new();
                    answers::done(&batch.bytes, &mut reply);
                    self.client.put(&self.context.pool, &reply);
                }
                self.client.state = State::Closing;
            }
            Verb::Watch => self.watch(batch).await,
            // Each server would have to be logged in to.
            Verb::BinarySaslMechanisms | Verb::BinarySaslStart | Verb::BinarySaslStep
                if self.context.ring.is_some() =>
            {
                let unknown = Specification::new(Verb::LocalUnknownPacket);
                let mut reply = BytesMut::new();
                answers::local(&batch.bytes, unknown, &mut reply);
                self.client.put(&self.context.pool, &reply);
            }
            _ => self.ask_alone(batch, &frame).await,
        }
    }

    fn take_command(&mut self, frame: &Frame) -> Batch {
        let mut batch = self.client.take_input(frame.end, &self.context.pool);
        batch.protocol = Protocol::Memcached;
        batch.kept = true;
        batch.push(Command {
            start: 0,
            end: frame.end as u32,
            specification: frame.specification.0,
            class: Class::Read,
        });
        batch
    }

    /// Sends the command down a link of the client's own.
    async fn ask_alone(&mut self, batch: Batch, frame: &Frame) {
        let shape = batch.shape();
        let link = match self.own_link().await {
            Ok(link) => link,
            Err(reason) => return self.unavailable(&shape, &reason),
        };
        let timeout = self.context.stack.deadlines.timeout();
        let replies = tokio::time::timeout(timeout, link.send(batch)).await;
        let reply = replies.as_ref().ok().and_then(|replies| replies.reply(0));
        let logs_in =
            Self::is(frame, Verb::BinarySaslStart) || Self::is(frame, Verb::BinarySaslStep);
        match reply {
            Some(reply) => {
                self.client.put(&self.context.pool, reply);
                let goes_on = reply.get(6..8) == Some(&STATUS_CONTINUE);
                let is_done = answer(frame.specification, reply) == Answer::Done;
                if logs_in && (is_done || goes_on) {
                    self.exclusive = true;
                    self.route.set(link);
                    return;
                }
            }
            None if frame.specification.row().map(|row| row.verb) == Some(Verb::Shutdown) => {
                self.client.state = State::Closing;
            }
            None => self.unavailable(&shape, "no reply"),
        }
        if !self.exclusive {
            link.close();
        }
    }

    /// A link that no other client uses: the one it has, or a new one.
    async fn own_link(&self) -> Result<Link, String> {
        if self.exclusive {
            return Ok(self.route.link());
        }
        let links = &self.context.links;
        let link = links.exclusive(&self.key, None).await;
        link.map_err(|error| error.to_string())
    }

    /// Copies what memcached has to say until either side ends.
    async fn watch(&mut self, batch: Batch) {
        let opened = self.context.links.raw(&self.key).await;
        let mut upstream = match opened {
            Ok(upstream) => upstream,
            Err(error) => return self.unavailable(&batch, &error.to_string()),
        };
        if upstream.write_all(&batch.bytes).await.is_ok() {
            copy(&mut upstream, &mut self.client.stream).await;
        }
        self.client.abort();
    }

    fn unavailable(&mut self, batch: &Batch, reason: &str) {
        let mut reply = BytesMut::new();
        if let Some(command) = batch.commands.first() {
            answers::failure(
                Failure::Unavailable(reason),
                &batch.bytes,
                Specification(command.specification),
                &mut reply,
            );
        }
        self.client.put(&self.context.pool, &reply);
    }
}

/// Copies from one to the other until either ends; what the client sends is
/// dropped, as memcached drops it.
async fn copy(upstream: &mut Stream, client: &mut Stream) {
    let (mut down, mut up) = (BytesMut::new(), BytesMut::new());
    loop {
        down.reserve(BUFFER_BYTES);
        up.reserve(BUFFER_BYTES);
        // Events: memcached has something to say, the client ends.
        let read = tokio::select! {
            read = upstream.read(&mut down) => read,
            read = client.read(&mut up) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    up.clear();
                    continue;
                }
            },
        };
        if !matches!(read, Ok(1..)) || client.write_all(&down).await.is_err() {
            return;
        }
        down.clear();
    }
}
