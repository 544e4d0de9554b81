//! What a client's connection is to Redis, through the sidecar: state that is
//! begun, changed, refused and lost. Compared with Redis itself where the
//! client can see a difference, and with the journal where it cannot.

mod support;

use std::time::Duration;

use support::process::Signal;
use support::{Client, Redis, RedisOptions, Sidecar, SidecarOptions, until};

const DEADLINE: Duration = Duration::from_secs(10);

/// Every record but heartbeats as `journal tail` shows it, without offset,
/// time, region, namespace and sequences: `db0 mutation final SET k v`.
fn journal(sidecar: &Sidecar) -> Vec<String> {
    let output = sidecar.command(&["journal", "tail"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter(|line| !line.ends_with("heartbeat"));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let body = match words[6] {
                "outcome" => [&["outcome"], &words[9..]].concat(),
                _ => words[6..].to_vec(),
            };
            format!("{} {}", words[4], body.join(" ").trim_end())
        })
        .collect()
}

/// Waits until the journal is exactly `expected`: outcomes are written without
/// anybody waiting for them.
fn check_journal(sidecar: &Sidecar, expected: &[&str]) {
    let found = until("the records", DEADLINE, || {
        let found = journal(sidecar);
        (expected.len() <= found.len()).then_some(found)
    });
    assert_eq!(found, expected);
}

/// Sends one inline command after the other and checks each reply.
fn check(client: &mut Client, conversation: &[(&str, &str)]) {
    for (command, reply) in conversation {
        client.send(format!("{command}\r\n").as_bytes());
        let found = client.reply();
        assert_eq!(String::from_utf8_lossy(&found), *reply, "{command}");
    }
}

const OK: &str = "+OK\r\n";
const QUEUED: &str = "+QUEUED\r\n";

#[test]
fn mutations_whose_replies_are_turned_off_are_told_all_the_same() {
    for connection in ["shared", "dedicated"] {
        let redis = Redis::start();
        let sidecar = Sidecar::with(SidecarOptions::new(&redis).connection(connection));
        let mut client = sidecar.client();
        client.send(
            b"LPUSH list a\r\nCLIENT REPLY OFF\r\nSET k 1\r\nSET list x\r\nINCR list\r\n\
              MULTI\r\nSET t 1\r\nSPOP none\r\nEXEC\r\nCLIENT REPLY SKIP\r\nCLIENT NOSUCH\r\n\
              CLIENT REPLY ON\r\nCLIENT REPLY SKIP\r\nCLIENT GETNAME\r\nGET k\r\n\
              CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nGET k\r\nGET t\r\n",
        );
        assert_eq!(client.reply(), b":1\r\n");
        assert_eq!(client.reply(), b"+OK\r\n");
        assert_eq!(client.reply(), b"$1\r\n1\r\n");
        assert_eq!(client.reply(), b"$1\r\n1\r\n");
        assert!(client.silent_for(Duration::from_millis(50)));
        let journaled = [
            "db0 mutation final LPUSH list a",
            "db0 mutation final SET k 1",
            "db0 mutation final SET list x",
            "db0 mutation final INCR list",
            "db0 outcome rejected ERR value is not an integer or out of range",
            "db0 mutation intent SET t 1; SPOP none",
            "db0 outcome effects SET t 1",
            "db0 mutation intent CLIENT NOSUCH",
            "db0 outcome rejected ERR unknown subcommand \\'NOSUCH\\'. Try CLIENT HELP.",
        ];
        check_journal(&sidecar, &journaled);
    }
}

#[test]
fn confirmations_and_messages_come_though_replies_are_off() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let mut client = sidecar.client();
    client.send(b"CLIENT REPLY OFF\r\nSUBSCRIBE c\r\n");
    assert_eq!(
        client.reply(),
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    );
    sidecar.client().command(&["PUBLISH", "c", "m"]);
    assert_eq!(
        client.reply(),
        b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"
    );
}

