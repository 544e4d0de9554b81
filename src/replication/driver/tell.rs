//! Tells all regions what a key's value is, and how far this one has come.

use std::collections::HashMap;

use super::super::engine::Due;
use super::super::target::{DatabaseKey, Target, TargetError};
use super::super::version::Version;
use super::{Driver, applied_of, included_for};
use crate::mutation::v1;

/// Keys that are told at once.
const KEYS_MAX: usize = 128;

impl<T: Target> Driver<T> {
    /// Reads the keys that are due and puts their values into the own journal;
    /// whether there were any.
    ///
    /// Nothing is applied between the reading and the record's version, so the
    /// value includes exactly what has been applied. A change of the own region
    /// that comes up before the record does has the key told again.
    pub(super) async fn tell_due(&mut self) -> Result<bool, TargetError> {
        if self.engine.due.is_empty() {
            return Ok(false);
        }
        self.catch_up().await;
        let due = self.engine.take_due(KEYS_MAX);
        if due.is_empty() {
            return Ok(false);
        }
        let keys: Vec<DatabaseKey> = due
            .iter()
            .map(|one| (one.database, one.key.clone()))
            .collect();
        let values = match self.target.read(&keys).await {
            Ok(values) => values,
            Err(error) => {
                due.into_iter().for_each(|one| self.engine.put_back(one));
                return Err(error);
            }
        };
        let now_ms = self.now_ms();
        let partitions = self.options.own.partitions().max(1);
        for (one, value) in due.iter().zip(values) {
            let partition = partition_of(&one.key, partitions);
            let mut included = included_for(&self.own, &self.inlets, &self.closed, partition);
            self.engine.merge_included(one, &mut included);
            let written = self.engine.written(one);
            let newest = match self.engine.newest(one) {
                known if known == Version::default() => self.engine.floor(),
                known => known,
            };
            let snapshot = v1::Snapshot {
                key: one.key.clone(),
                value: value.bytes,
                expires_at: value.expires_at_ms,
                content_hlc: newest.hlc,
                content_writer: newest.writer,
                written_hlc: written.hlc,
                written_writer: written.writer,
                applied: applied_of(&self.engine.names, &included, partition),
            };
            let hlc = self.outlet.snapshot(now_ms, one.database, &snapshot);
            let record = (hlc, self.outlet.id());
            let floor = self.engine.floor();
            self.engine.told(one, record, floor, included);
            self.metrics.snapshot(one.reason);
        }
        if let Err(error) = self.outlet.append().await {
            tracing::warn!(
                namespace = self.options.namespace, %error,
                "the journal does not take snapshots; trying again"
            );
            due.into_iter()
                .for_each(|one: Due| self.engine.put_back(one));
        }
        Ok(true)
    }

    /// Writes how far other regions' journals are applied, if that has changed.
    pub(super) async fn tell_progress(&mut self) {
        let mut applied: HashMap<(String, u32), u64> = HashMap::new();
        for (feed, inlet, _) in &self.inlets {
            applied.insert((feed.region.clone(), feed.partition), inlet.applied);
        }
        let told = &mut self.told;
        let copying = self.bootstrap.is_running();
        let is_new = *told != applied || self.bootstrap.said != Some(copying);
        if !is_new {
            return;
        }
        self.told.clone_from(&applied);
        let now_ms = self.now_ms();
        self.outlet.progress(now_ms, &applied, copying);
        self.bootstrap.said = Some(copying);
        if let Err(error) = self.outlet.append().await {
            self.told.clear();
            self.bootstrap.said = None;
            tracing::debug!(%error, "progress was not journaled");
        }
    }
}

/// Where Java's producers put a key.
fn partition_of(key: &[u8], partitions: u32) -> u32 {
    if partitions == 1 {
        return 0;
    }
    (murmur2(key) & 0x7fff_ffff) % partitions
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let chunks = data.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own test of its hash function.
    #[test]
    fn keys_are_hashed_as_by_kafka() {
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }
}
