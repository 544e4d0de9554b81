//! All regions together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;
use wal_sidecar::journal::{Journal, MemoryJournal, MemoryOptions};
use wal_sidecar::mutation::v1;
use wal_sidecar::replication::engine::Sabotage;
use wal_sidecar::replication::{Driver, Options, Origin, Source, Table};

use super::commands::command;
use super::filling;
use super::links::partitions;
use super::random::Random;
use super::region::{HEARTBEAT, Sent, Sidecar};
use super::spool::Spool;
use super::store::Store;
use super::target::SimulatedTarget;
use super::verdict::told_key;

/// When the simulation begins, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_800_000_000_000;

pub struct WorldOptions {
    pub regions: usize,
    pub sidecars: usize,
    /// Of each region's journal.
    pub partitions: u32,
    pub work: Duration,
    pub sabotage: Sabotage,
    pub crashes: bool,
    pub cuts: bool,
    pub failures: u64,
    /// The last region begins empty, and is filled from the first one.
    pub is_filled: bool,
    /// Clients empty their datastore now and then.
    pub flushes: bool,
    /// Sidecars stand still for seconds, and go on.
    pub freezes: bool,
    /// A link is down for as long as clients write, or hardly passes anything, longer
    /// than who takes over waits for it.
    pub is_late_link: bool,
    /// Changes are executed before they are in the journal.
    pub is_ahead: bool,
    /// All clocks are the same.
    pub is_exact: bool,
    /// Each sidecar has a journal of its own, as those in files are, and they read each
    /// other's.
    pub is_split: bool,
}

impl WorldOptions {
    pub fn of(random: &mut Random, sabotage: Sabotage) -> WorldOptions {
        let freezes = random.permille(80);
        let is_late_link = random.permille(40);
        // Some longer than a sidecar stands still.
        let work = match is_late_link || freezes && random.permille(300) {
            true => 9000,
            false => 500 + random.below(1500),
        };
        let sidecars = 1 + random.below(3) as usize;
        let is_split = 1 < sidecars && random.permille(400);
        WorldOptions {
            regions: 2 + usize::from(random.permille(400)),
            sidecars,
            partitions: match is_split {
                true => 1,
                false => *random.pick(&[1, 1, 2, 3]),
            },
            work: Duration::from_millis(work),
            sabotage,
            crashes: random.permille(600),
            cuts: random.permille(600),
            failures: *random.pick(&[0, 0, 5, 30]),
            is_filled: false,
            flushes: random.permille(150),
            freezes,
            is_late_link,
            is_split,
            is_ahead: false,
            is_exact: false,
        }
    }
}

#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub histories: u64,
    pub commands: u64,
    pub acknowledged: u64,
    pub records: u64,
    pub snapshots: u64,
    pub crashes: u64,
    pub cuts: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.histories += other.histories;
        self.commands += other.commands;
        self.acknowledged += other.acknowledged;
        self.records += other.records;
        self.snapshots += other.snapshots;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
    }
}

pub struct Region {
    pub name: String,
    pub store: Rc<RefCell<Store>>,
    /// One, or one of each sidecar.
    pub(super) journals: Vec<Arc<MemoryJournal>>,
    /// The same, as each sidecar's process reads them.
    pub(super) views: Vec<Vec<Arc<MemoryJournal>>>,
    /// The other regions' journals, as far as they have arrived here.
    pub(super) mirrors: Vec<Mirror>,
    pub(super) log: Rc<RefCell<Vec<Sent>>>,
}

impl Region {
    /// All records, and where they are.
    pub(super) fn records(&self) -> Vec<(u32, usize, Vec<u8>)> {
        let of = |journal| partitions(journal).map(move |number| (journal, number));
        let partitions = self.journals.iter().flat_map(of);
        let records = partitions.flat_map(|(journal, number)| {
            let records = journal.records_of(number).into_iter().enumerate();
            records.map(move |(offset, bytes)| (number, offset, bytes))
        });
        records.collect()
    }
}

