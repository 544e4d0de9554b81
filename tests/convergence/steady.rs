//! Two regions of which one falls behind, or has what the other can't do.

use std::time::{Duration, Instant};

use super::dataset;
use super::support::process::Signal;
use super::support::resp::encode;
use super::support::{Client, Cluster, Sidecar, until};
use super::verdict::quiet;
use super::world::{PARTITIONS, Region, World, redis, topic};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Commands sent at once.
pub const PIPELINE: usize = 500;

/// Sends commands and takes their replies, all of which have to be `expected`.
pub fn send(
    client: &mut Client,
    commands: impl Iterator<Item = Vec<String>>,
    expected: Option<&str>,
) {
    let all: Vec<Vec<String>> = commands.collect();
    for chunk in all.chunks(PIPELINE) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|one| encode(one)).collect();
        client.send(&bytes);
        for command in chunk {
            let reply = client.reply();
            let is_wanted = match expected {
                Some(expected) => reply == expected.as_bytes(),
                None => reply[0] != b'-',
            };
            assert!(is_wanted, "{command:?}: {}", reply.escape_ascii());
        }
    }
}

pub fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Some of each type, the order of which is to be seen in the result.
fn numbered(index: usize) -> Vec<String> {
    words(&match index % 5 {
        0 => format!("SET string:{} {index}", index % 50),
        1 => format!("RPUSH list:{} {index}", index % 50),
        2 => format!("HSET hash:{} field {index}", index % 50),
        3 => format!("INCRBY number:{} {index}", index % 50),
        _ => format!("APPEND text:{} {index},", index % 50),
    })
}

/// Two regions, the first of which has applied nothing yet from the second.
pub fn wait_until_led(region: &Region) {
    until("a replicator to lead", DEADLINE, || {
        let leading = region.metric("wal_sidecar_replication_leading");
        (leading == 1.0).then_some(())
    });
}

fn applied(sidecar: &Sidecar) -> f64 {
    sidecar.metric("wal_sidecar_replication_applied_records_total", "")
}

/// A replicator that was stopped for 50,000 writes applies them in their order.
#[test]
fn a_replicator_that_was_stopped_catches_up() {
    const WRITES: usize = 50_000;
    let mut world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    assert!(world.regions[1].sidecars[0].stop().success());
    let mut client = world.regions[0].sidecars[0].client();
    send(&mut client, (0..WRITES).map(numbered), None);
    let started = Instant::now();
    world.regions[1].sidecars[0].restart();
    until("all to be applied", DEADLINE, || {
        let done = applied(&world.regions[1].sidecars[0]);
        (WRITES as f64 <= done).then_some(())
    });
    let rate = WRITES as f64 / started.elapsed().as_secs_f64();
    println!("{rate:.0} records a second, the start included");
    dataset::until_equal(&world, &[]);
    quiet(&world);
    assert_eq!(dead_letters(&world), 0.0);
}

fn dead_letters(world: &World) -> f64 {
    let name = "wal_sidecar_replication_dead_letters_total";
    world.regions.iter().map(|one| one.metric(name)).sum()
}

/// While a datastore hangs, or is gone, what is for it is held; then it goes on.
#[test]
fn a_datastore_that_is_away_holds_and_goes_on() {
    const WRITES: usize = 2_000;
    let mut world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    let mut client = world.regions[0].sidecars[0].client();
    send(&mut client, (0..WRITES).map(numbered), None);
    dataset::until_equal(&world, &[]);

    world.regions[1].redis.signal(Signal::Stop);
    send(&mut client, (0..WRITES).map(numbered), None);
    until("the replicator to be behind", DEADLINE, || {
        let lag = world.regions[1].sidecars[0].metric("wal_sidecar_replication_lag_records", "");
        (0.0 < lag).then_some(())
    });
    world.regions[1].redis.signal(Signal::Continue);
    dataset::until_equal(&world, &[]);

    world.regions[1].redis.kill();
    send(&mut client, (0..WRITES).map(numbered), None);
    until("the replicator to be behind", DEADLINE, || {
        let lag = world.regions[1].sidecars[0].metric("wal_sidecar_replication_lag_records", "");
        (0.0 < lag).then_some(())
    });
    world.regions[1].redis.restart();
    dataset::until_equal(&world, &[]);
    quiet(&world);
    assert_eq!(dead_letters(&world), 0.0);
}

