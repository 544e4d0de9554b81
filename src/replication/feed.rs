//! A partition of a journal, read as it grows.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::journal::{Journal, Offset, ReadBatch, ReadError};
use crate::mutation::{decode, v1};

/// Bytes of records that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Reads that wait to be looked at.
const READS_MAX: usize = 4;

/// How long a reader waits after an error.
const PAUSE: Duration = Duration::from_millis(200);

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
    origin: Origin,
    received: mpsc::Receiver<Vec<Found>>,
    /// Why nothing can be read, if so.
    problem: Rc<std::cell::RefCell<Option<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Feed {
    /// Begins to read at `from`; `notify` is told of what was read.
    pub fn start(
        origin: Origin,
        region: String,
        name: String,
        partition: u32,
        from: Offset,
        notify: Rc<Notify>,
    ) -> Feed {
        let (send, received) = mpsc::channel(READS_MAX);
        let problem = Rc::new(std::cell::RefCell::new(None));
        let task = tokio::task::spawn_local(read(
            origin.clone(),
            partition,
            from,
            send,
            notify,
            Rc::clone(&problem),
        ));
        Feed {
            region,
            name,
            partition,
            next: from,
            origin,
            received,
            problem,
            task,
        }
    }

    /// What has been read, if anything.
    pub fn try_next(&mut self) -> Option<Vec<Found>> {
        let found = self.received.try_recv().ok()?;
        self.note(&found);
        Some(found)
    }

    /// Waits for what is read next. Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<Found>> {
        let found = self.received.recv().await?;
        self.note(&found);
        Some(found)
    }

    fn note(&mut self, found: &[Found]) {
        if let Some(last) = found.last() {
            self.next = last.offset + 1;
        }
    }

    /// One past the last offset: all that was durable before the call is below.
    pub async fn end(&self) -> Result<Offset, String> {
        let Origin::Journal(journal) = &self.origin;
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
    origin: Origin,
    partition: u32,
    from: Offset,
    send: mpsc::Sender<Vec<Found>>,
    notify: Rc<Notify>,
    problem: Rc<std::cell::RefCell<Option<String>>>,
) {
    let Origin::Journal(journal) = origin;
    let mut reader = journal.reader_of(partition, from);
    let mut batch = ReadBatch::default();
    loop {
        if !std::future::poll_fn(|cx| reader.poll_ready(cx)).await {
            return;
        }
        match reader.next_batch(&mut batch, READ_BYTES) {
            Ok(()) => {
                problem.replace(None);
                let found = batch.iter().filter_map(|(offset, bytes)| {
                    match decode(Bytes::copy_from_slice(bytes)) {
                        Ok(record) => Some(Found { offset, record }),
                        Err(error) => {
                            tracing::error!(offset, %error, "a record can't be read; it is left out");
                            None
                        }
                    }
                });
                let found: Vec<Found> = found.collect();
                if !found.is_empty() && send.send(found).await.is_err() {
                    return;
                }
                notify.notify_one();
                // A journal that grows fast must not keep others from their turn.
                tokio::task::yield_now().await;
            }
            Err(ReadError::Removed { first }) => {
                tracing::error!(
                    partition,
                    position = reader.position(),
                    first,
                    "records were removed before they were read; going on with the first there is"
                );
                reader = journal.reader_of(partition, first);
            }
            Err(error) => {
                if problem.replace(Some(error.to_string())).is_none() {
                    tracing::warn!(partition, %error, "reading a journal failed; trying again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
