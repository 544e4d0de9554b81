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
use super::engine::{
    Again, Body, Change, Command, Decision, Engine, Included, Reason, Recent, Sabotage,
};
use super::feed::{self, Feed, Found, Origin};
use super::inlet::Inlet;
use super::letters::Letters;
use super::metrics::{Metrics, SourceMetrics};
use super::outlet::Outlet;
use super::target::{Committed, DatabaseKey, Target, TargetError};
use super::version::{OWN, Partition, RegionId};
use super::{Options, Source};
use crate::journal::Journal;
use crate::mutation::clock::{COUNTER_BITS, milliseconds};
use crate::mutation::{Writer, WriterOptions, v1};

mod apply;
mod bootstrap;
mod flush;
mod horizon;
mod letters;
mod open;
mod own;
mod tell;
mod timers;

use apply::Chosen;
use bootstrap::Bootstrap;
use open::Opened;
use own::ReadAgain;

/// Changes that wait to be applied, of one partition.
const QUEUE_MAX: usize = 8192;

/// Bytes of them, about.
const QUEUE_BYTES: usize = 64 << 20;

/// Bytes of values that one transaction has, about.
const BATCH_BYTES: usize = 4 << 20;

/// Who stands by asks after this whether the lease has run out.
const STANDBY_PAUSE: Duration = Duration::from_millis(250);

/// How long nothing happens before timers are looked at, while something waits.
const TICK: Duration = Duration::from_millis(10);

/// The same where nothing does.
const IDLE_TICK: Duration = Duration::from_millis(50);

/// The own journal's end is waited for so long; then it is gone on without.
const CATCH_UP: Duration = Duration::from_secs(5);

/// One turn of reading what the own journals have had before.
const READ_AHEAD: Duration = Duration::from_secs(1);

/// A writer that was not heard of for so long is dead.
const WRITER_SILENCE: Duration = Duration::from_secs(5);

/// The lease is renewed, and what nobody needs is forgotten, this often.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// Gauges are set this often.
const MEASURE: Duration = Duration::from_millis(100);

/// Progress that came without a transaction is committed after this.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// After so many lost races a transaction is made smaller.
const RACES_SMALLER: u32 = 2;

/// And the values that others tell of them are passed over after so many times
/// that.
const STUCK: u32 = 8;

/// Without a transaction the lease is renewed after this.
const RENEWAL: Duration = Duration::from_secs(3);

/// How long a change waits for what is under way.
const WAIT: Duration = Duration::from_millis(2);

/// How long it is waited at the end for what is to be told.
const FINISH: Duration = Duration::from_secs(2);

/// How long nothing is put into a journal that did not take something.
const APPEND_PAUSE: Duration = Duration::from_secs(1);

/// The first pause after the datastore failed.
const BACKOFF: Duration = Duration::from_millis(20);

/// Why a replicator ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It was told to.
    Asked,
    /// Another one has taken over; it may begin again.
    Superseded,
    /// A journal was begun anew; so should this.
    Replaced,
}

/// Applies the journals of other regions.
pub struct Driver<T> {
    pub(super) options: Options,
    pub(super) target: T,
    pub(super) engine: Engine,
    pub(super) outlet: Outlet,
    /// The own region's journals, by partition.
    own: Vec<Feed>,
    /// How many journals of the own region are not, or not whole.
    own_unopened: usize,
    /// When they began to be opened.
    opening: Instant,
    /// All that they had when they were opened was read.
    is_read_ahead: bool,
    /// No broker says where they end.
    is_blind: bool,
    read_again: ReadAgain,
    /// Since when a part of the own journal can't be read to its end.
    inexact: Option<Instant>,
    /// Nothing is put into the own journal before.
    append_at: Instant,
    /// Keys that are told at once.
    told_at_once: usize,
    /// The newest sequence of each writer there: what comes again is a copy.
    own_seen: HashMap<(u32, u64), u64>,
    pub(super) inlets: Vec<(Feed, Inlet, SourceMetrics)>,
    /// Partitions of sources that can't be read yet, and how far they are applied.
    closed: Vec<Closed>,
    /// Of each region how many sources are not open.
    unopened: HashMap<String, usize>,
    /// Checkpoints of what there is no more.
    retired: Vec<String>,
    opened: Option<mpsc::UnboundedReceiver<Opened>>,
    openings: Vec<JoinHandle<()>>,
    pub(super) metrics: Metrics,
    letters: Option<Letters>,
    conflicts: Option<Letters>,
    bootstrap: Bootstrap,
    /// What was last written of how far it is.
    told: HashMap<(String, u32), u64>,
    clocks: horizon::Clocks,
    heard: horizon::Heard,
    notify: Rc<Notify>,
    started: Instant,
    /// Wall-clock milliseconds at `started`; simulations give their own.
    started_ms: u64,
    next_inlet: usize,
    /// What a transaction is cut down to after races.
    batch: usize,
    /// So many transactions are to have one change only: one of the next is refused.
    singles: usize,
    races: u32,
    /// When the lease was.
    renewed: Instant,
    /// Whether the last transaction was executed is not known.
    is_lost: bool,
    /// More keys were changed than are remembered.
    is_full: bool,
    timers: Timers,
    /// A checkpoint was written.
    is_kept: bool,
    outliving: flush::Outliving,
    backoff: Duration,
}

/// A partition of a source that can't be read yet.
struct Closed {
    partition: Partition,
    /// How far it is applied.
    applied: u64,
    /// The greatest clock of what is.
    hlc: u64,
}

