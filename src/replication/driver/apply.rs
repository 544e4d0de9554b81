//! Applies the next changes of every source in one transaction.

use super::*;

/// A change that is about to be applied.
pub(super) struct Chosen {
    pub(super) inlet: usize,
    /// Its place in the inlet's queue.
    pub(super) at: usize,
}

impl<T: Target> Driver<T> {
    /// The next changes of each source, as many as a transaction may have.
    pub(super) fn choose(&mut self) -> Vec<Chosen> {
        let chosen = self.choose_after(&[]);
        self.next_inlet = self.next_inlet.wrapping_add(1) % self.inlets.len().max(1);
        chosen
    }

    /// Those that come next when so many places of each inlet's queue are done.
    fn choose_after(&self, done: &[usize]) -> Vec<Chosen> {
        let count = self.inlets.len();
        let limit = self.clock_max();
        let mut chosen = Vec::new();
        let mut bytes = 0;
        let share = (self.batch / count.max(1)).max(1);
        for turn in 0..count {
            let inlet = (self.next_inlet + turn) % count;
            let mut changes = 0;
            let queue = self.inlets[inlet].1.queue.iter().enumerate();
            for (at, pending) in queue.skip(done.get(inlet).copied().unwrap_or(0)) {
                let is_full = changes == share || chosen.len() == self.batch.max(1);
                if is_full || BATCH_BYTES <= bytes || limit < pending.hlc {
                    break;
                }
                if let Some(change) = &pending.change {
                    if self.engine.is_flush(change) {
                        // On its own, after what was before it.
                        if chosen.is_empty() {
                            return vec![Chosen { inlet, at }];
                        }
                        break;
                    }
                    bytes += pending.bytes;
                    changes += 1;
                    chosen.push(Chosen { inlet, at });
                }
            }
        }
        chosen
    }

    pub(super) async fn apply(&mut self, chosen: Vec<Chosen>) -> Result<(), TargetError> {
        let racing = match self.prepare(&chosen).await {
            Ok(Some(racing)) => racing,
            Ok(None) => return Ok(()),
            Err(TargetError::Refused(reason)) => return self.narrow(&chosen, &reason).await,
            Err(error) => return Err(error),
        };
        self.engine.begin();
        let committed = self.decide_and_commit(chosen, racing).await;
        if !matches!(committed, Ok(Committed::Done(_))) {
            self.engine.rollback();
        }
        committed.map(|_| ())
    }

    /// Has the keys of what was chosen watched, but for those that race, which are
    /// returned; none where it is not to be applied now.
    async fn prepare(
        &mut self,
        chosen: &[Chosen],
    ) -> Result<Option<Vec<DatabaseKey>>, TargetError> {
        if !self.flush(chosen).await? {
            return Ok(None);
        }
        let mut keys = self.keys_of(chosen);
        let racing = match self.options.races_max <= self.races {
            true => {
                let is_stuck = STUCK * self.options.races_max <= self.races;
                let values = self.keys_of_values(chosen);
                let held = if is_stuck { &[] } else { &values[..] };
                self.engine.take_racing(&mut keys, held)
            }
            false => Vec::new(),
        };
        self.target.watch(&keys).await?;
        self.catch_up().await;
        Ok(Some(racing))
    }

    /// One of several changes has keys that the datastore refuses to watch: they are
    /// tried one by one, and the one it is is not applied.
    async fn narrow(&mut self, chosen: &[Chosen], reason: &str) -> Result<(), TargetError> {
        match chosen {
            [one] => self.bury_change(one, reason).await,
            _ => {
                self.batch = 1;
                // Sources take turns.
                self.singles = chosen.len() * self.inlets.len();
                Ok(())
            }
        }
    }

