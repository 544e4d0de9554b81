//! One complete RESP2 or RESP3 reply, decoded where it lies.
//!
//! Only what the effect of a command is read from is kept apart: simple, bulk
//! and verbatim strings are all text, and arrays, sets, pushes and maps are all
//! arrays (a map's keys and values alternate). Attributes are skipped.

use super::number::parse_integer;

/// How deep arrays may be nested. The datastore's own replies that tell an
/// effect are nested 4 deep; those of scripts, which may be deeper, tell none.
pub(super) const DEPTH_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    Nil,
    Integer(i64),
    Text(&'a [u8]),
    /// As the datastore wrote it: `1.5`, `inf`, `-inf`, `nan`.
    Double(&'a [u8]),
    Boolean(bool),
    /// Without the type byte: `ERR unknown command`.
    Error(&'a [u8]),
    Array(Vec<Reply<'a>>),
}

impl<'a> Reply<'a> {
    /// Decodes `bytes`, which must be one reply and no more; `None` where they
    /// are not, or it is nested deeper than [`DEPTH_MAX`].
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut decoder = Decoder { rest: bytes };
        let reply = decoder.reply(0)?;
        decoder.rest.is_empty().then_some(reply)
    }

    /// Its bytes where it is a string or a double.
    pub(super) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Reply::Text(text) | Reply::Double(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn array(&self) -> Option<&[Reply<'a>]> {
        match self {
            Reply::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// Nil, or nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Reply::Nil => true,
            Reply::Array(elements) => elements.is_empty(),
            _ => false,
        }
    }
}

/// Whether a complete reply is an error.
pub(super) fn is_error(reply: &[u8]) -> bool {
    match reply.first() {
        Some(b'-' | b'!') => true,
        Some(b'|') => matches!(Reply::decode(reply), Some(Reply::Error(_))),
        _ => false,
    }
}

struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn reply(&mut self, depth: usize) -> Option<Reply<'a>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let line = self.line()?;
        let (kind, line) = line.split_first()?;
        match kind {
            b'+' | b'(' => Some(Reply::Text(line)),
            b'-' => Some(Reply::Error(line)),
            b':' => Some(Reply::Integer(parse_number(line)?)),
            b',' => Some(Reply::Double(line)),
            b'#' => match line {
                b"t" => Some(Reply::Boolean(true)),
                b"f" => Some(Reply::Boolean(false)),
                _ => None,
            },
            b'_' => line.is_empty().then_some(Reply::Nil),
            b'$' | b'!' | b'=' => self.bulk(*kind, line),
            b'*' | b'~' | b'>' => self.elements(line, 1, depth),
            b'%' => self.elements(line, 2, depth),
            b'|' => {
                self.elements(line, 2, depth)?;
                self.reply(depth + 1)
            }
            _ => None,
        }
    }

    fn bulk(&mut self, kind: u8, line: &[u8]) -> Option<Reply<'a>> {
        let length = parse_number(line)?;
        if length == -1 {
            return Some(Reply::Nil);
        }
        let length = usize::try_from(length).ok()?;
        let text = self.rest.get(..length)?;
        self.rest = self.rest[length..].strip_prefix(b"\r\n")?;
        match kind {
            b'$' => Some(Reply::Text(text)),
            b'!' => Some(Reply::Error(text)),
            // A format of three letters and a colon come before a verbatim string.
            _ => Some(Reply::Text(text.get(4..)?)),
        }
    }

    fn elements(&mut self, line: &[u8], width: i64, depth: usize) -> Option<Reply<'a>> {
        let count = parse_number(line)?;
        if count == -1 {
            return Some(Reply::Nil);
        }
        let count = usize::try_from(count.checked_mul(width)?).ok()?;
        // Every element has a type byte and a line end: a count that can't be
        // true does not get memory.
        if count > self.rest.len() / 3 {
            return None;
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(self.reply(depth + 1)?);
        }
        Some(Reply::Array(elements))
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\r', self.rest)?;
        let line = &self.rest[..end];
        self.rest = self.rest[end..].strip_prefix(b"\r\n")?;
        Some(line)
    }
}

