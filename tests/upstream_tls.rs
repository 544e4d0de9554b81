//! TLS between the sidecar and the datastore: clients notice nothing of it, and who
//! can't be trusted is not spoken to.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::certificates::Certificates;
use support::memcached::packet;
use support::process::{Signal, free_port};
use support::resp::encode;
use support::{Memcached, Redis, RedisOptions, Sidecar, SidecarOptions, journal, until};

const DEADLINE: Duration = Duration::from_secs(20);

/// Redis that speaks TLS alone, and wants a certificate of its clients.
fn secured() -> (Redis, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::new());
    let redis = Redis::with(RedisOptions {
        tls: Some(Arc::clone(&certificates)),
        ..RedisOptions::default()
    });
    (redis, certificates)
}

/// Trusts the authority.
fn trusting(options: SidecarOptions, authority: &Certificates) -> SidecarOptions {
    let file = authority.authority();
    options.namespace(&format!("upstream_certificate_authority = {file:?}"))
}

/// Shows the certificate.
fn showing(options: SidecarOptions, own: &Certificates) -> SidecarOptions {
    let (certificate, key) = (own.certificate(), own.key());
    options.namespace(&format!(
        "upstream_certificate = {certificate:?}\nupstream_key = {key:?}"
    ))
}

fn mutual(redis: &Redis, certificates: &Certificates) -> SidecarOptions {
    showing(
        trusting(SidecarOptions::new(redis), certificates),
        certificates,
    )
}

/// More than sockets and TLS take at once, both ways.
fn check_much(sidecar: &Sidecar) {
    const COMMANDS: usize = 300;
    let value = |index: usize| format!("{index}:{}", "v".repeat(100_000));
    let mut client = sidecar.client();
    let mut other = sidecar.client();
    let sets = (0..COMMANDS).map(|index| encode(&["SET", &format!("k:{index}"), &value(index)]));
    client.send(&sets.collect::<Vec<_>>().concat());
    for _ in 0..COMMANDS {
        assert_eq!(client.reply(), b"+OK\r\n");
    }
    let gets = (0..COMMANDS).map(|index| encode(&["GET", &format!("k:{index}")]));
    client.send(&gets.collect::<Vec<_>>().concat());
    // Others are not held up by who does not read.
    assert_eq!(other.command(&["PING"]), b"+PONG\r\n");
    for index in 0..COMMANDS {
        let value = value(index);
        let expected = format!("${}\r\n{value}\r\n", value.len());
        assert!(client.reply() == expected.as_bytes(), "k:{index}");
    }
}

#[test]
fn clients_notice_nothing_of_it() {
    for connection in ["shared", "dedicated"] {
        let (mut redis, certificates) = secured();
        let options = mutual(&redis, &certificates).connection(connection);
        let sidecar = Sidecar::with(options);
        check_much(&sidecar);

        let mut client = sidecar.client();
        assert_eq!(client.command(&["MULTI"]), b"+OK\r\n");
        assert_eq!(client.command(&["INCR", "count"]), b"+QUEUED\r\n");
        assert_eq!(client.command(&["EXEC"]), b"*1\r\n:1\r\n");
        let mut listening = sidecar.client();
        let subscribed = listening.command(&["SUBSCRIBE", "news"]);
        assert!(subscribed.starts_with(b"*3\r\n$9\r\nsubscribe"));
        assert_eq!(client.command(&["PUBLISH", "news", "one"]), b":1\r\n");
        let heard = listening.reply();
        assert!(
            heard.ends_with(b"$3\r\none\r\n"),
            "{}",
            heard.escape_ascii()
        );
        let mut blocked = sidecar.client();
        blocked.send(&encode(&["BLPOP", "list", "0"]));
        assert_eq!(client.command(&["RPUSH", "list", "x"]), b":1\r\n");
        assert_eq!(blocked.reply(), b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");

        redis.kill();
        until("the datastore to be missed", DEADLINE, || {
            (sidecar.admin("/readyz").0 == 503).then_some(())
        });
        redis.restart();
        until("the datastore to be found again", DEADLINE, || {
            (sidecar.admin("/readyz").0 == 200).then_some(())
        });
        assert_eq!(sidecar.client().command(&["SET", "a", "b"]), b"+OK\r\n");
        let records = journal::read(&sidecar.journal().join("test"), 0).0;
        journal::check_dense(&records);
        assert!(journal::arguments(&records).any(|one| one == b"k:299"));
    }
}

/// A datastore that stands still and goes on: what was on its way arrives, once.
#[test]
fn what_waits_in_between_arrives() {
    /// More than the sockets in between hold.
    const CLIENTS: usize = 24;
    let (redis, certificates) = secured();
    let sidecar = Sidecar::with(mutual(&redis, &certificates));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| sidecar.client()).collect();
    redis.signal(Signal::Stop);
    let value = "v".repeat(1 << 20);
    for client in &mut clients {
        client.send(&encode(&["APPEND", "large", &value]));
    }
    let is_sent = || {
        let mutations = sidecar.metric("wal_sidecar_commands_total", "class=\"mutation\"");
        (mutations == CLIENTS as f64).then_some(())
    };
    until("all of it to be on its way", DEADLINE, is_sent);
    redis.signal(Signal::Continue);
    let mut lengths: Vec<Vec<u8>> = clients.iter_mut().map(|client| client.reply()).collect();
    lengths.sort_by_key(|reply| (reply.len(), reply.clone()));
    let expected = (1..=CLIENTS).map(|count| format!(":{}\r\n", count << 20).into_bytes());
    assert!(lengths.iter().cloned().eq(expected));
}