#[test]
fn an_identity_that_was_taken_on_by_half_is_not_the_next_clients() {
    let redis = Redis::start();
    let mut direct = redis.client();
    check(&mut direct, &[("ACL SETUSER boss on >secret ~* +@all", OK)]);
    let sidecar = Sidecar::start(&redis);
    // Redis authenticates, then refuses the name, and leaves it at that.
    let mut client = sidecar.client();
    client.send(b"HELLO 3 AUTH boss secret SETNAME \"not good\"\r\nPING\r\n");
    assert_eq!(client.reply()[0], b'-');
    assert_eq!(client.reply(), b"+PONG\r\n");
    for _ in 0..2 {
        let mut next = sidecar.client();
        check(
            &mut next,
            &[("WATCH k", OK), ("ACL WHOAMI", "$7\r\ndefault\r\n")],
        );
    }
}

#[test]
fn a_transaction_that_could_not_be_discarded_is_not_the_next_clients() {
    let redis = Redis::start();
    let mut direct = redis.client();
    let rule = "ACL SETUSER app on >p ~* &* +@all -discard";
    check(&mut direct, &[(rule, OK)]);
    let sidecar = Sidecar::start(&redis);
    let mut client = sidecar.client();
    check(
        &mut client,
        &[("AUTH app p", OK), ("MULTI", OK), ("SET k 1", QUEUED)],
    );
    assert!(client.command(&["DISCARD"]).starts_with(b"-NOPERM"));
    let mut next = sidecar.client();
    check(&mut next, &[("AUTH app p", OK), ("WATCH k", OK)]);
    assert!(client.command(&["EXEC"]).starts_with(b"-EXECABORT"));
    check(&mut client, &[("SET k 2", OK)]);
    let journaled = [
        "db0 mutation final SET k 1",
        "db0 outcome rejected EXECABORT Transaction discarded because of previous errors.",
        "db0 mutation final SET k 2",
    ];
    check_journal(&sidecar, &journaled);
}

#[test]
fn connections_are_called_what_their_clients_are() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let names = |expected: &str| {
        until("the names", DEADLINE, || {
            let list = redis.client().command(&["CLIENT", "LIST"]);
            let list = String::from_utf8_lossy(&list).into_owned();
            list.contains(expected).then_some(list)
        })
    };
    let mut client = sidecar.client();
    check(
        &mut client,
        &[
            ("MULTI", OK),
            ("DISCARD", OK),
            ("WATCH k", OK),
            ("CLIENT SETNAME first", OK),
        ],
    );
    names("name=first");
    check(&mut client, &[("UNWATCH", OK), ("PING", "+PONG\r\n")]);
    let mut second = sidecar.client();
    check(&mut second, &[("WATCH k", OK), ("PING", "+PONG\r\n")]);
    assert!(!names("name=wal-sidecar").contains("name=first"));
}

#[test]
fn a_script_may_answer_what_looks_like_a_line_of_monitor() {
    let redis = Redis::start();
    let sidecar = Sidecar::with(SidecarOptions::new(&redis).connection("dedicated"));
    let mut client = sidecar.client();
    let script = "EVAL \"return {ok='1700000000.5 x'}\" 0";
    check(&mut client, &[(script, "+1700000000.5 x\r\n")]);
    check(&mut client, &[("MONITOR", OK)]);
    redis.client().command(&["ECHO", "seen"]);
    assert!(String::from_utf8_lossy(&client.reply()).contains("\"ECHO\" \"seen\""));
}

#[test]
fn invalidations_come_beside_a_transaction_that_is_journaled() {
    let redis = Redis::with(RedisOptions::default());
    let sidecar = Sidecar::start(&redis);
    let mut client = sidecar.client();
    client.send(b"HELLO 3\r\nCLIENT TRACKING ON\r\nGET a\r\nGET b\r\nMULTI\r\n");
    client.replies(5);
    redis.client().command(&["MSET", "a", "1", "b", "2"]);
    client.send(b"SET a 3\r\nSET b 4\r\nEXEC\r\n");
    let mut replies = Vec::new();
    while !replies.ends_with(b"*2\r\n+OK\r\n+OK\r\n") {
        replies.extend(client.reply());
    }
    let text = String::from_utf8_lossy(&replies);
    assert_eq!(text.matches("invalidate").count(), 2, "{text}");
    check_journal(&sidecar, &["db0 mutation final SET a 3; SET b 4"]);
}

