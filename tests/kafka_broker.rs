//! The brokers other tests rely on: what they acknowledge is there, in order,
//! and still there when the leader was killed.

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use support::{Cluster, Kafka, until};

const TOPIC: &str = "records";
/// However slow the machine, records get through in this time.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// The numbers of the records that were acknowledged.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Vec<u64>>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        // Nothing here may panic: it is the producer's only poll thread.
        if let (Ok(_), Ok(mut numbers)) = (result, self.0.lock()) {
            numbers.push(*number);
        }
    }
}

impl Acknowledged {
    fn numbers(&self) -> Vec<u64> {
        self.0.lock().expect("no delivery panics").clone()
    }
}

type TestProducer = ThreadedProducer<Acknowledged>;

fn producer(bootstrap: &str) -> (TestProducer, Acknowledged) {
    let acknowledged = Acknowledged::default();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("message.timeout.ms", "120000")
        .set("reconnect.backoff.max.ms", "500");
    let producer = TestProducer::from_config_and_context(&config, acknowledged.clone());
    (producer.expect("a valid configuration"), acknowledged)
}

fn send(producer: &TestProducer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let text = number.to_string();
        let record = BaseRecord::with_opaque_to(TOPIC, Box::new(number))
            .key("one")
            .payload(&text);
        let sent = producer.send(record);
        sent.unwrap_or_else(|(error, _)| panic!("record {number}: {error}"));
    }
}

/// The first partition from its beginning, until `count` records were read
/// and the end has come.
fn read(bootstrap: &str, count: usize) -> Vec<u64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .expect("a valid configuration");
    let mut partitions = TopicPartitionList::new();
    let added = partitions.add_partition_offset(TOPIC, 0, Offset::Beginning);
    added.expect("a valid offset");
    consumer.assign(&partitions).expect("assign");
    let mut numbers = Vec::new();
    until("the records", DEADLINE, || {
        match consumer.poll(POLL)? {
            Ok(message) => {
                let text = message.payload_view::<str>()?.expect("text");
                numbers.push(text.parse().expect("a number"));
                None
            }
            Err(KafkaError::PartitionEOF(_)) => (numbers.len() >= count).then_some(()),
            // A broker that is down is no failure: the others have the records.
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )) => None,
            Err(error) => panic!("read: {error}"),
        }
    });
    // Can block without end where a broker does not answer.
    std::thread::spawn(move || drop(consumer));
    numbers
}

fn finish(producer: TestProducer) {
    producer.flush(DEADLINE).expect("every record is answered");
    std::thread::spawn(move || drop(producer));
}

#[test]
fn a_broker_keeps_records_in_order() {
    let begin = Instant::now();
    let kafka = Kafka::start();
    println!("one broker accepts after {:?}", begin.elapsed());
    kafka.create_topic(TOPIC, 1, 1, &[]);
    let (producer, acknowledged) = producer(&kafka.bootstrap());
    send(&producer, 0..1000);
    finish(producer);
    assert_eq!(acknowledged.numbers(), Vec::from_iter(0..1000));
    assert_eq!(read(&kafka.bootstrap(), 1000), Vec::from_iter(0..1000));
}

#[test]
fn a_cluster_keeps_what_it_acknowledged_when_its_leader_is_killed() {
    let begin = Instant::now();
    let mut cluster = Cluster::start(3);
    println!("three brokers accept after {:?}", begin.elapsed());
    cluster.create_topic(TOPIC, 1, 3, &[("min.insync.replicas", "2")]);
    println!("a replicated topic exists after {:?}", begin.elapsed());
    let (producer, acknowledged) = producer(&cluster.bootstrap());
    send(&producer, 0..500);
    until("an acknowledgement", DEADLINE, || {
        (!acknowledged.numbers().is_empty()).then_some(())
    });
    let leader = cluster.leader_of(TOPIC, 0);
    let killed = Instant::now();
    cluster.kill(leader);
    send(&producer, 500..1000);
    finish(producer);
    println!("all acknowledged {:?} after the kill", killed.elapsed());
    assert_ne!(cluster.leader_of(TOPIC, 0), leader);
    let told = acknowledged.numbers();
    assert_eq!(told.len(), 1000, "the others are a majority");
    let kept = HashSet::<u64>::from_iter(read(&cluster.bootstrap(), told.len()));
    let lost: Vec<_> = told.iter().filter(|one| !kept.contains(one)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    cluster.restart(leader);
}
