//! `journal tail`, `verify` and `stats` on journals made here.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use prost::Message;
use wal_sidecar::cli::journal::{
    StatsOptions, TailOptions, Verdict, VerifyOptions, stats, tail, verify,
};
use wal_sidecar::journal::{Journal, LocalJournal, LocalOptions};
use wal_sidecar::mutation::v1::outcome::Result as Resolved;
use wal_sidecar::mutation::v1::record::Body;
use wal_sidecar::mutation::v1::{
    Command, Heartbeat, Mutation, Outcome, Record, Rejected, Snapshot, Unknown,
};
use wal_sidecar::mutation::{RecordBatch, RecordEntry, RecordKind};

fn open(directory: &Path) -> Journal {
    let options = LocalOptions {
        segment_bytes: 4096,
        ..LocalOptions::new(directory)
    };
    Journal::Local(Arc::new(LocalJournal::open(options).unwrap()))
}

fn record(sequence: u64, body: Body) -> Record {
    Record {
        hlc: (1_735_689_599_001 << 16) + sequence,
        region: "us-east-1".to_owned(),
        writer: 0xabcd,
        sequence,
        namespace: "sessions".to_owned(),
        store: 1,
        database: 2,
        settled_through: sequence - 1,
        body: Some(body),
    }
}

fn set(sequence: u64, value: &[u8]) -> Record {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let arguments = vec![bytes(b"SET"), bytes(b"a key"), bytes(value)];
    let mutation = Mutation {
        commands: vec![Command { arguments }],
        keys: vec![bytes(b"a key")],
        r#final: true,
        ..Default::default()
    };
    record(sequence, Body::Mutation(mutation))
}

fn append(journal: &Journal, records: &[Record]) {
    let mut appender = journal.appender();
    for record in records {
        let mut batch = RecordBatch::default();
        record.encode(&mut batch.bytes).unwrap();
        batch.entries.push(RecordEntry {
            end: batch.bytes.len(),
            key: (0, 0),
            kind: RecordKind::Mutation,
            sequence: record.sequence,
            hlc: record.hlc,
        });
        appender.submit(batch);
        // One group each.
        journal.flush().unwrap();
    }
}

fn tailed(directory: &Path, options: TailOptions) -> String {
    let mut out = Vec::new();
    tail(directory, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn verified(directory: &Path, json: bool) -> (Verdict, String) {
    let mut out = Vec::new();
    let verdict = verify(directory, &VerifyOptions { json }, &mut out).unwrap();
    (verdict, String::from_utf8(out).unwrap())
}

fn one_of_each() -> Vec<Record> {
    vec![
        set(1, b"v"),
        set(2, b"\xff\x00"),
        record(
            3,
            Body::Outcome(Outcome {
                key: Default::default(),
                of_sequence: 2,
                result: Some(Resolved::Rejected(Rejected {
                    reason: "WRONGTYPE no".to_owned(),
                })),
                ..Default::default()
            }),
        ),
        record(
            4,
            Body::Outcome(Outcome {
                key: Default::default(),
                of_sequence: 1,
                result: Some(Resolved::Unknown(Unknown {
                    reason: "script".to_owned(),
                    keys: vec![Bytes::from_static(b"\xfe")],
                })),
                ..Default::default()
            }),
        ),
        record(
            5,
            Body::Snapshot(Snapshot {
                key: Bytes::from_static(b"k"),
                value: Some(Bytes::from_static(b"\xc3\x28")),
                ..Default::default()
            }),
        ),
        record(6, Body::Heartbeat(Heartbeat::default())),
    ]
}

#[test]
fn tail_prints_lines_beside_a_writer() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(&journal, &one_of_each());
    let head = "2024-12-31T23:59:59.001Z us-east-1 sessions db2 000000000000abcd";
    let expected = format!(
        "0 {head}-1 mutation final SET \"a key\" v\n\
         1 {head}-2 mutation final SET \"a key\" \"\\xff\\x00\"\n\
         2 {head}-3 outcome of 2 rejected WRONGTYPE no\n\
         3 {head}-4 outcome of 1 unknown (script) \"\\xfe\"\n\
         4 {head}-5 snapshot k \"\\xc3(\"\n\
         5 {head}-6 heartbeat\n"
    );
    assert_eq!(tailed(directory.path(), TailOptions::default()), expected);
    let from = TailOptions {
        from: Some(5),
        ..TailOptions::default()
    };
    assert_eq!(tailed(directory.path(), from).lines().count(), 1);
    journal.close().unwrap();
    assert_eq!(tailed(directory.path(), TailOptions::default()), expected);
}

#[test]
fn tail_prints_json() {
    let directory = tempfile::tempdir().unwrap();
    append(&open(directory.path()), &one_of_each());
    let options = TailOptions {
        json: true,
        ..TailOptions::default()
    };
    let text = tailed(directory.path(), options);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["offset"], 0);
    assert_eq!(lines[0]["writer"], "000000000000abcd");
    assert_eq!(lines[0]["kind"], "mutation");
    assert_eq!(lines[0]["store"], "redis");
    let arguments = |line: usize| lines[line]["mutation"]["commands"][0]["arguments"].clone();
    assert_eq!(arguments(0), serde_json::json!(["SET", "a key", "v"]));
    let binary = serde_json::json!(["SET", "a key", {"base64": "/wA="}]);
    assert_eq!(arguments(1), binary);
    assert_eq!(lines[2]["outcome"]["rejected"]["reason"], "WRONGTYPE no");
    assert_eq!(lines[3]["outcome"]["unknown"]["keys"][0]["base64"], "/g==");
    assert_eq!(lines[4]["snapshot"]["key"], "k");
    assert_eq!(lines[4]["snapshot"]["value_base64"], "wyg=");
    assert_eq!(lines[5]["kind"], "heartbeat");
}

