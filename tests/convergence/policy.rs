//! A region that takes what others change of some keys, deletes its copies of others, and
//! leaves others alone.

use super::dataset;
use super::steady::{DEADLINE, send, wait_until_led, words};
use super::support::process::Signal;
use super::support::{Client, until};
use super::verdict::quiet;
use super::world::{Region, World, redis};

/// What the second region does with changes of the first one.
const POLICY: &str = r#"replicate_ttl_min = "10s"
[[namespace.prefix]]
prefix = "cache:"
replicate = "invalidate"
[[namespace.prefix]]
prefix = "local:"
replicate = "off""#;

/// No reply tells what it does, so that its key's value is told.
const SCRIPT: &str = "return redis.call('SET', KEYS[1], unpack(ARGV))";

/// Two regions, of which the second has a policy.
fn start() -> World {
    let world = World::local_of(vec![(redis(&[]), ""), (redis(&[]), POLICY)], 1);
    world.regions.iter().for_each(wait_until_led);
    world
}

fn client(region: &Region) -> Client {
    region.sidecars[0].client()
}

/// What a region has of a key.
fn held(region: &Region, key: &str) -> Option<String> {
    let found = dataset::read(&region.redis).remove(key)?;
    Some(found.content)
}

fn until_held(region: &Region, key: &str, expected: Option<&str>) {
    until("a change to be applied", DEADLINE, || {
        (held(region, key).as_deref() == expected).then_some(())
    });
}

/// Has the second region set keys, which the first one takes.
fn set_in_both(first: &Region, second: &Region, keys: &[&str]) {
    let set = |key: &&str| words(&format!("SET {key} old"));
    send(&mut client(second), keys.iter().map(set), Some("+OK\r\n"));
    let last = keys.last().expect("several");
    until_held(first, last, Some("string old"));
}

/// Has a region change keys, and another one apply all of that.
fn change(here: &Region, there: &Region, changes: &[&str]) {
    let changes = changes.iter().chain(&["SET the end"]);
    send(&mut client(here), changes.map(|one| words(one)), None);
    until_held(there, "the", Some("string end"));
}

#[test]
fn what_others_change_is_taken_or_has_the_copy_deleted_or_is_left_alone() {
    let world = start();
    let [first, second] = &world.regions[..] else {
        panic!("two regions");
    };
    let expected = [
        ("plain", Some("string new")),
        ("text", Some("string older")),
        ("gone", None),
        ("brief", None),
        ("long", Some("string new")),
        ("cache:plain", None),
        ("cache:text", None),
        ("cache:gone", None),
        ("local:plain", Some("string old")),
        ("local:brief", Some("string old")),
        ("local:gone", Some("string old")),
        ("one", Some("string new")),
        ("cache:one", None),
        ("local:one", Some("string old")),
    ];
    set_in_both(first, second, &expected.map(|(key, _)| key));
    let changes = [
        "SET plain new",
        "APPEND text er",
        "DEL gone",
        "SET brief new PX 9000",
        "SET long new EX 1000",
        "SET cache:plain new",
        "APPEND cache:text er",
        "DEL cache:gone",
        "SET local:plain new",
        "SET local:brief new PX 9000",
        "DEL local:gone",
        "MSET one new cache:one new local:one new",
    ];
    change(first, second, &changes);
    let found = dataset::read(&second.redis);
    for (key, content) in expected {
        let found = found.get(key).map(|one| one.content.as_str());
        assert_eq!(found, content, "{key}");
    }
    // Nobody hears of what was deleted or left alone there.
    quiet(&world);
    let found = ["cache:plain", "local:plain", "local:gone"].map(|key| held(first, key));
    let new = Some("string new".to_owned());
    assert_eq!(found, [new.clone(), new, None]);
}

/// The same where a region tells a key's value, as it does not know what was done.
#[test]
fn a_value_that_is_told_is_taken_or_has_the_copy_deleted_or_is_left_alone() {
    let world = start();
    let [first, second] = &world.regions[..] else {
        panic!("two regions");
    };
    let keys = ["local:plain", "brief", "cache:plain", "plain"];
    set_in_both(first, second, &keys);
    let mut of_first = client(first);
    for key in keys {
        let lives: &[&str] = match key {
            "brief" => &["PX", "9000"],
            _ => &[],
        };
        let call = [&["EVAL", SCRIPT, "1", key, "new"][..], lives].concat();
        assert_eq!(of_first.command(&call), b"+OK\r\n");
    }
    until_held(second, "plain", Some("string new"));
    until_held(second, "cache:plain", None);
    let brief = until("its value to be told", DEADLINE, || {
        let found = held(second, "brief");
        (found.as_deref() != Some("string old")).then_some(found)
    });
    assert_eq!(brief, None);
    quiet(&world);
    assert_eq!(held(second, "local:plain").as_deref(), Some("string old"));
}

#[test]
fn another_policy_is_taken_up_on_reload() {
    let world = start();
    let [first, second] = &world.regions[..] else {
        panic!("two regions");
    };
    set_in_both(first, second, &["local:early", "local:late"]);
    change(first, second, &["SET local:early new"]);
    assert_eq!(held(second, "local:early").as_deref(), Some("string old"));

    let sidecar = &second.sidecars[0];
    let text = std::fs::read_to_string(sidecar.config()).expect("it is there");
    let changed = text.replace("replicate = \"off\"", "replicate = \"value\"");
    assert_ne!(changed, text);
    std::fs::write(sidecar.config(), changed).expect("write the configuration");
    sidecar.signal(Signal::Hup);
    let (mut of_first, mut number) = (client(first), 0);
    until("a change to be taken", DEADLINE, || {
        number += 1;
        let set = words(&format!("SET local:late {number}"));
        send(&mut of_first, std::iter::once(set), Some("+OK\r\n"));
        (held(second, "local:late").as_deref() != Some("string old")).then_some(())
    });
    let last = format!("string {number}");
    until_held(second, "local:late", Some(last.as_str()));
    // What was left alone before is not made up for.
    assert_eq!(held(second, "local:early").as_deref(), Some("string old"));
    quiet(&world);
}
