//! Compares the datastores of two regions, key by key.
//!
//! The keys of one are read on both; of the other only it is asked which the first
//! one lacks. What differs is perhaps on its way, so it is read again, some times,
//! before it counts; meanwhile the next pages are read. What is kept is a page, and
//! the keys that differ up to a limit.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::keys::KeyId;
use super::policy::{Mode, Policy};
use super::target::{DatabaseKey, TargetError};
pub use compare::{Difference, What};
pub use side::Side;

mod compare;
mod content;
mod side;

/// A key that differs is read again so often.
const ATTEMPTS: u32 = 3;

/// Keys that wait to be read again, at most.
const WAITING_MAX: usize = 4096;

/// What a share is of.
const WHOLE: u64 = 1_000_000;

/// Draws keys otherwise than anything else that hashes them.
const SEED: u64 = 0x5eed;

/// Which keys are compared, and how.
pub struct Options {
    /// Keys that are not replicated by value are left out.
    pub policy: Policy,
    /// Of so many of a million hashes.
    pub share: u64,
    /// Only those that begin with it.
    pub prefix: Bytes,
    /// How long a key that differs may take to become equal, each time.
    pub settle: Duration,
    /// Keys a second; none for as many as there are.
    pub rate: Option<u64>,
    /// Expiries may differ by this.
    pub tolerance: Duration,
}

impl Options {
    /// The share that is so many of a hundred.
    pub fn share_of_percent(percent: f64) -> u64 {
        (percent / 100.0 * WHOLE as f64).round() as u64
    }

    /// The share that is about so many keys of those there are.
    pub fn share_of_keys(keys: u64, all: u64) -> u64 {
        (u128::from(keys) * u128::from(WHOLE)).div_ceil(u128::from(all.max(1))) as u64
    }

    /// Whether a key is compared: the same on both sides.
    fn is_chosen(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix)
            && !super::engine::is_own_key(key)
            && xxh3_64_with_seed(key, SEED) % WHOLE < self.share
            && self.policy.of(key).mode == Mode::Value
    }
}

/// What has come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Keys that were looked at.
    pub seen: u64,
    /// Keys that were compared.
    pub compared: u64,
    /// Those that differ in value or expiry.
    pub differing: u64,
    /// Those that the own side lacks.
    pub missing_here: u64,
    /// Those that the other side lacks.
    pub missing_there: u64,
}

impl Counts {
    /// Keys that are not the same.
    pub fn unequal(&self) -> u64 {
        self.differing + self.missing_here + self.missing_there
    }
}

/// A side that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("{side}: {error}")]
pub struct VerifyError {
    /// Which.
    pub side: &'static str,
    /// Why.
    pub error: TargetError,
}

const HERE: &str = "this region's datastore";
const THERE: &str = "the other region's datastore";

fn here(error: TargetError) -> VerifyError {
    VerifyError { side: HERE, error }
}

fn there(error: TargetError) -> VerifyError {
    VerifyError { side: THERE, error }
}

/// A key that differed when it was last read.
struct Suspect {
    key: DatabaseKey,
    at: Instant,
    attempts: u32,
}

/// Two datastores that are compared.
pub struct Verify<'a> {
    here: Side,
    there: Side,
    options: Options,
    counts: Counts,
    suspects: VecDeque<Suspect>,
    /// Keys that were reported, as a scan may find one several times.
    reported: HashSet<KeyId>,
    /// Told of each difference.
    on_difference: &'a mut dyn FnMut(&Difference),
    /// Told now and then how far it is.
    on_progress: &'a mut dyn FnMut(&Counts),
}

