use super::*;
use crate::protocol::resp::commands::{Effect, Resolve, Rewrite};

const NOW: u64 = 1_000_000;

const READ: Effect = Effect::None;
const VERBATIM: Effect = Effect::Verbatim;
const OPAQUE: Effect = Effect::Opaque;
const EXPIRE: Effect = Effect::Rewritten(Rewrite::Expire);
const SET: Effect = Effect::Rewritten(Rewrite::Set);
const SPOP: Effect = Effect::Resolved(Resolve::SPop);
const SETNX: Effect = Effect::Resolved(Resolve::Conditional);

/// Each part is its effect, command and keys, the last two with spaces.
fn check(parts: &[(Effect, &str, &str)], reply: &str, expected: &str) {
    check_of(true, parts, reply, expected);
}

fn check_of(is_final: bool, parts: &[(Effect, &str, &str)], reply: &str, expected: &str) {
    let split = |text: &'static str| -> Vec<&'static [u8]> {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::as_bytes)
            .collect()
    };
    let leak = |text: &str| -> &'static str { text.to_owned().leak() };
    let words: Vec<_> = parts
        .iter()
        .map(|(_, command, keys)| (split(leak(command)), split(leak(keys))))
        .collect();
    let journaled: Vec<Journaled> = parts
        .iter()
        .zip(&words)
        .map(|((effect, _, _), (arguments, keys))| Journaled {
            effect: *effect,
            arguments,
            keys,
            is_final: derive(*effect, arguments, NOW, &mut Scratch::default()).is_final,
            journaled_at_ms: NOW,
        })
        .collect();
    let wire = reply.replace('|', "\r\n") + "\r\n";
    let words = |list: &[Bytes]| String::from_utf8_lossy(&list.join(&b' ')).into_owned();
    let lines = |effects: &[Vec<Bytes>]| {
        let lines: Vec<String> = effects.iter().map(|command| words(command)).collect();
        lines.join("; ")
    };
    let found = match resolve_transaction(&journaled, is_final, wire.as_bytes()) {
        None => "stands".to_owned(),
        Some(Outcome::Effects(effects)) => lines(&effects),
        Some(Outcome::Partial {
            effects,
            unknown_keys,
        }) => {
            format!("{}; unknown {}", lines(&effects), words(&unknown_keys))
        }
        Some(Outcome::Rejected(reason)) => format!("rejected {reason}"),
        Some(Outcome::Unknown { keys, .. }) => format!("unknown {}", words(&keys)),
    };
    assert_eq!(found, expected, "{parts:?} -> {reply}");
}

#[test]
fn the_whole_is_refused_or_not_understood() {
    let parts = [(VERBATIM, "DEL a", "a"), (SPOP, "SPOP b", "b")];
    check(&parts, "*-1", "rejected ");
    check(&parts, "_", "rejected ");
    check(&parts, "$-1", "rejected ");
    check(&parts, "-EXECABORT because", "rejected EXECABORT because");
    check(&parts, "!7|ERR why", "rejected ERR why");
    check(&parts, "*1|:1", "unknown ");
    check(&parts, "+OK", "unknown ");
    check(&parts, "*2|:1", "unknown ");
}

#[test]
fn final_parts_stand_unless_one_is_refused() {
    let parts = [
        (SET, "SET a 1 EX 10", "a"),
        (READ, "GET a", "a"),
        (EXPIRE, "EXPIRE b 5", "b"),
    ];
    check(&parts, "*3|+OK|$1|1|:1", "stands");
    check(&parts, "*3|+OK|-ERR read|:1", "stands");
    check(&parts, "*3|+OK|$1|1|-ERR no", "SET a 1 PXAT 1010000");
    check(&parts, "*3|!6|ERR no|_|:1", "PEXPIREAT b 1005000");
    check(&parts, "*3|-ERR first|_|-ERR second", "rejected ERR first");
    check(&[(READ, "GET a", "a")], "*1|_", "stands");
    check(&[], "*0", "stands");
}

#[test]
fn of_one_that_watched_the_effects_are_told() {
    let parts = [
        (SET, "SET a 1 EX 10", "a"),
        (READ, "GET a", "a"),
        (VERBATIM, "INCR b", "b"),
    ];
    check_of(
        false,
        &parts,
        "*3|+OK|$1|1|:1",
        "SET a 1 PXAT 1010000; INCR b",
    );
    check_of(false, &parts, "*3|+OK|$1|1|-ERR no", "SET a 1 PXAT 1010000");
    check_of(false, &parts, "*-1", "rejected ");
}

#[test]
fn replies_tell_the_effects_in_order() {
    let parts = [
        (SETNX, "SETNX a 1", "a"),
        (SET, "SET b 2 EX 10", "b"),
        (READ, "GET b", "b"),
        (SPOP, "SPOP s 2", "s"),
    ];
    check(
        &parts,
        "*4|:1|+OK|$1|2|*2|$1|x|$1|y",
        "SET a 1; SET b 2 PXAT 1010000; SREM s x y",
    );
    check(&parts, "*4|:0|+OK|$1|2|~0", "SET b 2 PXAT 1010000");
    check(&parts, "*4|:0|-ERR no|$1|2|~0", "rejected ERR no");
    check(&[(SETNX, "SETNX a 1", "a")], "*1|:0", "rejected ");
}

#[test]
fn what_is_unknown_spreads_to_what_touches_it_later() {
    let script = (OPAQUE, "EVAL s 2 u v", "u v");
    let early = (VERBATIM, "RENAME a u", "a u");
    let copy = (VERBATIM, "SUNIONSTORE w u x", "w u x");
    let from_copy = (VERBATIM, "RENAME w z", "w z");
    let other = (VERBATIM, "INCR n", "n");
    check(&[script], "*1|+OK", "unknown u v");
    check(&[script], "*1|-READONLY no", "rejected READONLY no");
    check(&[script], "*1|-ERR perhaps", "unknown u v");
    check(&[script, other], "*2|+OK|:1", "INCR n; unknown u v");
    check(&[early, script], "*2|+OK|+OK", "RENAME a u; unknown u v");
    check(
        &[other, script, copy, other, from_copy],
        "*5|:1|+OK|:1|:2|+OK",
        "INCR n; INCR n; unknown u v w x z",
    );
    check(
        &[script, copy, other],
        "*3|+OK|-ERR no|:1",
        "INCR n; unknown u v",
    );
    check(&[script, script], "*2|+OK|+OK", "unknown u v");
}

#[test]
fn a_script_without_keys_makes_all_keys_unknown() {
    let script = (OPAQUE, "EVAL s 0", "");
    let other = (VERBATIM, "INCR n", "n");
    check(&[script], "*1|+OK", "unknown ");
    check(&[other, script], "*2|:1|+OK", "INCR n; unknown n");
    check(
        &[script, other, (READ, "GET r", "r")],
        "*3|+OK|:1|_",
        "INCR n; unknown n",
    );
}
