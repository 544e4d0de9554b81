//! What must be true once all regions hold the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::clients::{Answer, Sent};
use super::dataset::{self, Dataset};
use super::support::{Sidecar, until};
use super::world::World;

/// Clocks of writers differ by less; two writes this close are at once.
const AT_ONCE: Duration = Duration::from_millis(10);

/// A region that is not written to is behind by less.
const LAG_MAX: f64 = 2.0;

/// What is logged of a change that can't be applied.
pub const NOT_APPLIED: &str = "a change can't be applied";

const DEADLINE: Duration = Duration::from_secs(15);

/// Counters, overwrites, lag, dead letters, journals without gaps.
pub fn check(world: &World, sent: &[Sent]) {
    let dataset = dataset::read(&world.regions[0].redis);
    let mut keys: BTreeMap<&str, Vec<&Sent>> = BTreeMap::new();
    for one in sent.iter().filter(|one| one.arguments[0] != "WATCH") {
        if let Some(key) = one.arguments.get(1)
            && ["count:", "last:"].iter().any(|kind| key.starts_with(kind))
        {
            keys.entry(key).or_default().push(one);
        }
    }
    for (key, of_key) in keys {
        let wrong = match key.starts_with("count:") {
            true => counted(&dataset, key, &of_key),
            false => overwritten(&dataset, key, &of_key),
        };
        if let Err(wrong) = wrong {
            panic!("{key}: {wrong}\n{}", dataset::about(world, sent, key));
        }
    }
    quiet(world);
    let dead = dead_letters(world);
    assert!(dead.is_empty(), "dead letters:\n{}", dead.join("\n"));
    let gaps = "wal_sidecar_replication_sequence_gaps_total";
    let lost: f64 = world.regions.iter().map(|one| one.metric(gaps)).sum();
    assert_eq!(lost, 0.0, "acknowledged records are missing");
}

/// Waits until nothing is left to be applied.
pub fn quiet(world: &World) {
    for region in &world.regions {
        until("all to be applied", DEADLINE, || {
            let leader = region.leader();
            let lag = leader.metric("wal_sidecar_replication_lag_seconds", "");
            let records = leader.metric("wal_sidecar_replication_lag_records", "");
            (lag < LAG_MAX && records == 0.0).then_some(())
        });
    }
}

/// The records that could not be applied somewhere though their own region's
/// datastore had executed them, as log lines. Others do not matter.
fn dead_letters(world: &World) -> Vec<String> {
    // Journals in files have one partition each, of whatever number.
    let is_local = world.kafka.is_none();
    let rejected: HashMap<&str, HashSet<(u64, u64)>> = world
        .regions
        .iter()
        .map(|region| {
            let sidecars = region.sidecars.iter();
            let sidecars = sidecars.take(if is_local { usize::MAX } else { 1 });
            let rejected = sidecars.flat_map(rejected).collect();
            (region.name.as_str(), rejected)
        })
        .collect();
    let mut found = Vec::new();
    let mut all = 0;
    for region in &world.regions {
        for sidecar in region.replicators.iter().chain(&region.sidecars) {
            let lines = sidecar.lines().into_iter();
            for line in lines.filter(|line| line.contains(NOT_APPLIED)) {
                let field = |name: &str| {
                    let (_, rest) = line.split_once(&format!(" {name}="))?;
                    rest.split(' ').next()
                };
                let source = field("source").expect("a field").trim_matches('"');
                let number = |name| field(name).and_then(|text| text.parse().ok());
                let place = (number("partition"), number("offset"));
                let place = (place.0.expect("a field"), place.1.expect("a field"));
                let place = if is_local { (0, place.1) } else { place };
                let source = source.split('@').next().expect("a name");
                all += 1;
                if !rejected[source].contains(&place) {
                    found.push(format!("{}: {line}", region.name));
                }
            }
        }
    }
    println!(
        "{all} changes refused, {} of them by others only",
        found.len()
    );
    found
}

/// Where the records are in a journal that the own datastore has rejected.
fn rejected(sidecar: &Sidecar) -> HashSet<(u64, u64)> {
    let output = sidecar.command(&["journal", "tail", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut places, mut found) = (HashMap::new(), HashSet::new());
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let number = |name: &str| {
            let value = &record[name];
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        let writer = record["writer"].to_string();
        let place = (
            number("partition").unwrap_or(0),
            number("offset").expect("a field"),
        );
        if let Some(sequence) = number("sequence") {
            places.insert((writer.clone(), sequence), place);
        }
        let outcome = &record["outcome"];
        let of = outcome["of_sequence"].as_u64();
        let of = of.filter(|_| !outcome["rejected"].is_null());
        if let Some(refused) = of.and_then(|of| places.get(&(writer, of))) {
            // What is counted back as it was refused may fail where that failed.
            found.extend([*refused, place]);
        }
    }
    found
}

/// The value of a string.
fn value<'a>(dataset: &'a Dataset, key: &str) -> Option<&'a str> {
    dataset.get(key)?.content.strip_prefix("string ")
}

fn counted(dataset: &Dataset, key: &str, sent: &[&Sent]) -> Result<(), String> {
    let sum = |answers: &[Answer]| -> u64 {
        let counted = sent.iter().filter(|one| answers.contains(&one.answer));
        counted
            .map(|one| one.arguments[2].parse::<u64>().expect("a number"))
            .sum()
    };
    let least = sum(&[Answer::Done]);
    let most = sum(&[Answer::Done, Answer::Error, Answer::Lost]);
    let found = value(dataset, key).map_or(0, |text| text.parse().expect("a number"));
    match (least..=most).contains(&found) {
        true => Ok(()),
        false => Err(format!("counted {found}, not {least} to {most}")),
    }
}

fn overwritten(dataset: &Dataset, key: &str, sent: &[&Sent]) -> Result<(), String> {
    let found = value(dataset, key);
    let holder = sent
        .iter()
        .find(|one| Some(one.arguments[2].as_str()) == found);
    let Some(holder) = holder else {
        let any = sent.iter().find(|one| one.answer == Answer::Done);
        return match any {
            None => Ok(()),
            Some(any) => Err(format!("has {found:?}, which nobody wrote; {any:?}")),
        };
    };
    if holder.answer == Answer::NotDone {
        return Err(format!("has what was not to be applied: {holder:?}"));
    }
    // One whose end was not seen may have been executed at any time after.
    let lost = sent.iter().find(|one| {
        holder.answer == Answer::Done
            && one.answer == Answer::Done
            && holder.ended + AT_ONCE < one.began
    });
    match lost {
        None => Ok(()),
        Some(lost) => Err(format!("{lost:?} was lost to the older {holder:?}")),
    }
}
