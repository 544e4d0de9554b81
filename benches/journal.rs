//! How fast the local journal is beside the disk alone. Run on a directory of
//! the disk in question: `cargo bench --bench journal -- /var/lib/somewhere`.
//!
//! Interleaves the two, for disks are noisy, and prints medians of the rounds.

use std::fs::{File, OpenOptions};
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wal_sidecar::journal::{Appender, Journal, LocalJournal, LocalOptions};
use wal_sidecar::mutation::{RecordBatch, RecordEntry, RecordKind};

const RECORD: [u8; 200] = [0x5a; 200];
const ROUNDS: usize = 5;
const SINGLE_APPENDS: usize = 2000;
const LOAD_TIME: Duration = Duration::from_secs(1);

fn main() {
    let arguments = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let parent = arguments.unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(parent).expect("a directory to write to");
    let directory = directory.path();

    let started = Instant::now();
    let journal = open(&directory.join("stream"));
    println!(
        "open an empty directory            {:>9.2?}",
        started.elapsed()
    );

    let (mut plain, mut appended) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        plain.push(plain_sync(&directory.join(format!("plain-{round}"))));
        appended.push(single_appends(&journal));
    }
    println!(
        "write + fdatasync, 200 B, p50      {:>9.2?}",
        median(&mut plain)
    );
    println!(
        "append one record, 200 B, p50      {:>9.2?}",
        median(&mut appended)
    );
    for (hand_overs, records) in [(1, 1), (1, 16), (1, 50), (50, 1), (50, 16)] {
        let mut rates: Vec<f64> = (0..3)
            .map(|_| load(&journal, hand_overs, records))
            .collect();
        rates.sort_by(f64::total_cmp);
        println!(
            "{hand_overs:>3} hand-overs of {records:>2} records in flight {:>9.0} records/s",
            rates[1]
        );
    }
    println!("{:?}", journal.stats().fsync_micros);
    journal.close().expect("closes");
    drop(journal);
    reopen(directory);
}

fn open(directory: &Path) -> Journal {
    let journal = LocalJournal::open(LocalOptions::new(directory)).expect("opens");
    Journal::Local(Arc::new(journal))
}

fn batch(appender: &mut Appender, records: usize) -> RecordBatch {
    let mut batch = appender.take_recycled();
    for _ in 0..records {
        batch.bytes.extend_from_slice(&RECORD);
        batch.entries.push(RecordEntry {
            end: batch.bytes.len(),
            key: (0, 0),
            kind: RecordKind::Mutation,
            sequence: 0,
            hlc: 0,
        });
    }
    batch
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// What the disk takes, in a file with space reserved.
fn plain_sync(path: &Path) -> Duration {
    let file: File = {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        options.open(path).expect("creates")
    };
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 16 << 20)
        .expect("reserves");
    file.sync_all().expect("syncs");
    let mut times = Vec::new();
    for i in 0..SINGLE_APPENDS as u64 {
        let started = Instant::now();
        file.write_all_at(&RECORD, i * 228).expect("writes");
        file.sync_data().expect("syncs");
        times.push(started.elapsed());
    }
    median(&mut times)
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.build().expect("a runtime")
}

fn single_appends(journal: &Journal) -> Duration {
    let (mut appender, mut times, mut done) = (journal.appender(), Vec::new(), Vec::new());
    runtime().block_on(async {
        for _ in 0..SINGLE_APPENDS {
            let records = batch(&mut appender, 1);
            let started = Instant::now();
            appender.submit(records);
            poll_fn(|context| appender.poll_completions(context, &mut done)).await;
            times.push(started.elapsed());
            for completion in done.drain(..) {
                completion.result.expect("appends");
                appender.recycle(completion.recycled);
            }
        }
    });
    median(&mut times)
}

/// Keeps so many hand-overs of so many records in flight; records per second.
fn load(journal: &Journal, hand_overs: usize, records: usize) -> f64 {
    let (mut appender, mut done) = (journal.appender(), Vec::new());
    let started = Instant::now();
    let (mut flying, mut count) = (0, 0);
    runtime().block_on(async {
        while started.elapsed() < LOAD_TIME {
            while flying < hand_overs {
                let records = batch(&mut appender, records);
                appender.submit(records);
                flying += 1;
            }
            poll_fn(|context| appender.poll_completions(context, &mut done)).await;
            for completion in done.drain(..) {
                completion.result.expect("appends");
                appender.recycle(completion.recycled);
                count += records;
                flying -= 1;
            }
        }
    });
    journal.flush().expect("flushes");
    count as f64 / started.elapsed().as_secs_f64()
}

/// A segment of 64 MiB, nearly full, opened after a close and after a crash.
fn reopen(directory: &Path) {
    let path = directory.join("reopened");
    let journal = open(&path);
    let mut appender = journal.appender();
    for _ in 0..900 {
        let records = batch(&mut appender, 300);
        appender.submit(records);
        journal.flush().expect("flushes");
    }
    let mebibytes = (journal.stats().bytes + 31 * journal.stats().records) >> 20;
    journal.close().expect("closes");
    for (found, close) in [
        ("closed", true),
        ("closed", false),
        ("not closed", false),
        ("not closed", false),
        ("not closed", false),
    ] {
        let started = Instant::now();
        let journal = open(&path);
        println!(
            "open {mebibytes} MiB, {found:<25} {:>9.2?}",
            started.elapsed()
        );
        if close {
            journal.close().expect("closes");
        }
    }
}
