//! What replicators say of their sources: how far they are behind, and whether all of
//! them can be read.

use super::dataset;
use super::steady::{DEADLINE, send, wait_until_led, words};
use super::support::line::Manner;
use super::support::{Cluster, until};
use super::verdict::quiet;
use super::world::{Region, World, topic};

/// So many come up while a region does not replicate.
const WRITES: usize = 50_000;

/// A region that is not behind is less late, in seconds.
const LAG_MAX: f64 = 2.0;

fn write(region: &Region, count: usize) {
    let mut client = region.sidecars[0].client();
    let set = |index: usize| words(&format!("SET key:{} {index}", index % 1_000));
    send(&mut client, (0..count).map(set), Some("+OK\r\n"));
}

/// What the leader of a region says.
fn said(region: &Region, name: &str) -> f64 {
    let leader = region.leader();
    leader.metric(&format!("wal_sidecar_replication_{name}"), "")
}

fn until_behind(region: &Region, records: f64) {
    until("what is not applied to be counted", DEADLINE, || {
        (records < said(region, "lag_records")).then_some(())
    });
}

fn until_late(region: &Region, seconds: f64) -> f64 {
    until("the lag to grow", DEADLINE, || {
        let lag = said(region, "lag_seconds");
        (seconds < lag).then_some(lag)
    })
}

fn until_read(region: &Region) {
    until("the source to be read", DEADLINE, || {
        let is_read = said(region, "source_up") == 1.0;
        (is_read && said(region, "lag_seconds") < LAG_MAX).then_some(())
    });
}

/// Records that have not come over a slow line count: the other region tells of them.
#[test]
fn what_another_region_serves_is_counted_before_it_comes() {
    let mut world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    assert!(world.regions[1].sidecars[0].stop().success());
    write(&world.regions[0], WRITES);
    let second = &mut world.regions[1];
    second.lines[0].set(Manner::Trickle);
    second.sidecars[0].restart();
    until_behind(second, 20_000.0);
    second.lines[0].set(Manner::Pass);
    dataset::until_equal(&world, &[]);
    quiet(&world);
}

/// The same of a topic, whose brokers are asked.
#[test]
fn what_a_topic_has_is_counted_before_it_is_read() {
    let mut world = World::kafka(Cluster::start(1), 2);
    world.regions.iter().for_each(wait_until_led);
    for replicator in &mut world.regions[1].replicators {
        assert!(replicator.stop().success());
    }
    write(&world.regions[0], WRITES);
    for replicator in &mut world.regions[1].replicators {
        replicator.restart();
    }
    // More than what waits to be applied of four partitions.
    until_behind(&world.regions[1], 33_000.0);
    dataset::until_equal(&world, &[]);
    quiet(&world);
}

/// A region that begins while another one is away says so, and how long it has been.
#[test]
fn a_source_that_is_away_at_the_start_is_down_and_late() {
    let mut world = World::local(2);
    world.regions.iter().for_each(wait_until_led);
    write(&world.regions[0], 100);
    dataset::until_equal(&world, &[]);
    assert!(world.regions[1].sidecars[0].stop().success());
    world.regions[0].sidecars[0].kill();
    world.regions[1].sidecars[0].restart();
    let lag = until_late(&world.regions[1], 1.0);
    assert_eq!(said(&world.regions[1], "source_up"), 0.0);
    until_late(&world.regions[1], lag + 2.0);
    assert_eq!(said(&world.regions[1], "source_up"), 0.0);
    world.regions[0].sidecars[0].restart();
    until_read(&world.regions[1]);
    dataset::until_equal(&world, &[]);
    quiet(&world);
}

/// A source of which one partition can't be read is down, though the others are read.
#[test]
fn a_source_of_which_a_partition_is_away_is_down_and_late() {
    let mut world = World::kafka_of(Cluster::start(3), 2, 1);
    world.regions.iter().for_each(wait_until_led);
    write(&world.regions[0], 100);
    dataset::until_equal(&world, &[]);
    for replicator in &mut world.regions[1].replicators {
        assert!(replicator.stop().success());
    }
    let kafka = world.kafka.as_mut().expect("made with one");
    let victim = kafka.leader_of(&topic("r0"), 0);
    kafka.kill(victim);
    for replicator in &mut world.regions[1].replicators {
        replicator.restart();
    }
    // Heartbeats come in each of them.
    until("the other partitions to be read", DEADLINE, || {
        (0.0 < said(&world.regions[1], "applied_records_total")).then_some(())
    });
    until_late(&world.regions[1], LAG_MAX);
    assert_eq!(said(&world.regions[1], "source_up"), 0.0);
    let kafka = world.kafka.as_mut().expect("made with one");
    kafka.restart(victim);
    until_read(&world.regions[1]);
}
