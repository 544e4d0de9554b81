//! What a client sent, cut into commands, without copying or interpreting more
//! than is needed to route it. Sans-I/O: nothing here reads a socket or a clock.

use bytes::BytesMut;

pub mod resp;

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

    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands.clear();
        self.mutations = 0;
    }
}

/// A client's bytes that are no command, with the text it is answered with.
///
/// The connection is closed after the text has been sent, as the datastore
/// itself would: what follows cannot be told apart from more of the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub std::borrow::Cow<'static, str>);
