//! What `derive` and `resolve` make of commands has the effect the commands
//! had: random commands are executed on one redis-server, their records
//! applied to another one, and after each both hold the same in its keys, in
//! the end in all. Values that a record asks for are copied at once, as later
//! commands may depend on them.

mod commands;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use commands::{Command, Generator};
use server::{Client, Server};
use wal_sidecar::mutation::v1::{self, outcome::Result, record::Body};
use wal_sidecar::mutation::{
    Journaled, MutationParts, Outcome, RecordBatch, Scratch, Writer, WriterOptions,
    commands_to_apply, decode, derive, resolve, resolve_transaction,
};
use wal_sidecar::protocol::resp::commands::{Effect, Resolve};

const STEPS: u32 = 12_000;
/// Commands in a transaction, at most.
const TRANSACTION_MAX: u64 = 6;
/// A fixed seed, so a failure comes again; `REPLAY_SEED` takes another.
const SEED: u64 = 20_261_123;

#[test]
fn records_have_the_effect_of_the_commands() {
    let seed = match std::env::var("REPLAY_SEED") {
        Ok(text) => text.parse().expect("REPLAY_SEED is a number"),
        Err(_) => SEED,
    };
    println!("REPLAY_SEED={seed}");
    let (source, target) = (Server::start(), Server::start());
    let mut replay = Replay::new(&source, &target, seed);
    for _ in 0..STEPS {
        match replay.generator.random.below(100) {
            0..8 => replay.transaction(),
            8..10 => replay.aborted_transaction(),
            _ => replay.single(),
        }
    }
    println!("{:#?}", replay.seen);
    replay.compare();
    replay.check_that_all_was_seen();
}

struct Replay {
    /// Of RESP version 2 and 3.
    sources: [Client; 2],
    target: Client,
    generator: Generator,
    writer: Writer,
    batch: RecordBatch,
    /// The longest time from before a command was journaled until its reply
    /// was there. Relative times count from the one in the journal, and in the
    /// datastore from some moment up to the other.
    journal_to_reply_max: Duration,
    /// How many outcomes of which form there were, by effect.
    seen: BTreeMap<String, BTreeMap<&'static str, u32>>,
}

impl Replay {
    fn new(source: &Server, target: &Server, seed: u64) -> Self {
        Replay {
            sources: [source.connect(2), source.connect(3)],
            target: target.connect(2),
            generator: Generator::new(seed),
            writer: Writer::new(WriterOptions {
                region: "here".to_owned(),
                namespace: "test".to_owned(),
                store: v1::Store::Redis,
                writer: seed,
            }),
            batch: RecordBatch::default(),
            journal_to_reply_max: Duration::ZERO,
            seen: BTreeMap::new(),
        }
    }

    fn single(&mut self) {
        let command = self.command();
        let version = self.generator.random.below(2) as usize;
        self.execute(&command, version);
    }

    fn command(&mut self) -> Command {
        let key = format!(
            "{}{}",
            ["s", "l", "z"][self.generator.random.below(3) as usize],
            0
        );
        let payload = self.sources[0].ask(&[b"DUMP", key.as_bytes()]);
        self.generator.now_ms = now_ms();
        self.generator.command(&payload.unwrap_or_default())
    }

    fn execute(&mut self, command: &Command, version: usize) {
        let arguments = slices(&command.arguments);
        if command.effect == Effect::None {
            self.sources[version].call(&arguments);
            return;
        }
        let (started, journaled_at_ms) = (Instant::now(), now_ms());
        let keys = slices(&command.keys);
        let mut scratch = Scratch::default();
        let derived = derive(command.effect, &arguments, journaled_at_ms, &mut scratch);
        let is_final = derived.is_final;
        let parts = MutationParts {
            commands: &[derived.arguments()],
            keys: &keys,
            is_final,
        };
        let sequence = self.journal(journaled_at_ms, &parts);
        let reply = self.sources[version].call(&arguments);
        self.journal_to_reply_max = self.journal_to_reply_max.max(started.elapsed());
        let journaled = Journaled {
            effect: command.effect,
            arguments: &arguments,
            keys: &keys,
            is_final,
            journaled_at_ms,
        };
        let outcome = resolve(&journaled, &reply);
        assert!(is_final || outcome.is_some());
        self.settle(
            &format!("{:?}", command.effect),
            sequence,
            keys.first(),
            outcome,
        );
        let context = || describe(&arguments, &reply);
        self.apply(&context);
    }