impl<'a> Verify<'a> {
    /// Of this region and another one.
    pub fn new(
        here: Side,
        there: Side,
        options: Options,
        on_difference: &'a mut dyn FnMut(&Difference),
        on_progress: &'a mut dyn FnMut(&Counts),
    ) -> Verify<'a> {
        Verify {
            here,
            there,
            options,
            counts: Counts::default(),
            suspects: VecDeque::new(),
            reported: HashSet::new(),
            on_difference,
            on_progress,
        }
    }

    /// Compares all that was chosen.
    pub async fn run(&mut self) -> Result<Counts, VerifyError> {
        let mut place = Some(String::new());
        while let Some(from) = place {
            let page = self.here.scan(&from).await.map_err(here)?;
            let started = Instant::now();
            let keys = self.chosen(page.keys);
            self.counts.compared += keys.len() as u64;
            let differing = self.compare(&keys).await?;
            self.suspect(differing.into_iter().map(|one| one.key).collect(), 1);
            self.recheck(WAITING_MAX / 2).await?;
            self.pace(keys.len(), started).await;
            place = page.next;
        }
        let mut place = Some(String::new());
        while let Some(from) = place {
            let page = self.there.scan(&from).await.map_err(there)?;
            let started = Instant::now();
            let keys = self.chosen(page.keys);
            let exist = self.here.exist(&keys).await.map_err(here)?;
            let count = keys.len();
            let lacking = keys.into_iter().zip(exist).filter(|(_, exists)| !exists);
            let lacking: Vec<DatabaseKey> = lacking.map(|(key, _)| key).collect();
            self.counts.compared += lacking.len() as u64;
            self.suspect(lacking, 0);
            self.recheck(WAITING_MAX / 2).await?;
            self.pace(count, started).await;
            place = page.next;
        }
        self.recheck(0).await?;
        Ok(self.counts)
    }

    /// Compares keys, and again until they are equal or the patience is over;
    /// gives those that are not.
    pub async fn run_on(
        &mut self,
        mut keys: Vec<DatabaseKey>,
    ) -> Result<Vec<Difference>, VerifyError> {
        let mut differing = Vec::new();
        for _ in 0..ATTEMPTS {
            tokio::time::sleep(self.options.settle).await;
            differing = self.compare(&keys).await?;
            keys = differing.iter().map(|one| one.key.clone()).collect();
            if keys.is_empty() {
                break;
            }
        }
        Ok(differing)
    }

    fn chosen(&mut self, keys: Vec<DatabaseKey>) -> Vec<DatabaseKey> {
        self.counts.seen += keys.len() as u64;
        (self.on_progress)(&self.counts);
        let mut keys = keys;
        keys.retain(|(_, key)| self.options.is_chosen(key));
        keys
    }

    async fn pace(&self, keys: usize, started: Instant) {
        if let Some(rate) = self.options.rate {
            let time = Duration::from_secs_f64(keys as f64 / rate.max(1) as f64);
            tokio::time::sleep_until(started + time).await;
        }
        tokio::task::yield_now().await;
    }

    fn suspect(&mut self, keys: Vec<DatabaseKey>, attempts: u32) {
        let at = Instant::now() + self.options.settle;
        self.suspects
            .extend(keys.into_iter().map(|key| Suspect { key, at, attempts }));
    }

    /// Reads again what differed, where it is time to; waits for that until no
    /// more than so many are left.
    async fn recheck(&mut self, left: usize) -> Result<(), VerifyError> {
        loop {
            let now = Instant::now();
            let due = self.suspects.partition_point(|one| one.at <= now);
            if due == 0 {
                match self.suspects.front() {
                    Some(first) if left < self.suspects.len() => {
                        tokio::time::sleep_until(first.at).await;
                        continue;
                    }
                    _ => return Ok(()),
                }
            }
            let due: Vec<Suspect> = self.suspects.drain(..due).collect();
            let keys: Vec<DatabaseKey> = due.iter().map(|one| one.key.clone()).collect();
            let differing = self.compare(&keys).await?;
            let mut each = due.iter();
            for one in differing {
                let attempts = each.find(|suspect| suspect.key == one.key);
                let attempts = attempts.map_or(ATTEMPTS, |suspect| suspect.attempts);
                match attempts < ATTEMPTS {
                    true => self.suspect(vec![one.key], attempts + 1),
                    false => self.report(one),
                }
            }
        }
    }

    fn report(&mut self, difference: Difference) {
        let (database, key) = &difference.key;
        if !self.reported.insert(KeyId::of(*database, key)) {
            return;
        }
        match difference.what {
            What::MissingHere => self.counts.missing_here += 1,
            What::MissingThere => self.counts.missing_there += 1,
            What::Value | What::Expiry => self.counts.differing += 1,
        }
        (self.on_difference)(&difference);
    }

    /// Those of the keys that differ now, in order.
    async fn compare(&mut self, keys: &[DatabaseKey]) -> Result<Vec<Difference>, VerifyError> {
        let mut differing = Vec::new();
        let mut rest = keys;
        while !rest.is_empty() {
            let count = self
                .here
                .at_once()
                .min(self.there.at_once())
                .min(rest.len());
            let (part, after) = rest.split_at(count);
            rest = after;
            let (ours, theirs) = tokio::join!(self.here.read(part), self.there.read(part));
            let (ours, theirs) = (ours.map_err(here)?, theirs.map_err(there)?);
            let now_ms = crate::platform::Platform::system().clock.now_ms() as i64;
            let tolerance = self.options.tolerance.as_millis() as i64;
            // Bytes that differ may be equal values.
            let mut doubtful = Vec::new();
            let mut found: Vec<(usize, Difference)> = Vec::new();
            let pairs = part.iter().zip(ours.iter().zip(&theirs));
            for (index, (key, (ours, theirs))) in pairs.enumerate() {
                let difference = compare::quick(key, ours, theirs, now_ms, tolerance);
                match difference {
                    Some(one) if one.what == What::Value => doubtful.push((index, one)),
                    Some(one) => found.push((index, one)),
                    None => {}
                }
            }
            found.extend(
                self.look_closely(doubtful, part, tolerance, (&ours, &theirs))
                    .await?,
            );
            found.sort_by_key(|(index, _)| *index);
            differing.extend(found.into_iter().map(|(_, one)| one));
        }
        Ok(differing)
    }

    /// Compares values by what they are instead of how they are stored.
    async fn look_closely(
        &mut self,
        doubtful: Vec<(usize, Difference)>,
        part: &[DatabaseKey],
        tolerance: i64,
        (ours, theirs): (&[super::target::Value], &[super::target::Value]),
    ) -> Result<Vec<(usize, Difference)>, VerifyError> {
        let mut differing = Vec::new();
        for (index, mut difference) in doubtful {
            let key = &part[index];
            let (one, other) = tokio::join!(
                self.here.content(key, &ours[index]),
                self.there.content(key, &theirs[index])
            );
            let (one, other) = (one.map_err(here)?, other.map_err(there)?);
            match content::difference(&one, &other) {
                Some(detail) => {
                    difference.detail = detail;
                    differing.push((index, difference));
                }
                None => {
                    let expiry = compare::expiry(key, &ours[index], &theirs[index], tolerance);
                    differing.extend(expiry.map(|one| (index, one)));
                }
            }
        }
        Ok(differing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_of_the_same_keys_and_of_the_size_asked_for() {
        let options = |share| Options {
            policy: Policy::default(),
            share,
            prefix: Bytes::from_static(b"k"),
            settle: Duration::ZERO,
            rate: None,
            tolerance: Duration::ZERO,
        };
        let chosen = |share: u64| {
            let options = options(share);
            let keys = (0..10_000).map(|key| format!("k{key}"));
            keys.filter(|key| options.is_chosen(key.as_bytes()))
                .collect::<Vec<_>>()
        };
        let tenth = chosen(Options::share_of_percent(10.0));
        assert!((900..1100).contains(&tenth.len()), "{}", tenth.len());
        let fifth = chosen(Options::share_of_percent(20.0));
        assert!(tenth.iter().all(|key| fifth.contains(key)));
        assert_eq!(chosen(Options::share_of_percent(100.0)).len(), 10_000);
        let hundred = chosen(Options::share_of_keys(100, 10_000));
        assert!((60..140).contains(&hundred.len()), "{}", hundred.len());
        let all = options(WHOLE);
        assert!(!all.is_chosen(b"other") && !all.is_chosen(b"wal-sidecar:lease:k"));
    }
}
