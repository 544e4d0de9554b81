//! A worker: one thread with a runtime of its own, that serves every
//! namespace with sockets, links and a journal queue of its own.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::BytesMut;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::LocalSet;

use super::namespace::Namespace;
use super::{Orders, options};
use crate::config::{self, Config};
use crate::datastore::ring::RingOptions;
use crate::datastore::{Links, Ring, handshake::push_command};
use crate::journal::Appender;
use crate::mutation::{Writer, WriterOptions, v1};
use crate::platform::Platform;
use crate::platform::stream::BoundSocket;
use crate::protocol::{Batch, Class, Command, Pool};
use crate::proxy::{self, listener};
use crate::stack::{self, deadline::Deadlines, in_flight, journal, metrics::Metrics};

/// How often what was counted becomes visible.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// How often a draining worker looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(2);

/// A running worker.
pub(super) struct Worker {
    /// Whether it drained in time.
    thread: JoinHandle<bool>,
    /// Resolves when the thread ends, however it ends.
    ended: oneshot::Receiver<()>,
}

/// What a worker needs of one namespace. Made on the main thread, so that
/// errors are seen at start, and moved to the worker.
struct Parts {
    shared: Arc<Namespace>,
    config: config::Namespace,
    sockets: Vec<BoundSocket>,
    appender: Appender,
    writer: Writer,
}

impl Worker {
    /// Starts a thread that serves until it is told to drain.
    pub(super) fn start(
        index: usize,
        config: &Config,
        namespaces: &[Arc<Namespace>],
        orders: watch::Receiver<Orders>,
    ) -> anyhow::Result<Worker> {
        let is_last = index + 1 == config.workers;
        let mut parts = Vec::new();
        for (shared, namespace) in namespaces.iter().zip(&config.namespaces) {
            parts.push(Parts {
                shared: Arc::clone(shared),
                config: namespace.clone(),
                sockets: shared.sockets().context("share a listening socket")?,
                appender: shared.journal.appender(),
                writer: Writer::new(WriterOptions {
                    region: config.region.clone(),
                    namespace: namespace.name.clone(),
                    store: match namespace.protocol {
                        config::Protocol::Redis => v1::Store::Redis,
                        config::Protocol::Memcached => v1::Store::Memcached,
                    },
                    writer: Platform::system().random.next_u64(),
                }),
            });
            if is_last {
                shared.release_sockets();
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a worker's runtime")?;
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let end = end;
                let is_drained = LocalSet::new().block_on(&runtime, work(index, parts, orders));
                drop(end);
                is_drained
            })
            .context("start a worker's thread")?;
        Ok(Worker { thread, ended })
    }
}