    fn transaction(&mut self) {
        let length = 1 + self.generator.random.below(TRANSACTION_MAX);
        let commands: Vec<Command> = (0..length).map(|_| self.command()).collect();
        let version = self.generator.random.below(2) as usize;
        self.execute_transaction(&commands, version, &[]);
    }

    /// Refused as a whole, for a watched key or a command that can't be queued.
    fn aborted_transaction(&mut self) {
        let commands = [self.command(), self.command()];
        let version = self.generator.random.below(2) as usize;
        if self.generator.random.one_in(2) {
            self.execute_transaction(&commands, version, &[b"SET"]);
            return;
        }
        self.sources[version].say("WATCH s0");
        let arguments = [&b"SET"[..], b"s0", b"1"].map(<[u8]>::to_vec).to_vec();
        let write = Command::new(&self.generator.table, arguments);
        self.execute(&write, 1 - version);
        self.execute_transaction(&commands, version, &[]);
    }

    fn execute_transaction(&mut self, commands: &[Command], version: usize, invalid: &[&[u8]]) {
        let (started, journaled_at_ms) = (Instant::now(), now_ms());
        let arguments: Vec<Vec<&[u8]>> = commands
            .iter()
            .map(|command| slices(&command.arguments))
            .collect();
        let keys: Vec<Vec<&[u8]>> = commands
            .iter()
            .map(|command| slices(&command.keys))
            .collect();
        let mut scratches = vec![Scratch::default(); commands.len()];
        let derived: Vec<_> = commands
            .iter()
            .zip(&arguments)
            .zip(&mut scratches)
            .map(|((command, arguments), scratch)| {
                derive(command.effect, arguments, journaled_at_ms, scratch)
            })
            .collect();
        let is_mutation = |index: &usize| commands[*index].effect != Effect::None;
        let mutations: Vec<usize> = (0..commands.len()).filter(is_mutation).collect();
        let forms: Vec<&[&[u8]]> = mutations
            .iter()
            .map(|index| derived[*index].arguments())
            .collect();
        let mut own_keys: Vec<&[u8]> = Vec::new();
        for key in mutations.iter().flat_map(|index| &keys[*index]) {
            if !own_keys.contains(key) {
                own_keys.push(key);
            }
        }
        let parts = MutationParts {
            commands: &forms,
            keys: &own_keys,
            is_final: mutations.iter().all(|index| derived[*index].is_final),
        };
        let sequence = self.journal(journaled_at_ms, &parts);

        let client = &mut self.sources[version];
        client.say("MULTI");
        for arguments in &arguments {
            assert_eq!(
                client.call(arguments),
                b"+QUEUED\r\n",
                "{}",
                describe(arguments, b"")
            );
        }
        if !invalid.is_empty() {
            client.call(invalid);
        }
        let reply = client.say("EXEC");
        self.journal_to_reply_max = self.journal_to_reply_max.max(started.elapsed());
        let journaled: Vec<Journaled> = (0..commands.len())
            .map(|index| Journaled {
                effect: commands[index].effect,
                arguments: &arguments[index],
                keys: &keys[index],
                is_final: derived[index].is_final,
                journaled_at_ms,
            })
            .collect();
        let outcome = resolve_transaction(&journaled, true, &reply);
        assert!(parts.is_final || outcome.is_some());
        self.settle("transaction", sequence, own_keys.first(), outcome);
        let context = || {
            let commands: Vec<String> = arguments.iter().map(|it| describe(it, b"")).collect();
            format!("{}{}", commands.join("; "), describe(&[], &reply))
        };
        self.apply(&context);
    }

    fn journal(&mut self, now_ms: u64, parts: &MutationParts<'_>) -> u64 {
        self.batch.clear();
        self.writer.mutation(&mut self.batch, now_ms, 0, parts)
    }

