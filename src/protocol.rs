//! What a client sent, cut into commands, without copying or interpreting more
//! than is needed to route it. Sans-I/O: nothing here reads a socket or a clock.

use bytes::BytesMut;

pub mod memcached;
pub mod resp;

/// Which datastore's language a batch is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RESP2 and RESP3.
    #[default]
    Redis,
    /// Text, meta and binary.
    Memcached,
}

/// What a command means for the journal and for the connection it came on.
///
/// The three are exclusive: a command that both changes data and the state of
/// its connection (a blocking pop) is a `Mutation` whose specification carries
/// a [`resp::commands::Control`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Changes no data; forwarded without touching the journal.
    Read,
    /// May change data; journaled before it is forwarded.
    Mutation,
    /// Changes or depends on the state of the connection.
    Control,
}

/// One complete command inside [`Batch::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Byte offset of the command's first byte in the batch.
    pub start: u32,
    /// Byte offset one past its last byte; the next command starts here.
    pub end: u32,
    /// Index of the specification in the protocol's command table;
    /// [`Command::UNKNOWN`] where the table has none.
    pub specification: u16,
    /// What the command means for the journal.
    pub class: Class,
}

impl Command {
    /// The specification index of a command that is in no table.
    pub const UNKNOWN: u16 = u16::MAX;

    /// The command's own bytes within `bytes`, the batch's buffer.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// The complete commands found in one read of one client, handled as a unit.
///
/// `bytes` is exactly the concatenation of the commands as the client sent
/// them (`commands[i].end == commands[i + 1].start`), and is what is forwarded.
#[derive(Debug, Default)]
pub struct Batch {
    /// The commands' original bytes, nothing before, between or after them.
    pub bytes: BytesMut,
    /// The commands in the order they were sent.
    pub commands: Vec<Command>,
    /// How many of `commands` are of [`Class::Mutation`].
    pub mutations: u32,
    /// The language of all of them.
    pub protocol: Protocol,
    /// The logical database the commands are addressed to.
    pub database: u32,
    /// Which replies the datastore will send.
    pub expect: Expect,
    /// Whether the batch may wait for its replies without limit (a blocking
    /// command), so that no deadline applies.
    pub blocking: bool,
    /// Whether the commands' bytes are looked at again when the replies are
    /// there, though none of them is a mutation.
    pub kept: bool,
    /// What an EXEC in this batch executes.
    pub transaction: Option<Box<Transaction>>,
}

/// Which replies a batch is answered with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expect {
    /// One for each command.
    #[default]
    Each,
    /// One confirmation for each channel of the one (un)subscribe command,
    /// or an error.
    Confirmations,
}

/// The commands a client has queued since MULTI, in order.
#[derive(Debug, Default, Clone)]
pub struct Transaction {
    /// The commands' original bytes.
    pub bytes: BytesMut,
    /// All that the datastore has queued, reads too: EXEC answers each. Of
    /// [`Class::Control`] is SELECT alone, which means something to the journal.
    pub commands: Vec<Command>,
    /// Whether keys are watched: EXEC may then execute nothing.
    pub watched: bool,
}

impl Transaction {
    /// No more bytes of commands than this are queued: a journal's record holds
    /// that much and little more.
    pub const BYTES_MAX: usize = 1 << 30;

    /// Whether a command of so many bytes can be added.
    pub fn has_room(&self, bytes: usize) -> bool {
        bytes <= Self::BYTES_MAX - self.bytes.len()
    }

    /// Adds a command the datastore has answered with QUEUED.
    pub fn queue(&mut self, command: &Command, bytes: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(command.of(bytes));
        self.commands.push(Command {
            start,
            end: self.bytes.len() as u32,
            ..*command
        });
    }
}

impl Batch {
    /// Whether the batch holds no command.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Adds a command whose bytes are already in `bytes`.
    pub fn push(&mut self, command: Command) {
        debug_assert_eq!(
            self.commands.last().map_or(0, |last| last.end),
            command.start
        );
        debug_assert!(command.end as usize <= self.bytes.len());
        self.mutations += u32::from(command.class == Class::Mutation);
        self.commands.push(command);
    }

