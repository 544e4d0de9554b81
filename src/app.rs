//! The composition root: opens the journals, binds the sockets, starts the
//! workers, and ends them in the order that loses nothing.
//!
//! Start: journals, sockets, admin endpoint, serving the journals, workers.
//! Drain: listeners close, clients with nothing in flight are closed, batches in
//! flight are finished, workers end, journals are flushed and closed, readers
//! elsewhere get the rest of them.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin;
use crate::config::reload::Watcher;
use crate::config::{self, Backend, Config, Environment, OnJournalUnavailable, Role};
use crate::journal::{
    First, Journal, KafkaJournal, LocalJournal, MemoryJournal, MemoryOptions, OpenError,
    RemoteServer, SpoolJournal,
};
use crate::platform::tls::TlsError;
use crate::telemetry::{self, LogHandle, MetricsHandle};

mod health;
mod namespace;
mod options;
mod replicator;
mod worker;

pub use options::{
    checkpoints as checkpoints_file, datastore as datastore_options, kafka as kafka_options,
    remote as remote_options, replication as replication_policy, servers as servers_options,
    tls as upstream_tls,
};

use health::Status;
use namespace::Namespace;
use replicator::Replicator;
use worker::Worker;

/// How long a drain waits for readers elsewhere to fetch the rest of the journals:
/// they go on where they were when the process is back, so it need not be long.
const READERS_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until it is told to drain, or cannot go on. `file` is where `config`
/// came from; its changes are taken up.
pub fn run(config: Config, file: &Path) -> anyhow::Result<ExitCode> {
    let logs = telemetry::init_logs(
        options::log_format(config.log.format),
        options::log_level(config.log.level),
    )?;
    for warning in config.warning_lines(file) {
        tracing::warn!("{warning}");
    }
    raise_file_limit();
    let metrics = telemetry::init_metrics()?;
    let namespaces = open_namespaces(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the main runtime")?;
    runtime.block_on(serve(config, file, namespaces, logs, metrics))
}

/// Every client is a file. Shells and container runtimes often allow 1,024 at
/// first and many more on request.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "raising the limit of open files failed");
        }
    }
}

fn open_namespaces(config: &Config) -> anyhow::Result<Vec<Arc<Namespace>>> {
    let mut namespaces = Vec::new();
    for namespace in &config.namespaces {
        let started = Instant::now();
        let journal = match config.journal.backend {
            Backend::Memory => {
                Journal::Memory(Arc::new(MemoryJournal::new(MemoryOptions::default())))
            }
            Backend::Local => {
                let options = options::journal(config, namespace);
                Journal::Local(Arc::new(LocalJournal::open(options)?))
            }
            Backend::Kafka if namespace.on_journal_unavailable == OnJournalUnavailable::Spool => {
                spool(config, namespace, First::Kafka)?
            }
            Backend::Kafka => {
                let options = options::kafka(config, namespace);
                Journal::Kafka(Arc::new(KafkaJournal::open(options)?))
            }
            Backend::Spool => spool(config, namespace, First::Local)?,
        };
        tracing::info!(
            namespace = namespace.name,
            durable_through = journal.durable_through(),
            elapsed_ms = started.elapsed().as_millis() as u64,
            "journal open"
        );
        namespaces.push(Arc::new(Namespace::new(
            namespace,
            journal,
            config.workers,
            config.has_role(Role::Proxy),
        )?));
    }
    Ok(namespaces)
}

fn spool(
    config: &Config,
    namespace: &config::Namespace,
    first: First,
) -> Result<Journal, OpenError> {
    let options = options::spool(config, namespace, first);
    SpoolJournal::open(options).map(|journal| Journal::Spool(Arc::new(journal)))
}

/// How often it is looked whether replicators are there.
const WATCH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// What the workers are told.
#[derive(Clone)]
struct Orders {
    config: Arc<Config>,
    draining: bool,
}

