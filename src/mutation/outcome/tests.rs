mod survival;

use super::*;
use crate::mutation::{Scratch, derive};
use crate::protocol::resp::commands::{Effect, Resolve, Rewrite};

/// Milliseconds; relative times of the cases count from here.
const NOW: u64 = 1_000_000;

#[derive(Debug, PartialEq)]
enum Expected<'a> {
    /// No outcome is told.
    Stands,
    /// One command.
    Done(&'a str),
    Rejected(&'a str),
    /// The mutation's own keys.
    Unknown,
}
use Expected::{Done, Rejected, Stands, Unknown};

/// `reply` is written with a space for each line end.
fn check(effect: Effect, command: &str, reply: &str, expected: Expected<'_>) {
    let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let is_final = derive(effect, &arguments, NOW, &mut Scratch::default()).is_final;
    let journaled = Journaled {
        effect,
        arguments: &arguments,
        keys: &[],
        is_final,
        journaled_at_ms: NOW,
    };
    // An error's text has spaces of its own.
    let wire = if reply.starts_with('-') {
        reply.to_owned() + "\r\n"
    } else {
        reply.replace(' ', "\r\n") + "\r\n"
    };
    let outcome = resolve(&journaled, wire.as_bytes());
    let text;
    let found = match &outcome {
        None => Stands,
        Some(Outcome::Effects(commands)) => {
            assert_eq!(commands.len(), 1);
            text = String::from_utf8(commands[0].join(&b' ')).expect("the cases are text");
            Done(&text)
        }
        Some(Outcome::Rejected(reason)) => Rejected(reason),
        Some(Outcome::Unknown { keys, .. }) => {
            assert!(keys.is_empty());
            Unknown
        }
        Some(Outcome::Partial { .. }) => panic!("a single command is known or not"),
    };
    assert_eq!(found, expected, "{effect:?} {command} -> {reply}");
}

fn check_all<const N: usize>(kind: Resolve, cases: [(&str, &str, Expected<'_>); N]) {
    for (command, reply, expected) in cases {
        check(Effect::Resolved(kind), command, reply, expected);
    }
}

#[test]
fn final_commands_stand_unless_rejected() {
    let set = Effect::Rewritten(Rewrite::Set);
    check(Effect::None, "GET k", "-ERR no", Stands);
    check(Effect::Verbatim, "DEL k", ":1", Stands);
    check(Effect::Verbatim, "DEL k", ":0", Stands);
    check(
        Effect::Verbatim,
        "LPUSH k v",
        "-WRONGTYPE no list",
        Rejected("WRONGTYPE no list"),
    );
    check(Effect::Verbatim, "LPUSH k v", "!5 ERR_x", Rejected("ERR_x"));
    check(set, "SET k v EX 10", "+OK", Stands);
    check(set, "SET k v GET", "_", Stands);
    check(set, "SET k v GET", "$-1", Stands);
    check(set, "SET k v EX 10", "-OOM no", Rejected("OOM no"));
    check(
        set,
        "SET k v EX x",
        "-ERR not an integer",
        Rejected("ERR not an integer"),
    );
    // The datastore understood what derive did not.
    check(set, "SET k v LATER", "+OK", Unknown);
}

#[test]
fn conditional() {
    check_all(
        Resolve::Conditional,
        [
            ("SETNX k v", ":1", Done("SET k v")),
            ("setnx k v", ":1", Done("SET k v")),
            ("SETNX k v", ":0", Rejected("")),
            ("SETNX k v", "#t", Done("SET k v")),
            ("SETNX k v", "#f", Rejected("")),
            ("SETNX k", "-ERR args", Rejected("ERR args")),
            ("MSETNX a 1 b 2", ":1", Done("MSET a 1 b 2")),
            ("HSETNX k f v", ":1", Done("HSET k f v")),
            ("RENAMENX a b", ":1", Done("RENAME a b")),
            ("RENAMENX a b", ":0", Rejected("")),
            ("LPUSHX k v", ":3", Done("LPUSH k v")),
            ("RPUSHX k v", ":0", Rejected("")),
            ("LINSERT k BEFORE a b", ":-1", Rejected("")),
            ("LINSERT k BEFORE a b", ":4", Done("LINSERT k BEFORE a b")),
            ("COPY a b", ":1", Done("COPY a b REPLACE")),
            ("COPY a b DB 1", ":1", Done("COPY a b DB 1 REPLACE")),
            ("COPY a b replace", ":1", Done("COPY a b replace")),
            ("COPY a b", ":0", Rejected("")),
            ("MOVE a 1", ":1", Done("MOVE a 1")),
            (
                "MSETEX 1 a 1 NX EX 10",
                ":1",
                Done("MSETEX 1 a 1 PXAT 1010000"),
            ),
            ("MSETEX 1 a 1 NX EX 10", ":0", Rejected("")),
            ("MSETEX 1 a 1 NX LATER", ":1", Unknown),
            ("OTHER k", "$-1", Rejected("")),
            ("OTHER k", "*-1", Rejected("")),
            ("OTHER k", "_", Rejected("")),
            ("OTHER k", "*0", Rejected("")),
            ("OTHER k", "+OK", Done("OTHER k")),
        ],
    );
}

#[test]
fn set() {
    check_all(
        Resolve::Set,
        [
            ("SET k v NX", "+OK", Done("SET k v")),
            ("SET k v NX", "$-1", Rejected("")),
            ("SET k v NX", "_", Rejected("")),
            ("SET k v NX PX 10", "+OK", Done("SET k v PXAT 1000010")),
            ("SET k v EX 10 XX", "+OK", Done("SET k v PXAT 1010000")),
            ("SET k v XX KEEPTTL", "+OK", Done("SET k v KEEPTTL")),
            ("SET k v NX GET", "$-1", Done("SET k v")),
            ("SET k v NX GET", "_", Done("SET k v")),
            ("SET k v NX GET", "$1 w", Rejected("")),
            ("SET k v XX GET", "$1 w", Done("SET k v")),
            ("SET k v XX GET", "_", Rejected("")),
            ("SET k v XX GET", "-WRONGTYPE no", Rejected("WRONGTYPE no")),
            ("SET k v IFEQ w", "+OK", Done("SET k v")),
            ("SET k v IFEQ w", "$-1", Rejected("")),
            ("SET k v IFEQ w GET", "$1 w", Done("SET k v")),
            (
                "SET k v IFEQ w GET EX 1",
                "$1 w",
                Done("SET k v PXAT 1001000"),
            ),
            ("SET k v IFEQ w GET", "$1 x", Rejected("")),
            ("SET k v IFEQ w GET", "$-1", Rejected("")),
            ("SET k v IFNE w GET", "$1 w", Rejected("")),
            ("SET k v IFNE w GET", "$1 x", Done("SET k v")),
            ("SET k v IFNE w GET", "_", Done("SET k v")),
            ("SET k v IFDEQ d", "+OK", Done("SET k v")),
            ("SET k v IFDEQ d GET", "$1 x", Unknown),
            ("SET k v IFDEQ d GET", "_", Rejected("")),
            ("SET k v IFDNE d GET", "$1 x", Unknown),
            ("SET k v IFDNE d GET", "_", Done("SET k v")),
            ("SET k v NX LATER", "+OK", Unknown),
            (
                "SET k v NX XX",
                "-ERR syntax error",
                Rejected("ERR syntax error"),
            ),
        ],
    );
}

#[test]
fn keys_and_strings() {
    check_all(
        Resolve::Expire,
        [
            ("EXPIRE k 10 NX", ":1", Done("PEXPIREAT k 1010000")),
            ("PEXPIRE k 10 GT", ":1", Done("PEXPIREAT k 1000010")),
            ("EXPIREAT k 10 LT", ":1", Done("PEXPIREAT k 10000")),
            ("PEXPIREAT k 10 XX", ":1", Done("PEXPIREAT k 10")),
            ("EXPIRE k 10 NX", ":0", Rejected("")),
            ("EXPIRE k ten NX", ":1", Unknown),
            ("EXPIRE k 10 NX", ":2", Unknown),
        ],
    );
    check_all(
        Resolve::GetEx,
        [
            ("GETEX k EX 10", "$1 v", Done("PEXPIREAT k 1010000")),
            ("GETEX k px 10", "$1 v", Done("PEXPIREAT k 1000010")),
            ("GETEX k EXAT 10", "$1 v", Done("PEXPIREAT k 10000")),
            ("GETEX k PXAT 10", "$1 v", Done("PEXPIREAT k 10")),
            ("GETEX k PERSIST", "$1 v", Done("PERSIST k")),
            ("GETEX k", "$1 v", Rejected("")),
            ("GETEX k EX 10", "$-1", Rejected("")),
            ("GETEX k EX 10", "_", Rejected("")),
            ("GETEX k LATER", "$1 v", Unknown),
            ("GETEX k EX 0", "-ERR invalid", Rejected("ERR invalid")),
        ],
    );
    check_all(
        Resolve::IncrByFloat,
        [
            ("INCRBYFLOAT k 0.1", "$3 3.1", Done("SET k 3.1 KEEPTTL")),
            ("INCRBYFLOAT k 0.1", ",3.1", Done("SET k 3.1 KEEPTTL")),
            ("INCRBYFLOAT k x", "-ERR no", Rejected("ERR no")),
            ("INCRBYFLOAT k 1", ":3", Unknown),
        ],
    );
    check_all(
        Resolve::DeleteIf,
        [
            ("DELEX k IFEQ v", ":1", Done("DEL k")),
            ("DELIFEQ k v", ":0", Rejected("")),
            ("DELIFEQ k v", "+OK", Unknown),
        ],
    );
    check_all(
        Resolve::Migrate,
        [
            ("MIGRATE h 1 k 0 5", "+OK", Done("UNLINK k")),
            ("MIGRATE h 1 k 0 5 REPLACE", "+OK", Done("UNLINK k")),
            (
                "MIGRATE h 1  0 5 AUTH KEYS KEYS a b",
                "+OK",
                Done("UNLINK a b"),
            ),
            (
                "MIGRATE h 1  0 5 AUTH2 u COPY keys a b",
                "+OK",
                Done("UNLINK a b"),
            ),
            ("MIGRATE h 1 k 0 5 COPY", "+OK", Rejected("")),
            ("MIGRATE h 1 k 0 5", "+NOKEY", Rejected("")),
            (
                "MIGRATE h 1  0 5 KEYS a b",
                "-IOERR error or timeout reading",
                Unknown,
            ),
            (
                "MIGRATE h 1  0 5 KEYS a b",
                "-ERR Target instance replied with error: x",
                Unknown,
            ),
            (
                "MIGRATE h 1 k 0 5",
                "-NOAUTH Authentication required.",
                Rejected("NOAUTH Authentication required."),
            ),
            ("MIGRATE h 1 k 0 5", "+LATER", Unknown),
        ],
    );
}

#[test]
fn lists_and_hashes() {
    check_all(
        Resolve::HIncrByFloat,
        [
            ("HINCRBYFLOAT k f 0.1", "$3 3.1", Done("HSET k f 3.1")),
            ("HINCRBYFLOAT k f 0.1", ",3.1", Done("HSET k f 3.1")),
        ],
    );
    check_all(
        Resolve::BlockingPop,
        [
            ("BLPOP a b 0", "*2 $1 b $1 v", Done("LPOP b")),
            ("brpop a b 0", "*2 $1 a $1 v", Done("RPOP a")),
            ("BLPOP a 1", "*-1", Rejected("")),
            ("BLPOP a 1", "_", Rejected("")),
            ("BLPOP a 1", "*3 $1 b $1 v $1 w", Unknown),
            ("BLPOP a 1", "-UNBLOCKED now", Rejected("UNBLOCKED now")),
        ],
    );
    check_all(
        Resolve::LMPop,
        [
            (
                "LMPOP 2 a b LEFT COUNT 5",
                "*2 $1 b *2 $1 x $1 y",
                Done("LPOP b 2"),
            ),
            (
                "lmpop 1 LEFT right",
                "*2 $4 LEFT *1 $1 x",
                Done("RPOP LEFT 1"),
            ),
            ("BLMPOP 0 2 a b RIGHT", "*2 $1 a *1 $1 x", Done("RPOP a 1")),
            ("BLMPOP 0.5 1 a RIGHT", "*-1", Rejected("")),
            ("LMPOP 1 a LEFT", "_", Rejected("")),
            ("LMPOP 9 a LEFT", "*2 $1 a *1 $1 x", Unknown),
            ("LMPOP 1 a UP", "*2 $1 a *1 $1 x", Unknown),
        ],
    );
    check_all(
        Resolve::BlockingMove,
        [
            ("BRPOPLPUSH a b 0", "$1 v", Done("RPOPLPUSH a b")),
            (
                "BLMOVE a b LEFT RIGHT 0",
                "$1 v",
                Done("LMOVE a b LEFT RIGHT"),
            ),
            ("BLMOVE a b LEFT RIGHT 1", "$-1", Rejected("")),
            ("BRPOPLPUSH a b 1", "*-1", Rejected("")),
            ("BRPOPLPUSH a b 1", "_", Rejected("")),
            ("BLMOVE a b", "$1 v", Unknown),
        ],
    );
}

#[test]
fn sets_and_sorted_sets() {
    check_all(
        Resolve::SPop,
        [
            ("SPOP k", "$1 a", Done("SREM k a")),
            ("SPOP k", "$-1", Rejected("")),
            ("SPOP k", "_", Rejected("")),
            ("SPOP k 2", "*2 $1 a $1 b", Done("SREM k a b")),
            ("SPOP k 2", "~2 $1 a $1 b", Done("SREM k a b")),
            ("SPOP k 2", "*0", Rejected("")),
            ("SPOP k 2", "~0", Rejected("")),
            ("SPOP k 2", "~1 :1", Unknown),
        ],
    );
    check_all(
        Resolve::ZPop,
        [
            ("ZPOPMIN k", "*2 $1 a $1 1", Done("ZREM k a")),
            ("ZPOPMIN k", "*2 $1 a ,1", Done("ZREM k a")),
            ("ZPOPMAX k 2", "*4 $1 a $1 1 $1 b $1 2", Done("ZREM k a b")),
            (
                "ZPOPMAX k 2",
                "*2 *2 $1 a ,1 *2 $1 b ,2",
                Done("ZREM k a b"),
            ),
            ("ZPOPMIN k", "*0", Rejected("")),
            ("ZPOPMIN k", "+huh", Unknown),
        ],
    );
    check_all(
        Resolve::BlockingZPop,
        [
            ("BZPOPMIN k l 0", "*3 $1 l $1 a $1 1", Done("ZREM l a")),
            ("BZPOPMAX k l 0", "*3 $1 l $1 a ,1", Done("ZREM l a")),
            ("BZPOPMIN k 1", "*-1", Rejected("")),
            ("BZPOPMIN k 1", "_", Rejected("")),
            ("BZPOPMIN k 1", "*1 $1 l", Unknown),
        ],
    );
    check_all(
        Resolve::ZMPop,
        [
            ("ZMPOP 1 k MIN", "*2 $1 k *1 *2 $1 a $1 1", Done("ZREM k a")),
            (
                "BZMPOP 0 1 k MAX COUNT 2",
                "*2 $1 k *2 *2 $1 a ,1 *2 $1 b ,2",
                Done("ZREM k a b"),
            ),
            ("ZMPOP 1 k MIN", "*-1", Rejected("")),
            ("ZMPOP 1 k MIN", "_", Rejected("")),
            ("ZMPOP 1 k MIN", "*2 $1 k *1 *1 :1", Unknown),
        ],
    );
    check_all(
        Resolve::ZAddIncr,
        [
            ("ZADD k INCR 2 m", "$3 2.5", Done("ZADD k 2.5 m")),
            ("ZADD k GT CH INCR 2 m", ",2.5", Done("ZADD k 2.5 m")),
            ("ZADD k NX INCR 2 m", "$-1", Rejected("")),
            ("ZADD k NX INCR 2 m", "_", Rejected("")),
        ],
    );
    check_all(
        Resolve::ZIncrBy,
        [
            ("ZINCRBY k 2 m", "$3 2.5", Done("ZADD k 2.5 m")),
            ("ZINCRBY k inf m", ",inf", Done("ZADD k inf m")),
            ("ZINCRBY k inf m", "-ERR nan", Rejected("ERR nan")),
        ],
    );
}

#[test]
fn streams() {
    check_all(
        Resolve::XAdd,
        [
            ("XADD k * f v", "$3 5-0", Done("XADD k 5-0 f v")),
            ("xadd k 5-* f v", "$3 5-7", Done("XADD k 5-7 f v")),
            ("XADD k NOMKSTREAM * f v", "$3 5-0", Done("XADD k 5-0 f v")),
            ("XADD k NOMKSTREAM * f v", "$-1", Rejected("")),
            ("XADD k NOMKSTREAM * f v", "_", Rejected("")),
            (
                "XADD k MAXLEN 9 * f v",
                "$3 5-0",
                Done("XADD k MAXLEN 9 5-0 f v"),
            ),
            (
                "XADD k maxlen = 9 * * *",
                "$3 5-0",
                Done("XADD k maxlen = 9 5-0 * *"),
            ),
            (
                "XADD k nomkstream MINID = 4-1 * f v",
                "$3 5-0",
                Done("XADD k MINID = 4-1 5-0 f v"),
            ),
            (
                "XADD k DELREF MAXLEN 9 * f v",
                "$3 5-0",
                Done("XADD k DELREF MAXLEN 9 5-0 f v"),
            ),
            ("XADD k MAXLEN ~ 9 * f v", "$3 5-0", Unknown),
            ("XADD k MINID ~ 9 LIMIT 5 * f v", "$3 5-0", Unknown),
            ("XADD k LATER * f v", "$3 5-0", Unknown),
            ("XADD k", "$3 5-0", Unknown),
            ("XADD k * f", "-ERR args", Rejected("ERR args")),
        ],
    );
}

#[test]
fn flush() {
    check_all(
        Resolve::Flush,
        [
            ("FLUSHALL", "+OK", Done("FLUSHALL")),
            ("FLUSHDB ASYNC", "+OK", Done("FLUSHDB ASYNC")),
            ("FLUSHALL", "-NOPERM no", Rejected("NOPERM no")),
            (
                "FLUSHALL LATER",
                "-ERR syntax error",
                Rejected("ERR syntax error"),
            ),
        ],
    );
}

#[test]
fn snapshot_unless_nothing() {
    check_all(
        Resolve::SnapshotUnlessNothing,
        [
            ("XREADGROUP GROUP g c STREAMS k >", "*-1", Rejected("")),
            ("XREADGROUP GROUP g c STREAMS k >", "_", Rejected("")),
            ("XREADGROUP GROUP g c STREAMS k >", "*1 *2 $1 k *0", Unknown),
            ("XREADGROUP GROUP g c STREAMS k >", "%1 $1 k *0", Unknown),
            (
                "XREADGROUP GROUP g c STREAMS k >",
                "-NOGROUP no",
                Rejected("NOGROUP no"),
            ),
            ("XCLAIM k g c 0 1-1", "*0", Unknown),
            ("XAUTOCLAIM k g c 0 0", "*3 $3 0-0 *0 *0", Rejected("")),
            ("XAUTOCLAIM k g c 0 0", "*2 $3 0-0 *0", Rejected("")),
            ("XAUTOCLAIM k g c 0 0", "*3 $3 0-0 *0 *1 $3 1-1", Unknown),
            ("XAUTOCLAIM k g c 0 0", "*1 $3 0-0", Unknown),
            ("XTRIM k MAXLEN ~ 9", ":0", Rejected("")),
            ("XTRIM k MAXLEN ~ 9", ":7", Unknown),
            ("HEXPIRE k 9 NX FIELDS 2 f g", "*2 :0 :-2", Rejected("")),
            ("HEXPIRE k 9 NX FIELDS 2 f g", "*2 :0 :1", Unknown),
            ("HEXPIRE k 9 NX FIELDS 1 f", "*1 :2", Unknown),
            ("HSETEX k FNX FIELDS 1 f v", ":0", Rejected("")),
            ("HSETEX k FNX FIELDS 1 f v", ":1", Unknown),
            ("HGETEX k EX 1 FIELDS 1 f", "*1 $-1", Rejected("")),
            ("HGETEX k EX 1 FIELDS 1 f", "*1 $1 v", Unknown),
            ("HGETEX k EX 1 FIELDS 2 f g", "*2 _ _", Rejected("")),
            ("MSETEX 1 a 1 XX", ":0", Rejected("")),
            ("MSETEX 1 a 1 XX", ":1", Unknown),
            // Down to 0, or by a negative number: changes.
            ("INCREX k BYINT -1", "*2 :0 :-1", Unknown),
            ("INCREX k", ":0", Unknown),
            ("LATER k", ":-1", Unknown),
            ("LATER k", "*0", Rejected("")),
            // Without CH, changed scores are not in the count.
            ("ZADD k XX 1 m", ":0", Unknown),
            ("ZADD k GT 1 m", ":0", Unknown),
            ("ZADD k XX CH 1 m", ":0", Rejected("")),
            ("ZADD k NX 1 m", ":0", Rejected("")),
            ("ZADD k GT 1 m", ":1", Done("ZADD k 1 m")),
            ("ZADD k NX 1 m 2 n", ":2", Done("ZADD k 1 m 2 n")),
            ("ZADD k NX 1 m 2 n", ":1", Unknown),
            ("ZADD k GT CH 1 m 2 n", ":1", Unknown),
            ("ZADD k NX 1", "-ERR syntax", Rejected("ERR syntax")),
            ("ZADD k", ":1", Unknown),
        ],
    );
}

#[test]
fn opaque() {
    let refused = [
        (
            "EVALSHA 1 1 k",
            "NOSCRIPT No matching script. Please use EVAL.",
        ),
        ("EVAL s 1 k", "NOAUTH Authentication required."),
        (
            "EVAL s 1 k",
            "LOADING Redis is loading the dataset in memory",
        ),
        ("EVAL s 1 k", "MASTERDOWN Link with MASTER is down"),
        (
            "EVAL s 1 k",
            "READONLY You can't write against a read only replica.",
        ),
        (
            "EVAL s 1 k",
            "MISCONF Redis is configured to save RDB snapshots",
        ),
        (
            "EVAL s 1 k",
            "NOREPLICAS Not enough good replicas to write.",
        ),
        ("EVAL s 1 k", "MOVED 5 127.0.0.1:1"),
        (
            "EVAL s 2 k l",
            "CROSSSLOT Keys in request don't hash to the same slot",
        ),
        (
            "FCALL f 1 k",
            "OOM allow-oom flag is not set on the script, can not run it",
        ),
        (
            "module.set k",
            "OOM command not allowed when used memory > 'maxmemory'.",
        ),
        ("module.set k", "NOPERM this user has no permissions"),
        (
            "eval s 1 k",
            "NOPERM User u has no permissions to run the 'eval' command",
        ),
        ("EVAL s", "ERR wrong number of arguments for 'eval' command"),
        (
            "module.set k",
            "ERR unknown command 'module.set', with args beginning with: 'k'",
        ),
        (
            "client nosuch",
            "ERR unknown subcommand 'nosuch'. Try CLIENT HELP.",
        ),
    ];
    for (command, error) in refused {
        check(
            Effect::Opaque,
            command,
            &format!("-{error}"),
            Rejected(error),
        );
    }
    let may_have_written = [
        ("EVAL s 1 k", "ERR Error running script"),
        (
            "EVAL s 1 k",
            "WRONGTYPE Operation against a key script: f, on @user_script:1.",
        ),
        (
            "EVAL s 1 k",
            "OOM command not allowed when used memory > 'maxmemory'.",
        ),
        (
            "EVAL s 1 k",
            "NOPERM ACL failure in script: User u has no permissions to run the 'get' command",
        ),
        (
            "EVAL s 1 k",
            "NOPERM User u has no permissions to access the 'k' key",
        ),
        (
            "FCALL f 1 k",
            "ERR wrong number of arguments for 'set' command",
        ),
        ("EVAL s 1 k", "ERR unknown command 'evalx'"),
        ("module.set k", "ERR whatever"),
        ("module.set k", "LOADINGS"),
    ];
    for (command, error) in may_have_written {
        check(Effect::Opaque, command, &format!("-{error}"), Unknown);
    }
    for reply in ["+OK", "$-1", "_", "*1 :1", "%1 +a +b", "*99999999 :1"] {
        check(Effect::Opaque, "EVAL s 1 k", reply, Unknown);
    }
}
