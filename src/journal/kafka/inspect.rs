//! Looks at a topic without journaling to it: beside sidecars that do, or long
//! after them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::{Offset as Place, TopicPartitionList};

use super::super::{Offset, OpenError, ReadError};
use super::context::Quiet;
use super::topic::describe;
use super::{KafkaOptions, open_error};

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one look for a message takes.
const LOOK: Duration = Duration::from_millis(100);

/// One partition of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// Offset of the first record there is, or would be.
    pub first: Offset,
    /// One past the offset of the last record.
    pub next: Offset,
    /// The broker that leads it; none while nobody does.
    pub leader: Option<i32>,
    /// The brokers that are to have it.
    pub replicas: Vec<i32>,
    /// Those that are in sync.
    pub in_sync: Vec<i32>,
}

/// What the brokers say of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// Its configuration; empty where the cluster does not say.
    pub configuration: HashMap<String, String>,
}

/// A message of the topic.
#[derive(Debug)]
pub struct Message(OwnedMessage);

impl Message {
    /// The partition it is in.
    pub fn partition(&self) -> u32 {
        self.0.partition() as u32
    }

    /// Its offset there.
    pub fn offset(&self) -> Offset {
        self.0.offset() as Offset
    }

    /// The encoded record.
    pub fn bytes(&self) -> &[u8] {
        self.0.payload().unwrap_or_default()
    }

    /// Whether it has a key: without one, each partition has a copy of it.
    pub fn has_key(&self) -> bool {
        self.0.key().is_some()
    }
}

/// Reads the topic's records: each partition's in order.
pub struct Walk {
    consumer: Option<BaseConsumer<Quiet>>,
    options: KafkaOptions,
    /// The partitions that are read, and the offset each comes to next.
    partitions: Vec<(Partition, Offset)>,
    follow: bool,
    /// When the brokers were last heard of.
    heard: Instant,
}

/// What the brokers say of the topic.
pub fn summarize(options: &KafkaOptions) -> Result<Summary, OpenError> {
    let consumer = connect(options)?;
    let partitions = partitions(&consumer, options);
    std::thread::spawn(move || drop(consumer));
    Ok(Summary {
        partitions: partitions?,
        configuration: describe(options).unwrap_or_default(),
    })
}

/// The first offset of a partition whose message was made at that time, in
/// milliseconds since the Unix epoch, or later; where there is none, the end. Blocks.
///
/// With a client of its own: one that is kept may go on asking the broker that led
/// the partition before, as long as it has nothing else to do with it.
pub(super) fn find(
    options: &KafkaOptions,
    partition: u32,
    milliseconds: u64,
) -> Result<Offset, KafkaError> {
    let mut config = options.client();
    config.set("group.id", "wal-sidecar");
    let consumer: BaseConsumer<Quiet> = BaseConsumer::from_config_and_context(&config, Quiet)?;
    let found = find_with(&consumer, options, partition, milliseconds);
    std::thread::spawn(move || drop(consumer));
    found
}

fn find_with(
    consumer: &BaseConsumer<Quiet>,
    options: &KafkaOptions,
    partition: u32,
    milliseconds: u64,
) -> Result<Offset, KafkaError> {
    let number = partition as i32;
    let (first, end) = consumer.fetch_watermarks(&options.topic, number, PATIENCE)?;
    let (first, end) = (first as Offset, end as Offset);
    if milliseconds == 0 {
        return Ok(first);
    }
    let mut wanted = TopicPartitionList::new();
    let place = Place::Offset(milliseconds as i64);
    wanted.add_partition_offset(&options.topic, number, place)?;
    let found = consumer.offsets_for_times(wanted, PATIENCE)?;
    let mut offset = end;
    if let Some(one) = found.elements().first() {
        one.error()?;
        if let Place::Offset(at) = one.offset() {
            offset = at as Offset;
        }
    }
    Ok(offset.clamp(first, end))
}

