//! A region that begins empty, while the others have data that is in no journal.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use wal_sidecar::replication::request::{PROGRESS, Phase, Progress, Request};

use super::random::Random;
use super::store::Value;
use super::world::Region;

/// What counters begin with, where it is more than clients add.
pub const COUNT: i64 = 1_000_000;

/// The value, field or member that is there before.
pub const BASE: &[u8] = b"base";

/// Keys that nobody writes to.
const QUIET_KEYS: usize = 20;

/// In virtual time.
const DEADLINE: Duration = Duration::from_secs(120);

const LOOK: Duration = Duration::from_millis(20);

/// Puts data into all regions but the last, and asks the first for a copy.
pub fn prepare(regions: &[Rc<Region>], random: &mut Random) {
    let mut commands = Vec::new();
    for key in 0..3 {
        commands.push(format!("SET last{key} base"));
        commands.push(format!("SET count{key} {COUNT}"));
        commands.push(format!("SET mix{key} base"));
        commands.push(format!("SADD set{key} base m0"));
        commands.push(format!("HSET hash{key} base base f1 base"));
        commands.push(format!("HSET number{key} base base"));
        commands.push(format!("RPUSH list{key} base base"));
    }
    for key in 0..QUIET_KEYS {
        commands.push(format!("SET quiet{key} base"));
    }
    for region in &regions[..regions.len() - 1] {
        let mut store = region.store.borrow_mut();
        for command in &commands {
            let words = command.split(' ').map(|word| Bytes::from(word.to_owned()));
            store.execute("before", &words.collect::<Vec<_>>());
        }
    }
    let request = Request {
        id: random.next(),
        rate: 30 + random.below(200),
        is_cancelled: false,
    };
    regions[0].store.borrow_mut().asked = Some(request.format());
}

async fn until(
    regions: &[Rc<Region>],
    what: &str,
    is_so: impl Fn(&Progress) -> bool,
) -> Result<(), String> {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        let found = regions[0].store.borrow().checkpoints.get(PROGRESS).cloned();
        let progress = found.and_then(|text| Progress::parse(&text));
        if progress.as_ref().is_some_and(&is_so) {
            return Ok(());
        }
        if end < tokio::time::Instant::now() {
            return Err(format!("waited in vain for {what}: {progress:?}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the empty region knows that it is filled.
pub async fn until_noted(regions: &[Rc<Region>]) -> Result<(), String> {
    let last = &regions[regions.len() - 1].name;
    let what = format!("{last} to know");
    until(regions, &what, |progress| progress.noted.contains(last)).await
}

pub async fn until_done(regions: &[Rc<Region>]) -> Result<(), String> {
    until(regions, "the end", |one| one.phase == Phase::Done).await
}

/// What nobody has changed is there, everywhere: all regions are equal by now.
pub fn check(regions: &[Rc<Region>]) -> Result<(), String> {
    let keys = &regions[0].store.borrow().keys;
    for key in 0..QUIET_KEYS {
        let found = keys.get(format!("quiet{key}").as_bytes());
        if found != Some(&(Value::Text(BASE.to_vec()), 0)) {
            return Err(format!("quiet{key} is {found:?}"));
        }
    }
    for key in 0..3 {
        for name in ["hash", "number"] {
            let found = keys.get(format!("{name}{key}").as_bytes());
            let Some((Value::Hash(hash), _)) = found else {
                return Err(format!("{name}{key} is {found:?}"));
            };
            if hash.get(BASE).map(|value| &value[..]) != Some(BASE) {
                return Err(format!("{name}{key} has lost what was there: {hash:?}"));
            }
        }
    }
    Ok(())
}
