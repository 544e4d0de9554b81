//! Finds the end of each reply in what memcached sends.
//!
//! A reply's shape is known from the command it answers ([`Shape`]); an error
//! line may come in place of any. All sizes have limits, and what cannot be a
//! reply of that shape is an error: the link is then good for nothing more,
//! since nobody knows which reply is whose.

use memchr::memchr;

use super::BINARY_RESPONSE;
use super::binary::Header;
use super::number;
use super::verbs::Shape;

/// The longest line in bytes. memcached's own replies fit in 1 KiB; statistics
/// of key prefixes can be longer.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// The longest value in bytes: memcached stores up to 1 GiB (`-I`).
pub const VALUE_BYTES_MAX: usize = 1 << 30;

/// The longest reply in bytes, as offsets into a batch's replies are 32 bits
/// wide.
pub const REPLY_BYTES_MAX: usize = 1 << 31;

/// A complete reply at the start of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrame {
    /// One past its last byte.
    pub end: usize,
    /// Whether it is an error line, or a packet with a status that is one.
    pub error: bool,
}

/// What is no reply to the command at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReplyError(pub &'static str);

/// Finds replies in one link's bytes.
#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// Where the line or packet starts that is looked at.
    at: usize,
    /// How far that line has been searched for its end.
    searched: usize,
    /// How many bytes are missing at least.
    needed: usize,
}

impl ReplyScanner {
    /// How many bytes at least are missing of the reply that was incomplete.
    pub fn needed(&self) -> usize {
        self.needed.max(1)
    }

    /// The reply of that shape at the start of `bytes`, if it is complete. If
    /// it is not, the next call has to bring the same shape, the same bytes and
    /// more of them; if it is, the bytes after its end.
    #[inline]
    pub fn next(&mut self, shape: Shape, bytes: &[u8]) -> Result<Option<ReplyFrame>, ReplyError> {
        let found = match shape {
            Shape::Line => self.single(bytes),
            Shape::Values => self.values(bytes),
            Shape::Statistics => self.lines(bytes, &[b"STAT ", b"ITEM ", b"PREFIX "]),
            Shape::Dump => self.lines(bytes, &[b"key=", b"mg "]),
            Shape::Meta => self.meta(bytes),
            Shape::Packet => self.packets(bytes, false),
            Shape::Packets => self.packets(bytes, true),
            Shape::Stream | Shape::Nothing | Shape::Local => {
                Err(ReplyError("a reply to what has none"))
            }
        }?;
        match found {
            None if bytes.len() > REPLY_BYTES_MAX => Err(ReplyError("too long a reply")),
            None => Ok(None),
            Some(frame) if frame.end > REPLY_BYTES_MAX => Err(ReplyError("too long a reply")),
            Some(frame) => {
                *self = Self::default();
                Ok(Some(frame))
            }
        }
    }

    #[inline]
    fn single(&mut self, bytes: &[u8]) -> Result<Option<ReplyFrame>, ReplyError> {
        let Some((line, end)) = self.line(bytes)? else {
            return Ok(None);
        };
        if line.starts_with(b"VALUE ") || line.starts_with(b"STAT ") {
            return Err(ReplyError("a list where a line was to come"));
        }
        Ok(Some(ReplyFrame {
            end,
            error: is_error(line),
        }))
    }

    #[inline]
    fn values(&mut self, bytes: &[u8]) -> Result<Option<ReplyFrame>, ReplyError> {
        loop {
            let Some((line, end)) = self.line(bytes)? else {
                return Ok(None);
            };
            if let Some(fields) = line.strip_prefix(b"VALUE ") {
                let size = fields.split(|byte| *byte == b' ').nth(2);
                if !self.skip_value(bytes, end, size)? {
                    return Ok(None);
                }
                continue;
            }
            let error = is_error(line);
            if !error && line != b"END" {
                return Err(ReplyError("neither a value nor the end of values"));
            }
            return Ok(Some(ReplyFrame { end, error }));
        }
    }

