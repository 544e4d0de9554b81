//! What the workers of one namespace share.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::options;
use crate::config;
use crate::journal::Journal;
use crate::platform::stream::{Address, BoundSocket, Listener};
use crate::protocol::resp::commands::Table;
use crate::proxy::clients::Clients;
use crate::replication;
use crate::stack::policy::Policy;

/// One namespace, across workers.
pub(super) struct Namespace {
    pub(super) name: String,
    pub(super) journal: Journal,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) replication: Arc<ArcSwap<replication::policy::Policy>>,
    pub(super) table: Arc<ArcSwap<Table>>,
    /// Bound for the first worker; others bind or duplicate their own.
    sockets: Mutex<Vec<BoundSocket>>,
    /// Where clients connect, with the ports that were chosen for port 0.
    pub(super) addresses: Vec<Address>,
    pub(super) datastore: DatastoreStatus,
    pub(super) listening: AtomicBool,
    pub(super) clients: Arc<Clients>,
}

/// Whether the datastore can be reached, as the workers' default links see it.
pub(super) struct DatastoreStatus {
    /// Each worker's.
    problems: Mutex<Vec<Option<String>>>,
}

impl Namespace {
    pub(super) fn new(
        config: &config::Namespace,
        journal: Journal,
        workers: usize,
        serves: bool,
    ) -> anyhow::Result<Namespace> {
        let mut sockets = Vec::new();
        for address in config.listen.iter().filter(|_| serves) {
            let wanted = options::listen(address);
            let socket = Listener::bind(&wanted, false)
                .map_err(|error| bind_error(&config.name, &wanted, &error))?;
            sockets.push(socket);
        }
        Ok(Namespace {
            name: config.name.clone(),
            journal,
            policy: Arc::new(ArcSwap::from_pointee(options::policy(config))),
            replication: Arc::new(ArcSwap::from_pointee(options::replication(config))),
            table: Arc::new(ArcSwap::from_pointee(Table::built_in())),
            addresses: sockets.iter().map(BoundSocket::address).collect(),
            sockets: Mutex::new(sockets),
            datastore: DatastoreStatus {
                problems: Mutex::new(vec![Some("not connected yet".to_owned()); workers]),
            },
            listening: AtomicBool::new(false),
            clients: Arc::default(),
        })
    }

    /// A handle on each socket for one more worker. All accept from the same
    /// queue: bound once, a taken address is always seen, and no connection
    /// waits at a worker that is about to end.
    pub(super) fn sockets(&self) -> io::Result<Vec<BoundSocket>> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.iter().map(BoundSocket::duplicate).collect()
    }

    /// Closes this copy of the sockets: they close when the workers' do.
    pub(super) fn release_sockets(&self) {
        self.sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.listening.store(true, Ordering::Relaxed);
    }
}

impl DatastoreStatus {
    pub(super) fn set(&self, worker: usize, status: Result<(), &str>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems[worker] = status.err().map(str::to_owned);
    }

    /// The first problem that a worker has.
    pub(super) fn get(&self) -> Result<(), String> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems
            .iter()
            .flatten()
            .next()
            .cloned()
            .map_or(Ok(()), Err)
    }
}

fn bind_error(namespace: &str, address: &Address, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "address {address} is taken (namespace {namespace}, listen); stop what listens there \
             or give the namespace another address"
        ),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "no permission to listen on {address} (namespace {namespace}, listen); ports below \
             1024 and directories of others need rights this process does not have"
        ),
        _ => anyhow::anyhow!("cannot listen on {address} (namespace {namespace}, listen): {error}"),
    }
}
