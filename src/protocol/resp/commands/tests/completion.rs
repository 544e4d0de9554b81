//! What the datastore's replies add to the table.

use super::super::Effect::{Opaque, Resolved, Rewritten, Verbatim};
use super::super::{CompletionError, KeySpecification, Resolve, Rewrite, Table};
use super::{Is, check_keys, multibulk, told};

/// A RESP2 array of already encoded parts.
fn array(parts: &[String]) -> String {
    format!("*{}\r\n{}", parts.len(), parts.concat())
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn integers<const N: usize>(numbers: [i64; N]) -> [String; N] {
    numbers.map(|number| format!(":{number}\r\n"))
}

/// A map: an array in RESP2, a map in RESP3.
fn map(resp3: bool, pairs: &[(&str, String)]) -> String {
    let body: String = pairs.iter().map(|(key, value)| bulk(key) + value).collect();
    match resp3 {
        true => format!("%{}\r\n{body}", pairs.len()),
        false => format!("*{}\r\n{body}", pairs.len() * 2),
    }
}

/// One element of a reply to COMMAND.
fn described(
    name: &str,
    flags: &[&str],
    [arity, first, last, step]: [i64; 4],
    searches: &[String],
    parts: &[String],
) -> String {
    let flags: Vec<String> = flags.iter().map(|flag| format!("+{flag}\r\n")).collect();
    let [arity, first, last, step] = integers([arity, first, last, step]);
    let (flags, none) = (array(&flags), array(&[]));
    let (searches, parts) = (array(searches), array(parts));
    array(&[
        bulk(name),
        arity,
        flags,
        first,
        last,
        step,
        none.clone(),
        none,
        searches,
        parts,
    ])
}

/// A key specification of a reply to COMMAND.
fn search(resp3: bool, begin: [&str; 2], from: i64, find: &str, numbers: [i64; 3]) -> String {
    let [from] = integers([from]);
    let begin_spec = match begin {
        ["index", _] => vec![("index", from)],
        [_, keyword] => vec![("keyword", bulk(keyword)), ("startfrom", from)],
    };
    let names = match find {
        "range" => ["lastkey", "keystep", "limit"],
        _ => ["keynumidx", "firstkey", "keystep"],
    };
    let find_spec: Vec<_> = names.into_iter().zip(integers(numbers)).collect();
    let half = |kind: &str, spec: &[(&str, String)]| {
        map(resp3, &[("type", bulk(kind)), ("spec", map(resp3, spec))])
    };
    map(
        resp3,
        &[
            ("flags", array(&["+RW\r\n".to_string()])),
            ("begin_search", half(begin[0], &begin_spec)),
            ("find_keys", half(find, &find_spec)),
        ],
    )
}

fn module_reply(resp3: bool) -> String {
    let keyword = search(resp3, ["keyword", "IN"], 2, "range", [-1, 1, 2]);
    let backwards = search(resp3, ["keyword", "INTO"], -1, "range", [0, 1, 0]);
    let counted = search(resp3, ["index", ""], 1, "keynum", [0, 1, 2]);
    let plain = search(resp3, ["index", ""], 1, "range", [0, 1, 0]);
    let part = described("graph|drop", &["write"], [3, 2, 2, 1], &[], &[]);
    let list = described("graph|list", &["readonly"], [2, 0, 0, 0], &[], &[]);
    array(&[
        described(
            "graph.query",
            &["write", "denyoom"],
            [-3, 1, 1, 1],
            &[plain],
            &[],
        ),
        described("graph.ro", &["readonly"], [2, 1, 1, 1], &[], &[]),
        described(
            "graph.wait",
            &["write", "blocking"],
            [-2, 1, -2, 1],
            &[],
            &[],
        ),
        described("graph.run", &["may_replicate"], [-1, 0, 0, 0], &[], &[]),
        described(
            "graph.merge",
            &["write", "movablekeys"],
            [-4, 0, 0, 0],
            &[keyword],
            &[],
        ),
        described("graph.into", &["write"], [-4, 0, 0, 0], &[backwards], &[]),
        described("graph.counted", &["write"], [-4, 0, 0, 0], &[counted], &[]),
        described("graph", &[], [-2, 0, 0, 0], &[], &[part, list]),
        described(
            "xgroup",
            &[],
            [-2, 0, 0, 0],
            &[],
            &[described(
                "xgroup|future",
                &["write"],
                [3, 2, 2, 1],
                &[],
                &[],
            )],
        ),
        described("set", &["write", "denyoom"], [3, 1, 1, 1], &[], &[]),
        described("incr", &["write"], [-2, 1, 1, 1], &[], &[]),
        described(
            "a-very-long-name-of-a-command-of-a-module",
            &["write"],
            [2, 1, 1, 1],
            &[],
            &[],
        ),
        "*-1\r\n".to_string(),
    ])
}

#[test]
fn the_datastore_completes_the_table() {
    for resp3 in [false, true] {
        let built_in = Table::built_in();
        let table = built_in
            .completed(module_reply(resp3).as_bytes())
            .expect("valid");
        for (line, expected) in [
            ("graph.query k q", Is::Write(Opaque)),
            ("GRAPH.RO k", Is::Read),
            ("graph.ro k k", Is::Read),
            ("graph.wait k 0", Is::WriteBlocking(Opaque)),
            ("graph.run", Is::Write(Opaque)),
            ("graph DROP k", Is::Write(Opaque)),
            ("graph list", Is::Read),
            ("graph nosuch", Is::Unknown),
            ("xgroup future k", Is::Write(Opaque)),
            ("XGROUP CREATE k g $", Is::Write(Verbatim)),
            ("SET k v", Is::Write(Rewritten(Rewrite::Set))),
            // The more lenient arity counts, whoever has it.
            ("SET k v NX", Is::Write(Resolved(Resolve::Set))),
            ("INCR k 1", Is::Write(Verbatim)),
            (
                "A-VERY-LONG-NAME-OF-A-COMMAND-OF-A-MODULE k",
                Is::Write(Opaque),
            ),
            ("GET k", Is::Read),
            ("NOSUCH", Is::Unknown),
        ] {
            let (bytes, frame) = multibulk(line);
            let classified = table.classify(&bytes, &frame);
            assert_eq!(told(&table, classified, line), expected, "{line}");
        }
        check_keys(
            &table,
            &[
                ("graph.query k q", &[1]),
                ("graph.wait a b 0", &[1, 2]),
                ("graph drop k", &[2]),
                ("graph.merge x y in a b 1 2", &[4, 5]),
                ("graph.merge in y z w", &[]),
                ("graph.into x into a into b", &[5]),
                ("graph.into x y z", &[]),
                ("graph.counted 2 a 1 b 2", &[2, 4]),
                ("graph.counted 9 a 1 b 2", &[]),
            ],
        );
        let plain = table.find(b"GRAPH.QUERY").expect("known");
        let keys = &table.specification(plain).keys;
        assert!(matches!(keys, KeySpecification::Range { .. }), "{keys:?}");
        for (index, row) in built_in.specifications().iter().enumerate() {
            assert_eq!(table.specification(index as u16).name, row.name);
        }
    }
}

#[test]
fn renamed_commands_are_recognized() {
    let table = Table::built_in();
    let flushall = array(&[described("flushall", &["write"], [-1, 0, 0, 0], &[], &[])]);
    let named = table
        .completed_for(b"NukeAll", flushall.as_bytes())
        .expect("valid");
    let xgroup = array(&[described("xgroup", &[], [-2, 0, 0, 0], &[], &[])]);
    let named = named
        .completed_for(b"xg", xgroup.as_bytes())
        .expect("valid");
    let unknown = named
        .completed_for(b"nosuch", b"*1\r\n*-1\r\n")
        .expect("valid");
    for (line, expected) in [
        ("nukeall", Is::Write(Resolved(Resolve::Flush))),
        ("xg create k g $", Is::Write(Verbatim)),
        ("XG HELP", Is::Read),
        ("nosuch", Is::Unknown),
    ] {
        let (bytes, frame) = multibulk(line);
        let classified = unknown.classify(&bytes, &frame);
        assert_eq!(told(&unknown, classified, line), expected, "{line}");
    }
}

#[test]
fn replies_that_are_none_complete_nothing() {
    let deep = "*1\r\n".repeat(10_000);
    for reply in [
        "",
        "*1\r\n",
        "*x\r\n",
        "+OK\r\n",
        "*1\r\n*1\r\n$1\r\na\r\n",
        "*-2\r\n",
        &deep,
    ] {
        let error = Table::built_in()
            .completed(reply.as_bytes())
            .expect_err(reply);
        assert!(matches!(error, CompletionError::Invalid(_)), "{error}");
    }
    let error = Table::built_in()
        .completed(b"-NOPERM no\r\n")
        .expect_err("refused");
    assert_eq!(error, CompletionError::Refused("NOPERM no".into()));
    let reply = module_reply(true);
    for end in 0..reply.len() {
        Table::built_in()
            .completed(&reply.as_bytes()[..end])
            .expect_err("cut off");
    }
}
