//! What `verify` finds, and what it repairs.

use super::regions::{DEADLINE, regions, until_led, verify};
use super::support::{Client, Redis, until};

/// One key of each type, and some more.
const SAME: [&str; 9] = [
    "SET string abcdefgh",
    "SET counter 17",
    "HSET hash f 1 g 2",
    "SADD set a b c",
    "RPUSH list a b c",
    "ZADD zset 1 a 2.25 b",
    "XADD stream 5-1 f v",
    "XGROUP CREATE stream group 0",
    "SET expiring v PXAT 9999999999999",
];

/// What is planted in the second region, and what is found then.
const PLANTED: [(&str, &str, &str); 10] = [
    (
        "SET string abcdxfgh KEEPTTL",
        "string",
        "value: string \"abcdefgh\" here, \"abcdxfgh\" there",
    ),
    ("DEL counter", "counter", "missing_there"),
    (
        "HSET hash g 3",
        "hash",
        "value: hash: \"g\" is \"2\" here, \"3\" there",
    ),
    ("SREM set b", "set", "value: set: \"b\" missing there"),
    (
        "RPUSH list d",
        "list",
        "value: list: 3 elements here, 4 there",
    ),
    (
        "ZADD zset 2.5 b",
        "zset",
        "value: sorted set: \"b\" is \"2.25\" here, \"2.5\" there",
    ),
    (
        "XGROUP SETID stream group 5-1",
        "stream",
        "value: stream: \"group group\" is \"0-0, pending 0\" here, \"5-1, pending 0\" there",
    ),
    (
        "PEXPIREAT expiring 9999999990000",
        "expiring",
        "expiry: expires at 9999999999.999 here, at 9999999990.000 there",
    ),
    ("SET elsewhere v", "elsewhere", "missing_here"),
    ("SADD other v", "other", "value: string here, set there"),
];

fn run(client: &mut Client, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let reply = String::from_utf8_lossy(&client.command(&words)).into_owned();
    assert!(!reply.starts_with('-'), "{line}: {reply}");
}

const QUICK: [&str; 2] = ["--settle", "0.2"];