pub struct Mirror {
    /// Whose journal it is.
    pub region: String,
    /// Tells it from others.
    name: String,
    pub journal: Arc<MemoryJournal>,
}

pub struct World {
    pub(super) random: Random,
    pub(super) options: WorldOptions,
    pub(super) regions: Vec<Rc<Region>>,
    now_us: Rc<dyn Fn() -> u64>,
    pub(super) quiet: Rc<Cell<bool>>,
    /// From region to region, and whether it is up.
    pub(super) links: Rc<RefCell<BTreeMap<(usize, usize), bool>>>,
    pub(super) counts: Rc<RefCell<Counts>>,
}

/// Runs a world in simulated time, in this thread.
pub fn simulate(world: impl FnOnce() -> World) -> Result<Counts, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async move { world().run().await }))
}

/// The journals of a region.
fn journals(options: &WorldOptions) -> Vec<Arc<MemoryJournal>> {
    let count = match options.is_split {
        true => options.sidecars as u32,
        false => 1,
    };
    let journals = (0..count).map(|number| {
        Arc::new(MemoryJournal::new(MemoryOptions {
            partitions: options.partitions,
            number,
            ..MemoryOptions::default()
        }))
    });
    journals.collect()
}

/// Of another region.
fn mirrors(name: &str, options: &WorldOptions) -> Vec<Mirror> {
    let all = journals(options).into_iter().enumerate();
    let mirrors = all.map(|(at, journal)| Mirror {
        region: name.to_owned(),
        name: format!("{name}-{at}"),
        journal,
    });
    mirrors.collect()
}

/// As each sidecar's process reads them.
fn views(journals: &[Arc<MemoryJournal>]) -> Vec<Vec<Arc<MemoryJournal>>> {
    let of_one = |_| journals.iter().map(|one| Arc::new(one.view())).collect();
    (0..journals.len()).map(of_one).collect()
}

impl World {
    pub fn new(random: Random, options: WorldOptions) -> World {
        let started = Instant::now();
        let now_us: Rc<dyn Fn() -> u64> =
            Rc::new(move || EPOCH_MS * 1000 + started.elapsed().as_micros() as u64);
        let names: Vec<String> = (0..options.regions)
            .map(|index| format!("r{index}"))
            .collect();
        let regions = names.iter().map(|name| {
            let journals = journals(&options);
            Rc::new(Region {
                name: name.clone(),
                store: Rc::new(RefCell::new(Store {
                    region: name.clone(),
                    ..Store::default()
                })),
                views: views(&journals),
                journals,
                mirrors: names
                    .iter()
                    .filter(|other| *other != name)
                    .flat_map(|other| mirrors(other, &options))
                    .collect(),
                log: Rc::default(),
            })
        });
        World {
            regions: regions.collect(),
            random,
            options,
            now_us,
            quiet: Rc::default(),
            links: Rc::default(),
            counts: Rc::default(),
        }
    }