/// Passes lines on, and is gone after some.
struct Pipe {
    lines: mpsc::Sender<String>,
    left: usize,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            if self.left == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.left -= 1;
            let _ = self.lines.send(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn tail_follows_over_segments_and_ends_with_its_reader() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(&journal, &[set(1, b"v")]);
    let (lines, received) = mpsc::channel();
    let path = directory.path().to_owned();
    let follower = std::thread::spawn(move || {
        let options = TailOptions {
            follow: true,
            ..TailOptions::default()
        };
        tail(&path, &options, &mut Pipe { lines, left: 20 })
    });
    assert!(received.recv().unwrap().starts_with("0 "));
    for offset in 1..=20_u64 {
        append(&journal, &[set(offset + 1, &[b'v'; 600])]);
        if offset < 20 {
            assert!(received.recv().unwrap().starts_with(&format!("{offset} ")));
        }
    }
    follower.join().unwrap().unwrap();
}

#[test]
fn verify_finds_damage_and_loss() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    let records: Vec<_> = (1..=50)
        .map(|sequence| set(sequence, &[b'v'; 200]))
        .collect();
    append(&journal, &records);
    let (verdict, text) = verified(directory.path(), false);
    assert_eq!(verdict, Verdict::Fine);
    let bytes: usize = records.iter().map(Message::encoded_len).sum();
    let fine = format!("fine: 50 records of 1 writers, {bytes} bytes, offsets 0 to 49\n");
    assert_eq!(text, fine);
    journal.close().unwrap();

    // The second frame of the second segment.
    let path = directory.path().join("segment-0000000002.wal");
    let whole = fs::read(&path).unwrap();
    let length = u32::from_le_bytes(whole[72..76].try_into().unwrap()) as usize;
    let second = 64 + (28 + length).next_multiple_of(4);
    let mut bytes = whole.clone();
    bytes[second + 40] ^= 4;
    fs::write(&path, bytes).unwrap();
    let (verdict, text) = verified(directory.path(), false);
    assert_eq!(verdict, Verdict::Damaged);
    let damage = format!("{} byte {second}: records with offsets ", path.display());
    assert!(text.starts_with(&damage), "{text}");
    assert!(
        text.contains("records are lost\n2 problems: 49 records"),
        "{text}"
    );
    let error = tail(directory.path(), &TailOptions::default(), &mut io::sink()).unwrap_err();
    let damage = format!(
        "journal file {} is damaged at byte {second}: ",
        path.display()
    );
    assert!(error.to_string().starts_with(&damage), "{error}");
    fs::write(&path, whole).unwrap();

    // A sequence that is missing, and one that comes twice.
    let journal = open(directory.path());
    append(&journal, &[set(52, b"v"), set(52, b"v")]);
    let (verdict, text) = verified(directory.path(), true);
    assert_eq!(verdict, Verdict::Damaged);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    let reason = |line: usize| lines[line]["reason"].as_str().unwrap();
    assert!(
        reason(0).ends_with("51 was expected: records are lost"),
        "{text}"
    );
    assert!(
        reason(1).ends_with("53 was expected: it was there before"),
        "{text}"
    );
    assert_eq!(lines[2]["problems"], 2);
}

#[test]
fn stats_sum_up() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(
        &journal,
        &(1..=50).map(|n| set(n, &[b'v'; 200])).collect::<Vec<_>>(),
    );
    let mut out = Vec::new();
    stats(directory.path(), &StatsOptions { json: true }, &mut out).unwrap();
    let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(object["records"], 50);
    assert_eq!(object["next_offset"], 50);
    assert_eq!(object["closed"], false);
    let segments = object["segments"].as_array().unwrap();
    let sum: u64 = segments
        .iter()
        .map(|s| s["records"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 50);
    assert!(3 < segments.len());
    journal.close().unwrap();
    let mut out = Vec::new();
    stats(directory.path(), &StatsOptions::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("closed in order, opened 1 times"), "{text}");
}

#[test]
fn a_directory_without_journal_is_said_to_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let error = tail(directory.path(), &TailOptions::default(), &mut io::sink()).unwrap_err();
    let text = format!("read {}: there is no journal", directory.path().display());
    assert_eq!(error.to_string(), text);
}
