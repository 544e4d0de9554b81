//! The command scanner against Redis itself: a corpus and seeded mutations of
//! it are sent to a redis-server, and what it answers has to be what the
//! scanner's frames and errors say that it will answer.
//!
//! Most commands in the corpus have names no server knows, as the error that
//! answers them quotes their arguments: boundaries and contents are compared
//! at once. Written against Redis 7.0.15.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wal_sidecar::protocol::resp::arguments::{self, Arguments};
use wal_sidecar::protocol::resp::replies::ReplyScanner;
use wal_sidecar::protocol::resp::scanner::{Limits, Scanner, is_cross_protocol};

/// How many mutations are sent; `SCANNER_REDIS_CASES` overrides it.
const CASES: usize = 4000;

/// The first seed; `SCANNER_REDIS_SEED` overrides it.
const SEED: u64 = 0x5eed_0001;

struct Redis {
    process: Child,
    directory: tempfile::TempDir,
}

impl Redis {
    /// `None` where no redis-server is installed.
    fn start(options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let process = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--unixsocket",
                "redis.sock",
                "--save",
                "",
                "--dir",
            ])
            .arg(directory.path())
            .args(options)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Self { process, directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(redis.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::yield_now();
        }
        Some(redis)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// All that is answered to `bytes` on a connection of their own. A protocol
    /// error closes it with what follows unread, which may end the reading
    /// with a reset instead of an end.
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).expect("connect to redis-server");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!(
                    "redis-server neither answers nor closes: {}",
                    bytes.escape_ascii()
                )
            }
            _ => answer,
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a reply has to be.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// The text that answers these arguments where the command is not known,
    /// anything where it is.
    Reply { unknown: Vec<u8> },
    /// An error that ends the connection.
    Error(Vec<u8>),
    /// The connection is closed with nothing on it, not even what should have
    /// been answered before in the same read.
    Closed,
}

/// What Redis has to answer, should the scanner be right.
fn expect(mut scanner: Scanner, bytes: &[u8]) -> Vec<Expected> {
    let mut expected = Vec::new();
    let mut scratch = Vec::new();
    let mut at = 0;
    loop {
        match scanner.next(&bytes[at..]) {
            Ok(None) => return expected,
            Ok(Some(frame)) => {
                let command = &bytes[at..at + frame.end];
                at += frame.end;
                let arguments = arguments::parse(command, &mut scratch);
                assert_eq!(arguments.len(), frame.arguments as usize);
                match arguments.first() {
                    None => {}
                    Some(name) if is_cross_protocol(name) => return vec![Expected::Closed],
                    Some(_) => expected.push(Expected::Reply {
                        unknown: unknown(&arguments),
                    }),
                }
            }
            Err(error) => {
                let line = format!("-ERR {error}\r\n");
                expected.push(Expected::Error(line.into_bytes()));
                return expected;
            }
        }
    }
}

