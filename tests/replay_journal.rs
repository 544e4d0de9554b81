//! The journal tells what the datastore holds: clients write through the
//! sidecar, the journal is read with the library and applied to an empty
//! redis-server, and both hold the same.
//!
//! Each client has keys of its own, whose commands are in the journal in the
//! order they were executed. Keys that all of them write take only commands
//! whose order does not matter: what one sidecar sends over several links is
//! executed in any order.
//!
//! `REPLAY_SEED` repeats a run, `REPLAY_COMMANDS` says how many commands each
//! client sends.

#[allow(dead_code, reason = "this test uses a part of it")]
#[path = "replay_effects/commands.rs"]
mod commands;
#[allow(dead_code, reason = "this test uses a part of it")]
#[path = "differential/compare.rs"]
mod compare;
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use commands::Generator;
use support::resp::encode;
use support::{Client, Redis, Sidecar, SidecarOptions};
use wal_sidecar::journal::{Journal, LocalJournal, LocalOptions, ReadBatch};
use wal_sidecar::mutation::v1::{Outcome, Record, record::Body};
use wal_sidecar::mutation::{commands_to_apply, decode};
use wal_sidecar::protocol::resp::commands::{Effect, Resolve, Table};

/// So many clients write at the same time.
const CLIENTS: u64 = 4;
/// So many commands each of them sends.
const COMMANDS: u64 = 2_500;
const SEED: u64 = 20_261_123;
/// Commands sent at once, at most.
const PIPELINE_MAX: u64 = 12;
/// The journal is read in pieces of so many bytes.
const READ_BYTES: usize = 64 * 1024;
/// A time to live under so many seconds could end before the journal is read.
const SHORT_SECONDS: i64 = 1_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_journal_holds_what_the_datastore_holds() {
    for connection in ["shared", "dedicated"] {
        check(connection);
    }
}

fn check(connection: &str) {
    let seed = number("REPLAY_SEED", SEED);
    let count = number("REPLAY_COMMANDS", COMMANDS);
    println!("{connection}: repeat with REPLAY_SEED={seed} REPLAY_COMMANDS={count}");
    let (source, target) = (Redis::start(), Redis::start());
    let mut sidecar = Sidecar::with(SidecarOptions::new(&source).connection(connection));
    let port = sidecar.port();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| std::thread::spawn(move || write(port, index, seed, count)))
        .collect();
    for client in clients {
        client.join().expect("the client's assertions hold");
    }
    assert!(sidecar.stop().success(), "the sidecar drains");

    let records = read(&sidecar);
    let outcomes = check_records(&records);
    let mut replay = Replay::new(&source, &target);
    for (offset, record) in records.iter().enumerate() {
        let outcome = outcomes.get(&(record.writer, record.sequence));
        if let Err(failure) = replay.apply(record, outcome) {
            let history = history(&records[..=offset], &outcomes, record);
            panic!("{failure}\n{history}");
        }
    }
    replay.copy_unknown();
    let keys = compare::check_datasets(&mut replay.source, &mut replay.target);
    println!(
        "{connection}: {} records, {} outcomes, {} commands applied, {keys} keys, {} of them unknown",
        records.len(),
        outcomes.len(),
        replay.applied,
        replay.unknown.len(),
    );
    for (_, key) in &replay.unknown {
        let name = String::from_utf8_lossy(key);
        assert!(
            name.contains(":unknown:"),
            "the journal does not tell {name}"
        );
    }
}

/// One client's work: commands of all kinds, some in transactions, in a
/// database and on keys of its own; and some on keys that all write.
fn write(port: u16, index: u64, seed: u64, count: u64) {
    let mut own = Client::connect(port);
    let mut common = Client::connect(port);
    if index % 2 == 1 {
        own.command(&["HELLO", "3"]);
    }
    let database = (index % 3).to_string();
    assert_eq!(own.command(&["SELECT", &database]), b"+OK\r\n");
    let mut generator = Generator::new(seed.wrapping_add(index));
    let mut sent = 0;
    while sent < count {
        let length = 1 + generator.random.below(PIPELINE_MAX);
        let commands: Vec<Vec<Vec<u8>>> = (0..length)
            .map(|_| command(&mut generator, &mut own, index))
            .collect();
        match generator.random.below(10) {
            0 => transaction(&mut own, &commands, generator.random.below(5)),
            1 => {
                let length = 1 + generator.random.below(PIPELINE_MAX);
                let commands: Vec<_> = (0..length)
                    .map(|_| commutative(&mut generator, index))
                    .collect();
                pipeline(&mut common, &commands);
            }
            _ => pipeline(&mut own, &commands),
        }
        sent += length;
    }
}

