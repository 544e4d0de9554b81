//! A command's arguments, decoded where they lie.

use smallvec::SmallVec;

use super::inline;

/// The arguments of one command, its name first, as slices of the command's
/// own bytes (or of a scratch buffer for inline commands, whose quoting has to
/// be undone).
pub type Arguments<'a> = SmallVec<[&'a [u8]; 8]>;

/// All arguments of one complete command, as the scanner has cut it.
///
/// `scratch` is emptied and filled where the command is inline, and left alone
/// else. Bytes that are no complete command give the arguments up to where
/// they stop being one.
pub fn parse<'a>(command: &'a [u8], scratch: &'a mut Vec<u8>) -> Arguments<'a> {
    if command.first() == Some(&b'*') {
        multibulk(command)
    } else {
        split(inline::without_end(command), scratch)
    }
}

/// The first argument alone: what [`parse`] gives first.
pub fn name<'a>(command: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if command.first() == Some(&b'*') {
        let (_, at) = header(command, 0)?;
        return bulk(command, at).map(|(argument, _)| argument);
    }
    let line = inline::without_end(command);
    let start = inline::skip_blanks(line, 0);
    scratch.clear();
    if start == line.len() {
        return None;
    }
    inline::word(line, start, |byte| scratch.push(byte)).ok()?;
    Some(scratch)
}

fn multibulk(command: &[u8]) -> Arguments<'_> {
    let mut arguments = Arguments::new();
    let Some((count, mut at)) = header(command, 0) else {
        return arguments;
    };
    // The count is the client's word until as many arguments have been seen,
    // so nothing is reserved for more than can be there.
    let smallest = b"$0\r\n\r\n".len();
    arguments.reserve(count.min(command.len() / smallest));
    for _ in 0..count {
        let Some((argument, next)) = bulk(command, at) else {
            break;
        };
        arguments.push(argument);
        at = next;
    }
    arguments
}

/// The bulk string at `at` and where the next one starts.
fn bulk(command: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (length, start) = header(command, at)?;
    let end = start.checked_add(length)?;
    Some((command.get(start..end)?, end.checked_add(2)?))
}

/// The number in the header line at `at`, after its type byte, and where the
/// line ends. Only the scanner's own output gets here, so this checks no more
/// than it needs to never read outside the command.
fn header(command: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0usize;
    let mut at = at.checked_add(1)?;
    loop {
        let byte = *command.get(at)?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (byte == b'\r').then_some((value, at + 2));
        }
        value = value.checked_mul(10)?.checked_add(usize::from(digit))?;
        at += 1;
    }
}

fn split<'a>(line: &[u8], scratch: &'a mut Vec<u8>) -> Arguments<'a> {
    scratch.clear();
    let mut ranges = SmallVec::<[(usize, usize); 8]>::new();
    let mut at = inline::skip_blanks(line, 0);
    while at < line.len() {
        let start = scratch.len();
        let Ok(end) = inline::word(line, at, |byte| scratch.push(byte)) else {
            break;
        };
        ranges.push((start, scratch.len()));
        at = inline::skip_blanks(line, end);
    }
    let words: &'a [u8] = scratch;
    ranges
        .iter()
        .map(|(start, end)| &words[*start..*end])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &[u8], expected: &[&[u8]]) {
        let mut scratch = b"left over".to_vec();
        let found = parse(command, &mut scratch);
        assert_eq!(found.as_slice(), expected, "{}", command.escape_ascii());
        let mut scratch = b"left over".to_vec();
        let found = name(command, &mut scratch);
        assert_eq!(
            found,
            expected.first().copied(),
            "{}",
            command.escape_ascii()
        );
    }

    #[test]
    fn multibulk_commands_are_sliced() {
        check(b"*1\r\n$4\r\nPING\r\n", &[b"PING"]);
        check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &[b"GET", b""]);
        check(b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", &[b"GET", b"a\r\nb"]);
        check(b"*1\rX$4\rYPINGZZ", &[b"PING"]);
        check(b"*0\r\n", &[]);
        check(b"*-1\r\n", &[]);
    }

    #[test]
    fn inline_commands_are_unquoted() {
        check(b"PING\r\n", &[b"PING"]);
        check(b"PING\n", &[b"PING"]);
        check(b"  SET  k\tv \r\n", &[b"SET", b"k", b"v"]);
        check(b"SET \"a b\" 'c d'\n", &[b"SET", b"a b", b"c d"]);
        check(b"S\"ET\" \"\" ''\n", &[b"SET", b"", b""]);
        check(
            b"\"\\n\\r\\t\\b\\a\\q\\\\\\\"\"\n",
            &[b"\n\r\t\x08\x07q\\\""],
        );
        check(b"\"\\x0a\\xFf\\xg1\\x\"\n", &[b"\n\xffxg1x"]);
        check(b"'\\n\\'\\x41'\n", &[b"\\n'\\x41"]);
        check(b"a\\n\\x41\n", &[b"a\\n\\x41"]);
        check(b"\r\n", &[]);
        check(b"\n", &[]);
        check(b" \x0b\n", &[]);
    }

    #[test]
    fn what_is_no_command_is_no_panic() {
        check(b"", &[]);
        check(b"*", &[]);
        check(b"*3\r\n$1\r\na\r\n$9\r\nshort", &[b"a"]);
        check(b"*1\r\n$99999999999999999999999\r\n", &[]);
        check(b"*1\r\n$18446744073709551615\r\n", &[]);
        check(b"*4294967295\r", &[]);
        check(b"GET 'open\n", &[b"GET"]);
    }
}
