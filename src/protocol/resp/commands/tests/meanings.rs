//! What commands mean for the journal and for their connection.

use std::collections::HashSet;

use super::super::Effect::{self, Opaque, Resolved, Rewritten, Verbatim};
use super::super::{Control, Flags, Resolve, Rewrite, Rule, Table};
use super::{Is, check, inline, multibulk, told};
use crate::protocol::{Class, Command};

const SNAPSHOT: Effect = Resolved(Resolve::SnapshotUnlessNothing);

#[test]
fn strings() {
    check(&[
        ("GET k", Is::Read),
        ("MGET a b", Is::Read),
        ("DIGEST k", Is::Read),
        ("SET k v", Is::Write(Rewritten(Rewrite::Set))),
        ("SET k v EX 10", Is::Write(Rewritten(Rewrite::Set))),
        ("SET k v PXAT 10 GET", Is::Write(Rewritten(Rewrite::Set))),
        ("SET k v GET KEEPTTL", Is::Write(Rewritten(Rewrite::Set))),
        ("SET k v EX NX", Is::Write(Rewritten(Rewrite::Set))),
        ("SET k v NX", Is::Write(Resolved(Resolve::Set))),
        ("SET k v EX 10 XX", Is::Write(Resolved(Resolve::Set))),
        ("SET k v GET NX PX 5", Is::Write(Resolved(Resolve::Set))),
        ("SET k v IFEQ old", Is::Write(Resolved(Resolve::Set))),
        ("SET k v IFDNE abc", Is::Write(Resolved(Resolve::Set))),
        ("SET NX XX", Is::Write(Rewritten(Rewrite::Set))),
        ("SET k", Is::Read),
        ("SETEX k 1 v", Is::Write(Rewritten(Rewrite::SetEx))),
        ("PSETEX k 1 v", Is::Write(Rewritten(Rewrite::PSetEx))),
        ("GETSET k v", Is::Write(Rewritten(Rewrite::GetSet))),
        ("GETDEL k", Is::Write(Rewritten(Rewrite::GetDel))),
        ("GETEX k", Is::Read),
        ("GETEX k EX 1", Is::Write(Resolved(Resolve::GetEx))),
        ("GETEX k PERSIST", Is::Write(Resolved(Resolve::GetEx))),
        ("SETNX k v", Is::Write(Resolved(Resolve::Conditional))),
        ("MSETNX k v", Is::Write(Resolved(Resolve::Conditional))),
        ("MSET a 1 b 2", Is::Write(Verbatim)),
        ("MSETEX 1 k v", Is::Write(Rewritten(Rewrite::MSetEx))),
        ("MSETEX 1 k v EX 5", Is::Write(Rewritten(Rewrite::MSetEx))),
        (
            "MSETEX 1 NX XX KEEPTTL",
            Is::Write(Rewritten(Rewrite::MSetEx)),
        ),
        ("MSETEX 1 k v EX 5 NX", Is::Write(SNAPSHOT)),
        ("MSETEX 2 k v", Is::Write(SNAPSHOT)),
        ("MSETEX x k v", Is::Write(SNAPSHOT)),
        ("INCR k", Is::Write(Verbatim)),
        ("INCR k 1", Is::Read),
        ("DECRBY k 2", Is::Write(Verbatim)),
        (
            "INCRBYFLOAT k 1.5",
            Is::Write(Resolved(Resolve::IncrByFloat)),
        ),
        ("INCREX k EX 5", Is::Write(SNAPSHOT)),
        ("APPEND k v", Is::Write(Verbatim)),
        ("SETRANGE k 0 v", Is::Write(Verbatim)),
        ("SETBIT k 0 1", Is::Write(Verbatim)),
        ("BITOP AND d a b", Is::Write(Verbatim)),
        ("BITFIELD k GET u8 0", Is::Read),
        ("BITFIELD k", Is::Read),
        ("BITFIELD k GET u8 0 OVERFLOW SAT GET u8 1", Is::Read),
        ("BITFIELD k GET u8 0 SET u8 0 1", Is::Write(Verbatim)),
        (
            "BITFIELD k OVERFLOW FAIL INCRBY u8 0 1",
            Is::Write(Verbatim),
        ),
        ("BITFIELD_RO k GET u8 0", Is::Read),
        ("DELEX k", Is::Write(Resolved(Resolve::DeleteIf))),
        ("DELEX k IFEQ v", Is::Write(Resolved(Resolve::DeleteIf))),
        ("DELIFEQ k v", Is::Write(Resolved(Resolve::DeleteIf))),
        ("PFADD k e", Is::Write(Verbatim)),
        ("PFMERGE d a", Is::Write(Verbatim)),
        ("PFCOUNT k", Is::Read),
        ("PFDEBUG ENCODING k", Is::Write(Opaque)),
        ("PFSELFTEST", Is::Read),
    ]);
}