/// Asks for the ends of all partitions, over one connection to each broker.
#[derive(Default)]
pub(super) struct Ends {
    consumer: Option<BaseConsumer<Quiet>>,
    /// The last question was not answered for all. The client keeps one that is
    /// about a partition nobody leads until it has waited long enough for all.
    is_any_silent: bool,
}

impl Ends {
    /// One past the last offset of each of so many partitions: all that was
    /// acknowledged before the call is below. None of a partition whose end no
    /// broker tells. Blocks.
    pub(super) fn ask(
        &mut self,
        options: &KafkaOptions,
        partitions: u32,
    ) -> Result<Vec<Option<Offset>>, KafkaError> {
        let consumer = match &mut self.consumer {
            Some(consumer) => consumer,
            none => {
                let mut config = options.client();
                config.set("group.id", "wal-sidecar");
                none.insert(BaseConsumer::from_config_and_context(&config, Quiet)?)
            }
        };
        let asked = match self.is_any_silent {
            true => led(consumer, options),
            false => Ok((0..partitions).collect()),
        };
        let found = asked.and_then(|asked| ends_of(consumer, options, &asked, partitions));
        self.is_any_silent = !matches!(&found, Ok(ends) if ends.iter().all(Option::is_some));
        if self.is_any_silent {
            // It may go on asking the broker that led a partition before.
            self.forget();
        }
        found
    }

    /// Ending a consumer may wait for the brokers: nobody waits for that.
    fn forget(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

/// The partitions that have a leader.
fn led(consumer: &BaseConsumer<Quiet>, options: &KafkaOptions) -> Result<Vec<u32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(&options.topic), options.timeout)?;
    let topic = metadata.topics().first();
    let partitions = topic.map_or(&[][..], |topic| topic.partitions());
    let led = partitions.iter().filter(|one| 0 <= one.leader());
    Ok(led.map(|one| one.id() as u32).collect())
}