    async fn run(mut self) -> Result<Counts, String> {
        self.start_links();
        if self.options.is_filled {
            filling::prepare(&self.regions, &mut self.random);
        }
        let replicators: Vec<JoinHandle<()>> = (0..self.regions.len())
            .map(|index| self.start_replicators(index))
            .collect();
        let mut sidecars = Vec::new();
        for index in 0..self.regions.len() {
            if self.options.is_filled && index + 1 == self.regions.len() {
                filling::until_noted(&self.regions).await?;
            }
            for at in 0..self.options.sidecars {
                sidecars.push(self.start_sidecar(index, at));
            }
        }
        let end = Instant::now() + self.options.work;
        let all: Vec<(usize, usize)> = self.links.borrow().keys().copied().collect();
        let late = *self.random.pick(&all);
        if self.options.is_late_link {
            tokio::time::sleep(self.random.micros(1_000_000)).await;
            match self.random.permille(400) {
                true => self.trickle(late),
                false => self.set_link(late, false),
            }
        }
        while Instant::now() < end {
            tokio::time::sleep(self.random.micros(60_000)).await;
            // What a dead one has done and not journaled nobody hears of.
            let may_crash = self.options.crashes && !self.options.is_ahead;
            if may_crash && self.random.permille(200) {
                let victim = self.random.below(sidecars.len() as u64) as usize;
                sidecars[victim].abort();
                self.counts.borrow_mut().crashes += 1;
                let region = victim / self.options.sidecars;
                let at = victim % self.options.sidecars;
                sidecars[victim] = self.start_sidecar(region, at);
            }
            if self.options.cuts && self.random.permille(150) {
                let link = *self.random.pick(&all);
                if link != late || !self.options.is_late_link {
                    self.cut(link);
                }
            }
            if self.options.cuts && self.options.is_split && self.random.permille(150) {
                let region = self.random.below(self.regions.len() as u64) as usize;
                self.cut_own(region);
            }
        }
        self.quiet.set(true);
        self.heal();
        for sidecar in sidecars {
            let _ = sidecar.await;
        }
        if self.options.is_filled {
            filling::until_done(&self.regions).await?;
        }
        let mut found = self.settle().await;
        if found.is_ok() {
            found = self.rest().await;
        }
        for replicator in replicators {
            replicator.abort();
        }
        found?;
        self.check()?;
        if self.options.is_filled {
            filling::check(&self.regions)?;
        }
        let mut counts = self.counts.borrow().clone();
        counts.histories = 1;
        for region in &self.regions {
            counts.commands += region.log.borrow().len() as u64;
            let log = region.log.borrow();
            counts.acknowledged +=
                log.iter().filter(|one| one.acknowledged.is_some()).count() as u64;
            let records = region.records();
            counts.records += records.len() as u64;
            let told = records.iter().filter(|one| told_key(&one.2).is_some());
            counts.snapshots += told.count() as u64;
        }
        Ok(counts)
    }

    /// A region's replicator, and its successors after crashes.
    fn start_replicators(&mut self, index: usize) -> JoinHandle<()> {
        let region = Rc::clone(&self.regions[index]);
        let mut random = self.random.fork();
        let now_us = Rc::clone(&self.now_us);
        let (sabotage, failures) = (self.options.sabotage, self.options.failures);
        let (crashes, is_filled) = (self.options.crashes, self.options.is_filled);
        let (is_late_link, is_split) = (self.options.is_late_link, self.options.is_split);
        let (freezes, is_ahead) = (self.options.freezes, self.options.is_ahead);
        let quiet = Rc::clone(&self.quiet);
        let counts = Rc::clone(&self.counts);
        tokio::task::spawn_local(async move {
            let mut attempts = 0;
            loop {
                // Beside any of the sidecars.
                let host = match region.views.len() as u64 {
                    1 => 0,
                    count => random.below(count) as usize,
                };
                let others = region.mirrors.iter().map(|mirror| Source {
                    region: mirror.region.clone(),
                    name: mirror.name.clone(),
                    origin: origin(&mirror.journal),
                });
                let siblings = region.views[host].iter().enumerate();
                let siblings = siblings.filter(|(at, _)| *at != host);
                let siblings = siblings.map(|(at, view)| Source {
                    region: region.name.clone(),
                    name: format!("{}-{at}", region.name),
                    origin: origin(view),
                });
                let options = Options {
                    region: region.name.clone(),
                    namespace: "test".to_owned(),
                    store: v1::Store::Redis,
                    own: Journal::Memory(Arc::clone(&region.views[host][host])),
                    sources: others.chain(siblings).collect(),
                    table: Arc::new(ArcSwap::from_pointee(Table::built_in())),
                    batch_records: 1 + random.below(64) as usize,
                    races_max: 1 + random.below(4) as u32,
                    // Most histories are shorter than what is remembered as a rule. It is
                    // longer than values are held back where a journal is away, and than
                    // sidecars stand still.
                    remembered_ms: match is_split || freezes {
                        true => 60_000,
                        false => *random.pick(&[1000, 60_000]),
                    },
                    clock_skew_max: Duration::from_secs(10),
                    progress_interval: Duration::from_millis(100),
                    backoff_max: Duration::from_millis(500),
                    policy: Arc::default(),
                    dead_letters: None,
                    conflicts: None,
                    conflict_values: false,
                    key_versions_max: 100_000,
                    writer: random.next(),
                    is_ahead,
                    sabotage,
                };
                let now = Rc::clone(&now_us);
                let target = SimulatedTarget {
                    store: Rc::clone(&region.store),
                    random: random.fork(),
                    holder: options.writer,
                    now_ms: Rc::new(move || now() / 1000),
                    failures: if quiet.get() { 0 } else { failures },
                    watched: Vec::new(),
                    watch_after: Vec::new(),
                    was_watched: Vec::new(),
                    // Others take over while clients write, or when all is quiet.
                    lease_ms: match is_late_link {
                        true => 100,
                        false => *random.pick(&[100, 10_000]),
                    },
                };
                let mut driver = Driver::new(options, target, now_us() / 1000);
                let (_send, stop) = watch::channel(false);
                let until = match (crashes || is_late_link) && !quiet.get() {
                    // Time to lead without the region that is away.
                    true if is_late_link => Duration::from_secs(1) + random.micros(9_000_000),
                    // Who has little time for it never gets far: journals grow all
                    // the while, and are read again each time.
                    true if is_filled => {
                        attempts += 1;
                        let more = random.micros(4_000_000) * attempts;
                        Duration::from_secs(1) + more
                    }
                    true => Duration::from_millis(50) + random.micros(1_500_000),
                    false => Duration::MAX,
                };
                match until {
                    Duration::MAX => drop(driver.run(stop).await),
                    until => {
                        let _ = tokio::time::timeout(until, driver.run(stop)).await;
                        counts.borrow_mut().crashes += 1;
                    }
                }
            }
        })
    }

