//! What clients are told when something fails, and what the journal has then.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::memcached::packet;
use super::support::process::Signal;
use super::support::{Memcache, Memcached, Random, Sidecar, SidecarOptions, journal, until};

const DEADLINE: Duration = Duration::from_secs(20);
/// How often the sidecar is killed, where `CRASH_ROUNDS` says nothing else.
const ROUNDS: usize = 8;
/// The kill comes after up to so many acknowledged writes.
const WRITES_MAX: usize = 2000;
const CLIENTS: usize = 4;
const PIPELINE_MAX: usize = 20;

#[track_caller]
fn check_lines(client: &mut Memcache, sent: &str, expected: &[&str]) {
    let received = client.lines(sent.as_bytes());
    let text = String::from_utf8_lossy(&received).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), expected.len() + 1, "{text}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{text}");
    }
    assert_eq!(lines.last(), Some(&"MN"));
}

/// A journal that takes nothing: writes are refused, also those that nobody
/// hears of, reads go on.
#[test]
fn without_a_journal_writes_are_refused_and_reads_go_on() {
    let servers = [Memcached::start()];
    servers[0].client().lines(b"set a 0 0 1\r\nx\r\n");
    let options = SidecarOptions::memcached(&servers)
        .backend("kafka")
        .journal("brokers = \"127.0.0.1:1\"")
        .journal("[journal.kafka]\ntimeout = \"300ms\"")
        .expect_error("ournal");
    let sidecar = Sidecar::with_status(options, 503);
    let mut client = sidecar.memcache();
    check_lines(
        &mut client,
        "set a 0 0 1\r\ny\r\nget a\r\nms b 1 q\r\nz\r\ndelete a noreply\r\nmg a v q\r\nadd n 0 0 1 noreply\r\nx\r\n",
        &[
            "SERVER_ERROR not journaled: ",
            "VALUE a 0 1",
            "x",
            "END",
            "SERVER_ERROR not journaled: ",
            "VA 1",
            "x",
        ],
    );
    let mut packets = sidecar.memcache();
    let set = packet(0x11, [0, 0, 0, 7], 0, &[0; 8], b"a", b"y");
    let get = packet(0x00, [0, 0, 0, 8], 0, b"", b"a", b"");
    let received = packets.packets(&[set, get].concat());
    assert_eq!(&received[..8], [0x81, 0x11, 0, 0, 0, 0, 0, 0x86]);
    assert_eq!(
        &received[12..16],
        [0, 0, 0, 7],
        "it bears the request's number"
    );
    assert!(received[24..].starts_with(b"not journaled: "));
    until("the refused writes to be counted", DEADLINE, || {
        (sidecar.metric("wal_sidecar_mutations_not_journaled_total", "") >= 5.0).then_some(())
    });
    assert_eq!(
        servers[0].client().lines(b"get a\r\n"),
        b"VALUE a 0 1\r\nx\r\nEND\r\nMN\r\n"
    );
}

/// The server is there and does not answer, and then is gone: what was sent is
/// uncertain, and in the journal where the answer says.
#[test]
fn a_server_that_hangs_and_dies_leaves_writes_uncertain() {
    let mut servers = [Memcached::start()];
    let options = SidecarOptions::memcached(&servers).namespace("request_timeout = \"500ms\"");
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.memcache();
    check_lines(&mut client, "set a 0 0 1\r\nx\r\n", &["STORED"]);
    servers[0].signal(Signal::Stop);
    let received = read_lines(&mut client, b"set b 0 0 1\r\ny\r\nget a\r\n", 2);
    let named = received[0]
        .strip_prefix("SERVER_ERROR uncertain: ")
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or_else(|| panic!("{received:?}"));
    assert!(
        received[1].starts_with("SERVER_ERROR unavailable: "),
        "{received:?}"
    );
    let (writer, sequence) = named.split_once('-').expect("writer-sequence");
    let writer = u64::from_str_radix(writer, 16).expect("a writer");
    let sequence: u64 = sequence.parse().expect("a sequence");
    let packets = sidecar.memcache();
    let get = packet(0x00, [0, 0, 0, 8], 0, b"", b"a", b"");
    packets.stream().write_all(&get).expect("it reads");
    let mut header = [0; 24];
    packets.stream().read_exact(&mut header).expect("an answer");
    assert_eq!(&header[..8], [0x81, 0, 0, 0, 0, 0, 0, 0x86]);
    assert_eq!(&header[12..16], [0, 0, 0, 8]);
    servers[0].kill();
    servers[0].restart();
    until("the sidecar to be ready again", DEADLINE, || {
        (sidecar.admin("/readyz").0 == 200).then_some(())
    });
    let mut client = sidecar.memcache();
    until("a write to pass", DEADLINE, || {
        (client.lines(b"set c 0 0 1\r\nz\r\n") == b"STORED\r\nMN\r\n").then_some(())
    });
    let (records, _) = journal::read(&sidecar.journal().join("test"), 0);
    journal::check_dense(&records);
    let named = records
        .iter()
        .find(|record| record.writer == writer && record.sequence == sequence)
        .expect("the record that the answer names");
    let mut arguments = journal::arguments(std::slice::from_ref(named));
    assert!(arguments.any(|argument| argument == b"b"));
}