fn pipeline(client: &mut Client, commands: &[Vec<Vec<u8>>]) {
    let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
    client.send(&bytes);
    for words in commands {
        let reply = client.reply();
        for answer in [&b"-NOTJOURNALED"[..], b"-UNCERTAIN", b"-UNAVAILABLE"] {
            assert!(
                !reply.starts_with(answer),
                "{} to {}",
                reply.escape_ascii(),
                words[0].escape_ascii()
            );
        }
    }
}

/// MULTI and EXEC around the commands; some are discarded, refused or fail
/// because of a watched key, some are executed though one is watched.
fn transaction(client: &mut Client, commands: &[Vec<Vec<u8>>], kind: u64) {
    let words = |line: &str| -> Vec<Vec<u8>> {
        line.split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect()
    };
    let mut whole = Vec::new();
    if kind == 0 || kind == 4 {
        whole.push(words("WATCH watched"));
    }
    if kind == 0 {
        whole.push(words("INCR watched"));
    }
    whole.push(words("MULTI"));
    whole.extend_from_slice(commands);
    match kind {
        1 => whole.push(words("NOSUCH command")),
        2 => whole.push(words("INCR watched")),
        4 => {}
        // It ends the transaction: what follows is executed at once.
        _ if commands.len().is_multiple_of(3) => {
            whole.push(words("EXEC x"));
            whole.push(words("INCR after"));
        }
        _ => {}
    }
    let end = if kind == 3 { "DISCARD" } else { "EXEC" };
    whole.push(words(end));
    if commands.len().is_multiple_of(2) {
        whole.push(words("EXEC"));
    }
    pipeline(client, &whole);
}

/// A random command whose keys are the client's alone.
fn command(generator: &mut Generator, client: &mut Client, index: u64) -> Vec<Vec<u8>> {
    generator.now_ms = now_ms();
    loop {
        // Rarely asked for: it costs a round trip.
        let payload = match generator.random.below(40) {
            0 => dumped(&client.command(&["DUMP", &format!("c{index}:s0")])),
            _ => Vec::new(),
        };
        let command = generator.command(&payload);
        if is_short(&command.arguments) {
            continue;
        }
        // What the journal does not tell stays among few keys: a key made of an
        // unknown one is unknown itself.
        let is_unknown = match command.effect {
            Effect::Opaque | Effect::Resolved(Resolve::SnapshotUnlessNothing) => true,
            _ => generator.random.one_in(8),
        };
        let prefix = match is_unknown {
            true => format!("c{index}:unknown:"),
            false => format!("c{index}:"),
        };
        let rename = |argument: Vec<u8>| match command.keys.contains(&argument) {
            true => [prefix.as_bytes(), &argument].concat(),
            false => argument,
        };
        return command.arguments.iter().cloned().map(rename).collect();
    }
}

fn dumped(reply: &[u8]) -> Vec<u8> {
    let start = reply
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    reply
        .get(start..reply.len() - 2)
        .unwrap_or_default()
        .to_vec()
}

