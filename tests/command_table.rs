//! The command table against a real redis-server's own `COMMAND` replies.
//!
//! Needs `redis-server` 7 on the path; without one every test here fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use wal_sidecar::protocol::Class;
use wal_sidecar::protocol::resp::commands::{
    Control, Effect, Flags, KeySpecification, Resolve, Specification, Table,
};

/// How long one reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked to be echoed after every command, so that the end of a reply
/// is known without decoding it.
const END: &str = "the-end-of-the-reply";

/// A redis-server of this test's own, stopped when dropped.
struct Server {
    child: Child,
    connection: TcpStream,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(directory.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server has to be installed to check the command table against it");
        let log = BufReader::new(child.stdout.take().expect("piped"));
        let mut seen = String::new();
        let mut lines = log.lines().map_while(Result::ok);
        let ready = lines.any(|line| {
            seen += &line;
            line.contains("Ready to accept connections")
        });
        assert!(ready, "redis-server did not start: {seen}");
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        connection
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        Server {
            child,
            connection,
            _directory: directory,
        }
    }

    /// The raw reply to a command.
    fn raw(&mut self, arguments: &[&str]) -> Vec<u8> {
        let mut request = String::new();
        for command in [arguments, &["ECHO", END]] {
            request += &format!("*{}\r\n", command.len());
            for argument in command {
                request += &format!("${}\r\n{argument}\r\n", argument.len());
            }
        }
        self.connection.write_all(request.as_bytes()).expect("sent");
        let end = format!("${}\r\n{END}\r\n", END.len()).into_bytes();
        let mut reply = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        while !reply.ends_with(&end) {
            let length = self.connection.read(&mut chunk).expect("a reply in time");
            assert!(length > 0, "the server went away");
            reply.extend(&chunk[..length]);
        }
        reply.truncate(reply.len() - end.len());
        reply
    }

    fn reply(&mut self, arguments: &[&str]) -> OwnedFrame {
        let raw = self.raw(arguments);
        decode(&raw).expect("RESP2").expect("complete").0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list(frame: &OwnedFrame) -> &[OwnedFrame] {
    match frame {
        OwnedFrame::Array(list) => list,
        other => panic!("no list: {other:?}"),
    }
}

fn text(frame: &OwnedFrame) -> String {
    match frame {
        OwnedFrame::BulkString(text) | OwnedFrame::SimpleString(text) => {
            String::from_utf8(text.clone()).expect("text")
        }
        other => panic!("no text: {other:?}"),
    }
}

fn integer(frame: &OwnedFrame) -> i32 {
    match frame {
        OwnedFrame::Integer(integer) => *integer as i32,
        other => panic!("no integer: {other:?}"),
    }
}

/// What the server says of one command or subcommand.
struct Described {
    /// `XGROUP CREATE`
    name: String,
    arity: i32,
    flags: Vec<String>,
    places: [i32; 3],
}

fn describe(command: &OwnedFrame, all: &mut Vec<Described>) {
    let fields = list(command);
    all.push(Described {
        name: text(&fields[0]).to_uppercase().replace('|', " "),
        arity: integer(&fields[1]),
        flags: list(&fields[2]).iter().map(text).collect(),
        places: [3, 4, 5].map(|field| integer(&fields[field])),
    });
    for part in list(&fields[9]) {
        describe(part, all);
    }
}

/// Names whose arity became more lenient after 7.0.15, which the table follows.
const LATER_ARITY: &[&str] = &[
    // WITHSCORE, since 7.2.
    "ZRANK",
    "ZREVRANK",
    // Of a command without arguments, since 7.2.
    "COMMAND GETKEYS",
    "COMMAND GETKEYSANDFLAGS",
];

/// Names that block although the server has no flag for it before 7.2.
const LATER_BLOCKING: &[&str] = &["WAIT"];

/// Names whose keys the server sees and the table does not: channels, which
/// the server itself marks as no keys in its key specifications.
const CHANNELS: &[&str] = &["SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE"];

/// Mutations without the `write` flag: whether a script writes is not known
/// before it has run.
const SCRIPTS: &[&str] = &["EVAL", "EVALSHA", "FCALL"];

/// What disagrees with the server about one command.
fn differences(row: &Specification, described: &Described) -> Vec<String> {
    let mut differences = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            differences.push(format!("{}: {what}", described.name));
        }
    };
    let name = &*described.name;
    let has = |flag: &str| described.flags.iter().any(|known| known == flag);
    let lenient = row.arity < 0 && row.arity.abs() <= described.arity.abs();
    expect(
        row.arity == described.arity || (LATER_ARITY.contains(&name) && lenient),
        format!("arity {} is not {}", row.arity, described.arity),
    );
    let mutation = row.class == Class::Mutation;
    let writes = has("write") || SCRIPTS.contains(&name);
    expect(mutation == writes, format!("class {:?}", row.class));
    expect(
        !(has("readonly") && mutation),
        "a mutation that reads".into(),
    );
    let blocks = row.flags.contains(Flags::BLOCKING);
    expect(
        blocks == (has("blocking") || LATER_BLOCKING.contains(&name)),
        "blocking".into(),
    );
    let movable = row.flags.contains(Flags::MOVABLE_KEYS);
    // Movable to the server is also what has keys in a pattern (SORT_RO).
    expect(has("movablekeys") || !movable, "movable keys".into());
    let places = match row.keys {
        KeySpecification::None => [0, 0, 0],
        KeySpecification::Range { first, last, step } => [first, last, step],
        _ => described.places,
    };
    if !CHANNELS.contains(&name) {
        expect(
            places == described.places,
            format!("keys {places:?} are not {:?}", described.places),
        );
    }
    differences
}

