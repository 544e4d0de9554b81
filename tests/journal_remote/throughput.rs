//! How fast records of 200 bytes go over a loopback connection. Printed, and
//! only held against a floor that a debug build clears.

use std::time::Instant;

use super::*;
use support::certificates::Certificates;
use wal_sidecar::platform::tls::{ClientTls, ServerTls};

const RECORDS: usize = 300_000;

/// Half of each is the same in all, as of records of one application.
fn record(number: usize) -> [u8; 200] {
    let mut record = [b'a'; 200];
    let mut random = support::Random::new(number as u64);
    for piece in record[100..].chunks_mut(8) {
        let bytes = random.next().to_le_bytes();
        piece.copy_from_slice(&bytes[..piece.len()]);
    }
    record
}

#[test]
fn throughput_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::new();
    let journal = open(directory.path());
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    for records in records.chunks(10_000) {
        append(&journal, records);
    }
    for (what, zstd, encrypted) in [
        ("plain", false, false),
        ("zstd", true, false),
        ("TLS", false, true),
        ("TLS and zstd", true, true),
    ] {
        run(async {
            let mut serving = loopback();
            let tls = ServerTls::from_files(&certificates.certificate(), &certificates.key());
            serving.tls = encrypted.then(|| tls.unwrap());
            let server = serve_with(serving, &journal);
            let mut reading = options(server.address());
            reading.zstd = zstd;
            let tls = ClientTls::from_file(&certificates.authority(), "localhost");
            reading.tls = encrypted.then(|| tls.unwrap());
            let mut reader = RemoteReader::connect(reading, 0);
            let mut batch = ReadBatch::default();
            let (begun, mut count) = (Instant::now(), 0);
            while count < RECORDS {
                reader.next_batch(&mut batch, 256 << 10).await.unwrap();
                count += batch.len();
            }
            let rate = RECORDS as f64 / begun.elapsed().as_secs_f64();

            let begun = Instant::now();
            const QUERIES: u32 = 500;
            for _ in 0..QUERIES {
                reader.durable_next().await.unwrap();
            }
            let query = begun.elapsed() / QUERIES;
            println!("{what:>13}: {rate:>9.0} records/s of 200 B, {query:?} a query");
            assert!(10_000.0 < rate, "{rate}");
        });
    }
}

#[test]
fn delay_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let journal = open(directory.path());
        let server = serve(&journal);
        let mut reader = RemoteReader::connect(options(server.address()), 0);
        let mut batch = ReadBatch::default();
        let mut delays = Vec::new();
        for number in 0..500 {
            append(&journal, &[record(number)]);
            let durable = Instant::now();
            reader.next_batch(&mut batch, 1).await.unwrap();
            delays.push(durable.elapsed());
        }
        delays.sort();
        let (half, most) = (delays[250], delays[495]);
        println!("from durable to read elsewhere: p50 {half:?}, p99 {most:?}");
        assert!(half < Duration::from_millis(50), "{half:?}");
    });
}