#[test]
fn keys_of_any_type() {
    check(&[
        ("DEL a b", Is::Write(Verbatim)),
        ("UNLINK a", Is::Write(Verbatim)),
        ("DEL", Is::Read),
        ("EXPIRE k 10", Is::Write(Rewritten(Rewrite::Expire))),
        ("PEXPIREAT k 10", Is::Write(Rewritten(Rewrite::Expire))),
        ("EXPIRE k 10 NX", Is::Write(Resolved(Resolve::Expire))),
        ("PEXPIRE k 10 GT", Is::Write(Resolved(Resolve::Expire))),
        ("PERSIST k", Is::Write(Verbatim)),
        ("RENAME a b", Is::Write(Verbatim)),
        ("RENAMENX a b", Is::Write(Resolved(Resolve::Conditional))),
        ("COPY a b REPLACE", Is::Write(Verbatim)),
        ("MOVE k 1", Is::Write(Verbatim)),
        (
            "RESTORE k 0 payload",
            Is::Write(Rewritten(Rewrite::Restore)),
        ),
        ("RESTORE-ASKING k 0 payload", Is::Write(Opaque)),
        ("SORT k", Is::Read),
        ("SORT k LIMIT 0 STORE GET STORE BY STORE", Is::Read),
        ("SORT k STORE d", Is::Write(Verbatim)),
        ("SORT k DESC ALPHA LIMIT 0 5 STORE d", Is::Write(Verbatim)),
        ("SORT k BY w_* GET # STORE d", Is::Write(Verbatim)),
        ("SORT k STORE d BY nosort", Is::Write(Opaque)),
        ("SORT k BY nosort", Is::Read),
        ("SORT k WHATEVER", Is::Write(Opaque)),
        ("SORT_RO k BY w_*", Is::Read),
        ("MIGRATE h 1 k 0 9", Is::Write(Resolved(Resolve::Migrate))),
        ("MIGRATE h 1 k 0 9 COPY REPLACE", Is::Read),
        (
            "MIGRATE h 1 k 0 9 AUTH copy",
            Is::Write(Resolved(Resolve::Migrate)),
        ),
        (
            "MIGRATE h 1 k 0 9 AUTH2 copy copy",
            Is::Write(Resolved(Resolve::Migrate)),
        ),
        (
            "MIGRATE h 1 '' 0 9 KEYS copy",
            Is::Write(Resolved(Resolve::Migrate)),
        ),
        ("MIGRATE h 1 '' 0 9 COPY KEYS k", Is::Read),
        ("TOUCH k", Is::Read),
        ("OBJECT ENCODING k", Is::Read),
        ("OBJECT", Is::Read),
        ("SCAN 0", Is::Read),
        ("WAIT 1 0", Is::ReadBlocking),
        ("WAITAOF 1 0 0", Is::ReadBlocking),
        ("WAIT 1", Is::Read),
    ]);
}