fn ends_of(
    consumer: &BaseConsumer<Quiet>,
    options: &KafkaOptions,
    asked: &[u32],
    partitions: u32,
) -> Result<Vec<Option<Offset>>, KafkaError> {
    let mut ends = vec![None; partitions as usize];
    if asked.is_empty() {
        return Ok(ends);
    }
    let mut wanted = TopicPartitionList::new();
    for partition in asked {
        // Asked for as a time, the end is the time that no message has yet.
        wanted.add_partition_offset(&options.topic, *partition as i32, Place::End)?;
    }
    let found = consumer.offsets_for_times(wanted, options.timeout)?;
    for one in found.elements() {
        if one.error().is_ok()
            && let Place::Offset(offset) = one.offset()
            && let Some(end) = ends.get_mut(one.partition() as usize)
        {
            *end = Some(offset as Offset);
        }
    }
    Ok(ends)
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Walk {
    /// Begins at the first records there are, or of one partition at `from`.
    /// Ends at the last there are now, unless it is to follow.
    pub fn open(
        options: &KafkaOptions,
        partition: Option<u32>,
        from: Option<Offset>,
        follow: bool,
    ) -> Result<Walk, OpenError> {
        let consumer = connect(options)?;
        let mut partitions = partitions(&consumer, options)?;
        if let Some(number) = partition {
            let count = partitions.len();
            partitions.retain(|one| one.number == number);
            if partitions.is_empty() {
                let reason = format!("there is no partition {number}, there are {count}");
                return Err(open_error(options, "read", &reason));
            }
        }
        let mut assignment = TopicPartitionList::new();
        let mut read = Vec::new();
        for partition in partitions {
            let begin = from.unwrap_or(0).max(partition.first);
            let place = Place::Offset(begin.min(partition.next) as i64);
            assignment
                .add_partition_offset(&options.topic, partition.number as i32, place)
                .map_err(|error| open_error(options, "read", &error))?;
            read.push((partition, begin));
        }
        consumer
            .assign(&assignment)
            .map_err(|error| open_error(options, "read", &error))?;
        Ok(Walk {
            consumer: Some(consumer),
            options: options.clone(),
            partitions: read,
            follow,
            heard: Instant::now(),
        })
    }

    /// The partitions that are read, as they were when the walk began.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().map(|(partition, _)| partition)
    }

    /// How many records are left to the end, as it was when the walk began.
    pub fn left(&self) -> u64 {
        let left = |(partition, next): &(Partition, Offset)| partition.next.saturating_sub(*next);
        self.partitions.iter().map(left).sum()
    }

    /// The next record; none where the end has come, or, following, where there
    /// is none at the moment. Blocks for a moment.
    pub fn step(&mut self) -> Result<Option<Message>, ReadError> {
        while self.follow || 0 < self.left() {
            let consumer = self.consumer.as_ref().expect("there until it is dropped");
            match consumer.poll(LOOK) {
                Some(Ok(message)) => {
                    self.heard = Instant::now();
                    let message = Message(message.detach());
                    if let Some(message) = self.note(message) {
                        return Ok(Some(message));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.heard = Instant::now(),
                Some(Err(error)) => self.consider(&error)?,
                None if self.follow => return Ok(None),
                None if self.heard.elapsed() < PATIENCE => {}
                None => return Err(self.failed("the brokers do not answer".to_owned())),
            }
        }
        Ok(None)
    }

    /// None where the message is behind the end of the walk.
    fn note(&mut self, message: Message) -> Option<Message> {
        let number = message.partition();
        let mut partitions = self.partitions.iter_mut();
        let (partition, next) = partitions.find(|(one, _)| one.number == number)?;
        let is_wanted = self.follow || message.offset() < partition.next;
        *next = message.offset() + 1;
        is_wanted.then_some(message)
    }

    fn consider(&self, error: &KafkaError) -> Result<(), ReadError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset) => Err(self.failed(
                "records were removed by retention before they were read; begin again".to_owned(),
            )),
            // What brokers get over, or what shows in silence.
            _ if self.heard.elapsed() < PATIENCE || self.follow => Ok(()),
            _ => Err(self.failed(error.to_string())),
        }
    }

    fn failed(&self, reason: String) -> ReadError {
        let mut unread = self.partitions.iter();
        let unread = unread.find(|(partition, next)| *next < partition.next);
        ReadError::Kafka {
            topic: self.options.topic.clone(),
            partition: unread.map_or(0, |(partition, _)| partition.number),
            reason,
        }
    }
}

/// Ending a consumer may wait for the brokers: nobody waits for that.
impl Drop for Walk {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

fn connect(options: &KafkaOptions) -> Result<BaseConsumer<Quiet>, OpenError> {
    let mut config = options.client();
    config
        .set("group.id", "wal-sidecar")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error");
    BaseConsumer::from_config_and_context(&config, Quiet)
        .map_err(|error| open_error(options, "connect for", &error))
}

fn partitions(
    consumer: &BaseConsumer<Quiet>,
    options: &KafkaOptions,
) -> Result<Vec<Partition>, OpenError> {
    let client = consumer.client();
    let metadata = client
        .fetch_metadata(Some(&options.topic), PATIENCE)
        .map_err(|error| open_error(options, "reach the brokers of", &error))?;
    let topic = metadata.topics().first();
    let found = topic.map_or(&[][..], |topic| topic.partitions());
    if found.is_empty() {
        return Err(open_error(options, "find", &"there is no such topic"));
    }
    let mut partitions = Vec::new();
    for one in found {
        let (first, next) = client
            .fetch_watermarks(&options.topic, one.id(), PATIENCE)
            .map_err(|error| open_error(options, "look at", &error))?;
        partitions.push(Partition {
            number: one.id() as u32,
            first: first as Offset,
            next: next as Offset,
            leader: (0 <= one.leader()).then(|| one.leader()),
            replicas: one.replicas().to_vec(),
            in_sync: one.isr().to_vec(),
        });
    }
    partitions.sort_by_key(|one| one.number);
    Ok(partitions)
}