#[test]
fn every_command_of_the_server_is_in_the_table() {
    let mut server = Server::start(&[]);
    let table = Table::built_in();
    let reply = server.reply(&["COMMAND"]);
    let mut all = Vec::new();
    list(&reply)
        .iter()
        .for_each(|command| describe(command, &mut all));
    assert!(all.len() > 300, "{} commands", all.len());
    let mut differing = Vec::new();
    for described in &all {
        match table.find(described.name.as_bytes()) {
            None => differing.push(format!("{} is in no row", described.name)),
            Some(index) => {
                differing.extend(differences(table.specification(index), described));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn completing_with_a_known_server_adds_nothing() {
    let mut server = Server::start(&[]);
    let table = Table::built_in();
    for protocol in ["2", "3"] {
        server.raw(&["HELLO", protocol]);
        let reply = server.raw(&["COMMAND"]);
        assert!(reply.len() > 10_000, "{} bytes", reply.len());
        let completed = table.completed(&reply).expect("a valid reply");
        let pairs = completed
            .specifications()
            .iter()
            .zip(table.specifications());
        for (completed, built_in) in pairs {
            assert_eq!(completed, built_in, "RESP{protocol}");
        }
        assert_eq!(
            completed.specifications().len(),
            table.specifications().len()
        );
    }
}

#[test]
fn a_table_of_the_server_alone_agrees_about_what_writes() {
    // All the server knows, learnt under other names: what a module would get.
    let mut server = Server::start(&[]);
    let raw = server.raw(&[
        "COMMAND",
        "INFO",
        "set",
        "zunionstore",
        "xgroup",
        "sort",
        "bitop",
    ]);
    let renamed = String::from_utf8(raw).expect("text");
    // The same length, so the reply stays well-formed.
    let renamed = renamed
        .replace("\r\nset\r\n", "\r\nxet\r\n")
        .replace("zunionstore", "xunionstore")
        .replace("xgroup", "ygroup")
        .replace("\r\nsort\r\n", "\r\nxort\r\n")
        .replace("bitop", "xitop");
    let table = Table::built_in()
        .completed(renamed.as_bytes())
        .expect("valid");
    for (name, arguments, keys) in [
        ("XET", vec!["XET", "k", "v"], vec![1]),
        (
            "XUNIONSTORE",
            vec!["XUNIONSTORE", "d", "2", "a", "b"],
            vec![1, 3, 4],
        ),
        (
            "YGROUP CREATE",
            vec!["YGROUP", "CREATE", "k", "g", "$"],
            vec![2],
        ),
        ("XORT", vec!["XORT", "k", "STORE", "d"], vec![1]),
        ("XITOP", vec!["XITOP", "NOT", "d", "s"], vec![2, 3]),
    ] {
        let index = table.find(name.as_bytes()).expect(name);
        assert_eq!(table.specification(index).class, Class::Mutation, "{name}");
        assert_eq!(table.specification(index).effect, Effect::Opaque, "{name}");
        assert_eq!(keys_of(&table, index, &arguments), keys, "{name}");
    }
}

#[test]
fn a_command_the_server_renamed_is_recognized() {
    let mut server = Server::start(&["--rename-command", "FLUSHALL", "nukeall"]);
    let table = Table::built_in();
    assert_eq!(table.find(b"NUKEALL"), None);
    let reply = server.raw(&["COMMAND", "INFO", "nukeall"]);
    let table = table.completed_for(b"nukeall", &reply).expect("valid");
    let index = table.find(b"NUKEALL").expect("known");
    assert_eq!(table.specification(index).class, Class::Mutation);
    assert_eq!(
        table.specification(index).effect,
        Effect::Resolved(Resolve::Flush)
    );
    let reply = server.raw(&["COMMAND", "INFO", "nosuch"]);
    let table = table.completed_for(b"nosuch", &reply).expect("valid");
    assert_eq!(table.find(b"NOSUCH"), None);
}

fn keys_of(table: &Table, index: u16, arguments: &[&str]) -> Vec<usize> {
    let arguments: Vec<&[u8]> = arguments.iter().map(|a| a.as_bytes()).collect();
    let mut keys = Vec::new();
    table.keys(index, &arguments, |key| keys.push(key));
    keys
}

/// Commands whose keys the server names with COMMAND GETKEYS.
const WITH_KEYS: &[&str] = &[
    "GET k",
    "SET k v EX 10",
    "MGET a b c",
    "MSET a 1 b 2",
    "MSETNX a 1 b 2",
    "DEL a b",
    "EXISTS a b",
    "RENAME a b",
    "COPY a b DB 1",
    "OBJECT ENCODING k",
    "MEMORY USAGE k",
    "BITOP AND d a b",
    "BITFIELD k SET u8 0 1",
    "LCS a b",
    "PFCOUNT a b",
    "PFMERGE d a b",
    "PFDEBUG ENCODING k",
    "HSET k f v",
    "LMOVE a b LEFT RIGHT",
    "RPOPLPUSH a b",
    "BLPOP a b 0",
    "BRPOP a 0",
    "BLMOVE a b LEFT RIGHT 0",
    "BRPOPLPUSH a b 0",
    "LMPOP 2 a b LEFT COUNT 3",
    "BLMPOP 0 2 a b RIGHT",
    "SINTER a b",
    "SINTERSTORE d a b",
    "SINTERCARD 2 a b LIMIT 1",
    "SMOVE a b m",
    "ZADD k 1 m",
    "ZUNION 2 a b WITHSCORES",
    "ZINTER 1 a",
    "ZDIFF 2 a b",
    "ZINTERCARD 2 a b",
    "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
    "ZINTERSTORE d 1 a",
    "ZDIFFSTORE d 2 a b",
    "ZRANGESTORE d s 0 1",
    "ZMPOP 2 a b MIN",
    "BZMPOP 0 1 a MAX COUNT 2",
    "BZPOPMIN a b 0",
    "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 m",
    "GEORADIUS k 1 2 3 m",
    "GEORADIUS k 1 2 3 m STORE d",
    "GEORADIUS k 1 2 3 m STORE d STOREDIST e",
    "GEORADIUSBYMEMBER k m 3 m COUNT 1 STOREDIST d",
    "GEORADIUS_RO k 1 2 3 m",
    "SORT k",
    "SORT k BY w_* LIMIT 0 5 GET # STORE d",
    "SORT k STORE a STORE b",
    "SORT k GET STORE",
    "SORT_RO k BY w_*",
    "MIGRATE 127.0.0.1 1 k 0 100",
    "MIGRATE 127.0.0.1 1 k 0 100 COPY REPLACE AUTH keys",
    "MIGRATE 127.0.0.1 1 '' 0 100 AUTH2 keys keys KEYS a b",
    "EVAL s 2 a b c",
    "EVALSHA s 1 a",
    "EVAL_RO s 1 a b",
    "EVALSHA_RO s 1 a",
    "FCALL f 2 a b c",
    "FCALL_RO f 1 a",
    "XADD k * f v",
    "XREAD STREAMS a b 0 0",
    "XREAD COUNT 1 BLOCK 0 STREAMS a 0",
    "XREADGROUP GROUP streams c COUNT 1 NOACK STREAMS a b > >",
    "XREADGROUP GROUP g streams STREAMS streams >",
    "XGROUP CREATE k g $",
    "XINFO STREAM k",
    "XCLAIM k g c 0 1-1",
    "RESTORE-ASKING k 0 v",
    "WATCH a b",
];

#[test]
fn keys_are_those_the_server_names() {
    let mut server = Server::start(&[]);
    let table = Table::built_in();
    for line in WITH_KEYS {
        let words = line
            .split(' ')
            .map(|word| if word == "''" { "" } else { word });
        let arguments: Vec<&str> = words.collect();
        let name = match arguments.get(1) {
            Some(part)
                if table
                    .find(format!("{} {part}", arguments[0]).as_bytes())
                    .is_some() =>
            {
                format!("{} {part}", arguments[0])
            }
            _ => arguments[0].to_string(),
        };
        let index = table.find(name.as_bytes()).expect(line);
        let ours: Vec<String> = keys_of(&table, index, &arguments)
            .into_iter()
            .map(|key| arguments[key].to_string())
            .collect();
        let mut question = vec!["COMMAND", "GETKEYS"];
        question.extend(&arguments);
        let reply = server.reply(&question);
        let OwnedFrame::Array(theirs) = &reply else {
            panic!("{line}: {reply:?}");
        };
        let theirs: Vec<String> = theirs.iter().map(text).collect();
        assert_eq!(ours, theirs, "{line}");
    }
}

#[test]
fn every_command_with_movable_keys_is_in_the_corpus() {
    let mut server = Server::start(&[]);
    let reply = server.reply(&["COMMAND"]);
    let mut all = Vec::new();
    list(&reply)
        .iter()
        .for_each(|command| describe(command, &mut all));
    let movable = all
        .iter()
        .filter(|c| c.flags.iter().any(|flag| flag == "movablekeys"));
    let missing: Vec<&str> = movable
        .map(|command| command.name.as_str())
        .filter(|name| {
            !WITH_KEYS
                .iter()
                .any(|line| line.split(' ').next() == Some(name))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_blocks_and_what_is_control_is_no_other() {
    let table = Table::built_in();
    let named = |control: Control| {
        let rows = table.specifications().iter();
        rows.filter(|row| row.control == Some(control)).count()
    };
    // BLPOP BRPOP BLMOVE BRPOPLPUSH BLMPOP BZPOPMIN BZPOPMAX BZMPOP WAIT WAITAOF
    assert_eq!(named(Control::Blocking), 10);
    assert_eq!(named(Control::Subscribe), 3);
    assert_eq!(named(Control::Unsubscribe), 3);
}
