//! What readers hold, what is sent unasked, and what strangers can do.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use support::Random;

/// In groups that fit segments of their own.
fn fill(journal: &Journal) {
    for start in (0..1000).step_by(20) {
        append(journal, &numbered(start..start + 20));
    }
}

/// Segments of 4 KiB, of which retention wants to keep none.
fn small(directory: &Path) -> (Journal, Arc<LocalJournal>) {
    let local = LocalJournal::open(LocalOptions {
        segment_bytes: 4096,
        retention_bytes: Some(1),
        ..LocalOptions::new(directory)
    });
    let local = Arc::new(local.unwrap());
    (Journal::Local(Arc::clone(&local)), local)
}

#[test]
fn what_a_reader_needs_is_kept_while_it_is_there_and_for_a_time_after() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (journal, local_journal) = small(directory.path());
        let mut serving = loopback();
        serving.cursor_grace = Duration::from_secs(2);
        let server = serve_with(serving, &journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        assert_eq!(reader.first_offset().await, Ok(0));
        fill(&journal);
        local_journal.retain().unwrap();
        assert_eq!(journal.first_offset(), 0, "the reader has read nothing");
        read(&mut reader, 1000).await;
        local_journal.retain().unwrap();
        assert_eq!(journal.first_offset(), 0, "it has acknowledged nothing");
        reader.acknowledge(500);
        until("the acknowledgement", || {
            local_journal.retain().unwrap();
            0 < journal.first_offset()
        })
        .await;
        let first = journal.first_offset();
        assert!(first <= 500);
        drop(reader);
        until("the reader to be gone", || server.stats()[0].readers == 0).await;
        local_journal.retain().unwrap();
        assert_eq!(journal.first_offset(), first, "it may come back");
        until("the end of the grace time", || {
            local_journal.retain().unwrap();
            first < journal.first_offset()
        })
        .await;
        assert!(500 < journal.first_offset());
    });
}

#[test]
fn what_was_removed_is_told_and_reading_goes_on_after_it() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (journal, local_journal) = small(directory.path());
        fill(&journal);
        local_journal.retain().unwrap();
        let first = journal.first_offset();
        assert!(0 < first);
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        let removed = RemoteError::Removed { first };
        assert_eq!(error_of(&mut reader).await, removed);
        assert_eq!(error_of(&mut reader).await, removed);
        assert_eq!(reader.first_offset().await, Ok(first));
        assert_eq!(reader.position(), 0);
        reader.seek(first);
        let rest = (1000 - first) as usize;
        assert_eq!(read(&mut reader, rest).await, local(&journal, first));
    });
}

#[test]
fn damage_at_the_server_is_told() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        append(&journal, &numbered(0..10));
        let segment = directory.path().join("segment-0000000001.wal");
        let mut bytes = std::fs::read(&segment).unwrap();
        let at = bytes
            .windows(8)
            .position(|piece| piece == b"record 5")
            .unwrap();
        bytes[at] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        assert_eq!(read(&mut reader, 5).await.len(), 5);
        let error = error_of(&mut reader).await;
        assert!(matches!(&error, RemoteError::Damaged { .. }), "{error}");
        assert!(
            error.to_string().contains("no record with offset 5"),
            "{error}"
        );
    });
}

#[test]
fn no_more_is_sent_than_the_reader_gave_credit_for() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        append(&journal, &vec![[7; 1000]; 10_000]);
        let server = serve(&journal);
        let mut reading = options(server.address());
        reading.window_bytes = 1 << 20;
        let mut reader = RemoteReader::connect(reading, 0);
        read(&mut reader, 1).await;
        let sent = || server.stats()[0].records;
        until("the window to be full", || 900 < sent()).await;
        // Two round trips later there is still no more.
        reader.durable_next().await.unwrap();
        reader.durable_next().await.unwrap();
        let before = sent();
        assert!(before < 1_400, "{before}");
        let mut rest = read(&mut reader, 9_000).await.len();
        while reader.position() < 10_000 {
            rest += read(&mut reader, 1).await.len();
        }
        assert!(9_000 <= rest);
        assert_eq!(sent(), 10_000);
    });
}