#[test]
fn hashes() {
    check(&[
        ("HGET k f", Is::Read),
        ("HSET k f v", Is::Write(Verbatim)),
        ("HMSET k f v", Is::Write(Verbatim)),
        ("HDEL k f", Is::Write(Verbatim)),
        ("HINCRBY k f 1", Is::Write(Verbatim)),
        (
            "HINCRBYFLOAT k f 1",
            Is::Write(Resolved(Resolve::HIncrByFloat)),
        ),
        ("HSETNX k f v", Is::Write(Resolved(Resolve::Conditional))),
        ("HPERSIST k FIELDS 1 f", Is::Write(Verbatim)),
        (
            "HGETDEL k FIELDS 1 f",
            Is::Write(Rewritten(Rewrite::HGetDel)),
        ),
        (
            "HEXPIRE k 10 FIELDS 1 f",
            Is::Write(Rewritten(Rewrite::HExpire)),
        ),
        (
            "HPEXPIREAT k 10 FIELDS 1 NX",
            Is::Write(Rewritten(Rewrite::HExpire)),
        ),
        ("HEXPIRE k 10 NX FIELDS 1 f", Is::Write(SNAPSHOT)),
        ("HEXPIRE k 10 FIELDS 1 f GT", Is::Write(SNAPSHOT)),
        ("HEXPIRE k 10 FIELDS 3 f", Is::Write(SNAPSHOT)),
        (
            "HSETEX k FIELDS 1 f v",
            Is::Write(Rewritten(Rewrite::HSetEx)),
        ),
        (
            "HSETEX k EX 10 FIELDS 1 FNX v",
            Is::Write(Rewritten(Rewrite::HSetEx)),
        ),
        (
            "HSETEX k KEEPTTL FIELDS 1 f v",
            Is::Write(Rewritten(Rewrite::HSetEx)),
        ),
        ("HSETEX k FNX FIELDS 1 f v", Is::Write(SNAPSHOT)),
        ("HSETEX k FIELDS 1 f v FXX", Is::Write(SNAPSHOT)),
        ("HSETEX k NX PX 5 FIELDS 1 f v", Is::Write(SNAPSHOT)),
        ("HGETEX k FIELDS 2 EX PX", Is::Read),
        ("HGETEX k EX 10 FIELDS 1 f", Is::Write(SNAPSHOT)),
        ("HGETEX k FIELDS 1 f PERSIST", Is::Write(SNAPSHOT)),
        ("HGETEX k FIELDS x f", Is::Write(SNAPSHOT)),
        ("HTTL k FIELDS 1 f", Is::Read),
        ("HSCAN k 0", Is::Read),
    ]);
}

#[test]
fn lists_and_sets() {
    check(&[
        ("LPUSH k v", Is::Write(Verbatim)),
        ("RPUSHX k v", Is::Write(Verbatim)),
        ("LINSERT k BEFORE a b", Is::Write(Verbatim)),
        ("LSET k 0 v", Is::Write(Verbatim)),
        ("LREM k 0 v", Is::Write(Verbatim)),
        ("LTRIM k 0 1", Is::Write(Verbatim)),
        ("LPOP k", Is::Write(Verbatim)),
        ("RPOP k 2", Is::Write(Verbatim)),
        ("RPOPLPUSH a b", Is::Write(Verbatim)),
        ("LMOVE a b LEFT RIGHT", Is::Write(Verbatim)),
        ("LRANGE k 0 1", Is::Read),
        ("LMPOP 1 k LEFT", Is::Write(Resolved(Resolve::LMPop))),
        (
            "BLPOP k 0",
            Is::WriteBlocking(Resolved(Resolve::BlockingPop)),
        ),
        (
            "BRPOP a b 0",
            Is::WriteBlocking(Resolved(Resolve::BlockingPop)),
        ),
        ("BLPOP k", Is::Read),
        (
            "BLMPOP 0 1 k LEFT",
            Is::WriteBlocking(Resolved(Resolve::LMPop)),
        ),
        (
            "BLMOVE a b LEFT LEFT 0",
            Is::WriteBlocking(Resolved(Resolve::BlockingMove)),
        ),
        (
            "BRPOPLPUSH a b 0",
            Is::WriteBlocking(Resolved(Resolve::BlockingMove)),
        ),
        ("SADD k m", Is::Write(Verbatim)),
        ("SREM k m", Is::Write(Verbatim)),
        ("SMOVE a b m", Is::Write(Verbatim)),
        ("SINTERSTORE d a b", Is::Write(Verbatim)),
        ("SUNIONSTORE d a", Is::Write(Verbatim)),
        ("SDIFFSTORE d a", Is::Write(Verbatim)),
        ("SPOP k", Is::Write(Resolved(Resolve::SPop))),
        ("SPOP k 3", Is::Write(Resolved(Resolve::SPop))),
        ("SRANDMEMBER k", Is::Read),
        ("SINTERCARD 1 k", Is::Read),
    ]);
}

