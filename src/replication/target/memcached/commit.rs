//! Writes what a transaction comes to.

use super::writes::{Write, Writes, writes};
use super::{Memcached, OWN_ZONE, READ_MAX, Seen, condition, seen};
use crate::datastore::cache::{Condition, Item, Said};
use crate::replication::engine::Command;
use crate::replication::target::TargetError;

impl Memcached {
    /// Executes commands: those that were refused, and why. None where a key was
    /// changed since it was watched; what does not concern it may be done.
    pub(super) async fn write(
        &mut self,
        commands: &[Command],
    ) -> Result<Option<Vec<(usize, String)>>, TargetError> {
        let mut writes = writes(commands);
        if !self.read_touched(&mut writes).await? {
            return Ok(None);
        }
        let mut sent = Vec::with_capacity(writes.all.len());
        let mut copied = Vec::new();
        for (place, (key, write, _)) in writes.all.iter().enumerate() {
            let condition = match self.watched.get(key) {
                Some(Seen::Absent) => Condition::Absent,
                Some(Seen::Unique(unique)) => condition(*unique),
                None => Condition::None,
            };
            match write {
                Write::Set(item) => self.cache.set(OWN_ZONE, key, item, condition),
                Write::Delete if condition == Condition::Absent => {
                    // Clients look in other zones for what this one has not.
                    copied.push(place);
                    continue;
                }
                Write::Delete => self.cache.delete(OWN_ZONE, key, condition),
                Write::Touch(_) => continue,
            }
            sent.push(place);
        }
        let replies = self.exchange().await?;
        let mut is_raced = false;
        for (place, reply) in sent.into_iter().zip(replies) {
            let (_, write, cause) = &writes.all[place];
            match (reply.said(), write) {
                (Said::Done, _) | (Said::Absent, Write::Delete) => copied.push(place),
                (Said::Refused, _) => writes.refused.push((*cause, reply.text())),
                _ => is_raced = true,
            }
        }
        self.copy(&writes, &copied).await?;
        Ok((!is_raced).then_some(writes.refused))
    }

    /// Does in the other zones what was done in the own one.
    async fn copy(&mut self, writes: &Writes, places: &[usize]) -> Result<(), TargetError> {
        for zone in OWN_ZONE + 1..self.cache.zones() {
            for place in places {
                let (key, write, _) = &writes.all[*place];
                match write {
                    Write::Set(item) => self.cache.set(zone, key, item, Condition::None),
                    Write::Delete => self.cache.delete(zone, key, Condition::None),
                    Write::Touch(_) => {}
                }
            }
        }
        self.exchange().await.map(drop)
    }

    /// Reads what is touched, and makes that a write of the same value; what is
    /// absent stays a touch, which does nothing. False where something has
    /// changed since it was watched.
    async fn read_touched(&mut self, writes: &mut Writes) -> Result<bool, TargetError> {
        let touched = writes.all.iter_mut();
        let mut touched: Vec<_> = touched
            .filter(|(_, write, _)| matches!(write, Write::Touch(_)))
            .collect();
        for part in touched.chunks_mut(READ_MAX) {
            for (key, ..) in part.iter() {
                self.cache.get(OWN_ZONE, key, "v f c");
            }
            let replies = self.exchange().await?;
            for ((key, write, _), reply) in part.iter_mut().zip(replies) {
                let found = seen(&reply);
                let watched = self.watched.insert(key.clone(), found);
                if watched.is_some_and(|watched| watched != found) {
                    return Ok(false);
                }
                let flags = reply.number(b'f').unwrap_or(0);
                if let (Write::Touch(time), Some(value)) = (&*write, reply.value) {
                    let time = *time;
                    *write = Write::Set(Item { flags, time, value });
                }
            }
        }
        Ok(true)
    }
}