/// Redis's answer to a command it does not know, which quotes what fits.
fn unknown(arguments: &Arguments<'_>) -> Vec<u8> {
    const QUOTED_MAX: usize = 128;
    let quote = |text: &[u8], max: usize| {
        let end = text
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(text.len());
        text[..end.min(max)].to_vec()
    };
    let mut quoted = Vec::new();
    for argument in &arguments[1..] {
        if quoted.len() >= QUOTED_MAX {
            break;
        }
        let argument = quote(argument, QUOTED_MAX - quoted.len());
        quoted.extend([b"'", &argument[..], b"' "].concat());
    }
    let name = quote(arguments[0], QUOTED_MAX);
    let mut text = [
        b"ERR unknown command '",
        &name[..],
        b"', with args beginning with: ",
        &quoted,
    ]
    .concat();
    for byte in &mut text {
        if matches!(*byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    [b"-", &text[..], b"\r\n"].concat()
}

/// Whether what Redis answered is what was expected.
fn agrees(expected: &[Expected], mut answer: &[u8]) -> bool {
    for expected in expected {
        if *expected == Expected::Closed {
            break;
        }
        let Ok(Some(frame)) = ReplyScanner::default().next(answer) else {
            return false;
        };
        let (reply, rest) = answer.split_at(frame.end);
        answer = rest;
        let same = match expected {
            Expected::Reply { unknown } => {
                !reply.starts_with(b"-ERR Protocol error")
                    && (!reply.starts_with(b"-ERR unknown command '") || reply == unknown)
            }
            Expected::Closed => false,
            // Redis names a byte that is not ASCII by that byte alone.
            Expected::Error(text) => {
                String::from_utf8_lossy(reply) == String::from_utf8_lossy(text)
            }
        };
        if !same {
            return false;
        }
    }
    answer.is_empty()
}

#[track_caller]
fn check(redis: &Redis, bytes: &[u8]) {
    check_with(redis, Scanner::new(Limits::default()), bytes);
}

#[track_caller]
fn check_with(redis: &Redis, scanner: Scanner, bytes: &[u8]) {
    let expected = expect(scanner, bytes);
    let answer = redis.answer(bytes);
    assert!(
        agrees(&expected, &answer),
        "sent {}\nanswered {}\nexpected {expected:?}",
        bytes[..bytes.len().min(2000)].escape_ascii(),
        answer.escape_ascii(),
    );
}

fn corpus() -> Vec<Vec<u8>> {
    let pieces: &[&[u8]] = &[
        b"*1\r\n$4\r\nPING\r\n",
        b"*2\r\n$3\r\nfoo\r\n$1\r\nz\r\n",
        b"*3\r\n$3\r\nfoo\r\n$0\r\n\r\n$5\r\na\r\nbc\r\n",
        b"*2\r\n$3\r\nfoo\r\n$12\r\n*1\r\n$1\r\nx\r\n\r\n",
        b"*12\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n\
          $1\r\nh\r\n$1\r\ni\r\n$1\r\nj\r\n$1\r\nk\r\n$1\r\nl\r\n",
        b"*0\r\n*1\r\n$3\r\nfoo\r\n",
        b"*-1\r\n*1\r\n$3\r\nfoo\r\n",
        b"*-5\r\nfoo\r\n",
        b"*-0\r\n",
        b"*01\r\n$3\r\nfoo\r\n",
        b"*+1\r\n$3\r\nfoo\r\n",
        b"* 1\r\n$3\r\nfoo\r\n",
        b"*1 \r\n$3\r\nfoo\r\n",
        b"*\r\n",
        b"*1\n$3\nfoo\n",
        b"*1\rX$3\rYfooZZfoo\n",
        b"*1\r\n$3\r\nfooZZ*1\r\n$3\r\nfoo\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$03\r\nfoo\r\n",
        b"*1\r\n$+3\r\nfoo\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$3x\r\nfoo\r\n",
        b"*1\r\n$536870912\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n$9223372036854775807\r\n",
        b"*1\r\n$-9223372036854775808\r\n",
        b"*2147483647\r\n$3\r\nfoo\r\n",
        b"*2147483648\r\n",
        b"*1048577\r\n$3\r\nfoo\r\n",
        b"*9223372036854775807\r\n",
        b"*-9223372036854775808\r\nfoo\n",
        b"*-9223372036854775809\r\n",
        b"*1\r\n*1\r\n",
        b"*1\r\n3\r\nfoo\r\n",
        b"*1\r\n\r\n$3\r\nfoo\r\n",
        b"*1\r\n\n$3\r\nfoo\r\n",
        b"*1\r\n\xff\r\n",
        b"*1\r\n$3\0\r\nfoo\r\n",
        b"*1\0\r\n$3\r\nfoo\r\n",
        b"*2\r\n$4\r\nf\0oo\r\n$4\r\na\0bc\r\n",
        b"foo\r\n",
        b"foo\nfoo a\nfoo  b \r\n",
        b"\r\n\n \r\n\t\nfoo\n",
        b"foo \"a b\" 'c d' \"\\x41\\n\\\"\\q\" '\\'\\n'\r\n",
        b"foo \"a\"b\r\n",
        b"foo 'a'b\r\n",
        b"foo 'a\r\nfoo\r\n",
        b"foo a'b c'\r\nfoo a\"b c\"\r\n",
        b"fo\"o\" \"\" ''\r\n",
        b"foo a\x0bb\x0cc \x0b d\r\n",
        b"foo a\rb\r\r\nfoo\n",
        b"foo \"\\a\\b\\t\\r\\n\\\\\" '\\a\\\\'\r\n",
        b"foo \"\\x4\" \"\\xzz\" \"\\xfF\"\r\n",
        b"f\0oo\r\nfoo\r\n",
        b"\xff\xfe foo\r\n",
        b"$3\r\nfoo\r\n",
        b" *1\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nfoo\r\n",
        b"*1\r\n$5\r\nHost:\r\nfoo\r\n",
        b"*1\r\n$6\r\npost\0x\r\nfoo\r\n",
        b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n",
        b"SET k v\r\nGET k\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    ];
    pieces.iter().map(|piece| piece.to_vec()).collect()
}

/// What mutations insert.
const DICTIONARY: &[&[u8]] = &[
    b"*",
    b"$",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"0",
    b"1",
    b"2",
    b"3",
    b"-",
    b"+",
    b"-1",
    b" ",
    b"\t",
    b"\x0b",
    b"\"",
    b"'",
    b"\\",
    b"\\x41",
    b"\\\"",
    b"*0\r\n",
    b"*-1\r\n",
    b"*1\r\n",
    b"*2\r\n",
    b"$0\r\n\r\n",
    b"$1\r\nx\r\n",
    b"foo",
    b"PING\r\n",
    b"99999999999999999999",
    b"2147483648",
    b"536870913",
];

/// Marsaglia's xorshift: a seed gives the same cases everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        if self.below(2) == 0 {
            bytes.extend(&corpus[self.below(corpus.len())]);
        }
        for _ in 0..self.below(5) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(8)).min(bytes.len());
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                1 => drop(bytes.drain(at..end)),
                2 => bytes.truncate(at),
                3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                _ => {
                    let word = DICTIONARY[self.below(DICTIONARY.len())];
                    drop(bytes.splice(at..at, word.iter().copied()));
                }
            }
        }
        if self.below(2) == 0 {
            // A sentinel: where it is found tells where what precedes it ended.
            bytes.extend(b"\r\n*2\r\n$3\r\nend\r\n$1\r\nz\r\n");
        }
        bytes
    }
}

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn redis_sees_the_same_commands() {
    let redis = Redis::start(&[]).expect("redis-server has to be installed for this test");
    let corpus = corpus();
    for bytes in &corpus {
        check(&redis, bytes);
        let sentinel = [bytes, &b"\r\n*2\r\n$3\r\nend\r\n$1\r\nz\r\n"[..]].concat();
        check(&redis, &sentinel);
    }
    let seed = variable("SCANNER_REDIS_SEED", SEED);
    println!("seed {seed}");
    let mut random = Random(seed);
    for _ in 0..variable("SCANNER_REDIS_CASES", CASES) {
        check(&redis, &random.mutated(&corpus));
    }
}