    /// What answers to the batch are made of: its commands, and of its bytes
    /// only those that an answer would need.
    pub fn shape(&self) -> Batch {
        Batch {
            bytes: match self.kept {
                true => self.bytes.clone(),
                false => BytesMut::new(),
            },
            commands: self.commands.clone(),
            mutations: self.mutations,
            protocol: self.protocol,
            expect: self.expect,
            kept: self.kept,
            ..Batch::default()
        }
    }

    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands.clear();
        self.mutations = 0;
        self.protocol = Protocol::default();
        self.database = 0;
        self.expect = Expect::Each;
        self.blocking = false;
        self.kept = false;
        self.transaction = None;
    }

    /// The same bytes, to be forwarded without a record.
    pub fn as_read(self) -> Batch {
        self.as_class(Class::Read)
    }

    /// The same bytes, every command of `class`.
    pub fn as_class(mut self, class: Class) -> Batch {
        for command in &mut self.commands {
            command.class = class;
        }
        self.mutations = match class {
            Class::Mutation => self.commands.len() as u32,
            Class::Read | Class::Control => 0,
        };
        self
    }

    /// A batch of one command that is all of `bytes`.
    pub fn single(bytes: &[u8], specification: u16, class: Class) -> Batch {
        let mut batch = Batch {
            bytes: BytesMut::from(bytes),
            ..Batch::default()
        };
        batch.push(Command {
            start: 0,
            end: bytes.len() as u32,
            specification,
            class,
        });
        batch
    }
}

/// The answer to one [`Batch`].
#[derive(Debug, Default)]
pub struct Replies {
    /// The batch that is answered. Its `bytes` may be gone where it held no
    /// mutation: they are needed no more once they have been forwarded.
    pub batch: Batch,
    /// The replies' bytes in order, as they go to the client.
    pub bytes: BytesMut,
    /// Byte offset one past each reply's last byte; `ends.len()` replies are there.
    pub ends: Vec<u32>,
    /// Where in `bytes` there is something that answers no command (push
    /// frames, published messages), in order. Only where the client has an
    /// upstream connection to itself.
    pub pushes: Vec<(u32, u32)>,
    /// Whether any of the replies is an error.
    pub errors: bool,
    /// Why there are fewer replies than commands, if there are.
    pub failure: Option<Failure>,
    /// Commands that have no reply of their own though others after them have:
    /// the server that they are for failed. What is in a reply's place is the
    /// beginning of one.
    pub failed: Vec<(u32, Failure)>,
}

/// Why the datastore did not answer. The text is for the client and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The commands were not sent: safe to retry.
    #[error("{0}")]
    NotSent(std::rc::Rc<str>),
    /// The commands were, or may have been, sent.
    #[error("{0}")]
    NoReply(std::rc::Rc<str>),
}

impl Replies {
    /// The bytes of reply `index`, without what came before it unasked.
    pub fn reply(&self, index: usize) -> Option<&[u8]> {
        let (mut start, end) = self.range(index)?;
        for (from, to) in &self.pushes {
            if *from == start {
                start = *to;
            }
        }
        self.bytes.get(start as usize..end as usize)
    }

    /// Why command `index` has no reply of its own, if it has none.
    pub fn failed(&self, index: usize) -> Option<&Failure> {
        let failed = self
            .failed
            .iter()
            .find(|(other, _)| *other as usize == index);
        failed.map(|(_, failure)| failure)
    }

