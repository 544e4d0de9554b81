use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use tower::Service;

use super::super::in_flight::Counters;
use super::super::metrics::Metrics;
use super::super::policy::{Durability, KeyPolicy, OnUnavailable, Policy};
use super::super::{Expire, Shape, Upstream};
use super::{Journal, Journaling, Options, Shared, pump};
use crate::journal::{self, AppendError, JournalState, MemoryJournal, MemoryOptions};
use crate::mutation::v1::{Command as Recorded, outcome::Result as Told, record::Body};
use crate::mutation::{Writer, WriterOptions, decode, v1};
use crate::protocol::resp::commands::{Control, Table};
use crate::protocol::resp::replies::ReplyScanner;
use crate::protocol::resp::scanner::Scanner;
use crate::protocol::{Batch, Class, Command, Replies, Transaction};

/// A datastore that answers when the test says so.
#[derive(Clone, Default)]
struct Store(Rc<RefCell<Vec<Rc<Sent>>>>);

struct Sent {
    text: String,
    batch: RefCell<Option<Batch>>,
    reply: RefCell<Option<&'static [u8]>>,
}

struct Answer(Rc<Sent>);

impl Upstream for Store {
    fn unavailable(&self) -> Option<Rc<str>> {
        None
    }
}

impl Service<Batch> for Store {
    type Response = Replies;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Batch) -> Answer {
        let sent = Rc::new(Sent {
            text: String::from_utf8_lossy(&batch.bytes).trim_end().to_owned(),
            batch: RefCell::new(Some(batch)),
            reply: RefCell::default(),
        });
        self.0.borrow_mut().push(Rc::clone(&sent));
        Answer(sent)
    }
}

impl Future for Answer {
    type Output = Result<Replies, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(bytes) = *self.0.reply.borrow() else {
            return Poll::Pending;
        };
        let mut replies = Replies {
            batch: self.0.batch.take().expect("answered once"),
            bytes: BytesMut::from(bytes),
            ..Replies::default()
        };
        let mut at = 0;
        while let Ok(Some(frame)) = ReplyScanner::default().next(&bytes[at..]) {
            at += frame.end;
            replies.ends.push(at as u32);
            replies.errors |= frame.kind == b'-';
        }
        Poll::Ready(Ok(replies))
    }
}

impl Shape for Answer {
    fn shape(&self) -> Batch {
        let batch = self.0.batch.borrow();
        let batch = batch.as_ref().expect("not answered yet");
        Batch {
            commands: batch.commands.clone(),
            mutations: batch.mutations,
            ..Batch::default()
        }
    }
}

/// One connection's journal layer between a journal and a datastore that do as
/// the test says.
struct Bench {
    journal: Arc<MemoryJournal>,
    store: Store,
    shared: Shared<Store>,
    layer: Journal<Store>,
    in_flight: Rc<Counters>,
    metrics: Rc<Metrics>,
}

impl Bench {
    fn new(durability: Durability) -> Bench {
        let journal = Arc::new(MemoryJournal::new(MemoryOptions::default()));
        let policy = KeyPolicy {
            durability,
            on_unavailable: OnUnavailable::Reject,
        };
        let (in_flight, metrics) = (Counters::new(100, 1 << 20), Metrics::new("test"));
        let shared = Shared::new(Options {
            table: Arc::new(ArcSwap::from_pointee(Table::built_in())),
            policy: Arc::new(ArcSwap::from_pointee(Policy::new(policy, Vec::new()))),
            writer: Writer::new(WriterOptions {
                region: "test".to_owned(),
                namespace: "test".to_owned(),
                store: v1::Store::Redis,
                writer: 1,
            }),
            appender: journal::Journal::Memory(Arc::clone(&journal)).appender(),
            in_flight: Rc::clone(&in_flight),
            metrics: Rc::clone(&metrics),
        });
        let store = Store::default();
        Bench {
            layer: Journal::new(shared.clone(), store.clone()),
            journal,
            store,
            shared,
            in_flight,
            metrics,
        }
    }

    fn call(&mut self, lines: &str) -> Journaling<Store> {
        self.layer.call(batch(lines))
    }

