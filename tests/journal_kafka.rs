//! The Kafka journal against a cluster that errs on demand.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use wal_sidecar::journal::{
    AppendError, Appender, Completion, Journal, JournalState, KafkaJournal, KafkaOptions,
    ReadBatch, Verdict,
};
use wal_sidecar::mutation::{RecordBatch, RecordEntry, RecordKind, Writer, WriterOptions, v1};

/// How long a record may take in these tests.
const TIMEOUT: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(20);
const TOPIC: &str = "wal";

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(brokers: i32) -> Cluster {
    let cluster = MockCluster::new(brokers).expect("a mock cluster");
    cluster.create_topic(TOPIC, 4, 1).expect("a topic");
    cluster
}

fn open(cluster: &Cluster) -> KafkaJournal {
    KafkaJournal::open(KafkaOptions {
        timeout: TIMEOUT,
        ..KafkaOptions::new(cluster.bootstrap_servers(), TOPIC)
    })
    .expect("it opens")
}

/// One record each, keyed by its text.
fn batch(records: &[&str]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    for record in records {
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(record.as_bytes());
        let end = batch.bytes.len();
        batch.entries.push(RecordEntry {
            end,
            key: (start, end),
            kind: RecordKind::Mutation,
            sequence: 1,
            hlc: 0,
        });
    }
    batch
}

fn wait_for(appender: &mut Appender, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap().block_on(async {
        while done.len() < count {
            let polled = poll_fn(|context| appender.poll_completions(context, &mut done));
            let polled = tokio::time::timeout(DEADLINE, polled).await;
            polled.expect("it completes");
        }
    });
    done
}

fn result(appender: &mut Appender) -> Result<u64, AppendError> {
    wait_for(appender, 1).remove(0).result
}

/// A reader may begin after all that its process knew of when it connected, as who takes
/// over after a while does.
#[test]
fn what_others_wrote_later_is_read() {
    const RECORDS: usize = 5;
    let cluster = cluster(1);
    let (reading, writing) = (open(&cluster), open(&cluster));
    until_connected(&reading);
    let mut appender = writing.appender();
    for _ in 0..RECORDS {
        appender.submit(batch(&["key"]));
        result(&mut appender).expect("it is acknowledged");
    }
    let ends = writing.ends().expect("brokers answer");
    let is_it = |end: &Option<u64>| *end == Some(RECORDS as u64);
    let partition = ends.iter().position(is_it).expect("all in one") as u32;
    let journal = Journal::Kafka(Arc::new(reading));
    let mut reader = journal.reader_of(partition, 3).never_waiting();
    let mut found = ReadBatch::default();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap().block_on(async {
        let ready = poll_fn(|context| reader.poll_ready(context));
        let ready = tokio::time::timeout(DEADLINE, ready).await;
        assert!(ready.expect("there is something"));
    });
    reader.next_batch(&mut found, 1).expect("it is read");
    let first = found.iter().next().map(|(offset, _)| offset);
    assert_eq!(first, Some(3));
}

fn until_connected(journal: &KafkaJournal) {
    let until = Instant::now() + DEADLINE;
    while journal.partitions() == 0 {
        assert!(Instant::now() < until, "no broker was reached");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn what_brokers_get_over_is_not_noticed() {
    let cluster = cluster(3);
    let journal = open(&cluster);
    let mut appender = journal.appender();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        ],
    );
    appender.submit(batch(&["a", "b", "c"]));
    assert!(result(&mut appender).is_ok());
    assert_eq!(journal.stats().records, 3);
    assert_eq!(journal.state(), JournalState::Accepting);
}

#[test]
fn what_a_broker_refuses_is_surely_not_there() {
    let cluster = cluster(1);
    let journal = open(&cluster);
    let mut appender = journal.appender();
    appender.submit(batch(&["a"]));
    assert!(result(&mut appender).is_ok());
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
    appender.submit(batch(&["a"]));
    let refused = result(&mut appender);
    assert!(
        matches!(refused, Err(AppendError::Skipped(_))),
        "{refused:?}"
    );
    assert!(matches!(journal.state(), JournalState::Unavailable(_)));
    // The producer believes it until it has asked for the topic again.
    let deadline = Instant::now() + DEADLINE;
    let next = loop {
        appender.submit(batch(&["a"]));
        match result(&mut appender) {
            Err(_) if Instant::now() < deadline => std::thread::park_timeout(TIMEOUT / 20),
            result => break result,
        }
    };
    assert_eq!(next, Ok(1), "the refused ones are not there");
    assert_eq!(journal.state(), JournalState::Accepting);
}

