//! Arguments, looked at one after the other where they lie.

use memchr::memchr;

/// Whether `argument` is `word` in any case.
#[inline]
pub(super) fn is(argument: &[u8], word: &[u8]) -> bool {
    argument.eq_ignore_ascii_case(word)
}

/// Whether `argument` is one of `words` in any case.
pub(super) fn is_any(argument: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| is(argument, word))
}

/// A decimal integer, as the datastore reads numbers of keys and fields.
pub(super) fn integer(argument: &[u8]) -> Option<i64> {
    std::str::from_utf8(argument).ok()?.parse().ok()
}

/// The arguments after the name of a complete multibulk command. What is not
/// well-formed ends it: the scanner has seen to it that nothing is.
#[derive(Debug, Clone)]
pub(super) struct Multibulk<'a> {
    /// From the `$` of the next argument.
    rest: &'a [u8],
}

impl<'a> Multibulk<'a> {
    /// The arguments in `rest`, which begins after the name's last byte.
    pub(super) fn after_name(rest: &'a [u8]) -> Multibulk<'a> {
        Multibulk {
            rest: rest.get(2..).unwrap_or_default(),
        }
    }
}

impl<'a> Iterator for Multibulk<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let digits = self.rest.strip_prefix(b"$")?;
        let line = memchr(b'\r', digits)?;
        let length = digits[..line].iter().try_fold(0usize, |length, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            length.checked_mul(10)?.checked_add(usize::from(digit))
        })?;
        let start = line + 2;
        let end = start.checked_add(length)?;
        let argument = digits.get(start..end)?;
        self.rest = digits.get(end + 2..).unwrap_or_default();
        Some(argument)
    }
}

/// The arguments after the name of an inline command, quotes left as they are.
#[derive(Debug, Clone)]
pub(super) struct Inline<'a> {
    rest: &'a [u8],
}

impl<'a> Inline<'a> {
    /// The arguments in `rest`, which begins after the name's last byte.
    pub(super) fn after_name(rest: &'a [u8]) -> Inline<'a> {
        Inline { rest }
    }

    /// Whether any argument may have to be unquoted before it can be told.
    pub(super) fn quoted(&self) -> bool {
        memchr::memchr2(b'"', b'\'', self.rest).is_some()
    }
}

impl<'a> Iterator for Inline<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b);
        let start = self.rest.iter().position(|byte| !blank(byte))?;
        let token = &self.rest[start..];
        let end = token.iter().position(blank).unwrap_or(token.len());
        self.rest = &token[end..];
        Some(&token[..end])
    }
}

/// Undoes the quoting of the first argument of `line` into `buffer`, by the
/// rules inline commands have: double quotes with `\n \r \t \b \a \xHH`
/// escapes, single quotes with `\'`. `None` where it does not fit, which no
/// command's name does not.
pub(super) fn unquote<'b>(line: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut quote = None;
    let mut used = 0;
    let mut rest = line.trim_ascii_start();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (quote, byte) {
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                rest = after;
                continue;
            }
            (None, b' ' | b'\t' | b'\r' | b'\n' | 0) => break,
            (Some(open), close) if open == close => break,
            (Some(b'"'), b'\\') => escape(after)?,
            (Some(b'\''), b'\\') if after.first() == Some(&b'\'') => (b'\'', &after[1..]),
            _ => (byte, after),
        };
        *buffer.get_mut(used)? = byte;
        used += 1;
        rest = after;
    }
    Some(&buffer[..used])
}

/// What follows a backslash within double quotes, and what is left after it.
fn escape(after: &[u8]) -> Option<(u8, &[u8])> {
    let (&byte, rest) = after.split_first()?;
    let digit = |at: usize| (*rest.get(at)? as char).to_digit(16);
    if byte == b'x'
        && let (Some(high), Some(low)) = (digit(0), digit(1))
    {
        return Some(((high * 16 + low) as u8, &rest[2..]));
    }
    let byte = match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    };
    Some((byte, rest))
}
