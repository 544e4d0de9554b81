//! What a reply says became of its command.

use memchr::memchr;

use super::Dialect;
use super::binary::Header;
use super::line::without_end;
use super::replies::is_error;
use super::verbs::Specification;

/// What one reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It was done, or there is something.
    Done,
    /// It was not done, for what is stored is not what it takes; no error.
    NotDone,
    /// It was refused; nothing was changed.
    Refused(&'a [u8]),
    /// The server failed; an old value may be gone.
    Failed(&'a [u8]),
}

/// Statuses of packets that say that nothing was done: no such key, the key
/// exists, not stored.
const STATUS_NOT_DONE: [u16; 3] = [1, 2, 5];
/// Statuses with which memcached drops the old value too: too large, and out
/// of memory.
const STATUS_FAILED: [u16; 2] = [3, 0x82];

/// What one complete reply to a command says.
pub fn answer(specification: Specification, reply: &[u8]) -> Answer<'_> {
    match specification.row().map(|row| row.dialect) {
        Some(Dialect::Binary) => packet(reply),
        Some(Dialect::Text) | None => line(reply),
    }
}

fn line(reply: &[u8]) -> Answer<'_> {
    let end = memchr(b'\n', reply).map_or(reply.len(), |at| at + 1);
    let line = without_end(&reply[..end]);
    if line.starts_with(b"SERVER_ERROR") {
        return Answer::Failed(line);
    }
    if is_error(line) {
        return Answer::Refused(line);
    }
    match line.split(|byte| *byte == b' ').next().unwrap_or_default() {
        b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" | b"NS" | b"EX" | b"NF" | b"EN" | b"END" => {
            Answer::NotDone
        }
        _ => Answer::Done,
    }
}

fn packet(reply: &[u8]) -> Answer<'_> {
    let Some(header) = Header::of(reply) else {
        return Answer::Failed(b"");
    };
    let text = || header.parts(reply).map_or(&[][..], |(_, _, text)| text);
    match header.status {
        0 => Answer::Done,
        status if STATUS_NOT_DONE.contains(&status) => Answer::NotDone,
        status if STATUS_FAILED.contains(&status) => Answer::Failed(text()),
        _ => Answer::Refused(text()),
    }
}

/// The values in the reply to a get: each key with its whole `VALUE` line and data.
pub struct Values<'a>(pub &'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let fields = self.0.strip_prefix(b"VALUE ")?;
        let end = memchr(b'\n', fields)?;
        let mut words = without_end(&fields[..=end]).split(|byte| *byte == b' ');
        let key = words.next().unwrap_or_default();
        let size = words.nth(1).and_then(super::number::strict_length)?;
        let whole = b"VALUE ".len() + end + 1 + size as usize + 2;
        let (value, rest) = self.0.split_at_checked(whole)?;
        self.0 = rest;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::memcached::verbs::Verb;

    #[test]
    fn lines_and_statuses_say_what_became_of_it() {
        let set = Specification::new(Verb::Set);
        assert_eq!(answer(set, b"STORED\r\n"), Answer::Done);
        assert_eq!(answer(set, b"NOT_STORED\r\n"), Answer::NotDone);
        assert_eq!(answer(set, b"END\r\n"), Answer::NotDone);
        assert_eq!(answer(set, b"EN\r\n"), Answer::NotDone);
        assert_eq!(answer(set, b"HD O7\r\n"), Answer::Done);
        assert_eq!(answer(set, b"57\r\n"), Answer::Done);
        assert_eq!(answer(set, b"ERROR\r\n"), Answer::Refused(b"ERROR"));
        assert_eq!(
            answer(set, b"SERVER_ERROR out of memory\r\n"),
            Answer::Failed(b"SERVER_ERROR out of memory")
        );
        let packet = |status: u8, text: &[u8]| {
            let mut packet = vec![0x81, 1, 0, 0, 0, 0, 0, status, 0, 0, 0, text.len() as u8];
            packet.resize(24, 0);
            packet.extend_from_slice(text);
            packet
        };
        let binary = Specification::new(Verb::BinarySet);
        assert_eq!(answer(binary, &packet(0, b"")), Answer::Done);
        assert_eq!(answer(binary, &packet(2, b"Exists")), Answer::NotDone);
        assert_eq!(answer(binary, &packet(3, b"big")), Answer::Failed(b"big"));
        assert_eq!(answer(binary, &packet(6, b"nan")), Answer::Refused(b"nan"));
    }

    #[test]
    fn values_are_named_one_by_one() {
        let reply = b"VALUE a 0 3\r\nEND\r\nVALUE bb 5 0 9\r\n\r\nEND\r\n";
        let found = Values(reply).map(|(key, value)| (key.to_vec(), value.len()));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [(b"a".to_vec(), 18), (b"bb".to_vec(), 18)]
        );
    }
}
