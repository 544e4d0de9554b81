//! Finds out how far it is, begins to read, and takes up what was read.

use std::cell::Cell;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::checkpoint::ANOTHER;
use super::horizon::Heard;
use super::*;

/// Clocks of replicators of one region differ by less.
const LEADERS_DIFFER_MS: u64 = 2000;

/// What the replicator that led before had still to do about its last changes is
/// not known: about those of so long, in which it has perhaps told nothing.
const RECENT_MS: u64 = 10_000 + super::own::INEXACT.as_millis() as u64;

/// Bytes that are kept aside of sources that are read again late, about.
const ASIDE_BYTES: usize = 64 << 20;

/// Between two questions where a topic ends.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Partitions of a source that are asked at once where to begin.
const ASKED_MAX: usize = 8;

/// A partition of a source that can be read.
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) partition: u32,
    /// How many the source has, and how many of them are not taken up yet.
    pub(super) of: usize,
    pub(super) left: Rc<Cell<usize>>,
    /// Where to begin to read.
    pub(super) from: u64,
    pub(super) checkpoint: Checkpoint,
}

impl<T: Target> Driver<T> {
    /// Finds out how far it is and begins to read.
    pub(super) async fn open(&mut self, stop: &mut watch::Receiver<bool>) -> Option<Stop> {
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
        let mut sources = self.options.sources.clone();
        // What can still come is newer than this. All journals are read from
        // there on, so that what is newer than it is known.
        let mut oldest = u64::MAX;
        for region in &self.engine.names[1..] {
            let of_region = sources.iter().filter(|one| one.region == *region).count();
            self.unopened.insert(region.clone(), of_region);
            let prefix = format!("{region}/");
            let known = known.iter().filter(|(name, _)| name.starts_with(&prefix));
            let checkpoints = known.filter_map(|(_, text)| Checkpoint::parse(text));
            let clocks: Vec<u64> = checkpoints.map(|one| one.hlc).collect();
            let is_complete = of_region <= clocks.len();
            let least = clocks.into_iter().min().filter(|_| is_complete);
            oldest = oldest.min(least.unwrap_or(0));
        }
        let before = milliseconds(oldest).min(self.now_ms());
        let since = before.saturating_sub(self.options.remembered_ms) << COUNTER_BITS;
        // What another region has not applied is remembered for longer.
        let since = since.min(Self::kept_horizon(&known));
        self.engine.forget_before(since);
        let leads_since = self.now_ms().saturating_sub(LEADERS_DIFFER_MS) << COUNTER_BITS;
        self.engine.teller = (self.outlet.id(), leads_since);
        self.bootstrap = Bootstrap::of(&known);
        for (name, text) in &known {
            if let Some(checkpoint) = Checkpoint::parse(text)
                && let Some((name, partition)) = name.rsplit_once('/')
                && self.engine.names[1..].iter().any(|one| one == name)
                && let Ok(number) = partition.parse()
            {
                let region = self.region(name);
                self.closed.push(Closed {
                    partition: Partition { region, number },
                    applied: match checkpoint.applied {
                        ANOTHER => 0,
                        applied => applied,
                    },
                    hlc: checkpoint.hlc,
                });
            }
        }
        let (send, opened) = mpsc::unbounded_channel();
        self.opened = Some(opened);
        self.opening = Instant::now();
        self.read_again = ReadAgain::begun(self.opening);
        for source in &sources {
            self.metrics.source(&source.name).up.set(0.0);
        }
        sources.insert(0, self.own_source());
        let is_own = |source: &&Source| source.region == self.options.region;
        self.own_unopened = sources.iter().filter(is_own).count();
        // One that is away keeps nobody from the others.
        for source in &sources {
            let (known, send) = (known.clone(), send.clone());
            let is_own = is_own(&source);
            let notify = Rc::clone(&self.notify);
            let opening = open_source(source.clone(), is_own, known, since, send, notify);
            self.openings.push(tokio::task::spawn_local(opening));
        }
        tracing::info!(
            namespace = self.options.namespace,
            sources = sources.len() - 1,
            "replicating"
        );
        None
    }