    /// One turn of the pump.
    fn pump(&self) {
        let pump = pin!(pump(self.shared.clone()));
        assert!(
            pump.poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }

    /// What has been forwarded.
    fn sent(&self) -> Vec<String> {
        let sent = self.store.0.borrow();
        sent.iter().map(|sent| sent.text.clone()).collect()
    }

    fn reply(&self, index: usize, bytes: &'static [u8]) {
        *self.store.0.borrow()[index].reply.borrow_mut() = Some(bytes);
    }

    /// What is in the journal, as `sequence: what`; sequences have no gaps.
    fn check_records(&self, expected: &[&str]) {
        let records = self.journal.records();
        let mut shown = Vec::new();
        for (index, bytes) in records.into_iter().enumerate() {
            let record = decode(Bytes::from(bytes)).expect("a record");
            assert_eq!(record.sequence, index as u64 + 1);
            shown.push(show(&record));
        }
        assert_eq!(shown, expected);
    }
}

fn show(record: &v1::Record) -> String {
    let words = |commands: &[Recorded]| {
        let one = |command: &Recorded| {
            let words = command.arguments.iter();
            let words: Vec<_> = words.map(|a| String::from_utf8_lossy(a)).collect();
            words.join(" ")
        };
        commands.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    match record.body.as_ref().expect("a body") {
        Body::Mutation(mutation) => words(&mutation.commands),
        Body::Outcome(outcome) => {
            let of = outcome.of_sequence;
            match outcome.result.as_ref().expect("a result") {
                Told::Effects(effects) => format!("{of} did {}", words(&effects.commands)),
                Told::Rejected(rejected) => format!("{of} rejected: {}", rejected.reason),
                Told::Unknown(unknown) => format!("{of} unknown: {}", unknown.reason),
            }
        }
        Body::Heartbeat(_) => "heartbeat".to_owned(),
        Body::Snapshot(_) => "snapshot".to_owned(),
    }
}

/// A batch of inline commands, one a line.
fn batch(lines: &str) -> Batch {
    let table = Table::built_in();
    let mut batch = Batch::default();
    for line in lines.lines() {
        let line = format!("{line}\r\n");
        let frame = Scanner::default().next(line.as_bytes());
        let frame = frame.expect("well-formed").expect("complete");
        let classified = table.classify(line.as_bytes(), &frame);
        let start = batch.bytes.len() as u32;
        batch.bytes.extend_from_slice(line.as_bytes());
        batch.push(Command {
            start,
            end: batch.bytes.len() as u32,
            specification: classified.specification,
            class: match classified.control {
                Some(Control::Select) => Class::Control,
                _ => classified.class,
            },
        });
    }
    batch
}

fn poll(future: &mut Journaling<Store>) -> Option<String> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(future).poll(&mut cx) {
        Poll::Ready(Ok(replies)) => Some(String::from_utf8_lossy(&replies.bytes).into_owned()),
        Poll::Pending => None,
    }
}

/// Detached batches are tasks.
fn on_local_set(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), test());
}

fn disk_full() -> JournalState {
    JournalState::DiskFull
}

#[test]
fn a_lost_outcome_is_told_again_but_not_in_a_loop() {
    let mut bench = Bench::new(Durability::Durable);
    let mut pop = bench.call("SPOP s");
    bench.pump();
    bench.journal.set_state(disk_full());
    bench.reply(0, b"$1\r\nm\r\n");
    assert_eq!(poll(&mut pop).as_deref(), Some("$1\r\nm\r\n"));
    // Each turn ends, though there is something to tell.
    for _ in 0..3 {
        bench.pump();
        bench.shared.heartbeat();
        assert!(!bench.shared.is_idle());
    }
    bench.check_records(&["SPOP s"]);
    bench.journal.set_state(JournalState::Accepting);
    bench.pump();
    bench.check_records(&["SPOP s", "1 did SREM s m"]);
    assert!(bench.shared.is_idle());
}

#[test]
fn what_is_not_waited_for_waits_while_the_journal_takes_nothing() {
    let mut bench = Bench::new(Durability::Enqueued);
    let mut first = bench.call("SET k 1");
    assert_eq!(bench.sent(), ["SET k 1"]);
    bench.pump();
    bench.journal.set_state(disk_full());
    // Forwarded before anybody knew.
    let mut lost = bench.call("SET k 2");
    bench.pump();
    assert_eq!(bench.sent(), ["SET k 1", "SET k 2"]);
    assert_eq!(
        (bench.metrics.journaled.get(), bench.metrics.bypassed.get()),
        (1, 1)
    );
    // Refused, as the policy says.
    let mut refused = bench.call("SET k 3");
    bench.pump();
    assert_eq!(
        poll(&mut refused).as_deref(),
        Some("-NOTJOURNALED disk full\r\n")
    );
    assert_eq!(bench.sent().len(), 2);
    // Back, which the next hand-over finds out.
    bench.journal.set_state(JournalState::Accepting);
    let mut next = bench.call("SET k 4");
    assert_eq!(bench.sent().len(), 2);
    bench.pump();
    assert_eq!(bench.sent().len(), 3);
    let mut last = bench.call("SET k 5");
    assert_eq!(bench.sent().len(), 4);
    bench.pump();
    bench.check_records(&["SET k 1", "SET k 4", "SET k 5"]);
    for (index, future) in [&mut first, &mut lost, &mut next, &mut last]
        .into_iter()
        .enumerate()
    {
        bench.reply(index, b"+OK\r\n");
        assert_eq!(poll(future).as_deref(), Some("+OK\r\n"));
    }
    assert_eq!(bench.metrics.not_journaled.get(), 1);
    assert!(bench.shared.is_idle());
}

