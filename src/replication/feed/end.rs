//! Where partitions end: asked of whoever knows it, or as far as that is known without
//! waiting for anybody.
//!
//! The server of a journal says where it ends with the records, and once a second where
//! there are none. Brokers have to be asked, which is done beside all else
//! ([`hear_ends`]).

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Feed;
use crate::journal::remote::RemoteQueries;
use crate::journal::{Journal, Offset};

/// How often it is looked for the first connection to a journal.
const FIRST_TICK: Duration = Duration::from_millis(5);

/// A topic whose brokers have said so often, one time after another, that it ends before
/// what was read of it, is another one. After a change of leaders they may say so once.
pub const SHORTER_TIMES: u64 = 5;

/// The same of topics that are asked for all the time.
const SHORTER_TIME: Duration = Duration::from_secs(5);

/// How often brokers are asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Who knows where a journal ends.
pub(super) enum Ends {
    Journal(Journal),
    Remote(Box<RefCell<RemoteQueries>>),
}

/// What was heard last of where a partition of a topic ends.
#[derive(Default)]
pub(super) struct Heard {
    /// One past the last offset; of a journal of this process, likewise.
    end: Arc<AtomicU64>,
    /// How often in a row it was before what had been read when they were asked.
    shorter: Arc<AtomicU64>,
    /// Of the own region's: since when that was so each time, and whether that was long.
    shorter_since: Cell<Option<Instant>>,
    is_long_shorter: Cell<bool>,
    /// Of the first partition that is read of a topic: when its brokers were asked,
    asked: Cell<Option<Instant>>,
    /// and whether they have not answered.
    is_asked: Arc<AtomicBool>,
}

impl Heard {
    fn end(&self) -> Offset {
        self.end.load(Ordering::Relaxed)
    }

    /// Whether it ends before what was read: it was deleted and made again.
    pub(super) fn is_another(&self) -> bool {
        SHORTER_TIMES <= self.shorter.load(Ordering::Relaxed) || self.is_long_shorter.get()
    }
}

impl Feed {
    /// One past the last offset: all that was durable before the call is below.
    pub async fn end(&self) -> Result<Offset, String> {
        let journal = match &self.ends {
            Ends::Journal(journal) => journal,
            Ends::Remote(queries) => {
                // Who is away for long is not waited for each time.
                let mut queries = queries.borrow().clone();
                while !queries.is_connected() {
                    let until = self.first_until.get();
                    if until.is_none_or(|until| until <= Instant::now()) {
                        self.first_until.set(None);
                        return Err("not connected".to_owned());
                    }
                    tokio::time::sleep(FIRST_TICK).await;
                }
                self.first_until.set(None);
                let end = queries.durable_next().await;
                return end.map_err(|error| error.to_string());
            }
        };
        let bounds = match journal {
            Journal::Local(_) | Journal::Memory(_) => journal.bounds(self.partition),
            Journal::Kafka(_) | Journal::Spool(_) => {
                let (journal, partition) = (journal.clone(), self.partition);
                let asked = tokio::task::spawn_blocking(move || journal.bounds(partition));
                asked.await.map_err(|error| error.to_string())?
            }
        };
        bounds
            .map(|(_, end)| end)
            .map_err(|error| error.to_string())
    }

    /// The same, as far as it is known: waits for nobody, and is about a second old
    /// where the journal is elsewhere. Of one that is away it is what was known last.
    pub fn end_heard(&self) -> Offset {
        let end = match &self.ends {
            Ends::Remote(queries) => queries.borrow().durable_next_seen(),
            Ends::Journal(Journal::Kafka(_) | Journal::Spool(_)) => self.heard.end(),
            Ends::Journal(journal) => {
                if let Ok((_, end)) = journal.bounds(self.partition) {
                    self.heard.end.store(end, Ordering::Relaxed);
                }
                self.heard.end()
            }
        };
        end.max(self.next)
    }

