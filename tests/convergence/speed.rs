//! For people: how fast replicators are, and how late. `SIDECAR_BINARY` names a
//! release build.

use std::time::{Duration, Instant};

use super::dataset;
use super::steady::{DEADLINE, PIPELINE, send, wait_until_led, words};
use super::support::{Client, Cluster, Sidecar, until};
use super::world::{Region, World};

/// Changes that wait when the replicator begins.
const WRITES: usize = 200_000;

/// For so long it is looked at how late changes are.
const LAG_TIME: Duration = Duration::from_secs(10);

/// An hour of writes, at this many a second.
const HOUR_RATE: usize = 1000;

const OK: Option<&str> = Some("+OK\r\n");

fn replicators(region: &mut Region) -> impl Iterator<Item = &mut Sidecar> {
    let own = region.replicators.iter_mut();
    // Where there are none of their own, sidecars are.
    own.chain(region.sidecars.iter_mut())
        .take(match region.lines.is_empty() {
            true => 2,
            false => 1,
        })
}

fn set(index: usize) -> Vec<String> {
    words(&format!("SET key:{} {}", index % 10_000, "x".repeat(100)))
}

fn applied(region: &Region) -> f64 {
    region.metric("wal_sidecar_replication_applied_records_total")
}

/// What a region's replicators have taken of processors since they were started, in
/// seconds; `None` where that is not told.
fn processor_time(region: &mut Region) -> Option<f64> {
    let mut ticks = 0;
    for one in replicators(region) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", one.id())).ok()?;
        // After the name, which may have spaces: the 14th and 15th field.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields = fields.split_whitespace().skip(11).take(2);
        ticks += fields.map(|one| one.parse().unwrap_or(0)).sum::<u64>();
    }
    // Linux says hundredths, whatever its clock does.
    Some(ticks as f64 / 100.0)
}

/// Has the second region apply what has come up in the first one while it had no
/// replicator; how many records a second.
fn catch_up(world: &mut World, writes: usize, meanwhile: impl FnOnce(&World)) -> f64 {
    world.regions.iter().for_each(wait_until_led);
    for one in replicators(&mut world.regions[1]) {
        assert!(one.stop().success());
    }
    let mut client = world.regions[0].sidecars[0].client();
    send(&mut client, (0..writes).map(set), OK);
    replicators(&mut world.regions[1]).for_each(Sidecar::restart);
    meanwhile(world);
    let deadline = DEADLINE * 10;
    let (begun, first) = until("the first to be applied", deadline, || {
        let done = applied(&world.regions[1]);
        (0.0 < done).then_some((Instant::now(), done))
    });
    until("all to be applied", deadline, || {
        (writes as f64 <= applied(&world.regions[1])).then_some(())
    });
    let rate = (writes as f64 - first) / begun.elapsed().as_secs_f64();
    // Their start, and serving the metrics that are looked at, are in it.
    if let Some(seconds) = processor_time(&mut world.regions[1]) {
        let of_core = writes as f64 / seconds;
        println!("{rate:.0} records a second, {of_core:.0} for each second of a processor");
    }
    rate
}

/// How long a change takes to the other region's datastore while others come at
/// this rate a second; from the client's command to a reader, in order.
fn lags(world: &World, client: &mut Client, rate: f64) -> Vec<Duration> {
    let mut lags = Vec::new();
    let batch = PIPELINE / 10;
    let pace = Duration::from_secs_f64(batch as f64 / rate);
    let started = Instant::now();
    for round in 0..(LAG_TIME.as_secs_f64() / pace.as_secs_f64()) as u32 {
        let at = started + pace * round;
        until("the next batch's time", DEADLINE, || {
            (at <= Instant::now()).then_some(())
        });
        send(client, (0..batch).map(set), OK);
        if round.is_multiple_of(10) {
            let mark = format!("mark:{round}");
            let sent = Instant::now();
            send(client, std::iter::once(words(&format!("SET {mark} 1"))), OK);
            let mut other = world.regions[1].redis.client();
            until("the mark", DEADLINE, || {
                (other.command(&["EXISTS", &mark]) == b":1\r\n").then_some(())
            });
            lags.push(sent.elapsed());
        }
    }
    lags.sort();
    lags
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    format!(
        "median {:?}, 99th percentile {:?} of {}",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times.len()
    )
}

fn measure(mut world: World) {
    let rate = catch_up(&mut world, WRITES, |_| {});
    let mut client = world.regions[0].sidecars[0].client();
    for rate in [1000.0, rate / 2.0] {
        let lags = lags(&world, &mut client, rate);
        println!("lag at {rate:.0} a second: {}", percentiles(lags));
    }
}

#[test]
#[ignore = "for people: measures; SIDECAR_BINARY names a release build"]
fn local_journals() {
    measure(World::local(2));
}

#[test]
#[ignore = "for people: measures; SIDECAR_BINARY names a release build"]
fn topics() {
    measure(World::kafka(Cluster::start(1), 2));
}

/// A client's round trips, one after another.
fn round_trips(client: &mut Client, time: Duration) -> Vec<Duration> {
    let started = Instant::now();
    let mut times = Vec::new();
    while started.elapsed() < time {
        let sent = Instant::now();
        send(client, std::iter::once(words("SET live 1")), OK);
        times.push(sent.elapsed());
    }
    times
}

/// A replicator was away for as many writes as an hour has: it catches up while
/// clients of its region go on.
#[test]
#[ignore = "for people: takes minutes; SIDECAR_BINARY names a release build"]
fn an_hour_of_writes() {
    let mut world = World::local(2);
    let mut live = world.regions[1].sidecars[0].client();
    let before = round_trips(&mut live, Duration::from_secs(3));
    println!("a client's round trips before: {}", percentiles(before));
    let mut client = None;
    catch_up(&mut world, 3600 * HOUR_RATE, |world| {
        let mut live = world.regions[1].sidecars[0].client();
        client = Some(std::thread::spawn(move || {
            round_trips(&mut live, Duration::from_secs(10))
        }));
    });
    let while_busy = client.expect("started").join().expect("it does not panic");
    println!("while it catches up: {}", percentiles(while_busy));
    let took = dataset::until_equal(&world, &[]);
    println!("equal {took:?} later");
}