    pub(super) async fn decide_and_commit(
        &mut self,
        mut chosen: Vec<Chosen>,
        racing: Vec<DatabaseKey>,
    ) -> Result<Committed, TargetError> {
        let mut commands: Vec<Command> = Vec::new();
        // Of each change: where its commands end.
        let mut decisions: Vec<(usize, Decision)> = Vec::with_capacity(chosen.len());
        // A change that has to wait keeps back what comes after it.
        let mut waiting = vec![false; self.inlets.len()];
        chosen.retain(|one| {
            let pending = &self.inlets[one.inlet].1.queue[one.at];
            let Some(change) = pending.change.as_ref().filter(|_| !waiting[one.inlet]) else {
                return false;
            };
            let mut decision = match self.engine.passes_over(change, &racing) {
                true => Decision::default(),
                false => self.engine.decide(change),
            };
            if decision.waits {
                waiting[one.inlet] = true;
                return false;
            }
            commands.append(&mut decision.commands);
            decisions.push((commands.len(), decision));
            true
        });
        if chosen.is_empty() {
            tokio::time::sleep(WAIT).await;
            return Ok(Committed::Raced);
        }
        let chosen = &chosen[..];
        self.engine.are_unwatched(&racing);
        for (database, key) in &racing {
            self.engine.tell_surely(*database, key, Reason::Conflict);
        }
        let counts = self.counts(chosen);
        let checkpoints = self.checkpoints(&counts);
        if self.races == 0 {
            let next = self.keys_of(&self.choose_after(&counts));
            self.target.watch_after(next);
        }
        let committed = self.target.commit(&commands, &checkpoints).await?;
        match &committed {
            Committed::Raced => {
                self.metrics.races.increment(1);
                self.races += 1;
                self.engine.raced();
                if self.races.is_multiple_of(RACES_SMALLER) {
                    self.batch = (self.batch / 4).max(1);
                }
            }
            Committed::Refused(index, reason) => {
                let at = decisions.partition_point(|(end, _)| end <= index);
                self.bury_change(&chosen[at], reason).await?;
            }
            Committed::Done(refused) => {
                self.renewed = Instant::now();
                // What has raced so often goes on racing: it is tried less often.
                self.races = match racing.is_empty() {
                    true => 0,
                    false => self.options.races_max / 2,
                };
                if self.races == 0 {
                    self.engine.is_not_racing();
                }
                self.batch = match self.singles {
                    0 => (self.batch * 2).min(self.options.batch_records),
                    _ => 1,
                };
                self.singles = self.singles.saturating_sub(1);
                let mut lost: Vec<v1::Letter> = Vec::new();
                for (index, reason) in refused {
                    let at = decisions.partition_point(|(end, _)| end <= index);
                    let (one, command) = (&chosen[at], &commands[*index]);
                    lost.extend(self.refused(one, command, reason).await);
                }
                for (one, (_, decision)) in chosen.iter().zip(decisions) {
                    lost.extend(self.conflict(one, &decision.lost));
                    let metrics = &self.inlets[one.inlet].2;
                    metrics.skipped.increment(decision.older);
                    metrics.conflicts.increment(decision.lost.len() as u64);
                    self.engine.done(decision);
                }
                self.keep_conflicts(&lost).await;
                for (at, count) in counts.iter().enumerate() {
                    let (_, inlet, metrics) = &mut self.inlets[at];
                    inlet.complete(*count);
                    inlet.take_dirty();
                    metrics.applied.increment(*count as u64);
                }
                self.engine.commit();
            }
        }
        Ok(committed)
    }

    /// Of each inlet: how many places of its queue the chosen changes take.
    pub(super) fn counts(&self, chosen: &[Chosen]) -> Vec<usize> {
        let mut counts = vec![0; self.inlets.len()];
        for one in chosen {
            counts[one.inlet] = counts[one.inlet].max(one.at + 1);
        }
        counts
    }

