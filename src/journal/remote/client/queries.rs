//! Questions to the server, over a reader's connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::super::super::Offset;
use super::super::RemoteError;
use super::super::v1::query::What;
use super::state::{Down, Shared, State, Trouble};

/// Asks the server of a [`super::RemoteReader`]. Clones ask at the same time.
///
/// All methods are cancel-safe: a query whose future is dropped is forgotten.
/// While there is no connection they wait, and return errors as
/// [`super::RemoteReader::next_batch`] does; calling again goes on trying.
#[derive(Debug, Clone)]
pub struct RemoteQueries {
    shared: Arc<Shared>,
    news: watch::Receiver<()>,
    patience: Duration,
    /// How many attempts had failed when the caller was last told.
    told_attempts: u64,
    /// When the caller was last told that there is no connection.
    told_at: Instant,
}

impl RemoteQueries {
    pub(super) fn new(shared: &Arc<Shared>, patience: Duration) -> RemoteQueries {
        RemoteQueries {
            shared: Arc::clone(shared),
            news: shared.news.subscribe(),
            patience,
            told_attempts: 0,
            told_at: Instant::now(),
        }
    }

    /// One past the last durable record, at some moment between the call and
    /// the return: the server is asked. One round trip.
    pub async fn durable_next(&mut self) -> Result<Offset, RemoteError> {
        self.ask(What::DurableNext(true)).await
    }

    /// The first offset that can be read, likewise.
    pub async fn first_offset(&mut self) -> Result<Offset, RemoteError> {
        self.ask(What::First(true)).await
    }

    /// The first offset whose record has this hybrid logical clock or a later
    /// one, likewise: see [`crate::journal::Journal::find`].
    pub async fn find(&mut self, hlc: u64) -> Result<Offset, RemoteError> {
        self.ask(What::Hlc(hlc)).await
    }

    /// One past the last durable record, as far as the server has told unasked:
    /// at most some seconds old while there is a connection.
    pub fn durable_next_seen(&self) -> Offset {
        self.shared.state().durable_next
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.shared.state().down.is_none()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    async fn ask(&mut self, what: What) -> Result<Offset, RemoteError> {
        let is_end = matches!(what, What::DurableNext(_));
        let number = self.shared.state().ask(what)?;
        let _asking = Asking {
            shared: Arc::clone(&self.shared),
            number,
        };
        self.shared.work.notify_one();
        let look = move |state: &mut State| match state.replaced() {
            // The others are for finding a place in the new one.
            Some(error) if is_end => Some(Err(error)),
            _ => state.take_answer(number),
        };
        self.wait(look).await
    }

    /// Waits until `look` finds something, or there is trouble to tell of.
    pub(super) async fn wait<T>(
        &mut self,
        mut look: impl FnMut(&mut State) -> Option<Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        loop {
            // What comes after this look is seen by the next.
            self.news.mark_unchanged();
            let deadline = {
                let mut state = self.shared.state();
                if let Some(found) = look(&mut state) {
                    return found;
                }
                match &state.down {
                    None => None,
                    Some(down) => match self.trouble(down) {
                        Ok(deadline) => Some(deadline),
                        Err(error) => {
                            self.told_attempts = down.attempts;
                            self.told_at = Instant::now();
                            return Err(error);
                        }
                    },
                }
            };
            // Whether time or news, it is looked again; the sender is in
            // `shared`, so it is there.
            let news = self.news.changed();
            match deadline {
                None => drop(news.await),
                Some(deadline) => drop(timeout_at(deadline, news).await),
            }
        }
    }

    /// What to tell of a connection that is down; or when to look again.
    fn trouble(&self, down: &Down) -> Result<Instant, RemoteError> {
        let refused = |reason: &str| RemoteError::Refused {
            reason: reason.to_owned(),
        };
        if let Trouble::Refused(reason) = &down.trouble
            && self.told_attempts < down.attempts
        {
            return Err(refused(reason));
        }
        let due = self.told_at.max(down.since) + self.patience;
        let now = Instant::now();
        if now < due {
            return Ok(due);
        }
        Err(match &down.trouble {
            Trouble::Refused(reason) => refused(reason),
            Trouble::Broken(reason) => RemoteError::Unreachable {
                since: now - down.since,
                reason: reason.clone(),
            },
        })
    }
}

/// Forgets a query that nobody waits for any more.
struct Asking {
    shared: Arc<Shared>,
    number: u32,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.shared.state().forget(self.number);
    }
}
