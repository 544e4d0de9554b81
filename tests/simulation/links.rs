//! The links between regions: what is journaled in one gets to the other late, or
//! not for a while.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wal_sidecar::journal::{Journal, MemoryJournal, ReadBatch};

use super::random::Random;
use super::world::World;

/// How long a link is cut, at most, in microseconds.
const CUT_US: u64 = 800_000;

/// How long nothing comes over a link that hardly passes anything, at most.
const TRICKLE_US: u64 = 80_000;

impl World {
    pub fn start_links(&mut self) {
        for from in 0..self.regions.len() {
            for to in 0..self.regions.len() {
                if from == to {
                    continue;
                }
                self.set_link((from, to), true);
                let name = &self.regions[from].name;
                let mirrors = self.regions[to].mirrors.iter();
                let mirrors = mirrors.filter(|one| one.region == *name);
                for (mirror, of) in mirrors.zip(&self.regions[from].journals) {
                    for partition in partitions(of) {
                        let random = self.random.fork();
                        let mirror = Arc::clone(&mirror.journal);
                        let links = Rc::clone(&self.links);
                        let is_up = move || links.borrow()[&(from, to)];
                        let link = copy(of.clone(), mirror, partition, random, is_up);
                        tokio::task::spawn_local(link);
                    }
                }
            }
        }
    }

    pub fn set_link(&self, (from, to): (usize, usize), is_up: bool) {
        self.links.borrow_mut().insert((from, to), is_up);
        let name = &self.regions[from].name;
        for mirror in &self.regions[to].mirrors {
            if mirror.region == *name {
                mirror.journal.set_away(!is_up);
            }
        }
    }

    pub fn cut(&mut self, link: (usize, usize)) {
        self.counts.borrow_mut().cuts += 1;
        self.set_link(link, false);
        let (links, quiet) = (Rc::clone(&self.links), Rc::clone(&self.quiet));
        let name = self.regions[link.0].name.clone();
        let to = Rc::clone(&self.regions[link.1]);
        let time = self.random.micros(CUT_US);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            if !quiet.get() {
                links.borrow_mut().insert(link, true);
                let mirrors = to.mirrors.iter().filter(|one| one.region == name);
                mirrors.for_each(|one| one.journal.set_away(false));
            }
        });
    }

    /// From now on a link passes a record now and then, for as long as clients write.
    pub fn trickle(&mut self, link: (usize, usize)) {
        let name = self.regions[link.0].name.clone();
        let mirrors = self.regions[link.1].mirrors.iter();
        let mirrors = mirrors.filter(|one| one.region == name);
        for mirror in mirrors.map(|one| Arc::clone(&one.journal)) {
            let (quiet, mut random) = (Rc::clone(&self.quiet), self.random.fork());
            mirror.allow(Some(0));
            tokio::task::spawn_local(async move {
                while !quiet.get() {
                    tokio::time::sleep(random.micros(TRICKLE_US)).await;
                    mirror.allow(Some(1));
                }
                mirror.allow(None);
            });
        }
    }

    /// Cuts the links within a region that lead to a sidecar's journal, or one of them;
    /// now and then for as long as clients write.
    pub fn cut_own(&mut self, region: usize) {
        let region = &self.regions[region];
        let count = region.journals.len() as u64;
        let of = self.random.below(count) as usize;
        let only = self.random.below(2 * count) as usize;
        let is_cut = |host: usize| host != of && (only == host || count as usize <= only);
        let cut = region.views.iter().enumerate();
        let cut = cut.filter(|(host, _)| is_cut(*host));
        let cut: Vec<_> = cut.map(|(_, views)| Arc::clone(&views[of])).collect();
        self.counts.borrow_mut().cuts += cut.len() as u64;
        cut.iter().for_each(|view| view.set_away(true));
        if self.random.permille(100) {
            return;
        }
        let time = self.random.micros(CUT_US);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            cut.iter().for_each(|view| view.set_away(false));
        });
    }

    /// All links are up again.
    pub fn heal(&self) {
        let all: Vec<(usize, usize)> = self.links.borrow().keys().copied().collect();
        all.into_iter().for_each(|link| self.set_link(link, true));
        for region in &self.regions {
            let views = region.views.iter().flatten();
            views.for_each(|view| view.set_away(false));
        }
    }
}

/// The numbers of a journal's partitions.
pub fn partitions(of: &Arc<MemoryJournal>) -> Range<u32> {
    let journal = Journal::Memory(Arc::clone(of));
    let first = journal.first_partition();
    first..first + journal.partitions()
}

/// Brings a partition's records to another region, late.
async fn copy(
    source: Arc<MemoryJournal>,
    mirror: Arc<MemoryJournal>,
    partition: u32,
    mut random: Random,
    is_up: impl Fn() -> bool,
) {
    let latency = 1000 + random.below(60_000);
    let mut reader = Journal::Memory(source).reader_of(partition, 0);
    let mut batch = ReadBatch::default();
    while std::future::poll_fn(|cx| reader.poll_ready(cx)).await {
        reader.next_batch(&mut batch, 2000).expect("in memory");
        tokio::time::sleep(Duration::from_micros(latency / 2) + random.micros(latency)).await;
        while !is_up() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (_, bytes) in batch.iter() {
            mirror.add(partition, bytes);
        }
    }
}