#[test]
fn sorted_sets_and_places() {
    check(&[
        ("ZADD k 1 m", Is::Write(Verbatim)),
        ("ZADD k CH 1 m", Is::Write(Verbatim)),
        ("ZADD k NX 1 m", Is::Write(SNAPSHOT)),
        ("ZADD k XX CH 1 m", Is::Write(SNAPSHOT)),
        ("ZADD k XX 1 m", Is::Write(Opaque)),
        ("ZADD k GT 1 m", Is::Write(Opaque)),
        ("ZADD k CH LT 1 m", Is::Write(SNAPSHOT)),
        ("ZADD k 1 NX", Is::Write(Verbatim)),
        ("ZADD k NX INCR 1 m", Is::Write(Resolved(Resolve::ZAddIncr))),
        ("ZINCRBY k 1 m", Is::Write(Resolved(Resolve::ZIncrBy))),
        ("ZREM k m", Is::Write(Verbatim)),
        ("ZREMRANGEBYSCORE k 0 1", Is::Write(Verbatim)),
        ("ZUNIONSTORE d 1 k", Is::Write(Verbatim)),
        ("ZRANGESTORE d k 0 1", Is::Write(Verbatim)),
        ("ZPOPMIN k", Is::Write(Resolved(Resolve::ZPop))),
        ("ZMPOP 1 k MIN", Is::Write(Resolved(Resolve::ZMPop))),
        (
            "BZPOPMAX k 0",
            Is::WriteBlocking(Resolved(Resolve::BlockingZPop)),
        ),
        (
            "BZMPOP 0 1 k MIN",
            Is::WriteBlocking(Resolved(Resolve::ZMPop)),
        ),
        ("ZRANGE k 0 1", Is::Read),
        ("ZRANK k m WITHSCORE", Is::Read),
        ("GEOADD k 1 2 m", Is::Write(Verbatim)),
        ("GEOADD k NX 1 2 m", Is::Write(SNAPSHOT)),
        ("GEOADD k XX 1 2 m", Is::Write(Opaque)),
        ("GEORADIUS k 1 2 3 m", Is::Read),
        ("GEORADIUS k 1 2 3 m COUNT 1 STORE d", Is::Write(Verbatim)),
        ("GEORADIUSBYMEMBER k store 3 m", Is::Read),
        ("GEORADIUSBYMEMBER k m 3 m STOREDIST d", Is::Write(Verbatim)),
        ("GEORADIUS_RO k 1 2 3 m", Is::Read),
        (
            "GEOSEARCHSTORE d k FROMMEMBER m BYRADIUS 1 m",
            Is::Write(Verbatim),
        ),
    ]);
}

#[test]
fn streams() {
    check(&[
        ("XADD k 1-1 f v", Is::Write(Verbatim)),
        ("XADD k 1 f v", Is::Write(Verbatim)),
        ("XADD k * f v", Is::Write(Resolved(Resolve::XAdd))),
        ("XADD k 5-* f v", Is::Write(Resolved(Resolve::XAdd))),
        (
            "XADD k NOMKSTREAM MAXLEN 9 * f v",
            Is::Write(Resolved(Resolve::XAdd)),
        ),
        ("XADD k MAXLEN = 9 1-1 f *", Is::Write(Verbatim)),
        ("XADD k MAXLEN ~ 9 1-1 f v", Is::Write(SNAPSHOT)),
        ("XADD k MINID ~ 9 LIMIT 5 * f v", Is::Write(SNAPSHOT)),
        ("XADD k DELREF MAXLEN 9 1-1 f v", Is::Write(Verbatim)),
        ("XADD k IDMPAUTO p * f v", Is::Write(SNAPSHOT)),
        ("XTRIM k MAXLEN 9", Is::Write(Verbatim)),
        ("XTRIM k MAXLEN = 9", Is::Write(Verbatim)),
        ("XTRIM k MINID ~ 9", Is::Write(SNAPSHOT)),
        ("XDEL k 1-1", Is::Write(Verbatim)),
        ("XACK k g 1-1", Is::Write(Verbatim)),
        ("XSETID k 1-1", Is::Write(Verbatim)),
        ("XCLAIM k g c 0 1-1", Is::Write(SNAPSHOT)),
        ("XAUTOCLAIM k g c 0 0", Is::Write(SNAPSHOT)),
        ("XGROUP CREATE k g $", Is::Write(Verbatim)),
        ("XGROUP DELCONSUMER k g c", Is::Write(Verbatim)),
        ("XGROUP HELP", Is::Read),
        ("XGROUP NOSUCH k", Is::Unknown),
        ("XGROUP CREATE", Is::Read),
        ("XGROUP", Is::Read),
        ("XREAD STREAMS k 0", Is::Read),
        ("XREAD COUNT 1 BLOCK 0 STREAMS k 0", Is::ReadBlocking),
        ("XREAD COUNT BLOCK STREAMS k 0", Is::Read),
        ("XREADGROUP GROUP g c STREAMS k >", Is::Write(SNAPSHOT)),
        (
            "XREADGROUP GROUP BLOCK BLOCK STREAMS k >",
            Is::Write(SNAPSHOT),
        ),
        (
            "XREADGROUP GROUP g c NOACK BLOCK 5 STREAMS k >",
            Is::WriteBlocking(SNAPSHOT),
        ),
        ("XPENDING k g", Is::Read),
        ("XINFO STREAM k", Is::Read),
        ("XDELEX k KEEPREF IDS 1 1-1", Is::Write(Verbatim)),
    ]);
}

