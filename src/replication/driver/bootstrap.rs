//! Copies the own region's data to the others: has each key told that there is,
//! page by page, as somebody has asked for; and single keys likewise.
//!
//! Keys are told as all others are, so writes that go on are no matter of this
//! file. What it has to see to:
//!
//! - What a value includes has to be known before it is told: all journals have to
//!   be read up to where they were applied ([`Driver::waits_for`]).
//! - The progress that is saved is the place of the first page of which a key is
//!   not told, so whoever takes over tells keys again but leaves none out.
//! - All of it is between two heartbeats in the own journal that say that copying
//!   goes on and that it does not any more, for the sake of regions that have no
//!   more than a part of a key (`engine/filling.rs`).

use std::collections::{BTreeSet, VecDeque};

use super::super::request::{PROGRESS, Phase, Progress, Request};
use super::*;

/// Keys that wait to be told before further ones are looked for.
const WAITING_MAX: usize = 512;

/// How long it is waited for where the own journals end, each time.
const ENDS_WITHIN: Duration = Duration::from_millis(500);

/// Keys that somebody has asked for, taken at once.
const ASKED_AT_ONCE: usize = 256;

/// The checkpoint that names the regions that were being copied to this one.
const FILLING: &str = ":filling";

/// How long it is waited, all keys told, for regions that are away to hear of it.
const HEARD_WITHIN: Duration = Duration::from_secs(600);

/// The same before the first key is told, at most.
const BEGIN_WITHIN: Duration = Duration::from_secs(30);

/// The same, for regions that were not heard of.
const HEARD_OF_WITHIN: Duration = Duration::from_secs(10);

/// Keys that were found together.
struct Page {
    place: String,
    /// Those of them that are not told yet.
    keys: Vec<DatabaseKey>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Bootstrap {
    /// What was last written of whether it goes on.
    pub(super) said: Option<bool>,
    progress: Option<Progress>,
    /// Pages of which keys are not told.
    pages: VecDeque<Page>,
    /// Where the next page begins; none after the last.
    next: Option<String>,
    /// Not before is it looked for.
    next_at: Option<Instant>,
    /// Where the own journals ended when it began: what is before has to be read.
    ends: Option<Vec<u64>>,
    /// When it was ready to begin.
    began: Option<Instant>,
    /// What is to be applied before the first key is told, once that is known.
    needed: Option<HashMap<Partition, u64>>,
    /// All that is.
    is_open: bool,
    /// When the last key was told.
    all_told: Option<Instant>,
    /// Somebody has perhaps asked for keys.
    are_keys_asked: bool,
    /// Regions that were being copied to this one before the start, and have not said
    /// since whether they still are.
    were_filling: BTreeSet<String>,
    /// All that are.
    filling: BTreeSet<String>,
    is_dirty: bool,
}

impl Bootstrap {
    /// Goes on with what is among the checkpoints.
    pub(super) fn of(checkpoints: &HashMap<String, String>) -> Bootstrap {
        let progress = checkpoints.get(PROGRESS);
        let progress = progress.and_then(|text| Progress::parse(text));
        let filling = checkpoints.get(FILLING).map_or("", String::as_str);
        let filling: BTreeSet<String> = filling.split_whitespace().map(str::to_owned).collect();
        Bootstrap {
            next: progress.as_ref().map(|known| known.place.clone()),
            progress,
            were_filling: filling.clone(),
            filling,
            ..Bootstrap::default()
        }
    }

    /// Whether the own region's data is being copied.
    pub(super) fn is_running(&self) -> bool {
        self.progress.as_ref().is_some_and(Progress::is_running)
    }

    /// What is to be kept with the checkpoints, if there is anything new: until
    /// [`Bootstrap::is_kept`].
    pub(super) fn to_keep(&self) -> Vec<(String, String)> {
        if !self.is_dirty {
            return Vec::new();
        }
        let filling: Vec<&str> = self.filling.iter().map(String::as_str).collect();
        let mut saved = vec![(FILLING.to_owned(), filling.join(" "))];
        saved.extend(
            self.progress
                .as_ref()
                .map(|known| (PROGRESS.to_owned(), known.format())),
        );
        saved
    }

    /// Notes that it is.
    pub(super) fn is_kept(&mut self) {
        self.is_dirty = false;
    }

