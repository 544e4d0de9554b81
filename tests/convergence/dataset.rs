//! What datastores hold, told so that equal values are equal however they are
//! encoded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::clients::Sent;
use super::history;
use super::support::resp::{encode, reply_length};
use super::support::{Client, Redis};
use super::world::World;

/// Regions are equal after this.
const DEADLINE: Duration = Duration::from_secs(60);

/// They have to stay equal for so long: what comes late would be seen.
const STEADY: Duration = Duration::from_secs(2);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// So many keys that differ are shown.
const SHOWN_KEYS: usize = 4;

/// So many lines of what clients sent about a key are shown.
const SHOWN_SENT: usize = 30;

/// Times of expiry differ by less: one that a client gives as a time to live is
/// journaled as a time, and counted by the own datastore from when it executes
/// the command, which may have been paused.
const EXPIRY_TOLERANCE_MS: u64 = 3_000;

/// What a key has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Type and value, as text.
    pub content: String,
    /// Milliseconds since the Unix epoch, or -1.
    pub expires_at_ms: i64,
}

impl Value {
    fn is_as(&self, other: &Value) -> bool {
        let (one, two) = (self.expires_at_ms, other.expires_at_ms);
        let is_near = (one < 0) == (two < 0) && one.abs_diff(two) <= EXPIRY_TOLERANCE_MS;
        self.content == other.content && is_near
    }
}

/// The keys of a datastore.
pub type Dataset = BTreeMap<String, Value>;

/// All that a datastore holds but what the program keeps there for itself.
pub fn read(redis: &Redis) -> Dataset {
    let mut client = redis.client();
    let keys = elements(&client.command(&["KEYS", "*"]));
    let keys: Vec<String> = keys
        .iter()
        .map(|key| text(key))
        .filter(|key| !key.starts_with("wal-sidecar:"))
        .collect();
    let types = ask(&mut client, &keys, |key| {
        vec!["TYPE".to_owned(), key.to_owned()]
    });
    let times = ask(&mut client, &keys, |key| {
        vec!["PEXPIRETIME".to_owned(), key.to_owned()]
    });
    let mut next = types.iter();
    let values = ask(&mut client, &keys, |key| {
        question(next.next().expect("one for each key"), key)
    });
    let mut dataset = Dataset::new();
    for (index, key) in keys.into_iter().enumerate() {
        let kind = String::from_utf8_lossy(&types[index][1..])
            .trim_end()
            .to_owned();
        if kind == "none" {
            continue;
        }
        let time = String::from_utf8_lossy(&times[index][1..]);
        let content = format!("{kind} {}", value(&kind, &values[index]));
        let expires_at_ms = time.trim_end().parse().expect("a number");
        dataset.insert(
            key,
            Value {
                content,
                expires_at_ms,
            },
        );
    }
    dataset
}

fn ask(
    client: &mut Client,
    keys: &[String],
    mut question: impl FnMut(&str) -> Vec<String>,
) -> Vec<Vec<u8>> {
    let mut replies = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(256) {
        let questions: Vec<u8> = chunk
            .iter()
            .flat_map(|key| encode(&question(key)))
            .collect();
        client.send(&questions);
        replies.extend(chunk.iter().map(|_| client.reply()));
    }
    replies
}

fn question(kind: &[u8], key: &str) -> Vec<String> {
    let (name, rest): (&str, &[&str]) = match kind {
        b"+list\r\n" => ("LRANGE", &["0", "-1"]),
        b"+set\r\n" => ("SMEMBERS", &[]),
        b"+zset\r\n" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        b"+hash\r\n" => ("HGETALL", &[]),
        b"+stream\r\n" => ("XRANGE", &["-", "+"]),
        _ => ("GET", &[]),
    };
    let words = [name, key].into_iter().chain(rest.iter().copied());
    words.map(str::to_owned).collect()
}

