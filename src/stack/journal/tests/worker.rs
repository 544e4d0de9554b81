//! One worker, with a journal and a datastore that do what they are told.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::journal::{MemoryJournal, MemoryOptions};
use crate::mutation::v1::outcome::Result as Told;
use crate::mutation::{WriterOptions, decode};
use crate::protocol::resp::scanner::{Limits, Scanner};
use crate::protocol::{Class, Command, Transaction};

/// A writer's number that is easy to see in UNCERTAIN.
const WRITER: u64 = 0xabc;

/// A datastore that notes what it is sent and answers when it is told to.
#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Rc<RefCell<FakeState>>);

#[derive(Default)]
pub(super) struct FakeState {
    sent: Vec<String>,
    pub(super) waiting: Vec<Rc<RefCell<Reply>>>,
    pub(super) away: Option<Rc<str>>,
}

#[derive(Default)]
pub(super) struct Reply {
    replies: Replies,
    is_there: bool,
    waker: Option<std::task::Waker>,
}

pub(super) struct Replying(Rc<RefCell<Reply>>);

impl Upstream for Fake {
    fn unavailable(&self) -> Option<Rc<str>> {
        self.0.borrow().away.clone()
    }

    fn link(&self) -> u32 {
        0
    }
}

impl Service<Batch> for Fake {
    type Response = Replies;
    type Error = Infallible;
    type Future = Replying;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Batch) -> Replying {
        let mut state = self.0.borrow_mut();
        for command in &batch.commands {
            let text = String::from_utf8_lossy(command.of(&batch.bytes)).into_owned();
            let words = text
                .split("\r\n")
                .filter(|word| !word.starts_with(['*', '$']));
            state
                .sent
                .push(words.collect::<Vec<_>>().join(" ").trim().to_owned());
        }
        let reply = Rc::new(RefCell::new(Reply {
            replies: Replies {
                batch,
                ..Replies::default()
            },
            ..Reply::default()
        }));
        state.waiting.push(Rc::clone(&reply));
        Replying(reply)
    }
}

impl Future for Replying {
    type Output = Result<Replies, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut reply = self.0.borrow_mut();
        if reply.is_there {
            return Poll::Ready(Ok(std::mem::take(&mut reply.replies)));
        }
        reply.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Shape for Replying {
    fn shape(&self) -> Batch {
        let reply = self.0.borrow();
        let batch = &reply.replies.batch;
        Batch {
            commands: batch.commands.clone(),
            mutations: batch.mutations,
            expect: batch.expect,
            ..Batch::default()
        }
    }
}

impl Fake {
    /// What it was sent since the last call.
    pub(super) fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().sent)
    }

    /// Answers the oldest batch that has no answer.
    pub(super) fn answer(&self, replies: &[&str]) {
        let reply = self.0.borrow_mut().waiting.remove(0);
        let mut reply = reply.borrow_mut();
        for text in replies {
            reply.replies.push(format!("{text}\r\n").as_bytes());
        }
        reply.is_there = true;
        if let Some(waker) = reply.waker.take() {
            waker.wake();
        }
    }
}

/// Everything that one worker has.
pub(super) struct Worker {
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) datastore: Fake,
    pub(super) shared: Shared<Fake>,
    pub(super) table: Arc<ArcSwap<Table>>,
    pub(super) in_flight: Rc<Counters>,
    pub(super) metrics: Rc<Metrics>,
}

pub(super) const DURABLE: KeyPolicy = KeyPolicy {
    durability: Durability::Durable,
    on_unavailable: OnUnavailable::Reject,
};

impl Worker {
    /// Runs on a `LocalSet`.
    pub(super) fn start(default: KeyPolicy, prefixes: &[(&str, KeyPolicy)]) -> Worker {
        let memory = Arc::new(MemoryJournal::new(MemoryOptions::default()));
        let journal = journal::Journal::Memory(Arc::clone(&memory));
        Worker {
            journal: memory,
            ..Worker::start_on(&journal, default, prefixes)
        }
    }

