//! What every journal backend promises, checked on each of them.

#[path = "../support/mod.rs"]
mod support;

mod retention;

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use wal_sidecar::journal::{
    AppendError, Appender, Completion, First, Journal, JournalState, KafkaJournal, KafkaOptions,
    LocalJournal, LocalOptions, MemoryJournal, MemoryOptions, Offset, OpenError, ReadBatch, Reader,
    SpoolJournal, SpoolOptions, TopicOptions,
};
use wal_sidecar::mutation::{RecordBatch, RecordEntry, RecordKind};
use wal_sidecar::platform::simulated::SimulatedDisk;

const DEADLINE: Duration = Duration::from_secs(20);

fn batch(records: &[&str]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    fill(&mut batch, records);
    batch
}

fn fill(batch: &mut RecordBatch, records: &[&str]) {
    for record in records {
        batch.bytes.extend_from_slice(record.as_bytes());
        batch.entries.push(RecordEntry {
            end: batch.bytes.len(),
            key: (0, 0),
            kind: RecordKind::Mutation,
            sequence: 1,
            hlc: 0,
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap()
}

/// Waits, as a worker does, until `count` hand-overs completed.
fn wait_for(appender: &mut Appender, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    runtime().block_on(async {
        while done.len() < count {
            let polled = poll_fn(|context| appender.poll_completions(context, &mut done));
            tokio::time::timeout(DEADLINE, polled)
                .await
                .expect("it completes");
        }
    });
    done
}

/// What has completed by now.
fn completed(appender: &mut Appender) -> Vec<Completion> {
    let mut done = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    let _ = appender.poll_completions(&mut context, &mut done);
    done
}

fn read_all(journal: &Journal, from: Offset) -> Vec<(Offset, String)> {
    let mut reader = journal.reader(from);
    let mut records = Vec::new();
    while read_some(&mut reader, &mut records) {}
    records
}

fn read_some(reader: &mut Reader, records: &mut Vec<(Offset, String)>) -> bool {
    let mut into = ReadBatch::default();
    reader.next_batch(&mut into, 64).expect("reads");
    let text = |(offset, bytes): (Offset, &[u8])| (offset, String::from_utf8_lossy(bytes).into());
    records.extend(into.iter().map(text));
    !into.is_empty()
}

fn numbered(offsets: std::ops::Range<u64>) -> Vec<(Offset, String)> {
    offsets
        .map(|offset| (offset, format!("record {offset}")))
        .collect()
}

/// The suite. `open` gives an empty journal.
fn keeps_the_contract(open: impl Fn() -> Journal) {
    empty(&open());
    offsets_are_dense_over_appenders(&open());
    completions_come_in_the_order_of_tickets(&open());
    a_reader_follows(&open());
    batches_are_recycled(&open());
    closed_takes_nothing(&open());
    threads_append_at_once(&open());
}

fn empty(journal: &Journal) {
    assert_eq!(journal.durable_through(), None);
    assert_eq!(journal.first_offset(), 0);
    assert_eq!(journal.state(), JournalState::Accepting);
    assert_eq!(read_all(journal, 0), []);
    assert_eq!(journal.flush(), Ok(()));
    assert_eq!(journal.stats().records, 0);
}

fn offsets_are_dense_over_appenders(journal: &Journal) {
    let (mut one, mut two) = (journal.appender(), journal.appender());
    assert_eq!(one.submit(batch(&["record 0", "record 1"])), 1);
    assert_eq!(wait_for(&mut one, 1)[0].result, Ok(0));
    assert_eq!(two.submit(batch(&["record 2"])), 1);
    assert_eq!(wait_for(&mut two, 1)[0].result, Ok(2));
    assert_eq!(one.submit(batch(&["record 3", "record 4"])), 2);
    assert_eq!(wait_for(&mut one, 1)[0].result, Ok(3));
    assert_eq!(journal.durable_through(), Some(4));
    for from in 0..6 {
        assert_eq!(read_all(journal, from), numbered(from..5.max(from)));
    }
    let stats = journal.stats();
    assert_eq!((stats.records, stats.bytes), (5, 40));
    assert_eq!((stats.group_records.count(), stats.waiting_bytes), (3, 0));
}

fn completions_come_in_the_order_of_tickets(journal: &Journal) {
    let mut appender = journal.appender();
    let tickets: Vec<_> = (0..100)
        .map(|_| appender.submit(batch(&["a", "b"])))
        .collect();
    let done = wait_for(&mut appender, 100);
    assert_eq!(done.iter().map(|c| c.ticket).collect::<Vec<_>>(), tickets);
    for (i, completion) in done.iter().enumerate() {
        assert_eq!(completion.result, Ok(2 * i as u64));
    }
    let mut none = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(
        appender.poll_completions(&mut context, &mut none),
        Poll::Pending
    );
}

fn a_reader_follows(journal: &Journal) {
    let mut appender = journal.appender();
    let mut reader = journal.reader(1);
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(reader.poll_ready(&mut context), Poll::Pending);
    appender.submit(batch(&["record 0"]));
    journal.flush().unwrap();
    assert_eq!(reader.poll_ready(&mut context), Poll::Pending);
    let follower = std::thread::spawn(move || {
        let mut seen = Vec::new();
        runtime().block_on(async {
            while seen.len() < 3 {
                let ready = poll_fn(|context| reader.poll_ready(context));
                assert!(
                    tokio::time::timeout(DEADLINE, ready)
                        .await
                        .expect("it is woken")
                );
                read_some(&mut reader, &mut seen);
            }
            // Then the journal is closed.
            let ready = poll_fn(|context| reader.poll_ready(context));
            assert!(
                !tokio::time::timeout(DEADLINE, ready)
                    .await
                    .expect("it is woken")
            );
        });
        seen
    });
    for record in ["record 1", "record 2", "record 3"] {
        appender.submit(batch(&[record]));
        wait_for(&mut appender, 1);
    }
    journal.close().unwrap();
    assert_eq!(follower.join().unwrap(), numbered(1..4));
}

fn batches_are_recycled(journal: &Journal) {
    let mut appender = journal.appender();
    assert_eq!(appender.take_recycled().bytes.capacity(), 0);
    appender.submit(batch(&["record 0"]));
    let recycled = wait_for(&mut appender, 1).remove(0).recycled;
    assert!(recycled.is_empty() && recycled.bytes.is_empty());
    let memory = recycled.bytes.as_ptr();
    appender.recycle(recycled);
    let mut again = appender.take_recycled();
    assert_eq!(again.bytes.as_ptr(), memory);
    fill(&mut again, &["record 1"]);
    appender.submit(again);
    let recycled = wait_for(&mut appender, 1).remove(0).recycled;
    assert_eq!(recycled.bytes.as_ptr(), memory);
    assert_eq!(read_all(journal, 0), numbered(0..2));
}

fn closed_takes_nothing(journal: &Journal) {
    let mut appender = journal.appender();
    appender.submit(batch(&["record 0"]));
    assert_eq!(journal.close(), Ok(()));
    assert_eq!(journal.close(), Ok(()));
    assert_eq!(
        wait_for(&mut appender, 1)[0].result,
        Ok(0),
        "closing is no loss"
    );
    assert_eq!(appender.submit(batch(&["record 1"])), 2);
    let closed = AppendError::NotAppended("journal is closed".to_owned());
    assert_eq!(wait_for(&mut appender, 1)[0].result, Err(closed));
    assert_eq!(read_all(journal, 0), numbered(0..1));
}

fn threads_append_at_once(journal: &Journal) {
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let mut appender = journal.appender();
            std::thread::spawn(move || {
                let mut places = Vec::new();
                for round in 0..50 {
                    let mut sent = Vec::new();
                    for i in 0..4 {
                        sent.push(format!("{thread} {round} {i}"));
                        appender.submit(batch(&[&sent[i]]));
                    }
                    let done = wait_for(&mut appender, 4);
                    places.extend(done.iter().map(|c| c.result.clone().unwrap()).zip(sent));
                }
                assert!(places.is_sorted(), "in the order of the hand-overs");
                places
            })
        })
        .collect();
    let mut expected: Vec<_> = threads
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    expected.sort();
    assert_eq!(read_all(journal, 0), expected);
}

fn local(directory: &Path) -> LocalOptions {
    LocalOptions {
        segment_bytes: 4096,
        ..LocalOptions::new(directory)
    }
}

fn open(options: LocalOptions) -> Result<Journal, OpenError> {
    LocalJournal::open(options).map(|journal| Journal::Local(Arc::new(journal)))
}

#[test]
fn memory() {
    let open = || Journal::Memory(Arc::new(MemoryJournal::new(MemoryOptions::default())));
    keeps_the_contract(open);
}

#[test]
fn local_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    keeps_the_contract(|| {
        count.set(count.get() + 1);
        open(local(&directory.path().join(count.get().to_string()))).unwrap()
    });
}

