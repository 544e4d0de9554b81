//! What is done from time to time.

use super::*;

impl<T: Target> Driver<T> {
    pub(super) async fn timers(&mut self) -> Result<(), TargetError> {
        let now = Instant::now();
        if self.timers.checkpoint <= now {
            let next = now + CHECKPOINT;
            // The first one says what whoever leads next has to read again.
            if self.is_kept {
                self.timers.checkpoint = next;
            }
            self.note_clocks();
            self.checkpoint().await?;
            self.timers.checkpoint = next;
            self.is_kept = true;
        }
        // What was read may be what has just been kept: not to be told before.
        if self.timers.progress <= now {
            self.timers.progress = now + self.options.progress_interval;
            self.tell_progress().await;
            self.renew().await?;
        }
        if self.timers.housekeeping <= now {
            self.timers.housekeeping = now + HOUSEKEEPING;
            self.engine.bury(WRITER_SILENCE);
            self.retry_letters().await?;
            self.look_for_requests().await?;
            self.forget();
        }
        Ok(())
    }

    /// Forgets keys whose changes all sources are past. Those of a source that is
    /// away are not known, so nothing is forgotten until there is too much.
    pub(super) fn forget(&mut self) {
        let is_full = self.options.key_versions_max < self.engine.keys.len();
        self.heed_progress();
        let is_any_unread = !self.closed.is_empty() || self.behind().is_some();
        if is_any_unread && !is_full {
            return;
        }
        let oldest = milliseconds(self.oldest()).min(self.now_ms());
        self.engine
            .forget(oldest.saturating_sub(self.options.remembered_ms) << COUNTER_BITS);
        if self.options.key_versions_max < self.engine.keys.len() {
            let recent = self.now_ms().saturating_sub(self.options.remembered_ms);
            self.engine.forget(recent << COUNTER_BITS);
            if !self.is_full {
                self.is_full = true;
                tracing::warn!(
                    namespace = self.options.namespace,
                    keys = self.options.key_versions_max,
                    "more keys change than are remembered while a source is behind: a change of it \
                     that is older than one that was applied may be applied over it"
                );
            }
        }
    }

    /// Commits progress that came without a transaction, and renews the lease.
    pub(super) async fn checkpoint(&mut self) -> Result<(), TargetError> {
        let mut counts = vec![0; self.inlets.len()];
        let mut any = self.engine.own_flushed;
        for (_, inlet, _) in &mut self.inlets {
            any |= inlet.take_dirty();
        }
        self.engine.own_flushed |= any;
        let mut checkpoints = self.checkpoints(&counts);
        checkpoints.extend(self.bootstrap.to_keep());
        checkpoints.push(self.horizon_to_keep());
        counts.clear();
        self.target.watch(&[]).await?;
        match self.target.commit(&[], &checkpoints).await? {
            Committed::Done(_) => {
                self.renewed = Instant::now();
                self.acknowledge();
                self.bootstrap.is_kept();
                Ok(())
            }
            Committed::Raced | Committed::Refused(..) => Err(TargetError::Superseded),
        }
    }

    /// Renews the lease if something has taken long.
    pub(super) async fn renew(&mut self) -> Result<(), TargetError> {
        match RENEWAL <= self.renewed.elapsed() {
            true => self.checkpoint().await,
            false => Ok(()),
        }
    }

    /// Lets journals remove what a restart would not read.
    pub(super) fn acknowledge(&self) {
        for (feed, inlet, _) in &self.inlets {
            feed.acknowledge(inlet.checkpoint_after(0).resume);
        }
        if self.now_ms() < milliseconds(self.engine.horizon()) + 3 * self.options.remembered_ms {
            self.own.iter().for_each(|feed| feed.acknowledge(feed.next));
        }
    }

    /// Of each source, all partitions together.
    pub(super) fn measure(&mut self) {
        let now = Instant::now();
        if now < self.timers.measure {
            return;
        }
        self.timers.measure = now + MEASURE;
        let now_ms = self.now_ms();
        let mut sources: HashMap<&str, Measured> = HashMap::new();
        for (feed, inlet, _) in &self.inlets {
            let source = sources.entry(&feed.name).or_default();
            let hlc_ms = milliseconds(inlet.hlc());
            if hlc_ms > 0 {
                source.lag_ms = source.lag_ms.max(now_ms.saturating_sub(hlc_ms));
                source.skew_ms = source.skew_ms.max(hlc_ms.saturating_sub(now_ms));
            }
            source.records += inlet.queue.len();
            source.is_down |= feed.problem().is_some();
        }
        // Other journals of the own region.
        let own = self.own.iter();
        for feed in own.filter(|feed| feed.name != self.options.region) {
            sources.entry(&feed.name).or_default().is_down |= feed.problem().is_some();
        }
        for (name, found) in sources {
            let metrics = self.metrics.source(name);
            metrics.lag.set(found.lag_ms as f64 / 1e3);
            metrics.skew.set(found.skew_ms as f64 / 1e3);
            metrics.lag_records.set(found.records as f64);
            metrics.up.set(f64::from(u8::from(!found.is_down)));
        }
    }

    /// Who stands by is not behind.
    pub(super) fn measure_nothing(&self) {
        for source in &self.options.sources {
            let metrics = self.metrics.source(&source.name);
            metrics.up.set(1.0);
            for gauge in [metrics.lag, metrics.skew, metrics.lag_records] {
                gauge.set(0.0);
            }
        }
    }
}

/// What is measured of a source.
#[derive(Default)]
struct Measured {
    lag_ms: u64,
    skew_ms: u64,
    records: usize,
    is_down: bool,
}