#[test]
fn the_server_and_scripts() {
    check(&[
        ("EVAL s 1 k", Is::Write(Opaque)),
        ("EVALSHA s 0", Is::Write(Opaque)),
        ("FCALL f 1 k", Is::Write(Opaque)),
        ("EVAL_RO s 1 k", Is::Read),
        ("FCALL_RO f 1 k", Is::Read),
        ("SCRIPT LOAD s", Is::Read),
        ("SCRIPT FLUSH", Is::Read),
        ("FUNCTION LOAD REPLACE code", Is::Write(Verbatim)),
        ("FUNCTION FLUSH", Is::Write(Verbatim)),
        ("FUNCTION LIST", Is::Read),
        ("PUBLISH c m", Is::Read),
        ("SPUBLISH c m", Is::Read),
        ("FLUSHALL", Is::Write(Resolved(Resolve::Flush))),
        ("FLUSHDB ASYNC", Is::Write(Resolved(Resolve::Flush))),
        ("SWAPDB 0 1", Is::Write(Verbatim)),
        ("CONFIG SET a b", Is::Read),
        ("COMMAND", Is::Read),
        ("COMMAND COUNT", Is::Read),
        ("CLUSTER NODES", Is::Read),
        ("CLUSTER GETSLOTMIGRATIONS", Is::Read),
        ("DEBUG SLEEP 0", Is::Read),
        ("REPLICAOF NO ONE", Is::Read),
        ("ACL WHOAMI", Is::Read),
        ("SHUTDOWN NOSAVE", Is::Control(Control::Shutdown)),
        ("JSON.SET k $ 1", Is::Write(Opaque)),
        ("BF.ADD k v", Is::Write(Opaque)),
        ("FT.CREATE i SCHEMA f TEXT", Is::Write(Verbatim)),
        ("FT.SEARCH i q", Is::Read),
        ("VADD k VALUES 1 1 e", Is::Write(Verbatim)),
        ("VSIM k ELE e", Is::Read),
        ("ARSET k 0 v", Is::Write(Verbatim)),
        ("NOSUCH a", Is::Unknown),
        ("A-NAME-LONGER-THAN-ANY-THAT-COULD-BE-FOLDED a", Is::Unknown),
        ("SETX k v", Is::Unknown),
    ]);
}

#[test]
fn connections() {
    check(&[
        ("HELLO 3", Is::Control(Control::Hello)),
        ("AUTH p", Is::Control(Control::Auth)),
        ("AUTH", Is::Read),
        ("SELECT 1", Is::Control(Control::Select)),
        ("QUIT", Is::Control(Control::Quit)),
        ("RESET", Is::Control(Control::Reset)),
        ("MULTI", Is::Control(Control::Multi)),
        ("MULTI now", Is::Read),
        ("EXEC", Is::Control(Control::Exec)),
        ("DISCARD", Is::Control(Control::Discard)),
        ("WATCH k", Is::Control(Control::Watch)),
        ("UNWATCH", Is::Control(Control::Unwatch)),
        ("SUBSCRIBE c", Is::Control(Control::Subscribe)),
        ("PSUBSCRIBE c", Is::Control(Control::Subscribe)),
        ("SSUBSCRIBE c", Is::Control(Control::Subscribe)),
        ("UNSUBSCRIBE", Is::Control(Control::Unsubscribe)),
        ("SUNSUBSCRIBE", Is::Control(Control::Unsubscribe)),
        ("MONITOR", Is::Control(Control::Monitor)),
        ("SYNC", Is::Control(Control::Sync)),
        ("PSYNC ? -1", Is::Control(Control::Sync)),
        ("REPLCONF ACK 0", Is::Control(Control::Sync)),
        ("CLIENT SETNAME n", Is::Control(Control::ClientSetName)),
        ("CLIENT GETNAME", Is::Control(Control::ClientGetName)),
        (
            "CLIENT SETINFO LIB-NAME n",
            Is::Control(Control::ClientSetInfo),
        ),
        ("CLIENT ID", Is::Control(Control::ClientId)),
        ("CLIENT REPLY OFF", Is::Control(Control::ClientReply)),
        ("CLIENT TRACKING ON", Is::Control(Control::ClientTracking)),
        ("CLIENT CACHING YES", Is::Control(Control::ConnectionFlag)),
        ("CLIENT NO-EVICT ON", Is::Control(Control::ConnectionFlag)),
        ("CLIENT NO-TOUCH ON", Is::Control(Control::ConnectionFlag)),
        (
            "CLIENT IMPORT-SOURCE ON",
            Is::Control(Control::ConnectionFlag),
        ),
        ("CLIENT CAPA REDIRECT", Is::Control(Control::ConnectionFlag)),
        ("SCRIPT DEBUG YES", Is::Control(Control::ConnectionFlag)),
        ("READONLY", Is::Control(Control::ConnectionFlag)),
        ("READWRITE", Is::Control(Control::ConnectionFlag)),
        ("ASKING", Is::Control(Control::ConnectionFlag)),
        ("CLIENT LIST", Is::Read),
        ("CLIENT KILL ID 5", Is::Control(Control::ClientTarget)),
        ("CLIENT NOSUCH", Is::Unknown),
        ("CLIENT", Is::Read),
        ("PING", Is::Read),
        ("ECHO m", Is::Read),
    ]);
}