/// In one partition.
#[test]
fn kafka_in_a_mock() {
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    let count = std::cell::Cell::new(0);
    keeps_the_contract(|| {
        count.set(count.get() + 1);
        let topic = format!("topic-{}", count.get());
        cluster.create_topic(&topic, 1, 1).unwrap();
        let options = KafkaOptions::new(cluster.bootstrap_servers(), topic);
        Journal::Kafka(Arc::new(KafkaJournal::open(options).unwrap()))
    });
}

/// Both ways round.
#[test]
fn spool_in_front_of_a_mock() {
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    for first in [First::Local, First::Kafka] {
        let count = std::cell::Cell::new(0);
        let directory = tempfile::tempdir().unwrap();
        keeps_the_contract(|| {
            count.set(count.get() + 1);
            let topic = format!("{first:?}-{}", count.get());
            cluster.create_topic(&topic, 1, 1).unwrap();
            let options = SpoolOptions {
                local: local(&directory.path().join(&topic)),
                kafka: KafkaOptions::new(cluster.bootstrap_servers(), topic),
                first,
                patience: DEADLINE,
            };
            Journal::Spool(Arc::new(SpoolJournal::open(options).unwrap()))
        });
    }
}

/// Apache Kafka itself: as a journal, and behind a spool both ways round.
#[test]
fn kafka_itself() {
    let kafka = support::Kafka::start();
    let directory = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    let options = || {
        count.set(count.get() + 1);
        KafkaOptions {
            create: Some(TopicOptions {
                partitions: 1,
                replication_factor: 1,
                retention: None,
            }),
            ..KafkaOptions::new(kafka.bootstrap(), format!("topic-{}", count.get()))
        }
    };
    keeps_the_contract(|| Journal::Kafka(Arc::new(KafkaJournal::open(options()).unwrap())));
    for first in [First::Local, First::Kafka] {
        keeps_the_contract(|| {
            let kafka = options();
            let options = SpoolOptions {
                local: local(&directory.path().join(&kafka.topic)),
                kafka,
                first,
                patience: DEADLINE,
            };
            Journal::Spool(Arc::new(SpoolJournal::open(options).unwrap()))
        });
    }
}

