//! The spool in front of a cluster that goes away and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use wal_sidecar::journal::{
    Appender, Completion, First, KafkaOptions, LocalOptions, SpoolJournal, SpoolOptions,
};
use wal_sidecar::mutation::{MutationParts, RecordBatch, Writer, WriterOptions, decode, v1};

const TOPIC: &str = "wal";
const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a record waits for Kafka in these tests.
const PATIENCE: Duration = Duration::from_millis(300);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic(TOPIC, PARTITIONS, 1).expect("a topic");
    cluster
}

fn open(cluster: &Cluster, directory: &Path, first: First) -> SpoolJournal {
    SpoolJournal::open(SpoolOptions {
        local: LocalOptions {
            segment_bytes: 1 << 16,
            retention_bytes: Some(1 << 16),
            ..LocalOptions::new(directory)
        },
        kafka: KafkaOptions {
            timeout: Duration::from_secs(2),
            // A mock does not describe a topic, which is waited for.
            start_timeout: Duration::from_secs(4),
            ..KafkaOptions::new(cluster.bootstrap_servers(), TOPIC)
        },
        first,
        patience: PATIENCE,
    })
    .expect("it opens")
}

/// A worker: hands over records of its writer.
struct Worker {
    appender: Appender,
    writer: Writer,
    next_key: u64,
}

impl Worker {
    fn new(journal: &SpoolJournal, id: u64) -> Worker {
        Worker {
            appender: journal.appender(),
            writer: Writer::new(WriterOptions {
                region: "r".to_owned(),
                namespace: "n".to_owned(),
                store: v1::Store::Redis,
                writer: id,
            }),
            next_key: 0,
        }
    }

    /// Hands over so many records, each a hand-over of its own, of a few keys.
    fn submit(&mut self, count: u64) {
        for _ in 0..count {
            let mut batch = RecordBatch::default();
            let key = format!("key {}", self.next_key % 10);
            let value = "x".repeat(100);
            self.next_key += 1;
            let parts = MutationParts {
                commands: &[&[b"SET", key.as_bytes(), value.as_bytes()]],
                keys: &[key.as_bytes()],
                is_final: true,
            };
            self.writer.mutation(&mut batch, 1_000, 0, &parts);
            self.appender.submit(batch);
        }
    }

    fn wait(&mut self, count: u64) -> Vec<Completion> {
        let mut done = Vec::new();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap().block_on(async {
            while (done.len() as u64) < count {
                let polled = poll_fn(|cx| self.appender.poll_completions(cx, &mut done));
                let polled = tokio::time::timeout(DEADLINE, polled).await;
                polled.expect("it completes");
            }
        });
        done
    }

    /// Hands over so many records and waits until each is durable.
    fn append(&mut self, count: u64) {
        self.submit(count);
        for completion in self.wait(count) {
            completion.result.expect("it is durable");
        }
    }
}

/// The sequences in the topic, by writer and partition, in order.
fn read(cluster: &Cluster, wanted: usize) -> BTreeMap<(u64, i32), Vec<u64>> {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&all).expect("assign");
    let mut found: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    let mut distinct = BTreeSet::new();
    let deadline = Instant::now() + DEADLINE;
    while distinct.len() < wanted && Instant::now() < deadline {
        let Some(Ok(message)) = consumer.poll(PATIENCE) else {
            continue;
        };
        let bytes = bytes::Bytes::copy_from_slice(message.payload().expect("a value"));
        let record = decode(bytes).expect("a record");
        distinct.insert((record.writer, record.sequence));
        let place = (record.writer, message.partition());
        found.entry(place).or_default().push(record.sequence);
    }
    found
}

