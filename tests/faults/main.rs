//! What goes wrong around the sidecar, each thing on purpose: what clients are
//! told meanwhile, and that all is well afterwards.

#[path = "../support/mod.rs"]
mod support;

mod datastore;
mod drain;
mod limits;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wal_sidecar::mutation::v1;

use support::process::{Signal, free_port};
use support::{Redis, Sidecar, SidecarOptions, journal, until};
/// However slow the machine, what is waited for has happened by then.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a reply says of the command it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// The datastore's own.
    Own,
    NotJournaled,
    /// With the writer and sequence it names.
    Uncertain(u64, u64),
    Unavailable,
}

/// Fails on an error that is none of the three the sidecar may give.
fn answer(reply: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(reply).into_owned();
    let mut words = text.split(' ');
    match words.next().expect("a first word") {
        "-NOTJOURNALED" => Answer::NotJournaled,
        "-UNAVAILABLE" => Answer::Unavailable,
        "-UNCERTAIN" => {
            let named = words.next().expect("a writer and a sequence");
            let (writer, sequence) = named.split_once('-').expect("writer-sequence");
            let writer = u64::from_str_radix(writer, 16).expect("a writer");
            Answer::Uncertain(writer, sequence.parse().expect("a sequence"))
        }
        word => {
            assert!(!word.starts_with('-'), "{text}");
            Answer::Own
        }
    }
}

/// What one client has been told of each of its writes, by id.
type Told = Arc<Mutex<HashMap<String, Answer>>>;

/// Success and UNCERTAIN are in the journal, the latter where it says;
/// NOTJOURNALED is not.
fn check_told(told: &Told, records: &[v1::Record]) -> BTreeMap<&'static str, usize> {
    journal::check_dense(records);
    let journaled: HashSet<&[u8]> = journal::arguments(records).collect();
    let by_sequence: HashMap<(u64, u64), &v1::Record> = records
        .iter()
        .map(|record| ((record.writer, record.sequence), record))
        .collect();
    let mut counts = BTreeMap::new();
    for (id, answer) in told.lock().unwrap().iter() {
        let is_journaled = journaled.contains(id.as_bytes());
        let what = match answer {
            Answer::Own => {
                assert!(is_journaled, "{id} was acknowledged");
                "ok"
            }
            Answer::NotJournaled => {
                assert!(!is_journaled, "{id} was said not to be journaled");
                "not journaled"
            }
            Answer::Uncertain(writer, sequence) => {
                let named = by_sequence
                    .get(&(*writer, *sequence))
                    .unwrap_or_else(|| panic!("{id}: there is no {writer:016x}-{sequence}"));
                let mut own = journal::arguments(std::slice::from_ref(*named));
                assert!(own.any(|argument| argument == id.as_bytes()), "{id}");
                "uncertain"
            }
            Answer::Unavailable => panic!("{id}: that is for reads"),
        };
        *counts.entry(what).or_default() += 1;
    }
    counts
}

fn is_ready(sidecar: &Sidecar) -> bool {
    sidecar.admin("/readyz").0 == 200
}

fn records(sidecar: &Sidecar) -> Vec<v1::Record> {
    journal::read(&sidecar.journal().join("test"), 0).0
}

/// Exit status and output of a sidecar that must not start.
fn check_fails(options: &SidecarOptions, port: u16, admin_port: u16, parts: &[&str]) {
    let output = Sidecar::failing(options, port, admin_port);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn what_it_cannot_have_it_names_and_ends() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let free = || (free_port(), free_port());
    let in_directory = |directory: std::path::PathBuf| {
        let mut options = SidecarOptions::new(&redis);
        options.journal_directory = Some(directory);
        options
    };

    let (port, admin) = free();
    let directory = sidecar.journal().join("test");
    check_fails(
        &in_directory(sidecar.journal()),
        port,
        admin,
        &[&directory.display().to_string(), &sidecar.id().to_string()],
    );

    // Below a file there can be no directory, whoever asks.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let unwritable = file.path().join("journal");
    let (port, admin) = free();
    check_fails(
        &in_directory(unwritable.clone()),
        port,
        admin,
        &[&unwritable.display().to_string()],
    );

    let options = SidecarOptions::new(&redis);
    let taken = format!("127.0.0.1:{}", sidecar.port());
    check_fails(
        &options,
        sidecar.port(),
        free_port(),
        &[&taken, "listen", "test"],
    );
    let taken = format!("127.0.0.1:{}", sidecar.admin_port());
    check_fails(
        &options,
        free_port(),
        sidecar.admin_port(),
        &[&taken, "admin"],
    );

    assert_eq!(
        sidecar.client().command(&["SET", "key", "value"]),
        b"+OK\r\n"
    );
}

#[test]
fn policies_are_reloaded_under_the_clients_feet() {
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis).expect_error("unknown key");
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.client();
    let text = std::fs::read_to_string(sidecar.config()).expect("it is there");
    let mut write = |value: &str| {
        assert_eq!(client.command(&["SET", "key", value]), b"+OK\r\n");
        let records = records(&sidecar);
        journal::arguments(&records).any(|argument| argument == value.as_bytes())
    };
    assert!(write("first"));

    let off = text.replace("durability = \"durable\"", "durability = \"off\"");
    assert_ne!(off, text);
    std::fs::write(sidecar.config(), &off).expect("write the configuration");
    sidecar.signal(Signal::Hup);
    let mut number = 0;
    until("writes that are not journaled", DEADLINE, || {
        number += 1;
        (!write(&format!("off:{number}"))).then_some(())
    });

    let lines = sidecar.lines().len();
    std::fs::write(sidecar.config(), text.replace("durability", "durabilty")).expect("write");
    sidecar.signal(Signal::Hup);
    let complaint = until("the complaint", DEADLINE, || {
        sidecar.lines()[lines..]
            .iter()
            .find(|line| line.contains("durabilty"))
            .cloned()
    });
    println!("{complaint}");
    assert!(!write("still off"));

    std::fs::write(sidecar.config(), &text).expect("write the configuration");
    sidecar.signal(Signal::Hup);
    until("writes that are journaled", DEADLINE, || {
        number += 1;
        write(&format!("on:{number}")).then_some(())
    });
}
