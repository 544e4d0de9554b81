//! One appender's way in.

use std::sync::Arc;

use super::super::AppendError;
use super::super::appender::Staged;
use super::shared::{QueueNumber, Shared};

/// Gives what an appender hands over to librdkafka.
pub(in super::super) struct Inbox {
    shared: Arc<Shared>,
    queue: usize,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("queue", &self.queue).finish()
    }
}

impl Inbox {
    pub(super) fn new(shared: &Arc<Shared>, queue: usize) -> Inbox {
        Inbox {
            shared: Arc::clone(shared),
            queue,
        }
    }

    /// Takes a hand-over, or gives it back with the reason.
    pub(in super::super) fn stage(&self, staged: Staged) -> Result<(), (Staged, AppendError)> {
        self.shared.stage(self.queue, staged)
    }

    pub(in super::super) fn queue(&self) -> QueueNumber {
        self.queue
    }

    /// Takes hand-overs again after one failed.
    pub(in super::super) fn resume(&self) {
        self.shared.resume(self.queue);
    }

    pub(in super::super) fn has_room(&self) -> bool {
        self.shared.has_room()
    }
}