struct Timers {
    progress: Instant,
    housekeeping: Instant,
    checkpoint: Instant,
    measure: Instant,
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
        if options.is_ahead {
            engine.is_ahead_of_journal(now_ms);
        }
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
            own_unopened: 0,
            opening: now,
            is_read_ahead: false,
            is_blind: false,
            read_again: ReadAgain::begun(now),
            inexact: None,
            append_at: now,
            told_at_once: 1,
            own_seen: HashMap::new(),
            inlets: Vec::new(),
            closed: Vec::new(),
            unopened: HashMap::new(),
            retired: Vec::new(),
            opened: None,
            openings: Vec::new(),
            metrics: Metrics::new(&options.namespace),
            letters: open_letters(options.dead_letters.as_deref()),
            conflicts: open_letters(options.conflicts.as_deref()),
            bootstrap: Bootstrap::default(),
            told: HashMap::new(),
            clocks: Default::default(),
            heard: Default::default(),
            notify: Rc::new(Notify::new()),
            started: now,
            started_ms: now_ms,
            next_inlet: 0,
            batch: options.batch_records,
            singles: 0,
            races: 0,
            renewed: now,
            is_lost: false,
            is_full: false,
            timers: Timers {
                progress: now,
                housekeeping: now,
                checkpoint: now,
                measure: now,
            },
            is_kept: false,
            outliving: flush::Outliving::default(),
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
        // Who can't read the own journal is no good leader.
        let mut own = Origin::Journal(self.options.own.clone());
        tokio::select! {
            _ = own.partitions(&self.options.region) => {}
            _ = stop.changed() => return Stop::Asked,
        }
        if !self.stand_by(&mut stop).await {
            return Stop::Asked;
        }
        self.metrics.leading.set(1.0);
        let ended = self.lead(&mut stop).await;
        self.metrics.leading.set(0.0);
        self.measure_nothing();
        if ended != Stop::Superseded {
            self.finish().await;
        }
        if ended == Stop::Replaced
            && let Err(error) = self.note_replaced().await
        {
            tracing::warn!(namespace = self.options.namespace, %error, "that a topic was made again was not noted");
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
                Ok(false) => {
                    self.backoff = BACKOFF;
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(
                            namespace = self.options.namespace,
                            "another replicator leads; standing by"
                        );
                    }
                    self.count_letters();
                }
                Err(error) => self.failed(&error),
            }
            let pause = self.jittered().max(STANDBY_PAUSE);
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
            if self.is_any_replaced() {
                tracing::error!(
                    namespace = self.options.namespace,
                    "a journal was begun anew; what was not applied of the old one is lost"
                );
                return Stop::Replaced;
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
                    () = tokio::time::sleep(self.tick()) => {}
                }
            }
        }
    }

    /// How long nothing happens before timers are looked at.
    fn tick(&self) -> Duration {
        let is_idle = self.is_read_ahead
            && self.read_again.is_done
            && !self.engine.has_to_do()
            && !self.bootstrap.is_running()
            && self.inlets.iter().all(|one| one.1.queue.is_empty());
        match is_idle {
            true => IDLE_TICK,
            false => TICK,
        }
    }

    fn is_any_replaced(&self) -> bool {
        let others = self.inlets.iter().map(|(feed, _, _)| feed);
        self.own.iter().chain(others).any(Feed::is_replaced)
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

    /// Applies what there is, once; whether there was anything.
    async fn cycle(&mut self) -> Result<bool, TargetError> {
        let mut worked = self.receive();
        self.measure();
        if self.is_lost {
            self.recover().await?;
            self.is_lost = false;
        }
        self.timers().await?;
        if self.own_unopened > 0 && !self.is_going_without() {
            return Ok(worked);
        }
        if !self.is_read_ahead {
            return Ok(self.read_ahead().await);
        }
        if !self.is_read_again() {
            return Ok(worked);
        }
        worked |= self.flush_again().await?;
        worked |= self.tell_due().await?;
        self.renew().await?;
        worked |= self.copy().await?;
        self.renew().await?;
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
            if self.engine.has_fresh() {
                self.catch_up().await;
            }
            return Ok(worked);
        }
        if self.engine.is_inexact {
            self.catch_up().await;
            if self.engine.is_inexact {
                return Ok(worked);
            }
        }
        self.apply(chosen).await?;
        Ok(true)
    }

    /// Leaves everything so that the next one goes on from here.
    async fn finish(&mut self) {
        if self.opened.is_none() {
            return;
        }
        let left = async {
            let end = Instant::now() + FINISH;
            // What is to be told nobody else knows.
            while self.read_again.is_done && self.engine.has_to_do() && Instant::now() < end {
                self.receive();
                self.apply_again().await?;
                self.tell_due().await?;
                tokio::time::sleep(WAIT).await;
            }
            self.checkpoint().await
        };
        if let Err(error) = left.await {
            tracing::warn!(namespace = self.options.namespace, %error, "the last checkpoint was not written");
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.openings.iter().for_each(JoinHandle::abort);
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

/// A partition is known by its number, whatever address it is read at.
fn checkpoint_name(region: &str, partition: u32) -> String {
    format!("{region}/{partition}")
}

impl<T> Driver<T> {
    /// What a value that is read now includes: of the own journals, what was read
    /// of them, and of the others what was applied.
    fn included(&self) -> Included {
        let own = self
            .own
            .iter()
            .map(|feed| (Partition::own(feed.partition), feed.next));
        let others = self.inlets.iter();
        let others = others.map(|(_, inlet, _)| (inlet.partition, inlet.applied));
        let closed = self.closed.iter().map(|one| (one.partition, one.applied));
        Included::new(own.chain(others).chain(closed).collect())
    }

    fn applied_of(&self, included: &Included) -> Vec<v1::Applied> {
        let each = included.iter();
        each.map(|(partition, next_offset)| v1::Applied {
            region: self.engine.names[partition.region.0 as usize].clone(),
            partition: partition.number,
            next_offset,
        })
        .collect()
    }
}