fn parse_number(line: &[u8]) -> Option<i64> {
    parse_integer(line.strip_prefix(b"+").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_type_of_both_versions() {
        let text = |text: &'static str| Reply::Text(text.as_bytes());
        let cases: [(&str, Option<Reply>); 30] = [
            ("+OK\r\n", Some(text("OK"))),
            ("-ERR no\r\n", Some(Reply::Error(b"ERR no"))),
            (":-2\r\n", Some(Reply::Integer(-2))),
            (":+2\r\n", Some(Reply::Integer(2))),
            ("$3\r\na\r\n\r\n", Some(text("a\r\n"))),
            ("$0\r\n\r\n", Some(text(""))),
            ("$-1\r\n", Some(Reply::Nil)),
            ("*-1\r\n", Some(Reply::Nil)),
            ("_\r\n", Some(Reply::Nil)),
            (",1.5\r\n", Some(Reply::Double(b"1.5"))),
            (",-inf\r\n", Some(Reply::Double(b"-inf"))),
            ("#t\r\n", Some(Reply::Boolean(true))),
            ("#f\r\n", Some(Reply::Boolean(false))),
            (
                "(12345678901234567890\r\n",
                Some(text("12345678901234567890")),
            ),
            ("!5\r\nERR x\r\n", Some(Reply::Error(b"ERR x"))),
            ("=6\r\ntxt:hi\r\n", Some(text("hi"))),
            ("*0\r\n", Some(Reply::Array(vec![]))),
            ("~1\r\n+a\r\n", Some(Reply::Array(vec![text("a")]))),
            (">1\r\n+a\r\n", Some(Reply::Array(vec![text("a")]))),
            (
                "%1\r\n+a\r\n:1\r\n",
                Some(Reply::Array(vec![text("a"), Reply::Integer(1)])),
            ),
            ("|1\r\n+a\r\n:1\r\n+b\r\n", Some(text("b"))),
            (
                "*2\r\n*1\r\n_\r\n$-1\r\n",
                Some(Reply::Array(vec![
                    Reply::Array(vec![Reply::Nil]),
                    Reply::Nil,
                ])),
            ),
            ("", None),
            ("+OK", None),
            ("+OK\r\n+OK\r\n", None),
            ("*1\r\n", None),
            ("*99999999999\r\n", None),
            ("$5\r\nab\r\n", None),
            ("=2\r\nab\r\n", None),
            ("?1\r\n", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Reply::decode(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| "*1\r\n".repeat(depth) + ":1\r\n";
        assert!(Reply::decode(nested(DEPTH_MAX).as_bytes()).is_some());
        assert!(Reply::decode(nested(DEPTH_MAX + 1).as_bytes()).is_none());
        assert!(Reply::decode(nested(100_000).as_bytes()).is_none());
        assert!(Reply::decode("|0\r\n".repeat(100_000).as_bytes()).is_none());
    }

    #[test]
    fn an_error_behind_an_attribute_is_an_error() {
        for (reply, expected) in [
            ("-ERR\r\n", true),
            ("!3\r\nERR\r\n", true),
            ("|1\r\n+a\r\n:1\r\n-ERR\r\n", true),
            ("|1\r\n+a\r\n:1\r\n+OK\r\n", false),
            ("*1\r\n-ERR\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_error(reply.as_bytes()), expected, "{reply:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reply::decode(&bytes);
        }

        #[test]
        fn anything_that_looks_like_a_reply_is_decoded_or_refused(
            text in "([-+:$*_#,(!=%~>|][-0-9a-z]{0,3}\r\n){0,12}"
        ) {
            let _ = Reply::decode(text.as_bytes());
        }
    }
}
