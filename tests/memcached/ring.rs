//! Several servers behind one address.

use std::collections::BTreeSet;
use std::time::Duration;

use super::commands::{Dialect, command};
use super::support::{Memcache, Memcached, Random, Sidecar, SidecarOptions, until};

const DEADLINE: Duration = Duration::from_secs(20);
const KEYS: usize = 60;

fn servers(count: usize) -> Vec<Memcached> {
    (0..count).map(|_| Memcached::start()).collect()
}

fn replica(servers: &[Memcached]) -> String {
    let urls: Vec<String> = servers.iter().map(Memcached::url).collect();
    format!("[[namespace.replica]]\nupstream = {urls:?}\n")
}

fn sets(value: &str) -> String {
    (0..KEYS)
        .map(|key| format!("set key:{key} 0 0 {}\r\n{value}\r\n", value.len()))
        .collect()
}

fn get_all() -> String {
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key:{key}")).collect();
    format!("get {}\r\n", keys.join(" "))
}

/// The keys that a server has.
fn held(server: &Memcached) -> BTreeSet<usize> {
    let mut client = server.client();
    (0..KEYS)
        .filter(|key| client.lines(format!("mg key:{key}\r\n").as_bytes()) == b"HD\r\nMN\r\n")
        .collect()
}

fn count(reply: &[u8], part: &str) -> usize {
    reply
        .windows(part.len())
        .filter(|window| *window == part.as_bytes())
        .count()
}

/// Whether a command's reply has a number that a server counts for itself.
fn compares(command: &[u8]) -> bool {
    let text = String::from_utf8_lossy(command).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    matches!(
        words.next(),
        Some("gets" | "gats" | "cas" | "cache_memlimit" | "me")
    ) || words.any(|word| word.starts_with(['c', 'C']))
}

/// The packets of a reply without the numbers that servers count for themselves.
fn without_cas(reply: &[u8]) -> Vec<u8> {
    let mut bytes = reply.to_vec();
    let mut at = 0;
    while at + 24 <= bytes.len() {
        bytes[at + 16..at + 24].fill(0);
        let body = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes"));
        at += 24 + body as usize;
    }
    bytes
}

/// A ring answers as one server does.
#[test]
fn a_ring_answers_as_one_server() {
    let mut random = Random::from_environment();
    let (direct, behind) = (Memcached::start(), servers(3));
    let sidecar = Sidecar::with(SidecarOptions::memcached(&behind));
    for _ in 0..200 {
        let dialect = *random.pick(&[Dialect::Text, Dialect::Meta, Dialect::Binary]);
        let (mut own, mut through) = (direct.client(), sidecar.memcache());
        for _ in 0..6 {
            let mut commands: Vec<Vec<u8>> =
                (0..8).map(|_| command(&mut random, dialect)).collect();
            let (expected, found) = match dialect {
                Dialect::Binary => {
                    for command in &mut commands {
                        command[16..24].fill(0);
                    }
                    let bytes = commands.concat();
                    let expected = without_cas(&own.packets(&bytes));
                    (expected, without_cas(&through.packets(&bytes)))
                }
                Dialect::Text | Dialect::Meta => {
                    commands.retain(|command| !compares(command));
                    let bytes = commands.concat();
                    (own.lines(&bytes), through.lines(&bytes))
                }
            };
            assert!(
                super::differential::without_times(&expected)
                    == super::differential::without_times(&found),
                "{}\ndirect:  {}\nthrough: {}",
                commands.concat().escape_ascii(),
                expected.escape_ascii(),
                found.escape_ascii()
            );
        }
    }
    // The first look-up of a key that is asked for twice may be what ends it.
    let mut own = direct.client();
    let mut through = sidecar.memcache();
    for commands in [
        &b"set twice 0 0 1\r\nx\r\ngat -1 twice twice\r\nget twice twice\r\n"[..],
        b"set twice 0 0 1\r\nx\r\nget twice absent twice\r\n",
    ] {
        assert_eq!(
            own.lines(commands).escape_ascii().to_string(),
            through.lines(commands).escape_ascii().to_string()
        );
    }
    let all = "get key:1 key:1 nothing key:0\r\n";
    let (mut own, mut through) = (direct.client(), sidecar.memcache());
    for client in [&mut own, &mut through] {
        client.lines(sets("x").as_bytes());
    }
    assert_eq!(own.lines(all.as_bytes()), through.lines(all.as_bytes()));
    let all = get_all();
    assert_eq!(own.lines(all.as_bytes()), through.lines(all.as_bytes()));
    for server in &behind {
        assert!(
            (5..45).contains(&held(server).len()),
            "every server has its share"
        );
    }
}

