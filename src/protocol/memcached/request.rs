//! The parts of a mutation: what it asks for, in whichever dialect.

use smallvec::SmallVec;

use super::binary::Header;
use super::key::Key;
use super::line::{Tokens, Words, without_end};
use super::meta::{self, Flags};
use super::verbs::{Specification, Verb};
use super::{Dialect, KEY_BYTES_MAX, number};

/// In place of a time to live: an arithmetic packet that creates nothing.
const NOT_CREATED: u32 = u32::MAX;

/// Room for a key that was written in base64.
pub type KeyBuffer = [u8; KEY_BYTES_MAX];

/// A mutation, cut into its parts; what the verb has none of is empty or zero.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What it is.
    pub verb: Verb,
    /// The keys as memcached stores them; several of `gat`, none of a flush.
    pub keys: SmallVec<[&'a [u8]; 1]>,
    /// What the client wants to be told with the value.
    pub flags: u64,
    /// The time to live as it was given: see [`absolute_time`].
    pub time: Option<i64>,
    /// What is stored.
    pub value: &'a [u8],
    /// The number to compare with; 0 for none.
    pub compare: u64,
    /// What is added or subtracted.
    pub delta: u64,
    /// Whether it subtracts.
    pub subtracts: bool,
    /// The number, and its time to live, that is stored where there is none.
    pub initial: Option<(u64, i64)>,
    /// The mode of `ms`.
    pub mode: Option<u8>,
    /// Whether it makes an item stale, or a stub of one, or leaves a part of
    /// it: what cannot be told in the words of the classic commands.
    pub is_partial: bool,
}

impl<'a> Request<'a> {
    /// The parts of a complete command; none of what changes nothing.
    pub fn parse(
        command: &'a [u8],
        specification: Specification,
        buffer: &'a mut KeyBuffer,
    ) -> Option<Request<'a>> {
        let row = specification.row()?;
        match row.dialect {
            Dialect::Binary => packet(command, row.verb),
            Dialect::Text => {
                let end = memchr::memchr(b'\n', command)? + 1;
                let line = without_end(&command[..end]);
                let value = command.get(end..).unwrap_or_default();
                let value = &value[..value.len().saturating_sub(2)];
                text(row.verb, line, value, buffer)
            }
        }
    }

    fn new(verb: Verb) -> Request<'a> {
        Request {
            verb,
            keys: SmallVec::new(),
            flags: 0,
            time: None,
            value: &[],
            compare: 0,
            delta: 0,
            subtracts: false,
            initial: None,
            mode: None,
            is_partial: false,
        }
    }
}

fn text<'a>(
    verb: Verb,
    line: &'a [u8],
    value: &'a [u8],
    buffer: &'a mut KeyBuffer,
) -> Option<Request<'a>> {
    let mut request = Request::new(verb);
    if matches!(verb, Verb::Gat | Verb::Gats) {
        let mut words = Words::new(line).skip(1);
        request.time = words.next().and_then(number::lenient_cut).map(i64::from);
        request.keys.extend(words);
        return request.time.map(|_| request);
    }
    let tokens = Tokens::new(line);
    let time = |index| {
        tokens
            .get(index)
            .and_then(number::lenient_cut)
            .map(i64::from)
    };
    match verb {
        Verb::FlushAll => {
            request.time = time(1);
            return Some(request);
        }
        Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend | Verb::Cas => {
            request.flags = number::lenient_unsigned(tokens.get(2)?)?;
            request.time = time(3);
            request.value = value;
            if verb == Verb::Cas {
                request.compare = number::strict_long(tokens.get(5)?)?;
            }
        }
        Verb::Delete => {}
        Verb::Increment | Verb::Decrement => {
            request.delta = number::lenient_unsigned(tokens.get(2)?)?;
            request.subtracts = verb == Verb::Decrement;
        }
        Verb::Touch => request.time = time(2),
        _ => return meta(request, &tokens, value, buffer),
    }
    request.keys.push(tokens.key(1)?);
    Some(request)
}

fn meta<'a>(
    mut request: Request<'a>,
    tokens: &Tokens<'a>,
    value: &'a [u8],
    buffer: &'a mut KeyBuffer,
) -> Option<Request<'a>> {
    let is_set = matches!(request.verb, Verb::MetaSet | Verb::MetaSetConditional);
    let words = tokens.all().get(if is_set { 3 } else { 2 }..)?;
    let flags = Flags::of(words);
    let key = Key {
        written: tokens.key(1)?,
        is_base64: flags.has(b'b'),
    };
    request.keys.push(key.stored(buffer)?);
    request.value = if is_set { value } else { &[] };
    request.mode = flags.mode;
    request.subtracts = matches!(flags.mode, Some(b'D' | b'd' | b'-'));
    let mut initial = (0, None);
    request.delta = 1;
    for word in words {
        let Some((letter, argument)) = word.split_first() else {
            continue;
        };
        let number = || number::lenient_unsigned(argument);
        match letter {
            b'T' => request.time = meta::time(argument).map(i64::from),
            b'N' => initial.1 = meta::time(argument).map(i64::from),
            b'F' => request.flags = number()?,
            b'C' => request.compare = number()?,
            b'D' => request.delta = number()?,
            b'J' => initial.0 = number()?,
            b'I' | b'x' => request.is_partial = true,
            _ => {}
        }
    }
    request.initial = initial.1.map(|time| (initial.0, time));
    Some(request)
}