#[test]
fn readers_are_limited() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let mut serving = loopback();
        serving.readers_max = 1;
        let server = serve_with(serving, &journal);
        let mut first = RemoteReader::connect(options(server.address()), 0);
        assert_eq!(first.durable_next().await, Ok(0));
        let mut second = RemoteReader::connect(options(server.address()), 0);
        let reason = "there are too many readers".to_owned();
        assert_eq!(error_of(&mut second).await, RemoteError::Refused { reason });
        drop(first);
        let mut answer = within("an answer", second.durable_next()).await;
        while answer.is_err() {
            answer = within("an answer", second.durable_next()).await;
        }
        assert_eq!(answer, Ok(0));
    });
}

/// Sends bytes and reads what is answered, until the server ends it.
fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // The server may have seen enough before it is all sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..read]);
    }
    answer
}

#[test]
fn garbage_and_long_frames_harm_nobody() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        append(&journal, &numbered(0..10));
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        read(&mut reader, 10).await;
        let address = server.address();
        let mut random = Random::from_environment();
        let long_frame = *b"WJ\x01\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0";
        let damaged = *b"WJ\x01\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let mut cases = vec![
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"*1\r\n$4\r\nPING\r\n".to_vec(),
            b"\x16\x03\x01\x02\0\x01\0".to_vec(),
            b"WJ\x09\0".to_vec(),
            long_frame.to_vec(),
            damaged.to_vec(),
            vec![],
            vec![0; 100_000],
        ];
        for _ in 0..50 {
            let length = random.below(200);
            cases.push(random.bytes(length));
            cases.push([&b"WJ\x01"[..], &random.bytes(length)].concat());
        }
        let strangers = tokio::task::spawn_blocking(move || {
            for case in &cases {
                let answer = send(address, case);
                assert!(
                    answer.is_empty() || answer.starts_with(b"WJ\x01"),
                    "{answer:?}"
                );
            }
            let told = send(address, b"WJ\x09\0");
            let told = String::from_utf8_lossy(&told).into_owned();
            assert!(told.contains("version 9"), "{told:?}");
        });
        within("strangers", strangers).await.unwrap();
        append(&journal, &numbered(10..11));
        assert_eq!(read(&mut reader, 1).await, local(&journal, 10));
        assert!(reader.is_connected());
        assert_eq!(server.stats()[0].readers, 1);
    });
}

/// By hand, as the client would not: a hello, and many questions in one go.
#[test]
fn who_asks_and_does_not_read_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let address = server.address();
        // Hello { namespace, reader }, and Query { durable_next }.
        let hello = b"\x0a\x0d\x12\x08sessions\x1a\x01x";
        let mut bytes = frame(0, hello);
        // More than the buffers of both sides take.
        bytes.extend(frame(1, b"\x22\x02\x08\x01").repeat(1_200_000));
        let asking = tokio::task::spawn_blocking(move || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            // What is answered does not fit, so it is not sent.
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&address.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(&bytes).is_err()
        });
        assert!(within("the end", asking).await.unwrap());
        until("the reader to be gone", || server.stats()[0].readers == 0).await;
    });
}

#[test]
fn what_comes_together_with_the_hello_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        append(&journal, &numbered(0..7));
        let server = serve(&journal);
        let address = server.address();
        let hello = b"\x0a\x0d\x12\x08sessions\x1a\x01x";
        let both = [frame(0, hello), frame(9, b"\x22\x02\x08\x01")].concat();
        let asking = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(&both).unwrap();
            let answer = frame(9, b"\x52\x02\x08\x07");
            let (mut come, mut piece) = (Vec::new(), [0; 1024]);
            while !come.windows(answer.len()).any(|bytes| bytes == answer) {
                let read = stream.read(&mut piece).unwrap();
                assert!(0 < read, "{come:?}");
                come.extend_from_slice(&piece[..read]);
            }
        });
        within("an answer", asking).await.unwrap();
    });
}

fn frame(number: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = b"WJ\x01\0".to_vec();
    frame.extend(number.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), body);
    frame.extend(checksum.to_be_bytes());
    frame.extend(body);
    frame
}

#[test]
fn garbage_from_a_server_is_told() {
    run(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                use tokio::io::AsyncWriteExt;
                let _ = stream.write_all(b"-ERR unknown command\r\n").await;
            }
        });
        let mut reader = RemoteReader::connect(options(address), 0);
        let error = error_of(&mut reader).await;
        answering.abort();
        let RemoteError::Unreachable { reason, .. } = error else {
            panic!("{error}");
        };
        assert!(reason.contains("does not speak the protocol"), "{reason}");
    });
}
