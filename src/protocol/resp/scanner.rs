//! Cuts complete commands out of what a client sent.
//!
//! As strict as Redis and no stricter: what is accepted here is accepted by
//! Redis with the same boundaries, else a command could be smuggled past the
//! journal inside what looks like another one's value. The rules, and what is
//! odd about them, are those of `processMultibulkBuffer` and
//! `processInlineBuffer` in Redis 7.0's `networking.c`:
//!
//! - A header line ends at its first `\r`; the byte after it is skipped
//!   whatever it is, and so are the two bytes after an argument.
//! - A NUL byte in a line hides all that follows it, so that the line never
//!   ends and is refused once it is too long.
//! - Numbers have no leading zero or plus sign. A count below 1 is an empty
//!   command, a length below 0 an error.
//! - What does not start with `*` is an inline command, ended by `\n`.
//!
//! How much of an overlong line Redis takes depends on how it arrives. Here it
//! is refused when Redis may refuse it, whatever the arrival.

use memchr::memchr2;

use super::inline;
use crate::protocol::ParseError;

/// How large a client's commands may be. The defaults are Redis's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line, its end not counted, in bytes (`PROTO_INLINE_MAX_SIZE`).
    pub inline_bytes_max: usize,
    /// The most arguments of a command; Redis has `INT_MAX`.
    pub arguments_max: u32,
    /// The longest argument in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: u64,
    /// The longest command in bytes, as offsets into a batch are 32 bits wide.
    pub command_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inline_bytes_max: 64 * 1024,
            arguments_max: i32::MAX as u32,
            bulk_bytes_max: 512 * 1024 * 1024,
            command_bytes_max: u32::MAX,
        }
    }
}

/// The most arguments Redis takes from who has yet to authenticate.
const UNAUTHENTICATED_ARGUMENTS_MAX: u32 = 10;

/// The longest argument in bytes Redis takes from who has yet to authenticate.
const UNAUTHENTICATED_BULK_BYTES_MAX: u64 = 16 * 1024;

/// The smallest argument there is, `$0\r\n\r\n`.
const ARGUMENT_BYTES_MIN: usize = 6;

/// The longest text that Redis reads as a number (`LONG_STR_SIZE` less one).
const NUMBER_BYTES_MAX: usize = 20;

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
#[derive(Debug, Clone)]
pub struct Scanner {
    limits: Limits,
    unauthenticated: bool,
    /// Counts and lengths up to these are within every limit there is; the
    /// others have to be looked at to tell which one they exceed, if any.
    count_fine: u32,
    length_fine: u32,
    progress: Progress,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// How far the scanner is within an incomplete command.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Where the next header starts, 0 for the command's own. The bytes of the
    /// argument before it may not all have arrived.
    at: usize,
    /// Up to where the end of the line at `at` has been looked for.
    searched: usize,
    /// How many bytes there were.
    seen: usize,
    arguments: u32,
    /// How many arguments have not been found yet.
    remaining: u32,
    name: (usize, usize),
}

