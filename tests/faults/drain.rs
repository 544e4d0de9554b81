//! The end of a sidecar that has clients.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::process::Signal;
use super::support::resp::encode;
use super::support::{Client, Redis, Sidecar, SidecarOptions, http, until};
use super::{Answer, DEADLINE, Told, check_told, records};
use wal_sidecar::journal::local::inspect::summarize;

/// Every request that was sent before is answered, and then the end comes.
fn check_drain(drain: impl FnOnce(&Sidecar)) {
    const PIPELINE: usize = 200;
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis).root("drain_timeout = \"10s\"");
    let mut sidecar = Sidecar::with(options);
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Told::default());
    let mut clients: Vec<Client> = (0..16).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        assert_eq!(client.command(&["PING"]), b"+PONG\r\n");
    }
    // One waits for what does not come, one listens; neither holds up the end.
    let mut blocked = sidecar.client();
    blocked.send(&encode(&["BLPOP", "nothing", "0"]));
    let mut listening = sidecar.client();
    assert!(
        listening
            .command(&["SUBSCRIBE", "channel"])
            .starts_with(b"*3")
    );
    let background: Vec<_> = (0..2)
        .map(|index| until_closed(sidecar.port(), format!("back:{index}"), &stop, &told))
        .collect();
    until("the load to get going", DEADLINE, || {
        (500 < told.lock().unwrap().len()).then_some(())
    });
    for (index, client) in clients.iter_mut().enumerate() {
        let mut bytes = Vec::new();
        for number in 0..PIPELINE {
            let id = format!("id:{index}:{number}");
            bytes.extend(encode(&["SET", &format!("key:{id}"), &id]));
            bytes.extend(encode(&["GET", &format!("key:{id}")]));
        }
        client.send(&bytes);
    }
    drain(&sidecar);
    let started = Instant::now();
    for (index, client) in clients.iter_mut().enumerate() {
        for number in 0..PIPELINE {
            let id = format!("id:{index}:{number}");
            let reply = client.try_reply().unwrap_or_else(|e| panic!("{id}: {e}"));
            assert_eq!(reply, b"+OK\r\n");
            let expected = format!("${}\r\n{id}\r\n", id.len());
            assert_eq!(client.reply(), expected.as_bytes());
            told.lock().unwrap().insert(id, Answer::Own);
        }
        assert!(client.try_reply().is_err(), "and then it is closed");
    }
    stop.store(true, Ordering::Relaxed);
    for client in background {
        client.join().expect("clients see nothing wrong");
    }
    let status = sidecar.wait(DEADLINE);
    let elapsed = started.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(elapsed < Duration::from_secs(5), "drained in {elapsed:?}");
    println!("{:?}", check_told(&told, &records(&sidecar)));
    let directory = sidecar.journal().join("test");
    assert!(summarize(&directory).expect("a journal").closed);
}

/// Writes until the sidecar closes the connection, in order.
fn until_closed(port: u16, name: String, stop: &Arc<AtomicBool>, told: &Told) -> JoinHandle<()> {
    let (stop, told) = (Arc::clone(stop), Arc::clone(told));
    std::thread::spawn(move || {
        let mut client = Client::connect(port);
        for number in 0.. {
            let id = format!("id:{name}:{number}");
            let command = encode(&["SET", &format!("key:{id}"), &id]);
            if stop.load(Ordering::Relaxed) || client.stream().write_all(&command).is_err() {
                return;
            }
            let Ok(reply) = client.try_reply() else {
                return;
            };
            assert_eq!(reply, b"+OK\r\n");
            told.lock().unwrap().insert(id, Answer::Own);
        }
    })
}

#[test]
fn sigterm_loses_nothing() {
    check_drain(|sidecar| sidecar.signal(Signal::Term));
}

#[test]
fn a_drain_over_http_loses_nothing() {
    check_drain(|sidecar| {
        let (status, body) =
            http::request("POST", sidecar.admin_port(), "/drain").expect("an answer");
        assert_eq!(status, 202, "{body}");
    });
}