    fn start_sidecar(&mut self, index: usize, at: usize) -> JoinHandle<()> {
        let region = &self.regions[index];
        let journal = &region.journals[at % region.journals.len()];
        let mut sidecar = Sidecar::new(
            &region.name,
            Journal::Memory(Arc::clone(journal)).appender(),
            Rc::clone(&region.store),
            self.random.fork(),
            Rc::clone(&self.now_us),
            Rc::clone(&region.log),
        );
        let mut random = self.random.fork();
        let quiet = Rc::clone(&self.quiet);
        let flushes = self.options.flushes;
        sidecar.freezes = 4 * u64::from(self.options.freezes);
        if self.options.is_exact {
            sidecar.skew = 1000;
        }
        if self.options.is_ahead {
            let appender = Journal::Memory(Arc::clone(journal)).appender();
            sidecar.spool = Some(Spool::new(random.fork(), appender));
        }
        tokio::task::spawn_local(async move {
            while !quiet.get() {
                let count = 1 + random.below(3);
                let mut next = || match flushes && random.permille(10) {
                    true => vec![Bytes::from("FLUSHALL")],
                    false => command(&mut random),
                };
                let commands = (0..count).map(|_| next()).collect();
                sidecar.write(commands).await;
                if random.permille(300) {
                    sidecar.heartbeat().await;
                }
                sidecar.pause().await;
            }
            // Clients that don't know what became of it do it again.
            while sidecar.store.borrow().flushes_untold > 0 {
                sidecar.write(vec![vec![Bytes::from("FLUSHALL")]]).await;
                let is_done = |sent: &Sent| sent.acknowledged.is_some();
                if sidecar.log.borrow().last().is_some_and(is_done) {
                    sidecar.store.borrow_mut().flushes_untold = 0;
                }
            }
            for _ in 0..3 {
                tokio::time::sleep(HEARTBEAT).await;
                sidecar.heartbeat().await;
            }
            if let Some(spool) = sidecar.spool.take() {
                spool.finish().await;
            }
        })
    }
}

fn origin(journal: &Arc<MemoryJournal>) -> Origin {
    Origin::Journal(Journal::Memory(Arc::clone(journal)))
}
