//! Empties databases, page by page: own clients go on meanwhile.

use bytes::Bytes;

use super::super::engine::{Command, is_own_key};
use super::super::target::{Committed, DatabaseKey, Target, TargetError};
use super::super::version::Version;
use super::{Chosen, Driver, WAIT, v1};

/// Why nothing is deleted.
const UNREAD: &str = "a part of the own journal can't be read";

/// So often listing the keys may fail.
const FAILURES_MAX: u32 = 5;

/// How far the keys are listed that are newer than a flush that was applied before.
#[derive(Default)]
pub(super) struct Outliving {
    place: String,
    failures: u32,
}

impl<T: Target> Driver<T> {
    /// Deletes what goes with a change that is a flush, which is chosen alone;
    /// false if that can't be done yet.
    pub(super) async fn flush(&mut self, chosen: &[Chosen]) -> Result<bool, TargetError> {
        let [one] = chosen else {
            return Ok(true);
        };
        let pending = &self.inlets[one.inlet].1.queue[one.at];
        let Some(change) = pending
            .change
            .as_ref()
            .filter(|one| self.engine.is_flush(one))
        else {
            return Ok(true);
        };
        let change = change.clone();
        self.catch_up().await;
        // What is newer is not deleted, if it is known.
        if self.engine.is_flushing() || !self.is_exact() {
            tokio::time::sleep(WAIT).await;
            return Ok(false);
        }
        for which in self.engine.flushes_of(&change) {
            self.flush_one(which, change.version).await?;
        }
        Ok(true)
    }

    /// Tells what the one that led before had perhaps still to tell after flushes, a
    /// page of keys at a time; whether there was something.
    pub(super) async fn flush_again(&mut self) -> Result<bool, TargetError> {
        if self.engine.flushed_again.is_empty() {
            return Ok(false);
        }
        // There all keys are gone, as those of a cache may be.
        let is_gone = self.options.store == v1::Store::Memcached;
        if !is_gone {
            let page = match self.target.scan(&self.outliving.place).await {
                Ok(page) => page,
                Err(error) => {
                    self.outliving.failures += 1;
                    if FAILURES_MAX <= self.outliving.failures {
                        tracing::warn!(
                            namespace = self.options.namespace,
                            %error,
                            "keys can't be listed; those that are newer than a FLUSHALL are not \
                             told once more"
                        );
                        self.outliving = Outliving::default();
                        self.engine.flushed_again.clear();
                    }
                    return Err(error);
                }
            };
            let flushes: Vec<_> = self.engine.flushed_again.clone().into_iter().collect();
            for (database, key) in page.keys.iter().filter(|(_, key)| !is_own_key(key)) {
                for (which, version) in &flushes {
                    if which.is_none_or(|which| which == *database) {
                        self.engine.outlives(*version, *database, key);
                    }
                }
            }
            if let Some(next) = page.next {
                self.outliving.place = next;
                return Ok(true);
            }
        }
        self.engine.tell_unsettled();
        self.outliving = Outliving::default();
        self.engine.flushed_again.clear();
        Ok(true)
    }

    async fn flush_one(&mut self, which: Option<u32>, version: Version) -> Result<(), TargetError> {
        if !self.target.empty().await? {
            self.flush_pages(which, version).await?;
        }
        // They may be executed only now.
        self.engine.tell_unsettled();
        Ok(())
    }

    async fn flush_pages(
        &mut self,
        which: Option<u32>,
        version: Version,
    ) -> Result<(), TargetError> {
        let mut place = String::new();
        loop {
            let page = self.target.scan(&place).await?;
            let is_meant = |(database, key): &DatabaseKey| {
                which.is_none_or(|which| which == *database) && !is_own_key(key)
            };
            let keys: Vec<DatabaseKey> = page.keys.into_iter().filter(is_meant).collect();
            self.flush_page(&keys, version).await?;
            self.renew().await?;
            match page.next {
                Some(next) => place = next,
                None => return Ok(()),
            }
        }
    }

    async fn flush_page(
        &mut self,
        keys: &[DatabaseKey],
        version: Version,
    ) -> Result<(), TargetError> {
        match self.flush_keys(keys, version).await {
            Err(TargetError::Refused(_)) => {}
            ended => return ended,
        }
        // One of them stays: which, is found by trying.
        for key in keys {
            match self.flush_keys(std::slice::from_ref(key), version).await {
                Err(TargetError::Refused(reason)) => tracing::warn!(
                    namespace = self.options.namespace,
                    key = %key.1.escape_ascii(),
                    reason,
                    "a key outlives a FLUSHALL of another region, as it may not be deleted"
                ),
                ended => ended?,
            }
        }
        Ok(())
    }

    async fn flush_keys(
        &mut self,
        keys: &[DatabaseKey],
        version: Version,
    ) -> Result<(), TargetError> {
        loop {
            let going = self.going(keys, version);
            if going.is_empty() {
                break;
            }
            self.target.watch(&going).await?;
            // What own clients have done is newer.
            self.catch_up().await;
            if !self.is_exact() {
                return Err(TargetError::Busy(UNREAD.to_owned()));
            }
            let delete = |(database, key): DatabaseKey| Command {
                database,
                arguments: vec![Bytes::from_static(b"UNLINK"), key],
            };
            let commands: Vec<Command> =
                self.going(keys, version).into_iter().map(delete).collect();
            match self.target.commit(&commands, &[]).await? {
                Committed::Done(_) => break,
                Committed::Raced => self.metrics.races.increment(1),
                Committed::Refused(_, reason) => return Err(TargetError::Refused(reason)),
            }
        }
        for (database, key) in keys {
            self.engine.outlives(version, *database, key);
        }
        Ok(())
    }

    fn going(&self, keys: &[DatabaseKey], version: Version) -> Vec<DatabaseKey> {
        let goes = |(database, key): &&DatabaseKey| self.engine.goes_with(version, *database, key);
        keys.iter().filter(goes).cloned().collect()
    }
}