fn packet(command: &[u8], verb: Verb) -> Option<Request<'_>> {
    let header = Header::of(command)?;
    let (extras, key, value) = header.parts(command)?;
    let mut request = Request::new(verb);
    if !key.is_empty() {
        request.keys.push(key);
    }
    request.value = value;
    request.compare = header.cas;
    let word = |at: usize| {
        let bytes = extras.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let long = |at: usize| {
        let bytes = extras.get(at..at + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    match verb {
        Verb::BinarySet | Verb::BinarySetConditional | Verb::BinaryAdd | Verb::BinaryReplace => {
            request.flags = u64::from(word(0)?);
            request.time = word(4).map(i64::from);
        }
        Verb::BinaryIncrement | Verb::BinaryDecrement => {
            request.delta = long(0)?;
            request.subtracts = verb == Verb::BinaryDecrement;
            let time = word(16)?;
            request.initial = (time != NOT_CREATED).then_some((long(8)?, i64::from(time)));
        }
        Verb::BinaryTouch | Verb::BinaryGetAndTouch | Verb::BinaryGetAndTouchKey => {
            request.time = word(0).map(i64::from);
        }
        Verb::BinaryFlush => request.time = word(0).map(i64::from),
        _ => {}
    }
    Some(request)
}

/// The time to live that means the same to every server at every time:
/// seconds since the Unix epoch, 0 for never, -1 for at once. Times of up to 30
/// days count from `now_s` (`REALTIME_MAXDELTA`).
pub fn absolute_time(time: i64, now_s: i64) -> i64 {
    const RELATIVE_MAX: i64 = 60 * 60 * 24 * 30;
    match time {
        0 => 0,
        ..0 => -1,
        1..=RELATIVE_MAX => now_s + time,
        _ => time,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scanner::{Limits, Scanner};
    use super::*;

    fn check(command: &[u8], expected: impl Fn(&Request<'_>) -> bool) {
        let frame = Scanner::new(Limits::default())
            .next(command)
            .expect("a command")
            .expect("a whole one");
        let mut buffer = [0; KEY_BYTES_MAX];
        let request = Request::parse(command, frame.specification, &mut buffer);
        let request = request.expect("a mutation");
        assert!(expected(&request), "{} {request:?}", command.escape_ascii());
    }

    #[test]
    fn lines_have_their_parts() {
        check(b"set k 5 10 3 noreply\r\nabc\r\n", |request| {
            request.keys[..] == [b"k"]
                && (request.flags, request.time) == (5, Some(10))
                && request.value == b"abc"
        });
        check(b"cas k 0 0 0 77\r\n\r\n", |request| {
            request.compare == 77 && request.value.is_empty()
        });
        check(b"gat 9 a b c\r\n", |request| {
            request.keys.len() == 3 && request.time == Some(9)
        });
        check(b"decr k 7\r\n", |request| {
            request.delta == 7 && request.subtracts
        });
        check(b"flush_all 60\r\n", |request| request.time == Some(60));
        check(b"flush_all noreply\r\n", |request| request.time.is_none());
        check(b"ms Zm9v 2 b T60 F9 MA I\r\nhi\r\n", |request| {
            request.keys[..] == [b"foo"]
                && (request.flags, request.time, request.mode) == (9, Some(60), Some(b'A'))
                && request.value == b"hi"
                && request.is_partial
        });
        check(b"ma k N30 J5 D2 MD\r\n", |request| {
            request.initial == Some((5, 30)) && request.delta == 2 && request.subtracts
        });
        check(b"md k C9 q\r\n", |request| request.compare == 9);
    }

    #[test]
    fn packets_have_their_parts() {
        let packet = |opcode: u8, extras: &[u8], key: &[u8], value: &[u8]| {
            let body = (extras.len() + key.len() + value.len()) as u8;
            let mut packet = vec![
                0x80,
                opcode,
                0,
                key.len() as u8,
                extras.len() as u8,
                0,
                0,
                0,
            ];
            packet.extend([0, 0, 0, body, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 9]);
            packet.extend([extras, key, value].concat());
            packet
        };
        check(
            &packet(1, &[0, 0, 0, 5, 0, 0, 0, 60], b"k", b"v"),
            |request| {
                request.verb == Verb::BinarySetConditional
                    && (request.flags, request.time, request.compare) == (5, Some(60), 9)
                    && (request.keys[0], request.value) == (&b"k"[..], &b"v"[..])
            },
        );
        let mut extras = [0; 20];
        extras[7] = 3;
        extras[16..].copy_from_slice(&[0xff; 4]);
        check(&packet(6, &extras, b"k", b""), |request| {
            request.delta == 3 && request.subtracts && request.initial.is_none()
        });
    }

    #[test]
    fn times_become_absolute() {
        for (time, expected) in [
            (0, 0),
            (-1, -1),
            (1, 1001),
            (2_592_000, 2_593_000),
            (2_592_001, 2_592_001),
        ] {
            assert_eq!(absolute_time(time, 1000), expected);
        }
    }
}