fn value(kind: &str, reply: &[u8]) -> String {
    let mut parts: Vec<String> = match kind {
        "string" | "stream" => return text(reply),
        "hash" | "zset" => {
            let pairs = elements(reply);
            let pairs = pairs.chunks(2);
            let pair = |pair: &[Vec<u8>]| format!("{}={}", text(&pair[0]), text(&pair[1]));
            pairs.map(pair).collect()
        }
        _ => elements(reply).iter().map(|one| text(one)).collect(),
    };
    if matches!(kind, "hash" | "set") {
        parts.sort();
    }
    parts.join(" ")
}

/// The replies that an array is made of.
fn elements(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = match reply.iter().position(|byte| *byte == b'\n') {
        Some(end) if reply[0] == b'*' => &reply[end + 1..],
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    while let Some(length) = reply_length(rest).filter(|_| !rest.is_empty()) {
        found.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    found
}

/// A bulk string's bytes, or all of another reply.
fn text(reply: &[u8]) -> String {
    let line = reply.iter().position(|byte| *byte == b'\n');
    let bytes = match line {
        Some(end) if reply[0] == b'$' && reply.len() > end + 2 => &reply[end + 1..reply.len() - 2],
        _ => reply,
    };
    bytes.escape_ascii().to_string()
}

fn is_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_as(other),
        (one, other) => one == other,
    }
}

/// The keys that are not the same everywhere.
fn differing(datasets: &[Dataset]) -> Vec<&String> {
    let mut keys: Vec<&String> = datasets.iter().flat_map(Dataset::keys).collect();
    keys.sort();
    keys.dedup();
    let first = &datasets[0];
    keys.retain(|key| {
        let differs = |one: &Dataset| !is_same(one.get(*key), first.get(*key));
        datasets.iter().any(differs)
    });
    keys
}

fn read_all(world: &World) -> Vec<Dataset> {
    world.regions.iter().map(|one| read(&one.redis)).collect()
}

/// Waits until all regions hold the same and go on doing so; how long that took.
/// If they do not, fails with what is known of the keys that differ.
pub fn until_equal(world: &World, sent: &[Sent]) -> Duration {
    let started = Instant::now();
    let mut since: Option<Instant> = None;
    while started.elapsed() < DEADLINE {
        match differing(&read_all(world)).len() {
            1.. => since = None,
            0 => {
                let since = *since.get_or_insert_with(Instant::now);
                if STEADY <= since.elapsed() {
                    return since.duration_since(started);
                }
            }
        }
        // Nothing announces it.
        std::thread::park_timeout(PAUSE);
    }
    world.print_metrics();
    panic!("regions differ\n{}", differences(world, sent));
}

fn differences(world: &World, sent: &[Sent]) -> String {
    let datasets = read_all(world);
    let keys = differing(&datasets);
    let mut text = format!("{} keys differ: {keys:?}\n", keys.len());
    for key in keys.iter().take(SHOWN_KEYS) {
        writeln!(text, "--- {key}").expect("memory");
        for (region, dataset) in world.regions.iter().zip(&datasets) {
            writeln!(text, "{}: {:?}", region.name, dataset.get(*key)).expect("memory");
        }
        text += &about(world, sent, key);
    }
    text
}

/// What is known of a key.
pub fn about(world: &World, sent: &[Sent], key: &str) -> String {
    let mut text = history::of(world, key);
    let of_key: Vec<&Sent> = sent
        .iter()
        .filter(|one| one.arguments.iter().any(|word| word == key))
        .collect();
    let shown = &of_key[of_key.len().saturating_sub(SHOWN_SENT)..];
    text += "the last that clients sent:\n";
    for one in shown {
        writeln!(
            text,
            "  r{} {:.3} to {:.3} {:?} {}",
            one.region,
            one.began.as_secs_f64(),
            one.ended.as_secs_f64(),
            one.answer,
            one.arguments.join(" ")
        )
        .expect("memory");
    }
    text
}