/// Sends, and reads so many lines.
fn read_lines(client: &mut Memcache, bytes: &[u8], count: usize) -> Vec<String> {
    client.stream().write_all(bytes).expect("it reads");
    let mut received = Vec::new();
    let mut byte = [0];
    while received.iter().filter(|byte| **byte == b'\n').count() < count {
        client.stream().read_exact(&mut byte).expect("an answer");
        received.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&received).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// kill -9 under load: what was acknowledged is in the journal, and in the
/// server; what the server has is in the journal.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    let rounds =
        std::env::var("CRASH_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    let mut random = Random::from_environment();
    let servers = [Memcached::with(&["-m", "256"])];
    let mut sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let sent: Arc<Mutex<Vec<String>>> = Arc::default();
    for round in 0..rounds {
        let before = acknowledged.lock().unwrap().len();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|index| {
                let (acknowledged, sent) = (Arc::clone(&acknowledged), Arc::clone(&sent));
                let name = format!("{round}:{index}");
                let random = Random::new(random.next());
                let port = sidecar.port();
                std::thread::spawn(move || write(port, &name, random, &acknowledged, &sent))
            })
            .collect();
        let wanted = before + random.below(WRITES_MAX) + 1;
        until("enough writes", DEADLINE, || {
            (acknowledged.lock().unwrap().len() >= wanted).then_some(())
        });
        sidecar.kill();
        for client in clients {
            client.join().expect("the client's assertions hold");
        }
        sidecar.restart();
    }
    assert!(sidecar.stop().success());
    let (records, _) = journal::read(&sidecar.journal().join("test"), 0);
    let journaled: HashSet<&[u8]> = journal::arguments(&records).collect();
    let mut client = servers[0].client();
    let acknowledged = acknowledged.lock().unwrap();
    for id in acknowledged.iter() {
        assert!(journaled.contains(id.as_bytes()), "{id} was acknowledged");
    }
    let known: HashSet<&String> = acknowledged.iter().collect();
    let mut unanswered = 0;
    for id in sent.lock().unwrap().iter() {
        let reply = client.lines(format!("mg {id} v\r\n").as_bytes());
        let is_stored = reply.starts_with(b"VA ");
        assert!(
            is_stored || !known.contains(id),
            "{id} was acknowledged and is gone"
        );
        assert!(
            !is_stored || journaled.contains(id.as_bytes()),
            "{id} was forwarded unjournaled"
        );
        unanswered += usize::from(!known.contains(id));
    }
    println!(
        "{} acknowledged, {unanswered} unanswered, {rounds} kills",
        acknowledged.len()
    );
}

/// Writes until the sidecar is gone. The value is the key, so that the journal
/// can be looked up by it.
fn write(
    port: u16,
    name: &str,
    mut random: Random,
    acknowledged: &Mutex<Vec<String>>,
    sent: &Mutex<Vec<String>>,
) {
    let client = Memcache::connect(port);
    let mut reader = std::io::BufReader::new(client.stream());
    for first in (0..).step_by(PIPELINE_MAX) {
        let ids: Vec<String> = (0..=random.below(PIPELINE_MAX - 1))
            .map(|index| format!("id:{name}:{}", first + index))
            .collect();
        let verbs = ["set", "add"];
        let sets: String = ids
            .iter()
            .map(|id| format!("{} {id} 0 0 {}\r\n{id}\r\n", random.pick(&verbs), id.len()))
            .collect();
        sent.lock().unwrap().extend(ids.iter().cloned());
        if client.stream().write_all(sets.as_bytes()).is_err() {
            return;
        }
        for id in ids {
            let mut line = String::new();
            match std::io::BufRead::read_line(&mut reader, &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => assert_eq!(line, "STORED\r\n", "{id}"),
            }
            acknowledged.lock().unwrap().push(id);
        }
    }
}

