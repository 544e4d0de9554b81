//! Inline commands: a line typed by a human, split into words.
//!
//! The rules are those of `sdssplitargs` in Redis's `sds.c`: words are
//! separated by blanks; `"..."` undoes `\n \r \t \b \a \xHH` and `\` before any
//! other byte; `'...'` undoes `\'` only; a closing quote has to be followed by
//! a blank or the end of the line. A quote opened within a word continues it
//! and its closing ends the word.

/// A quote is not closed, or its closing is not followed by a blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// What the line of an inline command holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Words {
    pub count: u32,
    /// Start and end of the first word in the line, its quotes included.
    pub first: (usize, usize),
}

/// The line without its end, a newline and at most one carriage return.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Counts the words of a line without its end.
pub(super) fn count(line: &[u8]) -> Result<Words, Unbalanced> {
    let mut words = Words::default();
    let mut at = skip_blanks(line, 0);
    while at < line.len() {
        let end = word(line, at, |_| ())?;
        if words.count == 0 {
            words.first = (at, end);
        }
        words.count += 1;
        at = skip_blanks(line, end);
    }
    Ok(words)
}

/// C's `isspace` in the "C" locale, which is what Redis runs in.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The offset of the first byte from `at` on that is no blank.
pub(super) fn skip_blanks(line: &[u8], at: usize) -> usize {
    let blanks = line[at..].iter().take_while(|byte| is_blank(**byte));
    at + blanks.count()
}

/// Gives the bytes of the word at `at` to `emit`, quotes and escapes undone;
/// returns where the word ends in the line.
pub(super) fn word(
    line: &[u8],
    mut at: usize,
    mut emit: impl FnMut(u8),
) -> Result<usize, Unbalanced> {
    loop {
        match line.get(at) {
            // Vertical tab and form feed separate words but do not end one:
            // Redis tests for them in one place and not in the other.
            None | Some(b' ' | b'\n' | b'\r' | b'\t') => return Ok(at),
            Some(b'"') => return double_quoted(line, at + 1, emit),
            Some(b'\'') => return single_quoted(line, at + 1, emit),
            Some(byte) => emit(*byte),
        }
        at += 1;
    }
}

fn double_quoted(
    line: &[u8],
    mut at: usize,
    mut emit: impl FnMut(u8),
) -> Result<usize, Unbalanced> {
    loop {
        match line[at..] {
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                emit(hex_digit(high) << 4 | hex_digit(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                emit(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            [b'"', ..] => return closed(line, at + 1),
            [byte, ..] => {
                emit(byte);
                at += 1;
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn single_quoted(
    line: &[u8],
    mut at: usize,
    mut emit: impl FnMut(u8),
) -> Result<usize, Unbalanced> {
    loop {
        match line[at..] {
            [b'\\', b'\'', ..] => {
                emit(b'\'');
                at += 2;
            }
            [b'\'', ..] => return closed(line, at + 1),
            [byte, ..] => {
                emit(byte);
                at += 1;
            }
            [] => return Err(Unbalanced),
        }
    }
}

/// A closing quote, just before `at`, has to end its word.
fn closed(line: &[u8], at: usize) -> Result<usize, Unbalanced> {
    match line.get(at) {
        Some(byte) if !is_blank(*byte) => Err(Unbalanced),
        _ => Ok(at),
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expected: Result<(u32, (usize, usize)), Unbalanced>) {
        let found = count(line).map(|words| (words.count, words.first));
        assert_eq!(found, expected, "{}", line.escape_ascii());
    }

    #[test]
    fn words_are_counted() {
        check(b"", Ok((0, (0, 0))));
        check(b" \t\x0b\x0c ", Ok((0, (0, 0))));
        check(b"PING", Ok((1, (0, 4))));
        check(b"  GET  key ", Ok((2, (2, 5))));
        check(b"a\x0bb c", Ok((2, (0, 3))));
        check(b"\x0ba", Ok((1, (1, 2))));
        check(b"a\rb", Ok((2, (0, 1))));
        check(b"\"GE T\" k", Ok((2, (0, 6))));
        check(b"S'ET' k", Ok((2, (0, 5))));
        check(b"''", Ok((1, (0, 2))));
        check(b"\"a\"\x0bb", Ok((2, (0, 3))));
    }

    #[test]
    fn quotes_have_to_be_balanced() {
        check(b"\"a", Err(Unbalanced));
        check(b"'a", Err(Unbalanced));
        check(b"a'", Err(Unbalanced));
        check(b"\"a\"b", Err(Unbalanced));
        check(b"'a'b", Err(Unbalanced));
        check(b"'a'\"b\"", Err(Unbalanced));
        check(b"\"a\\\"", Err(Unbalanced));
        check(b"\"a\\", Err(Unbalanced));
        check(b"'a\\'", Err(Unbalanced));
        check(b"GET ok \"", Err(Unbalanced));
    }
}
