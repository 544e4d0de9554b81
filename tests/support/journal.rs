//! A sidecar's journal, read from its files beside or after the process.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use wal_sidecar::journal::local::inspect::{Step, Walk};
use wal_sidecar::mutation::{decode, v1};

/// All records from offset `from` on, and the offset that comes next. Every
/// frame is checked on the way, as `journal verify` does; damage fails the test.
pub fn read(directory: &Path, from: u64) -> (Vec<v1::Record>, u64) {
    let mut walk = Walk::open(directory, Some(from)).expect("the journal can be read");
    let (mut records, mut next) = (Vec::new(), from);
    loop {
        match walk.step().expect("the journal can be read") {
            Step::Record { offset, bytes, .. } => {
                assert_eq!(offset, next, "offsets are dense");
                next += 1;
                records.push(decode(Bytes::copy_from_slice(bytes)).expect("a record"));
            }
            Step::Damage(damage) => panic!("{damage}"),
            Step::End => return (records, next),
        }
    }
}

/// Fails unless every writer's sequences are 1, 2, 3 ... in the order of the
/// journal, `settled_through` stays below them and never goes back.
pub fn check_dense(records: &[v1::Record]) {
    let mut writers: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for record in records {
        let (last, settled) = writers.entry(record.writer).or_default();
        assert_eq!(
            record.sequence,
            *last + 1,
            "writer {:x} has a gap",
            record.writer
        );
        assert!(*settled <= record.settled_through && record.settled_through <= record.sequence);
        (*last, *settled) = (record.sequence, record.settled_through);
    }
}

/// The arguments of every command of every mutation.
pub fn arguments(records: &[v1::Record]) -> impl Iterator<Item = &[u8]> {
    mutations(records).flat_map(|command| command.arguments.iter().map(|a| &a[..]))
}

/// The commands of every mutation.
pub fn mutations(records: &[v1::Record]) -> impl Iterator<Item = &v1::Command> {
    records
        .iter()
        .filter_map(|record| match &record.body {
            Some(v1::record::Body::Mutation(mutation)) => Some(&mutation.commands),
            _ => None,
        })
        .flatten()
}