    pub(super) fn checkpoints(&mut self, counts: &[usize]) -> Vec<(String, String)> {
        // Who emptied the datastore has emptied it of these too.
        let all = std::mem::take(&mut self.engine.own_flushed);
        let mut checkpoints = Vec::new();
        for ((feed, inlet, _), count) in self.inlets.iter().zip(counts) {
            if *count > 0 || all {
                checkpoints.push((
                    checkpoint_name(&feed.region, feed.partition),
                    inlet.checkpoint_after(*count).format(),
                ));
            }
        }
        // What can't be read as a checkpoint is none.
        checkpoints.extend(self.retired.drain(..).map(|name| (name, String::new())));
        checkpoints
    }

    pub(super) fn keys_of(&self, chosen: &[Chosen]) -> Vec<DatabaseKey> {
        let is_plain = self.engine.is_plain();
        let mut keys = Vec::new();
        for one in chosen {
            let pending = &self.inlets[one.inlet].1.queue[one.at];
            if let Some(change) = &pending.change {
                self.engine.each_key(change, |database, key| {
                    // Nothing is done to others.
                    if is_plain || self.engine.is_taken(&key) {
                        keys.push((database, key));
                    }
                });
            }
        }
        keys
    }

    /// Those whose values are told.
    fn keys_of_values(&self, chosen: &[Chosen]) -> Vec<DatabaseKey> {
        let changes = chosen
            .iter()
            .filter_map(|one| self.inlets[one.inlet].1.queue[one.at].change.as_ref());
        let of_value = |change: &Change| match &change.body {
            Body::Snapshot(snapshot) => Some((change.database, snapshot.key.clone())),
            Body::Commands(_) => None,
        };
        changes.filter_map(of_value).collect()
    }

    pub(super) async fn apply_again(&mut self) -> Result<bool, TargetError> {
        let again = self.engine.take_again();
        if again.is_empty() {
            return Ok(false);
        }
        let keys: Vec<DatabaseKey> = again
            .iter()
            .map(|one| (one.command.database, one.key.clone()))
            .collect();
        let watched = self.target.watch(&keys).await;
        if let Err(TargetError::Refused(_)) = &watched {
            self.sift_again(again).await?;
            return Ok(true);
        }
        if watched.is_ok() {
            self.catch_up().await;
        }
        let can_know = watched.is_ok() && !self.engine.is_inexact;
        let (ready, mut late): (Vec<_>, Vec<_>) = again
            .into_iter()
            .partition(|one| can_know && self.engine.is_newest(one));
        let commands: Vec<Command> = ready.iter().map(|one| one.command.clone()).collect();
        let committed = match &watched {
            Ok(()) => self.target.commit(&commands, &[]).await,
            Err(error) => Err(error.clone()),
        };
        if let Ok(Committed::Refused(index, reason)) = &committed {
            let mut ready = ready;
            let one = ready.swap_remove(*index);
            self.give_up_again(&one, reason);
            late.extend(ready);
            late.into_iter()
                .for_each(|one| self.engine.again_later(one));
            return Ok(true);
        }
        if !matches!(committed, Ok(Committed::Done(_))) {
            late.extend(ready);
        }
        for one in late {
            self.engine.again_later(one);
        }
        committed.map(|_| true)
    }

    /// The datastore refuses to watch one of several keys: those it does not are made
    /// again later.
    async fn sift_again(&mut self, again: Vec<Again>) -> Result<(), TargetError> {
        let mut again = again.into_iter();
        while let Some(one) = again.next() {
            let key = (one.command.database, one.key.clone());
            match self.target.watch(&[key]).await {
                Ok(()) => self.engine.again_later(one),
                Err(TargetError::Refused(reason)) => self.give_up_again(&one, &reason),
                Err(error) => {
                    self.engine.again_later(one);
                    again.for_each(|one| self.engine.again_later(one));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What was applied once can't be made again: what its key holds counts.
    fn give_up_again(&mut self, one: &Again, reason: &str) {
        tracing::warn!(
            namespace = self.options.namespace,
            key = %one.key.escape_ascii(),
            reason,
            "a change can't be made again; its key's value is told"
        );
        self.engine
            .tell_surely(one.command.database, &one.key, Reason::Conflict);
    }
}
