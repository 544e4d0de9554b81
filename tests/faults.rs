//! What goes wrong around the sidecar, each thing on purpose: what clients are
//! told meanwhile, and that all is well afterwards.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wal_sidecar::journal::local::inspect::summarize;
use wal_sidecar::mutation::v1;

use support::process::{Signal, free_port};
use support::resp::encode;
use support::{Client, Redis, Sidecar, SidecarOptions, http, journal, until};

/// However slow the machine, what is waited for has happened by then.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a reply says of the command it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// The datastore's own.
    Own,
    NotJournaled,
    /// With the writer and sequence it names.
    Uncertain(u64, u64),
    Unavailable,
}

/// Fails on an error that is none of the three the sidecar may give.
fn answer(reply: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(reply).into_owned();
    let mut words = text.split(' ');
    match words.next().expect("a first word") {
        "-NOTJOURNALED" => Answer::NotJournaled,
        "-UNAVAILABLE" => Answer::Unavailable,
        "-UNCERTAIN" => {
            let named = words.next().expect("a writer and a sequence");
            let (writer, sequence) = named.split_once('-').expect("writer-sequence");
            let writer = u64::from_str_radix(writer, 16).expect("a writer");
            Answer::Uncertain(writer, sequence.parse().expect("a sequence"))
        }
        word => {
            assert!(!word.starts_with('-'), "{text}");
            Answer::Own
        }
    }
}

/// What one client has been told of each of its writes, by id.
type Told = Arc<Mutex<HashMap<String, Answer>>>;

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

/// Success and UNCERTAIN are in the journal, the latter where it says;
/// NOTJOURNALED is not.
fn check_told(told: &Told, records: &[v1::Record]) -> BTreeMap<&'static str, usize> {
    journal::check_dense(records);
    let journaled: HashSet<&[u8]> = journal::arguments(records).collect();
    let by_sequence: HashMap<(u64, u64), &v1::Record> = records
        .iter()
        .map(|record| ((record.writer, record.sequence), record))
        .collect();
    let mut counts = BTreeMap::new();
    for (id, answer) in told.lock().unwrap().iter() {
        let is_journaled = journaled.contains(id.as_bytes());
        let what = match answer {
            Answer::Own => {
                assert!(is_journaled, "{id} was acknowledged");
                "ok"
            }
            Answer::NotJournaled => {
                assert!(!is_journaled, "{id} was said not to be journaled");
                "not journaled"
            }
            Answer::Uncertain(writer, sequence) => {
                let named = by_sequence
                    .get(&(*writer, *sequence))
                    .unwrap_or_else(|| panic!("{id}: there is no {writer:016x}-{sequence}"));
                let mut own = journal::arguments(std::slice::from_ref(*named));
                assert!(own.any(|argument| argument == id.as_bytes()), "{id}");
                "uncertain"
            }
            Answer::Unavailable => panic!("{id}: that is for reads"),
        };
        *counts.entry(what).or_default() += 1;
    }
    counts
}

fn is_ready(sidecar: &Sidecar) -> bool {
    sidecar.admin("/readyz").0 == 200
}

/// Resident memory of a process in bytes.
fn resident_bytes(id: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{id}/statm")).expect("it runs");
    let pages: usize = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number of pages");
    pages * 4096
}

fn records(sidecar: &Sidecar) -> Vec<v1::Record> {
    journal::read(&sidecar.journal().join("test"), 0).0
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

const VALUE_BYTES: usize = 1 << 20;

/// Pipelines many GETs of a large value and reads nothing.
fn greedy_client(sidecar: &Sidecar, commands: usize) -> Client {
    let mut client = sidecar.client();
    let value = "v".repeat(VALUE_BYTES);
    assert_eq!(client.command(&["SET", "large", &value]), b"+OK\r\n");
    client.send(&encode(&["GET", "large"]).repeat(commands));
    client
}

/// Watches the memory while others are served; gives the most there was.
fn peak_beside(sidecar: &Sidecar, mut done: impl FnMut() -> bool) -> usize {
    let mut other = sidecar.client();
    let mut peak = 0;
    until("the client that does not read", DEADLINE, || {
        let started = Instant::now();
        assert_eq!(other.command(&["SET", "key", "value"]), b"+OK\r\n");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "others are held up"
        );
        peak = peak.max(resident_bytes(sidecar.id()));
        done().then_some(())
    });
    peak
}

