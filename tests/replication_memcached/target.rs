//! The datastore itself, as the replicator writes to it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use wal_sidecar::datastore::ring::{Name, RingOptions, Server};
use wal_sidecar::datastore::{Identity, Options, Wire};
use wal_sidecar::platform::stream::Address;
use wal_sidecar::replication::engine::Command;
use wal_sidecar::replication::target::memcached::Memcached as Target;
use wal_sidecar::replication::target::{Committed, Target as _, TargetError, Value};

use super::support::Memcached;

pub fn servers(ports: &[&[u16]]) -> RingOptions {
    let server = |port: &u16| Server {
        options: Options {
            address: Address::Tcp("127.0.0.1".to_owned(), *port),
            wire: Wire::MemcachedText,
            identity: Identity::Anonymous,
            database: 0,
            connect_timeout: Duration::from_secs(2),
            tls: None,
            unsent_bytes_max: 1 << 20,
        },
        name: Name {
            text: format!("server-{port}"),
            weight: 1,
        },
    };
    let zone = |ports: &&[u16]| ports.iter().map(server).collect();
    RingOptions {
        zones: ports.iter().map(zone).collect(),
        eject_after: None,
    }
}

fn target(ports: &[&[u16]], holder: u64, directory: &Path) -> Target {
    Target::new(servers(ports), "test", holder, file(directory))
}

pub fn file(directory: &Path) -> PathBuf {
    directory.join("checkpoints")
}

pub fn commands(texts: &[&str]) -> Vec<Command> {
    let words = |text: &&str| {
        text.split(' ')
            .map(|word| Bytes::from(word.to_owned()))
            .collect()
    };
    let command = |text| Command {
        database: 0,
        arguments: words(text),
    };
    texts.iter().map(command).collect()
}

pub fn keys(names: &[&str]) -> Vec<(u32, Bytes)> {
    let key = |name: &&str| (0, Bytes::from((*name).to_owned()));
    names.iter().map(key).collect()
}

pub fn done(refused: &[(usize, &str)]) -> Result<Committed, TargetError> {
    let owned = refused
        .iter()
        .map(|(index, why)| (*index, (*why).to_owned()));
    Ok(Committed::Done(owned.collect()))
}

pub fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future);
}

pub fn get(server: &Memcached, key: &str) -> String {
    let reply = server
        .client()
        .lines(format!("mg {key} v f\r\n").as_bytes());
    String::from_utf8_lossy(&reply).replace("MN\r\n", "")
}