    fn settle(&mut self, what: &str, sequence: u64, key: Option<&&[u8]>, outcome: Option<Outcome>) {
        let form = match &outcome {
            None => "stands",
            Some(Outcome::Effects(_)) => "effects",
            Some(Outcome::Partial { .. }) => "partial",
            Some(Outcome::Rejected(reason)) if reason.is_empty() => "nothing",
            Some(Outcome::Rejected(_)) => "rejected",
            Some(Outcome::Unknown { .. }) => "unknown",
        };
        *self
            .seen
            .entry(what.to_owned())
            .or_default()
            .entry(form)
            .or_default() += 1;
        let Some(outcome) = outcome else {
            self.writer.settle(sequence);
            return;
        };
        let key = key.copied().unwrap_or_default();
        self.writer
            .outcome(&mut self.batch, now_ms(), 0, sequence, key, &outcome);
    }

    /// Applies what the records in the batch say, as a reader of the journal would.
    fn apply(&mut self, context: &dyn Fn() -> String) {
        self.writer.acknowledge(self.writer.last_sequence());
        assert_eq!(self.writer.settled_through(), self.writer.last_sequence());
        let records: Vec<v1::Record> = self
            .batch
            .records()
            .map(|(_, bytes)| decode(Bytes::copy_from_slice(bytes)).expect("just encoded"))
            .collect();
        let outcome = records.get(1).map(|record| match &record.body {
            Some(Body::Outcome(outcome)) => outcome,
            other => panic!("{other:?}"),
        });
        if let Some(Some(Result::Rejected(rejected))) = outcome.map(|outcome| &outcome.result) {
            assert!(
                !rejected.reason.starts_with("ERR unknown command"),
                "{}",
                context()
            );
        }
        let application = commands_to_apply(&records[0], outcome);
        for command in application.commands {
            let arguments: Vec<&[u8]> = command.arguments.iter().map(|bytes| &bytes[..]).collect();
            let reply = self.target.call(&arguments);
            assert_ne!(
                reply[0],
                b'-',
                "{} after {}",
                describe(&arguments, &reply),
                context()
            );
        }
        for key in application.unknown_keys {
            self.copy(key);
        }
        let Some(Body::Mutation(mutation)) = &records[0].body else {
            panic!("{records:?}");
        };
        for key in &mutation.keys {
            self.compare_key(key, context);
        }
    }

    /// What a replicator gets as a snapshot.
    fn copy(&mut self, key: &[u8]) {
        let source = &mut self.sources[0];
        let Some(payload) = source.ask(&[b"DUMP", key]) else {
            self.target.call(&[b"DEL", key]);
            return;
        };
        let expires_at = source.ask(&[b"PEXPIRETIME", key]).expect("the key exists");
        let expires_at: &[u8] = if expires_at == b"-1" {
            b"0"
        } else {
            &expires_at
        };
        let reply = self
            .target
            .call(&[b"RESTORE", key, expires_at, &payload, b"REPLACE", b"ABSTTL"]);
        assert_eq!(reply, b"+OK\r\n");
    }

    fn compare(&mut self) {
        let source = &mut self.sources[0];
        let keys: [BTreeSet<Vec<u8>>; 2] = [
            source.call(&[b"KEYS", b"*"]),
            self.target.call(&[b"KEYS", b"*"]),
        ]
        .map(|reply| array(&reply).into_iter().collect());
        assert_eq!(keys[0], keys[1], "not the same keys");
        assert!(keys[0].len() > 15, "too few keys are left to compare");
        println!("{} keys", keys[0].len());
        for key in &keys[0] {
            self.compare_key(key, &|| "the end".to_owned());
        }
    }

    fn compare_key(&mut self, key: &[u8], context: &dyn Fn() -> String) {
        let (source, target) = (&mut self.sources[0], &mut self.target);
        let name = String::from_utf8_lossy(key);
        let values = [value(source, key), value(target, key)];
        assert_eq!(values[0], values[1], "{name} after {}", context());
        let expiry = [source, target].map(|client| -> i64 {
            let text = client.ask(&[b"PEXPIRETIME", key]).expect("a number");
            String::from_utf8_lossy(&text).parse().expect("a number")
        });
        // Milliseconds are cut off on both sides.
        let tolerance_ms = self.journal_to_reply_max.as_millis() as i64 + 2;
        let is_near = (expiry[0] - expiry[1]).abs() <= tolerance_ms;
        let both_or_none = (expiry[0] < 0) == (expiry[1] < 0);
        assert!(
            both_or_none && is_near,
            "{name}: {expiry:?} after {}",
            context()
        );
    }

