//! The clients of a namespace, over all workers, by what CLIENT ID tells them.
//!
//! Clients share links, so the datastore's own numbers would not tell them
//! apart. Where a client names another one (CLIENT KILL, CLIENT UNBLOCK, CLIENT
//! TRACKING REDIRECT), the number is looked up here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Numbers from here on are the sidecar's: no datastore counts so far.
const FIRST_ID: u64 = 1 << 40;

/// Each worker's numbers start apart from those of the others.
pub fn first_id_of_worker(index: usize) -> u64 {
    (index as u64 + 1) * FIRST_ID
}

/// The clients that are connected.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<u64, Client>>);

#[derive(Debug)]
struct Client {
    /// What the datastore calls its link, if it has one of its own.
    link: Option<u64>,
    killed: Arc<AtomicBool>,
    /// Of the task that serves it.
    waker: Option<Waker>,
}

impl Clients {
    /// Adds a client; returns what becomes true when it is killed.
    pub(super) fn add(&self, id: u64) -> Arc<AtomicBool> {
        let killed = Arc::<AtomicBool>::default();
        let client = Client {
            link: None,
            killed: Arc::clone(&killed),
            waker: None,
        };
        self.clients().insert(id, client);
        killed
    }

    pub(super) fn remove(&self, id: u64) {
        self.clients().remove(&id);
    }

    pub(super) fn set_waker(&self, id: u64, waker: &Waker) {
        if let Some(client) = self.clients().get_mut(&id) {
            client.waker = Some(waker.clone());
        }
    }

    /// Notes what the datastore calls the client's own link; none while the
    /// client shares one.
    pub(super) fn set_link(&self, id: u64, link: Option<u64>) {
        if let Some(client) = self.clients().get_mut(&id) {
            client.link = link;
        }
    }

    /// What the datastore calls a client's own link.
    pub(super) fn link(&self, id: u64) -> Option<u64> {
        self.clients().get(&id)?.link
    }

    /// Whether there is such a client, and it shares a link.
    pub(super) fn is_sharing(&self, id: u64) -> bool {
        let clients = self.clients();
        clients.get(&id).is_some_and(|client| client.link.is_none())
    }

    /// Ends a client's connection; false where there is no such client.
    pub(super) fn kill(&self, id: u64) -> bool {
        let clients = self.clients();
        let Some(client) = clients.get(&id) else {
            return false;
        };
        client.killed.store(true, Ordering::Release);
        if let Some(waker) = &client.waker {
            waker.wake_by_ref();
        }
        true
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u64, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number an argument is, if it is one that the sidecar gave out.
pub(super) fn client_id(argument: &[u8]) -> Option<u64> {
    let id: u64 = std::str::from_utf8(argument).ok()?.parse().ok()?;
    (FIRST_ID <= id).then_some(id)
}