/// A command that one region's datastore does not know is a dead letter there,
/// and what comes after it is applied.
#[test]
fn a_command_that_is_refused_for_good_does_not_stop_the_rest() {
    let poisoned = redis(&["--rename-command", "SETRANGE", ""]);
    let world = World::local_with(vec![redis(&[]), poisoned], 1);
    world.regions.iter().for_each(wait_until_led);
    let mut client = world.regions[0].sidecars[0].client();
    for index in 0..300 {
        let command = match index % 100 {
            50 => words("SETRANGE poison 3 x"),
            _ => numbered(index),
        };
        send(&mut client, std::iter::once(command), None);
    }
    send(
        &mut client,
        std::iter::once(words("SET the end")),
        Some("+OK\r\n"),
    );
    until("the last to be applied", DEADLINE, || {
        let value = world.regions[1].redis.client().command(&["GET", "the"]);
        (value == b"$3\r\nend\r\n").then_some(())
    });
    quiet(&world);
    assert_eq!(dead_letters(&world), 3.0);
    let mut datasets = [0, 1].map(|index| dataset::read(&world.regions[index].redis));
    assert!(datasets[0].remove("poison").is_some() && !datasets[1].contains_key("poison"));
    assert_eq!(datasets[0], datasets[1]);
}

/// A client that waits for something to pop holds nothing up, and gets what
/// another region's clients push.
#[test]
fn a_blocked_pop_holds_nothing_up() {
    let world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    let mut blocked = world.regions[0].sidecars[0].client();
    blocked.send(&encode(&["BLPOP", "queue", "0"]));
    let redis = &world.regions[0].redis;
    until("it to be blocked", DEADLINE, || {
        let clients = redis.client().command(&["CLIENT", "LIST"]);
        String::from_utf8_lossy(&clients)
            .contains("cmd=blpop")
            .then_some(())
    });
    // What is in conflict is told by snapshots, in both directions.
    let mut clients: Vec<Client> = world
        .regions
        .iter()
        .map(|one| one.sidecars[0].client())
        .collect();
    for round in 0..200 {
        for client in &mut clients {
            let append = words(&format!("APPEND text:{} {round}", round % 10));
            send(client, std::iter::once(append), None);
        }
    }
    dataset::until_equal(&world, &[]);
    let push = words("RPUSH queue one");
    send(&mut clients[1], std::iter::once(push), Some(":1\r\n"));
    assert_eq!(blocked.reply(), b"*2\r\n$5\r\nqueue\r\n$3\r\none\r\n");
    dataset::until_equal(&world, &[]);
    for region in &world.regions {
        assert_eq!(
            region.redis.client().command(&["EXISTS", "queue"]),
            b":0\r\n"
        );
    }
    quiet(&world);
}

/// Replicators go on when their only broker was killed and is back.
#[test]
fn a_broker_that_was_killed_and_is_back_is_read_again() {
    const WRITES: usize = 2_000;
    let mut world = World::kafka(Cluster::start(1), 2);
    world.regions.iter().for_each(wait_until_led);
    for _ in 0..2 {
        for region in &world.regions {
            let mut client = region.sidecars[0].client();
            send(&mut client, (0..WRITES).map(numbered), None);
        }
        dataset::until_equal(&world, &[]);
        let kafka = world.kafka.as_mut().expect("made with one");
        kafka.kill(0);
        kafka.restart(0);
        for region in &world.regions {
            until("the journal to take records", DEADLINE, || {
                let reply = region.sidecars[0].client().command(&["SET", "probe", "1"]);
                (reply == b"+OK\r\n").then_some(())
            });
        }
    }
    for region in &world.regions {
        let mut client = region.sidecars[0].client();
        send(&mut client, (0..WRITES).map(numbered), None);
    }
    dataset::until_equal(&world, &[]);
    quiet(&world);
}

/// A partition that no broker leads, of the own journal and of another's, keeps a
/// replicator that begins from nothing else.
#[test]
fn a_partition_without_a_leader_keeps_nobody_from_the_rest() {
    const KEYS: usize = 12;
    let mut world = World::kafka_of(Cluster::start(3), 2, 1);
    world.regions.iter().for_each(wait_until_led);
    for replicator in &mut world.regions[0].replicators {
        assert!(replicator.stop().success());
    }
    let kafka = world.kafka.as_mut().expect("made with one");
    let victim = kafka.leader_of(&topic("r0"), 0);
    kafka.kill(victim);
    let mut client = world.regions[1].sidecars[0].client();
    let mut taken: Vec<String> = (0..KEYS).map(|index| format!("key:{index}")).collect();
    taken.retain(|key| client.command(&["SET", key, "1"]) == b"+OK\r\n");
    assert!(!taken.is_empty() && taken.len() < KEYS, "{taken:?}");
    for replicator in &mut world.regions[0].replicators {
        replicator.restart();
    }
    until("what was taken to be there", DEADLINE, || {
        let mut words = vec!["EXISTS"];
        words.extend(taken.iter().map(String::as_str));
        let found = world.regions[0].redis.client().command(&words);
        (found == format!(":{}\r\n", taken.len()).as_bytes()).then_some(())
    });
    world.kafka.as_mut().expect("made with one").restart(victim);
    for index in 0..KEYS {
        let key = format!("key:{index}");
        until("its partition to take records", DEADLINE, || {
            (client.command(&["SET", &key, "2"]) == b"+OK\r\n").then_some(())
        });
    }
    dataset::until_equal(&world, &[]);
    quiet(&world);
}