#[test]
fn a_command_nobody_tells_about_is_journaled() {
    let renamed = ["--rename-command", "SET", "STORE.IT"].map(str::to_owned);
    let redis = Redis::with(RedisOptions {
        arguments: renamed.to_vec(),
        ..RedisOptions::default()
    });
    let sidecar = Sidecar::start(&redis);
    let mut client = sidecar.client();
    // It tells that this is SET.
    check(&mut client, &[("STORE.IT k 1 EX 1000", OK)]);
    let mut direct = redis.client();
    check(&mut direct, &[("ACL SETUSER default -command", OK)]);
    let sidecar = Sidecar::start(&redis);
    let mut client = sidecar.client();
    let direct_reply = direct.command(&["NOSUCH", "k"]);
    for _ in 0..2 {
        check(
            &mut client,
            &[("STORE.IT k 2", OK), ("\"STORE.IT\" k 3", OK)],
        );
        assert_eq!(client.command(&["NOSUCH", "k"]), direct_reply);
    }
    check(&mut client, &[("MULTI", OK), ("STORE.IT k 4", QUEUED)]);
    assert_eq!(client.command(&["EXEC"]), b"*1\r\n+OK\r\n");
    let told = "db0 outcome unknown (the reply does not tell the effect)";
    let refused =
        "db0 outcome rejected ERR unknown command \\'NOSUCH\\', with args beginning with: \\'k\\'";
    let round = [
        "db0 mutation intent STORE.IT k 2",
        told,
        "db0 mutation intent STORE.IT k 3",
        told,
        "db0 mutation intent NOSUCH k",
        refused,
    ];
    let exec = [
        "db0 mutation intent STORE.IT k 4",
        "db0 outcome unknown (the replies of a transaction do not tell its effect) k",
    ];
    check_journal(&sidecar, &[&round[..], &round, &exec].concat());
}

#[test]
fn a_transaction_selects_as_redis_does() {
    for connection in ["shared", "dedicated"] {
        let redis = Redis::start();
        let sidecar = Sidecar::with(SidecarOptions::new(&redis).connection(connection));
        let mut client = sidecar.client();
        client.send(
            b"SELECT 1\r\nMULTI\r\nSET a 1\r\nSELECT 2\r\nSET b 2\r\nSELECT 99\r\nSELECT 3x\r\n\
              SET c 3\r\nEXEC\r\nSET d 4\r\nMULTI\r\nSELECT 5\r\nDISCARD\r\nSET e 5\r\n\
              MULTI\r\nSELECT 6\r\nEXEC\r\nSET f 6\r\n",
        );
        let replies = String::from_utf8(client.replies(18)).expect("text");
        assert!(
            replies.contains("*6\r\n+OK\r\n+OK\r\n+OK\r\n-ERR"),
            "{replies}"
        );
        let journaled = [
            "db1 mutation final SET a 1; SELECT 2; SET b 2; SELECT 99; SELECT 3x; SET c 3",
            "db1 outcome effects SET a 1; SELECT 2; SET b 2; SET c 3",
            "db2 mutation final SET d 4",
            "db2 mutation final SET e 5",
            "db6 mutation final SET f 6",
        ];
        check_journal(&sidecar, &journaled);
        let mut direct = redis.client();
        for (database, key) in [
            ("1", "a"),
            ("2", "b"),
            ("2", "c"),
            ("2", "d"),
            ("2", "e"),
            ("6", "f"),
        ] {
            direct.command(&["SELECT", database]);
            assert_eq!(
                direct.command(&["EXISTS", key]),
                b":1\r\n",
                "{database} {key}"
            );
        }
    }
}

