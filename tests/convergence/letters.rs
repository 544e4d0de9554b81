//! What becomes of changes that were not applied, by the command line.

use serde_json::Value;

use super::dataset;
use super::steady::{DEADLINE, send, wait_until_led, words};
use super::support::line::Manner;
use super::support::{Redis, Sidecar, until};
use super::world::{Region, World, redis};

/// The letters that `dlq list` shows.
fn listed(sidecar: &Sidecar, options: &[&str]) -> Vec<Value> {
    let output = sidecar.command(&[&["dlq", "list", "--json"], options].concat());
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("JSON is text");
    let parsed = lines.lines().map(serde_json::from_str);
    parsed.map(|one| one.expect("JSON")).collect()
}

/// What a command says, on both streams, and whether it succeeded.
fn said(sidecar: &Sidecar, arguments: &[&str]) -> (bool, String) {
    let output = sidecar.command(&[&["dlq"], arguments].concat());
    let all = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(all).expect("text"),
    )
}

fn decisions(sidecar: &Sidecar) -> Vec<String> {
    let letters = listed(sidecar, &["--all"]);
    let decision = |one: &Value| one["decision"].as_str().expect("text").to_owned();
    letters.iter().map(decision).collect()
}

fn until_decided(sidecar: &Sidecar, expected: &[&str]) {
    until("the replicator to say what came of it", DEADLINE, || {
        (decisions(sidecar) == expected).then_some(())
    });
}

fn undecided(region: &Region) -> f64 {
    region.metric("wal_sidecar_replication_dead_letters")
}

fn allow(redis: &Redis, rule: &str) {
    let reply = redis.client().command(&["ACL", "SETUSER", "default", rule]);
    assert_eq!(reply, b"+OK\r\n");
}

fn until_value(region: &Region, key: &str, value: &str) {
    let expected = format!("${}\r\n{value}\r\n", value.len());
    until("a change to be applied", DEADLINE, || {
        let found = region.redis.client().command(&["GET", key]);
        (found == expected.as_bytes()).then_some(())
    });
}

/// A change that one region's datastore did not permit is listed, shown, tried again
/// in vain, tried again once it is permitted; another one is given up.
#[test]
fn dead_letters_are_retried_and_discarded() {
    let world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    let [first, second] = &world.regions[..] else {
        panic!("two regions");
    };
    let replicator = &second.sidecars[0];
    let (is_fine, nothing) = said(replicator, &["list"]);
    assert!(
        is_fine && nothing.starts_with("no dead letters in "),
        "{nothing}"
    );

    allow(&second.redis, "-setrange");
    let mut client = first.sidecars[0].client();
    let commands = ["SETRANGE one 3 x", "SETRANGE two 3 x", "SET the end"];
    send(&mut client, commands.iter().map(|one| words(one)), None);
    until_value(second, "the", "end");
    until("two letters to be counted", DEADLINE, || {
        (undecided(second) == 2.0).then_some(())
    });
    let letters = listed(replicator, &[]);
    for (letter, key) in letters.iter().zip(["one", "two"]) {
        assert_eq!(letter["decision"], "open");
        assert_eq!(letter["source"], "r0");
        assert_eq!(letter["keys"], serde_json::json!([key]));
        let reason = letter["reason"].as_str().expect("text");
        assert!(reason.starts_with("NOPERM"), "{reason}");
        assert_eq!(
            letter["record"]["mutation"]["commands"][0]["arguments"][0],
            "SETRANGE"
        );
    }
    let [one, two] = [0, 1].map(|at| letters[at]["number"].to_string());
    let (is_fine, shown) = said(replicator, &["show", &one]);
    let has_all = ["NOPERM", "SETRANGE one 3 x"].map(|part| shown.contains(part));
    assert!(is_fine && has_all == [true; 2], "{shown}");

    // It is not permitted yet.
    assert!(said(replicator, &["retry", &one]).0);
    until_decided(replicator, &["failed", "open"]);
    assert_eq!(undecided(second), 2.0);

    allow(&second.redis, "+setrange");
    assert!(said(replicator, &["retry", &one]).0);
    until_decided(replicator, &["done", "open"]);
    until_value(second, "one", "\0\0\0x");
    let (is_fine, twice) = said(replicator, &["retry", &one]);
    let why = "was discarded or applied already";
    assert!(!is_fine && twice.contains(why), "{twice}");

    assert!(said(replicator, &["discard", "--all"]).0);
    until_decided(replicator, &["done", "discard"]);
    assert_eq!(listed(replicator, &[]), [] as [Value; 0]);
    let (_, nothing) = said(replicator, &["list"]);
    assert!(nothing.contains("2 decided, see --all"), "{nothing}");
    let (is_fine, given_up) = said(replicator, &["retry", &two]);
    assert!(!is_fine && given_up.contains(why), "{given_up}");
    let (is_fine, unknown) = said(replicator, &["discard", "77"]);
    assert!(
        !is_fine && unknown.contains("there is no letter 77"),
        "{unknown}"
    );
    until("no letter to wait for somebody", DEADLINE, || {
        (undecided(second) == 0.0).then_some(())
    });

    // But for what was given up the regions are equal.
    let mut datasets = [first, second].map(|region| dataset::read(&region.redis));
    assert!(datasets[0].remove("two").is_some() && !datasets[1].contains_key("two"));
    assert_eq!(datasets[0], datasets[1]);
}