/// Clients that send half commands, nonsense and too much do not disturb those
/// who share their link.
#[test]
fn what_one_client_sends_does_not_concern_the_others() {
    let mut random = Random::from_environment();
    let servers = [Memcached::start()];
    let sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let mut good = sidecar.memcache();
    for round in 0..300 {
        let bad = sidecar.memcache();
        let heads: [&[u8]; 8] = [
            b"set k 0 0 10\r\nabc",
            b"get a b c",
            b"\x80\x01\0\x05\x08",
            b"\x80\x01\0\x01\x08\0\0\0\0\0\0\x0a",
            b"set k 0 0 99999999999\r\n",
            b"\x80\x55\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"get \0k\r\n",
            b"ms k 5 T0 Z\r\nabcdefg\r\n",
        ];
        let length = random.below(200);
        let bytes = [*random.pick(&heads), &random.bytes(length)].concat();
        let _ = bad.stream().write_all(&bytes);
        drop(bad);
        let text = format!("set good 0 0 5\r\n{round:05}\r\nget good\r\n");
        let expected = format!("STORED\r\nVALUE good 0 5\r\n{round:05}\r\nEND\r\nMN\r\n");
        assert_eq!(good.lines(text.as_bytes()), expected.as_bytes());
    }
    assert_eq!(
        sidecar.metric("wal_sidecar_mutations_uncertain_total", ""),
        0.0
    );
}

/// Servers that want a login get the sidecar's, in text and in packets; a client
/// of packets may log in itself.
#[test]
fn the_sidecar_logs_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("users");
    std::fs::write(&file, "app:hush\n").expect("write the users");
    std::fs::set_permissions(
        directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("let memcached in");
    let servers = [Memcached::with(&["-Y", file.to_str().expect("a path")])];
    let refused = read_lines(&mut servers[0].client(), b"get a\r\n", 1);
    assert_eq!(refused, ["CLIENT_ERROR unauthenticated"]);
    let options = SidecarOptions::memcached(&servers)
        .namespace("upstream_user = \"app\"\nupstream_password = \"hush\"");
    let sidecar = Sidecar::with(options);
    check_lines(
        &mut sidecar.memcache(),
        "set a 0 0 1\r\nx\r\nget a\r\n",
        &["STORED", "VALUE a 0 1", "x", "END"],
    );
    let options = SidecarOptions::memcached(&servers)
        .namespace("upstream_user = \"app\"\nupstream_password = \"wrong\"");
    let sidecar = Sidecar::with_status(options, 503);
    until("the refusal to be told", DEADLINE, || {
        let told = read_lines(&mut sidecar.memcache(), b"get a\r\n", 1);
        told[0]
            .contains("unavailable: CLIENT_ERROR authentication failure")
            .then_some(())
    });
}

/// A client that wants no answers, and hangs up when it has said all.
#[test]
fn what_was_said_before_hanging_up_is_done() {
    const COUNT: usize = 30_000;
    let servers = [Memcached::start()];
    let sidecar = Sidecar::with(SidecarOptions::memcached(&servers));
    let client = sidecar.memcache();
    let sets: String = (0..COUNT)
        .map(|key| format!("set key:{key} 0 0 1 noreply\r\nx\r\n"))
        .collect();
    client
        .stream()
        .write_all(sets.as_bytes())
        .expect("it reads");
    drop(client);
    let mut direct = servers[0].client();
    until("the last one", DEADLINE, || {
        let get = format!("get key:{}\r\n", COUNT - 1);
        (direct.lines(get.as_bytes()).len() > "END\r\nMN\r\n".len()).then_some(())
    });
    let stats = String::from_utf8_lossy(&direct.lines(b"stats\r\n")).into_owned();
    assert!(
        stats.contains(&format!("STAT curr_items {COUNT}\r\n")),
        "{stats}"
    );
}
