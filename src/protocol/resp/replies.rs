//! Cuts complete replies out of what a datastore sent.
//!
//! Every type of RESP2 and RESP3 but the streamed ones (`$?`, `*?`, ...), which
//! no datastore sends. Nested replies are counted, not recursed into: an
//! aggregate adds its elements to how many are still to come, so depth costs
//! nothing. Framing alone is checked; what is in a line is for who decodes it.

use memchr::memchr;

mod subscription;

pub use subscription::{Subscription, SubscriptionKind, first_element, subscription};

/// The longest simple string, error or number in bytes. Error texts quote what
/// they complain about, so they are longer than one would think.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The longest bulk string in bytes: more than any datastore stores, and small
/// enough that no sum of offsets overflows.
pub const BULK_BYTES_MAX: u64 = 1 << 40;

/// The most elements that are still to come at any point of a reply.
pub const ELEMENTS_MAX: u64 = 1 << 40;

/// The smallest reply there is, `_\r\n`.
const REPLY_BYTES_MIN: usize = 3;

/// One complete reply at the start of the scanned bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrame {
    /// Its length in bytes: the next reply starts here.
    pub end: usize,
    /// Its type byte (`+ - : $ * _ # , ( ! = % ~ >`), that of the value behind
    /// any RESP3 attribute.
    pub kind: u8,
}

/// The datastore sent what is not RESP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the datastore sent an invalid reply: {0}")]
pub struct ReplyError(pub &'static str);

/// A resumable scanner: what it has seen of an incomplete reply is not looked
/// at again.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplyScanner {
    /// Where the next element starts. The bytes of the bulk string before it
    /// may not all have arrived.
    at: usize,
    /// Up to where the end of the line at `at` has been looked for.
    searched: usize,
    /// How many bytes there were.
    seen: usize,
    /// How many elements have not been found yet, where `at` is not 0.
    remaining: u64,
    /// The type of the reply, 0 until it is known.
    kind: u8,
}

