//! One of two datastores that are compared.

use super::super::target::memcached::Memcached;
use super::super::target::redis::Redis;
use super::super::target::{DatabaseKey, Page, Target as _, TargetError, Value};
use super::content::{self, Content};

/// Values that are read at once; fewer where they are large.
const AT_ONCE: usize = 256;

/// So many bytes of them are too many, so many are few.
const BYTES_MAX: usize = 16 << 20;
const BYTES_FEW: usize = 4 << 20;

/// A datastore.
enum Store {
    Redis(Redis),
    Memcached(Memcached),
}

/// See the module.
pub struct Side {
    store: Store,
    at_once: usize,
}

impl Side {
    /// Redis, Valkey.
    pub fn redis(store: Redis) -> Side {
        Side {
            store: Store::Redis(store),
            at_once: AT_ONCE / 4,
        }
    }

    /// Servers of memcached.
    pub fn memcached(store: Memcached) -> Side {
        Side {
            store: Store::Memcached(store),
            at_once: AT_ONCE / 4,
        }
    }

    /// How many keys there are, about.
    pub async fn count(&mut self) -> Result<u64, TargetError> {
        match &mut self.store {
            Store::Redis(store) => store.count().await,
            Store::Memcached(store) => store.count().await,
        }
    }

    pub(super) async fn scan(&mut self, place: &str) -> Result<Page, TargetError> {
        match &mut self.store {
            Store::Redis(store) => store.scan(place).await,
            Store::Memcached(store) => store.scan(place).await,
        }
    }

    /// How many values are to be read at once.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }

    pub(super) async fn read(&mut self, keys: &[DatabaseKey]) -> Result<Vec<Value>, TargetError> {
        let values = match &mut self.store {
            Store::Redis(store) => store.read(keys).await?,
            Store::Memcached(store) => store.read(keys).await?,
        };
        let bytes: usize = values
            .iter()
            .flat_map(|one| &one.bytes)
            .map(|one| one.len())
            .sum();
        self.at_once = match bytes {
            BYTES_MAX.. => (self.at_once / 4).max(1),
            ..BYTES_FEW => (self.at_once * 2).min(AT_ONCE),
            _ => self.at_once,
        };
        Ok(values)
    }

    pub(super) async fn exist(&mut self, keys: &[DatabaseKey]) -> Result<Vec<bool>, TargetError> {
        match &mut self.store {
            Store::Redis(store) => store.exist(keys).await,
            Store::Memcached(store) => store.exist(keys).await,
        }
    }

    /// What a key holds. Of memcached `value` tells that.
    pub(super) async fn content(
        &mut self,
        key: &DatabaseKey,
        value: &Value,
    ) -> Result<Content, TargetError> {
        match &mut self.store {
            Store::Redis(store) => content::read(store, key, value).await,
            Store::Memcached(_) => Ok(content::of_memcached(value)),
        }
    }
}
