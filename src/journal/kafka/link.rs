//! Sends records, once the brokers have been reached.

use std::fmt::Write as _;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};

use super::context::Reports;
use super::hand_over::pack;
use crate::mutation::{RecordBatch, RecordEntry, RecordKind};

/// A producer, and what its topic is like.
pub(super) struct Link {
    pub(super) producer: BaseProducer<Reports>,
    pub(super) partitions: u32,
    /// A message can't be longer, in bytes.
    pub(super) message_bytes_max: usize,
}

/// What became of sending a hand-over.
pub(super) struct Sent {
    /// Messages on their way: each will be reported.
    pub(super) messages: usize,
    /// Records, from the first, all of whose messages are.
    pub(super) records: usize,
    /// Why that is not all of them.
    pub(super) error: Option<String>,
}

impl Link {
    /// How many messages a hand-over is: a record without a key goes into each
    /// partition.
    pub(super) fn messages_of(&self, batch: &RecordBatch) -> usize {
        let of = |entry: &RecordEntry| match is_keyless(entry) {
            true => self.partitions as usize,
            false => 1,
        };
        batch.entries.iter().map(of).sum()
    }

    /// Sends the records of a hand-over; never blocks.
    pub(super) fn send(
        &self,
        topic: &str,
        headers: &[(String, String)],
        slot: usize,
        batch: &RecordBatch,
    ) -> Sent {
        let region = headers.iter().find(|(key, _)| key == "region");
        let region = region.map_or("", |(_, region)| region);
        let mut version = String::new();
        let mut sent = Sent {
            messages: 0,
            records: 0,
            error: None,
        };
        for (entry, bytes) in batch.records() {
            version.clear();
            let (hlc, writer, sequence) = (entry.hlc, batch.writer, entry.sequence);
            write!(version, "{hlc:016x}-{region}-{writer:016x}-{sequence}")
                .expect("memory takes any text");
            let headers = headers_of(headers, entry.kind, &version);
            let key = &batch.bytes[entry.key.0..entry.key.1];
            let copies = match is_keyless(entry) {
                true => self.partitions,
                false => 1,
            };
            for partition in 0..copies {
                let mut record: BaseRecord<'_, [u8], [u8], usize> =
                    BaseRecord::with_opaque_to(topic, pack(slot, sent.records))
                        .payload(bytes)
                        .headers(headers.clone());
                record = match is_keyless(entry) {
                    true => record.partition(partition as i32),
                    false => record.key(key),
                };
                if let Err((error, _)) = self.producer.send(record) {
                    sent.error = Some(error.to_string());
                    return sent;
                }
                sent.messages += 1;
            }
            sent.records += 1;
        }
        sent
    }
}

pub(super) fn is_keyless(entry: &RecordEntry) -> bool {
    entry.key.0 == entry.key.1
}

fn headers_of(fixed: &[(String, String)], kind: RecordKind, version: &str) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(fixed.len() + 2);
    for (key, value) in fixed {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    let kind = match kind {
        RecordKind::Mutation => "mutation",
        RecordKind::Outcome => "outcome",
        RecordKind::Snapshot => "snapshot",
        RecordKind::Heartbeat => "heartbeat",
    };
    let kind = Header {
        key: "kind",
        value: Some(kind),
    };
    let version = Header {
        key: "version",
        value: Some(version),
    };
    headers.insert(kind).insert(version)
}
