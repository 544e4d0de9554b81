//! Batches that get into the journal some time after they were taken, in order.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wal_sidecar::journal::{Appender, Completion};
use wal_sidecar::mutation::RecordBatch;

use super::random::Random;

pub struct Spool {
    random: Random,
    /// What came before is shipped at that time.
    at: Instant,
    queue: mpsc::UnboundedSender<(Instant, RecordBatch)>,
    shipper: JoinHandle<()>,
}

impl Spool {
    pub fn new(random: Random, appender: Appender) -> Spool {
        let (queue, taken) = mpsc::unbounded_channel();
        Spool {
            random,
            at: Instant::now(),
            queue,
            shipper: tokio::task::spawn_local(ship(taken, appender)),
        }
    }

    pub fn submit(&mut self, batch: RecordBatch) {
        let delay = match self.random.permille(20) {
            true => self.random.micros(1_500_000),
            false => self.random.micros(20_000),
        };
        self.at = self.at.max(Instant::now() + delay);
        let _ = self.queue.send((self.at, batch));
    }

    /// Waits until all is in the journal.
    pub async fn finish(self) {
        drop(self.queue);
        let _ = self.shipper.await;
    }
}

async fn ship(mut taken: mpsc::UnboundedReceiver<(Instant, RecordBatch)>, mut appender: Appender) {
    while let Some((at, batch)) = taken.recv().await {
        tokio::time::sleep_until(at).await;
        appender.submit(batch);
        let mut completions: Vec<Completion> = Vec::new();
        std::future::poll_fn(|cx| appender.poll_completions(cx, &mut completions)).await;
        // Others have their turn.
        tokio::time::sleep(Duration::from_micros(10)).await;
    }
}