#[test]
fn local_in_simulation() {
    keeps_the_contract(|| {
        let platform = SimulatedDisk::new().platform(3);
        let journal = LocalJournal::open_on(local(Path::new("/journal")), platform).unwrap();
        Journal::Local(Arc::new(journal))
    });
}

#[test]
fn memory_does_what_a_test_says() {
    let memory = Arc::new(MemoryJournal::new(MemoryOptions {
        inbox_bytes_max: 10,
        held: true,
        ..MemoryOptions::default()
    }));
    let journal = Journal::Memory(Arc::clone(&memory));
    let mut appender = journal.appender();
    appender.submit(batch(&["record 0"]));
    assert!(appender.has_room());
    appender.submit(batch(&["record 1"]));
    assert!(!appender.has_room());
    appender.submit(batch(&["refused"]));
    assert!(
        completed(&mut appender).is_empty(),
        "held, and so is what was refused after"
    );
    assert_eq!(memory.held(), 2);
    memory.fail_next(AppendError::Unknown("lost touch".to_owned()));
    memory.release(1);
    let done = completed(&mut appender);
    assert_eq!(
        done[0].result,
        Err(AppendError::Unknown("lost touch".to_owned()))
    );
    assert_eq!(done.len(), 1);
    memory.release_all();
    let done = completed(&mut appender);
    assert_eq!(done[0].result, Ok(0));
    assert!(matches!(&done[1].result, Err(AppendError::NotAppended(r)) if r.contains("backlog")));
    assert_eq!([done[0].ticket, done[1].ticket], [2, 3]);
    assert_eq!(memory.records(), [b"record 1"]);
    memory.set_state(JournalState::Poisoned("so it says".to_owned()));
    appender.submit(batch(&["record 2"]));
    assert!(completed(&mut appender)[0].result.is_err());
    assert_eq!(
        journal.state(),
        JournalState::Poisoned("so it says".to_owned())
    );
}