    /// The test would pass if every command were rejected, or copied.
    fn check_that_all_was_seen(&self) {
        let count = |what: &str, form: &str| {
            let forms = self.seen.get(what);
            forms
                .and_then(|forms| forms.get(form))
                .copied()
                .unwrap_or_default()
        };
        for kind in [
            Resolve::Conditional,
            Resolve::Set,
            Resolve::Expire,
            Resolve::GetEx,
            Resolve::IncrByFloat,
            Resolve::HIncrByFloat,
            Resolve::SPop,
            Resolve::ZPop,
            Resolve::BlockingPop,
            Resolve::LMPop,
            Resolve::BlockingMove,
            Resolve::BlockingZPop,
            Resolve::ZMPop,
            Resolve::ZAddIncr,
            Resolve::ZIncrBy,
            Resolve::XAdd,
            Resolve::SnapshotUnlessNothing,
        ] {
            let what = format!("{:?}", Effect::Resolved(kind));
            assert!(count(&what, "effects") >= 5, "{what}");
            let is_precise = !matches!(kind, Resolve::XAdd | Resolve::SnapshotUnlessNothing);
            assert!(!is_precise || count(&what, "unknown") == 0, "{what}");
        }
        for form in [
            "stands", "effects", "partial", "nothing", "rejected", "unknown",
        ] {
            assert!(count("transaction", form) >= 5, "transactions: {form}");
        }
        assert!(count("Opaque", "unknown") >= 5 && count("Opaque", "rejected") >= 5);
        assert!(count("Verbatim", "stands") >= 500 && count("Verbatim", "rejected") >= 5);
    }
}

/// A key's whole value in a form that does not depend on how it is kept.
fn value(client: &mut Client, key: &[u8]) -> Vec<Vec<u8>> {
    let kind = client.ask(&[b"TYPE", key]).expect("a type");
    let sorted = |mut elements: Vec<Vec<u8>>| {
        elements.sort();
        elements
    };
    let mut value = match &kind[..] {
        b"string" => {
            if key.starts_with(b"p") {
                // Computes what a HyperLogLog caches in its value.
                client.call(&[b"PFCOUNT", key]);
            }
            vec![client.ask(&[b"GET", key]).expect("the key exists")]
        }
        b"list" => array(&client.call(&[b"LRANGE", key, b"0", b"-1"])),
        b"set" => sorted(array(&client.call(&[b"SMEMBERS", key]))),
        b"zset" => array(&client.call(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"])),
        b"hash" => {
            let all = array(&client.call(&[b"HGETALL", key]));
            let pairs = all.chunks(2).map(|pair| pair.join(&b"="[..]));
            sorted(pairs.collect())
        }
        b"stream" => vec![
            client.call(&[b"XRANGE", key, b"-", b"+"]),
            client.call(&[b"XINFO", b"GROUPS", key]),
        ],
        b"none" => Vec::new(),
        other => panic!("{}", String::from_utf8_lossy(other)),
    };
    value.push(kind);
    value
}

/// The bulk strings of a flat RESP2 array.
fn array(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = reply;
    // The number in the next line, after its type byte.
    let number = |rest: &mut &[u8], kind: u8| -> usize {
        let end = rest
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .expect("a line end");
        assert_eq!(rest[0], kind);
        let text = String::from_utf8_lossy(&rest[1..end]).into_owned();
        *rest = &rest[end + 2..];
        text.parse().expect("a number")
    };
    let count = number(&mut rest, b'*');
    let mut elements = Vec::new();
    for _ in 0..count {
        let length = number(&mut rest, b'$');
        elements.push(rest[..length].to_vec());
        rest = &rest[length + 2..];
    }
    elements
}

fn slices(bytes: &[Vec<u8>]) -> Vec<&[u8]> {
    bytes.iter().map(|bytes| &bytes[..]).collect()
}

fn describe(arguments: &[&[u8]], reply: &[u8]) -> String {
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.escape_ascii().to_string())
        .collect();
    format!("{} -> {}", words.join(" "), reply.escape_ascii())
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.expect("a clock after 1970").as_millis() as u64
}