    /// The same with another journal.
    pub(super) fn start_on(
        journal: &journal::Journal,
        default: KeyPolicy,
        prefixes: &[(&str, KeyPolicy)],
    ) -> Worker {
        let prefixes = prefixes.iter();
        let prefixes = prefixes.map(|(prefix, policy)| (prefix.as_bytes().to_vec(), *policy));
        let policy = Arc::new(ArcSwap::from_pointee(Policy::new(
            default,
            prefixes.collect(),
        )));
        let table = Arc::new(ArcSwap::from_pointee(Table::built_in()));
        let (in_flight, metrics) = (Counters::new(1000, 1 << 20), Metrics::new("test"));
        let shared = Shared::new(Options {
            table: Arc::clone(&table),
            policy,
            writer: Writer::new(WriterOptions {
                region: "test".to_owned(),
                namespace: "test".to_owned(),
                store: v1::Store::Redis,
                writer: WRITER,
            }),
            appender: journal.appender(),
            in_flight: Rc::clone(&in_flight),
            metrics: Rc::clone(&metrics),
        });
        tokio::task::spawn_local(pump(shared.clone()));
        Worker {
            journal: Arc::new(MemoryJournal::new(MemoryOptions::default())),
            datastore: Fake::default(),
            shared,
            table,
            in_flight,
            metrics,
        }
    }

    pub(super) fn connection(&self) -> Journal<Fake> {
        Journal::new(self.shared.clone(), self.datastore.clone())
    }

    /// The commands as one batch, classified as the proxy does.
    pub(super) fn batch(&self, commands: &[&str]) -> Batch {
        let mut batch = Batch::default();
        let table = self.table.load();
        for command in commands {
            let start = batch.bytes.len();
            push(&mut batch.bytes, command);
            let bytes = &batch.bytes[start..];
            let frame = Scanner::new(Limits::default()).next(bytes);
            let frame = frame.expect("it is well-formed").expect("it is whole");
            let classified = table.classify(bytes, &frame);
            let end = batch.bytes.len() as u32;
            batch.push(Command {
                start: start as u32,
                end,
                specification: classified.specification,
                class: classified.class,
            });
        }
        batch
    }

    /// An EXEC of the commands.
    pub(super) fn transaction(&self, commands: &[&str]) -> Batch {
        let queued = self.batch(commands);
        let mut transaction = Transaction::default();
        for command in &queued.commands {
            transaction.queue(command, &queued.bytes);
        }
        let mut exec = self.batch(&["EXEC"]).as_class(Class::Mutation);
        exec.transaction = Some(Box::new(transaction));
        exec
    }

    pub(super) fn records(&self) -> Vec<v1::Record> {
        let records = self.kept();
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.sequence, index as u64 + 1, "sequences are dense");
        }
        records
    }

    /// The records of a journal that has lost some.
    pub(super) fn kept(&self) -> Vec<v1::Record> {
        let records = self.journal.records().into_iter();
        records
            .map(|bytes| decode(Bytes::from(bytes)).expect("a record"))
            .collect()
    }

    /// The records' commands as text; outcomes as what they say of which.
    pub(super) fn journaled(&self) -> Vec<String> {
        self.records().iter().map(text).collect()
    }
}

fn push(bytes: &mut BytesMut, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

pub(super) fn text(record: &v1::Record) -> String {
    let of = |commands: &[v1::Command]| {
        let words = commands.iter().flat_map(|command| &command.arguments);
        let words: Vec<_> = words.map(|w| String::from_utf8_lossy(w)).collect();
        words.join(" ")
    };
    match record.body.as_ref().expect("a body") {
        Body::Mutation(mutation) => of(&mutation.commands),
        Body::Outcome(outcome) => {
            let told = match outcome.result.as_ref().expect("a result") {
                Told::Effects(effects) => format!("did {}", of(&effects.commands)),
                Told::Rejected(_) => "rejected".to_owned(),
                Told::Unknown(_) => "unknown".to_owned(),
            };
            format!("{} {told}", outcome.of_sequence)
        }
        Body::Snapshot(_) => "snapshot".to_owned(),
        Body::Heartbeat(_) => "heartbeat".to_owned(),
    }
}