    #[inline]
    fn meta(&mut self, bytes: &[u8]) -> Result<Option<ReplyFrame>, ReplyError> {
        // A value that has been skipped is all there is to come.
        if self.at > 0 {
            return Ok(self.value_end(bytes)?.then_some(ReplyFrame {
                end: self.at,
                error: false,
            }));
        }
        let Some((line, end)) = self.line(bytes)? else {
            return Ok(None);
        };
        let Some(fields) = line.strip_prefix(b"VA ") else {
            return Ok(Some(ReplyFrame {
                end,
                error: is_error(line),
            }));
        };
        let size = fields.split(|byte| *byte == b' ').next();
        if !self.skip_value(bytes, end, size)? {
            return Ok(None);
        }
        Ok(Some(ReplyFrame {
            end: self.at,
            error: false,
        }))
    }

    /// Lines of a list up to its end, or one line that is none of the list.
    fn lines(&mut self, bytes: &[u8], items: &[&[u8]]) -> Result<Option<ReplyFrame>, ReplyError> {
        loop {
            let is_first = self.at == 0;
            let Some((line, end)) = self.line(bytes)? else {
                return Ok(None);
            };
            let error = is_error(line);
            let is_item = items.iter().any(|item| line.starts_with(item));
            if matches!(line, b"END" | b"EN") || error || is_first && !is_item {
                return Ok(Some(ReplyFrame { end, error }));
            }
            self.move_to(end);
        }
    }

    #[inline]
    fn packets(&mut self, bytes: &[u8], many: bool) -> Result<Option<ReplyFrame>, ReplyError> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            if rest.first().is_some_and(|magic| *magic != BINARY_RESPONSE) {
                return Err(ReplyError("no packet where one was to come"));
            }
            let Some(header) = Header::of(rest) else {
                self.needed = self.at + super::binary::HEADER_BYTES - bytes.len();
                return Ok(None);
            };
            let parts = usize::from(header.extras_bytes) + usize::from(header.key_bytes);
            let body = header.body_bytes as usize;
            if body > VALUE_BYTES_MAX + parts || parts > body {
                return Err(ReplyError("invalid length of a packet"));
            }
            let end = self.at + header.packet_bytes();
            if bytes.len() < end {
                self.needed = end - bytes.len();
                return Ok(None);
            }
            if many && header.status == 0 && header.key_bytes > 0 {
                self.move_to(end);
                continue;
            }
            return Ok(Some(ReplyFrame {
                end,
                error: header.status != 0,
            }));
        }
    }

    /// The line at `at` without its end, and where it ends.
    #[inline]
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, ReplyError> {
        if self.at > 0 && !self.value_end(bytes)? {
            return Ok(None);
        }
        let from = self.searched.max(self.at);
        let found = memchr(b'\n', &bytes[from..]).map(|offset| from + offset);
        let until = found.unwrap_or(bytes.len());
        if until - self.at > LINE_BYTES_MAX {
            return Err(ReplyError("too long a line"));
        }
        let Some(end) = found else {
            self.searched = bytes.len();
            self.needed = 1;
            return Ok(None);
        };
        let line = &bytes[self.at..end];
        Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
    }

    /// Goes past a value of `size` that starts at `from`; whether it is there.
    #[inline]
    fn skip_value(
        &mut self,
        bytes: &[u8],
        from: usize,
        size: Option<&[u8]>,
    ) -> Result<bool, ReplyError> {
        let size = size
            .and_then(number::strict_length)
            .map(|size| size as usize);
        let Some(size) = size.filter(|size| *size <= VALUE_BYTES_MAX) else {
            return Err(ReplyError("invalid length of a value"));
        };
        self.move_to(from + size + 2);
        self.value_end(bytes)
    }

    /// Whether all before `at` is there, which ends in an end of line: if it
    /// does not, the link is out of step.
    #[inline]
    fn value_end(&mut self, bytes: &[u8]) -> Result<bool, ReplyError> {
        if bytes.len() < self.at {
            self.needed = self.at - bytes.len();
            return Ok(false);
        }
        match bytes[self.at - 1] {
            b'\n' => Ok(true),
            _ => Err(ReplyError("a value without its end")),
        }
    }

    fn move_to(&mut self, at: usize) {
        self.at = at;
        self.searched = at;
    }
}

/// Whether a line is one of the three kinds of error. `shutdown` alone puts a
/// colon after the word.
#[inline]
pub fn is_error(line: &[u8]) -> bool {
    let is_word = |word: &[u8]| {
        line.strip_prefix(word)
            .is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b':' | b'\r')))
    };
    is_word(b"ERROR") || is_word(b"CLIENT_ERROR") || is_word(b"SERVER_ERROR")
}

#[cfg(test)]
mod tests;
