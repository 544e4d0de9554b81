//! Whether two servers said the same, and hold the same.

use crate::support::Client;
use crate::support::resp::reply_length;

/// How two servers' replies to one command are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Byte by byte.
    Exact,
    /// Byte by byte, the elements of every array sorted: Redis hashes with a
    /// seed of each process's own, so tables have an order of their own.
    Unordered,
    /// Numbers may differ by the time between the two executions.
    Clock,
    /// Only the type of the reply: it tells of the connection, the process or
    /// the time.
    Kind,
}

/// Numbers that count down differ by no more than this, in the unit of the
/// command: a busy machine lets seconds pass between two servers' turns.
const CLOCK_TOLERANCE: i64 = 8_000;

/// Whether two replies to one command are the same.
pub fn same(compare: Compare, direct: &[u8], through: &[u8]) -> bool {
    if direct == through || masked(direct) == masked(through) {
        return true;
    }
    match compare {
        Compare::Exact => false,
        Compare::Unordered => sorted(direct) == sorted(through),
        Compare::Clock => match (number(direct), number(through)) {
            (Some(one), Some(other)) => 0 < one && (one - other).abs() < CLOCK_TOLERANCE,
            _ => false,
        },
        Compare::Kind => direct.first() == through.first(),
    }
}

fn number(reply: &[u8]) -> Option<i64> {
    let text = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// HELLO's reply tells the connection's id, which is each server's own.
fn masked(reply: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"$2\r\nid\r\n:";
    let Some(at) = reply.windows(ID.len()).position(|part| part == ID) else {
        return reply.to_vec();
    };
    let (before, after) = reply.split_at(at + ID.len());
    let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
    [before, &after[digits..]].concat()
}

/// Whether two lists of frames are the same. An UNSUBSCRIBE without channels is
/// confirmed in the order of a hash table.
pub fn same_frames(direct: &[Vec<u8>], through: &[Vec<u8>]) -> bool {
    let confirms = |frame: &&Vec<u8>| {
        let head = &frame[..frame.len().min(24)];
        head.windows(13).any(|part| part == b"unsubscribe\r\n")
    };
    let parts = |frames: &[Vec<u8>]| {
        let mut parts: Vec<Vec<u8>> = frames
            .iter()
            .filter(confirms)
            .map(|frame| {
                let count = frame.iter().rposition(|byte| *byte == b':').unwrap_or(0);
                frame[..count].to_vec()
            })
            .collect();
        parts.sort();
        parts
    };
    direct.len() == through.len()
        && parts(direct) == parts(through)
        && direct.iter().zip(through).all(|pair| match pair {
            (one, other) if confirms(&one) => confirms(&other),
            (one, other) => same(Compare::Exact, one, other),
        })
}

/// A reply with the elements of every array, set and map in ascending order.
fn sorted(reply: &[u8]) -> Vec<u8> {
    let Some(end) = reply.windows(2).position(|pair| pair == b"\r\n") else {
        return reply.to_vec();
    };
    if !matches!(reply[0], b'*' | b'~' | b'%') {
        return reply.to_vec();
    }
    let (head, mut rest) = reply.split_at(end + 2);
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let length = reply_length(rest).expect("the reply is complete");
        elements.push(sorted(&rest[..length]));
        rest = &rest[length..];
    }
    elements.sort();
    [head, &elements.concat()].concat()
}

/// All databases of both servers hold the same keys, values and times to live.
pub fn check_datasets(direct: &mut Client, through: &mut Client) -> usize {
    let mut keys = 0;
    for database in 0..16 {
        let database = database.to_string();
        for client in [&mut *direct, &mut *through] {
            assert_eq!(client.command(&["SELECT", &database]), b"+OK\r\n");
        }
        let names = strings(&direct.command(&["KEYS", "*"]));
        assert_eq!(
            names,
            strings(&through.command(&["KEYS", "*"])),
            "the keys of database {database}"
        );
        for key in &names {
            check_key(direct, through, key);
        }
        keys += names.len();
    }
    keys
}

/// One key's value and time to live.
pub fn check_key(direct: &mut Client, through: &mut Client, key: &[u8]) {
    let name = String::from_utf8_lossy(key).into_owned();
    let mut both = |arguments: &[&[u8]]| (direct.command(arguments), through.command(arguments));
    let (one, other) = both(&[b"PEXPIRETIME", key]);
    assert!(
        same(Compare::Clock, &one, &other),
        "{name} expires at {} and {}",
        one.escape_ascii(),
        other.escape_ascii()
    );
    let (one, other) = both(&[b"TYPE", key]);
    assert_eq!(one, other, "the type of {name}");
    let questions: &[&[&[u8]]] = match &one[..] {
        b"+set\r\n" => &[&[b"SMEMBERS", key]],
        b"+hash\r\n" => &[&[b"HGETALL", key]],
        b"+stream\r\n" => &[
            &[b"XRANGE", key, b"-", b"+"],
            &[b"XINFO", b"STREAM", key],
            &[b"XINFO", b"GROUPS", key],
            &[b"XPENDING", key, b"group"],
        ],
        b"+list\r\n" => &[&[b"LRANGE", key, b"0", b"-1"]],
        b"+zset\r\n" => &[&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]],
        // Dumped, it would tell how it is stored, which its history decides.
        _ => &[&[b"GET", key]],
    };
    for question in questions {
        let (one, other) = both(question);
        assert!(
            same(Compare::Unordered, &one, &other),
            "{name} is\n{}\nand\n{}",
            one.escape_ascii(),
            other.escape_ascii()
        );
    }
}

/// The elements of an array of bulk strings, in ascending order.
pub fn strings(reply: &[u8]) -> Vec<Vec<u8>> {
    let line_end = |bytes: &[u8]| {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n");
        end.expect("the reply is complete") + 2
    };
    let mut rest = &reply[line_end(reply)..];
    let mut strings = Vec::new();
    while !rest.is_empty() {
        let length = reply_length(rest).expect("the reply is complete");
        strings.push(rest[line_end(rest)..length - 2].to_vec());
        rest = &rest[length..];
    }
    strings.sort();
    strings
}
