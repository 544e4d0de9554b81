//! A simulated datastore as a replicator reaches it: with delays, and at times
//! not at all.

use std::cell::RefCell;
use std::rc::Rc;

use wal_sidecar::replication::engine::Command;
use wal_sidecar::replication::target::{Committed, DatabaseKey, Page, Target, TargetError, Value};

use super::random::Random;
use super::store::{Reply, Store};

pub struct SimulatedTarget {
    pub store: Rc<RefCell<Store>>,
    pub random: Random,
    pub holder: u64,
    pub now_ms: Rc<dyn Fn() -> u64>,
    /// How often of a thousand a call fails.
    pub failures: u64,
    pub watched: Vec<(Vec<u8>, u64)>,
    /// What the next commit watches, and what the last one has, if nothing came
    /// since.
    pub watch_after: Vec<DatabaseKey>,
    pub was_watched: Vec<DatabaseKey>,
    pub lease_ms: u64,
}

impl SimulatedTarget {
    async fn delay(&mut self) -> Result<(), TargetError> {
        self.was_watched.clear();
        let delay = self.random.micros(400);
        tokio::time::sleep(delay).await;
        match self.random.permille(self.failures) {
            true => Err(TargetError::Away("the link is cut".to_owned())),
            false => Ok(()),
        }
    }

    fn watch_now(&mut self, keys: &[DatabaseKey]) {
        let store = self.store.borrow();
        let changes = |key: &[u8]| store.changes.get(key).copied().unwrap_or(0);
        let watched = keys.iter().map(|(_, key)| (key.to_vec(), changes(key)));
        self.watched = watched.collect();
    }

    fn is_leading(&self) -> bool {
        let lease = self.store.borrow().lease;
        lease.is_some_and(|(holder, until)| holder == self.holder && (self.now_ms)() < until)
    }
}

impl Target for SimulatedTarget {
    async fn lead(&mut self) -> Result<bool, TargetError> {
        self.delay().await?;
        let now = (self.now_ms)();
        let mut store = self.store.borrow_mut();
        let is_free = store
            .lease
            .is_none_or(|(holder, until)| holder == self.holder || until <= now);
        if is_free {
            store.lease = Some((self.holder, now + self.lease_ms));
        }
        Ok(is_free)
    }

    async fn resign(&mut self) {
        if self.is_leading() {
            self.store.borrow_mut().lease = None;
        }
    }

    async fn load(&mut self) -> Result<Vec<(String, String)>, TargetError> {
        self.delay().await?;
        Ok(self
            .store
            .borrow()
            .checkpoints
            .clone()
            .into_iter()
            .collect())
    }

    fn watch_after(&mut self, keys: Vec<DatabaseKey>) {
        self.watch_after = keys;
    }

    async fn watch(&mut self, keys: &[DatabaseKey]) -> Result<(), TargetError> {
        if !keys.is_empty() && self.was_watched == keys {
            return Ok(());
        }
        self.delay().await?;
        if !self.is_leading() {
            return match self.lead().await? {
                true => Err(TargetError::Away("the lease had run out".to_owned())),
                false => Err(TargetError::Superseded),
            };
        }
        self.watch_now(keys);
        self.delay().await
    }

    async fn commit(
        &mut self,
        commands: &[Command],
        checkpoints: &[(String, String)],
    ) -> Result<Committed, TargetError> {
        let next = std::mem::take(&mut self.watch_after);
        self.delay().await?;
        if !self.is_leading() {
            return Ok(Committed::Raced);
        }
        let mut refused = Vec::new();
        {
            let mut store = self.store.borrow_mut();
            let is_raced = self
                .watched
                .iter()
                .any(|(key, changes)| store.changes.get(key).copied().unwrap_or(0) != *changes);
            self.watched.clear();
            if is_raced {
                return Ok(Committed::Raced);
            }
            for (index, command) in commands.iter().enumerate() {
                if let Reply::Error(error) = store.execute("replicator", &command.arguments) {
                    refused.push((index, error));
                }
            }
            store.checkpoints.extend(checkpoints.iter().cloned());
            store.lease = Some((self.holder, (self.now_ms)() + self.lease_ms));
        }
        self.watch_now(&next);
        self.delay().await?;
        self.was_watched = next;
        Ok(Committed::Done(refused))
    }

    async fn read(&mut self, keys: &[DatabaseKey]) -> Result<Vec<Value>, TargetError> {
        self.delay().await?;
        let values = {
            let store = self.store.borrow();
            let value = |(_, key): &DatabaseKey| match store.dump(key) {
                Some((bytes, expires_at_ms)) => Value {
                    bytes: Some(bytes),
                    expires_at_ms,
                },
                None => Value {
                    bytes: None,
                    expires_at_ms: 0,
                },
            };
            keys.iter().map(value).collect()
        };
        self.delay().await?;
        Ok(values)
    }

    async fn empty(&mut self) -> Result<bool, TargetError> {
        Ok(false)
    }

    async fn scan(&mut self, place: &str) -> Result<Page, TargetError> {
        const KEYS: usize = 3;
        self.delay().await?;
        let store = self.store.borrow();
        let from = place.as_bytes().to_vec();
        let mut found = store.keys.range(from..).map(|(key, _)| key.clone());
        let keys: Vec<_> = found.by_ref().take(KEYS).collect();
        Ok(Page {
            next: found
                .next()
                .map(|key| String::from_utf8_lossy(&key).into_owned()),
            keys: keys.into_iter().map(|key| (0, key.into())).collect(),
        })
    }

    async fn count(&mut self) -> Result<u64, TargetError> {
        self.delay().await?;
        Ok(self.store.borrow().keys.len() as u64)
    }

    async fn asked(&mut self) -> Result<Option<String>, TargetError> {
        self.delay().await?;
        Ok(self.store.borrow().asked.clone())
    }

    async fn take_keys(&mut self, _count: usize) -> Result<Vec<DatabaseKey>, TargetError> {
        Ok(Vec::new())
    }
}
