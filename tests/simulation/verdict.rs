//! What is wrong with what the regions come to.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use wal_sidecar::mutation::{decode, v1};

use super::filling;
use super::region::Sent;
use super::store::Value;
use super::world::{Region, World};

impl World {
    /// Waits until all regions hold the same, for long enough that whatever is
    /// still to be told would have been.
    pub(super) async fn settle(&self) -> Result<(), String> {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let first = self.regions[0].store.borrow().keys.clone();
        let same = |region: &Rc<Region>| region.store.borrow().keys == first;
        for _ in 0..40 {
            if self.regions.iter().all(same) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let first = self.regions[0].store.borrow().keys.clone();
            if self
                .regions
                .iter()
                .all(|region| region.store.borrow().keys == first)
            {
                return Ok(());
            }
        }
        let mut message = String::from("regions differ\n");
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for region in &self.regions {
            keys.extend(region.store.borrow().keys.keys().cloned());
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let values: Vec<_> = self
                .regions
                .iter()
                .map(|region| region.store.borrow().keys.get(&key).cloned())
                .collect();
            if values.windows(2).any(|pair| pair[0] != pair[1]) {
                message += &format!(
                    "{} : {values:?}\n{}",
                    key.escape_ascii(),
                    self.history(&key)
                );
            }
        }
        Err(message)
    }

    /// Regions that hold the same have nothing more to tell each other.
    pub(super) async fn rest(&self) -> Result<(), String> {
        let told = || -> Vec<Bytes> {
            let records = self.regions.iter().flat_map(|region| region.records());
            records.filter_map(|one| told_key(&one.2)).collect()
        };
        let count = |key: &Bytes, all: &[Bytes]| all.iter().filter(|one| *one == key).count();
        let before = told();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let after = told();
        // Who has begun to lead tells each once more, whatever it is, and once more
        // where another one has told it meanwhile. Without end it is some five
        // times in each region.
        let most = 2 * self.regions.len();
        let is_more = |key: &&Bytes| count(key, &before) + most < count(key, &after);
        match after.iter().find(is_more) {
            None => Ok(()),
            Some(key) => Err(format!(
                "all regions hold the same, and go on telling {}\n{}",
                key.escape_ascii(),
                self.history(key)
            )),
        }
    }

    /// All that the journals say of a key.
    fn history(&self, key: &[u8]) -> String {
        let mut out = String::new();
        for region in &self.regions {
            for (partition, offset, bytes) in region.records() {
                let record = decode(Bytes::from(bytes)).expect("a record");
                let text = match &record.body {
                    Some(v1::record::Body::Mutation(one))
                        if one.keys.is_empty() || one.keys.iter().any(|k| k == key) =>
                    {
                        format!("{:?} final {}", one.commands[0].arguments, one.r#final)
                    }
                    Some(v1::record::Body::Outcome(one))
                        if one.key.is_empty() || one.key == key =>
                    {
                        format!("outcome of {} {:?}", one.of_sequence, one.result)
                    }
                    Some(v1::record::Body::Snapshot(one)) if one.key == key => format!(
                        "snapshot {:?} of {} {:x} {:?}",
                        one.value, one.content_hlc, one.content_writer, one.applied
                    ),
                    _ => continue,
                };
                out += &format!(
                    "  {} {partition}@{offset} hlc {} writer {:x} sequence {} settled {}: {text}\n",
                    region.name, record.hlc, record.writer, record.sequence, record.settled_through
                );
            }
        }
        out
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.options.flushes {
            // What was counted is gone.
            return Ok(());
        }
        let store = self.regions[0].store.borrow();
        let sent: Vec<Sent> = self
            .regions
            .iter()
            .flat_map(|region| region.log.borrow().clone())
            .collect();
        for (key, (value, _)) in &store.keys {
            let Value::Text(text) = value else { continue };
            let of_key: Vec<&Sent> = sent
                .iter()
                .filter(|one| one.command.get(1).is_some_and(|first| *first == key[..]))
                .collect();
            if key.starts_with(b"count") {
                let delta = |one: &&&Sent| -> i64 {
                    String::from_utf8_lossy(&one.command[2])
                        .parse()
                        .expect("a number")
                };
                let least: i64 = of_key
                    .iter()
                    .filter(|one| one.acknowledged.is_some() && !one.is_late)
                    .map(|one| delta(&one))
                    .sum();
                let possible = of_key.iter().filter(|one| !one.is_refused);
                let most: i64 = possible.map(|one| delta(&one)).sum();
                let found: i64 = String::from_utf8_lossy(text).parse().expect("a number");
                let before = i64::from(self.options.is_filled) * filling::COUNT;
                // What one that was taken for dead counts when it goes on others may
                // have counted for it, or may undo as they hear of it too late; what is
                // refused then they undo though they were told the value without it.
                let late = of_key.iter().filter(|one| one.is_late);
                let twice: i64 = late.clone().map(|one| delta(&one)).sum();
                let undone = late.filter(|one| one.is_refused);
                let undone: i64 = undone.map(|one| delta(&one)).sum();
                if !(before + least - undone..=before + most + twice).contains(&found) {
                    return Err(format!(
                        "{} counted {found}, not {least} to {most}\n{}",
                        key.escape_ascii(),
                        self.history(key)
                    ));
                }
            }
            if key.starts_with(b"last") {
                let holder = of_key.iter().find(|one| one.command[2] == text[..]);
                let is_answered = of_key.iter().any(|one| one.acknowledged.is_some());
                if self.options.is_filled && text == filling::BASE && !is_answered {
                    continue;
                }
                let Some(holder) = holder else {
                    return Err(format!("{} has a value nobody wrote", key.escape_ascii()));
                };
                let ended = holder.acknowledged.unwrap_or(u64::MAX);
                // Clocks are off by milliseconds.
                let lost = of_key.iter().find(|one| {
                    one.acknowledged.is_some()
                        && holder.version < one.version
                        && ended.saturating_add(10_000) < one.began
                });
                if let Some(lost) = lost {
                    return Err(format!(
                        "{}: {:?} was lost to the older {:?}\n{}",
                        key.escape_ascii(),
                        lost,
                        holder,
                        self.history(key)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The key of a snapshot.
pub fn told_key(bytes: &[u8]) -> Option<Bytes> {
    let record = decode(Bytes::copy_from_slice(bytes)).expect("a record");
    match record.body {
        Some(v1::record::Body::Snapshot(snapshot)) => Some(snapshot.key),
        _ => None,
    }
}