#[test]
fn who_can_not_be_trusted_is_not_spoken_to() {
    let (redis, certificates) = secured();
    let others = Certificates::new();
    let server_name = "upstream_server_name = \"elsewhere.example\"";
    for (options, part) in [
        (
            showing(
                trusting(SidecarOptions::new(&redis), &others),
                &certificates,
            ),
            "invalid peer certificate",
        ),
        (
            mutual(&redis, &certificates).namespace(server_name),
            "not valid for",
        ),
        // Redis does not trust who shows nothing, or something else.
        (
            trusting(SidecarOptions::new(&redis), &certificates),
            "unreachable: ",
        ),
        (
            showing(
                trusting(SidecarOptions::new(&redis), &certificates),
                &others,
            ),
            "unreachable: ",
        ),
    ] {
        let sidecar = Sidecar::with_status(options, 503);
        let body = until("the reason", DEADLINE, || {
            let (status, body) = sidecar.admin("/readyz");
            assert_eq!(status, 503, "{body}");
            body.contains(part).then_some(body)
        });
        println!("{body}");
        let reply = sidecar.client().command(&["SET", "a", "b"]);
        assert!(
            reply.starts_with(b"-NOTJOURNALED "),
            "{}",
            reply.escape_ascii()
        );
    }
}

#[test]
fn files_that_can_not_be_used_are_named_at_the_start() {
    let (redis, certificates) = secured();
    let options = SidecarOptions::new(&redis)
        .namespace("upstream_certificate_authority = \"/nowhere/authority.pem\"");
    let output = Sidecar::failing(&options, free_port(), free_port());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let part = "namespace[0].upstream: read certificates from /nowhere/authority.pem: ";
    assert!(said.contains(part), "{said}");

    let swapped = format!(
        "upstream_certificate = {:?}\nupstream_key = {:?}",
        certificates.key(),
        certificates.certificate()
    );
    let options = trusting(SidecarOptions::new(&redis), &certificates).namespace(&swapped);
    let output = Sidecar::failing(&options, free_port(), free_port());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("there is none in it"), "{said}");
}

#[test]
fn memcached_speaks_it_too() {
    let certificates = Certificates::new();
    let files = format!(
        "ssl_chain_cert={},ssl_key={}",
        certificates.certificate().display(),
        certificates.key().display()
    );
    let servers: Vec<Memcached> = (0..2)
        .map(|_| Memcached::with(&["-Z", "-o", &files]))
        .collect();
    let mut options = SidecarOptions::memcached(&servers);
    options.upstream = options.upstream.replace("memcached://", "memcacheds://");
    let sidecar = Sidecar::with(trusting(options, &certificates));
    let mut client = sidecar.memcache();
    // It is ready with one of the servers.
    for key in ["key:a", "key:b", "key:c", "key:d", "key:e", "key:f"] {
        let set = format!("set {key} 0 0 1\r\nv\r\n");
        until("a server to be there", DEADLINE, || {
            (client.lines(set.as_bytes()) == b"STORED\r\nMN\r\n").then_some(())
        });
    }
    for index in 0..100 {
        let value = "v".repeat(1000 * index);
        let set = format!("set key:{index} 0 0 {}\r\n{value}\r\n", value.len());
        assert_eq!(client.lines(set.as_bytes()), b"STORED\r\nMN\r\n");
        let found = client.lines(format!("get key:{index}\r\n").as_bytes());
        let expected = format!(
            "VALUE key:{index} 0 {}\r\n{value}\r\nEND\r\nMN\r\n",
            value.len()
        );
        assert!(found == expected.as_bytes(), "key:{index}");
    }
    // In packets, on connections of their own to the servers.
    let extras = [0; 8];
    for key in [&b"packet:1"[..], b"packet:2", b"packet:3"] {
        let set = packet(0x01, [1; 4], 0, &extras, key, b"value");
        let stored = sidecar.memcache().packets(&set);
        // Magic, opcode, and after the lengths the status.
        assert_eq!(stored[..2], [0x81, 0x01], "{}", stored.escape_ascii());
        assert_eq!(stored[6..8], [0, 0], "{}", stored.escape_ascii());
        let key = String::from_utf8_lossy(key);
        let found = client.lines(format!("get {key}\r\n").as_bytes());
        let expected = format!("VALUE {key} 0 5\r\nvalue\r\nEND\r\nMN\r\n");
        assert_eq!(found, expected.as_bytes());
    }
}

#[test]
fn replicators_and_verify_speak_it() {
    let (redis, certificates) = secured();
    let plain = Redis::start();
    let serve = free_port();
    let eu = SidecarOptions::new(&plain)
        .region("eu", &["proxy"])
        .journal(&format!("serve = \"127.0.0.1:{serve}\""));
    let eu = Sidecar::with(eu);
    let mut us = mutual(&redis, &certificates).region("us", &["proxy", "replicator"]);
    us.tables =
        format!("[[replication.source]]\nregion = \"eu\"\njournal = \"wal://127.0.0.1:{serve}\"\n");
    let us = Sidecar::with(us);
    for index in 0..200 {
        let key = format!("key:{index}");
        assert_eq!(eu.client().command(&["SET", &key, &key]), b"+OK\r\n");
    }
    let mut reader = us.client();
    until("the last of them", DEADLINE, || {
        (reader.command(&["GET", "key:199"]) == b"$7\r\nkey:199\r\n").then_some(())
    });
    let verified = us.command(&["verify", "--with", &plain.url()]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(0), "{said}");
    println!("{said}");
    // Where both speak it, who is trusted here is there.
    let other = Redis::with(RedisOptions {
        tls: Some(certificates),
        ..RedisOptions::default()
    });
    let verified = us.command(&["verify", "--with", &other.url()]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains("key:199"), "{said}");
}