/// Waits until some worker has ended.
pub(super) async fn first_end(workers: &mut [Worker]) {
    std::future::poll_fn(|cx| {
        use std::future::Future;
        for worker in workers.iter_mut() {
            if std::pin::Pin::new(&mut worker.ended).poll(cx).is_ready() {
                return std::task::Poll::Ready(());
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Waits until all workers have drained; whether they did in time.
pub(super) async fn join_all(workers: Vec<Worker>, timeout: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + timeout + Duration::from_secs(1);
    let mut is_clean = true;
    for worker in workers {
        match tokio::time::timeout_at(deadline, worker.ended).await {
            Ok(_) => is_clean &= worker.thread.join().unwrap_or(false),
            Err(_) => is_clean = false,
        }
    }
    is_clean
}

/// One namespace as this worker serves it.
struct Serving {
    context: Rc<proxy::Context>,
    listeners: Vec<tokio::task::JoinHandle<()>>,
}

/// Tells of the end of a task without which a worker serves nobody: by a panic,
/// as it has no other.
struct Ends(Rc<Notify>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn spawn_essential(ended: &Rc<Notify>, task: impl Future<Output = ()> + 'static) {
    let ends = Ends(Rc::clone(ended));
    tokio::task::spawn_local(async move {
        let _ends = ends;
        task.await;
    });
}

/// Serves until it is told to drain; whether it did so in time.
async fn work(index: usize, parts: Vec<Parts>, mut orders: watch::Receiver<Orders>) -> bool {
    let started = orders.borrow().config.clone();
    let ended = Rc::new(Notify::new());
    let mut serving = Vec::new();
    for part in parts {
        serving.push(serve(index, part, &started, &ended));
    }
    // Events: an order, the end of a task that must not end.
    loop {
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return false;
                }
            }
            () = ended.notified() => return false,
        }
        let now = orders.borrow_and_update().clone();
        if now.draining {
            let timeout = now.config.drain_timeout;
            return drain(serving, timeout).await;
        }
        for (serving, config) in serving.iter().zip(&now.config.namespaces) {
            let limits = options::limits(config, now.config.workers);
            let options = options::proxy(config, now.config.workers);
            serving.context.options.set(options);
            let stack = &serving.context.stack;
            stack.deadlines.set_timeout(limits.request_timeout);
            stack
                .in_flight
                .set_limits(limits.in_flight_batches_max, limits.in_flight_bytes_max);
        }
    }
}

fn serve(index: usize, parts: Parts, config: &Config, ended: &Rc<Notify>) -> Serving {
    let Parts {
        shared,
        config: namespace,
        sockets,
        appender,
        writer,
    } = parts;
    let pool = Rc::new(Pool::default());
    let metrics = Metrics::new(&namespace.name);
    let limits = options::limits(&namespace, config.workers);
    let up = Rc::new(Notify::new());
    let ring = options::ring(&namespace).map(|ring| start_ring(index, ring, &pool, &shared));
    let links = match &ring {
        Some(ring) => Rc::clone(ring.first()),
        None => start_links(index, &namespace, &pool, &shared, &up),
    };
    let in_flight =
        in_flight::Counters::new(limits.in_flight_batches_max, limits.in_flight_bytes_max);
    let journal = journal::Shared::new(journal::Options {
        table: Arc::clone(&shared.table),
        policy: Arc::clone(&shared.policy),
        writer,
        appender,
        in_flight: Rc::clone(&in_flight),
        metrics: Rc::clone(&metrics),
    });
    spawn_essential(ended, journal::pump(journal.clone()));
    let interval = config.journal.heartbeat_interval;
    spawn_essential(ended, journal::heartbeats(journal.clone(), interval));
    if index == 0 && namespace.protocol == config::Protocol::Redis {
        tokio::task::spawn_local(complete_table(Rc::clone(&links), Arc::clone(&shared), up));
    }
    let context = Rc::new(proxy::Context {
        options: options::proxy(&namespace, config.workers).into(),
        links,
        ring,
        stack: stack::Shared {
            journal,
            in_flight,
            deadlines: Deadlines::start(limits.request_timeout, Rc::clone(&metrics)),
            metrics: Rc::clone(&metrics),
        },
        table: Arc::clone(&shared.table),
        pool,
        metrics: Rc::clone(&metrics),
        draining: Default::default(),
        drained: Default::default(),
        connections: Default::default(),
        clients: Arc::clone(&shared.clients),
        last_client_id: proxy::clients::first_id_of_worker(index).into(),
        asked: Default::default(),
    });
    tokio::task::spawn_local(flush(metrics));
    Serving {
        listeners: listen(sockets, &context, &shared),
        context,
    }
}

fn start_links(
    index: usize,
    namespace: &config::Namespace,
    pool: &Rc<Pool>,
    shared: &Arc<Namespace>,
    up: &Rc<Notify>,
) -> Rc<Links> {
    let (up, shared) = (Rc::clone(up), Arc::clone(shared));
    let on_change = move |status: Result<(), &str>| {
        shared.datastore.set(index, status);
        match status {
            Ok(()) => {
                tracing::info!(namespace = shared.name, "datastore connected");
                up.notify_one();
            }
            Err(reason) => {
                tracing::warn!(namespace = shared.name, reason, "datastore away");
            }
        }
    };
    Links::start(options::datastore(namespace), Rc::clone(pool), on_change)
}

/// A namespace is ready as long as one server of its own zone is there: the
/// others' keys get errors, or have moved.
fn start_ring(
    worker: usize,
    options: RingOptions,
    pool: &Rc<Pool>,
    shared: &Arc<Namespace>,
) -> Rc<Ring> {
    let shared = Arc::clone(shared);
    let servers = options.zones[0].len();
    let away = RefCell::new(vec![Some("not connected yet".to_owned()); servers]);
    let addresses: Vec<Vec<String>> = options
        .zones
        .iter()
        .map(|zone| {
            zone.iter()
                .map(|one| one.options.address.to_string())
                .collect()
        })
        .collect();
    let on_change = move |zone: usize, server: usize, status: Result<(), &str>| {
        let address = &addresses[zone][server];
        match status {
            Ok(()) => tracing::info!(namespace = shared.name, zone, address, "server connected"),
            Err(reason) => {
                tracing::warn!(
                    namespace = shared.name,
                    zone,
                    address,
                    reason,
                    "server away"
                );
            }
        }
        if zone > 0 {
            return;
        }
        let mut away = away.borrow_mut();
        away[server] = status.err().map(str::to_owned);
        let is_up = away.iter().any(Option::is_none);
        let first = away.iter().flatten().next().map(String::as_str);
        shared.datastore.set(
            worker,
            match first {
                Some(reason) if !is_up => Err(reason),
                _ => Ok(()),
            },
        );
    };
    Ring::start(options, pool, Rc::new(on_change))
}

fn listen(
    sockets: Vec<BoundSocket>,
    context: &Rc<proxy::Context>,
    shared: &Namespace,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut listeners = Vec::new();
    for (socket, address) in sockets.into_iter().zip(&shared.addresses) {
        match socket.listen() {
            Ok(listener) => {
                tracing::info!(namespace = shared.name, %address, "listening");
                let accept = listener::accept(listener, Rc::clone(context));
                listeners.push(tokio::task::spawn_local(accept));
            }
            Err(error) => {
                tracing::error!(namespace = shared.name, %address, %error, "listening failed");
            }
        }
    }
    listeners
}

/// Whenever the datastore is back it may be another version, with other
/// modules: its own list of commands completes the table.
async fn complete_table(links: Rc<Links>, shared: Arc<Namespace>, up: Rc<Notify>) {
    loop {
        up.notified().await;
        let mut bytes = BytesMut::new();
        push_command(&mut bytes, &[b"COMMAND"]);
        let request = Batch::single(&bytes, Command::UNKNOWN, Class::Read);
        let replies = links.default_link().send(request).await;
        let Some(reply) = replies.reply(0) else {
            continue;
        };
        let known = shared.table.load().specifications().len();
        match proxy::extend_table(&shared.table, |table| table.completed(reply)) {
            Ok(completed) => {
                let added = completed - known;
                tracing::info!(namespace = shared.name, added, "command table completed");
            }
            Err(error) => {
                tracing::warn!(
                    namespace = shared.name, %error,
                    "the datastore does not list its commands; unknown ones are asked for one by one"
                );
            }
        }
    }
}

async fn flush(metrics: Rc<Metrics>) {
    let mut interval = tokio::time::interval(FLUSH_INTERVAL);
    loop {
        interval.tick().await;
        metrics.flush();
    }
}

/// Takes no more clients, finishes what is in flight, and waits until all of
/// it is settled and durable; whether that was in time.
async fn drain(serving: Vec<Serving>, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    for serving in &serving {
        serving.context.drain();
    }
    let is_done = |serving: &Serving| {
        let listeners = &serving.listeners;
        listeners.iter().all(tokio::task::JoinHandle::is_finished)
            && serving.context.connections.borrow().is_empty()
            && serving.context.stack.journal.is_idle()
    };
    let mut is_drained = true;
    while !serving.iter().all(is_done) {
        if deadline <= Instant::now() {
            is_drained = false;
            let clients: usize = serving
                .iter()
                .map(|serving| serving.context.connections.borrow().len())
                .sum();
            tracing::warn!(clients, "drain timed out; clients are cut off");
            break;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
    for serving in &serving {
        serving.context.metrics.flush();
    }
    is_drained
}