#[test]
fn records_that_never_left_are_surely_not_there() {
    let cluster = cluster(1);
    let journal = open(&cluster);
    let mut appender = journal.appender();
    appender.submit(batch(&["a"]));
    assert!(result(&mut appender).is_ok());
    cluster.broker_down(1).expect("down");
    std::thread::park_timeout(Duration::from_millis(300));
    let started = Instant::now();
    appender.submit(batch(&["a", "b"]));
    let lost = result(&mut appender);
    let took = started.elapsed();
    assert!(matches!(lost, Err(AppendError::Skipped(_))), "{lost:?}");
    assert!(took < 2 * TIMEOUT, "it took {took:?}");
    assert!(matches!(journal.state(), JournalState::Unavailable(_)));
    cluster.broker_up(1).expect("up");
    appender.submit(batch(&["a"]));
    assert_eq!(result(&mut appender), Ok(1));
    assert_eq!(journal.state(), JournalState::Accepting);
}

#[test]
fn records_that_left_and_were_not_answered_may_be_there() {
    let cluster = cluster(1);
    let journal = open(&cluster);
    let mut appender = journal.appender();
    appender.submit(batch(&["a"]));
    assert!(result(&mut appender).is_ok());
    cluster
        .broker_round_trip_time(1, 3 * TIMEOUT)
        .expect("slow");
    appender.submit(batch(&["a"]));
    let unknown = result(&mut appender);
    assert!(
        matches!(unknown, Err(AppendError::Unknown(_))),
        "{unknown:?}"
    );
}

#[test]
fn completions_keep_their_order_when_one_partition_is_slow() {
    let cluster = cluster(2);
    for partition in 0..4 {
        let broker = if partition == 0 { 1 } else { 2 };
        cluster
            .partition_leader(TOPIC, partition, Some(broker))
            .expect("a leader");
    }
    let journal = open(&cluster);
    let mut appender = journal.appender();
    let keys: Vec<String> = (0..40).map(|key| format!("key {key}")).collect();
    for key in &keys {
        appender.submit(batch(&[key]));
    }
    wait_for(&mut appender, keys.len());
    cluster
        .broker_round_trip_time(1, TIMEOUT / 4)
        .expect("slow");
    let tickets: Vec<_> = keys
        .iter()
        .map(|key| appender.submit(batch(&[key])))
        .collect();
    let done = wait_for(&mut appender, keys.len());
    assert_eq!(
        done.iter().map(|one| one.ticket).collect::<Vec<_>>(),
        tickets
    );
    assert!(done.iter().all(|one| one.result.is_ok()));
}

#[test]
fn each_record_of_a_hand_over_has_its_own_verdict() {
    let cluster = cluster(2);
    for partition in 0..4 {
        let broker = if partition == 0 { 1 } else { 2 };
        cluster
            .partition_leader(TOPIC, partition, Some(broker))
            .expect("a leader");
    }
    let journal = open(&cluster);
    let mut appender = journal.appender();
    let keys: Vec<String> = (0..40).map(|key| format!("key {key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    appender.submit(batch(&keys));
    assert!(result(&mut appender).is_ok());
    cluster.broker_down(1).expect("down");
    std::thread::park_timeout(Duration::from_millis(300));
    appender.submit(batch(&keys));
    let done = wait_for(&mut appender, 1).remove(0);
    assert!(
        matches!(done.result, Err(AppendError::Unknown(_))),
        "{:?}",
        done.result
    );
    let count = |wanted| done.verdicts.iter().filter(|one| **one == wanted).count();
    let (stored, absent) = (count(Verdict::Stored), count(Verdict::Absent));
    assert_eq!(stored + absent, 40);
    // A quarter of the keys, give or take.
    assert!((1..30).contains(&absent), "{absent} are absent");
    assert_eq!(journal.stats().failed_records, absent as u64);
}

#[test]
fn what_has_no_key_is_in_every_partition_and_names_its_version() {
    let cluster = cluster(1);
    let journal = KafkaJournal::open(KafkaOptions {
        headers: vec![
            ("region".to_owned(), "eu".to_owned()),
            ("namespace".to_owned(), "carts".to_owned()),
        ],
        ..KafkaOptions::new(cluster.bootstrap_servers(), TOPIC)
    })
    .expect("it opens");
    let mut appender = journal.appender();
    let mut heartbeat = RecordBatch::default();
    let mut writer = Writer::new(WriterOptions {
        region: "eu".to_owned(),
        namespace: "carts".to_owned(),
        store: v1::Store::Redis,
        writer: 0xabc,
    });
    writer.heartbeat(&mut heartbeat, 7, &[]);
    appender.submit(heartbeat);
    assert!(result(&mut appender).is_ok());
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..4 {
        all.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&all).expect("assign");
    let mut found = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while found.len() < 4 && Instant::now() < deadline {
        let Some(message) = consumer.poll(TIMEOUT) else {
            continue;
        };
        let message = message.expect("a message");
        let headers = message.headers().expect("headers").iter();
        let headers: Vec<_> = headers
            .map(|one| {
                let value = String::from_utf8_lossy(one.value.unwrap_or_default());
                format!("{}={value}", one.key)
            })
            .collect();
        assert_eq!(
            headers,
            [
                "region=eu",
                "namespace=carts",
                "kind=heartbeat",
                "version=0000000000070000-eu-0000000000000abc-1"
            ]
        );
        assert_eq!(message.key(), None);
        found.push(message.partition());
    }
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3]);
}

