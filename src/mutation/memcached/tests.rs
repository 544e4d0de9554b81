use super::*;
use crate::protocol::memcached::KEY_BYTES_MAX;
use crate::protocol::memcached::scanner::{Limits, Scanner};

const NOW_MS: u64 = 1_000_000_000;

/// The journaled form of a command, `!` before one that is an intent, and what
/// the reply makes of it.
fn journaled(command: &[u8], reply: &[u8]) -> (String, String) {
    let frame = Scanner::new(Limits::default())
        .next(command)
        .expect("a command")
        .expect("a whole one");
    let mut buffer = [0; KEY_BYTES_MAX];
    let request = Request::parse(command, frame.specification, &mut buffer).expect("a mutation");
    let outcome = resolve(Some(&request), frame.specification, reply, NOW_MS);
    let mut scratch = Scratch::default();
    let derived = derive(&request, NOW_MS, &mut scratch);
    let form = join(&derived.arguments);
    let outcome = match outcome {
        None => String::new(),
        Some(Outcome::Rejected(text)) => format!("rejected {text}"),
        Some(Outcome::Effects(effects)) => {
            let effects = effects.iter().map(|one| join(one));
            effects.collect::<Vec<_>>().join("; ")
        }
        Some(_) => "unknown".to_owned(),
    };
    let intent = if derived.is_final { "" } else { "!" };
    (format!("{intent}{form}"), outcome)
}

fn join(parts: &[impl AsRef<[u8]>]) -> String {
    let parts = parts.iter().map(|part| part.as_ref().escape_ascii());
    let parts: Vec<String> = parts.map(|part| part.to_string()).collect();
    parts.join(" ")
}

#[track_caller]
fn check(command: &str, reply: &str, form: &str, outcome: &str) {
    let found = journaled(command.as_bytes(), reply.as_bytes());
    assert_eq!(found, (form.to_owned(), outcome.to_owned()), "{command}");
}

#[test]
fn what_overwrites_is_final_and_its_time_absolute() {
    check(
        "set k 5 60 2\r\nab\r\n",
        "STORED\r\n",
        "set k 5 1000060 ab",
        "",
    );
    check("set k 5 -1 0\r\n\r\n", "STORED\r\n", "set k 5 -1 ", "");
    check(
        "set k 0 0 1 noreply\r\nx\r\n",
        "STORED\r\n",
        "set k 0 0 x",
        "",
    );
    check(
        "ms Zm9v 1 b T2592001 F7\r\nx\r\n",
        "HD\r\n",
        "set foo 7 2592001 x",
        "",
    );
    check("delete k\r\n", "NOT_FOUND\r\n", "delete k", "");
    check("md k q\r\n", "HD\r\n", "delete k", "");
    check("touch k 5\r\n", "TOUCHED\r\n", "touch k 1000005", "");
    check(
        "touch k 5\r\n",
        "NOT_FOUND\r\n",
        "touch k 1000005",
        "rejected ",
    );
    check("mg k T5 v\r\n", "VA 1\r\nx\r\n", "touch k 1000005", "");
    check("mg k T5 v\r\n", "EN\r\n", "touch k 1000005", "rejected ");
    check("flush_all\r\n", "OK\r\n", "flush_all", "");
    check("flush_all 0\r\n", "OK\r\n", "flush_all", "");
    check("flush_all 9\r\n", "OK\r\n", "flush_all 1000009", "");
}

#[test]
fn a_set_that_failed_may_have_dropped_the_old_value() {
    let form = "set k 0 0 x";
    check(
        "set k 0 0 1\r\nx\r\n",
        "SERVER_ERROR out of memory\r\n",
        form,
        "unknown",
    );
    let error = "CLIENT_ERROR bad data chunk";
    check(
        "set k 0 0 1\r\nx\r\n",
        &format!("{error}\r\n"),
        form,
        &format!("rejected {error}"),
    );
}

#[test]
fn conditions_are_told_by_their_replies() {
    let set = "set k 5 1000060 ab";
    check(
        "add k 5 60 2\r\nab\r\n",
        "STORED\r\n",
        "!add k 5 1000060 ab",
        set,
    );
    check(
        "add k 5 60 2\r\nab\r\n",
        "NOT_STORED\r\n",
        "!add k 5 1000060 ab",
        "rejected ",
    );
    check(
        "cas k 5 60 2 9\r\nab\r\n",
        "STORED\r\n",
        "!cas k 5 1000060 ab 9",
        set,
    );
    check(
        "cas k 5 60 2 9\r\nab\r\n",
        "EXISTS\r\n",
        "!cas k 5 1000060 ab 9",
        "rejected ",
    );
    check(
        "ms k 2 F5 T60 ME\r\nab\r\n",
        "HD\r\n",
        "!add k 5 1000060 ab",
        set,
    );
    check(
        "ms k 2 C9 F5 T60\r\nab\r\n",
        "EX\r\n",
        "!cas k 5 1000060 ab 9",
        "rejected ",
    );
    check(
        "ms k 2 C9 I F5 T60\r\nab\r\n",
        "HD\r\n",
        "!ms k 5 1000060 ab 9",
        "unknown",
    );
    check(
        "append k 0 0 1\r\nx\r\n",
        "STORED\r\n",
        "!append k 0 0 x",
        "unknown",
    );
    check("md k C7\r\n", "HD\r\n", "!delete k 7", "delete k");
    check("md k C7\r\n", "EX\r\n", "!delete k 7", "rejected ");
    check("md k I T30\r\n", "HD\r\n", "!md k", "unknown");
    check("incr k 2\r\n", "7\r\n", "!incr k 2", "unknown");
    check("incr k 2\r\n", "NOT_FOUND\r\n", "!incr k 2", "rejected ");
    check(
        "ma k MD D3 N60 J9\r\n",
        "HD\r\n",
        "!decr k 3 9 1000060",
        "unknown",
    );
    check(
        "mg k v N30\r\n",
        "VA 0 W\r\n\r\n",
        "!mg k 1000030",
        "unknown",
    );
    check(
        "mg k v N30\r\n",
        "VA 1\r\nx\r\n",
        "!mg k 1000030",
        "rejected ",
    );
    let gat = "!gat 1000005 a b c";
    let touched = "touch a 1000005; touch c 1000005";
    let reply = "VALUE a 0 1\r\nx\r\nVALUE c 0 1\r\ny\r\nEND\r\n";
    check("gat 5 a b c\r\n", reply, gat, touched);
    check("gat 5 a b c\r\n", "END\r\n", gat, "rejected ");
}
