//! A sidecar that serves its journal while clients write through it.

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use support::certificates::Certificates;
use support::line::Line;
use support::process::free_port;
use support::{Redis, Sidecar, SidecarOptions, journal};
use wal_sidecar::journal::{ReadBatch, RemoteError, RemoteOptions, RemoteReader, Token};
use wal_sidecar::mutation::{decode, v1};
use wal_sidecar::platform::tls::ClientTls;

const DEADLINE: Duration = Duration::from_secs(30);
const CLIENTS: usize = 4;
const ROUNDS: usize = 50;
/// Commands that a client sends at once.
const PIPELINE: usize = 16;

fn options(address: SocketAddr) -> RemoteOptions {
    RemoteOptions {
        backoff_max: Duration::from_millis(100),
        patience: Duration::from_secs(1),
        ..RemoteOptions::new(address.to_string(), "test", "elsewhere")
    }
}

/// Writes as several pipelining clients do.
fn load(sidecar: &Sidecar) -> Vec<std::thread::JoinHandle<()>> {
    let start = |client: usize| {
        let mut connection = sidecar.client();
        std::thread::spawn(move || {
            for round in 0..ROUNDS {
                let mut commands = Vec::new();
                for index in 0..PIPELINE {
                    let key = format!("key:{client}:{}", index % 5);
                    let value = format!("{round}:{index}");
                    let command = support::resp::encode(&["SET", &key, &value]);
                    commands.extend_from_slice(&command);
                }
                connection.send(&commands);
                assert_eq!(connection.replies(PIPELINE), b"+OK\r\n".repeat(PIPELINE));
            }
        })
    };
    (0..CLIENTS).map(start).collect()
}

/// Reads until the server says that it ends, or is gone.
async fn read_to_the_end(reader: &mut RemoteReader, records: &mut Vec<v1::Record>) {
    let mut batch = ReadBatch::default();
    loop {
        let next = reader.next_batch(&mut batch, 100_000);
        match tokio::time::timeout(DEADLINE, next).await.expect("in time") {
            Ok(()) => {
                for (offset, bytes) in batch.iter() {
                    assert_eq!(offset, records.len() as u64, "in order, without gaps");
                    records.push(decode(Bytes::copy_from_slice(bytes)).expect("a record"));
                }
            }
            Err(RemoteError::Unreachable { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

/// A sidecar that serves its journal on a free port.
fn serving(lines: &str) -> (Redis, Sidecar) {
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis)
        .journal("serve = \"127.0.0.1:0\"")
        .journal(lines);
    (redis, Sidecar::with(options))
}

/// Where it does, as its log says; the last time it was started.
fn served_at(sidecar: &Sidecar) -> SocketAddr {
    let lines = sidecar.lines();
    let line = lines
        .iter()
        .rfind(|line| line.contains("serving the journal"));
    let line = line.expect("it says where");
    let (_, address) = line.split_once("address=").expect("it is a field");
    let address = address.split(' ').next().expect("there is a first part");
    address.parse().expect("an address")
}

#[test]
fn a_reader_gets_every_record_while_clients_write_and_the_last_at_the_end() {
    let certificates = Certificates::new();
    let lines = format!(
        "serve_token = \"hush\"\nserve_certificate = {:?}\nserve_key = {:?}",
        certificates.certificate(),
        certificates.key()
    );
    let (_redis, mut sidecar) = serving(&lines);
    let address = served_at(&sidecar);
    let clients = load(&sidecar);
    let reading = std::thread::spawn(move || {
        run(async move {
            let tls = ClientTls::from_file(&certificates.authority(), "localhost");
            let mut reader = RemoteReader::connect(
                RemoteOptions {
                    tls: Some(tls.expect("certificates")),
                    token: Some(Token::new("hush")),
                    ..options(address)
                },
                0,
            );
            let mut records = Vec::new();
            read_to_the_end(&mut reader, &mut records).await;
            records
        })
    });
    for client in clients {
        client.join().expect("writes are answered");
    }
    let written = (CLIENTS * ROUNDS * PIPELINE) as f64;
    support::until("the records to be served", DEADLINE, || {
        let served = sidecar.metric("wal_sidecar_journal_served_records_total", "\"test\"");
        (written <= served).then_some(())
    });
    let readers = sidecar.metric("wal_sidecar_journal_served_readers", "\"test\"");
    assert_eq!(readers, 1.0);
    assert!(0.0 < sidecar.metric("wal_sidecar_journal_served_bytes_total", "\"test\""));
    let (_, config) = sidecar.admin("/config");
    assert!(
        config.contains("\"serve_token\": \"<redacted>\""),
        "{config}"
    );
    assert!(sidecar.stop().success());
    let read = reading.join().expect("it reads");
    let (expected, _) = journal::read(&sidecar.journal().join("test"), 0);
    assert_eq!(read.len(), expected.len());
    assert_eq!(read, expected);
    assert_eq!(journal::mutations(&read).count(), written as usize);
}

#[test]
fn reading_goes_on_after_the_sidecar_was_killed() {
    let (_redis, mut sidecar) = serving("");
    run(async {
        let line = Line::to(served_at(&sidecar)).await;
        let mut reader = RemoteReader::connect(options(line.address()), 0);
        for round in 0..3 {
            let key = format!("key:{round}");
            assert_eq!(
                sidecar.client().command(&["SET", &key, "value"]),
                b"+OK\r\n"
            );
            let mut batch = ReadBatch::default();
            let mut found = false;
            while !found {
                let next = reader.next_batch(&mut batch, 100_000);
                match tokio::time::timeout(DEADLINE, next).await.expect("in time") {
                    Ok(()) => {}
                    Err(RemoteError::Unreachable { .. }) => continue,
                    Err(error) => panic!("{error}"),
                }
                let mut records = batch.iter().map(|(_, bytes)| bytes);
                found = records.any(|bytes| bytes.windows(5).any(|at| at == key.as_bytes()));
            }
            sidecar.kill();
            sidecar.restart();
            line.set_target(served_at(&sidecar));
        }
    });
}

#[test]
fn what_can_not_be_served_is_told_at_the_start() {
    let redis = Redis::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (taken, address));
    let (_taken, address) = taken.expect("it is bound");
    let nowhere = "serve_certificate = \"/nowhere/tls.crt\"\nserve_key = \"/nowhere/tls.key\"";
    for (lines, code, expected) in [
        (
            format!("serve = \"127.0.0.1:0\"\n{nowhere}"),
            2,
            "journal.serve: read certificates from /nowhere/tls.crt: No such file",
        ),
        (
            format!("serve = \"{address}\""),
            1,
            "to serve the journal: Address already in use",
        ),
    ] {
        let options = SidecarOptions::new(&redis).journal(&lines);
        let ended = Sidecar::failing(&options, free_port(), free_port());
        let text = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
