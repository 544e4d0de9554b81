//! The journal, applied to an empty server, makes what the first one holds.

use std::collections::{BTreeSet, HashMap};

use super::commands::{Dialect, command};
use super::differential::dataset;
use super::support::{Memcache, Memcached, Random, Sidecar, SidecarOptions, journal};
use wal_sidecar::mutation::commands_to_apply;
use wal_sidecar::mutation::v1::{self, outcome::Result, record::Body};

const BATCHES: usize = 1500;
const COMMANDS_MAX: usize = 6;

#[test]
fn the_journal_holds_what_the_server_holds() {
    let mut random = Random::from_environment();
    let (servers, target) = ([Memcached::start()], Memcached::start());
    let mut sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let (mut text, mut binary) = (sidecar.memcache(), sidecar.memcache());
    for _ in 0..BATCHES {
        let dialect = *random.pick(&[Dialect::Text, Dialect::Meta, Dialect::Binary]);
        let commands: Vec<Vec<u8>> = (0..=random.below(COMMANDS_MAX))
            .map(|_| command(&mut random, dialect))
            .collect();
        let received = match dialect {
            Dialect::Binary => binary.packets(&commands.concat()),
            Dialect::Text | Dialect::Meta => text.lines(&commands.concat()),
        };
        assert!(!received.is_empty());
        if dialect != Dialect::Binary && !received.ends_with(b"MN\r\n") {
            // What cannot be told apart ends a connection.
            text = sidecar.memcache();
        }
    }
    assert!(sidecar.stop().success(), "the sidecar drains");
    let (records, _) = journal::read(&sidecar.journal().join("test"), 0);
    journal::check_dense(&records);
    let outcomes = outcomes(&records);
    check_intents(&records, &outcomes);

    let mut source = servers[0].client();
    let mut replica = target.client();
    let mut unknown = BTreeSet::new();
    for record in &records {
        let application = commands_to_apply(record, outcomes.get(&record.sequence).copied());
        for command in application.commands {
            apply(&mut replica, command, &mut unknown);
        }
        unknown.extend(application.unknown_keys.iter().map(|key| key.to_vec()));
    }
    let told = dataset(&mut replica)
        .into_iter()
        .filter(|(key, _)| !unknown.contains(key.as_bytes()))
        .count();
    for key in &unknown {
        copy(&mut source, &mut replica, key);
    }
    assert_eq!(dataset(&mut source), dataset(&mut replica));
    println!(
        "{} records, {} outcomes, {told} keys told, {} looked up",
        records.len(),
        outcomes.len(),
        unknown.len()
    );
}

fn outcomes(records: &[v1::Record]) -> HashMap<u64, &v1::Outcome> {
    records
        .iter()
        .filter_map(|record| match &record.body {
            Some(Body::Outcome(outcome)) => Some((outcome.of_sequence, outcome)),
            _ => None,
        })
        .collect()
}

/// Every intent has an outcome; what failed its condition is rejected.
fn check_intents(records: &[v1::Record], outcomes: &HashMap<u64, &v1::Outcome>) {
    let (mut rejected, mut done) = (0, 0);
    for record in records {
        let Some(Body::Mutation(mutation)) = &record.body else {
            continue;
        };
        if mutation.r#final {
            continue;
        }
        let outcome = outcomes.get(&record.sequence);
        match outcome.and_then(|outcome| outcome.result.as_ref()) {
            Some(Result::Rejected(_)) => rejected += 1,
            Some(_) => done += 1,
            None => panic!("an intent without an outcome: {mutation:?}"),
        }
    }
    assert!(rejected > 0 && done > 0, "{rejected} {done}");
}

/// Applies a command of a record.
fn apply(replica: &mut Memcache, command: &v1::Command, unknown: &mut BTreeSet<Vec<u8>>) {
    let words: Vec<&[u8]> = command.arguments.iter().map(|word| &word[..]).collect();
    let mut bytes = Vec::new();
    match &words[..] {
        [b"set", key, flags, time, value] => {
            unknown.remove(*key);
            let head: [&[u8]; 4] = [b"set", key, flags, time];
            bytes.extend(head.join(&b' '));
            bytes.extend(format!(" {}\r\n", value.len()).into_bytes());
            bytes.extend_from_slice(value);
        }
        [b"delete", key] => {
            unknown.remove(*key);
            bytes.extend([&b"delete"[..], key].join(&b' '));
        }
        [b"flush_all", ..] => {
            unknown.clear();
            bytes.extend(words.join(&b' '));
        }
        _ => bytes.extend(words.join(&b' ')),
    }
    bytes.extend_from_slice(b"\r\n");
    let reply = replica.lines(&bytes);
    assert!(
        !reply.starts_with(b"ERROR") && !reply.starts_with(b"CLIENT_ERROR"),
        "{} to {}",
        reply.escape_ascii(),
        bytes.escape_ascii()
    );
}

/// Copies a key as a snapshot of it would be.
fn copy(source: &mut Memcache, replica: &mut Memcache, key: &[u8]) {
    let key = String::from_utf8_lossy(key).into_owned();
    let reply = source.lines(format!("mg {key} v f t\r\n").as_bytes());
    let Some(rest) = reply.strip_prefix(b"VA ") else {
        replica.lines(format!("md {key}\r\n").as_bytes());
        return;
    };
    let end = rest.iter().position(|byte| *byte == b'\r').expect("a line");
    let line = String::from_utf8_lossy(&rest[..end]).into_owned();
    let words: Vec<&str> = line.split(' ').collect();
    let size: usize = words[0].parse().expect("a size");
    let value = &rest[end + 2..end + 2 + size];
    let flags = words
        .iter()
        .find_map(|word| word.strip_prefix('f'))
        .expect("flags");
    let time = words
        .iter()
        .find_map(|word| word.strip_prefix('t'))
        .expect("a time");
    let mut set = format!("ms {key} {size} F{flags}").into_bytes();
    if time != "-1" {
        set.extend(format!(" T{time}").into_bytes());
    }
    set.extend_from_slice(b"\r\n");
    set.extend_from_slice(value);
    set.extend_from_slice(b"\r\n");
    assert!(replica.lines(&set).starts_with(b"HD"));
}
