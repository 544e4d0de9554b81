//! What a replicator says of a source, with the least that shows it: how far it is
//! behind, whether it can be read, and that its clock is ahead.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;
use wal_sidecar::journal::{Journal, MemoryJournal, MemoryOptions};
use wal_sidecar::mutation::clock::COUNTER_BITS;
use wal_sidecar::mutation::{MutationParts, RecordBatch, Writer, WriterOptions, v1};
use wal_sidecar::replication::{
    Driver, Options, Origin, RACES_MAX, REMEMBERED_MS, Source, Stop, Table,
};

use super::random::Random;
use super::store::Store;
use super::target::SimulatedTarget;

/// When time begins, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// So far may a clock be ahead.
const SKEW_MAX: Duration = Duration::from_secs(10);

/// What is logged when changes begin to wait.
const TOLD: &str = "the clock of a source is ahead";

/// Who writes: a replicator, and a sidecar of the other region.
const REPLICATOR: u64 = 1;
const SIDECAR: u64 = 2;

/// What the replicator of region `eu` measures of its only source, `us`.
struct Gauges(PrometheusHandle);

impl Gauges {
    fn of(&self, name: &str) -> f64 {
        let start = format!("wal_sidecar_replication_{name}{{");
        let text = self.0.render();
        let line = text.lines().find(|line| line.starts_with(&start));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// How many lines have this in them.
    fn count(&self, part: &str) -> usize {
        let bytes = self.0.lock().expect("nobody panics with it");
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| line.contains(part)).count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().expect("nobody panics with it");
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a test in simulated time, in this thread.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Gauges, Log) -> F) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let (gauges, log) = (Gauges(recorder.handle()), Log::default());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || {
            LocalSet::new().block_on(&runtime, test(gauges, log));
        });
    });
}