#[test]
fn what_was_changed_since_it_was_watched_is_not_written() {
    let server = Memcached::start();
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let mut target = target(&[&[server.port()]], 1, directory.path());
        assert_eq!(target.lead().await, Ok(true));
        let all = keys(&["a", "b", "c", "d", "e"]);
        let mut client = server.client();
        // What others do between, what is committed, whether it is done, and what
        // the key is then.
        for (before, between, command, is_done, after) in [
            ("", "", "set a 5 0 x", true, "VA 1 f5\r\nx\r\n"),
            (
                "",
                "set a 0 0 1\r\no\r\n",
                "set a 5 0 x",
                false,
                "VA 1 f0\r\no\r\n",
            ),
            (
                "set a 0 0 1\r\np\r\n",
                "",
                "set a 5 0 x",
                true,
                "VA 1 f5\r\nx\r\n",
            ),
            (
                "set a 0 0 1\r\np\r\n",
                "append a 0 0 1\r\no\r\n",
                "set a 5 0 x",
                false,
                "VA 2 f0\r\npo\r\n",
            ),
            (
                "set a 0 0 1\r\np\r\n",
                "delete a\r\n",
                "set a 5 0 x",
                false,
                "EN\r\n",
            ),
            ("set a 0 0 1\r\np\r\n", "", "delete a", true, "EN\r\n"),
            (
                "set a 0 0 1\r\np\r\n",
                "delete a\r\n",
                "delete a",
                true,
                "EN\r\n",
            ),
            (
                "set a 0 0 1\r\np\r\n",
                "set a 0 0 1\r\no\r\n",
                "delete a",
                false,
                "VA 1 f0\r\no\r\n",
            ),
            (
                "",
                "set a 0 0 1\r\no\r\n",
                "delete a",
                true,
                "VA 1 f0\r\no\r\n",
            ),
            (
                "set a 3 0 1\r\np\r\n",
                "",
                "touch a 2147483647",
                true,
                "VA 1 f3\r\np\r\n",
            ),
            ("set a 3 0 1\r\np\r\n", "", "touch a -1", true, "EN\r\n"),
            (
                "set a 3 0 1\r\np\r\n",
                "set a 0 0 1\r\no\r\n",
                "touch a -1",
                false,
                "VA 1 f0\r\no\r\n",
            ),
            ("", "", "touch a 2147483647", true, "EN\r\n"),
        ] {
            client.lines(format!("delete a\r\n{before}").as_bytes());
            assert_eq!(target.watch(&all).await, Ok(()));
            client.lines(between.as_bytes());
            let committed = target.commit(&commands(&[command]), &[]).await;
            let expected = match is_done {
                true => done(&[]),
                false => Ok(Committed::Raced),
            };
            assert_eq!(committed, expected, "{before:?} {between:?} {command}");
            assert_eq!(get(&server, "a"), after, "{before:?} {between:?} {command}");
        }
        // Several commands on one key, and one that is forced.
        assert_eq!(target.watch(&all).await, Ok(()));
        let several = [
            "set b 0 0 x",
            "set c 0 0 y",
            "delete c",
            "touch b 2147483647",
            "set c 1 0 z",
        ];
        assert_eq!(target.commit(&commands(&several), &[]).await, done(&[]));
        assert_eq!(
            (get(&server, "b"), get(&server, "c")),
            ("VA 1 f0\r\nx\r\n".into(), "VA 1 f1\r\nz\r\n".into())
        );
        let lives = server.client().lines(b"mg b t\r\n");
        assert!(lives.starts_with(b"HD t") && !lives.starts_with(b"HD t-1"));
        assert_eq!(target.watch(&[]).await, Ok(()));
        client.lines(b"set c 0 0 1\r\no\r\n");
        let forced = ["set c 2 0 f", "delete b", "touch e 9"];
        assert_eq!(target.commit(&commands(&forced), &[]).await, done(&[]));
        assert_eq!(
            (get(&server, "b"), get(&server, "c")),
            ("EN\r\n".into(), "VA 1 f2\r\nf\r\n".into())
        );
        // Snapshots hold the flags before the data.
        client.lines(b"set c 258 1000 3\r\n\r\n.\r\n");
        let values = target.read(&keys(&["c", "b", ""])).await.expect("read");
        assert_eq!(values[0].bytes.as_deref(), Some(&b"\0\0\x01\x02\r\n."[..]));
        let absent = Value {
            bytes: None,
            expires_at_ms: 0,
        };
        assert_eq!(values[1..], [absent.clone(), absent]);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let lives = values[0].expires_at_ms - now.expect("later").as_millis() as i64;
        assert!((998_000..=1_001_000).contains(&lives), "{lives}");
        assert_eq!(target.watch(&all).await, Ok(()));
        assert_eq!(target.empty().await, Ok(true));
        assert_eq!(get(&server, "c"), "EN\r\n");
        assert_eq!(
            target.commit(&commands(&["set c 0 0 x"]), &[]).await,
            done(&[])
        );
    });
}

#[test]
fn what_memcached_never_takes_is_refused_and_the_rest_done() {
    let server = Memcached::with(&["-I", "1m"]);
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let mut target = target(&[&[server.port()]], 1, directory.path());
        assert_eq!(target.lead().await, Ok(true));
        let large = format!("set large 0 0 {}", "x".repeat(2 << 20));
        let long = format!("set {} 0 0 x", "k".repeat(251));
        let all = commands(&[&large, "set a 0 0 x", &long, "incr a 1", "set b 0 0 y"]);
        assert_eq!(target.watch(&keys(&["large", "a", "b"])).await, Ok(()));
        let expected = [
            (2, "the key can't be named in memcached's meta commands"),
            (3, "incr is not in a form that can be applied"),
            (0, "SERVER_ERROR object too large for cache"),
        ];
        assert_eq!(target.commit(&all, &[]).await, done(&expected));
        assert_eq!(
            (get(&server, "a"), get(&server, "b")),
            ("VA 1 f0\r\nx\r\n".into(), "VA 1 f0\r\ny\r\n".into())
        );
        let spaced = Command {
            database: 0,
            arguments: ["set", "a b\r\n", "0", "0", "x"].map(Bytes::from).to_vec(),
        };
        assert_eq!(target.watch(&keys(&["a b\r\n"])).await, Ok(()));
        assert_eq!(target.commit(&[spaced], &[]).await, done(&[]));
        assert_eq!(get(&server, "YSBiDQo= b"), "VA 1 f0\r\nx\r\n");
    });
    // A server that evicts nothing and is full.
    let full = Memcached::with(&["-M", "-m", "2", "-I", "512k"]);
    run(async {
        let mut target = target(&[&[full.port()]], 1, directory.path());
        assert_eq!(target.lead().await, Ok(true));
        let value = "x".repeat(100_000);
        let set = |key: usize| format!("set k{key} 0 0 {value}");
        let all: Vec<String> = (0..200).map(set).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let committed = target.commit(&commands(&all), &[]).await;
        let Err(TargetError::Busy(said)) = committed else {
            panic!("{committed:?}");
        };
        assert_eq!(said, "SERVER_ERROR out of memory storing object");
    });
}

