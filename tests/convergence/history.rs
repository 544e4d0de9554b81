//! What the journals have about a key, in full: so that a difference can be
//! understood.

use std::collections::HashSet;
use std::fmt::Write as _;

use wal_sidecar::mutation::clock::milliseconds;
use wal_sidecar::mutation::v1;
use wal_sidecar::mutation::v1::record::Body;

use super::support::{Sidecar, journal, topic};
use super::world::{Region, World, topic};

/// What is true of a key that these name is true of the others they name.
const TOGETHER: [&[u8]; 10] = [
    b"RENAME",
    b"RENAMENX",
    b"COPY",
    b"SMOVE",
    b"LMOVE",
    b"SUNIONSTORE",
    b"SDIFFSTORE",
    b"ZUNIONSTORE",
    b"MSETNX",
    b"MSET",
];

/// What happened to others so long before and after the two were named together.
const AROUND_MS: u64 = 700;

/// A record, and where it is.
struct Placed {
    partition: usize,
    offset: usize,
    record: v1::Record,
}

fn read(world: &World, region: &Region) -> Vec<Placed> {
    if let Some(kafka) = &world.kafka {
        let topic = topic(&region.name);
        let partitions = topic::read(&kafka.bootstrap(), &topic);
        let placed = |(partition, entries): (usize, Vec<topic::Entry>)| {
            let entries = entries.into_iter().enumerate();
            entries.map(move |(offset, entry)| Placed {
                partition,
                offset,
                record: entry.record,
            })
        };
        return partitions
            .into_iter()
            .enumerate()
            .flat_map(placed)
            .collect();
    }
    let sidecars = region.sidecars.iter().enumerate();
    let placed = |(index, sidecar): (usize, &Sidecar)| {
        let (records, _) = journal::read(&sidecar.journal().join("test"), 0);
        let records = records.into_iter().enumerate();
        records.map(move |(offset, record)| Placed {
            partition: index,
            offset,
            record,
        })
    };
    sidecars.flat_map(placed).collect()
}

fn commands(record: &v1::Record) -> &[v1::Command] {
    match &record.body {
        Some(Body::Mutation(one)) => &one.commands,
        Some(Body::Outcome(one)) => match &one.result {
            Some(v1::outcome::Result::Effects(effects)) => &effects.commands,
            _ => &[],
        },
        _ => &[],
    }
}

/// All that the regions' journals have about a key and those it depends on.
pub fn of(world: &World, key: &str) -> String {
    let journals: Vec<Vec<Placed>> = world.regions.iter().map(|one| read(world, one)).collect();
    let mut times = Vec::new();
    let mut keys: HashSet<Vec<u8>> = HashSet::from([key.as_bytes().to_vec()]);
    for placed in journals.iter().flatten() {
        for command in commands(&placed.record) {
            let is_one = command.arguments.iter().any(|one| one == key.as_bytes());
            if is_one && TOGETHER.contains(&&command.arguments[0][..]) {
                let others = command.arguments[1..].iter();
                let others = others.filter(|one| one.contains(&b':'));
                keys.extend(others.map(|one| one.to_vec()));
                let at = milliseconds(placed.record.hlc);
                times.push(at.saturating_sub(AROUND_MS)..at + AROUND_MS);
            }
        }
    }
    let mut text = String::new();
    for (region, records) in world.regions.iter().zip(&journals) {
        let mut known = HashSet::new();
        for Placed {
            partition,
            offset,
            record,
        } in records
        {
            let is_time = times
                .iter()
                .any(|time| time.contains(&milliseconds(record.hlc)));
            // Of those that everybody writes to there would be too much.
            let is_it = |one: &[u8]| {
                one == key.as_bytes() || keys.contains(one) && (is_time || one.len() > "s:0".len())
            };
            let is_about = match &record.body {
                Some(Body::Mutation(_)) => commands(record)
                    .iter()
                    .flat_map(|one| &one.arguments)
                    .any(|one| is_it(one)),
                Some(Body::Outcome(one)) => known.contains(&(record.writer, one.of_sequence)),
                Some(Body::Snapshot(one)) => is_it(&one.key),
                _ => false,
            };
            if is_about {
                known.insert((record.writer, record.sequence));
                let place = format!("{} {partition}@{offset}", region.name);
                writeln!(text, "  {place} {}", line(record)).expect("memory");
            }
        }
    }
    text
}

fn line(record: &v1::Record) -> String {
    let all: Vec<String> = commands(record).iter().map(words).collect();
    let body = match &record.body {
        Some(Body::Mutation(one)) if one.r#final => format!("final {}", all.join("; ")),
        Some(Body::Mutation(_)) => format!("intent {}", all.join("; ")),
        Some(Body::Outcome(one)) => {
            let of = one.of_sequence;
            match &one.result {
                Some(v1::outcome::Result::Effects(_)) => {
                    format!("outcome of {of}: {}", all.join("; "))
                }
                other => format!("outcome of {of}: {other:?}"),
            }
        }
        Some(Body::Snapshot(one)) => {
            let applied = one.applied.iter();
            let applied = applied.map(|one| format!("{}<{}", one.region, one.next_offset));
            format!(
                "snapshot {} {} expires {} content {} of {:04x} written {} includes {}",
                one.key.escape_ascii(),
                one.value.as_ref().map_or("absent".to_owned(), |value| {
                    value.escape_ascii().to_string()
                }),
                one.expires_at,
                clock(one.content_hlc),
                one.content_writer >> 48,
                clock(one.written_hlc),
                applied.collect::<Vec<_>>().join(" ")
            )
        }
        other => format!("{other:?}"),
    };
    format!(
        "{} {:04x}-{} settled {} {body}",
        clock(record.hlc),
        record.writer >> 48,
        record.sequence,
        record.settled_through
    )
}

/// Seconds within the hour, milliseconds, counter.
fn clock(hlc: u64) -> String {
    let ms = (hlc >> 16) % 3_600_000;
    format!("{}.{:03}+{}", ms / 1000, ms % 1000, hlc & 0xffff)
}

fn words(command: &v1::Command) -> String {
    let words = command.arguments.iter();
    let words: Vec<String> = words.map(|one| one.escape_ascii().to_string()).collect();
    words.join(" ")
}
