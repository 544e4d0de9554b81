//! A journal served over the network, as a reader elsewhere sees it.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod following;
mod identity;
mod limits;
mod throughput;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use wal_sidecar::journal::{
    Journal, LocalJournal, LocalOptions, Offset, ReadBatch, RemoteError, RemoteOptions,
    RemoteReader, RemoteServer, ServeOptions,
};
use wal_sidecar::mutation::{RecordBatch, RecordEntry, RecordKind};

/// Everything here is a matter of milliseconds on a machine that is not busy.
const DEADLINE: Duration = Duration::from_secs(30);

const NAMESPACE: &str = "sessions";

/// Runs a test with tasks of its own.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { timeout(4 * DEADLINE, test).await.expect("in time") });
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Waits until a condition holds that nothing announces.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, holds).await;
}

fn open(directory: &Path) -> Journal {
    open_with(LocalOptions::new(directory))
}

fn open_with(options: LocalOptions) -> Journal {
    Journal::Local(Arc::new(LocalJournal::open(options).expect("it opens")))
}

fn batch(records: &[impl AsRef<[u8]>]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    for record in records {
        batch.bytes.extend_from_slice(record.as_ref());
        batch.entries.push(RecordEntry {
            end: batch.bytes.len(),
            key: (0, 0),
            kind: RecordKind::Mutation,
            sequence: 1,
            hlc: 0,
        });
    }
    batch
}

/// Appends, and waits until it is durable.
fn append(journal: &Journal, records: &[impl AsRef<[u8]>]) {
    journal.appender().submit(batch(records));
    journal.flush().expect("durable");
}

fn numbered(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| format!("record {number}")).collect()
}

fn loopback() -> ServeOptions {
    ServeOptions::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn serve(journal: &Journal) -> RemoteServer {
    serve_with(loopback(), journal)
}

fn serve_with(options: ServeOptions, journal: &Journal) -> RemoteServer {
    let journals = vec![(NAMESPACE.to_owned(), journal.clone())];
    RemoteServer::start(options, journals).expect("it serves")
}

/// Impatient, so that tests are quick.
fn options(address: SocketAddr) -> RemoteOptions {
    RemoteOptions {
        backoff_max: Duration::from_millis(100),
        patience: Duration::from_secs(1),
        silence_max: Duration::from_secs(3),
        ..RemoteOptions::new(address.to_string(), NAMESPACE, "eu-1")
    }
}

type Records = Vec<(Offset, Vec<u8>)>;

fn copied(batch: &ReadBatch) -> Records {
    let records = batch.iter();
    records.map(|(at, bytes)| (at, bytes.to_vec())).collect()
}

/// What the journal itself gives from an offset on.
fn local(journal: &Journal, from: Offset) -> Records {
    let (mut reader, mut batch, mut all) = (journal.reader(from), ReadBatch::default(), Vec::new());
    loop {
        reader.next_batch(&mut batch, 1 << 20).expect("it reads");
        if batch.is_empty() {
            return all;
        }
        all.extend(copied(&batch));
    }
}

/// The next `count` records, with whatever trouble there is on the way.
async fn read(reader: &mut RemoteReader, count: usize) -> Records {
    let (mut batch, mut all) = (ReadBatch::default(), Vec::new());
    while all.len() < count {
        match within("records", reader.next_batch(&mut batch, 10_000)).await {
            Ok(()) => {
                assert!(!batch.is_empty());
                all.extend(copied(&batch));
                let last = all.last().expect("not empty").0;
                assert_eq!(reader.position(), last + 1);
            }
            Err(RemoteError::Unreachable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    all
}

/// The error that reading comes to.
async fn error_of(reader: &mut RemoteReader) -> RemoteError {
    let mut batch = ReadBatch::default();
    let result = within("an error", reader.next_batch(&mut batch, 1000)).await;
    result.expect_err("no records")
}