#[test]
fn differences_of_every_type_are_found_and_repaired() {
    let [eu, us] = regions([Redis::start(), Redis::start()]);
    until_led(&eu.sidecar);
    let mut client = eu.sidecar.client();
    SAME.iter().for_each(|line| run(&mut client, line));
    run(&mut client, "SET other v");
    let url = us.redis.url();
    let with = ["--with", url.as_str()];
    let with = [&with[..], &QUICK].concat();
    let equal = verify(&eu.sidecar, &["--with", &url]);
    assert_eq!(equal.assert_equal(), 9);
    // The same values, stored otherwise: no difference.
    let mut there = us.redis.client();
    for line in [
        "DEL set",
        "SADD set c",
        "SADD set x a b",
        "SREM set x",
        "CONFIG SET hash-max-listpack-entries 1",
        "DEL hash",
        "HSET hash g 2 f 1",
    ] {
        run(&mut there, line);
    }
    assert_eq!(verify(&eu.sidecar, &with).assert_equal(), 9);
    run(&mut there, "DEL other");
    PLANTED
        .iter()
        .for_each(|(line, _, _)| run(&mut there, line));
    let found = verify(&eu.sidecar, &with);
    let mut expected: Vec<(String, String)> = PLANTED
        .iter()
        .map(|(_, key, said)| ((*key).to_owned(), (*said).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(found.of("difference"), expected);
    assert_eq!(found.code, Some(1));
    let summary = &found.summary;
    let counts = [
        "compared",
        "equal",
        "differing",
        "missing_here",
        "missing_there",
    ];
    let counts = counts.map(|name| summary[name].as_u64().expect("a number"));
    assert_eq!(counts, [10, 0, 8, 1, 1]);
    let repaired = verify(&eu.sidecar, &["--with", &url, "--repair", "--settle", "1"]);
    assert_eq!(repaired.code, Some(0), "{:#?}", repaired.lines);
    assert_eq!(repaired.summary["repaired"], 10);
    assert_eq!(repaired.of("not_repaired"), []);
    assert_eq!(
        verify(&us.sidecar, &["--with", &eu.redis.url()]).assert_equal(),
        9
    );
}

#[test]
fn samples_are_the_same_on_both_sides_and_prefixes_are_kept_to() {
    let [eu, us] = regions([Redis::start(), Redis::start()]);
    // Each region has keys the other one lacks, none is journaled.
    for (region, name) in [(&eu, "eu"), (&us, "us")] {
        let mut client = region.redis.client();
        for key in 0..400 {
            run(&mut client, &format!("SET both:{key} v"));
            run(&mut client, &format!("SET {name}:{key} v"));
        }
    }
    let run = |from: &super::regions::Region, with: &super::regions::Region, more: &[&str]| {
        let url = with.redis.url();
        let arguments = [&["--with", &url], &QUICK[..], more].concat();
        verify(&from.sidecar, &arguments)
    };
    let chosen = |found: &super::regions::Verified| -> Vec<String> {
        found
            .of("difference")
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    };
    for more in [["--sample", "10"], ["--keys", "80"]] {
        let (one, other) = (run(&eu, &us, &more), run(&us, &eu, &more));
        assert_eq!(chosen(&one), chosen(&other));
        assert_eq!(one.summary["equal"], other.summary["equal"]);
        assert_eq!(one.summary["missing_here"], other.summary["missing_there"]);
        let compared = one.summary["compared"].as_u64().expect("a number");
        assert!((70..180).contains(&compared), "{compared}");
    }
    let both = run(&eu, &us, &["--prefix", "both:"]);
    assert_eq!(both.assert_equal(), 400);
    let file = us.sidecar.config();
    let file = file.to_str().expect("UTF-8");
    let by_file = verify(&eu.sidecar, &["--with", file, "--prefix", "both:"]);
    assert_eq!(by_file.assert_equal(), 400);
    let here = run(&eu, &us, &["--prefix", "us:"]);
    assert_eq!(here.summary["missing_here"], 400);
}

#[test]
fn what_is_not_replicated_is_left_out_and_what_is_on_its_way_does_not_count() {
    let [eu, us] = regions([Redis::start(), Redis::start()]);
    until_led(&us.sidecar);
    let mut client = eu.sidecar.client();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        let mut number = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            number += 1;
            run(
                &mut client,
                &format!("SET k{} {number} PX 60000", number % 500),
            );
        }
    });
    until("some keys", DEADLINE, || {
        let reply = us.redis.client().command(&["EXISTS", "k499"]);
        (reply == b":1\r\n").then_some(())
    });
    let found = verify(&us.sidecar, &["--with", &eu.redis.url()]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writing.join().expect("it writes");
    // A key that is written all the time may differ each time it is looked at.
    let differing = found.summary["differing"].as_u64().expect("a number");
    assert!(differing < 50, "{}", found.summary);
    assert_eq!(
        verify(&us.sidecar, &["--with", &eu.redis.url()]).assert_equal(),
        500
    );
    // Of a region that does not replicate some keys by value.
    let mut there = eu.redis.client();
    for line in ["SET local:a v", "SET volatile:a v", "SET wal-sidecar:a v"] {
        run(&mut there, line);
    }
    let found = verify(&us.sidecar, &["--with", &eu.redis.url()]);
    assert_eq!(found.summary["missing_here"], 2);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sidecar.toml");
    let config = std::fs::read_to_string(us.sidecar.config()).expect("it is there");
    let prefixes = [("local:", "off"), ("volatile:", "invalidate")].map(|(prefix, mode)| {
        format!("[[namespace.prefix]]\nprefix = {prefix:?}\nreplicate = {mode:?}\n")
    });
    std::fs::write(&file, config + &prefixes.concat()).expect("written");
    let output = std::process::Command::new(super::support::sidecar::binary())
        .args(["verify", "--with", &eu.redis.url(), "--config"])
        .arg(&file)
        .output()
        .expect("run the binary");
    let said = super::regions::text(&output.stdout);
    assert!(
        output.status.success() && said.contains(": 500 equal, 0 diff"),
        "{said}"
    );
}
