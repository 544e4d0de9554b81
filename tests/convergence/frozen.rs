//! Processes that stand still for a while and then go on, as on a machine that was
//! frozen: they don't know that others have gone on meanwhile.

use std::time::{Duration, Instant};

use super::dataset;
use super::steady::{DEADLINE, send, wait_until_led, words};
use super::support::process::Signal;
use super::support::resp::encode;
use super::support::{Client, Cluster, Sidecar, until};
use super::verdict::quiet;
use super::world::World;

/// Longer than a sidecar may stand still without being taken for dead.
const FROZEN: Duration = Duration::from_secs(8);

fn leads(one: &Sidecar) -> bool {
    one.metric("wal_sidecar_replication_leading", "") == 1.0
}

/// Counts up for that long; how much the counter has got.
fn count(client: &mut Client, time: Duration) -> u64 {
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < time {
        let ten = (0..10).map(|_| words("INCR count"));
        send(client, ten, None);
        count += 10;
    }
    count
}

/// A leading replicator that stands still until another one leads, and then goes on in
/// the middle of what it did, applies nothing any more.
#[test]
fn a_leader_that_stood_still_applies_nothing() {
    let world = World::kafka(Cluster::start(1), 2);
    world.regions.iter().for_each(wait_until_led);
    let mut client = world.regions[0].sidecars[0].client();
    let mut sum = count(&mut client, Duration::from_secs(1));
    let replicators = &world.regions[1].replicators;
    let leader = replicators.iter().position(leads).expect("waited for");
    let (frozen, other) = (&replicators[leader], &replicators[1 - leader]);
    std::thread::scope(|scope| {
        let counted = scope.spawn(|| count(&mut client, Duration::from_secs(20)));
        std::thread::park_timeout(Duration::from_millis(500));
        frozen.signal(Signal::Stop);
        until("the other one to lead", DEADLINE, || {
            leads(other).then_some(())
        });
        frozen.signal(Signal::Continue);
        sum += counted.join().expect("it does not panic");
    });
    dataset::until_equal(&world, &[]);
    for region in &world.regions {
        let found = region.redis.client().command(&["INCRBY", "count", "0"]);
        assert_eq!(found, format!(":{sum}\r\n").as_bytes());
    }
    let leading = replicators.iter().filter(|one| leads(one)).count();
    assert_eq!(leading, 1);
    quiet(&world);
}

/// Regions agree after a sidecar stood still with changes of its clients under way,
/// which others had to take for those of a dead one.
#[test]
fn a_sidecar_that_stood_still_leaves_no_difference() {
    let world = World::local_shared(2, 2);
    world.regions.iter().for_each(wait_until_led);
    let stop = Instant::now() + FROZEN + Duration::from_secs(4);
    std::thread::scope(|scope| {
        for (region, of) in world.regions.iter().enumerate() {
            for (at, sidecar) in of.sidecars.iter().enumerate() {
                scope.spawn(move || {
                    let mut client = sidecar.client();
                    for index in 0.. {
                        if stop <= Instant::now() {
                            return;
                        }
                        let commands = [
                            format!("SET last {region}-{at}-{index}"),
                            "INCR count".to_owned(),
                            format!("RPUSH list {region}-{at}-{index}"),
                            "LTRIM list -20 -1".to_owned(),
                            format!("SADD set:{} {index}", index % 3),
                        ];
                        // What comes of them is not known where it took too long.
                        let encoded = commands.iter().flat_map(|one| encode(&words(one)));
                        client.send(&encoded.collect::<Vec<u8>>());
                        commands.iter().for_each(|_| drop(client.reply()));
                    }
                });
            }
        }
        std::thread::park_timeout(Duration::from_secs(1));
        let sidecars = &world.regions[0].sidecars;
        let frozen = sidecars
            .iter()
            .find(|one| !leads(one))
            .expect("one stands by");
        frozen.signal(Signal::Stop);
        std::thread::park_timeout(FROZEN);
        frozen.signal(Signal::Continue);
    });
    dataset::until_equal(&world, &[]);
    quiet(&world);
}
