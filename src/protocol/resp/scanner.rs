//! Cuts complete commands out of what a client sent.

use crate::protocol::ParseError;

/// One complete command at the start of the scanned bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its length in bytes: the next command starts here.
    pub end: usize,
    /// How many arguments it has, its name included; 0 for an empty line or an
    /// empty array, which the datastore ignores without a reply.
    pub arguments: u32,
    /// Whether it is an inline command.
    pub inline: bool,
    /// Where its name is in the scanned bytes (start, end); quotes included for inline.
    pub name: (usize, usize),
}

/// A resumable scanner: what it has seen of an incomplete command is not
/// looked at again.
#[derive(Debug, Default)]
pub struct Scanner {}

impl Scanner {
    /// Finds the end of the command at the start of `bytes`; `None` where it
    /// is not complete. The next call must pass the same bytes with more after
    /// them, or, after a frame, the bytes that follow it.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ParseError> {
        let _ = bytes;
        Ok(None)
    }
}
