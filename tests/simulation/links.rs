//! The links between regions: what is journaled in one gets to the other late, or
//! not for a while.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wal_sidecar::journal::{Journal, MemoryJournal, ReadBatch};

use super::random::Random;
use super::world::World;

impl World {
    pub fn start_links(&mut self) {
        for from in 0..self.regions.len() {
            for to in 0..self.regions.len() {
                if from == to {
                    continue;
                }
                self.set_link((from, to), true);
                let mirror = self.mirror((from, to));
                for partition in 0..self.options.partitions {
                    let source = self.regions[from].journal.clone();
                    let links = Rc::clone(&self.links);
                    let random = self.random.fork();
                    let mirror = Arc::clone(&mirror);
                    let is_up = move || links.borrow()[&(from, to)];
                    let link = copy(source, mirror, partition, random, is_up);
                    tokio::task::spawn_local(link);
                }
            }
        }
    }

    fn mirror(&self, (from, to): (usize, usize)) -> Arc<MemoryJournal> {
        let name = &self.regions[from].name;
        let mut mirrors = self.regions[to].mirrors.iter();
        let mirror = mirrors.find(|(other, _)| other == name);
        Arc::clone(&mirror.expect("every other region").1)
    }

    pub fn set_link(&self, link: (usize, usize), is_up: bool) {
        self.links.borrow_mut().insert(link, is_up);
        self.mirror(link).set_away(!is_up);
    }

    pub fn cut(&mut self, link: (usize, usize)) {
        self.counts.borrow_mut().cuts += 1;
        self.set_link(link, false);
        let (links, quiet) = (Rc::clone(&self.links), Rc::clone(&self.quiet));
        let mirror = self.mirror(link);
        let time = self.random.micros(800_000);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(time).await;
            if !quiet.get() {
                links.borrow_mut().insert(link, true);
                mirror.set_away(false);
            }
        });
    }
}

/// Brings a partition's records to another region, late.
async fn copy(
    source: Journal,
    mirror: Arc<MemoryJournal>,
    partition: u32,
    mut random: Random,
    is_up: impl Fn() -> bool,
) {
    let latency = 1000 + random.below(60_000);
    let mut reader = source.reader_of(partition, 0);
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
