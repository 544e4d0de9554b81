//! Cuts complete commands out of what a client sent.
//!
//! As strict as memcached and no stricter than it takes to be sure: what is
//! accepted here has the same boundaries in memcached, else a command could be
//! smuggled past the journal inside what looks like another one's value. What
//! is odd about the rules of `try_read_command_ascii` and of the functions
//! behind it:
//!
//! - A line ends at its first `\n`. A NUL byte hides the rest of the line from
//!   1.6.18 and not from 1.6.45, so it is refused.
//! - A line of more than 2048 bytes is taken only if it happens to arrive at
//!   once, unless it is a `get` or `gets`. Here it is refused.
//! - A value is as long as its line says and two bytes more, whatever these
//!   are; if they are not `\r\n` the value is dropped with an error.
//! - A value that is too large is read and dropped in the same way.
//!
//! What has been seen of an incomplete command is not looked at again.

use memchr::memchr2;

use super::Dialect;
use super::binary::{self, HEADER_BYTES, Header};
use super::line::without_end;
use super::text::{self, BAD_FORMAT, TOO_LARGE, refused};
use super::verbs::Specification;
use crate::protocol::{Class, ParseError};

/// The longest line that memcached takes however it arrives, its `\n` not
/// counted.
pub const LINE_BYTES_MAX: usize = 2048;

/// memcached closes the connection without a word; people who debug a client
/// are better off with one.
const LINE_TOO_LONG: &str = "CLIENT_ERROR line too long";

/// How many spaces memcached skips to see whether a long line is a `get`.
const LEADING_SPACES_MAX: usize = 100;

/// How large a client's commands may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line of a `get` or `gets`; memcached has no limit.
    pub get_line_bytes_max: usize,
    /// The longest value. memcached can be told to store values of up to 1 GiB,
    /// and swallows any that is too large.
    pub value_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 32,000 keys of the longest kind.
            get_line_bytes_max: 8 << 20,
            value_bytes_max: 1 << 30,
        }
    }
}

/// A complete command at the start of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// One past its last byte.
    pub end: usize,
    /// Its verb, and how it is forwarded.
    pub specification: Specification,
    /// What it means for the journal. A [`Class::Mutation`] is one that
    /// [`super::request::Request::parse`] finds complete.
    pub class: Class,
}

/// Finds commands in one client's bytes.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    dialect: Option<Dialect>,
    /// How far the line has been searched for its end.
    searched: usize,
    /// The command whose value is not all there yet.
    pending: Option<Frame>,
}

impl Scanner {
    /// A scanner for a new connection.
    pub fn new(limits: Limits) -> Scanner {
        Scanner {
            limits,
            dialect: None,
            searched: 0,
            pending: None,
        }
    }

    /// Other limits from the next command on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What the client speaks; none before its first byte.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// How many bytes at least are missing of the command that was incomplete.
    pub fn needed(&self, available: usize) -> usize {
        let end = match (self.pending, self.dialect) {
            (Some(frame), _) => frame.end,
            (None, Some(Dialect::Binary)) => HEADER_BYTES,
            (None, _) => 0,
        };
        end.saturating_sub(available).max(1)
    }

    /// The command at the start of `bytes`, if it is complete. If it is not,
    /// the next call has to bring the same bytes and more of them; if it is,
    /// the bytes after its end.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ParseError> {
        let frame = match self.pending {
            Some(frame) => frame,
            None => {
                let Some(first) = bytes.first() else {
                    return Ok(None);
                };
                let dialect = *self.dialect.get_or_insert(Dialect::of(*first));
                let frame = match dialect {
                    Dialect::Text => self.line(bytes)?,
                    Dialect::Binary => self.packet(bytes)?,
                };
                let Some(frame) = frame else {
                    return Ok(None);
                };
                frame
            }
        };
        if bytes.len() < frame.end {
            self.pending = Some(frame);
            return Ok(None);
        }
        self.pending = None;
        self.searched = 0;
        Ok(Some(frame))
    }

    #[inline]
    fn line(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ParseError> {
        let found = memchr2(b'\n', 0, &bytes[self.searched..]).map(|at| at + self.searched);
        let seen = found.unwrap_or(bytes.len());
        if seen > LINE_BYTES_MAX {
            self.check_long(&bytes[..seen])?;
        }
        let Some(end) = found else {
            self.searched = bytes.len();
            return Ok(None);
        };
        if bytes[end] == 0 {
            return Err(refused(BAD_FORMAT));
        }
        let verdict = text::judge(without_end(&bytes[..=end]))?;
        let mut end = end + 1;
        if let Some(length) = verdict.data {
            if length > self.limits.value_bytes_max {
                return Err(refused(TOO_LARGE));
            }
            end += length as usize + 2;
        }
        Ok(Some(Frame {
            end,
            specification: verdict.specification,
            class: verdict.class,
        }))
    }

    /// Whether a line of more than [`LINE_BYTES_MAX`] is one that may be so long.
    #[cold]
    fn check_long(&self, line: &[u8]) -> Result<(), ParseError> {
        let spaces = line.iter().take_while(|byte| **byte == b' ').count();
        let rest = &line[spaces..];
        let is_get = rest.starts_with(b"get ") || rest.starts_with(b"gets ");
        if spaces <= LEADING_SPACES_MAX && is_get && line.len() <= self.limits.get_line_bytes_max {
            return Ok(());
        }
        Err(refused(LINE_TOO_LONG))
    }

    #[inline]
    fn packet(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ParseError> {
        let Some(header) = Header::of(bytes) else {
            return Ok(None);
        };
        let (specification, class) = binary::judge(&header, self.limits.value_bytes_max)?;
        Ok(Some(Frame {
            end: header.packet_bytes(),
            specification,
            class,
        }))
    }
}

#[cfg(test)]
mod tests;