/// Every sequence is there, and in each partition in order where it is there
/// for the first time. Returns how many copies there were.
fn check(cluster: &Cluster, writers: &[(u64, u64)]) -> usize {
    let wanted: u64 = writers.iter().map(|(_, count)| count).sum();
    let found = read(cluster, wanted as usize);
    let mut copies = 0;
    for (writer, count) in writers {
        let mut all = BTreeSet::new();
        for ((_, partition), sequences) in found.iter().filter(|((w, _), _)| w == writer) {
            let mut last = 0;
            for sequence in sequences {
                if !all.insert(*sequence) {
                    copies += 1;
                    continue;
                }
                assert!(
                    last < *sequence,
                    "partition {partition}: {sequence} after {last}"
                );
                last = *sequence;
            }
        }
        assert_eq!(all, (1..=*count).collect(), "of writer {writer}");
    }
    copies
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn spooled(journal: &SpoolJournal) -> u64 {
    journal.stats().spool.expect("a spool").records
}

#[test]
fn an_outage_is_not_noticed_and_the_backlog_drains() {
    let cluster = cluster();
    let directory = tempfile::tempdir().expect("a directory");
    let journal = open(&cluster, directory.path(), First::Local);
    let (mut one, mut two) = (Worker::new(&journal, 1), Worker::new(&journal, 2));
    one.append(100);
    cluster.broker_down(1).expect("down");
    let started = Instant::now();
    one.append(500);
    two.append(500);
    assert!(started.elapsed() < DEADLINE / 2);
    let stats = journal.stats().spool.expect("a spool");
    assert!(1000 <= stats.records && 100_000 <= stats.bytes, "{stats:?}");
    assert!(stats.active && stats.disk_left_bytes.is_some());
    cluster.broker_up(1).expect("up");
    one.append(100);
    until("the backlog drains", || spooled(&journal) == 0);
    let copies = check(&cluster, &[(1, 700), (2, 500)]);
    println!("{copies} copies");
    journal.close().expect("it closes");
}

#[test]
fn what_was_not_shipped_is_shipped_after_the_next_start() {
    let cluster = cluster();
    let directory = tempfile::tempdir().expect("a directory");
    {
        let journal = open(&cluster, directory.path(), First::Local);
        let mut worker = Worker::new(&journal, 1);
        worker.append(200);
        until("it is shipped", || spooled(&journal) == 0);
        cluster.broker_down(1).expect("down");
        // More than retention would keep.
        worker.append(2_000);
        journal.close().expect("it closes");
    }
    let journal = open(&cluster, directory.path(), First::Local);
    assert!(1_900 <= spooled(&journal), "{}", spooled(&journal));
    let mut worker = Worker::new(&journal, 2);
    worker.append(100);
    cluster.broker_up(1).expect("up");
    until("the backlog drains", || spooled(&journal) == 0);
    check(&cluster, &[(1, 2_200), (2, 100)]);
    journal.close().expect("it closes");
}

#[test]
fn as_a_fallback_it_takes_over_and_gives_back() {
    let cluster = cluster();
    let directory = tempfile::tempdir().expect("a directory");
    let journal = open(&cluster, directory.path(), First::Kafka);
    let (mut one, mut two) = (Worker::new(&journal, 1), Worker::new(&journal, 2));
    let spool = || journal.stats().spool.expect("a spool");
    one.append(100);
    assert_eq!(journal.stats().records, 100);
    assert!(!spool().active, "{:?}", spool());
    let mut count = 100;
    for outage in 1..=3 {
        // Records are on their way when the broker goes.
        one.submit(50);
        two.submit(50);
        cluster.broker_down(1).expect("down");
        one.submit(50);
        two.submit(50);
        for worker in [&mut one, &mut two] {
            for completion in worker.wait(100) {
                completion.result.expect("it is durable");
            }
            let started = Instant::now();
            worker.append(20);
            assert!(started.elapsed() < 3 * PATIENCE, "it has to wait only once");
        }
        assert!(spool().active);
        assert_eq!(spool().diversions, outage);
        cluster.broker_up(1).expect("up");
        until("it gives back", || !spool().active);
        count += 120;
        one.append(10);
        two.append(10);
        count += 10;
        assert!(!spool().active);
    }
    let copies = check(&cluster, &[(1, count), (2, count - 100)]);
    println!("{copies} copies");
    assert_eq!(journal.stats().records, 2 * count - 100);
    journal.close().expect("it closes");
}

#[test]
fn a_slow_broker_is_not_waited_for_longer_than_it_may_take() {
    let cluster = cluster();
    let directory = tempfile::tempdir().expect("a directory");
    let journal = open(&cluster, directory.path(), First::Kafka);
    let mut worker = Worker::new(&journal, 1);
    worker.append(10);
    cluster
        .broker_round_trip_time(1, 4 * PATIENCE)
        .expect("slow");
    let started = Instant::now();
    worker.append(10);
    let took = started.elapsed();
    assert!(PATIENCE <= took && took < 3 * PATIENCE, "it took {took:?}");
    cluster
        .broker_round_trip_time(1, Duration::ZERO)
        .expect("fast");
    let spool = || journal.stats().spool.expect("a spool");
    until("it gives back", || !spool().active);
    // What was on its way arrived, and then its copies.
    let copies = check(&cluster, &[(1, 20)]);
    assert!(copies <= 10, "{copies} copies");
    journal.close().expect("it closes");
}