    /// Counts the keys that were told, and notes how far it is.
    fn note_told(&mut self, is_due: impl Fn(&DatabaseKey) -> bool) {
        let Some(progress) = &mut self.progress else {
            return;
        };
        for page in &mut self.pages {
            let before = page.keys.len();
            page.keys.retain(&is_due);
            progress.told += (before - page.keys.len()) as u64;
            self.is_dirty |= before != page.keys.len();
        }
        while self.pages.front().is_some_and(|page| page.keys.is_empty()) {
            self.pages.pop_front();
        }
        let place = self.pages.front().map(|page| &page.place);
        if let Some(place) = place.or(self.next.as_ref()) {
            progress.place.clone_from(place);
        }
    }

    fn waiting(&self) -> usize {
        self.pages.iter().map(|page| page.keys.len()).sum()
    }
}

impl<T: Target> Driver<T> {
    /// Looks whether anything was asked for, cheaply.
    pub(super) async fn look_for_requests(&mut self) -> Result<(), TargetError> {
        self.bootstrap.are_keys_asked = true;
        let asked = self.target.asked().await?;
        let Some(request) = asked.and_then(|text| Request::parse(&text)) else {
            return Ok(());
        };
        let known = self.bootstrap.progress.as_ref();
        let is_known = known.is_some_and(|known| known.id == request.id);
        match (is_known, request.is_cancelled) {
            (true, true) if self.bootstrap.is_running() => self.end_copying(Phase::Cancelled),
            (true, _) | (false, true) => {}
            (false, false) => {
                let total = self.target.count().await?;
                let now_ms = self.now_ms();
                self.bootstrap.progress = Some(Progress::new(&request, total, now_ms));
                self.bootstrap.pages.clear();
                self.bootstrap.next = Some(String::new());
                self.bootstrap.ends = None;
                self.bootstrap.all_told = None;
                self.bootstrap.began = None;
                self.bootstrap.needed = None;
                self.bootstrap.is_open = false;
                self.say_at_once();
                tracing::info!(
                    namespace = self.options.namespace,
                    keys = total,
                    rate = request.rate,
                    "copying this region's data to the others"
                );
            }
        }
        Ok(())
    }

    /// Copies a little; whether there was anything to do.
    pub(super) async fn copy(&mut self) -> Result<bool, TargetError> {
        let mut worked = self.take_keys().await?;
        if !self.bootstrap.is_running() {
            return Ok(worked);
        }
        self.note_regions();
        let engine = &self.engine;
        self.bootstrap
            .note_told(|(database, key)| engine.is_due(*database, key));
        let now = Instant::now();
        let mut why = self.waits_for().await;
        if why.is_none() && !self.bootstrap.is_open {
            why = self.too_early(now);
            self.bootstrap.is_open = why.is_none();
        }
        self.note_why(why.clone());
        if why.is_some() {
            return Ok(worked);
        }
        let is_time = self.bootstrap.next_at.is_none_or(|at| at <= now);
        match self.bootstrap.next.clone() {
            None if self.bootstrap.pages.is_empty() => {
                let all_told = *self.bootstrap.all_told.get_or_insert(now);
                match self.unheard() {
                    // Its clients would write to keys of which it has not all.
                    Some((name, patience)) if now < all_told + patience => {
                        self.note_why(Some(format!("{name} has not heard of it")));
                    }
                    _ => self.end_copying(Phase::Done),
                }
            }
            Some(place) if is_time && self.bootstrap.waiting() < WAITING_MAX => {
                self.take_page(place).await?;
                worked = true;
            }
            _ => {}
        }
        Ok(worked)
    }

    /// What has to be applied before the first key is told. What another region had
    /// applied before it knew of this it does not make again on top of what it is
    /// told, so that has to be in it.
    fn too_early(&mut self, now: Instant) -> Option<String> {
        let began = *self.bootstrap.began.get_or_insert(now);
        if let Some((name, patience)) = self.unheard()
            && now < began + patience.min(BEGIN_WITHIN)
        {
            return Some(format!("{name} has not heard of it"));
        }
        if self.bootstrap.needed.is_none() {
            let mut needed = HashMap::new();
            for (feed, inlet, _) in &self.inlets {
                let regions = (1..self.engine.regions as u8).map(RegionId);
                let told = regions.map(|region| match region == inlet.partition.region {
                    true => feed.next,
                    false => self.engine.progress_of(region, inlet.partition),
                });
                needed.insert(inlet.partition, told.max().unwrap_or(0));
            }
            self.bootstrap.needed = Some(needed);
        }
        let needed = self.bootstrap.needed.as_ref();
        let mut inlets = self.inlets.iter();
        let late = inlets.find(|(_, inlet, _)| {
            let needed = needed.and_then(|needed| needed.get(&inlet.partition));
            needed.is_some_and(|needed| inlet.applied < *needed)
        });
        late.map(|(feed, _, _)| format!("changes of {} are being applied", feed.name))
    }