async fn serve(
    config: Config,
    file: &Path,
    namespaces: Vec<Arc<Namespace>>,
    logs: LogHandle,
    metrics: MetricsHandle,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let server = admin::bind(&admin::Options {
        listen: config.admin.listen,
    })
    .await?;
    let serving = serve_journals(&config, &namespaces)?;
    let config = Arc::new(config);
    let (orders, told) = watch::channel(Orders {
        config: Arc::clone(&config),
        draining: false,
    });
    let (drain, mut drains) = mpsc::unbounded_channel::<&'static str>();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut watcher = Watcher::start(file, Environment::of_process(), (*config).clone())
        .context("watch the configuration")?;

    let mut workers = Vec::new();
    for index in 0..config.workers {
        workers.push(Worker::start(index, &config, &namespaces, told.clone())?);
    }
    let (stop, stopped) = watch::channel(false);
    let mut replicators = Vec::new();
    if config.has_role(Role::Replicator) {
        for (shared, namespace) in namespaces.iter().zip(&config.namespaces) {
            let replicator = Replicator::start(&config, namespace, shared, stopped.clone())?;
            replicators.push(replicator);
        }
    }
    let served = serving.as_ref().map(RemoteServer::counters);
    let status = Arc::new(Status::new(&namespaces, told, served));
    let admin_address = server.address();
    let (closing, closed) = tokio::sync::oneshot::channel::<()>();
    let admin = tokio::spawn(
        server.serve(admin_state(&status, &metrics, &drain), async move {
            let _ = closed.await;
        }),
    );
    tokio::spawn(metrics.clone().run_upkeep());
    tracing::info!(
        region = config.region,
        admin = %admin_address,
        workers = config.workers,
        elapsed_ms = started.elapsed().as_millis() as u64,
        "serving"
    );

    let mut watching = tokio::time::interval(WATCH_INTERVAL);
    // Events: told to end by a signal or a request, the file changed, a worker
    // or a replicator that ended by itself, which is a bug.
    let reason = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "Ctrl-C",
            Some(reason) = drains.recv() => break reason,
            plan = watcher.next() => {
                logs.set_level(options::log_level(plan.effective.log.level));
                apply(&namespaces, &orders, plan.effective);
            }
            () = worker::first_end(&mut workers) => {
                anyhow::bail!("a worker ended unexpectedly; see the log");
            }
            _ = watching.tick() => {
                if replicators.iter().any(Replicator::is_finished) {
                    anyhow::bail!("a replicator ended unexpectedly; see the log");
                }
            }
        }
    };
    tracing::info!(reason, "draining");
    orders.send_modify(|orders| orders.draining = true);
    let timeout = orders.borrow().config.drain_timeout;
    let is_clean = worker::join_all(workers, timeout).await;
    // Replicators write to the journal until they end.
    let _ = stop.send(true);
    let ended = tokio::task::spawn_blocking(move || {
        let ended = replicators.into_iter().map(Replicator::join);
        ended.fold(true, |all, one| all & one)
    });
    let is_clean = is_clean & ended.await.unwrap_or(false);
    let is_closed = close_journals(&namespaces).await;
    if let Some(serving) = serving {
        serving.stop(READERS_PATIENCE).await;
    }
    let _ = closing.send(());
    let _ = admin.await;
    tracing::info!(is_clean, "ended");
    Ok(ExitCode::from(u8::from(!(is_clean && is_closed))))
}

/// Whether the journals could be served: reads the certificate's files.
pub fn check_serving(config: &Config) -> Result<(), TlsError> {
    options::serve(config).map(drop)
}

/// Gives the journals to replicators elsewhere, where that is wanted.
fn serve_journals(
    config: &Config,
    namespaces: &[Arc<Namespace>],
) -> anyhow::Result<Option<RemoteServer>> {
    let Some(options) = options::serve(config).context("serve the journal (journal.serve)")? else {
        return Ok(None);
    };
    let (encrypted, token) = (options.tls.is_some(), options.token.is_some());
    let journals = namespaces.iter();
    let journals = journals.map(|one| (one.name.clone(), one.journal.clone()));
    let server = RemoteServer::start(options, journals.collect())?;
    tracing::info!(address = %server.address(), encrypted, token, "serving the journal");
    Ok(Some(server))
}

fn admin_state(
    status: &Arc<Status>,
    metrics: &MetricsHandle,
    drain: &mpsc::UnboundedSender<&'static str>,
) -> admin::State {
    let (metrics, drain) = (metrics.clone(), drain.clone());
    let (for_metrics, for_ready, for_config) =
        (Arc::clone(status), Arc::clone(status), Arc::clone(status));
    admin::State {
        metrics: Arc::new(move || {
            for_metrics.record();
            metrics.render()
        }),
        ready: Arc::new(move || for_ready.readiness()),
        config: Arc::new(move || for_config.config()),
        drain: Arc::new(move || {
            // Once the drain has begun nobody listens, and nobody has to.
            let _ = drain.send("asked over HTTP");
        }),
    }
}

fn apply(namespaces: &[Arc<Namespace>], orders: &watch::Sender<Orders>, config: Config) {
    let retention = options::retention(&config);
    for (namespace, config) in namespaces.iter().zip(&config.namespaces) {
        namespace.policy.store(Arc::new(options::policy(config)));
        let replication = Arc::new(options::replication(config));
        namespace.replication.store(replication);
        namespace.journal.set_retention(retention);
    }
    orders.send_modify(|orders| orders.config = Arc::new(config));
}

async fn close_journals(namespaces: &[Arc<Namespace>]) -> bool {
    let mut all = true;
    for namespace in namespaces {
        let journal = namespace.journal.clone();
        let closed = tokio::task::spawn_blocking(move || journal.close()).await;
        match closed {
            Ok(Ok(())) => tracing::info!(
                namespace = namespace.name,
                durable_through = namespace.journal.durable_through(),
                "journal closed"
            ),
            Ok(Err(error)) => {
                tracing::error!(namespace = namespace.name, %error, "closing the journal failed");
                all = false;
            }
            Err(error) => {
                tracing::error!(namespace = namespace.name, %error, "closing the journal failed");
                all = false;
            }
        }
    }
    all
}
