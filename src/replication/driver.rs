//! The loop of one namespace.
//!
//! A cycle takes the next changes of every source and, in this order: watches
//! their keys, reads the own journal to its end, decides, and commits. What the
//! datastore had executed before the keys were watched was in the own journal
//! before, so it is known to the decision; what it executes later makes the
//! commit fail, and the cycle begins again.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::checkpoint::Checkpoint;
use super::engine::{Body, Command, Decision, Engine, Reason, Sabotage};
use super::feed::{Feed, Found, Origin};
use super::inlet::Inlet;
use super::letters::Letters;
use super::metrics::{Metrics, SourceMetrics};
use super::outlet::Outlet;
use super::target::{Committed, DatabaseKey, Target, TargetError};
use super::version::{OWN, RegionId, Version};
use super::{Options, Source};
use crate::mutation::clock::{COUNTER_BITS, milliseconds};
use crate::mutation::{Writer, WriterOptions, v1};

mod letters;
mod tell;

/// Changes that wait to be applied, of one partition.
const QUEUE_MAX: usize = 8192;

/// Bytes of values that one transaction has, about.
const BATCH_BYTES: usize = 4 << 20;

/// How long nothing happens before timers are looked at.
const TICK: Duration = Duration::from_millis(10);

/// The own journal's end is waited for so long; then it is gone on without.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A writer that was not heard of for so long is dead.
const WRITER_SILENCE: Duration = Duration::from_secs(5);

/// The lease is renewed, and what nobody needs is forgotten, this often.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// Progress that came without a transaction is committed after this.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// What is older than all sources by this can't be contradicted any more.
const FORGET_MS: u64 = 60_000;

/// After so many lost races a transaction is made smaller.
const RACES_SMALLER: u32 = 2;

/// After so many a change is applied whoever else changes its keys, and these
/// are told.
const RACES_MAX: u32 = 12;

/// How long a change waits for what is under way.
const WAIT: Duration = Duration::from_millis(2);

/// How old the value of a key is that no change is known of: older than any.
const FLOOR: Version = Version {
    hlc: 1 << COUNTER_BITS,
    writer: 0,
    snapshot: 0,
    teller: 0,
};

/// The first pause after the datastore failed.
const BACKOFF: Duration = Duration::from_millis(20);

/// Why a replicator ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It was told to.
    Asked,
    /// Another one has taken over; it may begin again.
    Superseded,
}

/// Applies the journals of other regions.
pub struct Driver<T> {
    pub(super) options: Options,
    pub(super) target: T,
    pub(super) engine: Engine,
    pub(super) outlet: Outlet,
    /// The own region's journals, by partition.
    own: Vec<Feed>,
    /// The newest sequence of each writer there: what comes again is a copy.
    own_seen: HashMap<(u32, u64), u64>,
    pub(super) inlets: Vec<(Feed, Inlet, SourceMetrics)>,
    /// Partitions of sources that can't be read yet, and how far they are applied.
    pub(super) closed: Vec<(RegionId, u32, u64)>,
    opened: Option<mpsc::UnboundedReceiver<Opened>>,
    openings: Vec<JoinHandle<()>>,
    pub(super) metrics: Metrics,
    letters: Option<Letters>,
    conflicts: Option<Letters>,
    /// What was last written of how far it is.
    told: HashMap<(String, u32), u64>,
    notify: Rc<Notify>,
    started: Instant,
    /// Wall-clock milliseconds at `started`; simulations give their own.
    started_ms: u64,
    next_inlet: usize,
    /// What a transaction is cut down to after races.
    batch: usize,
    races: u32,
    /// Whether the last transaction was executed is not known.
    is_lost: bool,
    /// More keys were changed than are remembered.
    is_full: bool,
    timers: Timers,
    backoff: Duration,
}

struct Timers {
    progress: Instant,
    housekeeping: Instant,
    checkpoint: Instant,
}

/// A partition of a source that can be read.
struct Opened {
    source: Source,
    partition: u32,
    /// Whether it is the only one.
    is_alone: bool,
    /// Where to begin to read.
    from: u64,
    checkpoint: Checkpoint,
}

/// A change that is about to be applied.
struct Chosen {
    inlet: usize,
    /// Its place in the inlet's queue.
    at: usize,
}