#[test]
fn a_client_that_does_not_read_is_closed_beyond_its_limit() {
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis).namespace("client_output_bytes_max = \"8MiB\"");
    let sidecar = Sidecar::with(options);
    let before = resident_bytes(sidecar.id());
    let client = greedy_client(&sidecar, 4000);
    let peak = peak_beside(&sidecar, || {
        0.0 < sidecar.metric("wal_sidecar_clients_closed_total", "")
    });
    println!(
        "peak {} MiB above {} MiB",
        (peak - before) >> 20,
        before >> 20
    );
    assert!(peak - before < 200 << 20, "{} MiB", (peak - before) >> 20);
    drop(client);
}

#[test]
fn a_client_that_reads_late_gets_everything_and_the_sidecar_holds_little_of_it() {
    const COMMANDS: usize = 600;
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let before = resident_bytes(sidecar.id());
    let mut client = greedy_client(&sidecar, COMMANDS);
    let started = Instant::now();
    let peak = peak_beside(&sidecar, || Duration::from_secs(1) < started.elapsed());
    println!(
        "peak {} MiB above {} MiB",
        (peak - before) >> 20,
        before >> 20
    );
    // The limit that `client_output_bytes_max` has by default.
    assert!(peak - before < 256 << 20, "{} MiB", (peak - before) >> 20);
    for _ in 0..COMMANDS {
        assert_eq!(client.reply().len(), VALUE_BYTES + "$1048576\r\n\r\n".len());
    }
}

#[test]
fn ten_thousand_idle_clients_cost_little() {
    const CLIENTS: usize = 10_000;
    /// An optimized build is to stay below 8 KiB; without optimization the
    /// connections' state machines are larger.
    const BYTES_MAX: usize = if cfg!(debug_assertions) {
        16 << 10
    } else {
        8 << 10
    };
    let raised = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string()])
        .arg(format!("--nofile={0}:{0}", CLIENTS + 2000))
        .status()
        .expect("prlimit is part of util-linux");
    assert!(raised.success(), "this test needs {CLIENTS} open files");
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis).namespace("client_limit = 11000");
    let sidecar = Sidecar::with(options);
    let connected = |count: usize| {
        until("all clients to be connected", DEADLINE, || {
            let clients = sidecar.metric("wal_sidecar_client_connections", "");
            (clients == count as f64).then_some(())
        });
    };
    // What the first ones cost is not what each costs.
    let mut clients: Vec<Client> = (0..100).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        assert_eq!(client.command(&["PING"]), b"+PONG\r\n");
    }
    connected(clients.len());
    let before = resident_bytes(sidecar.id());
    while clients.len() < CLIENTS {
        let mut client = sidecar.client();
        assert_eq!(client.command(&["SET", "key", "value"]), b"+OK\r\n");
        clients.push(client);
    }
    connected(CLIENTS);
    let each = (resident_bytes(sidecar.id()) - before) / (CLIENTS - 100);
    println!("{each} bytes for each idle client");
    assert!(each < BYTES_MAX, "{each} bytes for each idle client");
    assert_eq!(clients[0].command(&["GET", "key"]), b"$5\r\nvalue\r\n");
    drop(clients);
    connected(0);
}

