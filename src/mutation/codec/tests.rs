use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::decode;
use crate::mutation::v1::{self, record::Body};
use crate::mutation::{
    MutationParts, Outcome, RecordBatch, RecordKind, Way, Writer, WriterOptions,
};

fn writer(region: &str, namespace: &str, store: v1::Store, writer: u64) -> Writer {
    Writer::new(WriterOptions {
        region: region.to_owned(),
        namespace: namespace.to_owned(),
        store,
        writer,
    })
}

fn slices(bytes: &[Vec<u8>]) -> Vec<&[u8]> {
    bytes.iter().map(|bytes| &bytes[..]).collect()
}

/// The only record of a batch, decoded; what prost makes of it again is the
/// same to the byte.
fn check_single(out: &RecordBatch, kind: RecordKind, first_key: &[u8]) -> v1::Record {
    let records: Vec<_> = out.records().collect();
    let [(entry, bytes)] = records[..] else {
        panic!("{} records", records.len());
    };
    let record = decode(Bytes::copy_from_slice(bytes)).expect("encoded by the writer");
    assert_eq!(record.encode_to_vec(), bytes);
    assert_eq!(entry.kind, kind);
    assert_eq!(entry.sequence, record.sequence);
    assert_eq!(&out.bytes[entry.key.0..entry.key.1], first_key);
    record
}

fn lists() -> impl Strategy<Value = Vec<Vec<u8>>> {
    // Long enough for lengths of one, two and three bytes.
    let argument = prop_oneof![
        4 => vec(any::<u8>(), 0..20),
        1 => vec(any::<u8>(), 120..140),
        1 => Just(vec![b'x'; 16_390]),
    ];
    vec(argument, 0..6)
}

fn owned(list: Vec<Vec<u8>>) -> Vec<Bytes> {
    list.into_iter().map(Bytes::from).collect()
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let commands = || vec(lists().prop_map(owned), 0..4);
    prop_oneof![
        commands().prop_map(Outcome::Effects),
        (commands(), lists()).prop_map(|(effects, keys)| Outcome::Partial {
            effects,
            unknown_keys: owned(keys)
        }),
        ".{0,150}".prop_map(Outcome::Rejected),
        lists().prop_map(|keys| Outcome::Unknown {
            reason: "why",
            keys: owned(keys)
        }),
        Just(Outcome::Unknown {
            reason: "",
            keys: Vec::new()
        }),
    ]
}

fn writers() -> impl Strategy<Value = Writer> {
    let stores = prop_oneof![
        Just(v1::Store::Unspecified),
        Just(v1::Store::Redis),
        Just(v1::Store::Memcached)
    ];
    (".{0,9}", ".{0,9}", stores, any::<u64>())
        .prop_map(|(region, namespace, store, id)| writer(&region, &namespace, store, id))
}