impl ReplyScanner {
    /// Finds the end of the reply at the start of `bytes`; `None` where it is
    /// not complete. The next call must pass the same bytes with more after
    /// them, or, after a frame, the bytes that follow it.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<ReplyFrame>, ReplyError> {
        // The two most frequent replies of a cache, both 5 bytes long.
        if self.at == 0 && (bytes.starts_with(b"+OK\r\n") || bytes.starts_with(b"$-1\r\n")) {
            *self = Self::default();
            return Ok(Some(ReplyFrame {
                end: 5,
                kind: bytes[0],
            }));
        }
        self.elements(bytes)
    }

    /// How many bytes are missing at least from the reply that the last call
    /// found incomplete; 1 where nothing of one has been seen.
    pub fn needed(&self) -> usize {
        let elements = (self.remaining as usize).saturating_mul(REPLY_BYTES_MIN);
        let end = self.at.saturating_add(elements);
        end.saturating_sub(self.seen).max(1)
    }

    fn elements(&mut self, bytes: &[u8]) -> Result<Option<ReplyFrame>, ReplyError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut next = *self;
        if next.at == 0 {
            next.remaining = 1;
        }
        while next.remaining > 0 && next.at < bytes.len() {
            next.check_end(bytes)?;
            if !next.element(bytes)? {
                break;
            }
        }
        if next.remaining > 0 || next.at > bytes.len() {
            next.seen = bytes.len();
            *self = next;
            return Ok(None);
        }
        next.check_end(bytes)?;
        *self = Self::default();
        Ok(Some(ReplyFrame {
            end: next.at,
            kind: next.kind,
        }))
    }

    /// Every element ends with a line end. Where a bulk string does not, its
    /// length is wrong, and all that follows would be taken for other replies.
    #[inline(always)]
    fn check_end(&self, bytes: &[u8]) -> Result<(), ReplyError> {
        match self.at {
            0 => Ok(()),
            at if bytes[at - 2..at] == *b"\r\n" => Ok(()),
            _ => Err(ReplyError("a bulk string does not end where it should")),
        }
    }

    /// Moves over the element at `at`, which counts its own elements in;
    /// whether its line was complete.
    #[inline(always)]
    fn element(&mut self, bytes: &[u8]) -> Result<bool, ReplyError> {
        let kind = bytes[self.at];
        match kind {
            b'+' | b'-' | b':' | b',' | b'(' | b'_' | b'#' => {
                let Some(end) = self.line(bytes)? else {
                    return Ok(false);
                };
                check_line(kind, &bytes[self.at + 1..end])?;
                self.found(kind, 0)?;
                self.at = end + 2;
            }
            b'$' | b'=' | b'!' => {
                let Some((length, start)) = self.header(bytes)? else {
                    return Ok(false);
                };
                self.found(kind, 0)?;
                self.at = match length {
                    None if kind != b'$' => return Err(ReplyError("invalid bulk length")),
                    None => start,
                    Some(length) if length > BULK_BYTES_MAX => {
                        return Err(ReplyError("invalid bulk length"));
                    }
                    Some(length) => start.saturating_add(length as usize).saturating_add(2),
                };
            }
            b'*' | b'%' | b'~' | b'>' | b'|' => {
                let Some((count, start)) = self.header(bytes)? else {
                    return Ok(false);
                };
                self.found(kind, elements(kind, count)?)?;
                self.at = start;
            }
            _ => return Err(ReplyError("unknown type")),
        }
        Ok(true)
    }

    /// Counts an element as found and those inside it as still to come. The
    /// reply's own value is the last one of all to start, so it is the first
    /// that is alone and no attribute.
    #[inline(always)]
    fn found(&mut self, kind: u8, inside: u64) -> Result<(), ReplyError> {
        if self.remaining == 1 && self.kind == 0 && kind != b'|' {
            self.kind = kind;
        }
        self.remaining = self.remaining - 1 + inside;
        if self.remaining > ELEMENTS_MAX {
            return Err(ReplyError("too many elements"));
        }
        Ok(())
    }

    /// The number in the header at `at`, `None` for -1, and where its line ends.
    #[inline(always)]
    fn header(&mut self, bytes: &[u8]) -> Result<Option<(Option<u64>, usize)>, ReplyError> {
        if let Some((value, end)) = short_number(&bytes[self.at + 1..]) {
            return Ok(Some((Some(value), self.at + 1 + end)));
        }
        self.long_header(bytes)
    }

    #[cold]
    fn long_header(&mut self, bytes: &[u8]) -> Result<Option<(Option<u64>, usize)>, ReplyError> {
        let Some(end) = self.line(bytes)? else {
            return Ok(None);
        };
        let text = &bytes[self.at + 1..end];
        if text == b"-1" {
            return Ok(Some((None, end + 2)));
        }
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let value = digits.then(|| std::str::from_utf8(text).ok()?.parse().ok());
        match value.flatten() {
            Some(value) => Ok(Some((Some(value), end + 2))),
            None => Err(ReplyError("invalid length")),
        }
    }

    /// Where the line at `at` ends, at its `\r\n`. A lone `\r` or `\n` is part
    /// of it: modules have been seen to send them, and clients to take them.
    #[inline(always)]
    fn line(&mut self, bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
        /// Most lines are shorter than it takes to start a search.
        const SHORT: usize = 24;
        let from = self.searched.max(self.at + 1);
        let until = (from + SHORT).min(bytes.len());
        for at in from..until {
            if bytes[at] == b'\n' && bytes[at - 1] == b'\r' {
                return Ok(Some(at - 1));
            }
        }
        self.searched = until;
        self.long_line(bytes)
    }

    fn long_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
        while let Some(offset) = memchr(b'\n', &bytes[self.searched..]) {
            let at = self.searched + offset;
            self.searched = at + 1;
            if at - self.at > LINE_BYTES_MAX {
                break;
            }
            if bytes[at - 1] == b'\r' {
                return Ok(Some(at - 1));
            }
        }
        self.searched = self.searched.max(bytes.len());
        if bytes.len() - self.at > LINE_BYTES_MAX {
            return Err(ReplyError("too long a line"));
        }
        Ok(None)
    }
}

/// What is known of a line whatever its meaning.
#[inline(always)]
fn check_line(kind: u8, text: &[u8]) -> Result<(), ReplyError> {
    match kind {
        b'_' if !text.is_empty() => Err(ReplyError("invalid null")),
        b'#' if text != b"t" && text != b"f" => Err(ReplyError("invalid boolean")),
        _ => Ok(()),
    }
}

/// How many elements an aggregate of that count brings; an attribute also
/// brings the value that it is about.
#[inline(always)]
fn elements(kind: u8, count: Option<u64>) -> Result<u64, ReplyError> {
    let Some(count) = count else {
        return match kind {
            b'*' => Ok(0),
            _ => Err(ReplyError("invalid length")),
        };
    };
    if count > ELEMENTS_MAX {
        return Err(ReplyError("too many elements"));
    }
    Ok(match kind {
        b'%' => 2 * count,
        b'|' => 2 * count + 1,
        _ => count,
    })
}

/// The number at the start of a header without its type byte, and where its
/// line ends, where it is a complete and well-formed one of at most 9 digits.
#[inline(always)]
fn short_number(line: &[u8]) -> Option<(u64, usize)> {
    const DIGITS_MAX: usize = 9;
    let mut value = 0u64;
    for (digits, byte) in line.iter().enumerate().take(DIGITS_MAX + 1) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + u64::from(digit);
            continue;
        }
        let complete = digits > 0 && line.get(digits..digits + 2) == Some(b"\r\n");
        return complete.then_some((value, digits + 2));
    }
    None
}

#[cfg(test)]
mod tests;