#[test]
fn one_replicator_leads_and_checkpoints_are_kept() {
    let mut server = Memcached::start();
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let ports: &[&[u16]] = &[&[server.port()]];
        let mut first = target(ports, 1, directory.path());
        let mut second = target(ports, 2, directory.path());
        assert_eq!(first.lead().await, Ok(true));
        assert_eq!(first.lead().await, Ok(true));
        assert_eq!(second.lead().await, Ok(false));
        assert_eq!(second.watch(&[]).await, Err(TargetError::Superseded));
        assert_eq!(first.load().await, Ok(Vec::new()));
        let checkpoint = |value: &str| vec![("us/0".to_owned(), value.to_owned())];
        for value in ["1 1 1 ", "2 2 2 "] {
            assert_eq!(first.watch(&[]).await, Ok(()));
            let set = commands(&["set a 0 0 x"]);
            assert_eq!(first.commit(&set, &checkpoint(value)).await, done(&[]));
        }
        assert_eq!(first.load().await, Ok(checkpoint("2 2 2 ")));
        first.resign().await;
        assert_eq!(second.lead().await, Ok(true));
        assert_eq!(second.load().await, Ok(checkpoint("2 2 2 ")));
        // An evicted lease is taken again; one that another took is lost.
        server.client().lines(b"flush_all\r\n");
        assert_eq!(second.watch(&[]).await, Ok(()));
        assert_eq!(first.lead().await, Ok(false));
        server.client().lines(b"flush_all\r\n");
        assert_eq!(first.lead().await, Ok(true));
        assert_eq!(second.watch(&[]).await, Err(TargetError::Superseded));
        // What is away holds everything, and is found again.
        server.kill();
        assert!(matches!(first.watch(&[]).await, Err(TargetError::Away(_))));
        assert!(matches!(first.lead().await, Err(TargetError::Away(_))));
        server.restart();
        assert_eq!(first.lead().await, Ok(true));
        assert_eq!(first.watch(&keys(&["a"])).await, Ok(()));
        server.restart();
        // Numbers that are counted anew are not compared with those from before.
        let set = commands(&["set a 0 0 x"]);
        assert!(matches!(
            first.commit(&set, &[]).await,
            Err(TargetError::Away(_))
        ));
    });
}

#[test]
fn all_zones_and_servers_have_what_is_written() {
    let zones = [
        [Memcached::start(), Memcached::start()],
        [Memcached::start(), Memcached::start()],
    ];
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let ports = zones
            .each_ref()
            .map(|zone| zone.each_ref().map(Memcached::port));
        let mut target = target(&[&ports[0], &ports[1]], 1, directory.path());
        assert_eq!(target.lead().await, Ok(true));
        let names: Vec<String> = (0..50).map(|key| format!("k{key}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let count = |zone: &[Memcached; 2]| {
            let has = |server: &Memcached| {
                names
                    .iter()
                    .filter(|key| get(server, key) == "VA 1 f0\r\nx\r\n")
                    .count()
            };
            zone.each_ref().map(has)
        };
        let all = |format: fn(&&str) -> String| {
            let texts: Vec<String> = names.iter().map(format).collect();
            commands(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(target.watch(&keys(&names)).await, Ok(()));
        let sets = all(|key| format!("set {key} 0 0 x"));
        assert_eq!(target.commit(&sets, &[]).await, done(&[]));
        for zone in &zones {
            let [one, other] = count(zone);
            assert!(one + other == 50 && 5 < one && 5 < other, "{one} {other}");
        }
        // What the own zone has lost is deleted in the others all the same.
        zones[0]
            .iter()
            .for_each(|server| drop(server.client().lines(b"flush_all\r\n")));
        assert_eq!(target.watch(&keys(&names)).await, Ok(()));
        let deletes = all(|key| format!("delete {key}"));
        assert_eq!(target.commit(&deletes, &[]).await, done(&[]));
        assert_eq!(zones.each_ref().map(count), [[0, 0], [0, 0]]);
    });
}

#[test]
fn a_server_that_is_too_old_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let old = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().expect("a client");
        let mut command = [0; 4];
        stream.read_exact(&mut command).expect("a command");
        stream.write_all(b"ERROR\r\n").expect("it reads");
        command
    });
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let mut target = target(&[&[port]], 1, directory.path());
        let expected = format!(
            "datastore 127.0.0.1:{port} does not know meta commands; replication needs memcached \
             1.6 or newer"
        );
        assert_eq!(target.lead().await, Err(TargetError::Away(expected)));
    });
    assert_eq!(&old.join().expect("it was asked"), b"mn\r\n");
}
