//! What a server says to a meta command.

use bytes::Bytes;

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It was done, or here is what was asked for.
    Done,
    /// There is no such key.
    Absent,
    /// The key is another than the condition has it.
    Differs,
    /// The server can't for now.
    Busy,
    /// Nor can it later.
    Refused,
    /// It is no reply to such a command.
    Nonsense,
}

/// A reply, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    line: Bytes,
    /// The data, where it was asked for.
    pub value: Option<Bytes>,
}

impl Reply {
    /// Takes a complete reply apart, of one line or `VA` with data.
    pub(super) fn of(reply: &Bytes) -> Reply {
        let end = memchr::memchr(b'\n', reply).map_or(reply.len(), |at| at + 1);
        let line = reply.slice(..end.saturating_sub(b"\r\n".len()));
        let data = reply.len().saturating_sub(b"\r\n".len());
        let value = line.starts_with(b"VA ") && end <= data;
        Reply {
            line,
            value: value.then(|| reply.slice(end..data)),
        }
    }

    /// What became of the command.
    pub fn said(&self) -> Said {
        let text = &self.line[..];
        match text.split(|byte| *byte == b' ').next().unwrap_or_default() {
            b"HD" | b"VA" | b"OK" | b"MN" => Said::Done,
            b"EN" | b"NF" => Said::Absent,
            b"EX" | b"NS" => Said::Differs,
            b"CLIENT_ERROR" => Said::Refused,
            b"SERVER_ERROR" if memchr::memmem::find(text, b"too large").is_some() => Said::Refused,
            b"SERVER_ERROR" => Said::Busy,
            _ => Said::Nonsense,
        }
    }

    /// The number that a flag of the reply has, as in `c57`.
    pub fn number<N: std::str::FromStr>(&self, flag: u8) -> Option<N> {
        // The size of the data comes before the flags.
        let words = self.line.split(|byte| *byte == b' ');
        let mut words = words.skip(1 + usize::from(self.value.is_some()));
        let word = words.find(|word| word.first() == Some(&flag))?;
        std::str::from_utf8(&word[1..]).ok()?.parse().ok()
    }

    /// The line, for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_apart() {
        let reply = |text: &'static str| Reply::of(&Bytes::from_static(text.as_bytes()));
        let found = reply("VA 3 f7 c18446744073709551615 t-1\r\na\r\n\r\n");
        assert_eq!(found.said(), Said::Done);
        assert_eq!(found.value.as_deref(), Some(&b"a\r\n"[..]));
        assert_eq!(found.number(b'f'), Some(7_u32));
        assert_eq!(found.number(b'c'), Some(u64::MAX));
        assert_eq!(found.number(b't'), Some(-1_i64));
        assert_eq!(found.number::<u64>(b'x'), None);
        assert_eq!(reply("VA 0\r\n\r\n").value.as_deref(), Some(&b""[..]));
        assert_eq!(reply("HD c5\r\n").number(b'c'), Some(5));
        for (text, expected) in [
            ("HD\r\n", Said::Done),
            ("EN\r\n", Said::Absent),
            ("NF \r\n", Said::Absent),
            ("EX\r\n", Said::Differs),
            ("NS\r\n", Said::Differs),
            ("CLIENT_ERROR bad data chunk\r\n", Said::Refused),
            ("SERVER_ERROR object too large for cache\r\n", Said::Refused),
            ("SERVER_ERROR out of memory storing object\r\n", Said::Busy),
            ("ERROR\r\n", Said::Nonsense),
            ("\r\n", Said::Nonsense),
        ] {
            assert_eq!(reply(text).said(), expected, "{text}");
        }
    }
}