/// Whether a key would expire soon.
fn is_short(arguments: &[Vec<u8>]) -> bool {
    let number = |at: usize| -> i64 {
        let text = arguments
            .get(at)
            .map(|text| String::from_utf8_lossy(text).into_owned());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let is_short = |at: usize| (1..SHORT_SECONDS).contains(&number(at));
    match &arguments[0][..] {
        b"SETEX" => is_short(2),
        b"SET" => arguments
            .iter()
            .position(|word| word == b"EX")
            .is_some_and(|at| is_short(at + 1)),
        _ => false,
    }
}

/// A command on a key all write, whose order among the others does not matter.
fn commutative(generator: &mut Generator, index: u64) -> Vec<Vec<u8>> {
    let key = generator.random.below(3);
    let number = generator.random.below(1_000);
    let line = match generator.random.below(6) {
        0 => format!("INCRBY common:n{key} {number}"),
        1 => format!("DECR common:n{key}"),
        2 => format!("SADD common:e{key} {number}"),
        3 => format!("HSET common:h{key} f{index} {number}"),
        4 => format!("ZADD common:z{key} {number} m{index}"),
        _ => format!("HINCRBY common:h{key} sum {number}"),
    };
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is past 1970").as_millis() as u64
}

/// Every record, in the order of the journal.
fn read(sidecar: &Sidecar) -> Vec<Record> {
    let options = LocalOptions::new(sidecar.journal().join("test"));
    let journal = LocalJournal::open(options).expect("the sidecar has closed it");
    let journal = Journal::Local(Arc::new(journal));
    let mut reader = journal.reader(journal.first_offset());
    let mut records = Vec::new();
    let mut batch = ReadBatch::default();
    loop {
        reader
            .next_batch(&mut batch, READ_BYTES)
            .expect("the journal is whole");
        if batch.is_empty() {
            return records;
        }
        for (offset, bytes) in batch.iter() {
            assert_eq!(offset, records.len() as u64, "offsets are dense");
            let record = decode(Bytes::copy_from_slice(bytes));
            records.push(record.expect("a record of this version"));
        }
    }
}

/// What is known of one writer while its records are read.
#[derive(Default)]
struct WriterState {
    sequence: u64,
    hlc: u64,
    settled_through: u64,
    /// Mutations that may wait in the datastore and have no outcome yet.
    waiting: BTreeSet<u64>,
    /// Others that are not final and have none.
    unresolved: BTreeSet<u64>,
    mutations: BTreeSet<u64>,
}

/// Checks the promises about a writer's records; gives the outcomes by the
/// writer and sequence of their mutations.
fn check_records(records: &[Record]) -> HashMap<(u64, u64), Outcome> {
    let mut writers: BTreeMap<u64, WriterState> = BTreeMap::new();
    let mut outcomes = HashMap::new();
    for (offset, record) in records.iter().enumerate() {
        let writer = writers.entry(record.writer).or_default();
        assert_eq!(record.sequence, writer.sequence + 1, "dense at {offset}");
        writer.sequence = record.sequence;
        assert!(writer.hlc < record.hlc, "time goes on at {offset}");
        writer.hlc = record.hlc;
        match record.body.as_ref().expect("every record has a body") {
            Body::Mutation(mutation) => {
                writer.mutations.insert(record.sequence);
                // What waits in the datastore is passed by what is settled.
                assert!(!mutation.r#final || !mutation.waits, "waits at {offset}");
                if mutation.waits {
                    writer.waiting.insert(record.sequence);
                } else if !mutation.r#final {
                    writer.unresolved.insert(record.sequence);
                }
            }
            Body::Outcome(outcome) => {
                let of = outcome.of_sequence;
                assert!(
                    writer.mutations.contains(&of),
                    "an outcome of nothing at {offset}"
                );
                writer.unresolved.remove(&of);
                let waited = writer.waiting.remove(&of);
                assert_eq!(outcome.waited, waited, "waited at {offset}");
                let earlier = outcomes.insert((record.writer, of), outcome.clone());
                assert!(earlier.is_none(), "a second outcome at {offset}");
            }
            Body::Heartbeat(_) | Body::Snapshot(_) => {}
        }
        let through = record.settled_through;
        assert!(
            writer.settled_through <= through,
            "settled goes on at {offset}"
        );
        assert!(
            through <= record.sequence,
            "nothing settles in the future at {offset}"
        );
        writer.settled_through = through;
        if let Some(first) = writer.unresolved.first() {
            assert!(
                through < *first,
                "{through} is settled at {offset}, {first} has no outcome"
            );
        }
    }
    for (writer, state) in &writers {
        assert!(
            state.unresolved.is_empty() && state.waiting.is_empty(),
            "writer {writer:016x} leaves without outcome: {:?}",
            (&state.unresolved, &state.waiting)
        );
    }
    outcomes
}

/// The last records that have a key in common with `record`, and their outcomes.
fn history(records: &[Record], outcomes: &HashMap<(u64, u64), Outcome>, record: &Record) -> String {
    const SHOWN: usize = 12;
    let keys = |record: &Record| match &record.body {
        Some(Body::Mutation(mutation)) => mutation.keys.clone(),
        _ => Vec::new(),
    };
    let own = keys(record);
    let is_about = |other: &&Record| {
        other.database == record.database && keys(other).iter().any(|key| own.contains(key))
    };
    let mut lines: Vec<String> = records
        .iter()
        .rev()
        .filter(is_about)
        .take(SHOWN)
        .map(|record| {
            let outcome = outcomes.get(&(record.writer, record.sequence));
            format!("{}: {:?}\n    {outcome:?}", record.sequence, record.body)
        })
        .collect();
    lines.reverse();
    lines.join("\n")
}

/// Applies records to a server.
struct Replay {
    source: Client,
    target: Client,
    database: u32,
    table: Table,
    /// Keys whose values the journal does not tell.
    unknown: BTreeSet<(u32, Bytes)>,
    applied: usize,
}

impl Replay {
    fn new(source: &Redis, target: &Redis) -> Replay {
        Replay {
            source: source.client(),
            target: target.client(),
            database: 0,
            table: Table::built_in(),
            unknown: BTreeSet::new(),
            applied: 0,
        }
    }

    fn select(&mut self, database: u32) {
        if self.database != database {
            let number = database.to_string();
            for client in [&mut self.source, &mut self.target] {
                assert_eq!(client.command(&["SELECT", &number]), b"+OK\r\n");
            }
            self.database = database;
        }
    }

    fn apply(&mut self, record: &Record, outcome: Option<&Outcome>) -> Result<(), String> {
        let Some(Body::Mutation(_)) = &record.body else {
            return Ok(());
        };
        let database = record.database;
        self.select(database);
        let application = commands_to_apply(record, outcome);
        for key in application.unknown_keys {
            self.unknown.insert((database, key.clone()));
        }
        for command in application.commands {
            let keys = self.keys(&command.arguments);
            // What is made of an unknown value is unknown itself.
            let is_unknown = keys
                .iter()
                .any(|key| self.unknown.contains(&(database, key.clone())));
            if is_unknown {
                self.unknown
                    .extend(keys.into_iter().map(|key| (database, key)));
            }
            let reply = self.target.command(&command.arguments);
            self.applied += 1;
            if !is_unknown && reply.first() == Some(&b'-') {
                let (reply, number) = (reply.escape_ascii(), record.sequence);
                let words = &command.arguments;
                return Err(format!("{reply} to {words:?} of record {number}"));
            }
        }
        Ok(())
    }

    fn keys(&self, arguments: &[Bytes]) -> Vec<Bytes> {
        let slices: Vec<&[u8]> = arguments.iter().map(|argument| &argument[..]).collect();
        let with_subcommand = slices[..slices.len().min(2)].join(&b' ');
        let found = self.table.find(&with_subcommand);
        let index = found.or_else(|| self.table.find(slices[0]));
        let mut keys = Vec::new();
        let index = index.expect("what is applied is in the table");
        self.table
            .keys(index, &slices, |at| keys.push(arguments[at].clone()));
        keys
    }

    /// Takes the values the journal does not tell from the source.
    fn copy_unknown(&mut self) {
        for (database, key) in self.unknown.clone() {
            self.select(database);
            self.target.command(&[&b"DEL"[..], &key]);
            let reply = self.source.command(&[&b"DUMP"[..], &key]);
            let expires = self.source.command(&[&b"PEXPIRETIME"[..], &key]);
            if reply == b"$-1\r\n" {
                continue;
            }
            let expires = String::from_utf8_lossy(&expires[1..]).trim_end().to_owned();
            let expires = if expires == "-1" { "0" } else { &expires };
            let restore = [
                b"RESTORE",
                &key[..],
                expires.as_bytes(),
                &dumped(&reply),
                b"ABSTTL",
            ];
            assert_eq!(self.target.command(&restore), b"+OK\r\n");
        }
    }
}
