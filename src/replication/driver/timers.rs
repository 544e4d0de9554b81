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

    /// What has a later clock waits until its time has come.
    pub(super) fn clock_max(&self) -> u64 {
        (self.now_ms() + self.options.clock_skew_max.as_millis() as u64) << COUNTER_BITS
    }

    /// Tells of a source that its changes wait as their clocks are too far ahead; once,
    /// until nothing that was read of it is.
    fn tell_held(&mut self) {
        let (clock_max, now_ms) = (self.clock_max(), self.now_ms());
        for at in 0..self.inlets.len() {
            let (feed, inlet, _) = &mut self.inlets[at];
            inlet.is_held &= clock_max < feed.newest_hlc;
            if inlet.is_held || feed.newest_hlc <= clock_max {
                continue;
            }
            let waiting = inlet.queue.iter().filter(|one| one.change.is_some());
            let mut clocks = waiting.map(|one| one.hlc);
            let Some(hlc) = clocks.find(|hlc| clock_max < *hlc) else {
                continue;
            };
            let source = feed.name.clone();
            let mut all = self.inlets.iter();
            let is_told = all.any(|(feed, inlet, _)| inlet.is_held && feed.name == source);
            self.inlets[at].1.is_held = true;
            if !is_told {
                tracing::warn!(
                    namespace = self.options.namespace,
                    source,
                    ahead_ms = milliseconds(hlc).saturating_sub(now_ms),
                    "the clock of a source is ahead by more than clock_skew_max; its changes \
                     wait until their time has come"
                );
            }
        }
    }

    /// Of each source, all partitions together.
    pub(super) fn measure(&mut self) {
        let now = Instant::now();
        if now < self.timers.measure {
            return;
        }
        self.timers.measure = now + MEASURE;
        self.tell_held();
        feed::hear_ends(self.inlets.iter().map(|(feed, _, _)| feed));
        let now_ms = self.now_ms();
        let mut sources: HashMap<&str, Measured> = HashMap::new();
        for (feed, inlet, _) in &self.inlets {
            let source = sources.entry(&feed.name).or_default();
            source.note_clock(inlet.hlc(), now_ms);
            source.records += feed.end_heard().saturating_sub(inlet.cleared());
            source.is_down |= feed.problem().is_some();
        }
        // Of partitions that can't be read yet it is known how far they are applied.
        for source in &self.options.sources {
            if source.region == self.options.region || self.is_open(source) {
                continue;
            }
            let found = sources.entry(&source.name).or_default();
            found.is_down = true;
            let region = self.region(&source.region);
            let closed = self.closed.iter();
            for closed in closed.filter(|one| one.partition.region == region) {
                found.note_clock(closed.hlc, now_ms);
            }
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

    /// Whether all partitions of a source of another region are read.
    fn is_open(&self, source: &Source) -> bool {
        let unopened = self.unopened.get(&source.region);
        let is_whole = unopened.is_none_or(|count| *count == 0);
        let mut read = self.inlets.iter().filter(|one| one.0.name == source.name);
        // Others of the region are perhaps not.
        read.next().is_some_and(|one| is_whole || one.1.is_alone)
    }

    /// Who stands by is not behind, and can't say of any source that it is read.
    pub(super) fn measure_nothing(&self) {
        for source in &self.options.sources {
            let metrics = self.metrics.source(&source.name);
            for gauge in [metrics.up, metrics.lag, metrics.skew, metrics.lag_records] {
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
    records: u64,
    is_down: bool,
}

impl Measured {
    /// Takes account of the oldest record of a partition that is not applied, or the
    /// last one that is; 0 where there was none.
    fn note_clock(&mut self, hlc: u64, now_ms: u64) {
        let hlc_ms = milliseconds(hlc);
        if hlc_ms > 0 {
            self.lag_ms = self.lag_ms.max(now_ms.saturating_sub(hlc_ms));
            self.skew_ms = self.skew_ms.max(hlc_ms.saturating_sub(now_ms));
        }
    }
}
