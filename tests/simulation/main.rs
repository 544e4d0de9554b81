//! Regions, their sidecars, their replicators and the links between them, in one
//! thread and in simulated time: thousands of histories a minute, each with
//! crashes, cut links and clocks that are off, and after each all regions must
//! hold the same.
//!
//! `SIMULATION_SEEDS` says how many, `SIDECAR_TEST_SEED` from where; a failure
//! prints its seed. Who changes a rule runs some thousands of them (`survey`).

mod filling;
mod random;
mod region;
mod store;
mod target;
mod world;

use random::Random;
use wal_sidecar::replication::engine::Sabotage;
use world::{World, WorldOptions};

/// So many histories, where nothing else is said.
const SEEDS: u64 = 150;

fn seeds() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("SIDECAR_TEST_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64)
    });
    let one = u64::from(number("SIDECAR_TEST_SEED").is_some());
    let count = number("SIMULATION_SEEDS").unwrap_or(if one == 1 { 1 } else { SEEDS });
    (first, count)
}

fn run(seed: u64, sabotage: Sabotage) -> Result<world::Counts, String> {
    let mut random = Random::new(seed);
    let options = WorldOptions::of(&mut random, sabotage);
    world::simulate(|| World::new(random, options))
}

fn run_filled(seed: u64) -> Result<world::Counts, String> {
    let mut random = Random::new(seed);
    let options = WorldOptions {
        is_filled: true,
        ..WorldOptions::of(&mut random, Sabotage::Nothing)
    };
    world::simulate(|| World::new(random, options))
}

/// Whatever happens, when it is quiet all regions hold the same, no newer
/// overwrite was lost to an older one, and counters have counted what was
/// acknowledged.
#[test]
fn regions_converge() {
    let (first, count) = seeds();
    println!("seeds {first} to {}", first + count - 1);
    let mut counts = world::Counts::default();
    for seed in first..first + count {
        match run(seed, Sabotage::Nothing) {
            Ok(found) => counts.add(&found),
            Err(error) => panic!("SIDECAR_TEST_SEED={seed}\n{error}"),
        }
    }
    println!("{counts:?}");
    assert!(count < 20 || counts.crashes > 0 && counts.cuts > 0 && counts.snapshots > 0);
}

/// An empty region is filled from another one while clients write in all, and the
/// leader that does it crashes: all come to hold the same, and nothing is lost of
/// what there was before.
#[test]
fn an_empty_region_is_filled() {
    let (first, count) = seeds();
    let count = count.div_ceil(2);
    for seed in first..first + count {
        if let Err(error) = run_filled(seed) {
            panic!("SIDECAR_TEST_SEED={seed}\n{error}");
        }
    }
}

/// The simulation notices when a rule is left out.
#[test]
fn without_a_rule_they_do_not() {
    for sabotage in [
        Sabotage::NoVersions,
        Sabotage::NoDedupe,
        Sabotage::NoSnapshots,
    ] {
        let (first, _) = seeds();
        let found = (first..first + 60).find(|seed| run(*seed, sabotage).is_err());
        assert!(found.is_some(), "{sabotage:?} was not noticed");
        println!("{sabotage:?} was noticed with seed {found:?}");
    }
}

/// How many histories fail, and of what; for whoever looks for a cause. Those of a
/// region that is filled with `SIMULATION_FILLED`.
#[test]
#[ignore = "for people: prints a survey"]
fn survey() {
    let (first, count) = seeds();
    let mut failed = Vec::new();
    let is_filled = std::env::var_os("SIMULATION_FILLED").is_some();
    for seed in first..first + count {
        let found = match is_filled {
            true => run_filled(seed),
            false => run(seed, Sabotage::Nothing),
        };
        if let Err(error) = found {
            let line = error.lines().nth(usize::from(error.starts_with("regions")));
            let line: String = line.unwrap_or_default().chars().take(150).collect();
            println!("{seed} ({} bytes) {line}", error.len());
            failed.push((error.len(), seed));
        }
    }
    failed.sort();
    println!(
        "{} of {count} failed; the shortest: {:?}",
        failed.len(),
        failed.first()
    );
}
