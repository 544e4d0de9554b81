//! The scanners with bytes of all kinds, and against memcached itself.

use std::io::{Read, Write};

use super::commands::{Dialect, command};
use super::frames::{check_commands, check_replies};
use super::support::{Memcached, Random};
use wal_sidecar::protocol::memcached::loud::loud;
use wal_sidecar::protocol::memcached::replies::ReplyScanner;
use wal_sidecar::protocol::memcached::scanner::{Limits, Scanner};
use wal_sidecar::protocol::memcached::verbs::Shape;

const CASES: usize = 30_000;
/// Words of `fuzz/memcached.dict`.
const DICTIONARY: &str = include_str!("../../fuzz/memcached.dict");

/// The dictionary's words as bytes.
fn words() -> Vec<Vec<u8>> {
    let quoted = DICTIONARY.lines().filter(|line| !line.starts_with('#'));
    quoted
        .filter_map(|line| line.split_once("=\""))
        .map(|(_, word)| unescape(word.strip_suffix('"').expect("an end")))
        .collect()
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some(first) = rest.first() {
        if let [b'\\', b'x', high, low, tail @ ..] = rest {
            let digits = [*high, *low];
            let text = std::str::from_utf8(&digits).expect("hexadecimal digits");
            bytes.push(u8::from_str_radix(text, 16).expect("hexadecimal digits"));
            rest = tail;
        } else {
            bytes.push(*first);
            rest = &rest[1..];
        }
    }
    bytes
}

fn ends(random: &mut Random, length: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = (0..6).map(|_| random.below(length + 1)).collect();
    ends.sort_unstable();
    ends
}

#[test]
fn any_bytes_are_the_same_however_they_arrive() {
    let mut random = Random::from_environment();
    let words = words();
    assert!(words.len() > 50);
    for _ in 0..CASES {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(8) {
            match random.below(6) {
                0 => {
                    let length = random.below(12);
                    bytes.extend(random.bytes(length));
                }
                1 => bytes.extend(command(&mut random, Dialect::Text)),
                2 => bytes.extend(command(&mut random, Dialect::Meta)),
                3 => bytes.extend(command(&mut random, Dialect::Binary)),
                _ => bytes.extend(random.pick(&words)),
            }
        }
        if random.below(3) == 0 && !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        let cuts = ends(&mut random, bytes.len());
        check_commands(&bytes, &cuts);
        check_replies(random.next() as u8, &bytes, &cuts);
    }
}

/// What is forwarded for a command has exactly one reply, of the shape that its
/// row says: what follows it is answered next.
#[test]
fn memcached_answers_what_the_scanner_says() {
    let mut random = Random::from_environment();
    let words = words();
    let server = Memcached::start();
    let mut checked = 0;
    for _ in 0..6000 {
        let dialect = *random.pick(&[Dialect::Text, Dialect::Meta, Dialect::Binary]);
        let mut bytes = command(&mut random, dialect);
        // Bent a little, the line's end left where it is.
        if dialect != Dialect::Binary && random.below(2) == 0 {
            let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
            let at = random.below(line + 1);
            match random.below(4) {
                0 => drop(bytes.splice(at..at, random.pick(&words).iter().copied())),
                1 => bytes.insert(at, b' '),
                2 => bytes[at] = random.next() as u8,
                _ => drop(bytes.remove(at)),
            }
        }
        checked += usize::from(is_framed(&server, &bytes));
    }
    println!("{checked} commands");
    assert!(checked > 3000, "{checked}");
}

/// Sends the first command that the scanner finds, if it would be forwarded on
/// a shared link, and what tells its end; whether it was one.
fn is_framed(server: &Memcached, bytes: &[u8]) -> bool {
    let Ok(Some(frame)) = Scanner::new(Limits::default()).next(bytes) else {
        return false;
    };
    let row = frame.specification.row().expect("a row");
    let is_shared = frame.class != wal_sidecar::protocol::Class::Control;
    if !is_shared || row.shape == Shape::Local || row.name == "misbehave" {
        return false;
    }
    let mut sent = bytes::BytesMut::new();
    loud(&bytes[..frame.end], frame.specification, &mut sent);
    let is_binary = bytes[0] == 0x80;
    let last: Vec<u8> = match is_binary {
        true => super::support::memcached::packet(0x0a, *b"last", 0, b"", b"", b""),
        false => b"mn\r\n".to_vec(),
    };
    sent.extend_from_slice(&last);
    let mut expected = last;
    if is_binary {
        expected[0] = 0x81;
    } else {
        expected = b"MN\r\n".to_vec();
    }
    let client = server.client();
    client.stream().write_all(&sent).expect("it reads");
    let mut received = Vec::new();
    let mut scanner = ReplyScanner::default();
    let mut buffer = [0; 16 * 1024];
    let shown = || bytes[..frame.end].escape_ascii().to_string();
    let end = loop {
        let found = scanner.next(row.shape, &received);
        let found = found
            .unwrap_or_else(|error| panic!("{error}: {} to {}", received.escape_ascii(), shown()));
        if let Some(reply) = found {
            break reply.end;
        }
        let read = client.stream().read(&mut buffer);
        let read = read
            .unwrap_or_else(|error| panic!("{error}: {} to {}", received.escape_ascii(), shown()));
        assert!(
            read > 0,
            "closed after {} to {}",
            received.escape_ascii(),
            shown()
        );
        received.extend_from_slice(&buffer[..read]);
    };
    while received.len() < end + expected.len() {
        let read = client.stream().read(&mut buffer);
        let read = read
            .unwrap_or_else(|error| panic!("{error}: {} to {}", received.escape_ascii(), shown()));
        assert!(
            read > 0,
            "closed after {} to {}",
            received.escape_ascii(),
            shown()
        );
        received.extend_from_slice(&buffer[..read]);
    }
    assert!(
        received[end..] == expected,
        "{} to {}",
        received.escape_ascii(),
        shown()
    );
    true
}