    /// The topic it is a partition of, if so.
    fn topic(&self) -> Option<&Journal> {
        match &self.ends {
            Ends::Journal(journal @ (Journal::Kafka(_) | Journal::Spool(_))) => Some(journal),
            _ => None,
        }
    }
}

/// The ends of partitions of one region: see [`Feed::end`]. Of one whose end is
/// not known, none.
pub async fn ends(feeds: &[Feed]) -> Vec<Option<Offset>> {
    // All partitions of a topic are asked for at once.
    let topic = feeds.iter().find_map(Feed::topic).cloned();
    let of_topic = match topic {
        Some(topic) => {
            let asked = tokio::task::spawn_blocking(move || topic.ends()).await;
            asked.map_or(Vec::new(), Result::unwrap_or_default)
        }
        None => Vec::new(),
    };
    let mut ends = Vec::with_capacity(feeds.len());
    for feed in feeds {
        ends.push(match feed.topic() {
            Some(_) => {
                let end = of_topic.get(feed.partition as usize).copied().flatten();
                let since = &feed.heard.shorter_since;
                match end {
                    Some(end) if end < feed.next => {
                        let first = since.get().unwrap_or_else(Instant::now);
                        since.set(Some(first));
                        let is_long = SHORTER_TIME <= first.elapsed();
                        feed.heard.is_long_shorter.set(is_long);
                    }
                    Some(_) => since.set(None),
                    None => {}
                }
                end
            }
            None => feed.end().await.ok(),
        });
    }
    ends
}

/// Has the brokers of the topics among these asked where they end, if that was not done
/// lately: see [`Feed::end_heard`].
pub fn hear_ends<'a>(feeds: impl Iterator<Item = &'a Feed>) {
    let mut topics: Vec<(&Journal, Vec<&Feed>)> = Vec::new();
    for feed in feeds {
        let Some(topic) = feed.topic() else {
            continue;
        };
        match topics.iter().position(|(known, _)| is_same(known, topic)) {
            Some(at) => topics[at].1.push(feed),
            None => topics.push((topic, vec![feed])),
        }
    }
    for (topic, feeds) in topics {
        ask(topic, &feeds);
    }
}

fn is_same(one: &Journal, other: &Journal) -> bool {
    match (one, other) {
        (Journal::Kafka(one), Journal::Kafka(other)) => Arc::ptr_eq(one, other),
        (Journal::Spool(one), Journal::Spool(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// Asks for all partitions of a topic at once.
fn ask(topic: &Journal, feeds: &[&Feed]) {
    let Some(first) = feeds.first().map(|feed| &feed.heard) else {
        return;
    };
    let asked = first.asked.get();
    let is_due = asked.is_none_or(|at| ASK_INTERVAL <= at.elapsed());
    if !is_due || first.is_asked.swap(true, Ordering::Relaxed) {
        return;
    }
    first.asked.set(Some(Instant::now()));
    let (topic, is_asked) = (topic.clone(), Arc::clone(&first.is_asked));
    let each = feeds.iter();
    let heard = each.map(|feed| {
        let Heard { end, shorter, .. } = &feed.heard;
        (
            feed.partition,
            feed.next,
            Arc::clone(end),
            Arc::clone(shorter),
        )
    });
    let heard: Vec<_> = heard.collect();
    // Brokers that are away are waited for, though not by whoever ends meanwhile.
    std::thread::spawn(move || {
        let ends = topic.ends().unwrap_or_default();
        for (partition, read, end, shorter) in heard {
            if let Some(found) = ends.get(partition as usize).copied().flatten() {
                end.store(found, Ordering::Relaxed);
                match found < read {
                    true => shorter.fetch_add(1, Ordering::Relaxed),
                    false => shorter.swap(0, Ordering::Relaxed),
                };
            }
        }
        is_asked.store(false, Ordering::Relaxed);
    });
}