#[test]
fn nothing_passes_a_hand_over_that_was_not_appended() {
    let memory = Arc::new(MemoryJournal::new(MemoryOptions {
        held: true,
        ..MemoryOptions::default()
    }));
    let journal = Journal::Memory(Arc::clone(&memory));
    let mut appender = journal.appender();
    let mut other = journal.appender();
    appender.submit(batch(&["before"]));
    appender.submit(batch(&["full"]));
    appender.submit(batch(&["behind"]));
    other.submit(batch(&["of another"]));
    memory.release(1);
    memory.fail_next(AppendError::NotAppended("disk full".to_owned()));
    memory.release_all();
    appender.submit(batch(&["later"]));
    let done = completed(&mut appender);
    let is_appended: Vec<bool> = done.iter().map(|done| done.result.is_ok()).collect();
    assert_eq!(is_appended, [true, false, false, false]);
    assert_eq!(
        done[1].recycled.bytes, b"full",
        "what was not appended comes back whole"
    );
    appender.resume();
    appender.submit(batch(&["after"]));
    assert!(completed(&mut appender)[0].result.is_ok());
    assert_eq!(memory.records(), [&b"before"[..], b"of another", b"after"]);
}

#[test]
fn a_backlog_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        inbox_bytes_max: 1000,
        ..local(directory.path())
    };
    let journal = open(options).unwrap();
    let mut appender = journal.appender();
    let value = "v".repeat(400);
    for _ in 0..2000 {
        appender.submit(batch(&[&value]));
    }
    let done = wait_for(&mut appender, 2000);
    assert!(done.is_sorted_by_key(|completion| completion.ticket));
    let (taken, refused): (Vec<_>, Vec<_>) = done.iter().partition(|c| c.result.is_ok());
    assert!(!refused.is_empty(), "submitting is faster than the disk");
    for completion in refused {
        let error = completion.result.as_ref().unwrap_err();
        assert!(matches!(error, AppendError::NotAppended(r) if r.starts_with("journal backlog")));
    }
    assert_eq!(read_all(&journal, 0).len(), taken.len());
    assert!(appender.has_room());
}

#[test]
fn reopening_goes_on_where_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut written = 0_u64;
    for round in 0..8 {
        let journal = open(local(directory.path())).unwrap();
        assert_eq!(journal.durable_through(), written.checked_sub(1));
        assert_eq!(read_all(&journal, 0), numbered(0..written));
        let mut appender = journal.appender();
        for _ in 0..40 {
            appender.submit(batch(&[&format!("record {written}")]));
            written += 1;
        }
        journal.flush().unwrap();
        // Every other time it is not closed in order.
        if round % 2 == 0 {
            journal.close().unwrap();
        }
    }
}

#[test]
fn a_second_open_names_directory_and_process() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(local(directory.path())).unwrap();
    let error = open(local(directory.path())).unwrap_err();
    let (path, pid) = (directory.path().display(), std::process::id());
    let text = format!("journal directory {path} is in use by process {pid}");
    assert_eq!(error.to_string(), text);
    journal.close().unwrap();
    open(local(directory.path())).unwrap();
}

#[test]
fn a_writer_in_trouble_says_so_and_readers_go_on() {
    let disk = SimulatedDisk::new();
    let journal = LocalJournal::open_on(local(Path::new("/journal")), disk.platform(3)).unwrap();
    let journal = Journal::Local(Arc::new(journal));
    let mut appender = journal.appender();
    appender.submit(batch(&["record 0"]));
    wait_for(&mut appender, 1);
    disk.fault(|faults| faults.failing_syncs = u32::MAX);
    appender.submit(batch(&["record 1"]));
    let failed = wait_for(&mut appender, 1).remove(0).result;
    assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
    appender.submit(batch(&["record 2"]));
    let refused = wait_for(&mut appender, 1).remove(0).result;
    assert!(
        matches!(refused, Err(AppendError::NotAppended(_))),
        "{refused:?}"
    );
    assert!(matches!(journal.state(), JournalState::Poisoned(_)));
    assert!(journal.flush().is_err());
    assert_eq!(read_all(&journal, 0), numbered(0..1));
    assert!(journal.close().is_err());
}
