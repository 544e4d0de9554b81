use super::*;
use crate::protocol::resp::commands::{Effect, Resolve, Rewrite};

/// Milliseconds; relative times of the cases count from here.
const NOW: u64 = 1_000_000;

/// What is journaled is final, or as sent and not final.
enum Expected {
    Final(&'static str),
    Intent,
}
use Expected::{Final, Intent};

fn check(effect: Effect, command: &str, expected: &Expected) {
    let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let mut scratch = Scratch::default();
    let derived = derive(effect, &arguments, NOW, &mut scratch);
    let found = derived.arguments().join(&b' ');
    let found = String::from_utf8_lossy(&found);
    let (form, is_final) = match expected {
        Final(form) => (*form, true),
        Intent => (command, false),
    };
    assert_eq!(
        (&*found, derived.is_final),
        (form, is_final),
        "{effect:?} {command}"
    );
}

fn check_all(rewrite: Rewrite, cases: &[(&str, Expected)]) {
    for (command, expected) in cases {
        check(Effect::Rewritten(rewrite), command, expected);
    }
}

#[test]
fn set() {
    check_all(
        Rewrite::Set,
        &[
            ("SET k v", Final("SET k v")),
            ("set k v", Final("set k v")),
            ("SET k v EX 10", Final("SET k v PXAT 1010000")),
            ("set k v ex 10", Final("SET k v PXAT 1010000")),
            ("SET k v PX 10", Final("SET k v PXAT 1000010")),
            ("SET k v EXAT 2000", Final("SET k v PXAT 2000000")),
            ("SET k v pxat 2000", Final("SET k v PXAT 2000")),
            ("SET k v PXAT 1", Final("SET k v PXAT 1")),
            ("SET k v KEEPTTL", Final("SET k v KEEPTTL")),
            ("SET k v keepttl", Final("SET k v KEEPTTL")),
            ("SET k v GET", Final("SET k v")),
            ("SET k v GET EX 1", Final("SET k v PXAT 1001000")),
            ("SET k v EX 1 GET", Final("SET k v PXAT 1001000")),
            ("SET k v GET KEEPTTL GET", Final("SET k v KEEPTTL")),
            ("SET k v EX 1 EX 2", Final("SET k v PXAT 1002000")),
            ("SET GET EX KEEPTTL", Final("SET GET EX KEEPTTL")),
            ("SET k  EX 1", Final("SET k  PXAT 1001000")),
            (
                "SET k v PX 9223372036853775807",
                Final("SET k v PXAT 9223372036854775807"),
            ),
            ("SET k v PX 9223372036853775808", Intent),
            ("SET k v EX 9223372036854775", Intent),
            ("SET k v EX 9223372036854776", Intent),
            ("SET k v EX 0", Intent),
            ("SET k v EX -1", Intent),
            ("SET k v EX 01", Intent),
            ("SET k v EX 1.5", Intent),
            ("SET k v EX", Intent),
            ("SET k v EX ten", Intent),
            ("SET k v EX 1 PX 1", Intent),
            ("SET k v EX 1 KEEPTTL", Intent),
            ("SET k v PERSIST", Intent),
            ("SET k v NX", Intent),
            ("SET k v XX GET", Intent),
            ("SET k v IFEQ w", Intent),
            ("SET k v NONSENSE", Intent),
            ("SET k", Intent),
            ("SET", Intent),
        ],
    );
}

#[test]
fn strings() {
    check_all(
        Rewrite::SetEx,
        &[
            ("SETEX k 10 v", Final("SET k v PXAT 1010000")),
            ("SETEX k 0 v", Intent),
            ("SETEX k -5 v", Intent),
            ("SETEX k 9223372036854775807 v", Intent),
            ("SETEX k x v", Intent),
            ("SETEX k 10", Intent),
            ("SETEX k 10 v more", Intent),
        ],
    );
    check_all(
        Rewrite::PSetEx,
        &[
            ("PSETEX k 10 v", Final("SET k v PXAT 1000010")),
            ("PSETEX k 9223372036854775807 v", Intent),
        ],
    );
    check_all(
        Rewrite::GetSet,
        &[("GETSET k v", Final("SET k v")), ("GETSET k", Intent)],
    );
    check_all(
        Rewrite::GetDel,
        &[
            ("GETDEL k", Final("DEL k")),
            ("GETDEL", Intent),
            ("GETDEL a b", Intent),
        ],
    );
    check_all(
        Rewrite::MSetEx,
        &[
            ("MSETEX 1 k v", Final("MSETEX 1 k v")),
            (
                "MSETEX 2 a 1 b 2 EX 10",
                Final("MSETEX 2 a 1 b 2 PXAT 1010000"),
            ),
            ("msetex 1 NX XX px 5", Final("msetex 1 NX XX PXAT 1000005")),
            ("MSETEX 1 a 1 KEEPTTL", Final("MSETEX 1 a 1 KEEPTTL")),
            ("MSETEX 1 a 1 NX", Intent),
            ("MSETEX 1 a 1 EX 1 XX", Intent),
            ("MSETEX 2 a 1 EX 10", Final("MSETEX 2 a 1 EX 10")),
            ("MSETEX 3 a 1 EX 10", Intent),
            ("MSETEX 0", Intent),
            ("MSETEX 9223372036854775807 a 1", Intent),
            ("MSETEX x a 1", Intent),
        ],
    );
}

#[test]
fn keys() {
    check_all(
        Rewrite::Expire,
        &[
            ("EXPIRE k 10", Final("PEXPIREAT k 1010000")),
            ("expire k 10", Final("PEXPIREAT k 1010000")),
            ("PEXPIRE k 10", Final("PEXPIREAT k 1000010")),
            ("EXPIREAT k 10", Final("PEXPIREAT k 10000")),
            ("PEXPIREAT k 10", Final("PEXPIREAT k 10")),
            ("pexpireat k 10", Final("PEXPIREAT k 10")),
            ("EXPIRE k 0", Final("PEXPIREAT k 1000000")),
            ("EXPIRE k -2000", Final("PEXPIREAT k -1000000")),
            (
                "PEXPIREAT k -9223372036854775808",
                Final("PEXPIREAT k -9223372036854775808"),
            ),
            (
                "EXPIREAT k 9223372036854775",
                Final("PEXPIREAT k 9223372036854775000"),
            ),
            ("EXPIRE k 9223372036854775", Intent),
            ("EXPIREAT k -9223372036854776", Intent),
            ("PEXPIRE k 9223372036854775807", Intent),
            ("EXPIRE k ten", Intent),
            ("EXPIRE k 10 NX", Intent),
            ("EXPIRE k", Intent),
        ],
    );
    check_all(
        Rewrite::Restore,
        &[
            ("RESTORE k 0 p", Final("RESTORE k 0 p")),
            ("RESTORE k 5 p", Final("RESTORE k 1000005 p ABSTTL")),
            (
                "RESTORE k 5 p replace",
                Final("RESTORE k 1000005 p replace ABSTTL"),
            ),
            ("RESTORE k 5 p ABSTTL", Final("RESTORE k 5 p ABSTTL")),
            (
                "RESTORE k 5 p IDLETIME 7 absttl",
                Final("RESTORE k 5 p IDLETIME 7 absttl"),
            ),
            (
                "RESTORE k 5 p FREQ 7",
                Final("RESTORE k 1000005 p FREQ 7 ABSTTL"),
            ),
            (
                "RESTORE k 5 p FREQ ABSTTL",
                Final("RESTORE k 1000005 p FREQ ABSTTL ABSTTL"),
            ),
            ("RESTORE k -5 p", Intent),
            ("RESTORE k 9223372036854775807 p", Intent),
            ("RESTORE k 5 p NONSENSE", Intent),
            ("RESTORE k 5 p FREQ", Intent),
            ("RESTORE k 5", Intent),
        ],
    );
}

#[test]
fn hashes() {
    check_all(
        Rewrite::HExpire,
        &[
            (
                "HEXPIRE k 10 FIELDS 1 f",
                Final("HPEXPIREAT k 1010000 FIELDS 1 f"),
            ),
            (
                "hpexpire k 10 fields 2 f g",
                Final("HPEXPIREAT k 1000010 fields 2 f g"),
            ),
            (
                "HEXPIREAT k 10 FIELDS 1 f",
                Final("HPEXPIREAT k 10000 FIELDS 1 f"),
            ),
            (
                "HPEXPIREAT k 10 FIELDS 1 f",
                Final("HPEXPIREAT k 10 FIELDS 1 f"),
            ),
            (
                "HEXPIRE k 0 FIELDS 1 f",
                Final("HPEXPIREAT k 1000000 FIELDS 1 f"),
            ),
            ("HEXPIRE k 10 NX FIELDS 1 f", Intent),
            ("HEXPIRE k 10 FIELDS 2 f", Intent),
            ("HEXPIRE k 10 FIELDS 1 f NX", Intent),
            ("HEXPIRE k 10 FIELDS 0", Intent),
            ("HPEXPIREAT k -10 FIELDS 1 f", Intent),
            ("HEXPIRE k 10", Intent),
            ("HEXPIRE k x FIELDS 1 f", Intent),
        ],
    );
    check_all(
        Rewrite::HSetEx,
        &[
            ("HSETEX k FIELDS 1 f v", Final("HSETEX k FIELDS 1 f v")),
            (
                "HSETEX k EX 10 FIELDS 1 f v",
                Final("HSETEX k PXAT 1010000 FIELDS 1 f v"),
            ),
            (
                "hsetex k fields 1 EX 5 px 7",
                Final("HSETEX k PXAT 1000007 fields 1 EX 5"),
            ),
            (
                "HSETEX k KEEPTTL FIELDS 2 f v g w",
                Final("HSETEX k KEEPTTL FIELDS 2 f v g w"),
            ),
            ("HSETEX k FNX EX 10 FIELDS 1 f v", Intent),
            ("HSETEX k EX 10 FIELDS 2 f v", Intent),
            ("HSETEX k EX 10", Intent),
            ("HSETEX k EX 0 FIELDS 1 f v", Intent),
            ("HSETEX k PERSIST FIELDS 1 f v", Intent),
            ("HSETEX", Intent),
        ],
    );
    check_all(
        Rewrite::HGetDel,
        &[
            ("HGETDEL k FIELDS 2 f g", Final("HDEL k f g")),
            ("hgetdel k fields 1 FIELDS", Final("HDEL k FIELDS")),
            ("HGETDEL k FIELDS 2 f", Intent),
            ("HGETDEL k FIELDS 1 f g", Intent),
            ("HGETDEL k", Intent),
        ],
    );
}

#[test]
fn what_is_not_rewritten_is_journaled_as_sent() {
    check(Effect::None, "GET k", &Final("GET k"));
    check(Effect::Verbatim, "DEL k", &Final("DEL k"));
    check(Effect::Opaque, "EVAL s 1 k", &Intent);
    check(Effect::Resolved(Resolve::SPop), "SPOP k", &Intent);
}

#[test]
fn secrets_of_migrate_are_not_journaled() {
    for (command, expected) in [
        ("MIGRATE h 1 k 0 5", "MIGRATE h 1 k 0 5"),
        (
            "MIGRATE h 1 k 0 5 COPY AUTH pw REPLACE",
            "MIGRATE h 1 k 0 5 COPY AUTH (redacted) REPLACE",
        ),
        (
            "migrate h 1  0 5 auth2 me pw keys a",
            "migrate h 1  0 5 auth2 (redacted) (redacted) keys a",
        ),
        (
            "MIGRATE h 1  0 5 AUTH AUTH AUTH2 a b",
            "MIGRATE h 1  0 5 AUTH (redacted) AUTH2 (redacted) (redacted)",
        ),
        (
            "MIGRATE h 1  0 5 KEYS AUTH b",
            "MIGRATE h 1  0 5 KEYS AUTH b",
        ),
        (
            "MIGRATE h 1 k 0 5 AUTH2 me",
            "MIGRATE h 1 k 0 5 AUTH2 (redacted)",
        ),
        ("MIGRATE h 1 k 0 5 AUTH", "MIGRATE h 1 k 0 5 AUTH"),
    ] {
        let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut scratch = Scratch::default();
        let derived = derive(
            Effect::Resolved(Resolve::Migrate),
            &arguments,
            NOW,
            &mut scratch,
        );
        assert_eq!(
            String::from_utf8_lossy(&derived.arguments().join(&b' ')),
            expected
        );
        assert!(!derived.is_final);
    }
}

#[test]
fn the_common_forms_need_no_memory() {
    for (rewrite, command) in [
        (Rewrite::Set, "SET k v EX 10 GET"),
        (Rewrite::SetEx, "SETEX k 10 v"),
        (Rewrite::Expire, "EXPIRE k 10"),
        (Rewrite::HGetDel, "HGETDEL k FIELDS 2 f g"),
    ] {
        let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut scratch = Scratch::default();
        let derived = derive(Effect::Rewritten(rewrite), &arguments, NOW, &mut scratch);
        let Form::Rewritten(form) = derived.form else {
            panic!("{command} is not rewritten");
        };
        assert!(!form.spilled(), "{command}");
    }
}
