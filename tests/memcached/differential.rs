//! Random commands, straight to one server and through the sidecar to another.

use std::collections::BTreeMap;

use super::commands::{Dialect, command};
use super::support::{Memcache, Memcached, Random, Sidecar, SidecarOptions};

/// So many connections, one after the other; each says a few batches.
const CONNECTIONS: usize = 400;
const BATCHES_MAX: usize = 8;
const COMMANDS_MAX: usize = 10;

/// Times to live run on between the two servers' answers.
pub fn without_times(reply: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in reply.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b"HD") && !line.starts_with(b"VA ") {
            out.extend_from_slice(line);
            continue;
        }
        for word in line.split_inclusive(|byte| *byte == b' ') {
            match word {
                [b't', digit, ..] if digit.is_ascii_digit() => {
                    let end = word.iter().position(|byte| !byte.is_ascii_alphanumeric());
                    out.extend_from_slice(b"t#");
                    out.extend_from_slice(&word[end.unwrap_or(word.len())..]);
                }
                word => out.extend_from_slice(word),
            }
        }
    }
    out
}

#[test]
fn replies_are_the_same_through_the_sidecar() {
    let mut random = Random::from_environment();
    let (direct, behind) = (Memcached::start(), Memcached::start());
    let behind = [behind];
    let sidecar = Sidecar::with(SidecarOptions::memcached(&behind));
    let mut count = 0;
    for _ in 0..CONNECTIONS {
        let dialect = *random.pick(&[Dialect::Text, Dialect::Meta, Dialect::Binary]);
        let (mut own, mut through) = (direct.client(), sidecar.memcache());
        for _ in 0..=random.below(BATCHES_MAX) {
            let commands: Vec<Vec<u8>> = (0..=random.below(COMMANDS_MAX))
                .map(|_| command(&mut random, dialect))
                .collect();
            count += commands.len();
            let bytes = commands.concat();
            let (expected, found) = match dialect {
                Dialect::Binary => (own.packets(&bytes), through.packets(&bytes)),
                Dialect::Text | Dialect::Meta => (own.lines(&bytes), through.lines(&bytes)),
            };
            assert!(
                without_times(&expected) == without_times(&found),
                "{dialect:?}\n{}\ndirect:  {}\nthrough: {}",
                bytes.escape_ascii(),
                expected.escape_ascii(),
                found.escape_ascii()
            );
        }
    }
    let (own, through) = (
        dataset(&mut direct.client()),
        dataset(&mut behind[0].client()),
    );
    assert_eq!(own, through);
    println!("{count} commands, {} keys", own.len());
}

/// All that a server has of the keys that the tests use: value, flags, and
/// whether it has a time to live.
pub fn dataset(client: &mut Memcache) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let longest = "k".repeat(250);
    let keys = (0..14).map(|index| format!("k{index}"));
    let keys = keys.chain((0..3).map(|index| format!("num{index}")));
    for key in keys.chain([longest]) {
        let reply = client.lines(format!("mg {key} v f t\r\n").as_bytes());
        if !reply.starts_with(b"EN") {
            // That an item is stale, and who makes it anew, is not in a journal.
            let reply = without_times(&reply);
            let end = reply
                .iter()
                .position(|byte| *byte == b'\r')
                .expect("a line");
            let mut words: Vec<&[u8]> = reply[..end].split(|byte| *byte == b' ').collect();
            words.retain(|word| ![&b"W"[..], b"X", b"Z", b""].contains(word));
            let reply = [&words.join(&b' ')[..], &reply[end..]].concat();
            let reply = reply.escape_ascii().to_string();
            found.insert(key, reply);
        }
    }
    found
}

/// A line as long as a value, in pieces of all sizes, and values up to the
/// server's limit and above it.
#[test]
fn long_values_and_long_lines_pass() {
    let servers = [Memcached::start()];
    let sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let (mut own, mut through) = (servers[0].client(), sidecar.memcache());
    for length in [1 << 10, 1 << 16, (1 << 20) - 200, 1 << 20, 3 << 20] {
        let mut set = format!("set big 0 0 {length}\r\n").into_bytes();
        set.resize(set.len() + length, b'v');
        set.extend_from_slice(b"\r\n");
        let stored = through.lines(&set);
        assert_eq!(stored, own.lines(&set), "{length}");
        let (expected, found) = (own.lines(b"get big\r\n"), through.lines(b"get big\r\n"));
        assert!(expected == found, "{length}: {} bytes", found.len());
    }
    let keys: Vec<String> = (0..20_000).map(|index| format!("key-{index}")).collect();
    for chunk in keys.chunks(1000) {
        let sets: String = chunk
            .iter()
            .map(|key| format!("set {key} 0 0 {} noreply\r\n{key}\r\n", key.len()))
            .collect();
        assert_eq!(through.lines(sets.as_bytes()), b"MN\r\n");
    }
    let get = format!("get {}\r\n", keys.join(" "));
    let (expected, found) = (own.lines(get.as_bytes()), through.lines(get.as_bytes()));
    assert!(expected == found && found.starts_with(b"VALUE key-0 "));
    assert_eq!(
        found.windows(6).filter(|w| w == b"VALUE ").count(),
        keys.len()
    );
}

/// Where memcached 1.6.18 is not to be followed: a key that is too long makes it
/// forget what it has answered before, and a number that `ma` creates is told in
/// spite of `q`.
#[test]
fn replies_that_differ() {
    let servers = [Memcached::start()];
    let sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let mut client = sidecar.memcache();
    let get = format!("get a\r\nget {}\r\nget a\r\n", "k".repeat(251));
    assert_eq!(
        client.lines(get.as_bytes()),
        b"END\r\nCLIENT_ERROR bad command line format\r\nEND\r\nMN\r\n"
    );
    assert_eq!(
        client.lines(b"ma n q N0 J5 v\r\nget n\r\n"),
        b"VALUE n 0 1\r\n5\r\nEND\r\nMN\r\n"
    );
}

/// What has a connection of its own leaves the shared ones alone.
#[test]
fn commands_that_are_handled_alone() {
    let servers = [Memcached::start()];
    let sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let mut client = sidecar.memcache();
    assert_eq!(client.lines(b"set a 0 0 1\r\nx\r\n"), b"STORED\r\nMN\r\n");
    let dump = client.lines(b"lru_crawler metadump all\r\nget a\r\n");
    let dump = String::from_utf8_lossy(&dump).into_owned();
    assert!(
        dump.contains("key=a ") && dump.ends_with("VALUE a 0 1\r\nx\r\nEND\r\nMN\r\n"),
        "{dump}"
    );
    let stats = client.lines(b"stats\r\n");
    assert!(stats.starts_with(b"STAT pid ") && stats.ends_with(b"END\r\nMN\r\n"));
    assert!(
        client
            .lines(b"stats cachedump 1 0\r\n")
            .ends_with(b"END\r\nMN\r\n")
    );
    let watching = sidecar.memcache();
    let seen = std::thread::spawn(move || {
        use std::io::{Read, Write};
        watching
            .stream()
            .write_all(b"watch mutations\r\n")
            .expect("it reads");
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !seen.windows(5).any(|part| part == b"key=b") {
            let read = watching.stream().read(&mut buffer).expect("it writes");
            assert!(read > 0, "{}", seen.escape_ascii());
            seen.extend_from_slice(&buffer[..read]);
        }
    });
    while !seen.is_finished() {
        client.lines(b"set b 0 0 1\r\ny\r\n");
    }
    seen.join().expect("it watched");
    assert_eq!(client.lines(b"quit\r\n"), b"");
}
