//! Records come as from the journal itself; queries are answered meanwhile.

use super::*;
use support::Random;
use support::certificates::Certificates;
use wal_sidecar::journal::{MemoryJournal, MemoryOptions};
use wal_sidecar::mutation::v1;
use wal_sidecar::platform::tls::{ClientTls, ServerTls};

#[test]
fn records_come_in_order_and_completely_while_threads_append() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::new();
    for (index, (zstd, encrypted)) in [(true, false), (false, false), (true, true)]
        .into_iter()
        .enumerate()
    {
        run(async {
            let journal = open_with(LocalOptions {
                segment_bytes: 64 << 10,
                ..LocalOptions::new(directory.path().join(index.to_string()))
            });
            let mut serving = loopback();
            let tls = ServerTls::from_files(&certificates.certificate(), &certificates.key());
            serving.tls = encrypted.then(|| tls.unwrap());
            let server = serve_with(serving, &journal);
            let mut reading = options(server.address());
            reading.zstd = zstd;
            let tls = ClientTls::from_file(&certificates.authority(), "localhost");
            reading.tls = encrypted.then(|| tls.unwrap());
            let mut reader = RemoteReader::connect(reading, 0);

            const THREADS: usize = 3;
            const ROUNDS: usize = 1000;
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let mut appender = journal.appender();
                    let mut random = Random::new(thread as u64);
                    std::thread::spawn(move || {
                        for round in 0..ROUNDS {
                            let mut record = format!("{thread} {round} ").into_bytes();
                            let length = random.below(300);
                            // Some can be compressed, and some can't.
                            match random.below(2) {
                                0 => record.resize(length, b'x'),
                                _ => record.extend(random.bytes(length)),
                            }
                            appender.submit(batch(&[record]));
                        }
                    })
                })
                .collect();
            let found = read(&mut reader, THREADS * ROUNDS).await;
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(found, local(&journal, 0));
            let stats = &server.stats()[0];
            let bytes: usize = found.iter().map(|(_, record)| record.len()).sum();
            assert_eq!((stats.records, stats.readers), (found.len() as u64, 1));
            assert_eq!(stats.bytes, bytes as u64);
        });
    }
}

#[test]
fn a_reader_starts_anywhere_and_seeks() {
    run(async {
        let journal = Journal::Memory(Arc::new(MemoryJournal::new(MemoryOptions::default())));
        append(&journal, &numbered(0..100));
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 90);
        assert_eq!(reader.position(), 90);
        assert_eq!(read(&mut reader, 10).await, local(&journal, 90));
        reader.seek(5);
        assert_eq!(reader.position(), 5);
        assert_eq!(read(&mut reader, 95).await, local(&journal, 5));
        // Past the end: it waits until that is written.
        reader.seek(102);
        append(&journal, &numbered(100..103));
        assert_eq!(read(&mut reader, 1).await, local(&journal, 102));
        // One record at a time where that is all that is wanted.
        reader.seek(0);
        let mut one = ReadBatch::default();
        reader.next_batch(&mut one, 1).await.unwrap();
        assert_eq!((one.len(), reader.position()), (1, 1));
    });
}

#[test]
fn empty_and_long_records_are_records() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let long = Random::new(1).bytes(9 << 20);
        append(&journal, &[b"", &long[..], b"", b"short"]);
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        assert!(read(&mut reader, 4).await == local(&journal, 0));
    });
}

#[test]
fn queries_are_answered_while_a_fetch_waits_and_while_none_is_read() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        assert_eq!(within("an answer", reader.durable_next()).await, Ok(0));
        let mut batch = ReadBatch::default();
        for round in 0..20 {
            // A fetch that waits, and is given up.
            let waiting = reader.next_batch(&mut batch, 1000);
            assert!(timeout(Duration::from_millis(1), waiting).await.is_err());
            append(&journal, &numbered(round..round + 1));
            let fresh = within("an answer", reader.durable_next()).await;
            assert_eq!(
                fresh,
                Ok(round + 1),
                "what is durable before the call is in it"
            );
            assert_eq!(read(&mut reader, 1).await, local(&journal, round));
        }
        assert_eq!(reader.first_offset().await, Ok(0));
        // More than the window, which nobody takes.
        append(&journal, &vec![vec![7; 1000]; 20_000]);
        until("the window to be full", || 4000 < server.stats()[0].records).await;
        assert_eq!(reader.durable_next().await, Ok(20_020));
        assert_eq!(read(&mut reader, 20_000).await, local(&journal, 20));
        assert_eq!(reader.durable_next_seen(), 20_020);
    });
}

