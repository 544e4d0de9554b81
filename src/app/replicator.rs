//! The replicator of one namespace: a thread with a runtime of its own.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::namespace::Namespace;
use super::options;
use crate::config::{self, Config};
use crate::journal::{Journal, KafkaJournal};
use crate::mutation::v1;
use crate::platform::Platform;
use crate::replication::target::memcached::Memcached;
use crate::replication::target::redis::Redis;
use crate::replication::{self, Driver, Origin, Source, Stop};

/// How long one that was superseded waits before it stands by.
const PAUSE: Duration = Duration::from_millis(500);

/// A running replicator.
pub(super) struct Replicator {
    thread: std::thread::JoinHandle<()>,
}

impl Replicator {
    /// Starts one; it ends when `stop` says so.
    pub(super) fn start(
        config: &Config,
        namespace: &config::Namespace,
        shared: &Arc<Namespace>,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<Replicator> {
        let sources = sources(config, namespace)?;
        let (config, namespace) = (config.clone(), namespace.clone());
        let shared = Arc::clone(shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a replicator's runtime")?;
        let thread = std::thread::Builder::new()
            .name(format!("replicate-{}", namespace.name))
            .spawn(move || {
                let run = run(config, namespace, shared, sources, stop);
                LocalSet::new().block_on(&runtime, run);
            })
            .context("start a replicator's thread")?;
        Ok(Replicator { thread })
    }

    /// Waits until it has ended.
    pub(super) fn join(self) -> bool {
        self.thread.join().is_ok()
    }

    /// Whether it has ended, which it does only when it is told to.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

async fn run(
    config: Config,
    namespace: config::Namespace,
    shared: Arc<Namespace>,
    sources: Vec<Source>,
    stop: watch::Receiver<bool>,
) {
    while !*stop.borrow() {
        let writer = Platform::system().random.next_u64();
        let options = replication::Options {
            region: config.region.clone(),
            namespace: namespace.name.clone(),
            store: match namespace.protocol {
                config::Protocol::Redis => v1::Store::Redis,
                config::Protocol::Memcached => v1::Store::Memcached,
            },
            own: shared.journal.clone(),
            sources: sources.clone(),
            table: Arc::clone(&shared.table),
            batch_records: config.replication.batch_records,
            races_max: replication::RACES_MAX,
            remembered_ms: replication::REMEMBERED_MS,
            clock_skew_max: config.replication.clock_skew_max,
            progress_interval: config.replication.progress_interval,
            backoff_max: config.replication.retry_backoff_max,
            policy: Arc::clone(&shared.replication),
            dead_letters: Some(config.dead_letter_directory(&namespace.name)),
            conflicts: Some(config.conflict_directory(&namespace.name)),
            conflict_values: config.replication.conflict_values,
            key_versions_max: config.replication.key_versions_max,
            writer,
            is_ahead: options::is_ahead(&config, &namespace),
            sabotage: Default::default(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| now.as_millis() as u64);
        let stop = stop.clone();
        let ended = match namespace.protocol {
            config::Protocol::Redis => {
                let servers = options::datastore(&namespace);
                let target = Redis::new(servers, &namespace.name, writer);
                Driver::new(options, target, now_ms).run(stop).await
            }
            config::Protocol::Memcached => {
                let servers = options::servers(&namespace);
                let file = options::checkpoints(&config, &namespace);
                let target = Memcached::new(servers, &namespace.name, writer, file);
                Driver::new(options, target, now_ms).run(stop).await
            }
        };
        match ended {
            Stop::Asked => {}
            Stop::Replaced => tokio::time::sleep(PAUSE).await,
            Stop::Superseded => {
                tracing::warn!(
                    namespace = namespace.name,
                    "another replicator has taken over"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The journals that are applied, opened where they are topics.
fn sources(config: &Config, namespace: &config::Namespace) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for source in &config.replication.sources {
        let count = sources
            .iter()
            .filter(|one: &&Source| one.region == source.region)
            .count();
        // The own journal has the name of its region.
        let is_own = source.region == config.region;
        let name = match &source.journal {
            config::SourceJournal::Kafka { .. } => source.region.clone(),
            config::SourceJournal::Served(_) if count == 0 && !is_own => source.region.clone(),
            config::SourceJournal::Served(served) => {
                format!("{}@{}", source.region, served.address)
            }
        };
        let origin = match &source.journal {
            config::SourceJournal::Served(served) => {
                let options = options::remote(served, &namespace.name, &config.region)
                    .with_context(|| format!("read the journal of region {}", source.region))?;
                Origin::Remote(Box::new(options))
            }
            config::SourceJournal::Kafka { .. } => {
                let options = options::kafka_source(source, &namespace.name);
                let journal = KafkaJournal::open(options)
                    .with_context(|| format!("read the journal of region {}", source.region))?;
                Origin::Journal(Journal::Kafka(Arc::new(journal)))
            }
        };
        sources.push(Source {
            region: source.region.clone(),
            name,
            origin,
        });
    }
    Ok(sources)
}
