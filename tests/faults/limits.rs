//! Clients that do not read, or are many, and a disk that is full.

use std::process::Command;
use std::time::{Duration, Instant};

use super::support::resp::encode;
use super::support::{Client, Redis, Sidecar, SidecarOptions, until};
use super::{Answer, DEADLINE, Told, answer, check_told, is_ready, records};

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
