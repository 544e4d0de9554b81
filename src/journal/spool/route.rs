//! Which way records go, and the change from one to the other.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::super::appender::Staged;
use super::super::{AppendError, JournalState, kafka, local};
use super::{First, Shared};

/// Which way records go. Whoever gives records to either journal holds its
/// lock, so that an appender's records get there in order.
pub(super) struct Route {
    /// To the files.
    pub(super) spooling: bool,
}

impl Route {
    pub(super) fn new(spooling: bool) -> Route {
        Route { spooling }
    }
}

/// One appender's way in.
pub(in super::super) struct Inbox {
    shared: Arc<Shared>,
    local: Arc<local::Inbox>,
    kafka: kafka::Inbox,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Inbox {
    pub(super) fn new(shared: &Arc<Shared>) -> Inbox {
        Inbox {
            shared: Arc::clone(shared),
            local: shared.local.inbox(),
            kafka: shared.kafka.inbox(kafka::OnFailure::Divert),
        }
    }

    /// Takes a hand-over, or gives it back with the reason.
    pub(in super::super) fn stage(&self, mut staged: Staged) -> Result<(), (Staged, AppendError)> {
        if let Some(error) = self.shared.kafka.shared().too_long(&staged) {
            return Err((staged, error));
        }
        let mut route = self.shared.route();
        if !route.spooling {
            match self.kafka.stage(staged) {
                Ok(()) => return Ok(()),
                Err((back, error)) => {
                    staged = back;
                    self.shared.divert(&mut route, &error.to_string());
                }
            }
        }
        self.local.stage(staged)
    }

    pub(in super::super) fn has_room(&self) -> bool {
        self.local.has_room()
    }
}

impl Shared {
    pub(super) fn route(&self) -> MutexGuard<'_, Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on records go to the files, those first that Kafka has not
    /// acknowledged. It may get them yet, so that the files do not take them
    /// says nothing: they are marked for that.
    pub(super) fn divert(&self, route: &mut Route, reason: &str) {
        if route.spooling {
            return;
        }
        route.spooling = true;
        self.diversions.fetch_add(1, Ordering::Relaxed);
        let mut pending = self.kafka.shared().take_pending();
        tracing::warn!(
            reason,
            pending = pending.len(),
            "Kafka does not take records in time: spooling to the disk"
        );
        for staged in &mut pending {
            staged.maybe_elsewhere = true;
        }
        self.local.inbox().stage_all(pending);
        self.wake_shipper();
    }

    /// Whether records that were given to Kafka have to go another way.
    pub(super) fn has_to_divert(&self) -> Option<String> {
        let kafka = self.kafka.shared();
        if kafka.has_to_divert(self.options.patience) {
            return Some(match self.kafka.state() {
                JournalState::Unavailable(reason) => reason,
                _ => "no acknowledgement in time".to_owned(),
            });
        }
        None
    }

    /// Goes back to giving records to Kafka, if that takes them and nothing is
    /// left to ship; whether it did.
    pub(super) fn try_return(&self) -> bool {
        if self.options.first == First::Local
            || !self.kafka.shared().is_settled()
            || self.kafka.state() != JournalState::Accepting
        {
            return false;
        }
        let mut route = self.route();
        // Nothing is appended while the lock is held; what was is complete once
        // no bytes wait, and then durable.
        let is_empty = self.local.stats().waiting_bytes == 0 && self.unshipped() == 0;
        if !route.spooling || !is_empty {
            return false;
        }
        route.spooling = false;
        self.kafka.shared().resume_diverting();
        tracing::info!("the spool is empty: journaling to Kafka again");
        true
    }
}
