//! A partition of a journal, read as it grows.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use super::pace::Pace;
use super::version::journal_number;
use crate::journal::remote::{RemoteError, RemoteOptions, RemoteReader};
use crate::journal::{Cursor, Journal, Offset, ReadBatch, ReadError};
use crate::mutation::{decode, v1};
use end::{Ends, Heard};

pub use end::{SHORTER_TIMES, ends, hear_ends};

mod end;

/// Bytes of records that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Reads that wait to be looked at.
const READS_MAX: usize = 4;

/// How long a reader waits after an error.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause of one that does not know yet what there is to be read.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long the first connection to a journal is waited for.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// A record, and where it is.
#[derive(Debug)]
pub struct Found {
    /// Its offset.
    pub offset: Offset,
    /// What it says.
    pub record: v1::Record,
}

/// Where the records come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A journal of this process, or a topic.
    Journal(Journal),
    /// A journal that another process serves.
    Remote(Box<RemoteOptions>),
}

impl Origin {
    /// Which partitions it has. Waits until that is known. From then on nothing
    /// is read from a journal that has taken this one's place.
    /// `name` is what people know it by.
    pub async fn partitions(&mut self, name: &str) -> Vec<u32> {
        let mut told = String::new();
        let mut pause = PAUSE;
        loop {
            let mut reason = "no broker has been reached".to_owned();
            let found = match self {
                Origin::Journal(Journal::Local(journal)) => {
                    Some(vec![journal_number(journal.identity())])
                }
                Origin::Journal(journal) => match journal.partitions() {
                    0 => None,
                    count => {
                        let first = journal.first_partition();
                        Some((first..first + count).collect())
                    }
                },
                Origin::Remote(options) => {
                    let mut reader = RemoteReader::connect((**options).clone(), 0);
                    match reader.durable_next().await {
                        Ok(_) => {
                            options.identity = reader.identity();
                            Some(vec![options.identity.map_or(0, journal_number)])
                        }
                        Err(error) => {
                            reason = error.to_string();
                            None
                        }
                    }
                }
            };
            if let Some(found) = found {
                return found;
            }
            if told != reason {
                tracing::warn!(
                    source = name,
                    reason,
                    "a journal can't be read; waiting for it"
                );
                told = reason;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Where a partition of a topic ends; none of other journals, which are known by more
    /// than their name. Waits until that is known.
    pub async fn end_of_topic(&self, partition: u32, permits: &Semaphore) -> Option<Offset> {
        let Origin::Journal(journal @ (Journal::Kafka(_) | Journal::Spool(_))) = self else {
            return None;
        };
        loop {
            let permit = permits.acquire().await;
            let journal = journal.clone();
            let asked = tokio::task::spawn_blocking(move || journal.bounds(partition)).await;
            drop(permit);
            if let Ok(Ok((_, end))) = asked {
                return Some(end);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The first offset of a partition from which on records are as new as `hlc`,
    /// or newer. Waits until that is known; each attempt takes one of `permits`, so
    /// that those that fail keep none from others.
    pub async fn find(&self, partition: u32, hlc: u64, permits: &Semaphore) -> Offset {
        let mut is_told = false;
        loop {
            let permit = permits.acquire().await;
            let found = match self {
                Origin::Journal(journal @ (Journal::Local(_) | Journal::Memory(_))) => journal
                    .find_in(partition, hlc)
                    .map_err(|error| error.to_string()),
                Origin::Journal(journal) => {
                    let journal = journal.clone();
                    let find = move || journal.find_in(partition, hlc);
                    match tokio::task::spawn_blocking(find).await {
                        Ok(found) => found.map_err(|error| error.to_string()),
                        Err(error) => Err(error.to_string()),
                    }
                }
                Origin::Remote(options) => {
                    let mut reader = RemoteReader::connect((**options).clone(), 0);
                    let found = reader.find(hlc).await;
                    found.map_err(|error| error.to_string())
                }
            };
            drop(permit);
            match found {
                Ok(offset) => return offset,
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(%error, "a journal can't be read; waiting for it");
                }
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A partition of a journal, read in the background.
pub struct Feed {
    /// The region whose journal it is.
    pub region: String,
    /// Tells it from others in checkpoints and metrics.
    pub name: String,
    /// Which partition.
    pub partition: u32,
    /// The offset after the last record that was received.
    pub next: Offset,
    /// Of the own region's: what is before it was read too late for what was
    /// applied meanwhile.
    pub late_through: Offset,
    /// The greatest clock of what was received.
    pub newest_hlc: u64,
    /// Bytes of records that were received.
    bytes: u64,
    /// How fast it is read, where others wait for it.
    pub pace: Pace,
    ends: Ends,
    /// What brokers have said of where it ends.
    heard: Heard,
    /// Until when the first connection to it is waited for.
    first_until: Cell<Option<Instant>>,
    needed: Rc<Cell<Offset>>,
    received: mpsc::Receiver<(Vec<Found>, usize)>,
    /// Why nothing can be read, if so.
    problem: Problem,
    /// Another journal has taken this one's place.
    is_replaced: Rc<Cell<bool>>,
    task: tokio::task::JoinHandle<()>,
}

/// Why nothing can be read, if so.
type Problem = Rc<RefCell<Option<String>>>;

impl Feed {
    /// Begins to read at `from`; `notify` is told of what was read. `reader` is
    /// the name under which the journal keeps what is still needed.
    pub fn start(
        origin: Origin,
        region: String,
        name: String,
        partition: u32,
        from: Offset,
        notify: Rc<Notify>,
        reader: &str,
    ) -> Feed {
        let (send, received) = mpsc::channel(READS_MAX);
        let problem = Problem::default();
        let needed = Rc::new(Cell::new(from));
        let is_replaced = Rc::<Cell<bool>>::default();
        let (for_task, noted) = (Rc::clone(&needed), Rc::clone(&problem));
        let (ends, task) = match origin {
            Origin::Journal(journal) => {
                let cursor = journal.register_reader(reader, from);
                let task = tokio::task::spawn_local(read(
                    journal.clone(),
                    partition,
                    from,
                    send,
                    notify,
                    noted,
                    (cursor, for_task),
                ));
                (Ends::Journal(journal), task)
            }
            Origin::Remote(mut options) => {
                options.reader = reader.to_owned();
                let remote = RemoteReader::connect(*options, from);
                let queries = Box::new(RefCell::new(remote.queries()));
                let read = read_remote(
                    remote,
                    send,
                    notify,
                    noted,
                    (for_task, Rc::clone(&is_replaced)),
                );
                (Ends::Remote(queries), tokio::task::spawn_local(read))
            }
        };
        Feed {
            region,
            name,
            partition,
            next: from,
            late_through: 0,
            newest_hlc: 0,
            bytes: 0,
            pace: Pace::default(),
            ends,
            heard: Heard::default(),
            first_until: Cell::new(Some(Instant::now() + FIRST_WAIT)),
            needed,
            received,
            problem,
            is_replaced,
            task,
        }
    }

    /// What has been read, if anything.
    pub fn try_next(&mut self) -> Option<Vec<Found>> {
        let (found, bytes) = self.received.try_recv().ok()?;
        self.note(&found, bytes);
        Some(found)
    }

    /// Waits for what is read next. Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<Found>> {
        let (found, bytes) = self.received.recv().await?;
        self.note(&found, bytes);
        Some(found)
    }

    /// Others wait for it to be read up to `end`, where that is known.
    pub fn note_pace(&mut self, end: Option<Offset>) {
        self.pace.note(self.next, self.bytes, end);
    }

    fn note(&mut self, found: &[Found], bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(last) = found.last() {
            self.next = last.offset + 1;
        }
        let newest = found.iter().map(|one| one.record.hlc).max();
        self.newest_hlc = self.newest_hlc.max(newest.unwrap_or(0));
    }

    /// Records before `needed` may be removed.
    pub fn acknowledge(&self, needed: Offset) {
        self.needed.set(needed.max(self.needed.get()));
    }

    /// Whether another journal has taken this one's place: begun anew, it has
    /// other records at the same offsets.
    pub fn is_replaced(&self) -> bool {
        self.is_replaced.get() || self.is_another_topic()
    }

    /// Whether its topic was deleted and made again.
    pub fn is_another_topic(&self) -> bool {
        self.heard.is_another()
    }

    /// Why nothing can be read, if so.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(
    journal: Journal,
    partition: u32,
    from: Offset,
    send: mpsc::Sender<(Vec<Found>, usize)>,
    notify: Rc<Notify>,
    problem: Problem,
    (cursor, needed): (Cursor, Rc<Cell<Offset>>),
) {
    // A replicator has one thread.
    let mut reader = journal.reader_of(partition, from).never_waiting();
    let mut batch = ReadBatch::default();
    loop {
        cursor.advance(needed.get());
        if !std::future::poll_fn(|cx| reader.poll_ready(cx)).await {
            return;
        }
        match reader.next_batch(&mut batch, READ_BYTES) {
            Ok(()) => {
                problem.replace(None);
                if !give(&batch, &send, &notify).await {
                    return;
                }
            }
            Err(ReadError::Removed { first }) => {
                tell_removed(reader.position(), first);
                reader = journal.reader_of(partition, first).never_waiting();
            }
            Err(error) => {
                note_problem(&problem, error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn read_remote(
    mut reader: RemoteReader,
    send: mpsc::Sender<(Vec<Found>, usize)>,
    notify: Rc<Notify>,
    problem: Problem,
    (needed, is_replaced): (Rc<Cell<Offset>>, Rc<Cell<bool>>),
) {
    let mut batch = ReadBatch::default();
    loop {
        reader.acknowledge(needed.get());
        match reader.next_batch(&mut batch, READ_BYTES).await {
            Ok(()) => {
                problem.replace(None);
                if !give(&batch, &send, &notify).await {
                    return;
                }
            }
            Err(RemoteError::Removed { first }) => {
                tell_removed(reader.position(), first);
                reader.seek(first);
            }
            Err(error) => {
                is_replaced.set(matches!(error, RemoteError::Replaced { .. }));
                note_problem(&problem, error.to_string());
                notify.notify_one();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Hands over what was read; false if nobody wants it.
async fn give(
    batch: &ReadBatch,
    send: &mpsc::Sender<(Vec<Found>, usize)>,
    notify: &Notify,
) -> bool {
    let decoded =
        batch.iter().filter_map(
            |(offset, bytes)| match decode(Bytes::copy_from_slice(bytes)) {
                Ok(record) => Some(Found { offset, record }),
                Err(error) => {
                    tracing::error!(offset, %error, "a record can't be read; it is left out");
                    None
                }
            },
        );
    let found: Vec<Found> = decoded.collect();
    let sent = (found, batch.bytes());
    if !sent.0.is_empty() && send.send(sent).await.is_err() {
        return false;
    }
    notify.notify_one();
    // A journal that grows fast must not keep others from their turn.
    tokio::task::yield_now().await;
    true
}

fn tell_removed(position: Offset, first: Offset) {
    tracing::error!(
        position,
        first,
        "records were removed before they were read; going on with the first there is"
    );
}

fn note_problem(problem: &Problem, error: String) {
    if problem.borrow().is_none() {
        tracing::warn!(error, "reading a journal failed; trying again");
    }
    problem.replace(Some(error));
}