/// A file system of a few MiB, unmounted when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> SmallDisk {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .status()
            .expect("mount is part of every system");
        assert!(
            mounted.success(),
            "this test mounts a file system: run it as root"
        );
        SmallDisk(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the sidecar may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    let disk = SmallDisk::new("4m");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).expect("there is room for it");
    let redis = Redis::start();
    let mut options = SidecarOptions::new(&redis)
        .journal("segment_bytes = \"256KiB\"")
        .expect_error("disk full");
    options.journal_directory = Some(disk.0.path().join("journal"));
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.client();
    let writes = Told::default();
    let mut next = 0;
    let mut write = |client: &mut Client| {
        let id = format!("id:{next}");
        next += 1;
        let started = Instant::now();
        let reply = client.command(&["SET", "padding", &"p".repeat(10_000), "EX", "9999"]);
        let padded = answer(&reply);
        let reply = answer(&client.command(&["SET", &format!("key:{id}"), &id]));
        assert!(started.elapsed() < Duration::from_secs(2));
        writes.lock().unwrap().insert(id, reply.clone());
        (padded, reply)
    };
    // Small records still fit where large ones do not.
    let full = (Answer::NotJournaled, Answer::NotJournaled);
    until("the disk to be full", DEADLINE, || {
        (write(&mut client) == full).then_some(())
    });
    for _ in 0..50 {
        assert_eq!(write(&mut client), full);
        assert_eq!(client.command(&["GET", "key:id:0"]), b"$4\r\nid:0\r\n");
    }
    assert!(!is_ready(&sidecar));
    let told = |sidecar: &Sidecar| {
        let lines = sidecar.lines();
        lines
            .iter()
            .filter(|line| line.contains("disk full"))
            .count()
    };
    assert_eq!(told(&sidecar), 1, "once is enough");
    std::fs::remove_file(ballast).expect("it is there");
    until("writes to work again", DEADLINE, || {
        (write(&mut client) == (Answer::Own, Answer::Own)).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(write(&mut client), (Answer::Own, Answer::Own));
    }
    until("readiness", DEADLINE, || is_ready(&sidecar).then_some(()));
    println!("{:?}", check_told(&writes, &records(&sidecar)));
}

/// Exit status and output of a sidecar that must not start.
fn check_fails(options: &SidecarOptions, port: u16, admin_port: u16, parts: &[&str]) {
    let output = Sidecar::failing(options, port, admin_port);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn what_it_cannot_have_it_names_and_ends() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let free = || (free_port(), free_port());
    let in_directory = |directory: std::path::PathBuf| {
        let mut options = SidecarOptions::new(&redis);
        options.journal_directory = Some(directory);
        options
    };

    let (port, admin) = free();
    let directory = sidecar.journal().join("test");
    check_fails(
        &in_directory(sidecar.journal()),
        port,
        admin,
        &[&directory.display().to_string(), &sidecar.id().to_string()],
    );

    // Below a file there can be no directory, whoever asks.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let unwritable = file.path().join("journal");
    let (port, admin) = free();
    check_fails(
        &in_directory(unwritable.clone()),
        port,
        admin,
        &[&unwritable.display().to_string()],
    );

    let options = SidecarOptions::new(&redis);
    let taken = format!("127.0.0.1:{}", sidecar.port());
    check_fails(
        &options,
        sidecar.port(),
        free_port(),
        &[&taken, "listen", "test"],
    );
    let taken = format!("127.0.0.1:{}", sidecar.admin_port());
    check_fails(
        &options,
        free_port(),
        sidecar.admin_port(),
        &[&taken, "admin"],
    );

    assert_eq!(
        sidecar.client().command(&["SET", "key", "value"]),
        b"+OK\r\n"
    );
}

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

#[test]
fn policies_are_reloaded_under_the_clients_feet() {
    let redis = Redis::start();
    let options = SidecarOptions::new(&redis).expect_error("unknown key");
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.client();
    let text = std::fs::read_to_string(sidecar.config()).expect("it is there");
    let mut write = |value: &str| {
        assert_eq!(client.command(&["SET", "key", value]), b"+OK\r\n");
        let records = records(&sidecar);
        journal::arguments(&records).any(|argument| argument == value.as_bytes())
    };
    assert!(write("first"));

    let off = text.replace("durability = \"durable\"", "durability = \"off\"");
    assert_ne!(off, text);
    std::fs::write(sidecar.config(), &off).expect("write the configuration");
    sidecar.signal(Signal::Hup);
    let mut number = 0;
    until("writes that are not journaled", DEADLINE, || {
        number += 1;
        (!write(&format!("off:{number}"))).then_some(())
    });

    let lines = sidecar.lines().len();
    std::fs::write(sidecar.config(), text.replace("durability", "durabilty")).expect("write");
    sidecar.signal(Signal::Hup);
    let complaint = until("the complaint", DEADLINE, || {
        sidecar.lines()[lines..]
            .iter()
            .find(|line| line.contains("durabilty"))
            .cloned()
    });
    println!("{complaint}");
    assert!(!write("still off"));

    std::fs::write(sidecar.config(), &text).expect("write the configuration");
    sidecar.signal(Signal::Hup);
    until("writes that are journaled", DEADLINE, || {
        number += 1;
        write(&format!("on:{number}")).then_some(())
    });
}
