//! `journal tail`, `verify` and `stats` on a Kafka topic.

use std::io::{self, Write};

use anyhow::Context;
use prost::Message as _;
use serde_json::json;

use super::sequences::Sequences;
use super::{Progress, StatsOptions, TailOptions, Verdict, VerifyOptions, render};
use crate::journal::KafkaOptions;
use crate::journal::kafka::inspect::{Message, Walk, summarize};
use crate::mutation::v1::Record;

/// Prints the records of a topic, each partition's in order. Ends without an
/// error when the reader of `out` goes away.
pub fn tail(
    topic: &KafkaOptions,
    partition: Option<u32>,
    options: &TailOptions,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut walk = Walk::open(topic, partition, options.from, options.follow)?;
    let mut out = io::BufWriter::new(out);
    loop {
        let Some(message) = walk.step()? else {
            out.flush()?;
            match options.follow {
                true => continue,
                false => return Ok(()),
            }
        };
        let record = decode(&message)?;
        let (partition, offset) = (message.partition(), message.offset());
        if options.json {
            let mut object = render::json(offset, &record);
            object["partition"] = json!(partition);
            serde_json::to_writer(&mut out, &object).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        } else {
            writeln!(out, "{partition}:{}", render::line(offset, &record))?;
        }
    }
}

fn decode(message: &Message) -> anyhow::Result<Record> {
    Record::decode(message.bytes()).with_context(|| {
        let (partition, offset) = (message.partition(), message.offset());
        format!("decode the record with offset {offset} of partition {partition}")
    })
}

/// Reads all of a topic: records that decode, in each partition in the order of
/// their sequences, and none missing that was acknowledged. Prints what is
/// wrong, then a line that sums up.
pub fn verify(
    topic: &KafkaOptions,
    options: &VerifyOptions,
    out: &mut dyn Write,
) -> anyhow::Result<Verdict> {
    let mut walk = Walk::open(topic, None, None, false)?;
    let partitions = walk.partitions().count();
    let removed: Vec<bool> = walk.partitions().map(|one| 0 < one.first).collect();
    let mut sequences = Sequences::new(removed);
    let mut progress = Progress::new();
    let (mut records, mut bytes, mut problems) = (0_u64, 0_u64, 0_u64);
    let mut tell = |out: &mut dyn Write, kind: &str, place: Option<(u32, u64)>, reason: String| {
        problems += 1;
        print_problem(out, options.json, kind, place, &reason)
    };
    while let Some(message) = walk.step()? {
        records += 1;
        bytes += message.bytes().len() as u64;
        let place = (message.partition(), message.offset());
        match Record::decode(message.bytes()) {
            Err(error) => tell(out, "record", Some(place), format!("not a record: {error}"))?,
            Ok(record) => {
                if let Err(reason) = sequences.note(place.0, &record, message.has_key()) {
                    tell(out, "order", Some(place), reason)?;
                }
            }
        }
        progress.tell(records, || format!("{} records", walk.left()));
    }
    progress.clear();
    let found = sequences.finish();
    for lost in &found.lost {
        tell(out, "lost", None, lost.to_string())?;
    }
    if options.json {
        let summary = json!({
            "kind": "summary",
            "records": records,
            "bytes": bytes,
            "partitions": partitions,
            "writers": found.writers,
            "copies": found.copies,
            "unacknowledged": found.unacknowledged,
            "unfinished": found.unfinished,
            "problems": problems,
        });
        writeln!(out, "{summary}")?;
    } else {
        let verdict = match problems {
            0 => "fine".to_owned(),
            problems => format!("{problems} problems"),
        };
        writeln!(
            out,
            "{verdict}: {records} records of {} writers in {partitions} partitions, {bytes} bytes; \
             {} copies, {} sequences not acknowledged, {} unfinished",
            found.writers, found.copies, found.unacknowledged, found.unfinished
        )?;
    }
    Ok(match problems {
        0 => Verdict::Fine,
        _ => Verdict::Damaged,
    })
}

fn print_problem(
    out: &mut dyn Write,
    json: bool,
    kind: &str,
    place: Option<(u32, u64)>,
    reason: &str,
) -> anyhow::Result<()> {
    if json {
        let mut problem = json!({"kind": kind, "reason": reason});
        if let Some((partition, offset)) = place {
            problem["partition"] = json!(partition);
            problem["offset"] = json!(offset);
        }
        writeln!(out, "{problem}")?;
        return Ok(());
    }
    match place {
        Some((partition, offset)) => {
            writeln!(out, "partition {partition} offset {offset}: {reason}")?;
        }
        None => writeln!(out, "{reason}")?,
    }
    Ok(())
}

/// Prints what the brokers say of a topic.
pub fn stats(
    topic: &KafkaOptions,
    options: &StatsOptions,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let summary = summarize(topic)?;
    let records: u64 = summary
        .partitions
        .iter()
        .map(|one| one.next - one.first)
        .sum();
    let setting = |name: &str| summary.configuration.get(name).cloned();
    let (retention, in_sync) = (setting("retention.ms"), setting("min.insync.replicas"));
    if options.json {
        let partitions = summary.partitions.iter().map(|one| {
            json!({
                "partition": one.number,
                "first_offset": one.first,
                "next_offset": one.next,
                "leader": one.leader,
                "replicas": one.replicas,
                "in_sync": one.in_sync,
            })
        });
        let object = json!({
            "topic": topic.topic,
            "records": records,
            "retention_ms": retention,
            "min_insync_replicas": in_sync,
            "partitions": partitions.collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    let unknown = || "unknown".to_owned();
    writeln!(out, "topic       {} at {}", topic.topic, topic.brokers)?;
    writeln!(out, "records     {records}")?;
    writeln!(
        out,
        "settings    retention.ms {}, min.insync.replicas {}",
        retention.unwrap_or_else(unknown),
        in_sync.unwrap_or_else(unknown)
    )?;
    for one in &summary.partitions {
        let leader = one
            .leader
            .map_or_else(|| "nobody".to_owned(), |id| id.to_string());
        writeln!(
            out,
            "partition {}  offsets {} up to {}  led by {leader}, in sync {} of {}",
            one.number,
            one.first,
            one.next,
            one.in_sync.len(),
            one.replicas.len()
        )?;
    }
    Ok(())
}
