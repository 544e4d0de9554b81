//! A topic, read to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wal_sidecar::mutation::v1::record::Body;
use wal_sidecar::mutation::{decode, v1};

use super::wait::until;

/// However slow the machine, a topic is read in this time.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
const METADATA: Duration = Duration::from_secs(5);

/// One message of the topic.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Option<Vec<u8>>,
    pub record: v1::Record,
}

/// What each partition holds now, in order.
pub fn read(bootstrap: &str, topic: &str) -> Vec<Vec<Entry>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .expect("a valid configuration");
    let count = until("the topic's partitions", DEADLINE, || {
        let metadata = consumer.fetch_metadata(Some(topic), METADATA).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let led = partitions.iter().all(|one| 0 <= one.leader());
        (led && !partitions.is_empty()).then_some(partitions.len())
    });
    let mut all = TopicPartitionList::new();
    for partition in 0..count {
        all.add_partition_offset(topic, partition as i32, Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&all).expect("assign");
    let mut found: Vec<Vec<Entry>> = vec![Vec::new(); count];
    let mut ended = BTreeSet::new();
    let end = Instant::now() + DEADLINE;
    while ended.len() < count {
        assert!(Instant::now() < end, "waited in vain for the topic's end");
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let payload = message.payload().expect("every message has a record");
                let record = decode(Bytes::copy_from_slice(payload)).expect("a record");
                found[message.partition() as usize].push(Entry {
                    key: message.key().map(<[u8]>::to_vec),
                    record,
                });
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            // A broker may be away: another has the records.
            Some(Err(_)) | None => {}
        }
    }
    // Can block without end where a broker does not answer.
    std::thread::spawn(move || drop(consumer));
    found
}

/// What a reader has of the topic that drops copies, in each partition.
pub fn deduplicated(partitions: &[Vec<Entry>]) -> Vec<Vec<&Entry>> {
    let first = |partition: &'_ Vec<Entry>| {
        let mut seen = BTreeSet::new();
        let is_new = |entry: &usize| {
            let record = &partition[*entry].record;
            seen.insert((record.writer, record.sequence))
        };
        (0..partition.len()).filter(is_new).collect::<Vec<_>>()
    };
    partitions
        .iter()
        .map(|partition| {
            first(partition)
                .into_iter()
                .map(|i| &partition[i])
                .collect()
        })
        .collect()
}

/// Fails unless each writer's sequences ascend in each partition, all copies
/// dropped, and all up to the greatest `settled_through` are there or declared.
/// Returns how many copies there were.
pub fn check(partitions: &[Vec<Entry>]) -> usize {
    let kept = deduplicated(partitions);
    let mut writers: BTreeMap<u64, (BTreeSet<u64>, u64)> = BTreeMap::new();
    for (partition, entries) in kept.iter().enumerate() {
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for entry in entries {
            let record = &entry.record;
            let last = last.entry(record.writer).or_default();
            assert!(
                *last < record.sequence,
                "partition {partition}: {} after {last}",
                record.sequence
            );
            *last = record.sequence;
            let (known, settled) = writers.entry(record.writer).or_default();
            known.insert(record.sequence);
            *settled = (*settled).max(record.settled_through);
            if let Some(Body::Heartbeat(heartbeat)) = &record.body {
                for range in &heartbeat.unacknowledged {
                    known.extend(range.first..=range.last);
                }
            }
        }
    }
    for (writer, (known, settled)) in &writers {
        let missing: Vec<u64> = (1..=*settled).filter(|s| !known.contains(s)).collect();
        assert!(missing.is_empty(), "writer {writer:x} misses {missing:?}");
    }
    let all: usize = partitions.iter().map(Vec::len).sum();
    all - kept.iter().map(Vec::len).sum::<usize>()
}