/// A server that is away fails for its keys only.
#[test]
fn a_dead_server_concerns_its_own_keys() {
    let mut behind = servers(3);
    let sidecar = Sidecar::with(SidecarOptions::memcached(&behind));
    let mut client = sidecar.memcache();
    assert_eq!(
        count(&client.lines(sets("x").as_bytes()), "STORED\r\n"),
        KEYS
    );
    let lost = held(&behind[1]);
    behind[1].kill();
    until("the sidecar to see it", DEADLINE, || {
        let reply = client.lines(sets("y").as_bytes());
        let refused = count(&reply, "SERVER_ERROR not journaled: ");
        let uncertain = count(&reply, "SERVER_ERROR uncertain: ");
        assert_eq!(count(&reply, "STORED\r\n") + refused + uncertain, KEYS);
        assert!(refused + uncertain <= lost.len());
        (refused == lost.len()).then_some(())
    });
    assert_eq!(sidecar.admin("/readyz").0, 200, "two servers are there");
    let reply = client.lines(get_all().as_bytes());
    assert_eq!(count(&reply, "VALUE "), KEYS - lost.len());
    assert_eq!(count(&reply, "SERVER_ERROR unavailable: "), 1);
    for key in 0..KEYS {
        let reply = client.lines(format!("mg key:{key} v\r\n").as_bytes());
        let expected: &[u8] = match lost.contains(&key) {
            true => b"SERVER_ERROR unavailable: ",
            false => b"VA 1\r\ny",
        };
        assert!(
            reply.starts_with(expected),
            "{key} {}",
            reply.escape_ascii()
        );
    }
    behind[1].restart();
    until("the server to be used again", DEADLINE, || {
        let reply = client.lines(sets("z").as_bytes());
        (count(&reply, "STORED\r\n") == KEYS).then_some(())
    });
    assert_eq!(held(&behind[1]), lost, "its keys are its own again");
}

/// One that has been away for long leaves its keys to the others, if it is to.
#[test]
fn a_server_that_stays_away_is_left_out() {
    let mut behind = servers(3);
    let options = SidecarOptions::memcached(&behind).namespace("eject_after = \"200ms\"");
    let sidecar = Sidecar::with(options);
    let mut client = sidecar.memcache();
    client.lines(sets("x").as_bytes());
    let before: Vec<BTreeSet<usize>> = behind.iter().map(held).collect();
    behind[1].kill();
    until("its keys to be taken over", DEADLINE, || {
        let reply = client.lines(sets("y").as_bytes());
        (count(&reply, "STORED\r\n") == KEYS).then_some(())
    });
    for server in [0, 2] {
        let now = held(&behind[server]);
        assert!(
            before[server].is_subset(&now),
            "no key moves but those of the dead one"
        );
    }
    behind[1].restart();
    until("it to have its keys again", DEADLINE, || {
        client.lines(sets("z").as_bytes());
        (held(&behind[1]) == before[1]).then_some(())
    });
}

fn answers(client: &mut Memcache, sent: &str) -> String {
    String::from_utf8_lossy(&client.lines(sent.as_bytes())).into_owned()
}

/// Every zone gets every write; what this one lost is found in the others.
#[test]
fn zones_have_copies() {
    let (mut here, there) = (servers(2), servers(2));
    let mut options = SidecarOptions::memcached(&here);
    options.tables = String::new();
    let sidecar = Sidecar::with(options.namespace(&replica(&there)));
    let mut client = sidecar.memcache();
    assert_eq!(
        count(&client.lines(sets("x").as_bytes()), "STORED\r\n"),
        KEYS
    );
    until("the copies", DEADLINE, || {
        let copies: usize = there.iter().map(|server| held(server).len()).sum();
        (copies == KEYS).then_some(())
    });
    for server in &here {
        server.client().lines(b"flush_all\r\n");
    }
    let reply = client.lines(get_all().as_bytes());
    assert_eq!(
        count(&reply, "VALUE "),
        KEYS,
        "they are found in the other zone"
    );
    assert_eq!(
        answers(&mut client, "mg key:3 v\r\nmg nothing v\r\n"),
        "VA 1\r\nx\r\nEN\r\nMN\r\n"
    );
    assert!(answers(&mut client, "gets key:3\r\n").starts_with("VALUE key:3 0 1 "));

    // A comparison drops the copy: the other zone's numbers are its own.
    assert_eq!(
        answers(&mut client, "set key:0 0 0 1\r\na\r\n"),
        "STORED\r\nMN\r\n"
    );
    let unique = answers(&mut client, "gets key:0\r\n");
    let unique = unique
        .lines()
        .next()
        .and_then(|line| line.rsplit(' ').next());
    let cas = format!("cas key:0 0 0 1 {}\r\nb\r\n", unique.expect("a number"));
    assert_eq!(answers(&mut client, &cas), "STORED\r\nMN\r\n");
    until("the copy to be gone", DEADLINE, || {
        let copies = there
            .iter()
            .filter(|server| held(server).contains(&0))
            .count();
        (copies == 0).then_some(())
    });
    assert_eq!(
        answers(&mut client, "get key:0\r\n"),
        "VALUE key:0 0 1\r\nb\r\nEND\r\nMN\r\n"
    );
    assert_eq!(
        answers(&mut client, "delete key:3\r\nget key:3\r\n"),
        "NOT_FOUND\r\nEND\r\nMN\r\n"
    );

    // A server of this zone that is gone: reads are answered by the other zone.
    client.lines(sets("w").as_bytes());
    let lost = held(&here[0]);
    here[0].kill();
    until("the other zone to answer", DEADLINE, || {
        let reply = client.lines(get_all().as_bytes());
        (count(&reply, "VALUE ") == KEYS).then_some(())
    });
    assert!(!lost.is_empty());
    let key = lost.first().expect("a key");
    let refused = answers(
        &mut client,
        &format!("set key:{key} 0 0 1\r\nq\r\nget key:{key}\r\n"),
    );
    assert!(
        refused.starts_with("SERVER_ERROR not journaled: "),
        "{refused}"
    );
    assert!(
        refused.contains("\r\nw\r\n"),
        "what was refused is not in the other zone: {refused}"
    );
}