async fn rest(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

struct World {
    /// The datastore of `eu`.
    store: Rc<RefCell<Store>>,
    /// The journal of `us`, as it is read from `eu`, and who writes it.
    us: Arc<MemoryJournal>,
    writer: Writer,
    started: Instant,
}

struct Replicator {
    stop: watch::Sender<bool>,
    driver: JoinHandle<Stop>,
}

impl World {
    fn new() -> World {
        World {
            store: Rc::default(),
            us: Arc::new(MemoryJournal::new(MemoryOptions::default())),
            writer: Writer::new(WriterOptions {
                region: "us".to_owned(),
                namespace: "test".to_owned(),
                store: v1::Store::Redis,
                writer: SIDECAR,
            }),
            started: Instant::now(),
        }
    }

    fn now_ms(&self) -> u64 {
        EPOCH_MS + self.started.elapsed().as_millis() as u64
    }

    /// In `us`, by a clock that is so far ahead.
    fn set(&mut self, key: &str, ahead: Duration) {
        let arguments = [&b"SET"[..], key.as_bytes(), b"1"];
        let parts = MutationParts {
            commands: &[&arguments[..]],
            keys: &[key.as_bytes()],
            is_final: true,
        };
        let now_ms = self.now_ms() + ahead.as_millis() as u64;
        let mut batch = RecordBatch::default();
        self.writer.mutation(&mut batch, now_ms, 0, &parts);
        self.us.add(0, &batch.bytes);
    }

    /// Whether a key is there in `eu`.
    fn has(&self, key: &str) -> bool {
        self.store.borrow().keys.contains_key(key.as_bytes())
    }

    /// Starts the replicator of `eu`.
    fn start(&self) -> Replicator {
        let own = Arc::new(MemoryJournal::new(MemoryOptions::default()));
        let source = Source {
            region: "us".to_owned(),
            name: "us".to_owned(),
            origin: Origin::Journal(Journal::Memory(Arc::clone(&self.us))),
        };
        let options = Options {
            region: "eu".to_owned(),
            namespace: "test".to_owned(),
            store: v1::Store::Redis,
            own: Journal::Memory(own),
            sources: vec![source],
            table: Arc::new(ArcSwap::from_pointee(Table::built_in())),
            batch_records: 100,
            races_max: RACES_MAX,
            remembered_ms: REMEMBERED_MS,
            clock_skew_max: SKEW_MAX,
            progress_interval: Duration::from_millis(100),
            backoff_max: Duration::from_millis(500),
            policy: Arc::default(),
            dead_letters: None,
            conflicts: None,
            conflict_values: false,
            key_versions_max: 100_000,
            writer: REPLICATOR,
            is_ahead: false,
            sabotage: Default::default(),
        };
        let started = self.started;
        let target = SimulatedTarget {
            store: Rc::clone(&self.store),
            random: Random::new(1),
            holder: REPLICATOR,
            now_ms: Rc::new(move || EPOCH_MS + started.elapsed().as_millis() as u64),
            failures: 0,
            watched: Vec::new(),
            watch_after: Vec::new(),
            was_watched: Vec::new(),
            lease_ms: 10_000,
        };
        let mut driver = Driver::new(options, target, self.now_ms());
        let (stop, stopped) = watch::channel(false);
        let driver = tokio::task::spawn_local(async move { driver.run(stopped).await });
        Replicator { stop, driver }
    }
}

impl Replicator {
    async fn stop(self) {
        self.stop.send(true).expect("it runs");
        let ended = self.driver.await.expect("it does not panic");
        assert_eq!(ended, Stop::Asked);
    }
}

/// Changes wait until their time is as near as clocks may be ahead, which is told once.
async fn held(gauges: Gauges, log: Log) {
    const AHEAD: Duration = Duration::from_secs(60);
    let mut world = World::new();
    let replicator = world.start();
    rest(2).await;
    // At the second 2, for 62: it is applied at 52.
    world.set("first", AHEAD);
    rest(5).await;
    let skew = gauges.of("clock_skew_seconds");
    assert!((50.0..60.0).contains(&skew), "{skew}");
    assert_eq!(gauges.of("lag_records"), 1.0);
    assert_eq!(log.count(TOLD), 1);
    // At 7, for 67.
    world.set("second", AHEAD);
    rest(44).await;
    assert!(!world.has("first"));
    // At 51, for 111.
    world.set("third", AHEAD);
    rest(2).await;
    assert!(world.has("first") && !world.has("second"));
    assert_eq!(gauges.of("lag_records"), 2.0);
    rest(50).await;
    assert!(world.has("second") && world.has("third"));
    assert_eq!(gauges.of("lag_records"), 0.0);
    assert_eq!(log.count(TOLD), 1);
    // It was over.
    world.set("fourth", AHEAD);
    rest(1).await;
    assert_eq!(log.count(TOLD), 2);
    replicator.stop().await;
}

#[test]
fn changes_of_a_clock_that_is_ahead_wait_until_their_time_has_come() {
    run(held);
}

/// A clock that is ahead by less holds nothing.
async fn not_held(gauges: Gauges, log: Log) {
    let mut world = World::new();
    let replicator = world.start();
    rest(2).await;
    world.set("first", SKEW_MAX - Duration::from_secs(1));
    rest(1).await;
    assert!(world.has("first"));
    let skew = gauges.of("clock_skew_seconds");
    assert!((7.0..9.0).contains(&skew), "{skew}");
    assert_eq!(log.count(TOLD), 0);
    replicator.stop().await;
}

#[test]
fn changes_of_a_clock_that_is_ahead_by_little_do_not_wait() {
    run(not_held);
}

/// Who can't be read from the start on is down, and as late as the checkpoint says.
async fn away(gauges: Gauges, _log: Log) {
    let mut world = World::new();
    for key in ["first", "second", "third"] {
        world.set(key, Duration::ZERO);
    }
    // Two of them were applied before.
    let checkpoint = format!("2 2 {} ", EPOCH_MS << COUNTER_BITS);
    let kept = ("us/0".to_owned(), checkpoint);
    world.store.borrow_mut().checkpoints.extend([kept]);
    world.us.set_away(true);
    let replicator = world.start();
    for seconds in [20.0, 40.0] {
        rest(20).await;
        assert_eq!(gauges.of("source_up"), 0.0);
        let lag = gauges.of("lag_seconds");
        assert!((seconds - 1.0..seconds + 1.0).contains(&lag), "{lag}");
    }
    world.us.set_away(false);
    rest(10).await;
    world.set("fourth", Duration::ZERO);
    rest(1).await;
    assert!(world.has("third") && world.has("fourth"));
    assert_eq!(gauges.of("source_up"), 1.0);
    assert_eq!(gauges.of("lag_records"), 0.0);
    let lag = gauges.of("lag_seconds");
    assert!(lag < 2.0, "{lag}");
    replicator.stop().await;
}

#[test]
fn a_source_that_is_away_at_the_start_is_down_and_late() {
    run(away);
}

/// What has not been read counts as well, and more than may wait to be applied.
async fn unread(gauges: Gauges, _log: Log) {
    const RECORDS: usize = 20_000;
    const PART: usize = 1_000;
    let mut world = World::new();
    for index in 0..RECORDS {
        world.set(&format!("key:{}", index % 100), Duration::ZERO);
    }
    world.us.allow(Some(0));
    let replicator = world.start();
    rest(2).await;
    assert_eq!(gauges.of("source_up"), 1.0);
    assert_eq!(gauges.of("lag_records"), RECORDS as f64);
    world.us.allow(Some(PART as u64));
    rest(5).await;
    assert_eq!(gauges.of("lag_records"), (RECORDS - PART) as f64);
    world.us.allow(None);
    rest(60).await;
    assert_eq!(gauges.of("lag_records"), 0.0);
    replicator.stop().await;
}

#[test]
fn records_that_have_not_come_are_not_applied_either() {
    run(unread);
}