#[test]
fn others_ask_over_the_same_connection_while_records_are_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        let askers: Vec<_> = (0..5)
            .map(|_| {
                let (mut queries, journal) = (reader.queries(), journal.clone());
                tokio::spawn(async move {
                    for _ in 0..100 {
                        let before = journal.durable_through().map_or(0, |last| last + 1);
                        let answer = within("an answer", queries.durable_next()).await;
                        assert!(before <= answer.unwrap());
                    }
                })
            })
            .collect();
        let reading = tokio::spawn(async move {
            let found = read(&mut reader, 200).await;
            (reader, found)
        });
        for number in 0..200 {
            append(&journal, &numbered(number..number + 1));
            tokio::task::yield_now().await;
        }
        for asker in askers {
            asker.await.unwrap();
        }
        let (reader, found) = reading.await.unwrap();
        assert_eq!(found, local(&journal, 0));
        assert_eq!(server.stats()[0].readers, 1);
        let mut queries = reader.queries();
        drop(reader);
        let error = within("an error", queries.durable_next())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("its reader is gone"), "{error}");
    });
}

#[test]
fn a_time_is_found_as_in_the_journal_itself() {
    run(async {
        let journal = Journal::Memory(Arc::new(MemoryJournal::new(MemoryOptions::default())));
        let record = |hlc: u64| {
            let record = v1::Record {
                hlc,
                ..Default::default()
            };
            prost::Message::encode_to_vec(&record)
        };
        append(
            &journal,
            &(0..1000).map(|at| record(10 * at)).collect::<Vec<_>>(),
        );
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        for hlc in [0, 1, 10, 5_000, 5_001, 9_990, 9_991, u64::MAX] {
            let found = within("a place", reader.find(hlc)).await.unwrap();
            assert_eq!(found, journal.find(hlc).unwrap());
            assert_eq!(found, hlc.div_ceil(10).min(1000));
        }
    });
}

#[test]
fn a_call_that_is_cancelled_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        let appending = {
            let journal = journal.clone();
            std::thread::spawn(move || {
                for number in 0..300 {
                    append(&journal, &numbered(number..number + 1));
                }
            })
        };
        let (mut all, mut batch, mut cancelled) = (Vec::new(), ReadBatch::default(), 0);
        let mut random = Random::from_environment();
        while all.len() < 300 {
            let patience = Duration::from_micros(random.below(300) as u64);
            match timeout(patience, reader.next_batch(&mut batch, 1000)).await {
                Ok(result) => {
                    result.unwrap();
                    all.extend(copied(&batch));
                }
                Err(_) => {
                    cancelled += 1;
                    // A query that is given up, too, gives no later one its answer.
                    let _ = timeout(patience / 2, reader.first_offset()).await;
                }
            }
            if random.below(10) == 0 {
                let durable = within("an answer", reader.durable_next()).await.unwrap();
                assert!(all.len() as u64 <= durable);
            }
        }
        appending.join().unwrap();
        assert!(0 < cancelled);
        assert_eq!(all, local(&journal, 0));
    });
}

#[test]
fn the_end_waits_for_readers_to_have_it_all() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let mut reading = options(server.address());
        reading.window_bytes = 64 << 10;
        let mut reader = RemoteReader::connect(reading, 0);
        let _idle = RemoteReader::connect(options(server.address()), 0);
        append(&journal, &numbered(0..1));
        read(&mut reader, 1).await;
        append(&journal, &vec![vec![7; 1000]; 5000]);
        journal.close().unwrap();
        let stopping = tokio::spawn(server.stop(DEADLINE));
        assert_eq!(read(&mut reader, 5000).await, local(&journal, 1));
        within("the server's end", stopping).await.unwrap();
        let error = error_of(&mut reader).await;
        let RemoteError::Unreachable { reason, .. } = error else {
            panic!("{error}");
        };
        assert!(
            reason.contains("the server ends") || reason.contains("refused"),
            "{reason}"
        );
    });
}