    /// Where reply `index` is, with what came before it unasked.
    fn range(&self, index: usize) -> Option<(u32, u32)> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |i| self.ends[i]);
        Some((start, end))
    }

    /// Adds bytes that answer no command.
    pub fn push_unasked(&mut self, bytes: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        self.pushes.push((start, self.bytes.len() as u32));
    }

    /// Adds reply `index` of `other`, with what came before it unasked; false
    /// if it is not there.
    pub fn push_from(&mut self, other: &Replies, index: usize) -> bool {
        let Some((start, end)) = other.range(index) else {
            return false;
        };
        let to = self.bytes.len() as u32;
        for (from, until) in &other.pushes {
            if start <= *from && *until <= end {
                self.pushes.push((from - start + to, until - start + to));
            }
        }
        self.bytes
            .extend_from_slice(&other.bytes[start as usize..end as usize]);
        self.ends.push(self.bytes.len() as u32);
        self.errors |= other.errors;
        true
    }

    /// Takes back what follows the last whole reply.
    pub fn cut_incomplete(&mut self) {
        let end = self.ends.last().copied().unwrap_or(0);
        self.bytes.truncate(end as usize);
        self.pushes.retain(|(_, until)| *until <= end);
    }

    /// Adds a reply that the sidecar itself gives.
    pub fn push(&mut self, reply: &[u8]) {
        self.bytes.extend_from_slice(reply);
        self.ends.push(self.bytes.len() as u32);
        self.errors |= reply.first() == Some(&b'-');
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.bytes.clear();
        self.ends.clear();
        self.pushes.clear();
        self.errors = false;
        self.failure = None;
        self.failed.clear();
    }
}

/// Buffers of batches and replies that are used again, one pool a worker.
#[derive(Debug, Default)]
pub struct Pool {
    batches: std::cell::RefCell<Vec<Batch>>,
    replies: std::cell::RefCell<Vec<Replies>>,
}

impl Pool {
    /// A read of a client takes at most this many bytes at first.
    pub const READ_BYTES: usize = 16 * 1024;
    /// Larger buffers are given back to the allocator instead of kept.
    const KEPT_BYTES_MAX: usize = 64 * 1024;
    /// So many of each are kept at most.
    const KEPT_MAX: usize = 256;

    /// An empty batch.
    pub fn take_batch(&self) -> Batch {
        self.batches.borrow_mut().pop().unwrap_or_default()
    }

    /// An empty answer, its batch without memory.
    pub fn take_replies(&self) -> Replies {
        self.replies.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a batch's memory back.
    pub fn give_batch(&self, mut batch: Batch) {
        let mut free = self.batches.borrow_mut();
        if free.len() < Self::KEPT_MAX && Self::is_worth_keeping(&batch.bytes) {
            batch.clear();
            free.push(batch);
        }
    }

    /// Gives the memory of an answer and its batch back.
    pub fn give(&self, mut replies: Replies) {
        self.give_batch(std::mem::take(&mut replies.batch));
        let mut free = self.replies.borrow_mut();
        if free.len() < Self::KEPT_MAX && replies.bytes.capacity() <= Self::KEPT_BYTES_MAX {
            replies.clear();
            free.push(replies);
        }
    }

    fn is_worth_keeping(bytes: &BytesMut) -> bool {
        (1..=Self::KEPT_BYTES_MAX).contains(&bytes.capacity())
    }
}

/// A client's bytes that are no command, with the text it is answered with.
///
/// The connection is closed after the text has been sent, as the datastore
/// itself would: what follows cannot be told apart from more of the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub std::borrow::Cow<'static, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_told_from_what_came_before_it_unasked() {
        let mut replies = Replies::default();
        replies.push_unasked(b">1\r\n+a\r\n");
        replies.push_unasked(b">1\r\n+b\r\n");
        replies.push(b"+QUEUED\r\n");
        replies.push(b":1\r\n");
        replies.push_unasked(b">1\r\n+c\r\n");
        replies.push(b"-ERR no\r\n");
        let check = |replies: &Replies| {
            let found: Vec<_> = (0..4).map(|index| replies.reply(index)).collect();
            let expected: [Option<&[u8]>; 4] = [
                Some(b"+QUEUED\r\n"),
                Some(b":1\r\n"),
                Some(b"-ERR no\r\n"),
                None,
            ];
            assert_eq!(found, expected);
        };
        check(&replies);
        let mut copied = Replies::default();
        for index in 0..3 {
            assert!(copied.push_from(&replies, index));
        }
        assert!(!copied.push_from(&replies, 3));
        check(&copied);
        assert_eq!(copied.bytes, replies.bytes);
        replies.push_unasked(b">1\r\n+d\r\n");
        replies.cut_incomplete();
        assert_eq!(copied.bytes, replies.bytes);
        check(&replies);
    }
}
