//! Which server a command is for, where there are several.

use bytes::BytesMut;
use memchr::memchr;
use smallvec::SmallVec;

use super::binary::Header;
use super::key::Key;
use super::line::{Tokens, Words, without_end};
use super::meta::Flags;
use super::request::KeyBuffer;
use super::verbs::{Effect, Specification, Verb};
use super::{BINARY_REQUEST, Dialect};

/// The servers that a command concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of its keys.
    Keys,
    /// Any one.
    One,
    /// All of them.
    All,
}

/// The servers that a command concerns.
pub fn scope(specification: Specification) -> Scope {
    let Some(row) = specification.row() else {
        return Scope::One;
    };
    match row.verb {
        Verb::FlushAll
        | Verb::BinaryFlush
        | Verb::Verbosity
        | Verb::CacheMemlimit
        | Verb::Slabs
        | Verb::Lru
        | Verb::LruCrawler
        | Verb::Extstore => Scope::All,
        Verb::Version
        | Verb::Statistics
        | Verb::Misbehave
        | Verb::MetaNoop
        | Verb::BinaryNoop
        | Verb::BinaryVersion
        | Verb::BinaryStatistics => Scope::One,
        _ => Scope::Keys,
    }
}

/// The keys of a command as memcached stores them; none of one that has no
/// valid one.
pub fn keys<'a>(
    command: &'a [u8],
    specification: Specification,
    buffer: &'a mut KeyBuffer,
) -> SmallVec<[&'a [u8]; 1]> {
    let mut keys = SmallVec::new();
    let Some(row) = specification.row() else {
        return keys;
    };
    if row.dialect == Dialect::Binary {
        let parts = Header::of(command).and_then(|header| header.parts(command));
        keys.extend(parts.map(|(_, key, _)| key).filter(|key| !key.is_empty()));
        return keys;
    }
    let end = memchr(b'\n', command).map_or(command.len(), |at| at + 1);
    let line = without_end(&command[..end]);
    match row.verb {
        Verb::Get | Verb::Gets => keys.extend(Words::new(line).skip(1)),
        Verb::Gat | Verb::Gats => keys.extend(Words::new(line).skip(2)),
        Verb::MetaDebug => {
            let tokens = Tokens::new(line);
            keys.extend(tokens.key(1).and_then(|written| {
                let is_base64 = tokens.get(2) == Some(b"b");
                Key { written, is_base64 }.stored(buffer)
            }));
        }
        verb if is_meta(verb) => {
            let tokens = Tokens::new(line);
            let flags = if verb == Verb::MetaSet || verb == Verb::MetaSetConditional {
                3
            } else {
                2
            };
            let flags = Flags::of(tokens.all().get(flags..).unwrap_or_default());
            keys.extend(tokens.key(1).and_then(|written| {
                let is_base64 = flags.has(b'b');
                Key { written, is_base64 }.stored(buffer)
            }));
        }
        _ => keys.extend(Words::new(line).nth(1)),
    }
    keys
}

fn is_meta(verb: Verb) -> bool {
    (Verb::MetaGet as u8..=Verb::MetaDebugAlone as u8).contains(&(verb as u8))
}

