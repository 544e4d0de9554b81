//! Which way records go, and the change from one to the other.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::appender::Staged;
use super::super::{AppendError, JournalState, Offset, kafka, local};
use super::{First, Shared};

/// How long the way back may take, while hand-overs are held.
const RETURN_TIMEOUT: Duration = Duration::from_millis(20);

/// How long it is not tried again after it took longer.
const RETURN_PAUSE: Duration = Duration::from_millis(500);

/// Which way records go. Whoever gives records to either journal holds its
/// lock, so that an appender's records get there in order.
pub(super) struct Route {
    /// To the files.
    pub(super) spooling: bool,
    /// While the last records of the files are given to Kafka: what comes
    /// after them, with the appenders' queues there.
    held: Vec<(kafka::QueueNumber, Staged)>,
    /// Since when hand-overs are held.
    returning: Option<Instant>,
    /// Until when they are not held again.
    no_return_until: Option<Instant>,
}

impl Route {
    pub(super) fn new(spooling: bool) -> Route {
        Route {
            spooling,
            held: Vec::new(),
            returning: None,
            no_return_until: None,
        }
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
        if route.returning.is_some() {
            route.held.push((self.kafka.queue(), staged));
            return Ok(());
        }
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

    /// Goes back to giving records to Kafka once the files' are all given to it,
    /// which `given` is the end of; none where Kafka does not keep up. Whether
    /// it did. They need not be acknowledged: one producer keeps them in order,
    /// and if it fails one, nothing behind it is taken. As there would always be
    /// another record under load, hand-overs are held for a moment.
    pub(super) fn try_return(&self, given: Option<Offset>) -> bool {
        if self.options.first == First::Local {
            return false;
        }
        let mut route = self.route();
        let now = Instant::now();
        let is_ready = given == Some(self.durable_next())
            && self.kafka.state() == JournalState::Accepting
            && route.no_return_until.is_none_or(|until| until <= now);
        if route.spooling && is_ready {
            route.returning.get_or_insert(now);
            // Nothing is appended meanwhile; what was is complete once no bytes
            // wait, and then durable.
            if self.local.stats().waiting_bytes == 0 && given == Some(self.durable_next()) {
                self.kafka.shared().resume_diverting();
                route.returning = None;
                route.spooling = false;
                tracing::info!("the spool is given to Kafka: journaling there again");
                self.release(&mut route);
                return true;
            }
        }
        let is_late = |since: Instant| RETURN_TIMEOUT < now.duration_since(since);
        if route.returning.is_some_and(is_late) {
            route.no_return_until = Some(now + RETURN_PAUSE);
            self.stay(&mut route);
        }
        false
    }

    /// Gives up the way back.
    fn stay(&self, route: &mut Route) {
        if route.returning.take().is_some() {
            self.release(route);
        }
    }

    /// Lets what was held go its way.
    fn release(&self, route: &mut Route) {
        for (queue, mut staged) in std::mem::take(&mut route.held) {
            if !route.spooling {
                match self.kafka.shared().stage(queue, staged) {
                    Ok(()) => continue,
                    Err((back, error)) => {
                        staged = back;
                        self.divert(route, &error.to_string());
                    }
                }
            }
            self.local.inbox().stage_all(vec![staged]);
        }
    }

    pub(super) fn is_returning(&self) -> bool {
        self.route().returning.is_some()
    }

    /// Whether hand-overs are held.
    pub(super) fn is_holding(&self) -> bool {
        !self.route().held.is_empty()
    }
}