#[test]
fn quoted_inline_commands_journal_where_in_doubt() {
    let table = Table::built_in();
    for (line, arguments, expected) in [
        (r#""SET" k v"#, 3, Is::Write(Rewritten(Rewrite::Set))),
        (r#"S"ET" k v"#, 3, Is::Write(Rewritten(Rewrite::Set))),
        (r#""\x53ET" k v"#, 3, Is::Write(Rewritten(Rewrite::Set))),
        ("'get' k", 2, Is::Read),
        (r#""" k"#, 2, Is::Unknown),
        (
            r#"CLIENT "SETNAME" n"#,
            3,
            Is::Control(Control::ClientSetName),
        ),
        (r#"XGROUP 'create' k g $"#, 5, Is::Write(Verbatim)),
        (r#"XREAD "BLOCK" 0 STREAMS k 0"#, 6, Is::ReadBlocking),
        (r#"XREAD STREAMS "a k" 0"#, 4, Is::ReadBlocking),
    ] {
        let (bytes, frame) = inline(line, arguments);
        let classified = table.classify(&bytes, &frame);
        // The effect is derived from unquoted arguments, later.
        let plain = line.replace(['"', '\''], "");
        assert_eq!(told(&table, classified, &plain), expected, "{line}");
    }
    for line in [r#"GETEX k "EX" 5"#, r#"SORT k 'STORE' d"#, r#"GETEX "k""#] {
        let (bytes, frame) = inline(line, line.split(' ').count());
        let class = table.classify(&bytes, &frame).class;
        assert_eq!(class, Class::Mutation, "{line}");
    }
}

#[test]
fn what_is_cut_off_classifies_without_panicking() {
    let table = Table::built_in();
    for line in [
        "XGROUP CREATE k g $",
        "SORT k STORE d",
        "XREAD BLOCK 0 STREAMS k 0",
    ] {
        let (bytes, frame) = multibulk(line);
        for end in 0..bytes.len() {
            table.classify(&bytes[..end], &frame);
        }
    }
}

#[test]
fn rows_are_sound() {
    let table = Table::built_in();
    let mut names = HashSet::new();
    for (index, row) in table.specifications().iter().enumerate() {
        let name = &*row.name;
        assert!(names.insert(name.to_string()), "{name} is there twice");
        assert_eq!(name, name.to_ascii_uppercase());
        assert_eq!(table.find(name.as_bytes()), Some(index as u16), "{name}");
        assert_ne!(row.arity, 0, "{name}");
        let mutation = row.class == Class::Mutation;
        assert_eq!(mutation, row.effect != Effect::None, "{name}");
        assert_eq!(mutation, row.flags.contains(Flags::WRITE), "{name}");
        assert!(!(mutation && row.flags.contains(Flags::READONLY)), "{name}");
        match row.class {
            Class::Control => assert!(row.control.is_some_and(|c| c != Control::Blocking)),
            _ => assert!(
                matches!(row.control, None | Some(Control::Blocking)),
                "{name}"
            ),
        }
        if let Some((container, _)) = name.split_once(' ') {
            let container = table.find(container.as_bytes()).expect("a container");
            assert_eq!(
                table.specification(container).rule,
                Rule::Container,
                "{name}"
            );
        }
    }
    assert!(names.len() > 400, "{}", names.len());
    assert_eq!(table.effect(Command::UNKNOWN, &[b"X"]), Effect::None);
}