#[test]
fn an_old_password_is_no_good_for_a_new_client() {
    let redis = Redis::start();
    let mut direct = redis.client();
    check(&mut direct, &[("ACL SETUSER app on >old ~* +@all", OK)]);
    let sidecar = Sidecar::start(&redis);
    let mut first = sidecar.client();
    assert_eq!(
        first.command(&["HELLO", "3", "AUTH", "app", "old"])[0],
        b'%'
    );
    check(&mut direct, &[("ACL SETUSER app <old >new", OK)]);
    let mut second = sidecar.client();
    for command in [
        &["HELLO", "3", "AUTH", "app", "old"][..],
        &["AUTH", "app", "old"],
    ] {
        assert!(second.command(command).starts_with(b"-WRONGPASS"));
    }
    check(&mut second, &[("ACL WHOAMI", "$7\r\ndefault\r\n")]);
    assert_eq!(
        second.command(&["HELLO", "3", "AUTH", "app", "new"])[0],
        b'%'
    );
}

#[test]
fn nothing_is_written_on_a_replication_stream() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let mut replica = sidecar.client();
    check(&mut replica, &[("REPLCONF listening-port 1", OK)]);
    check(
        &mut replica,
        &[("PING", "+PONG\r\n"), ("REPLCONF capa eof", OK)],
    );
    replica.send(b"SET k 1\r\n");
    assert_eq!(replica.rest(), b"");
    let mut replica = sidecar.client();
    replica.send(b"REPLCONF listening-port 1\r\nSET k 1\r\n");
    assert!(replica.rest().len() <= OK.len());
    let mut replica = sidecar.client();
    replica.send(b"PSYNC ? -1\r\n");
    assert!(replica.reply().starts_with(b"+FULLRESYNC"));
    drop(replica);
    assert_eq!(redis.client().command(&["EXISTS", "k"]), b":0\r\n");
}

#[test]
fn who_has_not_authenticated_does_not_end_the_connection_of_all() {
    let redis = Redis::with(RedisOptions {
        password: Some("secret".to_owned()),
        ..RedisOptions::default()
    });
    let sidecar = Sidecar::start(&redis);
    let mut direct = redis.client();
    let links = |direct: &mut Client| {
        let list = direct.command(&["CLIENT", "LIST"]);
        let list = String::from_utf8_lossy(&list).into_owned();
        let ids = list.lines().filter(|line| line.contains("db="));
        let ids = ids.filter_map(|line| line.split(' ').next());
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut patient = sidecar.client();
    assert!(patient.command(&["GET", "k"]).starts_with(b"-NOAUTH"));
    let before = links(&mut direct);
    let mut many = sidecar.client();
    many.send(&support::resp::encode(&["x"; 11]));
    let refused = b"-ERR Protocol error: unauthenticated multibulk length\r\n";
    assert_eq!(many.rest(), refused);
    assert_eq!(links(&mut direct), before);
    // Who has may send more, at once.
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let mut mget = vec!["MGET"];
    mget.extend(keys.iter().map(String::as_str));
    let auth = support::resp::encode(&["AUTH", "secret"]);
    patient.send(&[auth, support::resp::encode(&mget)].concat());
    assert_eq!(patient.reply(), b"+OK\r\n");
    assert!(patient.reply().starts_with(b"*20\r\n"));
}

#[test]
fn limits_of_clients_are_reloaded() {
    let redis = Redis::start();
    let sidecar = Sidecar::with(SidecarOptions::new(&redis).namespace("value_bytes_max = 1024\n"));
    let value = "v".repeat(2000);
    let mut early = sidecar.client();
    check(&mut early, &[("PING", "+PONG\r\n")]);
    let mut refused = sidecar.client();
    let invalid = b"-ERR Protocol error: invalid bulk length\r\n";
    assert_eq!(refused.command(&["SET", "k", &value]), invalid);
    let text = std::fs::read_to_string(sidecar.config()).expect("a file");
    let text = text.replace(
        "value_bytes_max = 1024",
        "value_bytes_max = 4096\nclient_limit = 1",
    );
    std::fs::write(sidecar.config(), text).expect("write it");
    until("the new limit of clients", DEADLINE, || {
        let refused = b"-ERR max number of clients reached\r\n";
        let mut next = sidecar.client();
        next.send(b"PING\r\n");
        matches!(next.try_reply(), Ok(reply) if reply == refused).then_some(())
    });
    assert_eq!(early.command(&["SET", "k", &value]), b"+OK\r\n");
}

#[test]
fn a_drain_that_cannot_finish_says_so() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::with(SidecarOptions::new(&redis).root("drain_timeout = \"1s\""));
    let mut client = sidecar.client();
    check(&mut client, &[("SET k 1", OK)]);
    redis.signal(Signal::Stop);
    client.send(b"SET k 2\r\n");
    until("the record", DEADLINE, || {
        journal(&sidecar)
            .contains(&"db0 mutation final SET k 2".to_owned())
            .then_some(())
    });
    let status = sidecar.stop();
    redis.signal(Signal::Continue);
    assert_eq!(status.code(), Some(1));
    assert_eq!(client.rest(), b"");
}

