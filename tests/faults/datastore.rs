//! The datastore is away, hangs, or has no room.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::process::Signal;
use super::support::resp::encode;
use super::support::{Client, Redis, Sidecar, SidecarOptions, journal, until};
use super::{Answer, DEADLINE, Told, answer, check_told, is_ready, records};
use wal_sidecar::mutation::v1;

/// Writes unique ids, `pipeline` at a time, until it is told to stop. It keeps
/// one connection: the sidecar closes none for the datastore's sake.
fn load(
    port: u16,
    name: &str,
    pipeline: usize,
    stop: &Arc<AtomicBool>,
    told: &Told,
) -> JoinHandle<()> {
    let (name, stop, told) = (name.to_owned(), Arc::clone(stop), Arc::clone(told));
    std::thread::spawn(move || {
        let mut client = Client::connect(port);
        let mut next = 0;
        while !stop.load(Ordering::Relaxed) {
            let ids: Vec<String> = (next..next + pipeline)
                .map(|number| format!("id:{name}:{number}"))
                .collect();
            next += pipeline;
            let mut bytes = Vec::new();
            for id in &ids {
                bytes.extend(encode(&["SET", &format!("key:{id}"), id]));
                bytes.extend(encode(&["GET", "nothing"]));
            }
            client.send(&bytes);
            for id in ids {
                let write = answer(&client.reply());
                assert_ne!(write, Answer::Unavailable, "that is for reads");
                told.lock().unwrap().insert(id, write);
                let read = client.reply();
                assert!(
                    read == b"$-1\r\n" || answer(&read) == Answer::Unavailable,
                    "{}",
                    String::from_utf8_lossy(&read)
                );
            }
        }
    })
}

#[test]
fn a_datastore_that_is_killed_under_load_is_found_again() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let (stop, told) = (Arc::default(), Told::default());
    let clients: Vec<_> = (0..4)
        .map(|index| load(sidecar.port(), &index.to_string(), 8, &stop, &told))
        .collect();
    let count =
        |answer: fn(&Answer) -> bool| told.lock().unwrap().values().filter(|a| answer(a)).count();
    for _ in 0..3 {
        let before = count(|a| *a == Answer::Own);
        until("writes to succeed", DEADLINE, || {
            (before + 200 < count(|a| *a == Answer::Own)).then_some(())
        });
        let before = count(|a| *a == Answer::NotJournaled);
        redis.kill();
        until("writes to be refused", DEADLINE, || {
            (before < count(|a| *a == Answer::NotJournaled)).then_some(())
        });
        assert!(!is_ready(&sidecar));
        redis.restart();
        until("readiness", DEADLINE, || is_ready(&sidecar).then_some(()));
    }
    let before = count(|a| *a == Answer::Own);
    until("writes to succeed", DEADLINE, || {
        (before + 200 < count(|a| *a == Answer::Own)).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("clients see nothing wrong");
    }
    println!("{:?}", check_told(&told, &records(&sidecar)));
}

#[test]
fn a_datastore_that_is_away_at_the_start_is_waited_for() {
    let mut redis = Redis::start();
    redis.kill();
    let sidecar = Sidecar::with_status(SidecarOptions::new(&redis), 503);
    let named = format!("127.0.0.1:{}", redis.port());
    until("the name of what is away", DEADLINE, || {
        let (status, body) = sidecar.admin("/readyz");
        assert_eq!(status, 503, "{body}");
        (body.contains("test/datastore") && body.contains(&named)).then_some(())
    });
    let mut client = sidecar.client();
    assert_eq!(
        answer(&client.command(&["SET", "key", "value"])),
        Answer::NotJournaled
    );
    assert_eq!(
        answer(&client.command(&["GET", "key"])),
        Answer::Unavailable
    );
    redis.restart();
    until("readiness", DEADLINE, || is_ready(&sidecar).then_some(()));
    assert_eq!(client.command(&["SET", "key", "value"]), b"+OK\r\n");
    assert_eq!(client.command(&["GET", "key"]), b"$5\r\nvalue\r\n");
}