    /// A region that does not know that it is being filled, and how long it is
    /// waited for: one that was not heard of may not replicate at all.
    fn unheard(&self) -> Option<(String, Duration)> {
        let noted = self.bootstrap.progress.as_ref().map(|one| &one.noted);
        let regions = (1..self.engine.regions as u8).map(RegionId);
        let name = |region: RegionId| &self.engine.names[usize::from(region.0)];
        let unheard =
            regions.filter(|region| noted.is_none_or(|noted| !noted.contains(name(*region))));
        let each = unheard.map(|region| {
            let patience = match self.engine.has_told_progress(region) {
                true => HEARD_WITHIN,
                false => HEARD_OF_WITHIN,
            };
            (name(region).clone(), patience)
        });
        each.max_by_key(|(_, patience)| *patience)
    }

    async fn take_page(&mut self, place: String) -> Result<(), TargetError> {
        let page = self.target.scan(&place).await?;
        let Some(progress) = &mut self.bootstrap.progress else {
            return Ok(());
        };
        let seen = page.keys.len() as u64;
        progress.seen += seen;
        let pause = match seen {
            0 => TICK,
            seen => Duration::from_secs_f64(seen as f64 / progress.rate as f64),
        };
        let mut keys = page.keys;
        // Those that are not replicated are not due then.
        keys.retain(|(database, key)| {
            self.engine.tell_surely(*database, key, Reason::Bootstrap);
            self.engine.is_due(*database, key)
        });
        let bootstrap = &mut self.bootstrap;
        let now = Instant::now();
        // What one page is late, the next is early by.
        let from = bootstrap.next_at.map_or(now, |at| at.max(now - TICK));
        bootstrap.next_at = Some(from + pause);
        bootstrap.pages.push_back(Page { place, keys });
        bootstrap.next = page.next;
        bootstrap.is_dirty = true;
        Ok(())
    }

    /// Takes keys that somebody wants to be told.
    async fn take_keys(&mut self) -> Result<bool, TargetError> {
        if !self.bootstrap.are_keys_asked || WAITING_MAX < self.engine.due.len() {
            return Ok(false);
        }
        if self.waits_for().await.is_some() {
            return Ok(false);
        }
        let keys = self.target.take_keys(ASKED_AT_ONCE).await?;
        self.bootstrap.are_keys_asked = !keys.is_empty();
        for (database, key) in &keys {
            self.engine.tell_surely(*database, key, Reason::Bootstrap);
        }
        Ok(!keys.is_empty())
    }

    fn end_copying(&mut self, phase: Phase) {
        let now_ms = self.now_ms();
        let Some(progress) = &mut self.bootstrap.progress else {
            return;
        };
        progress.phase = phase;
        progress.ended_ms = now_ms;
        progress.why.clear();
        tracing::info!(
            namespace = self.options.namespace,
            keys = progress.told,
            ?phase,
            "copying this region's data has ended"
        );
        self.bootstrap.pages.clear();
        self.bootstrap.next = None;
        self.say_at_once();
    }

    /// Has progress written to the own journal, and kept, with the next cycle.
    fn say_at_once(&mut self) {
        self.bootstrap.is_dirty = true;
        self.timers.progress = Instant::now();
        self.timers.checkpoint = Instant::now();
    }

    fn note_why(&mut self, why: Option<String>) {
        let now_ms = self.now_ms();
        let Some(progress) = &mut self.bootstrap.progress else {
            return;
        };
        progress.phase = match &why {
            Some(_) => Phase::Waiting,
            None => Phase::Copying,
        };
        let why = why.unwrap_or_default();
        self.bootstrap.is_dirty |= progress.why != why;
        progress.why = why;
        progress.at_ms = now_ms;
    }

    /// Notes which regions have read that it goes on.
    fn note_regions(&mut self) {
        let Some(ends) = &self.bootstrap.ends else {
            return;
        };
        let has_noted = |region: RegionId| {
            let mut each = self.own.iter().zip(ends);
            each.all(|(feed, end)| {
                let partition = Partition::own(feed.partition);
                let through = self.engine.progress.get(&(region, partition));
                through.is_some_and(|through| *end <= *through)
            })
        };
        // Who has noted it once goes by it until it is over, whoever leads here.
        let regions = (1..self.engine.regions as u8).map(RegionId);
        for region in regions.filter(|region| has_noted(*region)) {
            let name = &self.engine.names[region.0 as usize];
            if let Some(progress) = &mut self.bootstrap.progress
                && !progress.noted.contains(name)
            {
                progress.noted.push(name.clone());
                self.bootstrap.is_dirty = true;
            }
        }
    }