/// The number a client is told it has.
fn id_of(client: &mut Client) -> u64 {
    client.send(b"CLIENT ID\r\n");
    let reply = String::from_utf8(client.reply()).expect("text");
    reply[1..].trim_end().parse().expect("a number")
}

/// Whether the connection is over, and nothing more came on it.
fn is_gone(client: Client) -> bool {
    client.rest().is_empty()
}

#[test]
fn clients_find_one_another_by_number() {
    let redis = Redis::start();
    for (connection, workers) in [("shared", 1), ("shared", 2), ("dedicated", 1)] {
        let options = SidecarOptions::new(&redis).connection(connection);
        let sidecar = Sidecar::with(options.root(&format!("workers = {workers}")));
        let (mut one, mut two, mut three) = (sidecar.client(), sidecar.client(), sidecar.client());
        let (own, other, blocked) = (id_of(&mut one), id_of(&mut two), id_of(&mut three));

        // Nobody has this number; oneself is spared unless one insists.
        check(
            &mut one,
            &[
                ("CLIENT KILL ID 9000000000000000000", ":0\r\n"),
                (&format!("CLIENT KILL ID {own}"), ":0\r\n"),
                (
                    &format!("CLIENT KILL ID {other} SKIPME maybe"),
                    "-ERR syntax error\r\n",
                ),
                ("PING", "+PONG\r\n"),
            ],
        );
        check(&mut two, &[("PING", "+PONG\r\n")]);

        three.send(b"BLPOP nothing 0\r\n");
        until("it blocks", DEADLINE, || {
            one.send(format!("CLIENT UNBLOCK {blocked} ERROR\r\n").as_bytes());
            (one.reply() == b":1\r\n").then_some(())
        });
        let unblocked = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";
        assert_eq!(String::from_utf8_lossy(&three.reply()), unblocked);
        check(
            &mut one,
            &[(&format!("CLIENT UNBLOCK {blocked}"), ":0\r\n")],
        );

        // Its invalidations go to another connection.
        two.send(b"SUBSCRIBE __redis__:invalidate\r\n");
        two.reply();
        check(
            &mut one,
            &[
                (&format!("CLIENT TRACKING ON REDIRECT {other}"), OK),
                ("GET tracked", "$-1\r\n"),
                ("SET tracked 1", OK),
            ],
        );
        let invalidated = String::from_utf8(two.reply()).expect("text");
        assert!(invalidated.contains("tracked"), "{invalidated}");
        check(
            &mut one,
            &[("CLIENT TRACKING OFF", OK), ("DEL tracked", ":1\r\n")],
        );

        check(&mut one, &[(&format!("CLIENT KILL ID {other}"), ":1\r\n")]);
        assert!(is_gone(two), "{connection}: a subscriber");
        check(
            &mut one,
            &[(&format!("CLIENT KILL ID {blocked} SKIPME yes"), ":1\r\n")],
        );
        assert!(is_gone(three), "{connection}: one that did nothing");
        check(
            &mut one,
            &[(&format!("CLIENT KILL ID {own} SKIPME no"), ":1\r\n")],
        );
        assert!(is_gone(one), "{connection}: itself");
    }
}