impl Scanner {
    /// A scanner at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        let mut scanner = Self {
            limits,
            unauthenticated: false,
            count_fine: 0,
            length_fine: 0,
            progress: Progress::default(),
        };
        scanner.set_unauthenticated(false);
        scanner
    }

    /// How large commands may be.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Other limits from the next header on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.set_unauthenticated(self.unauthenticated);
    }

    /// Whether the client has yet to authenticate, in which case Redis takes
    /// but 10 arguments of 16 KiB each. Counts from the next header on.
    pub fn set_unauthenticated(&mut self, unauthenticated: bool) {
        self.unauthenticated = unauthenticated;
        self.count_fine = self.limits.arguments_max;
        let length = self.limits.bulk_bytes_max.min(u64::from(u32::MAX));
        self.length_fine = length as u32;
        if unauthenticated {
            self.count_fine = self.count_fine.min(UNAUTHENTICATED_ARGUMENTS_MAX);
            self.length_fine = self.length_fine.min(UNAUTHENTICATED_BULK_BYTES_MAX as u32);
        }
    }

    /// Finds the end of the command at the start of `bytes`; `None` where it
    /// is not complete. The next call must pass the same bytes with more after
    /// them, or, after a frame, the bytes that follow it. After an error there
    /// is nothing to go on with: the same call gives the same error.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ParseError> {
        match bytes.first() {
            Some(b'*') => self.multibulk(bytes),
            Some(_) => self.inline(bytes),
            None => Ok(None),
        }
    }

    /// How many bytes are missing at least from the command that the last call
    /// found incomplete; 1 where nothing of one has been seen.
    pub fn needed(&self) -> usize {
        let Progress {
            at,
            seen,
            remaining,
            ..
        } = self.progress;
        let arguments = ARGUMENT_BYTES_MIN.saturating_mul(remaining as usize);
        at.saturating_add(arguments).saturating_sub(seen).max(1)
    }

    /// The loop keeps what it knows in variables of its own, as a command that
    /// arrived whole leaves nothing to remember.
    fn multibulk(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ParseError> {
        let Progress {
            mut at,
            mut arguments,
            mut remaining,
            mut name,
            ..
        } = self.progress;
        if at == 0 {
            (arguments, at) = match short_number(bytes, 0) {
                Some((count, end)) if count <= self.count_fine => (count, end),
                _ => match self.count(bytes)? {
                    Some(found) => found,
                    None => return Ok(self.incomplete(bytes)),
                },
            };
            remaining = arguments;
        }
        while remaining > 0 && at < bytes.len() {
            let short = if bytes[at] == b'$' {
                short_number(bytes, at)
            } else {
                None
            };
            let (length, start) = match short {
                Some((length, start)) if length <= self.length_fine => (length as usize, start),
                _ => match self.length(bytes, at)? {
                    Some(found) => found,
                    None => break,
                },
            };
            if remaining == arguments {
                name = (start, start.saturating_add(length));
            }
            at = start.saturating_add(length).saturating_add(2);
            if at > self.limits.command_bytes_max as usize {
                return Err(error("too big command"));
            }
            remaining -= 1;
        }
        if remaining > 0 || at > bytes.len() {
            self.progress = Progress {
                at,
                arguments,
                remaining,
                name,
                ..self.progress
            };
            return Ok(self.incomplete(bytes));
        }
        self.complete();
        Ok(Some(Frame {
            end: at,
            arguments,
            inline: false,
            name,
        }))
    }

    fn incomplete(&mut self, bytes: &[u8]) -> Option<Frame> {
        self.progress.seen = bytes.len();
        None
    }

    fn complete(&mut self) {
        if self.progress.seen > 0 || self.progress.searched > 0 {
            self.progress = Progress::default();
        }
    }

    /// The count of arguments and where the first one starts, where that is not
    /// seen at a glance.
    #[cold]
    fn count(&mut self, bytes: &[u8]) -> Result<Option<(u32, usize)>, ParseError> {
        let Some(end) = self.line(bytes, 0, "too big mbulk count string")? else {
            return Ok(None);
        };
        let count = number(&bytes[1..end]).map(|count| count.max(0));
        match count.and_then(|count| u32::try_from(count).ok()) {
            Some(count) if count <= self.limits.arguments_max => {
                if count > UNAUTHENTICATED_ARGUMENTS_MAX && self.unauthenticated {
                    return Err(error("unauthenticated multibulk length"));
                }
                Ok(Some((count, end + 2)))
            }
            _ => Err(error("invalid multibulk length")),
        }
    }

    /// The length of the argument whose header is at `at`, and where it starts,
    /// where that is not seen at a glance. The end of the line is looked for
    /// before anything else, as Redis does.
    #[cold]
    fn length(&mut self, bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, ParseError> {
        let Some(end) = self.line(bytes, at, "too big bulk count string")? else {
            return Ok(None);
        };
        if bytes[at] != b'$' {
            return Err(unexpected(bytes[at]));
        }
        let length = number(&bytes[at + 1..end]);
        match length.and_then(|length| u64::try_from(length).ok()) {
            Some(length) if length <= self.limits.bulk_bytes_max => {
                if length > UNAUTHENTICATED_BULK_BYTES_MAX && self.unauthenticated {
                    return Err(error("unauthenticated bulk length"));
                }
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Ok(Some((length, end + 2)))
            }
            _ => Err(error("invalid bulk length")),
        }
    }

    /// Where the header line at `at` ends, at its `\r`; `None` where that or
    /// the byte after it has not arrived.
    fn line(
        &mut self,
        bytes: &[u8],
        at: usize,
        too_long: &'static str,
    ) -> Result<Option<usize>, ParseError> {
        match self.find(bytes, at, b'\r') {
            Find::Found(end) if end + 2 <= bytes.len() => Ok(Some(end)),
            Find::Found(_) | Find::Missing => Ok(None),
            Find::TooLong => Err(error(too_long)),
        }
    }

    /// Looks for the end of the line at `at`, up to a NUL byte and the longest
    /// line.
    fn find(&mut self, bytes: &[u8], at: usize, end: u8) -> Find {
        let limit = at.saturating_add(self.limits.inline_bytes_max);
        let until = limit.saturating_add(1).min(bytes.len());
        let from = self.progress.searched.max(at).min(until);
        let found = memchr2(end, 0, &bytes[from..until]).map(|offset| from + offset);
        self.progress.searched = found.unwrap_or(until);
        match found {
            Some(found) if bytes[found] == end => Find::Found(found),
            _ if bytes.len() > limit => Find::TooLong,
            _ => Find::Missing,
        }
    }

    fn inline(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ParseError> {
        let newline = match self.find(bytes, 0, b'\n') {
            Find::Found(newline) => newline,
            Find::Missing => return Ok(self.incomplete(bytes)),
            Find::TooLong => return Err(error("too big inline request")),
        };
        let words = inline::count(inline::without_end(&bytes[..=newline]))
            .map_err(|inline::Unbalanced| error("unbalanced quotes in request"))?;
        self.complete();
        Ok(Some(Frame {
            end: newline + 1,
            arguments: words.count,
            inline: true,
            name: words.first,
        }))
    }
}

enum Find {
    Found(usize),
    Missing,
    TooLong,
}

/// Whether a command of that name shows that an HTTP client, not a cache
/// client, is at the other end, sent by a web page to do harm: Redis closes
/// the connection without a reply, and so must a proxy, before anything that
/// follows is taken for a command. Redis compares up to a NUL byte.
pub fn is_cross_protocol(name: &[u8]) -> bool {
    let end = name.iter().position(|byte| *byte == 0);
    let name = &name[..end.unwrap_or(name.len())];
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// The number in the header line at `at` and where the line ends, where it is
/// a well-formed one of at most 8 digits, as nearly all are. The byte after its
/// `\r` may not have arrived: nothing is complete before it has.
#[inline(always)]
fn short_number(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    const DIGITS_MAX: usize = 8;
    let line = bytes.get(at + 1..)?;
    let mut value = 0u32;
    for (digits, byte) in line.iter().enumerate().take(DIGITS_MAX + 1) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + u32::from(digit);
            continue;
        }
        let canonical = digits == 1 || (digits > 1 && line[0] != b'0');
        return (*byte == b'\r' && canonical).then_some((value, at + digits + 3));
    }
    None
}

/// A number as Redis's `string2ll` reads it: no sign but `-`, no leading zero,
/// no minus zero.
fn number(text: &[u8]) -> Option<i64> {
    if text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The texts of Redis all start alike.
#[cold]
fn error(what: &str) -> ParseError {
    ParseError(format!("Protocol error: {what}").into())
}

/// Redis names the byte it found, line ends as spaces. What is not ASCII would
/// be half a character and is named by the replacement character.
#[cold]
fn unexpected(byte: u8) -> ParseError {
    let shown = match byte {
        b'\r' | b'\n' => ' ',
        0x80.. => char::REPLACEMENT_CHARACTER,
        _ => char::from(byte),
    };
    error(&format!("expected '$', got '{shown}'"))
}

#[cfg(test)]
mod tests;
