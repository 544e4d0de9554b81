//! A load on memcached, for `scripts/bench --memcached`. Prints one JSON object.
//!
//! `cargo bench --bench memcached -- --port P --command get|set --clients N
//! --pipeline N --operations N`: text protocol, values of 100 bytes, random keys
//! of a hundred thousand, each client with so many commands under way.

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 100;
const READ_BYTES: usize = 64 * 1024;

struct Options {
    port: u16,
    is_get: bool,
    clients: usize,
    pipeline: usize,
    operations: usize,
}

fn options() -> Options {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        let value = at.and_then(|at| arguments.get(at + 1));
        value.cloned().unwrap_or_else(|| default.to_owned())
    };
    let number = |name: &str, default: &str| value(name, default).parse().expect("a number");
    Options {
        port: number("--port", "11211") as u16,
        is_get: value("--command", "get") == "get",
        clients: number("--clients", "50"),
        pipeline: number("--pipeline", "1"),
        operations: number("--operations", "100000"),
    }
}

/// splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One client: batches of `pipeline` commands until its share is done; how long
/// each batch took, in microseconds.
async fn client(options: &Options, number: usize) -> std::io::Result<Vec<u32>> {
    let mut stream = TcpStream::connect(("127.0.0.1", options.port)).await?;
    stream.set_nodelay(true)?;
    let mut random = number as u64;
    let mut left = options.operations / options.clients;
    let (mut sent, mut received) = (Vec::new(), vec![0; READ_BYTES]);
    let mut micros = Vec::with_capacity(left / options.pipeline + 1);
    let value = "v".repeat(VALUE_BYTES);
    while left > 0 {
        let count = left.min(options.pipeline);
        left -= count;
        sent.clear();
        for _ in 0..count {
            let key = next(&mut random) % KEYS;
            let command = match options.is_get {
                true => format!("get key:{key:012}\r\n"),
                false => format!("set key:{key:012} 0 0 {VALUE_BYTES}\r\n{value}\r\n"),
            };
            sent.extend_from_slice(command.as_bytes());
        }
        let started = Instant::now();
        stream.write_all(&sent).await?;
        // Every reply to either has one line with an upper-case D at its end:
        // STORED, END.
        let (mut replies, mut last) = (0, 0);
        while replies < count {
            let read = stream.read(&mut received).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            for byte in &received[..read] {
                if *byte == b'\r' && last == b'D' {
                    replies += 1;
                }
                assert!(*byte != b'_', "an error or NOT_STORED");
                last = *byte;
            }
        }
        micros.push(started.elapsed().as_micros() as u32);
    }
    Ok(micros)
}

fn main() {
    let options = Arc::new(options());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let started = Instant::now();
    let mut micros: Vec<u32> = runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..options.clients {
            let options = Arc::clone(&options);
            clients.spawn(async move { client(&options, number).await });
        }
        let done = clients.join_all().await;
        let each = done.into_iter().map(|micros| micros.expect("a connection"));
        each.flatten().collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    micros.sort_unstable();
    let at = |share: f64| f64::from(micros[((micros.len() - 1) as f64 * share) as usize]) / 1e3;
    let operations = options.operations / options.clients * options.clients;
    println!(
        "{{\"ops_per_second\": {:.0}, \"p50_ms\": {}, \"p99_ms\": {}, \"mean_ms\": {:.4}}}",
        operations as f64 / seconds,
        at(0.5),
        at(0.99),
        micros.iter().map(|one| f64::from(*one)).sum::<f64>() / micros.len() as f64 / 1e3,
    );
}