/// Appends a `get`, `gets`, `gat` or `gats` for some of its keys.
pub fn push_get(command: &[u8], verb: Verb, keys: &[&[u8]], out: &mut BytesMut) {
    out.extend_from_slice(verb.row().name.as_bytes());
    if matches!(verb, Verb::Gat | Verb::Gats) {
        let end = memchr(b'\n', command).map_or(command.len(), |at| at + 1);
        let time = Words::new(without_end(&command[..end])).nth(1);
        out.extend_from_slice(b" ");
        out.extend_from_slice(time.unwrap_or_default());
    }
    for key in keys {
        out.extend_from_slice(b" ");
        out.extend_from_slice(key);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a mutation compares numbers that are one server's own: another
/// server, which has a copy of the key, can't tell whether it would be done.
pub fn compares(command: &[u8], specification: Specification) -> bool {
    let Some(row) = specification.row() else {
        return false;
    };
    if row.effect == Effect::Flush {
        return false;
    }
    if row.effect != Effect::Conditional {
        return row.dialect == Dialect::Binary
            && Header::of(command).is_some_and(|header| header.cas != 0);
    }
    match row.verb {
        Verb::Cas | Verb::BinarySetConditional | Verb::BinaryDeleteConditional => true,
        Verb::MetaSetConditional | Verb::MetaDeleteConditional => {
            let end = memchr(b'\n', command).map_or(command.len(), |at| at + 1);
            let mut words = Words::new(without_end(&command[..end])).skip(2);
            words.any(|word| word.starts_with(b"C"))
        }
        _ => Header::of(command)
            .filter(|_| row.dialect == Dialect::Binary)
            .is_some_and(|header| header.cas != 0),
    }
}

/// Appends what drops the key of a command, in its dialect; returns what it is.
pub fn push_delete(
    command: &[u8],
    specification: Specification,
    out: &mut BytesMut,
) -> Option<Specification> {
    let row = specification.row()?;
    if row.dialect == Dialect::Binary {
        let (_, key, _) = Header::of(command)?.parts(command)?;
        let length = (key.len() as u16).to_be_bytes();
        let opcode = Verb::BinaryDelete.row().opcode?;
        out.extend_from_slice(&[BINARY_REQUEST, opcode, length[0], length[1]]);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&length);
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(key);
        return Some(Specification::new(Verb::BinaryDelete));
    }
    let end = memchr(b'\n', command)? + 1;
    let mut words = Words::new(without_end(&command[..end])).skip(1);
    out.extend_from_slice(b"md ");
    out.extend_from_slice(words.next()?);
    if is_meta(row.verb) && words.any(|word| word == b"b") {
        out.extend_from_slice(b" b");
    }
    out.extend_from_slice(b"\r\n");
    Some(Specification::new(Verb::MetaDelete))
}

#[cfg(test)]
mod tests {
    use super::super::KEY_BYTES_MAX;
    use super::super::scanner::{Limits, Scanner};
    use super::*;

    fn specification(command: &[u8]) -> Specification {
        let mut scanner = Scanner::new(Limits::default());
        let frame = scanner.next(command).expect("a command");
        frame.expect("a whole one").specification
    }

    #[test]
    fn commands_have_their_keys() {
        for (command, expected) in [
            (&b"get a bb\r\n"[..], &[&b"a"[..], b"bb"][..]),
            (b"gat 5 a\r\n", &[b"a"]),
            (b"set k 0 0 1\r\nx\r\n", &[b"k"]),
            (b"delete k\r\n", &[b"k"]),
            (b"mg Zm9v b v\r\n", &[b"foo"]),
            (b"ms Zm9v 1 b\r\nx\r\n", &[b"foo"]),
            (b"me k\r\n", &[b"k"]),
            (b"ma k D5\r\n", &[b"k"]),
        ] {
            let mut buffer = [0; KEY_BYTES_MAX];
            let specification = specification(command);
            assert_eq!(scope(specification), Scope::Keys);
            assert_eq!(&keys(command, specification, &mut buffer)[..], expected);
        }
        assert_eq!(scope(specification(b"flush_all\r\n")), Scope::All);
        assert_eq!(scope(specification(b"mn\r\n")), Scope::One);
    }

    #[test]
    fn parts_of_a_get_are_gets() {
        let check = |command: &[u8], keys: &[&[u8]], expected: &[u8]| {
            let verb = specification(command).row().map(|row| row.verb);
            let mut out = BytesMut::new();
            push_get(command, verb.expect("a verb"), keys, &mut out);
            assert_eq!(&out[..], expected);
        };
        check(b"get a b c\r\n", &[b"a", b"c"], b"get a c\r\n");
        check(b"gats 60 a b\n", &[b"b"], b"gats 60 b\r\n");
    }

    #[test]
    fn what_compares_drops_the_key_elsewhere() {
        for (command, expected) in [
            (&b"cas k 0 0 1 5\r\nx\r\n"[..], Some(&b"md k\r\n"[..])),
            (b"ms Zm9v 1 C5 b\r\nx\r\n", Some(b"md Zm9v b\r\n")),
            (b"md k C7\r\n", Some(b"md k\r\n")),
            (b"ms k 1 ME\r\nx\r\n", None),
            (b"add k 0 0 1\r\nx\r\n", None),
        ] {
            let specification = specification(command);
            let mut out = BytesMut::new();
            if compares(command, specification) {
                push_delete(command, specification, &mut out).expect("a delete");
                super::super::scanner::Scanner::new(Limits::default())
                    .next(&out)
                    .expect("a command")
                    .expect("a whole one");
            }
            assert_eq!(&out[..], expected.unwrap_or_default());
        }
    }
}