/// What can't even be watched does not stop the rest: a database that is not there, a key
/// that is forbidden.
#[test]
fn keys_that_the_datastore_refuses_are_dead_letters() {
    let world = World::local_with(vec![redis(&[]), redis(&["--databases", "2"])], 1);
    world.regions.iter().for_each(wait_until_led);
    let [first, second] = &world.regions[..] else {
        panic!("two regions");
    };
    allow(&second.redis, "resetkeys");
    allow(&second.redis, "~wal-sidecar:*");
    allow(&second.redis, "~may:*");
    let mut client = first.sidecars[0].client();
    let commands = [
        "SET may:be 1",
        "SET must:not 2",
        "SET may:also 3",
        "SELECT 5",
        "SET may:there 4",
        "SELECT 1",
        "SET may:end end",
    ];
    send(&mut client, commands.iter().map(|one| words(one)), None);
    let mut other = second.redis.client();
    assert_eq!(other.command(&["SELECT", "1"]), b"+OK\r\n");
    until("a change after them to be applied", DEADLINE, || {
        let found = other.command(&["GET", "may:end"]);
        (found == b"$3\r\nend\r\n").then_some(())
    });
    let letters = listed(&second.sidecars[0], &[]);
    let found = letters.iter().map(|one| {
        let reason = one["reason"].as_str().expect("text");
        let is_refused = reason.starts_with("NOPERM") || reason.contains("out of range");
        (is_refused, one["keys"].clone())
    });
    let expected = ["must:not", "may:there"].map(|key| (true, serde_json::json!([key])));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    // In vain, which holds nothing up.
    assert!(said(&second.sidecars[0], &["retry", "--all"]).0);
    until_decided(&second.sidecars[0], &["failed", "failed"]);
    allow(&second.redis, "allkeys");
    let found = other.command(&["MGET", "may:end", "may:there"]);
    assert_eq!(found, b"*2\r\n$3\r\nend\r\n$-1\r\n");
    assert_eq!(other.command(&["SELECT", "0"]), b"+OK\r\n");
    let found = other.command(&["MGET", "may:be", "may:also", "must:not", "may:there"]);
    assert_eq!(found, b"*4\r\n$1\r\n1\r\n$1\r\n3\r\n$-1\r\n$-1\r\n");
}

/// One of two sources has something that is refused, the other one goes on all the time.
#[test]
fn a_refused_key_holds_no_other_source_up() {
    const WRITES: usize = 3_000;
    let world = World::local(3);
    world.regions.iter().for_each(wait_until_led);
    let third = &world.regions[2];
    for rule in ["resetkeys", "~wal-sidecar:*", "~may:*"] {
        allow(&third.redis, rule);
    }
    std::thread::scope(|scope| {
        for region in &world.regions[..2] {
            scope.spawn(|| {
                let set = |index: usize| match index % 300 {
                    150 => format!("SET not:{}:{index} 1", region.name),
                    _ => format!("SET may:{}:{index} 1", region.name),
                };
                let mut client = region.sidecars[0].client();
                send(
                    &mut client,
                    (0..WRITES).map(|index| words(&set(index))),
                    None,
                );
            });
        }
    });
    let refused = 2 * WRITES / 300;
    until("all that is refused to be a dead letter", DEADLINE, || {
        (undecided(third) == refused as f64).then_some(())
    });
    let expected = 2 * WRITES - refused;
    until("all else to be applied", DEADLINE, || {
        let size =
            third
                .redis
                .client()
                .command(&["EVAL", "return #redis.call('KEYS', 'may:*')", "0"]);
        (size == format!(":{expected}\r\n").as_bytes()).then_some(())
    });
    // A flush leaves what it may not delete.
    allow(&third.redis, "allkeys");
    let mut direct = third.redis.client();
    assert_eq!(direct.command(&["SET", "not:mine", "1"]), b"+OK\r\n");
    for rule in ["resetkeys", "~wal-sidecar:*", "~may:*"] {
        allow(&third.redis, rule);
    }
    let mut client = world.regions[0].sidecars[0].client();
    send(&mut client, std::iter::once(words("FLUSHALL")), None);
    send(&mut client, std::iter::once(words("SET may:end end")), None);
    until_value(third, "may:end", "end");
    allow(&third.redis, "allkeys");
    let left = direct.command(&["EVAL", "return #redis.call('KEYS', 'may:*')", "0"]);
    assert_eq!(left, b":1\r\n");
    assert_eq!(direct.command(&["GET", "not:mine"]), b"$1\r\n1\r\n");
    assert_eq!(undecided(third), refused as f64);
}

/// What lost to a newer change of another region is kept with its value.
#[test]
fn what_lost_a_conflict_is_listed_with_its_value() {
    let world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    let [first, second] = &world.regions[..] else {
        panic!("two regions");
    };
    let lines = || world.regions.iter().flat_map(|one| &one.lines);
    lines().for_each(|line| line.set(Manner::Stall));
    for (region, command) in [(first, "SET both older"), (second, "SET both newer")] {
        let mut client = region.sidecars[0].client();
        send(&mut client, std::iter::once(words(command)), None);
    }
    lines().for_each(|line| line.set(Manner::Pass));
    until_value(first, "both", "newer");
    let letters = until("what lost to be kept", DEADLINE, || {
        let letters = listed(&second.sidecars[0], &["--conflicts"]);
        (!letters.is_empty()).then_some(letters)
    });
    let [letter] = &letters[..] else {
        panic!("one letter, not {letters:?}");
    };
    assert_eq!(letter["keys"], serde_json::json!(["both"]));
    let lost = &letter["record"]["mutation"]["commands"][0]["arguments"];
    assert_eq!(*lost, serde_json::json!(["SET", "both", "older"]));
    until_value(second, "both", "newer");
}