impl<T: Target> Driver<T> {
    /// One that has not begun. `now_ms` is milliseconds since the Unix epoch.
    pub fn new(options: Options, target: T, now_ms: u64) -> Driver<T> {
        let mut names = vec![options.region.clone()];
        for source in &options.sources {
            if !names.contains(&source.region) {
                names.push(source.region.clone());
            }
        }
        let mut engine = Engine::new(options.table.clone(), options.store, names);
        engine.sabotage = options.sabotage;
        engine.policy = Arc::clone(&options.policy);
        let writer = Writer::new(WriterOptions {
            region: options.region.clone(),
            namespace: options.namespace.clone(),
            store: options.store,
            writer: options.writer,
        });
        let outlet = Outlet::new(writer, options.own.appender());
        let now = Instant::now();
        Driver {
            target,
            engine,
            outlet,
            own: Vec::new(),
            own_seen: HashMap::new(),
            inlets: Vec::new(),
            closed: Vec::new(),
            opened: None,
            openings: Vec::new(),
            metrics: Metrics::new(&options.namespace),
            letters: open_letters(options.dead_letters.as_deref()),
            conflicts: open_letters(options.conflicts.as_deref()),
            told: HashMap::new(),
            notify: Rc::new(Notify::new()),
            started: now,
            started_ms: now_ms,
            next_inlet: 0,
            batch: options.batch_records,
            races: 0,
            is_lost: false,
            is_full: false,
            timers: Timers {
                progress: now,
                housekeeping: now,
                checkpoint: now,
            },
            backoff: BACKOFF,
            options,
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.started_ms + self.started.elapsed().as_millis() as u64
    }

    /// Runs until it is told to stop or is superseded. Not cancel safe: what was
    /// committed last is known to the datastore only.
    pub async fn run(&mut self, mut stop: watch::Receiver<bool>) -> Stop {
        if !self.stand_by(&mut stop).await {
            return Stop::Asked;
        }
        self.metrics.leading.set(1.0);
        let ended = self.lead(&mut stop).await;
        self.metrics.leading.set(0.0);
        if ended == Stop::Asked {
            self.finish().await;
        }
        self.target.resign().await;
        ended
    }

    /// Waits to be the one that writes; false if it is told to stop before.
    async fn stand_by(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        let mut is_told = false;
        loop {
            if *stop.borrow() {
                return false;
            }
            match self.target.lead().await {
                Ok(true) => return true,
                Ok(false) if !is_told => {
                    is_told = true;
                    tracing::info!(
                        namespace = self.options.namespace,
                        "another replicator leads; standing by"
                    );
                }
                Ok(false) => {}
                Err(error) => self.failed(&error),
            }
            let pause = self.backoff.max(Duration::from_millis(250));
            tokio::select! {
                _ = stop.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn lead(&mut self, stop: &mut watch::Receiver<bool>) -> Stop {
        if let Some(ended) = self.open(stop).await {
            return ended;
        }
        // Events: something was read, told to stop, a timer.
        loop {
            if *stop.borrow() {
                return Stop::Asked;
            }
            let worked = match self.cycle().await {
                Ok(worked) => {
                    self.backoff = BACKOFF;
                    worked
                }
                Err(TargetError::Superseded) => return Stop::Superseded,
                Err(error) => {
                    self.failed(&error);
                    tokio::select! {
                        _ = stop.changed() => {}
                        () = tokio::time::sleep(self.jittered()) => {}
                    }
                    self.is_lost |= matches!(error, TargetError::Away(_));
                    false
                }
            };
            if !worked {
                tokio::select! {
                    _ = stop.changed() => {}
                    () = self.notify.notified() => {}
                    () = tokio::time::sleep(TICK) => {}
                }
            }
        }
    }

    fn failed(&mut self, error: &TargetError) {
        if self.backoff == BACKOFF {
            tracing::warn!(namespace = self.options.namespace, %error, "applying is held up; trying again");
        }
        self.backoff = (self.backoff * 2).min(self.options.backoff_max);
    }

    /// Half to all of the backoff; who fails at once shall not come back at once.
    fn jittered(&self) -> Duration {
        let part = (self.started.elapsed().subsec_nanos() % 1024) as f64 / 2048.0;
        self.backoff.mul_f64(0.5 + part)
    }

    /// Finds out how far it is and begins to read.
    async fn open(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Stop> {
        let checkpoints = loop {
            if *stop.borrow() {
                return Some(Stop::Asked);
            }
            match self.target.load().await {
                Ok(checkpoints) => break checkpoints,
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(self.jittered()).await;
        };
        let known: HashMap<String, String> = checkpoints.into_iter().collect();
        let sources = self.options.sources.clone();
        // What can still come is newer than this. All journals are read from
        // there on, so that what is newer than it is known.
        let mut oldest = u64::MAX;
        for source in sources
            .iter()
            .filter(|one| one.region != self.options.region)
        {
            let prefix = format!("{}/", source.name);
            let of_source = known.iter().filter(|(name, _)| name.starts_with(&prefix));
            let checkpoints = of_source.filter_map(|(_, text)| Checkpoint::parse(text));
            let least = checkpoints.map(|one| one.hlc).min();
            oldest = oldest.min(least.unwrap_or(0));
        }
        let before = milliseconds(oldest).min(self.now_ms());
        let since = before.saturating_sub(FORGET_MS) << COUNTER_BITS;
        for (name, text) in &known {
            if let Some(checkpoint) = Checkpoint::parse(text)
                && let Some((name, partition)) = name.rsplit_once('/')
                && let Some(source) = sources.iter().find(|one| one.name == name)
                && let Ok(partition) = partition.parse()
            {
                let region = self.region(&source.region);
                let closed = (region, partition, checkpoint.applied);
                self.closed.push(closed);
            }
        }
        let own = Origin::Journal(self.options.own.clone());
        for partition in 0..own.partitions().await {
            let from = own.find(partition, since).await;
            let (region, name) = (self.options.region.clone(), self.options.region.clone());
            self.own
                .push(self.feed(own.clone(), region, name, partition, from));
        }
        let (send, opened) = mpsc::unbounded_channel();
        self.opened = Some(opened);
        // One that is away keeps nobody from the others.
        for source in &sources {
            let metrics = self.metrics.source(&source.name);
            metrics.up.set(0.0);
            let notify = Rc::clone(&self.notify);
            let opening = open_source(source.clone(), known.clone(), since, send.clone(), notify);
            self.openings.push(tokio::task::spawn_local(opening));
        }
        tracing::info!(
            namespace = self.options.namespace,
            sources = sources.len(),
            "replicating"
        );
        None
    }

    fn feed(
        &self,
        origin: Origin,
        region: String,
        name: String,
        partition: u32,
        from: u64,
    ) -> Feed {
        let reader = format!("{}/{}", self.options.region, self.options.namespace);
        let notify = Rc::clone(&self.notify);
        Feed::start(origin, region, name, partition, from, notify, &reader)
    }

    /// Takes up sources that can be read now.
    fn take_opened(&mut self) {
        while let Some(opened) = self.opened.as_mut().and_then(|all| all.try_recv().ok()) {
            let Opened {
                source,
                partition,
                is_alone,
                from,
                checkpoint,
            } = opened;
            let Source {
                region,
                name,
                origin,
            } = source;
            let id = self.region(&region);
            let metrics = self.metrics.source(&name);
            let feed = self.feed(origin, region, name, partition, from);
            if id == OWN {
                self.own.push(feed);
                continue;
            }
            self.closed
                .retain(|(region, other, _)| (*region, *other) != (id, partition));
            let mut inlet = Inlet::new(id, &checkpoint);
            inlet.is_alone = is_alone;
            inlet.dedupes = self.options.sabotage != Sabotage::NoDedupe;
            self.inlets.push((feed, inlet, metrics));
        }
    }

    fn region(&self, name: &str) -> RegionId {
        let at = self.engine.names.iter().position(|one| one == name);
        RegionId(at.unwrap_or(0) as u8)
    }

    /// After a connection was lost it is not known whether the last transaction
    /// was executed: what it would have changed is, in the checkpoints.
    async fn recover(&mut self) -> Result<(), TargetError> {
        if !self.target.lead().await? {
            return Err(TargetError::Superseded);
        }
        let known: HashMap<String, String> = self.target.load().await?.into_iter().collect();
        for (feed, inlet, metrics) in &mut self.inlets {
            let name = checkpoint_name(&feed.name, feed.partition);
            let Some(checkpoint) = known.get(&name).and_then(|text| Checkpoint::parse(text)) else {
                continue;
            };
            let is_done = |one: &&super::inlet::Pending| one.offset < checkpoint.applied;
            let done = inlet.queue.iter().take_while(is_done).count();
            if done > 0 {
                let changes: Vec<_> = inlet
                    .queue
                    .iter()
                    .take(done)
                    .filter_map(|one| one.change.clone())
                    .collect();
                for change in &changes {
                    let decision = self.engine.decide(change);
                    self.engine.done(decision);
                }
                metrics.applied.increment(done as u64);
                inlet.complete(done);
            }
        }
        Ok(())
    }

    /// Takes up what was read; returns whether there was something.
    fn receive(&mut self) -> bool {
        self.engine.now = self.started.elapsed();
        self.take_opened();
        let mut any = false;
        for at in 0..self.own.len() {
            while let Some(found) = self.own[at].try_next() {
                any = true;
                let partition = self.own[at].partition;
                self.note_own(partition, found);
            }
        }
        let Driver { inlets, engine, .. } = self;
        for (feed, inlet, metrics) in inlets.iter_mut() {
            while inlet.queue.len() < QUEUE_MAX {
                let Some(found) = feed.try_next() else {
                    break;
                };
                any = true;
                accept(engine, inlet, found, metrics);
            }
        }
        any
    }

    fn note_own(&mut self, partition: u32, found: Vec<Found>) {
        for Found { offset, record } in found {
            let seen = self.own_seen.entry((partition, record.writer)).or_insert(0);
            if record.sequence <= *seen {
                continue;
            }
            *seen = record.sequence;
            self.outlet.observe(record.hlc);
            self.engine.own(partition, offset, &record);
        }
    }

    /// Reads the own journal to its end.
    async fn catch_up(&mut self) {
        self.engine.now = self.started.elapsed();
        let deadline = Instant::now() + CATCH_UP;
        for at in 0..self.own.len() {
            let Ok(end) = self.own[at].end().await else {
                continue;
            };
            while self.own[at].next < end {
                let next = tokio::time::timeout_at(deadline, self.own[at].next()).await;
                let Ok(Some(found)) = next else {
                    tracing::warn!(
                        namespace = self.options.namespace,
                        source = self.own[at].name,
                        "the own journal can't be read to its end; going on without"
                    );
                    break;
                };
                let partition = self.own[at].partition;
                self.note_own(partition, found);
            }
        }
    }

    /// Applies what there is, once; whether there was anything.
    async fn cycle(&mut self) -> Result<bool, TargetError> {
        if self.is_lost {
            self.recover().await?;
            self.is_lost = false;
        }
        let mut worked = self.receive();
        self.timers().await?;
        worked |= self.tell_due().await?;
        worked |= self.apply_again().await?;
        for (_, inlet, metrics) in &mut self.inlets {
            let before = inlet.queue.len();
            inlet.skip();
            metrics
                .applied
                .increment((before - inlet.queue.len()) as u64);
        }
        let chosen = self.choose();
        if chosen.is_empty() {
            return Ok(worked);
        }
        self.apply(chosen).await?;
        Ok(true)
    }

    /// The next changes of each source, as many as a transaction may have.
    fn choose(&mut self) -> Vec<Chosen> {
        let count = self.inlets.len();
        let limit =
            (self.now_ms() + self.options.clock_skew_max.as_millis() as u64) << COUNTER_BITS;
        let mut chosen = Vec::new();
        let mut bytes = 0;
        let share = (self.batch / count.max(1)).max(1);
        for turn in 0..count {
            let inlet = (self.next_inlet + turn) % count;
            let mut changes = 0;
            for (at, pending) in self.inlets[inlet].1.queue.iter().enumerate() {
                let is_full = changes == share || chosen.len() == self.batch.max(1);
                if is_full || BATCH_BYTES <= bytes || limit < pending.hlc {
                    break;
                }
                if let Some(change) = &pending.change {
                    bytes += size(&change.body);
                    changes += 1;
                    chosen.push(Chosen { inlet, at });
                    if is_flush(self, inlet, at) {
                        // On its own, after what was before it.
                        if changes > 1 {
                            chosen.pop();
                        }
                        break;
                    }
                }
            }
        }
        self.next_inlet = self.next_inlet.wrapping_add(1) % count.max(1);
        chosen
    }

    async fn apply(&mut self, chosen: Vec<Chosen>) -> Result<(), TargetError> {
        let is_forced = RACES_MAX <= self.races;
        let keys = match is_forced {
            true => Vec::new(),
            false => self.keys_of(&chosen),
        };
        self.target.watch(&keys).await?;
        self.catch_up().await;
        self.engine.begin();
        let committed = self.decide_and_commit(chosen, is_forced).await;
        if !matches!(committed, Ok(Committed::Done(_))) {
            self.engine.rollback();
        }
        committed.map(|_| ())
    }

    async fn decide_and_commit(
        &mut self,
        mut chosen: Vec<Chosen>,
        is_forced: bool,
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
            let mut decision = self.engine.decide(change);
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
        if is_forced {
            self.tell_keys_of(chosen);
        }
        for (_, decision) in &decisions {
            if let Some((database, version)) = decision.flush {
                let engine = &mut self.engine;
                let mut goes = |database: u32, key: &[u8]| engine.goes_with(version, database, key);
                self.target.flush(database, &mut goes).await?;
            }
        }
        let counts = self.counts(chosen);
        let checkpoints = self.checkpoints(&counts);
        let committed = self.target.commit(&commands, &checkpoints).await?;
        match &committed {
            Committed::Raced => {
                self.metrics.races.increment(1);
                self.races += 1;
                if self.races.is_multiple_of(RACES_SMALLER) {
                    self.batch = (self.batch / 4).max(1);
                }
            }
            Committed::Refused(index, reason) => {
                let at = decisions.partition_point(|(end, _)| end <= index);
                self.bury_change(&chosen[at], reason).await?;
            }
            Committed::Done(refused) => {
                self.races = 0;
                self.batch = (self.batch * 2).min(self.options.batch_records);
                for (index, reason) in refused {
                    let at = decisions.partition_point(|(end, _)| end <= index);
                    self.refused(&chosen[at], &commands[*index], reason).await;
                }
                for (one, (_, decision)) in chosen.iter().zip(decisions) {
                    self.keep_conflict(one, &decision.lost).await;
                    let metrics = &self.inlets[one.inlet].2;
                    metrics.skipped.increment(decision.older);
                    metrics.conflicts.increment(decision.lost.len() as u64);
                    self.engine.done(decision);
                }
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
    fn counts(&self, chosen: &[Chosen]) -> Vec<usize> {
        let mut counts = vec![0; self.inlets.len()];
        for one in chosen {
            counts[one.inlet] = counts[one.inlet].max(one.at + 1);
        }
        counts
    }

    fn checkpoints(&mut self, counts: &[usize]) -> Vec<(String, String)> {
        // Who emptied the datastore has emptied it of these too.
        let all = std::mem::take(&mut self.engine.own_flushed);
        let mut checkpoints = Vec::new();
        for ((feed, inlet, _), count) in self.inlets.iter().zip(counts) {
            if *count > 0 || all {
                checkpoints.push((
                    checkpoint_name(&feed.name, feed.partition),
                    inlet.checkpoint_after(*count).format(),
                ));
            }
        }
        checkpoints
    }

    fn keys_of(&self, chosen: &[Chosen]) -> Vec<DatabaseKey> {
        let mut keys = Vec::new();
        for one in chosen {
            let pending = &self.inlets[one.inlet].1.queue[one.at];
            if let Some(change) = &pending.change {
                self.engine
                    .each_key(change, |database, key| keys.push((database, key)));
            }
        }
        keys
    }

    fn tell_keys_of(&mut self, chosen: &[Chosen]) {
        for (database, key) in self.keys_of(chosen) {
            self.engine.tell_surely(database, &key, Reason::Conflict);
        }
    }

    async fn timers(&mut self) -> Result<(), TargetError> {
        let now = Instant::now();
        if self.timers.progress <= now {
            self.timers.progress = now + self.options.progress_interval;
            self.tell_progress().await;
        }
        if self.timers.checkpoint <= now {
            self.timers.checkpoint = now + CHECKPOINT;
            self.checkpoint().await?;
        }
        if self.timers.housekeeping <= now {
            self.timers.housekeeping = now + HOUSEKEEPING;
            self.engine.bury(WRITER_SILENCE);
            self.retry_letters().await?;
            self.forget();
        }
        self.measure();
        Ok(())
    }

    /// Forgets keys whose changes all sources are past. Those of a source that is
    /// away are not known, so nothing is forgotten until there is too much.
    fn forget(&mut self) {
        let is_full = self.options.key_versions_max < self.engine.keys.len();
        if !self.closed.is_empty() && !is_full {
            return;
        }
        let oldest = self.inlets.iter().map(|(_, inlet, _)| inlet.hlc()).min();
        let oldest = milliseconds(oldest.unwrap_or(u64::MAX)).min(self.now_ms());
        self.engine
            .forget(oldest.saturating_sub(FORGET_MS) << COUNTER_BITS);
        if self.options.key_versions_max < self.engine.keys.len() {
            let recent = self.now_ms().saturating_sub(FORGET_MS);
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
    async fn checkpoint(&mut self) -> Result<(), TargetError> {
        let mut counts = vec![0; self.inlets.len()];
        let mut any = self.engine.own_flushed;
        for (_, inlet, _) in &mut self.inlets {
            any |= inlet.take_dirty();
        }
        self.engine.own_flushed |= any;
        let checkpoints = self.checkpoints(&counts);
        counts.clear();
        self.target.watch(&[]).await?;
        match self.target.commit(&[], &checkpoints).await? {
            Committed::Done(_) => {
                self.acknowledge();
                Ok(())
            }
            Committed::Raced | Committed::Refused(..) => Err(TargetError::Superseded),
        }
    }

    /// Lets journals remove what a restart would not read.
    fn acknowledge(&self) {
        let oldest = self.inlets.iter().map(|(_, inlet, _)| inlet.hlc()).min();
        for (feed, inlet, _) in &self.inlets {
            feed.acknowledge(inlet.checkpoint_after(0).resume);
        }
        if oldest.is_none_or(|oldest| self.now_ms() < milliseconds(oldest) + FORGET_MS) {
            self.own.iter().for_each(|feed| feed.acknowledge(feed.next));
        }
    }

    fn measure(&self) {
        let now_ms = self.now_ms();
        for (feed, inlet, metrics) in &self.inlets {
            let hlc_ms = milliseconds(inlet.hlc());
            if hlc_ms > 0 {
                metrics.lag.set(now_ms.saturating_sub(hlc_ms) as f64 / 1e3);
                metrics.skew.set(hlc_ms.saturating_sub(now_ms) as f64 / 1e3);
            }
            metrics.lag_records.set(inlet.queue.len() as f64);
            metrics
                .up
                .set(f64::from(u8::from(feed.problem().is_none())));
        }
    }

    /// Leaves everything so that the next one goes on from here.
    async fn finish(&mut self) {
        let left = async {
            self.checkpoint().await?;
            Ok::<(), TargetError>(())
        };
        if let Err(error) = left.await {
            tracing::warn!(namespace = self.options.namespace, %error, "the last checkpoint was not written");
        }
    }

    async fn apply_again(&mut self) -> Result<bool, TargetError> {
        let again = self.engine.take_again();
        if again.is_empty() {
            return Ok(false);
        }
        let keys: Vec<DatabaseKey> = again
            .iter()
            .map(|one| (one.command.database, one.key.clone()))
            .collect();
        let watched = self.target.watch(&keys).await;
        if watched.is_ok() {
            self.catch_up().await;
        }
        let (ready, mut late): (Vec<_>, Vec<_>) = again
            .into_iter()
            .partition(|one| watched.is_ok() && self.engine.is_newest(one));
        let commands: Vec<Command> = ready.iter().map(|one| one.command.clone()).collect();
        let committed = match &watched {
            Ok(()) => self.target.commit(&commands, &[]).await,
            Err(error) => Err(error.clone()),
        };
        if !matches!(committed, Ok(Committed::Done(_))) {
            late.extend(ready);
        }
        for one in late {
            self.engine.again_later(one);
        }
        committed.map(|_| true)
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.openings.iter().for_each(JoinHandle::abort);
    }
}

/// Finds out where to begin to read a source, whenever it can be reached.
async fn open_source(
    source: Source,
    known: HashMap<String, String>,
    since: u64,
    send: mpsc::UnboundedSender<Opened>,
    notify: Rc<Notify>,
) {
    let partitions = source.origin.partitions().await;
    for partition in 0..partitions {
        let text = known.get(&checkpoint_name(&source.name, partition));
        let from = source.origin.find(partition, since).await;
        let checkpoint = match text.and_then(|text| Checkpoint::parse(text)) {
            Some(checkpoint) => checkpoint,
            None => {
                let first = source.origin.find(partition, 0).await;
                Checkpoint {
                    applied: first,
                    resume: first,
                    ..Checkpoint::default()
                }
            }
        };
        let opened = Opened {
            partition,
            is_alone: partitions == 1,
            // What was applied before is read again for what is known of its keys.
            from: from.min(checkpoint.resume),
            checkpoint,
            source: source.clone(),
        };
        if send.send(opened).is_err() {
            return;
        }
        notify.notify_one();
    }
}

/// Without a place to keep them they are counted, and logged.
fn open_letters(directory: Option<&std::path::Path>) -> Option<Letters> {
    let directory = directory?;
    match Letters::open(directory) {
        Ok(letters) => Some(letters),
        Err(error) => {
            tracing::error!(%error, "changes that are not applied can't be kept");
            None
        }
    }
}

fn accept(engine: &mut Engine, inlet: &mut Inlet, found: Vec<Found>, metrics: &SourceMetrics) {
    let (copies, lost) = (inlet.copies, inlet.lost);
    for one in found {
        let (applied, progress) = inlet.accept(one);
        if let Some(change) = applied {
            let decision = engine.decide(&change);
            engine.done(decision);
        }
        for (region, partition, offset) in progress {
            engine.note_progress(inlet.region, &region, partition, offset);
        }
    }
    metrics.copies.increment(inlet.copies - copies);
    if lost < inlet.lost {
        let records = inlet.lost - lost;
        tracing::error!(records, "records of another region's journal are lost");
        metrics.gaps.increment(records);
    }
}

fn size(body: &Body) -> usize {
    match body {
        Body::Commands(commands) => {
            let arguments = commands.iter().flat_map(|one| &one.arguments);
            arguments.map(|one| one.len() + 16).sum()
        }
        Body::Snapshot(snapshot) => snapshot.value.as_ref().map_or(0, |value| value.len()) + 64,
    }
}

fn is_flush<T: Target>(driver: &Driver<T>, inlet: usize, at: usize) -> bool {
    let pending = &driver.inlets[inlet].1.queue[at];
    let change = pending.change.as_ref();
    change.is_some_and(|change| driver.engine.is_flush(change))
}

fn checkpoint_name(source: &str, partition: u32) -> String {
    format!("{source}/{partition}")
}

/// What a value that is read now includes: of the own journal, what was read of
/// it, and of the others what was applied.
pub(super) fn included_for(
    own: &[Feed],
    inlets: &[(Feed, Inlet, SourceMetrics)],
    closed: &[(RegionId, u32, u64)],
    partition: u32,
) -> Vec<(RegionId, u64)> {
    let closed = closed.iter().filter(|(_, other, _)| *other == partition);
    let closed = closed.map(|(region, _, applied)| (*region, *applied));
    let own = own.iter().find(|feed| feed.partition == partition);
    let own = own.map(|feed| (OWN, feed.next));
    let others = inlets
        .iter()
        .filter(|(feed, _, _)| feed.partition == partition)
        .map(|(_, inlet, _)| (inlet.region, inlet.applied));
    own.into_iter().chain(others).chain(closed).collect()
}

pub(super) fn applied_of(
    names: &[String],
    included: &[(RegionId, u64)],
    partition: u32,
) -> Vec<v1::Applied> {
    let each = included.iter();
    each.map(|(region, next_offset)| v1::Applied {
        region: names[region.0 as usize].clone(),
        partition,
        next_offset: *next_offset,
    })
    .collect()
}