/// Lines of just the longest length and one byte more. Redis is sure to have
/// read all of it when it has to decide.
#[test]
fn redis_has_the_same_line_limits() {
    let redis = Redis::start(&[]).expect("redis-server has to be installed for this test");
    const MAX: usize = 64 * 1024;
    for start in [
        &b""[..],
        b"*",
        b"*1\r\n",
        b"*1\r\n$",
        b"\0",
        b"*\0",
        b"*1\r\n\0",
    ] {
        let header = if start.starts_with(b"*1") { 4 } else { 0 };
        for length in [MAX - 1, MAX, MAX + 1] {
            let mut bytes = start.to_vec();
            bytes.resize(header + length, b'1');
            check(&redis, &bytes);
            for end in [&b"\n"[..], b"\r\n"] {
                if length <= MAX {
                    check(
                        &redis,
                        &[&bytes[..bytes.len() - end.len() + 1], end].concat(),
                    );
                }
            }
        }
    }
}

#[test]
fn redis_has_the_same_limits_before_authentication() {
    let redis = Redis::start(&["--requirepass", "secret"])
        .expect("redis-server has to be installed for this test");
    for header in [
        "*10",
        "*11",
        "*2147483648",
        "*1\r\n$16384",
        "*1\r\n$16385",
        "*1\r\n$-1",
    ] {
        let mut scanner = Scanner::new(Limits::default());
        scanner.set_unauthenticated(true);
        check_with(
            &redis,
            scanner,
            format!("PING\r\n{header}\r\nxyz").as_bytes(),
        );
    }
}
