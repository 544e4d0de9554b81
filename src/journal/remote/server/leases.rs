//! What readers need, while they are connected and for a time after.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::super::{Cursor, Journal, Offset};

/// Readers that are away and whose needs are kept, for each journal. The name
/// is the reader's choice: one that has another at each start would add up.
const KEPT_MAX: usize = 64;

/// The needs of one journal's readers, by their names.
#[derive(Debug)]
pub(super) struct Leases {
    grace: Duration,
    readers: Mutex<HashMap<String, Reader>>,
}

#[derive(Debug, Default)]
struct Reader {
    /// Connections under this name; more than one while it has not been noticed
    /// that the older is dead. Each has a cursor.
    connections: usize,
    /// What the last one needed, and until when that is kept.
    kept: Option<(Cursor, Instant)>,
}

/// What one connected reader needs. Dropped, it is kept for the grace time.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    journal: Journal,
    name: String,
    /// None only while it is dropped.
    cursor: Option<Cursor>,
}

impl Leases {
    pub(super) fn new(grace: Duration) -> Leases {
        Leases {
            grace,
            readers: Mutex::default(),
        }
    }

    /// Holds what the reader needs from now on, in place of what was kept for it.
    pub(super) fn begin(
        self: &Arc<Leases>,
        journal: &Journal,
        name: &str,
        needed: Offset,
    ) -> Lease {
        let cursor = journal.register_reader(name, needed);
        let mut readers = self.readers();
        let reader = readers.entry(name.to_owned()).or_default();
        reader.connections += 1;
        reader.kept = None;
        Lease {
            leases: Arc::clone(self),
            journal: journal.clone(),
            name: name.to_owned(),
            cursor: Some(cursor),
        }
    }

    /// Gives up what was kept for too long.
    pub(super) fn expire(&self, now: Instant) {
        self.readers().retain(|name, reader| {
            if let Some((cursor, _)) = reader.kept.take_if(|(_, until)| *until <= now) {
                let needed = cursor.position().needed;
                tracing::warn!(
                    reader = name,
                    needed,
                    "a reader is away for too long: its records are held no more"
                );
            }
            0 < reader.connections || reader.kept.is_some()
        });
    }

    fn end(&self, name: &str, cursor: Cursor) {
        let mut readers = self.readers();
        let kept = readers.values().filter(|reader| reader.kept.is_some());
        let is_full = KEPT_MAX <= kept.count();
        let Some(reader) = readers.get_mut(name) else {
            return;
        };
        reader.connections -= 1;
        if reader.connections == 0 {
            reader.kept = Some((cursor, Instant::now() + self.grace));
        }
        if is_full {
            let oldest = readers.iter().filter_map(|(name, reader)| {
                let (_, until) = reader.kept.as_ref()?;
                Some((*until, name.clone()))
            });
            if let Some((_, oldest)) = oldest.min() {
                readers.remove(&oldest);
            }
        }
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<String, Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Records before `needed` may go. A reader that goes back holds again what
    /// is still there.
    pub(super) fn set(&mut self, needed: Offset) {
        match &self.cursor {
            Some(cursor) if cursor.position().needed <= needed => cursor.advance(needed),
            // A cursor moves forward only.
            _ => self.cursor = Some(self.journal.register_reader(&self.name, needed)),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            self.leases.end(&self.name, cursor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{LocalJournal, LocalOptions};

    const GRACE: Duration = Duration::from_secs(60);

    fn journal() -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalJournal::open(LocalOptions::new(directory.path())).unwrap();
        (directory, Journal::Local(Arc::new(local)))
    }

    fn needed(journal: &Journal) -> Vec<(String, Offset)> {
        let cursors = journal.stats().cursors.into_iter();
        let mut all: Vec<_> = cursors.map(|one| (one.name, one.needed)).collect();
        all.sort();
        all
    }

    #[test]
    fn needs_are_kept_for_a_time_and_replaced_by_those_of_a_reader_that_is_back() {
        let (_directory, journal) = journal();
        let leases = Arc::new(Leases::new(GRACE));
        let mut lease = leases.begin(&journal, "a", 5);
        lease.set(9);
        assert_eq!(needed(&journal), [("a".to_owned(), 9)]);
        lease.set(7);
        assert_eq!(needed(&journal), [("a".to_owned(), 7)]);
        drop(lease);
        leases.expire(Instant::now());
        assert_eq!(needed(&journal), [("a".to_owned(), 7)], "kept");
        // A second connection while the first is still there: both count.
        let first = leases.begin(&journal, "a", 8);
        let second = leases.begin(&journal, "a", 20);
        drop(first);
        assert_eq!(needed(&journal), [("a".to_owned(), 20)]);
        drop(second);
        leases.expire(Instant::now() + GRACE);
        assert_eq!(needed(&journal), []);
    }

    #[test]
    fn names_do_not_add_up() {
        let (_directory, journal) = journal();
        let leases = Arc::new(Leases::new(GRACE));
        for number in 0..3 * KEPT_MAX {
            drop(leases.begin(&journal, &number.to_string(), 1));
        }
        assert!(needed(&journal).len() <= KEPT_MAX + 1);
        assert!(needed(&journal).iter().any(|(name, _)| name == "191"));
    }
}