#[test]
fn more_than_was_ever_unsettled_can_be_lost_at_once() {
    let mut bench = Bench::new(Durability::Durable);
    bench.journal.set_state(disk_full());
    let lines = "SET k 1\n".repeat(10_000);
    let mut all = bench.call(&lines);
    bench.pump();
    let answer = poll(&mut all).expect("refused");
    assert_eq!(
        answer.matches("-NOTJOURNALED disk full\r\n").count(),
        10_000
    );
    bench.journal.set_state(JournalState::Accepting);
    let mut next = bench.call("SET k 2");
    bench.pump();
    bench.check_records(&["SET k 2"]);
    bench.reply(0, b"+OK\r\n");
    assert!(poll(&mut next).is_some());
}

#[test]
fn what_may_be_in_the_journal_and_was_not_forwarded_is_taken_back() {
    let mut bench = Bench::new(Durability::Durable);
    bench
        .journal
        .fail_next(AppendError::Unknown("who knows".to_owned()));
    let mut set = bench.call("GET a\nSET k 1\nGET b");
    bench.pump();
    assert_eq!(bench.sent(), ["GET a\r\nGET b"]);
    bench.reply(0, b"+a\r\n+b\r\n");
    let uncertain = "+a\r\n-UNCERTAIN 0000000000000001-1 who knows\r\n+b\r\n";
    assert_eq!(poll(&mut set).as_deref(), Some(uncertain));
    bench.pump();
    let records = bench.journal.records();
    let outcome = decode(Bytes::from(records[0].clone())).expect("a record");
    assert!(show(&outcome).starts_with("1 rejected: not forwarded"));
    assert_eq!(outcome.settled_through, 2);
}

#[test]
fn what_goes_on_without_its_client_counts_as_in_flight() {
    on_local_set(async || {
        let mut bench = Bench::new(Durability::Durable);
        bench.journal.hold();
        let mut queued = bench.call("SET k 1");
        bench.pump();
        let answer = queued.expire("too late");
        assert!(answer.failure.is_some());
        assert_eq!(answer.bytes, "-UNCERTAIN 0000000000000001-1 too late\r\n");
        drop(queued);
        assert_eq!(bench.in_flight.batches(), 1);
        bench.journal.release_all();
        bench.pump();
        assert_eq!(bench.sent(), ["SET k 1"]);
        assert_eq!(bench.in_flight.batches(), 1);
        bench.reply(0, b"+OK\r\n");
        tokio::task::yield_now().await;
        assert_eq!(bench.in_flight.batches(), 0);
        assert!(bench.shared.is_idle());
    });
}

#[test]
fn a_transaction_may_select_another_database() {
    let check = |reply: &'static [u8], expected: &[&str]| {
        let mut bench = Bench::new(Durability::Durable);
        let queued = batch("SET a 1\nSELECT 9\nGET a\nSORT l\nSET b 2");
        let mut exec = batch("EXEC").as_class(Class::Mutation);
        exec.transaction = Some(Box::new(Transaction {
            bytes: queued.bytes,
            commands: queued.commands,
            watched: false,
        }));
        let mut answer = bench.layer.call(exec);
        bench.pump();
        bench.reply(0, reply);
        assert!(poll(&mut answer).is_some());
        bench.pump();
        bench.check_records(expected);
    };
    const RECORD: &str = "SET a 1; SELECT 9; SET b 2";
    check(b"*5\r\n+OK\r\n+OK\r\n$1\r\n1\r\n*0\r\n+OK\r\n", &[RECORD]);
    check(
        b"*5\r\n+OK\r\n-ERR DB index is out of range\r\n$1\r\n1\r\n*0\r\n+OK\r\n",
        &[RECORD, "1 did SET a 1; SET b 2"],
    );
    check(
        b"*5\r\n-ERR a\r\n+OK\r\n$1\r\n1\r\n*0\r\n+OK\r\n",
        &[RECORD, "1 did SELECT 9; SET b 2"],
    );
}
