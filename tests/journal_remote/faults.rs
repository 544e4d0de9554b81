//! Connections that are cut, stall, and deliver byte by byte; servers that
//! start again.

use super::*;
use support::Random;
use support::line::{Line, Manner};

#[test]
fn reading_goes_on_where_a_cut_connection_ended() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let line = Line::to(server.address()).await;
        let mut random = Random::from_environment();
        // Some frames' worth: it ends in the middle of one.
        line.cut_after(random.clone(), 600_000);
        let mut reading = options(line.address());
        reading.backoff_max = Duration::from_millis(5);
        let mut reader = RemoteReader::connect(reading, 0);
        let records: Vec<_> = (0..20_000)
            .map(|_| {
                let length = random.below(300);
                random.bytes(length)
            })
            .collect();
        let appending = {
            let (journal, records) = (journal.clone(), records.clone());
            std::thread::spawn(move || {
                for records in records.chunks(100) {
                    append(&journal, records);
                }
            })
        };
        let mut all = Vec::new();
        while all.len() < records.len() {
            all.extend(read(&mut reader, 1).await);
        }
        appending.join().unwrap();
        assert!(all == local(&journal, 0));
        assert!(5 < line.connections(), "{} cuts", line.connections());
    });
}

#[test]
fn bytes_may_come_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        append(&journal, &numbered(0..500));
        let server = serve(&journal);
        let line = Line::to(server.address()).await;
        line.set(Manner::Trickle);
        let mut reader = RemoteReader::connect(options(line.address()), 0);
        assert_eq!(read(&mut reader, 500).await, local(&journal, 0));
        assert_eq!(within("an answer", reader.durable_next()).await, Ok(500));
        assert_eq!(line.connections(), 1);
    });
}

#[test]
fn a_line_that_stalls_is_noticed_on_both_sides_and_told() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        append(&journal, &numbered(0..10));
        let server = serve(&journal);
        let line = Line::to(server.address()).await;
        let mut reading = options(line.address());
        reading.silence_max = Duration::from_secs(2);
        reading.connect_timeout = Duration::from_millis(200);
        let mut reader = RemoteReader::connect(reading, 0);
        read(&mut reader, 10).await;
        assert!(reader.is_connected());
        line.set(Manner::Stall);
        let error = within("an error", reader.durable_next()).await.unwrap_err();
        let RemoteError::Unreachable { since, reason } = error else {
            panic!("{error}");
        };
        assert!(Duration::from_secs(1) <= since, "{since:?}");
        assert!(reason.contains("no welcome within 200 ms"), "{reason}");
        assert!(!reader.is_connected());
        // Told again as time goes on, and the other call says the same.
        let again = error_of(&mut reader).await;
        let RemoteError::Unreachable { since: later, .. } = again else {
            panic!("{again}");
        };
        assert!(since < later);
        until("the server to notice", || server.stats()[0].readers == 0).await;
        line.set(Manner::Pass);
        append(&journal, &numbered(10..11));
        assert_eq!(read(&mut reader, 1).await, local(&journal, 10));
    });
}

#[test]
fn an_idle_connection_stays() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let line = Line::to(server.address()).await;
        let mut reading = options(line.address());
        reading.silence_max = Duration::from_millis(1600);
        let mut reader = RemoteReader::connect(reading, 0);
        assert_eq!(within("an answer", reader.durable_next()).await, Ok(0));
        // Twice the silence that would end it.
        let mut batch = ReadBatch::default();
        let waiting = reader.next_batch(&mut batch, 1000);
        assert!(timeout(Duration::from_millis(3200), waiting).await.is_err());
        assert!(reader.is_connected());
        assert_eq!(line.connections(), 1);
    });
}

#[test]
fn a_server_that_starts_again_is_read_on() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let mut journal = open(directory.path());
        let mut server = serve(&journal);
        let line = Line::to(server.address()).await;
        let mut reader = RemoteReader::connect(options(line.address()), 0);
        let identity = journal.identity();
        for round in 0..3 {
            append(&journal, &numbered(round * 100..round * 100 + 100));
            let found = read(&mut reader, 100).await;
            assert_eq!(found, local(&journal, round * 100));
            assert_eq!(reader.identity(), identity);
            reader.acknowledge(round * 100 + 50);
            // Once as a process ends in good order, once as one that is killed.
            if round == 0 {
                journal.close().unwrap();
                server.stop(DEADLINE).await;
            } else {
                drop(server);
            }
            drop(journal);
            journal = reopened(directory.path()).await;
            server = serve(&journal);
            line.set_target(server.address());
        }
        // What is needed is told to the new one.
        until("the cursor", || {
            let cursors = journal.stats().cursors;
            cursors
                .iter()
                .any(|one| one.name == "eu-1" && one.needed == 250)
        })
        .await;
    });
}

/// The lock is let go when the last connection of the server before is.
async fn reopened(directory: &Path) -> Journal {
    let mut journal = None;
    until("the journal to be closed", || {
        let opened = LocalJournal::open(LocalOptions::new(directory)).ok();
        journal = opened.map(|local| Journal::Local(Arc::new(local)));
        journal.is_some()
    })
    .await;
    journal.expect("it was waited for")
}

#[test]
fn another_journal_in_the_place_of_one_is_told() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let first = open(&directory.path().join("first"));
        append(&first, &numbered(0..10));
        let second = open(&directory.path().join("second"));
        append(&second, &numbered(100..103));
        let (one, two) = (serve(&first), serve(&second));
        let line = Line::to(one.address()).await;
        let mut reader = RemoteReader::connect(options(line.address()), 0);
        read(&mut reader, 10).await;
        line.set_target(two.address());
        line.cut();
        let (was, is) = (first.identity().unwrap(), second.identity().unwrap());
        let replaced = RemoteError::Replaced { was, is };
        assert_eq!(error_of(&mut reader).await, replaced);
        let end = within("an answer", reader.durable_next()).await;
        assert_eq!(end, Err(replaced));
        let start = within("an answer", reader.first_offset()).await.unwrap();
        reader.seek(start);
        assert_eq!(read(&mut reader, 3).await, local(&second, 0));
        // And where it was known from before.
        let mut reading = options(two.address());
        reading.identity = Some(was);
        let mut other = RemoteReader::connect(reading, 10);
        assert_eq!(
            error_of(&mut other).await,
            RemoteError::Replaced { was, is }
        );
    });
}