proptest! {
    #[test]
    fn mutations_are_what_prost_writes(
        mut writer in writers(),
        commands in vec(lists(), 0..4),
        keys in lists(),
        is_final: bool,
        link: u32,
        waits: bool,
        database: u32,
        now_ms in 0..1u64 << 48,
    ) {
        writer.via(Way { link, waits });
        let arguments: Vec<Vec<&[u8]>> = commands.iter().map(|list| slices(list)).collect();
        let arguments: Vec<&[&[u8]]> = arguments.iter().map(|list| &list[..]).collect();
        let parts = MutationParts { commands: &arguments, keys: &slices(&keys), is_final };
        let mut out = RecordBatch::default();
        writer.mutation(&mut out, now_ms, database, &parts);
        let first_key = keys.first().cloned().unwrap_or_default();
        let record = check_single(&out, RecordKind::Mutation, &first_key);
        prop_assert_eq!(record.database, database);
        prop_assert_eq!(record.writer, writer.id());
        let Some(Body::Mutation(mutation)) = record.body else { panic!("no mutation") };
        prop_assert_eq!(mutation.r#final, is_final);
        prop_assert_eq!(mutation.link, link);
        prop_assert_eq!(mutation.waits, waits && !is_final);
        prop_assert_eq!(mutation.keys, owned(keys));
        let decoded: Vec<Vec<Bytes>> =
            mutation.commands.into_iter().map(|command| command.arguments).collect();
        let expected: Vec<Vec<Bytes>> = commands.into_iter().map(owned).collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn outcomes_are_what_prost_writes(
        mut writer in writers(),
        outcome in outcomes(),
        key in vec(any::<u8>(), 0..150),
        waits: bool,
        now_ms in 0..1u64 << 48,
    ) {
        let mut out = RecordBatch::default();
        writer.via(Way { link: 0, waits });
        let parts = MutationParts { commands: &[], keys: &[], is_final: false };
        let of_sequence = writer.mutation(&mut out, now_ms, 0, &parts);
        out.clear();
        writer.acknowledge(of_sequence);
        writer.outcome(&mut out, now_ms, 0, of_sequence, &key, &outcome);
        let record = check_single(&out, RecordKind::Outcome, &key);
        prop_assert_eq!(record.settled_through, 1);
        let Some(Body::Outcome(decoded)) = record.body else { panic!("no outcome") };
        prop_assert_eq!(decoded.of_sequence, of_sequence);
        prop_assert_eq!(decoded.waited, waits);
        prop_assert_eq!(&decoded.key[..], &key[..]);
        let list = |commands: Vec<v1::Command>| -> Vec<Vec<Bytes>> {
            commands.into_iter().map(|command| command.arguments).collect()
        };
        let decoded = match decoded.result.expect("always written") {
            v1::outcome::Result::Effects(effects) if matches!(outcome, Outcome::Partial { .. }) =>
                Outcome::Partial {
                    effects: list(effects.commands),
                    unknown_keys: effects.unknown_keys,
                },
            v1::outcome::Result::Effects(effects) => Outcome::Effects(list(effects.commands)),
            v1::outcome::Result::Rejected(rejected) => Outcome::Rejected(rejected.reason),
            v1::outcome::Result::Unknown(unknown) => Outcome::Unknown {
                reason: if unknown.reason.is_empty() { "" } else { "why" },
                keys: unknown.keys,
            },
        };
        prop_assert_eq!(decoded, outcome);
    }

    #[test]
    fn snapshots_are_what_prost_writes(
        mut writer in writers(),
        key in vec(any::<u8>(), 0..150),
        value in proptest::option::of(vec(any::<u8>(), 0..150)),
        expires_at_ms: i64,
    ) {
        let mut out = RecordBatch::default();
        let expected = v1::Snapshot {
            key: key.clone().into(),
            value: value.map(Bytes::from),
            expires_at: expires_at_ms,
            ..Default::default()
        };
        writer.snapshot(&mut out, 1, 3, &expected);
        let record = check_single(&out, RecordKind::Snapshot, &key);
        prop_assert_eq!(record.body, Some(Body::Snapshot(expected)));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(Bytes::from(bytes));
    }
}

#[test]
fn sequences_are_dense_and_settled_through_covers_no_open_or_unacknowledged_one() {
    let mut writer = writer("r", "n", v1::Store::Redis, 1);
    let mut out = RecordBatch::default();
    let parts = MutationParts {
        commands: &[],
        keys: &[],
        is_final: true,
    };
    assert_eq!(writer.mutation(&mut out, 5, 0, &parts), 1);
    assert_eq!(writer.mutation(&mut out, 5, 0, &parts), 2);
    assert_eq!(writer.heartbeat(&mut out, 4, &[]), 3);
    writer.settle(2);
    assert_eq!(writer.heartbeat(&mut out, 6, &[]), 4);
    writer.acknowledge(4);
    assert_eq!(writer.settled_through(), 0);
    let rejected = Outcome::Rejected(String::new());
    assert_eq!(writer.outcome(&mut out, 6, 0, 1, b"", &rejected), 5);
    assert_eq!(writer.settled_through(), 4);
    writer.acknowledge(5);
    assert_eq!(writer.settled_through(), 5);
    assert_eq!(writer.last_sequence(), 5);

    let records: Vec<v1::Record> = out
        .records()
        .map(|(_, bytes)| decode(Bytes::copy_from_slice(bytes)).expect("encoded by the writer"))
        .collect();
    let found: Vec<_> = records
        .iter()
        .map(|record| (record.sequence, record.settled_through, record.hlc))
        .collect();
    let hlc = |milliseconds: u64, counter: u64| milliseconds << 16 | counter;
    let expected = [
        (1, 0, hlc(5, 0)),
        (2, 0, hlc(5, 1)),
        (3, 0, hlc(5, 2)),
        (4, 0, hlc(6, 0)),
        (5, 4, hlc(6, 1)),
    ];
    assert_eq!(found, expected);
    let heartbeat = records[2].body.as_ref();
    assert_eq!(heartbeat, Some(&Body::Heartbeat(v1::Heartbeat::default())));
}

/// The bytes other programs read. A change here is a change of the format.
#[test]
fn the_bytes_of_version_1() {
    let mut writer = writer("eu", "ns", v1::Store::Redis, 0x0102030405060708);
    let mut out = RecordBatch::default();
    let parts = MutationParts {
        commands: &[&[b"SET", b"k", b"v"]],
        keys: &[b"k"],
        is_final: true,
    };
    writer.mutation(&mut out, 1_000, 3, &parts);
    writer.acknowledge(1);
    let effects = Outcome::Partial {
        effects: vec![vec![Bytes::from("DEL"), Bytes::from("k")]],
        unknown_keys: vec![Bytes::from("u")],
    };
    writer.outcome(&mut out, 1_000, 3, 1, b"k", &effects);
    let snapshot = v1::Snapshot {
        key: Bytes::from("k"),
        value: Some(Bytes::new()),
        expires_at: 300,
        ..Default::default()
    };
    writer.snapshot(&mut out, 1_001, 3, &snapshot);
    writer.heartbeat(&mut out, 1_001, &[(2, 3)]);
    let found: Vec<String> = out
        .records()
        .map(|(_, bytes)| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let expected = [
        // hlc, region, writer, sequence, namespace, store, database, then the mutation
        "090000e80300000000".to_owned()
            + "12026575"
            + "190807060504030201"
            + "2001"
            + "2a026e73"
            + "3001"
            + "3803"
            + "4a12"
            + "0a0b"
            + "0a03534554"
            + "0a016b"
            + "0a0176"
            + "12016b"
            + "1801",
        // settled_through 1 comes before the outcome
        "090100e80300000000".to_owned()
            + "12026575"
            + "190807060504030201"
            + "2002"
            + "2a026e73"
            + "3001"
            + "3803"
            + "4001"
            + "5214"
            + "0801"
            + "120d"
            + "0a08"
            + "0a0344454c"
            + "0a016b"
            + "120175"
            + "2a016b",
        "090000e90300000000".to_owned()
            + "12026575"
            + "190807060504030201"
            + "2003"
            + "2a026e73"
            + "3001"
            + "3803"
            + "4001"
            + "5a08"
            + "0a016b"
            + "1200"
            + "18ac02",
        "090100e90300000000".to_owned()
            + "12026575"
            + "190807060504030201"
            + "2004"
            + "2a026e73"
            + "3001"
            + "4001"
            + "6206"
            + "0a04"
            + "0802"
            + "1003",
    ];
    assert_eq!(found, expected);
}