#[test]
fn a_partition_without_a_leader_hides_no_other_end() {
    let cluster = cluster(2);
    let journal = open(&cluster);
    let mut appender = journal.appender();
    for key in 0..20 {
        appender.submit(batch(&[&format!("key {key}")]));
    }
    wait_for(&mut appender, 20);
    let all = journal.ends().expect("where they end");
    assert_eq!(all.iter().flatten().sum::<u64>(), 20);
    assert_eq!(all.iter().flatten().count(), 4);
    let becomes = |expected: &[Option<u64>]| {
        let deadline = Instant::now() + DEADLINE;
        while journal.ends().ok().as_deref() != Some(expected) {
            assert!(Instant::now() < deadline, "{:?}", journal.ends());
        }
    };
    cluster
        .partition_leader(TOPIC, 1, None)
        .expect("it has none");
    becomes(&[all[0], None, all[2], all[3]]);
    let started = Instant::now();
    becomes(&[all[0], None, all[2], all[3]]);
    assert!(started.elapsed() < TIMEOUT / 2, "{:?}", started.elapsed());
    cluster
        .partition_leader(TOPIC, 1, Some(1))
        .expect("it has one");
    becomes(&all);
}

#[test]
fn it_opens_without_brokers_and_takes_records_when_they_come() {
    let cluster = cluster(1);
    cluster.broker_down(1).expect("down");
    let started = Instant::now();
    let journal = KafkaJournal::open(KafkaOptions {
        start_timeout: Duration::from_millis(300),
        ..KafkaOptions::new(cluster.bootstrap_servers(), TOPIC)
    })
    .expect("it opens");
    assert!(started.elapsed() < TIMEOUT);
    assert!(matches!(journal.state(), JournalState::Unavailable(_)));
    let mut appender = journal.appender();
    appender.submit(batch(&["a"]));
    let refused = result(&mut appender);
    assert!(
        matches!(refused, Err(AppendError::NotAppended(_))),
        "{refused:?}"
    );
    appender.resume();
    cluster.broker_up(1).expect("up");
    let deadline = Instant::now() + DEADLINE;
    while journal.state() != JournalState::Accepting && Instant::now() < deadline {
        std::thread::park_timeout(TIMEOUT / 20);
    }
    appender.submit(batch(&["a"]));
    assert_eq!(result(&mut appender), Ok(0));
}

#[test]
fn closing_does_not_hang_when_nobody_answers() {
    let cluster = cluster(1);
    let journal = open(&cluster);
    let mut appender = journal.appender();
    appender.submit(batch(&["a"]));
    assert!(result(&mut appender).is_ok());
    cluster.broker_down(1).expect("down");
    appender.submit(batch(&["b"]));
    let started = Instant::now();
    assert!(journal.close().is_err());
    let took = started.elapsed();
    assert!(took < 2 * TIMEOUT, "it took {took:?}");
    assert!(result(&mut appender).is_err());
}
