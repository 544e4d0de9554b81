//! Tells all regions what a key's value is, and how far this one has come.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::engine::{Due, Reason};
use super::super::target::{DatabaseKey, Target, TargetError};
use super::{APPEND_PAUSE, Driver};
use crate::journal::AppendError;
use crate::mutation::v1;

/// A value that the journal has refused by itself is offered again after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Keys that are told at once.
const KEYS_MAX: usize = 128;

impl<T: Target> Driver<T> {
    /// Reads the keys that are due and puts their values into the own journal;
    /// whether there were any.
    ///
    /// Nothing is applied between the reading and the record's version, so the
    /// value includes exactly what has been applied, and of the own region's
    /// changes those that were known before it was read: a key that another came
    /// up of since is read again. If that goes on and on it is told as it is, and
    /// once more later, as after any change that comes up before the record does.
    ///
    /// Where a part of the own journal can't be read, a value has perhaps more than
    /// would be named, and whoever takes it counts that twice: it is waited for.
    pub(super) async fn tell_due(&mut self) -> Result<bool, TargetError> {
        if self.engine.due.is_empty() || Instant::now() < self.append_at {
            return Ok(false);
        }
        self.catch_up().await;
        if !self.is_exact() {
            return Ok(false);
        }
        let due = self.engine.take_due(self.told_at_once);
        if due.is_empty() {
            return Ok(false);
        }
        let keys: Vec<DatabaseKey> = due
            .iter()
            .map(|one| (one.database, one.key.clone()))
            .collect();
        let values = match self.target.read(&keys).await {
            Ok(values) => values,
            Err(TargetError::Refused(reason)) => {
                self.narrow_due(due, &reason);
                return Ok(true);
            }
            Err(error) => {
                due.into_iter()
                    .for_each(|one| self.engine.put_back(one, Duration::ZERO));
                return Err(error);
            }
        };
        self.engine.now = self.started.elapsed();
        for (database, key) in &keys {
            self.engine.touch_told(*database, key);
        }
        let applied = self.included();
        // All that had been executed when the values were read is known after this.
        self.catch_up().await;
        if !self.is_exact() {
            due.into_iter()
                .for_each(|one| self.engine.put_back(one, Duration::ZERO));
            return Ok(false);
        }
        let now_ms = self.now_ms();
        let mut told = Vec::with_capacity(due.len());
        for (one, value) in due.into_iter().zip(values) {
            let Some(one) = self.engine.unless_changed(one) else {
                continue;
            };
            let included = self.engine.merge_included(&one, &applied);
            let written = self.engine.written(&one);
            let newest = self.engine.newest(&one, self.engine.floor());
            let snapshot = v1::Snapshot {
                key: one.key.clone(),
                value: value.bytes,
                expires_at: value.expires_at_ms,
                content_hlc: newest.hlc,
                content_writer: newest.writer,
                written_hlc: written.hlc,
                written_writer: written.writer,
                applied: self.applied_of(&included),
            };
            let hlc = self.outlet.snapshot(now_ms, one.database, &snapshot);
            let record = (hlc, self.outlet.id());
            let floor = self.engine.floor();
            self.engine.told(&one, record, floor, included);
            self.metrics.snapshot(one.reason);
            told.push(one);
        }
        self.renew().await?;
        let Err(error) = self.outlet.append().await else {
            self.told_at_once = (self.told_at_once * 2).min(KEYS_MAX);
            return Ok(true);
        };
        // One that is too long fails those it is with: by itself it fails alone.
        let was_alone = self.told_at_once == 1;
        self.told_at_once = 1;
        let mut delay = Duration::ZERO;
        if was_alone {
            self.append_at = Instant::now() + APPEND_PAUSE;
            if matches!(error, AppendError::NotAppended(_)) {
                delay = REFUSED_PAUSE;
            }
            for one in &told {
                tracing::warn!(
                    namespace = self.options.namespace, key = %one.key.escape_ascii(), %error,
                    "the journal does not take a key's value; trying again"
                );
            }
        }
        for one in told {
            self.engine.put_back(one, delay);
        }
        Ok(true)
    }

    /// The datastore refuses to give one of several values: they are asked for one by
    /// one, and the one it is again after a while.
    fn narrow_due(&mut self, due: Vec<Due>, reason: &str) {
        let delay = match &due[..] {
            [one] if one.reason == Reason::Bootstrap => {
                tracing::warn!(
                    namespace = self.options.namespace, key = %one.key.escape_ascii(), reason,
                    "a key's value can't be read; it is not copied"
                );
                self.engine.leave_out(one);
                return;
            }
            [one] => {
                tracing::warn!(
                    namespace = self.options.namespace, key = %one.key.escape_ascii(), reason,
                    "a key's value can't be read, so that other regions are not told; trying \
                     again in a minute"
                );
                REFUSED_PAUSE
            }
            _ => {
                self.told_at_once = 1;
                Duration::ZERO
            }
        };
        due.into_iter()
            .for_each(|one| self.engine.put_back(one, delay));
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
        if !is_new || Instant::now() < self.append_at {
            return;
        }
        self.told.clone_from(&applied);
        let now_ms = self.now_ms();
        self.outlet.progress(now_ms, &applied, copying);
        self.bootstrap.said = Some(copying);
        if let Err(error) = self.outlet.append().await {
            self.told.clear();
            self.append_at = Instant::now() + APPEND_PAUSE;
            self.bootstrap.said = None;
            tracing::debug!(%error, "progress was not journaled");
        }
    }
}