/// A flush that the own datastore refused empties no other one. One that it has
/// executed deletes what is older there, and nothing that clients write meanwhile.
#[test]
fn a_flush_deletes_what_is_older() {
    const KEYS: usize = 20_000;
    let world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    let mut clients: Vec<Client> = world
        .regions
        .iter()
        .map(|one| one.sidecars[0].client())
        .collect();
    let set = |index: usize| words(&format!("SET old:{index} {index}"));
    send(&mut clients[0], (0..KEYS).map(set), Some("+OK\r\n"));
    dataset::until_equal(&world, &[]);
    let refused = clients[0].command(&["FLUSHALL", "LATER"]);
    assert!(refused.starts_with(b"-ERR"), "{}", refused.escape_ascii());
    dataset::until_equal(&world, &[]);
    assert_eq!(dataset::read(&world.regions[1].redis).len(), KEYS);

    send(
        &mut clients[0],
        std::iter::once(words("FLUSHALL")),
        Some("+OK\r\n"),
    );
    // Some of them are keys that are about to be deleted.
    let again = |index: usize| words(&format!("SET old:{} new", index * 7));
    send(&mut clients[1], (0..KEYS / 7).map(again), Some("+OK\r\n"));
    dataset::until_equal(&world, &[]);
    let found = dataset::read(&world.regions[0].redis);
    assert_eq!(found.len(), KEYS / 7);
    quiet(&world);
}

/// The replicator that takes over reads the same journals at other addresses, and
/// applies nothing again.
#[test]
fn a_standby_goes_on_where_the_leader_was() {
    const WRITES: usize = 500;
    let mut world = World::local_shared(2, 2);
    world.regions.iter().for_each(wait_until_led);
    let write = |world: &World| {
        for sidecar in &world.regions[0].sidecars {
            send(&mut sidecar.client(), (0..WRITES).map(numbered), None);
        }
        dataset::until_equal(world, &[]);
    };
    write(&world);
    let sidecars = &mut world.regions[1].sidecars;
    let leads = |one: &Sidecar| one.metric("wal_sidecar_replication_leading", "") == 1.0;
    let leader = sidecars.iter().position(leads).expect("waited for");
    sidecars[leader].kill();
    until("the other one to lead", DEADLINE, || {
        leads(&sidecars[1 - leader]).then_some(())
    });
    sidecars[leader].restart();
    write(&world);
    quiet(&world);
}

/// A topic that was deleted and made again is read from its beginning, by its own
/// region's replicators and by others.
#[test]
fn a_topic_that_was_made_again_is_read_anew() {
    const WRITES: usize = 2_000;
    let world = World::kafka(Cluster::start(1), 2);
    world.regions.iter().for_each(wait_until_led);
    let mut client = world.regions[0].sidecars[0].client();
    send(&mut client, (0..WRITES).map(numbered), None);
    dataset::until_equal(&world, &[]);
    let kafka = world.kafka.as_ref().expect("made with one");
    kafka.delete_topic(&topic("r0"));
    kafka.create_topic(&topic("r0"), PARTITIONS, 1, &[]);
    until("the topic to be back", DEADLINE, || {
        let reply = world.regions[0].sidecars[0]
            .client()
            .command(&["SET", "probe", "1"]);
        (reply == b"+OK\r\n").then_some(())
    });
    for key in ["one", "two", "three"] {
        until("the journal to take a change", DEADLINE, || {
            let reply = world.regions[0].sidecars[0]
                .client()
                .command(&["SET", key, "5"]);
            (reply == b"+OK\r\n").then_some(())
        });
    }
    until("the other region to have them", DEADLINE, || {
        let found = world.regions[1]
            .redis
            .client()
            .command(&["MGET", "one", "two", "three"]);
        (found == b"*3\r\n$1\r\n5\r\n$1\r\n5\r\n$1\r\n5\r\n").then_some(())
    });
    quiet(&world);
}
