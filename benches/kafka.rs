//! How fast librdkafka alone produces the records that a sidecar would, for
//! `scripts/bench --kafka` to compare with. Prints one JSON object.
//!
//! `cargo bench --bench kafka -- --bootstrap HOST:PORT --topic T --in-flight N
//! --seconds S`: the topic has to be there. The producer is set as the journal
//! sets its own, records are those of `SET key value` with 100 bytes of value and
//! the same headers, and so many of them are in flight at any time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use wal_sidecar::mutation::{MutationParts, RecordBatch, Writer, WriterOptions, v1};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 100;
/// How long the sender waits at most to be woken.
const PATIENCE: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Default)]
struct Delivered {
    count: AtomicUsize,
    failed: AtomicUsize,
    micros: Mutex<Vec<u32>>,
}

struct Reports {
    delivered: Arc<Delivered>,
    /// Woken when there is room for more.
    sender: Thread,
    in_flight: usize,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Instant>) {
        let counter = match result {
            Ok(_) => &self.delivered.count,
            Err(_) => &self.delivered.failed,
        };
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if let Ok(mut micros) = self.delivered.micros.lock() {
            micros.push(sent.elapsed().as_micros() as u32);
        }
        // Not for each: waking costs more than a record does.
        if count.is_multiple_of((self.in_flight / 8).max(1)) {
            self.sender.unpark();
        }
    }
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn main() {
    let Some(bootstrap) = argument("--bootstrap") else {
        println!("needs a broker: see scripts/bench --kafka");
        return;
    };
    let topic = argument("--topic").expect("--topic T");
    let number = |name: &str, default: f64| {
        let text = argument(name);
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let in_flight = number("--in-flight", 1.0) as usize;
    let time = Duration::from_secs_f64(number("--seconds", 3.0));
    let delivered = Arc::new(Delivered::default());
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("socket.nagle.disable", "true")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "0");
    let reports = Reports {
        delivered: Arc::clone(&delivered),
        sender: std::thread::current(),
        in_flight,
    };
    let producer: ThreadedProducer<Reports> =
        ThreadedProducer::from_config_and_context(&config, reports).expect("a valid configuration");
    let mut writer = Writer::new(WriterOptions {
        region: "here".to_owned(),
        namespace: "sessions".to_owned(),
        store: v1::Store::Redis,
        writer: 1,
    });
    // The first records after a start are slower.
    let mut made = 0;
    let mut run = |time: Duration| {
        let begin = Instant::now();
        let mut sent = delivered.count.load(Ordering::Relaxed);
        let first = sent;
        while begin.elapsed() < time {
            let done =
                delivered.count.load(Ordering::Relaxed) + delivered.failed.load(Ordering::Relaxed);
            while sent - done < in_flight {
                produce(&producer, &topic, &mut writer, made);
                made += 1;
                sent += 1;
            }
            std::thread::park_timeout(PATIENCE);
        }
        producer.flush(DEADLINE).expect("every record is answered");
        let count = delivered.count.load(Ordering::Relaxed) - first;
        count as f64 / begin.elapsed().as_secs_f64()
    };
    run(time / 4);
    delivered.micros.lock().expect("no report panics").clear();
    let rate = run(time);
    let mut micros = std::mem::take(&mut *delivered.micros.lock().expect("no report panics"));
    micros.sort_unstable();
    let p50 = f64::from(micros[micros.len() / 2]) / 1000.0;
    let failed = delivered.failed.load(Ordering::Relaxed);
    println!("{{\"records_per_second\": {rate:.0}, \"p50_ms\": {p50:.4}, \"failed\": {failed}}}");
}

fn produce(producer: &ThreadedProducer<Reports>, topic: &str, writer: &mut Writer, number: u64) {
    let mut batch = RecordBatch::default();
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let key = format!("key:{:012}", random % KEYS);
    let value = [b'x'; VALUE_BYTES];
    let parts = MutationParts {
        commands: &[&[b"SET", key.as_bytes(), &value]],
        keys: &[key.as_bytes()],
        is_final: true,
    };
    let sequence = writer.mutation(&mut batch, 1_700_000_000_000, 0, &parts);
    writer.settle(sequence);
    let headers = OwnedHeaders::new_with_capacity(4);
    let version = format!("{:016x}-here-{:016x}-{sequence}", batch.entries[0].hlc, 1);
    let headers = [
        ("region", "here"),
        ("namespace", "sessions"),
        ("kind", "mutation"),
        ("version", &version),
    ]
    .into_iter()
    .fold(headers, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    });
    let record = BaseRecord::with_opaque_to(topic, Box::new(Instant::now()))
        .key(&key)
        .payload(&batch.bytes)
        .headers(headers);
    let sent = producer.send(record);
    sent.map_err(|(error, _)| error).expect("there is room");
}