    fn own_source(&self) -> Source {
        let region = self.options.region.clone();
        Source {
            name: region.clone(),
            region,
            origin: Origin::Journal(self.options.own.clone()),
        }
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
    pub(super) fn take_opened(&mut self) {
        while let Some(opened) = self.opened.as_mut().and_then(|all| all.try_recv().ok()) {
            let Opened {
                source,
                partition,
                of,
                left,
                from,
                checkpoint,
            } = opened;
            left.set(left.get() - 1);
            let Source {
                region,
                name,
                origin,
            } = source;
            let id = self.region(&region);
            let mut feed = self.feed(origin, region, name, partition, from);
            if id == OWN {
                self.own_unopened -= usize::from(left.get() == 0);
                if self.is_going_without() {
                    feed.late_through = u64::MAX;
                }
                self.own.push(feed);
                self.is_read_ahead = false;
                continue;
            }
            let metrics = self.metrics.source(&feed.name);
            let (is_last, is_alone) = (left.get() == 0, of == 1);
            let partition = Partition {
                region: id,
                number: partition,
            };
            self.closed.retain(|one| one.partition != partition);
            if is_last && let Some(unopened) = self.unopened.get_mut(&feed.region) {
                *unopened -= 1;
                if *unopened == 0 {
                    self.retire(id);
                }
            }
            let mut inlet = Inlet::new(partition, &checkpoint);
            let goes_without = self.read_again.goes_without;
            if feed.next < inlet.applied || goes_without {
                // Its region was perhaps gone without until now.
                inlet.is_late = goes_without;
                self.read_again.begin();
            }
            inlet.is_alone = is_alone;
            inlet.dedupes = self.options.sabotage != Sabotage::NoDedupe;
            inlet.counts_back = self.options.sabotage != Sabotage::NoRefusals;
            self.inlets.push((feed, inlet, metrics));
        }
    }

    /// All journals of a region are open: others that there were are no more.
    fn retire(&mut self, region: RegionId) {
        let is_of_it = |one: &mut Closed| one.partition.region == region;
        for gone in self.closed.extract_if(.., is_of_it) {
            let name = &self.engine.names[usize::from(region.0)];
            self.retired
                .push(checkpoint_name(name, gone.partition.number));
        }
    }

    /// Whether journals of the own region that could not be opened are not waited
    /// for any more.
    pub(super) fn is_going_without(&self) -> bool {
        CATCH_UP <= self.opening.elapsed()
    }

    pub(super) fn region(&self, name: &str) -> RegionId {
        let at = self.engine.names.iter().position(|one| one == name);
        RegionId(at.unwrap_or(0) as u8)
    }

    /// Leaves word for whoever leads next that topics were made again.
    pub(super) async fn note_replaced(&mut self) -> Result<(), TargetError> {
        let made_again = self.inlets.iter().filter(|one| one.0.is_another_topic());
        let checkpoints: Vec<(String, String)> = made_again
            .map(|(feed, inlet, _)| {
                let checkpoint = Checkpoint {
                    applied: ANOTHER,
                    ..inlet.checkpoint_after(0)
                };
                let name = checkpoint_name(&feed.region, feed.partition);
                (name, checkpoint.format())
            })
            .collect();
        if !checkpoints.is_empty() {
            self.target.watch(&[]).await?;
            self.target.commit(&[], &checkpoints).await?;
        }
        Ok(())
    }

    /// After a connection was lost it is not known whether the last transaction
    /// was executed: what it would have changed is, in the checkpoints.
    pub(super) async fn recover(&mut self) -> Result<(), TargetError> {
        if !self.target.lead().await? {
            return Err(TargetError::Superseded);
        }
        let known: HashMap<String, String> = self.target.load().await?.into_iter().collect();
        for (feed, inlet, metrics) in &mut self.inlets {
            let name = checkpoint_name(&feed.region, feed.partition);
            let Some(checkpoint) = known.get(&name).and_then(|text| Checkpoint::parse(text)) else {
                continue;
            };
            // Somebody else has led meanwhile, and got further.
            let last = inlet.queue.back();
            if last.map_or(inlet.applied, |last| last.offset + 1) < checkpoint.applied {
                return Err(TargetError::Superseded);
            }
            let is_done =
                |one: &&crate::replication::inlet::Pending| one.offset < checkpoint.applied;
            let done = inlet.queue.iter().take_while(is_done).count();
            if done > 0 {
                let changes: Vec<_> = inlet
                    .queue
                    .iter()
                    .take(done)
                    .filter_map(|one| one.change.clone())
                    .collect();
                for change in &changes {
                    self.engine.repeat(change, Recent::None);
                }
                metrics.applied.increment(done as u64);
                inlet.complete(done);
            }
        }
        Ok(())
    }

    /// Takes up what was read; returns whether there was something.
    pub(super) fn receive(&mut self) -> bool {
        self.engine.now = self.started.elapsed();
        self.take_opened();
        self.note_filling();
        let mut any = false;
        for at in 0..self.own.len() {
            while let Some(found) = self.own[at].try_next() {
                any = true;
                self.note_own(at, found);
            }
        }
        if !self.is_read_ahead {
            // What others did is judged by what is known of the own region.
            return any;
        }
        let Driver {
            inlets,
            engine,
            heard,
            read_again,
            ..
        } = self;
        let aside_max = ASIDE_BYTES / inlets.len().max(1);
        for (feed, inlet, metrics) in inlets.iter_mut() {
            while inlet.queue.len() < QUEUE_MAX && inlet.bytes < QUEUE_BYTES {
                let Some(found) = feed.try_next() else {
                    break;
                };
                any = true;
                let Some(found) = inlet.put_aside(found, feed.next, aside_max) else {
                    continue;
                };
                if inlet.is_late && read_again.is_done && begins(&found) < inlet.applied {
                    // Its region was gone without, and is back.
                    read_again.begin();
                }
                accept(engine, heard, inlet, found, metrics);
            }
        }
        any
    }
}

/// Finds out where to begin to read a source, whenever it can be reached.
async fn open_source(
    mut source: Source,
    is_own: bool,
    known: HashMap<String, String>,
    since: u64,
    send: mpsc::UnboundedSender<Opened>,
    notify: Rc<Notify>,
) {
    let partitions = source.origin.partitions(&source.name).await;
    let left = Rc::new(Cell::new(partitions.len()));
    let permits = Rc::new(Semaphore::new(ASKED_MAX));
    let mut asked = JoinSet::new();
    for &partition in &partitions {
        let text = known.get(&checkpoint_name(&source.region, partition));
        let checkpoint = text.and_then(|text| Checkpoint::parse(text));
        let (source, send, notify) = (source.clone(), send.clone(), Rc::clone(&notify));
        let (left, permits, of) = (Rc::clone(&left), Rc::clone(&permits), partitions.len());
        asked.spawn_local(async move {
            // What was applied before is read again for what is known of its keys.
            let from = source.origin.find(partition, since, &permits).await;
            let checkpoint = match checkpoint {
                Some(checkpoint) if !is_own => {
                    match is_another(&source, partition, &checkpoint, &permits).await {
                        true => begun_anew(&source, partition, &checkpoint, &permits).await,
                        false => checkpoint,
                    }
                }
                Some(checkpoint) => checkpoint,
                // Of the own region nothing is applied.
                None if is_own => Checkpoint {
                    resume: from,
                    ..Checkpoint::default()
                },
                None => {
                    let first = source.origin.find(partition, 0, &permits).await;
                    Checkpoint {
                        applied: first,
                        resume: first,
                        ..Checkpoint::default()
                    }
                }
            };
            let opened = Opened {
                partition,
                of,
                left,
                from: from.min(checkpoint.resume),
                checkpoint,
                source,
            };
            // Nobody waits for it any more where that fails.
            let _ = send.send(opened);
            notify.notify_one();
        });
    }
    while asked.join_next().await.is_some() {}
}

/// Whether a topic ends before what was applied of it; asked several times, as brokers may
/// say so for a moment.
async fn is_another(
    source: &Source,
    partition: u32,
    checkpoint: &Checkpoint,
    permits: &Semaphore,
) -> bool {
    for _ in 0..feed::SHORTER_TIMES {
        let end = source.origin.end_of_topic(partition, permits).await;
        if end.is_none_or(|end| checkpoint.applied <= end) {
            return false;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    true
}

/// A topic ends before what was applied of it: it was deleted and made again, or has lost
/// its end. It is gone on with what is newer.
async fn begun_anew(
    source: &Source,
    partition: u32,
    checkpoint: &Checkpoint,
    permits: &Semaphore,
) -> Checkpoint {
    let from = source.origin.find(partition, checkpoint.hlc, permits).await;
    tracing::error!(
        source = source.name,
        partition,
        applied = checkpoint.applied,
        from,
        "a topic ends before what was applied of it: it was made again, or has lost its end; what \
         was not applied of the old one is lost"
    );
    Checkpoint {
        applied: from,
        resume: from.min(checkpoint.resume),
        ..checkpoint.clone()
    }
}

/// Where a reading begins.
fn begins(found: &[Found]) -> u64 {
    found.first().map_or(u64::MAX, |first| first.offset)
}

fn accept(
    engine: &mut Engine,
    heard: &mut Heard,
    inlet: &mut Inlet,
    found: Vec<Found>,
    metrics: &SourceMetrics,
) {
    let region = inlet.partition.region;
    // What was applied so late may have been followed by what nobody was told.
    let recent = milliseconds(inlet.applied_hlc).saturating_sub(RECENT_MS) << COUNTER_BITS;
    let (copies, lost) = (inlet.copies, inlet.lost);
    for one in found {
        let hlc = one.record.hlc;
        let (applied, progress) = inlet.accept(one);
        if let Some(change) = applied {
            let recent = match inlet.is_late {
                true => Recent::All,
                false => Recent::Since(recent),
            };
            engine.repeat(&change, recent);
        }
        for (of, partition, offset) in progress {
            if let Some(partition) = engine.note_progress(region, &of, partition, offset) {
                heard.note(region, hlc, partition, offset);
            }
        }
    }
    metrics.copies.increment(inlet.copies - copies);
    if lost < inlet.lost {
        let records = inlet.lost - lost;
        tracing::error!(records, "records of another region's journal are lost");
        metrics.gaps.increment(records);
    }
}