#[test]
fn a_datastore_that_hangs_is_answered_for_and_its_late_replies_mix_nothing_up() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis).namespace("request_timeout = \"300ms\"");
    let sidecar = Sidecar::with(options);
    let mut clients: Vec<Client> = (0..8).map(|_| sidecar.client()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let set = client.command(&["SET", &format!("own:{index}"), &format!("first {index}")]);
        assert_eq!(set, b"+OK\r\n");
    }
    redis.signal(Signal::Stop);
    for (index, client) in clients.iter_mut().enumerate() {
        let own = format!("own:{index}");
        let bytes = [
            encode(&["GET", &own]),
            encode(&["INCRBYFLOAT", &format!("sum:{index}"), "1.5"]),
            encode(&["SET", &own, &format!("second {index}")]),
            encode(&["GET", &own]),
        ];
        client.send(&bytes.concat());
    }
    let started = Instant::now();
    let mut uncertain = Vec::new();
    for client in &mut clients {
        assert_eq!(answer(&client.reply()), Answer::Unavailable);
        uncertain.push(answer(&client.reply()));
        uncertain.push(answer(&client.reply()));
        assert_eq!(answer(&client.reply()), Answer::Unavailable);
    }
    let elapsed = started.elapsed();
    assert!(elapsed < 4 * TIMEOUT, "answered after {elapsed:?}");
    redis.signal(Signal::Continue);
    // All of it was forwarded, so all of it happens; each client gets its own
    // answers, and no late one.
    for (index, client) in clients.iter_mut().enumerate() {
        let own = format!("own:{index}");
        until("the hung datastore's replies", DEADLINE, || {
            let reply = client.command(&["GET", &own]);
            (answer(&reply) == Answer::Own).then_some(reply)
        });
        for round in 0..50 {
            let value = format!("{index}:{round}");
            assert_eq!(client.command(&["SET", &own, &value]), b"+OK\r\n");
            let expected = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(client.command(&["GET", &own]), expected.as_bytes());
        }
        let sum = client.command(&["GET", &format!("sum:{index}")]);
        assert_eq!(sum, b"$3\r\n1.5\r\n");
    }
    // Each of them is where the client was told, and those that are intents
    // were resolved without the client.
    let records = until("outcomes of what was answered too late", DEADLINE, || {
        let records = records(&sidecar);
        let outcomes = records
            .iter()
            .filter(|record| matches!(record.body, Some(v1::record::Body::Outcome(_))));
        (outcomes.count() == clients.len()).then_some(records)
    });
    journal::check_dense(&records);
    for answer in &uncertain {
        let Answer::Uncertain(writer, sequence) = answer else {
            panic!("a mutation was answered with {answer:?}");
        };
        assert!(
            records
                .iter()
                .any(|record| (record.writer, record.sequence) == (*writer, *sequence)),
            "there is no {writer:016x}-{sequence}"
        );
    }
}

#[test]
fn nothing_waits_for_a_datastore_that_hangs_longer_than_it_may() {
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis)
        .namespace("request_timeout = \"300ms\"\nconnect_timeout = \"300ms\"");
    let sidecar = Sidecar::with(options);
    // Opened before, so that it need not be opened then.
    assert_eq!(sidecar.client().command(&["HELLO", "2"])[0], b'*');
    redis.signal(Signal::Stop);
    for command in [
        &["NOSUCHCOMMAND", "key"][..],
        &["HELLO", "2"],
        &["HELLO", "3"],
        &["SELECT", "4"],
        &["MULTI"],
        &["BLPOP", "list", "0"],
    ] {
        let started = Instant::now();
        let reply = sidecar.client().command(command);
        assert_ne!(answer(&reply), Answer::Own, "{command:?}");
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(2), "{command:?}: {elapsed:?}");
    }
    redis.signal(Signal::Continue);
}

/// A transaction that is not sure to be whole is not executed at all.
#[test]
fn a_transaction_that_was_cut_short_ends_the_connection() {
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis).namespace("request_timeout = \"200ms\"");
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.client();
    assert_eq!(client.command(&["MULTI"]), b"+OK\r\n");
    assert_eq!(client.command(&["SET", "first", "1"]), b"+QUEUED\r\n");
    redis.signal(Signal::Stop);
    assert_eq!(
        answer(&client.command(&["SET", "second", "2"])),
        Answer::Unavailable
    );
    redis.signal(Signal::Continue);
    // What follows is not answered: the datastore may have queued it or not.
    let _ = client.stream().write_all(&encode(&["EXEC"]));
    let rest = client.try_reply();
    assert!(rest.is_err(), "{rest:?}");
    let mut other = sidecar.client();
    assert_eq!(other.command(&["EXISTS", "first", "second"]), b":0\r\n");
    // Nobody gets the connection that was left in the middle of it.
    let mut clients: Vec<Client> = (0..4).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        assert_eq!(client.command(&["MULTI"]), b"+OK\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.command(&["GET", "first"]), b"+QUEUED\r\n");
        assert_eq!(client.command(&["EXEC"]), b"*1\r\n$-1\r\n");
    }
}

#[test]
fn what_there_is_no_room_for_is_refused_and_leaves_no_transaction_open() {
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis)
        .namespace("in_flight_batches_max = 1\nrequest_timeout = \"20s\"");
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.client();
    assert_eq!(client.command(&["MULTI"]), b"+OK\r\n");
    assert_eq!(client.command(&["SET", "key", "value"]), b"+QUEUED\r\n");
    // The one place is taken by somebody whom Redis does not answer.
    let reads = || sidecar.metric("wal_sidecar_commands_total", "class=\"read\"");
    until("what was sent to be counted", DEADLINE, || {
        (reads() == 2.0).then_some(())
    });
    redis.signal(Signal::Stop);
    let mut waiting = sidecar.client();
    waiting.send(&encode(&["GET", "nothing"]));
    until("the waiting client", DEADLINE, || {
        (reads() == 3.0).then_some(())
    });
    let mut other = sidecar.client();
    assert_eq!(answer(&other.command(&["GET", "key"])), Answer::Unavailable);
    assert_eq!(
        answer(&other.command(&["SET", "a", "b"])),
        Answer::NotJournaled
    );
    assert_eq!(answer(&client.command(&["EXEC"])), Answer::NotJournaled);
    redis.signal(Signal::Continue);
    assert_eq!(waiting.reply(), b"$-1\r\n");
    // Several at once, so that every connection to Redis gets its turn.
    let mut clients: Vec<Client> = (0..4).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        assert_eq!(client.command(&["MULTI"]), b"+OK\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.command(&["EXEC"]), b"*0\r\n");
    }
    assert_eq!(other.command(&["EXISTS", "key"]), b":0\r\n");
}