    /// What has to happen before it is known what the values of keys include. Of
    /// a source that was never applied nothing is included.
    async fn waits_for(&mut self) -> Option<String> {
        let names = &self.engine.names;
        if let Some(closed) = self.closed.first() {
            let region = &names[closed.partition.region.0 as usize];
            return Some(format!("the journal of region {region} can't be reached"));
        }
        if self.own_unopened > 0 {
            let region = &self.options.region;
            let is_open = |source: &Source| self.own.iter().any(|feed| feed.name == source.name);
            let mut sources = self.options.sources.iter();
            let closed = sources.find(|one| one.region == *region && !is_open(one));
            let name = closed.map_or(region, |source| &source.name);
            return Some(format!("the journal {name} can't be read"));
        }
        if let Some(name) = self.behind() {
            return Some(format!("the journal of {name} is being read"));
        }
        let horizon = self.engine.horizon();
        let mut inlets = self.inlets.iter();
        let is_behind = |hlc: u64| hlc != 0 && hlc < horizon;
        let late = inlets.find(|(_, inlet, _)| is_behind(inlet.hlc()));
        if let Some((feed, _, _)) = late {
            let name = &feed.name;
            return Some(format!("changes of {name} are not applied for too long"));
        }
        if self.bootstrap.ends.is_none() {
            // It was said in the own journal: what is behind that has it noted.
            if self.bootstrap.is_running() && self.bootstrap.said != Some(true) {
                return Some("beginning".to_owned());
            }
            let ends = self.ends_of_own(Instant::now() + ENDS_WITHIN).await;
            if let Some(at) = ends.iter().position(Option::is_none) {
                let name = &self.own[at].name;
                return Some(format!("where the journal {name} ends is not known"));
            }
            self.bootstrap.ends = Some(ends.into_iter().flatten().collect());
        }
        let ends = self.bootstrap.ends.iter().flatten();
        let late = self
            .own
            .iter()
            .zip(ends)
            .find(|(feed, end)| feed.next < **end);
        late.map(|(feed, _)| format!("the journal of {} is being read", feed.name))
    }

    /// The source that is not read again up to where it was applied, if any is.
    pub(super) fn behind(&self) -> Option<&str> {
        let mut inlets = self.inlets.iter();
        let behind = inlets.find(|(feed, inlet, _)| feed.next < inlet.applied);
        behind.map(|(feed, _, _)| feed.name.as_str())
    }

    /// Tells the engine whether other regions are being copied to this one. One that
    /// was when this replicator began, still is until it says that it is not: it may
    /// be away for long.
    pub(super) fn note_filling(&mut self) {
        if self.closed.is_empty() && self.behind().is_none() {
            let (inlets, names) = (&self.inlets, &self.engine.names[1..]);
            let is_heard = |name: &String| {
                let mut of_region = inlets.iter().filter(|(feed, _, _)| feed.region == *name);
                of_region.any(|(_, inlet, _)| inlet.copying.is_heard())
            };
            let is_silent = |name: &String| names.contains(name) && !is_heard(name);
            self.bootstrap.were_filling.retain(is_silent);
        }
        let mut filling = self.bootstrap.were_filling.clone();
        let mut least: Option<HashMap<Partition, u64>> = None;
        for (feed, inlet, _) in &self.inlets {
            let Some(through) = inlet.copying.through() else {
                continue;
            };
            filling.insert(feed.region.clone());
            let mut all: HashMap<Partition, u64> = HashMap::new();
            for ((name, number), offset) in through {
                let partition = Partition {
                    region: self.region(name),
                    number: *number,
                };
                let known = all.entry(partition).or_insert(*offset);
                *known = (*known).min(*offset);
            }
            match &mut least {
                None => least = Some(all),
                // What one of them says nothing of may come with its snapshots.
                Some(least) => least.retain(|partition, known| {
                    let other = all.get(partition);
                    *known = other.map_or(0, |other| *known.min(&mut other.clone()));
                    other.is_some()
                }),
            }
        }
        if !self.bootstrap.were_filling.is_empty() {
            least = Some(HashMap::new());
        }
        if self.bootstrap.filling != filling {
            self.bootstrap.filling = filling;
            self.bootstrap.is_dirty = true;
            self.timers.checkpoint = Instant::now();
        }
        self.engine.set_filling(least);
    }
}
